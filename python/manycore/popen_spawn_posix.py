"""Starting a process by `spawn`: a fresh interpreter."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from multiprocessing import context, resource_tracker, util
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

from manycore import _by_value, _engine, _main_module, popen_fork, spawn
from manycore._memory import peak_bytes
from manycore.process import signal_mask

__all__ = ["Popen"]


class _DupFd:
    """A descriptor that a child inherits under its own number."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def detach(self) -> int:
        return self.fd


class Popen(popen_fork.Popen):
    """A child that is a fresh interpreter and gets its work through a pipe."""

    method = "spawn"
    DupFd = _DupFd
    _inherited_peak = 0

    def __init__(self, process_obj: BaseProcess) -> None:
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Has the child inherit a descriptor: called while its work is pickled."""
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj: BaseProcess) -> None:
        work, handles = _engine.collect_handles(lambda: self._pickle(process_obj))
        parent_r, child_w, child_r, parent_w, lifeline = self._make_pipes()
        try:
            heap = _engine.heap_fd()
        except BaseException:
            self._abandon(parent_r, child_w, child_r, parent_w, lifeline)
            raise
        armed = None if self._is_kept(process_obj) else lifeline
        tracker = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]
        _engine.handles_sent(handles)
        mask = signal_mask()
        try:
            # An interpreter that is just beginning would answer Ctrl-C with a traceback of its own.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            command = spawn.get_command_line(
                pipe_handle=child_r,
                heap_fd=heap,
                lifeline_fd=armed,
                tracker_fd=tracker,
                unblocks=signal.SIGINT not in mask,
            )
            inherited = [child_r, child_w, heap, lifeline, *self._fds]
            if tracker is not None:
                inherited.append(tracker)
            executable: Any = spawn.get_executable()  # str or bytes, as it was set
            self.pid = util.spawnv_passfds(executable, command, sorted(set(inherited)))
            if armed is not None:  # an interpreter takes its time to come to that itself
                _engine.arm_lifeline_of(self.pid, lifeline)
        except BaseException:
            _engine.handles_arrived(handles)
            self._abandon(parent_r, parent_w)
            raise
        finally:
            for fd in (child_r, child_w, heap, lifeline):
                os.close(fd)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._keep(parent_r, parent_w)
        self._inherited_peak = peak_bytes()
        # A child that has ended already says by its exit code why.
        with (
            contextlib.suppress(BrokenPipeError),
            open(parent_w, "wb", buffering=0, closefd=False) as pipe,
        ):
            rest = memoryview(spawn.pack(work, handles))
            while rest:
                rest = rest[pipe.write(rest) :]
        process_obj._popen = self  # type: ignore[attr-defined]  # see `has_started`

    def _note_end(self, code: int, peak_memory: int | None = None) -> None:
        # The kernel adds what the process was before it became an interpreter of its own: this one.
        is_own = peak_memory is not None and peak_memory > self._inherited_peak
        super()._note_end(code, peak_memory if is_own else None)

    def _preparation(self, process_obj: BaseProcess) -> dict[str, Any]:
        return spawn.get_preparation_data(process_obj.name)

    def _pickle(self, process_obj: BaseProcess) -> bytes:
        context.set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            preparation = self._preparation(process_obj)
            preparation["manycore_variables"] = popen_fork.variables_of(process_obj)
            preparation["manycore_definitions"] = _by_value.definitions()
            return bytes(ForkingPickler.dumps(preparation)) + self._pickle_work(process_obj)
        finally:
            context.set_spawning_popen(None)

    def _pickle_work(self, process_obj: BaseProcess) -> bytes:
        if _main_module.is_importable():
            try:
                return bytes(ForkingPickler.dumps(process_obj))
            except (pickle.PicklingError, AttributeError, TypeError):
                self._fds.clear()  # it begins again
                with contextlib.suppress(Exception):
                    return bytes(ForkingPickler.dumps(_by_value.ByValue(process_obj)))
                raise
        return bytes(ForkingPickler.dumps(_by_value.ByValue(process_obj)))
