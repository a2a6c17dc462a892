"""Fixtures for the tests of the journal."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a path for a journal."""
    return tmp_path / "run.db"
