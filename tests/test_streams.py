"""What children print: whole lines, and all of it."""

import subprocess
import sys
import textwrap

import pytest

import processes

pytestmark = pytest.mark.beyond_stdlib

METHODS = ["fork", "spawn", "forkserver"]


def line(letter, number):
    return " ".join([*[letter * 97] * 10, str(number % 10)])


LINES = """
import sys
import manycore

def tell(barrier, letter):
    barrier.wait()
    for number in range(200):
        print(*[letter * 97] * 10, number % 10, file=getattr(sys, sys.argv[2]))

if __name__ == "__main__":
    context = manycore.get_context(sys.argv[1])
    barrier = context.Barrier(4)
    processes = [context.Process(target=tell, args=(barrier, letter)) for letter in "abcd"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
"""


@pytest.mark.parametrize("run_by", [(), ("-u",)], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("method", METHODS)
def test_lines_of_several_processes_arrive_whole(run_script, method, run_by):
    done = run_script(LINES, method, "stdout", run_by=run_by)
    assert sorted(done.stdout.splitlines()) == sorted(
        line(letter, number) for letter in "abcd" for number in range(200)
    )


def test_lines_of_errors_arrive_whole_as_well(run_script):
    done = run_script(LINES, "fork", "stderr", run_by=("-u",))
    assert sorted(set(done.stderr.splitlines())) == sorted(
        line(letter, digit) for letter in "abcd" for digit in range(10)
    )


ENDS = """
import atexit, os, signal, sys
import manycore

def leave_a_rest():
    print("a line")
    print("a rest", end="")

def print_at_exit():
    atexit.register(print, "at exit")

def be_killed():
    print("a line")
    print("a rest that was never flushed", end="")
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    context = manycore.get_context(sys.argv[1])
    process = context.Process(target=globals()[sys.argv[2]])
    process.start()
    process.join()
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("target", "printed"), [("leave_a_rest", "a line\na rest"), ("be_killed", "a line\n")]
)
def test_what_was_printed_is_there_when_the_process_has_ended(run_script, method, target, printed):
    assert run_script(ENDS, method, target).stdout == printed


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="children made by fork had no exit functions"
)
@pytest.mark.parametrize("method", METHODS)
def test_what_exit_functions_print_is_there(run_script, method):
    assert run_script(ENDS, method, "print_at_exit").stdout == "at exit\n"


MINE = """
import io, sys
import manycore

def tell():
    print(sys.stdout.line_buffering)

def tell_otherwise():
    sys.stdout.reconfigure(line_buffering=False)
    tell()

if __name__ == "__main__":
    context = manycore.get_context("fork")
    for target in (tell, tell_otherwise):
        process = context.Process(target=target)
        process.start()
        process.join()
    print(sys.stdout.line_buffering)
    sys.stdout = io.StringIO()  # which has no such mode
    process = context.Process()
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def test_a_child_may_choose_otherwise_and_its_parent_is_left_alone(run_script):
    done = run_script(MINE)
    assert (done.stdout, done.returncode) == ("True\nFalse\nFalse\n", 0)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("closed", ["<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_processes_start_where_standard_streams_are_closed(tmp_path, method, closed):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, sys
            import manycore

            def work():
                os._exit(7)

            if __name__ == "__main__":
                context = manycore.get_context("{method}")
                with context.Pool(1) as pool:
                    assert pool.map(abs, [-1, 2]) == [1, 2]
                child = context.Process(target=work)
                child.start()
                child.join()
                sys.exit(child.exitcode)
            """
        )
    )
    ours = processes.children_of_ours()
    ran = subprocess.run(["sh", "-c", f'exec "{sys.executable}" "{script}" {closed}'])
    while orphans := processes.children_of_ours() - ours:
        processes.wait_for_end(orphans)
    assert ran.returncode == 7
