"""The types of a job's options, the records of rare options, and the checks of users' values."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypedDict, TypeVar, cast, get_args

from ..base import _amounts, _signatures
from ..base._reprs import is_among, short_repr
from ..base._states import OnTimeout, RunIf

SaveName = Literal["json", "pickle"]
E = TypeVar("E", TypeError, ValueError)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..base._amounts import AmountSpec, Need
    from ..scheduler._base_scheduler import BaseScheduler
    from ._job import AbstractJob
    from ._requirements import Required

    Retry = int | Callable[[Any], Any] | None
    Subject = str | Callable[[], str]
    Save = SaveName | tuple[Callable[[Any], Any], Callable[[Any], Any]] | None
    JobSave = Literal["default"] | Save


class UnnamedOptions(TypedDict, total=False):
    """The keyword options of every kind of job, without `label`; `AbstractJob` declares them."""

    critical: bool | None
    forever: bool
    required: Required
    scheduler: BaseScheduler | None
    timeout: float | None
    idle_timeout: float | None
    on_timeout: OnTimeout
    restarts: int | None
    own_task: bool
    retry: Retry
    run_if: RunIf
    keep_result: bool
    redact: bool
    save: JobSave
    key: object
    version: object
    priority: int
    expected_duration: float | None
    needs: Mapping[str, Need] | None


class JobOptions(UnnamedOptions, total=False):
    """The keyword options of every kind of job; `AbstractJob` describes them."""

    label: str | None


# The records of options that few jobs have. Their defaults are in the declarations of the options.


class SchedulingOptions(NamedTuple):
    """Rare options about the order of starts and pools. They leave a job on the engine's hot path."""

    priority: int
    expected_duration: float | None
    needs: Mapping[str, AmountSpec]


RUN_RESOURCES: Final[dict[str, Callable[[], int]]] = {}
"""The resources of the run itself, not of a pool, by name; the function returns the total."""


def declare_run_resource(name: str, total: Callable[[], int]) -> None:
    """Declare a resource of the run itself, not of a pool, for a kind of job that calls `need_of_run`.

    Args:
        name: its name, which no pool may have.
        total: returns its total in a run; called once in each run that needs it.

    """
    RUN_RESOURCES[name] = total


class SlowPathOptions:
    """The options that take a job off the engine's hot path. Jobs with equal ones usually share the object.

    It is not a tuple, because users' options need not be hashable.
    """

    __slots__ = _fields = (
        "timeout", "idle_timeout", "on_timeout", "restarts", "own_task", "retry", "redact", "save", "key", "version",
    )  # fmt: skip

    def __init__(
        self,
        timeout: float | None,
        idle_timeout: float | None,
        on_timeout: OnTimeout,
        restarts: int | None,
        own_task: bool,
        retry: Retry,
        redact: bool,
        save: JobSave,
        key: object,
        version: object,
    ) -> None:
        self.timeout: Final = timeout
        self.idle_timeout: Final = idle_timeout
        self.on_timeout: Final[OnTimeout] = on_timeout
        self.restarts: Final = restarts
        self.own_task: Final = own_task
        self.retry: Final[Retry] = retry
        self.redact: Final = redact
        self.save: Final[JobSave] = save
        self.key: Final = key
        self.version: Final = version


class TriggerRule:
    """The conditions of a job's start, and its inputs. A job that only waits for others has none."""

    __slots__ = _fields = ("run_if", "keep_result", "inputs", "drops_results")

    def __init__(
        self,
        run_if: RunIf,
        keep_result: bool,
        inputs: tuple[AbstractJob[Any], ...] = (),
        drops_results: bool = False,
    ) -> None:
        self.run_if: RunIf = run_if
        self.keep_result = keep_result
        self.inputs = inputs
        # Whether one of the inputs has `keep_result=False`; set when a run links the job.
        self.drops_results = drops_results


# ---- checks: each returns the stored value, or raises an error that names the option and the job


def one_of(choices: tuple[str, ...]) -> Callable[[Any, str, Subject], Any]:
    """Return the check of an option that is one of these words."""

    def check(value: Any, name: str, subject: Subject) -> Any:
        if not is_among(value, choices):
            raise bad_value_error(ValueError, value, name, subject, f"choose one of {', '.join(choices)}")
        return value

    return check


def accept(value: Any, name: str, subject: Subject) -> Any:
    """Accept any value."""
    return value


def label(value: Any, name: str, subject: Subject) -> str | None:
    """Check a label; None means the default label."""
    return None if value is None else text(value, name, subject)


