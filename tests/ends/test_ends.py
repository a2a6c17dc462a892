"""Each reader is told each end of a job once, in order, as it was: a few seeds; `test_many_ends` has thousands."""

from __future__ import annotations

import pytest

from .law import broken_by

SEEDS = 100
PARTS = 4
"""Each has one of the loops, in turn."""


@pytest.mark.parametrize("part", range(PARTS))
def test_each_end_is_told_once_to_each_reader(part: int, backend: str) -> None:
    """What fails in random runs is tried again by each door, and each reader has the story that the run itself has."""
    for seed in range(part, SEEDS, PARTS):
        assert (seed, broken_by(seed, backend)) == (seed, [])
