"""`os.fork` by the program itself, at any time: the child works."""

import gc
import os
import queue as standard_queue
import threading

import pytest

import manycore
import targets
from processes import forked, running

# CPython 3.12 and later warn when a program that has threads forks; these tests do it on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

beyond_stdlib = pytest.mark.beyond_stdlib
both_kinds = pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])


@both_kinds
def test_a_queue_connects_both_sides_of_a_fork(kind):
    questions, answers = getattr(manycore, kind)(), manycore.SimpleQueue()

    def answer():
        answers.put(["answer to", questions.get()])

    with forked(answer):
        questions.put("question")
        assert answers.get() == ["answer to", "question"]


@beyond_stdlib  # there the thread that feeds the pipe does not survive the fork
def test_a_queue_that_was_used_before_the_fork_works_on_both_sides():
    queue, answers = manycore.Queue(), manycore.Queue()
    queue.put("before")
    assert queue.get() == "before"
    queue.put("put before the fork")

    def child():
        answers.put(queue.get())
        queue.put("from the child")

    with forked(child):
        assert answers.get() == "put before the fork"
        assert queue.get() == "from the child"


@beyond_stdlib  # there a child that leaves by `os._exit` does not wait for the feeding thread
@both_kinds
def test_what_a_forked_child_put_is_there_when_it_has_ended(kind):
    queue = getattr(manycore, kind)()
    for number in range(20):
        with forked(lambda number=number: queue.put(number)):
            pass
    assert [queue.get() for _ in range(20)] == list(range(20))


def test_a_child_of_a_child_is_of_the_family():
    queue = manycore.SimpleQueue()

    def child():
        with forked(lambda: queue.put("from the grandchild")):
            pass
        queue.put("from the child")

    with forked(child):
        assert queue.get() == "from the grandchild"
        assert queue.get() == "from the child"


def test_the_first_use_of_the_family_may_be_in_a_forked_child(run_script):
    done = run_script("""
        import os
        import manycore

        pid = os.fork()
        queue = manycore.SimpleQueue()
        queue.put("child" if pid == 0 else "parent")
        print(queue.get(), queue.empty(), flush=True)
        if pid == 0:
            os._exit(0)
        assert os.waitpid(pid, 0) == (pid, 0)
    """)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["child True", "parent True"]


def in_a_thread(body):
    """Runs `body` in a thread and waits for it; its exception comes here."""
    errors = []

    def run():
        try:
            body()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_a_thread_may_fork():
    questions, answers = manycore.SimpleQueue(), manycore.SimpleQueue()

    def fork():
        with forked(lambda: answers.put(questions.get() + 1)):
            questions.put(1)
            assert answers.get() == 2

    in_a_thread(fork)
    in_a_thread(fork)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_process_outlives_the_thread_that_started_it(method):
    context = manycore.get_context(method)
    questions, answers = context.SimpleQueue(), context.SimpleQueue()
    process = context.Process(target=targets.answer_squares, args=(questions, answers))
    in_a_thread(process.start)
    for number in (2, 3):
        questions.put(number)
        assert answers.get() == number**2
    questions.put(None)
    process.join()
    assert process.exitcode == 0


def test_the_first_use_of_the_family_may_be_in_a_thread_that_ends(run_script):
    done = run_script("""
        import os, threading
        import manycore

        made = []
        thread = threading.Thread(target=lambda: made.extend([manycore.Queue(), manycore.Lock()]))
        thread.start()
        thread.join()
        queue, lock = made

        def work(queue, lock):
            manycore._engine.reap()
            queue.put((os.getpid(), lock.acquire(False)))

        with lock:
            for _ in range(3):
                process = manycore.get_context("fork").Process(target=work, args=(queue, lock))
                process.start()
                assert queue.get() == (process.pid, False)
                process.join()
        with lock:  # nobody has taken it for a dead one's
            print("done")
    """)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@beyond_stdlib
