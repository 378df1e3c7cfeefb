"""Who takes the names of shared memory away when the last process of a family has ended.

No process of the family can: all may be killed at once. So the first one that makes a name starts
a *keeper*, a process of a session of its own, which is told of each name before that exists. It is
a member of the family, to see who else is; it waits for the end of one other member after the
other. When none is left, it takes the names away, each if it still leads to the file that it was
told of. When there are no names any more, it ends.

Who has something to tell connects to a socket with an abstract name, made of the family's number,
and waits for the answer. Who finds nobody there takes that name and starts a keeper with it. So
there is one, and no process has a descriptor of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import selectors
import signal
import socket
import struct
import time
from multiprocessing import util
from typing import NoReturn, cast

from manycore import _engine, _frozen, spawn

Identity = tuple[int, int]  # of a file: device and inode

_FOLDER = "/dev/shm"
_DONE = b"."
_LONGEST = 512  # bytes of a message; a file's name has 255 at most
_TRIES = 200
_STARTS = 3
_PAUSE = 0.005  # while a keeper begins or ends

# It forks at once, and so is no child of who starts it.
_PROGRAM = (
    "import os; os.fork() and os._exit(0); "
    "from manycore import _names; _names._main({listener}, {heap})"
)

_FEWEST = 64


@dataclasses.dataclass
class _Note:
    name: str
    is_linked: bool  # whether there is, or was, a file of that name


_noted: dict[Identity, _Note] = {}
"""What this process has told, for a keeper that has to be started anew."""

_most = _FEWEST
"""So many notes, and it is looked which of them are of names that others have taken away."""


def identity(file: os.stat_result) -> Identity:
    """What a file is known by, whatever its name."""
    return file.st_dev, file.st_ino


def note(file: Identity, name: str, *, is_linked: bool = False) -> None:
    """Has a name taken away when the last process of this family has ended.

    Args:
        file: What the name leads to, or is going to: then `linked` says when it does.
        name: The name.
        is_linked: Whether it leads there already.

    Raises:
        OSError: When no keeper can be started.
    """
    global _most
    if len(_noted) >= _most:
        _prune()
        _most = max(_FEWEST, 2 * len(_noted))
    _noted[file] = _Note(name, is_linked)
    try:
        _tell_or_start(_message(b"+", file, name))
    except BaseException:
        _noted.pop(file, None)
        raise


def linked(file: Identity) -> None:
    """The name leads to the file from now on."""
    if file in _noted:
        _noted[file].is_linked = True


def forget(file: Identity) -> None:
    """Leaves a name to itself."""
    _noted.pop(file, None)
    if _engine.has_family():  # else there is no keeper
        _tell(_message(b"-", file))


def _prune() -> None:
    """Drops the notes of names that others have taken away."""
    for file, noted in list(_noted.items()):
        if noted.is_linked and not _leads_to(noted.name, file):
            _noted.pop(file, None)


def _tell_or_start(message: bytes) -> None:
    starts = 0
    for _ in range(_TRIES):
        if _tell(message):
            return
        if starts == _STARTS:
            break
        if _start():
            starts += 1
            _prune()
            for file, noted in list(_noted.items()):
                _tell(_message(b"+", file, noted.name))
    raise OSError(errno.ECHILD, "the process that takes names of shared memory away does not start")


def _message(verb: bytes, file: Identity, name: str = "") -> bytes:
    return b"%s%d %d %s" % (verb, *file, os.fsencode(name))


def _read(message: bytes) -> tuple[bytes, Identity, str]:
    """What a message says.

    Raises:
        ValueError: When it says nothing.
    """
    verb, (device, inode, name) = message[:1], message[1:].split(b" ", 2)
    if verb not in (b"+", b"-") or b"\0" in name:
        raise ValueError("a message about a name says neither + nor -")
    return verb, (int(device), int(inode)), os.fsdecode(name)


def _address() -> bytes:
    return b"\0manycore-names-%x" % _engine.membership()[0]


def _tell(message: bytes) -> bool:
    """Tells the keeper something; whether there is one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        try:
            line.connect(_address())
            line.send(message)
            return line.recv(1) == _DONE
        except OSError:  # it is not there, or just ending
            return False


