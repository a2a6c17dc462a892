"""An identity says all that it means: whatever changes, a resumed run gives what a run without a journal gives."""

import sys
from pathlib import Path
import pytest
from .changes import compare_all, summary

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the commands are those of a POSIX shell")
DRAWS = [range(5), pytest.param(range(5, 20), marks=pytest.mark.ci)]
"""The draws of the short test, a few of them outside of CI; the soak test takes five thousand."""


def check(draws: range, place: Path) -> None:
    compared = compare_all(draws, place)
    print(summary(compared))
    assert [one.difference for one in compared if one.difference] == []
    assert sum(one.restored for one in compared) > len(draws)


@pytest.mark.parametrize("draws", DRAWS, ids=["few", "more"])
def test_a_resumed_run_gives_what_a_run_without_a_journal_gives(tmp_path: Path, draws: range) -> None:
    """One thing changes, and nothing stale comes from the journal, but by a design that the pages name."""
    check(draws, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_five_thousand_resumed_runs_give_what_runs_without_a_journal_give(tmp_path: Path) -> None:
    """The law holds in five thousand draws of scenarios and command lines."""
    check(range(5000), tmp_path)
