"""The timeout of a scheduler names what its jobs waited for."""

from typing import Any

import pytest
from trioflow import Job, JobTimeout, Pool, Rate, Scheduler
from ..bodies import nap
from ..conftest import Virtual


@pytest.mark.parametrize("limit", ["timeout", "idle_timeout"])
@pytest.mark.parametrize(
    ("options", "needs", "text"),
    [
        ({}, {"api": 1}, "2 of 2 jobs waited for the rate 'api'"),
        ({}, {"cpu": 1}, "1 of 2 jobs waited for the resource 'cpu'"),
        ({"jobs_window": 1}, None, "1 of 2 jobs waited for a slot"),
        ({}, None, ""),
    ],
)
def test_a_timeout_names_the_waits(virtual: Virtual, options: Any, needs: Any, text: str, limit: str) -> None:
    """A nested scheduler's `JobTimeout`, and that of `check=True`, count the jobs by what they waited for."""
    pool = Pool(api=Rate(requests=1, per=60), cpu=1)

    def make(seconds: float | None) -> Scheduler:
        jobs = [Job(nap, 9, needs=needs) for _ in range(2)]
        return Scheduler(jobs, label="waiting", **{limit: seconds}, **options)

    async def both() -> list[JobTimeout]:
        await Scheduler(Job(nap, 0, needs=needs), pool=pool).co_run()  # takes the only request
        inner, outer = make(2), make(2)
        assert not await Scheduler(inner, pool=pool).co_run()
        outer.pool = pool
        with pytest.raises(JobTimeout) as raised:
            await outer.co_run(check=True)
        error = inner.raised_exception()
        assert isinstance(error, JobTimeout)
        return [error, raised.value]

    for error in virtual(both):
        assert error.waits == text
        assert text in str(error)
        assert ("waited" in str(error)) is bool(text)
