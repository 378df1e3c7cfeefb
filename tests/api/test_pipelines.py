"""Pipelines: what they give, in which order, how far ahead, and what becomes of errors."""

import functools
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

import demanding
import heap
import manycore
import stages
from manycore import pipeline, stage
from manycore._working import STOP_FOR_TIME
from processes import descendants

pytestmark = pytest.mark.beyond_stdlib


def partial(function, *arguments):
    return functools.partial(function, *arguments)


# ---- items ----------------------------------------------------------------------------------


def test_items_go_through_all_stages_in_order(ctx):
    many = stage(stages.double, workers=3)
    assert list(pipeline(stages.read, many, stages.double, context=ctx)) == [
        4 * number for number in range(1000)
    ]


@pytest.mark.parametrize("source", [range(100), iter(range(100)), stages.read_hundred])
def test_an_iterable_an_iterator_or_a_function_gives_the_items(source):
    assert list(pipeline(source, stages.double)) == list(range(0, 200, 2))


def test_no_items_give_no_results():
    assert list(pipeline([], stages.double, stages.double)) == []


def test_the_stages_are_processes_of_their_own_and_end_with_the_pipeline():
    pids = set(pipeline(range(50), stage(stages.who, workers=2)))
    assert 1 <= len(pids) <= 2
    assert os.getpid() not in pids
    assert not pids & descendants()


def test_a_generator_gives_any_number_for_an_item():
    expected = [pair for item in range(200) for pair in stages.repeat(item)]
    assert list(pipeline(range(200), stage(stages.repeat, workers=3), stages.identity)) == expected


def test_without_an_order_all_come(gate):
    slow = stage(partial(stages.wait_on, [0], gate), workers=2, ordered=False)
    with pipeline(range(100), slow) as results:
        first = list(itertools.islice(results, 99))
        assert first == list(range(1, 100)), "none waits for the one that is stopped"
        gate.let_go()
        assert list(results) == [0]


def test_with_an_order_all_wait_for_the_first_and_no_more_than_its_limit_are_taken(gate):
    taken = []
    source = (taken.append(number) or number for number in range(10_000))
    slow = stage(partial(stages.wait_on, [0], gate), workers=2, maxsize=10)
    with pipeline(source, slow) as results:
        thread = threading.Thread(target=gate_opener, args=(gate, taken, 10))
        thread.start()
        assert next(results) == 0
        thread.join()
        assert list(results) == list(range(1, 10_000))


def gate_opener(gate, taken, count):
    gate.arrived()
    while len(taken) < count:
        os.sched_yield()
    assert len(taken) == count
    gate.let_go()


def test_run_counts_the_results():
    assert pipeline(range(1000), stage(stages.double, workers=2)).run() == 1000


def test_run_counts_those_that_were_not_fetched():
    results = pipeline(range(1000), stages.double)
    assert list(itertools.islice(results, 10)) == list(range(0, 20, 2))
    assert results.run() == 990


def test_a_pipeline_gives_its_results_once():
    results = pipeline(range(3), stages.double)
    assert list(results) == [0, 2, 4]
    assert list(results) == []
    assert results.run() == 0


def test_the_last_stage_may_run_in_the_caller():
    pids = []
    last = stage(lambda item: pids.append(os.getpid()) or item + 1, in_caller=True)
    assert list(pipeline(range(100), stages.double, last)) == list(range(1, 200, 2))
    assert set(pids) == {os.getpid()}
    assert pipeline(range(100), stages.double, last).run() == 100


def test_lambdas_and_closures_are_stages(ctx):
    more = 5
    results = pipeline(lambda: range(10), lambda item: item + more, context=ctx)
    assert list(results) == list(range(5, 15))


@pytest.mark.parametrize("size", [1 << 17, 1 << 20], ids=["1 MB", "8 MB"])
def test_arrays_go_through(size):
    numpy = pytest.importorskip("numpy")
    assert numpy.zeros(1).sum() == 0
    source = partial(stages.arrays, 10, size)
    results = pipeline(source, stage(stages.larger, workers=2), stages.larger, stages.sum_of)
    assert list(results) == [(number + 2) * size for number in range(10)]


def test_what_goes_from_stage_to_stage_is_not_pickled_on_the_way(tmp_path):
    path = str(tmp_path / "notes")
    source = [stages.CountsPickling(path) for _ in range(5)]
    assert pipeline(source, stages.identity, stages.identity, stages.forget).run() == 5
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    ours = [what for what, pid in notes if int(pid) == os.getpid()]
    assert ours == ["pickled"] * 5
    assert len(notes) == 5 * 6


