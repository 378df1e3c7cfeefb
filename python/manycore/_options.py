"""What may be asked of a pool beyond the standard library's: for each call, and for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from manycore import _seeds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TypedDict

    from manycore._worker import Pins

    class CallOptions(TypedDict, total=False):
        """What may be asked of one call."""

        timeout: float | None
        retries: int
        retry_on: type[BaseException] | tuple[type[BaseException], ...]
        on_error: Literal["raise", "return"]
        progress: bool | str
        seed: int | None
        priority: int

    class PoolOptions(TypedDict, total=False):
        """What may be asked of a pool."""

        timeout: float | None
        retries: int
        retry_on: type[BaseException] | tuple[type[BaseException], ...]
        on_error: Literal["raise", "return"]
        priority: int
        seed: int | None
        limit_threads: bool
        max_memory: int | None
        worker_lifetime: Lifetime | None
        finalizer: Callable[..., object] | None
        finalargs: Iterable[Any]
        environment: Mapping[str, str] | None
        pin: Pins
        pass_worker: bool
        insights: bool
        idle_seconds: float | None
        min_processes: int


def is_above_0(number: Any) -> bool:
    """Whether it is a number, and above 0."""
    try:
        return bool(number > 0)
    except TypeError:
        return False


class Options(NamedTuple):
    """What is asked of the tasks of a call.

    Attributes:
        timeout: Seconds that each task may run.
        retries: How often a task is run again.
        retry_on: After which errors, beside the death of its worker.
        on_error: Whether a map raises the first error, or has each in the place of its result.
        progress: Whether a bar shows how far a map is, or the label of one that does.
        seed: What the seeds of the tasks are made of.
        priority: Of the tasks that no worker has begun, those with the highest are begun first.
    """

    timeout: float | None = None
    retries: int = 0
    retry_on: tuple[type[BaseException], ...] = ()
    on_error: Literal["raise", "return"] = "raise"
    progress: bool | str = False
    seed: int | None = None
    priority: int = 0

    def with_(self, changes: Any) -> Options:
        """These options with some changed.

        Raises:
            TypeError, ValueError: When a name or a value makes no sense.
        """
        if not changes:
            return self
        unknown = sorted(changes.keys() - set(Options._fields))
        if unknown:
            raise TypeError(
                f"unknown option {unknown[0]!r}: a pool's calls take {', '.join(Options._fields)}"
            )
        changes = dict(changes)
        if not isinstance(changes.get("retry_on", ()), tuple):
            changes["retry_on"] = (changes["retry_on"],)
        if changes.get("progress") == "":
            changes["progress"] = True  # a bar without a label
        options = self._replace(**changes)
        options._check()
        return options

    def _check(self) -> None:
        if self.timeout is not None and not is_above_0(self.timeout):
            raise ValueError(f"timeout must be a number of seconds above 0, not {self.timeout!r}")
        if not isinstance(self.retries, int) or self.retries < 0:  # type: ignore[redundant-expr]
            raise ValueError(f"retries must be 0 or more, not {self.retries!r}")
        types: tuple[Any, ...] = self.retry_on
        if not all(isinstance(it, type) and issubclass(it, BaseException) for it in types):
            raise TypeError(f"retry_on must be exception types, not {self.retry_on!r}")
        if self.retry_on and not self.retries:
            raise ValueError("retry_on says when a task is tried again, but retries is 0")
        if not isinstance(self.progress, bool | str):
            raise TypeError(f"progress must be True or a label, not {self.progress!r}")
        _seeds.check(self.seed)
        if not isinstance(self.priority, int):
            raise TypeError(f"priority must be an integer, not {self.priority!r}")
        if not -(1 << 63) <= self.priority < 1 << 63:
            raise ValueError(f"priority must fit into 64 bits, and {self.priority!r} does not")
        if self.on_error not in ("raise", "return"):
            raise ValueError(f"on_error must be 'raise' or 'return', not {self.on_error!r}")

    @property
    def are_for_each_item(self) -> bool:
        """Whether each item of a map must be a task of its own."""
        return self.timeout is not None or self.retries > 0 or self.on_error == "return"


class Lifetime(NamedTuple):
    """When a worker is replaced by a new one: after the task in which it reaches one of these.

    Attributes:
        tasks: Tasks that it has run.
        memory: Bytes of private memory, swapped-out memory included, that it has.
        seconds: Time since its start.
    """

    tasks: int | None = None
    memory: int | None = None
    seconds: float | None = None


class Limits(NamedTuple):
    """What workers may use.

    Attributes:
        memory: Bytes of private memory at which a worker is killed.
        lifetime: When it is replaced.
    """

    memory: int | None = None
    lifetime: Lifetime = Lifetime()

    @classmethod
    def of(cls, memory: int | None, lifetime: Lifetime | None, tasks: int | None) -> Limits:
        """The limits that the arguments of a pool mean."""
        if memory is not None and not is_above_0(memory):
            raise ValueError(f"max_memory must be a number of bytes above 0, not {memory!r}")
        if lifetime is not None and not isinstance(lifetime, tuple):
            raise TypeError(
                "worker_lifetime must be a manycore.pool.Lifetime, as Lifetime(tasks=100), not "
                f"{lifetime!r}"
            )
        lifetime = Lifetime() if lifetime is None else Lifetime(*lifetime)
        for name, value in lifetime._asdict().items():
            if value is not None and not value > 0:
                raise ValueError(f"worker_lifetime.{name} must be above 0, not {value!r}")
        if lifetime.tasks is not None and not isinstance(lifetime.tasks, int):
            raise TypeError(f"worker_lifetime.tasks must be a whole number, not {lifetime.tasks!r}")
        if tasks is not None:
            lifetime = lifetime._replace(tasks=min(tasks, lifetime.tasks or tasks))
        return cls(memory, lifetime)

    @property
    def need_looks(self) -> bool:
        """Whether somebody has to look at the workers now and then."""
        life = self.lifetime
        return self.memory is not None or life.memory is not None or life.seconds is not None

    @property
    def lightest(self) -> int | None:
        """The number of bytes from which on a worker's memory matters."""
        limits = [it for it in (self.memory, self.lifetime.memory) if it is not None]
        return min(limits) if limits else None


class Attempts:
    """Hands out failed tasks again, as often as they may be."""

    def __init__(self, options: Options, resend: Callable[[int], object] | None = None) -> None:
        self.resend = resend
        self._most = options.retries
        self._after = options.retry_on
        self._used: dict[int, int] = {}

    def __call__(self, task: int, error: BaseException) -> bool:
        """Whether a task that failed was handed out again."""
        from manycore.errors import WorkerDied

        if not isinstance(error, (WorkerDied, *self._after)):
            return False
        used = self._used.get(task, 0)
        if used == self._most or self.resend is None:
            return False
        self._used[task] = used + 1
        self.resend(task)
        return True
