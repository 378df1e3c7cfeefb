"""Named shared memory: the standard library's API. What becomes of the names: tests/kill."""

import multiprocessing.shared_memory
import os
import pickle
import resource
import socket
from multiprocessing import resource_tracker
from multiprocessing.managers import SharedMemoryManager
from unittest import mock

import numpy as np
import pytest

import processes
import targets
from manycore import shared_memory
from manycore.shared_memory import ShareableList, SharedMemory

beyond_stdlib = pytest.mark.beyond_stdlib
standard = multiprocessing.shared_memory


@pytest.fixture(scope="module", autouse=True)
def _the_standard_librarys_tracker():
    resource_tracker.ensure_running()  # it has a descriptor for as long as this process lives


@pytest.fixture(autouse=True)
def _no_keeper_is_left():
    before = processes.children_of_ours()
    yield
    processes.wait_for_end(processes.children_of_ours() - before)  # it ends with the last name


@pytest.fixture
def block():
    made = SharedMemory(create=True, size=100)
    yield made
    made.close()
    made.unlink()


def test_new_memory_is_zero_and_has_its_size(block):
    assert block.size == len(block.buf) == 100
    assert bytes(block.buf) == bytes(100)
    assert repr(block) == f"SharedMemory({block.name!r}, size=100)"


def test_who_opens_it_has_the_same_memory(block):
    other = SharedMemory(block.name)
    other.buf[:5] = b"hello"
    assert bytes(block.buf[:5]) == b"hello"
    assert other.size == 100
    other.close()
    assert bytes(block.buf[:5]) == b"hello"


def test_the_standard_library_opens_it_and_we_open_its_own(block):
    with mock.patch("multiprocessing.resource_tracker.register"):  # which would unlink it
        other = standard.SharedMemory(block.name)
    other.buf[0] = 7
    assert block.buf[0] == 7
    other.close()
    theirs = standard.SharedMemory(create=True, size=10)
    ours = SharedMemory(theirs.name)
    theirs.buf[0] = 8
    assert ours.buf[0] == 8
    ours.close()
    theirs.close()
    theirs.unlink()
    assert isinstance(ours, standard.SharedMemory)


def test_other_programs_find_it_in_dev_shm(block):
    block.buf[:3] = b"abc"
    with open(f"/dev/shm/{block.name}", "rb") as file:
        assert file.read() == b"abc" + bytes(97)
    assert os.stat(f"/dev/shm/{block.name}").st_mode & 0o777 == 0o600


def test_a_copy_of_a_pickle_opens_it(block):
    other = pickle.loads(pickle.dumps(block))
    other.buf[1] = 9
    assert (block.buf[1], other.name, other.size) == (9, block.name, 100)
    other.close()


def test_a_child_opens_it(ctx, block):
    with processes.running(ctx, targets.write_into, block, b"child"):
        pass
    with processes.running(ctx, targets.open_and_write, SharedMemory, block.name, b"!", 5):
        pass
    assert bytes(block.buf[:7]) == b"child!\0"


def test_a_name_of_ones_own():
    name = f"manycore-test-{os.getpid()}"
    block = SharedMemory(name, create=True, size=1)
    assert block.name == name
    assert os.path.exists(f"/dev/shm/{name}")
    with pytest.raises(FileExistsError):
        SharedMemory(name, create=True, size=1)
    block.close()
    block.unlink()
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)
    with pytest.raises(FileNotFoundError):
        block.unlink()


def test_a_name_may_begin_with_a_slash():
    name = f"/manycore-test-{os.getpid()}"
    slashed = SharedMemory(name, create=True, size=1)
    assert slashed.name == name
    other = SharedMemory(name[1:])
    assert other.name == name[1:]
    other.buf[0] = 3
    assert slashed.buf[0] == 3
    other.close()
    slashed.close()
    slashed.unlink()


