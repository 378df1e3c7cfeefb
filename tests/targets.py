"""What tests run in other processes: importable, so that `spawn` can name it."""

import contextlib
import ctypes
import faulthandler
import itertools
import logging
import multiprocessing
import os
import random
import resource
import select
import signal
import sys
import threading
import time
import warnings
from queue import Empty

import manycore
import watchdog
from manycore import reduction

watchdog.watch_child()


def nothing(*_args, **_kwargs):
    pass


def identity(value):
    return value


class CountsLooks(type):
    """Counts how often a task is looked up."""

    looks = 0

    def __getattribute__(cls, name):
        if name == "task":
            CountsLooks.looks += 1
        return super().__getattribute__(name)


class Looked(metaclass=CountsLooks):
    @classmethod
    def task(cls, _):
        return CountsLooks.looks


def square(x):
    return x * x


def answer_squares(questions, answers):
    for number in iter(questions.get, None):
        answers.put(number * number)


def write_to_descriptor(connection, text):
    descriptor = reduction.recv_handle(connection)
    os.write(descriptor, text)
    connection.send(None)
    connection.recv()


def add(a, b):
    return a + b


def gather(*args, **kwargs):
    return args, kwargs


def fail(error):
    raise error


def fail_on(bad, value):
    if value == bad:
        raise ValueError(f"{value} is bad")
    return value


class Weighty:
    """Something to be kept alive, or not."""


class PickyError(Exception):
    """Pickles, but cannot be unpickled: the constructor wants two arguments and is given one."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def fail_pickily(_value):
    raise PickyError(1, 2)


class StubbornError(Exception):
    """Cannot be pickled."""

    def __reduce__(self):
        raise TypeError("stays here")


def fail_unpicklably():
    raise StubbornError("no")


class _Indigestible:
    def __reduce__(self):
        return int, ("no number",)


class Undecodable:
    """What can be pickled, and raises an error of choice where it is unpickled."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return fail, (self.error,)

    def __call__(self, value):
        return value


def indigestible(_value):
    """What can be pickled and not unpickled."""
    return _Indigestible()


def unpicklable(_value):
    return threading.Lock()


def die_quietly():
    """Without a core file, and without the stack that pytest's fault handler prints."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()


def ends_as(way):
    """Ends this process; `ENDINGS` has the exit code of each way."""
    die_quietly()
    match way:
        case "return":
            return
        case "sys.exit":
            sys.exit(3)
        case "sys.exit(None)":
            sys.exit(None)
        case "sys.exit(text)":
            sys.exit("a reason")
        case "raise":
            raise ZeroDivisionError("a reason")
        case "os._exit":
            os._exit(3)
        case "os.abort":
            os.abort()
    os.kill(os.getpid(), getattr(signal, way))
    signal.pause()


def fill_and_end_as(size, way):
    """Ends this process when it has had so many bytes for a moment."""
    filled = b"x" * size
    assert len(filled) == size
    del filled
    ends_as(way)


ENDINGS = {
    "return": 0,
    "sys.exit": 3,
    "sys.exit(None)": 0,
    "sys.exit(text)": 1,
    "raise": 1,
    "os._exit": 3,
    "os.abort": -signal.SIGABRT,
    "SIGKILL": -signal.SIGKILL,
    "SIGTERM": -signal.SIGTERM,
    "SIGSEGV": -signal.SIGSEGV,
}


def length(data, _):
    return len(data)


def stop_at(gate, value=None):
    gate.stop()
    return value


def stop_and_end(gate, way):
    gate.stop()
    ends_as(way)


def stop_and_start(gate, ctx, connection):
    gate.stop()
    run_in_a_child(ctx, send, connection, "from a grandchild")


def stop_on(gate, chosen, value):
    """Stops at the gate for one chosen value only."""
    if value == chosen:
        gate.stop()
    return value


def two_more(number):
    """What a page links to, so to say."""
    return [2 * number, 2 * number + 1]


def length_behind(gate, value):
    """Stops at the gate, then gives the length of the value."""
    gate.stop()
    return len(value)


def next_of(items):
    """The first one; raises what ends an iteration where there is none."""
    return next(iter(items))


def own_pid(_value=None):
    return os.getpid()


def who_am_i(connection):
    """Sends what this process and its parent are called, by the standard library's own account."""
    me, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    connection.send((manycore.current_process() is me, me.name, me.daemon, me.pid, parent.pid))


