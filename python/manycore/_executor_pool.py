"""The pool behind an executor: ends by itself, and breaks as executors do."""

from __future__ import annotations

import threading
import time
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.pool import (  # type: ignore[attr-defined]
    CLOSE,
    RUN,
    TERMINATE,
    MaybeEncodingError,
)
from typing import TYPE_CHECKING, Any, ClassVar

from manycore import _engine
from manycore._attendant import Attendant
from manycore._calls import check_chunks
from manycore._executor_errors import (
    BrokenWorker,
    UndecodableResult,
    UnsendableResult,
    as_remote,
    failed_initializer,
)
from manycore._options import Options
from manycore._workers import Workers
from manycore.errors import ShutDown, WorkerDied
from manycore.pool import Pool

if TYPE_CHECKING:
    from manycore._options import CallOptions, PoolOptions


_HURRY = 0.5
"""Seconds that callbacks have at the end after Ctrl-C."""


class _Initializer:
    """What a worker does first. Tells the owner when the program's initializer fails."""

    def __init__(self, function: Callable[..., object] | None, failures: Any) -> None:
        self._function = function
        self._failures = failures

    def __call__(self, *args: Any) -> None:
        _engine.serve_executor()
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
    """All of them. Those that have ended may have callbacks to be called."""

    _let_go: ClassVar[set[ExecutorPool]] = set()
    """Those that end by themselves, kept alive until then."""

    def __init__(
        self,
        processes: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        max_tasks: int | None,
        context: Any,
        options: PoolOptions,
    ) -> None:
        self.broken: BrokenProcessPool | None = None
        self._failures = None
        self._is_let_go = False
        self._has_ended = False
        self._patience: float | None = None
        self._ending = threading.Lock()
        self._growing = threading.Lock()
        self._breaking = threading.Lock()
        self._started = 0
        if initializer is not None:
            self._failures = context.SimpleQueue()
        begin = _Initializer(initializer, self._failures)
        self._most = processes
        # A fork is quick now, and not when the program has threads. Others are started as needed.
        self.is_growing = context.get_start_method() != "fork"
        super().__init__(processes, begin, initargs, max_tasks, context, **options)
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
            count = min(self._crew.open, self._most)
            if self.is_growing and count > self._started and self._state != TERMINATE:
                self._started = count
                self.is_growing = count < self._most
                try:
                    self._workers.resize(count)
                except Exception as error:
                    if self._workers.processes:
                        self.is_growing = True  # those that are there do it all
                        return
                    self.broken = BrokenProcessPool(f"no worker can be started: {error!r}")
                    self.broken.__cause__ = error
                    self._break(self.broken)
                    raise

    def __del__(self) -> None:
        """Nothing: whoever made the executor need not close it."""

    def _make_attendant(self) -> Attendant:
        return _ExecutorAttendant(self, self._crew, self._workers)

    @property
    def is_plain(self) -> bool:
        """Whether calls have no options."""
        return self._is_plain

    def options_for(self, options: CallOptions, chunksize: int) -> Options:
        """What is asked of the calls of a map."""
        wanted = self._options.with_(options)
        if chunksize > 1:
            check_chunks(wanted)
        return wanted

    def is_ours(self) -> bool:
        """Whether this process has the workers: a forked copy of it has not."""
        return self._crew.is_ours

    def _check_running(self) -> None:
        self._crew.check_ours()
        if self._state != RUN:
            if self.broken is not None:
                raise self._broken_anew(self.broken)
            raise RuntimeError("cannot schedule new futures after shutdown")

    # ---- failing ------------------------------------------------------------------------------

    @staticmethod
    def _broken_anew(broken: BrokenProcessPool) -> BrokenProcessPool:
        """The same to be raised: what was, leads to the executor, for whose life the pool stays."""
        anew = BrokenProcessPool(str(broken))
        anew.__cause__ = broken.__cause__
        return anew

    def as_broken(self, error: Any, job: Any) -> Any:
        """The error of an answer as executors raise it."""
        if self.broken is not None and (error is self.broken or isinstance(error, ShutDown)):
            return self._broken_anew(self.broken)  # a `ShutDown`: handed out while it broke
        if isinstance(error, BrokenProcessPool):
            error.__cause__ = as_remote(error.__cause__)
            return error
        if isinstance(error, WorkerDied):
            died = BrokenWorker(str(error), *error.details)
            died.__cause__ = error.__cause__
            return died
        if type(error) is MaybeEncodingError:
            unsendable = UnsendableResult(None, None)
            unsendable.exc, unsendable.value = error.exc, error.value  # texts by now
            unsendable.__cause__ = as_remote(error.__cause__)
            return unsendable
        error.__cause__ = as_remote(error.__cause__)
        if job._is_undecodable(error):
            undecodable = UndecodableResult(f"a result cannot be unpickled: {error!r}")
            undecodable.__cause__ = error
            return undecodable
        return error

    def break_if_it_must(self) -> None:
        """Fails all calls if no worker can begin."""
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
            return failed_initializer(self._failures.get())
        if self._workers.is_broken():
            return BrokenProcessPool(str(self._workers.why_broken()))
        return None

    def _break(self, error: BrokenProcessPool) -> None:
        """Fails all that is not answered, and accepts no more."""
        self._state = TERMINATE
        self._workers.abandon(error)
        self._crew.dismiss()
        self._workers.terminate(wait=False)  # else they leave by themselves, being dismissed

    def break_with(self, process: Any) -> None:
        """Fails all calls, since the program has ended a worker by its process."""
        with self._breaking:
            if self.broken is not None or self._state == TERMINATE or self._has_ended:
                return
            self.broken = BrokenProcessPool(f"the program itself has ended worker {process.pid}")
        self._break(self.broken)

    def give_up(self, how: str = "terminate", *, is_hurried: bool = False) -> None:
        """Cancels what no worker has begun, and ends the workers now: `terminate` or `kill`.

        Args:
            how: The method of the processes.
            is_hurried: Whether the end is not to wait for long for callbacks.
        """
        if is_hurried:
            self._patience = _HURRY
        if self._has_ended:
            return
        self.close()
        self.withdraw_all()
        self._state = TERMINATE
        for process in self._workers.processes:
            if how == "kill":
                process.kill()
            else:
                process.terminate()
        self._workers.abandon(
            BrokenProcessPool("the workers were ended before this call was answered")
        )
        self._terminate_now()
        self._forget()

    # ---- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Accepts no more calls.

        Workers are told once all is answered: until then calls can be withdrawn.
        """
        if self._state == RUN:
            self._state = CLOSE

    def withdraw_what_may_be(self) -> None:
        """Withdraws what no worker has begun.

        A worker that is starting counts as having begun a call, as in the standard library: that
        some calls of many are answered is relied on.
        """
        self._attendant.withdraw_all(self._workers.starting)

    def withdraw_all(self) -> None:
        """Withdraws what no worker has begun."""
        self._attendant.withdraw_all()

    def let_go(self) -> None:
        """Has the pool end by itself once all is answered. Takes no lock: finalizers call it."""
        if not self.is_ours() or self._has_ended:
            return
        if self._state == RUN:
            self._state = CLOSE
        self._is_let_go = True
        ExecutorPool._let_go.add(self)
        self._attendant.need_keeper(collects=True)

    def end(self) -> None:
        """Waits until all is answered and the workers have ended.

        Raises:
            RuntimeError: Within a callback.
        """
        self._attendant.check_not_called()
        with self._ending:
            self._end_now()
        keeper = self._attendant.keeper
        until = None if self._patience is None else time.monotonic() + self._patience
        keeper.wait_until_called(keeper.due.added, until)  # also of calls that `give_up` failed

    def _end_now(self) -> None:
        if not self._has_ended:
            self.join()
            self._forget()

    def _forget(self) -> None:
        self._has_ended = True
        ExecutorPool._let_go.discard(self)

    def is_to_end(self) -> bool:
        """Whether it is to end by itself, and has not."""
        return self._is_let_go and not self._has_ended

    def is_due(self) -> bool:
        """Whether it is time for it to end by itself."""
        is_answered = not self._crew.open and not self._attendant.keeper.due
        return self._is_let_go and self._state != RUN and is_answered

    def end_by_itself(self) -> float | None:
        """Ends it; seconds after which that is to be tried again, or None."""
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


class WorkerProcess:
    """The process of a worker, for the program. Whoever ends it by this ends the executor.

    So programs stop an executor whose calls take too long. One that is killed in another way costs
    its call only.
    """

    def __init__(self, process: Any, pool: ExecutorPool) -> None:
        self._process = process
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)

    def __repr__(self) -> str:
        return repr(self._process)

    def terminate(self) -> None:
        """Sends SIGTERM; what is not answered fails with `BrokenProcessPool`."""
        self._end("terminate")

    def kill(self) -> None:
        """Sends SIGKILL; what is not answered fails with `BrokenProcessPool`."""
        self._end("kill")

    def _end(self, how: str) -> None:
        has_ended = self._process.exitcode is not None
        getattr(self._process, how)()
        if not has_ended and self._pool.is_ours():
            self._pool.break_with(self._process)


class _ExecutorAttendant(Attendant):
    """Has the pool of an executor break and end when it must."""

    def __init__(self, pool: ExecutorPool, crew: _engine.Crew, workers: Workers) -> None:
        super().__init__(crew, workers)
        self._pool = weakref.ref(pool)

    def look_after(self) -> None:
        """Buries, ends and starts workers as need be."""
        super().look_after()
        pool = self._pool()
        if pool is not None and pool.is_ours():
            pool.break_if_it_must()

    def is_needed(self) -> bool:
        """Whether there is something to do even if nobody waits."""
        pool = self._pool()
        return super().is_needed() or (pool is not None and pool.is_to_end())

    def keep(self, rung: int) -> float | None:
        """One round of the keeper; seconds until the next, or None when there is no more to do."""
        pool = self._pool()
        if pool is not None and pool.is_due():
            return pool.end_by_itself()
        del pool
        return super().keep(rung)
