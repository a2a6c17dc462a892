"""No age of a running job lies ahead, whatever its options: in `explain`, the listing, `look` and on the page."""

from __future__ import annotations

import json
import re
from typing import Any

import anyio
import pytest

from trioflow import Answer, Job, Retry, Scheduler
from trioflow._core.words._run_view import runs_in_progress
from trioflow.view import listing
from trioflow.view.look._client import text_lines
from trioflow.view.look._console import WatchedRun, console, describe_job
from trioflow.view.look._process_record import describe_process
from trioflow.view.look._watch import Watch

from ..conftest import Virtual
from .all_views import NEGATIVE_DURATION

OPTIONS: list[dict[str, Any]] = [
    {}, {"timeout": 30}, {"idle_timeout": 30}, {"timeout": 30, "idle_timeout": 20}, {"forever": True, "timeout": 30},
    {"timeout": 30, "on_timeout": "move_on"}, {"timeout": 3, "retry": Retry(2, first=0)},
    {"own_task": True, "timeout": 30}, {"critical": False, "timeout": 30}, {"redact": True, "timeout": 30},
]  # fmt: skip


def texts_of_page(run: Any) -> str:
    watched, watch = WatchedRun(), Watch(run)
    watched.update(json.loads(json.dumps({"may_steer": True, **watch.answer()}, default=str)))
    panels = [describe_job(watched, key, watch.describe_one(key)) for key in watched.jobs]
    return json.dumps([console(watched, "", has_ended=False), *panels], default=str, ensure_ascii=False)


@pytest.mark.both_backends
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_age_of_a_running_job_lies_ahead(virtual: Virtual, options: dict[str, Any]) -> None:
    """Each running job with a timeout was "cancelled -29.5 s ago", in place of its question if it asked one."""
    jobs = [Job(anyio.sleep, 5, label="task", **options), Scheduler(Job(anyio.sleep, 5), label="group", timeout=30)]
    if not {"idle_timeout", "forever"} & options.keys():
        jobs.append(Answer("deploy?", label="asks", **options))
    scheduler = Scheduler(*jobs, Job(anyio.sleep, 50, label="end"))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(4)
            texts = [*map(scheduler.explain, scheduler.iterate_jobs()), listing(scheduler, details=True)]
            texts += text_lines(1, {"command": ["x"], "runs": describe_process()["runs"]}, 200)
            texts.append(texts_of_page(*runs_in_progress()))
            assert not [text for text in texts if NEGATIVE_DURATION.search(text) or re.search("cancelled .* ago", text)]
            asks = len(jobs) > 2 and not options.get("redact")
            assert all("deploy?" in text for text in (texts[-1], "\n".join(texts)) if asks)
            scheduler.cancel()

    virtual(main)
