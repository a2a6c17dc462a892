"""The example with a user's own kind of job, run as a newcomer runs it."""

from __future__ import annotations

import pytest

from trioflow import Scheduler

from .scripts import load_example, run_example


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_its_jobs_run_in_order_and_are_listed_with_their_results(backend: str) -> None:
    """The sum is taken when all rows are there."""
    done = run_example("own_kind", "--towns", 10, "--backend", backend)
    assert (done.returncode, done.stderr) == (0, "")
    assert "<SqlJob `create table town (name text, people integer)`>" in done.stdout
    assert "[(10, 55000)]" in done.stdout


def test_a_failure_is_like_that_of_any_kind_and_the_connection_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    """What a statement raises fails its job; however the run ends, nothing stays open."""
    example = load_example("own_kind")
    database = example.Database(":memory:")
    wrong = example.SqlJob(database, "select * from nowhere", critical=True)
    unreached = example.SqlJob(database, "select 1", required=wrong, run_if="succeeded")
    assert Scheduler(wrong, unreached).run() is False
    assert "no such table: nowhere" in str(wrong.raised_exception())
    assert database.connection is None
    assert unreached.is_idle()
