"""Hooks of the documentation site (mkdocs.yml): pages that lie elsewhere, and the reference of the API.

What a page of the repository links to is a page of the site where it is one; else only its text is left, as
the site has no copy of the code. The reference is made of the public names as they are, so it lacks none.
"""

import inspect
import posixpath
import re
from importlib import import_module
from pathlib import Path

import griffe
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

TOP = Path(__file__).resolve().parents[1]
ELSEWHERE = {
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
} | {
    path.relative_to(TOP).as_posix(): f"workloads/{path.parent.name}.md"
    for path in sorted(TOP.glob("src/penstock/workloads/*/README.md"))
}
"""File of the repository -> its page."""
FIRST = ("run", "Job", "Run", "Report", "Plan", "Stored")
FROM = {page: file for file, page in ELSEWHERE.items()}
REFERENCE = {
    "reference/jobs.md": ("Jobs and runs", "penstock", "jobs"),
    "reference/executor.md": ("Executor", "penstock", "Executor"),
    "reference/sources.md": ("Sources", "penstock.sources", ""),
    "reference/sinks.md": ("Sinks", "penstock.sinks", ""),
    "reference/reducers.md": ("Reducers", "penstock.reducers", ""),
    "reference/errors.md": ("Errors", "penstock", "errors"),
    "reference/seams.md": ("Seams", "penstock.abc", ""),
    "reference/testing.md": ("Suites for plug-ins", "penstock.testing", ""),
}


def on_files(files, config):
    """Bring in the pages that do not lie in docs/."""
    for file, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(TOP / file).read_text(encoding="utf-8")))
    for page, (title, module, which) in REFERENCE.items():
        files.append(File.generated(config, page, content=_reference(title, module, which)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Let links lead to pages of the site."""
    here = page.file.src_uri
    origin = FROM.get(here, f"docs/{here}")

    def link(found):
        text, target, anchor = found.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        place = ELSEWHERE.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if place is None and (TOP / path).exists():
            return text
        if text == posixpath.basename(path):  # a file, in the repository; here it is a page
            text = re.search(r"^# (.+)$", (TOP / path).read_text(encoding="utf-8"), re.M)[1]
        return f"[{text}]({posixpath.relpath(place or path, posixpath.dirname(here) or '.')}{anchor or ''})"

    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)", link, markdown)


def on_post_build(config):
    """See that no public name is left out of the reference."""
    made = "".join(path.read_text() for path in Path(config.site_dir, "reference").rglob("index.html"))
    for _, module, _ in REFERENCE.values():
        loaded = import_module(module)
        names = [name for name in loaded.__all__ if not inspect.ismodule(getattr(loaded, name))]
        if left_out := [name for name in names if f'id="{module}.{name}"' not in made]:
            raise PluginError(f"the reference lacks these names of {module}: {', '.join(left_out)}")


def _reference(title, module, which):
    loaded = import_module(module)
    names = [name for name in loaded.__all__ if not inspect.ismodule(getattr(loaded, name))]
    if module == "penstock":
        kinds = {name: _kind(getattr(loaded, name), name) for name in names}
        names = [name for name in names if kinds[name] == which]
        names.sort(key=lambda name: (*FIRST, name).index(name))
    about = inspect.getdoc(loaded) if module != "penstock" else ""
    return "\n\n".join([f"# {title}", about or "", *(f"::: {module}.{name}" for name in names)])


def _kind(value, name):
    if inspect.isclass(value) and issubclass(value, BaseException):
        return "errors"
    return name if name == "Executor" else "jobs"


class Roles(griffe.Extension):
    """Makes links and code of the roles in docstrings, which Markdown does not know."""

    def on_object(self, *, obj, **_):
        """Change what one object says of itself."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r":(?:\w+):`([^`]+)`", _shown, obj.docstring.value)


def _shown(role):
    name = role[1].removeprefix("~")
    module, _, last = name.rpartition(".")
    public = module in {each for _, each, _ in REFERENCE.values()} and last in import_module(module).__all__
    return f"[`{name}`][{name}]" if public else f"`{name}`"
