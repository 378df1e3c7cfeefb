"""Starting a process by `fork`."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import popen_fork, util
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

from manycore import _engine, _resting, _thread_limits

__all__ = ["Popen"]

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
    it ends, the kernel kills the child.
    """

    method = "fork"

    def _launch(self, process_obj: BaseProcess) -> None:
        parent_r, child_w = os.pipe()
        child_r, parent_w = os.pipe()
        lifeline, self._lifeline = _engine.make_lifeline()
        self.pid = _resting.fork()
        if self.pid == 0:
            run_and_end(
                lambda: self._be_child(process_obj, (parent_r, parent_w), child_r, lifeline)
            )
        for fd in (child_w, child_r, lifeline):
            os.close(fd)
        self._keep(parent_r, parent_w)

    def _be_child(
        self, process_obj: BaseProcess, parents: tuple[int, int], sentinel: int, lifeline: int
    ) -> int:
        for fd in parents:
            os.close(fd)
        if not self._is_kept(process_obj):
            _engine.arm_lifeline(lifeline)
        _thread_limits.begin(variables_of(process_obj))
        code: int = process_obj._bootstrap(parent_sentinel=sentinel)  # type: ignore[attr-defined]
        return code

    def _is_kept(self, process_obj: BaseProcess) -> bool:
        """Whether the child is to outlive this process."""
        return getattr(process_obj, "_orphan", "kill") == "keep"

    def _keep(self, sentinel: int, *others: int) -> None:
        """Keeps the parent's ends of the child's pipes until this object goes."""
        self.sentinel = sentinel
        close_fds = util.close_fds  # type: ignore[attr-defined]
        self.finalizer: Any = util.Finalize(self, close_fds, (sentinel, *others))

    def interrupt(self) -> None:
        """Sends SIGINT to the child."""
        self._send_signal(signal.SIGINT)  # type: ignore[attr-defined]

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, once the child has ended."""
        if self.returncode is not None:
            return self.returncode
        code = super().poll(flag)
        if code is not None:
            _engine.cut_lifeline(self._lifeline)
            _engine.reap()
        return code
