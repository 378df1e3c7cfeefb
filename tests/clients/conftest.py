"""Other people's packages on ours: `make test-clients`, which installs them, runs this folder."""

import os
import sys
from pathlib import Path

import pytest

# Before NumPy is loaded: threads of its own would make CPython warn at every fork.
for limit in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(limit, "1")

sys.path.insert(0, str(Path(__file__).parent))  # for children that import `work`


@pytest.fixture(autouse=True)
def ends_workers_that_stay():
    yield
    if "manycore.joblib" in sys.modules:
        sys.modules["manycore.joblib"].shutdown()
