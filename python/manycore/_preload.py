"""What a zygote imports before it forks, so that its children need not."""

from __future__ import annotations

import os
import pickle
import site
import sys
import sysconfig
import threading
from multiprocessing import process as _process
from multiprocessing import spawn as _spawn
from types import ModuleType

from manycore import _install, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ABOUT_ALL = ("sys_path", "sys_argv", "dir", "orig_dir")
"""What of a child's preparation is the same for all children, beside their main module."""

_INSTALLED = "manycore_installed"

_BELONGS_TO_A_SESSION = frozenset(
    (
        "IPython",
        "_pytest",
        "antigravity",
        "debugpy",
        "idlelib",
        "ipykernel",
        "jupyter_client",
        "jupyter_core",
        "pydev_ipython",
        "pydevd",
        "pytest",
        "rlcompleter",
        "this",
        "tkinter",
        "turtle",
        "xdist",
    )
)
"""Packages for a terminal, a debugger or a test run, and those that do something when imported."""


def settings(names: list[str] | None, is_bare: bool) -> dict[str, Any]:
    """What a new zygote is told: the state of this process, and the modules to import.

    Args:
        names: Those that the user has chosen, if any.
        is_bare: Whether a zygote that imported what seemed good ended by it: choose nothing then.
    """
    prepared = spawn.get_preparation_data("ignore")
    told = {
        key: value
        for key, value in prepared.items()
        if key in (*_ABOUT_ALL, *spawn.MAIN_MODULE, _INSTALLED)
    }
    if names is not None:
        return told | {"chosen": names, "guessed": [], "later": []}
    if is_bare:
        return told | {"chosen": [], "guessed": [], "later": []}
    guessed, later = _safe_modules()
    return told | {"chosen": ["__main__"], "guessed": guessed, "later": later}


def pack(told: dict[str, Any]) -> int:
    """A descriptor of a file with the settings."""
    fd = os.memfd_create("manycore-zygote")
    with os.fdopen(os.dup(fd), "wb") as file:
        pickle.dump(told, file)
    return fd


def unpack(fd: int) -> dict[str, Any]:
    """The settings in a file."""
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        told: dict[str, Any] = pickle.load(file)
    return told


def _safe_modules() -> tuple[list[str], list[str]]:
    """The installed modules that this process has imported, in the order in which it did.

    A user's own modules come with the main module, or when a child needs them: importing them is
    for the user's program to decide.

    Returns:
        Those that were installed, each of which may have much to load, or threads to start; and
        those of the standard library and our own: light, harmless, and many of no use to children.
    """
    installed, light = _folders("purelib", "platlib"), _folders("stdlib", "platstdlib")
    installed += tuple(
        os.path.join(folder, "") for folder in (*site.getsitepackages(), site.getusersitepackages())
    )
    guessed: list[str] = []
    later: list[str] = []
    for name, module in list(sys.modules.items()):
        package = name.partition(".")[0]
        origin = _origin(name, module)
        if package in _BELONGS_TO_A_SESSION or origin is None:
            continue
        if origin.startswith(installed):
            (later if package == "manycore" else guessed).append(name)
        elif origin == "built-in" or origin.startswith(light):
            later.append(name)
    return guessed, later


def _folders(*keys: str) -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(os.path.join(paths[key], "") for key in keys)


def _origin(name: str, module: ModuleType) -> str | None:
    """Where a module is from; None for an alias, or what was made by hand."""
    spec = getattr(module, "__spec__", None)
    return str(spec.origin) if spec is not None and spec.name == name else None


class ThreadStarted(Exception):
    """A module that the user has not chosen has started a thread: a fork wants none."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Report:
    """What a zygote tells, while it imports, of what it does: lines in a file.

    Args:
        fd: Of the file.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def begin(self, name: str) -> None:
        """Notes the module that is imported now: it may be what ends the zygote."""
        self._write(_IMPORTING, _what(name))

    def fail(self, name: str, error: BaseException) -> None:
        """Notes that a module cannot be imported."""
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        self._write(_FAILED, f"the fork server cannot import {_what(name)}: {reason}"[:1000])

    def end(self) -> None:
        """Notes that all is imported."""
        self._write(_DONE, "")
        os.close(self._fd)

    def _write(self, kind: str, text: str) -> None:
        os.write(self._fd, f"{kind}{text}\n".encode(errors="replace"))


_IMPORTING, _FAILED, _DONE = "+-."
"""How a line of a report begins."""


def read_report(fd: int) -> tuple[list[str], str | None]:
    """What could not be imported, and what is being imported now, if anything still is."""
    text = os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")
    lines = text.split("\n")[:-1]
    failed = [line[1:] for line in lines if line[:1] == _FAILED]
    if _DONE in lines:
        return failed, None
    begun = [line[1:] for line in lines if line[:1] == _IMPORTING]
    return failed, begun[-1] if begun else "what it needs itself"


def _what(name: str) -> str:
    return "the main module" if name == "__main__" else f"module {name!r}"


def import_all(told: dict[str, Any], report: Report) -> None:
    """Imports what the settings say, and reports about it.

    The settings are told whether children need a `"new_seed"` for NumPy's random numbers: unless
    the main module has set one.

    Raises:
        ThreadStarted: When a module that was not chosen has started a thread.
    """
    if told[_INSTALLED]:
        _install.install()
    _spawn.prepare({key: told[key] for key in _ABOUT_ALL if key in told})
    for name in told["guessed"]:
        report.begin(name)
        try_to_import(name)
        if threading.active_count() > 1:
            raise ThreadStarted(name)
    before = _numpy_seed()
    for name in told["chosen"]:
        report.begin(name)
        try:
            _import_chosen(name, told)
        except BaseException as error:
            report.fail(name, error)
    after = _numpy_seed()
    told["new_seed"] = after is not None and (after == before or "__main__" not in told["chosen"])


def _numpy_seed() -> tuple[bytes, int] | None:
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is None:
        return None
    _, key, position, *_ = numpy_random.get_state()
    return key.tobytes(), position


def seed_numpy() -> None:
    """Has NumPy draw other random numbers here than in every other child."""
    sys.modules["numpy.random"].seed()


def try_to_import(name: str) -> None:
    """Imports a module that is only guessed to be of use."""
    try:
        __import__(name)
    except Exception:  # it will be imported by the child that needs it, or not at all
        sys.modules.pop(name, None)


def _import_chosen(name: str, told: dict[str, Any]) -> None:
    if name == "__main__":
        _import_main(told)
    else:
        __import__(name)


def _import_main(told: dict[str, Any]) -> None:
    current = _process.current_process()
    current._inheriting = True  # type: ignore[attr-defined]  # it may start no process
    try:
        _spawn.prepare({key: told[key] for key in spawn.MAIN_MODULE if key in told})
    finally:
        del current._inheriting  # type: ignore[attr-defined]
