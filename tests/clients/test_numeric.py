"""Packages that take a pool, or the `map` of one: scipy, emcee; tables, images."""

import emcee
import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import work
from PIL import Image

import manycore

pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture(params=["fork", "forkserver"])
def pool(request):
    with manycore.get_context(request.param).Pool(2) as pool:
        yield pool
    pool.join()


def test_scipy_s_differential_evolution_finds_the_same_with_our_map(pool):
    def minimum(**options):
        return scipy.optimize.differential_evolution(
            work.bowl, [(-2, 2)] * 3, rng=1, maxiter=5, updating="deferred", polish=False, **options
        )

    ours, alone = minimum(workers=pool.map), minimum()
    assert (ours.x == alone.x).all()
    assert ours.nfev == alone.nfev


def test_scipy_s_brute_force_finds_the_same_with_our_map(pool):
    ranges = (slice(-1, 1, 0.25),) * 2
    assert scipy.optimize.brute(work.bowl, ranges, workers=pool.map, finish=None).tolist() == [
        0.5,
        0.5,
    ]


def test_emcee_walks_the_same_way_with_our_pool(pool):
    def walk(**options):
        start = np.random.default_rng(0).normal(size=(8, 2))
        sampler = emcee.EnsembleSampler(8, 2, work.log_probability, args=[np.ones(2)], **options)
        np.random.seed(0)
        sampler.random_state = np.random.get_state()
        sampler.run_mcmc(start, 20)
        return sampler.get_chain()

    assert (walk(pool=pool) == walk()).all()


def test_parts_of_a_table_are_worked_on_and_put_together(pool):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "name": pd.Categorical(rng.choice(["oak", "elm", "ash"], 30_000)),
            "value": rng.integers(0, 100, 30_000),
        }
    )
    parts = [table.iloc[start : start + 7000] for start in range(0, len(table), 7000)]
    totals = pd.concat(pool.map(work.total_by_name, parts, chunksize=1)).groupby(level=0).sum()
    pd.testing.assert_series_equal(
        totals.sort_index(), work.total_by_name(table).sort_index(), check_index_type=False
    )


def test_images_go_there_and_come_back(pool):
    images = [Image.new("RGB", (400, 300), (n, 2 * n, 255)) for n in range(12)]
    for n, image in enumerate(pool.imap(work.negative, images)):
        assert image.size == (400, 300)
        assert image.getpixel((399, 299)) == (255 - n, 255 - 2 * n, 0)
