"""Each reader is told each end of a job once, in order, as it was: in thousands of random runs, for CI alone."""

import pytest
from .law import broken_by

SEEDS_OF_PART = 50
PARTS = 21
"""Each has one of the loops, in turn."""


@pytest.mark.parametrize("part", range(PARTS))
def test_each_end_is_told_once_to_each_reader(part: int, backend: str) -> None:
    for seed in range(part * SEEDS_OF_PART, (part + 1) * SEEDS_OF_PART):
        assert (seed, broken_by(seed, backend)) == (seed, [])
