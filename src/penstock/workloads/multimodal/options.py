"""The options of a run, from the command line or Python, and how they combine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from penstock.budget import parse_size
from penstock.durations import parse_duration
from penstock.errors import MissingExtra, UsageError
from penstock.files import is_file, is_folder
from penstock.foreign import line
from penstock.workloads.multimodal.splits import parse_ratios

_PACKAGES = {"PIL": "pillow", "pyarrow": "pyarrow", "tokenizers": "tokenizers"}
_UPSTREAM = {"split": "record", "window": "24h", "mask": "full", "exact_resize": True}
_DEFAULTS = {"split": "official", "window": None, "mask": "none", "exact_resize": False}
"""Where the original's differ."""
_PATHS = ("root", "cxr", "ed", "hosp", "reports", "tokenizer")
INCIDENTAL = ("user_project", "fetch", "picture")
"""Options on which no record depends, so that they may be others when a run goes on."""
_SPLITS = ("official", "hash", "quota")


def _checked(read: Any) -> Any:
    """A click callback that refuses what ``read`` refuses."""

    def check(_context: click.Context, _param: click.Parameter, given: Any) -> Any:
        if given is not None:
            try:
                read(given)
            except UsageError as error:
                raise click.BadParameter(str(error)) from None
        return given

    return check


def _whole_path(_context: click.Context, _param: click.Parameter, given: str | None) -> str | None:
    """A folder is the same one wherever the run is resumed from; bm25 and none are words."""
    return str(Path(given).absolute()) if given not in (None, "bm25", "none") else given


def read_views(text: str) -> tuple[str, ...]:
    """Parse views such as ``"AP,PA"``.

    Raises:
        UsageError: none.
    """
    found = tuple(dict.fromkeys(each.strip().upper() for each in text.split(",") if each.strip()))
    if not found:
        raise UsageError(f"--views {text!r}: values of ViewPosition were expected, as in AP,PA")
    return found


def _folder(name: str, what: str) -> Any:
    return click.option(
        f"--{name}", type=click.Path(), metavar="DIR", help=f"{what}, where it lies elsewhere."
    )


def _choice(name: str, values: tuple[str, ...], text: str, default: str | None = "") -> Any:
    shown: Any = f"{_DEFAULTS.get(name)}" if default is None else True
    return click.option(
        f"--{name}", type=click.Choice(values), default=values[0] if default == "" else default,
        show_default=shown, help=text,
    )  # fmt: skip


_ALL = [
    click.argument("root", type=click.Path(), required=False, metavar="ROOT"),
    click.option(
        "--cxr",
        type=click.Path(),
        metavar="DIR|URL",
        help="Folder of MIMIC-CXR-JPG, where it lies elsewhere; also gs://BUCKET/PREFIX, s3://, https://.",
    ),
    click.option(
        "--user-project",
        metavar="ID",
        help="The project that pays for reading --cxr gs://, as PhysioNet asks.",
    ),
    click.option(
        "--fetch",
        type=click.IntRange(1, 64),
        default=4,
        show_default=True,
        help="Films that each worker has under way at once, with --cxr URL.",
    ),
    _folder("ed", "Folder of MIMIC-IV-ED"),
    _folder("hosp", "Folder of the hosp tables of MIMIC-IV"),
    _folder("reports", "Folder of the reports of MIMIC-CXR"),
    _choice(
        "split",
        _SPLITS,
        "Who is in train, val and test: as the official table says, by a hash of the person, "
        "or people until a share is met.",
        default=None,
    ),
    click.option(
        "--ratios",
        default="70,15,15",
        show_default=True,
        callback=_checked(parse_ratios),
        metavar="A,B,C",
        help="Percents of train, val and test, for hash and quota.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        default=42,
        show_default=True,
        help="Of splits and of the order of records.",
    ),
    _choice("unmatched", ("exclude", "hash"), "Records that the official table does not name."),
    click.option(
        "--image-size",
        type=click.IntRange(8, 4096),
        default=518,
        show_default=True,
        help="Pixels of the square.",
    ),
    click.option(
        "--exact-resize",
        is_flag=True,
        default=None,
        help="Decode films whole: slower, and other than scaling by 0.3 grey levels, more at hard edges.",
    ),
    _choice("fit", ("stretch", "pad"), "Stretch films to the square, or keep their shape."),
    _choice(
        "mask",
        ("none", "half", "full"),
        "A mask of structure, made at half or full size of the film.",
        default=None,
    ),
    _choice(
        "image", ("raw", "png", "jpeg"), "How pictures are kept: npy, PNG, or JPEG, which loses a little."
    ),
    _choice("text", ("on", "off"), "Keep notes and their tokens, or no text at all."),
    _choice(
        "leakage-filter",
        ("off", "standard", "aggressive"),
        "Take out sentences that tell what was seen on the film, whatever the labels say.",
        default="standard",
    ),
    click.option(
        "--retriever",
        default="bm25",
        show_default=True,
        callback=_whole_path,
        metavar="bm25|none|FOLDER",
        help="Context of a note: by words, none, or by a local sentence-transformers model.",
    ),
    click.option(
        "--tokenizer",
        type=click.Path(dir_okay=False),
        metavar="FILE.json",
        help="Of the tokenizers library; one is shipped.",
    ),
    click.option(
        "--max-text-length",
        type=click.IntRange(1),
        default=8192,
        show_default=True,
        help="Tokens of a note at most.",
    ),
    click.option(
        "--views",
        default="AP,PA",
        show_default=True,
        callback=_checked(read_views),
        help="Values of ViewPosition that are kept.",
    ),
    click.option(
        "--window",
        metavar="DURATION",
        callback=_checked(lambda text: parse_duration(text, "--window")),
        help="Also take films so far from an arrival, as 24h; by default only those inside a stay.",
    ),
    _choice(
        "celsius", ("null", "convert"), "Temperatures of 30 to 43: leave them out, or take them for Celsius."
    ),
    click.option(
        "--shard-size",
        default="256MB",
        show_default=True,
        callback=_checked(parse_size),
        metavar="SIZE",
        help="About the bytes of a shard.",
    ),
    _choice("writer", ("webdataset", "parquet"), "Tar files, or Parquet."),
    _choice("uncertain", ("ignore", "zeros", "ones"), "What loaders make of uncertain labels."),
    _choice("blank", ("zeros", "ignore"), "What loaders make of blank labels."),
    click.option("--log-ids", is_flag=True, help="Write ids into failures.csv, beside the numbers of rows."),
    click.option(
        "--picture", type=click.Choice(["png"]), help="Draw a contact sheet of 24 films of each split."
    ),
    _choice(
        "compat",
        ("none", "upstream"),
        "upstream: text, joins and split of the published program, with their faults.",
    ),
]


