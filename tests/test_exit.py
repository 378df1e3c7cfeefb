"""What was put before a process ended arrives, however it ended."""

import os
import sys
import threading

import pytest

import manycore
import targets
from processes import forked, kill_and_confirm, running, wait_until_asleep

beyond_stdlib = pytest.mark.beyond_stdlib

SIZES = [0, 100, 9_000, 40_000, 1 << 20]
KINDS = ["Queue", "JoinableQueue", "SimpleQueue"]


def payloads(count):
    return [bytes([number % 251]) * SIZES[number % len(SIZES)] for number in range(count)]


# The standard library's feeder thread sends what was put when its process ends in order; it says of
# SimpleQueue that `put` has sent it.
ORDERLY = ["return", "sys.exit", "sys.exit(None)", "sys.exit(text)", "raise"]
ABRUPT = ["os._exit", "os.abort", "SIGKILL", "SIGTERM", "SIGSEGV"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "way", ORDERLY + [pytest.param(way, marks=beyond_stdlib) for way in ABRUPT]
)
def test_what_was_put_arrives_after_the_end(ctx, kind, way, capfd):
    queue = getattr(ctx, kind)()
    items = payloads(10)
    process = ctx.Process(target=targets.put_and_end, args=(queue, items, way))
    process.start()
    assert [queue.get() for _ in items] == items
    process.join()
    assert process.exitcode == targets.ENDINGS[way]
    assert queue.empty()
    capfd.readouterr()  # the traceback of `raise`


@beyond_stdlib  # there joining first may wait for ever
@pytest.mark.parametrize("way", ORDERLY + ABRUPT)
def test_what_was_put_is_there_when_the_process_has_ended(ctx, way, capfd):
    queue, items = ctx.Queue(), payloads(10)
    with running(ctx, targets.put_and_end, queue, items, way) as process:
        pass
    assert process.exitcode == targets.ENDINGS[way]
    assert [queue.get_nowait() for _ in items] == items
    capfd.readouterr()


@beyond_stdlib
@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_that_is_terminated_between_puts_leaves_what_it_put(gate, kind):
    context = manycore.get_context("fork")
    queue, items = getattr(context, kind)(), payloads(10)
    process = context.Process(target=targets.put_and_stop, args=(gate, queue, items), daemon=True)
    process.start()
    gate.arrived()
    process.terminate()
    process.join()
    assert [queue.get() for _ in items] == items
    assert queue.empty()


@beyond_stdlib
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_daemon_that_its_owner_ends_at_its_own_exit_leaves_what_it_put(run_script, method):
    done = run_script(
        """
        import os, sys
        import manycore

        def put_for_ever(queue):
            for number in range(10**9):
                queue.put(number)

        def count(queue, answers):
            for expected in range(10**9):
                number = queue.get()
                if number is None:
                    break
                assert number == expected
            answers.put(expected)

        if __name__ == "__main__":
            context = manycore.get_context(sys.argv[1])
            queue, answers = context.Queue(), context.Queue()
            daemon = context.Process(target=put_for_ever, args=(queue,), daemon=True)
            daemon.start()
            assert queue.get() == 0
            daemon.terminate()
            daemon.join()
            there = queue.qsize()
            queue.put(None)
            assert [queue.get() for _ in range(there)] == list(range(1, there + 1))
            assert queue.get() is None
            other = context.Process(target=put_for_ever, args=(queue,), daemon=True)
            other.start()
            queue.get()
            print("done", flush=True)
        """,
        method,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


AT_EXIT = """
    import atexit, multiprocessing.util, os, sys
    import {module} as tested

    def finalize(queue, item):
        queue.put(item)

    def child(queue):
        # Of a process that is started by `fork` the standard library runs these, and no `atexit`;
        # its own queues are closed at priority 10.
        finalizer = queue, "finalizer of the child"
        multiprocessing.util.Finalize(None, finalize, finalizer, exitpriority=20)
        queue.put("child")

    def consume(queue, count):
        for _ in range(count):
            print(queue.get(), flush=True)

    if __name__ == "__main__":
        context = tested.get_context(sys.argv[1])
        queue, last = context.Queue(), context.Queue()
        process = context.Process(target=child, args=(queue,))
        process.start()
        print(queue.get(), flush=True)
        print(queue.get(), flush=True)
        process.join()
        consumer = context.Process(target=consume, args=(last, 2))
        consumer.start()
        atexit.register(finalize, last, "exit function of the parent")
        multiprocessing.util.Finalize(None, finalize, (last, "finalizer"), exitpriority=20)
        # Nobody joins the consumer: the program does when it ends, after both of these
"""


THREADS_AT_EXIT = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="the standard library can start no thread at exit any more"
)


