"""Contexts: a start method, and everything made with it."""

from __future__ import annotations

import sys
from multiprocessing import context as _context
from multiprocessing.context import assert_spawning, get_spawning_popen, set_spawning_popen

from manycore import process
from manycore._rest import pass_on_rest
from manycore.errors import AuthenticationError, BufferTooShort, ProcessError, TimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Unpack

    from manycore._options import PoolOptions

__all__ = [
    "AuthenticationError",
    "BaseContext",
    "BufferTooShort",
    "DefaultContext",
    "ForkContext",
    "ForkProcess",
    "ForkServerContext",
    "ForkServerProcess",
    "Process",
    "ProcessError",
    "SpawnContext",
    "SpawnProcess",
    "TimeoutError",
    "assert_spawning",
    "get_spawning_popen",
    "set_spawning_popen",
]


class BaseContext(_context.BaseContext):
    """What every context can make.

    `Manager` is the standard library's, made for this context; all else is the engine's.
    """

    def Manager(self) -> Any:
        """A started server of objects that processes share."""
        from manycore.managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Condition(self, lock: Any = None) -> Any:
        """A lock, and those who wait to be notified of a change to what it guards."""
        from manycore.synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Event(self) -> Any:
        """A flag that any process sets and clears, and others wait for."""
        from manycore.synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(self, parties: int, action: Any = None, timeout: float | None = None) -> Any:
        """A place where a number of parties wait for each other."""
        from manycore.synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    def Semaphore(self, value: int = 1, *, on_owner_death: Any = "keep") -> Any:
        """A number of tokens that processes take and give."""
        from manycore.synchronize import Semaphore

        return Semaphore(value, ctx=self.get_context(), on_owner_death=on_owner_death)

    def BoundedSemaphore(self, value: int = 1, *, on_owner_death: Any = "keep") -> Any:
        """A semaphore that never has more tokens than in the beginning."""
        from manycore.synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context(), on_owner_death=on_owner_death)

    def Lock(self, *, on_owner_death: Any = "warn") -> Any:
        """A lock that any thread of any process may release."""
        from manycore.synchronize import Lock

        return Lock(ctx=self.get_context(), on_owner_death=on_owner_death)

    def RLock(self, *, on_owner_death: Any = "warn") -> Any:
        """A lock that its owner may acquire again."""
        from manycore.synchronize import RLock

        return RLock(ctx=self.get_context(), on_owner_death=on_owner_death)

    def RWLock(self) -> Any:
        """A lock that many hold at a time to read, or one alone to write."""
        from manycore.synchronize import RWLock

        return RWLock(ctx=self.get_context())

    def SharedDict(self, mapping: Any = (), /, **items: Any) -> Any:
        """A dict that processes share."""
        from manycore.shared_dict import SharedDict

        return SharedDict(mapping, **items)

    def Pipe(self, duplex: bool = True) -> Any:
        """Two connections: what is sent through one is received from the other."""
        from manycore.connection import Pipe

        return Pipe(duplex)

    def Queue(self, maxsize: int = 0, *, maxbytes: int = 0) -> Any:
        """A queue of at most `maxsize` items and `maxbytes` bytes."""
        from manycore.queues import Queue

        return Queue(maxsize, ctx=self.get_context(), maxbytes=maxbytes)

    def JoinableQueue(self, maxsize: int = 0, *, maxbytes: int = 0) -> Any:
        """A queue whose producers can wait until its items are done."""
        from manycore.queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context(), maxbytes=maxbytes)

    def SimpleQueue(self) -> Any:
        """A queue with `put`, `get` and `empty` only."""
        from manycore.queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    def Pool(
        self,
        processes: int | None = None,
        initializer: Any = None,
        initargs: Any = (),
        maxtasksperchild: int | None = None,
        **options: Unpack[PoolOptions],
    ) -> Any:
        """A pool of worker processes. See `manycore.pool.Pool` for the options."""
        from manycore.pool import Pool

        return Pool(
            processes,
            initializer,
            initargs,
            maxtasksperchild,
            context=self.get_context(),
            **options,
        )

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """A shared ctypes object without a lock."""
        from manycore.sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> Any:
        """A shared ctypes array without a lock."""
        from manycore.sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """A shared ctypes object with a lock."""
        from manycore.sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
        """A shared ctypes array with a lock."""
        from manycore.sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def atomic(self, shared: Any, *path: int | str) -> Any:
        """An integer in shared memory, to be changed in one step without a lock."""
        from manycore.sharedctypes import atomic

        return atomic(shared, *path)

    def ndarray(self, shape: Any, dtype: Any = float, *, fill: Any = None) -> Any:
        """A NumPy array in shared memory."""
        from manycore.arrays import ndarray

        return ndarray(shape, dtype, fill=fill)

    def share(self, obj: Any, *, readonly: bool = False) -> Any:
        """A copy of an object in shared memory: an array to write, or anything, read-only.

        Raises:
            TypeError: When it is no NumPy array, and is not to be read-only.
        """
        if readonly:
            from manycore.sharing import share

            return share(obj)
        if "numpy" not in sys.modules:  # so it is no array
            raise TypeError(f"{type(obj).__name__} is no NumPy array: share it with readonly=True")
        from manycore.arrays import share as share_array

        return share_array(obj)

    def freeze_support(self) -> None:
        """Does what this process was started for, if a frozen program has started it, and ends it.

        As PyInstaller makes them; else does nothing. Such a program has to call this first of all
        behind its `if __name__ == "__main__":`.
        """
        from manycore._frozen import freeze_support

        freeze_support()

    def set_forkserver_preload(self, module_names: list[str]) -> None:
        """Sets the modules that `forkserver` imports once, for all the processes that it starts.

        By default they are the main module, and the installed modules that this process has
        imported by then. To be called before the first process is started so.
        """
        from manycore.forkserver import set_forkserver_preload

        set_forkserver_preload(module_names)

    def get_context(self, method: str | None = None) -> Any:
        """The context of a start method, or this one.

        Raises:
            ValueError: When there is no such start method.
        """
        if method is None:
            return self
        try:
            context = _concrete_contexts[method]
        except KeyError:
            known = ", ".join(repr(name) for name in _concrete_contexts)
            raise ValueError(
                f"cannot find context for {method!r}: the start methods are {known}"
            ) from None
        return context

    def get_start_method(self, allow_none: bool = False) -> Any:
        """The name of this context's start method."""
        return self._name  # type: ignore[attr-defined]

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Refused: only the default context's start method can be set."""
        raise ValueError("cannot set start method of concrete context")


