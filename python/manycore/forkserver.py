"""The clients' side of `forkserver`: one process, the zygote, forks the others on request.

The zygote is a fresh interpreter without threads that has imported what its children will need
(`_zygote.py`). It is started at the first request and ends with the process that started it. Its
children ask it, too, for children of their own: a request is one datagram, so that nobody has to
take turns, and the answers to it come over a socket that travels with it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import resource_tracker, util
from types import MappingProxyType

from manycore import _engine, _preload, spawn
from manycore._orders import (
    FAILED,
    LONGEST_PART,
    MOST_DESCRIPTORS,
    RECORD,
    STARTED,
    above_streams,
    in_file,
    send,
    socket_pair,
    write_order,
)
from manycore._rest import pass_on_rest
from manycore._zygote import INHERITED, main
from manycore.errors import ProcessError
from manycore.process import signal_mask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "connect_to_new_process",
    "ensure_running",
    "get_inherited_fds",
    "main",
    "set_forkserver_preload",
]

_NONE: Mapping[str, str] = MappingProxyType({})

_ATTEMPTS = 4
"""How many zygotes may end under one request before that is an error."""


class Started:
    """A child, as the process that asked for it has it.

    Attributes:
        status: Readable when the child has ended: the zygote's record of it, or the end of the
            stream.
    """

    __slots__ = ("lifeline", "pid", "status")

    def __init__(self, pid: int, status: socket.socket, lifeline: int) -> None:
        self.pid = pid
        self.status = status
        self.lifeline = lifeline


class Asked:
    """A child that a zygote was asked for.

    Args:
        handles: What its work refers to.

    Attributes:
        started: The child, once somebody has waited for it.
    """

    __slots__ = ("handles", "lifeline", "started", "status")

    def __init__(
        self, status: socket.socket, lifeline: int, handles: list[tuple[int, int, int]]
    ) -> None:
        self.started: Started | None = None
        self.status = status
        self.lifeline = lifeline
        self.handles = handles

    def has_started(self) -> bool:
        """Whether somebody has waited for it: it may change whenever code of the program runs."""
        return self.started is not None

    def drop(self) -> None:
        """Has it end, should it have begun or begin."""
        lifeline, self.lifeline = self.lifeline, -1
        if lifeline >= 0:
            _engine.cut_lifeline(lifeline)
        self.status.close()


class Zygote:
    """A zygote that somebody can send requests to.

    Attributes:
        ended_in: What it was importing when it ended, if it was.
        has_served: Whether it has started a child.
    """

    ended_in: str | None = None
    has_served = True

    def __init__(self, pid: int, requests: socket.socket) -> None:
        self.pid = pid
        self._requests = requests
        self._lifeline: int | None = None
        self._report: int | None = None

    @classmethod
    def start(cls, settings: dict[str, Any]) -> Zygote:
        """Starts one. It serves once it has imported everything; requests wait for that."""
        theirs, ours = socket_pair()
        report = above_streams(os.memfd_create("manycore-report"))
        settings_fd = above_streams(_preload.pack(settings))
        lifeline_r, lifeline = _engine.make_lifeline()
        lifeline_r, heap = above_streams(lifeline_r), above_streams(_engine.heap_fd())
        inherited = [theirs.fileno(), ours.fileno(), settings_fd, report, lifeline_r, heap]
        command = spawn.command_line(
            "forkserver", "main", dict(zip(INHERITED, inherited, strict=True))
        )
        executable: Any = spawn.get_executable()
        mask = signal_mask()
        try:
            # Until it ignores Ctrl-C, which it is to do for all of its life.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            pid = util.spawnv_passfds(executable, command, sorted(inherited))
            _engine.arm_lifeline_of(pid, lifeline_r)  # not only once it can do that itself
        except BaseException:
            _engine.cut_lifeline(lifeline)
            os.close(report)
            ours.close()
            raise
        finally:
            theirs.close()
            for fd in (settings_fd, lifeline_r, heap):
                os.close(fd)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        zygote = cls(pid, ours)
        zygote._lifeline, zygote._report, zygote.has_served = lifeline, report, False
        return zygote

    def ask(
        self,
        fds: Sequence[int],
        keep: bool,
        surroundings: bytes,
        work: bytes,
        handles: Sequence[tuple[int, int, int]],
    ) -> Asked:
        """Asks for a child; see `Request`.

        Raises:
            BrokenPipeError: When the zygote has ended.
            OSError: When there are no descriptors left here.
        """
        status, status_w = socket_pair()
        lifeline_r, lifeline = _engine.make_lifeline()
        streams = [fd for fd in (1, 2) if _is_open(fd)]
        tracker = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]
        lent = [*streams, *([] if tracker is None else [tracker]), *fds]
        is_brief = len(work) <= LONGEST_PART
        part = work if is_brief else None
        order = write_order(keep, surroundings, part, streams, tracker is not None)
        theirs = [status_w.detach(), lifeline_r]
        asked = Asked(status, lifeline, list(handles))
        try:
            _engine.handles_sent(asked.handles)
            try:
                if not is_brief:
                    theirs.insert(2, in_file(work))
                send(self._requests, order, [*theirs, *lent])
            except BaseException:
                _engine.handles_arrived(asked.handles)
                raise
            finally:
                for fd in theirs:
                    os.close(fd)
        except BaseException:
            asked.drop()
            raise
        return asked

    def wait_for(self, asked: Asked) -> Started:
        """Waits until a child that was asked for has begun.

        Raises:
            ConnectionResetError, EOFError: When the zygote ends before there is a child; should
                there be one, it is killed.
            OSError: When it cannot fork.
        """
        try:
            # Who is interrupted here does not know whether the child has its work: what that refers
            # to is kept then.
            _read_start(asked)
        except BaseException:
            if not asked.has_started():
                asked.drop()
            raise
        self._tell_report()
        assert asked.started is not None
        return asked.started

    def _tell_report(self) -> None:
        """Warns of what could not be imported: the zygote has said it before its first child."""
        if self._report is None:
            return
        report, self._report, self.has_served = self._report, None, True
        failed, _ = _preload.read_report(report)
        os.close(report)
        for text in failed:
            warnings.warn(text, RuntimeWarning, stacklevel=8)

    def belongs_to_parent(self) -> None:
        """In a fork of the process that started it: neither its end nor its report is for us."""
        self._lifeline = None  # closed by the engine
        self.has_served = True  # as far as this process knows
        self._drop_report()

    def _drop_report(self) -> None:
        report, self._report = self._report, None
        if report is not None:
            os.close(report)

    def bury(self) -> None:
        """Lets go of one that has ended."""
        self._requests.close()
        if self._report is not None:
            _, self.ended_in = _preload.read_report(self._report)
        self._drop_report()
        if self._lifeline is not None:
            _engine.cut_lifeline(self._lifeline)
            with contextlib.suppress(ChildProcessError):  # somebody else has waited for it
                os.waitpid(self.pid, 0)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _read_start(asked: Asked) -> None:
    """Notes the child that a zygote was asked for, or raises why there is none.

    What says how it ended is left unread.
    """
    if asked.has_started():
        return  # by what this has interrupted
    record = asked.status.recv(RECORD.size, socket.MSG_PEEK)
    with uncollected():
        if asked.has_started():
            return  # by what has interrupted this: there is nothing to read
        if not record:
            raise EOFError("the fork server ended")
        kind, pid, value, _ = RECORD.unpack(record)
        if kind == FAILED:
            _engine.handles_arrived(asked.handles)
            raise OSError(value, f"the fork server cannot fork: {os.strerror(value)}")
        if kind == STARTED:
            asked.status.recv(RECORD.size)
        asked.started = Started(pid, asked.status, asked.lifeline)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Has no garbage be collected meanwhile: that may end the very child that is waited for."""
    is_enabled = gc.isenabled()
    try:
        gc.disable()
        yield
    finally:
        if is_enabled:
            gc.enable()


