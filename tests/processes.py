"""What the tests ask the kernel about processes: who descends from whom, who has ended."""

import contextlib
import ctypes
import os
import select
import signal
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes every orphan among our descendants our child, so that none escapes `descendants`."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


LISTS_CHILDREN = os.path.exists("/proc/thread-self/children")  # some kernels do not


def has_pidfds() -> bool:
    """Whether there are descriptors of processes, and what the kernel says about them."""
    is_denied = {"all", "pidfd"} & set(os.environ.get("MANYCORE_DENY", "").split(","))
    with contextlib.suppress(OSError):
        fd = os.pidfd_open(os.getpid())
        is_told_of = os.path.exists(f"/proc/self/fdinfo/{fd}")
        os.close(fd)
        return is_told_of and not is_denied
    return False


def tells_exits() -> bool:
    """Whether the kernel tells of a process that others have collected how it ended: since 6.15."""
    denied = {"all", "pidfd", "pidfd_info"} & set(os.environ.get("MANYCORE_DENY", "").split(","))
    major, minor = os.uname().release.split(".")[:2]
    return not denied and (int(major), int(minor.partition("-")[0])) >= (6, 15)


def descendants(root: int | None = None) -> set[int]:
    """The ids of all processes below `root` (this one), ended but unreaped ones too."""
    found: set[int] = set()
    open_ends = [root or os.getpid()]
    if not LISTS_CHILDREN:
        return _descendants_among_all(open_ends)
    while open_ends:
        below = _children_of(open_ends.pop()) - found
        found |= below
        open_ends += below
    return found


def _children_of(pid: int) -> set[int]:
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                listed = Path(f"/proc/{pid}/task/{thread}/children").read_text()
                found.update(map(int, listed.split()))
    return found


def _descendants_among_all(open_ends: list[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        parent = _parent(int(pid))
        if parent is not None:
            children.setdefault(parent, []).append(int(pid))
    found: set[int] = set()
    while open_ends:
        below = children.get(open_ends.pop(), [])
        found.update(below)
        open_ends += below
    return found


def describe(pid: int) -> str:
    """One line about a process, for a failure message."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return f"{pid} ({_stat(pid)[0]}) {command.strip()[:200]}"
    except OSError:
        return f"{pid} (gone)"


def keepers_of_names() -> list[int]:
    """The ids of those below this process that take names of shared memory away."""
    return [pid for pid in descendants() if "_names._main" in describe(pid)]


def is_spare(pid: int) -> bool:
    """Whether a process, ended or not, was forked by a zygote ahead of requests, and unused."""
    try:
        return "(manycore-spare)" in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def spare_of(zygote: int) -> int:
    """The spare of a zygote, once it has one; the younger, should one have its order already."""
    while True:
        spares = [pid for pid in descendants(zygote) if is_spare(pid)]
        if spares:
            return max(spares, key=lambda pid: (int(_stat(pid)[19]), pid))
        os.sched_yield()


def children_of_ours() -> set[int]:
    """The ids of the direct children of this process."""
    return {pid for pid in descendants() if _parent(pid) == os.getpid()}


def kill_and_confirm(pid: int, number: int = signal.SIGKILL) -> None:
    """Sends a signal and returns when the kernel says that the process has ended."""
    with watched(pid) as ended:
        os.kill(pid, number)
        ended()


def stop_and_confirm(pid: int) -> None:
    """Stops a child of ours and returns when none of its threads runs any more."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def wait_until_asleep(pid: int) -> None:
    """Returns when a process sleeps in the kernel; only for tests that hold if it does not."""
    while (state := _stat(pid)[0]) != "S":
        assert state != "Z", "it ended instead"
        os.sched_yield()


@contextlib.contextmanager
def watched(pid: int):
    """Yields a function that waits for the end of `pid`, reaped by somebody else or not."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield lambda: None
        return
    try:
        yield lambda: select.select([pidfd], [], [])
    finally:
        os.close(pidfd)


def wait_for_end(pids) -> None:
    """Returns when each of `pids` has ended; those we adopted are reaped."""
    for pid in pids:
        with watched(pid) as ended:
            ended()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


@contextlib.contextmanager
def running(context, target, *args, **options):
    """A started process, joined at the end of the block, killed first if the block failed."""
    process = context.Process(target=target, args=args, **options)
    process.start()
    try:
        yield process
    except BaseException:
        process.kill()
        raise
    finally:
        process.join()


@contextlib.contextmanager
def forked(body):
    """A child of a plain `os.fork` that runs `body` and leaves by `os._exit`: 0, or 1 if it raised.

    At the end of the block its exit status must be 0.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    try:
        yield pid
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def _parent(pid: int) -> int | None:
    try:
        return int(_stat(pid)[1])
    except OSError:
        return None


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; the name before it may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