@pytest.mark.parametrize(
    ("module", "method"),
    [
        ("manycore", "fork"),
        ("manycore", "spawn"),
        ("manycore", "forkserver"),
        pytest.param("multiprocessing", "fork", marks=THREADS_AT_EXIT),
    ],
)
def test_what_exit_functions_put_arrives(run_script, module, method):
    """In the order that the standard library keeps, which this shows as well.

    With `spawn` its semaphores may be gone before the consumer has come to them.
    """
    done = run_script(AT_EXIT.format(module=module), method)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "child",
        "finalizer of the child",
        "exit function of the parent",
        "finalizer",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_that_is_forked_while_threads_wait_in_get_takes_part(kind):
    """The threads are the parent's; the child puts for them and gets for itself."""
    context = manycore.get_context("fork")
    queue, answers = getattr(context, kind)(), context.SimpleQueue()
    waiting = [threading.Thread(target=targets.get_from, args=(queue, answers)) for _ in range(4)]
    for thread in waiting:
        thread.start()

    def child():
        targets.put(queue, "one", "two", "three", "four", "five")
        answers.put(("child", queue.get()))

    with forked(child):
        said = [answers.get() for _ in range(5)]
    own = [item[1] for item in said if isinstance(item, tuple)]
    assert len(own) == 1
    theirs = [item for item in said if isinstance(item, str)]
    assert sorted(own + theirs) == ["five", "four", "one", "three", "two"]
    for thread in waiting:
        thread.join()
    assert queue.empty()


@beyond_stdlib
@pytest.mark.slow
def test_threads_that_wait_in_get_and_threads_that_fork_do_not_meet():
    """While some wait, others fork children; each child waits, too, and is woken."""
    context = manycore.get_context("fork")
    queue, answers, errors = context.Queue(), context.Queue(), []
    waiting = [threading.Thread(target=targets.get_from, args=(queue, answers)) for _ in range(3)]

    def fork_often():
        try:
            for _ in range(20):
                with forked(lambda: answers.put(("child", queue.get()))) as pid:
                    queue.put(pid)
        except BaseException as error:
            errors.append(error)

    forking = [threading.Thread(target=fork_often) for _ in range(3)]
    for thread in waiting + forking:
        thread.start()
    targets.put(queue, "a", "b", "c")
    for thread in waiting + forking:
        thread.join()
    assert errors == []
    said = [answers.get() for _ in range(63)]
    assert sum(isinstance(item, tuple) for item in said) == 60
    assert queue.empty()
    assert answers.empty()


