"""The zygote: the process that forks the children of `forkserver`.

It has one thread and does nothing by itself: every request brings what the child needs. It is a
member of the family, since modules that it imports may make locks and queues, which its children
have then as they have all else that is in its memory. A child tells its pid itself, so that it is
known even if the zygote dies behind the fork; how it ended is told by the zygote, whose child it
is.

One fork waits ahead of the requests, the *spare*: it has its place in the family, and copies of
the pages that every child writes to. The zygote takes on the surroundings of the last child, so
that the next one finds them, if they are its own.

What is imported before the first request is answered keeps it waiting, so that is what takes long:
the main module and installed packages. The rest is imported when nobody asks for anything.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enumerations, which cost 0.2 ms
import contextlib
import errno
import gc
import io
import os
import pickle
import select
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from multiprocessing import resource_tracker, util

from manycore import _engine, _orders, _preload, popen_fork, process, spawn
from manycore._orders import ENDED, FAILED, RECORD, STARTED, Order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Handler = Callable[..., Any] | int | None

INHERITED = (
    "requests_fd",
    "clients_fd",
    "settings_fd",
    "report_fd",
    "lifeline_fd",
    "heap_fd",
)
"""The descriptors that a zygote is started with, as arguments of `main`."""

SPARE = b"manycore-spare"
"""The name of a spare, as `ps` shows it."""

_QUIET = 50
"""Milliseconds without a request after which there is time to import what may be needed later."""

_WARNS_OF_FORKS: bool = sys.version_info >= (3, 12)

SIGINT, SIGCHLD = int(signal.SIGINT), int(signal.SIGCHLD)


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
    report = _preload.Report(report_fd)
    try:
        _preload.import_all(told, report)
    except _preload.ThreadStarted as started:
        told["guessed"] = [name for name in told["guessed"] if name != started.name]
        settings_fd, heap_fd = _preload.pack(told), _engine.heap_fd()
        _begin_again([requests_fd, clients_fd, settings_fd, report_fd, lifeline_fd, heap_fd])
    report.end()
    blocked = _take_signals_back(handlers)
    process.write_whole_lines()  # flushed, too, or children write it again
    zygote = _Zygote(requests_fd, lifeline_fd, handlers, blocked, told["new_seed"], told["later"])
    _serve_children_as_well(clients_fd)
    gc.freeze()  # a child's collections touch none of it, so that its pages stay shared
    gc.enable()
    while True:
        zygote.serve()


def _ignore_ctrl_c() -> dict[int, Handler]:
    """Ignores Ctrl-C, which is for the others; what children are to do about signals instead."""
    handlers: dict[int, Handler] = {SIGINT: _signal.signal(SIGINT, _signal.SIG_IGN)}
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    return handlers


def _take_signals_back(handlers: dict[int, Handler]) -> set[int]:
    """Has signals reach this process as before, whatever a module has set: that is the children's.

    Returns:
        The signals that are blocked in children.
    """
    handler = _signal.signal(SIGINT, _signal.SIG_IGN)
    if handler is not _signal.SIG_IGN:
        handlers[SIGINT] = handler
    blocked: set[int] = signal.pthread_sigmask(signal.SIG_SETMASK, [])
    return blocked


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
    inherited = _orders.Channel(fileno=fd)
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


class _Spare:
    """A fork that waits to be somebody's child.

    Args:
        orders: Takes its order, and closes with the zygote: that ends a spare.
        surroundings: What it has.
    """

    __slots__ = ("orders", "pid", "surroundings")

    def __init__(self, pid: int, orders: socket.socket, surroundings: bytes | None) -> None:
        self.pid = pid
        self.orders = orders
        self.surroundings = surroundings


class _Zygote:
    """The state of a zygote: its children, and the descriptors that are none of theirs."""

    def __init__(
        self,
        requests_fd: int,
        lifeline_fd: int,
        handlers: dict[int, Handler],
        blocked: set[int],
        new_seed: bool,
        later: list[str],
    ) -> None:
        self._name = _engine.thread_name()
        self._new_seed = new_seed
        self._later = [name for name in later if name not in sys.modules]
        self._requests = _blocking(requests_fd)
        self._lifeline_fd = lifeline_fd
        self._children: dict[int, int] = {}
        self._spare: _Spare | None = None
        self._surroundings: bytes | None = None
        self._is_warned = _are_forks_warned_of()
        self._handlers = handlers
        self._blocked = blocked
        self._handlers[SIGCHLD] = _signal.signal(SIGCHLD, lambda *_: None)
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(self._requests, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def serve(self) -> None:
        """Waits for something to do, and does it."""
        wanted = self._poll.poll(_QUIET if self._later else None)
        if not wanted:
            self._import_more()
        for fd, _ in wanted:
            if fd == self._woken:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 1000)
                self._collect()
            else:
                self._start_child()

    def _import_more(self) -> None:
        """Imports what children may need, as long as nobody asks for one."""
        gc.disable()
        while self._later and not self._poll.poll(0):
            _preload.try_to_import(self._later.pop(0))
        gc.freeze()
        gc.enable()
        spare = self._spare
        if not self._later and spare is not None:  # the next child is to have it all
            spare.orders.close()  # which ends this one; the other must not inherit it
            self._spare = None
            self._have_spare()

    def _collect(self) -> None:
        """Tells how children have ended."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            code, peak_memory = _engine.look_at_child(pid) or (0, 0)
            os.waitpid(pid, 0)
            told = self._children.pop(pid, None)
            if told is not None:
                _tell(told, ENDED, pid, code, peak_memory)
                os.close(told)

    def _start_child(self) -> None:
        order, fds = _orders.receive(self._requests)
        if order is None:
            if fds:  # too few: there is no room for all of them
                _tell(fds[0], FAILED, 0, errno.EMFILE)
            for fd in fds:
                os.close(fd)
            return
        told = fds[0]
        try:
            pid = self._hand_to_spare(order, fds) or self._fork_child(order, fds)
        except OSError as error:
            _tell(told, FAILED, 0, error.errno or 0)
            os.close(told)
        else:
            self._children[pid] = told
        for fd in fds[1:]:
            os.close(fd)
        if not self._is_asked() and self._take_on(order.surroundings):
            self._have_spare()  # whoever waits already gets a fork of their own at once

    def _is_asked(self) -> bool:
        return any(fd != self._woken for fd, _ in self._poll.poll(0))

    def _hand_to_spare(self, order: Order, fds: list[int]) -> int | None:
        """Has the spare be the child that is asked for; None where there is none for that."""
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        with spare.orders:  # closed, it ends a spare
            if order.surroundings in (b"", spare.surroundings):
                with contextlib.suppress(OSError):  # it has ended
                    _orders.send(spare.orders, order.message, fds)
                    return spare.pid
        return None

    def _take_on(self, surroundings: bytes) -> bool:
        """Has a child that is forked from now on find its surroundings; whether it will.

        Only such are taken on of which nothing is left when others are. What cannot be had, such as
        a folder that is gone, the child meets itself, and tells of it.
        """
        if surroundings in (b"", self._surroundings):  # without any, its work has them
            return True
        self._surroundings = None
        with contextlib.suppress(Exception):
            if spawn.prepare_again(pickle.loads(surroundings)):
                self._surroundings = surroundings
        gc.freeze()
        return self._surroundings is not None

    def _fork_child(self, order: Order, fds: list[int]) -> int:
        pid = self._fork()
        if pid == 0:
            popen_fork.run_and_end(lambda: self._be_forked(order, fds))
        return pid

    def _have_spare(self) -> None:
        """Forks a spare, where it can: the next child does without, if need be."""
        with contextlib.suppress(OSError), contextlib.ExitStack() as made:
            ours, theirs = map(made.enter_context, _orders.socket_pair())
            pid = self._fork()
            if pid == 0:
                ours.close()
                popen_fork.run_and_end(lambda: self._be_spare(theirs))
            theirs.close()
            self._spare = _Spare(pid, ours, self._surroundings)
            made.pop_all()

    def _fork(self) -> int:
        if not self._is_warned:
            return os.fork()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return os.fork()

    def _be_spare(self, orders: socket.socket) -> int:
        """What a spare runs: it waits for its order, and ends with the zygote."""
        self._be_nobody()
        _engine.rename_thread(SPARE)
        with orders:
            with contextlib.suppress(Exception):
                _rehearse()
            order, fds = _orders.receive(orders)
        if order is None:
            return 0
        _engine.rename_thread(self._name)
        return self._be_child(order, fds)

    def _be_forked(self, order: Order, fds: list[int]) -> int:
        """What a fork for an order runs."""
        self._be_nobody()
        return self._be_child(order, fds)

    def _be_child(self, order: Order, fds: list[int]) -> int:
        """What a child runs; its exit code."""
        from manycore import forkserver

        told, lifeline, *fds = fds
        if not order.keep:
            _engine.arm_lifeline(lifeline)
        _tell(told, STARTED, os.getpid(), 0)
        for number, handler in self._handlers.items():
            _signal.signal(number, handler)
        if self._blocked:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, self._blocked)
        work = io.BytesIO(order.work) if order.work is not None else os.fdopen(fds.pop(0), "rb")
        for stream in order.streams:
            os.dup2(fds[0], stream)
            os.close(fds.pop(0))
        if order.has_tracker:
            resource_tracker._resource_tracker._fd = fds.pop(0)  # type: ignore[attr-defined]
        try:
            forkserver._forkserver._inherited_fds = fds
            if order.surroundings and order.surroundings != self._surroundings:
                spawn.prepare(pickle.loads(order.surroundings))
            return spawn.run(work, lifeline)
        except Exception:
            sys.excepthook(*sys.exc_info())
            util._flush_std_streams()  # type: ignore[attr-defined]
            return 1

    def _be_nobody(self) -> None:
        """Has a fork be the zygote no more."""
        _signal.set_wakeup_fd(-1)
        ours = self._requests.detach(), self._woken, self._waker, self._lifeline_fd
        for fd in (*ours, *self._children.values()):
            os.close(fd)
        self._children.clear()
        if self._new_seed:
            _preload.seed_numpy()


def _rehearse() -> None:
    """Does once, without effect, what every child does: so it has copied the pages by then."""
    from manycore.context import ForkServerProcess

    util._close_stdin()  # type: ignore[attr-defined]
    sys.stdin = open(sys.stdin.fileno(), encoding="utf-8")  # noqa: SIM115  to be closed once more
    ForkServerProcess().run()
    util._flush_std_streams()  # type: ignore[attr-defined]


def _tell(fd: int, kind: int, pid: int, value: int, peak_memory: int = 0) -> None:
    with contextlib.suppress(OSError):  # whoever asked may have ended
        os.write(fd, RECORD.pack(kind, pid, value, peak_memory))
