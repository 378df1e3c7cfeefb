"""Large buffers arrive as private views of their blocks; a block is back whoever ends."""

import gc
import itertools
import os
import signal
import threading

import pytest

import manycore
import receivers
from processes import forked, kill_and_confirm, running

np = pytest.importorskip("numpy")
pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.engine]

SIZE = 5 << 20
BLOCK = 4 << 20  # what is shorter is copied


def used():
    """Blocks in use; objects that nobody holds are freed first."""
    gc.collect()
    manycore._engine.reap()
    return manycore._engine.heap_usage()[0]


@pytest.fixture
def queue():
    queue = manycore.Queue()
    before = used()
    yield queue
    assert used() == before
    queue.close()


def filled(number, size=SIZE):
    return np.full(size, number, dtype=np.uint8)


def through(queue, number, size=SIZE):
    queue.put(filled(number, size))
    return queue.get()


def is_view(array):
    """Whether an array's memory is a view of a block."""
    return type(array.base) is manycore._engine.PrivateView


def reuse_the_heap(queue):
    """Other messages come and go, in whatever blocks are free."""
    for number in range(100, 106):
        assert (through(queue, number) == number).all()


def test_what_is_large_is_viewed_and_what_is_not_is_copied(queue):
    before = used()
    copied, viewed = through(queue, 1, BLOCK - 1), through(queue, 2, BLOCK)
    assert (is_view(copied), is_view(viewed), used() - before) == (False, True, 1)
    del viewed
    assert used() == before


def test_bytes_and_bytearrays_are_copied_whatever_their_size(queue):
    before = used()
    for sent in (bytes(SIZE), bytearray(SIZE), [bytes(SIZE), bytearray(SIZE)]):
        queue.put(sent)
        assert queue.get() == sent
        assert used() == before


def test_a_part_of_a_view_keeps_its_block(queue):
    before = used()
    part = through(queue, 7)[-10:]
    reuse_the_heap(queue)
    assert list(part) == [7] * 10
    assert used() == before + 1


def test_a_view_may_be_collected_in_any_thread(queue):
    kept = [through(queue, number) for number in range(4)]
    before = used()

    def drop():
        kept.pop()
        gc.collect()

    for left in reversed(range(4)):
        thread = threading.Thread(target=drop)
        thread.start()
        thread.join()
        assert used() == before - 4 + left
    reuse_the_heap(queue)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_what_a_process_keeps_to_its_end_is_free_afterwards(queue, method):
    ctx, said = manycore.get_context(method), manycore.Queue()
    before = used()
    queue.put(filled(3))
    with running(ctx, receivers.keep_to_the_end, queue, said) as process:
        assert said.get() == 3
    assert process.exitcode == 0
    assert used() == before


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_what_a_killed_process_has_kept_is_free_afterwards(queue, method):
    ctx, said = manycore.get_context(method), manycore.Queue()
    before = used()
    queue.put(filled(3))
    with running(ctx, receivers.keep_until_told, queue, said, manycore.Queue()) as process:
        assert said.get() == 3
        assert used() == before + 2  # and the queue that nobody else has
        kill_and_confirm(process.pid)
    assert used() == before
    reuse_the_heap(queue)


@pytest.mark.parametrize(
    "place",
    [
        "object.taken",
        "object.making",
        "memory.named",
        "block.binding",
        "memory.bound",
        "object.held",
        "object.released",
        "object.buried",
        "object.condemned",
    ],
)
def test_a_receiver_killed_while_it_keeps_or_drops_a_block_leaves_nothing(
    queue, monkeypatch, place
):
    queue.put(filled(1))
    queue.put(filled(2))
    monkeypatch.setenv("MANYCORE_FAULT", place)
    spawn = manycore.get_context("spawn")
    with running(spawn, receivers.keep_and_drop, queue) as process:
        pass
    assert process.exitcode == -signal.SIGKILL
    assert (queue.get() == 2).all()
    assert queue.empty()
    reuse_the_heap(queue)


