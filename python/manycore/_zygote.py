"""The zygote: the process that forks the children of `forkserver`.

It has one thread and does nothing by itself: every request brings what the child needs. It is a
member of the family, since modules that it imports may make locks and queues, which its children
have then as they have all else that is in its memory. A child tells its pid itself, so that it is
known even if the zygote dies behind the fork; how it ended is told by the zygote, whose child it
is.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enumerations, which cost 0.2 ms
import contextlib
import gc
import os
import pickle
import select
import signal
import socket
import struct
import sys
import warnings
from collections.abc import Callable
from multiprocessing import resource_tracker, util
from typing import Any

from manycore import _engine, _preload, popen_fork, spawn

RECORD = struct.Struct("=Bii")
"""What is told about a child: which of the following, its pid, its exit code or an error number."""
STARTED, ENDED, FAILED = range(3)

INHERITED = (
    "requests_fd",
    "clients_fd",
    "settings_fd",
    "report_fd",
    "lifeline_fd",
    "heap_fd",
)
"""The descriptors that a zygote is started with, as arguments of `main`."""

MOST_DESCRIPTORS = 253
"""How many the kernel takes in one message."""

_WARNS_OF_FORKS: bool = sys.version_info >= (3, 12)

SIGINT, SIGCHLD = int(signal.SIGINT), int(signal.SIGCHLD)

_Handler = Callable[..., Any] | int | None


def main(
    requests_fd: int,
    clients_fd: int,
    settings_fd: int,
    report_fd: int,
    lifeline_fd: int,
    heap_fd: int,
) -> None:
    """Runs a zygote until the process that started it ends, which kills it."""
    _engine.arm_lifeline(lifeline_fd)
    _engine.join_family(heap_fd)
    gc.disable()  # what it frees leaves holes; a child that fills them copies their pages
    handlers = _ignore_ctrl_c()
    _read_nothing()
    told = _preload.unpack(settings_fd)
    os.environ.update(told["variables"])
    try:
        failed = _preload.import_all(told)
    except _preload.ThreadStarted as started:
        told["guessed"] = [name for name in told["guessed"] if name != started.name]
        settings_fd, heap_fd = _preload.pack(told), _engine.heap_fd()
        _begin_again([requests_fd, clients_fd, settings_fd, report_fd, lifeline_fd, heap_fd])
    _preload.report(failed, report_fd)
    util._flush_std_streams()  # type: ignore[attr-defined]  # or children write it again
    zygote = _Zygote(requests_fd, lifeline_fd, handlers, told["new_seed"])
    _serve_children_as_well(clients_fd)
    gc.freeze()  # a child's collections touch none of it, so that its pages stay shared
    gc.enable()
    while True:
        zygote.serve()


def _ignore_ctrl_c() -> dict[int, _Handler]:
    """Ignores Ctrl-C, which is for the others; what children are to do about signals instead."""
    handlers: dict[int, _Handler] = {SIGINT: _signal.signal(SIGINT, _signal.SIG_IGN)}
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    return handlers


def _read_nothing() -> None:
    """Has standard input, of which children have none, be empty."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)


def _begin_again(inherited: list[int]) -> None:
    """Becomes a new interpreter in the same process: the only way to be rid of a thread."""
    for fd in inherited:
        os.set_inheritable(fd, True)
    command = spawn.command_line("forkserver", "main", dict(zip(INHERITED, inherited, strict=True)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGINT])
    os.execv(command[0], command)


def _serve_children_as_well(clients_fd: int) -> None:
    """Notes, for the children, that they may send requests, too."""
    from manycore import forkserver

    clients = _blocking(clients_fd)
    forkserver._forkserver.adopt(forkserver.Zygote(os.getpid(), clients))


def _blocking(fd: int) -> socket.socket:
    inherited = socket.socket(fileno=fd)
    inherited.settimeout(None)  # whatever an imported module has set for its own
    return inherited


def _are_forks_warned_of() -> bool:
    """Whether Python warns of forks here: there are threads, of libraries, that stay."""
    if not _WARNS_OF_FORKS or _threads() == 1:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if (pid := os.fork()) == 0:  # behind this most have gone: their libraries ask for that
            os._exit(0)
    os.waitpid(pid, 0)
    return _threads() > 1


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


class _Zygote:
    """The state of a zygote: its children, and the descriptors that are none of theirs."""

    def __init__(
        self, requests_fd: int, lifeline_fd: int, handlers: dict[int, _Handler], new_seed: bool
    ) -> None:
        self._new_seed = new_seed
        self._requests = _blocking(requests_fd)
        self._lifeline_fd = lifeline_fd
        self._children: dict[int, int] = {}
        self._is_warned = _are_forks_warned_of()
        self._handlers = handlers
        self._handlers[SIGCHLD] = _signal.signal(SIGCHLD, lambda *_: None)
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(self._requests, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def serve(self) -> None:
        """Waits for something to do, and does it."""
        for fd, _ in self._poll.poll():
            if fd == self._woken:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 1000)
                self._collect()
            else:
                self._start_child()

    def _collect(self) -> None:
        """Tells how children have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            told = self._children.pop(pid, None)
            if told is not None:
                _tell(told, ENDED, pid, os.waitstatus_to_exitcode(status))
                os.close(told)

    def _start_child(self) -> None:
        order, fds, flags, _ = socket.recv_fds(
            self._requests, 1000, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if flags & socket.MSG_CTRUNC or not fds:
            # There is no room for its descriptors: the first of them, if any, hears of it.
            if fds:
                _tell(fds[0], FAILED, 0, 24)
            for fd in fds:
                os.close(fd)
            return
        told = fds[0]
        try:
            pid = self._fork()
        except OSError as error:
            _tell(told, FAILED, 0, error.errno or 0)
            os.close(told)
        else:
            if pid == 0:
                popen_fork.run_and_end(lambda: self._be_child(pickle.loads(order), fds))
            self._children[pid] = told
        for fd in fds[1:]:
            os.close(fd)

    def _fork(self) -> int:
        if not self._is_warned:
            return os.fork()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return os.fork()

    def _be_child(self, order: tuple[bool, list[int], bool], fds: list[int]) -> int:
        """What a child runs; its exit code."""
        from manycore import forkserver

        keep, streams, has_tracker = order
        told, work, lifeline, *fds = fds
        if not keep:
            _engine.arm_lifeline(lifeline)
        _tell(told, STARTED, os.getpid(), 0)
        self._forget()
        for stream in streams:
            os.dup2(fds[0], stream)
            os.close(fds.pop(0))
        if has_tracker:
            resource_tracker._resource_tracker._fd = fds.pop(0)  # type: ignore[attr-defined]
        try:
            forkserver._forkserver._inherited_fds = fds
            if self._new_seed:
                _preload.seed_numpy()
            return spawn._main(work, lifeline)
        except Exception:
            sys.excepthook(*sys.exc_info())
            util._flush_std_streams()  # type: ignore[attr-defined]
            return 1

    def _forget(self) -> None:
        """Closes what is the zygote's, and answers signals as a fresh interpreter does."""
        _signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            _signal.signal(number, handler)
        ours = self._requests.detach(), self._woken, self._waker, self._lifeline_fd
        for fd in (*ours, *self._children.values()):
            os.close(fd)
        self._children.clear()


def _tell(fd: int, kind: int, pid: int, value: int) -> None:
    with contextlib.suppress(OSError):  # whoever asked may have ended
        os.write(fd, RECORD.pack(kind, pid, value))
