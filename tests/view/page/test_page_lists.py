"""What a page lists beside what runs, has failed and waits: questions to a person, what has happened, some jobs."""

import itertools
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any
import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import (
    Answer,
    Budget,
    CommandJob,
    First,
    Job,
    JobState,
    LocalNode,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Sequence,
    SshJob,
    ThreadJob,
    current_job,
)
from trioflow._core.words._run_view import runs_in_progress
from trioflow.abc import incidents_of
from trioflow.view import _print_ends
from trioflow.view.look import _client, _console, _run_log, _watch
from trioflow.view.look._console import WatchedRun
from trioflow.view.look._job_search import find_jobs
from trioflow.view.look._page import Page
from trioflow.view.look._picture import Picture
from trioflow.view.monitor._output_buffer import LogOutput, PassedOutput
from ...bodies import Flaw, fail, fail_now, flaky, nap, nothing, refuse
from ...conftest import Virtual
from ...places import PATIENCE
from ...pythons import Python, python

pytestmark = pytest.mark.usefixtures("impatient", "answers", "no_dot")


def paged(
    backend: Any, use: Callable[[Page], None], *jobs: Any, **options: Any
) -> Scheduler:
    errors: list[BaseException] = []

    def look() -> None:
        page = Page(os.getpid(), None)
        page.ask()
        try:
            use(page)
        except BaseException as error:
            errors.append(error)
        page.steer({"do": "cancel", "seen": page._run.answer["seen"]})

    scheduler = Scheduler(
        ThreadJob(look, label="looking"), *jobs, label="night", **options
    )
    scheduler.run(backend=backend)
    for error in errors:
        raise error
    return scheduler


