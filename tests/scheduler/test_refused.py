"""A run that is refused has closed what it had opened: its scheduler, its pool and its journal can be used at once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from trioflow import Job, Pool, Scheduler
from trioflow._core.scheduler import _awaiting, _checks

from ..bodies import Flaw, crash, nap, nothing


def test_a_run_that_its_pool_refuses_closes_its_journal(backend: Any, tmp_path: Path) -> None:
    """A pool is in use in another thread; when it is free again, the same process can use the same journal."""
    pool = Pool(cpu=1)
    refused = Scheduler(Job(nothing, needs={"cpu": 1}), pool=pool, journal=tmp_path / "journal.db")
    errors: list[BaseException] = []

    def run_elsewhere() -> None:
        try:
            refused.run(backend=backend)
        except RuntimeError as error:
            errors.append(error)  # which keeps the frames of the run alive

    def body() -> None:
        thread = threading.Thread(target=run_elsewhere)
        thread.start()
        thread.join()

    async def use() -> None:
        body()

    assert Scheduler(Job(use, needs={"cpu": 1}), pool=pool).run(backend=backend)
    assert "in another event loop" in str(errors[0])
    assert refused.run(backend=backend)


STEPS = [(Pool, "_enter"), (_awaiting, "watch_of"), (_checks, "check_members"), (Scheduler, "_open_journal")]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
def test_whichever_step_fails_before_a_run_its_means_are_free(
    backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[object, str]
) -> None:
    """A run inside of a job fails in one of its first steps, and the next one has the journal, the pool, the jobs."""
    pool, journal = Pool(cpu=1), tmp_path / "journal.db"
    scheduler = Scheduler(Job(nap, 0, 5, needs={"cpu": 1}), pool=pool, journal=journal)

    async def body() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(*step, crash)
            with pytest.raises(Flaw):
                await scheduler.co_run()
        assert await scheduler.co_run()

    assert anyio.run(Scheduler(Job(body)).co_run, backend=backend)
    assert pool.free == pool.total
