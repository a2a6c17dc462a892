"""The pytest fixture: its seeds, and the options that override them."""

import re
import pytest
from ..pythons import run_pytest

pytest_plugins = ["pytester"]

TESTS = """
import anyio
from trioflow import Job, Scheduler


def slots():
    free = anyio.Semaphore(1)

    async def work():
        await free.acquire()
        await anyio.sleep(1)
        free.release()

    return Scheduler(Job(work, label="a"), Job(work, label="b"))


def test_good(explore):
    print("GOOD", explore(slots, faults=["durations"], runs=20))


def test_bad(explore):
    explore(slots, faults=["failures"])
"""


@pytest.fixture
def project(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """Return a project with two tests of a scenario that loses a slot if a job fails."""
    monkeypatch.setenv(
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"
    )  # to import the others takes longer than the tests
    pytester.makeconftest("pytest_plugins = ['trioflow.testing.pytest_plugin']")
    pytester.makepyfile(TESTS)
    return pytester


def lines(project: pytest.Pytester, *options: str, passed: int = 1) -> list[str]:
    result = run_pytest(project, "-rP", *options)
    assert result.parseoutcomes().get("passed", 0) == passed
    return [
        line
        for line in result.outlines
        if line.startswith(("GOOD", "E  ")) and "stalls" not in line
    ]


def test_the_explore_fixture_fails_with_the_same_story_each_time(
    project: pytest.Pytester,
) -> None:
    first = lines(project)
    assert not any("_explore.py" in line for line in first)
    assert first == lines(project)
    assert any(
        re.search(
            r"To repeat this run: explore\(..., seed='(trio|asyncio) fail@[12]:[ab]'\)",
            line,
        )
        for line in first
    )
    assert any(line.startswith("GOOD 20 runs, seed=") for line in first)


def test_command_line_options_override_the_arguments_of_the_test(
    project: pytest.Pytester,
) -> None:
    told = lines(project, "--explore-runs=30", "--explore-seed=7")
    assert any(line.startswith("GOOD 30 runs, seed=7,") for line in told)
    told = lines(project, "--explore-seed", "trio fail@2:a late@1:b=2", passed=0)
    assert any("This run violates an invariant" in line for line in told)


def test_a_negative_seed_can_be_given_at_the_command_line(
    project: pytest.Pytester,
) -> None:
    """A call of `explore` takes it, and its summary says it: the option refused it with the advice to give a number."""
    told = lines(project, "--explore-seed=-7")
    assert any(line.startswith("GOOD 20 runs, seed=-7,") for line in told)


def test_an_invalid_number_of_runs_is_rejected_at_the_command_line(
    project: pytest.Pytester,
) -> None:
    told = run_pytest(project, "--explore-runs=0")
    told.stderr.fnmatch_lines(
        ["*--explore-runs: '0': give a whole number of at least 1"]
    )
