"""Process ids that are used again: a name in the registry is never two processes'."""

import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.beyond_stdlib

# Runs as the first process of a PID namespace of its own, where it may choose the next id.
SCRIPT = """
import os, signal, subprocess, time, warnings
import manycore

def start_time(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])

def with_pid(wanted, make):
    "Makes processes until one has this id and another start time than the dead one had."
    while True:
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(wanted - 1))
        made = make()
        pid = getattr(made, "pid", made)
        if pid == wanted and start_time(pid) != died_at:
            return made
        os.kill(pid, signal.SIGKILL)
        made.wait() if hasattr(made, "wait") else os.waitpid(made, 0)

def fork(body):
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(1)
    return pid

lock, queue, said = manycore.Lock(), manycore.Queue(), manycore.Queue()

def hold():
    lock.acquire()
    said.put(os.getpid())
    signal.pause()

def die_holding():
    global died_at
    pid = fork(hold)
    assert said.get() == pid
    died_at = start_time(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return pid

def take(dead, *how):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert lock.acquire(*how)
    lock.release()
    assert [w.category for w in caught] == [manycore.LockOwnerDied], caught
    assert str(dead) in str(caught[0].message)

# The number goes to a stranger, who lives on while the lock is wanted.
dead = die_holding()
stranger = with_pid(dead, lambda: subprocess.Popen(["sleep", "1000"]))
take(dead)
stranger.kill()
stranger.wait()

# It goes to a member of the family, who must not be taken for the dead one, nor inherit its lock.
def work():
    queue.get()  # only the one that is meant goes on
    take(dead, False)  # as anybody's who comes upon a dead one's lock: with a warning
    said.put("taken over")
    queue.put("member " + queue.get())
    said.put(os.getpid())
    signal.pause()

dead = die_holding()
member = with_pid(dead, lambda: fork(work))
queue.put("begin")
assert said.get() == "taken over"
queue.put("works")
assert said.get() == member
assert queue.get() == "member works"
manycore._engine.reap()
with lock:
    pass
os.kill(member, signal.SIGKILL)
os.waitpid(member, 0)
print("done")
"""


@pytest.mark.parametrize("denied", ["", "pidfd"], ids=["kernel", "without pidfds"])
def test_a_number_that_is_used_again_is_another_process(tmp_path, monkeypatch, denied):
    monkeypatch.setenv("MANYCORE_DENY", denied)
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no unshare(1) to make a PID namespace with")
    namespace = [unshare, "--pid", "--fork", "--kill-child", "--mount-proc"]
    may_choose = "open('/proc/sys/kernel/ns_last_pid', 'w').write('100')"
    probe = subprocess.run([*namespace, sys.executable, "-c", may_choose], capture_output=True)
    if probe.returncode:
        pytest.skip(f"may not choose process ids here: {probe.stderr.decode().strip()}")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [*namespace, sys.executable, str(script)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
