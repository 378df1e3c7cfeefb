"""What pipes do beyond the standard library's, and where they must be like those."""

import multiprocessing.connection
import os
import pickle
import select
import socket
from multiprocessing import resource_sharer

import pytest

import manycore
import targets
from manycore.connection import Connection, wait
from processes import kill_and_confirm, running


@pytest.fixture
def sharer():
    """The standard library's thread that hands descriptors out; it stays once it was needed."""
    yield
    resource_sharer.stop(timeout=30)


def is_readable(connection, timeout=0):
    return bool(select.select([connection], [], [], timeout)[0])


def test_a_connection_is_one_of_the_standard_librarys(pipe):
    assert isinstance(pipe[0], multiprocessing.connection.Connection)


def test_objects_and_bytes_can_be_taken_for_each_other(pipe):
    one, other = pipe
    one.send_bytes(pickle.dumps({"a": 1}))
    assert other.recv() == {"a": 1}
    one.send({"a": 1})
    assert pickle.loads(other.recv_bytes()) == {"a": 1}
    one.send(b"x" * 100_000)
    assert pickle.loads(other.recv_bytes()) == b"x" * 100_000


def test_a_connection_made_from_a_descriptor_is_a_standard_one():
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as one, Connection(theirs.detach()) as other:
        one.send("item")
        assert other.poll(None)
        assert other.recv() == "item"
        one.send_bytes(b"bytes")
        assert other.recv_bytes() == b"bytes"


def test_a_connection_is_readable_while_there_is_a_message(pipe):
    one, other = pipe
    assert not is_readable(other)
    targets.send_through(one, 1, 2)
    for _ in range(2):
        assert is_readable(other)
        other.recv()
    assert not is_readable(other)


def test_a_connection_whose_other_end_is_closed_is_readable(pipe):
    one, other = pipe
    assert not is_readable(other)
    one.close()
    assert is_readable(other)
    with pytest.raises(EOFError):
        other.recv()


def test_a_connection_whose_other_process_was_killed_is_readable(ctx, gate):
    ours, theirs = ctx.Pipe()
    with running(ctx, targets.stop_with, gate, theirs) as process:
        theirs.close()
        gate.arrived()
        assert not is_readable(ours)
        process.kill()
        assert wait([ours]) == [ours]
        with pytest.raises(EOFError):
            ours.recv()
    ours.close()


def test_sending_to_a_killed_process_is_a_broken_pipe(ctx, gate):
    ours, theirs = ctx.Pipe()
    with running(ctx, targets.stop_with, gate, theirs) as process:
        theirs.close()
        ours.send("before")
        gate.arrived()
        kill_and_confirm(process.pid)
        with pytest.raises(BrokenPipeError):
            ours.send("after")
        with pytest.raises(BrokenPipeError):
            ours.send_bytes(b"after")
    ours.close()


@pytest.mark.parametrize("end", ["let_go", "kill"])
def test_a_send_that_waits_for_room_ends_with_its_receiver(ctx, gate, end):
    reader, writer = ctx.Pipe(duplex=False)
    answers = ctx.Queue()
    with running(ctx, targets.receive_and_stop, gate, reader) as receiver:
        reader.close()  # before the sender is forked, which would have it too
        with running(ctx, targets.give_up_waiting, writer, answers):
            writer.close()
            gate.arrived()
            gate.let_go() if end == "let_go" else receiver.kill()
            assert answers.get() == "BrokenPipeError"


def test_an_end_stays_open_as_long_as_a_process_has_it(ctx, gate):
    ours, theirs = ctx.Pipe()
    with running(ctx, targets.stop_with, gate, theirs):
        theirs.close()
        gate.arrived()
        ours.send("nobody receives it")
        assert not ours.poll(0.1)
        gate.let_go()
        assert ours.poll(None)
    ours.close()


@pytest.mark.parametrize("comes", ["before", "after"])
def test_an_end_is_closed_by_the_death_of_a_process_that_loads_it(pipe, comes):
    ours, theirs = pipe
    args = [theirs, targets.DiesWhenLoaded()]
    if comes == "after":
        args.reverse()
    process = manycore.get_context("spawn").Process(target=targets.nothing, args=args)
    process.start()
    theirs.close()
    process.join()
    assert process.exitcode == 3
    with pytest.raises(EOFError):
        ours.recv()
    with pytest.raises(BrokenPipeError):
        ours.send(1)


def test_what_was_sent_before_the_end_arrives(ctx):
    ours, theirs = ctx.Pipe()
    with running(ctx, targets.send_through, theirs, *range(10), b"x" * 2_000_000):
        theirs.close()
        assert [ours.recv() for _ in range(10)] == list(range(10))
        assert len(ours.recv()) == 2_000_000
        with pytest.raises(EOFError):
            ours.recv()
    ours.close()


@pytest.mark.beyond_stdlib
@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_a_queue_that_only_a_message_has_is_kept_alive(pipe, kind):
    one, other = pipe
    queue = getattr(manycore, kind)()
    queue.put("item")
    one.send({"in": [queue]})
    del queue
    assert other.recv()["in"][0].get() == "item"


@pytest.mark.beyond_stdlib
def test_a_value_that_only_a_message_has_is_kept_alive(pipe):
    one, other = pipe
    one.send(manycore.Value("i", 7))
    assert other.recv().value == 7


def test_a_connection_travels_through_a_connection(ctx, sharer):
    ours, theirs = ctx.Pipe()
    near, far = ctx.Pipe()
    with running(ctx, targets.answer_on_the_sent_connection, theirs):
        ours.send(far)
        assert near.recv() == "through the connection that was sent"
        far.close()
        with pytest.raises(EOFError):
            near.recv()
    for connection in (ours, theirs, near):
        connection.close()


def test_a_socket_travels_through_a_connection(ctx, sharer):
    ours, theirs = ctx.Pipe()
    near, far = socket.socketpair()
    with running(ctx, targets.connect_back, theirs), near, far:
        ours.send(far)
        assert near.recv(100) == b"through the socket that was sent"
    ours.close()
    theirs.close()


@pytest.mark.beyond_stdlib
def test_both_sides_can_send_much_before_they_receive(pipe):
    one, other = pipe
    one.send(b"x" * 1_000_000)
    other.send(b"y" * 1_000_000)
    assert (len(one.recv()), len(other.recv())) == (1_000_000, 1_000_000)


def test_a_closed_connection_gives_its_descriptors_back(pipe):
    one, other = pipe
    numbers = {one.fileno(), other.fileno()}
    assert len(numbers) == 2
    one.close()
    other.close()
    for number in numbers:
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(number)
