"""Names of shared memory: gone with the last process of the program that made them."""

import os
import signal
import time

import pytest

import processes
from manycore.shared_memory import SharedMemory

pytestmark = pytest.mark.beyond_stdlib

MAKES = """
    import os, sys, time
    from manycore import get_context
    from manycore.shared_memory import SharedMemory

    def use(name):
        block = SharedMemory(name)
        block.buf[0] = 1
        print(os.getpid(), flush=True)
        sys.stdin.read()

    if __name__ == "__main__":
        os.setpgrp()
        block = SharedMemory(create=True, size=10, track=len(sys.argv) < 3)
        print(block.name, flush=True)
        child = get_context(sys.argv[1]).Process(target=use, args=(block.name,))
        child.start()
        sys.stdin.read()
"""

ENDS = """
    import os, sys
    from manycore.shared_memory import SharedMemory
    block = SharedMemory(create=True, size=10)
    print(block.name, flush=True)
    if sys.argv[1] == "kill":
        os.kill(os.getpid(), 9)
    if sys.argv[1] == "_exit":
        os._exit(0)
"""

DIES_BEFORE_IT_HAS_A_NAME = """
    import os
    from manycore.shared_memory import SharedMemory
    def link(source, target, **_):
        print(os.path.basename(target), flush=True)
        os.kill(os.getpid(), 9)
    os.link = link
    SharedMemory(create=True, size=10)
"""

LETS_ITS_KEEPER_BE_KILLED = """
    import os, sys
    from manycore.shared_memory import SharedMemory
    first = SharedMemory(create=True, size=10)
    print(first.name, flush=True)
    sys.stdin.readline()
    second = SharedMemory(create=True, size=10)
    print(second.name, flush=True)
    sys.stdin.read()
"""

OPENS = """
    import sys
    from manycore.shared_memory import SharedMemory
    block = SharedMemory(sys.argv[1])
    block.buf[0] = 5
    if sys.argv[2] == "close":
        block.close()
"""

MAKES_IN_A_CHILD = """
    import os, sys
    from manycore import Pipe, get_context
    from manycore.shared_memory import SharedMemory

    def make(names):
        block = SharedMemory(create=True, size=10)
        block.buf[0] = 7
        names.send(block.name)
        os.kill(os.getpid(), 9)

    if __name__ == "__main__":
        ours, theirs = Pipe()
        child = get_context(sys.argv[1]).Process(target=make, args=(theirs,))
        child.start()
        child.join()
        name = ours.recv()
        print(name, flush=True)
        sys.stdin.readline()
        block = SharedMemory(name)
        print(block.buf[0], flush=True)
        block.unlink()
"""


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def method(request):
    return request.param


def exists(name):
    return os.path.exists(f"/dev/shm/{name}")


def wait_until_gone(name):
    while exists(name):
        time.sleep(0.001)


def test_it_is_gone_when_all_are_killed_at_once(run_script, method):
    with run_script.start(MAKES, method) as script:
        name = script.stdout.readline().strip()
        script.stdout.readline()
        assert exists(name)
        os.killpg(script.pid, signal.SIGKILL)
        wait_until_gone(name)


def test_a_child_that_is_killed_leaves_it_to_the_others(run_script, method):
    with run_script.start(MAKES_IN_A_CHILD, method) as script:
        name = script.stdout.readline().strip()
        script.stdin.write("\n")
        script.stdin.flush()
        assert script.stdout.readline() == "7\n"
        assert script.wait() == 0
    assert not exists(name)


@pytest.mark.parametrize("way", ["exit", "_exit", "kill"])
def test_it_is_gone_when_its_only_process_has_ended(run_script, way):
    done = run_script(ENDS, way)
    assert done.stderr == ""
    wait_until_gone(done.stdout.strip())


def test_what_is_not_tracked_stays(run_script):
    with run_script.start(MAKES, "fork", "untracked") as script:
        name = script.stdout.readline().strip()
        script.stdout.readline()
        assert not processes.keepers_of_names()
        os.killpg(script.pid, signal.SIGKILL)
    block = SharedMemory(name)
    assert block.buf[0] == 1
    block.close()
    block.unlink()


@pytest.mark.parametrize("way", ["close", "exit"])
def test_the_exit_of_who_only_opened_it_takes_no_name_away(run_script, way):
    others = processes.children_of_ours()
    block = SharedMemory(create=True, size=10)
    keeper = processes.children_of_ours() - others
    done = run_script(OPENS, block.name, way)
    assert (done.returncode, done.stderr) == (0, "")
    assert processes.children_of_ours() - others == keeper
    assert exists(block.name)
    assert block.buf[0] == 5
    block.close()
    block.unlink()
    processes.wait_for_end(keeper)


def test_who_dies_before_the_memory_has_its_name_leaves_nothing(run_script):
    done = run_script(DIES_BEFORE_IT_HAS_A_NAME)
    assert done.returncode == -signal.SIGKILL
    assert not exists(done.stdout.strip())


def test_a_keeper_that_was_killed_is_started_anew(run_script):
    with run_script.start(LETS_ITS_KEEPER_BE_KILLED) as script:
        first = script.stdout.readline().strip()
        (keeper,) = processes.keepers_of_names()
        processes.kill_and_confirm(keeper)
        os.waitpid(keeper, 0)
        script.stdin.write("\n")
        script.stdin.flush()
        second = script.stdout.readline().strip()
        assert exists(first)
        assert exists(second)
        script.kill()
        wait_until_gone(first)
        wait_until_gone(second)


def test_a_name_that_leads_to_another_file_by_now_stays(run_script):
    with run_script.start(LETS_ITS_KEEPER_BE_KILLED) as script:
        name = script.stdout.readline().strip()
        os.unlink(f"/dev/shm/{name}")
        with open(f"/dev/shm/{name}", "x") as file:
            file.write("another")
        script.kill()
    with open(f"/dev/shm/{name}") as file:
        assert file.read() == "another"
    os.unlink(f"/dev/shm/{name}")
