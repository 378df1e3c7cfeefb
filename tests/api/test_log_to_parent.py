"""log_to_parent: what workers log is handled by their parent."""

import concurrent.futures
import contextlib
import logging
import os
import signal
import sys
import threading

import pytest

import manycore
import targets
from processes import running

pytestmark = pytest.mark.beyond_stdlib

NAME = "tests.logged"
FORK = manycore.get_context("fork")


@pytest.fixture
def heard():
    """The records that the handlers of one logger, here, have been given."""
    records = []
    logger = logging.getLogger(NAME)
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield records
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def test_records_of_a_process_reach_the_parents_handlers(ctx, heard):
    with manycore.log_to_parent(), running(ctx, targets.log, NAME, "%s items", 3, name="Busy") as p:
        pass
    [record] = heard
    assert record.getMessage() == "3 items"
    assert (record.process, record.processName) == (p.pid, "Busy")
    assert (record.name, record.funcName, record.taskName) == (NAME, "log", "log")


def test_records_of_a_pools_tasks_say_which_task(ctx, heard):
    with manycore.log_to_parent(), ctx.Pool(2) as pool:
        pool.starmap(targets.log, [(NAME, "%d", number) for number in range(20)])
        workers = {process.pid: process.name for process in pool._pool}
    assert sorted(int(record.getMessage()) for record in heard) == list(range(20))
    assert all(workers[record.process] == record.processName for record in heard)
    assert {record.taskName for record in heard} == {"log"}


# Its own threads are there when it forks.
@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
def test_records_of_an_executors_tasks_arrive(method, heard):
    context = manycore.get_context(method)
    with (
        manycore.log_to_parent(),
        concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor,
    ):
        executor.submit(targets.log, NAME, "submitted").result()
        list(executor.map(targets.log, [NAME], ["mapped"]))
    assert [(record.getMessage(), record.taskName) for record in heard] == [
        ("submitted", "log"),
        ("mapped", "log"),
    ]


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_records_of_children_of_children_come_to_whoever_asked(method, heard):
    ctx = manycore.get_context(method)
    with manycore.log_to_parent(), running(ctx, targets.have_a_child_log, ctx, NAME):
        pass
    assert [record.getMessage() for record in heard] == ["from below", "from above"]


def test_a_killed_worker_loses_nothing_that_it_has_logged(heard):
    with manycore.log_to_parent(), running(FORK, targets.log_and_be_killed, NAME, 50) as process:
        pass
    assert process.exitcode == -signal.SIGKILL
    assert [record.getMessage() for record in heard] == [str(number) for number in range(50)]


def test_an_exception_arrives_as_text(heard):
    with manycore.log_to_parent(), running(FORK, targets.log_an_exception, NAME):
        pass
    [record] = heard
    assert record.exc_info is None
    assert "ZeroDivisionError: a reason" in record.getMessage()


def test_a_record_with_what_cannot_be_pickled_arrives_all_the_same(ctx, heard):
    with manycore.log_to_parent(), running(ctx, targets.log_with_a_lock, NAME):
        pass
    [record] = heard
    assert record.getMessage() == "held"
    assert record.request == 7
    assert record.lock.startswith("<unlocked _thread.lock object")


def test_levels_are_those_of_the_parent(ctx, heard):
    logging.getLogger(f"{NAME}.verbose").setLevel(logging.DEBUG)
    with manycore.log_to_parent(), running(ctx, targets.log_at_every_level, NAME, "verbose"):
        pass
    logging.getLogger(f"{NAME}.verbose").setLevel(logging.NOTSET)
    told = [(record.name.removeprefix(NAME), record.levelname) for record in heard]
    levels = ["DEBUG", "INFO", "WARNING", "ERROR"]
    assert told == [("", level) for level in levels[1:]] + [(".verbose", level) for level in levels]


def test_what_is_below_a_level_is_not_sent(heard):
    with (
        manycore.log_to_parent(level="ERROR"),
        running(FORK, targets.log_at_every_level, NAME),
    ):
        pass
    assert [record.levelname for record in heard] == ["ERROR"]


def test_only_what_is_below_the_given_logger_is_sent(ctx, heard, tmp_path):
    own = tmp_path / "own"
    with (
        manycore.log_to_parent(f"{NAME}.sent"),
        running(ctx, targets.log_here_and_there, own, f"{NAME}.kept", f"{NAME}.sent.below"),
    ):
        pass
    assert [record.name for record in heard] == [f"{NAME}.sent.below"]
    assert own.read_text() == f"{NAME}.kept\n"


