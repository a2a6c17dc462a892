"""Changes: the differences of a run from the plain run, and their notation.

A plan is a backend and the changes to one run; it determines the run. Its text repeats a run:
``trio late@1:a=3 fail@0:b``. A place is counted within a job: 0 is its beginning, 1 its first wait, "end" the moment in
which it has returned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, get_args
from urllib.parse import quote, unquote

from ..abc import BackendName

END: Final = -1
MOMENT: Final = 2.0**-20
"""Seconds by which a job is late so that all others go first: the clock advances when they are blocked."""

KINDS: Final = {
    "first": "order",  # in iteration `at` of the loop, the task of the job resumes first
    "turn": "order",  # in iteration `at`, the tasks resume in an order that `value` determines
    "rank": "order",  # ready tasks resume by the ranks of their jobs, lower ones first
    "late": "durations",  # the job resumes `value` seconds late
    "hang": "timeouts",  # the job never begins, until it is cancelled
    "fail": "failures",  # the job raises an exception; `value` times, if it reaches this line again
    "cancel": "cancellation",  # `cancel()` of the job
    "stop": "cancellation",  # `cancel()` of its scheduler
    "cut": "cancellation",  # cancellation of a scope around the whole run, or (natively) of the task that awaits it
    "ctrl-c": "ctrl-c",
    "crash": "crash",
}
"""Each kind of change, and its fault in the user's terms."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference from the plain run."""

    kind: str
    name: str = ""  # the path of the job
    at: int = 0
    value: float = 0.0

    def __str__(self) -> str:
        at = "end" if self.at == END else str(self.at)
        value = "=moment" if self.value == MOMENT else f"={self.value!r}".removesuffix(".0") if self.value else ""
        return f"{self.kind}@{at}:{quote(self.name, safe='/()#,[]')}{value}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: its backend, and its changes."""

    backend: str
    changes: tuple[Change, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.backend, *map(str, self.changes)])


def read_plan(text: str) -> Plan:
    """Parse a plan.

    Raises:
        ValueError: the text is no plan.

    """
    backend, *words = text.split() or [""]
    try:
        if backend not in get_args(BackendName):
            raise ValueError
        return Plan(backend, tuple(map(_read_change, words)))
    except ValueError:
        raise ValueError(
            f"seed={text!r}: give a number, or the text after 'seed=' in the story of a broken run, such as "
            f"'trio fail@1:fetch'"
        ) from None


def _read_change(word: str) -> Change:
    kind, _, rest = word.partition("@")
    at, found, rest = rest.partition(":")
    name, _, value = rest.partition("=")
    if kind not in KINDS or not found:
        raise ValueError
    change = Change(kind, unquote(name), END if at == "end" else int(at), _seconds(value))
    if not math.isfinite(change.value) or (change.value < 0 and kind != "rank") or (at != "end" and change.at < 0):
        raise ValueError
    return change


def _seconds(value: str) -> float:
    return MOMENT if value == "moment" else float(value or 0)