def test_queues_travel_inside_items():
    queue = manycore.Queue()
    source = [(queue, number) for number in range(10)]
    assert list(pipeline(source, stages.identity, stages.ask)) == list(range(10))
    assert sorted(queue.get_many(10)) == list(range(10))


def test_no_memory_stays_taken():
    def all_of_it():
        source = partial(stages.arrays, 10, 1 << 17)
        pipeline(source, stage(stages.larger, workers=2), stages.larger).run()

    pytest.importorskip("numpy")
    all_of_it()
    manycore._engine.reap()
    before = heap.blocks_in_use()
    for _ in range(5):
        all_of_it()
    manycore._engine.reap()
    assert heap.blocks_in_use() <= before


# ---- how far ahead --------------------------------------------------------------------------


def test_an_endless_source_is_read_a_bounded_number_of_items_ahead(tmp_path):
    path = tmp_path / "count"
    with pipeline(partial(stages.count_up, str(path)), stages.double, stages.double) as results:
        assert list(itertools.islice(results, 1000)) == list(range(0, 4000, 4))
    # Each of the three stages has its items, and a ring of as many.
    assert int(path.read_text()) < 1000 + 256 * 7


def test_an_endless_iterator_is_taken_a_bounded_number_of_items_ahead():
    taken = itertools.count()
    with pipeline(taken, stage(stages.double, maxsize=5)) as results:
        assert list(itertools.islice(results, 100)) == list(range(0, 200, 2))
    assert next(taken) <= 100 + 5 * 2


def test_an_endless_generator_in_the_middle_is_held_back(tmp_path):
    path = tmp_path / "count"
    endless = stage(partial(stages.repeat_for_ever, str(path)), maxsize=5)
    with pipeline(range(10), endless, stage(stages.identity, maxsize=5)) as results:
        assert list(itertools.islice(results, 100)) == [(0, turn) for turn in range(100)]
    assert int(path.read_text()) < 100 + 128 + 5 * 4


def test_endless_generators_behind_the_one_whose_turn_it_is_do_not_keep_it_from_going_on(tmp_path):
    path = tmp_path / "count"
    endless = stage(partial(stages.repeat_for_ever, str(path)), workers=3, maxsize=3)
    with pipeline(range(10), endless) as results:
        assert list(itertools.islice(results, 500)) == [(0, turn) for turn in range(500)]


def test_bytes_are_bounded():
    taken = []
    source = (taken.append(1) or bytes(1 << 20) for _ in itertools.count())
    with pipeline(source, stage(len, maxbytes=3 << 20)) as results:
        assert next(results) == 1 << 20
        assert len(taken) <= 1 + 4 + 256  # results are small, and may wait


def test_an_item_over_the_limit_of_bytes_goes_through():
    source = [bytes(1 << 20)] * 5
    assert list(pipeline(source, stage(len, maxbytes=1))) == [1 << 20] * 5


# ---- errors ---------------------------------------------------------------------------------


def test_an_error_ends_the_pipeline_and_names_stage_and_item(ctx):
    fails = stage(partial(stages.fail_on, [7]), workers=2)
    results = pipeline(range(1000), stages.identity, fails, stages.identity, context=ctx)
    with pytest.raises(ValueError, match="7 is bad") as caught:
        list(results)
    assert caught.value.__notes__ == ["in stage 1 of the pipeline, fail_on, at item 7: 7"]
    assert "fail_on" in str(caught.value.__cause__), "the worker's traceback"
    assert list(results) == []


def test_errors_are_left_out():
    fails = stage(partial(stages.fail_on, range(0, 100, 3)), workers=2)
    expected = [item for item in range(100) if item % 3]
    results = pipeline(range(100), fails, stages.identity, on_error="skip")
    assert list(results) == expected
    assert [it.failures for it in results.stats()] == [34, 0]


def test_errors_come_out_in_their_places():
    fails = stage(partial(stages.fail_on, [3, 5]), workers=2)
    results = list(pipeline(range(10), fails, stages.double, on_error="return"))
    assert [str(results.pop(at)) for at in (5, 3)] == ["5 is bad", "3 is bad"]
    assert results == [0, 2, 4, 8, 12, 14, 16, 18]


def test_a_stage_has_a_rule_of_its_own():
    first = stage(partial(stages.fail_on, [1]), on_error="skip")
    second = partial(stages.fail_on, [2])
    with pytest.raises(ValueError, match="2 is bad"):
        pipeline(range(10), first, second).run()


def test_what_a_generator_gave_before_it_failed_is_kept():
    fails = stage(partial(stages.repeat_and_fail_on, [1]), workers=2)
    results = list(pipeline(range(3), fails, on_error="return"))
    assert str(results.pop(3)) == "1 is bad"
    assert results == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]


