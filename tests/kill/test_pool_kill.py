"""Workers of a pool that are killed: their one task fails, and nothing else happens."""

import collections
import contextlib
import functools
import os
import pickle
import random
import resource
import signal
import threading
import types
from concurrent.futures.process import BrokenProcessPool

import pytest

import manycore
import targets
from calls import WAYS, Tally, deaths, drain, outcome
from manycore.process import OwnedProcess
from processes import kill_and_confirm, tells_exits

pytestmark = pytest.mark.beyond_stdlib

TASKS = 1000
WORKERS = 3
IN_A_ROW = 20


@pytest.fixture
def pool():
    with manycore.get_context("fork").Pool(WORKERS) as pool:
        yield pool


@pytest.fixture
def tally(tmp_path):
    return Tally(tmp_path)


all_ways = pytest.mark.parametrize("start", WAYS.values(), ids=WAYS)

LAZY = (WAYS["imap"], WAYS["imap_unordered"])
REACH = 40
"""A lazy map starts at least this many tasks before a result is fetched."""


def choose(seed, start):
    """A task that runs before anybody waits for results."""
    return random.Random(seed).randrange(REACH if start in LAZY else TASKS)


def assert_alive(pool, gate):
    """All places of the pool are filled: as many tasks as it has workers run at the same time."""
    results = [pool.apply_async(targets.stop_at, (gate, n)) for n in range(WORKERS)]
    assert len(set(gate.arrived(WORKERS))) == WORKERS
    gate.let_go(WORKERS)
    assert [result.get() for result in results] == list(range(WORKERS))


@pytest.mark.slow
@all_ways
def test_sigkill_in_a_task_fails_that_task_alone(pool, gate, tally, start):
    for seed in range(IN_A_ROW):
        chosen = choose(seed, start)
        task = functools.partial(targets.tally_or_stop, tally.path, gate, chosen)
        finish = start(pool, task, range(TASKS))
        (victim,) = gate.arrived()
        kill_and_confirm(victim)
        outcomes = finish()

        (died,) = deaths(outcomes)
        assert (died.pid, died.exitcode) == (victim, -signal.SIGKILL)
        if len(outcomes) > 1:
            survivors = {it for it in outcomes if it is not died}
            assert survivors == set(range(TASKS)) - {chosen}
        assert tally.take() == collections.Counter(set(range(TASKS)) - {chosen})
    assert_alive(pool, gate)


@pytest.mark.slow
@all_ways
def test_sigkill_at_any_instruction_fails_one_task_at_most(pool, gate, tally, start):
    for seed in range(IN_A_ROW):
        chosen = choose(seed, start)
        task = functools.partial(targets.tally_and_pass_by, tally.path, gate, chosen)
        finish = start(pool, task, range(TASKS))
        (victim,) = gate.arrived()
        kill_and_confirm(victim)
        outcomes = finish()

        dead = deaths(outcomes)
        assert len(dead) <= 1
        assert all(died.pid == victim for died in dead)
        ran = tally.take()
        assert max(ran.values()) == 1, "a task ran twice"
        assert len(ran) >= TASKS - len(dead), "a task was lost"
    assert_alive(pool, gate)


@pytest.mark.parametrize("position", [0, 5, 9])
def test_a_worker_killed_before_it_ran_any_of_a_chunk_loses_one_item(tmp_path, tally, position):
    items = list(range(40))
    items[10 + position] = targets.DiesOnce(str(tmp_path / "died"), 10 + position)
    with manycore.Pool(1) as pool:
        task = functools.partial(targets.tally, tally.path)
        (died,) = deaths([outcome(pool.map, task, items, 10)])
        assert died.exitcode == -signal.SIGKILL
    ran = tally.take()
    assert max(ran.values()) == 1
    assert len(ran) >= 39


