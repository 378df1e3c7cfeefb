"""Main modules that children cannot import: what is defined there works in them all the same."""

import os
import subprocess
import sys

import pytest

import processes
from manycore import _guard

pytestmark = pytest.mark.beyond_stdlib

METHODS = ["fork", "spawn", "forkserver"]

PROGRAM = """
import functools, os, sys
import manycore

os.write(1, b"body\\n")
context = manycore.get_context(os.environ["METHOD"])
queue = context.Queue()
scale = 10

class Point:
    def __init__(self, x):
        self.x = x
    def scaled(self):
        return Point(self.x * scale)
    def __eq__(self, other):
        return type(other) is Point and other.x == self.x

class Mine(context.Process):
    def run(self):
        queue.put("run of a subclass")

def square(x):
    return x * x

def squares(count):
    return [square(x) for x in range(count)]

def put(point, tell):
    global scale
    scale += 1
    queue.put(point.scaled())
    queue.put((scale, tell()))

def take(questions):
    queue.put([(type(it) is Point, it.x) for it in iter(questions.get, None)])

def run(target, *args):
    process = context.Process(target=target, args=args)
    process.start()
    return process

process = run(put, Point(2), lambda: f"a lambda, {scale}")
assert queue.get() == Point(22)
assert queue.get() == (11, "a lambda, 11")
process.join()
def count(total, array):
    with total.get_lock():
        total.value += array[1]

total = context.Value("i", 5)
process = run(count, total, context.RawArray("i", [1, 2]))
process.join()
assert total.value == 7
process = Mine()
process.start()
assert queue.get() == "run of a subclass"
process.join()
questions = context.Queue()
process = run(take, questions)
for message in (Point(1), Point(2), None):
    questions.put(message)
assert queue.get() == [(True, 1), (True, 2)]
process.join()

with context.Pool(2) as pool:
    assert pool.map(squares, range(3)) == [[], [0], [0, 1]]
    assert pool.map(lambda x: x + scale, range(2)) == [10, 11]
    assert pool.apply(Point(3).scaled) == Point(30)
    assert pool.apply(functools.partial(square, 3)) == 9
    def defined_later(x):
        return squares(x) + [later]

    later = "later"
    assert pool.apply(defined_later, (2,)) == [0, 1, "later"]
    def squares(x):
        return "defined again"

    assert pool.apply(squares, (2,)) == "defined again"
    pool.close()
    pool.join()

os.write(1, b"end\\n")
"""


def run(method, *arguments, **options):
    ours = processes.children_of_ours()
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"METHOD": method},
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    processes.wait_for_end(processes.children_of_ours() - ours)  # orphans, which end by themselves
    return done


def as_typed(program):
    """The lines as somebody types them: a block ends with an empty line, which nowhere else is."""
    typed = []
    for line in filter(None, program.splitlines()):
        if typed and typed[-1].startswith(" ") and not line.startswith(" "):
            typed.append("")
        typed.append(line)
    return "\n".join([*typed, ""])


