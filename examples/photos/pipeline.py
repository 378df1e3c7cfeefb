"""Starts the stages, follows them, and ends them whatever happens."""

import queue
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from photos.backends import Backend
from photos.interrupts import interrupts_held
from photos.sources import Photo
from photos.stages import Failed, Finished, Report, Stored, read, run_stage, transform, write

WAITING_PER_WORKER = 2
"""How many photographs may wait in a queue for each worker: enough that none runs dry."""

LIVENESS_SECONDS = 0.2
"""How often the parent looks after its processes while none of them reports."""

PATIENCE_SECONDS = 0.5
"""How long a process may take to follow SIGTERM before SIGKILL."""

Advance = Callable[[], object]


class PipelineError(Exception):
    """The pipeline did not do its whole work."""


class StageDied(PipelineError):
    """A process of the pipeline ended before its work was done."""

    def __init__(self, process: Any) -> None:
        stage = process.name.partition("-")[0]
        super().__init__(
            f"the {stage} stage died: process {process.name} (pid {process.pid}) "
            f"{_describe(process.exitcode)} before its work was done"
        )


class PhotosFailed(PipelineError):
    """A stage raised an error for some photographs; the others are stored."""

    def __init__(self, failures: list[Failed]) -> None:
        first = failures[0]
        names = ", ".join(failure.name for failure in failures)
        super().__init__(
            f"not stored: {names}; the {first.stage} stage said of {first.name}:\n{first.reason}"
        )


def run_pipeline(backend: Backend, photos: list[Photo], folder: Path, advance: Advance) -> None:
    """Read, develop and store ``photos``, calling ``advance`` after each.

    No process is left when this returns or raises.

    Raises:
        StageDied: A process crashed; the others were ended.
        PhotosFailed: All went through, but not every photograph could be stored.
    """
    # Held until the end: in a spawned child a queue exists only while its parent keeps it.
    queues = _Queues(backend)
    processes = _stage_processes(backend, photos, folder, queues)
    try:
        with interrupts_held():
            for process in processes:
                process.start()
        _follow(processes, queues.reports, advance)
        for process in processes:
            process.join()
    finally:
        _end([process for process in processes if process.is_alive()])


class _Queues:
    """The queues between the stages, and the one to the parent."""

    def __init__(self, backend: Backend) -> None:
        waiting = WAITING_PER_WORKER * backend.cpu_count()
        self.decoded = backend.Queue(waiting)
        self.developed = backend.Queue(waiting)
        self.reports = backend.Queue()


def _stage_processes(
    backend: Backend, photos: list[Photo], folder: Path, queues: _Queues
) -> list[Any]:
    workers = backend.cpu_count()

    def process(name: str, stage: Callable[..., None], *args: Any) -> Any:
        arguments = (name, stage, queues.reports, *args)
        return backend.Process(target=run_stage, args=arguments, name=name, daemon=True)

    return [
        process("write", write, queues.developed, folder, workers),
        *(
            process(f"transform-{number}", transform, queues.decoded, queues.developed)
            for number in range(1, workers + 1)
        ),
        process("read", read, photos, queues.decoded, workers),
    ]


def _follow(processes: list[Any], reports: Any, advance: Advance) -> None:
    """Take reports until every process has finished or one has died."""
    running = {process.name: process for process in processes}
    failures: list[Failed] = []
    while running:
        report = _next_report(list(running.values()), reports)
        match report:
            case Finished(process=name):
                del running[name]
            case Failed():
                failures.append(report)
                advance()
            case Stored():
                advance()
    if failures:
        raise PhotosFailed(failures)


def _next_report(running: list[Any], reports: Any) -> Report:
    """Wait for a report, or for the end of a process that has not said it finished."""
    while True:
        ended = [process for process in running if process.exitcode is not None]
        for process in ended:
            _raise_if_crashed(process)
        try:
            return reports.get(timeout=LIVENESS_SECONDS)
        except queue.Empty:
            # What these reported arrived before they ended: `Finished` would have been here.
            if ended:
                raise StageDied(ended[0]) from None


def _raise_if_crashed(process: Any) -> None:
    if process.exitcode == -signal.SIGINT:
        raise KeyboardInterrupt  # Ctrl-C reached this child a moment before its parent
    if process.exitcode != 0:
        raise StageDied(process)


def _end(processes: list[Any]) -> None:
    """End the processes that are left, by force if need be, and wait until they are gone."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(PATIENCE_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


def _describe(exitcode: int) -> str:
    if exitcode >= 0:
        return f"left with exit code {exitcode}"
    return f"was ended by {signal.Signals(-exitcode).name} (exit code {exitcode})"
