"""Processes killed with tokens of a semaphore, or while they wait for one."""

import pytest

import targets
from processes import kill_and_confirm, running, wait_for_end, wait_until_asleep

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.engine]

both_kinds = pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])


def kill_with_tokens(ctx, gate, semaphore, take=targets.enter_and_stop, times=1):
    """Lets a process take tokens and kills it."""
    with running(ctx, take, semaphore, gate, times) as holder:
        gate.arrived()
        kill_and_confirm(holder.pid)


@pytest.mark.parametrize("block", [True, False])
@both_kinds
def test_what_was_taken_by_with_comes_back(ctx, gate, kind, block):
    semaphore = getattr(ctx, kind)(3)
    kill_with_tokens(ctx, gate, semaphore, times=2)
    for _ in range(3):
        assert semaphore.acquire(block) is True
    assert semaphore.acquire(timeout=0.2) is False


@both_kinds
def test_what_was_taken_by_acquire_is_a_signal_and_does_not(ctx, gate, kind):
    semaphore = getattr(ctx, kind)(1)
    kill_with_tokens(ctx, gate, semaphore, targets.take_and_stop)
    assert semaphore.acquire(timeout=0.3) is False


@pytest.mark.parametrize("block", [True, False])
@both_kinds
def test_unless_the_semaphore_returns_them(ctx, gate, kind, block):
    semaphore = getattr(ctx, kind)(2, on_owner_death="return")
    kill_with_tokens(ctx, gate, semaphore, targets.take_and_stop, times=2)
    assert semaphore.acquire(block) is True
    assert semaphore.acquire(block) is True
    assert semaphore.acquire(timeout=0.2) is False


def test_what_the_killed_had_given_back_comes_back_once(ctx, gate):
    semaphore = ctx.Semaphore(1)
    with running(ctx, targets.take_release_and_stop, semaphore, gate) as process:
        gate.arrived()
        kill_and_confirm(process.pid)
    assert semaphore.acquire() is True
    assert semaphore.acquire(timeout=0.2) is False


@pytest.mark.parametrize("take", [targets.enter_and_stop, targets.take_and_stop])
def test_a_process_that_waits_gets_what_comes_back(ctx, gate, take):
    semaphore = ctx.Semaphore(1)
    with running(ctx, targets.enter_and_stop, semaphore, gate) as holder:
        gate.arrived()
        with running(ctx, take, semaphore, gate) as waiter:
            wait_until_asleep(waiter.pid)
            kill_and_confirm(holder.pid)
            assert gate.arrived() == [waiter.pid]
            gate.let_go()


def test_each_of_many_waiters_gets_the_token_though_each_is_killed_with_it(ctx, gate):
    semaphore = ctx.Semaphore(1)
    waiters = [ctx.Process(target=targets.enter_and_stop, args=(semaphore, gate)) for _ in range(5)]
    for waiter in waiters:
        waiter.start()
    for _ in waiters:
        (holder,) = gate.arrived()
        kill_and_confirm(holder)
    for waiter in waiters:
        waiter.join()
    assert semaphore.acquire() is True


def test_a_killed_waiter_does_not_take_the_wake_up_with_it(ctx, gate):
    semaphore = ctx.Semaphore(0)
    waiters = [ctx.Process(target=targets.enter_and_stop, args=(semaphore, gate)) for _ in range(4)]
    for waiter in waiters:
        waiter.start()
    for waiter in waiters:
        wait_until_asleep(waiter.pid)
    *killed, survivor = waiters
    for waiter in killed:
        kill_and_confirm(waiter.pid)
    semaphore.release()
    assert gate.arrived() == [survivor.pid]
    gate.let_go()
    for waiter in waiters:
        waiter.join()


def test_who_is_killed_while_it_wakes_others_delays_them_only(ctx, gate, monkeypatch):
    semaphore = ctx.Semaphore(0)
    with running(ctx, targets.enter_and_stop, semaphore, gate) as waiter:
        wait_until_asleep(waiter.pid)
        monkeypatch.setenv("MANYCORE_FAULT", "tokens.given")
        spawned = ctx.get_context("spawn").Process(target=targets.release, args=(semaphore,))
        spawned.start()
        spawned.join()
        assert gate.arrived() == [waiter.pid]
        gate.let_go()


def test_a_child_that_was_forked_inside_has_nothing_of_what_its_parent_held(ctx, gate):
    semaphore = ctx.Semaphore(1)
    with running(ctx, targets.enter_with_a_sibling, ctx, semaphore, gate) as holder:
        both = set(gate.arrived(2))
        (child,) = both - {holder.pid}
        kill_and_confirm(child)
        assert semaphore.acquire(timeout=0.2) is False
        kill_and_confirm(holder.pid)
        assert semaphore.acquire() is True
    wait_for_end([child])  # ours now


def test_a_process_in_the_place_of_a_dead_one_inherits_nothing(ctx, gate):
    semaphore = ctx.Semaphore(1)
    kill_with_tokens(ctx, gate, semaphore)
    assert semaphore.acquire() is True  # it has been cleaned up after
    kill_with_tokens(ctx, gate, ctx.Semaphore(1))  # in its place
    assert semaphore.acquire(timeout=0.2) is False
