"""What a worker process of a pool does."""

from __future__ import annotations

import signal

from manycore import _engine, _last_words
from manycore._worker import Surroundings, Worker, being
from manycore.errors import TaskCancelled, TaskTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

STOP_FOR_TIME = signal.SIGRTMAX - 3
"""Tells a worker that its task has run for too long. Nobody else is known to use this signal."""

STOP = signal.SIGRTMAX - 4
"""Tells a worker that nobody wants the result of its task any more."""

ENDED_BY_CTRL_C = 130
"""The exit code of a worker whose task was interrupted, as shells have it."""


def work(
    seat: tuple[Any, ...],
    id: int,
    surroundings: Surroundings,
    most_tasks: int | None,
    last_words: _last_words.Place | None,
) -> None:
    """What a worker process runs."""
    _engine.volunteer_for_oom()
    worker = Worker(id)
    surroundings.pin(worker)
    try:
        with being(worker):
            place = _engine.Seat(*seat)
            surroundings.settle(place, worker)
            try:
                surroundings.begin()
            except Exception as error:
                place.fail(error)
                raise
            obey(place)
            _last_words.speak(last_words, seat[-1])
            place.run(most_tasks)
            surroundings.end()
    except KeyboardInterrupt:
        # Ctrl-C reaches every process of the terminal; the owner decides and says what happens.
        raise SystemExit(ENDED_BY_CTRL_C) from None


def obey(seat: _engine.Seat | _engine.StageSeat) -> None:
    """Gives tasks up when the owner says so: by an exception in the task.

    The signal also ends what the task waits for, unless it comes right before: so it comes again
    until the task has ended. It may come late, when another task runs: then nothing happens.
    """

    def stop(number: int, frame: object) -> None:
        if seat.take_interruption():
            _give_up(number)

    for number in (STOP_FOR_TIME, STOP):
        signal.signal(number, stop)


def _give_up(number: int) -> NoReturn:
    if number == STOP_FOR_TIME:
        raise TaskTimeout("the task ran for longer than its timeout")
    raise TaskCancelled("the task was cancelled")
