"""The programs of the pages, as people write them first: no guard, the default start method."""

import pytest

import documents

PROGRAMS = tuple(documents.programs())

GUARDED = """
    import sys
    from manycore import get_context

    def double(x):
        return 2 * x

    def f(q, n):
        with n.get_lock():
            n.value += 1
        q.put(double(n.value))

    if __name__ == "__main__":
        context = get_context(sys.argv[1])
        with context.Pool(2) as pool:
            print(pool.map(double, range(3)))
        q, n = context.Queue(), context.Value("i", 20)
        p = context.Process(target=f, args=(q, n))
        p.start()
        print(q.get())
        p.join()
"""


def test_the_pages_have_programs():
    assert {program.name.partition(":")[0] for program in PROGRAMS} == set(documents.PAGES)
    assert all(program.output for program in PROGRAMS)


@pytest.mark.beyond_stdlib
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_program_of_a_page_runs_as_written(run_script, program):
    done = run_script(program.source)
    assert (done.returncode, done.stdout, done.stderr) == (0, program.output, "")


@pytest.mark.parametrize(
    "method", ["fork", pytest.param("spawn", marks=pytest.mark.slow), "forkserver"]
)
def test_a_guarded_script_runs_under_each_start_method(run_script, method):
    done = run_script(GUARDED, method)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 2, 4]\n42\n", "")
