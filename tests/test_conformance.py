"""What runs CPython's own tests notices each way in which a test can end."""

import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.slow]

FOLDER = Path(__file__).parent.parent / "conformance"
LIMIT = 60  # seconds until a test counts as hung that is not meant to
HANGS_AFTER = 0.5  # until one does that is

FRONT = """
import os, signal, sys, unittest
sys.path.insert(0, {folder!r})
import front

class Case(unittest.TestCase):
    def test_1_passes(self):
        pass

    def test_2_crashes(self):
        os._exit(3)

    def test_3_fails(self):
        self.fail("said by the test")

    def test_4_hangs(self):
        signal.pause()

    def test_5_has_a_part_that_fails(self):
        for part in (1, 2):
            with self.subTest(part=part):
                self.assertEqual(part, 2)

    def test_6_is_skipped(self):
        self.skipTest("not here")

    def test_7_goes_on_in_a_fork(self):
        if os.fork() == 0:
            raise KeyError("in the child")
        os.wait()

class Refused(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise OSError("cannot be set up")

    def test(self):
        pass

front._cases = lambda: dict(Case=Case, Refused=Refused)
front._main(*sys.argv[1:])
"""
ENDS = {
    "Case.test_1_passes": ("passed", ""),
    "Case.test_2_crashes": ("failed", "ended with status 3"),
    "Case.test_3_fails": ("failed", "said by the test"),
    "Case.test_4_hangs": ("failed", "noted nothing for"),
    "Case.test_5_has_a_part_that_fails": ("failed", "part=1"),
    "Case.test_6_is_skipped": ("skipped", "not here"),
    "Case.test_7_goes_on_in_a_fork": ("passed", ""),
    "Refused.test": ("failed", "cannot be set up"),
}


@pytest.fixture
def runner(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import isolated
    import listed
    import table

    front = tmp_path / "front.py"
    front.write_text(FRONT.format(folder=str(FOLDER)))
    monkeypatch.setattr(isolated, "FRONT", front)
    setting = isolated.Setting(sys.executable, "3.11", "a suite", "fork", "multiprocessing")

    def run(*entries):
        monkeypatch.setattr(listed, "read", lambda _: entries)
        outcomes = table.Table(setting, LIMIT)
        outcomes.fill(setting.tests(), 2, with_control=False)
        return outcomes

    hangs = listed.Entry("a reason", ("Case.test_4_hangs",), hangs_after=HANGS_AFTER)
    yield run, lambda *tests: (hangs, listed.Entry("a reason", tests))
    for name in ("isolated", "listed", "table"):
        del sys.modules[name]


def test_each_end_of_a_test_is_told_from_the_others(runner):
    run, listing = runner
    outcomes = run(*listing())._outcomes
    assert {name: outcome.kind for name, outcome in outcomes.items()} == {
        name: kind for name, (kind, _) in ENDS.items()
    }
    for name, (_, text) in ENDS.items():
        assert text in outcomes[name].text


def test_what_is_not_as_listed_is_an_error(runner, capsys):
    run, listing = runner
    failing = [name for name, (kind, _) in ENDS.items() if kind == "failed"]
    as_listed = run(*listing(*failing))
    assert as_listed.report()
    assert as_listed.line()[3:8] == (8, 2, 5, 1, 0)
    assert as_listed.unknown() == []

    crashes, *others = failing
    not_as_listed = run(*listing("Case.test_1*", "Case.test_8*", *others))
    assert not not_as_listed.report()
    assert not_as_listed.line()[3:8] == (8, 1, 4, 1, 2)
    said = capsys.readouterr().out
    assert "PASSES THOUGH LISTED: Case.test_1_passes" in said
    assert f"FAILED: {crashes}" in said
    assert not_as_listed.unknown() == ["Case.test_8*"]


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import page

    yield page
    for name in ("page", "listed"):
        del sys.modules[name]


def test_the_page_has_what_is_listed(page):
    text = page.PAGE.read_text()
    assert page.with_listed(text) == text


def test_what_was_run_again_replaces_its_line_in_the_page(page, tmp_path, monkeypatch):
    copy = tmp_path / "page.md"
    copy.write_text(page.PAGE.read_text())
    monkeypatch.setattr(page, "PAGE", copy)
    before = copy.read_text().splitlines()
    page.note([("3.11.99", "multiprocessing", "spawn", *range(100, 109))])
    page.note([("3.99.0", "multiprocessing", "fork", *range(200, 209))])
    after = copy.read_text().splitlines()
    again, new = (line for line in after if line not in before)
    assert again.startswith("| 3.11.99 | multiprocessing | spawn | 100 |")
    assert new.startswith("| 3.99.0 | multiprocessing | fork | 200 |")
    gone = [line for line in before if line not in after]
    assert len(gone) == 1 and gone[0].startswith("| 3.11.") and "| spawn |" in gone[0]
