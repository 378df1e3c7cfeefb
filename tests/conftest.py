"""What every test gets: a watchdog, a check that nothing is left behind, and the fixtures."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

# Children started by `spawn` import their targets from here.
sys.path.insert(0, str(Path(__file__).parent))

import gate as gates
import leftovers
import manycore
import processes
import scripts
import targets
import watchdog

LIMIT, SLOW_LIMIT = 120, 600  # seconds after which a test counts as hung
FAILED = pytest.StashKey[bool]()
FORKED_BESIDE = []  # threads of ours that were there while this process was forked


def runs_code_of_the_program(thread):
    from manycore import _resting  # the standard library under our name has none

    if thread.name == "manycore-feeder":
        return True  # an iterable may refer to the thread that it began in

    owners = [it for it in _resting._known if it._thread is thread]
    return any(getattr(it, "is_outside", False) for it in owners)


def note_threads_of_ours():
    """Just before a fork, behind the hooks of all others, that end them."""
    for thread in threading.enumerate():
        if not thread.name.startswith("manycore-") or thread is threading.current_thread():
            continue
        if not runs_code_of_the_program(thread):
            FORKED_BESIDE.append((os.environ.get("PYTEST_CURRENT_TEST"), thread.name))


os.register_at_fork(before=note_threads_of_ours, after_in_child=FORKED_BESIDE.clear)


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "beyond_stdlib: promises more than the standard library keeps; "
        "deselected when the suite runs against that one",
    )
    watchdog.install(os.dup(2))  # not captured yet
    processes.adopt_orphans()


def pytest_collection_modifyitems(items):
    """First what forks this process hundreds of times: a fork copies the tables of its memory."""
    items.sort(key=lambda item: item.path.stem not in ("test_fork", "test_exit"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    with watchdog.limit(SLOW_LIMIT if item.get_closest_marker("slow") else LIMIT):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


def pytest_terminal_summary(terminalreporter):
    for test, thread in FORKED_BESIDE:
        terminalreporter.line(f"FORKED BESIDE {thread}: {test}", red=True)


def pytest_sessionfinish(session):
    if FORKED_BESIDE:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def family():
    """Makes the family's heap, and what else lives as long as the family, before a test counts."""
    queue = manycore.Queue()
    queue.put(None)
    queue.get()
    for method in ("fork", "spawn", "forkserver"):
        with processes.running(manycore.get_context(method), targets.nothing):
            pass


def have_zygote():
    """Starts the process that forks for `forkserver` anew, if a test has ended it."""
    server = getattr(sys.modules.get("manycore.forkserver"), "_forkserver", None)
    if server is not None and server._zygote is None:
        with processes.running(manycore.get_context("forkserver"), targets.nothing):
            pass


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request, family):
    have_zygote()
    before = leftovers.Belongings.now()
    yield
    failed = request.node.stash.get(FAILED, False)
    left = leftovers.Belongings.now() - before if failed else leftovers.since(before)
    leftovers.end(left)
    if left and not failed:
        pytest.fail(f"the test left behind:\n{left}", pytrace=False)


# A child by `spawn` takes longer than most tests: on other Pythons than the main one only those
# that name that method use it.
@pytest.fixture(params=["fork", pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
def ctx(request):
    return manycore.get_context(request.param)


@pytest.fixture
def pipe():
    ends = manycore.Pipe()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def ctrl_c():
    """Has SIGINT raise `KeyboardInterrupt`: a shell has what it runs beside itself ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def gate(tmp_path):
    place = gates.Gate(tmp_path)
    yield place
    place.close()


@pytest.fixture
def run_script(tmp_path):
    return scripts.Scripts(tmp_path)