def worker_identity(_value):
    me = multiprocessing.current_process()
    return me.name, me.daemon


def send_parent(_ctx, connection):
    connection.send(os.getppid())


def send_parent_of_a_child(ctx, connection):
    run_in_a_child(ctx, send_parent, ctx, connection)


def send_variable(connection, name):
    connection.send(os.environ.get(name))


def send_descriptors(connection):
    """What the descriptors of this process lead to."""
    leads_to = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed the folder
            leads_to.append(os.readlink(f"/proc/self/fd/{fd}"))
    connection.send(leads_to)


def send_signal_state(connection):
    """What is blocked, what is done about two signals, and who is woken by a handler."""
    signal_mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGCHLD)
    connection.send((signal_mask, *handlers, signal.set_wakeup_fd(-1)))


def send_random(connection):
    from numpy import random as numpy_random

    connection.send((random.random(), numpy_random.random()))


def send_length(connection, data):
    connection.send(len(data))


class Announcer:
    """To be mixed into a context's Process: `run` sends the attribute it was made with."""

    def __init__(self, connection, value):
        super().__init__()
        self.connection, self.value = connection, value

    def run(self):
        self.connection.send(self.value)


class ForkAnnouncer(Announcer, manycore.get_context("fork").Process):
    pass


class SpawnAnnouncer(Announcer, manycore.get_context("spawn").Process):
    pass


class ForkServerAnnouncer(Announcer, manycore.get_context("forkserver").Process):
    pass


def run_in_a_child(ctx, target, *args):
    child = ctx.Process(target=target, args=args)
    child.start()
    child.join()


def stop_with_a_child(ctx, gate, from_a_thread=False):
    """Has a child that stops at the gate, and waits for it."""
    child = ctx.Process(target=stop_at, args=(gate,))
    if from_a_thread:
        starter = threading.Thread(target=child.start)
        starter.start()
        starter.join()
    else:
        child.start()
    child.join()


# Queues and connections


def put(queue, *items):
    for item in items:
        queue.put(item)


def put_one_each(queues, connections):
    for queue in queues:
        queue.put(1)
    for connection in connections:
        connection.send(1)


def put_range(queue, first, count):
    for number in range(first, first + count):
        queue.put(number)


def put_and_exit_at_once(queue, item):
    queue.put(item)
    os._exit(0)


def put_and_end(queue, items, way):
    put(queue, *items)
    ends_as(way)


def put_and_stop(gate, queue, items):
    put(queue, *items)
    gate.stop()


def put_at(gate, queue, item):
    gate.stop()
    queue.put(item)


def get_from(queue, answers):
    answers.put(queue.get())


def sum_until_none(queue, answers):
    """Puts how many numbers it got from the queue before a None, and their sum."""
    numbers = list(iter(queue.get, None))
    answers.put((len(numbers), sum(numbers)))


def echo_queue(questions, answers):
    for message in iter(questions.get, None):
        answers.put(message)


def echo(connection):
    connection.send(connection.recv())


def echo_bytes(connection):
    connection.send_bytes(connection.recv_bytes())


def tell_start_method(connection):
    connection.send(manycore.get_start_method())


def send(connection, *values):
    for value in values:
        connection.send(value)


def echo_until_none(connection):
    for message in iter(connection.recv, None):
        connection.send(message)


def close_after(gate, connection):
    gate.stop()
    connection.close()


# Locks and shared values


def hold(lock, gate):
    """Takes the lock, then stops at the gate."""
    with lock:
        gate.stop()


