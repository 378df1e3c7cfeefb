"""`ProcessPoolExecutor`: that of `concurrent.futures`, on the engine's pool.

Differences: a worker that is killed fails only the future whose call it ran, and the executor goes
on; all calls that no worker has begun can be cancelled; there is no thread between `submit` and the
workers, and none behind `result()`. After Ctrl-C, a `with` block and the end of the program wait
for nothing.

Imported at the first need: it imports `concurrent.futures`.
"""

from __future__ import annotations

import functools
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import _base
from typing import TYPE_CHECKING, Any

from manycore import _engine
from manycore._ahead import Bounds
from manycore._cpus import available_cpus
from manycore._ctrl_c import has_ended_by_ctrl_c, means_ctrl_c
from manycore._executor_errors import (
    BrokenWorker,
    UndecodableCall,
    UndecodableResult,
    UnsendableResult,
)
from manycore._executor_map import Results, call_for_each, chunks_of, map_by
from manycore._executor_pool import ExecutorPool, WorkerProcess
from manycore._futures import Future
from manycore._options import Options
from manycore.context import BaseContext, _default_context
from manycore.pool import Pool

if TYPE_CHECKING:
    from typing import Unpack

    from manycore._options import CallOptions, PoolOptions

__all__ = [
    "BrokenWorker",
    "Future",
    "ProcessPoolExecutor",
    "UndecodableCall",
    "UndecodableResult",
    "UnsendableResult",
]


class _Submitting(_engine.ExecutorCalls, _base.Executor):
    """What submits calls, with options."""

    _options: CallOptions = {}  # noqa: RUF012 - never changed
    _pool: ExecutorPool | None = None

    def _running_pool(self) -> ExecutorPool:
        raise NotImplementedError

    def _submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future:
        """What `submit` does where the engine has no shortcut."""
        pool = self._pool or self._running_pool()
        future = Future.__new__(Future)
        try:
            begin = functools.partial(future.__init__, pool)  # type: ignore[misc]
            pool._hand_out(future, begin, fn, args, kwargs, self._options)
        except Exception as error:
            pool._check_running()
            future = Future(pool)
            future._answer(0, False, error)
        if pool.is_growing:
            pool.grow()
        elif pool.is_plain and not self._options:
            self._take_shortcut(pool._crew, pool, Future)
        pool._need_keeper()
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        bufferbytes: int | None = None,
    ) -> Iterator[Any]:
        """An iterator over the results of `fn` for each item of the iterables, in order.

        Args:
            fn: What workers call, with one argument from each iterable.
            iterables: The arguments.
            timeout: Seconds from this call on, after which the iterator raises `TimeoutError`.
            chunksize: How many items travel to a worker at a time.
            buffersize: How many chunks are taken ahead of the results that were fetched; by
                default all at once. Endless iterables need it, or `bufferbytes`.
            bufferbytes: How many bytes of items that wait for a worker, and of results that were
                not fetched, there are at most; by default 64 MiB where `buffersize` is given.

        Raises:
            ValueError: When a number is below one.
            RuntimeError: After `shutdown`.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else timeout + time.monotonic()
        if type(self).submit is not _Submitting.submit or "submit" in self.__dict__:
            call = functools.partial(call_for_each, fn)
            chunks = chunks_of(zip(*iterables, strict=False), chunksize)
            return map_by(functools.partial(self.submit, call), chunks, buffersize, end)
        pool = self._running_pool()
        tasks = float("inf") if buffersize is None else buffersize
        bounds = Bounds.of(tasks, bufferbytes, pool._most)
        options = pool.options_for(self._options, chunksize)
        results = Results(
            pool,
            pool._begin(fn),
            iterables[0] if len(iterables) == 1 else zip(*iterables, strict=False),
            chunksize,
            bounds,
            fn,
            options,
            star=len(iterables) != 1,
            seed=pool._seeds.for_call(options.seed),
        )
        results.begin()
        pool._need_keeper()
        error = results.source_error
        if buffersize is None and bufferbytes is None and error is not None:
            results.close()
            raise error
        results.end = end
        return results

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> bool | None:
        """Waits for all that is not answered; after Ctrl-C, ends the workers instead."""
        try:
            if means_ctrl_c(exc_val):
                self._give_up()
            return super().__exit__(exc_type, exc_val, exc_tb)
        except KeyboardInterrupt:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Cancels what no worker has begun, and ends the workers: the program was interrupted."""
        raise NotImplementedError


