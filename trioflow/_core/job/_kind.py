"""`JobKind`: the base class of kinds of jobs that define `co_run`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Unpack

from ..base._text_forms import name_in_errors
from ._function import ArgumentSearch, original_arguments, reject_text
from ._job import AbstractJob, T, overrides
from ._job_options import OPTIONS_IN_FINGERPRINTS, BoxStyle, JobOptions, callback
from ._labels import MAX_DEPTH, without_ref

if TYPE_CHECKING:
    from ..base._states import JobState
    from ._work_spec import Work

Callback = Callable[[Any], object]
"""A plain function that is called with a job. Its return value is ignored."""


class JobKind(AbstractJob[T]):
    """The base class of kinds of jobs that do their work in a `co_run`: of `CommandJob`, `SshJob`, and your own.

    A kind defines `co_run`, which gets its arguments from `arguments_of(self)` and its run from `run_of(self)`. It may
    define the methods below. It may also use the class arguments of `AbstractJob`: `box` is the style of its boxes in
    pictures, `keeps_time=True` means that `co_run` handles timeouts, and `cannot_be_interrupted` says why a
    cancellation cannot end the work.

    Args:
        arguments: the arguments of the work. Jobs among them, or at any depth in plain lists, tuples and dicts, are
            inputs, as for a `Job`. A journal identifies the work by these arguments and the job's public attributes.
        on_succeeded: a plain function, called with the job when it has succeeded.
        on_settled: a plain function, called with the job, after `on_succeeded`, when it is about to settle.
            The job has its final state already. Both functions may call `result()`. The job still has its slot, and
            fails if either of them raises.
        options: the options of every job. See `AbstractJob`.

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
        ...                 limit.heartbeat()
        ...         return "lift-off" if not number else "hold"
        >>> job = Countdown(3, timeout=5)
        >>> Scheduler(job).run(), job.result()
        (True, 'lift-off')

    """

    __slots__ = ("_arguments", "_callbacks")

    # The arguments. Iteration yields results in place of the inputs.
    _arguments: Iterable[Any]

    def __init__(
        self,
        *arguments: object,
        on_succeeded: Callback | None = None,
        on_settled: Callback | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        name = repr(options.get("label") or type(self).__name__)
        subject = name_in_errors(name, options.get("redact", False))
        search = ArgumentSearch(lambda: subject)
        reject_text((arguments, *map(options.get, OPTIONS_IN_FINGERPRINTS)), subject)
        self._arguments = search.search_positional(arguments)
        self._callbacks = None
        if on_succeeded is not None or on_settled is not None:
            callback(on_succeeded, "on_succeeded", subject)
            callback(on_settled, "on_settled", subject)
            self._callbacks = on_succeeded, on_settled
        super().__init__(**options, _inputs=search.checked_inputs())

    def __init_subclass__(cls, *, box: BoxStyle | None = None, **kwargs: Any) -> None:
        """Record the class arguments. Without `box`, a direct subclass gets a box style with the name of the class."""
        if box is None and JobKind in cls.__bases__:
            box = BoxStyle(cls.__name__)
        super().__init_subclass__(box=box, **kwargs)
        cls._runs_commands = overrides(cls, JobKind, "command_line")
        cls._has_status_text = overrides(cls, JobKind, "status_text")

    @property
    def on_succeeded(self) -> Callback | None:
        """The function that is called when the job has succeeded, or None."""
        return None if self._callbacks is None else self._callbacks[0]

    @property
    def on_settled(self) -> Callback | None:
        """The function that is called when the job is about to settle, or None."""
        return None if self._callbacks is None else self._callbacks[1]

    # ---- for kinds to define

    def default_label(self, depth: int) -> str:
        """Return the label of a job that has no `label`.

        Args:
            depth: the number of nested calls that the label may show. Use `label_inside(job, depth)` as the text of an
                argument that is a job.

        """
        return type(self).__name__

    def redacted_label(self) -> str:
        """Return the text that replaces the default label and the command line of a job with `redact=True`."""
        return f"{self._box.name} …"

    def command_line(self) -> str:
        """Return the command line of the job as a line, for traces and reports. Kinds that run commands define it."""
        return ""

    @property
    def last_result(self) -> Any:
        """The `CommandResult` of the job's latest process, for traces and reports, or None if there was none."""
        return None

    def status_text(self) -> str:
        """Return the current activity of the running job in a few words, for the monitor and listings with details.

        The monitor calls this up to ten times a second, in its own thread. So it must be cheap, and must not change
        anything. Exceptions are ignored. For a job with `redact=True`, it is not called.
        """
        return ""

    def failure_group(self) -> object:
        """Return a key for failures in the log. Jobs with equal keys share a line. By default, it is the class."""
        return type(self)

    def for_journal(self) -> Work:
        """Return the identity of the work for a journal, which by default is the name of the kind and the arguments.

        The journal adds the job's public attributes.
        """
        # Imported here, because only journals need it.
        from ..job._work_spec import Work

        return Work(what=self._box.name, arguments=original_arguments_of(self))

    def forget_run(self) -> None:
        """Discard the attributes that the last run has stored in the job. This is called before the next run."""

    # ---- for the engine

    def _run_callback(
        self, function: Callback | None, run: Any, state: JobState, outcome: object
    ) -> None:
        """Call `on_succeeded` or `on_settled`, if it is not None, with the end that the job is about to have."""
        if function is None:
            return
        extras = self._ensure_extras()
        before = self._outcome
        self._outcome = outcome
        self._finished_at = run.clock()
        extras.coming_state = state
        try:
            function(self)
        finally:
            self._outcome = before
            self._finished_at = None
            extras.coming_state = None

    def _default_label(self, depth: int = MAX_DEPTH) -> str:
        if self.redact:
            return self.redacted_label()
        return self.default_label(depth)

    def _command_line(self) -> str:
        if self.redact:
            return self.redacted_label()
        return self.command_line()

    def _failure_kind(self) -> object:
        """Return the key of `failure_group`, or the class if that raises, or returns what cannot be a key."""
        try:
            group = self.failure_group()
            hash(group)
        except Exception:
            # From the code of a user: it must not end the run.
            return type(self)
        return group

    def _reset(self) -> None:
        super()._reset()
        self.forget_run()


def arguments_of(job: JobKind[Any]) -> tuple[Any, ...]:
    """Return the arguments of a job, with results in place of inputs. Use this once, in the job's `co_run`.

    This also drops the results of inputs with `keep_result=False` that no other job needs any more.
    """
    arguments = tuple(job._arguments)
    job._release_inputs()
    return arguments


def original_arguments_of(job: JobKind[Any]) -> tuple[Any, ...]:
    """Return the arguments of a job as the user gave them, with the inputs among them."""
    return tuple(map(without_ref, original_arguments(job._arguments)))
