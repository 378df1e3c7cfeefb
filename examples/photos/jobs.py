"""The two jobs: each backend does the same work in turn, then the results are printed."""

from functools import partial
from pathlib import Path

from tqdm import tqdm

from photos import report
from photos.backends import Backend, Backends
from photos.comparison import ResultsDiffer, check_same_output, race
from photos.development import develop
from photos.pipeline import Advance, run_pipeline
from photos.sources import Photo, Pixels
from photos.storage import Storage
from photos.tiles import cut_tiles, fingerprint_in_pool, fingerprint_serially


def pipeline_job(backends: Backends, photos: list[Photo], rounds: int, output: Path) -> None:
    """Develop ``photos`` with each backend and print the comparison and where the results are.

    Raises:
        PipelineError: Not all photographs were stored.
        ResultsDiffer: Two backends stored different things.
    """
    folders = {name: output / name for name in backends}

    def develop_with(name: str, number: int) -> None:
        with _bar(len(photos), f"{name}, round {number}/{rounds}", "image") as bar:
            _develop_all(backends[name], photos, folders[name], bar.update)

    timings = race({name: partial(develop_with, name) for name in backends}, rounds)
    check_same_output(list(folders.values()))
    report.print_pipeline(photos, timings, list(folders.values()))


def tile_job(backends: Backends, photos: list[Photo], rounds: int) -> None:
    """Fingerprint the tiles of ``photos`` with each backend and print the comparison.

    Raises:
        ResultsDiffer: Two backends, or two rounds, found different fingerprints.
    """
    tiles = cut_tiles([photo for photo in photos if photo.quarter_turns == 0])
    expected = fingerprint_serially(tiles)

    with _bar(rounds * len(backends), "small jobs", "run") as bar:

        def fingerprint_with(name: str, _number: int) -> None:
            if _fingerprint_all(backends[name], tiles) != expected:
                raise ResultsDiffer(f"{name} found other fingerprints than one process alone")
            bar.update()

        timings = race({name: partial(fingerprint_with, name) for name in backends}, rounds)
    report.print_tiles(len(tiles), timings)


def _bar(total: int, title: str, unit: str) -> tqdm:
    return tqdm(total=total, desc=title, unit=unit, miniters=1)


def _develop_all(
    backend: Backend | None, photos: list[Photo], folder: Path, advance: Advance
) -> None:
    if backend is not None:
        run_pipeline(backend, photos, folder, advance)
        return
    with Storage(folder) as storage:
        for photo in photos:
            storage.store(develop(photo.name, photo.decode()))
            advance()


def _fingerprint_all(backend: Backend | None, tiles: list[Pixels]) -> list[int]:
    if backend is None:
        return fingerprint_serially(tiles)
    return fingerprint_in_pool(backend, tiles)
