"""Which photographs there are, and how one becomes an array."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

QUARTER_TURNS = range(3)
"""The orientations each photograph is used in: scikit-image ships too few for enough work."""

SUFFIXES = {".png", ".jpg"}
DRAWINGS = {"chessboard_GRAY", "chessboard_RGB", "color", "horse", "logo", "phantom"}
"""Images of scikit-image that no camera took."""


@dataclass(frozen=True)
class Photo:
    """One photograph in one orientation."""

    path: Path
    quarter_turns: int

    @property
    def name(self) -> str:
        """The file's name and the angle, such as ``coffee-090``."""
        return f"{self.path.stem}-{90 * self.quarter_turns:03}"

    def decode(self) -> Pixels:
        """Return the pixels as an array of shape (height, width, 3)."""
        with Image.open(self.path) as image:
            pixels = np.asarray(image.convert("RGB"))
        return np.ascontiguousarray(np.rot90(pixels, self.quarter_turns))

    def megapixels(self) -> float:
        """Return the size, read from the file's header alone."""
        with Image.open(self.path) as image:
            return image.width * image.height / 1e6


def find_photos(limit: int | None = None) -> list[Photo]:
    """Return the photographs that scikit-image ships, upright ones first, then turned.

    Only files inside the installed package count; nothing is downloaded.
    """
    files = sorted(_photographs(Path(skimage.__file__).parent / "data"))
    return [Photo(path, turns) for turns in QUARTER_TURNS for path in files][:limit]


def _photographs(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.suffix in SUFFIXES and path.stem not in DRAWINGS:
            yield path
