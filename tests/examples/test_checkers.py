"""The example of checkers over many repositories."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from trioflow import JobState, RequirementFailed

from .scripts import load_example

FILES = {"sound": "VALUE = 1\n", "broken": "def f(:\n", "unused": "import os\n"}

CHECKER_OF_IMPORTS = """
import sys

found = [line for line in open(sys.argv[1]) if line.startswith("import ")]
print(*(f"{sys.argv[1]}:1:1: unused {line}" for line in found), sep="", end="")
sys.exit(bool(found))
"""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The example, without checkers of its environment but a stand-in for ruff, and with one package of the library."""
    example = load_example("checkers")
    monkeypatch.delitem(example.CHECKERS, "mypy")
    monkeypatch.setitem(example.CHECKERS, "ruff", ["checker_of_imports", "program.py"])
    (tmp_path / "checker_of_imports.py").write_text(CHECKER_OF_IMPORTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(example, "PACKAGES", ["json"])
    return example


@pytest.fixture
def repositories(tmp_path: Path) -> list[Path]:
    """Three git repositories of one file each, and a directory that is none."""
    for name, text in FILES.items():
        directory = tmp_path / name
        directory.mkdir()
        (directory / "program.py").write_text(text)
        identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
        for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "all"]):
            subprocess.run(["git", *command], cwd=directory, check=True)
    (tmp_path / "none").mkdir()
    return [tmp_path / name for name in (*FILES, "none")]


def test_the_table_has_what_each_checker_found(
    example: ModuleType,
    repositories: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Findings are counted; what is no repository blocks its own checkers, and the exit code is 1."""
    monkeypatch.setattr(sys, "argv", ["checkers.py", *map(str, repositories)])
    assert example.main() == 1
    header, sound, broken, unused, none = capsys.readouterr().out.splitlines()
    assert header.split() == ["repository", "compileall", "tabnanny", "ruff"]
    assert set(sound.split()[1:]) == {"·"}
    assert int(broken.split()[1]) > 0
    assert unused.split()[1:] == ["·", "·", "1"]
    assert set(none.split()[1:]) == {"blocked"}
    assert "'clone none' failed" in caplog.text


def test_checkers_of_one_repository_run_one_at_a_time(
    example: ModuleType, repositories: list[Path], tmp_path: Path
) -> None:
    """No two checkers are in the same clone at once; those of what was not cloned are BLOCKED by that failure."""
    checks = example.scenario([repositories[0], repositories[-1]], tmp_path / "clones")
    assert not checks.run()
    for one, other in itertools.combinations(checks, 2):
        if one.needs and one.needs["clone"] == other.needs.get("clone") and one.is_succeeded():
            assert one.finished_at <= other.started_at or other.finished_at <= one.started_at
    blocked = [job for job in checks if job.needs.get("clone") == "none"]
    assert blocked
    for job in blocked:
        assert job.state is JobState.BLOCKED
        assert isinstance(job.raised_exception(), RequirementFailed)


def test_the_example_makes_repositories_of_the_library(example: ModuleType, tmp_path: Path) -> None:
    """Each package is a clean git repository with one commit."""
    (repository,) = example.make_repositories(tmp_path)
    status = subprocess.run(["git", "status", "--porcelain"], cwd=repository, check=True, capture_output=True)
    assert (status.stdout, len(list(repository.rglob("*.py"))) > 1) == (b"", True)
