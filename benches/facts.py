"""What one has to know about the machine to read the figures."""

from __future__ import annotations

import os
import platform
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path

from benches.harness import RIVALS


def cpu_model() -> str:
    """The processor's name, as the kernel tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def python_build() -> str:
    """Version and whether it was built with profile-guided optimisation, which changes ratios."""
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimised = "with" if "--enable-optimizations" in options else "without"
    return f"{platform.python_implementation()} {platform.python_version()}, {optimised} PGO"


def git(root: Path, *arguments: str) -> str:
    """What a read-only git command prints, or nothing if there is no git or no repository."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def commit(root: Path) -> str:
    """The tree's commit, marked if files differ from it."""
    revision = git(root, "rev-parse", "--short", "HEAD")
    if not revision:
        return "none"
    return revision + ("-modified" if git(root, "status", "--porcelain") else "")


def numpy_version() -> str:
    """NumPy's version, without importing it."""
    try:
        return metadata.version("numpy")
    except metadata.PackageNotFoundError:
        return "none"


def rival_versions() -> str:
    """The other packages that benches are run beside, and those that are not there."""
    found = []
    for rival in RIVALS:
        if rival.is_installed():
            found.append(f"{rival.name} {metadata.version(rival.name)}")
        else:
            found.append(
                f"SKIPPED: {rival.name} is not installed, so nothing is measured beside it"
            )
    return "; ".join(found)


def load_average() -> str:
    """The load of the last 1, 5 and 15 minutes."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def machine_facts(root: Path) -> dict[str, str]:
    """The facts, in the order in which they are printed."""
    return {
        "cpu": cpu_model(),
        "cores": f"{os.cpu_count()} ({len(os.sched_getaffinity(0))} usable)",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": python_build(),
        "numpy": numpy_version(),
        "rivals": rival_versions(),
        "commit": commit(root),
        "load before": load_average(),
    }
