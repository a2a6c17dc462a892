"""Why a job has no result: the exceptions of trioflow, failures and cancellations as outcomes, and their texts.

Each exception builds its message from its arguments: the job, the problem and the remedy.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from types import CoroutineType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeGuard, TypeVar

from ..._hints import explain_form
from ..base import _amounts, _user_code
from ..base._states import BLOCKED, CANCELLED, FAILED, SKIPPED
from ..base._text_forms import (
    clause,
    fit,
    join_names,
    name_in_errors,
    short_repr,
    shown_value,
)
from . import _ancestors, _labels

if TYPE_CHECKING:
    from ._job import AbstractJob, AnyJob

E = TypeVar("E", bound="TrioflowError")


class TrioflowDeprecationWarning(FutureWarning):
    """A name, an option or a member that your program uses will go. The text names its replacement, and the release.

    Python shows it at your line, wherever that is, as it is no `DeprecationWarning`. A filter may name this class.
    """


class TrioflowError(Exception):
    """The base class of the exceptions that trioflow defines.

    They can be copied and pickled. A copy refers to the same jobs. Unpickling, for example in another process, restores
    the message. Attributes that cannot be pickled, such as jobs, become None.

    The `str` of an exception of a job or a run contains only facts, so a server may show it to its clients. Advice for
    developers is a note, which tracebacks and the log show.
    """

    _advice: str = ""

    def __init__(self, message: str = "", advice: str = "") -> None:
        super().__init__(message)
        if advice:
            self._advice = advice
            self.add_note(advice)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message and the attributes, because `__init__` takes other arguments than the message."""
        attributes = vars(self).copy()
        for name, value in vars(self).items():
            if not _is_picklable(value):
                attributes[name] = None
        return _restore, (type(self), self.args, attributes)

    def __copy__(self: E, _: object = None) -> E:
        """Return an exception with the same message and attributes, also for a deep copy: jobs are not copied."""
        return _restore(type(self), self.args, vars(self))

    __deepcopy__ = __copy__


def _restore(
    error_type: type[E], args: tuple[Any, ...], attributes: Mapping[str, Any]
) -> E:
    """Return an exception with this message and these attributes, without a call of its `__init__`."""
    error = error_type.__new__(error_type)
    error.args = args
    vars(error).update(attributes)
    # With the same list, a note added to a copy would be added to the original, too.
    if notes := getattr(error, "__notes__", None):
        error.__notes__ = list(notes)
    return error


def _is_picklable(value: object) -> bool:
    # Imported late: few programs need it.
    import pickle

    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


class CycleError(TrioflowError, ValueError):
    """Jobs require each other in a cycle, so none of them can start.

    Attributes:
        cycle: the jobs of the cycle. Each requires the next, and the last requires the first.

    """

    def __init__(self, cycle: Sequence[AbstractJob[Any]]) -> None:
        self.cycle: tuple[AnyJob, ...] = tuple(cycle)
        names = _labels.distinct_names(self.cycle)
        super().__init__(
            f"cycle: {' requires '.join([*names, names[0]])}: none of them could ever start; "
            f"remove one of these requirements, with requires(..., remove=True)"
        )


class MissingRequirement(TrioflowError, ValueError):
    """A job requires another job that is in a different scheduler, or in none.

    Attributes:
        job: the job with the requirement.
        requirement: the required job.

    """

    def __init__(
        self,
        job: AbstractJob[Any],
        requirement: AbstractJob[Any],
        scheduler: AbstractJob[Any],
    ) -> None:
        self.job: AnyJob = job
        self.requirement: AnyJob = requirement
        home = requirement.scheduler
        where = "in no scheduler" if home is None else f"in {home.label!r}"
        job_name, required_name = map(repr, _labels.distinct_names([job, requirement]))
        advice = _how_to_meet(job, requirement, required_name, scheduler)
        others = ""
        if requirement not in job._inputs:
            others = ", or drop the requirement with sanitize()"
            common = _ancestors.find_common_scheduler(job, requirement)
            # What contains the job ends after it, and can be no argument of it.
            if common is not None and common[1] is not common[2]:
                others = f", pass {required_name} as an argument of {job_name}{others}"
        super().__init__(
            f"{job_name} in {scheduler.label!r} requires {required_name}, which is {where}: {advice}{others}"
        )


