"""The pool behind an executor: ends by itself, and breaks as executors do."""

from __future__ import annotations

import os
import threading
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures.process import (
    BrokenProcessPool,
    _RemoteTraceback,
)
from pickle import PicklingError
from typing import Any, ClassVar

from manycore import _engine
from manycore._withdrawn import withdrawn
from manycore.errors import WorkerDied
from manycore.pool import (  # type: ignore[attr-defined]
    CLOSE,
    RUN,
    TERMINATE,
    MaybeEncodingError,
    Pool,
    RemoteTraceback,
    _name,
)


class BrokenWorker(WorkerDied, BrokenProcessPool):
    """A worker ended while it ran a call. Only that future fails; the executor goes on.

    Attributes:
        pid: Process id of the worker.
        exitcode: As `Process.exitcode`: the exit status, or minus the number of the signal.
        function: Name of the function that it ran, where known.
    """


class UndecodableResult(BrokenProcessPool):
    """A call's result arrived, but could not be unpickled; the cause is what that raised.

    Only that future fails; the executor goes on.
    """


class UnsendableResult(MaybeEncodingError, PicklingError):  # type: ignore[misc]
    """A call's result, or its exception, could not be pickled."""


class _Initializer:
    """What a worker does first. Tells the owner when the program's initializer fails."""

    def __init__(self, function: Callable[..., object] | None, failures: Any) -> None:
        self._function = function
        self._failures = failures

    def __call__(self, *args: Any) -> None:
        _engine.answer_exits()
        try:
            if self._function is not None:
                self._function(*args)
        except Exception:
            import logging

            # As `concurrent.futures` does.
            logger = logging.getLogger("concurrent.futures")
            logger.critical("Exception in initializer:", exc_info=True)
            self._failures.put(traceback.format_exc())
            raise SystemExit(1) from None


