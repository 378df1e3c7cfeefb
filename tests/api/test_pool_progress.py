"""Progress bars of maps."""

import asyncio
import sys
import threading
import types

import pytest

import manycore
import targets
from manycore import _progress

pytest.importorskip("tqdm")
pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture(params=[0, 2])
def pool(request):
    with manycore.Pool(request.param) as pool:
        yield pool


@pytest.fixture(autouse=True)
def every_bar_is_closed():
    from tqdm import tqdm

    yield
    assert not list(getattr(tqdm, "_instances", ()))


CALLS = {
    "map": lambda pool, items, **options: pool.map(targets.square, items, **options),
    "map in chunks": lambda pool, items, **options: pool.map(targets.square, items, 7, **options),
    "starmap": lambda pool, items, **options: pool.starmap(
        targets.square, [(x,) for x in items], **options
    ),
    "imap": lambda pool, items, **options: list(pool.imap(targets.square, items, **options)),
    "imap in chunks": lambda pool, items, **options: list(
        pool.imap(targets.square, items, 7, **options)
    ),
    "imap_unordered": lambda pool, items, **options: sorted(
        pool.imap_unordered(targets.square, items, **options)
    ),
    "map_async": lambda pool, items, **options: pool.map_async(
        targets.square, items, **options
    ).get(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_bar_counts_the_items_up_to_all_of_them(pool, call, capsys):
    assert call(pool, range(100), progress="squares") == [x * x for x in range(100)]
    last = capsys.readouterr().err.split("\r")[-1]
    assert "squares: 100%" in last
    assert "100/100" in last


@pytest.mark.parametrize("progress", [True, ""])
def test_without_a_label_there_is_a_bar_without_one(pool, capsys, progress):
    pool.map(targets.square, range(10), progress=progress)
    assert capsys.readouterr().err.split("\r")[-1].startswith("100%")


def test_without_a_length_there_is_a_count(pool, capsys):
    assert list(pool.imap(targets.square, iter(range(3)), progress=True)) == [0, 1, 4]
    assert "3it [" in capsys.readouterr().err


def test_nothing_is_drawn_that_was_not_asked_for(pool, capsys):
    pool.map(targets.square, range(10))
    assert capsys.readouterr().err == ""


def test_an_empty_map_has_a_bar_that_is_closed(pool, capsys):
    assert pool.map(targets.square, [], progress=True) == []
    assert list(pool.imap(targets.square, [], progress=True)) == []


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_error_closes_the_bar(pool, call, capsys):
    with pytest.raises(TypeError):
        call(pool, [1, "no number", 3], progress=True)


def test_an_interrupt_closes_the_bar(pool, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    result = pool.map_async(targets.square, range(10), progress=True)
    monkeypatch.setattr(pool._attendant, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        result.get()


def test_a_bar_of_a_call_that_is_waited_for_again_goes_on(gate, capsys):
    with manycore.Pool(1) as pool:
        result = pool.map_async(stop_and_square, [(gate, 3)], progress="slow")
        with pytest.raises(manycore.TimeoutError):
            result.get(timeout=0.01)
        gate.let_go()
        assert result.get() == [9]
    assert "slow: 100%" in capsys.readouterr().err


def test_bars_leave_no_thread_and_no_process_behind(pool):
    before = set(threading.enumerate())
    pool.map(targets.square, range(10), progress=True)
    assert set(threading.enumerate()) <= before


def test_without_tqdm_it_says_how_to_get_it(pool, monkeypatch):
    monkeypatch.setattr(_progress, "_Bar", None)
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))  # no package: no `tqdm.auto`
    monkeypatch.delitem(sys.modules, "tqdm.auto", raising=False)
    for call in CALLS.values():
        with pytest.raises(ModuleNotFoundError, match="pip install tqdm"):
            call(pool, [1], progress=True)
    assert pool.stats().open == 0


def test_a_stream_shows_what_was_fetched(capsys):
    async def fetch(pool):
        return [it async for it in pool.stream(targets.square, range(40), progress=True)]

    with manycore.Pool(2) as pool:
        assert asyncio.run(fetch(pool)) == [x * x for x in range(40)]
    assert "40/40" in capsys.readouterr().err


def test_one_call_has_no_progress(pool):
    with pytest.raises(TypeError, match="progress is for maps"):
        pool.apply(targets.square, (1,), progress=True)


def test_progress_is_a_label_or_true(pool):
    with pytest.raises(TypeError, match="progress must be True or a label"):
        pool.map(targets.square, [1], progress=3)


def stop_and_square(pair):
    gate, number = pair
    gate.stop()
    return number * number
