"""What is printed when a job is done."""

import os
from itertools import combinations
from pathlib import Path

from photos.backends import BACKENDS
from photos.comparison import Timings
from photos.sources import Photo
from photos.storage import CATALOGUE, KINDS, read_rows
from photos.tiles import TILE_SIDE

SAMPLE_ROWS = 6


def print_pipeline(photos: list[Photo], timings: Timings, folders: list[Path]) -> None:
    """Print what was developed, how fast, where it is, and some rows of the catalogue."""
    megapixels = sum(photo.megapixels() for photo in photos)
    files = len({photo.path for photo in photos})
    turned = sum(photo.quarter_turns > 0 for photo in photos)
    print(
        f"\nPipeline: {len(photos)} images, {megapixels:.1f} MPix ({files} photographs shipped "
        f"with scikit-image, and {turned} turned copies of them)"
    )
    print(f"  read -> transform on {os.cpu_count()} processes -> write; start to end, all included")
    _print_timings(timings, megapixels, "MPix")
    if len(folders) > 1:
        print("  all catalogues agree, all images are the same byte for byte")
    print("Results:")
    for folder in folders:
        print(f"  {folder}/{{{','.join(KINDS)}}}/*.png  {folder}/{CATALOGUE}")
    print(f"Some rows of {folders[-1] / CATALOGUE}:")
    _print_sample(folders[-1])


def print_tiles(count: int, timings: Timings) -> None:
    """Print how fast the fingerprints were found."""
    print(
        f"\nSmall jobs: fingerprints of {count} tiles of {TILE_SIDE}x{TILE_SIDE} pixels, each a "
        "task of its own (Pool.imap_unordered, chunksize=1)"
    )
    _print_timings(timings, count, "task")


def _print_timings(timings: Timings, amount: float, unit: str) -> None:
    """Print a table of the rounds, then each backend's speed-up over those before it."""
    names = [name for name in BACKENDS if name in timings]
    print(f"  {'':15} {'median':>8} {unit + '/s':>12}   rounds")
    for name in names:
        seconds = timings.median(name)
        rounds = " ".join(f"{each:.2f}" for each in timings[name])
        print(f"  {name:15} {seconds:6.2f} s {amount / seconds:12,.1f}   {rounds}")
    for slower, faster in combinations(names, 2):
        ratio = timings.speed_up(faster, over=slower)
        print(f"  {faster} runs at {ratio:.2f}x the speed of {slower}")


def _print_sample(folder: Path) -> None:
    rows = read_rows(folder, "name, width, height, mean_colour, sha256, seconds, worker_pid")
    step = -(-len(rows) // SAMPLE_ROWS)
    print(f"  {'name':24} {'size':>9}  {'colour':8} {'sha256':13} {'seconds':>7}  pid")
    for name, width, height, colour, digest, seconds, pid in rows[::step]:
        size = f"{width}x{height}"
        print(f"  {name:24} {size:>9}  {colour:8} {digest[:12]}… {seconds:7.3f}  {pid}")
