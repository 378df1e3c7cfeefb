"""Process: starting, ending, what it says about itself."""

import multiprocessing
import os
import select
import signal
import threading

import pytest

import manycore
import targets
from processes import running, tells_exits

# CPython 3.12 and later warn when a test that has threads of its own forks.
forks_with_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def test_a_target_gets_its_arguments(ctx):
    ours, theirs = ctx.Pipe()
    ours.send([1, "two"])
    process = ctx.Process(target=targets.echo, kwargs={"connection": theirs})
    process.start()
    assert ours.recv() == [1, "two"]
    process.join()


@pytest.mark.parametrize(("way", "code"), targets.ENDINGS.items())
def test_the_exit_code_says_how_a_process_ended(way, code):
    with running(manycore.get_context("fork"), targets.ends_as, way) as process:
        pass
    assert process.exitcode == code


@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
@pytest.mark.parametrize("way", ["return", "sys.exit(text)", "raise", "os._exit", "SIGKILL"])
def test_the_exit_codes_are_the_same_under_other_start_methods(method, way):
    with running(manycore.get_context(method), targets.ends_as, way) as process:
        pass
    assert process.exitcode == targets.ENDINGS[way]


# The standard library's forkserver prints where its owner printed when that was started, and its
# children leave servers of their own behind.
ours_by_forkserver = pytest.mark.parametrize(
    "method", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.beyond_stdlib)]
)


@ours_by_forkserver
def test_an_uncaught_exception_is_printed_with_the_name_of_the_process(method, capfd):
    with running(manycore.get_context(method), targets.ends_as, "raise", name="Unlucky"):
        pass
    errors = capfd.readouterr().err
    assert "Process Unlucky:" in errors
    assert "ZeroDivisionError: a reason" in errors


def test_states_before_during_and_after_a_run(ctx, gate):
    process = ctx.Process(target=targets.stop_at, args=(gate,))
    assert (process.pid, process.is_alive(), process.exitcode) == (None, False, None)

    process.start()
    assert gate.arrived() == [process.pid]
    assert (process.ident, process.is_alive(), process.exitcode) == (process.pid, True, None)

    gate.let_go()
    process.join()
    assert (process.is_alive(), process.exitcode) == (False, 0)


def test_join_with_a_timeout_returns_while_the_process_runs(ctx, gate):
    with running(ctx, targets.stop_at, gate) as process:
        assert process.join(timeout=0.01) is None
        assert process.is_alive()
        gate.let_go()


@pytest.mark.parametrize(
    ("method", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)]
)
def test_a_running_process_can_be_ended(ctx, gate, method, number):
    with running(ctx, targets.stop_at, gate) as process:
        gate.arrived()
        getattr(process, method)()
    assert process.exitcode == -number


@pytest.mark.beyond_stdlib  # before 3.14
def test_a_running_process_can_be_interrupted(ctx, pipe):
    ours, theirs = pipe
    with running(ctx, targets.say_when_interrupted, theirs) as process:
        assert ours.recv() == "ready"
        process.interrupt()
        assert ours.recv() == "interrupted"
    assert process.exitcode == 0


@pytest.mark.beyond_stdlib
def test_a_closed_process_cannot_be_interrupted():
    with running(manycore.get_context("fork"), targets.nothing) as process:
        pass
    process.interrupt()  # it has ended: nobody is told
    process.close()
    with pytest.raises(ValueError, match="closed"):
        process.interrupt()


def test_the_sentinel_becomes_readable_when_the_process_ends(ctx, gate):
    with running(ctx, targets.stop_at, gate) as process:
        gate.arrived()
        assert select.select([process.sentinel], [], [], 0) == ([], [], [])
        gate.let_go()
        assert select.select([process.sentinel], [], []) == ([process.sentinel], [], [])


