"""`JobKind`: the base of kinds of jobs with a `co_run` of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Unpack, cast

from ._arguments import ArgumentSearch, original_arguments
from ._job import AbstractJob, BoxStyle, T
from ._job_options import JobOptions, callback
from ._labels import MAX_DEPTH
from ._outcome import Failure

if TYPE_CHECKING:
    from ._work_spec import Work

Callback = Callable[[Any], object]
"""A plain function of a job."""


class JobKind(AbstractJob[T]):
    """A kind of job with its own way of working: the base of `CommandJob` and `SshJob`, and of kinds of users.

    A kind defines `co_run`, which uses its run through `run_of(self)`, and gets its arguments by `arguments_of(self)`.
    All other definitions are optional: the methods below, and the class arguments of `AbstractJob`: the style of its
    boxes (`box=`), its own timekeeping (`keeps_time=True`), and why its work `cannot_be_interrupted`.

    Args:
        arguments: the arguments of the work; jobs in it, at any depth of plain lists, tuples and dicts, are inputs, as
            among the arguments of a `Job`. To a journal they identify the work, and so do public attributes.
        on_done: a plain function, called with the job when it has succeeded.
        on_settled: one called with the job when it is about to settle, whatever its outcome, after `on_done`. In both
            of these `result()` can be called, and the slot is still held. If one raises, the job fails.
        options: the options of every job; see `AbstractJob`.

    Raises:
        TypeError, ValueError: an option is invalid.

    Example:
        >>> class Countdown(JobKind, box=BoxStyle("countdown", "egg"), keeps_time=True):
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

    # The arguments; iteration fills in the results of the jobs among them.
    _given: Iterable[Any]

    def __init__(
        self,
        *arguments: Any,
        on_done: Callback | None = None,
        on_settled: Callback | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        subject = repr(options.get("label") or type(self).__name__)
        search = ArgumentSearch(lambda: subject)
        self._given = search.positional(arguments)
        self._callbacks = None
        if on_done is not None or on_settled is not None:
            callback(on_done, "on_done", subject)
            callback(on_settled, "on_settled", subject)
            self._callbacks = on_done, on_settled
        super().__init__(**options, _inputs=tuple(search.inputs))

    def __init_subclass__(cls, *, box: BoxStyle | None = None, **kwargs: Any) -> None:
        """Record the arguments of the class; a kind without `box=` is drawn as a box with its name."""
        if box is None and JobKind in cls.__bases__:
            box = BoxStyle(cls.__name__)
        super().__init_subclass__(box=box, **kwargs)
        cls._runs_commands = cast(Any, cls).command_line is not cast(Any, JobKind).command_line
        cls._has_status_text = cast(Any, cls).status_text is not cast(Any, JobKind).status_text

    # ---- for kinds to define

    def default_label(self, depth: int) -> str:
        """Return the default label of a job.

        Args:
            depth: how many nested calls it may show; `label_inside(job, depth)` shows an argument that is a job.

        """
        return type(self).__name__

    def redacted_label(self) -> str:
        """Return the replacement for its default label and its command line with `redact=True`."""
        return f"{self._box.name} …"

    def command_line(self) -> str:
        """Return the command line of the job, in one line, for traces and reports, if the kind runs commands."""
        return ""

    @property
    def last_result(self) -> Any:
        """The `CommandResult` of its latest process, for traces and reports; None if there was none."""
        return None

    def status_text(self) -> str:
        """Return the current activity of the running job in a few words, for the monitor and listings with details.

        It is not called with `redact=True`. The monitor calls it up to ten times a second, in a thread of its own: it
        must be cheap, and only read. Its exceptions are ignored.
        """
        return ""

    def failure_group(self) -> object:
        """Return a key: the failures of jobs with equal keys share one line of the log. By default the class."""
        return type(self)

    def for_journal(self) -> Work:
        """Return the identity of its work to a journal: here its arguments, besides its public attributes."""
        from ..job._work_spec import Work  # not at the top: only journals need it

        return Work(what=self._box.name, arguments=given_of(self))

    def forget_run(self) -> None:
        """Forget the results of the last run; called before the next one."""

    # ---- for the engine

    def _call_back(self, function: Callback | None, outcome: Any) -> None:
        """Call a function with the outcome as `result()`, as if the job were a service that is ready, or has failed."""
        if function is None:
            return
        extras = self._ensure_extras()
        self._outcome, extras.ready = outcome, not isinstance(outcome, Failure)
        try:
            function(self)
        finally:
            self._outcome, extras.ready = None, False

    def _default_label(self, depth: int = MAX_DEPTH) -> str:
        return self.redacted_label() if self.redact else self.default_label(depth)

    def _command_line(self) -> str:
        return self.redacted_label() if self.redact else self.command_line()

    def _failure_kind(self) -> object:
        return self.failure_group()

    def _reset(self) -> None:
        super()._reset()
        self.forget_run()


def arguments_of(job: JobKind[Any]) -> tuple[Any, ...]:
    """Return the arguments of a job, with results in place of jobs; call it once, in the job's `co_run`.

    With `keep_result=False`, results that no other job needs are dropped.
    """
    filled = tuple(job._given)
    job._release_inputs()
    return filled


def given_of(job: JobKind[Any]) -> tuple[Any, ...]:
    """Return the arguments of a job with the jobs among them."""
    return tuple(original_arguments(job._given))
