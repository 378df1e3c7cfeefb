"""Readers and writers that are killed."""

import warnings

import pytest

import manycore
import targets
from processes import kill_and_confirm, running, wait_until_asleep

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.engine]


def kill_in(ctx, gate, lock, access):
    with running(ctx, access, lock, gate) as process:
        gate.arrived()
        kill_and_confirm(process.pid)
    return process.pid


def test_a_killed_reader_keeps_no_writer_out_and_nobody_is_warned(ctx, gate):
    lock = ctx.RWLock()
    kill_in(ctx, gate, lock, targets.read_and_stop)
    with lock.write():
        pass


def test_after_a_killed_writer_all_are_warned_up_to_the_next_writer(ctx, gate):
    lock = ctx.RWLock()
    dead = kill_in(ctx, gate, lock, targets.write_and_stop)
    for access in (lock.read, lock.read, lock.write):
        with pytest.warns(manycore.LockOwnerDied, match=rf"\b{dead}\b.*RWLock") as given, access():
            pass
        assert given[0].message.pid == dead
    assert lock.dead_owner is None
    with lock.read(), lock.read():
        pass


def test_a_warning_that_is_an_error_leaves_the_lock_free(ctx, gate):
    lock = ctx.RWLock()
    dead = kill_in(ctx, gate, lock, targets.write_and_stop)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(manycore.LockOwnerDied), lock.read():
            pass
    assert repr(lock) == "<RWLock(readers=0)>"
    assert lock.dead_owner == dead


@pytest.mark.parametrize("access", [targets.read_and_stop, targets.write_and_stop])
@pytest.mark.parametrize("held", [targets.read_and_stop, targets.write_and_stop])
def test_who_waits_goes_on_when_all_who_are_inside_are_killed(ctx, gate, held, access):
    lock = ctx.RWLock()
    with running(ctx, held, lock, gate) as holder:
        gate.arrived()
        with running(ctx, access, lock, gate) as waiter:
            wait_until_asleep(waiter.pid)
            kill_and_confirm(holder.pid)
            assert gate.arrived() == [waiter.pid]
            gate.let_go()


def test_a_writer_that_is_killed_while_it_waits_keeps_no_reader_out(ctx, gate):
    lock = ctx.RWLock()
    with lock.read(), running(ctx, targets.write_and_stop, lock, gate) as writer:
        while targets.reads_at_once(ctx, lock):
            pass  # the writer is on its way
        with running(ctx, targets.read_and_stop, lock, gate) as reader:
            wait_until_asleep(reader.pid)
            kill_and_confirm(writer.pid)
            assert gate.arrived() == [reader.pid]
            gate.let_go()


def test_each_of_many_writers_gets_the_lock_though_each_is_killed_with_it(ctx, gate):
    lock = ctx.RWLock()
    writers = [ctx.Process(target=targets.write_and_stop, args=(lock, gate)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for _ in writers:
        (holder,) = gate.arrived()
        kill_and_confirm(holder)
    for writer in writers:
        writer.join()
    with pytest.warns(manycore.LockOwnerDied, match=rf"\b{holder}\b"), lock.write():
        pass