def ignore_dead_owners():
    """For processes that take over from killed ones again and again."""
    warnings.simplefilter("ignore", manycore.LockOwnerDied)


def take_and_stop(lock, gate, times=1):
    """Takes the lock, stops at the gate, and ends with the lock held."""
    ignore_dead_owners()
    for _ in range(times):
        lock.acquire()
    gate.stop()


def take_release_and_stop(lock, gate):
    with lock:
        pass
    gate.stop()


def take_and_tell_warnings(lock, connection):
    """Takes the lock, sends the warnings that this gave, and releases it."""
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        lock.acquire()
    connection.send([(warning.category.__name__, str(warning.message)) for warning in given])
    lock.release()


def take_and_tell_error(lock, connection):
    """Takes the lock, which is refused, and sends whose death that was."""
    try:
        lock.acquire()
    except manycore.LockOwnerDied as error:
        connection.send(error.pid)


def wait_and_tell_error(condition, connection):
    """Waits for a notification, and sends whose death it heard of when it had the lock back."""
    try:
        with condition:
            connection.send("has the lock")
            condition.wait()
    except manycore.LockOwnerDied as error:
        connection.send(error.pid)


def notify_and_stop(condition, gate):
    with condition:
        condition.notify()
        gate.stop()


def repair_and_stop(lock, gate):
    with lock.repairing():
        gate.stop()


def set_and_stop_with_lock(value, new, gate):
    with value.get_lock():
        value.value = new
        gate.stop()


def take_and_leave(lock):
    lock.acquire()


def release(lock):
    lock.release()


def try_to_take(lock, connection):
    connection.send(lock.acquire(block=False))


def enter(lock):
    """Takes the lock as a block does, and ends with it."""
    lock.__enter__()


def enter_and_stop(lock, gate, times=1):
    """Takes the lock as a block does, stops at the gate, and ends with the lock held."""
    ignore_dead_owners()
    for _ in range(times):
        lock.__enter__()
    gate.stop()


def enter_with_a_sibling(ctx, lock, gate):
    """Takes the lock, has a child, which has nothing of it, and both stop at the gate."""
    with lock:
        child = ctx.Process(target=stop_at, args=(gate,))
        child.start()
        gate.stop()


def held(thing, access=None):
    """What holds something in a `with`; a reader-writer lock to read or to write."""
    return getattr(thing, access)() if access else thing


def stop_holding(thing, access, gate):
    ignore_dead_owners()
    with held(thing, access):
        gate.stop()


def hold_beside_a_child(ctx, thing, access, gate):
    with held(thing, access):
        do_beside_a_child(ctx, gate, gate.stop)


def do_beside_a_child(ctx, gate, target, *args):
    """Has a child, which stops at the gate and is left there."""
    child = ctx.Process(target=stop_at, args=(gate,))
    child.start()
    target(*args)


def end_a_thread_holding(thing, access, gate):
    thread = threading.Thread(target=held(thing, access).__enter__)
    thread.start()
    thread.join()
    gate.stop()


def wait_until_waited_for(what, answers, count):
    """Waits until so many wait, of whom each but the parties of a barrier has put that it does."""
    if hasattr(what, "n_waiting"):
        while what.n_waiting < count:
            time.sleep(0)
        return
    assert answers.get() == "waits"
    while hasattr(what, "notify") and what._waiting() < count:
        time.sleep(0)


def enter_and_leave(lock):
    with lock:
        pass


def read_and_leave(lock):
    with lock.read():
        pass


def abort(barrier):
    barrier.abort()


def read_and_stop(lock, gate):
    ignore_dead_owners()
    with lock.read():
        gate.stop()


def write_and_stop(lock, gate):
    ignore_dead_owners()
    with lock.write():
        gate.stop()


def _try_to_read(lock, connection):
    may_read = lock.acquire_read(block=False)
    if may_read:
        lock.release_read()
    connection.send(may_read)


