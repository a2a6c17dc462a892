"""A part of trio's own tests passes in jobs as it does plainly; `python -m tests.inside` runs all, and anyio's."""

from __future__ import annotations

from pathlib import Path

import pytest

from .__main__ import compare


def test_some_of_trios_tests_pass_in_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those about channels, and one that is explained."""
    assert compare(
        "trio",
        tmp_path,
        "test_channel or test_current_statistics",
        modules=["trio._tests.test_channel", "trio._core._tests.test_run"],
    )
    said = capsys.readouterr().out
    assert "differences that are explained: 1\n" in said
    assert int(said.partition("Python")[2].partition(": ")[2].split()[0]) > 20
