"""Programs frozen into one executable, which runs the program whatever it is told."""

import sys
import textwrap

import pytest

import manycore

pytestmark = pytest.mark.beyond_stdlib  # only on Windows there, and by the packager's own tricks

# What a packager's loader does before the program: it is the executable, and has no flags.
PROGRAM = """
    import os
    import sys

    sys.frozen = True
    sys.executable = "EXECUTABLE"

    import manycore
    import manycore.shared_memory


    def square(x):
        return x * x


    def square_in_child(queue, x):
        child = manycore.Process(target=lambda: queue.put(square(x)))
        child.start()
        child.join()


    def main(method):
        manycore.set_start_method(method)
        queue = manycore.Queue()
        child = manycore.Process(target=square_in_child, args=(queue, 3))
        child.start()
        child.join()
        assert child.exitcode == 0
        print(queue.get())
        with manycore.Pool(2) as pool:
            print(pool.map(square, range(4)))
        named = manycore.shared_memory.SharedMemory(create=True, size=1)
        named.close()
        named.unlink()


    if __name__ == "__main__":
        ASKS
        print("the program runs", os.environ["DEPTH"], flush=True)
        main("METHOD")
"""


@pytest.fixture
def run_frozen(run_script, tmp_path):
    """Runs the program with something behind its guard."""

    def run(asks, method):
        executable, program = tmp_path / "frozen", tmp_path / "program.py"
        words = {"EXECUTABLE": str(executable), "METHOD": method, "ASKS": asks}
        program.write_text(_with(textwrap.dedent(PROGRAM), words))
        executable.write_text(
            "#!/bin/sh\n"
            "DEPTH=$((${DEPTH:-0} + 1)); export DEPTH; [ $DEPTH -lt 5 ] || exit 9\n"
            f'exec "{sys.executable}" "{program}" "$@"\n'
        )
        executable.chmod(0o700)
        return run_script(f"import os; os.execv({str(executable)!r}, ['frozen'])")

    return run


def _with(text, words):
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text


@pytest.mark.parametrize("method", manycore.get_all_start_methods())
@pytest.mark.parametrize(
    "asks", ["manycore.freeze_support()", "manycore.get_context('spawn').freeze_support()"]
)
def test_children_run_what_they_are_for_and_not_the_program(run_frozen, asks, method):
    done = run_frozen(asks, method)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "the program runs 1\n9\n[0, 1, 4, 9]\n"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_program_that_does_not_ask_is_told_to(run_frozen, method):
    done = run_frozen("pass", method)
    assert "call manycore.freeze_support() first of all" in done.stderr
    runs = set(done.stdout.splitlines())
    assert runs == {"the program runs 1", "the program runs 2"}
