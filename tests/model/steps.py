"""What a body in a scenario does, step by step, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .scenario import Group, Leaf


class ShortRepr:
    """A dataclass whose repr leaves out defaults, so that a scenario can be read, and pasted into a test."""

    __slots__ = ()

    def __repr__(self) -> str:
        told: list[str] = []
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if value != field.default:
                told.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(told)})"


@dataclass(frozen=True, slots=True, repr=False)
class Step(ShortRepr):
    """One step of a body."""


@dataclass(frozen=True, slots=True, repr=False)
class Nap(Step):
    """Sleep; forever if `seconds` is infinite."""

    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class Fail(Step):
    """Raise a `Boom`, or a `Slow`, which is the sign of overload for an `Adaptive` window."""

    slow: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Throttle(Step):
    """Raise `Throttled(name, after)`."""

    name: str
    after: float


@dataclass(frozen=True, slots=True, repr=False)
class Cancel(Step):
    """Call `cancel()` of a job or a scheduler."""

    who: str


@dataclass(frozen=True, slots=True, repr=False)
class Drain(Step):
    """Call `drain()` of a scheduler."""

    who: str


@dataclass(frozen=True, slots=True, repr=False)
class Steer(Step):
    """Call `pause()` or `resume()` of a scheduler, or `try_again()` of any job, or give a scheduler another window."""

    who: str
    what: str | int


@dataclass(frozen=True, slots=True, repr=False)
class Await(Step):
    """Await a job, and raise what it raises; or only until it has settled."""

    who: str
    only_settled: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Add(Step):
    """Add jobs to the scheduler of the body, once in a run."""

    jobs: tuple[Leaf | Group, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Bind(Step):
    """Let a sibling require another, if it is still IDLE."""

    later: str
    earlier: str


@dataclass(frozen=True, slots=True, repr=False)
class Use(Step):
    """Report with `used` what was used of a rate or a budget."""

    name: str
    amount: float


@dataclass(frozen=True, slots=True, repr=False)
class Give(Step):
    """Give an `Answer` its answer."""

    who: str


@dataclass(frozen=True, slots=True, repr=False)
class Call(ShortRepr):
    """What a function does that is told of a job: `on_job_settled` of its scheduler, or the hook `job_scheduled`."""

    hook: str  # "settled" or "scheduled"
    who: str
    number: int  # of the ends, or the times, that it was told of before
    step: Step


@dataclass(frozen=True, slots=True, repr=False)
class Progress(Step):
    """Show a sign of life."""


@dataclass(frozen=True, slots=True, repr=False)
class Started(Step):
    """Say that a service is ready."""