@pytest.mark.beyond_stdlib
@pytest.mark.parametrize("denied", ["", "pidfd_info", "pidfd"])
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_process_that_the_program_collects_has_ended(run_script, monkeypatch, method, denied):
    denied = ",".join(filter(None, [os.environ.get("MANYCORE_DENY"), denied]))
    monkeypatch.setenv("MANYCORE_DENY", denied)
    done = run_script(
        """
        import os, signal, sys, time
        import manycore

        kill = signal.raise_signal

        def end_late(event):
            event.wait()
            os._exit(7)

        if __name__ == "__main__":
            context = manycore.get_context(sys.argv[1])
            for target, arguments in [(os._exit, (7,)), (kill, (9,)), (time.sleep, (0,))]:
                process = context.Process(target=target, args=arguments)
                process.start()
                assert os.wait()[0] == process.pid
                process.join()
                process.kill()  # nobody
                assert not process.is_alive() and not manycore.active_children()
                print(process.exitcode)

            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects
            is_watched = context.Event()  # else it may be gone before anybody has looked at it
            process = context.Process(target=end_late, args=(is_watched,))
            process.start()
            is_watched.set()
            process.join()
            print(process.exitcode)
        """,
        method,
    )
    codes = "7\n-9\n0\n7\n" if tells_exits() else 4 * "255\n"
    assert (done.stdout, done.stderr) == (codes, "")


