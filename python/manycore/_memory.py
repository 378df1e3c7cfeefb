"""How much memory a process has, or had."""

from __future__ import annotations

import re
from collections.abc import Callable

_FIELD = re.compile(rb"^(\w+):\s+(\d+) kB$", re.MULTILINE)


def private_bytes(pid: int, least: int = 0) -> int | None:
    """Bytes of memory that a process has for itself, those swapped out included.

    Shared memory is not counted, and what it still shares with the process that it was forked
    from only by its part. None when there is no such process.

    Args:
        pid: The process.
        least: Below this many bytes the answer may be too high, and comes sooner.
    """
    # The kernel has the first at hand, and goes through all pages for the second.
    rough = _sum(pid, "status", b"RssAnon", b"VmSwap")
    if rough is None or rough < least:
        return rough
    exact = _sum(pid, "smaps_rollup", b"Pss_Anon", b"SwapPss")
    return rough if exact is None else exact


def peak_bytes() -> int:
    """The most memory in bytes that this process has had; 0 where the kernel does not tell."""
    return _sum("self", "status", b"VmHWM") or 0


def _sum(pid: int | str, file: str, *names: bytes) -> int | None:
    try:
        with open(f"/proc/{pid}/{file}", "rb") as lines:
            fields = dict(_FIELD.findall(lines.read()))
    except OSError:  # it has ended, or this kernel has no such file
        return None
    found = [fields[name] for name in names if name in fields]
    return sum(map(int, found)) << 10 if found else None


def killed_for_memory() -> Callable[[], str | None]:
    """Has the next question answered whether the kernel has killed for want of memory since.

    The answer is a sentence, or None when nothing says so.
    """
    before = _oom_kills()

    def evidence() -> str | None:
        nonlocal before
        now = _oom_kills()
        was, before = before, now
        if now is None or was is None or now[0] <= was[0]:
            return None
        return (
            f"{now[1]} ran out of memory meanwhile, and the kernel killed {now[0] - was[0]} there"
        )

    return evidence


def _oom_kills() -> tuple[int, str] | None:
    """How many processes the kernel has killed for want of memory, and where."""
    try:
        with open("/proc/self/cgroup", encoding="ascii") as lines:
            groups = [line.rstrip("\n").split(":", 2) for line in lines]
    except OSError:
        return None
    places = {
        "": "/sys/fs/cgroup{}/memory.events",
        "memory": "/sys/fs/cgroup/memory{}/memory.oom_control",
    }
    for _, kinds, path in groups:
        for kind, place in places.items():
            if kind in kinds.split(","):
                count = _field_of(place.format(path.rstrip("/")), "oom_kill")
                if count is not None:
                    return count, "this control group"
    count = _field_of("/proc/vmstat", "oom_kill")
    return None if count is None else (count, "this machine")


def _field_of(path: str, wanted: str) -> int | None:
    try:
        with open(path, encoding="ascii") as lines:
            for line in lines:
                name, _, value = line.partition(" ")
                if name == wanted:
                    return int(value)
    except (OSError, ValueError):
        return None
    return None