def _start() -> bool:
    """Starts a keeper, unless somebody else is at it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        try:
            listener.bind(_address())
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            time.sleep(_PAUSE)
            return False
        listener.listen(64)
        heap = _engine.heap_fd()
        try:
            program = _PROGRAM.format(listener=listener.fileno(), heap=heap)
            executable = os.fsdecode(spawn.get_executable())
            flags = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
            command = [executable, *flags, "-c", program]
            if _frozen.is_frozen():
                arguments = {"listener": listener.fileno(), "heap": heap}
                command = _frozen.command_line(executable, "_names._begin", arguments)
            pid = util.spawnv_passfds(os.fsencode(executable), command, [listener.fileno(), heap])
        finally:
            os.close(heap)
        with contextlib.suppress(ChildProcessError):  # the program has its children collected
            os.waitpid(pid, 0)
    return True


def _begin(listener: int, heap: int) -> NoReturn:
    """What the process does that a frozen program has started."""
    if os.fork():
        os._exit(0)
    _main(listener, heap)


def _main(listener: int, heap: int) -> NoReturn:
    """The keeper."""
    os.setsid()
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    _engine.join_family(heap)
    with socket.socket(fileno=listener) as waiting:
        names = Keeper(waiting).keep()
    for file, name in names.items():
        _take_away(file, name)
    os._exit(0)


class Keeper:
    """Notes names until there are none, or nobody is left who could use them."""

    def __init__(self, listener: socket.socket) -> None:
        self._names: dict[Identity, str] = {}
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)

    def keep(self) -> dict[Identity, str]:
        """Returns the names that are left."""
        while (member := _watch_another()) is not None:
            self._selector.register(member, selectors.EVENT_READ)
            is_over = self._serve_until(member)
            self._selector.unregister(member)
            os.close(member)
            if is_over:
                break
        return self._names

    def _serve_until(self, member: int) -> bool:
        """Serves until a process ends; or until there are no names any more, which is true."""
        while True:
            for key, _ in self._selector.select():
                if key.fd == member:
                    return False
                if key.fileobj is self._listener:
                    self._accept()
                elif self._answer(cast(socket.socket, key.fileobj)) and not self._names:
                    return True

    def _accept(self) -> None:
        try:
            line, _ = self._listener.accept()
        except OSError:  # who asked is gone, or there are too many descriptors for now
            time.sleep(_PAUSE)
            return
        who = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", who)[1] == os.getuid():
            self._selector.register(line, selectors.EVENT_READ)
        else:
            line.close()

    def _answer(self, line: socket.socket) -> bool:
        """Does what a message says; whether it was one."""
        self._selector.unregister(line)
        # Who asked may have been killed, or be none of ours.
        with line, contextlib.suppress(OSError, ValueError):
            verb, file, name = _read(line.recv(_LONGEST))
            if verb == b"+":
                self._names[file] = name
            else:
                self._names.pop(file, None)
            line.send(_DONE)
            return True
        return False


def _watch_another() -> int | None:
    """A descriptor that is readable when some other member has ended; none if all have.

    One that is just being forked has no number yet, and its parent may be killed meanwhile: so it
    is looked for again.
    """
    for pause in (0, 0.01, 0.05, 0.2):
        time.sleep(pause)
        for pid in _engine.other_members():
            with contextlib.suppress(ProcessLookupError):
                watched = os.pidfd_open(pid)
                if pid in _engine.other_members():  # so it is no later process of that number
                    return watched
                os.close(watched)
    return None


def _take_away(file: Identity, name: str) -> None:
    with contextlib.suppress(OSError):
        if _leads_to(name, file):
            os.unlink(_FOLDER + name)


def _leads_to(name: str, file: Identity) -> bool:
    try:
        return identity(os.stat(_FOLDER + name, follow_symlinks=False)) == file
    except FileNotFoundError:
        return False