@beyond_stdlib
def test_a_child_of_a_thread_that_waits_ends_and_the_thread_still_waits(ctx):
    """Killed, stopped in order, or gone by `os._exit`: none of it wakes or stops the others."""
    queue, answers = ctx.Queue(), ctx.Queue()
    waiting = threading.Thread(target=targets.get_from, args=(queue, answers))
    waiting.start()
    process = ctx.Process(target=targets.get_from, args=(queue, answers))
    process.start()
    wait_until_asleep(process.pid)
    kill_and_confirm(process.pid)
    process.join()
    if os.fork() == 0:
        os._exit(0)
    assert os.wait()[1] == 0
    queue.put("item")
    assert answers.get() == "item"
    waiting.join()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_program_that_ends_is_told_of_nothing_that_is_open(run_script, method):
    ran = run_script(
        f"""
        import manycore

        if __name__ == "__main__":
            context = manycore.get_context("{method}")
            with context.Pool(2) as pool:
                pool.map(abs, range(5))
            late = context.Process(target=abs, args=(1,))
            late.start()
        """,
        run_by=("-W", "default::ResourceWarning"),
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(
    "use",
    [
        "for x in pool.imap(same, range(1000)): print(x, file=out)",
        "print(*pool.map_async(same, range(1000)).get(), sep=chr(10), file=out)",
        "[print(r.get(), file=out) for r in [pool.apply_async(same, (x,)) for x in range(1000)]]",
    ],
    ids=["imap", "map_async", "apply_async"],
)
@pytest.mark.parametrize("ends", ["with", "exit"])
def test_a_file_that_is_left_open_is_written(run_script, tmp_path, method, use, ends):
    path = tmp_path / "written"
    begin = "with context.Pool(2) as pool:" if ends == "with" else "if pool := context.Pool(2):"
    ran = run_script(
        f"""
        import manycore

        def same(x):
            return x

        if __name__ == "__main__":
            context = manycore.get_context("{method}")
            out = open("{path}", "w")
            {begin}
                {use}
        """
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert path.read_text().split() == [str(x) for x in range(1000)]


@pytest.mark.beyond_stdlib  # which says nothing either, but may hang
def test_daemon_threads_that_wait_for_answers_say_nothing_when_the_program_ends(run_script):
    done = run_script("""
        import threading, time
        from sys import _current_frames as frames
        from manycore import Pool

        if __name__ == "__main__":
            pool = Pool(1)
            waits = [
                pool.apply_async(time.sleep, (1000,)).get,
                pool.map_async(time.sleep, [1000] * 5).get,
                pool.imap(time.sleep, [1000] * 5).next,
            ]
            began = threading.Barrier(13)

            def wait(index):
                began.wait()
                waits[index % 3]()

            for index in range(12):
                threading.Thread(target=wait, args=(index,), daemon=True).start()
            began.wait()
            while sum("manycore" in it.f_code.co_filename for it in frames().values()) < 12:
                time.sleep(0.001)  # until all of them wait
            print("done")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.beyond_stdlib
@pytest.mark.parametrize("ends", ["", "pool.close()"])
def test_a_callback_that_waits_for_another_answer_does_not_keep_the_program(run_script, ends):
    done = run_script(f"""
        import time
        from manycore import Pool

        if __name__ == "__main__":
            pool = Pool(2)
            never = pool.apply_async(time.sleep, (1000,))
            pool.apply_async(abs, (-1,), callback=lambda _: never.get()).wait(0.3)
            {ends}
            print("done")
    """)
    assert (done.returncode, done.stdout) == (0, "done\n")


@pytest.mark.beyond_stdlib
def test_a_process_that_a_daemon_thread_has_forked_is_told_of_a_pools_end(run_script):
    done = run_script("""
        import os, threading
        from multiprocessing import util
        from manycore import Pool, get_context

        def ask(result):
            try:
                result.get()
            except RuntimeError as error:
                os.write(1, f"{error}\\n".encode())

        def child():
            pool = Pool(1)
            result = pool.apply_async(sleep)
            util.Finalize(None, ask, args=(result,), exitpriority=1)

        def sleep():
            import time

            time.sleep(1000)

        def fork():
            process = get_context("fork").Process(target=child)
            process.start()
            process.join()
            print(process.exitcode)

        if __name__ == "__main__":
            thread = threading.Thread(target=fork, daemon=True)
            thread.start()
            thread.join()
    """)
    said = "the pool was terminated before this task was answered\n0\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