class Process(process.OwnedProcess):
    """A process started by the default context's start method."""

    _start_method: str | None = None

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _default_context.get_context().Process._Popen(process_obj)


class DefaultContext(BaseContext):
    """The context that the package's own functions use. Its start method can be set once."""

    Process = Process

    def __init__(self, context: BaseContext) -> None:
        self._default_context = context
        self._actual_context: BaseContext | None = None

    def get_context(self, method: str | None = None) -> Any:
        """The context of a start method, or the one in use, which is fixed by asking."""
        if method is not None:
            return super().get_context(method)
        if self._actual_context is None:
            self._actual_context = self._default_context
        return self._actual_context

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Sets the start method that the package's own functions use.

        Raises:
            RuntimeError: When it has been set, or used, already and `force` is false.
        """
        if self._actual_context is not None and not force:
            raise RuntimeError("context has already been set")
        if method is None and force:
            self._actual_context = None
            return
        self._actual_context = self.get_context(method)

    def get_start_method(self, allow_none: bool = False) -> Any:
        """The name of the start method in use, fixed by asking unless `allow_none` is true."""
        if self._actual_context is None:
            if allow_none:
                return None
            self._actual_context = self._default_context
        return self._actual_context.get_start_method()

    def get_all_start_methods(self) -> list[str]:
        """The names of all start methods."""
        return list(_concrete_contexts)


class ForkProcess(process.OwnedProcess):
    """A process started by `fork`."""

    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from manycore.popen_fork import Popen

        return Popen(process_obj)


class SpawnProcess(process.OwnedProcess):
    """A process started by `spawn`: a fresh interpreter."""

    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from manycore.popen_spawn_posix import Popen

        return Popen(process_obj)


class ForkServerProcess(process.OwnedProcess):
    """A process started by `forkserver`: forked by a clean process that is kept for that."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from manycore.popen_forkserver import Popen

        return Popen(process_obj)


class ForkContext(BaseContext, _context.ForkContext):
    """Starts processes by `fork`."""

    _name = "fork"
    Process = ForkProcess  # type: ignore[assignment]


class SpawnContext(BaseContext, _context.SpawnContext):
    """Starts processes by `spawn`."""

    _name = "spawn"
    Process = SpawnProcess  # type: ignore[assignment]


class ForkServerContext(BaseContext, _context.ForkServerContext):
    """Starts processes by `forkserver`."""

    _name = "forkserver"
    Process = ForkServerProcess  # type: ignore[assignment]


_concrete_contexts: dict[str, BaseContext] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}


def _first_choice() -> BaseContext:
    """The context of the running Python's own default."""
    name: str = _context._default_context._default_context._name  # type: ignore[attr-defined]
    return _concrete_contexts[name]


_default_context = DefaultContext(_first_choice())


def _force_start_method(method: str) -> None:
    """In a child, has what it starts itself be started as it was."""
    _default_context._actual_context = _concrete_contexts[method]


pass_on_rest(__name__)
