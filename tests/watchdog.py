"""Ends a hung test and prints every stack, without a thread of its own.

`faulthandler.dump_traceback_later` would start a native thread, and a native thread makes CPython
3.12 and later warn at every fork. A timer signal needs none: its handler is C code that prints all
stacks even while the interpreter is stuck, and then lets the signal kill the process.
"""

import contextlib
import faulthandler
import os
import signal
import time

_DEADLINE = "MANYCORE_TEST_DEADLINE"  # "pid of pytest:time.monotonic() of the end"
_LEAD = 10  # seconds by which a hung child ends before the test, which can then report it


def install(stderr: int) -> None:
    """Prepares this process, and whatever it forks, to print its stacks to `stderr`."""
    _answer_alarm(stderr)
    os.register_at_fork(after_in_child=_arm_child)


@contextlib.contextmanager
def limit(seconds: int):
    """Kills this process when the block has not ended after `seconds`, its children before it."""
    os.environ[_DEADLINE] = f"{os.getpid()}:{time.monotonic() + seconds}"
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        del os.environ[_DEADLINE]


def watch_child() -> None:
    """Arms the watchdog in a process that `spawn` started; does nothing in pytest's own."""
    owner, _, _ = os.environ.get(_DEADLINE, "").partition(":")
    if owner and int(owner) != os.getpid():
        _answer_alarm(2)
        _arm_child()


def _answer_alarm(stderr: int) -> None:
    faulthandler.register(signal.SIGALRM, file=stderr, all_threads=True, chain=True)


def _arm_child() -> None:
    _, _, end = os.environ.get(_DEADLINE, "").partition(":")
    if end:
        signal.alarm(max(1, int(float(end) - time.monotonic()) - _LEAD))