def reads_at_once(ctx, lock):
    """Whether another process may read without waiting."""
    ours, theirs = ctx.Pipe()
    child = ctx.Process(target=_try_to_read, args=(lock, theirs))
    child.start()
    child.join()
    return ours.recv()


def write_pairs(lock, pair, times):
    for _ in range(times):
        with lock.write():
            pair[0] += 1
            pair[1] = pair[0]


def check_pairs(lock, pair, times):
    for _ in range(times):
        with lock.read():
            first, second = pair[:]
            assert first == second


def count_up(lock, counter, times):
    """Adds to a counter that has no lock of its own."""
    for _ in range(times):
        with lock:
            counter.value += 1


def add_with_own_lock(value, times):
    for _ in range(times):
        with value.get_lock():
            value.value += 1


def add_in_steps(numbers, times):
    for _ in range(times):
        for number in numbers:
            number.add(1)


def win_in_steps(turn, wins, turns):
    """Takes part in a race for each turn, which one wins."""
    while (now := turn.load()) < turns:
        if turn.compare_exchange(now, now + 1) == now:
            wins.add(1)


def fill(array, numbers):
    array[:] = numbers


def fill_and_return(array, number):
    array[:] = number
    return array


def hold_and_stop(_held, gate):
    gate.stop()


def write_into(block, data, at=0):
    block.buf[at : at + len(data)] = data


def open_and_write(cls, name, data, at):
    block = cls(name)
    write_into(block, data, at)
    block.close()


def look_up(shared, index):
    """An item of a table; whether it could be written."""
    table = shared.value["table"]
    return int(table[index]), table.flags.writeable


class CountsDecoding:
    """Counts how often it was decoded in this process."""

    times = 0

    def __reduce__(self):
        return _decoded_again, ()


def _decoded_again():
    CountsDecoding.times += 1
    return CountsDecoding()


_kept = []


def keep(obj):
    """For as long as this process lives."""
    _kept.append(obj)


def times_decoded(shared):
    assert isinstance(shared.value, CountsDecoding)
    return os.getpid(), CountsDecoding.times


def set_value(value, new):
    value.value = new


class OursFirst(ctypes.c_int):
    """A type of which manycore shares an object first, and then the standard library."""


class TheirsFirst(ctypes.c_int):
    """The other way round."""


# Pools

_initialised = None


def remember(value):
    global _initialised
    _initialised = value


def remembered(_value=None):
    return _initialised


def append_number(path, number):
    """Adds a line to a file."""
    with open(path, "a") as lines:
        lines.write(f"{number}\n")
    return number


def fail_then_stop(gate, value):
    """Fails with the first value, and stops with the next."""
    if value == 0:
        raise ValueError(f"{value} is bad")
    gate.stop()


def tally(path, value):
    """Writes down that it ran, in one record that survives whatever happens next."""
    record = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(record, value.to_bytes(4, "little"))
    os.close(record)
    return value


def tally_beside(path, value, _beside):
    return tally(path, value)


def tally_or_die(path, chosen, way, value):
    """Tallies, but for the chosen value ends its process instead."""
    if value == chosen:
        ends_as(way)
    return tally(path, value)


def tally_or_die_on_any(path, chosen, way, value):
    """Tallies, but for each of the chosen values ends its process instead."""
    return tally_or_die(path, value if value in chosen else None, way, value)


def wait_and_tally_or_die(path, chosen, value, seconds):
    """Takes so long, and tallies, but for each of the chosen values kills its process instead."""
    time.sleep(seconds)
    return tally_or_die_on_any(path, chosen, "SIGKILL", value)


class DiesOnce:
    """Kills the process that unpickles it, but only the first; for the next it is a plain value."""

    def __init__(self, path, value):
        self.path, self.value = path, value

    def __reduce__(self):
        return die_once, (self.path, self.value)


def die_once(path, value):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return value
    ends_as("SIGKILL")


