"""A backend for joblib: `parallel_config(backend="manycore")`, once this module is imported.

Not imported by anything else here: joblib need not be installed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from typing import Any

import joblib
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    register_parallel_backend,
)

from manycore import _idle_pool
from manycore import context as _context
from manycore._batches import Batches, run
from manycore._by_value import ByValue
from manycore._descriptions import name_of
from manycore.pool import ApplyResult, Pool

__all__ = ["ManycoreBackend", "register", "shutdown"]

_NAME = "manycore"


class ManycoreBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's batches in a pool, which stays for later calls where it may.

    Args:
        nesting_level: How deep in other calls of joblib; joblib says so.
        inner_max_num_threads: How many threads BLAS and the like may use in each worker.
        context: How workers are started: a start method or a context; by default what
            `JOBLIB_START_METHOD` says, or else "forkserver".
        initializer: Called in each worker before its first batch.
        initargs: The initializer's arguments.
        maxtasksperchild: After how many batches a worker is replaced; by default never.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        *,
        context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options = {
            "context": context,
            "initializer": initializer,
            "initargs": tuple(initargs),
            "maxtasksperchild": maxtasksperchild,
        }
        self._pool: Pool | None = None
        self._conditions: object = None  # under which later calls may have the pool

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers there are for an `n_jobs` of joblib's; below zero counts from the CPUs.

        Raises:
            ValueError: When it is zero.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs < 0:
            return max(int(joblib.cpu_count()) + 1 + n_jobs, 1)
        return n_jobs

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: Any = None,
        require: Any = None,
        *,
        max_nbytes: int | None = None,
        mmap_mode: str | None = None,
        temp_folder: Any = None,
        verbose: int = 0,
        context: Any = None,
        **options: Any,
    ) -> int:
        """Starts the workers.

        `context` is joblib's own choice, made for another backend: ours was given to us at first.
        """
        count = self.effective_n_jobs(n_jobs)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if self._pool is not None:
            # Another `Parallel` has these workers, and may end them: this one gets its own.
            raise FallbackToBackend(
                type(self)(self.nesting_level, self.inner_max_num_threads, **self._options)
            )
        chosen = {**self._options, **options}
        starter = _starter(chosen.pop("context"))
        is_lent = mmap_mode is not None and mmap_mode != "c"
        self._batches = Batches(starter.get_start_method(), max_nbytes if is_lent else None)
        self._pool = self._get_pool(count, starter, **chosen)
        self.parallel = parallel
        return count

    def _get_pool(
        self,
        count: int,
        starter: Any,
        *,
        initializer: Callable[..., object] | None,
        initargs: Iterable[Any],
        maxtasksperchild: int | None,
    ) -> Pool:
        method, environment = starter.get_start_method(), self._prepare_worker_env(n_jobs=count)
        self._conditions = None  # `fork`: a copy that does not see what changes here
        if method != "fork" and initializer is None and maxtasksperchild is None:
            self._conditions = _idle_pool.conditions(method, count, environment)
            pool = _idle_pool.take(self._conditions)
            if pool is not None:
                return pool
        arguments = (environment, initializer, tuple(initargs))
        return Pool(count, _prepare, arguments, maxtasksperchild, context=starter)

    def start_call(self) -> None:
        """Told by joblib that a call begins."""
        self._batches.forget()

    def submit(self, func: Any, callback: Callable[[Any], object] | None = None) -> Any:
        """Hands out a batch; `callback` is called with its results, or with what it raised."""
        try:
            return self._send(func, callback)
        except Exception as error:
            if callback is None:
                raise
            # Not raised: most batches are handed out by the thread that delivers answers, where
            # nobody would hear of it, and joblib would wait for this one's answer.
            callback(error)
            return None

    apply_async = submit
    """As joblib called it before 1.5."""

    def _send(self, batch: Any, callback: Callable[[Any], object] | None) -> Any:
        pool = self._pool
        if pool is None:
            raise RuntimeError("the workers of this call have ended")
        packed, name = self._batches.pack(batch), _describe(batch)
        result = pool._call(run, (packed,), name=name)
        if not result._was_sent:
            unsent: Any = result._error
            result = pool._call(run, (_by_value(packed, unsent),), name=name)
            if not result._was_sent:
                raise unsent
        if callback is not None:
            tell = functools.partial(_tell, result, callback)
            call_back = functools.partial(pool._attendant.keeper.due.add, tell)
            if not result._when_done(call_back):
                call_back()
        pool._need_keeper(callback)
        return result, packed  # which keeps the arrays that were lent

    def retrieve_result_callback(self, out: Any) -> Any:
        """The results of a batch, of what its callback was called with."""
        if isinstance(out, BaseException):
            raise out
        return out

    def terminate(self) -> None:
        """Told by joblib that the call, or the `with Parallel`, is over."""
        self._give_up_pool(self._conditions)

    def _give_up_pool(self, conditions: object) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            if conditions is None:
                _idle_pool.end(pool)
            else:
                _idle_pool.keep(conditions, pool)
            self._batches.forget()
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Ends the workers whatever they do, and starts others if they are needed."""
        self._give_up_pool(None)
        if ensure_ready:
            parallel = self.parallel
            self.configure(n_jobs=parallel.n_jobs, parallel=parallel, **parallel._backend_kwargs)


def _tell(result: ApplyResult, callback: Callable[[Any], object]) -> None:
    """Calls a batch's callback with its results, or with what it raised."""
    error = result._error
    callback(result._returned if error is None else error)


def _by_value(packed: Any, unsent: Exception) -> ByValue:
    """A batch with all functions and classes that it refers to, as pickle cannot name one."""
    try:
        return ByValue(packed)
    except Exception:
        raise unsent from None


def _starter(wanted: Any) -> Any:
    """The context that starts the workers."""
    if wanted is None:
        wanted = os.environ.get("JOBLIB_START_METHOD", "").strip() or "forkserver"
    if isinstance(wanted, str):
        return _context._default_context.get_context(wanted)
    if not isinstance(wanted, _context.BaseContext):
        raise TypeError(f"{wanted!r} is neither the name of a start method nor a manycore context")
    return wanted.get_context()


def _describe(batch: Any) -> str | None:
    """What a batch is called when its worker died."""
    items = getattr(batch, "items", None)
    if not items:
        return name_of(batch)
    name = name_of(items[0][0])
    return name if len(items) == 1 else f"a batch of {len(items)} calls of {name}"


def _prepare(
    environment: dict[str, str], initializer: Callable[..., object] | None, initargs: tuple[Any]
) -> None:
    """What a worker does first."""
    os.environ.update(environment)  # for libraries that it has yet to load
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        pass
    else:
        threadpool_limits(int(environment["OMP_NUM_THREADS"]))  # for those that it has loaded
    if initializer is not None:
        initializer(*initargs)


def register(make_default: bool = False) -> None:
    """Makes the backend known to joblib, which importing this module does, too.

    Args:
        make_default: Whether it is used where no backend is asked for.
    """
    register_parallel_backend(_NAME, ManycoreBackend, make_default=make_default)


def shutdown() -> None:
    """Ends the workers that a call has left for later ones. The next call starts others."""
    _idle_pool.end_all()


register()
