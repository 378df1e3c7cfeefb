"""`manycore.install()` and `python -m manycore PROGRAM`: other people's programs run on ours."""

import ast
import importlib
import pkgutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import manycore

pytestmark = pytest.mark.beyond_stdlib

METHODS = manycore.get_all_start_methods()
RUN_BY = ("-m", "manycore")

# What a program sees, in itself and in processes of all kinds that it starts.
PROGRAM = """
    import multiprocessing
    import sys
    import concurrent.futures.process
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing.pool import Pool, ThreadPool

    def seen(*ignored):
        lock = multiprocessing.Lock()
        process = type(multiprocessing.current_process()).__mro__[1]
        assert concurrent.futures.process.ProcessPoolExecutor is ProcessPoolExecutor
        classes = (type(lock), Pool, ProcessPoolExecutor, ThreadPool, process)
        return [cls.__module__ for cls in classes]

    def put(queue, *shared):
        queue.put(seen())

    if __name__ == "__main__":
        multiprocessing.set_start_method(sys.argv[1])
        print(*seen()[:4])
        with multiprocessing.Pool(1) as pool:
            print(*pool.map(seen, [0])[0])
        with ProcessPoolExecutor(1) as executor:
            print(*executor.submit(seen).result())
        queue = multiprocessing.Queue()
        shared = multiprocessing.Lock(), multiprocessing.Value("i"), multiprocessing.Event()
        process = multiprocessing.Process(target=put, args=(queue, *shared))
        process.start()
        print(*queue.get())
        process.join()
        with multiprocessing.Manager() as manager, manager.Pool(1) as pool:
            print(*pool.map(seen, [0])[0])
        with ThreadPool(1) as pool:
            print(*pool.map(seen, [0])[0][:4])
"""
OURS = "manycore.synchronize manycore.pool manycore.executor multiprocessing.pool"
SEEN = "\n".join([OURS, *[f"{OURS} manycore.process"] * 4, OURS, ""])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_program_and_all_its_processes_get_ours(run_script, method):
    done = run_script(PROGRAM, method, run_by=RUN_BY)
    assert (done.returncode, done.stdout, done.stderr) == (0, SEEN, "")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_program_can_install_ours_itself(run_script, method):
    source = PROGRAM.replace("import multiprocessing", "import manycore; manycore.install()", 1)
    done = run_script(source.replace("import sys", "import multiprocessing, sys", 1), method)
    assert (done.returncode, done.stdout, done.stderr) == (0, SEEN, "")


def test_installing_again_does_nothing(run_script):
    done = run_script("""
        import sys, manycore
        manycore.install()
        once = dict(sys.modules)
        manycore.install()
        print(sys.modules == once)
    """)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_whoever_had_taken_names_before_is_named(run_script, tmp_path):
    (tmp_path / "early_name.py").write_text(
        "from multiprocessing import Pool as Workers, get_context\ncontext = get_context('spawn')"
    )
    (tmp_path / "early_module.py").write_text("import multiprocessing.pool as somewhere")
    (tmp_path / "early_context.py").write_text("from early_name import context")
    (tmp_path / "early_executor.py").write_text("from concurrent.futures import *")
    (tmp_path / "harmless.py").write_text(
        "import concurrent.futures\nfrom multiprocessing import current_process, util"
    )
    done = run_script("""
        import warnings
        import early_context, early_executor, early_module, early_name, harmless, manycore
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            manycore.install()
        (warning,) = caught
        print(warning.category.__name__, str(warning.message).partition(" had")[0])
    """)
    assert done.stdout == (
        "RuntimeWarning manycore.install() was called after "
        "early_context, early_executor, early_module, early_name\n"
    )


def test_nobody_is_named_when_nobody_came_before(run_script):
    done = run_script("import logging, concurrent.futures.process, manycore; manycore.install()")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("method", METHODS)
