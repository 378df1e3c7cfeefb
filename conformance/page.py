"""The page that says what came of the suites: docs/conformance.md.

Its two tables are written here, each between two marks: the numbers of every setting that was run
in full, the last time that it was, and what is listed. All around them is written by hand.
"""

from pathlib import Path

import listed

PAGE = Path(__file__).parent.parent / "docs" / "conformance.md"
HEAD = (
    "Python",
    "suite",
    "start method",
    "tests",
    "passed",
    "listed",
    "skipped by CPython",
    "failed",
    "passed at the second try",
    "control: passed",
    "skipped",
    "failed",
)
_KEY = 3  # so many cells say what was run


def note(rows):
    """Puts the numbers of what was run into the page, over those of the same settings."""
    text = PAGE.read_text()
    known = {row[:_KEY]: row for row in _rows(_between(text, "numbers"))}
    for row in rows:
        row = tuple(map(str, row))
        same = [key for key in known if _minor(key[0]) == _minor(row[0]) and key[1:] == row[1:_KEY]]
        for key in same:
            del known[key]
        known[row[:_KEY]] = row
    PAGE.write_text(_put(text, "numbers", _table(HEAD, sorted(known.values(), key=_order))))


def note_listed():
    """Puts what is listed into the page."""
    PAGE.write_text(with_listed(PAGE.read_text()))


def with_listed(text):
    """The page's text with what is listed now."""
    head = ("tests", "where", "why")
    return _put(text, "listed", _table(head, map(_described, listed.read_all())))


def _described(entry):
    names = ", ".join(f"`{test}`" for test in entry.tests)
    where = [*entry.methods, *(f"Python {version}" for version in entry.versions)]
    where += ["now and then"] if entry.sometimes else []
    return names, ", ".join(where) or "everywhere", entry.reason


def _minor(version):
    return tuple(map(int, version.split(".")[:2]))


def _order(row):
    return (
        ("multiprocessing", "concurrent.futures", "standard executor").index(row[1]),
        _minor(row[0]),
        ("fork", "spawn", "forkserver").index(row[2]),
    )


def _marks(name):
    return f"<!-- {name}: written by conformance/page.py -->\n", f"<!-- end of {name} -->"


def _between(text, name):
    begin, end = _marks(name)
    return text.partition(begin)[2].partition(end)[0]


def _put(text, name, table):
    begin, end = _marks(name)
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{PAGE.name} has no marks for {name}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _rows(table):
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
