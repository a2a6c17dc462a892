"""Mutated journals, as somebody may send them: to list and show them does no harm."""

from pathlib import Path

import pytest
from .fuzz import Samples, read_mutated

JOURNALS = 12
"""How many journals the short test mutates; the soak test takes ten thousand."""


def test_reading_a_mutated_journal_does_no_harm(tmp_path: Path) -> None:
    """A mutated journal is read in bounded time, without a traceback, a write outside of it, or running anything."""
    assert read_mutated(Samples(tmp_path / "samples"), range(JOURNALS), tmp_path / "place") == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_reading_ten_thousand_mutated_journals_does_no_harm(tmp_path: Path) -> None:
    assert read_mutated(Samples(tmp_path / "samples"), range(10_000), tmp_path / "place") == []