def test_what_was_taken_before_goes_on_and_travels(run_script, method):
    done = run_script(
        """
        import multiprocessing, sys, warnings
        from multiprocessing import Lock, Pool, Queue
        import manycore
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            manycore.install()

        def use(lock, queue):
            with lock:
                queue.put(type(lock).__qualname__)

        if __name__ == "__main__":
            theirs = multiprocessing.get_context(sys.argv[1])
            assert not isinstance(theirs, manycore.context.BaseContext)
            lock, queue = theirs.Lock(), theirs.Queue()
            for context in (theirs, manycore.get_context(sys.argv[1])):
                process = context.Process(target=use, args=(lock, queue))
                process.start()
                print(queue.get(), end=" ")
                process.join()
            with theirs.Pool(1) as pool:
                print(pool.map(abs, [-1]), type(pool).__module__)
    """,
        method,
    )
    assert (done.stdout, done.stderr) == ("Lock Lock [1] manycore._standard.pool\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_an_executor_that_was_taken_before_goes_on_and_travels(run_script, method):
    done = run_script(
        """
        import concurrent.futures, sys, warnings
        from concurrent.futures import ProcessPoolExecutor as Theirs
        import manycore
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            manycore.install()
        import multiprocessing

        def seen(cls):
            process = type(multiprocessing.current_process()).__mro__[1]
            ours = concurrent.futures.ProcessPoolExecutor
            return [it.__module__ for it in (cls, ours, process)]

        if __name__ == "__main__":
            multiprocessing.set_start_method(sys.argv[1])
            with Theirs(1) as executor:
                print(*executor.submit(seen, Theirs).result())
    """,
        method,
    )
    assert (done.stdout, done.stderr) == (
        "manycore._standard_executor manycore.executor manycore.process\n",
        "",
    )


def test_instances_of_either_are_known_by_the_classes_that_programs_ask_for(run_script):
    done = run_script("""
        import manycore
        manycore.install()
        import multiprocessing
        from multiprocessing import connection, context, pool, process, sharedctypes
        print(isinstance(multiprocessing.get_context("fork"), context.BaseContext))
        print(all(isinstance(end, connection.Connection) for end in multiprocessing.Pipe()))
        print(issubclass(multiprocessing.Process, process.BaseProcess))
        print(isinstance(multiprocessing.Array("i", 2), sharedctypes.SynchronizedArray))
        with multiprocessing.Pool(1) as workers:
            print(isinstance(workers, pool.Pool), isinstance(workers, pool.ThreadPool))
        with pool.ThreadPool(1) as threads:
            print(isinstance(threads, pool.Pool), issubclass(pool.ThreadPool, pool.Pool))
    """)
    assert (done.stdout, done.stderr) == ("True\n" * 4 + "True False\nTrue True\n", "")


def test_a_package_that_looks_into_the_standard_librarys_classes_is_given_these(
    run_script, tmp_path
):
    (tmp_path / "loky").mkdir()
    (tmp_path / "loky" / "__init__.py").write_text("from . import queues")
    (tmp_path / "loky" / "queues.py").write_text(
        "import multiprocessing, multiprocessing.synchronize as locks\n"
        "from multiprocessing.queues import Queue\n"
        "def late():\n"
        "    from multiprocessing import pool\n"
        "    return pool.Pool\n"
    )
    done = run_script("""
        import manycore
        manycore.install()
        from loky import queues
        made = type(queues.multiprocessing.Lock())
        for it in (made, queues.locks.Lock, queues.Queue, queues.late()):
            print(it.__module__)
        from multiprocessing.queues import Queue
        print(Queue.__module__)
    """)
    moved = [
        f"manycore._standard.{name}" for name in ("synchronize", "synchronize", "queues", "pool")
    ]
    assert (done.stdout.split(), done.stderr) == ([*moved, "manycore.queues"], "")


# ---- as `python` would have run it ------------------------------------------------------------

ABOUT_ITSELF = """
import os, sys
first = os.path.realpath(sys.path[0])
print(__name__, os.path.realpath(__file__), sys.argv, first, __spec__ and __spec__.name)
print(sys.modules["__main__"].__dict__ is globals())
import beside
sys.exit(7)
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "project"
    (folder / "package").mkdir(parents=True)
    (folder / "beside.py").touch()
    (folder / "package" / "beside.py").touch()
    for name in ("__main__.py", "program.py", "package/__main__.py"):
        (folder / name).write_text(ABOUT_ITSELF)
    return folder


@pytest.mark.parametrize(
    "words",
    [["program.py"], ["."], ["-m", "program"], ["-m", "package"], ["./package"]],
    ids=" ".join,
)
def test_a_program_finds_out_about_itself_what_it_does_without_us(folder, words):
    def run(*command):
        return subprocess.run(
            [sys.executable, *command, "-x", "--help"], cwd=folder, capture_output=True, text=True
        )

    plain, ours = run(*words), run(*RUN_BY, *words)
    assert (ours.returncode, ours.stdout) == (7, plain.stdout)
    assert (plain.returncode, ours.stderr) == (7, "")


def test_an_error_is_shown_with_the_program_s_own_line(run_script):
    done = run_script("def f():\n    raise KeyError('mine')\nf()", run_by=RUN_BY)
    assert done.returncode == 1
    assert "script.py\", line 2, in f\n    raise KeyError('mine')\n" in done.stderr


def test_functions_of_the_program_come_back_from_its_children(run_script):
    done = run_script(
        """
        import multiprocessing

        def inner(): return "found"
        def outer(): return inner

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(outer)())
        """,
        run_by=RUN_BY,
    )
    assert (done.stdout, done.stderr) == ("found\n", "")


def test_a_program_that_is_not_there_is_one_line():
    done = subprocess.run(
        [sys.executable, *RUN_BY, "nowhere.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "manycore: there is no program or command 'nowhere.py'\n"


# ---- what it rests on -------------------------------------------------------------------------


def _modules():
    folder = Path(manycore.__file__).parent
    return {path.relative_to(folder): ast.parse(path.read_text()) for path in folder.rglob("*.py")}


def _takes_from_standard(node):
    if isinstance(node, ast.Import):
        return any(name.name.partition(".")[0] == "multiprocessing" for name in node.names)
    return isinstance(node, ast.ImportFrom) and (node.module or "").startswith("multiprocessing")


def test_our_modules_take_the_standard_librarys_names_when_they_are_imported_themselves():
    late = {
        f"{path}:{node.lineno}"
        for path, tree in _modules().items()
        for node in set(ast.walk(tree)) - set(tree.body)
        if _takes_from_standard(node)
    }
    assert not late, "when these run, `multiprocessing` may be ours already"


def test_our_modules_that_take_the_standard_librarys_names_are_imported_before_these_lead_to_us(
    run_script,
):
    takers = {
        ".".join(["manycore", *path.with_suffix("").parts]).removesuffix(".__init__")
        for path, tree in _modules().items()
        if any(map(_takes_from_standard, tree.body))
    }
    done = run_script("import manycore, sys; manycore.install(); print(*sys.modules)")
    assert takers - set(done.stdout.split()) <= THIN


THIN = {
    "manycore.dummy",
    "manycore.dummy.connection",
    "manycore.heap",
    "manycore.resource_sharer",
    "manycore.resource_tracker",
    "manycore.util",
}
"""Modules that only pass on what is the standard library's under its own name, too."""


def test_each_public_module_of_the_standard_librarys_has_one_of_ours_with_its_names():
    import multiprocessing

    missing = []
    for found in pkgutil.walk_packages(multiprocessing.__path__, "multiprocessing."):
        if "popen" in found.name:
            continue
        theirs = importlib.import_module(found.name)
        ours = importlib.import_module(found.name.replace("multiprocessing", "manycore", 1))
        assert ours.__all__
        missing += [f"{found.name}.{name}" for name in theirs.__all__ if not hasattr(ours, name)]
    assert not missing


@pytest.mark.parametrize("name", sorted(THIN))
def test_a_thin_module_has_private_names_too(name):
    ours = importlib.import_module(name)
    theirs = importlib.import_module(name.replace("manycore", "multiprocessing", 1))
    for known, value in vars(theirs).items():
        if not known.startswith("__") and not isinstance(value, types.ModuleType):
            assert getattr(ours, known) is value
