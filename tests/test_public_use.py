"""Workloads, which are plug-ins as any, build on public names alone."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from source_trees import parsed

import penstock
from penstock import abc, reducers, sinks, sources

TOP = Path(__file__).resolve().parents[1]
OURS = TOP / "src" / "penstock"
TOLD = {
    "penstock": {*penstock.__all__},
    "penstock.abc": {*abc.__all__},
    "penstock.reducers": {*reducers.__all__},
    "penstock.sinks": {*sinks.__all__},
    "penstock.sources": {*sources.__all__},
    "penstock.errors": {name for name in vars(penstock.errors) if name[0].isupper()},
}
"""Module -> its public names."""
SHARED = "sequences"
"""What the workloads of sequences share; a workload itself, in what it may use."""


def documented():
    page = (TOP / "docs" / "writing-plugins.md").read_text()
    table = page.partition("## What to build on")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(penstock[._a-z]+)` \| (.*) \|$", table, flags=re.M)
    assert len(rows) > 10
    return {module: set(re.findall(r"`(\w+)`", names)) | TOLD.get(module, set()) for module, names in rows}


def used(path):
    """The (module, name) of ours that a file takes, imported or by attribute."""
    tree = parsed(path)
    modules, taken = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {each.name: each.name for each in node.names if each.name.startswith("penstock")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("penstock"):
            for each in node.names:
                if node.module == "penstock" and each.name not in penstock.__all__:
                    modules[each.asname or each.name] = f"penstock.{each.name}"
                elif not node.module.startswith("penstock.workloads"):
                    taken.add((node.module, each.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            taken.add((modules[node.value.id], node.attr))
    return taken


@pytest.mark.parametrize(
    "folder", [OURS / SHARED, *sorted(OURS.glob("workloads/[a-z]*/"))], ids=lambda path: path.name
)
def test_a_workload_takes_only_what_is_public(folder):
    public = TOLD | documented()
    taken = {each for path in folder.rglob("*.py") for each in used(path)}
    taken = {each for each in taken if not f"{each[0]}.{each[1]}".startswith(f"penstock.{SHARED}")}
    assert taken
    assert {each for each in taken if each[1] not in public.get(each[0], ())} == set()


def test_every_module_is_public_or_forbidden_to_workloads():
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    forbidden = next(
        {*each["forbidden_modules"]}
        for each in contracts
        if "penstock.engine" in each.get("forbidden_modules", ())
        and "penstock.workloads" in each["source_modules"]
    )
    public = {*TOLD, *documented()}
    assert not forbidden & public
    for path in OURS.rglob("*.py"):
        names = path.relative_to(OURS.parent).with_suffix("").parts
        names = names[:-1] if names[-1] == "__init__" else names
        if len(names) == 1 or names[1] in ("workloads", SHARED, "__main__"):
            continue
        above = {".".join(names[:depth]) for depth in range(2, len(names) + 1)}
        assert above & forbidden or ".".join(names) in public, f"{path} is neither public nor forbidden"