class ForkServer:
    """The zygote of this process and its settings."""

    def __init__(self) -> None:
        self._zygote: Zygote | None = None
        self._preload: list[str] | None = None
        self._inherited_fds: list[int] | None = None
        self._turn = threading.Lock()
        self._has_hook = False

    def set_forkserver_preload(self, modules_names: list[str]) -> None:
        """Sets the modules that the zygote imports; `"__main__"` stands for the main module.

        By default these are the main module and the installed modules that have been imported when
        the zygote starts. It is too late once a process has been started by `forkserver`.
        """
        if not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        self._preload = modules_names

    def get_inherited_fds(self) -> list[int] | None:
        """The descriptors handed down to this process; None if no zygote forked it."""
        return self._inherited_fds

    def ensure_running(self) -> None:
        """Starts the zygote unless there is one, so that the first process need not wait for it."""
        self._running(is_bare=False, variables=_NONE)

    def connect_to_new_process(
        self,
        fds: Sequence[int],
        keep: bool = False,
        surroundings: bytes = b"",
        work: bytes = b"",
        handles: Sequence[tuple[int, int, int]] = (),
        variables: Mapping[str, str] = _NONE,
    ) -> Started:
        """Has a child forked; see `Request`."""
        return Request(self, variables, fds, keep, surroundings, work, handles).wait()

    def _stop(self) -> None:
        """Ends the zygote, for tests; the next request starts another."""
        if self._zygote is not None:
            os.kill(self._zygote.pid, signal.SIGKILL)
            self._bury(self._zygote)

    def adopt(self, zygote: Zygote) -> None:
        """Notes a zygote that somebody else has started."""
        self._zygote = zygote

    def _running(self, is_bare: bool, variables: Mapping[str, str]) -> Zygote:
        if not self._has_hook:  # which costs a fork some 50 µs
            self._has_hook = True
            os.register_at_fork(after_in_child=self._after_fork)
        with self._turn:
            if self._zygote is None:
                settings = _preload.settings(self._preload, is_bare)
                settings["variables"] = dict(variables)
                self._zygote = Zygote.start(settings)
            return self._zygote

    def _bury(self, zygote: Zygote) -> None:
        with self._turn:
            if self._zygote is zygote:
                self._zygote = None
                zygote.bury()

    def _after_fork(self) -> None:
        """In a forked child: the zygote is still there to be asked, but another process's."""
        self._turn = threading.Lock()
        if self._zygote is not None:
            self._zygote.belongs_to_parent()