@pytest.mark.parametrize("denied", ["", "wipe_on_fork"], ids=["kernel", "older kernel"])
def test_a_child_that_no_library_hears_of_is_of_the_family(run_script, monkeypatch, denied):
    monkeypatch.setenv("MANYCORE_DENY", denied)
    done = run_script("""
        import ctypes, os, signal
        import manycore

        clone = ctypes.PyDLL(None).syscall  # holds the interpreter, as `os.fork` does
        CLONE = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
        queue, lock, value = manycore.Queue(), manycore.Lock(), manycore.Value("i")
        names = {manycore._engine.membership()}
        for _ in range(10):
            pid = clone(CLONE, int(signal.SIGCHLD), 0, 0, 0, 0)
            if pid == 0:
                with lock:
                    queue.put(manycore._engine.membership())
                with value.get_lock():
                    value.value += 1
                own = manycore.Queue()
                own.put([queue, bytes(100_000)])
                own.get()[0].put("own")
                os._exit(0)
            assert os.waitpid(pid, 0) == (pid, 0)
            names.add(queue.get())
            assert queue.get() == "own"
            manycore._engine.reap()
        assert len(names) == 11, names
        assert value.value == 10
        print("done")
    """)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@beyond_stdlib
@pytest.mark.slow
def test_threads_may_fork_at_once():
    """And make and drop queues meanwhile."""
    shared, errors = manycore.Queue(), []

    def child():
        own = manycore.Queue()
        own.put([shared, b"x" * 100_000])
        queue, _ = own.get()
        queue.put(os.getpid())
        with forked(lambda: queue.put("from a grandchild")):
            pass

    def fork_often():
        try:
            for _ in range(25):
                with forked(child):
                    manycore.Queue().put(bytes(50_000))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=fork_often) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    said = [shared.get() for _ in range(150)]
    assert said.count("from a grandchild") == 75
    assert shared.empty()


@beyond_stdlib  # there a lock may be held by a thread that the child does not have
@pytest.mark.slow
@pytest.mark.parametrize("maxsize", [0, 4])
def test_a_child_works_though_other_threads_put_and_got_during_the_fork(maxsize):
    busy, answers = manycore.Queue(maxsize), manycore.Queue()
    stop = threading.Event()

    def put():
        while not stop.is_set():
            busy.put(b"x" * 100)
        busy.put(None)

    threads = [
        threading.Thread(target=put),
        threading.Thread(target=lambda: [None for _ in iter(busy.get, None)]),
    ]
    for thread in threads:
        thread.start()

    def child():
        own = manycore.Queue()
        own.put("own")
        assert own.get() == "own"
        busy.put(b"from a child")
        answers.put(os.getpid())

    try:
        for _ in range(50):
            with forked(child) as pid:
                assert answers.get() == pid
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@beyond_stdlib
def test_a_child_may_take_part_while_others_wait():
    """A thread of the parent sleeps in get during the fork; parent and child get one item each."""
    queue, answers = manycore.Queue(), manycore.Queue()
    getter = threading.Thread(target=lambda: answers.put(queue.get()))
    getter.start()
    with forked(lambda: answers.put(queue.get())):
        targets.put(queue, "one", "other")
        assert sorted([answers.get(), answers.get()]) == ["one", "other"]
    getter.join()


# There a plain fork leaves the child of the opinion that it holds the RLock.
@pytest.mark.parametrize("kind", ["Lock", pytest.param("RLock", marks=beyond_stdlib)])
def test_a_lock_held_at_the_fork_is_the_parents(kind):
    lock = getattr(manycore, kind)()
    said, may_go = manycore.SimpleQueue(), manycore.SimpleQueue()

    def child():
        said.put(lock.acquire(block=False))
        may_go.get()
        said.put(lock.acquire())
        lock.release()

    with lock, forked(child):
        assert said.get() is False
        lock.release()
        may_go.put(None)
        assert said.get() is True
        lock.acquire()


def test_a_value_is_shared_with_a_forked_child():
    value = manycore.Value("i", 1)

    def add():
        with value.get_lock():
            value.value += 1

    for _ in range(3):
        with forked(add):
            pass
    assert value.value == 4


def test_a_forked_child_may_start_processes():
    queue = manycore.SimpleQueue()

    def child():
        with running(manycore.get_context("fork"), targets.put, queue, "from the grandchild"):
            pass

    with forked(child):
        assert queue.get() == "from the grandchild"


