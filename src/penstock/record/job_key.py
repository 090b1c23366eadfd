"""The job's key: what resume compares, part by part, so that it can say what changed."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock import asking, files, values
from penstock.record import public_names
from penstock.record.listing import Listing
from penstock.stored import Stored

_NAMED = 5
"""Parts of an input at most."""


def job_key(
    *,
    function: Any,
    source: Any,
    outputs: Mapping[str, Any],
    inputs: Mapping[str, Any],
    options: Mapping[str, Any],
    listing: Listing | None = None,
) -> dict[str, Any]:
    """The parts of a job's key, all JSON values.

    Args:
        function: its qualified name and its module's source count; an installed package's name
            and version instead, and those of our own (:mod:`penstock.record.public_names`).
        source: type and fingerprint per file, with the items that come from each.
        outputs: sinks and reducers with their options.
        inputs: files by fingerprint, stages by their key, values by themselves; see ``input_key``.
        options: of the job: batched, seed.
        listing: of the source's files, where it was made.
    """
    listing = listing or Listing.of(source)
    key = {
        "function": function_key(function),
        "source": {
            "type": type(source).__qualname__,
            "items": asking.count(source),
            **listing.in_key(),
        },
        "rooms": {name: describe(output) for name, output in outputs.items()},
        "inputs": {name: input_key(value) for name, value in inputs.items()},
        "options": dict(options),
    }
    # As the journal gives it back: a tuple is a list there, and an array compares as its text.
    plain: dict[str, Any] = json.loads(values.dumps(key))
    return plain


def holes_before(key: Mapping[str, Any]) -> str:
    """A text that changes with the items missing in input stages; empty if none are."""
    inputs = key.get("inputs", {})
    told = {
        name: each["holes"] for name, each in inputs.items() if isinstance(each, dict) and each.get("holes")
    }
    return digest_of(told) if told else ""


def digest_of(key: Mapping[str, Any]) -> str:
    """A short digest of a key."""
    return hashlib.blake2b(values.dumps(dict(key)).encode(), digest_size=16).hexdigest()


def function_key(function: Any) -> dict[str, Any]:
    """A fingerprint of a function's code; of an object its state, or as :func:`input_key` does."""
    if isinstance(function, functools.partial):
        return {
            "partial": function_key(function.func),
            "arguments": [input_key(value) for value in function.args],
            "keywords": {name: input_key(value) for name, value in function.keywords.items()},
        }
    owner = function if inspect.isroutine(function) or inspect.isclass(function) else type(function)
    module = sys.modules.get(getattr(owner, "__module__", "") or "")
    place = f"{getattr(owner, '__module__', '?')}.{getattr(owner, '__qualname__', '?')}"
    key: dict[str, Any] = {"name": public_names.of(place)}
    if key["name"] != public_names.STEP:  # its own function says it all
        key["code"] = _package_version(module) or _source_of(owner, module)
    if owner is not function:
        told = getattr(function, "__getstate__", lambda: repr(function))
        key["state"] = input_key(getattr(function, "__penstock_key__", told)())
    captured = [_content(cell) for cell in getattr(function, "__closure__", None) or ()]
    # Defaults capture too: ``lambda item, threshold=threshold: ...``
    captured += [
        input_key(value)
        for value in (getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None))
        if value
    ]
    if captured:
        key["captured"] = captured
    return key


def imported_code(*owners: Any) -> dict[str, str]:
    """Fingerprints of the modules of functions and classes, by name.

    A module that is not imported by its name elsewhere (a script, a notebook) is left out: its code travels.
    """
    found = {}
    for owner in owners:
        while isinstance(owner, functools.partial):
            owner = owner.func
        owner = owner if inspect.isroutine(owner) or inspect.isclass(owner) else type(owner)
        name = getattr(owner, "__module__", None) or ""
        if name not in ("", "__main__") and (code := module_code(name)):
            found[name] = code
    return found


