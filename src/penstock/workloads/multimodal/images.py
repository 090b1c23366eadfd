"""A film as a small greyscale square, as exact as a full decode and several times as fast.

Pillow alone: JPEG is decoded by its own scaling (``draft``) to the smallest size that is large enough, then
resized bilinearly with antialias: 0.3 grey levels from the whole decode in the mean, and more than 2 only at
hard edges, such as a side marker's. A file that is cut off is refused, never padded; a size is bounded before
anything is decoded; EXIF orientation is ignored, as in the published program, and told.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from penstock import foreign
from penstock.workloads.multimodal.headers import MOST_BYTES, BadImage, Header, read_header

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ORIENTATION = 0x0112
_DEPTHS = (8, 10, 12, 14, 16)
MASKS = ("none", "half", "full")
FITS = ("stretch", "pad")
_FORMATS = ("JPEG", "PNG")


@dataclass(frozen=True)
class Drawn:
    """A film in its final form.

    Attributes:
        image: uint8 (size, size).
        mask: bool (size, size), or None.
        facts: what is to be known of how it was made: source size, and what was odd.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawing:
    """How films are drawn.

    Attributes:
        size: pixels of the square.
        exact: decode whole, instead of by scaling.
        fit: ``"stretch"`` to the square, or ``"pad"`` with black to keep the shape.
        mask: ``"none"``, or made at ``"half"`` or ``"full"`` size of the film, see ``masks``.
    """

    size: int = 518
    exact: bool = False
    fit: str = "stretch"
    mask: str = "none"


def read_start(path: str, most: int) -> tuple[int, bytes]:
    """The size of a film and its first bytes.

    Raises:
        BadImage: it is not there, or cannot be read.
    """
    try:
        return foreign.read_start(path, most)
    except OSError as error:
        raise _unread(error) from None


def read_image(path: str) -> bytes:
    """All bytes of a film.

    Raises:
        BadImage: it is not there, cannot be read, or is too large for a film.
    """
    try:
        with foreign.opened(path) as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise _unread(error) from None
    if len(data) > MOST_BYTES:
        raise BadImage("image_too_large")
    return data


def _unread(error: OSError) -> BadImage:
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return BadImage("image_missing" if missing else "image_unreadable")


def draw(data: bytes, how: Drawing) -> Drawn:
    """Decode, resize, and make the mask.

    Raises:
        BadImage: it cannot be decoded, with the reason.
    """
    header = read_header(data)
    if header is None:
        raise BadImage("image_truncated")
    facts: dict[str, Any] = {"height": header.height, "width": header.width}
    picture = _decoded(data, header, _smallest(header, how), facts)
    image = _fitted(picture, header, how)
    mask = None
    if how.mask != "none":
        mask = _mask(picture, how, facts)
        drawn = Image.fromarray(mask.view(np.uint8))
        mask = _fitted(drawn, header, how, Image.Resampling.NEAREST) > 0
    return Drawn(image, mask, facts)


def _mask(picture: Image.Image, how: Drawing, facts: dict[str, Any]) -> NDArray[np.bool_]:
    """The mask at the size of the decode; an empty one, and told, where OpenCV has no answer."""
    from penstock.workloads.multimodal.masks import load_cv2, make_mask

    film = np.asarray(picture)
    facts |= {"mask_ok": True, "mask_reference_size": list(film.shape)}
    try:
        return make_mask(film, half=how.mask == "half")
    except load_cv2().error:
        facts["mask_ok"] = False
        return np.zeros(film.shape, np.bool_)


def _smallest(header: Header, how: Drawing) -> tuple[int, int] | None:
    """Pixels that the decoder must give at least; None for all."""
    if how.exact or how.mask == "full" or header.kind != "JPEG" or header.channels == 4:
        return None
    if how.mask == "half":
        return max(how.size, header.width // 2), max(how.size, header.height // 2)
    return how.size, how.size


def _decoded(
    data: bytes, header: Header, smallest: tuple[int, int] | None, facts: dict[str, Any]
) -> Image.Image:
    """The film in 8 bits of grey."""
    try:
        picture = Image.open(io.BytesIO(data), formats=_FORMATS)
        if picture.mode != "L":
            facts["colour_source"] = picture.mode
        if picture.size != (header.width, header.height):
            raise BadImage("image_damaged")
        if smallest is not None:
            picture.draft("L", smallest)
        if header.kind == "JPEG":  # all of it at once: where a block ends, some is decoded twice
            picture.decodermaxblock = len(data)
        picture.load()
        if _ORIENTATION in (exif := picture.getexif()) and exif[_ORIENTATION] != 1:
            facts["exif_orientation_ignored"] = int(exif[_ORIENTATION])
        return _grey(picture, facts)
    except (MemoryError, BadImage):
        raise
    except Exception as error:  # each decoder has its own for what is damaged
        raise BadImage("image_truncated" if _cut_off(data, header, error) else "image_damaged") from None


def _grey(picture: Image.Image, facts: dict[str, Any]) -> Image.Image:
    if picture.mode == "L":
        return picture
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise BadImage("image_damaged")
        bits = next(bits for bits in _DEPTHS if int(values.max()) < 1 << bits)
        facts["bits_stored"] = bits
        return Image.fromarray((values.astype(np.uint16) >> (bits - 8)).astype(np.uint8))
    if picture.mode == "1":
        return picture.convert("L")
    return picture.convert("RGB").convert("L")  # CMYK, palettes, alpha: by way of colours


def _cut_off(data: bytes, header: Header, error: Exception) -> bool:
    end = b"\xff\xd9" if header.kind == "JPEG" else b"IEND"
    return "truncat" in str(error).lower() or end not in data[-64:]


def _halved(picture: Image.Image, how: Drawing) -> Image.Image:
    """Half of it where a resize to the square begins so: OpenCV's pixels are the same, and sooner there."""
    width, height = picture.size
    odd = width % 2 or height % 2
    if odd or how.fit != "stretch" or not all(2 <= each / how.size < 3 for each in (width, height)):
        return picture
    from penstock.workloads.multimodal.masks import load_cv2

    cv2 = load_cv2()
    half = cv2.resize(np.asarray(picture), (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return Image.fromarray(half)


def _fitted(
    picture: Image.Image, header: Header, how: Drawing, way: Image.Resampling = Image.Resampling.BILINEAR
) -> NDArray[np.uint8]:
    """Resized to the square; with ``pad`` in the film's own shape, black around it."""
    size = how.size
    gap = None
    if how.mask == "half" and not how.exact and way == Image.Resampling.BILINEAR:
        # What was decoded at half size for its mask is halved first, as the decoder would have done else.
        picture, gap = _halved(picture, how), 1.0
    if how.fit == "stretch":
        return np.asarray(picture.resize((size, size), way, reducing_gap=gap))
    longest = max(header.width, header.height)
    width, height = (max(1, round(size * each / longest)) for each in (header.width, header.height))
    square = np.zeros((size, size), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    inner = picture.resize((width, height), way, reducing_gap=gap)
    square[top : top + height, left : left + width] = np.asarray(inner)
    return square
