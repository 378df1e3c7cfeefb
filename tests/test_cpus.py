"""How many CPUs a process may use."""

import os

import pytest

import manycore
from manycore import _cpus

pytestmark = pytest.mark.beyond_stdlib

TWO = "0::/a/b\n"
ONE = "5:memory:/x\n4:cpu,cpuacct:/a/b\n1:name=systemd:/a/b\n"


def groups(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        (TWO, {}, None),
        (TWO, {"a/b/cpu.max": "max 100000\n"}, None),
        (TWO, {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        (TWO, {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
        (TWO, {"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "200000 100000\n"}, 2.0),
        (TWO, {"cpu.max": "100000 100000\n"}, 1.0),  # all that a container sees
        ("0::/../../a\n", {"a/cpu.max": "100000 100000\n"}, 1.0),
        (TWO, {"unified/a/cpu.max": "100000 100000\n"}, 1.0),
        (TWO, {"a/b/cpu.max": "not what it should be"}, None),
        (ONE, {"cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1\n"}, None),
        (
            ONE,
            {
                "cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            ONE,
            {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "50000\n"},
            2.0,
        ),
        ("", {"cpu.max": "100000 100000\n"}, None),
    ],
)
def test_the_tightest_group_around_the_process_counts(tmp_path, own, files, quota):
    groups(tmp_path, files)
    assert _cpus._quota(own, tmp_path) == quota


@pytest.mark.parametrize(("quota", "cpus"), [(0.1, 1), (1.0, 1), (1.2, 2), (1000.0, None)])
def test_a_part_of_a_cpu_counts_as_one_and_none_is_added(monkeypatch, quota, cpus):
    monkeypatch.setattr(_cpus, "_quota", lambda *_: quota)
    expected = min(cpus or 10**6, len(os.sched_getaffinity(0)))
    assert manycore.available_cpus() == expected


def test_affinity_counts(run_script):
    done = run_script("""
        import os
        import manycore

        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(manycore.available_cpus(), manycore.cpu_count() == os.cpu_count())
        with manycore.Pool() as pool:
            print(pool._processes)
    """)
    assert (done.stdout, done.stderr) == ("1 True\n1\n", "")
