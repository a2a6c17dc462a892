"""The exceptions of trioflow. Each builds its message from its arguments: the job, the problem and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..base import _amounts
from ..base._text_forms import short_repr
from . import _labels
from ._ancestors import find_common_scheduler

if TYPE_CHECKING:
    from ..scheduler._base_scheduler import BaseScheduler
    from ._job import AbstractJob


E = TypeVar("E", bound="TrioflowError")


class TrioflowError(Exception):
    """The base class of the exceptions that trioflow defines.

    They can be copied and pickled. A copy refers to the same jobs. An exception that comes from a pickle, as from
    another process, has its message, but None in place of each attribute that cannot be pickled, such as a job.

    What a job or a run may raise has facts as its `str`, which a server may show to its clients. Advice for developers
    is a note, which tracebacks and the log show.
    """

    _advice: str = ""

    def __init__(self, message: str = "", advice: str = "") -> None:
        super().__init__(message)
        if advice:
            self._advice = advice
            self.add_note(advice)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message and the attributes, because `__init__` takes other arguments than the message."""
        attributes = {name: value if _is_picklable(value) else None for name, value in vars(self).items()}
        return _restore, (type(self), self.args, attributes)

    def __copy__(self: E, _: object = None) -> E:
        """Return an exception with the same message and attributes, also for a deep copy: jobs are not copied."""
        return _restore(type(self), self.args, vars(self))

    __deepcopy__ = __copy__


def _restore(error_type: type[E], args: tuple[Any, ...], attributes: Mapping[str, Any]) -> E:
    """Return an exception with this message and these attributes, without a call of its `__init__`."""
    error = error_type.__new__(error_type)
    error.args = args
    vars(error).update(attributes)
    if notes := getattr(error, "__notes__", None):
        error.__notes__ = list(notes)  # otherwise, a note added to a copy would be added to the original, too
    return error


def _is_picklable(value: object) -> bool:
    import pickle  # imported late: few programs need it

    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


class CycleError(TrioflowError, ValueError):
    """Jobs require each other in a cycle, so none of them can start.

    Attributes:
        cycle: the jobs of the cycle; each requires the next, and the last requires the first.

    """

    def __init__(self, cycle: Sequence[AbstractJob[Any]]) -> None:
        self.cycle: tuple[AbstractJob[Any], ...] = tuple(cycle)
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

    def __init__(self, job: AbstractJob[Any], requirement: AbstractJob[Any], scheduler: BaseScheduler | Any) -> None:
        self.job: AbstractJob[Any] = job
        self.requirement: AbstractJob[Any] = requirement
        is_input = requirement in job._inputs
        home = requirement.scheduler
        where = "in no scheduler" if home is None else f"in {home.label!r}"
        job_name, required_name = map(repr, _labels.distinct_names([job, requirement]))
        common = find_common_scheduler(job, requirement)
        if common is not None:
            _, waits, waited_for = common
            advice = f"let {waits.label!r} require {waited_for.label!r}"
            if waits is waited_for:
                advice = f"{waits.label!r} contains it, and ends after it: remove this requirement"
            elif waited_for in waits.required:
                advice = f"{waits.label!r} already waits for {waited_for.label!r}: remove this requirement"
        elif home is not None:
            advice = f"remove {required_name} from {home.label!r}, with remove(), and add it to {scheduler.label!r}"
        else:
            elsewhere = ", or to an enclosing scheduler or one beside it" if is_input else ""
            advice = f"add {required_name} to {scheduler.label!r}{elsewhere}"
        drop = "" if is_input else ", or drop the requirement with sanitize()"
        super().__init__(
            f"{job_name} in {scheduler.label!r} requires {required_name}, which is {where}: {advice}{drop}"
        )


class JournalError(TrioflowError):
    """A journal cannot be used or written; the message names the file, the reason and the remedy."""


class RequirementFailed(TrioflowError):
    """A job cannot run, because a job that it requires failed. Its `__cause__` is the original failure.

    Attributes:
        job: the job that cannot run.
        requirement: the required job that did not succeed.

    """

    def __init__(self, job: AbstractJob[Any], requirement: AbstractJob[Any]) -> None:
        self.job: AbstractJob[Any] = job
        self.requirement: AbstractJob[Any] = requirement
        earlier = requirement.raised_exception()
        # The job whose failure is the original one, taken from the error before, so that no chain has to be walked.
        # A job that failed may have raised an error of this class itself.
        is_blocked = requirement.state.name == "BLOCKED"
        self._root: AbstractJob[Any] = (
            earlier._root if is_blocked and isinstance(earlier, RequirementFailed) else requirement
        )
        advice = "require it with requires(job, settled=True)"
        if requirement in job._inputs:
            advice = f"pass it as ref(job) instead of the result, and {advice}"
        fate = _STATE_TEXTS.get(requirement.state.name, "did not run")
        super().__init__(
            f"{job.label!r} cannot run, because {requirement.label!r} {fate}", f"to run it anyway, {advice}"
        )


