"""What shows that Ctrl-C was pressed, besides a `KeyboardInterrupt`."""

from __future__ import annotations

import sys

from manycore.process import event_loop_runner


def means_ctrl_c(error: BaseException | None) -> bool:
    """Whether an exception says that Ctrl-C was pressed, also in an event loop."""
    if isinstance(error, KeyboardInterrupt) or is_interrupted_lock(error):
        return True
    return type(error).__name__ == "CancelledError" and is_event_loop_interrupted()


def has_ended_by_ctrl_c() -> bool:
    """Whether the program ends by a `KeyboardInterrupt` that nobody has caught.

    In an interactive session one may have ended a command, long ago.
    """
    last = getattr(sys, "last_value", None)
    has_ended = isinstance(last, KeyboardInterrupt) or is_interrupted_lock(last)
    return has_ended and not hasattr(sys, "ps1")


def is_event_loop_interrupted() -> bool:
    """Whether Ctrl-C was pressed while `asyncio.run` runs: its main task is being cancelled."""
    return bool(getattr(event_loop_runner(), "_interrupt_count", 0))


def is_interrupted_lock(error: BaseException | None) -> bool:
    """Whether this is what `threading.Condition` makes of a Ctrl-C while it locks again.

    It takes its lock in a function of Python's, at whose beginning signals are heard, and then lets
    go what it does not hold.
    """
    return (
        isinstance(error, RuntimeError)
        and str(error) in ("release unlocked lock", "cannot release un-acquired lock")
        and isinstance(error.__context__, KeyboardInterrupt)
    )
