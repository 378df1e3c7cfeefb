"""`python -m manycore doctor` says what a program is doing, and does nothing to it."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

import manycore
from manycore import doctor

HUNG = """
    import os, sys, threading
    import manycore

    def want(lock, ready):
        ready.put(os.getpid())
        with lock:
            pass

    def take(queue, ready):
        ready.put(os.getpid())
        queue.get()

    ctx = manycore.get_context("fork")
    ready, lock, queue, full = ctx.Queue(), ctx.RLock(), ctx.Queue(), ctx.Queue(maxsize=1)
    full.put(None)
    lock.acquire()
    lock.acquire()
    waits = [(want, lock), (take, queue)]
    others = [ctx.Process(target=target, args=(thing, ready)) for target, thing in waits]
    for other in others:
        other.start()
    threading.Thread(target=full.put, args=(None,)).start()
    things = [thing.handle[1] for thing in (lock, queue, full)]
    print(os.getpid(), ready.get(), ready.get(), *things, flush=True)
    sys.stdin.readline()
    full.get()
    lock.release()
    lock.release()
    queue.put(None)
    for other in others:
        other.join()
    print("went on", flush=True)
"""

QUIET = """
    import os, sys
    import manycore

    child = manycore.get_context("fork").Process()
    child.start()
    child.join()
    queue = manycore.Queue()
    queue.put(1)
    print(os.getpid(), queue.stats(), flush=True)
    sys.stdin.readline()
    print(queue.stats())
"""


def ask(pid):
    return subprocess.run(
        [sys.executable, "-m", "manycore", "doctor", str(pid)], capture_output=True, text=True
    )


def wait_for(pid, *patterns):
    """What the doctor says once it says all of this."""
    while True:
        text = doctor.report(pid)
        if all(re.search(pattern, text) for pattern in patterns):
            return text
        time.sleep(0.01)  # the watchdog ends it


def may_see_threads():
    try:
        with open("/proc/self/syscall") as file:
            return bool(file.read())
    except OSError:
        return False


def test_of_a_program_that_hangs_it_says_why_and_the_program_goes_on(run_script):
    with run_script.start(HUNG) as script:
        pid, _, _, lock, queue, full = map(int, script.stdout.readline().split())
        held = rf"lock {lock}\.\d+  held by {pid}, thread {pid}, 2 times, waited for, "
        held += r"held for at least \d+\.\d s;"
        waits = [rf"waits for lock {lock}\.", rf"waits for an item of queue {queue}\."]
        waits.append(rf"waits for room in queue {full}\.")
        wait_for(pid, held, *(waits if may_see_threads() else ()))
        done = ask(pid)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(held, done.stdout)
        assert re.search(rf"queue {full}\.\d+  1 items of 1 at most \(1 put, 0 got", done.stdout)
        output, errors = script.communicate("\n")
        assert (output, errors, script.returncode) == ("went on\n", "", 0)


def test_any_process_of_the_program_will_do_also_one_that_is_stopped(run_script):
    with run_script.start(HUNG) as script:
        pid, one, other, *_ = map(int, script.stdout.readline().split())
        os.kill(one, signal.SIGSTOP)
        try:
            text = wait_for(other, rf"{one}  is stopped")
            assert re.search(rf"{pid}  runs: .*script\.py", text)
        finally:
            os.kill(one, signal.SIGCONT)
        script.communicate("\n")


def test_who_was_killed_is_named_until_somebody_notices(run_script):
    with run_script.start(HUNG) as script:
        pid, one, *_ = map(int, script.stdout.readline().split())
        os.kill(one, signal.SIGKILL)
        wait_for(pid, rf"{one}  (was killed|has ended|is gone)")
        script.communicate("\n")


def test_looking_changes_nothing(run_script):
    # In a family of its own: in that of the tests, what earlier ones left is put in order any time.
    with run_script.start(QUIET) as script:
        pid, before = script.stdout.readline().split(maxsplit=1)
        reports = [doctor.report(int(pid)) for _ in range(20)]
        texts = {re.sub(r"\d+(\.\d)? [KM]?i?B", "", report) for report in reports}
        after, _ = script.communicate("\n")
    assert len(texts) == 1
    assert after == before


def test_a_process_without_a_family_is_named():
    program = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()  # it has become that program
        with pytest.raises(ProcessLookupError, match=rf"{other.pid}.*not used manycore"):
            doctor.report(other.pid)
        done = ask(other.pid)
        assert done.returncode == 1
        assert str(other.pid) in done.stderr
        other.communicate(b"\n")
    with pytest.raises(ProcessLookupError, match="no such process"):
        doctor.report(other.pid)


@pytest.mark.parametrize("pid", [0, 2**31, 2**40, 10**30])
def test_a_number_that_no_process_has_is_one_line_of_an_error(pid):
    with pytest.raises(ProcessLookupError, match=rf"{pid}.*no such process"):
        doctor.report(pid)
    done = ask(pid)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"manycore: process {pid} cannot" in done.stderr


SCRIBBLED = """
    import os, sys
    from manycore import Lock, _engine
    lock = Lock()
    heap = _engine.heap_fd()
    os.pwrite(heap, b"\\xff" * 1024, 4096 + (1 << 20))  # the first object
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


def test_memory_that_was_scribbled_on_is_one_line_of_an_error(run_script):
    with run_script.start(SCRIBBLED) as script:
        pid = int(script.stdout.readline())
        done = ask(pid)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "manycore: shared memory is corrupted" in done.stderr
        with pytest.raises(manycore.Corrupted):
            doctor.report(pid)
        script.kill()


def test_the_command_says_how_it_is_used():
    done = subprocess.run(
        [sys.executable, "-m", "manycore", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "doctor" in done.stdout
    assert subprocess.run([sys.executable, "-m", "manycore"], capture_output=True).returncode == 2
