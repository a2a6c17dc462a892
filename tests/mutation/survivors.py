"""Mutants that no test can notice, each with the reason: mostly a fault that costs time or memory, and nothing else."""

from __future__ import annotations

from typing import Final

EXPLAINED: Final[dict[str, str]] = {
    "trioflow/_core/limits/_window.py: 100 -> (101)": "the lowest latency is measured again one window later",
    "trioflow/_core/run/_worker.py: workers.call_for_more(self, now) -> pass": "only slower: fewer begin in a turn",
    "trioflow/_core/run/_run.py: 16 -> (17)": "forever jobs get one turn of the loop more, with nothing to do",
    "trioflow/_core/job/_call.py: walk.kind is dict and type(key) not in ATOMS -> ((type(key) not in ATOMS))": (
        "the keys of all other containers are numbers; not to look at them is faster"
    ),
    "trioflow/_core/job/_labels.py: job not in known and around is not None -> ((around is not None))": (
        "only slower: the paths of a scheduler are found again for each of its jobs"
    ),
    "trioflow/_core/job/_labels.py: 50 -> (51)": "a limit of memory: it matters to nobody where just it is",
    "trioflow/_core/limits/_needs.py: 4 -> (5)": "one turn of the loop more for a run that has been woken first",
    "trioflow/_core/limits/_resource.py: 32 -> (33)": "only memory: passes that are kept before the first look at them",
    "trioflow/_core/limits/_resource.py: len(self.passes) >= self._prune_at -> (len(self.passes) > self._prune_at)": (
        "only memory: one pass more is kept"
    ),
}
"""The reason, by the name of the mutant as it is printed."""
