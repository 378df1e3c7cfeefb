"""A pool in asyncio: calls and streams that are awaited, and cancelled."""

import asyncio
import functools
import gc
import itertools
import signal
import threading
import time

import pytest

import manycore
import targets
from processes import kill_and_confirm

pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture(scope="module", params=["fork", "spawn", "forkserver"])
def pool(request):
    """A pool of two for tests that leave it as they found it."""
    with manycore.get_context(request.param).Pool(2) as pool:
        yield pool


@pytest.fixture
def single():
    """A pool of one, in which a call can be kept waiting."""
    with manycore.get_context("fork").Pool(1) as pool:
        yield pool


async def arrived(gate, count=1):
    """Waits for the gate without keeping the loop from its work."""
    return await asyncio.to_thread(gate.arrived, count)


def test_a_call_is_awaited(pool):
    async def main():
        assert await pool.run(targets.square, 7) == 49
        assert await pool.run(targets.gather, 1, func=2) == ((1,), {"func": 2})
        return await asyncio.gather(*(pool.run(targets.square, n) for n in range(500)))

    assert asyncio.run(main()) == [n * n for n in range(500)]


def test_an_exception_is_raised_where_it_is_awaited(pool):
    async def main():
        with pytest.raises(ValueError, match="3 is bad") as caught:
            await pool.run(targets.fail_on, 3, 3)
        assert "in fail_on" in str(caught.value.__cause__)
        with pytest.raises(TypeError, match="pickle"):
            await pool.run(targets.identity, threading.Lock())
        with pytest.raises(TypeError, match="not callable"):
            await pool.run(5)

    asyncio.run(main())


def test_the_loop_goes_on_meanwhile(pool, gate):
    async def main():
        call = asyncio.create_task(pool.run(targets.stop_at, gate, "done"))
        await arrived(gate)
        await asyncio.sleep(0)
        assert not call.done()
        gate.let_go()
        return await call

    assert asyncio.run(main()) == "done"


def test_asynchronous_results_are_awaited_with_their_callbacks(pool):
    seen = []

    async def main():
        one = pool.apply_async(targets.square, (3,), callback=seen.append)
        all_of_them = pool.map_async(targets.square, range(100))
        assert await all_of_them == [n * n for n in range(100)]
        assert await one == 9
        assert await one == 9, "it can be awaited again"

    asyncio.run(main())
    assert seen == [9]


def test_a_cancelled_task_withdraws_its_call(single, gate, tmp_path):
    path = str(tmp_path / "line")

    async def main():
        running = asyncio.create_task(single.run(targets.stop_at, gate, 1))
        await arrived(gate)
        calls = [asyncio.create_task(single.run(targets.append_number, path, n)) for n in range(9)]
        await asyncio.sleep(0)  # they are handed out
        calls[4].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[4]
        gate.let_go()
        assert await running == 1
        assert [await call for call in calls if call is not calls[4]] == [0, 1, 2, 3, 5, 6, 7, 8]

    asyncio.run(main())
    with open(path) as lines:
        assert [int(line) for line in lines] == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_call_that_runs_is_left_alone_when_its_task_is_cancelled(single, gate):
    async def main():
        call = asyncio.create_task(single.run(targets.stop_at, gate, 1))
        await arrived(gate)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.let_go()
        assert await single.run(targets.square, 2) == 4

    asyncio.run(main())


def test_a_cancelled_stream_has_what_runs_given_up(single, tmp_path):
    path = tmp_path / "begun"

    async def main():
        stream = single.stream(functools.partial(sleep_for_ever, path), range(5))
        waiting = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)  # it waits
        while not path.exists():
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await single.run(targets.square, 3)

    assert asyncio.run(main()) == 9
    assert path.read_text() == "0\n"


def sleep_for_ever(path, number):
    targets.append_number(path, number)
    while True:
        time.sleep(1)


def test_a_timeout_of_asyncio_withdraws_the_call(single, gate):
    async def main():
        running = asyncio.create_task(single.run(targets.stop_at, gate, 1))
        await arrived(gate)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(single.run(targets.stop_at, gate, 2), 0.01)
        gate.let_go()
        assert await running == 1
        assert await single.run(targets.square, 2) == 4  # and nobody stops at the gate

    asyncio.run(main())


def test_a_loop_that_ends_with_calls_running_harms_nobody(single, gate):
    async def main():
        asyncio.create_task(single.run(targets.stop_at, gate, 1))  # noqa: RUF006
        await arrived(gate)

    asyncio.run(main())
    gate.let_go()
    assert single.apply(targets.square, (3,)) == 9


