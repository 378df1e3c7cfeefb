"""What the reading, the developing and the writing processes do.

Between two stages runs a queue of ``(name, array)`` or ``Developed``; ``END`` closes it, sent
once to each receiver by each sender. All stages report to the parent through a third queue.
An error with one photograph is reported and costs that photograph alone.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from photos.development import develop
from photos.interrupts import end_on_interrupt
from photos.sources import Photo
from photos.storage import Storage

END = None


@dataclass(frozen=True)
class Stored:
    """A photograph is on disk and in the catalogue."""

    name: str


@dataclass(frozen=True)
class Failed:
    """A stage could not do its work on one photograph."""

    stage: str
    name: str
    reason: str


@dataclass(frozen=True)
class Finished:
    """A process has passed on all it had to."""

    process: str


Report = Stored | Failed | Finished


def run_stage(process: str, stage: Callable[..., None], reports: Any, *args: Any) -> None:
    """Run ``stage`` as the whole life of the process called ``process``."""
    end_on_interrupt()
    stage(reports, *args)
    reports.put(Finished(process))


def read(reports: Any, photos: list[Photo], decoded: Any, receivers: int) -> None:
    """Decode every photograph and pass it on."""
    for photo in photos:
        with _failure_reported(reports, "read", photo.name):
            decoded.put((photo.name, photo.decode()))
    for _ in range(receivers):
        decoded.put(END)


def transform(reports: Any, decoded: Any, developed: Any) -> None:
    """Develop whatever arrives until the end and pass it on."""
    for name, pixels in iter(decoded.get, END):
        with _failure_reported(reports, "transform", name):
            developed.put(develop(name, pixels))
    developed.put(END)


def write(reports: Any, developed: Any, folder: Path, senders: int) -> None:
    """Store whatever arrives until each sender has ended."""
    with Storage(folder) as storage:
        for _ in range(senders):
            for photo in iter(developed.get, END):
                with _failure_reported(reports, "write", photo.name):
                    storage.store(photo)
                    reports.put(Stored(photo.name))


@contextmanager
def _failure_reported(reports: Any, stage: str, name: str) -> Iterator[None]:
    try:
        yield
    except Exception:
        reports.put(Failed(stage, name, traceback.format_exc()))