def tally_and_pass_by(path, gate, chosen, value):
    """Tallies; for the chosen value it tells the test its process id first."""
    if value == chosen:
        gate.pass_by()
    return tally(path, value)


def tally_or_stop(path, gate, chosen, value):
    """Tallies, but for the chosen value it stops at the gate for ever."""
    if value == chosen:
        gate.stop()
    return tally(path, value)


def set_event(event):
    event.set()


def meet(barrier):
    barrier.wait(60)


def consume(condition, things):
    """Takes things for ever. Who takes a killed one's lock over wakes all to look again."""
    taken_over = []
    warnings.simplefilter("always", manycore.LockOwnerDied)
    warnings.showwarning = lambda *_args, **_kwargs: taken_over.append(True)
    while True:
        with condition:
            while True:
                if taken_over:
                    taken_over.clear()
                    condition.notify_all()
                if things.value:
                    break
                condition.wait()
            things.value -= 1


def meet_and_tell(barrier, answers):
    try:
        answers.put(barrier.wait())
    except threading.BrokenBarrierError:
        answers.put("broken")


def call(what, method):
    die_quietly()
    getattr(what, method)()


def meet_and_stop(barrier, gate):
    barrier.wait(60)
    gate.stop()


def leave_a_thread_waiting(condition, gate):
    """Ends in order while a thread of it waits for the condition."""

    def wait():
        with condition:
            gate.pass_by()
            condition.wait()

    threading.Thread(target=wait, daemon=True).start()
    gate.stop()


def meet_often(barrier, answers, times):
    """Puts the numbers that it was given."""
    answers.put([barrier.wait() for _ in range(times)])


def wait_for(what, answers):
    """Says that it waits for an event or a condition, and then what it was told."""
    ignore_dead_owners()
    if hasattr(what, "notify"):
        with what:
            answers.put("waits")
            told = what.wait()
    else:
        answers.put("waits")
        told = what.wait()
    answers.put(told)


def notify(condition):
    with condition:
        condition.notify_all()


def count_up_notifying(condition, number, times):
    for _ in range(times):
        with condition:
            number.value += 1
            condition.notify_all()


def sum_all(queue, answers):
    answers.put(sum(queue))


def total_length(queue, answers):
    answers.put(sum(map(len, queue)))


def wait_for_shutdown(gate, queue, wait, answers):
    gate.pass_by()
    try:
        queue.get() if wait == "get" else queue.put("one more")
    except manycore.ShutDown as error:
        answers.put(type(error).__name__)


def shut_down(queue):
    queue.shutdown()


def put_range_and_shut_down(queue, count):
    queue.put_many(range(count))
    queue.shutdown()


def start_to_poll(queue, answers):
    queue.fileno()
    answers.put("polling")


def poll_and_take(queue, answers):
    start_to_poll(queue, answers)
    while True:
        select.select([queue], [], [])
        try:
            return answers.put(queue.get_nowait())
        except Empty:
            pass


def produce(queue, first, count):
    with queue.producer() as producer:
        producer.put_many(range(first, first + count))


def produce_and_stop(gate, queue, first, count):
    with queue.producer() as producer:
        producer.put_many(range(first, first + count))
        gate.stop()


def collect(queue, answers):
    answers.put(sorted(queue))


class DiesWhenLoaded:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (3,)


def send_through(connection, *items):
    for item in items:
        connection.send(item)


def answer_on_the_sent_connection(connection):
    with connection.recv() as sent:
        sent.send("through the connection that was sent")


def connect_back(connection):
    with connection.recv() as sock:
        sock.sendall(b"through the socket that was sent")


def receive_and_stop(gate, connection):
    connection.recv()
    gate.stop()


def stop_with(gate, *_held):
    gate.stop()


def give_up_waiting(connection, answers):
    try:
        while True:
            connection.send(b"x" * 100_000)
    except BrokenPipeError as error:
        answers.put(type(error).__name__)


def put_quietly(queue, item):
    die_quietly()
    queue.put(item)


