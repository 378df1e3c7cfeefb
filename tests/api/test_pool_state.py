"""What a pool sets up in its workers: state, numbers, hooks, variables, CPUs; pools in pools."""

import functools
import os

import pytest

import manycore
import pool_targets
import processes
import targets

pytestmark = pytest.mark.beyond_stdlib


def finish(pool):
    pool.close()
    pool.join()


def test_each_worker_keeps_its_state_from_task_to_task(ctx):
    with ctx.Pool(2, pass_worker=True) as pool:
        counts = pool.map(pool_targets.count, range(50), chunksize=1)
    for worker in (0, 1):
        assert sorted(count for id, count in counts if id == worker) == list(
            range(1, 1 + sum(id == worker for id, _ in counts))
        )
    assert {id for id, _ in counts} <= {0, 1}


@pytest.mark.parametrize(
    "run",
    [
        lambda pool, func: pool.map(func, [5, 6]),
        lambda pool, func: pool.map(func, [5, 6], chunksize=2),
        lambda pool, func: pool.starmap(func, [(5,), (6,)]),
        lambda pool, func: list(pool.imap(func, [5, 6])),
        lambda pool, func: [pool.apply(func, (4,), {"add": 1}), pool.apply(func, (6,))],
        lambda pool, func: pool.map(functools.partial(func, add=0), [5, 6]),
        lambda pool, _: pool.map(lambda worker, item: worker.id >= 0 and item, [5, 6]),
    ],
)
def test_every_kind_of_call_and_function_gets_the_worker_first(run):
    with manycore.Pool(1, pass_worker=True) as pool:
        assert run(pool, pool_targets.weigh) == [5, 6]


def test_a_function_asks_for_its_worker_as_the_initializer_did(ctx):
    with ctx.Pool(2, pool_targets.remember, ("it",)) as pool:
        assert pool.map(pool_targets.remembered, range(10), chunksize=1) == ["it"] * 10


def test_there_is_no_worker_elsewhere():
    assert manycore.current_worker() is None
    with manycore.Pool(1) as pool:
        assert pool.apply(pool_targets.worker_of_a_child, (0,)) is None


def test_a_worker_that_replaces_another_has_its_number():
    with manycore.Pool(2, maxtasksperchild=1) as pool:
        seen = pool.map(pool_targets.pid_and_id, range(12), chunksize=1)
        assert {id for _, id in seen} == {0, 1}
        assert len({pid for pid, _ in seen}) == 12


def test_a_worker_that_was_killed_is_replaced_with_its_number(gate):
    with manycore.Pool(2) as pool:
        first = dict(pool.map(pool_targets.pid_and_id, range(8), chunksize=1))
        victim = next(iter(first))
        processes.kill_and_confirm(victim)
        waiting = [pool.apply_async(targets.stop_at, (gate,)) for _ in range(2)]
        gate.arrived(2)  # both places are taken again
        gate.let_go(2)
        for result in waiting:
            result.get()
        ids = {id for _, id in pool.map(pool_targets.pid_and_id, range(50), chunksize=1)}
    assert ids <= {0, 1}


def test_a_worker_calls_the_finalizer_when_the_pool_was_closed(ctx, tmp_path):
    path = tmp_path / "ends"
    pool = ctx.Pool(2, finalizer=pool_targets.note_end, finalargs=(path,))
    workers = {process.pid for process in pool._pool}
    pool.map(targets.square, range(10))
    assert not path.exists()
    finish(pool)
    ends = [tuple(map(int, line.split())) for line in pool_targets.noted(path)]
    assert {pid for pid, _ in ends} == workers
    assert sorted(id for _, id in ends) == [0, 1]


def test_a_worker_calls_the_finalizer_when_it_is_replaced(tmp_path):
    path = tmp_path / "ends"
    pool = manycore.Pool(1, maxtasksperchild=2, finalizer=pool_targets.note_end, finalargs=(path,))
    pids = pool.map(pool_targets.pid_and_id, range(6), chunksize=1)
    finish(pool)
    ended = [int(line.split()[0]) for line in pool_targets.noted(path)]
    assert {pid for pid, _ in pids} <= set(ended)
    assert len(ended) == len(set(ended))


