"""The short programs in `examples`, each on something small."""

import hashlib
import re
import sqlite3
from pathlib import Path

import pytest

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(run_script):
    return lambda name, *words: run_script((EXAMPLES / name).read_text(), *map(str, words))


@pytest.fixture
def output_of(run):
    def output_of(*words):
        done = run(*words)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return output_of


def test_mandelbrot_as_letters_is_the_same_above_and_below(output_of):
    lines = output_of("mandelbrot.py", 60).splitlines()
    assert len(lines) == 24
    assert lines == lines[::-1]
    assert lines[12].count("@") > 20


def test_mandelbrot_as_a_picture_has_a_byte_for_each_point(output_of, tmp_path):
    output_of("mandelbrot.py", 100, tmp_path / "set.pgm")
    head, picture = (tmp_path / "set.pgm").read_bytes().split(b"\n", 1)
    assert head == b"P5 100 80 100"
    assert len(picture) == 8000
    assert {min(picture), max(picture)} == {0, 100}


def test_monte_carlo_comes_near(output_of):
    (pi, error, count) = re.fullmatch(
        r"pi = (\S+) ± (\S+) after (\d+) estimates\n", output_of("monte_carlo.py", 0.01)
    ).groups()
    assert abs(float(pi) - 3.1416) < 0.02
    assert float(error) <= 0.01
    assert int(count) >= 10


def test_each_file_below_a_folder_is_hashed(output_of, tmp_path):
    (tmp_path / "all" / "below").mkdir(parents=True)
    for number in range(30):
        (tmp_path / "all" / "below" / f"{number:02}").write_text(f"file {number}")
    (tmp_path / "all" / "empty").touch()
    paths = [*sorted((tmp_path / "all" / "below").iterdir()), tmp_path / "all" / "empty"]
    assert output_of("hash_folder.py", tmp_path / "all").splitlines() == [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}" for path in paths
    ]


def test_words_are_counted_into_a_database(output_of, tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(f"Tyger, tyger! number{number}")
    texts = sorted(tmp_path.glob("*.txt"))
    assert output_of("words_to_sqlite.py", tmp_path / "words.db", *texts) == ""
    with sqlite3.connect(tmp_path / "words.db") as connection:
        rows = connection.execute("SELECT text, word, number FROM words").fetchall()
    connection.close()
    assert sorted(rows) == sorted(row for text in texts for row in rows_of(str(text), text.stem))


def rows_of(text, number):
    return [(text, "tyger", 2), (text, f"number{number}", 1)]


def test_a_text_that_is_not_there_fails_the_program_and_the_others_are_counted(run, tmp_path):
    (tmp_path / "there").write_text("word")
    done = run("words_to_sqlite.py", tmp_path / "db", tmp_path / "there", tmp_path / "missing")
    assert done.returncode == 1
    assert "FileNotFoundError" in done.stderr
    with sqlite3.connect(tmp_path / "db") as connection:
        assert connection.execute("SELECT word FROM words").fetchall() == [("word",)]
    connection.close()


def test_pictures_become_small_ones_and_what_is_none_is_told(run, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for number in range(10):
        image.new("RGB", (300 + number, 200), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "none.png").write_text("no picture")
    pictures = sorted(tmp_path.glob("*.png"))
    done = run("image_batch.py", tmp_path / "small", *pictures)
    assert done.returncode == 1
    assert "cannot identify image file" in done.stderr
    assert "blur, at item 10" in done.stderr
    small = [tmp_path / "small" / f"{number}.png" for number in range(10)]
    assert done.stdout.splitlines() == [str(path) for path in small]
    for number, path in enumerate(small):
        with image.open(path) as picture:
            assert picture.size[0] == 256
            assert picture.getpixel((100, 100)) == (number, 0, 0)
