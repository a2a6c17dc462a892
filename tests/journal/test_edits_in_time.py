"""What a result came from, and what a line says, agree: see `edits_in_time`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
import pytest
from . import edits_in_time


@pytest.mark.parametrize("first", [0, pytest.param(6, marks=pytest.mark.ci)])
def test_what_a_result_came_from_and_what_a_line_says_agree(tmp_path: Path, backend: Any, first: int) -> None:
    for number in range(first, first + 6):
        (folder := tmp_path / f"{number}").mkdir()
        assert not edits_in_time.problems_of(f"{number} {backend}", backend, folder, has_processes=number == 3)
