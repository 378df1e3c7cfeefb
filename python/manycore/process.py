"""Processes: the standard library's `multiprocessing.process`, so `logging` and others see ours."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enumerations
import contextlib
import functools
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import process as _process
from multiprocessing.process import (  # type: ignore[attr-defined]
    ORIGINAL_DIR,
    AuthenticationString,
    BaseProcess,
    active_children,
    current_process,
    parent_process,
)
from types import MappingProxyType

from manycore import _thread_limits
from manycore._rest import pass_on_rest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]

ORIGINAL_DIR = ORIGINAL_DIR
AuthenticationString = AuthenticationString


_NONE: Mapping[str, Any] = MappingProxyType({})


holds_ctrl_c = False
"""Whether SIGINT is blocked in this process, and only until its work begins."""


def signal_mask() -> set[int]:
    """The signals that are blocked in this thread: to be asked before another is.

    Blocking one may raise what came just before, and has blocked it then.
    """
    mask: set[int] = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
    return mask


def _hold_ctrl_c() -> None:
    """Has Ctrl-C wait until this process's work begins."""
    global holds_ctrl_c
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGINT,))
    holds_ctrl_c = holds_ctrl_c or _signal.SIGINT not in mask


def let_ctrl_c_through() -> None:
    """Has Ctrl-C raise `KeyboardInterrupt` from now on, also if it was pressed before."""
    global holds_ctrl_c
    if holds_ctrl_c:
        holds_ctrl_c = False
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGINT,))


def event_loop_runner() -> Any:
    """What runs an event loop, and has Ctrl-C cancel its main task instead; None without one."""
    handler = getattr(_signal.getsignal(signal.SIGINT), "func", None)
    is_one = getattr(handler, "__qualname__", "") == "Runner._on_sigint"
    return getattr(handler, "__self__", None) if is_one else None


def _leave_event_loop() -> None:
    """Has Ctrl-C raise `KeyboardInterrupt` where `asyncio.run` was running when this was forked.

    It would cancel that task, of which there is nothing here.
    """
    if event_loop_runner() is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def quietly(run: Callable[[], Any]) -> Any:
    """What `run` returns; Ctrl-C ends it without a traceback, which the program itself has."""
    try:
        let_ctrl_c_through()
        return run()
    except KeyboardInterrupt:
        if _is_in_foreground():
            raise SystemExit(1) from None  # the code that an uncaught exception gives
        raise


def _run_quietly(run: Callable[[], None]) -> None:
    """Runs a child's work; what the child runs at its end is quiet as well then."""

    def work() -> None:
        run()
        if _signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _end_quietly)

    _leave_event_loop()
    quietly(work)


def _end_quietly(number: int, frame: FrameType | None) -> None:
    if _is_in_foreground():
        sys.unraisablehook = _say_nothing  # to which Python gives what exit functions raise
        raise SystemExit(1)
    signal.default_int_handler(number, frame)


def _say_nothing(_: object) -> None:
    pass


def _is_in_foreground() -> bool:
    """Whether Ctrl-C in a terminal reaches this process, and so the one that started it."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def write_whole_lines() -> None:
    """Has what is printed here be written a line at a time, as several processes do to one file.

    Otherwise a line ends in the middle where the buffer does, or, without buffers, at each of its
    parts; and a process that is killed takes with it what it has printed.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and (
            stream.write_through or not stream.line_buffering
        ):
            with contextlib.suppress(OSError, ValueError):  # it is closed, or nobody reads it
                stream.reconfigure(line_buffering=True, write_through=False)


class OwnedProcess(BaseProcess):
    """A process that ends when the process that started it does.

    Unlike the standard library's, daemonic processes may have children: none can outlive them.

    Args:
        orphan: `"kill"`, or `"keep"` for a process that goes on when the one that started it has
            been killed or has left by `os._exit`.
    """

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = _NONE,
        *,
        daemon: bool | None = None,
        orphan: str = "kill",
    ) -> None:
        if orphan not in ("kill", "keep"):
            raise ValueError(f"orphan must be 'kill' or 'keep', not {orphan!r}")
        super().__init__(group, target, name, args, kwargs, daemon=daemon)
        self._orphan = orphan
        self._logs: list[Any] = []
        self._variables: dict[str, str] = {}

    def start(self) -> None:
        """Starts the process; it calls `run`. To be called at most once."""
        popen = self._ask()
        popen.settle()
        self._begin(popen)

    def _start_soon(self) -> None:
        """Starts the process without waiting for it, where another process makes it.

        Whoever asks for its id or the like waits then. If it cannot be made, it has ended with exit
        code 255.
        """
        self._begin(self._ask())

    def _ask(self) -> Any:
        """Has the process made."""
        self._check_closed()  # type: ignore[attr-defined]
        assert self._popen is None, "cannot start a process twice"
        assert self._parent_pid == os.getpid(), (  # type: ignore[attr-defined]
            "can only start a process object created by current process"
        )
        _process._cleanup()  # type: ignore[attr-defined]
        records = sys.modules.get("manycore._records")  # once `log_to_parent` was called here
        self._logs = records.for_child() if records else []
        target, arguments = self._target, self._args  # type: ignore[attr-defined]
        self._variables |= _thread_limits.for_executors_worker(target, arguments)
        del target, arguments
        return self._Popen(self)  # type: ignore[attr-defined]

    def _begin(self, popen: Any) -> None:
        self._popen = popen  # as the popen may have noted already, while no Ctrl-C could come
        if self._logs:
            sys.modules["manycore._records"].child_started()
        # The arguments may refer to this object: a cycle that would keep both alive.
        del self._target, self._args, self._kwargs, self._logs  # type: ignore[attr-defined]
        _process._children.add(self)  # type: ignore[attr-defined]

    @property
    def _sentinel(self) -> int:
        """What the standard library keeps here: of one that was asked for it is not known yet."""
        sentinel: int = self._popen.sentinel
        return sentinel

    @_sentinel.deleter
    def _sentinel(self) -> None:
        """It went with what it is the sentinel of."""

    def interrupt(self) -> None:
        """Sends SIGINT to the process, as Ctrl-C does: `KeyboardInterrupt` is raised there."""
        self._check_closed()  # type: ignore[attr-defined]
        self._popen.interrupt()

    def _bootstrap(self, parent_sentinel: int | None = None) -> Any:
        """In the child: runs its work; what it starts itself has the same start method."""
        _hold_ctrl_c()  # the standard library's part has a traceback for it
        if self._start_method is not None:  # type: ignore[attr-defined]
            from manycore.context import _force_start_method

            _force_start_method(self._start_method)  # type: ignore[attr-defined]
        write_whole_lines()
        for sending in self._logs:
            sending.begin(_run_quietly.__code__)
        self.run = functools.partial(_run_quietly, self.run)  # type: ignore[method-assign]
        return super()._bootstrap(parent_sentinel)  # type: ignore[misc]


def start_soon(process: Any) -> None:
    """Starts a worker without waiting for it, if it is a process that can do that."""
    if isinstance(process, OwnedProcess):
        process._start_soon()
    else:
        process.start()  # a context may have processes of its own kind


def has_started(process: Any) -> bool:
    """Whether there is a process, though what a signal's handler has raised left its start."""
    popen = getattr(process, "_popen", None)
    if popen is None:
        return False
    if isinstance(process, OwnedProcess) and "_target" in vars(process):
        process._begin(popen)
    return True


def why_not_started(process: Any) -> BaseException | None:
    """Why there is no such process, if that turned out after `start_soon`."""
    return getattr(process._popen, "error", None) if isinstance(process, OwnedProcess) else None


pass_on_rest(__name__)
