"""Starting a process by `fork`."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enumerations
import atexit
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import popen_fork, util
from multiprocessing.process import BaseProcess

from manycore import _engine, _resting, _thread_limits, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["Popen"]

UNKNOWN = 255
"""The exit code of a child about which nobody is left to ask, as in the standard library."""

# Before, the standard library's processes ran what is left of these by themselves.
RUNS_EXIT_FUNCTIONS = sys.version_info >= (3, 13)


def run_and_end(run: Callable[[], int]) -> NoReturn:
    """In a child made by `fork`: runs its work and what is to run at exit; ends the process."""
    code = 1
    try:
        if RUNS_EXIT_FUNCTIONS:
            atexit._clear()
            atexit.register(util._exit_function)  # type: ignore[attr-defined]
        code = run()
        if RUNS_EXIT_FUNCTIONS:
            atexit._run_exitfuncs()
            util._flush_std_streams()  # type: ignore[attr-defined]  # of what these have printed
        _engine.leave_family()
    finally:
        os._exit(code)


def variables_of(process_obj: BaseProcess) -> dict[str, str]:
    """What is to be added to a child's environment."""
    variables: dict[str, str] = getattr(process_obj, "_variables", {})
    return variables


class Popen(popen_fork.Popen):
    """A child made by `fork`.

    Beside the standard library's pipes, the child has a *lifeline*: when this process ends, however
    it ends, the kernel kills the child. Its end is watched by a descriptor of the process itself,
    where there are such: then it does not matter if somebody else collects it, by `os.wait()`.

    Attributes:
        peak_memory: The most memory in bytes that the child had, once it has ended, where known.
        error: Why there is no child, where that turned out after it was asked for.
    """

    method = "fork"
    peak_memory: int | None = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Waits until the child is there, where another process makes it."""

    def _launch(self, process_obj: BaseProcess) -> None:
        parent_r, child_w, child_r, parent_w, lifeline = self._make_pipes()
        mask = process.signal_mask()
        try:
            # A child that is just beginning would answer Ctrl-C with a traceback of its own, and
            # here nothing would know of it yet.
            _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGINT,))
            self.pid = _resting.fork(mask)
            if self.pid == 0:
                process.holds_ctrl_c = _signal.SIGINT not in mask
                run_and_end(
                    lambda: self._be_child(process_obj, (parent_r, parent_w), child_r, lifeline)
                )
        except BaseException:
            self._abandon(parent_r, child_w, child_r, parent_w, lifeline)
            raise
        else:
            for fd in (child_w, child_r, lifeline):
                os.close(fd)
            self._keep(parent_r, parent_w)
            process_obj._popen = self  # type: ignore[attr-defined]  # see `has_started`
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    def _make_pipes(self) -> tuple[int, ...]:
        """Both ends of a pipe from the child and of one to it; the child's end of a lifeline."""
        made: list[int] = []
        try:
            made += os.pipe()
            made += os.pipe()
            lifeline, self._lifeline = _engine.make_lifeline()
        except BaseException:
            for fd in made:
                os.close(fd)
            raise
        return *made, lifeline

    def _abandon(self, *fds: int) -> None:
        """Closes what was made for a child that there will not be."""
        for fd in fds:
            os.close(fd)
        _engine.cut_lifeline(self.__dict__.pop("_lifeline"))

    def _be_child(
        self, process_obj: BaseProcess, parents: tuple[int, int], sentinel: int, lifeline: int
    ) -> int:
        for fd in parents:
            os.close(fd)
        if not self._is_kept(process_obj):
            _engine.arm_lifeline(lifeline)
        _thread_limits.begin(variables_of(process_obj))
        if not isinstance(process_obj, process.OwnedProcess):
            process.let_ctrl_c_through()
        code: int = process_obj._bootstrap(parent_sentinel=sentinel)  # type: ignore[attr-defined]
        return code

    def _is_kept(self, process_obj: BaseProcess) -> bool:
        """Whether the child is to outlive this process."""
        return getattr(process_obj, "_orphan", "kill") == "keep"

    def _keep(self, sentinel: int, *others: int) -> None:
        """Watches the child, and keeps the parent's ends of its pipes until this object goes."""
        self._watch_child()
        close_fds = util.close_fds  # type: ignore[attr-defined]
        own = self._watch.fileno()
        if own is None:
            self.sentinel = sentinel
            self.finalizer: Any = util.Finalize(self, close_fds, (sentinel, *others))
        else:
            os.close(sentinel)
            self.sentinel = own
            self.finalizer = util.Finalize(self, close_fds, others)

    def _watch_child(self) -> None:
        self._owner = os.getpid()
        self._watch = _engine.ChildWatch(self.pid)

    def interrupt(self) -> None:
        """Sends SIGINT to the child."""
        self._send_signal(signal.SIGINT)

    def _send_signal(self, number: int) -> None:
        # Not by pid, where that can be: it may be another's once somebody has collected the child.
        if self.returncode is not None:
            return
        try:
            fd = self._watch.fileno()
            if fd is not None:
                signal.pidfd_send_signal(fd, number)
                return
        except ProcessLookupError:
            return
        except OSError:
            pass  # refused by a sandbox
        super()._send_signal(number)  # type: ignore[misc]

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, once the child has ended."""
        if self.returncode is None and self._owner == os.getpid():
            self._look(flag)
        return self.returncode

    def _look(self, flag: int) -> None:
        try:
            end = self._watch.look()
            if end is None and not flag & os.WNOHANG:
                self._await_end()
                end = self._watch.look()
        except ChildProcessError:
            # Another thread of this process notes how it ended before it collects it.
            if self.returncode is None:
                code = self._watch.told()
                self._note_end(UNKNOWN if code is None else code)
            return
        if end is not None:
            self._note_end(*end)
            self._watch.collect()

    def _await_end(self) -> None:
        fd = self._watch.fileno()
        child = (os.P_PID, self.pid) if fd is None else (os.P_PIDFD, fd)
        os.waitid(*child, os.WEXITED | os.WNOWAIT)

    def _note_end(self, code: int, peak_memory: int | None = None) -> None:
        """Notes how the child has ended, and what that means for the family."""
        self.peak_memory = peak_memory
        self.returncode = code
        lifeline = self.__dict__.pop("_lifeline", None)  # one thread gets it
        if lifeline is not None:
            _engine.cut_lifeline(lifeline)
            _engine.reap()
