"""`JobKind`: the base of the kinds of jobs that work in a way of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Unpack, cast

from ._call import Search, as_given
from ._job import AbstractJob, Look, T
from ._labels import DEPTH
from ._options import JobOptions, callback
from ._outcome import Failure, RareFacts

if TYPE_CHECKING:
    from ._work import Work

Callback = Callable[[Any], object]
"""A plain function that gets a job."""


class JobKind(AbstractJob[T]):
    """A kind of job that works in a way of its own: the base of `CommandJob` and `SshJob`, and of kinds of users.

    A kind defines `co_run`, which asks `run_of(self)` for what it needs of its run, and gets its arguments by
    `arguments_of(self)`. What it may define besides is below, and what `AbstractJob` says of a class: how its jobs look
    (`look=`), that they keep their time themselves (`keeps_time=True`), that they `cannot_be_interrupted`.

    Args:
        arguments: what the work depends on; jobs in it, at any depth of plain lists, tuples and dicts, are inputs, as
            among the arguments of a `Job`. To a journal they identify the work, and so do public attributes.
        on_done: a plain function that is called with the job when it has succeeded.
        on_settled: one that is called with the job when it is about to settle, whatever its outcome, after `on_done`.
            In both of these `result()` can be called, and the slot is still held. If one raises, the job fails.
        options: those of every job; see `AbstractJob`.

    Raises:
        TypeError, ValueError: an option makes no sense.

    Example:
        >>> class Countdown(JobKind, look=Look("countdown", "egg"), keeps_time=True):
        ...     def __init__(self, number, /, **options):
        ...         super().__init__(number, **options)
        ...     async def co_run(self):
        ...         run, (number,) = run_of(self), arguments_of(self)
        ...         with run.time_limit(self) as limit:
        ...             while number and run.clock() < limit.deadline:
        ...                 number -= 1
        ...                 await run.sleep_until(run.clock() + 0.001)
        ...                 limit.alive()
        ...         return "lift-off" if not number else "hold"
        >>> job = Countdown(3, timeout=5)
        >>> Scheduler(job).run(), job.result()
        (True, 'lift-off')

    """

    __slots__ = ("_callbacks", "_given")

    # The arguments; to iterate over them fills in the results of the jobs among them.
    _given: Iterable[Any]

    def __init__(
        self,
        *arguments: Any,
        on_done: Callback | None = None,
        on_settled: Callback | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        who = repr(options.get("label") or type(self).__name__)
        search = Search(lambda: who)
        self._given = search.positional(arguments)
        self._callbacks = None
        if on_done is not None or on_settled is not None:
            callback(on_done, "on_done", who)
            callback(on_settled, "on_settled", who)
            self._callbacks = on_done, on_settled
        super().__init__(**options, _inputs=tuple(search.inputs))

    def __init_subclass__(cls, *, look: Look | None = None, **kwargs: Any) -> None:
        """Record what the class says of itself; a kind that does not say how it looks is a box with its name."""
        if look is None and JobKind in cls.__bases__:
            look = Look(cls.__name__)
        super().__init_subclass__(look=look, **kwargs)
        cls._runs_commands = cast(Any, cls).command_line is not cast(Any, JobKind).command_line
        cls._says_status = cast(Any, cls).status_text is not cast(Any, JobKind).status_text

    # ---- what a kind may define

    def default_label(self, depth: int) -> str:
        """Return the label of a job that was given none.

        Args:
            depth: how many jobs inside each other it may show; `label_inside(job, depth)` shows one of its arguments.

        """
        return type(self).__name__

    def redacted_label(self) -> str:
        """Return what people see in place of its default label and its command line if it has `redact=True`."""
        return f"{self._look.name} …"

    def command_line(self) -> str:
        """Return what it runs, in one line, for traces and reports. They ask only kinds that define this."""
        return ""

    @property
    def last_result(self) -> Any:
        """The `CommandResult` of its latest process, for traces and reports; None if there was none."""
        return None

    def status_text(self) -> str:
        """Return what the running job says of itself now, in a few words, for the monitor and listings with details.

        They ask only kinds that define this, and no job with `redact=True`. They ask often, the monitor up to ten times
        a second and in a thread of its own; so this must be cheap, and only read. What it raises is ignored.
        """
        return ""

    def failure_group(self) -> object:
        """Return what jobs share whose failures are one line of the log: here their class."""
        return type(self)

    def for_journal(self) -> Work:
        """Return what identifies its work to a journal: here its arguments, besides its public attributes."""
        from ..job._work import Work  # not at the top: only journals need it

        return Work(what=self._look.name, arguments=given_of(self))

    def forget_run(self) -> None:
        """Forget what the last run has left; called before the next one."""

    # ---- what the engine asks

    def _call_back(self, function: Callback | None, outcome: Any) -> None:
        """Call a function while `result()` gives the outcome: as that of a service which is ready, or has failed."""
        if function is None:
            return
        facts = self._facts = self._facts or RareFacts()
        self._outcome, facts.ready = outcome, not isinstance(outcome, Failure)
        try:
            function(self)
        finally:
            self._outcome, facts.ready = None, False

    def _default_label(self, depth: int = DEPTH) -> str:
        return self.redacted_label() if self.redact else self.default_label(depth)

    def _command_line(self) -> str:
        return self.redacted_label() if self.redact else self.command_line()

    def _failure_kind(self) -> object:
        return self.failure_group()

    def _reset(self) -> None:
        super()._reset()
        self.forget_run()


def arguments_of(job: JobKind[Any]) -> tuple[Any, ...]:
    """Return the arguments of a job, with results in place of jobs; to be called in its `co_run`, once.

    Results that no other job needs are dropped, if they are not to be kept.
    """
    filled = tuple(job._given)
    job._release_inputs()
    return filled


def given_of(job: JobKind[Any]) -> tuple[Any, ...]:
    """Return the arguments of a job as they were given, with the jobs among them."""
    return tuple(as_given(job._given))
