"""Memory control groups for tests, of version 1 or 2, where this process may make them."""

import contextlib
import os
from pathlib import Path

import pytest


@contextlib.contextmanager
def memory_group(limit: int):
    """A group of `limit` bytes below this process's own: its `cgroup.procs`. Or skips the test."""
    parent, file = _own_group()
    if parent is None:
        pytest.skip("no memory control groups here")
    group = parent / f"manycore-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"may not make a memory control group here: {error}")
    try:
        try:
            (group / file).write_text(str(limit))
        except OSError as error:
            pytest.skip(f"may not limit a memory control group here: {error}")
        yield group / "cgroup.procs"
    finally:
        left = {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
        assert not left, f"still in the group: {left}"
        group.rmdir()


def _own_group() -> tuple[Path | None, str]:
    """The folder of this process's memory group, and the name of the file with its limit."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            root, file = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        elif controllers == "":
            root, file = Path("/sys/fs/cgroup"), "memory.max"
            if "memory" not in _words(root / path.lstrip("/") / "cgroup.subtree_control"):
                continue
        else:
            continue
        for own in (root / path.lstrip("/"), root):
            if own.is_dir():
                return own, file
    return None, ""


def _words(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text().split()
    return []
