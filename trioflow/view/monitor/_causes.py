"""What the waiting jobs of a run wait for, and how many for each: the third line of a monitor."""

from __future__ import annotations

import collections
import contextlib
import re

from ._asked import waiting_for
from ._model import Model


def waiting(model: Model, between: str = " · ") -> str:
    """Return the line: `waiting: 41 for jobs · 12 for a slot · 5 gpu · 2 api throttled`.

    Of the ready jobs of one scheduler that need the same, one is asked.
    """
    found: collections.Counter[str] = collections.Counter()
    for jobs in list(model.ready.values()):
        with contextlib.suppress(RuntimeError, StopIteration):  # it has changed meanwhile
            found[_cause(waiting_for(next(iter(jobs))))] += len(jobs)
    others = model.tally.waiting - found.total()
    parts = [f"{others} for jobs"] * (others > 0)
    parts += [f"{found[cause]} {cause}" for cause in sorted(found, key=_place)]
    return f"waiting: {between.join(parts) or 'nothing'}"


def _cause(words: str) -> str:
    """Return in a word or two what a ready job waits for: a slot, or a resource by name."""
    if not words or words == "no free slot":
        return "for a slot"
    if words.startswith("no free token"):
        return "for a token"
    if words == "start interval":
        return words
    name, comma, rest = words.partition(";")[0].partition(",")
    return f"{name} throttled" if comma and rest.startswith(" throttled") else re.split(r"[ :]", name)[0]


def _place(cause: str) -> tuple[bool, str]:
    return not cause.startswith("for "), cause