def retry(value: Any, name: str, subject: Subject) -> Retry:
    """Check a number of further attempts, or a decorator; 0 becomes None."""
    if callable(value):
        return cast("Retry", value)
    return whole_number(value, name, subject, "or a decorator of an async function, or None") or None


def save(value: Any, name: str, subject: Subject, names: tuple[str, ...] = ("default", *get_args(SaveName))) -> JobSave:
    """Check the way to store a result."""
    is_pair = isinstance(value, tuple) and len(value) == 2 and all(map(callable, value))  # pyright: ignore[reportUnknownArgumentType]
    if not is_pair and not is_among(value, (*names, None)):
        choices = ", ".join(map(repr, names))
        raise bad_value_error(
            ValueError, value, name, subject, f"choose {choices}, a pair (dump, load) of functions, or None"
        )
    return cast("JobSave", value)


def priority(value: Any, name: str, subject: Subject) -> int:
    """Check a priority."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_value_error(TypeError, value, name, subject, "give a whole number; the higher one starts first")
    return value


def needs(value: Any, name: str, subject: Subject) -> dict[str, AmountSpec]:
    """Check the needs of a job; zeros are left out."""
    result: dict[str, AmountSpec] = {}
    if value is None:
        return result
    if not isinstance(value, Mapping):
        raise bad_value_error(TypeError, value, name, subject, "give a dict of names and amounts, such as {'cpu': 2}")
    key: Any
    amount: Any
    for key, amount in value.items():  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(key, str):
            raise bad_value_error(TypeError, value, name, subject, f"{short_repr(key)} is not a name; names are text")
        result[key] = _amounts.check_need(
            amount, f"{name}={{{short_repr(key)}: {short_repr(amount)}}} of {subject_text(subject)}"
        )
    return {key: number for key, number in result.items() if number != 0}


def flag(value: Any, name: str, subject: Subject) -> bool:
    """Check and return True or False; the text "no" would mean True."""
    if not is_among(value, (True, False)):
        raise bad_value_error(TypeError, value, name, subject, "give True or False")
    return bool(value)


def text(value: Any, name: str, subject: Subject) -> str:
    """Check a text and return it as a plain `str`, also for a member of an enumeration."""
    if not isinstance(value, str):
        raise bad_value_error(TypeError, value, name, subject, f"give text, such as {name}={short_repr(value)!r}")
    return str(value)


def file_path(value: Any, name: str, subject: Subject) -> str:
    """Check and return a path as text; an empty one usually comes from an unset variable."""
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not isinstance(path, str):
        raise bad_value_error(TypeError, value, name, subject, "give a path, as text or a pathlib.Path")
    if not path or "\0" in path:
        raise bad_value_error(ValueError, value, name, subject, "a path has no NUL in it" if path else "give a path")
    return path


def flag_or_none(value: Any, name: str, subject: Subject) -> bool | None:
    """Check and return True, False or None."""
    return None if value is None else flag(value, name, subject)


def seconds(value: float | None, name: str, subject: Subject) -> float | None:
    """Check and return a positive number of seconds; None and infinity both become None, which means no limit."""
    if value is None:
        return None
    number = _number(value, name, subject)
    if math.isnan(number) or number <= 0:
        advice = "give a positive number of seconds, or None for no limit"
        raise bad_value_error(ValueError, value, name, subject, advice)
    return None if number == math.inf else number


def duration_or_none(value: float | None, name: str, subject: Subject) -> float | None:
    """Check and return a finite number of seconds, 0 or more, or None."""
    return None if value is None else duration(value, name, subject)


def duration(value: float, name: str, subject: Subject) -> float:
    """Check and return a finite number of seconds, 0 or more."""
    number = _number(value, name, subject)
    if not (math.isfinite(number) and number >= 0):
        raise bad_value_error(ValueError, value, name, subject, "give a finite number of seconds, 0 or more")
    return number


def fraction(value: float, name: str, subject: Subject) -> float:
    """Check and return a fraction, from 0 to 1."""
    number = _number(value, name, subject, "a fraction from 0 to 1")
    if not 0 <= number <= 1:
        raise bad_value_error(ValueError, value, name, subject, "give a fraction from 0 to 1, such as 0.4 for 40 %")
    return number


def whole_number(value: Any, name: str, subject: Subject, otherwise: str = "or None for no limit") -> int | None:
    """Check and return a whole number, 0 or more, or None."""
    return None if value is None else number(value, name, subject, otherwise)


def number(value: Any, name: str, subject: Subject, otherwise: str = "") -> int:
    """Check and return a whole number, 0 or more."""
    wanted = f"give a whole number, 0 or more{otherwise and ', '}{otherwise}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_value_error(TypeError, value, name, subject, wanted)
    if value < 0:
        raise bad_value_error(ValueError, value, name, subject, wanted)
    return value


def keywords(value: Any, name: str, subject: Subject) -> dict[str, Any]:
    """Check and return keyword arguments; None means none."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise bad_value_error(TypeError, value, name, subject, "give a dict of names and values, or None")
    for key in value:  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(key, str):
            raise bad_value_error(TypeError, value, name, subject, f"the name {short_repr(key)} is not a string")
    return {**value}


