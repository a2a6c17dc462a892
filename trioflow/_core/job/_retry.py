"""`Retry`: how often a failed job is attempted again, for which exceptions, and with which backoffs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final, final

from ..._hints import explain_form
from ..base._text_forms import short_repr
from ..base._user_code import leaf_exceptions
from ._job_options import (
    Subject,
    bad_value_error,
    duration,
    flag,
    subject_text,
    whole_number,
)

RetryCondition = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], object]
)

MIN_JITTER: Final = 0.5
"""The smallest fraction of a backoff that remains with `jitter=True`."""
SUBJECT: Final = "a Retry"


@cache
def jitter_source() -> Any:
    """Return the source of random backoffs, which `explore` seeds, so that a run can be repeated."""
    # Few programs need it, and it brings five modules.
    from random import Random

    return Random()


@final
class Retry:
    """A value of `retry=`: how often a failed job is attempted again, and with which backoffs.

    Use it when attempts need backoffs, or when only some exceptions are worth another attempt.

    Between two attempts, the job holds nothing: it returns its slot and its needs, is SCHEDULED, and starts again like
    any other job, when its backoff is over and its needs and rates are met. After a backoff of 0 it waits behind the
    jobs that were ready before.

    Args:
        times: the maximum number of retries, 0 or more, or None for no limit.
        first: the seconds before the first retry, 0 or more.
        factor: each further backoff is this many times as long as the backoff before, 1 or more.
        cap: the longest backoff in seconds.
        jitter: whether each backoff is shortened at random, to between half its length and the whole, so that jobs that
            failed together do not come back together.
        on: the exceptions to retry: a class, a tuple of classes, or a function of the exception. The function returns
            whether to retry, or the seconds to wait, such as the `Retry-After` of a server, which take the place of the
            backoff. Of a group, such as the group of a nested scheduler, each exception must be accepted, at any depth,
            and the longest time counts.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: a number is out of its range.

    Example:
        >>> async def flaky():
        ...     if current_job().attempts < 3:
        ...         raise ConnectionError("not yet")
        ...     return anyio.current_time() - current_job().started_at >= 0.03
        >>> job = Job(flaky, retry=Retry(5, first=0.01, jitter=False, on=ConnectionError))
        >>> Scheduler(job).run(), job.attempts, job.result()
        (True, 3, True)

    """

    __slots__ = ("cap", "factor", "first", "jitter", "on", "times")

    times: int | None
    first: float
    factor: float
    cap: float
    jitter: bool
    on: RetryCondition

    @explain_form
    def __init__(
        self,
        times: int | None,
        *,
        first: float = 1.0,
        factor: float = 2.0,
        cap: float = 60.0,
        jitter: bool = True,
        on: RetryCondition = Exception,
    ) -> None:
        values: dict[str, Any] = {
            "times": whole_number(times, "times", SUBJECT),
            "first": duration(first, "first", SUBJECT),
            "factor": duration(factor, "factor", SUBJECT),
            "cap": duration(cap, "cap", SUBJECT),
            "jitter": flag(jitter, "jitter", SUBJECT),
            "on": _check_condition(on),
        }
        if values["factor"] < 1:
            raise ValueError(
                f"factor={short_repr(factor)} of {SUBJECT}: give 1 or more, because backoffs grow"
            )
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        """Reject a change, because jobs with equal options share their values.

        Raises:
            AttributeError: always.

        """
        raise AttributeError(
            f"{name} of {SUBJECT} cannot be set: create another one",
            name=name,
            obj=self,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Retry) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[Any, ...]:
        return (self.times, *(getattr(self, name) for name in DEFAULTS))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the values by a call, because no attribute can be set."""
        options = {name: getattr(self, name) for name in DEFAULTS}
        return partial(Retry, **options), (self.times,)

    def _next_backoff(
        self, number: int, error: Exception, subject: Subject
    ) -> float | None:
        """Return the seconds before retry `number`, or None if the job is not retried after this exception.

        Raises:
            TypeError, ValueError: the function `on` returned neither a bool nor a number of seconds.
            Exception: the function `on` raised this exception.

        """
        if self.times is not None and number > self.times:
            return None
        accepts: Any = self.on
        if isinstance(accepts, (type, tuple)) and isinstance(error, accepts):
            return self._own_backoff(number)

        backoffs: list[float] = []
        for leaf in leaf_exceptions(error):
            if isinstance(accepts, (type, tuple)):
                wait: Any = isinstance(leaf, accepts)
            else:
                wait = accepts(leaf)
            if wait is False or wait is None:
                return None
            if wait is not True:
                origin = f"the Retry of {subject_text(subject)}, which returned that"
                backoffs.append(duration(wait, "on", origin))
        if backoffs:
            return max(backoffs)
        return self._own_backoff(number)

    def _own_backoff(self, number: int) -> float:
        """Return the backoff before retry `number`, which is 1 for the first, shortened at random with `jitter`."""
        try:
            backoff = min(self.first * self.factor ** (number - 1), self.cap)
        except OverflowError:
            backoff = self.cap if self.first else 0.0
        if self.jitter and backoff:
            backoff *= jitter_source().uniform(MIN_JITTER, 1.0)
        return backoff

    def __repr__(self) -> str:
        """Return the call that makes an equal object."""
        shown = [repr(self.times)]
        for name, usual in DEFAULTS.items():
            value = getattr(self, name)
            if value != usual:
                shown.append(f"{name}={short_repr(value)}")
        return f"Retry({', '.join(shown)})"


DEFAULTS: Final[dict[str, Any]] = {
    "first": 1.0,
    "factor": 2.0,
    "cap": 60.0,
    "jitter": True,
    "on": Exception,
}


def _check_condition(on: Any) -> RetryCondition:
    if isinstance(on, type):
        fits = issubclass(on, BaseException)
    elif isinstance(on, tuple):
        fits = all(map(_is_error_class, on))  # pyright: ignore
    else:
        fits = callable(on)
    if not fits:
        raise TypeError(
            f"on={short_repr(on)} of {SUBJECT}: give a class of exceptions, a tuple of classes, or a function of the "
            f"exception that returns whether to retry, or the seconds to wait"
        )
    return on  # type: ignore[no-any-return]


def _is_error_class(item: object) -> bool:
    return isinstance(item, type) and issubclass(item, BaseException)


def check_retry(value: object, name: str, subject: Subject) -> Retry | None:
    """Check a value of `retry`: a `Retry` or a number of retries. Return None for 0 retries."""
    if isinstance(value, Retry):
        return value if value.times != 0 else None
    if callable(value):
        advice = "give a Retry or a number; a decorator is applied to the function: Job(stamina.retry(on=OSError)(f))"
        raise bad_value_error(TypeError, value, name, subject, advice)
    times = whole_number(value, name, subject, "or a Retry, or None")
    if not times:
        return None
    return Retry(times, first=0)
