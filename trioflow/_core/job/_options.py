"""The settings that few jobs have, and the checks of the settings that users give."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, get_args

from ..base import _amounts
from ..base._states import OnTimeout, RunIf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ..base._amounts import Given
    from ..scheduler._scheduler import BaseScheduler
    from ._job import AbstractJob

    Retry = int | Callable[[Any], Any] | None
    Who = str | Callable[[], str]
    Save = Literal["json", "pickle"] | tuple[Callable[[Any], Any], Callable[[Any], Any]] | None


ON_TIMEOUT: Final[tuple[str, ...]] = get_args(OnTimeout)
RUN_IF: Final[tuple[str, ...]] = get_args(RunIf)


class UnnamedOptions(TypedDict, total=False):
    """The keyword options that every kind of job takes, without `label`."""

    critical: bool | None
    forever: bool
    required: Any
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
    save: Save
    key: Any
    version: Any
    priority: int
    expected_duration: float | None
    needs: Mapping[str, Any] | None


class JobOptions(UnnamedOptions, total=False):
    """The keyword options that every kind of job takes; `AbstractJob` says what each of them means."""

    label: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Durable:
    """What a journal is to know of a job, if that is not the usual."""

    save: Save = "json"
    key: Any = None
    version: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What few jobs ask of the order of starts and of pools. It does not take a job off the engine's shortest path."""

    priority: int = 0
    expected_duration: float | None = None
    needs: dict[str, Given] = field(default_factory=dict[str, "Given"])


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that take a job off the engine's shortest path."""

    timeout: float | None = None
    idle_timeout: float | None = None
    on_timeout: OnTimeout = "fail"
    restarts: int | None = None
    own_task: bool = False
    retry: Retry = None
    redact: bool = False
    durable: Durable | None = None


REDACTED: Final = Limits(redact=True)
NO_LIMITS: Final = Limits()
"""For a job that is off the shortest path for another reason; a job that is on it has None."""
SHARED: Final = 256
"""How many different `Limits` are kept for further jobs."""
NUMBERS: Final = frozenset({float, int, type(None)})
"""What a timeout may be if it is looked up: an object of another type may be worth another number later."""


@dataclass(slots=True)  # not frozen: a frozen one takes twice as long to make, and each job with inputs has one
class Rule:
    """What decides whether a job runs, and which results it uses. A job that only waits for others has none."""

    run_if: RunIf = "settled"
    keep_result: bool = True
    inputs: tuple[AbstractJob[Any], ...] = ()
    # Whether one of the inputs has `keep_result=False`.
    drops_results: bool = False


def limits(
    timeout: float | None,
    idle_timeout: float | None,
    on_timeout: OnTimeout,
    restarts: int | None,
    own_task: bool,
    retry: Retry,
    redact: bool,
    durable: Durable | None,
    who: Who,
) -> Limits:
    """Check these settings, and return them; `who` names the job in errors.

    Jobs with the same settings share the object: to check them and make one takes as long as all else of a job.
    """
    if durable is None and type(timeout) in NUMBERS and type(idle_timeout) in NUMBERS and not callable(retry):
        try:
            return _shared_limits(timeout, idle_timeout, on_timeout, restarts, own_task, retry, redact, None, "")
        except (TypeError, ValueError):
            pass  # raised again, with the name of the job
    return _checked_limits(timeout, idle_timeout, on_timeout, restarts, own_task, retry, redact, durable, who)


def _checked_limits(
    timeout: float | None,
    idle_timeout: float | None,
    on_timeout: OnTimeout,
    restarts: int | None,
    own_task: bool,
    retry: Retry,
    redact: bool,
    durable: Durable | None,
    who: Who,
) -> Limits:
    if on_timeout not in ON_TIMEOUT:
        raise ValueError(f"on_timeout={on_timeout!r} of {_text(who)}: choose one of {', '.join(ON_TIMEOUT)}")
    if on_timeout != "fail" and timeout is None and idle_timeout is None:
        raise ValueError(
            f"on_timeout={on_timeout!r} of {_text(who)}: there is no timeout; give timeout= or idle_timeout= too, "
            f"or no on_timeout"
        )
    if not callable(retry):
        retry = whole(retry, "retry", who, "or a decorator of an async function, or None")
    found = Limits(
        seconds(timeout, "timeout", who),
        seconds(idle_timeout, "idle_timeout", who),
        on_timeout,
        whole(restarts, "restarts", who),
        flag(own_task, "own_task", who),
        retry or None,
        flag(redact, "redact", who),
        durable,
    )
    if found.restarts is not None and on_timeout != "restart":
        raise ValueError(f"restarts={restarts!r} of {_text(who)}: nothing is restarted; give on_timeout='restart' too")
    return NO_LIMITS if found == NO_LIMITS else found


