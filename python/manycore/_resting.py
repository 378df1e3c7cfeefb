"""Threads of ours that are not there while this process forks.

A thread does not exist in a forked child, and what it had locked stays locked there; Python 3.12
and later warn of it. So ours end before a fork, and start again afterwards if they are needed.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enumerations
import collections
import contextlib
import functools
import os
import sys
import threading
import time
import weakref

from manycore import _engine
from manycore._ctrl_c import is_interrupted_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Resting(Protocol):
        """What has a thread."""

        def start(self) -> None:
            """Starts the thread, unless it runs."""

        def rest(self) -> bool:
            """Ends the thread; whether there was one to end. Does nothing in the thread itself."""

        def is_needed(self) -> bool:
            """Whether there is something for the thread to do."""


_COUNTS_BEHIND_HOOKS = sys.version_info >= (3, 13)
"""Whether Python counts the threads for its warning when the hooks have run, and not before."""

_known: weakref.WeakSet[Resting] = weakref.WeakSet()
_resting: list[Resting] = []

_leaving: collections.deque[threading.Thread] = collections.deque(maxlen=64)
"""Threads that are about to end, or have ended."""

KEEPER, RECORDS = NAMES = ("manycore-keeper", "manycore-records")
"""What our threads are called."""

_PATIENCE = 1.0
"""Seconds after which a thread that Python has ended must be gone from the system, too."""


def rest_across_forks(owner: Resting) -> None:
    """Has the thread of `owner`, which is about to start, end before forks.

    This does not keep `owner` alive.
    """
    _known.add(owner)


def leave() -> None:
    """Says that this thread ends now: a fork waits until it has."""
    _leaving.append(threading.current_thread())


class _Forking(threading.local):
    """What a thread that forks had blocked before it blocked more for the time of the fork."""

    mask: set[int] | None = None


_forking = _Forking()


def fork(mask: set[int]) -> int:
    """Forks as `os.fork` does; in a thread of ours, which is why there are threads, unwarned.

    Args:
        mask: The signals that stay blocked behind the fork, and so in threads of ours.
    """
    _forking.mask = mask
    try:
        if threading.current_thread().name not in NAMES:
            return os.fork()
        sys.audit("os.fork")
        return _engine.fork()
    finally:
        _forking.mask = None


def begin(thread: threading.Thread) -> None:
    """Starts a thread. Ctrl-C raises `KeyboardInterrupt` also while this waits until it runs."""
    _watch_forks()
    mask = _forking.mask
    if mask is not None:
        thread.run = functools.partial(_run_with, mask, thread.run)  # type: ignore[method-assign]
    try:
        thread.start()
    except RuntimeError as error:
        if is_interrupted_lock(error):
            raise KeyboardInterrupt from None
        raise


def _run_with(mask: set[int], run: Callable[[], None]) -> None:
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    run()


def wait_until_gone(thread: threading.Thread) -> None:
    """Returns when a thread that has been joined is none of the system's any more.

    Before 3.13 `join` returns a moment before that, and a fork in it would count the thread.
    """
    give_up = time.monotonic() + _PATIENCE
    while os.path.exists(f"/proc/self/task/{thread.native_id}") and time.monotonic() < give_up:
        time.sleep(0.0001)


def _before_fork() -> None:
    _resting.extend(owner for owner in list(_known) if owner.rest())
    with contextlib.suppress(IndexError):  # there are no more
        while True:
            thread = _leaving.pop()
            if thread is not threading.current_thread():
                # Not for ever: what it destroys at its end may wait for this thread.
                thread.join(_PATIENCE)
                if not thread.is_alive():
                    wait_until_gone(thread)


def _after_fork_in_parent() -> None:
    # Who forks in another thread has threads, and is warned of these.
    if not _COUNTS_BEHIND_HOOKS or threading.current_thread() is not threading.main_thread():
        _restart()


def _start_anew() -> None:
    _resting.clear()
    _leaving.clear()


def _restart(_: object = None) -> int:
    while _resting:
        owner = _resting.pop()
        if owner.is_needed():
            owner.start()
    return 0


@functools.cache
def _watch_forks() -> None:
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_start_anew,
    )
    if _COUNTS_BEHIND_HOOKS:
        os.register_at_fork(after_in_parent=_later(_restart))


def _later(function: Any) -> Any:
    """What, when called, has Python call a function in the main thread, at its next opportunity.

    In a hook of forks that is once `os.fork` has returned: what is made here is no Python function,
    at whose end Python would look.
    """
    import ctypes

    callback = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(function)
    return functools.partial(ctypes.PyDLL(None).Py_AddPendingCall, callback, None)
