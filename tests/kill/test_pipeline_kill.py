"""Workers of pipelines that are killed: the item they worked on fails, and nothing else happens."""

import functools
import os
import re
import signal
import threading
import warnings

import pytest

import manycore
import stages
from calls import Tally
from manycore import pipeline, stage
from processes import descendants, kill_and_confirm, wait_for_end

pytestmark = pytest.mark.beyond_stdlib


def partial(function, *arguments):
    return functools.partial(function, *arguments)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_worker_that_dies_fails_its_item_alone(ctx, ordered):
    dies = stage(partial(stages.die_on, [3, 50, 51, 99]), workers=2, ordered=ordered)
    results = pipeline(
        range(100), stages.identity, dies, stages.identity, on_error="return", context=ctx
    )
    found = list(results)
    died = [it for it in found if isinstance(it, manycore.WorkerDied)]
    rest = [it for it in found if not isinstance(it, manycore.WorkerDied)]
    assert {it.exitcode for it in died} == {-signal.SIGKILL}
    assert sorted(rest) == sorted(set(range(100)) - {3, 50, 51, 99})
    if ordered:
        assert [found.index(it) for it in died] == [3, 50, 51, 99]
        assert rest == sorted(rest)
    assert [it.deaths for it in results.stats()] == [0, 4, 0]


def test_a_death_is_raised_and_names_stage_and_item():
    results = pipeline(range(1000), stages.identity, partial(stages.die_on, [7]))
    with pytest.raises(
        manycore.WorkerDied, match=r"SIGKILL while it ran die_on, after \S+ s"
    ) as caught:
        results.run()
    assert caught.value.seconds > 0
    assert "not run again, the pipeline ends" in str(caught.value)
    assert caught.value.__notes__ == ["in stage 1 of the pipeline, die_on, at item 7: 7"]
    assert caught.value.function == "die_on"


def test_a_crash_in_a_stage_is_told_with_its_stack(run_script):
    shown = run_script(
        """
        import ctypes, faulthandler, time
        import manycore

        faulthandler.disable()

        def crash(item):
            ctypes.string_at(0)

        def refuse(item):
            while True:
                try:
                    time.sleep(600)
                except Exception:
                    pass

        if __name__ == "__main__":
            for way in (crash, manycore.stage(refuse, timeout=0.1)):
                try:
                    manycore.pipeline([1], way).run()
                except (manycore.WorkerDied, manycore.TaskTimeout) as error:
                    print(error)
        """
    ).stdout
    assert re.search(r"crash, after .* s.*Segmentation fault.*in string_at.*in crash", shown, re.S)
    assert "in refuse" in shown


def test_a_killed_stage_says_what_that_often_means():
    with pytest.raises(manycore.WorkerDied, match=r"SIGKILL often means|memory"):
        pipeline(range(10), partial(stages.die_on, [7])).run()


def test_a_death_is_left_out():
    dies = stage(partial(stages.die_on, [3, 4]), workers=2)
    assert list(pipeline(range(6), dies, on_error="skip")) == [0, 1, 2, 5]


def test_exit_in_a_stage_is_a_death():
    results = list(pipeline([3], stages.end_process, on_error="return"))
    assert [it.exitcode for it in results] == [3]


@pytest.mark.parametrize("ordered", [True, False])
def test_an_item_is_worked_on_again(ctx, tmp_path, ordered):
    bad = [0, 5, 63, 64, 99]
    dies = stage(
        partial(stages.die_once_on, bad, str(tmp_path)), workers=2, retries=1, ordered=ordered
    )
    results = pipeline(range(100), dies, stages.identity, context=ctx)
    found = list(results)
    assert (found if ordered else sorted(found)) == list(range(100))
    assert results.stats()[0].deaths == 5


def test_an_item_that_kills_each_time_fails_in_the_end():
    dies = stage(partial(stages.die_on, [7]), workers=2, retries=2)
    results = pipeline(range(20), dies, on_error="return")
    found = list(results)
    assert "was run 3 times" in str(found.pop(7))
    assert found == [*range(7), *range(8, 20)]
    assert results.stats()[0].deaths == 3


