"""Daemon threads that are amid Python code, called by the engine, when the program ends."""

import signal

import pytest

PROGRAM = """
    import signal, sys, threading, time
    import manycore

    class Late:  # forgotten when daemon threads no longer get the interpreter
        def __del__(self, sleep=time.sleep):
            sleep(0.2)

    late = Late()
    spins = threading.Event()

    def spin(*_):
        spins.set()
        while True:
            pass

    def spin_and_yield():
        yield spin()

    class SpinsWhenPickled:
        def __reduce__(self):
            spin()

    class SpinsWhenUnpickled:
        def __reduce__(self):
            return spin, ()

    class OwnLock:
        acquire = release = __enter__ = __exit__ = spin

    def in_a_callback():
        pool.apply_async(abs, (1,), callback=spin)
        threading.Event().wait()

    def in_a_futures_callback():
        executor.submit(abs, 1).add_done_callback(spin)
        threading.Event().wait()

    def in_a_lazy_map():
        begun = threading.Event()  # the map has its threads: at the end none can be started

        def items():
            begun.wait()
            yield spin()

        results = pool.imap(abs, items())
        begun.set()
        next(results)

    def in_the_items_of_a_map():
        pool.map(abs, spin_and_yield())

    def in_a_pipeline():
        manycore.pipeline(spin_and_yield(), manycore.stage(abs, workers=1)).run()

    def in_a_put():
        manycore.SimpleQueue().put(SpinsWhenPickled())

    def in_a_get():
        queue = manycore.SimpleQueue()
        queue.put(SpinsWhenUnpickled())
        queue.get()

    def in_many_puts():
        manycore.Queue().put_many(spin_and_yield())

    class SpinsWhenAskedForItems:
        __iter__ = spin

    def in_the_beginning_of_many_puts():
        manycore.Queue().put_many(SpinsWhenAskedForItems())

    def in_the_hook_for_errors():
        sys.unraisablehook = spin
        pool.apply_async(abs, (1,), callback=fail)
        threading.Event().wait()

    def fail(_):
        raise ValueError

    def in_a_task_of_its_own():
        manycore.Pool(0).apply(spin)

    def in_a_barrier():
        manycore.Barrier(1, spin).wait()

    def in_a_lock():
        with manycore.Value("i", lock=OwnLock()):
            pass

    if __name__ == "__main__":
        pool = manycore.Pool(1)
        executor = manycore.ProcessPoolExecutor(1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=globals()[sys.argv[1]], daemon=True).start()
        spins.wait()
        signal.raise_signal(signal.SIGINT)  # else the end would wait for callbacks
"""


@pytest.mark.parametrize(
    "where",
    [
        "in_a_callback",
        "in_a_futures_callback",
        "in_a_lazy_map",
        "in_the_items_of_a_map",
        "in_a_pipeline",
        "in_a_put",
        "in_a_get",
        "in_many_puts",
        "in_the_beginning_of_many_puts",
        "in_the_hook_for_errors",
        "in_a_task_of_its_own",
        "in_a_barrier",
        "in_a_lock",
    ],
)
def test_a_program_ends_in_order_beside_a_thread(run_script, where):
    ended = run_script(PROGRAM, where)
    assert ended.returncode == -signal.SIGINT, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1] == "KeyboardInterrupt"
