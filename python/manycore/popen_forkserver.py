"""Starting a process by `forkserver`: a fork of the zygote."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import weakref
from multiprocessing import util
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

from manycore import _engine, forkserver, popen_fork, popen_spawn_posix, spawn
from manycore._orders import LONGEST_PART, RECORD
from manycore.errors import ProcessError

__all__ = ["Popen"]

_LOOK_AGAIN = 0.005
"""Seconds between two looks at a process that there is no descriptor for."""

_MOMENT = 0.05
"""Seconds in which a zygote that has nothing else to do forks."""


_unsettled: weakref.WeakSet[Popen] = weakref.WeakSet()
"""Children that were asked for and not waited for. Before a fork they are: an answer comes once."""


def _settle_all() -> None:
    for popen in list(_unsettled):
        with contextlib.suppress(OSError, ProcessError):
            popen.settle()


os.register_at_fork(before=_settle_all)


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
        # A signal's handler, or the collector of garbage, may end a child while it is waited for.
        self._settling = threading.RLock()
        self._asked_by = os.getpid()
        self._request = forkserver.Request(
            forkserver._forkserver,
            popen_fork.variables_of(process_obj),
            self._fds,
            self._is_kept(process_obj),
            self._surroundings,
            spawn.pack(work, handles),
            handles,
        )
        _unsettled.add(self)
        process_obj._popen = self  # type: ignore[attr-defined]  # see `has_started`

    def settle(self) -> None:
        """Waits until the zygote has forked the child.

        Raises:
            OSError, ProcessError: When it cannot be forked. It counts as ended then.
        """
        with self._settling:
            request = self.__dict__.get("_request")
            if request is None:
                return  # another thread has waited
            try:
                if self._asked_by != os.getpid():
                    raise ProcessError("another process has asked for this one")
                started = request.wait()
            except BaseException as error:
                is_ours = self._asked_by == os.getpid()
                if is_ours and request.has_started():
                    raise  # Ctrl-C, say; the child is there all the same
                if is_ours:
                    request.drop()
                if self._take_request():
                    self._give_up(error)
                elif isinstance(error, OSError | EOFError | ProcessError):
                    return  # what has interrupted this has ended the child, and its socket
                raise
            self._be_started(started)

    def _be_started(self, started: forkserver.Started) -> None:
        """Has this be that child, at once: Ctrl-C may come at any step, and somebody try again."""
        with forkserver.uncollected():
            if "_watch" not in self.__dict__:
                self.__dict__.update(
                    pid=started.pid,
                    sentinel=started.status.fileno(),
                    finalizer=util.Finalize(self, started.status.close),
                    _status=started.status,
                    _lifeline=started.lifeline,
                    _owner=os.getpid(),
                    # It waits for its work: it is still that process.
                    _watch=_engine.ChildWatch(started.pid),
                )
            self._take_request()

    def _take_request(self) -> bool:
        """Whether nobody has settled this before."""
        _unsettled.discard(self)
        return self.__dict__.pop("_request", None) is not None

    def _give_up(self, error: BaseException) -> None:
        """Has this be a child that has ended."""
        self.error = error
        self._be_over(popen_fork.UNKNOWN)

    def _be_over(self, code: int) -> None:
        self.pid: Any = None
        self.returncode = code
        self.sentinel, other = os.pipe()
        os.close(other)
        self.finalizer = util.Finalize(self, os.close, (self.sentinel,))

    def _withdraw(self, number: int) -> bool:
        """Has a child that is to be ended by a signal have ended, if the zygote does not answer.

        It may be importing what takes long, and nobody is to wait for that. If it makes the child
        after all, that is killed at once.
        """
        if not self._settling.acquire(timeout=_MOMENT):
            return False
        try:
            request = self.__dict__.get("_request")
            if request is None or self._asked_by != os.getpid() or request.is_answered(_MOMENT):
                return False
            request.drop()
            self._be_over(-number)
            self._take_request()
            return True
        finally:
            self._settling.release()

    def __getattr__(self, name: str) -> Any:
        """What is known of a child only once it is there: waits for that."""
        if "_settling" in self.__dict__:
            with contextlib.suppress(OSError, ProcessError):
                self.settle()
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(name)

    def _preparation(self, process_obj: BaseProcess) -> dict[str, Any]:
        # The zygote has the environment of the time when it was started.
        data = super()._preparation(process_obj) | {"manycore_environment": dict(os.environ)}
        around = {key: data.pop(key) for key in spawn.SURROUNDINGS if key in data}
        self._surroundings = bytes(ForkingPickler.dumps(around))
        if len(self._surroundings) > LONGEST_PART:
            self._surroundings = b""
            return data | around
        return data

    def _send_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGKILL) and self._withdraw(number):
            return
        with contextlib.suppress(OSError, ProcessError):
            self.settle()
        super()._send_signal(number)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, once the child has ended."""
        request = self.__dict__.get("_request")
        if request is not None:
            is_mine = self._asked_by == os.getpid()
            if flag & os.WNOHANG and is_mine and not request.is_answered():
                return None
            with contextlib.suppress(OSError, ProcessError):
                self.settle()
        if self.returncode is None:
            self._look(flag)
        return self.returncode

    def _look(self, flag: int) -> None:
        """Asks the zygote. What it says stays where it is, for other threads and for `wait`."""
        at_once = socket.MSG_DONTWAIT if flag & os.WNOHANG else 0
        try:
            record = self._status.recv(RECORD.size, at_once | socket.MSG_PEEK)
        except BlockingIOError:
            return
        if record:
            self._note_end(*RECORD.unpack(record)[2:])
        else:
            self._look_without_zygote(flag)

    def _look_without_zygote(self, flag: int) -> None:
        """Looks for a child that the zygote may have left behind."""
        while not self._watch.has_ended():  # it has closed its end of the socket
            if flag & os.WNOHANG:
                return
            fd = self._watch.fileno()
            if fd is None:
                time.sleep(_LOOK_AGAIN)
            else:
                wait([fd])
        super()._look(os.WNOHANG)  # it is ours now, or somebody else's