def test_a_terminated_worker_calls_no_finalizer(tmp_path):
    path = tmp_path / "ends"
    with manycore.Pool(2, finalizer=pool_targets.note_end, finalargs=(path,)) as pool:
        pool.map(targets.square, range(10))
    assert not path.exists()


def test_an_error_in_the_finalizer_is_printed_and_harms_nobody(capfd):
    pool = manycore.Pool(1, maxtasksperchild=1, finalizer=pool_targets.fail_at_the_end)
    assert pool.map(targets.square, range(6), chunksize=1) == [0, 1, 4, 9, 16, 25]
    finish(pool)
    assert "OSError: this finalizer fails" in capfd.readouterr().err


def test_a_finalizer_must_be_callable():
    with pytest.raises(TypeError, match="finalizer must be a callable"):
        manycore.Pool(1, finalizer=3)


def test_a_worker_has_the_variables_of_its_pool_before_its_imports(ctx):
    environment = {pool_targets.VARIABLE: "of this pool"}
    with ctx.Pool(1, environment=environment) as pool:
        now, at_import = pool.apply(pool_targets.variable)
    assert now == "of this pool"
    if ctx.get_start_method() == "spawn":
        assert at_import == "of this pool"
    assert pool_targets.VARIABLE not in os.environ


def test_the_users_variables_come_before_the_limits_of_threads():
    with manycore.Pool(2, environment={"OMP_NUM_THREADS": "7"}) as pool:
        assert pool.apply(os.getenv, ("OMP_NUM_THREADS",)) == "7"


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({"A": 1}, TypeError),
        ({1: "a"}, TypeError),
        ({"A=B": ""}, ValueError),
        ({"A": "\0"}, ValueError),
    ],
)
def test_what_cannot_be_a_variable_is_refused(environment, error):
    with pytest.raises(error, match="environment"):
        manycore.Pool(1, environment=environment)


def test_workers_are_pinned_to_one_cpu_each(ctx):
    mine = sorted(os.sched_getaffinity(0))
    with ctx.Pool(3, pin=True) as pool:
        seen = pool.map(pool_targets.cpus, range(60), chunksize=1)
    assert all(cpus == [mine[id % len(mine)]] for id, cpus in seen)
    assert sorted(os.sched_getaffinity(0)) == mine


def test_workers_are_pinned_to_the_cpus_that_were_named():
    mine = sorted(os.sched_getaffinity(0))
    with manycore.Pool(2, pin=[mine, mine[-1]]) as pool:
        seen = dict(pool.map(pool_targets.cpus, range(100), chunksize=1))
    for id, cpus in seen.items():
        assert cpus == [mine, [mine[-1]]][id]


@pytest.mark.parametrize("pin", [[4095], [[0, 4095]], [[]], []])
def test_cpus_that_this_process_may_not_use_are_refused(pin):
    with pytest.raises(ValueError, match="CPU"):
        manycore.Pool(1, pin=pin)


def test_a_worker_may_have_a_pool_of_its_own(ctx):
    with ctx.Pool(2) as pool:
        assert pool.map(pool_targets.squares_of_a_pool, [3, 4]) == [[0, 1, 4], [0, 1, 4, 9]]


def test_a_killed_worker_takes_the_workers_of_its_own_pool_along(ctx, gate, tmp_path):
    with ctx.Pool(1) as pool:
        result = pool.apply_async(pool_targets.start_pool_and_stop, (gate, tmp_path / "pids"))
        [worker] = gate.arrived()
        within = [int(pid) for pid in pool_targets.noted(tmp_path / "pids")[0].split()]
        assert len(within) == 2
        processes.kill_and_confirm(worker)
        with pytest.raises(manycore.WorkerDied):
            result.get()
        processes.wait_for_end(within)  # hangs if somebody stays
        assert pool.apply(targets.square, (3,)) == 9