def test_a_sources_error_comes_after_what_it_gave():
    for source in (stages.read_and_fail, stages.read_and_fail()):
        results = pipeline(source, stages.double, on_error="skip")
        assert list(itertools.islice(results, 10)) == list(range(0, 20, 2))
        with pytest.raises(OSError, match="the disk is gone") as caught:
            next(results)
        has_stage = source is stages.read_and_fail  # which is not given any item
        notes = ["in stage 0 of the pipeline, read_and_fail"] if has_stage else None
        assert getattr(caught.value, "__notes__", None) == notes


def test_an_error_of_a_stage_in_the_caller_is_treated_as_any():
    last = stage(partial(stages.fail_on, [2]), in_caller=True)
    assert list(pipeline(range(4), stages.double, last, on_error="skip")) == [0, 4, 6]
    with pytest.raises(ValueError, match="2 is bad") as caught:
        pipeline(range(4), stages.double, last).run()
    assert caught.value.__notes__ == ["in stage 1 of the pipeline, fail_on, at item 1: 2"]


def test_a_result_that_cannot_be_pickled_fails_its_item_alone():
    results = list(pipeline(range(5), stages.unsendable, stages.identity, on_error="return"))
    assert type(results.pop(3)).__name__ == "MaybeEncodingError"
    assert results == [0, 1, 2, 4]


def test_an_item_that_cannot_be_read_fails_alone():
    wrong = partial(stages.wrap_on, [2], os.getpid())
    results = list(pipeline(range(5), wrong, stages.identity, on_error="return"))
    assert str(results.pop(2)) == "not here"
    assert results == [0, 1, 3, 4]


@pytest.mark.parametrize("ordered", [True, False])
def test_an_item_that_cannot_be_pickled_fails_alone(ordered):
    items = [1, threading.Lock(), 3]
    first = stage(stages.identity, workers=2, ordered=ordered)
    assert sorted(pipeline(items, first, on_error="skip")) == [1, 3]
    with pipeline(items, first, stages.identity, on_error="return") as results:
        found = list(results)
        counts = results.stats()[0]
    (error,) = [it for it in found if isinstance(it, Exception)]
    assert not ordered or found == [1, error, 3]
    assert (type(error), counts.items_in, counts.failures) == (TypeError, 3, 1)


def test_an_item_that_cannot_be_pickled_is_named_behind_the_results_of_those_before():
    results = iter(pipeline([1, threading.Lock(), 3], stages.identity))
    assert next(results) == 1
    with pytest.raises(TypeError, match="cannot pickle") as caught:
        next(results)
    (note,) = caught.value.__notes__
    assert note.startswith("in stage 0 of the pipeline, identity, at item 1: <unlocked")


@pytest.mark.parametrize("policy", ["raise", "skip", "return"])
def test_ctrl_c_while_an_item_is_pickled_ends_the_pipeline(policy):
    class Interrupting:
        def __reduce__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(pipeline([1, Interrupting(), 2], stages.identity, on_error=policy))


# ---- what workers set up ----------------------------------------------------------------------


def notes(path):
    return path.read_text().split()


def test_a_worker_sets_up_once_and_closes(ctx, tmp_path):
    begin = functools.partial(stages.Register, str(tmp_path / "notes"))
    writes = stage(stages.write_to, init=begin)
    assert pipeline(range(3), stages.double, writes, context=ctx).run() == 3
    assert notes(tmp_path / "notes") == ["opened", "entered", "0", "2", "4", "left", "closed"]


def test_a_source_sets_up_too(tmp_path):
    begin = functools.partial(stages.Register, str(tmp_path / "notes"))
    assert list(pipeline(stage(stages.read_from, init=begin), stages.double)) == [0, 2, 4]
    assert notes(tmp_path / "notes") == ["opened", "entered", "read", "left", "closed"]


def test_a_database_has_everything_when_run_returns(tmp_path):
    path = str(tmp_path / "db")
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE numbers (number)")
    connection.close()

    def write(item, database):
        database.execute("INSERT INTO numbers VALUES (?)", (item,))

    pipeline(range(100), stages.double, stage(write, init=lambda: sqlite3.connect(path))).run()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*), max(number) FROM numbers").fetchall() == [
        (100, 198)
    ]
    connection.close()


