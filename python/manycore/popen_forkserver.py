"""Starting a process by `forkserver`: a fork of the zygote."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from multiprocessing import util
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

from manycore import _engine, forkserver, popen_fork, popen_spawn_posix, spawn
from manycore._orders import LONGEST_PART, RECORD

__all__ = ["Popen"]

_UNKNOWN = 255
"""The exit code of a child about which nobody is left to ask, as in the standard library."""


class _DupFd:
    """A descriptor that came with the request for this process."""

    def __init__(self, index: int) -> None:
        self.index = index

    def detach(self) -> int:
        fds = forkserver.get_inherited_fds()
        assert fds is not None, "not started by forkserver"
        return fds[self.index]


class Popen(popen_spawn_posix.Popen):
    """A child of the zygote, which gets its work through a pipe as a spawned one does."""

    method = "forkserver"
    DupFd: Any = _DupFd

    def duplicate_for_child(self, fd: int) -> int:
        """Has the child inherit a descriptor: called while its work is pickled."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: BaseProcess) -> None:
        work, handles = _engine.collect_handles(lambda: self._pickle(process_obj))
        started = forkserver.connect_to_new_process(
            self._fds,
            self._is_kept(process_obj),
            self._surroundings,
            spawn.pack(work, handles),
            handles,
            popen_fork.variables_of(process_obj),
        )
        self.pid, self._status, self._lifeline = started
        self._pidfd = _open_pidfd(self.pid)
        self.sentinel = self._status.fileno()
        self.finalizer = util.Finalize(self, _close, (self._status, self._pidfd))

    def _preparation(self, process_obj: BaseProcess) -> dict[str, Any]:
        # The zygote has the environment of the time when it was started.
        data = super()._preparation(process_obj) | {"manycore_environment": dict(os.environ)}
        around = {key: data.pop(key) for key in spawn.SURROUNDINGS if key in data}
        self._surroundings = bytes(ForkingPickler.dumps(around))
        if len(self._surroundings) > LONGEST_PART:
            self._surroundings = b""
            return data | around
        return data

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, once the child has ended."""
        if self.returncode is not None:
            return self.returncode
        code = self._exit_code(socket.MSG_DONTWAIT if flag & os.WNOHANG else 0)
        if code is not None and self.returncode is None:
            self.returncode = code
            _engine.cut_lifeline(self._lifeline)
            _engine.reap()
        return self.returncode

    def _exit_code(self, flags: int) -> int | None:
        """What the zygote says. The record stays where it is, for other threads and for `wait`."""
        try:
            record = self._status.recv(RECORD.size, flags | socket.MSG_PEEK)
        except BlockingIOError:
            return None
        if record:
            return int(RECORD.unpack(record)[2])
        return self._exit_code_without_zygote(bool(flags))

    def _exit_code_without_zygote(self, at_once: bool) -> int | None:
        """The exit code when the zygote has ended before the child; `None` while that runs on."""
        if self._pidfd is None:
            return _UNKNOWN
        if not wait([self._pidfd], 0 if at_once else None):
            return None  # it has closed its end of the socket
        try:
            end = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        except OSError:
            return _UNKNOWN  # somebody else has inherited it
        if end is None:
            return _UNKNOWN
        return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status

    def _send_signal(self, number: int) -> None:
        # Not by pid: the child is not ours, so its number may be another's by now.
        if self._pidfd is None:
            return super()._send_signal(number)  # type: ignore[no-any-return, misc]
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)


def _open_pidfd(pid: int) -> int | None:
    """A descriptor of a child that waits for its work: it is still that process."""
    try:
        return os.pidfd_open(pid)
    except OSError:  # it has been killed, or there are no such descriptors here
        return None


def _close(status: socket.socket, pidfd: int | None) -> None:
    status.close()
    if pidfd is not None:
        os.close(pidfd)