def callback(value: Any, name: str, subject: Subject) -> None:
    """Check a plain callback, or None."""
    if value is not None and not callable(value):
        raise bad_value_error(TypeError, value, name, subject, "give a plain function, or None")
    if _signatures.is_async(value):
        raise bad_value_error(TypeError, value, name, subject, "this is async, and not awaited; give a plain function")


def bad_value_error(error: type[E], value: Any, name: str, subject: Subject, advice: str) -> E:
    """Return the error about a user's value: the option, the value, the job, and what to give instead."""
    return error(f"{name}={short_repr(value)} of {subject_text(subject)}: {advice}")


def subject_text(subject: Subject) -> str:
    """Return the name of a job for an error; making one costs more than all checks, so most are never made."""
    return subject if isinstance(subject, str) else subject()


def _number(value: float, name: str, subject: Subject, wanted: str = "a number of seconds") -> float:
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        return float(value)  # numpy's numbers, fractions and decimals are numbers too
    except OverflowError:  # a whole number with hundreds of digits
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        raise bad_value_error(TypeError, value, name, subject, f"give {wanted}") from None


ALIASES: Final = {
    "after": "required",
    "concurrency": "jobs_window",
    "depends_on": "required",
    "limiter": "jobs_window",
    "max_jobs": "jobs_window",
    "max_workers": "jobs_window",
    "name": "label",
    "order": "policy",
    "requires": "required",
    "retries": "retry",
}
"""Names of options in other libraries."""

REPLACEMENTS: Final = {
    "jobs_window": "jobs_window of the Scheduler",
    "verbose": "run(instruments=[Monitor()])",
}
"""Other homes of options that jobs do not have, or replacements."""


def _suggest_option(name: str, known: Iterable[str]) -> str | None:
    """Return the option that was probably meant, or None."""
    import difflib  # only for an error: programs start faster

    meant = ALIASES.get(name, name)
    if meant in known:
        return meant
    return REPLACEMENTS.get(meant) or next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def unknown_job_option_error(
    name: str, subject: str, kind: type[AbstractJob[Any]], what: str = "a job", *, is_call: bool = False
) -> TypeError:
    """Return the error about an unknown option of a job.

    Args:
        name: the option.
        subject: the name of the job for errors.
        kind: the job's class, which may have options of its own.
        what: the subject of the error.
        is_call: whether the job calls a function, for which the option may have been meant.

    """
    own: Any = getattr(kind.__init__, "__kwdefaults__", None) or {}
    known = [option for option in (*own, *kind._declared) if option not in ("kwargs", "_inputs")]
    close = _suggest_option(name, known)
    hints = [f"did you mean {close}?"] if close else []
    if is_call:
        hints.append(f"{'If' if close else 'if'} the function is to get it, write kwargs={{{name!r}: ...}}")
    options = "" if close else f"{'; ' * is_call}the options are {', '.join(known)}"
    return TypeError(f"{subject}: {what} has no option {name!r}; {' '.join(hints)}{options}")


def unknown_option_error(
    subject: str, call: str, keywords: Mapping[str, Any], function: Callable[..., Any]
) -> TypeError:
    """Return the error for an unknown keyword argument of a method, with the option that was probably meant.

    Args:
        subject: the label of the job or scheduler.
        call: the text of the call, such as "run()".
        keywords: the unknown keyword arguments; the error names the first one.
        function: the function whose keyword-only parameters are the valid options.

    """
    name = next(iter(keywords))
    parameters = _signatures.signature_of(function).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and not p.name.startswith("_")]
    close = _suggest_option(name, known)
    hint = f"did you mean {close}?" if close else f"the options are {', '.join(known)}"
    return TypeError(f"{subject!r}: {call} has no option {name!r}; {hint}")
