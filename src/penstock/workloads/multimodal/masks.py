"""A mask of a film's structure: edges of the equalised film, filled, as in the published program.

CLAHE (clip 2, 8x8 tiles), Canny (50, 150), outer contours of more than 100 pixels, filled. These are numbers
of
pixels at the size at which it is done: two sizes of one film give two masks, so that the size is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import MissingExtra

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AREA = 100.0


def load_cv2() -> Any:
    """Import OpenCV.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise MissingExtra("a mask", "opencv-python-headless", "multimodal-mask") from None
    cv2.setNumThreads(1)
    return cv2


def make_mask(film: NDArray[np.uint8], *, half: bool) -> NDArray[np.bool_]:
    """The mask of a film.

    Args:
        film: uint8 (height, width).
        half: whether the film is half its size, so that a contour has a quarter of the area.

    Returns:
        bool (height, width).
    """
    cv2 = load_cv2()
    equal = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(np.ascontiguousarray(film))
    edges = cv2.Canny(equal, 50, 150)
    contours, _ = cv2.findContours(edges, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    least = _AREA / 4 if half else _AREA
    large = [contour for contour in contours if cv2.contourArea(contour) > least]
    mask = np.zeros(film.shape, np.uint8)
    cv2.drawContours(mask, large, -1, 1, cv2.FILLED)
    found: NDArray[np.bool_] = mask.astype(np.bool_)
    return found
