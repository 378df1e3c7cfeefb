"""The second job: thousands of tiny tasks on a ``Pool``, where handing out is most of the work.

Each photograph is cut into tiles, and each tile gets a fingerprint that stays the same when the
picture is made lighter or darker, as a search for copied regions would use it.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from photos.backends import Backend
from photos.interrupts import interrupts_held, leave_interrupt_to_parent
from photos.sources import Photo, Pixels

TILE_SIDE = 16
FINGERPRINT_SIDE = 8


def cut_tiles(photos: list[Photo]) -> list[Pixels]:
    """Return every whole tile of ``photos``, each with memory of its own."""
    return [tile for photo in photos for tile in _tiles_of(photo.decode())]


def fingerprint(tile: Pixels) -> int:
    """Return 56 bits: in each of 8x8 cells, whether it is darker than the one on its right."""
    block = TILE_SIDE // FINGERPRINT_SIDE
    cells = tile.reshape(FINGERPRINT_SIDE, block, FINGERPRINT_SIDE, block * 3).sum(axis=(1, 3))
    darker = cells[:, :-1] < cells[:, 1:]
    return int.from_bytes(np.packbits(darker).tobytes())


def fingerprint_serially(tiles: list[Pixels]) -> list[int]:
    """Return the sorted fingerprints, computed in this process."""
    return sorted(map(fingerprint, tiles))


def fingerprint_in_pool(backend: Backend, tiles: list[Pixels]) -> list[int]:
    """Return the sorted fingerprints, each tile a task of its own."""
    with ExitStack() as at_exit:
        with interrupts_held():
            pool = backend.Pool(backend.cpu_count(), initializer=leave_interrupt_to_parent)
            at_exit.enter_context(pool)
        return sorted(pool.imap_unordered(fingerprint, tiles, chunksize=1))


def _tiles_of(pixels: Pixels) -> Iterator[Pixels]:
    height, width = pixels.shape[:2]
    for top in range(0, height - TILE_SIDE + 1, TILE_SIDE):
        for left in range(0, width - TILE_SIDE + 1, TILE_SIDE):
            yield pixels[top : top + TILE_SIDE, left : left + TILE_SIDE].copy()