def send_counting(connection, ready):
    die_quietly()
    os.write(ready, b"r")
    for number in itertools.count():
        connection.send(number)


def set_item(mapping, key, value):
    mapping[key] = value


def move_about(d, gate):
    """Counts, and replaces values large and small, until it is killed."""
    gate.pass_by()
    large = bytes(40_000)
    for step in itertools.count():
        account = step % 7
        d.incr(("account", account))
        d[("whole", account)] = (step, step, large if step % 3 else b"", step)
        d[f"coming {os.getpid()} {step % 50}"] = step
        d.pop(f"coming {os.getpid()} {(step * 31) % 50}", None)
        if step % 100 == 0:
            len(d)


def come_and_go(d, number, stop):
    """Sets and removes entries until it shall stop."""
    for step in itertools.count():
        if stop.is_set():
            return
        d[number, step % 200] = "x" * (step % 300)
        d.pop((number, step * 31 % 200), None)


def walk_on(d, number, stop):
    """Sets the next entry and removes the one before, once nobody has that in hand."""
    for step in itertools.count():
        d["of", number, step + 1] = step
        while d.pop(("of", number, step), None) is None:
            if stop.is_set():
                return
        if stop.is_set():
            return


def add_often(d, times):
    for _ in range(times):
        d.incr("count")
        d.incr(("of", os.getpid()), 0.5)


def grow_list(d, times, number):
    for step in range(times):
        while True:
            old = d["list"]
            if d.compare_and_set("list", old, [*old, (number, step)]):
                break


def set_defaults(d, number, results):
    results.put([d.setdefault(key, (number, key)) for key in range(300)])


LARGE = b"large" * 10_000


def change_all(d):
    """Comes by every place of a change of a dict, some times."""
    for _ in range(3):
        d["a"] = LARGE
        d["a"] = "new"
        for number in range(200):
            d[number] = "new"
        for number in range(200):
            d.pop(number)


def log_with_a_lock(name):
    logging.getLogger(name).warning("held", extra={"request": 7, "lock": threading.Lock()})


def log(name, message, *args):
    logging.getLogger(name).info(message, *args)


def have_a_child_log(context, name):
    child = context.Process(target=log, args=(name, "from below"))
    child.start()
    child.join()
    log(name, "from above")


def log_and_be_killed(name, count):
    for number in range(count):
        log(name, "%d", number)
    os.kill(os.getpid(), signal.SIGKILL)


def log_an_exception(name):
    try:
        raise ZeroDivisionError("a reason")
    except ZeroDivisionError:
        logging.getLogger(name).exception("it failed")


def log_at_every_level(name, *below):
    for logger in (name, *(f"{name}.{part}" for part in below)):
        for level in ("DEBUG", "INFO", "WARNING", "ERROR"):
            logging.getLogger(logger).log(getattr(logging, level), level)


def log_here_and_there(file, here, there):
    handler = logging.FileHandler(file)
    logging.getLogger(here).addHandler(handler)
    for name in (here, there):
        logging.getLogger(name).error(name)
    handler.close()


def log_before_and_behind(gate, name):
    log(name, "before")
    gate.stop()
    log(name, "behind")


def thread_variables():
    from manycore import _thread_limits  # which only ours has

    return {name: os.environ.get(name) for name in _thread_limits.VARIABLES}


def put_thread_variables(queue):
    queue.put(thread_variables())


def thread_variables_of_a_worker(count):
    with manycore.Pool(count) as pool:
        return pool.apply(thread_variables)


def check_that_numba_keeps_its_number():
    sys.modules["numba"] = sys.modules[__name__]  # as if it were there
    with manycore.get_context("fork").Pool(1) as pool:
        assert pool.apply(os.getenv, ("NUMBA_NUM_THREADS",)) is None


def say_when_interrupted(connection):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        connection.send("ready")
        while True:
            signal.pause()
    except KeyboardInterrupt:
        connection.send("interrupted")