_STATE_TEXTS = {"FAILED": "failed", "BLOCKED": "could not run either", "CANCELLED": "was cancelled"}


class JobTimeout(TrioflowError, TimeoutError):
    """A job, or a whole scheduler, exceeded its `timeout`, or gave no sign of life for its `idle_timeout`.

    Attributes:
        job: the job or scheduler with the timeout.
        seconds: the timeout or idle timeout, in seconds.
        missing: the missing sign of life: "progress", "output", or "progress of its jobs"; None after a `timeout`.
        place: the innermost line of the user's code that was running, as text: its function, file, number and code.
            None if the line is not known, as for a command or a thread.
        waits: what the jobs of a scheduler waited for, or a command whose program had ended by itself, as text; "" if
            they waited for nothing.

    """

    def __init__(
        self,
        job: AbstractJob[Any],
        seconds: float,
        missing: str | None = None,
        place: str | None = None,
        waits: str = "",
    ) -> None:
        self.job: AbstractJob[Any] = job
        self.seconds: float = seconds
        self.missing: str | None = missing
        self.place: str | None = place
        self.waits: str = waits
        where = f"; {waits}" if waits else "" if place is None else f"; it was {place}"
        move_on = "" if job._is_service else "on_timeout='move_on' or "
        otherwise = f", or choose {move_on}retry=" if job.scheduler is not None else ""
        if missing is None:
            missed = "was not ready" if job._is_service else "did not end"
            text = f"{missed} within its timeout of {seconds:g} s{where}"
            advice = f"give it more time with timeout={otherwise}"
        else:
            report = "report it more often with current_job().progress(), or " if missing == "progress" else ""
            text = f"was ended: no {missing} for {seconds:g} s{where}"
            advice = f"{report}give it more time with idle_timeout={otherwise}"
        super().__init__(f"{job.label!r} {text}", advice)


class Throttled(TrioflowError):
    """A server reports overload: raise this in a job to pause it, and all other jobs that need the same resource.

    No job that needs `key` starts for `after` seconds. The attempt does not count. The job returns its slot and its
    resources, and is SCHEDULED again, ahead of all other ready jobs. Amounts taken from rates are not given back.

    A job that cannot be called again fails with this exception: a job made from a coroutine object, or a service that
    is ready. If the run is draining or stopping, the job ends CANCELLED; a clean-up job waits, within its time.

    Args:
        key: the name of a resource among the job's `needs`; the resource may be of any type.
        after: the length of the pause in seconds, finite, more than 0, such as the server's `Retry-After`.

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

    def __init__(self, key: str, after: float = 1.0) -> None:
        arguments: tuple[Any, Any] = key, after
        if not isinstance(arguments[0], str):
            raise TypeError(f"Throttled({short_repr(key)}): give the name of a resource, such as 'api'")
        if isinstance(arguments[1], bool) or not isinstance(arguments[1], (int, float)):
            raise TypeError(f"Throttled({short_repr(key)}, after={short_repr(after)}): give a number of seconds")
        if not (_amounts.is_finite(after) and after > 0):
            raise ValueError(
                f"Throttled({short_repr(key)}, after={short_repr(after)}): give a number of seconds above 0"
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

    def __init__(self, job: AbstractJob[Any], name: str, needed: str, left: str, *facts: str) -> None:
        self.job: AbstractJob[Any] = job
        self.name: str = name
        needs = f"{job.label!r} needs {_labels.printable(name)}={needed}, but {left}"
        super().__init__("; ".join([needs, *facts]), "enlarge the Budget, or reduce the needs")


class JobCancelled(TrioflowError):
    """A job or a run was cancelled, so there is no result."""


class GrowingError(RuntimeError):
    """The refusal of a change, because the run does not grow. It gives way to what has ended the run."""


class JobSkipped(TrioflowError):
    """A job was skipped, because of its `run_if` or a skipped input, so there is no result."""


class JobNotDone(TrioflowError, RuntimeError):
    """A job has no result, because it has not settled or its result was dropped."""
