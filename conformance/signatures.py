"""How what is called differs from something of the standard library's.

What would break a caller is a fault; what is only there in addition is none.
"""

import inspect
from inspect import Parameter

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_ANY = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def of_values(theirs, ours):
    """The faults and additions of anything that a module has."""
    if inspect.isclass(theirs):
        return of_classes(theirs, ours)
    if not callable(theirs):
        return ([], []) if isinstance(ours, type(theirs)) else (["it is of another type"], [])
    return of_calls("", theirs, ours)


def of_classes(theirs, ours):
    """The faults and additions of a class: of making its objects, and of their methods."""
    if not inspect.isclass(ours):
        return ["it is no class"], []
    made = of_calls("", theirs, ours) if theirs.__init__ is not object.__init__ else ([], [])
    return _joined([made, of_members(theirs, ours)])


def of_members(theirs, ours):
    """The faults and additions of the public methods of two classes, or of two objects."""
    known, here = ({name for name in dir(it) if name[0] != "_"} for it in (theirs, ours))
    missing = [f"it has no `{name}`" for name in sorted(known - here)]
    further = [f"also has {_listed(sorted(here - known))}"] if here - known else []
    each = [_of_member(name, theirs, ours) for name in sorted(known & here)]
    return _joined([(missing, further), *each])


def _of_member(name, theirs, ours):
    original, value = getattr(theirs, name), getattr(ours, name)
    if original is value or not callable(original):
        return [], []
    return of_calls(f"`{name}` ", original, value)


def of_calls(what, theirs, ours):
    """The faults and additions of what is called."""
    known, here = _parameters(theirs), _parameters(ours)
    if known is None:
        return [], []
    if here is None:
        return [f"{what}has no signature"], []
    found = [_of_parameter(what, name, known, here) for name in known]
    for name in [name for name in here if name not in known]:
        if here[name].default is Parameter.empty and here[name].kind not in _ANY:
            found.append(([f"{what}needs `{name}`"], []))
    further = [name for name in here if name not in known and here[name].kind not in _ANY]
    further = [name for name in further if here[name].default is not Parameter.empty]
    return _joined([*found, ([], [f"{what}also takes {_listed(further)}"] if further else [])])


def _of_parameter(what, name, known, here):
    theirs, ours = known[name], here.get(name)
    if theirs.kind in _ANY:
        kinds = [parameter.kind for parameter in here.values()]
        return ([] if theirs.kind in kinds else [f"{what}does not take any `{name}`"]), []
    if ours is None:
        return [f"{what}does not take `{name}`"], []
    if not _goes_where(name, known, here):
        return [f"{what}takes `{name}` in another place"], []
    if theirs.default is Parameter.empty:
        has_default = ours.default is not Parameter.empty
        return [], [f"{what}needs no `{name}`"] if has_default else []
    if ours.default is Parameter.empty or ours.default != theirs.default:
        return [f"{what}has another default for `{name}`"], []
    return [], []


def _goes_where(name, known, here):
    """Whether an argument may be given in each way that it may be given there."""
    theirs, ours = known[name].kind, here[name].kind
    is_named = theirs is Parameter.POSITIONAL_ONLY or ours is not Parameter.POSITIONAL_ONLY
    if theirs not in _POSITIONAL:
        return is_named
    return is_named and ours in _POSITIONAL and list(known).index(name) == list(here).index(name)


def _parameters(called):
    try:
        parameters = dict(inspect.signature(called).parameters)
    except ValueError:  # of something in C that does not say
        return None
    first = next(iter(parameters), None)
    if first in ("self", "cls"):
        del parameters[first]
    return parameters


def _listed(names):
    return ", ".join(f"`{name}`" for name in names)


def _joined(found):
    return [fault for faults, _ in found for fault in faults], [
        addition for _, additions in found for addition in additions
    ]
