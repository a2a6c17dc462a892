"""Fixtures for all tests of batches."""

from pathlib import Path
import pytest


@pytest.fixture
def plain_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use the same shell wherever the tests run, and make files in the temporary directory of the test."""
    monkeypatch.setenv("PARALLEL_SHELL", "/bin/sh")
    monkeypatch.chdir(tmp_path)
