"""Twice as much of what a user can make large takes at most a little more than twice the steps."""

import functools
import itertools
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    CommandJob,
    CommandService,
    First,
    Job,
    PerKey,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Service,
    Trace,
)
from trioflow._core.job._labels import job_in
from trioflow.view import save
from trioflow.view._junit import xml_text
from trioflow.view.trace._trace_file import read_record
from trioflow.view.trace.report._report import report_html
from ..bodies import fail, later, nap, serve
from ..conftest import Virtual

PACKAGE = os.path.dirname(trioflow.__file__) + os.sep


def steps(call: Callable[[], object]) -> int:
    """Return how many lines of the package a call executes, each time that a loop comes back to one included."""
    count = 0

    def count_line(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return count_line

    def enter(frame: FrameType, _event: str, _argument: object) -> Any:
        return count_line if frame.f_code.co_filename.startswith(PACKAGE) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


async def take(*_: Any) -> None:
    await nap(1)


def jobs(n: int, **options: Any) -> list[Any]:
    return [Job(nap, 1, **options) for _ in range(n)]


def chain(n: int, **options: Any) -> list[Any]:
    found = jobs(n, **options)
    for earlier, user in itertools.pairwise(found):
        user.requires(earlier)
    return found


def nested(
    n: int, function: Any = nap, expected: float | None = None, **options: Any
) -> list[Any]:
    job: Any = Job(function, 1, expected_duration=expected)
    for _ in range(n):
        job = Scheduler(job)
    return [Scheduler(job, **options)]


def nested_from_outside(n: int, **options: Any) -> list[Any]:
    outer = inner = Scheduler(**options)
    for _ in range(n):
        inner = inner.add(Scheduler())
    inner.add(Job(nap, 1))
    return [outer]


def waiters(n: int, has: str = "", **options: Any) -> list[Any]:
    """Return jobs that await one which waits for what another holds; with `has`, for what they hold themselves."""

    async def wait() -> None:
        await awaited

    awaited = Job(nap, 1, needs={"wide": 999} if has else {"cpu": 9})
    waiting = [Job(wait, needs={has: 1} if has else None, **options) for _ in range(n)]
    return [Job(nap, 5, needs={"cpu": 1}, **options), *waiting, awaited]


POOL = {
    "cpu": 9, "wide": 999, "host": PerKey(1), "hosts": PerKey(Rate(requests=1, per=1)), "api": Rate(requests=9, per=1),
}  # fmt: skip
STRUCTURES: dict[str, Callable[..., list[Any]]] = {
    "jobs": jobs,
    "a chain": chain,
    "failures": lambda n, **options: [Job(fail, 1, **options) for _ in range(n)],
    "what failures block": lambda n, **options: [
        bad := Job(fail, 1, **options),
        *jobs(n, required=bad),
    ],
    "retries": lambda n, **options: [
        Job(fail, 1, retry=Retry(1, first=1), **options) for _ in range(n)
    ],
    "depth": nested,
    "depth with durations": functools.partial(nested, expected=1),
    "depth that is made from outside": nested_from_outside,
    "depth that fails": functools.partial(nested, function=fail),
    "groups": lambda n, **options: [
        Scheduler(Job(nap, 1), **options) for _ in range(n)
    ],
    "groups that fail": lambda n, **options: [
        Scheduler(Job(fail, 1), **options) for _ in range(n)
    ],
    "waiters": waiters,
    "waiters that hold what is awaited": functools.partial(waiters, has="wide"),
    "a First": lambda n, **options: [
        First(*[Job(fail, 1) for _ in range(n)], Job(nap, 1), **options)
    ],
    "a staggered First": lambda n, **options: [
        First(*[Job(fail, 1) for _ in range(n)], Job(nap, 1), stagger=99, **options)
    ],
    "keys": lambda n, **options: [
        Job(nap, 1, needs={"host": f"{number}"}, **options) for number in range(n)
    ],
    "jobs of one key": lambda n, **options: jobs(n, needs={"host": "a"}, **options),
    "keys with rates": lambda n, **options: [
        Job(nap, 1, needs={"hosts": f"{i}"}, **options) for i in range(n)
    ],
    "jobs of one rate": lambda n, **options: jobs(n, needs={"api": 1}, **options),
    "needs": lambda n, **options: jobs(n, needs={"cpu": 5}, **options),
    "arguments": lambda n, **options: [Job(take, jobs(n), **options)],
    "services": lambda n, **options: [
        *(Service(serve, **options) for _ in range(n)),
        Job(nap, 5),
    ],
    "forever jobs": lambda n, **options: [
        *jobs(n, forever=True, **options),
        Job(nap, 5),
    ],
}


@pytest.mark.parametrize("behind", [False, True], ids=["alone", "behind a failure"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_twice_as_much_takes_twice_the_steps(
    virtual: Virtual, structure: str, behind: bool
) -> None:
    """What is large is built, runs and ends in steps in proportion to its size, alone and after a failure."""
    logging.disable(logging.CRITICAL)

    def run(n: int) -> None:
        bad = Job(fail, 0.25)
        made = STRUCTURES[structure](
            n, **({"required": bad, "run_if": "settled"} if behind else {})
        )
        virtual(
            Scheduler(*[bad] * behind, *made, pool=Pool(**POOL), timeout=200).co_run
        )

    try:
        run(8)  # what is imported and cached at first does not count
        small, large = (steps(functools.partial(run, n)) for n in (20, 40))
    finally:
        logging.disable(logging.NOTSET)
    # Of what grows with the square, this finds as little as 2.3 would from 40 to 80.
    assert large <= 2.15 * small, (small, large)


async def look(*_: Any) -> None: ...


def limited(n: int, **options: Any) -> list[Any]:
    """Return groups whose jobs wait for a token, until a timeout ends them all."""
    groups = [Scheduler(jobs(5)) for _ in range(n // 5)]
    return [
        Scheduler(groups, jobs_window=anyio.CapacityLimiter(1), timeout=2, **options)
    ]


PARTS: dict[str, Callable[[int], Scheduler]] = {
    "a First": lambda n: First(*[Job(fail, 1) for _ in range(n)], Job(nap, 2)),
    "a First that waits for failures": lambda n: First(
        *[Job(fail, 0) for _ in range(n)], Job(nap, 1), stagger=1e6
    ),
    "a First that waits for its turns": lambda n: First(
        *[Job(nap, 1e6) for _ in range(n)], Job(nap, 1), stagger=1
    ),
    "a First of which all must succeed": lambda n: First(*jobs(n), enough=n, stagger=1),
    "calls of on_job_settled": lambda n: Scheduler(
        jobs(n), on_job_settled=lambda _: None
    ),
    "idle timeouts": lambda n: Scheduler(jobs(n, idle_timeout=2)),
    "backoffs": lambda n: Scheduler(
        [Job(fail, 1, retry=Retry(1, first=1)) for _ in range(n)]
    ),
    "failures": lambda n: Scheduler([Job(fail, 1) for _ in range(n)]),
    "failures that are not kept": lambda n: Scheduler(
        [Job(fail, 1) for _ in range(n)], keep_jobs=False
    ),
    "Adaptive": lambda n: Scheduler(jobs(n), jobs_window=trioflow.Adaptive(1, n)),
    "groups under a limiter": lambda n: Scheduler(limited(n)),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_with_hundreds_of_members_takes_steps_in_proportion(
    virtual: Virtual, part: str
) -> None:
    """What only some runs have looks at no more members for each when there are more: a turn once scanned all."""
    logging.disable(logging.CRITICAL)
    try:
        virtual(PARTS[part](8).co_run)
        small, large = (
            steps(functools.partial(virtual, PARTS[part](n).co_run)) for n in (200, 400)
        )
    finally:
        logging.disable(logging.NOTSET)
    assert large <= 2.15 * small, (small, large)


def test_a_job_that_a_first_holds_back_is_held_once_however_many_are_added(
    virtual: Virtual,
) -> None:
    def run(n: int) -> None:
        first = First(Job(nap, 9), Job(nap, 1), stagger=99)
        virtual(
            Scheduler(
                first, Job(later, 1, lambda: [first.add(Job(nap)) for _ in range(n)])
            ).co_run
        )

    run(8)
    small, large = (steps(functools.partial(run, n)) for n in (8, 16))
    assert large <= 4 * small, (small, large)


@pytest.mark.parametrize("behind", [False, True], ids=["alone", "behind a failure"])
@pytest.mark.parametrize("use", ["printed", "passed on"])
@pytest.mark.parametrize("kind", [CommandJob, CommandService])
def test_twice_as_much_output_takes_twice_the_steps(
    backend: Any, kind: Any, use: str, behind: bool
) -> None:
    """Lines that are printed, or passed to a function, each take the same number of steps."""

    def run(n: int) -> None:
        options: dict[str, Any] = (
            {"on_line": lambda *_: None}
            if use == "passed on"
            else {"tag": kind is CommandJob}
        )
        if kind is CommandService:
            options["ready"] = trioflow.OutputLine(f"{n}")
        job = kind(
            f"seq {n}; {'exec sleep 99' * (kind is CommandService)}",
            shell=True,
            **options,
        )
        bad = Job(fail, 0, critical=False)
        if behind:
            job.requires(bad, settled=True)
        assert Scheduler(*[bad] * behind, job, Job(nap, 0, required=job)).run(
            backend=backend
        )

    run(8)
    small, large = (steps(functools.partial(run, n)) for n in (500, 1000))
    assert large <= 2.3 * small, (small, large)


def test_a_long_text_with_many_ends_of_jobs_texts_takes_no_longer() -> None:
    """A stranger's text as an argument, while a job that was logged has not settled, once stopped the loop for 1 s."""
    logged = Job(nap, label="logged")
    assert job_in(f"hello {logged}") is logged
    for piece in ("<, idle>", "<" * 280 + ", idle>"):
        small, large = (
            steps(functools.partial(job_in, piece * n)) for n in (500, 1000)
        )
        assert small == large


def trace_of_waits(spans: Any, runs: Any, n: int) -> None:
    waits = [
        {
            "cause": "slot",
            "resource": f"n{i}",
            "since": 0.0,
            "until": i * 1e-6,
            "released_by": 0,
        }
        for i in range(n)
    ]
    spans.append({**spans[0], "number": 1, "waits": waits})
    runs[0]["member_numbers"] = [0, 1]


def trace_of_depth(spans: Any, runs: Any, n: int, state: str) -> None:
    spans += [
        {**spans[0], "number": i, "parent": i - 1, "state": state} for i in range(1, n)
    ]
    runs += [{**runs[0], "parent": i - 1, "member_numbers": [i]} for i in range(1, n)]


def trace_of_runs(spans: Any, runs: Any, n: int) -> None:
    runs += [{**runs[0], "member_numbers": [], "label": f"r{i}"} for i in range(n)]


TRACES: dict[str, Callable[[Any, Any, int], None]] = {
    "waits with different names": trace_of_waits,
    "runs": trace_of_runs,
    "depth": functools.partial(trace_of_depth, state="succeeded"),
    "depth that was blocked": functools.partial(trace_of_depth, state="blocked"),
    "depth that failed": functools.partial(trace_of_depth, state="failed"),
}


@pytest.mark.usefixtures("no_dot")
@pytest.mark.parametrize("kind", TRACES)
@pytest.mark.parametrize("form", ["report", "JUnit"])
def test_report_of_twice_the_trace_takes_twice_steps(
    virtual: Virtual, tmp_path: Path, kind: str, form: str
) -> None:
    """Whoever sends a trace does not keep its reader busy: twice as much in it takes twice the steps, and text."""
    trace, path = Trace(), tmp_path / "trace.json"
    virtual(
        functools.partial(
            Scheduler(Job(nap, 1), Job(fail, 1)).co_run, instruments=[trace]
        )
    )
    save(trace, path)
    saved, text = path.read_text(encoding="utf-8"), ""

    def report(n: int) -> int:
        document = json.loads(saved)
        record = document["record"]
        failure, *_ = record["failures"].values()
        del record["spans"][1:]
        record["runs"][0].update(member_numbers=[0], culprit_number=None)
        TRACES[kind](record["spans"], record["runs"], n)
        record["failures"] = {
            span["number"]: failure
            for span in record["spans"]
            if span["state"] == "failed"
        }
        record.update(families=["x"] * len(record["spans"]), stored_graphs=[])
        path.write_text(json.dumps(document), encoding="utf-8")

        def read_and_write() -> None:
            nonlocal text
            record = read_record(path)
            text = (
                report_html(record, tmp_path) if form == "report" else xml_text(record)
            )

        return steps(read_and_write) + len(text)

    _, small, large = map(
        report, (8, 60, 120)
    )  # what is imported and cached at first does not count
    assert large <= 2.3 * small, (small, large)