def until(page: Page, is_true: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Ask until the page shows something, and return its state."""
    deadline = time.monotonic() + PATIENCE
    while not is_true(state := page.state()):
        assert time.monotonic() < deadline, state
        page.ask()
    return state


def steer(page: Page, do: str, value: Any, key: int) -> dict[str, Any]:
    keys = value if do.startswith("try-again") else [key]
    marks = [page._run.attempt_mark(each) for each in keys]
    return page.steer(
        {
            "do": do,
            "value": value,
            "job": key,
            "seen": page._run.answer["seen"],
            "marks": marks,
        }
    )


def test_a_question_comes_first_and_is_answered_from_the_page(backend: Any) -> None:
    """It is not among what runs. A refused answer says why, a secret one hides itself alone, and the log says who."""
    approve = Answer("publish?", choices=["yes", "no"], label="approve")
    count = Answer("how many?", parse=int, label="count")
    secret = Answer("which\ntoken\x1b?", redact=True, label="secret")

    def use(page: Page) -> None:
        asks = {
            name: row
            for row in until(page, lambda state: len(state["asks"]) == 3)["asks"]
            for name in [row[1]]
        }
        assert asks["approve"][2:] == [
            "publish?",
            [["yes", "yes"], ["no", "no"]],
            False,
            "",
        ]
        assert asks["count"][2:] == ["how many?", None, False, ""]
        assert asks["secret"][2:5] == ["which\ntoken\\x1b?", None, True]
        assert [name for _, name, *_ in page.state()["running"]] == ["looking"]
        assert (
            "is no choice; choose yes or no"
            in steer(page, "answer", "maybe", asks["approve"][0])["error"]
        )
        assert (
            "invalid literal"
            in steer(page, "answer", "many", asks["count"][0])["error"]
        )
        assert "give it as text" in steer(page, "answer", 7, asks["count"][0])["error"]
        assert steer(page, "answer", "yes", asks["approve"][0]) == {
            "done": "'approve': answered 'yes'"
        }
        assert steer(page, "answer", "7", asks["count"][0]) == {
            "done": "'count': answered '7'"
        }
        assert steer(page, "answer", "abc", asks["secret"][0]) == {
            "done": "'secret': answered"
        }
        assert until(page, lambda state: not state["asks"])
        assert (
            "asks nothing now"
            in steer(page, "answer", "yes", page.state()["running"][0][0])["error"]
        )
        asked = page.log("asks")["lines"]
        assert [
            (kind, name, text)
            for _, kind, _, name, _, text in asked
            if name == "approve"
        ] == [("asks", "approve", "asks: publish?")]

    scheduler = paged(backend, use, approve, count, secret)
    assert (approve.result(), count.result(), secret.result()) == ("yes", 7, "abc")
    assert "abc" not in "".join(
        incident.message for incident in incidents_of(scheduler)
    )


def test_the_log_tells_what_happened_newest_first_also_between_two_questions(
    backend: Any,
) -> None:
    """The page learns of several words at once, and of a failure after them; each has its own time."""

    async def fail() -> None:
        [run] = runs_in_progress()
        for word in ("one", "two", "three"):
            run.report(None, word, is_steering=True)
        raise LookupError

    told: list[str] = []

    def use(page: Page) -> None:
        # An answer of a run describes its words first, and its jobs later.
        assert until(page, lambda state: state["log"]["count"] == 4)
        told.extend(text.partition(" · ")[0] for *_, text in page.log("")["lines"])

    paged(backend, use, Job(fail))
    assert told == ["failed: LookupError", "three", "two", "one"]


def test_a_question_is_answered_once(backend: Any) -> None:
    """Of several answers at once, one counts; the others say that nothing is asked, and so does a later one."""
    ask = Answer("publish?", label="approve")
    told: list[dict[str, Any]] = []

    def use(page: Page) -> None:
        [row] = until(page, lambda state: state["asks"])["asks"]
        tries = [
            threading.Thread(
                target=lambda: told.append(steer(page, "answer", "yes", row[0]))
            )
            for _ in range(4)
        ]
        for each in tries:
            each.start()
        for each in tries:
            each.join()
        assert until(page, lambda state: not state["asks"])
        told.append(steer(page, "answer", "no", row[0]))

    scheduler = paged(backend, use, ask)
    assert [answer for answer in told if "error" not in answer] == [
        {"done": "'approve': answered 'yes'"}
    ]
    assert all(
        "asks nothing now" in answer["error"] or "has ended" in answer["error"]
        for answer in told
        if "error" in answer
    )
    assert (len(told), ask.result(), len(incidents_of(scheduler))) == (5, "yes", 2)


def test_a_question_whose_answer_cannot_be_used_goes_until_it_can(backend: Any) -> None:
    """A person was asked, although what needed the answer could not run any more; the head counts who is asked."""
    is_broken = threading.Event()
    is_broken.set()

    async def work() -> None:
        if is_broken.is_set():
            raise ValueError("broken")

    build, approve = Job(work, label="build"), Answer("publish?", label="approve")
    jobs = [
        build,
        approve,
        Job(nothing, required=(build, approve)),
        Answer("more?", label="other"),
    ]

    def use(page: Page) -> None:
        state = until(
            page,
            lambda state: (
                [row[1] for row in state["asks"]] == ["other"] and state["failed"]
            ),
        )
        assert {name for _, name, *_ in state["running"]} == {"looking", "approve"}
        assert ["running", " (1 waiting for a person)", 3, "running"] in state["counts"]
        is_broken.clear()
        assert "error" not in steer(
            page, "try-again", [state["failed"][0][0]], state["failed"][0][0]
        )
        assert until(
            page,
            lambda state: [row[1] for row in state["asks"]] == ["approve", "other"],
        )

    paged(backend, use, jobs)


def test_what_was_cancelled_alone_can_be_tried_again_from_its_panel(
    backend: Any,
) -> None:
    """As `try_again()` allows; not what was blocked. Failed groups are counted beside the jobs."""
    job, fine = Job(anyio.sleep_forever, label="job"), Job(nothing, label="fine")
    late = Scheduler(Job(anyio.sleep_forever), label="late", timeout=0.01)
    jobs = [job, fine, Job(nothing, required=job, label="blocked"), late]

    def use(page: Page) -> None:
        assert until(page, lambda state: state["settled"] == 2)
        keys, seen = (
            {facts.span.label: key for key, (_, facts) in page._run.jobs.items()},
            page._run.answer["seen"],
        )
        assert steer(page, "cancel", None, keys["job"])["done"].startswith(
            "'job': cancelled"
        )
        state = until(page, lambda state: state["settled"] == 4)
        assert state["beside"] == [", 1 group failed"]
        assert {name: page.job(seen, keys[name])["can_retry"] for name in ("job", "fine", "blocked", "late")} == {
            "job": True, "fine": True, "blocked": False, "late": True,
        }  # fmt: skip
        assert "error" not in steer(page, "try-again", [keys["job"]], keys["job"])
        assert until(page, lambda state: state["settled"] == 2)

    paged(backend, use, jobs)


def test_what_has_succeeded_runs_again_from_its_panel_which_says_with_how_many(
    backend: Any,
) -> None:
    """The button has another name than after a failure, and asks with what else; what runs with it is cancelled."""
    collect, alone = Job(nothing, label="collect"), Job(nothing, label="alone")
    upload = Job(refuse, collect, label="upload")
    base, goes_on = (
        Job(nothing, label="base"),
        Job(anyio.sleep_forever, label="goes on"),
    )
    jobs = [collect, alone, upload, Job(nothing, required=upload), base, goes_on]
    goes_on.requires(base)

    def use(page: Page) -> None:
        assert until(
            page,
            lambda state: (state["settled"], state["running_count"]) == (5, 2),
        )
        keys, seen = (
            {facts.span.label: key for key, (_, facts) in page._run.jobs.items()},
            page._run.answer["seen"],
        )
        told = {
            name: page.job(seen, keys[name])
            for name in ("collect", "alone", "upload", "base")
        }
        assert {
            name: (job["can_retry"], *job["retry"]) for name, job in told.items()
        } == {
            "collect": (
                True,
                "try-again",
                "Run again",
                "Run it again, and 2 jobs that used it?",
            ),
            "alone": (True, "try-again", "Run again", "Run it again?"),
            "upload": (True, "try-again", "Try again", ""),
            "base": (
                True,
                "try-again --cancel",
                "Run again",
                "Cancel goes on? Run it again, and 1 job that used it?",
            ),
        }
        assert (
            "goes on"
            in steer(page, "try-again", [keys["upload"], keys["base"]], keys["base"])[
                "error"
            ]
        )
        assert upload.is_settled()
        assert steer(page, "try-again", [keys["collect"]], keys["collect"])[
            "done"
        ].startswith("'collect': tried again")
        assert until(
            page,
            lambda state: (
                state["settled"] == 5 and collect.attempts == upload.attempts == 2
            ),
        )
        assert steer(page, "try-again", [keys["base"]], keys["base"])["error"] == (
            "try_again() of 'base': what follows it is running: 'goes on'; cancel() that first, or wait; "
            "try-again --cancel does both"
        )
        assert steer(page, "try-again --cancel", [keys["base"]], keys["base"])[
            "done"
        ].startswith("'base': tried again")
        assert until(page, lambda state: base.attempts == goes_on.attempts == 2)

    paged(backend, use, jobs)


def test_what_waits_for_different_things_is_not_said_to_wait_as_the_first(
    backend: Any,
) -> None:
    jobs = [
        Job(fail_now, OSError(error), label=error, retry=Retry(1, first=600))
        for error in ("one", "two")
    ]
    users = [Job(nothing, required=job) for job in jobs]

    def use(page: Page) -> None:
        start = "the first will be retried in "
        assert until(
            page,
            lambda state: [row[4][: len(start)] for row in state["waiting"]] == [start],
        )
        [run] = _client.ask(os.getpid())["runs"]
        texts = [group["explanation"] for group in run["waiting"]]
        assert sorted(text[:15] for text in texts) == [
            "the first waits",
            "the first will ",
        ]

    paged(backend, use, jobs, users)


def test_what_a_question_shows_is_printable_and_its_values_are_as_they_are(
    backend: Any,
) -> None:
    """A choice that reverses the text around it could not be told from another one; the answer is the very choice."""
    ask = Answer("a\x1b[31m?", choices=["ye\u202es\x07", "<b>no</b>"], label="b\x07")

    def use(page: Page) -> None:
        [row] = until(page, lambda state: state["asks"])["asks"]
        [[value, text], [markup, _]] = row[3]
        assert (row[1], row[2], text) == (r"b\x07", r"a\x1b[31m?", r"ye\u202es\x07")
        assert (value, markup) == ("ye\u202es\x07", "<b>no</b>")
        assert "error" not in steer(page, "answer", value, row[0])
        assert until(page, lambda state: not state["asks"])

    paged(backend, use, ask)
    assert ask.result() == "ye\u202es\x07"


def test_the_log_has_what_happened_and_not_what_went_well(backend: Any) -> None:
    """Failed attempts, failures, jobs that moved on, who steered; the newest first, each leads to its job."""
    late = Job(anyio.sleep_forever, timeout=0.01, on_timeout="move_on", label="late")
    inner = Scheduler(
        Job(flaky(seconds=0, error=Flaw), label="flaky", retry=Retry(1, first=0)),
        label="inner",
    )
    bad = Job(fail_now, ValueError("broken"), critical=False, label="bad")

    def use(page: Page) -> None:
        assert until(page, lambda state: state["settled"] == 4)
        page.steer({"do": "pause", "seen": page._run.answer["seen"]})
        assert until(page, lambda state: state["log"]["count"] == 4)
        lines = page.log("")["lines"]
        told = {(kind, name): text for _, kind, _, name, _, text in lines}
        assert told["retried", "inner/flaky"] == "attempt 1 failed: Flaw"
        assert told["failed", "bad"].startswith(
            "failed, which is tolerated: ValueError: broken · bodies.py:"
        )
        assert told["moved-on", "late"] == "its timeout ended it, and the run goes on"
        assert told["steered", ""].startswith("'night': paused by trioflow look")
        assert lines[0][1] == "steered"
        assert [line[3] for line in page.log("fLAW")["lines"]] == ["inner/flaky"]
        assert page.log("nowhere") == {"lines": [], "count": 0}
        key = page.log("moved timeout")["lines"] or page.log("timeout")["lines"]
        assert page.job(page._run.answer["seen"], key[0][2])["name"] == "late"

    paged(backend, use, late, inner, bad, Job(nothing, label="fine"))


def test_the_log_tells_the_failure_of_a_member_once(backend: Any) -> None:
    """A group that is tried again has failed through its member, which has the line; its own failures have theirs."""
    inner = Scheduler(
        Job(flaky(seconds=0), label="flaky"), Job(nothing, label="fine"), label="inner"
    )
    slow = Scheduler(
        Job(anyio.sleep_forever, label="asleep"), label="slow", timeout=0.01
    )

    def use(page: Page) -> None:
        # A group ends after its members.
        assert until(
            page,
            lambda state: (
                (state["settled"], state["beside"]) == (3, [", 1 group failed"])
            ),
        )
        page.steer({"do": "try-again", "seen": page._run.answer["seen"]})
        assert until(page, lambda state: {"inner/flaky", "slow"} <= {*retried(page)})
        told = retried(page)
        assert told["inner/flaky"] == "attempt 1 failed: OSError"
        assert "inner" not in told
        assert told["slow"].startswith("attempt 1 failed: ")

    def retried(page: Page) -> dict[str, str]:
        return {
            name: text
            for _, kind, _, name, _, text in page.log("")["lines"]
            if kind == "retried"
        }

    paged(backend, use, inner, slow)


def test_an_attempt_that_did_not_fail_has_no_mark_of_a_failure(backend: Any) -> None:
    """What succeeded or was cancelled, and was tried again, had the mark of an attempt that failed, or "failed"."""
    fine, asleep = Job(nothing, label="fine"), Job(anyio.sleep_forever, label="asleep")

    def use(page: Page) -> None:
        assert until(
            page, lambda state: state["settled"] == 1 and state["running_count"] == 2
        )
        keys = {facts.span.label: key for key, (_, facts) in page._run.jobs.items()}
        assert "error" not in steer(page, "cancel", None, keys["asleep"])
        assert until(page, lambda state: state["settled"] == 2)
        for label in ("fine", "asleep"):
            assert "error" not in steer(page, "try-again", [keys[label]], keys[label])
        told = {
            ("fine", "succeeded", "attempt 1 succeeded"),
            ("asleep", "cancelled", "attempt 1 was cancelled"),
        }
        assert until(
            page,
            lambda state: (
                told <= {(line[3], line[1], line[5]) for line in state["log"]["lines"]}
            ),
        )

    paged(backend, use, fine, asleep)


def test_the_page_has_what_is_left_of_each_resource(backend: Any) -> None:
    """As `trioflow look` has it: what is spent of a budget, as in the monitor; a pool once, with its group."""
    pool = Pool(usd=Budget(5), api=Rate(requests=200, per=3600))
    inner = Scheduler(
        Job(anyio.sleep_forever, needs={"gpu": 1}), label="inner", pool=Pool(gpu=2)
    )
    same = Scheduler(
        Job(anyio.sleep_forever, needs={"usd": 0.5}), label="same", pool=pool
    )

    def use(page: Page) -> None:
        texts = until(page, lambda state: state["running_count"] == 4)["beside"]
        assert texts == [
            "usd 0 of 5 spent, 0.75 reserved",
            "api=199 of 200 requests",
            "inner: gpu=1 of 2 free",
        ]

    paged(
        backend,
        use,
        inner,
        same,
        Job(anyio.sleep_forever, needs={"usd": 0.25, "api": 1}),
        pool=pool,
    )


def test_the_log_says_that_a_job_did_not_run_for_a_spent_budget(backend: Any) -> None:
    """It was "failed: BudgetSpent", and the counts had no failure."""
    jobs = [
        Job(nothing, label=f"ask {number}", needs={"usd": 2}) for number in range(3)
    ]

    def use(page: Page) -> None:
        state = until(page, lambda state: state["settled"] == 3)
        [line] = state["log"]["lines"]
        assert (line[1], line[3]) == ("blocked", "ask 1, ask 2")
        assert re.match("(the last: )?did not run: ", line[5])
        assert state["failed_count"] == 2

    paged(
        backend,
        use,
        *jobs,
        pool=Pool(usd=Budget(3)),
        critical_jobs=False,
        jobs_window=2,
    )


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from("abcd")), max_size=30))
def test_the_log_is_newest_first_also_of_merged_lines(
    events: list[tuple[int, str]],
) -> None:
    """The time of a merged line is that of its last event, and the times never grow downwards."""
    entries = [_run_log.Entry(at, None, kind, (kind,)) for at, kind in events]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_run_log, "_lines", lambda run: entries)
        patch.setattr(WatchedRun, "clock_time", lambda run, at: at)
        lines = _run_log.log(WatchedRun(), "")["lines"]
    times = [at for *_, at, _ in lines]
    assert times == sorted(times, reverse=True)
    assert {kind: at for kind, *_, at, _ in lines} == {
        kind: at for at, kind in sorted(events)
    }


def test_a_count_counts_what_is_meant_and_not_what_is_shown(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a list of the page ends before all that it is about, its count does not, and counts by state add up."""
    monkeypatch.setattr(_console, "MAX_RUNNING", 20)
    monkeypatch.setattr(_console, "MAX_FAILED", 5)
    monkeypatch.setattr(_watch, "MAX_EXPLAINED", 20)
    kinds = [
        type(f"Error{number}", (Exception,), {})
        for number in range(_console.MAX_FAILED + 3)
    ]
    numbers = range(max(_console.MAX_RUNNING, _watch.MAX_EXPLAINED) + 9)
    running = [Job(nap, 9, label=f"runs {number}") for number in numbers]
    waiting = [
        Job(nap, 9, label=f"waits {number}", needs={"gpu": 1}) for number in numbers
    ]
    failed = [
        Job(fail, 0, kind(), label=f"bad {number}")
        for kind in kinds
        for number in range(30)
    ]
    run, told = WatchedRun(), list[Any]()

    async def look() -> None:
        await anyio.sleep(1)
        watch = _watch.Watch(runs_in_progress()[0])
        while run.answer["number"] == 0 or run.answer["more"]:
            run.update(json.loads(json.dumps({"may_steer": False, **watch.answer()})))
        facts = _console.console(run, "", False)
        words = ["", "state running", "state scheduled", "state failed"]
        words += [f"failure {row[0]}" for row in facts["failed"]]
        told.append(
            [facts, *(find_jobs(run, Picture(run), which, "") for which in words)]
        )

    jobs = running, waiting, failed, Job(look, forever=True, label="who asks")
    virtual(Scheduler(*jobs, label="many", pool=Pool(gpu=1)).co_run)
    [[facts, *found]] = told
    counts = (
        len(numbers) + 2,
        len(numbers) - 1,
        len(failed),
    )  # one of those that wait has the gpu
    assert [each["count"] for each in found] == [
        sum(counts),
        *counts,
        *[30] * _console.MAX_FAILED,
    ]
    for each in found:
        assert (
            sum(int(count.split()[0]) for count in each["counts"].split(", "))
            == each["count"]
        )
        assert len(each["jobs"]) == min(each["count"], 200)
    assert (facts["running_count"], len(facts["running"])) == (
        counts[0],
        _console.MAX_RUNNING,
    )
    assert (facts["failed_count"], [row[1] for row in facts["failed"]]) == (
        counts[2],
        [30] * _console.MAX_FAILED,
    )
    explained = sum(row[2] for row in facts["waiting"])
    assert explained + facts["unexplained"] == counts[1] > explained


@pytest.mark.parametrize("number", [1, _console.MAX_BARS, _console.MAX_BARS + 9])
def test_the_timeline_has_what_runs_and_then_what_ended_last(
    virtual: Virtual, number: int
) -> None:
    """At most 60 bars: of more that run, those that have run for the longest time; else also those that ended last."""
    long = [Job(nap, 90, label=f"long {each}") for each in range(number)]
    short = [
        Job(nap, 0.1, label=f"short {each}") for each in range(_console.MAX_BARS + 9)
    ]
    late = Job(nap, 90, label="late", required=short[-1])
    run, told = WatchedRun(), list[Any]()

    async def look() -> None:
        run.update(
            json.loads(
                json.dumps(
                    {"may_steer": False, **_watch.Watch(runs_in_progress()[0]).answer()}
                )
            )
        )
        told.append(_console.console(run, "", False)["bars"])

    async def looks() -> None:
        await anyio.sleep(10)
        await look()

    virtual(
        Scheduler(
            long,
            Sequence(*short),
            late,
            Job(looks, forever=True),
            critical_jobs=False,
            timeout=20,
        ).co_run
    )
    [[_, bars]] = told
    labels = [name for _, name, *_ in bars]
    assert [short for *_, short in bars] == labels  # of names that are not long
    running = [job.label for job in (*long, late)]
    room = _console.MAX_BARS - len(running)
    ended = [job.label for job in short[-room:]] if room > 0 else []
    assert labels == [
        *running[: min(number, _console.MAX_BARS)],
        *ended,
        *["late"] * (number < _console.MAX_BARS),
    ]
    for _, name, style, start, end, _ in bars:
        assert 0 <= start <= end <= 100
        assert (
            (style, end) == ("running", 100)
            if name in running
            else style == "succeeded"
        )


def test_equal_lines_of_the_log_are_one_that_opens(backend: Any) -> None:
    """Ten jobs that fail alike were twenty lines; with words, the line has only the jobs that are meant."""
    jobs = [
        Job(
            fail_now, OSError("broken"), label=f"bad n{number}", retry=Retry(1, first=0)
        )
        for number in range(10)
    ]

    def use(page: Page) -> None:
        state = until(page, lambda state: state["settled"] == 10)
        rows = {row[1]: row for row in page.log("")["lines"]}
        assert sorted(rows) == ["failed", "retried"]
        for name, _, keys, names, _, _ in rows.values():
            assert (len(keys), names) == (10, "bad n0, bad n1, bad n2 and 7 more")
            found = page.find_jobs(state["seen"], f"log {name}", "")
            assert sorted(row[1] for row in found["jobs"]) == sorted(
                job.label for job in jobs
            )
        assert rows["retried"][5] == "attempt 1 failed: OSError: broken"
        [single, _] = page.log("bad n7")["lines"]
        assert (page._run.jobs[single[2]][1].span.label, single[3]) == (
            "bad n7",
            "bad n7",
        )
        assert page.find_jobs(state["seen"], "log nothing", "")["jobs"] == []

    paged(backend, use, jobs)


def test_a_row_of_several_says_whose_message_it_shows(backend: Any) -> None:
    """The error of one job was once shown as that of three."""
    sides = ("left", "left", "right", "right")
    jobs = [
        Job(fail_now, OSError(f"broken {side}"), label=f"bad {number}")
        for number, side in enumerate(sides)
    ]
    for earlier, job in itertools.pairwise(jobs):
        job.requires(earlier, settled=True)

    def use(page: Page) -> None:
        state = until(page, lambda state: state["settled"] == 4)
        [failure] = state["failed"]
        assert failure[3] == "the first: OSError: broken left"
        assert (state["failed_count"], state["marks"].keys() >= {*failure[6]}) == (
            4,
            True,
        )
        [line] = page.log("")["lines"]
        assert line[5].startswith("the last: failed: OSError: broken right")
        [line] = page.log("broken left")["lines"]
        assert line[5].startswith("failed: OSError: broken left")

    paged(backend, use, jobs[::-1])


def test_a_part_of_the_facts_is_not_shown(backend: Any) -> None:
    """Of many changes, an answer has some."""

    def use(page: Page) -> None:
        shown = page.state()
        page._run.answer = {**page._run.answer, "more": True}
        page.version += 1
        assert page.state() is shown

    paged(backend, use)


def test_the_members_of_a_first_are_listed(backend: Any) -> None:
    members = [Job(anyio.sleep_forever, label=label) for label in ("near", "far")]
    group = Scheduler(
        First(members, label="first"),
        Job(anyio.sleep_forever, label="other"),
        label="group",
    )

    def use(page: Page) -> None:
        seen = until(page, lambda state: state["running_count"] == 3)["seen"]
        keys = {facts.span.label: key for key, (_, facts) in page._run.jobs.items()}

        def names(which: str, words: str = "") -> set[str]:
            return {row[1] for row in page.find_jobs(seen, which, words)["jobs"]}

        first = keys["first"]
        state = until(page, lambda _: page.job(seen, first)["inside"] == "2 running")
        assert state["running_count"] == 3
        assert names(f"in {keys['first']}") == {"group/first/near", "group/first/far"}
        assert names("", "far") == {"group/first/far"}
        assert page.job(seen, keys["group"])["inside"] == "2 running"
        assert names(f"in {keys['group']}") == {"group/first", "group/other"}

    paged(backend, use, group)


def test_what_runs_is_in_the_order_of_the_age_that_it_shows(backend: Any) -> None:
    tries = iter([True, False])

    async def work() -> None:
        if next(tries):
            raise OSError("not yet")
        await anyio.sleep_forever()

    def use(page: Page) -> None:
        running = until(page, lambda state: state["running_count"] == 3)["running"]
        assert [name for _, name, *_ in running] == ["looking", "later", "again"]

    paged(
        backend,
        use,
        Job(work, label="again", retry=Retry(1, first=0.3)),
        Job(anyio.sleep_forever, label="later"),
    )


def test_jobs_are_found_by_state_group_row_and_name(backend: Any) -> None:
    """What needs attention comes first; a row of several jobs leads to all of them."""
    first = [
        Job(fail_now, ValueError("broken"), label=f"bad {number}")
        for number in range(5)
    ]
    blocked = Job(nothing, required=first, label="blocked")
    inner = Scheduler(
        [Job(anyio.sleep_forever, label=f"step {number}") for number in range(9)],
        jobs_window=2,
        label="inner",
    )

    def use(page: Page) -> None:
        state = until(
            page,
            lambda state: (
                (state["settled"], state["running_count"]) == (6, 3)
                and [row[2] for row in state["waiting"]] == [7]
            ),
        )
        seen, run = state["seen"], page._run
        inner_key = next(
            key for key, (_, facts) in run.jobs.items() if facts.span.label == "inner"
        )

        def names(which: str, words: str = "") -> list[str]:
            return [name for _, name, *_ in page.find_jobs(seen, which, words)["jobs"]]

        assert names("state blocked") == ["blocked"]
        assert names(f"failure {state['failed'][0][0]}") == [
            f"bad {number}" for number in range(5)
        ]
        assert names(f"in {inner_key}") == [
            f"inner/step {number}" for number in range(9)
        ]
        assert names(f"wait {state['waiting'][0][0]}") == [
            f"inner/step {number}" for number in range(2, 9)
        ]
        assert (
            names("", "STEP 7 inner")
            == names("", "step 7 scheduled")
            == ["inner/step 7"]
        )
        assert names("", "blocked") == ["blocked"]
        assert (
            page.find_jobs(seen, "", "")["counts"]
            == "5 failed, 1 blocked, 3 running, 7 scheduled"
        )
        assert names("box 99") == names("wait nothing") == names("failure 99") == []
        assert page.find_jobs("another", "", "") == page.job("another", inner_key) == {}
        told = page.job(seen, inner_key)
        assert told["inside"] == "2 running, 7 scheduled"
        told = page.job(
            seen,
            next(
                key
                for key, (_, facts) in run.jobs.items()
                if facts.span.label == "blocked"
            ),
        )
        assert told["blocked_by"][0][1].startswith("bad ")

    paged(backend, use, first, blocked, inner)


def test_equal_waits_in_many_groups_are_one_row_that_opens(backend: Any) -> None:
    many = [
        Scheduler(*(Job(anyio.sleep_forever) for _ in range(3)), jobs_window=1)
        for _ in range(5)
    ]

    def use(page: Page) -> None:
        # The run goes on while its jobs are described: first their states, then what they wait for.
        state = until(
            page,
            lambda state: (
                not state["idle"] and [row[2] for row in state["waiting"]] == [10]
            ),
        )
        [[name, _, _, names, text]] = state["waiting"]
        found = page.find_jobs(state["seen"], f"wait {name}", "")
        assert (text, names.count(","), "and 7 more" in names) == (
            "wait for a slot, in 5 groups",
            2,
            True,
        )
        assert (found["count"], found["title"], found["counts"]) == (
            10,
            text,
            "10 scheduled",
        )

    paged(backend, use, many)


def test_the_row_of_a_failed_command_has_its_last_line(backend: Any) -> None:
    """The exit code alone does not say why; a group has the line of its first command."""
    command = ["sh", "-c", "echo first; echo 'no space' >&2; exit 3"]

    def use(page: Page) -> None:
        [row] = until(page, lambda state: state["failed"])["failed"]
        assert (
            row[3].endswith(" · no space"),
            row[3].startswith("CommandError: exit code 3"),
        ) == (True, True)

    paged(
        backend,
        use,
        CommandJob(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, critical=False
        ),
    )


def test_a_name_is_shown_as_it_was_given(backend: Any) -> None:
    """The escapes of a path are for who writes one: most commands of a batch have a slash, or a backslash."""

    def use(page: Page) -> None:
        state = until(page, lambda state: state["running_count"] == 2)
        found = page.find_jobs(state["seen"], "", r"/tmp \.log")
        assert [name for _, name, *_ in found["jobs"]] == [r"grep /tmp/a \.log"]

    paged(backend, use, Job(anyio.sleep_forever, label=r"grep /tmp/a \.log"))


def test_a_running_command_has_its_line_and_says_where_its_output_goes(
    backend: Any,
) -> None:
    script = "echo one; echo two >&2; sleep 60"
    by, through = (
        CommandJob(["sh", "-c", script], label=label, tag=tag)
        for label, tag in (("by", False), ("through", True))
    )

    def use(page: Page) -> None:
        keys = {
            name: key
            for key, name, *_ in until(page, lambda state: state["running_count"] == 3)[
                "running"
            ]
        }
        seen, deadline = page._run.answer["seen"], time.monotonic() + PATIENCE
        told = page.job(seen, keys["through"])
        while ["stdout so far", "one"] not in told["outputs"]:
            assert time.monotonic() < deadline
            told = page.job(seen, keys["through"])
        assert told["command"].startswith("sh -c 'echo one")
        assert told["unkept"] == ""
        assert page.job(seen, keys["looking"])["unkept"].startswith(
            "what it prints goes to the terminal"
        )

    paged(backend, use, through, by)


def test_a_running_command_on_a_node_has_a_page(backend: Any) -> None:
    """Its output comes through this program: no stream of it goes anywhere else, and it has no list of such streams."""

    def use(page: Page) -> None:
        keys = {
            name: key
            for key, name, *_ in until(page, lambda state: state["running_count"] == 2)[
                "running"
            ]
        }
        told = page.job(page._run.answer["seen"], keys["node"])
        assert told["command"].endswith("sleep 60")
        assert told["unkept"] == ""

    paged(backend, use, SshJob(LocalNode(), "sleep 60", label="node"))


def test_what_a_job_prints_is_kept_beside_a_monitor(
    backend: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """That of tasks and of threads, while the job runs and afterwards; of a redacted job nothing."""

    async def task(word: str) -> None:
        print(word)
        await anyio.sleep_forever()

    def bad() -> None:
        print("about to fail")
        raise ValueError("broken")

    def use(page: Page) -> None:
        state = until(
            page, lambda state: state["failed"] and state["running_count"] == 3
        )
        keys = {
            name: key
            for key, name, *_ in (*state["running"], [state["failed"][0][0], "bad"])
        }
        told = {name: page.job(state["seen"], key) for name, key in keys.items()}
        assert (told["task"]["outputs"], told["task"]["unkept"]) == (
            [["printed so far", "hello"]],
            "",
        )
        assert told["bad"]["outputs"][0][0] == "printed"
        assert told["bad"]["outputs"][0][1].startswith("about to fail")
        assert told["secret"]["outputs"] == []

    output = LogOutput(["stdout"])
    try:
        jobs = (
            Job(task, "hello", label="task"),
            Job(task, "abc", label="secret", redact=True),
            ThreadJob(bad, label="bad"),
        )
        paged(backend, use, *jobs)
    finally:
        output.restore()
    assert "hello" in capsys.readouterr().out


def test_the_output_of_a_command_that_has_ended_is_kept_at_its_end(
    backend: Any,
) -> None:
    """Where it passes through a monitor it was forgotten; while it runs, it is shown once."""
    commands = [
        CommandJob(["sh", "-c", "echo hello; " + more], label=more)
        for more in ("sleep 60", "echo bye >&2")
    ]

    def use(page: Page) -> None:
        assert until(page, lambda state: state["settled"] == 1)
        keys = {facts.span.label: key for key, (_, facts) in page._run.jobs.items()}
        seen, deadline = page._run.answer["seen"], time.monotonic() + PATIENCE
        while page.job(seen, keys["sleep 60"])["outputs"] != [
            ["stdout so far", "hello"]
        ]:
            assert time.monotonic() < deadline
        assert page.job(seen, keys["echo bye >&2"])["outputs"] == [
            ["stdout", "hello"],
            ["stderr", "bye"],
        ]

    outputs = [PassedOutput([name]) for name in ("stdout", "stderr")]
    try:
        paged(backend, use, commands)
    finally:
        for output in outputs:
            output.restore()


def test_output_is_passed_on_at_once_and_kept_by_attempt(
    backend: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prompt has no newline; the prints of two attempts are told apart."""
    tries, shown = iter([True, False]), list[str]()

    async def work() -> None:
        is_first = next(tries)
        print("first?" if is_first else "second", end="")
        shown.append(capsys.readouterr().out)
        if is_first:
            raise OSError

    def use(page: Page) -> None:
        state = until(page, lambda state: state["settled"] == 1)
        key = page.find_jobs(state["seen"], "", "work")["jobs"][0][0]
        assert page.job(state["seen"], key)["outputs"] == [
            ["printed", "first?\n---- attempt 2\nsecond"]
        ]

    output = PassedOutput(["stdout"])
    try:
        paged(backend, use, Job(work, label="work", retry=Retry(1, first=0)))
    finally:
        output.restore()
    assert shown == ["first?", "second"]


@pytest.mark.parametrize("kind", [LogOutput, PassedOutput])
def test_what_the_engine_reports_is_not_printed_by_the_job(
    backend: Any, kind: type[LogOutput]
) -> None:
    """What a step printed ended with "'bad' failed: ...", which the engine had logged while the job was running."""

    async def bad() -> None:
        print("half a line", end="", file=sys.stderr)
        logging.getLogger("own").warning(" of the step")
        raise OSError("broken")

    def use(page: Page) -> None:
        assert until(page, lambda state: state["failed"])
        assert {*page._run.record().printed.values()} == {"half a line of the step\n"}

    handler = logging.StreamHandler(sys.stderr)
    loggers = logging.getLogger("trioflow"), logging.getLogger("own")
    for logger in loggers:
        logger.addHandler(handler)
    output = kind(["stderr"])
    try:
        paged(backend, use, Job(bad, label="bad"))
    finally:
        output.restore()
        for logger in loggers:
            logger.removeHandler(handler)


def test_an_end_is_an_end_wherever_it_is_shown(backend: Any) -> None:
    """Of what a job has printed, each place shows the last lines, without a gap and up to the last."""

    def count() -> None:
        for number in range(10_000, 10_800):
            print("line", number)
        raise OSError("broken")

    def use(page: Page) -> None:
        state = until(page, lambda state: state["failed"])
        [(_, panel)] = page.job(state["seen"], state["failed"][0][0])["outputs"]
        [kept] = page._run.record().printed.values()
        [saved] = re.findall(
            "<p>printed:</p><pre>(.*?)</pre>", page.report(), re.DOTALL
        )
        for end in (panel, kept, saved):
            numbers = [
                int(number) for number in re.findall(r"^line (\d+)$", end, re.MULTILINE)
            ]
            assert numbers == [*range(numbers[0], 10_800)]
            assert 300 < len(numbers) < 400

    output = LogOutput(["stdout"])
    try:
        paged(backend, use, ThreadJob(count, label="count"))
    finally:
        output.restore()


def test_the_ends_of_failed_jobs_are_kept_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is a bound for all jobs together, which what went well gives way to."""
    monkeypatch.setattr(_print_ends, "MAX_JOBS", 20)
    ends: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
    monkeypatch.setattr(_print_ends, "_ends", ends)

    async def work(number: int) -> None:
        _print_ends.keep_end(current_job(), f"says {number}")
        if number < 8 or number > 90:
            raise OSError(number)

    jobs = [Job(work, number, label=f"job {number}") for number in range(100)]
    Scheduler(jobs, jobs_window=1, log=False).run()
    assert len(ends) == 20
    failed = [job for job in jobs if job.state is JobState.FAILED]
    assert [_print_ends.end_of_prints(job, job.started_at) for job in failed] == [
        f"says {number}" for number in (*range(8), *range(91, 100))
    ]


def test_an_attempt_has_its_age_and_the_job_another(backend: Any) -> None:
    """What runs again once was as old as its first attempt: after a night's hold, eight hours."""
    pause, failed = 1.2, list[float]()

    async def work() -> None:
        if not failed:
            failed.append(time.monotonic())
            raise OSError("not yet")
        await anyio.sleep_forever()

    def use(page: Page) -> None:
        state = until(
            page,
            lambda state: [row[2] for row in state["running"]] == ["", "attempt 2"],
        )
        row = state["running"][1]
        minutes, seconds = map(int, row[3].split(":"))
        assert 60 * minutes + seconds <= time.monotonic() - failed[0] - pause
        facts = dict(page.job(page._run.answer["seen"], row[0])["facts"])
        assert facts["attempts"] == "2"
        amount, unit = facts["has run for"].split()
        longest = time.monotonic() - failed[0] - pause + 0.1
        assert unit in ("µs", "ms") or float(amount) <= longest
        assert {"first started", "started"} <= facts.keys()

    paged(
        backend, use, Job(work, label="work", retry=Retry(1, first=pause, jitter=False))
    )


HELD = """
from trioflow import Job, Scheduler
broken = [True]
async def work():
    if broken.pop():
        raise OSError("broken")
broken.insert(0, False)
print(Scheduler(Job(work, label="work"), label="plain", hold=True).run())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets")
def test_a_plain_program_that_is_held_answers() -> None:
    """The log once named a command that could not work, and the run waited for ever."""
    environment = {
        name: value for name, value in os.environ.items() if name != "TRIOFLOW_LOOK"
    }
    with Python(
        ["-c", HELD], env=environment, stdout=-1, stderr=-1, text=True
    ) as process:
        try:
            assert process.stderr is not None
            while "is held" not in (line := process.stderr.readline()):
                assert line
            done = python(
                "-m",
                "trioflow",
                "steer",
                process.pid,
                "try-again",
                env=environment,
                text=True,
            )
            assert done.stdout.startswith("'plain': tried again")
            assert process.communicate(timeout=60)[0] == "True\n"
        finally:
            process.kill()