_shared_limits: Final = functools.lru_cache(maxsize=SHARED, typed=True)(_checked_limits)  # typed: True is no number


def durable(save: Save, key: Any, version: Any, who: Who) -> Durable | None:
    """Check what a journal is to know of the job called `who`; None if that is the usual."""
    if save == "json" and key is None and version is None:
        return None
    given: Any = save
    if isinstance(given, tuple) and len(given) == 2 and all(map(callable, given)):  # pyright: ignore[reportUnknownArgumentType]
        return Durable(save, key, version)
    if save is not None and save not in ("json", "pickle"):
        raise ValueError(
            f"save={save!r} of {_text(who)}: choose 'json', 'pickle', a pair (dump, load) of functions, or None"
        )
    return Durable(save, key, version)


def demand(priority: int, expected_duration: float | None, needs: Any, who: Who) -> Demand | None:
    """Check what the job called `who` asks of the order of starts and of pools; None if that is nothing."""
    if isinstance(priority, bool) or not isinstance(priority, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"priority={priority!r} of {_text(who)}: give a whole number; the higher one starts first")
    if expected_duration is not None:
        expected_duration = duration(expected_duration, "expected_duration", who)
    amounts = {} if needs is None else _amounts_of(needs, who)
    if expected_duration is None and not priority and not amounts:
        return None
    return Demand(priority, expected_duration, amounts)


def _amounts_of(needs: Any, who: Who) -> dict[str, Given]:
    """Check what a job needs; what it needs nothing of is left out."""
    if not isinstance(needs, Mapping):
        raise TypeError(f"needs={needs!r} of {_text(who)}: give a dict of names and amounts, such as {{'cpu': 2}}")
    found: dict[str, Given] = {}
    name: Any
    given: Any
    for name, given in needs.items():  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(name, str):
            raise TypeError(f"needs={needs!r} of {_text(who)}: {name!r} is no name; names are text")
        found[name] = _amounts.amount_or_parts(given, f"needs={{{name!r}: {given!r}}} of {_text(who)}")
    return {name: number for name, number in found.items() if number != 0}


def rule(run_if: RunIf, keep_result: bool, inputs: tuple[AbstractJob[Any], ...], job: AbstractJob[Any]) -> Rule | None:
    """Check these settings of a job, and return its rule; None if all of them are the usual ones."""
    if run_if not in RUN_IF:
        raise ValueError(f"run_if={run_if!r} of {job._name_for_errors()}: choose one of {', '.join(RUN_IF)}")
    keep_result = flag(keep_result, "keep_result", job._name_for_errors)
    if run_if == "settled" and keep_result and not inputs:
        return None
    drops_results = False
    for one in inputs:
        if one._rule is not None and not one._rule.keep_result:
            drops_results = True
    return Rule(run_if, keep_result, inputs, drops_results)


def flag(value: Any, name: str, who: Who) -> bool:
    """Check and return True or False; the text "no" would mean True."""
    if value not in (True, False):
        raise TypeError(f"{name}={value!r} of {_text(who)}: give True or False")
    return bool(value)


def text(value: Any, name: str, who: str) -> str:
    """Return a text as it is; of a kind of text, such as a member of an enumeration, the plain one."""
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r} of {who}: give text, such as {name}={str(value)!r}")
    return str(value)


def flag_or_none(value: Any, name: str, who: Who) -> bool | None:
    """Check and return True, False or None."""
    return None if value is None else flag(value, name, who)


def seconds(value: float | None, name: str, who: Who) -> float | None:
    """Check and return a positive number of seconds; None and infinity both become None, which is no limit."""
    if value is None:
        return None
    number = _number(value, name, who)
    if math.isnan(number) or number <= 0:
        raise ValueError(f"{name}={value!r} of {_text(who)}: give a positive number of seconds, or None for no limit")
    return None if number == math.inf else number