def test_a_forked_child_may_have_a_pool_of_its_own():
    queue = manycore.SimpleQueue()

    def child():
        with manycore.Pool(2) as pool:
            queue.put(pool.map(targets.square, range(5)))

    with forked(child):
        assert queue.get() == [0, 1, 4, 9, 16]


# There the exit functions of the child terminate the daemons of the parent.
@pytest.mark.parametrize("end", ["os._exit", pytest.param("exit", marks=beyond_stdlib)])
def test_a_forked_child_that_ends_takes_nothing_from_the_parent(run_script, end):
    """Not its pool, not its processes, not its queues; with `exit` the exit functions run too."""
    done = run_script(
        """
        import os, sys
        import manycore

        def double(x):
            return 2 * x

        def echo(questions, answers):
            answers.put(questions.get())

        if __name__ == "__main__":
            context = manycore.get_context("fork")
            pool = context.Pool(2)
            print(pool.map(double, [1]), flush=True)
            questions, answers = context.SimpleQueue(), context.SimpleQueue()
            process = context.Process(target=echo, args=(questions, answers))
            process.start()
            pid = os.fork()
            if pid == 0:
                os._exit(0) if sys.argv[1] == "os._exit" else sys.exit(0)
            os.waitpid(pid, 0)
            print(pool.map(double, [2]), flush=True)
            questions.put("still here")
            print(answers.get())
            process.join()
            pool.close()
            pool.join()
        """,
        end,
    )
    assert (done.stdout, done.returncode) == ("[2]\n[4]\nstill here\n", 0), done.stderr


@beyond_stdlib
@pytest.mark.slow
def test_five_hundred_forks_cost_neither_descriptors_nor_places():
    queue = manycore.Queue()
    for number in range(500):
        with forked(lambda number=number: queue.put(number)):
            pass
        assert queue.get() == number
    with pytest.raises(standard_queue.Empty):
        queue.get_nowait()


@beyond_stdlib
@pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
def test_a_forked_child_is_refused_by_its_parents_pool(kind, gate):
    with getattr(manycore, kind)(2) as pool:
        submit = pool.submit if hasattr(pool, "submit") else _submit_to(pool)
        waiting = submit(gate.stop)
        gate.arrived()

        def child():
            for use in (
                lambda: submit(targets.square, 1),
                lambda: list(pool.map(targets.square, range(3))),
                waiting.result if kind == "ProcessPoolExecutor" else waiting.get,
            ):
                with pytest.raises(RuntimeError, match="another process"):
                    use()

        with forked(child):
            results = [submit(targets.square, number) for number in range(100)]
        gate.let_go()
        got = [it.result() if hasattr(it, "result") else it.get() for it in (waiting, *results)]
    assert got == [None, *(number**2 for number in range(100))]


def _submit_to(pool):
    return lambda function, *args: pool.apply_async(function, args)


@beyond_stdlib
@pytest.mark.parametrize("use", ["next", "join", "terminate", "forget"])
def test_what_a_forked_child_does_with_its_parents_pool_is_done_to_a_copy(use):
    with manycore.Pool(2) as pool:
        squares = pool.imap(targets.square, range(1000))
        assert next(squares) == 0

        def child():
            nonlocal pool, squares
            if use == "next":
                with pytest.raises(RuntimeError, match="another process"):
                    list(squares)
            elif use == "join":
                pool.close()
                pool.join()
            elif use == "terminate":
                pool.terminate()
                pool.join()
            else:
                del pool, squares
                gc.collect()

        with forked(child):
            pass
        assert list(squares) == [number**2 for number in range(1, 1000)]
        assert pool.apply(targets.square, (7,)) == 49


@beyond_stdlib
@pytest.mark.parametrize("use", ["next", "close", "terminate", "forget"])
def test_what_a_forked_child_does_with_its_parents_pipeline_is_done_to_a_copy(use):
    with manycore.pipeline(range(500), manycore.stage(targets.square, workers=2)) as squares:
        assert next(squares) == 0

        def child():
            nonlocal squares
            if use == "next":
                with pytest.raises(RuntimeError, match="another process"):
                    for _ in squares:
                        pass
            elif use == "forget":
                del squares
                gc.collect()
            else:
                getattr(squares, use)()

        with forked(child):
            pass
        assert list(squares) == [number**2 for number in range(1, 500)]
