"""The numbers in a verdict add up to the number of jobs, whatever has become of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow import StopReason
from trioflow.view.text._verdict import FOREVER_KEY, TALLY_KEYS, Tally, create_verdict, failures_text

OTHERS = r"(\d+) (?:failed|blocked|cancelled|skipped|tolerated|never started|running)\b"
COUNTS = st.dictionaries(st.sampled_from([key for key in TALLY_KEYS if key != FOREVER_KEY]), st.integers(1, 40))


@pytest.mark.parametrize("reason", StopReason)
@given(counts=COUNTS)
def test_the_numbers_in_a_verdict_add_up(reason: StopReason, counts: dict[object, int]) -> None:
    """Of 32 jobs, 30 had succeeded and 1 was blocked: nothing said that the other one was cancelled."""
    counts = {key: number for key, number in counts.items() if getattr(key, "value", "") != "running"}
    tally = Tally.from_counts(counts)
    sentence = create_verdict(reason, tally, None).sentence
    total, succeeded, moved_on = tally.job_count, *(counts.get(key, 0) for key in TALLY_KEYS[:2])
    others = sum(map(int, re.findall(OTHERS, sentence)))
    moved = re.search(r"(\d+)(?: jobs?)? moved on", sentence)
    assert others == total - succeeded - moved_on, sentence
    assert (int(moved[1]) if moved else 0) == moved_on, sentence
    for pattern, number in ((r"(\d+) of \d+ jobs? succeeded", succeeded), (r"(?:of| all) (\d+)\b", total)):
        for found in re.findall(pattern, sentence):
            assert int(found) == number, sentence
    assert sum(map(int, re.findall(OTHERS, failures_text(tally)))) == others