class ExecutorPool(Pool):
    """A pool that nobody closes and joins: it ends with its executor, once all is answered."""

    live: ClassVar[weakref.WeakSet[ExecutorPool]] = weakref.WeakSet()
    """Those that have not ended."""

    _let_go: ClassVar[set[ExecutorPool]] = set()
    """Those that end by themselves, kept alive until then."""

    def __init__(
        self,
        processes: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        max_tasks: int | None,
        context: Any,
    ) -> None:
        self.broken: BrokenProcessPool | None = None
        self._failures = None
        self._owner = os.getpid()
        self._is_let_go = False
        self._has_ended = False
        self._ending = threading.Lock()
        self._growing = threading.Lock()
        self._breaking = threading.Lock()
        self._started = 0
        if initializer is not None:
            self._failures = context.SimpleQueue()
        begin = _Initializer(initializer, self._failures)
        # A fork is quick now, and not when the program has threads. Others are started as needed.
        self.is_growing = context.get_start_method() != "fork"
        super().__init__(processes, begin, initargs, max_tasks, context)
        ExecutorPool.live.add(self)

    def _start_workers(self) -> None:
        if self.is_growing:
            self._workers.resize(0)
        else:
            self._workers.start()

    def grow(self) -> None:
        """Starts workers, until there is one for each call that is not answered, or all."""
        with self._growing:
            self._crew.collect()  # whose call is answered has time for another
            count = min(self._crew.open, self._processes)
            if self.is_growing and count > self._started and self._state != TERMINATE:
                self._started = count
                self.is_growing = count < self._processes
                self._workers.resize(count)

    def __del__(self) -> None:
        """Nothing: whoever made the executor need not close it."""

    name_of = staticmethod(_name)

    def is_ours(self) -> bool:
        """Whether this process has the workers: a forked copy of it has not."""
        return self._owner == os.getpid()

    def _check_running(self) -> None:
        if self._state != RUN:
            if self.broken is not None:
                raise BrokenProcessPool(str(self.broken)) from self.broken.__cause__
            raise RuntimeError("cannot schedule new futures after shutdown")

    # ---- failing ------------------------------------------------------------------------------

    def as_broken(self, error: Any, job: Any) -> Any:
        """The error of an answer as executors raise it."""
        if isinstance(error, BrokenProcessPool):
            return error
        if isinstance(error, WorkerDied):
            died = BrokenWorker(str(error), error.pid, error.exitcode, error.function)
            died.__cause__ = error.__cause__
            return died
        if type(error) is MaybeEncodingError:
            unsendable = UnsendableResult(None, None)
            unsendable.exc, unsendable.value = error.exc, error.value  # texts by now
            unsendable.__cause__ = _as_remote(error.__cause__)
            return unsendable
        error.__cause__ = _as_remote(error.__cause__)
        if job.is_undecodable(error):
            undecodable = UndecodableResult(f"a result cannot be unpickled: {error!r}")
            undecodable.__cause__ = error
            return undecodable
        return error

    def _look_after(self) -> None:
        super()._look_after()
        if self.broken is None and self._state in (RUN, CLOSE):
            with self._breaking:  # the keeper looks, too, and one failure is told once
                error = self._why_broken()
                if error is not None:
                    self.broken = error
            if error is not None:
                self._break(error)

    def _why_broken(self) -> BrokenProcessPool | None:
        if self.broken is not None:
            return None  # another thread was sooner
        if self._failures is not None and not self._failures.empty():
            return _failed_initializer(self._failures.get())
        if self._workers.is_broken():
            return BrokenProcessPool("workers end before they can take a call")
        return None

    def _break(self, error: BrokenProcessPool) -> None:
        """Fails all that is not answered, and accepts no more."""
        self._state = TERMINATE
        self._workers.abandon(error)
        self._crew.dismiss()
        self._workers.terminate(wait=False)  # else they leave by themselves, being dismissed

    def end_workers(self, how: str) -> None:
        """Ends the workers now: `terminate` or `kill`."""
        self._state = TERMINATE
        for process in self._workers.processes:
            if how == "kill":
                process.kill()
            else:
                process.terminate()
        self._workers.abandon(
            BrokenProcessPool("the workers were ended before this call was answered")
        )
        self.terminate()
        self._forget()

    # ---- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Accepts no more calls.

        Workers are told once all is answered: until then calls can be withdrawn.
        """
        if self._state == RUN:
            self._state = CLOSE

    def withdraw_all(self) -> None:
        """Withdraws what no worker has begun."""
        if self._crew.open:
            self._crew.withdraw_all(withdrawn())
            self._feed()

    def let_go(self) -> None:
        """Has the pool end by itself once all is answered. Takes no lock: finalizers call it."""
        if self._owner != os.getpid() or self._has_ended:
            return
        if self._state == RUN:
            self._state = CLOSE
        self._is_let_go = True
        self._has_callbacks = True  # the keeper collects
        ExecutorPool._let_go.add(self)
        self._keeper.start()

    def end(self) -> None:
        """Waits until all is answered and the workers have ended."""
        with self._ending:
            self._end_now()

    def _end_now(self) -> None:
        if not self._has_ended:
            self.join()
            self._forget()

    def _forget(self) -> None:
        self._has_ended = True
        ExecutorPool.live.discard(self)
        ExecutorPool._let_go.discard(self)

    def _is_busy(self) -> bool:
        return super()._is_busy() or (self._is_let_go and not self._has_ended)

    def _keep(self) -> float | None:
        if self._is_let_go and self._state != RUN and not self._crew.open:
            # Unless another thread does it, which waits for this one to end.
            if self._ending.acquire(blocking=False):
                try:
                    self._crew.dismiss()
                    self._workers.join()
                    if not self._workers.terminate(wait=False):
                        return 0.001
                    self._end_now()
                finally:
                    self._ending.release()
            return None
        return super()._keep()


def _as_remote(cause: Any) -> Any:
    """The traceback of a worker as executors show it."""
    return _RemoteTraceback(cause.tb) if type(cause) is RemoteTraceback else cause


def _failed_initializer(text: str) -> BrokenProcessPool:
    error = BrokenProcessPool(
        "the initializer of a worker failed, so no call can be run: "
        + text.strip().rpartition("\n")[2]
    )
    cause: Any = f'\n"""\n{text}"""'
    error.__cause__ = _RemoteTraceback(cause)
    return error
