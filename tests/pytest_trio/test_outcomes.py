"""Outcomes of pytest-trio tests whose runs fail or are interrupted, in a pytest process of their own."""

import pytest
from ..pythons import run_pytest

pytest_plugins = ["pytester"]

HEAD = """
import pytest, trio
from contextlib import suppress
from pytest_trio import trio_fixture
from trioflow import Job, JobCancelled, Scheduler

async def fail():
    raise LookupError("not here")

@trio_fixture
async def scheduler():
    with suppress(JobCancelled):
        async with Scheduler(critical_jobs=True) as opened:
            yield opened
            opened.cancel()
"""


def outcomes(pytester: pytest.Pytester, test: str) -> pytest.RunResult:
    """Run one test file with pytest-trio, in a process of its own."""
    pytester.makepyfile(HEAD + test)
    return run_pytest(pytester, "-o", "trio_mode=true", "-q")


def test_a_critical_failure_fails_the_test_with_its_exception(
    pytester: pytest.Pytester,
) -> None:
    """If a job fails, `co_run(check=True)` raises in the test, and pytest shows the job's exception."""
    result = outcomes(
        pytester,
        "async def test_it():\n    await Scheduler(Job(fail)).co_run(check=True)\n",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*LookupError: not here*"])


def test_a_job_that_fails_in_a_fixtures_scheduler_ends_the_test(
    pytester: pytest.Pytester,
) -> None:
    """A critical failure in the scheduler of a fixture reaches the test, which does not hang."""
    test = "async def test_it(scheduler):\n    scheduler.add(Job(fail))\n    await trio.sleep(30)\n"
    result = outcomes(pytester, test)
    assert result.parseoutcomes().keys() & {"failed", "errors"}
    result.stdout.fnmatch_lines(["*LookupError: not here*"])


def test_a_test_that_fails_cancels_the_scheduler_of_its_fixture(
    pytester: pytest.Pytester,
) -> None:
    test = "async def test_it(scheduler):\n    scheduler.add(Job(trio.sleep, 3600))\n    assert False, 'the reason'\n"
    result = outcomes(pytester, test)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the reason*"])


INTERRUPTED = """
import os, signal
from trioflow import AbstractJob

class Held(AbstractJob):
    async def co_run(self):
        print("begun", flush=True)
        await trio.sleep(3600)

    async def co_shutdown(self):
        print("shut down", flush=True)

async def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

async def test_it():
    held = Held()
    await Scheduler(held, Job(interrupt, required=None)).co_run()
"""


def test_ctrl_c_ends_the_run_cleanly_and_fails_the_test(
    pytester: pytest.Pytester,
) -> None:
    """After Ctrl-C, the jobs of a test are shut down once, and pytest reports a KeyboardInterrupt."""
    pytester.makepyfile(HEAD + INTERRUPTED)
    result = run_pytest(pytester, "-o", "trio_mode=true", "-s", "-q")
    result.assert_outcomes(failed=1)
    assert result.stdout.str().count("shut down") == 1
    result.stdout.fnmatch_lines(["*KeyboardInterrupt*"])
