"""The examples that need other people's packages, or programs."""

import importlib.util
import os
import re
import shutil
import signal
from pathlib import Path

import databases
import pytest

pytestmark = pytest.mark.beyond_stdlib

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(run_script):
    return lambda name, *words: run_script((EXAMPLES / name).read_text(), *map(str, words))


def test_a_model_is_applied_to_a_table(run):
    done = run("score_table.py", 12000)
    assert (done.returncode, done.stderr) == (0, "")
    points, _, right = done.stdout.partition(" points, ")
    assert points == "12000"
    assert int(right.partition("%")[0]) > 95


# ---- pages ------------------------------------------------------------------------------------

needs_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None, reason="Tesseract is not installed; no page was read"
)


@needs_tesseract
@pytest.mark.slow
def test_each_page_of_a_book_is_read(run):
    done = run("read_pages.py")
    assert (done.returncode, done.stderr) == (0, "")
    pages = done.stdout.split("== ")[1:]
    assert [page.partition("\n")[0] for page in pages] == [f"page-{n:03}.png" for n in range(1, 9)]
    for number, page in enumerate(pages, 1):
        words = set(re.findall(r"\w+", page))
        assert {"Page", str(number), "burning", "forests", "immortal", "symmetry"} <= words


@needs_tesseract
@pytest.mark.slow
def test_a_page_that_is_no_picture_is_told_and_the_others_are_read(run, tmp_path):
    example = _load("read_pages")
    page = example.draw(tmp_path, 7)
    (tmp_path / "none.png").write_text("no picture")
    done = run("read_pages.py", tmp_path / "none.png", page)
    assert done.returncode == 1
    assert done.stdout.startswith("== page-007.png\nPage 7\n")
    assert done.stderr.startswith(f"{tmp_path / 'none.png'}: cannot identify image file")


# ---- a database -------------------------------------------------------------------------------


@pytest.fixture
def server():
    """A PostgreSQL server of the test's own, as psycopg names it."""
    if databases.programs() is None:
        pytest.skip("PostgreSQL's server is not installed; nothing was written to one")
    with databases.postgres() as server:
        yield server


@pytest.fixture
def texts(tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(f"Tyger, tyger! number{number}")
    return sorted(map(str, tmp_path.glob("*.txt")))


def expected(texts):
    return sorted(
        row for text in texts for row in ((text, "tyger", 2), (text, f"number{Path(text).stem}", 1))
    )


@pytest.mark.slow
def test_words_are_counted_into_a_server(run, server, texts):
    for _ in range(2):  # the second time in place of the first
        done = run("words_to_postgres.py", server, *texts)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "".join(f"{text}: 2 words\n" for text in texts)
        assert databases.rows(server, "SELECT * FROM words") == expected(texts)


@pytest.mark.slow
def test_a_text_that_is_not_there_is_told_and_the_others_are_counted(run, server, texts):
    done = run("words_to_postgres.py", server, *texts[:3], "missing", *texts[3:])
    assert done.returncode == 1
    assert "No such file or directory: 'missing'" in done.stderr
    assert "read, at item 3" in done.stderr
    assert databases.rows(server, "SELECT * FROM words") == expected(texts)


@pytest.mark.slow
def test_a_writer_that_is_killed_within_a_transaction_leaves_each_text_written_once(
    server, texts, tmp_path, monkeypatch, capsys
):
    example = _load("words_to_postgres")
    whole, killed = example.write, tmp_path / "killed"

    def write(counts, connection):
        with connection.transaction():
            written = whole(counts, connection)
            if counts[0] == texts[5] and not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return written

    monkeypatch.setattr(example, "write", write)
    assert not example.main(server, *texts)
    assert killed.exists()
    assert capsys.readouterr().out.splitlines() == [f"{text}: 2 words" for text in texts]
    assert databases.rows(server, "SELECT * FROM words") == expected(texts)


def _load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
