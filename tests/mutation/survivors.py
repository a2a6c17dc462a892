"""Mutants that no test can notice, each with the reason: mostly a fault that costs time or memory, and nothing else."""

from __future__ import annotations

from typing import Final

EXPLAINED: Final[dict[str, str]] = {
    "trioflow/_core/limits/_window.py: 100 -> (101)": "the lowest latency is measured again one window later",
    "trioflow/_core/run/_worker.py: workers.call_for_more(self, now) -> pass": "only slower: fewer begin in a turn",
    "trioflow/_core/run/_run.py: 16 -> (17)": "forever jobs get one turn of the loop more, with nothing to do",
}
"""The reason, by the name of the mutant as it is printed."""
