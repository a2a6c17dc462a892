"""Tests run in several processes, with the results of one."""

from __future__ import annotations

import pytest

from .pythons import run_pytest

pytest_plugins = ["pytester"]

CASES = """
import os, pytest

@pytest.fixture(scope="session")
def own():
    yield os.getpid()

@pytest.fixture
def broken():
    yield
    raise ValueError("broken")

def test_passes(own, tmp_path): print(os.getpid() == own)
def test_fails(own): print(f"in {own}"); assert own == 0
def test_is_skipped(): pytest.skip("not here")
def test_has_a_broken_fixture(broken): pass
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with two files of tests."""
    pytester.makepyfile(test_one=CASES, test_two=CASES)
    return pytester


def run(project: pytest.Pytester, *words: str) -> pytest.RunResult:
    """Run the tests in two workers."""
    return run_pytest(project, "-p", "tests.workers", "-p", "no:warnings", "--workers", "2", *words)


def test_tests_have_the_outcomes_of_one_process(project: pytest.Pytester) -> None:
    """Each test is reported once, whichever worker runs it."""
    assert run(project).parseoutcomes() == {"passed": 4, "failed": 2, "skipped": 2, "errors": 2}


def test_what_a_failed_test_has_printed_is_in_its_report(project: pytest.Pytester) -> None:
    """A report has what its test has printed, and nothing of other workers."""
    done = run(project, "-k", "fails or passes")
    printed = [line for line in done.outlines if line.startswith("in ")]
    assert len(set(printed)) == 2, done.outlines
    assert "True" not in done.outlines


def test_the_first_failure_ends_all_workers_if_it_is_asked_for(project: pytest.Pytester) -> None:
    """With `-x`, no more than one failure is reported."""
    assert run(project, "-x", "-k", "fails").parseoutcomes() == {"failed": 1, "deselected": 6}


def test_a_worker_that_dies_fails_one_test(project: pytest.Pytester) -> None:
    """The test that has ended its process fails, and the others of the file run in a new one."""
    project.makepyfile(test_three="import os\ndef test_a(): pass\ndef test_b(): os._exit(7)\ndef test_c(): pass")
    done = run(project, "test_three.py")
    assert done.parseoutcomes() == {"passed": 2, "failed": 1}
    assert "the worker has ended with 7 during this test" in done.outlines


def test_a_fixture_of_the_session_that_fails_at_the_end_fails_the_session(project: pytest.Pytester) -> None:
    """It has no test to be reported with: its traceback is printed, and the exit code is 1."""
    project.makepyfile(test_three=CASES.replace("yield os.getpid()", "yield 1; raise OSError('late')"))
    done = run(project, "test_three.py", "-k", "passes")
    assert done.ret == 1
    assert "OSError: late" in done.errlines
    assert any("a worker has ended with 1 after its tests" in line for line in done.outlines)