@pytest.mark.parametrize("method", METHODS)
def test_an_unguarded_script_does_not_run_again_in_children(tmp_path, method):
    script = tmp_path / "unguarded.py"
    script.write_text(PROGRAM)
    done = run(method, str(script))
    assert (done.returncode, done.stdout, done.stderr) == (0, "body\nend\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_a_program_on_the_command_line_works(method):
    done = run(method, "-c", PROGRAM)
    assert (done.returncode, done.stdout, done.stderr) == (0, "body\nend\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_a_program_on_standard_input_works(method):
    done = run(method, "-", input=PROGRAM)
    assert (done.returncode, done.stdout, done.stderr) == (0, "body\nend\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_what_is_typed_at_the_prompt_works(method):
    done = run(method, "-i", "-q", input=as_typed(PROGRAM))
    assert "Error" not in done.stderr
    assert [done.stdout.count(line) for line in ("body\n", "end\n")] == [1, 1]


@pytest.mark.parametrize("method", METHODS)
def test_a_package_that_is_run_works(tmp_path, method):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__main__.py").write_text(PROGRAM)
    done = run(method, "-m", "package", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "body\nend\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_a_guarded_script_may_use_lambdas_and_closures(run_script, method):
    done = run_script(
        """
        import sys
        from manycore import get_context

        class Named:
            pass

        def make(n):
            def add(x):
                return x + n, type(Named()) is Named
            return add

        if __name__ == "__main__":
            context = get_context(sys.argv[1])
            ours, theirs = context.Pipe()
            process = context.Process(target=lambda: theirs.send(make(2)(3)))
            process.start()
            print(ours.recv())
            process.join()
            with context.Pool(1) as pool:
                print(pool.map(make(1), [1, 2]), pool.apply(lambda: Named()).__class__ is Named)
        """,
        method,
    )
    assert done.stderr == ""
    assert done.stdout == "(5, True)\n[(2, True), (3, True)] True\n"


@pytest.mark.parametrize("method", METHODS)
def test_a_main_module_that_makes_shared_objects_when_it_is_imported_works(run_script, method):
    done = run_script(
        """
        import sys
        from manycore import Lock, Queue, SharedDict, get_context

        lock, own = Lock(), SharedDict(made=True)

        def answer(answers):
            with lock:
                answers.put(own["made"])

        if __name__ == "__main__":
            context, answers = get_context(sys.argv[1]), Queue()
            for _ in range(2):
                process = context.Process(target=answer, args=(answers,))
                process.start()
                print(answers.get())
                process.join()
        """,
        method,
    )
    assert (done.stdout, done.stderr) == ("True\nTrue\n", "")


@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
def test_what_cannot_be_pickled_at_all_is_the_same_error_as_before(run_script, method):
    done = run_script(
        """
        import sys, threading
        from manycore import get_context

        if __name__ == "__main__":
            lock = threading.Lock()
            try:
                get_context(sys.argv[1]).Process(target=print, args=(lock,)).start()
            except TypeError as error:
                print(error)
        """,
        method,
    )
    assert (done.stdout, done.stderr) == ("cannot pickle '_thread.lock' object\n", "")


REMADE = """
import functools, os, typing, weakref
import manycore

context = manycore.get_context(os.environ["METHOD"])
queue = context.Queue()

@functools.lru_cache(maxsize=100)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

fib.note = "kept"

class Cached:
    @functools.cache
    def method(self):
        return 1
    @functools.cached_property
    def value(self):
        return 2

UserId = typing.NewType("UserId", int)

@functools.singledispatch
def kind(x):
    return "object"

@kind.register
def _(x: int):
    return "int"

class Key:
    pass

key = Key()
seen = weakref.WeakKeyDictionary({key: 5})

def answers():
    cached = Cached()
    return [
        fib(30), fib.cache_parameters()["maxsize"], fib.note, fib.__module__,
        cached.method(), cached.value, cached.value, UserId(3), kind(1), kind("1"), seen[key],
    ]

def put():
    queue.put(answers())

process = context.Process(target=put)
process.start()
assert queue.get() == answers()
process.join()
process = context.Process(target=queue.put, args=(fib,))
process.start()
assert queue.get() is fib
process.join()
with context.Pool(1) as pool:
    assert pool.apply(answers) == answers()
    assert pool.map(fib, [10, 20]) == [55, 6765]
print("as here")
"""


@pytest.mark.parametrize("method", METHODS)
def test_what_pickle_cannot_have_is_made_again(method):
    done = run(method, "-c", REMADE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "as here\n", "")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_an_error_names_the_global_that_cannot_travel(method):
    done = run(
        method,
        "-c",
        "import manycore, os, threading\n"
        "lock = threading.Lock()\n"
        "def inner():\n"
        "    with lock:\n"
        "        pass\n"
        "context = manycore.get_context(os.environ['METHOD'])\n"
        "context.Process(target=lambda: inner()).start()\n",
    )
    assert "TypeError: cannot pickle '_thread.lock' object" in done.stderr
    assert "inner uses the global 'lock' of the main module" in done.stderr


@pytest.mark.parametrize(
    ("source", "is_guarded"),
    [
        ("if __name__ == '__main__': main()", True),
        ('if "__main__" == __name__: main()', True),
        ("if DEBUG and __name__ == '__main__': main()", True),
        ("try:\n  if __name__ == '__main__': main()\nfinally: pass", True),
        ("if __name__ != '__main__': pass\nelse: main()", True),
        ("main()", False),
        ("if __name__: main()", False),
        ("def f():\n  if __name__ == '__main__': main()", False),
        ("print('__main__' == __name__)", False),
    ],
)
def test_a_guard_is_recognised_in_the_syntax(source, is_guarded):
    assert (_guard.behind_guard(source.encode()) is not None) is is_guarded


@pytest.mark.parametrize(
    ("source", "behind"),
    [
        ("def f(): pass\nif __name__ == '__main__':\n  def g(): pass\n  class C: pass", {"g", "C"}),
        ("if __name__ != '__main__': pass\nelse:\n  def g(): pass", {"g"}),
        ("if __name__ == '__main__':\n  if DEBUG:\n    def g(): pass", {"g"}),
        ("if __name__ == '__main__':\n  class C:\n    def g(): pass", {"C"}),
        ("def g(): pass\nif __name__ == '__main__':\n  def g(): pass", set()),
        ("if __name__ == '__main__':\n  g = 1", set()),
    ],
)
def test_what_stands_behind_a_guard_is_seen(source, behind):
    assert _guard.behind_guard(source.encode()) == behind


@pytest.mark.parametrize("method", METHODS)
def test_what_a_guarded_part_defines_is_known_to_children(run_script, method):
    done = run_script(
        """
        import sys
        from manycore import get_context

        def __getattr__(name):
            raise AttributeError(f"no {name} here")

        if __name__ == "__main__":
            class Named:
                pass

            def is_named(it):
                return isinstance(it, Named)

            context = get_context(sys.argv[1])
            queue = context.Queue()
            process = context.Process(
                target=lambda: queue.put((Named.__name__, is_named(Named()), hasattr(main, "x")))
            )
            main = sys.modules["__main__"]
            process.start()
            print(queue.get())
            process.join()
            with context.Pool(1) as pool:
                print(pool.apply(Named).__class__ is Named, pool.map(is_named, [Named(), 1]))
                print(pool.apply(lambda it: is_named(it), (Named(),)))
        """,
        method,
    )
    assert done.stderr == ""
    assert done.stdout == "('Named', True, False)\nTrue [True, False]\nTrue\n"


@pytest.mark.parametrize("method", METHODS)
def test_a_class_is_the_same_for_a_lambda_and_for_its_arguments(run_script, method):
    done = run_script(
        """
        import sys
        from manycore import get_context

        class Named:
            pass

        with get_context(sys.argv[1]).Pool(1) as pool:
            pool.apply(Named)
            print([pool.apply(lambda it: isinstance(it, Named), (Named(),)) for _ in range(3)])
        """,
        method,
    )
    assert (done.stdout, done.stderr) == ("[True, True, True]\n", "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_classes_of_a_script_without_a_guard_are_whole_in_its_children(run_script, method):
    ran = run_script(
        f"""
        import dataclasses, enum, typing
        import manycore

        @dataclasses.dataclass(slots=True)
        class Point:
            x: int

        class Slots:
            __slots__ = ("a", "__weakref__")

            def __init__(self, a):
                self.a = a

        class More(Slots):
            __slots__ = "b"

        class Outer:
            class Inner:
                def __init__(self, n):
                    self.n = n

        class Pair(typing.NamedTuple):
            x: int
            y: int

        class Colour(enum.Enum):
            RED = 1

        def make(n):
            more = More(n)
            more.b = n + 1
            made = (Point(n), Slots(n), more, Outer.Inner(n), Pair(n, n), Colour(n))
            return made, [hasattr(it, "__dict__") for it in made[:3]]

        made, have = manycore.get_context("{method}").Pool(1).apply(make, (1,))
        point, slots, more, inner, pair, colour = made
        print(point == Point(1), slots.a, more.a, more.b, inner.n, pair == Pair(1, 1), colour)
        print(type(inner) is Outer.Inner, type(more) is More, have)
        """,
    )
    expected = "True 1 1 2 1 True Colour.RED\nTrue True [False, False, False]\n"
    assert (ran.returncode, ran.stdout) == (0, expected), ran.stderr
