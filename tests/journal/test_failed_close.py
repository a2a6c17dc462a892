"""A journal that cannot be closed at the end of a run that has failed: both are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from trioflow import Job, JournalError, Scheduler
from trioflow.journal._store import JournalStore
from ..bodies import fail_now, nothing, raising


@pytest.mark.both_backends
@pytest.mark.parametrize("fails", [True, False])
def test_a_journal_that_cannot_be_closed_hides_no_failure(
    tmp_path: Path, backend: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: bool
) -> None:
    """The failure of a job is raised, and that of the journal logged. Without the first, the second is raised."""

    async def main() -> None:
        async with Scheduler(journal=tmp_path / "run.db") as scheduler:
            scheduler.add(Job(fail_now if fails else nothing, label="works"))

    monkeypatch.setattr(JournalStore, "end_run", raising(JournalError("the disk is full")))
    with pytest.raises(ExceptionGroup if fails else JournalError):
        anyio.run(main, backend=backend)
    assert not Scheduler(Job(fail_now if fails else nothing), journal=tmp_path / "run.db").run(backend=backend)
    assert caplog.text.count("the disk is full") == 2
    assert caplog.text.count("failed: OSError: broken") == 2 * fails
