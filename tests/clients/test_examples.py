"""The example that needs scikit-learn."""

from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.beyond_stdlib
def test_a_model_is_applied_to_a_table(run_script):
    done = run_script((EXAMPLES / "score_table.py").read_text(), "12000")
    assert (done.returncode, done.stderr) == (0, "")
    points, _, right = done.stdout.partition(" points, ")
    assert points == "12000"
    assert int(right.partition("%")[0]) > 95
