"""Giving the names `multiprocessing` and `ProcessPoolExecutor` to us, here and in children.

The standard library's modules stay as they are, with all that they know: they get another name,
`manycore._standard`, by which they find each other, also when they look only later. Under their own
names stand *faces*: modules with all names of the standard library's, where those that we replace
lead to ours. So nobody who looks something up there meets anything else, and nothing that the
standard library does by itself, as `ThreadPool` and the managers do, is disturbed. Of
`concurrent.futures` one class is replaced, which no code beside it looks for.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PACKAGE = "multiprocessing"
_MOVED = "manycore._standard"

_EXECUTORS = ("concurrent.futures", "concurrent.futures.process")
_MOVED_EXECUTOR = "manycore._standard_executor"

_REPLACED = (
    "connection",
    "context",
    "forkserver",
    "managers",
    "pool",
    "queues",
    "reduction",
    "shared_memory",
    "sharedctypes",
    "synchronize",
)
"""The modules with names that lead to ours. In all others, what is there is used by both."""

_LATE = (
    "popen_fork",
    "popen_forkserver",
    "popen_spawn_posix",
    "executor",
    "pipelines",
    "_stage_workers",
)
"""Modules of ours that come at the first need, and take the standard library's names then."""

_COMMON = ("BaseContext", "Connection")
"""Bases of what is ours and of what is theirs: by these names, one asks for either."""

_OWN_DEFAULTS = ("_concrete_contexts", "_default_context")


def is_installed() -> bool:
    """Whether the name `multiprocessing` leads to us in this process."""
    return _MOVED in sys.modules and sys.modules[_PACKAGE] is not sys.modules[_MOVED]


def install() -> None:
    """Has `multiprocessing` and `ProcessPoolExecutor` lead to us, here and in processes we start.

    Whoever imports `multiprocessing` or one of its modules afterwards gets ours, and so does who
    imports `concurrent.futures.ProcessPoolExecutor`. Call it before anything else is imported:
    modules that have names of the standard library's already keep them, and a `RuntimeWarning`
    says which modules these are. Calling it again does nothing.
    """
    if is_installed():
        return
    importlib.import_module(_MOVED)
    for name in _LATE:
        importlib.import_module(f"manycore.{name}")
    standard = {
        name.removeprefix(_MOVED): module
        for name, module in sys.modules.items()
        if name == _MOVED or name.startswith(_MOVED + ".")
    }
    executor = importlib.import_module(_MOVED_EXECUTOR).ProcessPoolExecutor
    faces = _make_faces(standard)
    hidden = _hidden(standard, faces)
    late = sorted(_who_has(hidden | {id(executor): executor}))
    for name, module in standard.items():
        _rename(module, _MOVED + name)
    for value in hidden.values():
        _lead_to_moved(value)
    sys.modules.update({_PACKAGE + name: face for name, face in faces.items()})
    _replace_executor(executor, faces[""])
    from manycore._insiders import Finder  # which imports much, for those who never install

    sys.meta_path.insert(0, Finder())
    if late:
        warnings.warn(
            f"manycore.install() was called after {', '.join(late)} had taken names from "
            "multiprocessing or concurrent.futures, which stay the standard library's there: call "
            "it before the import",
            RuntimeWarning,
            stacklevel=2,
        )


def _make_faces(standard: dict[str, Any]) -> dict[str, Any]:
    """What is to stand under each name that leads to us, by the part behind `multiprocessing`."""
    faces = {}
    for name in _REPLACED:
        theirs, ours = standard[f".{name}"], importlib.import_module(f"manycore.{name}")
        own = [known for known in ours.__all__ if known in vars(theirs) and known not in _COMMON]
        own += _OWN_DEFAULTS if name == "context" else ()
        faces[f".{name}"] = _face(theirs, {known: getattr(ours, known) for known in own})
    package = standard[""]
    manycore = sys.modules["manycore"]
    default = faces[".context"]._default_context
    own_names = {
        known: getattr(manycore if known in vars(manycore) else default, known)
        for known in package.__all__
    }
    modules = {name[1:]: face for name, face in faces.items()}
    return {"": _face(package, own_names | modules), **faces}


def _face(theirs: types.ModuleType, ours: dict[str, Any]) -> types.ModuleType:
    face = types.ModuleType(theirs.__name__)
    vars(face).update(vars(theirs) | ours)
    return face


def _hidden(standard: dict[str, Any], faces: dict[str, Any]) -> dict[int, Any]:
    """What of the standard library's is not found under its name any more, by identity."""
    hidden = {}
    for name, face in faces.items():
        hidden[id(standard[name])] = standard[name]
        for known, value in vars(standard[name]).items():
            if vars(face)[known] is not value:
                hidden[id(value)] = value
    contexts = standard[".context"]._concrete_contexts.values()
    return hidden | {id(context): context for context in contexts}


def _who_has(hidden: dict[int, Any]) -> Iterator[str]:
    """The names of modules, not of the standard library or ours, that have something of it."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in (*sys.stdlib_module_names, "manycore"):
            continue
        if any(id(value) in hidden for value in list(getattr(module, "__dict__", {}).values())):
            yield name


def _rename(module: types.ModuleType, name: str) -> None:
    """Has a module's imports of what is beside it be of what has moved, too."""
    known = module.__spec__
    assert known is not None
    spec = ModuleSpec(name, known.loader, origin=known.origin)
    spec.submodule_search_locations = known.submodule_search_locations
    spec.has_location = known.has_location
    module.__spec__, module.__package__ = spec, spec.parent


def _lead_to_moved(value: Any) -> None:
    """Has a class or function of the standard library's be pickled by a name that leads to it."""
    if not isinstance(value, (type, types.FunctionType)):
        return
    package, _, rest = (value.__module__ or "").partition(".")
    if package == _PACKAGE:
        value.__module__ = f"{_MOVED}.{rest}"


def _replace_executor(theirs: type, package: types.ModuleType) -> None:
    """Has the executor's name lead to ours.

    Theirs goes on to work, on our processes: it asks the package for a context. It is made of the
    standard library's queues, into which it looks, and these it has already.
    """
    vars(sys.modules[theirs.__module__]).update(mp=package, multiprocessing=package)
    theirs.__module__ = _MOVED_EXECUTOR
    ours = importlib.import_module("manycore.executor").ProcessPoolExecutor
    for name in _EXECUTORS:
        vars(sys.modules[name])["ProcessPoolExecutor"] = ours
