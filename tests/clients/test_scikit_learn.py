"""scikit-learn on joblib's backend of ours: the figures are those of one process."""

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

import manycore
import manycore.joblib

pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture(scope="module")
def table():
    return make_classification(n_samples=300, n_features=8, random_state=0)


@pytest.fixture(params=["fork", "forkserver"])
def workers(request):
    with parallel_config(backend="manycore", n_jobs=2, context=request.param):
        yield


def test_cross_val_score(table, workers):
    model = LogisticRegression()
    scores = cross_val_score(model, *table, cv=4)
    assert scores.tolist() == cross_val_score(model, *table, cv=4, n_jobs=1).tolist()


def test_grid_search(table, workers):
    def search(**options):
        grid = {"C": [0.01, 0.1, 1, 10]}
        return GridSearchCV(LogisticRegression(), grid, cv=3, **options).fit(*table)

    ours, alone = search(), search(n_jobs=1)
    assert ours.best_params_ == alone.best_params_
    assert ours.cv_results_["mean_test_score"].tolist() == (
        alone.cv_results_["mean_test_score"].tolist()
    )


def test_a_scorer_that_pickle_cannot_name(table, workers):
    def scorer(model, x, y):
        return float(np.mean(model.predict(x) == y))

    scores = cross_val_score(LogisticRegression(), *table, cv=3, scoring=scorer)
    assert scores.tolist() == cross_val_score(LogisticRegression(), *table, cv=3).tolist()


def test_a_forest_on_a_table_that_counts_as_large(workers):
    x, y = make_classification(n_samples=20_000, n_features=10, random_state=0)
    assert x.nbytes > 1 << 20
    forests = [
        RandomForestClassifier(6, max_depth=4, random_state=0, n_jobs=jobs).fit(x, y)
        for jobs in (None, 1)
    ]
    for ours, alone in zip(*forests, strict=True):
        assert (ours.tree_.value == alone.tree_.value).all()


class Mortal(LogisticRegression):
    """A model whose worker dies when it is fitted."""

    def fit(self, x, y):
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_ends_a_search_which_can_be_tried_again(table):
    with parallel_config(backend="manycore", n_jobs=2, context="fork"):
        with pytest.raises(manycore.WorkerDied, match="killed by SIGKILL while it ran _fit_and_sc"):
            cross_val_score(Mortal(), *table, cv=3)
        assert len(cross_val_score(LogisticRegression(), *table, cv=3)) == 3