def test_errors_are_about_the_name():
    block = SharedMemory(create=True, size=1)
    with pytest.raises(FileExistsError) as raised:
        SharedMemory(block.name, create=True, size=1)
    assert (raised.value.filename, raised.value.filename2) == (f"/{block.name}", None)
    block.close()
    block.unlink()
    for attempt in (block.unlink, lambda: SharedMemory(block.name)):
        with pytest.raises(FileNotFoundError) as raised:
            attempt()
        assert raised.value.filename == f"/{block.name}"


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        ((None, False, 5), {}),
        ((None, True), {}),
        ((None, True, 0), {}),
        ((), {"create": True, "size": -1}),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, options):
    with pytest.raises(ValueError):
        SharedMemory(*arguments, **options)


@pytest.mark.parametrize("name", ["", "/", "a/b", "../x"])
def test_a_name_is_that_of_a_file(name):
    with pytest.raises(OSError):
        SharedMemory(name, create=True, size=1)
    with pytest.raises(OSError):
        SharedMemory(name)


def test_a_name_that_is_taken_is_made_up_anew(block):
    with mock.patch("multiprocessing.shared_memory._make_filename") as make:
        make.side_effect = ["/" + block.name, f"/psm_{os.getpid()}"]
        other = SharedMemory(create=True, size=1)
    assert other.name == f"psm_{os.getpid()}"
    other.close()
    other.unlink()


def test_closing_twice_is_allowed_and_buf_is_gone(block):
    other = SharedMemory(block.name)
    other.close()
    other.close()
    assert other.buf is None


def test_memory_that_is_unlinked_lasts_as_long_as_somebody_has_it():
    block = SharedMemory(create=True, size=5)
    other = SharedMemory(block.name)
    block.unlink()
    other.buf[0] = 3
    assert block.buf[0] == 3
    block.close()
    other.close()


def test_an_array_may_lie_in_it(block):
    array = np.ndarray((10,), "i8", block.buf)
    array[:] = np.arange(10)
    other = SharedMemory(block.name)
    assert np.ndarray((10,), "i8", other.buf).tolist() == list(range(10))
    del array
    other.close()


@beyond_stdlib
@pytest.mark.parametrize("error", [95, 21, 1])
def test_where_there_are_no_nameless_files_it_is_made_with_its_name(error):
    def without(path, flags, *rest, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(error, os.strerror(error))
        return really(path, flags, *rest, **options)

    really = os.open
    with mock.patch("os.open", without):
        block = SharedMemory(create=True, size=5)
    assert bytes(block.buf) == bytes(5)
    block.close()
    block.unlink()


@beyond_stdlib
def test_where_it_cannot_be_made_with_its_name_no_name_stays():
    name = f"manycore-test-{os.getpid()}"
    with (
        mock.patch("manycore.shared_memory._create", shared_memory._create_named),
        mock.patch("os.ftruncate", side_effect=OSError(28, "full")),
        pytest.raises(OSError, match="full"),
    ):
        SharedMemory(name, create=True, size=5)
    assert not os.path.exists(f"/dev/shm/{name}")
    assert not shared_memory._names._noted


@beyond_stdlib
def test_what_is_noted_of_names_goes_with_them():
    names, gone = shared_memory._names, []
    first = SharedMemory(create=True, size=1)
    for number in range(3 * names._FEWEST):
        block = SharedMemory(create=True, size=1)
        block.close()
        if number % 2:
            block.unlink()
        else:  # as another process may
            gone.append(names.identity(os.stat(f"/dev/shm/{block.name}")))
            os.unlink(f"/dev/shm/{block.name}")
        assert len(names._noted) <= names._FEWEST
    names._prune()
    assert [note.name for note in names._noted.values()] == [f"/{first.name}"]
    for file in gone:
        names.forget(file)
    first.close()
    first.unlink()
    assert not names._noted


@beyond_stdlib
@pytest.mark.parametrize(
    "message",
    [b"", b"+", b"-", b"+1 2", b"+x y z", b"?1 2 /z", b"+1 2 /z\0z", b"\xff" * 5000, b"+1  /z"],
)
def test_who_keeps_the_names_goes_on_whatever_it_is_told(block, message):
    (keeper,) = processes.keepers_of_names()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(shared_memory._names._address())
        line.send(message)
        line.shutdown(socket.SHUT_WR)
        assert line.recv(1) == b""
    other = SharedMemory(create=True, size=1)
    other.close()
    other.unlink()
    assert processes.keepers_of_names() == [keeper]


@beyond_stdlib
def test_who_keeps_the_names_goes_on_when_it_is_out_of_descriptors(block):
    (keeper,) = processes.keepers_of_names()
    limits = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, (3, limits[1]))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(shared_memory._names._address())
        line.send(b"+")
        before = _sleeps(keeper)
        while _sleeps(keeper) < before + 5:  # it has tried that often
            os.sched_yield()
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, limits)
        assert line.recv(1) == b""
    assert processes.keepers_of_names() == [keeper]