class ProcessPoolExecutor(_Submitting):
    """Runs calls in worker processes.

    Workers start with the first call, by `fork` all of them, else as they are needed. All that
    `concurrent.futures` does with an executor and its futures works: `wait`, `as_completed`,
    callbacks, `asyncio`.

    Args:
        max_workers: How many workers; by default as many as there are CPUs.
        mp_context: The context that starts the workers; one of `multiprocessing` stands for that of
            manycore with the same start method.
        initializer: Called in each worker before its first call. When it raises, the executor is
            broken.
        initargs: The initializer's arguments.
        max_tasks_per_child: After how many calls a worker is replaced; by default never. If given,
            workers are started by `spawn`, unless `mp_context` says otherwise.
        options: As those of `manycore.pool.Pool`, but for `insights`.

    Raises:
        ValueError: When a number is below one, or `max_tasks_per_child` meets the method `fork`.
        TypeError: When an argument is of another type.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        **options: Unpack[PoolOptions],
    ) -> None:
        if max_workers is None:
            max_workers = available_cpus()
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        unknown = sorted(options.keys() - (Pool.__init__.__kwdefaults__ or {}).keys())
        if unknown:
            raise TypeError(f"unknown option {unknown[0]!r}")
        if options.get("insights"):
            raise TypeError("insights is for pools: an executor has nothing that tells of them")
        Options().with_({name: it for name, it in options.items() if name in Options._fields})
        self._max_workers = max_workers
        self._mp_context = _context(mp_context, max_tasks_per_child)
        self._initializer = initializer
        self._initargs = tuple(initargs)
        self._max_tasks_per_child = max_tasks_per_child
        self._pool_options = options
        self._is_shut = False
        self._lock = threading.Lock()

    def _running_pool(self) -> ExecutorPool:
        if _is_exiting:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        with self._lock:
            if self._is_shut and self._pool is None:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._pool is None:
                self._pool = pool = ExecutorPool(
                    self._max_workers,
                    self._initializer,
                    self._initargs,
                    self._max_tasks_per_child,
                    self._mp_context,
                    self._pool_options,
                )
                weakref.finalize(self, pool.let_go).atexit = False
            return self._pool

    @property
    def _processes(self) -> dict[int, Any]:
        """The workers, by process id."""
        pool = self._pool
        if pool is None:
            return {}
        return {it.pid: WorkerProcess(it, pool) for it in pool._workers.those_staying}

    @property
    def _pending_work_items(self) -> dict[int, Any]:
        # Programs look at how many calls have no answer, to make no more for a while.
        pool = self._pool
        return {} if pool is None else dict(enumerate(pool._crew.jobs))

    @property
    def _shutdown_thread(self) -> bool:
        return self._is_shut

    @property
    def _broken(self) -> str | bool:
        """Why no call is accepted any more, if there is a reason."""
        error = None if self._pool is None else self._pool.broken
        return False if error is None else str(error)

    def with_options(self, **options: Unpack[CallOptions]) -> _base.Executor:
        """This executor, with options for the calls that are submitted through what is returned.

        Args:
            options: `timeout`, `retries`, `retry_on`, `priority` and `seed`: see
                `manycore.pool.Pool`.

        Raises:
            TypeError, ValueError: When a name or a value makes no sense.
        """
        Options().with_(options)
        for name in ("on_error", "progress"):
            if name in options:
                raise TypeError(f"{name} is for the maps of a pool: an executor has futures")
        return _WithOptions(self, options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accepts no more calls; the workers end when all have been answered.

        Args:
            wait: Whether to wait for that.
            cancel_futures: Whether calls that no worker has begun are cancelled.
        """
        with self._lock:
            self._is_shut = True
            pool = self._pool
        if pool is None or not pool.is_ours():
            return
        pool.close()
        if cancel_futures:
            pool.withdraw_what_may_be()
        if wait:
            pool.end()
        else:
            pool.let_go()

    def terminate_workers(self) -> None:
        """Ends the workers now, by SIGTERM.

        Calls that run fail with `BrokenProcessPool`, those that no worker has begun are cancelled.
        """
        self._end_workers("terminate")

    def kill_workers(self) -> None:
        """Ends the workers now, by SIGKILL; calls fail and are cancelled as there."""
        self._end_workers("kill")

    def _give_up(self) -> None:
        self._end_workers("terminate", is_hurried=True)

    def _end_workers(self, how: str, *, is_hurried: bool = False) -> None:
        with self._lock:
            self._is_shut = True
            pool = self._pool
        if pool is not None and pool.is_ours():
            pool.give_up(how, is_hurried=is_hurried)


class _WithOptions(_Submitting):
    """An executor whose calls have options."""

    def __init__(self, executor: ProcessPoolExecutor, options: CallOptions) -> None:
        self._executor = executor
        self._options = options

    def _running_pool(self) -> ExecutorPool:
        self._pool = self._executor._running_pool()
        return self._pool

    def _give_up(self) -> None:
        self._executor._give_up()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As that of the executor itself."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)


def _context(mp_context: Any, max_tasks_per_child: int | None) -> Any:
    """The context of ours that is meant."""
    if max_tasks_per_child is not None:
        if not isinstance(max_tasks_per_child, int):
            raise TypeError("max_tasks_per_child must be an integer")
        if max_tasks_per_child <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
        if mp_context is None:
            return _default_context.get_context("spawn")
        if mp_context.get_start_method(allow_none=False) == "fork":
            raise ValueError(
                "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; "
                "supply a different mp_context."
            )
    if mp_context is None:
        return _default_context.get_context()
    if isinstance(mp_context, BaseContext):
        return mp_context
    return _default_context.get_context(mp_context.get_start_method(allow_none=False))


_is_exiting = False
"""Whether the program ends: no more calls are accepted then."""


def _wait_for_all() -> None:
    """At the end of the program: waits for what is not answered, as `concurrent.futures` does.

    Not so after Ctrl-C: one press is enough.
    """
    global _is_exiting
    _is_exiting = True
    pools = [pool for pool in list(ExecutorPool.live) if pool.is_ours()]
    try:
        if has_ended_by_ctrl_c():
            return
        for pool in pools:
            pool.close()
            pool.end()
        pools.clear()
    finally:
        for pool in pools:
            pool.give_up(is_hurried=True)


# It runs before the threads of the program are waited for, and before all functions of `atexit`.
threading._register_atexit(_wait_for_all)  # type: ignore[attr-defined]
