"""The options, and the order in which things happen."""

import argparse
import sys
import threading
from pathlib import Path

from tqdm import tqdm

from photos.backends import BACKENDS, SERIAL, BackendMissing, Backends, load
from photos.comparison import ResultsDiffer
from photos.development import develop
from photos.jobs import pipeline_job, tile_job
from photos.pipeline import PipelineError
from photos.sources import Photo, find_photos

ALL = "all"
DEFAULT_ROUNDS = 3


def run() -> int:
    """Run both jobs as the command line asks and return the exit code."""
    options = _parse()
    _keep_tqdm_to_this_process()
    try:
        backends = _load_backends(options.backend, options.start_method)
        options.output.mkdir(parents=True, exist_ok=True)
        photos = find_photos(options.limit)
        _warm_up(photos)
        pipeline_job(backends, photos, options.rounds, options.output)
        tile_job(backends, photos, options.rounds)
    except (BackendMissing, PipelineError, ResultsDiffer, OSError) as error:
        print(f"photos: error: {error}", file=sys.stderr)
        return 1
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="photos", description="Develop photographs in a pipeline; compare the backends at it."
    )
    parser.add_argument("--backend", choices=(*BACKENDS, ALL), default=ALL, help="default: all")
    parser.add_argument("--start-method", choices=("fork", "spawn", "forkserver"))
    parser.add_argument(
        "--rounds",
        type=_positive,
        default=DEFAULT_ROUNDS,
        metavar="N",
        help=f"rounds of each backend (default: {DEFAULT_ROUNDS})",
    )
    parser.add_argument("--limit", type=_positive, metavar="N", help="use the first N images only")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("out/photos"),
        metavar="FOLDER",
        help="where each backend gets a folder (default: out/photos)",
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _keep_tqdm_to_this_process() -> None:
    """Stop tqdm from starting a thread, which a fork must not meet, and a process-wide lock."""
    tqdm.monitor_interval = 0
    tqdm.set_lock(threading.RLock())


def _load_backends(choice: str, start_method: str | None) -> Backends:
    names = BACKENDS if choice == ALL else (choice,)
    return {name: None if name == SERIAL else load(name, start_method) for name in names}


def _warm_up(photos: list[Photo]) -> None:
    """Develop one photograph, so that no round pays for what is imported at first use."""
    smallest = min(photos, key=Photo.megapixels)
    develop(smallest.name, smallest.decode())
