"""Text, JSON, page and monitor say the same of a run in progress: counts, slots, waits, failures, time left."""

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any
import anyio
import pytest
from trioflow import Adaptive, Answer, First, Job, JobState, Pool, Retry, Scheduler
from trioflow._core.words._run_view import runs_in_progress
from trioflow.view import _estimate, listing
from trioflow.view.look import _process_record
from trioflow.view.look._client import text_lines
from trioflow.view.look._console import WatchedRun, console, describe_job
from trioflow.view.look._process_record import describe_process
from trioflow.view.look._watch import Watch
from trioflow.view.monitor._model import RunModel
from ..bodies import fail, nap, running
from ..conftest import Virtual
from .agreement import RememberingMonitor
from .all_views import NEGATIVE_DURATION
from .kinds_of_runs import KINDS as KINDS_OF_RUNS
from .monitor.monitors import Terminal

LOOKS = 0.5, 1.25, 2.5, 3.75


def forever_group() -> Scheduler:
    group = Scheduler(
        Job(nap, 90, label="serves"),
        Job(anyio.sleep_forever, forever=True),
        label="beside",
        forever=True,
    )
    return Scheduler(
        group,
        [Job(nap, 2, label=f"job {n}") for n in range(4)],
        jobs_window=2,
        label="night",
    )


def failed_groups() -> Scheduler:
    """Return a run in which a group times out, a tolerated one fails, and a `First` has lost a way."""
    late = Scheduler(
        Job(nap, 9, label="slow"), Job(nap, 9, label="next"), timeout=1, label="late"
    )
    tolerated = Scheduler(
        Job(fail, 1, label="bad"),
        Job(nap, 3, label="good"),
        label="tolerated",
        critical_jobs=False,
    )
    won = Scheduler(First(Job(nap, 9, label="won"), label="again"), label="way")
    first = First(Job(fail, 1, label="lost"), won, label="first")
    inner = Scheduler(
        Job(nap, 9, label="deep"), timeout=1, label="inner", critical=True
    )

    async def grow() -> None:
        if len(retried) == 2:
            retried.add(Scheduler(Job(nap, 9), timeout=0.5, label="added"))

    retried = Scheduler(
        inner,
        Job(grow, label="grow"),
        label="retried",
        retry=Retry(1, first=1, jitter=False),
    )
    return Scheduler(
        late,
        tolerated,
        first,
        retried,
        Job(nap, 5, label="last", required=tolerated),
        label="night",
    )


def waiting_first() -> Scheduler:
    holder = Job(nap, 3, label="holds", needs={"licence": 1})
    ways = [Job(nap, 1, label=f"way {n}", needs={"licence": 1}) for n in range(2)]
    return Scheduler(
        holder,
        First(*ways, label="first"),
        Job(nap, 5, label="other"),
        pool=Pool(licence=1),
        label="night",
    )


def paused() -> Scheduler:
    async def pause() -> None:
        await anyio.sleep(1)
        scheduler.pause()
        await anyio.sleep(2)
        scheduler.resume()

    jobs = [Job(nap, 2, label=f"job {n}") for n in range(5)]
    scheduler = Scheduler(jobs, Job(pause, label="pause"), jobs_window=3, label="night")
    return scheduler


def waits() -> Scheduler:
    """Return a run of two lines for slots, one for a licence, and jobs that wait for others."""
    mirror = Scheduler(
        [Job(nap, 1, label=f"fetch {n}") for n in range(7)],
        label="mirror",
        jobs_window=1,
    )
    build = Scheduler(
        [Job(nap, 2, label=f"compile {n}", needs={"licence": 1}) for n in range(5)],
        label="build",
    )
    return Scheduler(
        mirror,
        build,
        Job(nap, required=mirror),
        pool=Pool(licence=2),
        jobs_window=3,
        label="two",
    )


KINDS: dict[str, Callable[[], Scheduler]] = {
    **KINDS_OF_RUNS,
    "forever group": forever_group,
    "failed groups": failed_groups,
    "waiting First": waiting_first,
    "paused": paused,
    "waits": waits,
    "adaptive": lambda: Scheduler(
        [Job(nap, 1) for _ in range(9)], jobs_window=Adaptive(3, 9), label="night"
    ),
    "estimated": lambda: Scheduler(
        [Job(nap, 1, label=f"n{n}") for n in range(20)], jobs_window=4, label="night"
    ),
}


