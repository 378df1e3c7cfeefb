"""What is defined in the cells of a notebook works in other processes; a real kernel runs it."""

import pytest

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.slow]

# A program of its own: it has threads, as the kernel has, whose forks Python 3.12 warns of.
NOTEBOOK = '''
import os, sys
from jupyter_client.manager import start_new_kernel

os.environ.pop("PYTEST_CURRENT_TEST")  # a kernel that sees it does not show what children write

CELLS = [
    """
import os, manycore
os.write(os.open(MARKS, os.O_WRONLY | os.O_APPEND | os.O_CREAT), b"body;")
context = manycore.get_context(METHOD)
queue = context.Queue()
scale = 10

class Point:
    def __init__(self, x):
        self.x = x
    def scaled(self):
        return Point(self.x * scale)
    def __eq__(self, other):
        return type(other) is Point and other.x == self.x

def square(x):
    return x * x

def put(point, tell):
    queue.put(point.scaled())
    queue.put(tell())

def say():
    print("said by a child")
""",
    """
process = context.Process(target=put, args=(Point(2), lambda: f"a lambda, {scale}"))
process.start()
print(queue.get() == Point(20), queue.get())
process.join()
print(process.exitcode)
""",
    """
with context.Pool(2) as pool:
    print(pool.map(square, range(3)))
    print(pool.map(lambda x: x + scale, range(2)))
    print(pool.apply(Point(3).scaled) == Point(30))
""",
    """
process = context.Process(target=say)
process.start()
process.join()
""",
]


def show(message):
    if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
        shown.append(message["content"]["text"])
    elif message["msg_type"] == "error":
        shown.extend(message["content"]["traceback"])


method, marks, path = sys.argv[1:]
shown = []
manager, client = start_new_kernel()
try:
    for cell in [f"METHOD, MARKS = {method!r}, {marks!r}", *CELLS]:
        client.execute_interactive(cell, timeout=60, output_hook=show)
    # What a child has written to the kernel's descriptor comes when that has read it.
    while "said by a child" not in "".join(shown):
        show(client.get_iopub_msg(timeout=20))
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
with open(path, "w") as file:
    file.write("".join(shown))
'''

SHOWN = """\
True a lambda, 10
0
[0, 1, 4]
[10, 11]
True
said by a child
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_cells_define_what_other_processes_run(run_script, monkeypatch, tmp_path, method):
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    marks, shown = tmp_path / "marks", tmp_path / "shown"
    done = run_script(NOTEBOOK, method, str(marks), str(shown))
    assert done.returncode == 0, done.stderr
    assert shown.read_text() == SHOWN
    assert marks.read_text() == "body;"  # once