@pytest.mark.beyond_stdlib
@forks_with_threads
def test_every_thread_that_joins_a_forked_process_learns_its_exit_code():
    context = manycore.get_context("fork")
    for _ in range(20):
        process = context.Process(target=os._exit, args=(7,))
        process.start()
        seen = []

        def join(process=process, seen=seen):
            process.join()
            seen.append(process.exitcode)

        threads = [threading.Thread(target=join) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [7] * 4


def test_the_child_knows_itself_and_its_parent(ctx):
    ours, theirs = ctx.Pipe()
    with running(ctx, targets.who_am_i, theirs, name="Fred", daemon=True) as process:
        assert ours.recv() == (True, "Fred", True, process.pid, os.getpid())


@pytest.mark.parametrize(
    ("method", "prefix"),
    [("fork", "ForkProcess-"), ("spawn", "SpawnProcess-"), ("forkserver", "ForkServerProcess-")],
)
def test_default_names_tell_the_start_method(method, prefix):
    context = manycore.get_context(method)
    first, second = context.Process(), context.Process()
    assert first.name.startswith(prefix)
    assert first.name != second.name


def test_the_name_can_be_changed_until_and_after_the_start():
    process = manycore.Process(name="before")
    assert process.name == "before"
    process.name = "after"
    assert process.name == "after"
    with pytest.raises(AssertionError):
        process.name = 3


def test_daemon_is_inherited_given_or_set_before_the_start():
    assert manycore.Process().daemon is False
    assert manycore.Process(daemon=True).daemon is True
    with (
        running(manycore, targets.nothing) as process,
        pytest.raises(AssertionError, match="already started"),
    ):
        process.daemon = True


@pytest.mark.parametrize(
    "subclass", [targets.ForkAnnouncer, targets.SpawnAnnouncer, targets.ForkServerAnnouncer]
)
def test_a_subclass_may_override_run(subclass):
    ours, theirs = manycore.Pipe()
    process = subclass(theirs, {"any": "value"})
    process.start()
    assert ours.recv() == {"any": "value"}
    process.join()
    assert process.exitcode == 0


def test_run_calls_the_target_in_this_process():
    seen = []
    manycore.Process(target=seen.append, args=(1,)).run()
    assert seen == [1]


def test_a_forked_process_may_run_a_closure():
    ours, theirs = manycore.Pipe()
    local = object()
    with running(manycore.get_context("fork"), lambda: theirs.send(id(local))):
        assert ours.recv() == id(local)


@ours_by_forkserver
def test_a_process_may_start_processes(method):
    ctx = manycore.get_context(method)
    ours, theirs = ctx.Pipe()
    with running(ctx, targets.run_in_a_child, ctx, targets.who_am_i, theirs) as process:
        *_, grandchild, parent = ours.recv()
        assert parent == process.pid
        assert grandchild not in (process.pid, os.getpid())


@forks_with_threads
def test_a_process_may_be_started_by_a_thread(ctx):
    process = ctx.Process(target=targets.nothing)
    starter = threading.Thread(target=process.start)
    starter.start()
    starter.join()
    process.join()
    assert process.exitcode == 0


@forks_with_threads
def test_a_process_outlives_the_thread_that_started_it(ctx, gate):
    process = ctx.Process(target=targets.stop_at, args=(gate,))
    starter = threading.Thread(target=process.start)
    starter.start()
    starter.join()
    gate.arrived()
    gate.let_go()
    process.join()
    assert process.exitcode == 0


def test_using_a_process_before_its_start_is_an_error():
    process = manycore.Process(target=targets.nothing)
    with pytest.raises(AssertionError, match="started"):
        process.join()
    with pytest.raises(ValueError, match="not started"):
        process.sentinel  # noqa: B018


def test_a_process_starts_only_once():
    with running(manycore, targets.nothing) as process:
        pass
    with pytest.raises(AssertionError, match="twice"):
        process.start()


def test_a_running_process_cannot_be_closed(gate):
    with running(manycore, targets.stop_at, gate) as process:
        with pytest.raises(ValueError, match="still running"):
            process.close()
        gate.let_go()


def test_a_closed_process_refuses_everything_but_close():
    with running(manycore, targets.nothing) as process:
        pass
    process.close()
    process.close()
    for refused in (process.is_alive, process.join, process.start, process.terminate):
        with pytest.raises(ValueError, match="closed"):
            refused()


def test_repr_tells_name_pid_and_state(gate):
    process = manycore.Process(target=targets.stop_at, args=(gate,), name="Bob")
    assert "name='Bob'" in repr(process)
    assert "initial" in repr(process)
    process.start()
    assert f"pid={process.pid}" in repr(process)
    assert "started" in repr(process)
    gate.let_go()
    process.join()
    assert "stopped exitcode=0" in repr(process)


def test_processes_are_the_standard_librarys_kind(ctx, gate):
    with running(ctx, targets.stop_at, gate) as process:
        assert isinstance(process, multiprocessing.process.BaseProcess)
        assert process in multiprocessing.active_children()
        gate.let_go()
    assert process not in multiprocessing.active_children()


AT_EXIT = """
    import os, sys, time
    from manycore import Pipe, Process

    def say(text):
        os.write(1, text.encode() + b"\\n")

    def child(connection):
        say("child started")
        connection.send(None)
        if sys.argv[1] == "daemon":
            time.sleep(1e6)
        say("child ended")

    if __name__ == "__main__":
        ours, theirs = Pipe()
        Process(target=child, args=(theirs,), daemon=sys.argv[1] == "daemon").start()
        ours.recv()
        say("parent ended")
"""


@pytest.mark.parametrize(("kind", "ending"), [("daemon", []), ("ordinary", ["child ended"])])
def test_at_exit_daemons_are_killed_and_others_are_waited_for(run_script, kind, ending):
    done = run_script(AT_EXIT, kind)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(["child started", "parent ended", *ending])


@pytest.mark.beyond_stdlib
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_start_without_descriptors_leaves_none_open(run_script, method):
    done = run_script(
        """
        import errno, os, resource, sys
        from manycore import get_context

        def open_fds():
            return set(os.listdir("/proc/self/fd"))

        if __name__ == "__main__":
            context = get_context(sys.argv[1])
            first = context.Process(target=int)
            first.start()
            first.join()
            first.close()
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            before = open_fds()
            failed = 0
            for spare in range(-1, 12):
                limit = len(before) + spare
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                process = context.Process(target=int)
                try:
                    process.start()
                except OSError as error:
                    failed += 1
                    assert error.errno == errno.EMFILE, error
                else:
                    process.join()
                    process.close()
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
                del process
                assert open_fds() == before, (spare, open_fds(), before)
            assert failed
        """,
        method,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_that_ends_before_it_has_its_work_says_so_by_its_exit_code(run_script):
    done = run_script(
        """
        import os, sys
        from manycore import get_context, set_executable

        if __name__ == "__main__":
            context = get_context("spawn")
            set_executable(os.path.join(os.sep, "there", "is", "none"))
            codes = set()
            for _ in range(10):
                child = context.Process(target=print, args=(b"x" * 300_000,))
                child.start()
                child.join()
                codes.add(child.exitcode)
            print(codes)
        """
    )
    assert (done.returncode, done.stdout) == (0, "{255}\n"), done.stderr
