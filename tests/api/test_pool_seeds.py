"""Seeds: random numbers that do not depend on who runs a task, and when."""

import random

import pytest

import manycore
import pool_targets
import targets

pytestmark = pytest.mark.beyond_stdlib

ITEMS = range(20)


def numbers(processes, call, **options):
    with manycore.Pool(processes, **options) as pool:
        return call(pool)


@pytest.fixture(scope="module")
def expected():
    return numbers(1, lambda pool: pool.map(pool_targets.random_number, ITEMS, chunksize=1, seed=7))


@pytest.mark.parametrize("processes", [0, 1, 3])
@pytest.mark.parametrize(
    "call",
    [
        lambda pool: pool.map(pool_targets.random_number, ITEMS, seed=7),
        lambda pool: pool.map(pool_targets.random_number, ITEMS, 7, seed=7),
        lambda pool: pool.map_async(pool_targets.random_number, ITEMS, seed=7).get(),
        lambda pool: pool.starmap(pool_targets.random_number, [(i,) for i in ITEMS], seed=7),
        lambda pool: pool.starmap(pool_targets.random_number, [(i,) for i in ITEMS], 3, seed=7),
        lambda pool: list(pool.imap(pool_targets.random_number, ITEMS, seed=7)),
        lambda pool: list(pool.imap(pool_targets.random_number, ITEMS, 6, seed=7)),
        lambda pool: pool.map(pool_targets.random_number, ITEMS, seed=7, retries=1),
    ],
    ids=["map", "map of 7", "map_async", "starmap", "starmap of 3", "imap", "imap of 6", "retries"],
)
def test_numbers_depend_on_the_seed_and_the_item_alone(expected, processes, call):
    assert numbers(processes, call) == expected


def test_each_item_and_each_seed_has_other_numbers(expected):
    others = numbers(2, lambda pool: pool.map(pool_targets.random_number, ITEMS, seed=8))
    assert len({*expected, *others}) == 2 * len(ITEMS)


def test_calls_to_a_pool_with_a_seed_have_other_numbers_each():
    def call(pool):
        return [pool.map(pool_targets.random_number, range(5)) for _ in range(2)] + [
            [pool.apply(pool_targets.random_number) for _ in range(2)]
        ]

    once, again = numbers(1, call, seed=1), numbers(3, call, seed=1)
    assert once == again
    assert len({number for numbers in once for number in numbers}) == 12
    assert numbers(2, call, seed=2) != once


def test_the_seed_of_a_call_goes_before_that_of_the_pool(expected):
    call = lambda pool: pool.map(pool_targets.random_number, ITEMS, seed=7)  # noqa: E731
    assert numbers(2, call, seed=1) == expected


def test_numpys_numbers_follow_from_the_seed_too(ctx):
    def call():
        with ctx.Pool(2, pool_targets.import_numpy) as pool:
            return pool.map(pool_targets.random_of_numpy, range(6), chunksize=1, seed=3)

    once = call()
    assert call() == once
    assert len({number for pair in once for number in pair}) == 12


def test_a_task_that_is_tried_again_has_the_same_seed(tmp_path):
    path = tmp_path / "seeds"
    with manycore.Pool(1) as pool:
        seed = pool.apply(
            pool_targets.seed_at_the_second_try, (path,), seed=1, retries=1, retry_on=OSError
        )
    assert pool_targets.noted(path) == [str(seed)] * 2


def test_what_is_left_of_a_chunk_whose_worker_died_has_the_seeds_of_its_items(tmp_path):
    path, items = tmp_path / "seeds", range(12)
    arguments = [(item, path, 4) for item in items]
    with manycore.Pool(2) as pool:
        with pytest.raises(manycore.WorkerDied):
            pool.starmap(pool_targets.note_seed_and_die_at, arguments, 6, seed=5)
        seeds = pool.map(pool_targets.seed_of, items, seed=5)
    noted = dict(line.split() for line in pool_targets.noted(path))
    assert noted == {str(item): str(seed) for item, seed in zip(items, seeds, strict=True)}


def test_a_task_without_a_seed_says_so_also_after_one_that_had_one():
    with manycore.Pool(1) as pool:
        assert 0 <= pool.apply(pool_targets.seed_of, seed=1) < 2**128
        with pytest.raises(RuntimeError, match="no seed"):
            pool.apply(pool_targets.seed_of)
    with pytest.raises(RuntimeError, match="no seed"):
        manycore.task_seed()


def test_seeds_go_with_large_arguments():
    large = bytes(100_000)
    with manycore.Pool(1) as pool:
        assert pool.map(targets.identity, [large, [large] * 3], seed=1) == [large, [large] * 3]


@pytest.mark.parametrize("seed", ["1", 1.5, True, [1]])
def test_a_seed_is_an_integer(seed):
    with pytest.raises(TypeError, match="seed must be an integer"):
        manycore.Pool(1, seed=seed)
    with manycore.Pool(1) as pool, pytest.raises(TypeError, match="seed must be an integer"):
        pool.map(targets.square, [1], seed=seed)


def test_an_executor_has_the_numbers_of_a_pool(expected):
    with manycore.ProcessPoolExecutor(3) as executor:
        seeded = executor.with_options(seed=7)
        assert list(seeded.map(pool_targets.random_number, ITEMS)) == expected
        assert list(seeded.map(pool_targets.random_number, ITEMS, chunksize=6)) == expected
    with manycore.ProcessPoolExecutor(2, seed=1) as executor:
        first = list(executor.map(pool_targets.random_number, ITEMS))
    assert first == numbers(
        1, lambda pool: list(pool.imap(pool_targets.random_number, ITEMS)), seed=1
    )


def test_a_program_that_runs_its_tasks_itself_has_its_own_numbers_afterwards():
    numpy = pytest.importorskip("numpy")

    def own():
        return random.random(), numpy.random.random()

    def start():
        random.seed(5)
        numpy.random.seed(5)

    start()
    expected = own(), own()
    start()
    first = own()
    with manycore.Pool(0) as pool:
        pool.map(pool_targets.random_number, ITEMS, seed=7)
        pool.apply(_call_another_pool, (pool_targets.random_number,), seed=7)
    assert (first, own()) == expected


def _call_another_pool(function):
    with manycore.Pool(0) as pool:
        return pool.apply(function, seed=8)


@pytest.mark.parametrize("processes", [0, 2])
def test_the_item_that_is_the_first_to_import_numpy_has_its_numbers(run_script, processes):
    done = run_script(
        """
        import random, sys
        import manycore

        def number(_):
            import numpy

            return float(numpy.random.rand())

        if __name__ == "__main__":
            assert "numpy" not in sys.modules
            with manycore.get_context("fork").Pool(int(sys.argv[1])) as pool:
                first = pool.map(number, range(6), chunksize=1, seed=1)
                assert first == pool.map(number, range(6), chunksize=1, seed=1)
            print(first)
            if int(sys.argv[1]) == 0:  # the program's own generator is as if there had been no task
                import numpy

                assert numpy.random.get_state()[2] > 600  # nothing was drawn
        """,
        str(processes),
    )
    with manycore.Pool(1, pool_targets.import_numpy) as pool:
        pairs = pool.map(pool_targets.random_of_numpy, range(6), seed=1)
    expected = [number for number, _ in pairs]
    assert (done.stdout, done.stderr) == (f"{expected}\n", "")
