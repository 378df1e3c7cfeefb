"""RWLock: many read, one writes, writers come first."""

import pickle
import threading

import pytest

import manycore
import targets
from processes import running, wait_until_asleep

pytestmark = pytest.mark.beyond_stdlib


def test_many_processes_read_at_a_time(ctx, gate):
    lock = ctx.RWLock()
    readers = [ctx.Process(target=targets.read_and_stop, args=(lock, gate)) for _ in range(3)]
    for reader in readers:
        reader.start()
    gate.arrived(3)
    with lock.read():
        assert repr(lock) == "<RWLock(readers=4)>"
        assert lock.acquire_write(block=False) is False
    gate.let_go(3)
    for reader in readers:
        reader.join()
    assert lock.acquire_write() is True


def test_who_writes_is_alone(ctx, gate):
    lock = ctx.RWLock()
    with running(ctx, targets.write_and_stop, lock, gate):
        gate.arrived()
        assert repr(lock) == "<RWLock(writing)>"
        for acquire in (lock.acquire_read, lock.acquire_write):
            assert acquire(block=False) is False
            assert acquire(timeout=0.01) is False
        for release in (lock.release_read, lock.release_write):
            with pytest.raises(ValueError, match="does not hold"):
                release()
        gate.let_go()
        assert lock.acquire_read() is True
    assert repr(lock) == "<RWLock(readers=1)>"


def test_a_block_releases_at_its_end_and_at_an_exception():
    lock = manycore.RWLock()
    for access in (lock.read, lock.write):
        with access() as entered:
            assert entered is True
        with pytest.raises(KeyError), access():
            raise KeyError
    assert repr(lock) == "<RWLock(readers=0)>"


def test_who_reads_already_may_read_more_while_a_writer_waits(ctx, gate):
    lock = ctx.RWLock()
    with lock.read():
        with running(ctx, targets.write_and_stop, lock, gate) as writer:
            wait_until_asleep(writer.pid)
            with lock.read():
                pass
            lock.release_read()
            gate.arrived()
            gate.let_go()
        lock.acquire_read()


def test_a_writer_that_waits_keeps_new_readers_out(ctx, gate):
    lock = ctx.RWLock()
    with lock.read(), running(ctx, targets.write_and_stop, lock, gate):
        while targets.reads_at_once(ctx, lock):
            pass  # the writer is on its way
        lock.release_read()
        gate.arrived()
        gate.let_go()
        lock.acquire_read()


def test_a_writer_that_has_given_up_keeps_nobody_out(ctx):
    lock = ctx.RWLock()
    with lock.read():
        assert lock.acquire_write(timeout=0.01) is False
        assert targets.reads_at_once(ctx, lock) is True


def test_writers_and_readers_of_many_processes_see_whole_changes(ctx):
    lock, pair = ctx.RWLock(), ctx.Array("q", 2, lock=False)
    targets_of = [targets.write_pairs, targets.write_pairs, targets.check_pairs]
    processes = [ctx.Process(target=target, args=(lock, pair, 300)) for target in targets_of]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert list(pair) == [600, 600]


def test_threads_read_together_and_write_alone():
    lock, counter = manycore.RWLock(), manycore.Value("i", 0, lock=False)

    def add():
        for _ in range(500):
            with lock.write():
                counter.value += 1
            with lock.read():
                pass

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value == 1500


def test_a_pickled_lock_is_the_same_lock(ctx):
    lock = ctx.RWLock()
    copy = pickle.loads(pickle.dumps(lock))
    with copy.write():
        assert lock.acquire_read(block=False) is False
    queue = ctx.Queue()
    queue.put(lock)
    with queue.get().read():
        assert lock.acquire_write(block=False) is False
