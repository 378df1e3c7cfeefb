"""PNG files and the SQLite catalogue."""

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

from photos.development import Developed

CATALOGUE = "catalogue.sqlite"
KINDS = ("denoised", "edges", "thumbnail")
"""The images kept of each photograph; each kind has a folder."""

PNG_COMPRESSION = 1  # the one writing process must keep up with all the developing ones

CREATE = """
CREATE TABLE photo (
    name TEXT PRIMARY KEY,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    mean_colour TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    seconds REAL NOT NULL,
    worker_pid INTEGER NOT NULL
)
"""
INSERT = """
INSERT INTO photo
VALUES (:name, :width, :height, :mean_colour, :sha256, :seconds, :worker_pid)
"""


class Storage:
    """A folder with the images of one run and their catalogue, empty when it is opened."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        _clear(folder)
        self._catalogue = sqlite3.connect(folder / CATALOGUE)
        # A row survives the end of this process, not a power cut: the job can be run again.
        self._catalogue.execute("PRAGMA synchronous = OFF")
        self._catalogue.execute(CREATE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._catalogue.close()

    def store(self, developed: Developed) -> None:
        """Write the images, then the row: what the catalogue lists is on disk."""
        for kind in KINDS:
            image = Image.fromarray(getattr(developed, kind))
            image.save(
                self._folder / kind / f"{developed.name}.png", compress_level=PNG_COMPRESSION
            )
        with self._catalogue:
            self._catalogue.execute(INSERT, vars(developed))


def read_rows(folder: Path, columns: str = "*") -> list[tuple[Any, ...]]:
    """Return these columns of the whole catalogue in ``folder``, ordered by name."""
    catalogue = sqlite3.connect(folder / CATALOGUE)
    try:
        return catalogue.execute(f"SELECT {columns} FROM photo ORDER BY name").fetchall()
    finally:
        catalogue.close()


def read_images(folder: Path) -> dict[str, bytes]:
    """Return the content of every PNG file in ``folder`` by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.png")}


def _clear(folder: Path) -> None:
    """Make the folders and remove what an earlier run left in them, and nothing else."""
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for image in (folder / kind).glob("*.png"):
            image.unlink()
    for file in folder.glob(f"{CATALOGUE}*"):
        file.unlink()
