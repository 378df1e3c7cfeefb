"""Pools of worker processes: every task gets exactly one answer.

`Pool` is the standard library's, on the engine's rings. Differences: a worker that is killed fails
only the task it ran, with `WorkerDied`; results are collected by whoever waits for one, so a pool
has no threads unless callbacks are used; workers may have children.
"""

from __future__ import annotations

import os
import time
import warnings
from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import pool as _pool
from multiprocessing import util
from multiprocessing.pool import (  # type: ignore[attr-defined]
    CLOSE,
    RUN,
    TERMINATE,
    MaybeEncodingError,
    RemoteTraceback,
    ThreadPool,
)
from typing import Any, Literal

from manycore import _engine, _idle, _install, _thread_limits
from manycore import _failures as _failures  # forked workers find it
from manycore._attendant import Attendant
from manycore._calls import Calls
from manycore._cpus import available_cpus
from manycore._ctrl_c import has_ended_by_ctrl_c, means_ctrl_c
from manycore._functions import Functions
from manycore._insights import Insights, PoolInsights, PoolStats, stats
from manycore._keeper import Keeper
from manycore._lazy import IMapIterator as IMapIterator
from manycore._lazy import IMapUnorderedIterator as IMapUnorderedIterator
from manycore._options import Lifetime, Limits, Options
from manycore._rest import pass_on_rest
from manycore._results import TERMINATED
from manycore._results import ApplyResult as ApplyResult
from manycore._results import AsyncResult as AsyncResult
from manycore._results import MapResult as MapResult
from manycore._seeds import Seeds
from manycore._worker import Pins, Surroundings, Worker, checked_environment, pins_of
from manycore._workers import Workers
from manycore.context import _default_context

__all__ = ["Lifetime", "Pool", "ThreadPool", "Worker"]

MaybeEncodingError = MaybeEncodingError
RemoteTraceback = RemoteTraceback

_ROOM = 64
"""Workers that a pool can be made to have later, at least."""


_FAREWELL = 1.0
"""Seconds that error callbacks have at the end of the program, of tasks without an answer."""


class TaskQueue:
    """What programs look at to see how many tasks of a pool no worker has begun."""

    def __init__(self, crew: Any) -> None:
        self._crew = crew

    def qsize(self) -> int:
        """How many."""
        count: int = self._crew.queued
        return count

    def empty(self) -> bool:
        """Whether there are none."""
        return self.qsize() == 0


def _stop(owner: int, workers: Workers, keeper: Keeper) -> None:
    """Ends a pool that nobody uses any more."""
    if owner != os.getpid():
        return  # a forked copy of the pool: the workers are not ours
    due = keeper.due.added
    workers.terminate()
    workers.abandon(RuntimeError(TERMINATED))
    if not util.is_exiting():
        return
    if not has_ended_by_ctrl_c():
        keeper.wait_until_called(due)
        keeper.wait_until_called(keeper.due.added, time.monotonic() + _FAREWELL)
    # What its thread refers to Python would not get to at the end: the program's functions, and by
    # these all that a module of its has, files included that are to be written.
    keeper.rest()