def test_a_generator_that_is_run_again_gives_nothing_twice(tmp_path):
    dies = stage(
        partial(stages.repeat_and_die_once_on, range(0, 40, 7), str(tmp_path)), workers=3, retries=1
    )
    assert list(pipeline(range(40), dies)) == [
        (item, turn) for item in range(40) for turn in range(5)
    ]


def test_a_retry_goes_before_generators_that_wait_for_it(tmp_path):
    """Else all workers would wait for room that only the one behind them can make."""

    def endless_but_first(item):
        if item == 0:
            if stages.is_first(str(tmp_path), 0):
                os.kill(os.getpid(), signal.SIGKILL)
            yield "first"
            return
        for turn in range(1000):
            yield item, turn

    endless = stage(endless_but_first, workers=2, retries=1, maxsize=4)
    found = list(pipeline(range(5), endless))
    assert found == ["first", *((item, turn) for item in range(1, 5) for turn in range(1000))]


def test_large_items_are_worked_on_again(tmp_path):
    numpy = pytest.importorskip("numpy")

    def dies(array):
        if array[0] in (2, 5) and stages.is_first(str(tmp_path), int(array[0])):
            os.kill(os.getpid(), signal.SIGKILL)
        return array

    source = partial(stages.arrays, 8, 1 << 17)
    results = list(pipeline(source, stage(dies, workers=2, retries=1), stages.larger))
    assert [int(it[0]) for it in results] == list(range(1, 9))
    assert all(numpy.all(it == it[0]) for it in results)


def test_queues_inside_items_that_are_worked_on_again(tmp_path):
    queue = manycore.Queue()

    def dies(question):
        if question[1] == 3 and stages.is_first(str(tmp_path), 3):
            os.kill(os.getpid(), signal.SIGKILL)
        return stages.ask(question)

    source = [(queue, number) for number in range(10)]
    assert list(pipeline(source, stage(dies, retries=1))) == list(range(10))
    assert sorted(queue.get_many(10)) == list(range(10))


def test_a_source_that_dies_ends_the_pipeline_behind_what_it_gave():
    def read():
        yield from range(10)
        os.kill(os.getpid(), signal.SIGKILL)

    results = pipeline(read, stages.double, on_error="skip")
    found = []
    with pytest.raises(manycore.WorkerDied, match=r"while it ran read.*what it has read goes on"):
        for item in results:
            found.append(item)
    assert found == list(range(0, 20, 2))


def test_a_source_that_is_run_again_gives_nothing_twice(tmp_path):
    def read():
        for number in range(100):
            if number == 50 and stages.is_first(str(tmp_path), 50):
                os.kill(os.getpid(), signal.SIGKILL)
            yield number

    assert list(pipeline(stage(read, retries=1), stages.double)) == list(range(0, 200, 2))


def test_an_idle_worker_that_is_killed_is_replaced_and_fails_nothing(gate):
    first = stage(partial(stages.pass_by_on, range(3), gate), workers=1)

    def source():
        yield 0
        kill_and_confirm(gate.arrived()[0])
        yield from range(3, 100)

    results = pipeline(source(), first, on_error="return")
    found = list(results)
    lost = [it for it in found if isinstance(it, manycore.WorkerDied)]
    assert len(lost) <= 1  # the first one, if its answer was not there yet
    assert found[1:] == list(range(3, 100))


def test_workers_that_die_before_they_take_an_item_end_the_pipeline():
    with pytest.raises(manycore.WorkerDied, match="before they could take an item"):
        pipeline(range(10), stage(stages.add, init=stages.die_to_begin)).run()