def with_options(command: Any) -> Any:
    """A decorator that adds all options."""
    for option in reversed(_ALL):
        command = option(command)
    return command


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of a run; see the help of each."""

    root: str | None = None
    cxr: str | None = None
    user_project: str | None = None
    fetch: int = 4
    ed: str | None = None
    hosp: str | None = None
    reports: str | None = None
    split: str | None = None
    ratios: str = "70,15,15"
    seed: int = 42
    unmatched: str = "exclude"
    image_size: int = 518
    exact_resize: bool | None = None
    fit: str = "stretch"
    mask: str | None = None
    image: str = "raw"
    text: str = "on"
    leakage_filter: str = "standard"
    retriever: str = "bm25"
    tokenizer: str | None = None
    max_text_length: int = 8192
    views: str = "AP,PA"
    window: str | None = None
    celsius: str = "null"
    shard_size: str | int = "256MB"
    writer: str = "webdataset"
    uncertain: str = "ignore"
    blank: str = "zeros"
    log_ids: bool = False
    picture: str | None = None
    compat: str = "none"

    @property
    def upstream(self) -> bool:
        """Whether the original's rules apply."""
        return self.compat == "upstream"

    def for_manifest(self) -> dict[str, Any]:
        """The options for the manifest, without paths, which differ from machine to machine."""
        left_out = (*_PATHS, *INCIDENTAL)
        found = {name: value for name, value in self.__dict__.items() if name not in left_out}
        if self.retriever not in ("bm25", "none"):
            found["retriever"] = "folder"
        return found


def asked_of(options: Mapping[str, Any]) -> Asked:
    """The options, with defaults that depend on each other.

    Args:
        options: all of them.

    Raises:
        UsageError: options that make no sense, or no tables.
        MissingExtra: a package is not installed.
    """
    for module, package in _PACKAGES.items():
        if find_spec(module) is None:
            raise MissingExtra("the workload multimodal", package, "multimodal")
    given = dict(options)
    defaults = _UPSTREAM if given.get("compat") == "upstream" else _DEFAULTS
    given |= {name: value for name, value in defaults.items() if given.get(name) is None}
    # The same files have the same names wherever the run is resumed from.
    given |= {name: _absolute(name, given[name]) for name in _PATHS if given.get(name) is not None}
    asked = Asked(**given)
    if asked.user_project is not None and "://" not in str(asked.cxr):
        raise UsageError(
            f"--user-project {line(str(asked.user_project))} pays for films at an address, and here they lie "
            "in a folder: leave it out, or give --cxr gs://BUCKET/PREFIX"
        )
    if asked.root is None and None in (asked.cxr, asked.ed, asked.hosp):
        raise UsageError("multimodal needs ROOT, the folder of the download, or --cxr, --ed and --hosp")
    if asked.mask != "none" and find_spec("cv2") is None:
        raise MissingExtra("a mask", "opencv-python-headless", "multimodal-mask")
    _refuse_pickles(asked.root)
    return asked


def _absolute(name: str, given: Any) -> str:
    if "://" not in str(given):
        return str(Path(given).absolute())
    if name != "cxr":
        raise UsageError(
            f"--{name} {line(str(given))}: only --cxr may be an address; copy these, which are small, to a "
            "folder"
        )
    return str(given)


def _refuse_pickles(root: str | None) -> None:
    """The published program's own files are pickles: reading one runs whatever it holds."""
    if root is None:
        return
    if is_file(root) and root.endswith((".pkl", ".pt")):
        raise UsageError(_PICKLES)
    if is_folder(root) and next(Path(root).glob("intermediate_batch_*.pkl"), None) is not None:
        raise UsageError(_PICKLES)


_PICKLES = (
    "intermediate_batch_*.pkl are pickles of the published program, which are never read: a pickle runs "
    "whatever is in it, and what is in these is made again in less time. Give the folder of the download."
)