@pytest.mark.parametrize("chosen", [(13, 15), (10, 11, 12), (12, 19), (13, 15, 17, 38)])
def test_workers_that_die_in_one_chunk_one_after_the_other_lose_an_item_each(tally, chosen):
    with manycore.Pool(1) as pool:
        task = functools.partial(targets.tally_or_die_on_any, tally.path, chosen, "SIGKILL")
        (died,) = deaths([outcome(pool.map, task, range(40), 10)])
        assert died.exitcode == -signal.SIGKILL
    assert tally.take() == collections.Counter(set(range(40)) - set(chosen))


@pytest.mark.parametrize("options", [{"insights": True}, {}])
def test_a_worker_that_is_buried_when_ctrl_c_comes_is_buried_once(gate, ctrl_c, options):
    with manycore.get_context("fork").Pool(2, **options) as pool:
        pool._attendant.keeper.start = lambda: None  # only this thread looks after the pool
        pool.apply_async(gate.stop)
        (victim,) = gate.arrived()
        answer = pool.apply_async(targets.square, (3,))
        answer._when_done(functools.partial(signal.raise_signal, signal.SIGINT))
        stopped = pool.apply_async(gate.stop)
        gate.arrived()  # so that the answer is there
        kill_and_confirm(victim)
        with pytest.raises(KeyboardInterrupt):
            pool._attendant.look_after()
        assert answer.get() == 9
        gate.let_go()
        stopped.get()
        assert pool.map(targets.square, range(100)) == [n * n for n in range(100)]
        assert pool.stats().died == 1


def test_a_pool_whose_workers_cannot_be_replaced_fails_its_tasks():
    settings = types.SimpleNamespace()  # which can be pickled until the program changes it
    with manycore.get_context("spawn").Pool(1, id, (settings,), maxtasksperchild=1) as pool:
        assert pool.apply(targets.square, (3,)) == 9
        settings.lock = threading.Lock()
        with pytest.raises(manycore.WorkerDied, match=r"could not be started.*pickle"):
            pool.map(targets.square, range(10))
        pool.close()
        pool.join()


@pytest.mark.parametrize("where", ["tend", "begin"])
def test_the_pool_may_be_used_in_a_signals_handler_while_it_is_looked_after(gate, where):
    with manycore.get_context("fork").Pool(2) as pool:
        pool._attendant.keeper.start = lambda: None  # only this thread looks after the pool
        running = pool.apply_async(gate.stop)
        gate.arrived()

        def use_it(*_):
            pool.resize(3)
            assert running.cancel()
            assert pool.apply(targets.square, (3,)) == 9

        tending, before = pool._workers._tending, signal.signal(signal.SIGUSR1, use_it)
        original = getattr(tending, where)

        def interrupted(*args):
            setattr(tending, where, original)
            signal.raise_signal(signal.SIGUSR1)
            return original(*args)

        setattr(tending, where, interrupted)
        pool.resize(4) if where == "begin" else pool._workers.look_after(True)
        signal.signal(signal.SIGUSR1, before)
        with pytest.raises(manycore.TaskCancelled):
            running.get()
        while len(pool._pool) != 3:
            pool._attendant.look_after()


class Interrupted(Exception):
    pass


def interrupt(*_):
    raise Interrupted


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(
    ("number", "handler"),
    [(signal.SIGINT, signal.default_int_handler), (signal.SIGUSR1, interrupt)],
    ids=["SIGINT", "SIGUSR1"],
)
def test_no_worker_is_lost_by_a_signal_that_comes_once_it_is_started(
    method, monkeypatch, number, handler
):
    interrupted = []

    def begin(process, popen):  # there is a process, and the pool does not know of it yet
        if not interrupted:
            interrupted.append(process)
            signal.raise_signal(number)
        original(process, popen)

    with manycore.get_context(method).Pool(2) as pool:
        before, original = signal.signal(number, handler), OwnedProcess._begin
        monkeypatch.setattr(OwnedProcess, "_begin", begin)
        try:
            with pytest.raises((KeyboardInterrupt, Interrupted)):
                while True:
                    with contextlib.suppress(manycore.WorkerDied):
                        pool.apply(os._exit, (1,))
        finally:
            signal.signal(number, before)
        assert pool.map(targets.square, range(10)) == [n * n for n in range(10)]
        while len(pool._pool) != 2:
            pool._attendant.look_after()
        assert set(manycore.active_children()) <= set(pool._pool)
        pool.close()
        pool.join()


