"""Limits of the process, and closed descriptors: all works, or the error says what to do."""

import pytest

pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture
def run(run_script):
    """Runs a script; its output."""

    def run(source):
        done = run_script(source)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


CLOSED = """
import os, sys
import manycore

queue = manycore.Queue()
queue.put("small")
(heap,) = manycore._engine.permanent_fds()
os.closerange(3, 4096)
REUSE = {reuse!r}
if REUSE:
    # The same number, but a file of the program's.
    file = os.open(sys.argv[0], os.O_RDONLY)
    os.dup2(file, heap)
    assert os.fstat(heap).st_size == (size := os.stat(sys.argv[0]).st_size)

def work(queue):
    queue.put("from the child")

assert queue.get() == "small"
process = manycore.get_context("fork").Process(target=work, args=(queue,))
process.start()
process.join()
assert (process.exitcode, queue.get()) == (0, "from the child")
try:
    manycore.get_context("spawn").Process(target=work, args=(queue,)).start()
except OSError as error:
    print("spawn:", error)
try:
    for _ in range(5):
        queue.put(bytes(10 << 20))
    for _ in range(5):
        assert len(queue.get()) == 10 << 20
except MemoryError as error:
    print("growth:", error)
queue.put("goes on")
while queue.get() != "goes on":
    pass
if REUSE:
    assert os.fstat(heap).st_size == size
    os.close(heap)
print("done")
"""


@pytest.mark.parametrize("reuse", [False, True], ids=["closed", "reused"])
@pytest.mark.parametrize("denied", ["", "populate_write"], ids=["kernel", "older kernel"])
def test_a_program_may_close_descriptors_that_are_not_its_own(run, monkeypatch, reuse, denied):
    monkeypatch.setenv("MANYCORE_DENY", denied)
    output = run(CLOSED.format(reuse=reuse))
    assert "done" in output
    # A fresh process cannot be given what is closed.
    assert "spawn: the descriptor of the shared heap was closed by this program" in output
    if denied:
        assert "growth: the shared heap cannot grow: this program has closed" in output


def test_a_daemon_that_closes_everything_goes_on_in_the_family(run):
    output = run("""
import os
import manycore

queue, lock = manycore.Queue(), manycore.Lock()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 4096)
        with lock:
            try:
                queue.put(bytes(40 << 20))
            except MemoryError as error:  # an older kernel
                queue.put(str(error))
        inner = manycore.Queue()
        queue.put(inner)
        assert inner.get() == "to the daemon"
        queue.put("ends")
    os._exit(0)
large = queue.get()
assert len(large) == 40 << 20 or "this program has closed the heap's descriptor" in large
queue.get().put("to the daemon")
assert queue.get() == "ends"
with lock:
    print("done")
assert os.wait()[1] == 0
""")
    assert output == "done\n"


def test_a_holder_that_was_killed_is_found_out_by_a_process_without_descriptors(run):
    run("""
import os, resource, signal, warnings
import manycore

lock, said = manycore.Lock(), manycore.Queue()
pid = os.fork()
if pid == 0:
    lock.acquire()
    said.put("taken")
    signal.pause()
assert said.get() == "taken"
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
os.kill(pid, signal.SIGKILL)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert lock.acquire()  # before its status is collected
assert [w.category for w in caught] == [manycore.LockOwnerDied]
lock.release()
for _ in range(5):
    said.put(bytes(10 << 20))  # the heap grows, too
for _ in range(5):
    said.get()
child = os.fork()
if child == 0:
    said.put("from the child")
    os._exit(0)
assert said.get() == "from the child"
assert os.waitpid(child, 0) == (child, 0)
assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)
try:
    manycore.get_context("fork").Process(target=print).start()
except OSError as error:
    assert "Too many open files" in str(error), error
else:
    raise AssertionError("it needs descriptors")
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
process = manycore.get_context("fork").Process(target=said.put, args=(1,))
process.start()
assert said.get() == 1
process.join()
""")


def test_the_first_use_without_descriptors_says_so_and_may_be_repeated(run):
    run("""
import resource
import manycore

limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, limit[1]))
for make in (manycore.Queue, manycore.Lock):
    try:
        make()
    except OSError as error:
        assert "Too many open files" in str(error), error
    else:
        raise AssertionError("it needs a descriptor")
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
queue = manycore.Queue()
queue.put(1)
assert queue.get() == 1
""")


def test_a_limited_address_space_is_shared_with_the_program(run):
    run("""
import resource
import manycore

limit = 2 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
queue = manycore.Queue()
own = [bytearray(64 << 20) for _ in range(16)]
for _ in range(10):
    queue.put(bytes(5 << 20))
for _ in range(10):
    assert len(queue.get()) == 5 << 20
process = manycore.get_context("fork").Process(target=queue.put, args=("child",))
process.start()
assert queue.get() == "child"
process.join()
""")


def test_address_space_that_is_limited_later_is_the_programs_concern(run):
    run("""
import resource
import manycore

queue = manycore.Queue()
with open("/proc/self/statm") as statm:
    now = int(statm.read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20),) * 2)
for _ in range(5):
    queue.put(bytes(10 << 20))
    assert len(queue.get()) == 10 << 20
process = manycore.get_context("fork").Process(target=queue.put, args=("child",))
process.start()
assert queue.get() == "child"
process.join()
""")


@pytest.mark.parametrize("ignored", [True, False])
def test_a_limit_on_file_sizes_ends_no_program(run, ignored):
    """CPython ignores SIGXFSZ, but programs that embed it need not."""
    run(f"""
import resource, signal
import manycore

if not {ignored}:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
limit = 512 << 20
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
queue = manycore.Queue()
assert sum(1 for _ in range(20) if queue.put(bytes(5 << 20)) is None) == 20
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
for _ in range(20):
    queue.put(bytes(5 << 20))
    assert len(queue.get()) == 5 << 20
""")


def test_a_file_size_limit_below_the_least_heap_says_so(run):
    run("""
import resource, signal
import manycore

signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
try:
    manycore.Queue()
except OSError as error:
    assert "File too large" in str(error), error
else:
    raise AssertionError("a heap is larger")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
manycore.Queue().put(1)
""")
