"""The programs that people write first, as they write them: no guard, the default start method."""

import pytest

PROGRAMS = {
    "process": (
        """
        from manycore import Process

        def task():
            print("Running in a separate process")

        p = Process(target=task)
        p.start()
        p.join()
        """,
        "Running in a separate process\n",
    ),
    "pool": (
        """
        from manycore import Pool

        def square(x):
            return x * x

        with Pool(processes=4) as pool:
            print(pool.map(square, [1, 2, 3, 4, 5]))
        """,
        "[1, 4, 9, 16, 25]\n",
    ),
    "queue": (
        """
        from manycore import Process, Queue

        def f(q):
            q.put('Hello from process')

        q = Queue()
        p = Process(target=f, args=(q,))
        p.start()
        print(q.get())
        p.join()
        """,
        "Hello from process\n",
    ),
    "value": (
        """
        from manycore import Process, Value

        def f(n):
            n.value += 1

        num = Value('i', 0)
        p = Process(target=f, args=(num,))
        p.start()
        p.join()
        print(num.value)
        """,
        "1\n",
    ),
}

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


@pytest.mark.parametrize(("source", "output"), PROGRAMS.values(), ids=PROGRAMS)
def test_a_first_program_runs_as_written(run_script, source, output):
    done = run_script(source)
    assert (done.returncode, done.stdout, done.stderr) == (0, output, "")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_guarded_script_runs_under_each_start_method(run_script, method):
    done = run_script(GUARDED, method)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 2, 4]\n42\n", "")