def _how_to_meet(
    job: AnyJob,
    requirement: AnyJob,
    name: str,
    scheduler: AnyJob,
) -> str:
    """Return the advice for a job in `scheduler` whose requirement, called `name`, is not in the same scheduler."""
    if (common := _ancestors.find_common_scheduler(job, requirement)) is not None:
        _, waits, waited_for = common
        if waits is waited_for:
            return f"{waits.label!r} contains it, and ends after it: remove this requirement"
        if waited_for in waits.required:
            return f"{waits.label!r} already waits for {waited_for.label!r}: remove this requirement"
        return f"let {waits.label!r} require {waited_for.label!r}"
    if (home := requirement.scheduler) is not None:
        return f"remove {name} from {home.label!r}, with remove(), and add it to {scheduler.label!r}"
    elsewhere = clause(
        ", or to an enclosing scheduler or one beside it", requirement in job._inputs
    )
    return f"add {name} to {scheduler.label!r}{elsewhere}"


class JournalError(TrioflowError):
    """A journal cannot be used or written. The message names the file, the reason and the remedy."""


class RequirementFailed(TrioflowError):
    """A job cannot run, because a job that it requires failed. Its `__cause__` is the original failure.

    Attributes:
        job: the job that cannot run.
        requirement: the required job that did not succeed.

    """

    def __init__(self, job: AbstractJob[Any], requirement: AbstractJob[Any]) -> None:
        self.job: AnyJob = job
        self.requirement: AnyJob = requirement
        earlier = requirement.raised_exception()
        state = requirement.state
        # The job that failed first, taken from the error before, so that no chain has to be walked.
        # A job that failed may have raised an error of this class itself.
        self._root: AnyJob = requirement
        if state is BLOCKED and isinstance(earlier, RequirementFailed):
            self._root = earlier._root
        advice = "require it with requires(job, settled=True)"
        if requirement in job._inputs:
            advice = f"pass it as ref(job) instead of the result, and {advice}"
        fate = _FATES.get(state, "did not run")
        super().__init__(
            f"{job.label!r} cannot run, because {requirement.label!r} {fate}",
            f"to run it anyway, {advice}",
        )


_FATES = {
    FAILED: "failed",
    BLOCKED: "could not run either",
    CANCELLED: "was cancelled",
}


class JobTimeout(TrioflowError, TimeoutError):
    """A job, or a whole scheduler, exceeded its `timeout`, or gave no sign of life for its `idle_timeout`.

    Attributes:
        job: the job or scheduler with the timeout.
        seconds: the timeout or idle timeout, in seconds.
        missing: the missing sign of life: "progress", "output", or "progress of its jobs". None after a `timeout`.
        place: the innermost line of the user's code that was running, as text: its function, file, number and code.
            None if the line is not known, as for a command or a thread. Of a scheduler, its running jobs.
        waits: the waits of a scheduler's jobs, or of a command whose program had ended by itself, as text. "" if they
            waited for nothing.

    """

    def __init__(
        self,
        job: AbstractJob[Any],
        seconds: float,
        missing: str | None = None,
        place: str | None = None,
        waits: str = "",
    ) -> None:
        self.job: AnyJob = job
        self.seconds: float = seconds
        self.missing: str | None = missing
        self.place: str | None = place or None
        self.waits: str = waits
        where = clause("; {}", waits) + clause("; it was {}", place)
        choices: list[str] = []
        if job.scheduler is not None and not job._is_service:
            choices.append("on_timeout='move_on'")
        if job.scheduler is not None and not job.retry:
            choices.append("retry=")
        otherwise = clause(", or choose {}", " or ".join(choices))
        if missing is None:
            missed = "was not ready" if job._is_service else "did not end"
            text = f"{missed} within its timeout of {seconds:g} s{where}"
            advice = f"give it more time with timeout={otherwise}"
        else:
            report = clause(
                "report it more often with current_job().progress(), or ",
                missing == "progress",
            )
            text = f"was ended: no {missing} for {seconds:g} s{where}"
            advice = f"{report}give it more time with idle_timeout={otherwise}"
        super().__init__(f"{job.label!r} {text}", advice)


