"""Functions and classes that a child cannot look up by name travel as what they are made of.

Those are lambdas, closures, and all that is defined in a main module which children do not import.
The child puts what the main module defined into its own main module: so functions there share
their globals, and what a child sends back is found by name.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from types import BuiltinFunctionType, FunctionType, ModuleType

from manycore._main_module import MAIN_NAMES, behind_guard, is_importable
from manycore._remade import is_definition, parts_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LARGEST_OFFER = 1 << 20
"""Bytes of a function or class that a child gets in case it will be needed."""


class ByValue:
    """An object that is pickled together with the functions and classes that it refers to.

    Args:
        is_known: Says of one of the main module whether its receivers find it by its name.
    """

    def __init__(self, obj: object, is_known: Callable[[object], bool] | None = None) -> None:
        self._pickled = _dumps(obj, is_known)

    def __reduce__(self) -> tuple[Callable[[bytes], object], tuple[bytes]]:
        return _loads, (self._pickled,)


def what_children_know(method: str) -> Callable[[object], bool]:
    """Says of a function whether children that are started from now on find it by its name.

    Those that are forked find what there is by now, and as it is now; others what they import.
    """
    if method != "fork":
        return lambda function: is_importable() or not _may_be_of_main(function)
    main = sys.modules["__main__"]
    there = {name: it for name, it in vars(main).items() if is_definition(it)}

    def is_known(function: object) -> bool:
        if not _is_of_main(function):
            return True
        name = getattr(function, "__qualname__", "").partition(".")[0]
        return there.get(name) is vars(main).get(name)

    return is_known


def _is_of_main(function: object) -> bool:
    return getattr(function, "__module__", None) in MAIN_NAMES


def _may_be_of_main(function: object) -> bool:
    """Whether it is, or is anything but a function, which may refer to one that is."""
    return not isinstance(function, FunctionType | BuiltinFunctionType) or _is_of_main(function)


def definitions() -> dict[str, bytes]:
    """What a main module defines that children do not import: they may get instances, say."""
    found = {}
    missing = behind_guard() if is_importable() else None
    for name, value in list(vars(sys.modules["__main__"]).items()):
        if missing is not None and name not in missing:
            continue
        if is_definition(value) and _is_of_main(value):
            try:
                pickled = _dumps(value)
            except Exception:  # it refers to what cannot be pickled
                continue
            if len(pickled) <= _LARGEST_OFFER:
                found[name] = pickled
    return found


def offer(definitions: dict[str, bytes]) -> None:
    """Has the main module of this process find these when they are looked for."""
    if not definitions:
        return

    def find(name: str) -> Any:
        try:
            pickled = definitions.pop(name)
        except KeyError:
            if others is not None:
                return others(name)
            raise AttributeError(f"module '__main__' has no attribute {name!r}") from None
        return main.__dict__.setdefault(name, _loads(pickled))

    main: Any = sys.modules["__main__"]
    others = vars(main).get("__getattr__")
    main.__getattr__ = find


def _dumps(obj: object, is_known: Callable[[object], bool] | None = None) -> bytes:
    file = io.BytesIO()
    pickler = _pickler(file, obj, is_known)
    try:
        pickler.dump(obj)
        pickler.dump(pickler.of_main)
    except Exception as error:
        _name_cause(error, pickler.functions)
        raise
    return file.getvalue()


def _name_cause(error: Exception, functions: list[FunctionType]) -> None:
    """Notes which of the globals of functions it is that cannot be pickled, if it is one."""
    of_main = _main_globals()
    for function in functions:
        for name in function.__code__.co_names:
            if name not in of_main or is_definition(of_main[name]):
                continue
            try:
                _pickler(io.BytesIO(), None, None).dump(of_main[name])
            except Exception:
                error.add_note(
                    f"{function.__qualname__} uses the global {name!r} of the main module, which "
                    "cannot travel to another process; make it in the function, or have it in a "
                    "module that is imported"
                )
                return


def _loads(pickled: bytes) -> object:
    unpickler = pickle.Unpickler(io.BytesIO(pickled))
    obj: object = unpickler.load()
    vars(sys.modules["__main__"]).update(unpickler.load())  # the second refers to the first
    return obj


def _has_name(obj: Any) -> bool:
    """Whether others find it by its name, as far as that tells."""
    return "<locals>" not in getattr(obj, "__qualname__", "")


def _main_globals() -> dict[str, Any]:
    return vars(sys.modules["__main__"])


class _MainGlobals(dict[str, "Any"]):
    """Stands for the globals of the main module of whoever unpickles it."""

    def __reduce__(self) -> tuple[Callable[[], dict[str, Any]], tuple[()]]:
        return _main_globals, ()


def _complete(cls: type, arguments: tuple[Any, ...]) -> None:
    """Has a class be made with what cannot be set later, by what cloudpickle makes it of."""
    if not arguments or arguments[0] is not type(cls):
        return  # an enumeration
    attributes: dict[str, Any] = arguments[3]
    attributes["__qualname__"] = cls.__qualname__
    if slots := vars(cls).get("__slots__"):  # those of named tuples are none, and must not be given
        attributes["__slots__"] = slots


def _pickler(file: io.BytesIO, whole: object, is_known: Callable[[object], bool] | None) -> Any:
    import cloudpickle  # takes longer to import than all of this package

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        """Also notes what it has met of the main module's functions and classes."""

        def __init__(self) -> None:
            extra = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
            self.dispatch_table = ChainMap(extra, cloudpickle.Pickler.dispatch_table)
            super().__init__(file, pickle.HIGHEST_PROTOCOL)  # which asks for the table just once
            self.of_main: dict[str, object] = {}
            self.functions: list[FunctionType] = []
            main: ModuleType = sys.modules["__main__"]
            self.globals_ref[id(vars(main))] = _MainGlobals(__name__="__main__")

        def reducer_override(self, obj: Any) -> Any:
            if not is_definition(obj) or obj.__module__ not in MAIN_NAMES:
                return self._parts_of(obj)
            name = getattr(obj, "__qualname__", obj.__name__)
            is_there = vars(sys.modules["__main__"]).get(name) is obj
            if is_there and obj is not whole and (is_importable() or (is_known and is_known(obj))):
                return NotImplemented  # found by its name
            if is_there:
                self.of_main[name] = obj
            if isinstance(obj, FunctionType):
                self.functions.append(obj)
            return self._parts_of(obj)

        def _parts_of(self, obj: Any) -> Any:
            if is_definition(obj) and obj.__module__ not in MAIN_NAMES and _has_name(obj):
                return super().reducer_override(obj)
            parts = parts_of(obj)
            if parts is None:
                parts = super().reducer_override(obj)
                if isinstance(obj, type) and isinstance(parts, tuple):
                    _complete(obj, parts[1])
            return parts

    return Pickler()