def check_drain_at(drain_at: float | None, timeout: float | None, who: Who) -> None:
    """Refuse a time to drain at that comes after the end of the run."""
    if drain_at is not None and timeout is not None and drain_at >= timeout:
        raise ValueError(
            f"drain_at={drain_at:g} of {_text(who)}: its timeout of {timeout:g} s comes first; give less than that"
        )


def duration(value: float, name: str, who: Who) -> float:
    """Check and return a finite number of seconds, 0 or more."""
    number = _number(value, name, who)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name}={value!r} of {_text(who)}: give a finite number of seconds, 0 or more")
    return number


def fraction(value: float, name: str, who: Who) -> float:
    """Check and return a fraction, from 0 to 1."""
    number = _number(value, name, who, "a fraction from 0 to 1")
    if not 0 <= number <= 1:
        raise ValueError(f"{name}={value!r} of {_text(who)}: give a fraction from 0 to 1, such as 0.4 for 40 %")
    return number


def whole(value: Any, name: str, who: Who, otherwise: str = "or None for no limit") -> int | None:
    """Check and return a whole number, 0 or more, or None."""
    if value is None:
        return None
    wanted = f"give a whole number, 0 or more{otherwise and ', '}{otherwise}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} of {_text(who)}: {wanted}")
    if value < 0:
        raise ValueError(f"{name}={value!r} of {_text(who)}: {wanted}")
    return value


def number(value: Any, name: str, who: Who) -> int:
    """Check and return a whole number, 0 or more."""
    if value is None or isinstance(value, float):
        raise TypeError(f"{name}={value!r} of {_text(who)}: give a whole number, 0 or more")
    checked = whole(value, name, who, "")
    assert checked is not None
    return checked


def _text(who: Who) -> str:
    """Return the name of a job for an error; to make one takes longer than all checks, so most are never made."""
    return who if isinstance(who, str) else who()


def _number(value: float, name: str, who: Who, wanted: str = "a number of seconds") -> float:
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        return float(value)  # numpy's numbers, fractions and decimals are numbers too
    except OverflowError:  # a whole number with hundreds of digits
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} of {_text(who)}: give {wanted}") from None


ELSEWHERE_CALLED: Final = {
    "after": "required",
    "depends_on": "required",
    "max_workers": "jobs_window",
    "name": "label",
    "order": "policy",
    "requires": "required",
    "retries": "retry",
}
"""Names that options have in other libraries, or that people expect."""


def _close(name: str, known: Iterable[str]) -> list[str]:
    """Return the option that was probably meant, if there is one."""
    import difflib  # not at the start of every program, only for an error

    meant = ELSEWHERE_CALLED.get(name, name)
    return [meant] if meant in known else difflib.get_close_matches(name, list(known), n=1)


def with_advice(error: TypeError, who: str, kind: type[AbstractJob[Any]], *, is_call: bool = False) -> TypeError:
    """Return an error about an unknown option of a job with advice; any other error as it is.

    Args:
        error: what `AbstractJob.__init__` raised.
        who: the name of the job for errors.
        kind: the job's class, which may have options of its own.
        is_call: whether the job calls a function, which the option may have been meant for.

    """
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown is None:
        return error
    name = unknown[1]
    own: Any = getattr(kind.__init__, "__kwdefaults__", None) or {}
    known = [option for option in (*own, *JobOptions.__annotations__) if option != "kwargs"]
    close = _close(name, known)
    hints = [f"did you mean {close[0]}?"] if close else []
    if is_call:
        hints.append(f"{'If' if close else 'if'} the function is to get it, write kwargs={{{name!r}: ...}}")
    options = "" if close else f"{'; ' * is_call}the options are {', '.join(known)}"
    return TypeError(f"{who}: a job has no option {name!r}; {' '.join(hints)}{options}")


def unknown(who: str, what: str, given: Mapping[str, Any], function: Callable[..., Any]) -> TypeError:
    """Return the error about a misspelt option.

    Args:
        who: the label of the job or scheduler.
        what: what has no such option, such as "run()".
        given: the unknown options; the error names the first one.
        function: the one whose keyword-only parameters are the options that there are.

    """
    name = next(iter(given))
    parameters = inspect.signature(function).parameters.values()
    known = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY and not one.name.startswith("_")]
    close = _close(name, known)
    hint = f"did you mean {close[0]}?" if close else f"the options are {', '.join(known)}"
    return TypeError(f"{who!r}: {what} has no option {name!r}; {hint}")