class Throttled(TrioflowError):
    """A server reports overload: raise this in a job to pause it, and all other jobs that need the same resource.

    No job that needs `key` starts for `after` seconds. The attempt does not count. The job returns its slot and its
    resources, and is SCHEDULED again, ahead of all other ready jobs. Amounts taken from rates are not given back.

    A job that cannot be called again fails with this exception: a job made from a coroutine object, or a service that
    is ready. If the run is draining or stopping, the job ends CANCELLED, but a clean-up job waits, within its time.

    Args:
        key: the name of a resource among the job's `needs`. The resource may be of any type.
        after: the length of the pause in seconds, finite, 0 or more, such as the server's `Retry-After`. The `give_up`
            of a `Rate` bounds it.

    Raises:
        TypeError: `key` is not text, or `after` is not a number.
        ValueError: `after` is out of its range.

    Example:
        >>> answers = iter([429, 200])
        >>> async def ask():
        ...     if next(answers) == 429:
        ...         raise Throttled("api", after=0.01)
        ...     return current_job().attempts
        >>> job = Job(ask, needs={"api": 1})
        >>> Scheduler(job, pool=Pool(api=Rate(requests=500, per=60))).run(), job.result()
        (True, 1)

    """

    @explain_form
    def __init__(self, key: str, after: float = 1.0) -> None:
        arguments: tuple[Any, Any] = key, after
        if not isinstance(arguments[0], str):
            raise TypeError(
                f"Throttled({short_repr(key)}): give the name of a resource, such as 'api'"
            )
        if isinstance(arguments[1], bool) or not isinstance(arguments[1], (int, float)):
            raise TypeError(
                f"Throttled({short_repr(key)}, after={short_repr(after)}): give a number of seconds"
            )
        if not (_amounts.is_finite(after) and after >= 0):
            raise ValueError(
                f"Throttled({short_repr(key)}, after={short_repr(after)}): give 0 seconds or more"
            )
        self.key: str = key
        self.after: float = after
        super().__init__(f"{short_repr(key)} is throttled for {after:g} s")


class BudgetSpent(TrioflowError):
    """A job cannot run, because less of a `Budget` is left than it needs. The job is BLOCKED.

    Attributes:
        job: the job that cannot run.
        name: the name of the budget in its pool.

    """

    def __init__(
        self, job: AbstractJob[Any], name: str, needed: str, left: str, *facts: str
    ) -> None:
        self.job: AnyJob = job
        self.name: str = name
        needs = f"{job.label!r} needs {_labels.printable(name)}={needed}, but {left}"
        super().__init__(
            "; ".join([needs, *facts]), "enlarge the Budget, or reduce the needs"
        )


class JobCancelled(TrioflowError):
    """A job or a run was cancelled, so there is no result."""


def growing_error(message: str) -> RuntimeError:
    """Return the refusal of a change, because the run does not grow. It gives way to the error that ended the run."""
    error = RuntimeError(message)
    error._trioflow_gives_way = True  # type: ignore[attr-defined]
    return error


class JobSkipped(TrioflowError):
    """A job was skipped, because of its `run_if` or a skipped input, so there is no result."""


class JobNotDone(TrioflowError, RuntimeError):
    """A job has no result, because it has not settled or its result was dropped."""


# ---- outcomes


# The prefixes of the names of the engine's modules.
ENGINE_PREFIXES: Final = tuple(
    f"{__name__.partition('._core.')[0]}.{name}" for name in ("_core.", "_scheduler")
)


class Failure:
    """A failed job's exception, with its first traceback, because `__traceback__` grows with each raise."""

    __slots__ = (
        "exception",
        "has_note",
        "is_counted",
        "is_from_cancel",
        "is_raised",
        "is_taken",
        "number",
        "traceback",
    )

    # A counter that numbers failed and cancelled jobs in the order that they settle.
    numbers: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, exception: BaseException, is_from_cancel: bool = False) -> None:
        self.number: Final = next(self.numbers)
        self.exception: Final = exception
        # Whether the job is BLOCKED only because `cancel()` has ended its requirements.
        self.is_from_cancel: Final = is_from_cancel
        self.is_counted = False  # whether the run of the job's scheduler has failed because of this failure
        self.is_taken = False  # whether an `await job` waits for the job, or has raised the exception
        self.is_raised = False  # whether one has raised it
        self.has_note = False  # whether a group has had the exception, with a note that names the job
        _strip_chain(exception)
        self.traceback: Final = _user_code.get_traceback(exception)