def test_parent_and_child_do_not_see_what_the_other_one_writes(queue):
    received, to_child, to_parent = through(queue, 1), manycore.Queue(), manycore.Queue()
    received[:10] = 2  # a page of its own already

    def in_the_child():
        assert list(received[8:12]) == [2, 2, 1, 1]
        received[9:11] = 3
        to_parent.put("written")
        assert to_child.get() == "written, too"
        assert list(received[8:12]) == [2, 3, 3, 1]
        assert (received[-10:] == 1).all()

    with forked(in_the_child):
        assert to_parent.get() == "written"
        assert list(received[8:12]) == [2, 2, 1, 1]
        received[:] = 4
        to_child.put("written, too")
    assert (received == 4).all()


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_child_reads_on_when_the_parent_has_collected_and_the_heap_is_in_use(queue, is_killed):
    received, to_child, to_parent = [through(queue, 1)], manycore.Queue(), manycore.Queue()
    before = used()

    def in_the_child():
        for _ in range(3):
            assert to_child.get() == "look"
            assert (received[0] == 1).all()
            to_parent.put("right")
        if is_killed:
            os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            in_the_child()
            status = 0
        finally:
            os._exit(status)
    received.clear()
    for _ in range(3):
        reuse_the_heap(queue)
        to_child.put("look")
        assert to_parent.get() == "right"
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if is_killed else 0)
    assert used() == before - 1


def test_the_parent_reads_on_when_the_child_has_collected(queue):
    received = [through(queue, 1)]
    before = used()

    def in_the_child():
        received.clear()
        reuse_the_heap(queue)
        assert used() == before

    with forked(in_the_child):
        pass
    reuse_the_heap(queue)
    assert (received[0] == 1).all()
    assert used() == before


def test_threads_that_receive_while_others_fork_keep_what_is_theirs(queue):
    ends = threading.Event()
    failures = []

    def receive():
        own = manycore.Queue()
        for number in itertools.cycle(range(1, 100)):
            if ends.is_set():
                return
            received = through(own, number)
            if not (received == number).all():
                failures.append(number)

    threads = [threading.Thread(target=receive) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
    finally:
        ends.set()
        for thread in threads:
            thread.join()
    assert not failures


CLOSED = """
import gc, os
import numpy as np
import manycore

queue = manycore.Queue()
for number in range(6):
    queue.put(np.full(5 << 20, number, dtype=np.uint8))  # as much as the heap has to grow
while not queue.empty():
    queue.get()
gc.collect()
blocks = manycore._engine.heap_usage()[0]
(heap,) = manycore._engine.permanent_fds()
os.close(heap)
for number in range(3):
    queue.put(np.full(5 << 20, number, dtype=np.uint8))
    received = queue.get()
    assert (received == number).all() and received.flags.writeable
    assert type(received.base) is bytearray, type(received.base)
    assert manycore._engine.heap_usage()[0] == blocks
print("copied")
"""


def test_without_the_heap_s_descriptor_it_is_a_copy(run_script):
    done = run_script(CLOSED)
    assert (done.stdout, done.returncode) == ("copied\n", 0), done.stderr


LIMITED = """
import numpy as np
import manycore

queue, kept = manycore.Queue(), []
for number in range(40):
    queue.put(np.full(5 << 20, number, dtype=np.uint8))
    kept.append(queue.get())
assert all((array == number).all() for number, array in enumerate(kept))
viewed = [array for array in kept if type(array.base) is not bytearray]
print(len(viewed) > 0, len(viewed) < 20)
"""


def test_who_keeps_what_it_receives_does_not_fill_a_heap_with_a_limit(run_script, monkeypatch):
    monkeypatch.setenv("MANYCORE_HEAP_LIMIT", "64M")
    done = run_script(LIMITED)
    assert (done.stdout, done.returncode) == ("True True\n", 0), done.stderr


MANY = """
import ctypes, mmap
import numpy as np
import manycore

queue, kept = manycore.Queue(), []

def receive(number):
    queue.put(np.full(5 << 20, number, dtype=np.uint8))
    kept.append(queue.get())
    return type(kept[-1].base) is manycore._engine.PrivateView

assert receive(0)
# Neighbours of different protection are mappings of their own; until there is room for one or none.
most = int(open("/proc/sys/vm/max_map_count").read())
area = mmap.mmap(-1, most * mmap.PAGESIZE)
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
protect = ctypes.CDLL(None).mprotect
for page in range(0, most, 2):
    if protect(ctypes.c_void_p(start + page * mmap.PAGESIZE), mmap.PAGESIZE, 1):
        break
try:
    views = [receive(number) for number in range(1, 4)]
    print(views[-1])
except MemoryError:
    print(False)  # the copy has found no room either
queue.put("goes on")
while not isinstance(queue.get(), str):
    pass
assert all(array.min() == array.max() == number for number, array in enumerate(kept))
"""


@pytest.mark.slow
def test_without_room_for_a_mapping_it_is_a_copy_or_an_error(run_script):
    done = run_script(MANY)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
