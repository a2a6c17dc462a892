"""Output of programs without the times, which differ in each run."""

import re


def timeless(text: str) -> str:
    """Remove durations, dates, the slowest jobs, and column widths that depend on them."""
    text = re.sub(
        r"^slowest chain  .*\n", "", text, flags=re.MULTILINE
    )  # only a run of 3 s and more has one
    text = re.sub(r"\b[\d.]+ (?:[mµ]?s|min)\b", "1 s", text)
    text = re.sub(
        r"(<CommandJob .*>) +1 s", r"\1", text
    )  # shown only if a busy machine takes 50 ms for an `echo`
    text = re.sub(r"restored from \d{4}-\d\d-\d\d", "restored from today", text)
    text = text.replace(", 1 s saved", "")  # only a second and more
    return re.sub(r" {2,}", "  ", re.sub(r" +$", "", text, flags=re.MULTILINE))
