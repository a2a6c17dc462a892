"""Tests run in several processes, `pytest -n`: each once, and none is lost."""

from __future__ import annotations

from pathlib import Path

from .pythons import python

TESTS = """
import os
import pytest

@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    yield tmp_path_factory.mktemp("place")
    with open("ended", "a") as file:
        file.write(f"{__name__} ")

@pytest.mark.parametrize("number", range(9))
def test_passes(number, place):
    assert not list(place.iterdir())

def test_ends():
    if __name__ == "test_b":
        os._exit(0)

def test_fails():
    assert __name__ != "test_c"
"""


def test_each_test_runs_once_and_a_process_that_ends_makes_its_test_fail(tmp_path: Path) -> None:
    """A file is run in one process, with its fixtures; where one ends early, another runs the other files."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.workers"]')
    for name in "abcd":
        (tmp_path / f"test_{name}.py").write_text(TESTS)
    done = python("-m", "pytest", "-pno:cacheprovider", "-pno:xdist", "-n2", cwd=tmp_path, text=True)
    assert "FAILED test_b.py::test_ends - The process that ran this test has ended.\n" in done.stdout, done.stdout
    assert " 2 failed, 41 passed" in done.stdout
    assert sorted((tmp_path / "ended").read_text().split()) == ["test_a", "test_c", "test_d"]
