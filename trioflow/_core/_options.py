"""The settings that few jobs have, and the checks of what users give as settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypedDict, get_args

from ._states import OnTimeout

if TYPE_CHECKING:
    from ._scheduler import BaseScheduler


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


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that take a job off the engine's shortest path; a job with none of them has no such object."""

    timeout: float | None = None
    on_timeout: OnTimeout = "fail"
    restarts: int | None = None
    own_task: bool = False


NO_LIMITS: Final = Limits()


def limits(
    timeout: float | None, on_timeout: OnTimeout, restarts: int | None, own_task: bool, who: str
) -> Limits | None:
    """Check these settings of the job called `who`; None if all of them are the usual ones."""
    if on_timeout not in get_args(OnTimeout):
        raise ValueError(f"on_timeout={on_timeout!r} of {who}: choose one of {', '.join(get_args(OnTimeout))}")
    found = Limits(seconds(timeout, "timeout", who), on_timeout, whole(restarts, "restarts", who), bool(own_task))
    return None if found == NO_LIMITS else found


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


def whole(value: int | None, name: str, who: str) -> int | None:
    """Check a whole number, 0 or more, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name}={value!r} of {who}: give a whole number, 0 or more, or None for no limit")
    if value < 0:
        raise ValueError(f"{name}={value!r} of {who}: give a whole number, 0 or more, or None for no limit")
    return value


def _number(value: float, name: str, who: str) -> float:
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        return float(value)  # numpy's numbers, fractions and decimals are numbers too
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} of {who}: give a number of seconds") from None
