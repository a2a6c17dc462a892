"""Counts of jobs, from a text."""

from collections.abc import Mapping
from trioflow._core.base._states import MOVED_ON, JobState, ReportedState
from trioflow.view.text._verdict import FOREVER_KEY, TOLERATED_KEY, Tally

KEYS: dict[str, ReportedState | str] = {
    **{state.value: state for state in JobState},
    "moved": MOVED_ON,
    "tolerated": TOLERATED_KEY,
    "forever": FOREVER_KEY,
}


def tally(counts: str, reruns: Mapping[str, int] | None = None) -> Tally:
    """Return the tally that a text such as "2 succeeded, 1 failed, 3 groups" describes."""
    found = Tally()
    for count in filter(None, counts.split(", ")):
        number, _, word = count.rpartition(" ")
        if word == "grows":
            found.may_grow = True
        elif word == "groups":
            found.failed_groups = int(number)
        elif word == "restored":
            found.restored.add(None, 30.0, int(number))
        else:
            for _ in range(int(number)):
                found.replace(None, KEYS[word])
    found.reruns.update(reruns or {})
    return found
