"""Shared memory with a name, which other programs can open.

The name goes when `unlink` is called, or when the last process of the program that made it has
ended, however it ended; see `_names`. A process that only opens the memory has no part in that.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import types
from collections.abc import Iterator
from multiprocessing import shared_memory as _shared_memory
from typing import Any

from manycore import _names
from manycore._rest import pass_on_rest

__all__ = ["ShareableList", "SharedMemory"]

_FOLDER = "/dev/shm"  # where `shm_open` has its names
# Of a system, or a sandbox, that makes no files without a name, or gives them none.
_NO_NAMELESS = {
    errno.EOPNOTSUPP,
    errno.EISDIR,
    errno.EINVAL,
    errno.ENOENT,
    errno.EPERM,
    errno.ENOSYS,
}


class SharedMemory(_shared_memory.SharedMemory):
    """A block of shared memory that is found by its name.

    Args:
        name: Its name; one is made up if it is not given and the memory is new.
        create: Whether it is new.
        size: How many bytes, if it is new.
        track: Whether the name goes with the last process of this program. Of no account when the
            memory is not new.

    Raises:
        FileExistsError: When it is to be new and the name is taken.
        FileNotFoundError: When there is none of that name.
        ValueError: When size and name do not fit.
    """

    _mode: int
    _made: _names.Identity | None = None  # the file, if this is who made it

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True
    ) -> None:
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create and size == 0:
            raise ValueError("'size' must be a positive number different from zero")
        self._track = track
        if create:
            self._create(name, size)
        elif name is None:
            raise ValueError("'name' can only be None if create=True")
        else:
            given = "/" + name
            with _errors_about(given):
                self._fd = os.open(_path(given), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._name = given
        try:
            self._size = os.fstat(self._fd).st_size
            self._mmap = mmap.mmap(self._fd, self._size)
        except OSError:
            if create:
                self.unlink()
            raise
        self._buf = memoryview(self._mmap)

    def _create(self, name: str | None, size: int) -> None:
        while True:
            given = _shared_memory._make_filename() if name is None else "/" + name  # type: ignore[attr-defined]
            try:
                with _errors_about(given):
                    self._fd = _create(_file_of(given), size, self._mode, self._track)
            except FileExistsError:
                if name is not None:
                    raise
            else:
                self._name = given
                self._made = _names.identity(os.fstat(self._fd))
                return

    def unlink(self) -> None:
        """Takes the name away. The memory lasts as long as somebody has it.

        Raises:
            FileNotFoundError: When the name is gone already.
        """
        if self._name:
            try:
                with _errors_about(self._name):
                    path = _path(self._name)
                    found = _names.identity(os.stat(path, follow_symlinks=False))
                    os.unlink(path)
            except FileNotFoundError:
                if self._made is not None:  # and others have taken its name away
                    _names.forget(self._made)
                raise
            for file in {found, self._made or found}:
                _names.forget(file)


def _file_of(name: str) -> str:
    """The name of a file, behind one slash: there may be more before what the program calls it."""
    name = name.lstrip("/")
    if not name or "/" in name:
        raise OSError(errno.EINVAL, "a name of shared memory is a file's name, without a folder")
    return "/" + name


def _path(name: str) -> str:
    return _FOLDER + _file_of(name)


@contextlib.contextmanager
def _errors_about(name: str) -> Iterator[None]:
    """Errors name what the program called it, as those of `shm_open` do, and not a file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # it has a text of its own
            raise
        raise OSError(error.errno, error.strerror, name) from None


def _create(name: str, size: int, mode: int, track: bool) -> int:
    """Makes memory of a name; its descriptor."""
    try:
        fd = os.open(_FOLDER, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno not in _NO_NAMELESS:
            raise
        return _create_named(name, size, mode, track)
    try:
        os.ftruncate(fd, size)
        if _link(fd, name, track):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return _create_named(name, size, mode, track)


def _link(fd: int, name: str, track: bool) -> bool:
    """Gives memory its name, once it is noted who takes it away; false when this system cannot."""
    identity = _names.identity(os.fstat(fd))
    if track:
        _names.note(identity, name)
    try:
        # Only with a folder it follows the link in /proc; what that folder is does not matter.
        os.link(f"/proc/self/fd/{fd}", _path(name), src_dir_fd=fd)
    except OSError as error:
        if track:
            _names.forget(identity)
        if error.errno not in _NO_NAMELESS:
            raise
        return False
    _names.linked(identity)
    return True


def _create_named(name: str, size: int, mode: int, track: bool) -> int:
    """The same in two steps: a process that is killed between them leaves the name for good."""
    fd = os.open(
        _path(name), os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, mode
    )
    identity = _names.identity(os.fstat(fd))
    try:
        if track:
            _names.note(identity, name, is_linked=True)
        os.ftruncate(fd, size)
    except BaseException:
        os.unlink(_path(name))
        os.close(fd)
        if track:
            _names.forget(identity)
        raise
    return fd


def _with_our_memory(function: Any) -> Any:
    """A function of the standard library's that finds our class where it looks for its own."""
    names = {**vars(_shared_memory), "SharedMemory": SharedMemory}
    ours = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    ours.__kwdefaults__ = function.__kwdefaults__
    ours.__qualname__ = function.__qualname__
    return ours


class ShareableList(_shared_memory.ShareableList):  # type: ignore[type-arg]
    """A list of fixed length in named shared memory, of numbers, `str`, `bytes`, `bool` and `None`.

    Args:
        sequence: Its items, if it is new.
        name: The name of its memory.
    """

    __init__ = _with_our_memory(_shared_memory.ShareableList.__init__)


pass_on_rest(__name__)
