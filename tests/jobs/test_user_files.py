"""No file of others is removed, renamed, replaced or cut off, whatever jobs that write do, and however they end."""

import sys
from pathlib import Path
import pytest
from .user_files import compare_all

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the commands are those of a POSIX shell")
DRAWS = [range(3), pytest.param(range(3, 10), marks=pytest.mark.ci)]
"""The draws of the short test, a few of them outside of CI; the soak test takes two thousand."""


@pytest.mark.parametrize("draws", DRAWS, ids=["few", "more"])
def test_files_of_others_are_as_they_were(tmp_path: Path, backend: str, draws: range) -> None:
    """What was there before, and what others write meanwhile, is there afterwards, byte for byte."""
    assert compare_all(draws, backend, tmp_path)[1] == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.both_backends
def test_files_of_others_are_as_they_were_in_two_thousand_draws(tmp_path: Path, backend: str) -> None:
    assert compare_all(range(2000), backend, tmp_path)[1] == []
