"""Output of programs without the times, which differ in each run."""

from __future__ import annotations

import re


def timeless(text: str) -> str:
    """Remove durations, the slowest jobs, and column widths that depend on them."""
    text = re.sub(r"^slowest chain  .*\n", "", text, flags=re.MULTILINE)  # only a run of 3 s and more has one
    text = re.sub(r"\b[\d.]+ (?:[mµ]?s|min)\b", "1 s", text)
    return re.sub(r" {2,}", "  ", re.sub(r" +$", "", text, flags=re.MULTILINE))