def module_code(name: str) -> str:
    """A fingerprint of an imported module's code; empty if there is none."""
    module = sys.modules.get(name)
    if told := _package_version(module):
        return told
    file = getattr(module, "__file__", None)
    return files.digest(file) if file and Path(file).exists() else ""


def _content(cell: Any) -> Any:
    try:
        return input_key(cell.cell_contents)
    except ValueError:  # a name that is never set
        return "nothing"


def _package_version(module: Any) -> str | None:
    """Name and version where the module belongs to an installed package, read-only by habit."""
    if getattr(module, "__name__", "").partition(".")[0] == "penstock":
        return public_names.version()
    file = getattr(module, "__file__", None)
    if not file or not any(part in ("site-packages", "dist-packages") for part in Path(file).parts):
        return None
    from importlib import metadata  # slow to import, and seldom needed

    top = module.__name__.partition(".")[0]
    try:
        return f"{top} {metadata.version(top)}"
    except metadata.PackageNotFoundError:
        return None


def _source_of(owner: Any, module: Any) -> str:
    """Digest of the module's source; of the function's own in a notebook or ``python -c``."""
    name = getattr(module, "__name__", "__main__")
    file = getattr(module, "__file__", None)
    if file and name != "__main__" and Path(file).exists():
        return files.digest(file)
    text = "\n".join(_code_of(each) for each in _with_callees(owner, module))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _with_callees(owner: Any, module: Any) -> list[Any]:
    """A function or class of a script, and what it names of the same script, in a fixed order."""
    found, todo = [owner], [owner]
    names = vars(module) if module is not None else {}
    while todo:
        for name in sorted(_names_in(todo.pop())):
            each = names.get(name)
            own = (inspect.isfunction(each) or inspect.isclass(each)) and each.__module__ == module.__name__
            if own and all(each is not known for known in found):
                found.append(each)
                todo.append(each)
    return found


def _names_in(owner: Any) -> set[str]:
    if inspect.isclass(owner):
        return set().union(*(_names_in(each) for each in vars(owner).values() if inspect.isfunction(each)))
    todo = [code] if (code := getattr(owner, "__code__", None)) is not None else []
    names: set[str] = set()
    while todo:
        code = todo.pop()
        names.update(code.co_names)
        todo += [each for each in code.co_consts if inspect.iscode(each)]
    return names


def _code_of(owner: Any) -> str:
    try:
        return inspect.getsource(owner)
    except (OSError, TypeError):
        code = getattr(owner, "__code__", None)
        if inspect.isclass(owner):
            return "\n".join(_code_of(each) for each in vars(owner).values() if inspect.isfunction(each))
        if code is None:
            return repr(owner)
        # Constants that are code print with their address.
        constants = [each for each in code.co_consts if not inspect.iscode(each)]
        return repr((code.co_code, constants, code.co_names))


def input_key(value: Any) -> Any:
    """An input as recorded in the key.

    An object with ``__penstock_key__()`` is told by what that gives: JSON values that change when what is
    read from the object does, and not with how it is read.
    """
    if isinstance(value, Stored):
        return {"stage": value.key} | ({"holes": value.holes} if value.holes else {})
    if isinstance(value, Path):
        return {"file": str(value), "is": files.fingerprint(value) if value.is_file() else "folder"}
    if inspect.isroutine(value) or inspect.isclass(value):
        return function_key(value)
    if callable(told := getattr(type(value), "__penstock_key__", None)):
        state = told(value)  # of a function within another it may hold more than JSON values
        return {"object": type(value).__qualname__, "is": state if _is_json(state) else input_key(state)}
    if type(value) is dict and not all(isinstance(key, str) for key in value):
        return {"pairs": [[input_key(key), input_key(part)] for key, part in value.items()]}
    if type(value) in (set, frozenset):  # in the order of its texts: its own differs from process to process
        return {"set": sorted((input_key(part) for part in value), key=repr)}
    try:
        text = values.dumps(value)
    except (TypeError, ValueError):
        if type(value) in (list, tuple, dict):
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            return {"parts": {str(key): input_key(part) for key, part in parts}}
        try:
            import cloudpickle

            text = hashlib.blake2b(cloudpickle.dumps(value), digest_size=16).hexdigest()
        except Exception:
            text = type(value).__qualname__
        return {"object": type(value).__qualname__, "is": text}
    return value if len(text) <= 1024 else {"is": hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}