SHARED = [0.006 if number % 5 == 2 else 0 for number in range(100)]
"""How long each item of a map takes; workers leave the rest of a task to others after some."""


@pytest.mark.parametrize("chosen", [(40,), (41, 42, 43), (2, 7, 12, 99)])
def test_workers_that_die_at_items_that_they_share_lose_an_item_each(tally, chosen):
    with manycore.Pool(2) as pool:
        task = functools.partial(targets.wait_and_tally_or_die, tally.path, chosen)
        (died,) = deaths([outcome(pool.starmap, task, list(enumerate(SHARED)))])
        assert died.exitcode == -signal.SIGKILL
    assert tally.take() == collections.Counter(set(range(100)) - set(chosen))


POINTS = [
    "ring.get.copied",
    "ring.get.committed",
    "row.taken",
    "ring.put.written",
    "ring.put.committed",
    "ring.put.rung",
    "group.hastened",
]


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("point", POINTS)
def test_a_death_at_any_step_of_sharing_loses_an_item_at_most(
    tmp_path, tally, monkeypatch, point, count
):
    once = tmp_path / "once"
    monkeypatch.setenv("MANYCORE_FAULT", f"{point}:{count}+{once}")
    with manycore.get_context("spawn").Pool(2) as pool:
        task = functools.partial(targets.wait_and_tally_or_die, tally.path, ())
        result = outcome(pool.starmap, task, list(enumerate(SHARED)))
        assert once.exists(), "no worker died"
        ran = tally.take()
        assert max(ran.values()) == 1
        if isinstance(result, list):
            assert result == list(range(100))
            assert len(ran) == 100
        else:  # it had taken a task, or had run all of it and not answered yet
            assert point in ("ring.get.committed", "row.taken", "ring.put.written")
        assert pool.map(targets.square, range(50)) == [n * n for n in range(50)]


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
def test_a_worker_that_dies_while_its_pool_is_joined_loses_one_item_of_a_lazy_map(tally, way):
    with manycore.Pool(2) as pool:
        task = functools.partial(targets.tally_or_die, tally.path, 37, "SIGKILL")
        results = getattr(pool, way)(task, range(100), buffersize=4)
        pool.close()
        pool.join()
        assert tally.take() == collections.Counter(set(range(100)) - {37})
        outcomes = drain(results)
    assert len(outcomes) == 100
    assert len(deaths(outcomes)) == 1


@pytest.mark.parametrize("way", ["SIGKILL", "SIGSEGV", "SIGTERM", "os._exit", "os.abort"])
@all_ways
def test_every_way_to_die_is_told_by_its_exit_code(pool, gate, tally, start, way):
    task = functools.partial(targets.tally_or_die, tally.path, 7, way)
    (died,) = deaths(start(pool, task, range(20))())
    assert died.exitcode == targets.ENDINGS[way]
    assert tally.take() == collections.Counter(set(range(20)) - {7})
    assert_alive(pool, gate)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(
    ("way", "words"), [("SIGKILL", "SIGKILL"), ("os._exit", "3"), ("os.abort", "SIGABRT")]
)
def test_the_error_tells_what_happened_to_whom(method, way, words):
    with manycore.get_context(method).Pool(1) as pool:
        pid = pool.apply(targets.own_pid)
        with pytest.raises(manycore.WorkerDied) as caught:
            pool.apply(targets.ends_as, (way,))
        assert (caught.value.pid, caught.value.exitcode) == (pid, targets.ENDINGS[way])
        for part in (str(pid), words, "ends_as"):
            assert part in str(caught.value)
        assert caught.value.task == f"ends_as({way!r})"
        assert caught.value.signal == (words if words.startswith("SIG") else None)
        assert pool.apply(targets.own_pid) != pid


