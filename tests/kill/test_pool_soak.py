"""As `test_pool_kill.py`, for minutes: random workers die in random ways under every call."""

import collections
import contextlib
import functools
import os
import random
import signal
import time

import pytest

import manycore
import targets
from calls import WAYS, Tally, deaths
from journal import Journal
from processes import descendants, forked, kill_and_confirm

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.soak, pytest.mark.slow]

SECONDS = 15  # for each call
TASKS = 2000
WORKERS = 3
MORTAL = 100  # one task in so many makes its worker mortal
DEADLY = [signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV]


def spin(chance, at_most):
    until = time.perf_counter_ns() + chance.randrange(at_most * 1000)
    while time.perf_counter_ns() < until:
        pass


def kill_whoever_comes_by(gate, owner, killed):
    """Kills each worker that passes the gate, anywhere in the milliseconds after that."""
    chance, seen = random.Random(0), set()
    while True:
        (victim,) = gate.arrived()
        if victim == owner:
            return
        if victim in seen or victim not in descendants(owner):
            continue
        seen.add(victim)
        spin(chance, 3_000)
        killed.begin(killed.begun + 1)
        killed.done(victim)
        with contextlib.suppress(ProcessLookupError):  # it has just run all that it may
            if chance.randrange(2):
                os.kill(victim, signal.SIGSTOP)
                spin(chance, 5_000)
                os.kill(victim, signal.SIGCONT)
                spin(chance, 500)
            kill_and_confirm(victim, chance.choice(DEADLY))


def tally_and_be_mortal(path, gate, value):
    targets.die_quietly()
    if value % MORTAL == MORTAL // 2:
        gate.pass_by()
    return targets.tally(path, value)


@pytest.mark.parametrize("most_tasks", [None, 100])
@pytest.mark.parametrize("start", WAYS.values(), ids=WAYS)
def test_every_task_is_answered_once_and_only_those_of_the_killed_fail(
    gate, tmp_path, start, most_tasks
):
    killed, tally = Journal(1 << 16), Tally(tmp_path)
    task = functools.partial(tally_and_be_mortal, tally.path, gate)
    killer = functools.partial(kill_whoever_comes_by, gate, os.getpid(), killed)
    rounds = lost = 0
    dead = []
    pool = manycore.get_context("fork").Pool(WORKERS, maxtasksperchild=most_tasks)
    with pool, forked(killer):
        give_up = time.monotonic() + SECONDS
        while time.monotonic() < give_up:
            outcomes = start(pool, task, range(TASKS))()
            ran = tally.take()
            assert set(ran.values()) == {1}, "a task ran twice"
            if len(outcomes) > 1:
                check_each(outcomes, ran)
            rounds += 1
            lost += TASKS - len(ran)
            dead += [died.pid for died in deaths(outcomes)]
        gate.pass_by()  # ends the killer
    victims = [pid for pid, _ in killed.entries()]
    assert collections.Counter(dead) <= collections.Counter(victims), "one death, two failures"
    assert lost <= len(victims), "more tasks were lost than workers killed"
    print(f"\n{rounds} rounds of {TASKS} tasks, {len(victims)} killed, {lost} tasks lost")


def check_each(outcomes, ran):
    """Each task was answered once, with its result or with the death of its worker."""
    assert len(outcomes) == TASKS
    results = [it for it in outcomes if not isinstance(it, manycore.WorkerDied)]
    assert len(set(results)) == len(results), "a task was answered twice"
    assert set(results) <= set(ran), "a task was answered that never ran"
    assert len(deaths(outcomes)) >= TASKS - len(ran), "a task is lost and nobody died"