def strip_engine_frames(error: BaseException) -> None:
    traceback = _user_code.get_traceback(error)
    _user_code.set_traceback(error, _without_engine_frames(traceback))


def _strip_chain(exception: BaseException) -> None:
    """Remove the engine's frames from the tracebacks of an exception and of its causes and contexts."""
    visited: set[int] = set()
    todo: list[BaseException | None] = [exception]
    while todo:
        error = todo.pop()
        if error is not None and id(error) not in visited:
            visited.add(id(error))
            # As `strip_engine_frames` does, without another call for each failure.
            traceback = _user_code.get_traceback(error)
            _user_code.set_traceback(error, _without_engine_frames(traceback))
            todo += _user_code.get_cause(error), _user_code.get_context(error)


def _without_engine_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the engine's frames, which would keep the whole run in memory."""
    kept: list[TracebackType] = []
    for entry in _user_code.entries(traceback):
        if not entry.tb_frame.f_globals.get("__name__", "").startswith(ENGINE_PREFIXES):
            kept.append(entry)
        else:
            # Since CPython 3.12, the user's frames may refer to their callers, which would keep the run in memory, too
            # (python/cpython#100964).
            _clear_frame(entry.tb_frame)
    return _user_code.linked(kept)


def _clear_frame(frame: FrameType) -> None:
    """Clear the variables of a frame, if it has ended.

    If several jobs raise the same exception object, its traceback has the frames of all of them. Some of the frames may
    still run, for example the frame of a job that makes another attempt. Before CPython 3.13, `frame.clear()` would
    close such a frame. The garbage collector sees the reference from a frame to its code only when the frame has ended.
    """
    # Only then may it be cleared (python/cpython#79932).
    if any(value is frame.f_code for value in gc.get_referents(frame)):
        frame.clear()


class CancelledOutcome:
    __slots__ = ("is_alone", "is_counted", "is_from_cancel", "number")

    def __init__(self, is_from_cancel: bool = True, is_alone: bool = False) -> None:
        self.number: Final = next(Failure.numbers)
        self.is_from_cancel: Final = is_from_cancel  # unless a critical failure or the timeout had stopped the run
        self.is_alone: Final = is_alone  # whether the job's own `cancel()` has ended it, whatever came afterwards
        self.is_counted = False  # whether failures in a nested scheduler count, because its run was cut off, too


DROPPED: Final = object()
"""The outcome of a job whose result was dropped, because of `keep_result=False`."""


# ---- errors about results, and texts of exceptions


# In place of the return value of a function that was not called.
UNCALLED: Final = object()


def no_result_error(job: AnyJob) -> BaseException:
    """Return the exception that `result()` raises for a job without a result."""
    outcome = job._outcome
    if type(outcome) is Failure:
        return _user_code.with_traceback(outcome.exception, outcome.traceback)
    if outcome is DROPPED:
        return JobNotDone(
            f"the result of {job.label!r} was dropped when the last job that uses it had started",
            "leave out keep_result=False to read it later",
        )
    if job.state is CANCELLED:
        return JobCancelled(f"{job.label!r} was cancelled: it has no result")
    if job._state is SKIPPED:
        return JobSkipped(f"{job.label!r} was skipped: it has no result")
    scheduler = job._scheduler
    if scheduler is None:
        if job._is_scheduler and getattr(job, "stop_reason", None) is not None:
            return JobNotDone(
                f"{job.label!r} has run alone, and only a job has a result",
                "put it in a Scheduler, and run that",
            )
    elif _ancestors.outermost_scheduler(scheduler).stop_reason is not None:
        return JobNotDone(f"{scheduler.explain(job)}, so it has no result")
    name = job.label if job.label.isidentifier() else "job"
    return JobNotDone(
        f"{job.label!r} is {job._state.value}, and has no result yet",
        f"ask when it has settled, or write: await {name}; for another job, pass the job itself: Job(g, {name})",
    )


