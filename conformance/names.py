"""Whether every public name of `multiprocessing` is there, and can be called as there.

python conformance/names.py          says what is missing or cannot be called so
python conformance/names.py --write  writes docs/names.md
python conformance/names.py --check  fails if docs/names.md is not what it would write
"""

import argparse
import importlib
import sys
import types
from collections import namedtuple
from pathlib import Path

import signatures

PAGE = Path(__file__).parent.parent / "docs" / "names.md"
MODULES = (
    "connection",
    "context",
    "dummy",
    "dummy.connection",
    "forkserver",
    "heap",
    "managers",
    "pool",
    "process",
    "queues",
    "reduction",
    "resource_sharer",
    "resource_tracker",
    "shared_memory",
    "sharedctypes",
    "spawn",
    "synchronize",
    "util",
)
ALSO_TAKEN = {
    "sharedctypes": ["reduce_ctype"],
    "context": ["_concrete_contexts"],
    "queues": ["Empty", "Full", "_sentinel"],
    "resource_tracker": ["_resource_tracker"],
    "util": ["_args_from_interpreter_flags", "_exit_function"],
}
"""Names that well-known packages take, though they are private, or come from elsewhere."""

_BY_POOLS = "only pools make its objects, and they make them otherwise"
_BY_COMMAND_LINES = "called by command lines alone, which are of the same module"
CALLED_OTHERWISE = {
    "forkserver.connect_to_new_process": "returns more than two descriptors",
    "forkserver.main": _BY_COMMAND_LINES,
    "managers.SharedMemoryManager": "names the arguments that it passes on",
    "pool.IMapIterator": _BY_POOLS,
    "pool.IMapUnorderedIterator": _BY_POOLS,
    "pool.MapResult": _BY_POOLS,
    "spawn.spawn_main": _BY_COMMAND_LINES,
}
"""What has other arguments, or another result, with the reason; nobody else calls these."""

MADE_WITH_METHODS = ("BoundedSemaphore", "Condition", "Lock", "RLock", "Semaphore")
"""Classes whose objects get some of their methods only when they are made."""

Name = namedtuple("Name", "name provider faults differences")


def names_of(module):
    """The public names of a module of the standard library's: those that it lists or defines."""
    listed = list(getattr(module, "__all__", ()))
    defined = [name for name, value in vars(module).items() if _is_own(name, value, module)]
    also = ALSO_TAKEN.get(module.__name__.partition(".")[2], ())
    return sorted({*listed, *defined, *also}, key=lambda name: (name.lower(), name))


def _is_own(name, value, module):
    if name.startswith("_") or isinstance(value, types.ModuleType):
        return False
    return getattr(value, "__module__", module.__name__) == module.__name__


def compare(part):
    """Each name of a module, "" for the package, with who provides it and what differs."""
    suffix = f".{part}" if part else ""
    theirs = importlib.import_module(f"multiprocessing{suffix}")
    ours = importlib.import_module(f"manycore{suffix}")
    return [_compared(name, theirs, ours) for name in names_of(theirs)]


def _compared(name, theirs, ours):
    original = getattr(theirs, name)
    if not hasattr(ours, name):
        return Name(name, "nobody", ["it is missing"], [])
    value = getattr(ours, name)
    if value is original or (isinstance(value, (int, str, bytes)) and value == original):
        return Name(name, "the standard library", [], [])
    faults, additions = signatures.of_values(original, value)
    if name in MADE_WITH_METHODS:
        wrong, more = signatures.of_members(*(_made(module, name) for module in (theirs, ours)))
        faults, additions = [*faults, *wrong], [*additions, *more]
    reason = CALLED_OTHERWISE.get(f"{theirs.__name__.partition('.')[2]}.{name}")
    if reason:
        faults, additions = [], [reason]
    return Name(name, "manycore", faults, list(dict.fromkeys(additions)))


def _made(module, name):
    package = sys.modules[module.__name__.partition(".")[0]]
    return getattr(package.get_context("fork"), name)()


def page():
    """The text of docs/names.md."""
    version = "{}.{}".format(*sys.version_info)
    return _PAGE.format(version=version, tables="\n".join(map(_table, ("", *MODULES))))


def _table(part):
    rows = [
        f"| `{name.name}` | {name.provider} | {_difference(name)} |\n" for name in compare(part)
    ]
    return f"## {'.'.join(filter(None, ['manycore', part]))}\n\n{_HEAD}{''.join(rows)}"


def _difference(name):
    return "; ".join([*name.faults, *name.differences]).replace("|", "\\|")


_HEAD = "| name | provided by | difference |\n|---|---|---|\n"
_PAGE = """\
# Names

Every public name of `multiprocessing` and of its modules, by Python {version}: those that a module
lists in its `__all__`, those that it defines besides, and some others that well-known packages
take. `make names` writes this page; the tests compare names and signatures on each Python that is
tested.

"The standard library" means the same object under both names. What manycore provides is called as
the standard library's is: there may only be more methods, more arguments that have defaults, and
defaults for arguments that have none there. What these do otherwise is told in
[Moving from multiprocessing](guide/moving-from-multiprocessing.md).

{tables}"""


def faults():
    """What is missing or cannot be called as the standard library's, a line for each."""
    return [
        f"{part or 'manycore'}.{name.name}: {fault}"
        for part in ("", *MODULES)
        for name in compare(part)
        for fault in name.faults
    ]


def _is_stale():
    text = PAGE.read_text()
    if f"by Python {sys.version_info[0]}.{sys.version_info[1]}:" not in text:
        print(f"SKIPPED: {PAGE.name} was written by another Python than this one")
        return False
    return text != page()


def main():
    """Does what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    parser.add_argument("--check", action="store_true", help=f"fail if docs/{PAGE.name} is stale")
    options = parser.parse_args()
    wrong = faults()
    print("".join(f"{fault}\n" for fault in wrong), end="")
    if options.write:
        PAGE.write_text(page())
    elif options.check and _is_stale():
        wrong.append(f"docs/{PAGE.name} is stale: make names")
        print(wrong[-1])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