@pytest.mark.parametrize("ends", ["close", "raise"])
def test_what_was_set_up_is_closed_when_a_pipeline_ends_early(tmp_path, ends):
    begin = functools.partial(stages.Register, str(tmp_path / "notes"))
    writes = stage(stages.write_to, init=begin)
    if ends == "close":
        with pipeline(itertools.count(), writes) as results:
            assert next(results) == 0
    else:
        with pytest.raises(ValueError):
            pipeline(itertools.count(), writes, partial(stages.fail_on, [5])).run()
    assert notes(tmp_path / "notes")[-2:] == ["left", "closed"]


def test_an_error_at_setting_up_ends_the_pipeline():
    with pytest.raises(OSError, match="no connection") as caught:
        pipeline(range(10), stage(stages.add, init=stages.fail_to_begin)).run()
    assert caught.value.__notes__ == ["in stage 0 of the pipeline, add"]


def test_an_error_at_closing_is_raised_behind_the_results():
    results = pipeline(range(3), stage(stages.add, init=stages.failing_to_close))
    assert list(itertools.islice(results, 3)) == [1, 2, 3]
    with pytest.raises(OSError, match="not written"):
        next(results)


# ---- the end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_closing_ends_all_processes(end):
    results = pipeline(itertools.count(), stage(stages.double, workers=2), stages.double)
    before = descendants()
    assert next(results) == 0
    getattr(results, end)()
    assert descendants() <= before
    assert list(results) == []
    getattr(results, end)()


def test_a_pipeline_that_is_never_used_starts_nothing():
    before = descendants()
    with pipeline(stages.read, stages.double):
        assert descendants() == before


def test_a_forgotten_pipeline_ends_its_processes():
    before = descendants()
    results = pipeline(itertools.count(), stages.double)
    assert next(results) == 0
    assert descendants() > before
    del results
    assert descendants() <= before


def test_a_worker_that_does_not_end_is_terminated(gate):
    results = pipeline(itertools.count(), partial(stages.wait_on, [20], gate))
    assert next(results) == 0
    gate.arrived()
    results.close()


def test_an_exception_of_the_caller_ends_everything():
    before = descendants()
    with (
        pytest.raises(ZeroDivisionError),
        pipeline(itertools.count(), stages.double, stages.double) as results,
    ):
        for item in results:
            1 // (item - 20)
    assert descendants() <= before


def test_ctrl_c_ends_everything(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import itertools, manycore\n"
        "def slow(item):\n"
        "    print(item, flush=True)\n"
        "    return item\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        many = manycore.stage(slow, workers=2)\n"
        "        manycore.pipeline(itertools.count(), many, slow).run()\n"
        "    except KeyboardInterrupt:\n"
        "        print('\\ninterrupted', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as job:
        try:
            for _ in range(1000):  # so many that all workers are at work
                job.stdout.readline()
            os.killpg(job.pid, signal.SIGINT)
            said, errors = job.communicate(timeout=60)  # its end: no process has the pipe any more
        except BaseException:
            os.killpg(job.pid, signal.SIGKILL)
            raise
    assert said.splitlines()[-1] == b"interrupted"
    assert b"Traceback" not in errors


def test_only_one_thread_at_a_time_waits_for_results(gate):
    results = pipeline(range(10), partial(stages.wait_on, [0], gate))
    thread = threading.Thread(target=results.run)
    thread.start()
    gate.arrived()
    with pytest.raises(ValueError, match="another thread"):
        next(results)
    gate.let_go()
    thread.join()


def test_closing_in_another_thread_ends_the_waiting(gate):
    results = pipeline(range(10), partial(stages.wait_on, [0], gate))
    found = []
    thread = threading.Thread(target=lambda: found.extend(results))
    thread.start()
    gate.arrived()
    results.terminate()
    thread.join()
    assert found == []


def test_a_forked_child_leaves_the_pipeline_of_its_parent_alone():
    results = pipeline(range(1000), stages.double)
    assert next(results) == 0
    pid = os.fork()
    if pid == 0:
        results = None
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(list(results)) == 999


# ---- seeing -------------------------------------------------------------------------------------


def test_stats_count_what_each_stage_has_done():
    fails = stage(partial(stages.fail_on, [3]), workers=2, on_error="skip")
    results = pipeline(stages.read, fails, stage(stages.double, name="twice"))
    assert [it.name for it in results.stats()] == ["read", "fail_on", "twice"]
    results.run()
    read, fail, twice = results.stats()
    assert (read.items_in, read.items_out) == (1, 1000)
    assert (fail.items_in, fail.items_out, fail.failures) == (1000, 999, 1)
    assert (twice.items_in, twice.items_out, twice.inside) == (999, 999, 0)
    assert all(0 < it.busy <= 1 for it in (read, fail, twice))


def test_progress_shows_a_bar_for_each_stage(capfd):
    results = pipeline(range(100), stages.double, stage(stages.double, name="twice"), progress=True)
    assert results.run() == 100
    said = capfd.readouterr().err
    assert "double: 100%" in said
    assert "100/100" in said
    assert "twice: 100" in said


def test_a_bar_counts_what_a_stage_is_done_with_however_many_results_it_gave(capfd):
    results = pipeline([3, 4], stages.repeat, progress=True)
    assert results.run() == 7
    said = capfd.readouterr().err
    assert "2/2" in said
    results = pipeline(partial(stages.read, 30), stages.double, progress=True)
    assert results.run() == 30
    assert "read: 30" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: pipeline(), TypeError, "needs what gives items"),
        (lambda: pipeline([1]), TypeError, "needs what gives items"),
        (lambda: pipeline([1], [2]), TypeError, "not callable"),
        (lambda: pipeline(5, stages.double), TypeError, "iterable"),
        (lambda: pipeline([1], stage(stages.double, in_caller=True)), ValueError, "in the caller"),
        (lambda: pipeline(stage(stages.read, workers=2), stages.double), ValueError, "runs once"),
        (lambda: pipeline([1], stages.double, on_error="no"), ValueError, "on_error"),
        (lambda: stage(stages.double, workers=0), ValueError, "worker"),
        (lambda: stage(stages.double, workers=1.5), TypeError, "workers must be an integer"),
        (lambda: stage(stages.double, retries=-1), ValueError, "negative: -1"),
        (lambda: stage(stages.double, maxsize="5"), TypeError, "maxsize must be an integer"),
        (lambda: stage(stages.double, timeout="1"), ValueError, "seconds above 0"),
        (lambda: stage(stages.double, on_error="no"), ValueError, "on_error"),
        (lambda: stage(stages.double, init=1), TypeError, "init"),
        (lambda: stage(stages.double, in_caller=True, workers=2), ValueError, "in the caller"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, error, words):
    with pytest.raises(error, match=words):
        wrong()


