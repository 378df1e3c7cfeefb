"""The start method `forkserver`: what its children find, and what they do not."""

import dis
import gc
import os
import signal
import sys
import threading
import time

import pytest

import manycore
import targets
from manycore import _engine, _orders, forkserver, popen_forkserver
from processes import running, spare_of, wait_for_end

pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture
def server():
    return manycore.get_context("forkserver")


def test_the_main_module_is_imported_once_for_all_children(run_script):
    done = run_script("""
        import os
        from manycore import get_context

        os.write(1, f"{__name__}\\n".encode())

        def child():
            os.write(1, b"child\\n")

        if __name__ == "__main__":
            for _ in range(3):
                process = get_context("forkserver").Process(target=child)
                process.start()
                process.join()
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["__main__", "__mp_main__", *3 * ["child"]]


def test_what_an_import_printed_is_not_printed_again_by_children(run_script):
    done = run_script("""
        import sys
        from manycore import get_context

        if __name__ == "__mp_main__":
            print("imported", end=" ")  # stays in the buffer

        if __name__ == "__main__":
            for _ in range(2):
                process = get_context("forkserver").Process(target=print, args=("child",))
                process.start()
                process.join()
    """)
    assert (done.stdout, done.stderr) == ("imported child\nchild\n", "")


# `installed` is a folder as good as site-packages.
MODULES = """
    import os, site, sys
    from manycore import get_context, set_forkserver_preload

    def install(name, source):
        with open(f"{site.USER_SITE}/{name}.py", "w") as file:
            file.write(source)

    def tell(*names):
        print(*(name in sys.modules for name in names), len(os.listdir("/proc/self/task")))

    def start(*names):
        process = get_context("forkserver").Process(target=tell, args=names)
        process.start()
        process.join()

    if __name__ == "__main__":
        site.USER_SITE = sys.argv[1]
        sys.path.append(site.USER_SITE)
"""


@pytest.fixture
def run_with_modules(run_script, tmp_path):
    """Runs a program that may install modules, with more to do behind the lines above."""
    folder = tmp_path / "installed"
    folder.mkdir()
    return lambda more: run_script(MODULES + more, str(folder))


def test_children_find_the_installed_modules_that_the_parent_had_imported(run_with_modules):
    done = run_with_modules("""
        install("helpful", "")
        import helpful
        start("helpful", "sched")
    """)
    assert (done.stdout, done.stderr) == ("True False 1\n", "")


def test_light_modules_are_imported_when_nobody_asks_for_children(run_script):
    done = run_script("""
        import os, sys, time
        from manycore import get_context

        def tell(name):
            sys.exit(2 * len(os.listdir("/proc/self/fd")) + (name in sys.modules))

        def ask(name):
            process = get_context("forkserver").Process(target=tell, args=(name,))
            process.start()
            process.join()
            return divmod(process.exitcode, 2)

        if __name__ == "__main__":
            import colorsys
            descriptors, is_there = ask("colorsys")
            while not is_there:
                time.sleep(0.1)
                now, is_there = ask("colorsys")
                assert now == descriptors  # also of who takes the place of a spare without it
            print(*ask("sched")[1:])
    """)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_module_that_starts_a_thread_is_left_out(run_with_modules):
    done = run_with_modules("""
        thread = "threading.Thread(target=threading.Event().wait, daemon=True)"
        install("busy", f"import threading; {thread}.start()")
        install("helpful", "")
        import helpful, busy
        start("helpful", "busy")
    """)
    assert (done.stdout, done.stderr) == ("True False 1\n", "")


def test_a_module_that_cannot_be_imported_again_is_left_out(run_with_modules):
    done = run_with_modules("""
        install("once", "import os; assert os.environ.setdefault('ONCE', '1') != '2'")
        install("helpful", "")
        import helpful, once
        os.environ["ONCE"] = "2"
        start("helpful", "once")
    """)
    assert (done.stdout, done.stderr) == ("True False 1\n", "")


def test_a_module_that_ends_the_zygote_is_left_out(run_with_modules):
    done = run_with_modules("""
        install("deadly", "import os; 'ONCE' in os.environ and os._exit(1)")
        import deadly
        os.environ["ONCE"] = "1"
        start("deadly")
    """)
    assert (done.stdout, done.stderr) == ("False 1\n", "")


def test_only_chosen_modules_are_imported_and_what_cannot_be_is_told_once(run_with_modules):
    done = run_with_modules("""
        import colorsys
        set_forkserver_preload(["sched", "no_such_module"])
        start("sched", "colorsys")
        start("sched", "colorsys")
    """)
    assert done.stdout == "True False 1\nTrue False 1\n"
    (warning,) = [line for line in done.stderr.splitlines() if "RuntimeWarning" in line]
    assert "the fork server cannot import module 'no_such_module': ModuleNotFoundError" in warning


def test_signals_that_the_main_module_blocks_are_blocked_in_children(run_script):
    done = run_script("""
        import os, signal
        from manycore import get_context

        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

        def child():
            os.kill(os.getpid(), signal.SIGUSR2)

        if __name__ == "__main__":
            for _ in range(2):
                process = get_context("forkserver").Process(target=child)
                process.start()
                process.join()
                print(process.exitcode)
    """)
    assert (done.stdout, done.stderr) == ("0\n0\n", "")


def test_a_main_module_that_cannot_be_imported_is_told(run_script):
    done = run_script("""
        from manycore import get_context

        if __name__ == "__mp_main__":
            raise ZeroDivisionError("a reason")

        if __name__ == "__main__":
            process = get_context("forkserver").Process(target=print)
            process.start()
            process.join()
            print(process.exitcode)
    """)
    assert done.stdout == "1\n"
    assert "cannot import the main module: ZeroDivisionError: a reason" in done.stderr
    assert "RuntimeWarning" in done.stderr


def test_names_to_import_have_to_be_strings(server):
    with pytest.raises(TypeError, match="strings"):
        server.set_forkserver_preload([1])


def test_children_are_children_of_one_process(server):
    ours, theirs = server.Pipe()
    parents = []
    for target in (targets.send_parent, targets.send_parent_of_a_child):
        with running(server, target, server, theirs):
            parents.append(ours.recv())
    assert parents[0] == parents[1] != os.getpid()


def test_children_have_the_environment_of_the_moment(server, monkeypatch):
    ours, theirs = server.Pipe()
    forkserver._forkserver._stop()
    monkeypatch.setenv("MANYCORE_TEST", "of the zygote")
    for value in ("of the zygote", "another", "long" * 20_000, None):
        if value is None:
            monkeypatch.delenv("MANYCORE_TEST")
        else:
            monkeypatch.setenv("MANYCORE_TEST", value)
        with running(server, targets.send_variable, theirs, "MANYCORE_TEST"):
            assert ours.recv() == value
    forkserver._forkserver._stop()


def test_a_child_has_been_forked_ahead_unless_something_has_changed(server, monkeypatch):
    with running(server, targets.nothing) as process:
        pass
    spare = spare_of(forkserver._forkserver._zygote.pid)
    with running(server, targets.nothing) as process:
        pass
    assert process.pid == spare
    spare = spare_of(forkserver._forkserver._zygote.pid)
    monkeypatch.setenv("MANYCORE_TEST", "changed")
    with running(server, targets.nothing) as process:
        pass
    assert process.pid != spare
    wait_for_end([spare])


def test_children_have_no_descriptors_but_their_own(server, tmp_path, gate):
    ours, theirs = server.Pipe()
    with open(tmp_path / "file", "w"), running(server, targets.stop_at, gate):
        gate.arrived()
        with running(server, targets.send_descriptors, theirs):
            first = ours.recv()
        gate.let_go()
    assert not [target for target in first if str(tmp_path) in target]
    with running(server, targets.send_descriptors, theirs):
        assert len(ours.recv()) == len(first)


def test_signals_are_as_in_a_fresh_interpreter(server):
    ours, theirs = server.Pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
    try:
        with running(server, targets.send_signal_state, theirs):
            # Ctrl-C is ignored there where it is here, as in what a shell runs beside itself.
            ctrl_c = signal.getsignal(signal.SIGINT)
            assert ours.recv() == (set(), ctrl_c, signal.SIG_DFL, -1)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_children_draw_different_random_numbers(server):
    ours, theirs = server.Pipe()
    drawn = set()
    for _ in range(3):
        with running(server, targets.send_random, theirs):
            drawn.add(ours.recv())
    assert len(drawn) == 3


def test_every_thread_that_joins_learns_the_exit_code(server, gate):
    with running(server, targets.stop_at, gate) as process:
        gate.arrived()
        codes = []
        threads = [
            threading.Thread(target=lambda: (process.join(), codes.append(process.exitcode)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        gate.let_go()
        for thread in threads:
            thread.join()
    assert codes == [0] * 4


def test_more_descriptors_than_fit_are_refused(server):
    with pytest.raises(ValueError, match="too many fds"):
        forkserver.connect_to_new_process([0] * 300)


def test_work_of_any_size_arrives(server):
    ours, theirs = server.Pipe()
    work = b"x" * 3_000_000
    with running(server, targets.send_length, theirs, work):
        assert ours.recv() == len(work)


def test_several_may_be_asked_for_before_the_first_is_waited_for(server):
    ours, theirs = server.Pipe()
    processes = [server.Process(target=targets.send_parent, args=(server, theirs)) for _ in "abcd"]
    for process in processes:
        process._start_soon()
    assert set(manycore.active_children()) >= set(processes)
    for process in processes:
        process.join()
    assert {ours.recv() for _ in processes} == {forkserver._forkserver._zygote.pid}
    assert [process.exitcode for process in processes] == [0] * 4
    for process in processes:
        process.close()


def test_who_was_asked_for_is_asked_for_again_if_the_zygote_was_killed(server):
    answers = server.SimpleQueue()
    forkserver.ensure_running()
    zygote = forkserver._forkserver._zygote
    process = server.Process(target=targets.put, args=(answers, "here"))
    os.kill(zygote.pid, signal.SIGSTOP)
    process._start_soon()
    assert process.exitcode is None and process.is_alive()  # nobody waits for these
    os.kill(zygote.pid, signal.SIGKILL)
    process.join()
    assert (process.exitcode, answers.get()) == (0, "here")
    assert forkserver._forkserver._zygote is not zygote
    forkserver._forkserver._stop()  # the next test is about another one


def test_what_is_not_known_of_who_was_asked_for_is_waited_for(server, gate):
    process = server.Process(target=gate.stop)
    process._start_soon()
    assert [process.pid] == gate.arrived()
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_threads_may_wait_for_who_was_asked_for_at_the_same_time(server, gate):
    process = server.Process(target=gate.stop)
    process._start_soon()
    pids = []
    threads = [threading.Thread(target=lambda: pids.append(process.pid)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate.let_go()
    process.join()
    assert (set(pids), process.exitcode) == ({process.pid}, 0)


@pytest.fixture
def no_processes(monkeypatch):
    def ask_nobody(zygote, *child):
        status, theirs = _orders.socket_pair()
        theirs.close()
        lifeline_r, lifeline = _engine.make_lifeline()
        os.close(lifeline_r)
        return forkserver.Asked(status, lifeline, [])

    def cannot(zygote, asked):
        asked.drop()
        raise OSError("no more processes")

    monkeypatch.setattr(forkserver.Zygote, "ask", ask_nobody)
    monkeypatch.setattr(forkserver.Zygote, "wait_for", cannot)


def test_a_pool_whose_workers_cannot_be_forked_says_why(server, no_processes):
    with server.Pool(1) as pool, pytest.raises(manycore.WorkerDied, match="no more proc") as died:
        pool.map(abs, [1])
    assert isinstance(died.value.__cause__, OSError)


def test_who_was_asked_for_and_cannot_be_forked_has_ended(server, no_processes):
    process = server.Process(target=targets.nothing)
    process._start_soon()
    process.join()
    assert (process.exitcode, process.pid, process.is_alive()) == (255, None, False)
    process.kill()
    process.close()
    process = server.Process(target=targets.nothing)
    with pytest.raises(OSError, match="no more processes"):
        process.start()


def test_a_pool_does_not_wait_for_its_workers(server):
    forkserver.ensure_running()
    zygote = forkserver._forkserver._zygote
    with running(server, targets.nothing):
        pass
    os.kill(zygote.pid, signal.SIGSTOP)
    with server.Pool(2) as pool:
        result = pool.apply_async(abs, (-1,))
        os.kill(zygote.pid, signal.SIGCONT)
        assert result.get() == 1
        assert len({process.pid for process in pool._pool}) == 2


def test_a_forked_process_takes_no_answer_from_who_has_asked(server):
    process = server.Process(target=targets.nothing)
    process._start_soon()
    pid = os.fork()  # waits for the answer
    if pid == 0:
        os._exit(0 if process.pid else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    process.join()
    assert process.exitcode == 0


def test_a_copy_that_came_by_no_hook_takes_no_answer_either(server, monkeypatch):
    process = server.Process(target=targets.nothing)
    process._start_soon()
    monkeypatch.setattr(popen_forkserver, "_unsettled", set())  # as without the hook before a fork
    pid = os.fork()
    if pid == 0:
        os._exit(1 if (process.exitcode, process.pid) == (255, None) else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    process.join()
    assert process.exitcode == 0


def test_what_the_main_module_forks_keeps_nobody_waiting(run_script):
    ran = run_script(
        """
        import os, time
        import manycore

        if os.fork() == 0:  # also in the process that imports it for the children
            parent = os.getppid()
            while os.getppid() == parent:
                time.sleep(0.01)
            os._exit(0)

        def work():
            print("ran")

        if __name__ == "__main__":
            child = manycore.get_context("forkserver").Process(target=work)
            child.start()
            child.join()
            print(child.exitcode)
        """
    )
    assert (ran.returncode, ran.stdout) == (0, "ran\n0\n"), ran.stderr


@pytest.mark.parametrize("way", ["terminate", "kill", "join", "pid"])
@pytest.mark.parametrize("place", ["before", "within", "behind"])
def test_what_interrupts_a_wait_for_a_child_may_ask_for_it_as_well(server, monkeypatch, place, way):
    # So does what a handler of a signal runs, and a pool that is collected as garbage.
    ends = way in ("terminate", "kill")
    process = server.Process(target=time.sleep, args=(1000 if ends else 0,))
    read, opened = forkserver._read_start, forkserver.uncollected

    def interrupt():
        monkeypatch.undo()
        found = getattr(process, way)
        if callable(found):
            found()

    def interrupted(asked):
        if place == "before":
            interrupt()
        read(asked)
        if place == "behind":
            interrupt()

    def interrupted_within():
        interrupt()
        return opened()

    process._start_soon()
    if place == "within":
        monkeypatch.setattr(forkserver, "uncollected", interrupted_within)
    else:
        monkeypatch.setattr(forkserver, "_read_start", interrupted)
    # Who is to be ended before the zygote has answered is not made, if that takes its time.
    assert process.pid is not None or (ends and place != "behind")
    process.join()
    codes = {"terminate": -signal.SIGTERM, "kill": -signal.SIGKILL}
    assert process.exitcode == codes.get(way, 0)


def test_a_pool_that_is_collected_while_its_worker_is_waited_for_ends(server, monkeypatch):
    pool = server.Pool(1)
    read = forkserver._read_start
    (worker,) = pool._workers.processes

    def collected(asked):
        monkeypatch.undo()
        pool._terminate()  # as the collector does, in whichever thread it runs
        read(asked)

    monkeypatch.setattr(forkserver, "_read_start", collected)
    worker.join()
    assert worker.exitcode is not None
    pool.terminate()
    pool.join()


def test_an_interrupt_is_raised_though_its_handler_has_ended_the_child(server, monkeypatch):
    process = server.Process(target=targets.nothing)

    def interrupted(asked):
        monkeypatch.undo()
        process.kill()
        raise KeyboardInterrupt

    process._start_soon()
    monkeypatch.setattr(forkserver, "_read_start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process._popen.settle()
    process.join()


class Interruption:
    """Raises `KeyboardInterrupt` in these files, at a place where Python looks for signals."""

    FILES = popen_forkserver.__file__, forkserver.__file__

    def __init__(self, after):
        self.left = after
        self._before = {}

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename not in self.FILES:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            before = self._before.get(frame, "")
            self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            self.left -= before.startswith(("CALL", "RESUME", "JUMP_BACKWARD"))
            if self.left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


def test_a_child_can_be_ended_wherever_a_wait_for_it_was_interrupted(server):
    after, tracing = 0, sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # else 3.12 has none anywhere
    while True:
        process = server.Process(target=time.sleep, args=(1000,))
        process._start_soon()
        interruption = Interruption(after)
        sys.settrace(interruption)
        try:
            process._popen.settle()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(tracing)
        assert gc.isenabled()
        process.terminate()
        process.join()
        assert process.exitcode is not None
        process.close()
        if interruption.left >= 0:
            break
        after += 1
    assert after > 20