FUNCTION_KIND_ADVICE: Final = "give Job an async function, and ThreadJob a plain one"


def no_run_error(job: AnyJob) -> RuntimeError:
    """Return the error of a `co_run` that needs a run, but was called without a run."""
    return RuntimeError(
        f"{job.label!r} needs a run: put it in a Scheduler, and run that"
    )


def not_awaitable_message(job: AnyJob, value: object) -> str:
    name = name_in_errors(repr(job.label), job.redact)
    return f"{name}: its function returned {shown_value(value, name)}, which is not awaitable; {FUNCTION_KIND_ADVICE}"


def unawaited_coroutine_error(
    label: str, coroutine: CoroutineType[Any, Any, Any]
) -> TypeError:
    """Close a coroutine that a job has returned as its result, and return the error for it."""
    name = coroutine.__name__
    with contextlib.suppress(Exception):
        # A coroutine that has started may raise or ignore its GeneratorExit.
        coroutine.close()
    return TypeError(
        f"{label!r}: its function returned the coroutine of {name}(), which was never awaited; "
        f"write: return await {name}()"
    )


def add_remedy_notes(
    error: BaseException, job: AnyJob, awaitable: object, backend: str | None
) -> str | None:
    """Add notes with remedies to the exception of a failed job.

    Args:
        error: the exception.
        job: the job that raised it.
        awaitable: the return value of the job's function, or UNCALLED.
        backend: the backend that the job needs, if it ran on the other backend. If not, None.

    Returns:
        The remedy to add to the error in the log: the advice on a return value that is not awaitable, or None if
            there is none.

    """
    if backend is not None:
        add_note(error, _user_code.WrongBackendNote(job.label, backend))
    if awaitable is UNCALLED or not isinstance(error, TypeError):
        return None
    if is_awaitable(awaitable):
        return None
    add_note(error, not_awaitable_message(job, awaitable))
    return FUNCTION_KIND_ADVICE


def add_note(error: BaseException, note: str) -> None:
    """Add a note to a user's exception, unless the exception rejects notes or already has this note."""
    with contextlib.suppress(Exception):
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def name_companions(
    interruption: BaseException, failure: BaseException, job: AnyJob
) -> None:
    """Name the other exceptions of a group in a note of the interruption, which leaves the run without them."""
    leaves = _user_code.leaf_exceptions(failure)
    others = [leaf for leaf in leaves if leaf is not interruption]
    if others:
        names = join_names([*map(one_line_error, others)])
        note = f"{job.label!r} raised it in a group, together with {names}"
        add_note(interruption, note)


def is_awaitable(value: object) -> TypeGuard[Awaitable[Any]]:
    """Return whether a value can be awaited. Return False if its inspection raises an exception."""
    if type(value) is CoroutineType:
        # The usual case. `isinstance` with an ABC is ten times as slow.
        return True
    try:
        # Imported late: it takes 5 ms.
        import inspect

        return inspect.isawaitable(value)
    except Exception:
        return False


def error_text(error: BaseException) -> str:
    """Return `str(error)`. If that raises an exception, return a replacement."""
    try:
        # Without the methods of a subclass of `str`.
        return str.__str__(str(error))
    except Exception as str_error:
        return f"<its __str__ raised {type(str_error).__name__}>"


def remedy_of(error: BaseException) -> str:
    """Return the advice of an exception of trioflow, or "" if there is none."""
    return error._advice if isinstance(error, TrioflowError) else ""


def one_line_error(error: BaseException) -> str:
    """Return the type and text of an exception as one short line, even if its `__str__` raises.

    The cut is in the middle: the message of a failed command ends with the message of its program.
    """
    error, before, after = _user_code.shown_exception(error)
    text = f"{before}{error_text(error)}{after}"
    line = fit(" ".join(text.split()), 200, keep="ends")
    return type(error).__name__ + clause(": {}", _labels.printable(line))


def find_interruption(error: BaseException) -> BaseException | None:
    """Return the first exception in `error` that is not an `Exception`, such as KeyboardInterrupt, otherwise None."""
    for leaf in _user_code.leaf_exceptions(error):
        if not isinstance(leaf, Exception):
            return leaf
    return None
