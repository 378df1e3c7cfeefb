"""Pipe: messages and bytes between two ends, in one process and across processes."""

import array
import os
import select
import threading
from multiprocessing import resource_sharer

import pytest

import manycore
import targets
from manycore import connection, reduction
from processes import running

SIZES = [0, 1, 100, 8 << 10, 32 << 10, 64 << 10, 1 << 20, 16 << 20]


def test_both_ends_send_and_receive(pipe):
    one, other = pipe
    one.send({"to": "other"})
    other.send(["to", "one"])
    assert one.recv() == ["to", "one"]
    assert other.recv() == {"to": "other"}


def test_messages_keep_their_order_and_their_borders(pipe):
    one, other = pipe
    one.send_bytes(b"ab")
    one.send_bytes(b"")
    one.send("c")
    assert (other.recv_bytes(), other.recv_bytes(), other.recv()) == (b"ab", b"", "c")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_messages_of_any_size_cross_processes(method, size):
    context = manycore.get_context(method)
    ours, theirs = context.Pipe()
    message = os.urandom(size)
    with running(context, targets.echo, theirs):
        ours.send([message])
        assert ours.recv() == [message]
    with running(context, targets.echo_bytes, theirs):
        ours.send_bytes(message)
        assert ours.recv_bytes() == message


def test_a_pipe_of_one_direction_has_a_reader_and_a_writer():
    reader, writer = manycore.Pipe(duplex=False)
    assert (reader.readable, reader.writable) == (True, False)
    assert (writer.readable, writer.writable) == (False, True)
    writer.send("item")
    assert reader.recv() == "item"
    with pytest.raises(OSError, match="read-only"):
        reader.send(1)
    with pytest.raises(OSError, match="write-only"):
        writer.recv()
    with pytest.raises(OSError, match="write-only"):
        writer.poll()


def test_poll_tells_whether_a_message_is_there(pipe):
    one, other = pipe
    assert not other.poll()
    assert not other.poll(0.01)
    one.send(1)
    assert other.poll()
    assert other.poll(None)
    other.recv()
    assert not other.poll(-1)


def test_poll_waits_for_another_process(ctx, gate):
    ours, theirs = ctx.Pipe()
    with running(ctx, targets.close_after, gate, theirs):
        gate.let_go()
        theirs.close()
        assert ours.poll(None)


def test_a_connection_can_be_selected(pipe):
    one, other = pipe
    assert select.select([other], [], [], 0)[0] == []
    one.send(1)
    assert select.select([other], [], [])[0] == [other]


def test_the_end_of_the_other_side_is_an_end_of_file(pipe):
    one, other = pipe
    one.send("last words")
    one.close()
    assert other.recv() == "last words"
    assert other.poll()
    with pytest.raises(EOFError):
        other.recv()
    with pytest.raises(EOFError):
        other.recv_bytes()
    with pytest.raises(BrokenPipeError):
        other.send(1)


@pytest.mark.parametrize("end", ["let_go", "kill"])
def test_the_end_of_the_other_process_is_an_end_of_file(ctx, gate, end):
    ours, theirs = ctx.Pipe()
    with running(ctx, targets.close_after, gate, theirs) as process:
        theirs.close()
        gate.arrived()
        gate.let_go() if end == "let_go" else process.kill()
        with pytest.raises(EOFError):
            ours.recv()


@pytest.mark.parametrize(
    "use",
    [
        lambda end: end.send(1),
        lambda end: end.send_bytes(b"1"),
        lambda end: end.recv(),
        lambda end: end.recv_bytes(),
        lambda end: end.poll(),
        lambda end: end.fileno(),
    ],
)
def test_a_closed_connection_refuses_everything_but_close(pipe, use):
    end, _ = pipe
    end.close()
    end.close()
    assert end.closed
    with pytest.raises(OSError, match="closed"):
        use(end)


def test_leaving_the_block_closes():
    one, other = manycore.Pipe()
    with one as entered, other:
        assert entered is one
        assert not one.closed
    assert one.closed
    assert other.closed


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [((2,), b"cdef"), ((2, 3), b"cde"), ((6,), b""), ((0, 0), b"")],
)
def test_send_bytes_can_send_a_part(pipe, arguments, sent):
    one, other = pipe
    one.send_bytes(b"abcdef", *arguments)
    assert other.recv_bytes() == sent


@pytest.mark.parametrize("arguments", [(7,), (-1,), (2, 9), (0, -1)])
def test_send_bytes_refuses_a_part_that_is_not_there(pipe, arguments):
    with pytest.raises(ValueError, match=r"offset|size"):
        pipe[0].send_bytes(b"abcdef", *arguments)


@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda b: array.array("B", b)])
def test_send_bytes_takes_anything_like_bytes(pipe, kind):
    one, other = pipe
    one.send_bytes(kind(b"abc"))
    assert other.recv_bytes() == b"abc"


def test_send_bytes_refuses_text(pipe):
    with pytest.raises(TypeError, match="bytes-like"):
        pipe[0].send_bytes("text")


def test_recv_bytes_refuses_more_than_it_was_told_to_take(pipe):
    one, other = pipe
    one.send_bytes(b"abc")
    with pytest.raises(ValueError, match="negative"):
        other.recv_bytes(-1)
    assert other.recv_bytes(3) == b"abc"
    one.send_bytes(b"abcd")
    with pytest.raises(OSError, match="message"):
        other.recv_bytes(3)


def test_recv_bytes_into_fills_a_buffer_from_an_offset(pipe):
    one, other = pipe
    one.send_bytes(b"abc")
    buffer = bytearray(b"......")
    assert other.recv_bytes_into(buffer, 2) == 3
    assert buffer == b"..abc."


def test_recv_bytes_into_hands_over_what_does_not_fit(pipe):
    one, other = pipe
    one.send_bytes(b"too long")
    with pytest.raises(manycore.BufferTooShort) as caught:
        other.recv_bytes_into(bytearray(3))
    assert caught.value.args == (b"too long",)


def test_recv_bytes_into_refuses_an_offset_outside_of_the_buffer(pipe):
    with pytest.raises(ValueError, match="offset"):
        pipe[0].recv_bytes_into(bytearray(3), 4)


def test_a_message_that_cannot_be_pickled_is_not_sent(pipe):
    one, other = pipe
    with pytest.raises(TypeError, match="cannot pickle"):
        one.send([1, threading.Lock()])
    one.send("next")
    assert other.recv() == "next"


def test_a_thousand_round_trips(ctx):
    ours, theirs = ctx.Pipe()
    with running(ctx, targets.echo_until_none, theirs):
        for number in range(1000):
            ours.send(number)
            assert ours.recv() == number
        ours.send(None)


def test_a_descriptor_is_sent_through_a_pipe(ctx):
    mine, its = ctx.Pipe()
    process = ctx.Process(target=targets.write_to_descriptor, args=(its, b"from a child"))
    process.start()
    its.close()
    readable, writable = os.pipe()
    try:
        reduction.send_handle(mine, writable, process.pid)
        os.close(writable)
        assert mine.recv() is None
        assert os.read(readable, 100) == b"from a child"
        assert not mine.poll()
        mine.send(None)
        process.join()
        with pytest.raises(EOFError):
            mine.recv()
        with pytest.raises(EOFError):
            reduction.recv_handle(mine)
    finally:
        os.close(readable)


def test_a_connection_can_be_taken_apart_and_put_together(pipe):
    one, other = pipe
    rebuild, parts = connection.reduce_connection(other)
    with rebuild(*parts) as copy:
        one.send("to both")
        assert copy.recv() == "to both"
    resource_sharer.stop()