def test_a_worker_that_is_killed_while_it_closes_is_told_behind_the_results():
    results = pipeline(range(3), stage(stages.add, init=stages.dying_to_close))
    assert [next(results) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(manycore.WorkerDied, match="closed what it had set up"):
        next(results)


def test_stages_end_with_the_process_that_has_them(gate):
    pid = os.fork()
    if pid == 0:
        results = pipeline(range(10), partial(stages.wait_on, [0], gate), stages.identity)
        list(results)
        os._exit(0)
    gate.arrived()
    workers = descendants(pid)
    kill_and_confirm(pid)
    os.waitpid(pid, 0)
    wait_for_end(workers)


POINTS = [
    "ring.get.claimed",
    "ring.get.copied",
    "ring.get.committed",
    "ring.put.written",
    "ring.put.committed",
    "ring.put.rung",
    "block.returned",
]


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("point", POINTS)
def test_a_death_at_any_step_fails_one_item_at_most(tmp_path, monkeypatch, point, retries):
    """Each worker of the stage dies the twentieth time that it comes by, until three have."""
    tally = Tally(tmp_path)

    def work(item):
        fd = os.open(tally.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, int(item[0]).to_bytes(4, "little"))
        os.close(fd)
        return item

    count = 60
    source = [bytes([number]) * (40_000 if number % 2 else 10) for number in range(count)]
    monkeypatch.setenv("MANYCORE_FAULT", f"{point}:20")
    context = manycore.get_context("spawn")
    results = pipeline(
        source,
        stage(work, workers=2, retries=retries),
        on_error="return",
        context=context,
    )
    found = [next(results)]
    monkeypatch.delenv("MANYCORE_FAULT")  # those that are started from now on do not die
    found += list(results)
    died = [it for it in found if isinstance(it, manycore.WorkerDied)]
    assert len(found) == count
    assert [it for it in found if it not in died] == [
        it for it, answer in zip(source, found, strict=True) if answer not in died
    ]
    deaths = results.stats()[0].deaths
    assert len(died) <= (0 if retries else deaths)
    ran = tally.take()
    assert max(ran.values()) <= 1 + retries
    assert len(ran) >= count - len(died)


@pytest.mark.slow
def test_killed_at_random_nothing_else_is_lost_and_nothing_comes_twice():
    """Kills whichever worker of whichever stage, while items go through."""
    killed = []
    stop = threading.Event()
    results = pipeline(
        range(20_000),
        stage(stages.identity, workers=2),
        stage(stages.repeat, workers=2),
        stage(stages.identity, workers=2),
        on_error="return",
        context=manycore.get_context("forkserver"),
    )
    found = [next(results)]

    def kill():
        turn = 0
        while not stop.wait(0.05):
            turn += 1
            workers = [pid for it in results._workers for pid in [p.pid for p in it.processes]]
            if workers:
                victim = workers[turn % len(workers)]
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed.append(victim)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found += list(results)
    finally:
        stop.set()
        killer.join()
    died = [it for it in found if isinstance(it, manycore.WorkerDied)]
    rest = [it for it in found if not isinstance(it, manycore.WorkerDied)]
    assert rest == sorted(set(rest)), "in order, and none twice"
    assert len(died) <= len(killed)
    expected = sum(item % 10 for item in range(20_000))
    assert len(rest) >= expected - 9 * len(died)
    print(f"\n{len(killed)} killed, {len(died)} items lost")


@pytest.mark.parametrize("retries", [0, 2])
def test_a_worker_that_does_not_stop_in_time_is_killed_and_replaced(ctx, retries):
    stuck = stage(partial(stages.refuse_on, [3]), timeout=0.3, retries=retries)
    results = pipeline(range(6), stuck, stages.identity, on_error="return", context=ctx)
    found = list(results)
    assert isinstance(found[3], manycore.TaskTimeout)
    assert "refuse_on" in str(found[3])
    assert found[3].__notes__ == ["in stage 0 of the pipeline, refuse_on, at item 3: 3"]
    assert found[:3] + found[4:] == [0, 1, 2, 4, 5]
    assert [(it.failures, it.deaths) for it in results.stats()] == [(1, 1), (0, 0)]


def test_a_stopped_worker_is_reported_and_its_item_given_up():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stops = stage(partial(stages.stop_itself_on, [3]), timeout=2.5)
        found = list(pipeline(range(6), stops, on_error="return"))
    assert isinstance(found[3], manycore.TaskTimeout)
    assert found[:3] + found[4:] == [0, 1, 2, 4, 5]
    stalled = [it for it in caught if it.category is manycore.ProcessStalled]
    assert "was stopped by a signal" in str(stalled[0].message)