def _sleeps(pid):
    """How often it has gone to sleep."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt"))


@beyond_stdlib
def test_who_only_opens_and_unlinks_founds_no_family(run_script):
    block = SharedMemory(create=True, size=1)
    opens = """
        import sys
        from manycore import _engine
        from manycore.shared_memory import SharedMemory
        block = SharedMemory(sys.argv[1])
        block.close()
        block.unlink()
        print(_engine.has_family())
    """
    file = shared_memory._names.identity(os.stat(f"/dev/shm/{block.name}"))
    done = run_script(opens, block.name)
    assert (done.stdout, done.stderr) == ("False\n", "")
    block.close()
    shared_memory._names.forget(file)


def test_a_list_keeps_its_items():
    items = [1, -2.5, True, None, "text", b"bytes", ""]
    shared = ShareableList(items)
    assert list(shared) == items
    other = ShareableList(name=shared.shm.name)
    other[0], other[4] = 9, "new"
    assert (shared[0], shared[4], len(shared)) == (9, "new", 7)
    assert (shared.count(None), shared.index("new")) == (1, 4)
    third = pickle.loads(pickle.dumps(shared))
    third[3] = None
    assert repr(third) == f"ShareableList({list(shared)!r}, name={shared.shm.name!r})"
    for each in (shared, other, third):
        each.shm.close()
    shared.shm.unlink()


@beyond_stdlib
@pytest.mark.parametrize("is_anothers", [True, False])
def test_a_name_that_others_took_away_is_not_kept_for_ever(is_anothers):
    block = SharedMemory(create=True, size=1)
    os.unlink(f"/dev/shm/{block.name}")
    if is_anothers:
        with open(f"/dev/shm/{block.name}", "x"):
            pass
        block.unlink()
    else:
        with pytest.raises(FileNotFoundError):
            block.unlink()
    block.close()
    assert not shared_memory._names._noted
    assert not os.path.exists(f"/dev/shm/{block.name}")
    processes.wait_for_end(processes.keepers_of_names())


def test_the_arguments_of_a_list_are_checked_in_its_name():
    with pytest.raises(TypeError, match=r"^ShareableList\.__init__\(\) got an unexpected"):
        ShareableList([1], size=5)


@beyond_stdlib
def test_a_list_lies_in_memory_of_ours():
    shared = ShareableList([1])
    assert type(shared.shm) is SharedMemory
    shared.shm.close()
    shared.shm.unlink()


def test_what_a_manager_made_can_be_opened(ctx):
    with SharedMemoryManager(ctx=ctx) as manager:
        block, shared = manager.SharedMemory(10), manager.ShareableList([1, "two"])
        ours = SharedMemory(block.name)
        ours.buf[0] = 5
        assert block.buf[0] == 5
        assert list(ShareableList(name=shared.shm.name)) == [1, "two"]
        ours.close()
    with pytest.raises(FileNotFoundError):
        SharedMemory(ours.name)
