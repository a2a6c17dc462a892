"""The example of checkers over many repositories."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest

from trioflow import JobState, RequirementFailed

from .scripts import load_example, run_example

FILES = {"sound": "VALUE = 1\n", "broken": "def f(:\n", "unused": "import os\n"}


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


def test_the_table_has_what_each_checker_found(repositories: list[Path]) -> None:
    """Findings are counted; what is no repository blocks its own checkers, and the exit code is 1."""
    done = run_example("checkers", *repositories)
    header, sound, broken, unused, none = done.stdout.splitlines()
    assert header.split()[:2] == ["repository", "compileall"]
    assert set(sound.split()[1:]) == {"·"}
    assert int(broken.split()[1]) > 0
    assert unused.split()[1] == "·"
    if "ruff" in header:
        assert unused.split()[header.split().index("ruff")] == "1"
    assert set(none.split()[1:]) == {"blocked"}
    assert done.returncode == 1
    assert "'clone none' failed" in done.stderr


def test_checkers_of_one_repository_run_one_at_a_time(repositories: list[Path], tmp_path: Path) -> None:
    """No two checkers are in the same clone at once; those of what was not cloned are BLOCKED by that failure."""
    example = load_example("checkers")
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


def test_the_example_makes_repositories_of_the_library(tmp_path: Path) -> None:
    """Each package is a clean git repository with one commit."""
    made = load_example("checkers").make_repositories(tmp_path)
    for repository in made:
        status = subprocess.run(["git", "status", "--porcelain"], cwd=repository, check=True, capture_output=True)
        assert (status.stdout, len(list(repository.rglob("*.py"))) > 1) == (b"", True)