def _is_json(value: Any) -> bool:
    try:
        values.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def describe(output: Any) -> dict[str, Any]:
    """A sink or reducer with its options."""
    cls = type(output)
    options: dict[str, Any] = {}
    if dataclasses.is_dataclass(output):
        for each in dataclasses.fields(output):
            value = getattr(output, each.name)
            # Folders from before there was such an option can go on.
            if not (each.metadata.get("later") and value == each.default):
                options[each.name] = input_key(value)
    else:
        options = {name: input_key(value) for name, value in sorted(getattr(output, "__dict__", {}).items())}
    return {"type": public_names.of(f"{cls.__module__}.{cls.__qualname__}"), "options": options}


def _other_version(was: str, now: str) -> str | None:
    """That another version of a package is installed, where that is what two texts of code tell."""
    before, after = was.split(" "), now.split(" ")
    if len(before) != 2 or len(after) != 2 or before[0] != after[0]:
        return None
    return f"{after[0]} {after[1]} is installed, and it was begun with {before[1]}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two keys, except the source's files, in words."""
    old, new = public_names.as_named_now(old), public_names.as_named_now(new)
    told = []
    if old.get("function") != new.get("function"):
        was, now = old.get("function", {}), new.get("function", {})
        if was.get("name") != now.get("name"):
            told.append(f"the function is {now.get('name')} now, it was {was.get('name')}")
        elif was.get("code") != now.get("code"):
            script = str(now.get("name")).startswith("__main__.")
            what = "{}, or what it calls in the script," if script else "the module of {}"
            told.append(
                _other_version(str(was.get("code")), str(now.get("code")))
                or f"{what.format(now.get('name'))} was edited"
            )
        else:
            told.append(f"the arguments or captured values of {now.get('name', 'the function')} changed")
    if old.get("rooms") != new.get("rooms"):
        told.append(
            f"where the results go (into=) changed: {_which(old.get('rooms', {}), new.get('rooms', {}))}"
        )
    for part, words in (("inputs", "the input"), ("options", "the option")):
        was, now = old.get(part, {}), new.get(part, {})
        names = sorted({*was, *now})
        told += [
            f"{words} {name!r} changed{_what(was.get(name), now.get(name))}"
            for name in names
            if was.get(name) != now.get(name)
        ]
    return told


def _what(was: Any, now: Any) -> str:
    """Which parts of an input with several differ: files by their paths, others by their names alone."""
    if not (isinstance(was, dict) and isinstance(now, dict)):
        return ""
    found = _changed_parts(was, now)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f" ({', '.join(found[:_NAMED])}{more})" if found else ""


def _changed_parts(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if "file" in now and "is" in now:
        same = was.get("file") == now["file"]
        return [str(now["file"])] if same else [f"{now['file']}, it was {was.get('file', 'no file')}"]
    if "is" in now or "stage" in now or "is" in was or "stage" in was:
        return []
    before, after = was.get("parts", was), now.get("parts", now)
    told: list[str] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name, ...), after.get(name, ...)
        if old != new:
            both = isinstance(old, dict) and isinstance(new, dict)
            told += (_changed_parts(old, new) if both else []) or [name]
    return told


def _which(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between the sinks and reducers of two jobs, in words."""
    told = []
    for name in sorted({*old, *new}):
        was, now = old.get(name, {}), new.get(name, {})
        where = f"{name!r} " if name else ""
        if was.get("type") != now.get("type"):
            told.append(f"{where}was {was.get('type', 'not there')}, it is {now.get('type', 'not there')}")
            continue
        before, after = was.get("options", {}), now.get("options", {})
        told += [
            f"{where}{option} was {before.get(option)}, it is {after.get(option)}"
            for option in sorted({*before, *after})
            if before.get(option) != after.get(option)
        ]
    return "; ".join(told)