@pytest.mark.parametrize("way", ["SIGKILL", "os._exit"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_error_tells_how_much_memory_the_worker_had(method, way):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    size = before + (200 << 20)  # of a spawned one nothing is known below what its parent had
    with manycore.get_context(method).Pool(1) as pool, pytest.raises(manycore.WorkerDied) as caught:
        pool.apply(targets.fill_and_end_as, (size, way))
    peak = caught.value.peak_memory
    assert size <= peak < 2 * size + (200 << 20)
    assert f"{peak >> 20} MiB" in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).peak_memory == peak


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_no_memory_of_its_owner_counts_as_a_spawned_workers(run_script, method):
    done = run_script(
        """
        import os, sys
        import manycore

        if __name__ == "__main__":
            large = b"x" * (300 << 20)
            del large
            with manycore.get_context(sys.argv[1]).Pool(1) as pool:
                try:
                    pool.apply(os._exit, (1,))
                except manycore.WorkerDied as died:
                    print(died.peak_memory is None or died.peak_memory < 100 << 20)
        """,
        method,
    )
    assert done.stdout == "True\n", done.stderr


def test_a_task_that_exits_fails_and_nothing_hangs(pool, gate):
    with pytest.raises((manycore.WorkerDied, SystemExit)):
        pool.apply(targets.ends_as, ("sys.exit",))
    assert_alive(pool, gate)


def test_the_error_callback_is_told_of_the_death(pool):
    seen = []
    result = pool.apply_async(
        targets.ends_as, ("SIGKILL",), callback=seen.append, error_callback=seen.append
    )
    with pytest.raises(manycore.WorkerDied):
        result.get()
    assert [type(it) for it in seen] == [manycore.WorkerDied]


def test_an_idle_worker_that_is_killed_is_replaced_and_fails_nothing(pool, gate):
    for _ in range(5):
        victim = pool.apply(targets.own_pid)
        kill_and_confirm(victim)
        assert pool.map(targets.square, range(100), 1) == [x * x for x in range(100)]
        assert_alive(pool, gate)


def workers_at_work(pool, gate):
    """Starts a task in each worker that stops at the gate; the results, and who runs them."""
    results = [pool.apply_async(targets.stop_at, (gate,)) for _ in range(WORKERS)]
    return results, gate.arrived(WORKERS)


def test_all_idle_workers_may_be_killed(pool, gate):
    results, victims = workers_at_work(pool, gate)
    gate.let_go(WORKERS)
    for result in results:
        result.get()
    for victim in victims:
        kill_and_confirm(victim)
    assert_alive(pool, gate)


def test_all_busy_workers_may_be_killed(pool, gate):
    results, victims = workers_at_work(pool, gate)
    waiting = pool.map_async(targets.square, range(100), 1)
    for victim in victims:
        kill_and_confirm(victim)
    assert {outcome(result.get).pid for result in results} == set(victims)
    assert waiting.get() == [x * x for x in range(100)]
    assert_alive(pool, gate)


def test_a_worker_killed_after_close_fails_its_task_and_join_returns(pool, gate):
    results, victims = workers_at_work(pool, gate)
    waiting = pool.map_async(targets.square, range(100), 1)
    pool.close()
    for victim in victims:
        kill_and_confirm(victim)
    pool.join()
    assert {outcome(result.get).pid for result in results} == set(victims)
    assert waiting.get() == [x * x for x in range(100)]


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_pool_whose_workers_are_dead_can_be_ended(pool, gate, end):
    results, victims = workers_at_work(pool, gate)
    gate.let_go(WORKERS)
    for result in results:
        result.get()
    for victim in victims:
        kill_and_confirm(victim)
    getattr(pool, end)()
    pool.join()


def test_the_initializer_runs_in_the_replacement_too():
    with manycore.Pool(1, targets.remember, ("ready",)) as pool:
        with pytest.raises(manycore.WorkerDied):
            pool.apply(targets.ends_as, ("SIGKILL",))
        assert pool.apply(targets.remembered) == "ready"


def test_a_worker_that_dies_with_a_large_argument_or_result_leaves_the_pool_intact(pool, gate):
    payload = b"x" * (8 << 20)
    for _ in range(5):
        result = pool.apply_async(targets.stop_at, (gate, payload))
        kill_and_confirm(gate.arrived()[0])
        assert isinstance(outcome(result.get), manycore.WorkerDied)
        assert pool.apply(targets.identity, (payload,)) == payload


def test_python_does_not_warn_of_the_thread_that_replaces_a_worker(run_script):
    done = run_script("""
        import os, signal, time, warnings
        from manycore import get_context

        def die():
            os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            warnings.simplefilter("always")
            with get_context("fork").Pool(1) as pool:
                died = pool.apply_async(die)
                answer = pool.apply_async(int)  # by the next worker
                while not answer.ready():
                    time.sleep(0.01)  # a wait for the answer might see to the workers itself
                print(answer.get(), died.successful())
    """)
    assert (done.stdout, done.stderr) == ("0 False\n", "")


def test_idle_workers_may_be_killed_again_and_again(gate):
    with manycore.get_context("fork").Pool(WORKERS) as pool:
        for _ in range(4 * WORKERS):
            assert_started(pool)
            kill_and_confirm(pool._pool[0].pid)
            pool._attendant.look_after()
        assert_alive(pool, gate)


def assert_started(pool):
    """All workers have come as far as to ask for tasks."""
    while not all(map(pool._crew.was_ready, list(pool._workers._rows))):
        pass


# ---- collected by somebody else -------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_worker_that_the_program_collects_fails_its_task_and_is_replaced(run_script, method):
    done = run_script(
        """
        import os, signal, sys
        import manycore

        def end(way):
            os._exit(3) if way == "exit" else os.kill(os.getpid(), signal.SIGKILL)

        def collect(*_):
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass

        if __name__ == "__main__":
            signal.signal(signal.SIGCHLD, collect)
            with manycore.get_context(sys.argv[1]).Pool(2) as pool:
                for way in ["exit", "kill"] * 5:
                    try:
                        pool.apply(end, (way,))
                    except manycore.WorkerDied as died:
                        print(died.exitcode)
                print(pool.map(abs, range(3)))
                pool.close()
                pool.join()
        """,
        method,
    )
    known = tells_exits() or method == "forkserver"  # its zygote tells
    codes = "3\n-9\n" if known else "255\n255\n"
    assert (done.stdout, done.stderr) == (codes * 5 + "[0, 1, 2]\n", "")


@pytest.mark.parametrize("way", ["os._exit", "SIGSEGV", "SIGKILL"])
def test_how_workers_end_that_never_take_a_task_is_told(way):
    code = targets.ENDINGS[way]
    with (
        manycore.Pool(1, targets.ends_as, (way,)) as pool,
        pytest.raises(manycore.WorkerDied) as died,
    ):
        pool.apply(targets.square, (3,))
    assert died.value.exitcode == code and died.value.pid is not None
    end = f"was killed by {way}" if code < 0 else "exited with status 3"
    assert f"could take a task; the last one, {died.value.pid}, {end}" in str(died.value)
    assert died.value.signal == (way if code < 0 else None)
    executor = manycore.ProcessPoolExecutor(1, initializer=targets.ends_as, initargs=(way,))
    with executor, pytest.raises(BrokenProcessPool, match=end):
        executor.submit(targets.square, 3).result()
