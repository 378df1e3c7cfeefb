"""The worker processes of a pool: started, watched, replaced, ended."""

from __future__ import annotations

import itertools
import threading
import time
from multiprocessing.connection import wait as wait_for
from typing import Any

from manycore import _engine
from manycore._deaths import Deaths, EarlyDeath
from manycore._descriptions import describe, name_of
from manycore._insights import Insights
from manycore._options import Limits
from manycore._results import TERMINATED
from manycore._tending import Tending
from manycore._worker import Surroundings
from manycore._working import ENDED_BY_CTRL_C, work
from manycore.errors import WorkerDied
from manycore.process import has_started, start_soon, why_not_started

_PATIENCE = 0.5
"""Seconds that a terminated worker has before it is killed."""

_LOOK_AGAIN = 1.0
"""Seconds after which who waits for the end of a worker looks whether it was stopped."""

_REFLECTION = 0.25
"""Seconds after Ctrl-C has ended a worker in which none is replaced: the program is about to end,
or to cancel what waits, and until then new workers would only begin what nobody wants."""

_OTHERS = "the other tasks of the pool go on"


class Workers:
    """The worker processes of a pool.

    There are twice as many rows as workers, so that a worker that leaves is replaced before its
    process has ended.
    """

    def __init__(
        self,
        context: Any,
        crew: _engine.Crew,
        count: int,
        surroundings: Surroundings,
        limits: Limits,
        variables: dict[str, str],
        insights: Insights | None = None,
    ) -> None:
        self._context = context
        self._crew = crew
        self._count = count
        self._surroundings = surroundings
        self._limits = limits
        self._variables = variables
        self._insights = insights
        self._rows: dict[int, Any] = {}
        self._ids: dict[int, int] = {}  # of the workers in rows, and of those that are missing
        self._vacant: set[int] = set()
        self._leaving: set[int] = set()
        self._surplus: set[int] = set()
        self._dismissed = 0
        self._early_deaths = 0
        self._early: EarlyDeath | None = None
        self._not_started: BaseException | None = None
        self._interruption: BaseException | None = None
        self.died = self.replaced = 0
        # Who sees to the workers. A handler of a signal may want it that has interrupted who does.
        self._turn: Any = threading.RLock()
        self._is_forgotten = False
        self._deaths = Deaths()
        self._tending = Tending(crew, limits, self._deaths.last_words)
        self._is_over = False
        self._reflects_until = 0.0

    @property
    def processes(self) -> list[Any]:
        """The worker processes, those on their way out included."""
        return list(self._rows.values())

    @property
    def count(self) -> int:
        """How many workers there shall be."""
        return self._count

    @property
    def staying(self) -> int:
        """How many workers there are that do not leave."""
        return len(self._rows) - len(self._leaving)

    @property
    def busy(self) -> int:
        """How many workers run a task."""
        return sum(self._crew.running(row) is not None for row in list(self._rows))

    @property
    def starting(self) -> int:
        """How many workers have not come as far as to take a task."""
        return sum(not self._crew.was_ready(row) for row in list(self._rows))

    @property
    def grow_old(self) -> bool:
        """Whether they are to be replaced for their age, also if they have had no task."""
        return self._limits.lifetime.seconds is not None

    @property
    def need_looks(self) -> bool:
        """Whether somebody has to look at them now and then, also while they have nothing to do."""
        return self._limits.need_looks or len(self._rows) > self._count

    @property
    def those_staying(self) -> list[Any]:
        """The worker processes that may take another task."""
        rows = list(self._rows.items())
        return [process for row, process in rows if row not in self._leaving]

    def start(self) -> None:
        """Starts as many workers as are missing."""
        with self._turn:
            self._start_missing()

    def resize(self, count: int, *, at_once: bool = False) -> None:
        """There shall be so many workers from now on.

        Args:
            count: How many.
            at_once: Do nothing while another thread sees to the workers. It may start one by
                `fork`, and so wait for the keeper's thread, which must not wait for it then.

        Raises:
            ValueError: When there is no room for so many.
        """
        if self._has_turn():  # in a signal's handler, while this thread looks after them
            self._note_count(count)
        else:
            _engine.run_alone(self._turn, lambda: self._resize_now(count), not at_once)

    def _resize_now(self, count: int) -> None:
        self._note_count(count)
        self._start_missing()
        self._dismiss_surplus()

    def _has_turn(self) -> bool:
        """Whether it is this thread that sees to the workers."""
        has_turn: bool = self._turn._is_owned()
        return has_turn

    def _note_count(self, count: int) -> None:
        if 2 * count > self._crew.most_rows:
            raise ValueError(
                f"this pool has room for {self._crew.most_rows // 2} workers, not {count}"
            )
        self._crew.add_rows(2 * count)
        self._count = count

    def _start_missing(self) -> None:
        if self._is_over or time.monotonic() < self._reflects_until:
            return  # the keeper was looking when the pool was let go of; or see there
        free = (row for row in range(self._crew.rows) if row not in self._rows)
        taken = {id for row, id in self._ids.items() if row not in self._leaving}
        ids = (id for id in itertools.count() if id not in taken)
        for row, id, _ in zip(free, ids, range(self._count - self.staying), strict=False):
            self._crew.clear_row(row)
            self._deaths.last_words.take(row)
            arguments = (
                self._crew.seat(row),
                id,
                self._surroundings,
                self._limits.lifetime.tasks,
                self._deaths.last_words.place,
            )
            process = self._context.Process(target=work, args=arguments)
            process.name = process.name.replace("Process", "PoolWorker")
            process.daemon = True
            process._variables = self._variables
            if self._insights is not None:
                self._insights.begin(row, id)
            try:
                start_soon(process)
            except BaseException as error:
                if has_started(process):  # a signal's handler has raised: it may have taken a task
                    self._interruption = error
                    self._note_worker(row, id, process)
                raise
            self._note_worker(row, id, process)

    def _note_worker(self, row: int, id: int, process: Any) -> None:
        self._rows[row] = process
        self._ids[row] = id
        self.replaced += id in self._vacant
        self._vacant.discard(id)
        self._tending.begin(row)

    def _dismiss_surplus(self) -> None:
        """Has as many workers leave as there are too many: idle ones, or else after their tasks."""
        surplus = max(self.staying - self._count, 0)
        if surplus == 0 and not self._surplus:
            return
        staying = [row for row in self._rows if row not in self._leaving]
        chosen = set(staying[len(staying) - surplus :])
        busy = {row for row in chosen if self._crew.running(row) is not None}
        for row in self._surplus - busy:
            self._crew.retire(row, False)
        for row in busy - self._surplus:
            self._crew.retire(row, True)
        self._surplus = busy
        # Who has no task does not see that. Whoever takes one of these leaves, and if those are too
        # many in the end, others are started.
        queued = self._crew.queued
        if queued == 0:
            self._dismissed = 0  # who has taken those messages leaves, or has left
        idle = sum(not self._crew.is_leaving(row) for row in chosen - busy)
        while self._dismissed < idle and queued <= self._dismissed and self._crew.dismiss_one():
            self._dismissed += 1

    def look_after(self, replace: bool) -> float:
        """Buries workers that have ended, answers the tasks that died with them, replaces them.

        Returns after how many seconds it is to be done again. Does nothing while another thread is
        doing it.
        """
        soon: list[float] = []
        try:
            _engine.run_alone(self._turn, lambda: self._look_after_now(replace, soon), False)
        finally:
            if soon and self._is_forgotten:
                self.terminate()
        return soon[-1] if soon else 1.0

    def _look_after_now(self, replace: bool, soon_again: list[float]) -> None:
        soon_again.append(1.0)
        soon = self._tending.tend(self._rows)
        ended = []
        for row, process in list(self._rows.items()):
            if process.exitcode is not None:
                ended.append((row, process))
            elif self._crew.is_leaving(row):
                self._crew.note_leaving(row)
                self._leave(row)
        # Else with the next look: who was stopped and has what a burial needs is seen to before.
        if ended and self._crew.settle():
            for row, process in ended:
                self._bury(row, process)
        if self.is_broken():
            self._give_up()
        elif self._is_over:
            self.abandon(RuntimeError(TERMINATED))  # what another thread has handed out since
        elif replace and not self._is_forgotten:
            self._replace_missing()
            self._dismiss_surplus()
        reflects = self._reflects_until - time.monotonic()
        soon_again.append(min(soon, reflects) if reflects > 0 else soon)

    def _replace_missing(self) -> None:
        """Starts as many as are missing, while it does not matter much if that fails."""
        try:
            self._start_missing()
        except Exception as error:
            if error is self._interruption:
                self._interruption = None
                raise
            if self.staying == 0:  # tried again with the next look, but not for ever
                self._not_started = error
                self._early_deaths += 1

    def _leave(self, row: int) -> None:
        """The worker of a row takes no more tasks: another will have its place."""
        if row not in self._leaving:
            if self.staying <= self._count:
                self._vacant.add(self._ids[row])
            self._leaving.add(row)

    def _bury(self, row: int, process: Any) -> None:
        self._leave(row)
        self.died += process.exitcode != 0
        if process.exitcode == ENDED_BY_CTRL_C:
            self._reflects_until = time.monotonic() + _REFLECTION
        is_false_start = not self._crew.was_ready(row) and process.exitcode
        self._early_deaths = self._early_deaths + 1 if is_false_start else 0
        self._early = self._deaths.early(process, self._early) if is_false_start else None
        self._not_started = why_not_started(process)
        sentence = self._tending.end(row)

        def tell(
            tag: int, job: _engine.Job, task: int, seconds: float | None, item: int
        ) -> BaseException:
            what = describe(job, task, item)
            if sentence is not None and sentence[0] in (None, tag):
                return sentence[1](what, self._deaths.last_words.take(row))
            name = name_of(job._function)
            return self._deaths.error(process, row, what, name, seconds, _OTHERS)

        if self._insights is not None:
            self._insights.end(row)
        try:
            self._crew.bury(row, tell)
        finally:  # Ctrl-C may come while answers are delivered: it is buried all the same
            del self._rows[row], self._ids[row]
            self._leaving.discard(row)
            self._surplus.discard(row)
            if self.staying <= self._count:
                self._dismissed = 0

    def _give_up(self) -> None:
        """Answers all tasks: workers end before they have taken one, and new ones would too."""
        self.abandon(self.why_broken())

    def why_broken(self) -> WorkerDied:
        """What is said of workers that die before they take a task, again and again."""
        # The executor asks, too, while another thread may look after the workers.
        count, not_started, early = self._early_deaths, self._not_started, self._early
        cause = not_started or self._crew.false_start
        ended = "workers ended before they could take a task"
        if cause is not None:
            reason = f"{type(cause).__name__}: {cause}"
            if not_started is not None:
                why = f"could not be started, the last one for {reason}"
            else:
                why = f"failed in the initializer, the last one with {reason}"
            error = WorkerDied(f"the last {count} workers {why}")
        elif early is not None:
            error = early.error(count, ended)
        else:
            error = WorkerDied(f"the last {ended}")
        error.__cause__ = cause
        return error

    def abandon(self, error: BaseException) -> None:
        """Answers every open task with an error."""
        for job, index in self._crew.abandon():
            job._answer(index, False, error)
        self._crew.ring()

    def is_broken(self) -> bool:
        """Whether workers die before they take a task, again and again."""
        return self._early_deaths > 2 * self._count + 2

    def cancel(self, job: _engine.Job) -> bool:
        """Has the tasks of a job given up that workers have; whether any has one."""
        job._note_unwanted()
        any_has = False
        with self._turn:
            for row, process in list(self._rows.items()):
                tag = self._crew.holding(job, row)
                if tag is not None:
                    self._tending.cancel(row, process, tag)
                    any_has = True
        return any_has

    def join(self) -> None:
        """Waits until all workers have ended, if they are this process's."""
        if not self._crew.is_ours:
            return
        for process in self.processes:
            while process.exitcode is None:
                process.join(_LOOK_AGAIN)
                _engine.run_alone(self._turn, self._report_stopped, False)

    def _report_stopped(self) -> None:
        self._tending.report_stopped(self._rows, are_to_end=True)

    def terminate(self, *, wait: bool = True) -> bool:
        """Ends all workers now. Without `wait`, only if no thread is looking after them.

        The keeper must not wait for that one: it may be about to fork, and wait for the keeper.
        """
        if self._has_turn():
            # The pool was collected as garbage by the very thread that is looking after them.
            self._is_forgotten = True
            return True
        return _engine.run_alone(self._turn, self._terminate_now, wait)[0]

    def _terminate_now(self) -> None:
        processes = self.processes
        for process in processes:
            process.terminate()
        end = time.monotonic() + _PATIENCE
        for process in processes:
            # A context may have processes of its own kind, which can do less.
            sentinel = getattr(process, "sentinel", None)
            left = max(end - time.monotonic(), 0.0)
            if sentinel is not None and not wait_for([sentinel], left):
                process.kill()
            process.join()
        self._is_over = True
        self._rows.clear()
        self._ids.clear()
        self._leaving.clear()
        self._deaths.last_words.close()
        self._is_forgotten = False