def test_a_worker_that_is_killed_fails_its_call_alone(gate):
    async def main(pool):
        call = asyncio.create_task(pool.run(targets.stop_at, gate, 1))
        (victim,) = await arrived(gate)
        kill_and_confirm(victim)
        with pytest.raises(manycore.WorkerDied) as caught:
            await call
        assert caught.value.exitcode == -signal.SIGKILL
        assert await pool.run(targets.square, 2) == 4

    with manycore.get_context("fork").Pool(1) as pool:
        asyncio.run(main(pool))


# ---- streams -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 7])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_stream_gives_every_result(pool, chunksize, ordered):
    async def main():
        stream = pool.stream(targets.square, iter(range(500)), chunksize, ordered=ordered)
        return [result async for result in stream]

    results = asyncio.run(main())
    assert (results if ordered else sorted(results)) == [n * n for n in range(500)]


def test_an_empty_stream_ends(pool):
    async def main():
        return [result async for result in pool.stream(targets.square, [])]

    assert asyncio.run(main()) == []


def test_a_stream_takes_a_bounded_number_of_items_ahead(pool):
    taken = itertools.count()

    async def main():
        stream = pool.stream(targets.square, taken)
        results = [await anext(stream) for _ in range(10)]
        await stream.aclose()
        return results

    assert asyncio.run(main()) == [n * n for n in range(10)]
    assert next(taken) <= 10 + 256 * 2


def test_a_stream_raises_where_its_task_failed_and_goes_on(pool):
    async def main():
        stream = pool.stream(functools.partial(targets.fail_on, 3), range(6))
        seen = []
        while True:
            try:
                seen.append(await anext(stream))
            except ValueError:
                seen.append("failed")
            except StopAsyncIteration:
                return seen

    assert asyncio.run(main()) == [0, 1, 2, "failed", 4, 5]


def test_a_stream_raises_what_its_items_raise(pool):
    def broken():
        yield 2
        raise LookupError("no more")

    async def main():
        stream = pool.stream(targets.square, broken())
        assert await anext(stream) == 4
        with pytest.raises(LookupError, match="no more"):
            await anext(stream)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["cancel", "leave", "aclose"])
def test_a_stream_that_is_left_withdraws_what_waits(single, gate, tmp_path, how):
    path = str(tmp_path / "line")

    async def consume(stream):
        async for _ in stream:
            pass

    async def main():
        running = asyncio.create_task(single.run(targets.stop_at, gate, 1))
        await arrived(gate)
        stream = single.stream(_append_to, [(path, n) for n in range(30)])
        if how == "cancel":
            task = asyncio.create_task(consume(stream))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [result async for result in stream] == []
        if how == "aclose":
            await stream.aclose()
        del stream
        gc.collect()
        gate.let_go()
        assert await running == 1
        assert await single.run(targets.square, 2) == 4

    asyncio.run(main())
    assert not (tmp_path / "line").exists()


def _append_to(pair):
    return targets.append_number(*pair)


def test_a_stream_waits_without_turning(single, gate):
    """While nothing comes the loop has nothing to do."""
    turns = itertools.count()

    async def main():
        stream = single.stream(_stop_at, [gate])
        result = asyncio.create_task(anext(stream))
        await arrived(gate)
        loop = asyncio.get_running_loop()
        before = loop._run_once
        loop._run_once = lambda: (next(turns), before())[1]
        await asyncio.sleep(0.3)
        loop._run_once = before
        gate.let_go()
        return await result

    assert asyncio.run(main()) == "done"
    assert next(turns) < 20


def _stop_at(gate):
    return targets.stop_at(gate, "done")


def test_two_loops_use_one_pool(pool):
    def run():
        seen.append(asyncio.run(main()))

    async def main():
        return await asyncio.gather(*(pool.run(targets.square, n) for n in range(200)))

    seen = []
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [[n * n for n in range(200)]] * 3


def test_two_tasks_may_not_wait_for_one_stream_at_a_time(pool, gate):
    async def main():
        stream = pool.stream(functools.partial(targets.stop_on, gate, 0), range(3))
        first = asyncio.create_task(anext(stream))
        while not stream._is_awaited:
            await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task waits"):
            await anext(stream)
        gate.let_go()
        return [await first, await anext(stream), await anext(stream)]

    assert asyncio.run(main()) == [0, 1, 2]
