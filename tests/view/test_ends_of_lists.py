"""Where a list of a view ends before all that it is about, it says of how many more; at the bound, it says nothing."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import Job, Pool, Rate, Retry, Scheduler, Throttled, Trace
from trioflow._core.base._text_forms import MAX_LISTED_NAMES
from trioflow._core.words._job_queries import throttled_attempts
from trioflow._core.words._run_view import runs_in_progress
from trioflow.view.look import _console, _page, _run_log, _watch
from trioflow.view.look._console import WatchedRun
from trioflow.view.look._job_search import find_jobs
from trioflow.view.text._debrief import Debrief
from trioflow.view.text._symbols import Symbols
from trioflow.view.trace import _time_spent
from trioflow.view.trace.report import _report
from ..bodies import Flaw, fail, fail_now, nap, nothing
from ..conftest import Virtual


def report(virtual: Virtual, folder: Path, *jobs: Any, **options: Any) -> str:
    trace = Trace()
    virtual(
        partial(Scheduler(*jobs, label="run", **options).co_run, instruments=[trace])
    )
    return _report.report_html(trace._get_record(), folder)


def alike(virtual: Virtual, folder: Path, number: int) -> tuple[int, list[str]]:
    """Jobs that failed alike: a list that opens."""
    page = report(
        virtual,
        folder,
        *(Job(fail_now, Flaw("x"), label=f"bad {n}") for n in range(number)),
        critical_jobs=False,
    )
    [rows] = re.findall(r"<ul>(.*?)</ul></details>", page)
    return rows.count("data-number"), re.findall(
        r"<li>and (\d+) more, which are in the table", rows
    )


def kinds(virtual: Virtual, folder: Path, number: int) -> tuple[int, list[str]]:
    """Kinds of failures: the first are unfolded, and one alone is not folded."""
    errors = [type(f"Error{n}", (Exception,), {}) for n in range(number)]
    page = report(
        virtual,
        folder,
        *(Job(fail, 0, error()) for error in errors),
        critical_jobs=False,
    )
    open_part, _, _ = page.partition('<details class="others">')
    return open_part.count('<article class="failure">'), re.findall(
        r"<summary>(\d+) other kinds of failures", page
    )


def reasons(virtual: Virtual, folder: Path, number: int) -> tuple[int, list[str]]:
    """Reasons for which jobs did not run, that are no failures: each has a cancelled job, and two behind it."""
    ends = [Job(anyio.sleep_forever, label=f"end {n}") for n in range(number)]
    behind = [
        Job(nothing, label=f"{name} {end.label}", required=end)
        for end in ends
        for name in ("one", "two")
    ]

    async def cancel() -> None:
        await anyio.sleep(1)
        for end in ends:
            end.cancel()

    page = report(virtual, folder, ends, behind, Job(cancel))
    more = re.findall(r"<p>(\d+) jobs more did not run, for (\d+) other reason", page)
    return len(re.findall("<p>2 jobs did not run, because", page)), [
        of for jobs, of in more if int(jobs) == 2 * int(of)
    ]


def forever(virtual: Virtual, folder: Path, number: int) -> tuple[int, list[str]]:
    jobs = [
        Job(anyio.sleep_forever, label=f"ever {n}", forever=True) for n in range(number)
    ]
    page = report(virtual, folder, *jobs, Job(nap, 1))
    [rows] = re.findall(r'id="forever".*?<ul>(.*?)</ul>', page, re.DOTALL)
    assert f"<summary>{number} forever jobs</summary>" in page
    return rows.count("<li><b>"), re.findall(r"and (\d+) more", rows)


def families(virtual: Virtual, folder: Path, number: int) -> tuple[int, list[str]]:
    """Families in the report, which has them if any has two jobs."""
    jobs = [
        Job(nap, 1, label=label)
        for label in ("two 1", "two 2", *("x" * (n + 1) for n in range(number - 1)))
    ]
    page = report(virtual, folder, *jobs)
    [rows] = re.findall(
        r'<div class="card scroll families".*?<tbody>(.*?)</tbody>', page, re.DOTALL
    )
    return rows.count("<tr>"), re.findall(r"and (\d+) more, which took less time", page)


def not_run(virtual: Virtual, folder: Path, number: int) -> tuple[int, list[str]]:
    """Failures in the debrief that kept jobs from running."""
    jobs = [
        Job(fail, 0, type(f"Error{n}", (Exception,), {})(), label=f"bad {n}")
        for n in range(number)
    ]
    scheduler = Scheduler(jobs, [Job(nothing, required=job) for job in jobs])
    virtual(scheduler.co_run)
    lines = Debrief(scheduler, Symbols()).not_run_paragraph().splitlines()
    return sum("because bad" in line for line in lines), re.findall(
        r"(\d+) more, because", lines[-1]
    )


def looked(
    virtual: Virtual, use: Callable[[WatchedRun], Any], *jobs: Any, **options: Any
) -> Any:
    run, told = WatchedRun(), list[Any]()

    async def look() -> None:
        await anyio.sleep(1)
        watch = _watch.Watch(runs_in_progress()[0])
        while run.answer["number"] == 0 or run.answer["more"]:
            run.update(json.loads(json.dumps({"may_steer": False, **watch.answer()})))
        told.append(use(run))

    virtual(
        Scheduler(
            *jobs,
            Job(look, forever=True, label="look"),
            label="run",
            critical_jobs=False,
            **options,
        ).co_run
    )
    return told[0]


def links(virtual: Virtual, folder: Path, number: int) -> tuple[int, list[str]]:
    """Requirements of the chosen job."""
    jobs = [Job(nap, 9, label=f"before {n}") for n in range(number)]

    def use(run: WatchedRun) -> Any:
        [key] = [
            key for key, (_, facts) in run.jobs.items() if facts.span.label == "last"
        ]
        return _console.describe_job(run, key, {})["requires"]

    rows = looked(virtual, use, jobs, Job(nothing, required=jobs, label="last"))
    return sum(key is not None for key, *_ in rows), re.findall(
        r"and (\d+) more", str([row for row in rows if row[0] is None])
    )


def names(virtual: Virtual, folder: Path, number: int) -> tuple[int, list[str]]:
    """Names in a line of the page."""
    bad = [Job(fail, 0, label=f"bad{n}") for n in range(number)]
    [row] = looked(
        virtual,
        lambda run: _console.console(run, "", False)["failed"],
        *bad,
        Job(nap, 9),
    )
    return row[2].count("bad"), re.findall(r"and (\d+) more", row[2])


def resources(virtual: Virtual, folder: Path, number: int) -> tuple[int, list[str]]:
    pool = Pool(**{f"gpu{n}": 1 for n in range(number)})
    texts = looked(
        virtual,
        lambda run: _console.console(run, "", False)["beside"],
        Job(nap, 9),
        pool=pool,
    )
    return sum("gpu" in text for text in texts), re.findall(
        r"and (\d+) more resources", " ".join(texts)
    )


def news(virtual: Virtual, folder: Path, number: int) -> tuple[int, list[str]]:
    """Lines of the log; the page counts all."""
    kinds = [type(f"Error{n}", (Exception,), {}) for n in range(number)]
    bad = [Job(fail, 0, kind(), label=f"bad{n}") for n, kind in enumerate(kinds)]
    log = looked(
        virtual, lambda run: _run_log.log(run, "", _page.MAX_NEWS), *bad, Job(nap, 9)
    )
    more = log["count"] - len(log["lines"])
    return len(log["lines"]), [str(more)] if more else []


LISTS: dict[Any, int] = {
    alike: 100, reasons: 10, forever: 100, families: _time_spent.MAX_FAMILIES, not_run: MAX_LISTED_NAMES,
    links: _console.MAX_LINKS, names: _console.MAX_NAMED, resources: _console.MAX_RESOURCES, news: _page.MAX_NEWS,
}  # fmt: skip


@pytest.mark.parametrize("beyond", [0, 1, pytest.param(2, marks=pytest.mark.ci)])
@pytest.mark.parametrize("make", LISTS, ids=lambda make: make.__name__)
def test_a_list_that_ends_early_says_of_how_many_more(
    virtual: Virtual, tmp_path: Path, make: Any, beyond: int
) -> None:
    shown, more = make(virtual, tmp_path, LISTS[make] + beyond)
    assert (shown, more) == (LISTS[make], [str(beyond)] if beyond else [])


@pytest.mark.parametrize("number", [3, 4, 5])
def test_one_kind_of_failures_alone_is_not_folded(
    virtual: Virtual, tmp_path: Path, number: int
) -> None:
    most = _report.MAX_UNFOLDED_GROUPS
    expected = (number, []) if number <= most + 1 else (most, [str(number - most)])
    assert kinds(virtual, tmp_path, number) == expected


def test_a_line_of_the_log_has_the_time_at_which_what_it_tells_ended(
    virtual: Virtual,
) -> None:
    """A throttle of a job was over when it waited again: no line stands before what it tells of."""
    throttles = [Throttled("api", after=0.01)]

    async def work() -> None:
        await anyio.sleep(0.5)
        if throttles:
            raise throttles.pop()
        await anyio.sleep(9)

    job = Job(work, label="job", needs={"api": 1}, log=False)
    entries = looked(
        virtual,
        lambda run: [
            (line.at, line.text)
            for line in _run_log._lines(run)
            if line.key is not None
        ],
        job,
        pool=Pool(api=Rate(requests=9, per=1)),
    )
    ((at, text),) = entries
    assert text == "was throttled after 500 ms"
    (throttle,) = throttled_attempts(job)
    assert at == throttle.ended


def test_a_member_that_waits_in_another_try_of_its_group_is_before_its_next_attempt(
    virtual: Virtual,
) -> None:
    """Also before it has started in this try."""
    first = Job(nap, 0.8, label="first")
    second = Job(fail, 0, label="second", required=first, critical=True)
    group = Scheduler(
        first, second, label="group", retry=Retry(1, first=0, jitter=False)
    )
    picture: Any = None
    (row,) = looked(
        virtual,
        lambda run: find_jobs(run, picture, "", "second")["jobs"],
        group,
    )
    assert row[-1] == "attempt 2"
    assert row[-3] == "idle"
