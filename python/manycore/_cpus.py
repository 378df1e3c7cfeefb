"""How many CPUs this process may use: by affinity, and by the quotas of its control groups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

_GROUPS = "/sys/fs/cgroup"


def available_cpus() -> int:
    """The CPUs that this process can keep busy: the default size of a pool.

    Those that it may run on, or fewer if a control group around it, of version 1 or 2, grants less
    time than that. At least one.
    """
    from pathlib import Path  # who only imports this package need not wait for that one

    allowed = _allowed()
    quota = _quota(_own_groups(), Path(_GROUPS))
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _allowed() -> int:
    count = getattr(os, "process_cpu_count", None)  # which `PYTHON_CPU_COUNT` can change
    if count is not None:
        return count() or 1
    return len(os.sched_getaffinity(0))


def _own_groups() -> str:
    try:
        with open("/proc/self/cgroup") as file:
            return file.read()
    except OSError:
        return ""


def _quota(groups: str, root: Path) -> float | None:
    """The CPUs that the tightest of all groups around this process grants."""
    quotas = [
        quota
        for hierarchy, path in _hierarchies(groups, root)
        for group in _and_those_above(hierarchy, path)
        if (quota := _granted(group)) is not None
    ]
    return min(quotas, default=None)


def _hierarchies(groups: str, root: Path) -> Iterator[tuple[Path, str]]:
    """The folders of hierarchies that limit CPUs, and this process's group in each."""
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield root, path
            yield root / "unified", path  # where both versions are in use
        elif "cpu" in controllers.split(","):
            yield root / controllers, path
            yield root / "cpu", path


def _and_those_above(hierarchy: Path, path: str) -> Iterator[Path]:
    """A group's folder and those around it; a container may see the last of them only."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield hierarchy.joinpath(*parts[:count])


def _granted(group: Path) -> float | None:
    """The CPUs that one group grants; `None` without a limit."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        granted = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # `max` is no number
        return None
    return granted if granted > 0 else None
