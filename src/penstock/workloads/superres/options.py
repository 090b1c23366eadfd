"""Options that several of these commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import click

from penstock import foreign
from penstock.errors import MissingExtra, UsageError
from penstock.plurals import plural

_SWEPT = ("lambda_edge", "lambda_grad", "ridge", "tau")
UPSTREAM: dict[str, Any] = {
    "mask": "positive", "calibration": "truth", "same_grid": "index", "largest_component": False,
}  # fmt: skip
"""What the published program does whatever is asked for: its mask is where the truth is above 0, and its
blends are scaled by the truth of their patient."""


def swept(given: Sequence[str]) -> dict[str, list[float]]:
    """Parse ``NAME=A,B,...``: the values of each swept option.

    Raises:
        click.BadParameter: no such option, or no numbers.
    """
    found: dict[str, list[float]] = {}
    for text in given:
        name, _, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in _SWEPT or name in found:
            raise click.BadParameter(f"{text!r}: each of {', '.join(_SWEPT)} can be swept, once")
        try:
            found[name] = [float(value) for value in values.split(",")]
        except ValueError:
            raise click.BadParameter(f"{text!r}: numbers were expected, as in tau=0,0.05,0.1") from None
    return found


def check_sweep(_context: click.Context, _param: click.Parameter, given: Sequence[str]) -> Sequence[str]:
    """A click callback that refuses what :func:`swept` refuses."""
    swept(given)
    return given


def split_names(text: str) -> list[str]:
    """Split the names in ``"A,B"``.

    Raises:
        UsageError: one is there twice.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(set(names)) < len(names):
        raise UsageError(f"{text!r} names one twice")
    return names


def check_names(_context: click.Context, _param: click.Parameter, text: str) -> str:
    """A click callback that refuses what :func:`split_names` refuses."""
    split_names(text)
    return text


_SOURCE = [
    click.option(
        "--root", type=click.Path(file_okay=False), default=".", show_default="here", metavar="DIR",
        help="Where relative paths in the manifest begin.",
    ),
    click.option("--spacing", default="3mm", show_default=True, help="Key of the volumes in the manifest."),
    click.option("--pulse", default="t1c", show_default=True, help="Key of the volumes in the manifest."),
    click.option(
        "--allow-missing", is_flag=True, help="Leave patients out whose files are not all there."
    ),
]  # fmt: skip


_MASKS = [
    click.option(
        "--mask", default="auto", show_default=True, metavar="RULE|PATTERN",
        help="Where the head is: positive (voxels above 0), nonzero, auto (positive where nothing is "
        "negative, else nonzero), or the files of masks, such as 'masks/{patient}.nii.gz'.",
    ),
    click.option(
        "--nan", type=click.Choice(["refuse", "background"]), default="refuse", show_default=True,
        help="Voxels that are not finite: refuse the patient, or take them as background.",
    ),
    click.option(
        "--same-grid", type=click.Choice(["affine", "index"]), default="affine", show_default=True,
        help="What makes patients' regions the same places: their affines, or the numbers of their voxels.",
    ),
    click.option(
        "--largest-component", is_flag=True,
        help="Only the largest connected part of the mask counts, for blend and experts alike.",
    ),
]  # fmt: skip


def with_masks(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_MASKS):
        command = option(command)
    return command


def mask_rule(given: str, *, of_files: bool) -> tuple[str, str | None]:
    """The rule of a mask, and the pattern of its files if they are given.

    Args:
        given: as ``--mask``.
        of_files: whether only files make sense besides ``auto``.

    Raises:
        UsageError: neither a rule nor a pattern with ``{patient}`` in it.
    """
    if "{patient}" in given:
        return "file", given
    if given == "auto" or (given in ("positive", "nonzero") and not of_files):
        return given, None
    rules = "auto" if of_files else "auto, positive, nonzero"
    raise UsageError(f"--mask {given!r}: {rules} or a pattern with {{patient}} in it was expected")


def check_compat(asked: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
    """Refuse options that contradict the published program.

    Args:
        asked: the options.
        usual: their defaults.

    Raises:
        UsageError: something was.
    """
    for name, value in UPSTREAM.items():
        if asked[name] not in (usual[name], value):
            raise UsageError(
                f"--{name.replace('_', '-')} has no effect under --compat upstream, whose rule is "
                f"{value or 'to do without'}; leave one of the two out"
            )


def warn_of_people(fold: int, train: Iterable[str], test: Iterable[str]) -> None:
    """Warn of scans of apparently one person in both training and test parts."""
    from penstock.workloads.superres.manifest import shared_people

    if shared := shared_people(train, test):
        foreign.warn(
            f"fold {fold}: learnt from and tested seems to be {plural(len(shared), 'person', 'people')}, by "
            f"the names of scans ({foreign.line(', '.join(shared[:3]))} ...): the error will look smaller "
            f"than it is. superres-manifest --group keeps people together",
        )


def warn_of_places(shape: tuple[int, int, int], affines: Sequence[tuple[Any, int]]) -> None:
    """Warn of patients that correspond only by voxel index and lie in other places.

    Args:
        shape: of the volumes.
        affines: each with how many patients have it, the most frequent first.
    """
    from penstock.workloads.superres.volumes import SAME_HEAD, corners_apart

    apart = [(corners_apart(shape, each, affines[0][0]), n) for each, n in affines[1:]]
    if others := sum(n for far, n in apart if far > SAME_HEAD):
        foreign.warn(
            f"--same-grid index: {others} of {plural(sum(n for _, n in affines), 'patient')} lie up to "
            f"{max(far for far, _ in apart):.3g} mm from where the others do, by their affines: a region is "
            "then not one place of a head",
        )


def with_source(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_SOURCE):
        command = option(command)
    return command


def with_pictures(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--picture-format", type=click.Choice(["png", "svg", "pdf"]), default="png", show_default=True,
        help="Of --pictures.",
    )(command)  # fmt: skip
    return click.option(
        "--pictures/--no-pictures", default=False, show_default=True,
        help="Draw slices of each patient that is blended (needs matplotlib).",
    )(command)  # fmt: skip


def need_numba() -> None:
    if find_spec("numba") is None:
        raise MissingExtra("blending experts", "numba", "superres")


def need_matplotlib() -> None:
    if find_spec("matplotlib") is None:
        raise MissingExtra("pictures", "matplotlib", "plot")
