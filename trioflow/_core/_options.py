"""The settings that few jobs have, and the checks of what users give as settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypedDict, get_args

from ._states import OnTimeout, RunIf

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._jobs import AbstractJob
    from ._scheduler import BaseScheduler
    from ._settings import Settings

    Retry = int | Callable[[Any], Any] | None


ON_TIMEOUT: Final[tuple[str, ...]] = get_args(OnTimeout)
RUN_IF: Final[tuple[str, ...]] = get_args(RunIf)


class JobOptions(TypedDict, total=False):
    """The keyword options that every kind of job takes; `AbstractJob` says what each of them means."""

    label: str | None
    critical: bool | None
    forever: bool
    required: Any
    scheduler: BaseScheduler | None
    timeout: float | None
    on_timeout: OnTimeout
    restarts: int | None
    own_task: bool
    retry: Retry
    run_if: RunIf
    keep_result: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that take a job off the engine's shortest path."""

    timeout: float | None = None
    on_timeout: OnTimeout = "fail"
    restarts: int | None = None
    own_task: bool = False
    retry: Retry = None


NO_LIMITS: Final = Limits()
"""Of a job that has no such settings, and is off the shortest path for another reason; one that is on it has None."""


@dataclass(slots=True)  # not frozen: that would cost twice as much to make, and each job with arguments has one
class Rule:
    """What decides whether a job runs, and who uses its result; a job that just waits for others has no such object."""

    run_if: RunIf = "settled"
    keep_result: bool = True
    inputs: tuple[AbstractJob[Any], ...] = ()
    # Whether one of the inputs gives its result up when all that use it have started.
    frees: bool = False


def limits(
    timeout: float | None, on_timeout: OnTimeout, restarts: int | None, own_task: bool, retry: Retry, who: str
) -> Limits:
    """Check these settings of the job called `who`."""
    if on_timeout not in ON_TIMEOUT:
        raise ValueError(f"on_timeout={on_timeout!r} of {who}: choose one of {', '.join(ON_TIMEOUT)}")
    if not callable(retry):
        retry = whole(retry, "retry", who, "or a decorator of an async function, or None")
    found = Limits(
        seconds(timeout, "timeout", who), on_timeout, whole(restarts, "restarts", who), bool(own_task), retry or None
    )
    return NO_LIMITS if found == NO_LIMITS else found


def rule(run_if: RunIf, keep_result: bool, inputs: tuple[AbstractJob[Any], ...], job: Settings) -> Rule | None:
    """Check these settings of a job; None if all of them are the usual ones."""
    if run_if not in RUN_IF:
        raise ValueError(f"run_if={run_if!r} of {job._name_for_errors()}: choose one of {', '.join(RUN_IF)}")
    if run_if == "settled" and keep_result and not inputs:
        return None
    frees = False
    for one in inputs:
        if one._rule is not None and not one._rule.keep_result:
            frees = True
    return Rule(run_if, bool(keep_result), inputs, frees)


def seconds(value: float | None, name: str, who: str) -> float | None:
    """Check a positive number of seconds; None and infinity both come back as None: no limit."""
    if value is None:
        return None
    number = _number(value, name, who)
    if math.isnan(number) or number <= 0:
        raise ValueError(f"{name}={value!r} of {who}: give a positive number of seconds, or None for no limit")
    return None if number == math.inf else number


def duration(value: float, name: str, who: str) -> float:
    """Check a finite number of seconds, 0 or more."""
    number = _number(value, name, who)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name}={value!r} of {who}: give a finite number of seconds, 0 or more")
    return number


def whole(value: Any, name: str, who: str, otherwise: str = "or None for no limit") -> int | None:
    """Check a whole number, 0 or more, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} of {who}: give a whole number, 0 or more, {otherwise}")
    if value < 0:
        raise ValueError(f"{name}={value!r} of {who}: give a whole number, 0 or more, {otherwise}")
    return value


def window(value: Any, who: str) -> Any:
    """Check a window; None for no limit."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f"jobs_window={value} of {who}: give a positive whole number, or None for no limit")
    if hasattr(value, "acquire_on_behalf_of"):
        return value
    raise TypeError(f"jobs_window={value!r} of {who}: give a positive whole number, None, or a CapacityLimiter")


def _number(value: float, name: str, who: str) -> float:
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        return float(value)  # numpy's numbers, fractions and decimals are numbers too
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} of {who}: give a number of seconds") from None
