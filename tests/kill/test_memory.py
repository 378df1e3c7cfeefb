"""Memory runs out: an error that names the limit, never a signal, and what was there works."""

import re

import pytest

import groups

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.engine]

# What every script begins with. `fill` puts bytes until the heap is full; how often it could.
COMMON = """
import os, sys
if len(sys.argv) > 1:
    with open(sys.argv[1], "w") as group:
        group.write(str(os.getpid()))
import manycore
ctx = manycore.get_context("fork")
MIB = 1 << 20

def fill(queue, size):
    for count in range(100_000):
        try:
            queue.put(bytes(size))
        except manycore.HeapFull as full:
            error = full
            break
    assert isinstance(error, MemoryError)
    print("full:", error, flush=True)
    return count

def drain(queue, count):
    for _ in range(count):
        assert not any(queue.get()[:10])
    assert queue.empty()

"""


@pytest.fixture
def run(run_script):
    """Runs a script after `COMMON`; its output."""

    def run(source, *args):
        done = run_script(COMMON + source, *args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def limit(monkeypatch):
    monkeypatch.setenv("MANYCORE_HEAP_LIMIT", "64M")
    return 64 << 20


FILL_A_QUEUE = """
queue = ctx.Queue()
first = fill(queue, MIB)
drain(queue, first)
for size in (MIB, 100_000, 8 * MIB, 30_000):
    count = fill(queue, size)
    if size > 32 << 10:  # else it lies in a region with others
        queue.get()
        queue.put(bytes(size))  # as much as went away
    drain(queue, count)
# In a group what the allocator of this program has kept of the large ones counts, too.
assert fill(queue, MIB) >= first - 12
print("done", first)
"""


def test_a_queue_says_that_the_heap_is_full_and_works_when_it_was_drained(run, limit):
    output = run(FILL_A_QUEUE)
    told = [int(found) for found in re.findall(r"limit of (\d+) bytes", output)]
    assert len(told) == 6
    assert all(limit * 3 // 4 <= number <= limit for number in told), output
    assert "raise MANYCORE_HEAP_LIMIT" in output
    assert int(output.split()[-1]) > 50  # of 1 MiB


def test_a_group_s_limit_is_the_heap_s(run):
    with groups.memory_group(256 << 20) as group:
        output = run(FILL_A_QUEUE, str(group))
    told = [int(found) for found in re.findall(r"limit of (\d+) bytes", output)]
    assert len(told) == 6
    assert all(number <= 256 << 20 for number in told), output


def test_nothing_else_is_made_either_and_what_is_there_goes_on(run, limit):
    run("""
queue, value, lock = ctx.Queue(), ctx.Value("i", 5), ctx.Lock()
count = fill(queue, 100_000)
refused = 0
made = []
for make in (
    lambda: ctx.Array("d", MIB),
    lambda: ctx.Array("d", MIB, lock=False),
    lambda: [ctx.Queue() for _ in range(10_000)],
    lambda: [ctx.Lock() for _ in range(200_000)],
    lambda: [ctx.Value("i") for _ in range(200_000)],
):
    try:
        made.append(make())
    except manycore.HeapFull:
        refused += 1
assert refused == 5, refused
made.clear()
with value.get_lock(), lock:
    value.value += 1
assert value.value == 6
drain(queue, count)
array = ctx.Array("d", MIB)
array[MIB - 1] = 1.5
assert array[MIB - 1] == 1.5
""")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_result_that_does_not_fit_is_an_error_of_its_task_alone(run, limit, method):
    run(f"""
def give(size):
    return bytes(size)

if __name__ == "__main__":
    with manycore.get_context({method!r}).Pool(2) as pool:
        for _ in range(3):
            results = [pool.apply_async(give, (size,)) for size in (10, 200 * MIB, 20 * MIB, 100)]
            assert len(results[0].get()) == 10
            try:
                results[1].get()
            except MemoryError as error:
                assert "limit of" in str(error), error
            else:
                raise AssertionError("it cannot fit")
            assert len(results[2].get()) == 20 * MIB
            assert len(results[3].get()) == 100
        try:
            pool.apply(len, (bytes(200 * MIB),))
        except MemoryError as error:
            assert "limit of" in str(error), error
        assert pool.map(len, [bytes(MIB)] * 20) == [MIB] * 20
""")


GROW_AT_ONCE = """
def grow(own, size, sent, go, end):
    go.get()
    sent.put(fill(own, size))
    end.get()
    while not own.empty():
        own.get()

if __name__ == "__main__":
    sent, go, end = ctx.Queue(), ctx.Queue(), ctx.Queue()
    for size in (300_000, 2 * MIB):
        queues = [ctx.Queue() for _ in range(4)]
        members = [ctx.Process(target=grow, args=(own, size, sent, go, end)) for own in queues]
        for member in members:
            member.start()
        for _ in members:
            go.put(None)
        counts = [sent.get() for _ in members]
        print("together", size * sum(counts), flush=True)
        for _ in members:
            end.put(None)
        for member in members:
            member.join()
            assert member.exitcode == 0, member.exitcode
        del queues
"""


def test_processes_that_fill_it_at_once_do_not_go_past_the_limit(run, limit):
    output = run(GROW_AT_ONCE)
    together = [int(found) for found in re.findall(r"together (\d+)", output)]
    assert len(together) == 2
    assert all(limit // 2 < number <= limit for number in together), output


def test_processes_that_fill_a_group_at_once_are_not_killed(run):
    with groups.memory_group(512 << 20) as group:  # what is kept free is enough for four programs
        output = run(GROW_AT_ONCE, str(group))
    together = [int(found) for found in re.findall(r"together (\d+)", output)]
    assert len(together) == 2
    assert all(number > 256 << 20 for number in together), output


def test_a_worker_that_takes_too_much_is_killed_and_only_its_task_fails(run):
    """By private memory, which nobody can refuse in time: the kernel meets a worker first."""
    with groups.memory_group(256 << 20) as group:
        output = run(
            """
def use(size):
    return len(bytearray(b"x") * size)

if __name__ == "__main__":
    with ctx.Pool(2) as pool:
        results = [pool.apply_async(use, (size,)) for size in (10, 600 * MIB, 10, 1000)]
        for result in results[:1] + results[2:]:
            assert result.get() in (10, 1000)
        try:
            results[1].get()
        except manycore.WorkerDied as died:
            print("died:", died, flush=True)
            assert died.evidence in str(died) and died.signal == "SIGKILL", died.details
            assert died.task == f"use({600 * MIB})" and died.peak_memory > 100 * MIB, died.details
        else:
            raise AssertionError("more than the group has")
        assert pool.map(use, [5] * 100) == [5] * 100
""",
            str(group),
        )
    assert "this control group ran out of memory meanwhile, and the kernel killed 1 there" in output
