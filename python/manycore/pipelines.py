"""Pipelines: each stage a function in processes of its own, joined by bounded queues.

An item goes from stage to stage without passing through Python code of this process, and a worker
that is killed fails only the item that it worked on.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import util
from typing import Any, Self

from manycore import _engine
from manycore._ahead import Stride
from manycore._stage_reports import bars_of, name_place, no_end
from manycore._stage_workers import GRACE, StageWorkers, Teller, Work, in_short
from manycore._stages import POLICIES, Stage, StageStats, sorted_out
from manycore.context import _default_context

__all__ = ["Pipeline", "Stage", "StageStats"]

_LOOK_AFTER = 0.05
"""Seconds between two looks at whether all workers live."""

_MOMENT = 0.0005
"""Seconds that are waited for more than one answer."""

_HANDFUL = 64
"""Answers that are waited for in that moment."""

_AT_ONCE = 64
"""Items that are taken from a source at a time."""

_BATCH = 128
"""Results that are decoded at a time."""

_PATIENCE = 1.0
"""Seconds that workers have, when a pipeline ends early, to be done with what they work on."""

_VALUE, _FAILED, _UNREADABLE = range(3)


class Pipeline:
    """What `manycore.pipeline` returns: an iterator over the results, once.

    Its processes start when the first result is asked for, and have ended when there are no more.
    """

    def __init__(
        self,
        stages: Iterable[Any],
        *,
        on_error: str = "raise",
        context: Any = None,
        progress: bool = False,
    ) -> None:
        if on_error not in POLICIES:
            raise ValueError(f"on_error must be one of {POLICIES}, not {on_error!r}")
        self._ctx = context or _default_context.get_context()
        self._on_error = on_error
        first, *rest = stages or ([],)
        self._length = len(first) if hasattr(first, "__len__") else None
        self._source, self._all = sorted_out(first, rest)
        self._has_reader = self._source is None
        self._staff = [it for it in self._all if not it.in_caller]
        self._sink = self._all[-1] if self._all[-1].in_caller else None
        self._progress = progress
        self._state = "new"
        self._turn = threading.Lock()
        self._results: deque[tuple[int, Any]] = deque()
        self._sunk = [0, 0, 0]  # of the stage in the caller: items in, results, failures
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        names = " -> ".join(it.name for it in self._all)
        return f"<{type(self).__name__} {names} {self._state}>"

    # ---- use --------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """The next result; waits for it.

        Raises:
            StopIteration: When there are no more.
            WorkerDied: When a worker died with an item, and errors are raised.
            Exception: What a stage raised, with a note that names stage and item.
        """
        while True:
            if not self._results:
                self._fetch()
                continue
            try:
                kind, value = self._results.popleft()
            except IndexError:  # another thread was quicker
                continue
            if kind == _VALUE and self._sink is None:
                return value
            with self._taking_turns():
                is_wanted, value = self._finished(kind, value)
            if is_wanted:
                return value

    def _fetch(self) -> None:
        """Waits for results."""
        with self._taking_turns():
            if not self._results and not self._advance(keep=True):
                raise StopIteration

    def run(self) -> int:
        """Goes through all results; how many there were.

        Raises:
            Exception: As `next`.
        """
        count = 0
        if self._sink is not None or self._results:
            return sum(1 for _ in self)
        with self._taking_turns():
            while self._advance(keep=False):
                count += self._stages.drop_results()
        return count

    def stats(self) -> list[StageStats]:
        """What each stage has done so far."""
        if self._state == "new":
            return [StageStats(it.name, it.workers, 0, 0, 0, 0, 0.0, 0, 0) for it in self._all]
        return [self._stats(index, it) for index, it in enumerate(self._all)]

    def _stats(self, index: int, of: Stage) -> StageStats:
        if of is self._sink:
            items_in, items_out, failures = self._sunk
            return StageStats(of.name, 1, items_in, items_out, failures, 0, 0.0, 0, 0)
        counts = self._stages.counts(index)
        assert counts is not None
        items_in, items_out, failures, deaths, worked, inside, inside_bytes = counts
        so_far = (self._ended or time.monotonic()) - self._started
        return StageStats(
            of.name,
            of.workers,
            items_in,
            items_out,
            failures,
            deaths,
            min(worked / 1e9 / max(so_far * of.workers, 1e-9), 1.0),
            inside,
            inside_bytes,
        )

    def close(self) -> None:
        """Ends the pipeline: workers may be done with their items and close what they have set up.

        For a second; then they are terminated. What has no result yet is dropped.
        """
        if self._state == "running" and self._is_ours():
            self._end(_PATIENCE)
        self._state = "closed"

    def terminate(self) -> None:
        """Ends the pipeline and its workers now."""
        if self._state == "running" and self._is_ours():
            self._end(0.0)
        self._state = "closed"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pipelines cannot be passed between processes or pickled")

    # ---- going on ---------------------------------------------------------------------------

    def _taking_turns(self) -> _Turn:
        if self._state == "running" and not self._is_ours():
            raise RuntimeError(
                "this pipeline was started by another process, which has its results: a forked "
                "process makes one of its own"
            )
        return _Turn(self)

    def _is_ours(self) -> bool:
        """Whether this process has started it: a forked copy is of no use."""
        return self._owner == os.getpid()

    def _start(self) -> None:
        self._stages = _engine.Stages([self._plan(*it) for it in enumerate(self._staff)])
        method = self._ctx.get_start_method()
        self._bars = bars_of(self._all, self._length) if self._progress else []
        self._workers = []
        for index, it in enumerate(self._staff):
            work = Work.pickled(it.function, it.init, self._is_reader(index), method)
            name = f"{index}-{it.name}"
            staff = StageWorkers(self._ctx, self._stages, index, it.workers, name, work, it.timeout)
            self._workers.append(staff)
        self._started, self._ended = time.monotonic(), 0.0
        self._stride = Stride(_AT_ONCE)
        soonest = min([_LOOK_AFTER, *(it.timeout for it in self._staff if it.timeout is not None)])
        self._next_look = self._started + soonest
        self._source_error: BaseException | None = None
        self._is_fed = False
        if self._has_reader:
            self._stages.feed_one(None)
            self._end_input()
        self._owner = os.getpid()
        self._terminate = util.Finalize(
            self, _stop, args=(self._owner, self._workers), exitpriority=15
        )
        self._state = "running"
        for staff in self._workers:
            staff.start_missing()

    def _plan(self, index: int, of: Stage) -> tuple[int, bool, int, int, int, int]:
        policy = "raise" if self._is_reader(index) else self._policy(of)
        limits = of.maxsize, of.maxbytes, of.retries
        return of.workers, of.ordered, *limits, POLICIES.index(policy)

    def _policy(self, of: Stage) -> str:
        return of.on_error or self._on_error

    def _advance(self, keep: bool) -> bool:
        """Moves on until there are results, which are fetched if they are to be kept.

        False when there will be none.
        """
        if self._state == "new":
            self._start()
        if self._state != "running":
            self._raise_error()
            return False
        answers = _HANDFUL
        while True:
            moved = not self._can_wait() and self._feed()
            moved |= self._stages.pump()
            self._raise_failure()
            self._look_after()
            if self._stages.has_results:
                if keep:
                    self._results.extend(self._stages.results(_BATCH))
                return True
            if self._stages.is_over:
                self._finish()
                return False
            if moved:
                answers = _HANDFUL
            elif answers > 1:
                self._stages.wait(answers, _MOMENT)
                answers = 1
            else:
                self._stages.wait(1, max(self._next_look - time.monotonic(), 0.0))
            if self._state != "running":
                return False  # another thread has closed it

    def _can_wait(self) -> bool:
        """Whether the source takes its time, and there are results, which are given out before."""
        if self._stride.is_slow:
            self._stages.pump()
        return self._stride.is_slow and self._stages.has_results

    def _feed(self) -> bool:
        """Gives the first stage what it takes; whether there was anything."""
        if self._is_fed or self._source is None or not self._stages.has_room:
            return False
        try:
            source = self._stride.begin(self._source)
            if not self._stages.feed(source, self._stride.length, self._refuse):
                self._end_input()
            self._stride.end()
        except Exception as error:
            # The iterable's own error comes after the results of what it gave before.
            self._source_error = error
            self._end_input()
        return True

    def _refuse(self, error: Exception, item: Any) -> Exception | None:
        """Decides what becomes of an item that cannot travel to the first stage, and says why."""
        of, counts = self._staff[0], self._stages.counts(0)
        assert counts is not None
        self._name(error, 0, counts[0], in_short(item))
        if self._policy(of) == "raise":
            raise error
        return error if self._policy(of) == "return" else None

    def _end_input(self) -> None:
        self._is_fed = True
        self._stages.end_input()

    def _look_after(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        soon = _LOOK_AFTER
        for index, staff in enumerate(self._workers):
            soon = min(soon, staff.look_after(functools.partial(self._take_loss, index)))
        self._next_look = time.monotonic() + soon
        self._show()

    def _take_loss(self, index: int, lost: _engine.LostItem, tell: Teller) -> None:
        """Decides what becomes of an item whose worker died, or was killed for it."""
        of, item = self._staff[index], lost.item
        short = in_short(item[0]) if item else "not kept"
        if self._is_reader(index):
            others = "what it has read goes on"
        else:
            times = "was not run again" if lost.deaths == 1 else f"was run {lost.deaths} times"
            ends = self._policy(of) == "raise"
            go_on = "the pipeline ends" if ends else "the other items of the pipeline go on"
            others = f"the item {times}, {go_on}"
        error = tell(of.name, others)
        self._name(error, index, lost.number, short)
        self._stages.lose(lost, error if self._policy(of) == "return" else None)
        if self._is_reader(index):
            self._source_error = error
        elif self._policy(of) == "raise":
            raise error

    def _name(self, error: BaseException, index: int, number: int | None, text: str) -> None:
        """Notes at an error which stage of workers it comes from, and which item, if it has any."""
        number = None if self._is_reader(index) else number
        name_place(error, self._staff[index], index, number, text)

    def _is_reader(self, index: int) -> bool:
        return index == 0 and self._has_reader

    def _raise_failure(self) -> None:
        failure = self._stages.failure()
        if failure is None:
            return
        index, number, (text, error) = failure
        self._name(error, index, number, text)
        if number is None or not self._is_reader(index):
            raise no_end(error)
        self._source_error = error  # after the results of what it gave before, as an iterable's

    def _finished(self, kind: int, value: Any) -> tuple[bool, Any]:
        """A result, or what becomes of it; whether it is one that comes out."""
        if kind == _FAILED:
            index, number, (text, error) = value
            self._name(error, index, number, text)
            return True, error
        if kind == _UNREADABLE:
            return self._after_error(self._staff[-1], value)
        if self._sink is None:
            return True, value
        return self._call_sink(self._sink, value)

    def _call_sink(self, sink: Stage, value: Any) -> tuple[bool, Any]:
        self._sunk[0] += 1
        try:
            result = sink.function(value)
        except Exception as error:
            self._sunk[2] += 1
            name_place(error, sink, len(self._all) - 1, self._sunk[0] - 1, in_short(value))
            return self._after_error(sink, error)
        self._sunk[1] += 1
        return True, result

    def _after_error(self, of: Stage, error: BaseException) -> tuple[bool, Any]:
        policy = self._policy(of)
        if policy == "raise":
            raise no_end(error)
        return policy == "return", error

    # ---- the end ----------------------------------------------------------------------------

    def _finish(self) -> None:
        """Waits until all workers have closed what they had set up, and ended."""
        for index, staff in enumerate(self._workers):
            while staff.processes:
                staff.await_ends(_LOOK_AFTER)
                staff.look_after(functools.partial(self._take_loss, index))
                self._stages.pump()
                self._raise_failure()
        self._show(final=True)
        self._end(0.0)
        if self._source_error is not None:
            self._error, self._source_error = self._source_error, None
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise no_end(error)

    def _end(self, patience: float) -> None:
        """Ends what still runs; workers have a while to do it themselves."""
        self._ended = time.monotonic()
        self._state = "ended"
        self._results.clear()
        with suppress(OSError, ValueError):
            self._stages.abandon()
        end = time.monotonic() + patience
        for staff in self._workers if patience else ():
            while staff.processes and (left := end - time.monotonic()) > 0:
                staff.await_ends(left)
                staff.forget_ended()
        self._stages.ring()
        self._terminate()
        for bar in self._bars:
            bar.close()

    def _show(self, final: bool = False) -> None:
        if not self._bars:
            return
        for index, (bar, stats) in enumerate(zip(self._bars, self.stats(), strict=True)):
            # What it is done with, however many results each has given; of what reads, results.
            is_reader = self._is_reader(index)
            bar.update((stats.items_out if is_reader else stats.items_in - stats.inside) - bar.n)
            if final:
                bar.refresh()


class _Turn:
    """Has one thread at a time go on with a pipeline, and ends it on any error."""

    def __init__(self, of: Pipeline) -> None:
        self._of = of

    def __enter__(self) -> None:
        if not self._of._turn.acquire(blocking=False):
            raise ValueError("another thread is waiting for results of this pipeline")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and kind is not StopIteration and self._of._state == "running":
                # Ctrl-C and the like end it at once.
                self._of._end(_PATIENCE if issubclass(kind, Exception) else 0.0)
        finally:
            self._of._turn.release()


def _stop(owner: int, workers: list[StageWorkers]) -> None:
    """Ends the workers of a pipeline that nobody uses any more."""
    if owner != os.getpid():
        return  # a forked copy of the pipeline: the workers are not ours
    for staff in workers:
        for process in staff.processes:
            process.terminate()
    end = time.monotonic() + GRACE
    for staff in workers:
        staff.join_or_kill(end)