# For typeshed the chunksize of `imap` may be None, which fails in the standard library, too.
class Pool(Calls, _pool.Pool, metaclass=ABCMeta):  # type: ignore[misc]
    """A pool of worker processes.

    Args:
        processes: How many workers; by default as many as there are CPUs. With 0 there are none:
            whoever waits for results runs the tasks in this process, as a worker would, to debug
            them. Where we are installed as `multiprocessing`, 0 is an error, as there.
        initializer: Called in each worker before its first task.
        initargs: The initializer's arguments.
        maxtasksperchild: After how many tasks a worker is replaced; by default never.
        context: The context that starts the workers.
        limit_threads: Whether the variables are set in each worker that give numerical libraries
            their share of the CPUs: docs/api/processes.md lists them.
        timeout: Seconds that each task may run: then `TaskTimeout` is raised in it, and a second
            later its worker is killed, which fails that task alone. By default as long as it takes.
        retries: How often a task is run again whose worker has died.
        retry_on: Errors of a task after which it is run again, too: one type or a tuple of them.
        priority: Of the tasks that no worker has begun, those with the highest are begun first.
        on_error: `"raise"`, or `"return"` for maps that have the error in the place of the result.
        max_memory: Bytes of private memory at which a worker is killed: its task fails with
            `MemoryLimitExceeded`.
        worker_lifetime: When a worker is replaced, between two tasks.
        finalizer: Called in each worker that leaves in order: when the pool was closed, or when it
            is replaced.
        finalargs: The finalizer's arguments.
        environment: Variables that each worker has besides, before it imports anything.
        pin: True to bind each worker to a CPU of its own, as far as they reach; or a list with a
            CPU, or several, for each worker.
        pass_worker: Whether functions are called with the `Worker` as their first argument.
        seed: What the random numbers of all tasks follow from; each call has others.
        insights: Whether it is measured what the workers' time is spent on, for `insights()`.
        idle_seconds: After how long without tasks workers are let go. The next call has them back.
        min_processes: How many workers stay then.

    The options from `timeout` to `on_error` may also be given to each call, for that call. With any
    of them each item of a map is a task of its own, and `chunksize` cannot be given. A call may
    have a `seed`, too, and a map has `progress`: True or a label for a bar drawn by tqdm, which
    counts the items that are done.

    Raises:
        ValueError: When a number is below one.
        TypeError: When the initializer cannot be called.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        limit_threads: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        on_error: Literal["raise", "return"] = "raise",
        priority: int = 0,
        max_memory: int | None = None,
        worker_lifetime: Lifetime | None = None,
        finalizer: Callable[..., object] | None = None,
        finalargs: Iterable[Any] = (),
        environment: Mapping[str, str] | None = None,
        pin: Pins = False,
        pass_worker: bool = False,
        seed: int | None = None,
        insights: bool = False,
        idle_seconds: float | None = None,
        min_processes: int = 0,
    ) -> None:
        count = available_cpus() if processes is None else processes
        if count < (1 if _install.is_installed() else 0):
            raise ValueError(
                f"Number of processes must be at least 1, not {count}; leave it out for one per CPU"
            )
        if maxtasksperchild is not None and (
            not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0  # type: ignore[redundant-expr]
        ):
            raise ValueError("maxtasksperchild must be a positive int or None")
        surroundings = Surroundings(
            initializer,
            tuple(initargs),
            finalizer,
            tuple(finalargs),
            pins_of(pin),
            pass_worker,
            insights,
        )
        surroundings.check()
        variables = checked_environment(environment)
        _idle.check(idle_seconds, min_processes, count)
        self._initializer, self._initargs = initializer, surroundings.initargs
        self._maxtasksperchild = maxtasksperchild
        self._seeds = Seeds(seed)
        self._options = Options().with_(
            {
                "timeout": timeout,
                "retries": retries,
                "retry_on": retry_on,
                "on_error": on_error,
                "priority": priority,
            }
        )
        self._is_plain = self._options == Options() and seed is None and idle_seconds is None
        limits = Limits.of(max_memory, worker_lifetime, maxtasksperchild)
        self._counts_tasks = limits.lifetime.tasks is not None
        self._ctx = context or _default_context.get_context()
        if count:
            if limit_threads:
                variables = _thread_limits.for_workers(count) | variables
            self._make_workers(count, surroundings, limits, variables)
        else:
            self._do_without_workers(surroundings)
        self._functions = Functions(self._crew, self._ctx.get_start_method())
        self._streams: dict[IMapIterator, None] = {}  # whose items have not all been taken
        if idle_seconds is not None and count:
            self._attendant.idle = _idle.Idle(
                self._crew, self._workers, idle_seconds, min_processes
            )
        if self._is_plain and count:
            self._take_shortcut(self._crew, ApplyResult)
        try:
            self._start_workers()
            if self._attendant.idle is not None or self._workers.grow_old:
                self._attendant.need_keeper()
        except BaseException:
            self._workers.terminate()
            raise
        self._terminate = util.Finalize(
            self,
            _stop,
            args=(os.getpid(), self._workers, self._attendant.keeper),
            exitpriority=15,
        )

    def _make_workers(
        self, count: int, surroundings: Surroundings, limits: Limits, variables: dict[str, str]
    ) -> None:
        self._crew = _engine.Crew(2 * count, 2 * max(2 * count, _ROOM))
        self._insights = Insights(self._crew) if surroundings.measures else None
        self._workers = Workers(
            self._ctx, self._crew, count, surroundings, limits, variables, self._insights
        )
        self._attendant = self._make_attendant()

    def _make_attendant(self) -> Attendant:
        return Attendant(self._crew, self._workers)

    def _start_workers(self) -> None:
        self._workers.start()

    def _do_without_workers(self, surroundings: Surroundings) -> None:
        from manycore._in_process import InProcessAttendant, InProcessCrew, InProcessWorkers

        crew: Any = InProcessCrew(surroundings)
        self._insights = Insights(crew) if surroundings.measures else None
        workers: Any = InProcessWorkers(crew, surroundings, self._insights)
        self._crew, self._workers = crew, workers
        self._attendant = InProcessAttendant(crew, workers)

    def __del__(self) -> None:
        if "_terminate" in self.__dict__ and self._state == RUN:
            warnings.warn(
                f"unclosed running multiprocessing pool {self!r}",
                ResourceWarning,
                stacklevel=1,
                source=self,
            )
            self._terminate()

    def __repr__(self) -> str:
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        return f"<{name} state={self._state} pool_size={self._processes}>"

    @property
    def _pool(self) -> list[Any]:
        return self._workers.processes

    @property
    def _processes(self) -> int:
        return self._workers.count

    @property
    def _cache(self) -> dict[int, Any]:
        # Programs look at how many calls have no answer, to make no more for a while.
        self._attendant.poll()
        return dict(enumerate(self._crew.jobs))

    @property
    def _taskqueue(self) -> TaskQueue:
        return TaskQueue(self._crew)

    @property
    def _state(self) -> str:
        return self._attendant.state

    @_state.setter
    def _state(self, state: str) -> None:
        self._attendant.state = state

    def resize(self, processes: int) -> None:
        """There shall be so many workers from now on.

        New ones are started now. Where there are too many, idle ones leave, or others after the
        tasks that they run.

        Raises:
            ValueError: When it is below one, or more than there is room for: 64, or twice as many
                as there were at first if that is more.
        """
        self._check_running()
        if processes < 1:
            raise ValueError(f"Number of processes must be at least 1, not {processes}")
        self._workers.resize(processes)
        if self._attendant.idle is not None:
            self._attendant.idle.most = processes
        self._attendant.need_keeper()

    # ---- what it does -----------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """What the pool is doing, and how many tasks and workers it has had."""
        if self._state != TERMINATE:
            self._attendant.poll()
        return stats(self._crew, self._workers)

    def insights(self) -> PoolInsights:
        """What the workers have spent their time on so far, and which tasks took longest.

        Raises:
            ValueError: When the pool was not made with `insights=True`.
        """
        if self._insights is None:
            raise ValueError("nothing was measured: make the pool with insights=True")
        return self._insights.now()

    def _end_insights(self) -> None:
        if self._insights is not None:
            self._insights.close()

    # ---- the end ----------------------------------------------------------------------------

    def close(self) -> None:
        """Accepts no more calls; the workers end when all tasks have been answered."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            if not self._streams:
                self._crew.dismiss()
            elif self._attendant.idle is not None:
                self._attendant.idle.wake()  # for the rest of these: no one is let go any more

    def terminate(self) -> None:
        """Ends the workers now; tasks without an answer fail."""
        due = self._attendant.keeper.due.added
        self._terminate_now()
        self._attendant.keeper.wait_until_called(due)  # those of tasks that were answered
        self._attendant.keeper.rest()

    def _terminate_now(self) -> None:
        util.debug("terminating pool")
        self._state = TERMINATE
        self._end_insights()
        for stream in list(self._streams):
            stream.give_up(RuntimeError(TERMINATED))
        self._terminate()

    def join(self) -> None:
        """Waits until the workers have ended. Call `close` or `terminate` before.

        Raises:
            ValueError: When the pool still runs.
        """
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        if not self._crew.is_ours:
            return  # so are the workers
        for stream in list(self._streams):
            stream.finish()
        self._attendant.wait_for_all()
        for stream in list(self._streams):  # there are no workers for these
            stream.give_up(RuntimeError(TERMINATED))
        self._crew.dismiss()
        self._workers.join()
        self._end_insights()
        self._attendant.keeper.rest()
        self._terminate()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, kind: Any = None, error: BaseException | None = None, *_: object) -> None:
        if means_ctrl_c(error):
            self._terminate_now()  # one press is enough, whatever callbacks do
        else:
            self.terminate()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def _check_running(self) -> None:
        self._crew.check_ours()
        if self._state != RUN:
            raise ValueError("Pool not running")


# There it is a subclass of `Pool`, and other packages ask for that.
Pool.register(ThreadPool)

pass_on_rest(__name__)