def test_handlers_of_the_parent_do_not_write_in_the_worker_as_well(heard, tmp_path):
    written = tmp_path / "written"
    handler = logging.FileHandler(written)
    handler.setFormatter(logging.Formatter("%(processName)s %(message)s"))
    logging.getLogger(NAME).addHandler(handler)
    try:
        with manycore.log_to_parent(), running(FORK, targets.log, NAME, "once", name="Worker"):
            pass
    finally:
        logging.getLogger(NAME).removeHandler(handler)
        handler.close()
    assert written.read_text() == "Worker once\n"


def test_the_last_call_counts(heard):
    with (
        manycore.log_to_parent(NAME),
        manycore.log_to_parent(),
        running(FORK, targets.log, NAME, "once"),
    ):
        pass
    assert len(heard) == 1


def test_after_stop_records_are_dropped_and_nobody_waits(heard, gate):
    receiver = manycore.log_to_parent()
    with running(FORK, targets.log_before_and_behind, gate, NAME) as process:
        gate.arrived()
        receiver.stop()
        assert [record.getMessage() for record in heard] == ["before"]
        gate.let_go()
    receiver.stop()
    assert process.exitcode == 0
    assert len(heard) == 1


def test_a_handler_that_fails_is_told_of_and_the_next_record_handled(heard, capfd):
    def fail_at_first(record):
        if record.getMessage() == "0":
            raise ValueError("a broken filter")
        return True

    handler = logging.getLogger(NAME).handlers[0]
    handler.addFilter(fail_at_first)
    with manycore.log_to_parent(), running(FORK, targets.log_and_be_killed, NAME, 2):
        pass
    assert [record.getMessage() for record in heard] == ["1"]
    assert "a broken filter" in capfd.readouterr().err


def test_records_are_handled_while_nobody_waits(heard):
    arrived = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: arrived.set()
    logging.getLogger(NAME).addHandler(handler)
    with contextlib.ExitStack() as stack:
        stack.callback(logging.getLogger(NAME).removeHandler, handler)
        stack.enter_context(manycore.log_to_parent())
        for number in range(3):
            arrived.clear()
            with running(FORK, targets.log, NAME, str(number)):
                assert arrived.wait()
    assert [record.getMessage() for record in heard] == ["0", "1", "2"]


def test_a_forked_child_of_another_kind_logs_as_before(heard):
    with manycore.log_to_parent() as receiver:
        if (pid := os.fork()) == 0:
            receiver.stop()  # its parent's
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert "receiving" in repr(receiver)
    assert "stopped" in repr(receiver)


FORKS = """
import logging
import manycore

logging.basicConfig()

def task(number):
    logging.error("task %d", number)
    return number

context = manycore.get_context("fork")
with manycore.log_to_parent():
    with context.Pool(2) as pool:
        results = [pool.apply_async(task, (number,)) for number in range(4)]
        for number in range(4, 8):
            process = context.Process(target=task, args=(number,))
            process.start()
            process.join()
        for result in results:
            result.get()
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python does not warn of forks with threads")
def test_python_does_not_warn_of_our_threads_when_a_program_forks(run_script):
    """Seen from outside: CPython drops this warning where warnings are errors."""
    done = run_script(FORKS, run_by=("-W", "always"))
    assert sorted(done.stderr.splitlines()) == [f"ERROR:root:task {number}" for number in range(8)]


PROGRAM = """
import logging, sys
import manycore

def task(number):
    logging.getLogger("tests").info("task %d", number)

if __name__ == "__main__":
    logging.basicConfig(
        level="INFO", format="%(processName)s %(name)s %(message)s", stream=sys.stdout
    )
    manycore.log_to_parent()
    context = manycore.get_context(sys.argv[1])
    process = context.Process(target=task, args=(1,), name="Worker")
    process.start()
"""


@pytest.mark.parametrize(
    "method", ["fork", pytest.param("spawn", marks=pytest.mark.slow), "forkserver"]
)
def test_a_program_that_ends_handles_what_its_children_still_log(run_script, method):
    done = run_script(PROGRAM, method)
    assert (done.stdout, done.stderr) == ("Worker tests task 1\n", "")