class Request:
    """A child that is asked for, of one zygote after the other if need be.

    Args:
        server: Whose zygote is asked.
        variables: What the child's environment will have beside this process's: of use to a zygote
            that is started now, and loads libraries which look only then.
        fds: Descriptors for it to inherit. They are lent until the child has begun.
        keep: Whether it outlives this process.
        surroundings: Pickled preparation, of which it may find the same done already.
        work: What it is to run, packed by `spawn.pack`.
        handles: What that refers to.

    Raises:
        ProcessError: When one zygote after the other ends before it has a child.
        ValueError: When there are more descriptors than one message can take.
    """

    def __init__(
        self,
        server: ForkServer,
        variables: Mapping[str, str],
        fds: Sequence[int],
        keep: bool,
        surroundings: bytes,
        work: bytes,
        handles: Sequence[tuple[int, int, int]],
    ) -> None:
        if len(fds) + 6 > MOST_DESCRIPTORS:
            raise ValueError("too many fds")
        self._server = server
        self._variables = variables
        self._child = (fds, keep, surroundings, work, handles)
        self._is_bare = False
        self._attempts = 0
        self._ask()

    def _ask(self) -> None:
        while self._attempts < _ATTEMPTS:
            self._attempts += 1
            self._zygote = self._server._running(self._is_bare, self._variables)
            try:
                self._asked = self._zygote.ask(*self._child)
            except (BrokenPipeError, ConnectionResetError):
                self._note_end()
            else:
                return
        ended_in = self._zygote.ended_in
        told = "" if ended_in is None else f"; the last time it was importing {ended_in}"
        raise ProcessError(f"the fork server has ended {_ATTEMPTS} times instead of forking{told}")

    def _note_end(self) -> None:
        self._server._bury(self._zygote)
        # What the parent has imported may be what ended it.
        self._is_bare = not self._zygote.has_served

    def wait(self) -> Started:
        """Waits until the child has begun.

        Raises:
            OSError: When it cannot be forked.
            ProcessError: As above.
        """
        while True:
            try:
                return self._zygote.wait_for(self._asked)
            except (BrokenPipeError, ConnectionResetError, EOFError):
                self._note_end()
                self._ask()

    def has_started(self) -> bool:
        """Whether somebody has waited until the child has begun."""
        return self._asked.has_started()

    def is_answered(self, timeout: float = 0.0) -> bool:
        """Whether there is an answer to be had without waiting longer, in seconds."""
        if self.has_started():
            return True
        answers = select.poll()
        answers.register(self._asked.status, select.POLLIN)
        return bool(answers.poll(timeout * 1000))

    def drop(self) -> None:
        """Wants the child no more: if there should be one, it is killed."""
        self._asked.drop()


_forkserver = ForkServer()
connect_to_new_process = _forkserver.connect_to_new_process
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
set_forkserver_preload = _forkserver.set_forkserver_preload


pass_on_rest(__name__)