def what_is_said(run: Any, model: RunModel) -> dict[str, dict[str, Any]]:
    """Return what text, JSON, page and monitor say at this moment, by subject and view."""
    record = _process_record._describe_run(run, {})
    record = json.loads(json.dumps(record))
    watched = WatchedRun()
    watched.update(json.loads(json.dumps(Watch(run).answer())))
    page, answer, progress = (
        console(watched, "", has_ended=False),
        watched.answer,
        model.progress(),
    )
    lines = list(text_lines(1, {"command": ["python"], "runs": [record]}))
    waiting = {JobState.IDLE.value, JobState.SCHEDULED.value}

    def merged(counts: dict[str, int]) -> dict[str, int]:
        """Return counts in which all that waits is idle, as a monitor counts it."""
        merged = Counter(
            {state: number for state, number in counts.items() if state not in waiting}
        )
        return dict(
            +merged + Counter(idle=sum(counts.get(state, 0) for state in waiting))
        )

    page_tally = watched.counted()[0]
    ready = [group for group in record["waiting"] if group["cause"] != "jobs"]
    page_counts = {state: count for _, _, count, state in page["counts"]}
    window = next(
        ([taken, size] for key, taken, size, _ in answer["windows"] if key is None),
        None,
    )
    said: dict[str, dict[str, Any]] = {
        "counts": {
            "JSON": merged(record["counts"]),
            "page": merged(page_tally.counts_by_state()),
            "monitor": merged(progress.tally.counts_by_state()),
        },
        "the words for counts": {
            "text": lines[2].partition("  ")[2],
            "page": page_tally.describe(),
        },
        "the sum of all jobs": {
            "page": sum(page_counts.values()),
            "monitor": progress.tally.job_count,
        },
        "failed groups": {
            "page": page_tally.failed_groups,
            "monitor": progress.tally.failed_groups,
        },
        "slots": {
            "JSON": None
            if record["window"] is None
            else [record["slots_taken"], record["window"]],
            "page": None if window is None or window[1] is None else window,
            "monitor": None if progress.slots is None else [*progress.slots],
            "text": next(
                (
                    [*map(int, re.findall("[0-9]+", line))][::-1]
                    for line in lines
                    if line.startswith("  window: ")
                ),
                None,
            ),
        },
        "waits": {
            "JSON": [[len(group["paths"]), group["explanation"]] for group in ready],
            "page": [[count, text] for _, _, count, text in answer["waiting"]],
        },
        "pause": {
            "JSON": record["pause"],
            "page": page["paused"],
            "monitor": progress.phase_text,
        },
        "left": {
            "JSON": record["left"],
            "page": answer["left"],
            "monitor": getattr(model.estimate.time_left(), "seconds", None),
        },
        "failures": {
            "JSON": sorted(
                [len(failure["paths"]), failure["headline"]]
                for failure in record["failures"]
            ),
            "page": sorted(
                [count, headline] for _, count, _, headline, *_ in page["failed"]
            ),
        },
    }
    if not all(
        scheduler.keep_jobs for scheduler in (run.scheduler, *nested(run.scheduler))
    ):
        del said["failures"]  # what was dropped is in none of them
    return said


def nested(scheduler: Scheduler) -> list[Any]:
    return [job for job in scheduler.iterate_jobs() if isinstance(job, Scheduler)]


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
def test_all_views_say_same_of_run_in_progress(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The page once grouped waits otherwise, counted slots by another rule, and lacked groups that had failed."""
    monkeypatch.setattr(_estimate, "PAUSE_FACTOR", 0)  # each asks at the same moment
    scheduler, monitor = KINDS[kind](), RememberingMonitor(file=Terminal())
    found = dict[float, dict[str, dict[str, Any]]]()

    async def look() -> None:
        before = 0.0
        for moment in LOOKS:
            await anyio.sleep(moment - before)
            before = moment
            (run,) = runs_in_progress()
            found[moment] = what_is_said(run, monitor.model)

    scheduler.add(Job(look, label="who looks", forever=True))
    virtual(lambda: scheduler.co_run(instruments=[monitor]))
    assert found
    for moment, said in found.items():
        for subject, by_view in said.items():
            values = list(by_view.values())
            assert all(value == values[0] for value in values), (
                kind,
                moment,
                subject,
                by_view,
            )


# --- no age of a running job lies ahead, whatever its options: in `explain`, the listing, `look` and on the page

OPTIONS: list[dict[str, Any]] = [
    {}, {"timeout": 30}, {"idle_timeout": 30}, {"timeout": 30, "idle_timeout": 20}, {"forever": True, "timeout": 30},
    {"timeout": 30, "on_timeout": "move_on"}, {"timeout": 3, "retry": Retry(2, first=0)},
    {"own_task": True, "timeout": 30}, {"critical": False, "timeout": 30}, {"redact": True, "timeout": 30},
]  # fmt: skip


def texts_of_page(run: Any) -> str:
    watched, watch = WatchedRun(), Watch(run)
    watched.update(
        json.loads(json.dumps({"may_steer": True, **watch.answer()}, default=str))
    )
    panels = [
        describe_job(watched, key, watch.describe_one(key)) for key in watched.jobs
    ]
    return json.dumps(
        [console(watched, "", has_ended=False), *panels],
        default=str,
        ensure_ascii=False,
    )


@pytest.mark.both_backends
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_age_of_a_running_job_lies_ahead(
    virtual: Virtual, options: dict[str, Any]
) -> None:
    """Each running job with a timeout was "cancelled -29.5 s ago", in place of its question if it asked one."""
    jobs = [
        Job(anyio.sleep, 5, label="task", **options),
        Scheduler(Job(anyio.sleep, 5), label="group", timeout=30),
    ]
    if not {"idle_timeout", "forever"} & options.keys():
        jobs.append(Answer("deploy?", label="asks", **options))
    scheduler = Scheduler(*jobs, Job(anyio.sleep, 50, label="end"))

    async def main() -> None:
        async with running(scheduler, 4):
            texts = [
                *map(scheduler.explain, scheduler.iterate_jobs()),
                listing(scheduler, details=True),
            ]
            texts += text_lines(
                1, {"command": ["x"], "runs": describe_process()["runs"]}, 200
            )
            texts.append(texts_of_page(*runs_in_progress()))
            assert not [
                text
                for text in texts
                if NEGATIVE_DURATION.search(text) or re.search("cancelled .* ago", text)
            ]
            asks = len(jobs) > 2 and not options.get("redact")
            assert all(
                "deploy?" in text for text in (texts[-1], "\n".join(texts)) if asks
            )
            scheduler.cancel()

    virtual(main)
