"""Workers that are killed while their tasks are withdrawn and handed out anew."""

import functools
import random
import signal

import pytest

import manycore
import targets
from calls import Tally
from manycore.executor import BrokenWorker, ProcessPoolExecutor
from processes import kill_and_confirm

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.engine]

TASKS = 400
LARGE = bytes(50_000)
"""More than fits into the ring: it lies in a block."""


@pytest.fixture
def tally(tmp_path):
    return Tally(tmp_path)


def cancel_some(futures, seed):
    """Cancels about a third, in any order, while the workers take; which."""
    numbers = random.Random(seed).sample(range(len(futures)), len(futures) // 3)
    return {number for number in numbers if futures[number].cancel()}


def assert_each_has_one_answer(futures, cancelled, ran, most_deaths):
    died = set()
    for number, future in enumerate(futures):
        if future.cancelled():
            assert number in cancelled
            continue
        error = future.exception()
        if error is None:
            assert future.result() == number
        else:
            assert isinstance(error, BrokenWorker)
            assert error.exitcode == -signal.SIGKILL
            died.add(number)
    assert len(died) <= most_deaths
    assert not ran.keys() & cancelled, "what was cancelled ran"
    assert max(ran.values()) == 1, "a task ran twice"
    assert ran.keys() | died == set(range(len(futures))) - cancelled, "a task was lost"


PLACES = [
    "ring.get.claimed",
    "ring.get.copied",
    "ring.get.committed",
    "row.taken",
    "ring.put.committed",
]


@pytest.mark.parametrize("priority", [0, 3])
@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("place", PLACES)
def test_workers_that_die_while_tasks_are_withdrawn_lose_none(
    tmp_path, tally, monkeypatch, place, count, priority
):
    once = tmp_path / "once"
    monkeypatch.setenv("MANYCORE_FAULT", f"{place}:{count}+{once}")
    with ProcessPoolExecutor(2, manycore.get_context("spawn")) as executor:
        view = executor.with_options(priority=priority)
        task = functools.partial(targets.tally_beside, tally.path)
        futures = [
            (view if number % 2 else executor).submit(task, number, LARGE)
            for number in range(TASKS)
        ]
        futures[0].exception()  # now the workers take
        cancelled = cancel_some(futures, count)
        executor.shutdown()
        assert once.exists(), "no worker died"
        assert_each_has_one_answer(futures, cancelled, tally.take(), most_deaths=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_workers_killed_at_any_instruction_lose_no_task_that_is_withdrawn(gate, tally, seed):
    with ProcessPoolExecutor(2, manycore.get_context("fork")) as executor:
        chosen = random.Random(seed).randrange(TASKS // 4)
        task = functools.partial(targets.tally_and_pass_by, tally.path, gate, chosen)
        first = [executor.submit(task, number) for number in range(TASKS // 2)]
        (victim,) = gate.arrived()
        later = [executor.submit(task, number) for number in range(TASKS // 2, TASKS)]
        rest = cancel_some(later, seed)
        kill_and_confirm(victim)
        cancelled = cancel_some(first, seed)
        cancelled |= {number + len(first) for number in rest}
        executor.shutdown()
        assert_each_has_one_answer(first + later, cancelled, tally.take(), most_deaths=1)
