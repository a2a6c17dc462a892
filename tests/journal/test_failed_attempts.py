"""An attempt that began with another fingerprint than that of the record ends the validity of the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from trioflow import Job, JobState, Retry, Scheduler

ENDS: list[tuple[str, dict[str, Any]]] = [
    ("succeeds", {}), ("fails", {}), ("is retried", {"retry": 1}), ("cannot be stored", {}),
    ("moves on", {"timeout": 0.05, "on_timeout": "move_on"}), ("times out", {"timeout": 0.05}), ("is cancelled", {}),
    ("stops the run", {}), ("is cancelled in a backoff", {"retry": Retry(1, first=99)}),
    ("is not saved", {"save": None}), ("fails unsaved", {"save": None}),
]  # fmt: skip


@pytest.mark.parametrize(("end", "options"), ENDS, ids=[end for end, _ in ENDS])
def test_what_has_begun_otherwise_runs_again_with_what_follows(
    tmp_path: Path, backend: Any, end: str, options: dict[str, Any]
) -> None:
    """A failed attempt had left half a table: once its arguments were the first again, both jobs were restored."""
    table = tmp_path / "table"

    async def load(day: str) -> object:
        table.write_text(day)
        if day == "tue":
            match end:
                case "fails" | "is retried" | "fails unsaved":
                    raise OSError(day)
                case "is cancelled in a backoff":
                    raise OSError(day)
                case "cannot be stored":
                    return object()
                case "moves on" | "times out":
                    await anyio.sleep(9)
                case "is cancelled":
                    jobs[0].cancel()
                    await anyio.sleep(9)
                case "stops the run":
                    jobs[0].scheduler.cancel()
                    await anyio.sleep(9)
        return day

    async def count() -> str:
        return table.read_text()

    async def cancel() -> None:
        while jobs[0].state is not JobState.SCHEDULED or jobs[0].attempts == 0:
            await anyio.lowlevel.checkpoint()
        jobs[0].cancel()

    jobs: list[Any] = []
    for number, (day, restored) in enumerate([("mon", False), ("mon", True), ("tue", False), ("mon", False)]):
        loads = Job(load, day, label="load", log=False, **(options if day == "tue" else {}))
        jobs[:] = loads, Job(count, label="count", required=loads)
        others = [Job(cancel, save=None)] if day == "tue" and end == "is cancelled in a backoff" else []
        Scheduler(*jobs, *others, log=False).run(backend=backend, journal=tmp_path / "run.db")
        assert {job.restored for job in jobs} == {restored}, number
    assert jobs[1].result() == "mon"


def test_what_has_not_begun_leaves_the_record_alone(tmp_path: Path, backend: Any) -> None:
    async def load(day: str) -> str:
        return day

    async def cancel() -> None:
        loads.cancel()

    for day, restored in (("mon", False), ("tue", False), ("mon", True)):
        loads = Job(load, day, label="load")
        first = Job(cancel if day == "tue" else anyio.lowlevel.checkpoint, label="first", save=None)
        loads.requires(first, order_only=True)
        Scheduler(first, loads).run(backend=backend, journal=tmp_path / "run.db")
        assert loads.restored is restored, day