# ---- time-outs ------------------------------------------------------------------------------


def kinds(results):
    return [type(it) if isinstance(it, Exception) else it for it in results]


@pytest.mark.parametrize("ordered", [True, False])
def test_an_item_that_takes_too_long_fails_alone(ctx, ordered):
    slow = stage(partial(stages.sleep_on, [3, 9]), workers=2, ordered=ordered, timeout=0.5)
    results = pipeline(range(12), slow, stages.identity, on_error="return", context=ctx)
    found = kinds(results)
    expected = [manycore.TaskTimeout if it in (3, 9) else it for it in range(12)]
    assert found == expected if ordered else sorted(map(str, found)) == sorted(map(str, expected))
    assert [(it.failures, it.deaths) for it in results.stats()] == [(2, 0), (0, 0)]


def test_a_worker_that_misses_the_first_signal_is_told_again(ctx):
    slow = stage(demanding.miss_a_signal, timeout=0.2)
    results = pipeline([STOP_FOR_TIME] * 2, slow, on_error="return", context=ctx)
    assert kinds(results) == [manycore.TaskTimeout] * 2
    assert results.stats()[0].deaths == 0


def test_a_time_out_is_raised_and_names_stage_and_item():
    with pytest.raises(manycore.TaskTimeout) as caught:
        pipeline(range(5), stage(partial(stages.sleep_on, [3]), timeout=0.2)).run()
    assert caught.value.__notes__ == ["in stage 0 of the pipeline, sleep_on, at item 3: 3"]


def test_a_generator_that_takes_too_long_has_given_what_it_gave():
    slow = stage(partial(stages.give_then_sleep_on, [2]), timeout=0.5)
    found = kinds(pipeline([1, 2, 3], slow, on_error="return"))
    assert found == [1, -1, 2, manycore.TaskTimeout, 3, -3]


def test_time_in_which_results_wait_for_room_does_not_count():
    full = stage(stages.give_much, maxsize=4, timeout=0.3)
    with pipeline([200], full) as results:
        seen = [next(results)]
        until = time.monotonic() + 1
        while time.monotonic() < until:
            results._look_after()  # as somebody would who waits
        seen += results
    assert seen == list(range(200))


@pytest.mark.parametrize(("of", "message"), [(0, "above 0"), (-1, "above 0")])
def test_a_time_out_has_to_be_a_time(of, message):
    with pytest.raises(ValueError, match=message):
        stage(stages.double, timeout=of)


def test_what_has_no_items_has_no_time_out():
    with pytest.raises(ValueError, match="no workers"):
        stage(stages.double, in_caller=True, timeout=1)
    with pytest.raises(ValueError, match="no timeout"):
        pipeline(stage(stages.read, timeout=1), stages.double)
