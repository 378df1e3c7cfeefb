"""The tests that are expected to fail, each with its reason: `listed.toml`."""

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

_FILE = Path(__file__).with_name("listed.toml")


@dataclass(frozen=True)
class Entry:
    """Tests that fail for one reason, as listed.toml explains."""

    reason: str
    tests: tuple[str, ...]
    suite: str = "multiprocessing"
    methods: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    hangs_after: float | None = None
    sometimes: bool = False

    def is_about(self, setting):
        """Whether its tests are expected to fail under a setting."""
        return (
            self.suite == setting.suite
            and setting.method in (self.methods or (setting.method,))
            and setting.version in (self.versions or (setting.version,))
        )

    def has(self, name):
        """Whether a test is one of its."""
        return any(fnmatchcase(name, test) for test in self.tests)


def read_all():
    """Every entry."""
    with open(_FILE, "rb") as file:
        listed = tomllib.load(file)["listed"]
    return [Entry(**{key: _frozen(value) for key, value in entry.items()}) for entry in listed]


def read(setting):
    """The entries about a setting."""
    return [entry for entry in read_all() if entry.is_about(setting)]


def _frozen(value):
    return tuple(value) if isinstance(value, list) else value


def entry_of(entries, name):
    """The entry of a test that is expected to fail."""
    return next((entry for entry in entries if entry.has(name)), None)


def unknown(entries, names):
    """What is listed and is the name of no test."""
    patterns = (test for entry in entries for test in entry.tests)
    return [test for test in patterns if not any(fnmatchcase(name, test) for name in names)]
