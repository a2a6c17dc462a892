"""All views of a run say the same: verdict, counts, failures, duration and critical path."""

import functools
import itertools
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    Adaptive,
    Budget,
    First,
    Job,
    JobState,
    Pool,
    Retry,
    Scheduler,
    Sequence,
    Service,
    Throttled,
    Trace,
)
from trioflow._core.words._run_view import current_run, runs_in_progress
from trioflow.view import listing
from trioflow.view.look._client import text_lines
from trioflow.view.look._console import WatchedRun, console
from trioflow.view.look._process_record import describe_process
from trioflow.view.look._watch import Watch
from trioflow.view.text._debrief import Debrief
from trioflow.view.text._symbols import Symbols
from trioflow.view.text._verdict import Tally
from trioflow.view.trace._spans import throttled_before_start
from trioflow.view.trace._time_spent import compute_slot_use, work_seconds
from trioflow.view.trace._trace import find_critical_path
from trioflow.view.trace.report._report import report_html
from ..bodies import fail, flaky, hooked, later, nap, pass_time, serve
from ..cli import command_line
from ..conftest import BACKENDS, Virtual
from ..model.generator import scenario_of
from .agreement import FAILURES, INTERRUPTED, STOPPED, SUCCESS, Views, in_virtual_time
from .all_views import strange_in_views
from .graph.pictures import mermaid
from .monitor.monitors import drawn, watched
from .trace.scenarios import everything, stop, traced

pytestmark = pytest.mark.usefixtures("no_dot")


def blocked_group() -> Scheduler:
    first = Job(nap, 9, label="first")
    group = Scheduler(
        Job(nap, label="x"),
        Job(nap, label="y"),
        label="group",
        run_if="succeeded",
        required=first,
    )
    return Scheduler(first, Job(later, 1, first.cancel, label="cancel"), group)


async def interrupt() -> None:
    await anyio.sleep(1)
    trioflow.current_job().scheduler._interrupt(None)


def cancelled_jobs() -> Scheduler:
    """Return a scheduler in which one of four jobs succeeds, and none fails."""
    others = [Job(nap, 9) for _ in range(3)]

    async def cancel() -> None:
        for job in others:
            job.cancel()

    return Scheduler(Job(cancel), *others)


def many_jobs(number: int) -> Scheduler:
    return Scheduler(
        *(Job(fail if n % 90 == 7 else nap) for n in range(number)), jobs_window=20
    )


def second_attempt() -> Scheduler:
    inner = Scheduler(
        Job(flaky(), label="step", critical=True),
        Job(nap, label="beside"),
        label="inner",
        retry=1,
    )
    return Scheduler(inner, Job(nap, label="last", required=inner))


def hedged(seconds: float, *others: Job[Any], **options: Any) -> First:
    return First(
        Job(nap, seconds, label="ask"),
        Job(nap, 1, label="hedge"),
        *others,
        stagger=2,
        **options,
    )


def firsts() -> Scheduler:
    """Return a scheduler with a `First` of each outcome, of which three fail."""
    return Scheduler(
        *(hedged(seconds) for seconds in (1, 9, 1)),
        First(Job(fail), Job(nap), label="one loser"),
        First(Job(fail), Job(fail, 1), label="lost"),
        First(Job(fail, 1, critical=True), Job(nap, 9), label="critical"),
        First(Scheduler(Job(nap), Job(fail, critical=True)), hedged(1), label="deep"),
        Scheduler(hedged(1), First(Job(fail, 1), Job(fail)), label="group"),
        First(
            Job(anyio.sleep_forever),
            Job(anyio.sleep_forever),
            forever=True,
            label="forever",
        ),
        First(Job(nap, 9), Job(nap, 9), timeout=1, on_timeout="move_on", label="late"),
        Scheduler(hedged(1), Job(nap), label="skipped", run_if="failed"),
        jobs_window=3,
    )


def blocked_forever_jobs(**options: Any) -> Scheduler:
    """Return a scheduler with a failure that blocks a service, what uses it, and another forever job; one fails."""
    cause = Job(fail, label="cause")
    base = Service(serve, label="base", required=cause)
    watch = Job(anyio.sleep_forever, forever=True, label="watch", required=cause)
    broken = Job(fail, 1, forever=True, label="broken")
    calm = Job(anyio.sleep_forever, forever=True, label="calm")
    return Scheduler(
        cause,
        base,
        watch,
        broken,
        calm,
        Job(nap, label="use", required=base),
        Job(nap, 2),
        **options,
    )


def dropped_failures() -> Scheduler:
    """Return a scheduler that drops the jobs added to it, but not the first failures that count."""
    scheduler = Scheduler(
        Job(fail, label="bad"), blocked_forever_jobs(keep_jobs=False, label="inside")
    )

    async def add() -> None:
        for n in range(40):
            scheduler.add(
                Job(
                    fail if n % 2 else nap,
                    n,
                    critical=False if n < 9 else None,
                    label="bad",
                )
            )
            await anyio.sleep(0.5)

    scheduler.keep_jobs = False
    scheduler.add(Job(add))
    return scheduler


def unpaid_calls() -> Scheduler:
    """Return a scheduler with a budget for two of five hedged calls."""
    calls = [
        First(*(Job(nap, needs={"usd": 1}) for _ in range(2)), stagger=5)
        for _ in range(5)
    ]
    return Scheduler(*calls, pool=Pool(usd=Budget(2)))


RUNS: dict[str, tuple[Any, int]] = {
    "failed": (
        lambda: Scheduler(
            *(Job(fail, 1, ValueError(n), label=f"row {n}") for n in range(5)), Job(nap)
        ),
        FAILURES,
    ),
    "critical": (
        lambda: Scheduler(
            Job(fail, 2, label="bad", critical=True), Job(nap, 9, label="long")
        ),
        STOPPED,
    ),
    "timed out": (
        lambda: Scheduler(Job(nap, 9, label="long"), Job(nap), timeout=3),
        STOPPED,
    ),
    "a job timed out": (
        lambda: Scheduler(Job(nap, 9, label="long", timeout=2), Job(nap)),
        FAILURES,
    ),
    "a job moved on": (
        lambda: Scheduler(
            Job(nap, 9, timeout=2, on_timeout="move_on"), Job(nap), Job(nap)
        ),
        SUCCESS,
    ),
    "all jobs moved on": (
        lambda: Scheduler(
            *(Job(nap, 9, timeout=2, on_timeout="move_on") for _ in range(2))
        ),
        SUCCESS,
    ),
    "a job moved on, another failed": (
        lambda: Scheduler(
            Job(nap, 9, timeout=2, on_timeout="move_on"), Job(fail), Job(nap)
        ),
        FAILURES,
    ),
    "cancelled": (
        lambda: Scheduler(
            Job(stop, "cancel"), Job(nap, 9), Sequence(Job(nap, 9), Job(nap))
        ),
        STOPPED,
    ),
    "drained": (
        lambda: Scheduler(
            Job(stop, "drain"), Sequence(Job(nap, 3), Job(nap)), jobs_window=2
        ),
        STOPPED,
    ),
    "a group is blocked": (blocked_group, SUCCESS),
    "a group that timed out blocks another": (
        lambda: Scheduler(
            Sequence(
                Scheduler(Job(nap, 9), Job(nap), timeout=2),
                Scheduler(Job(nap), Scheduler(Job(nap)), Job(nap)),
            )
        ),
        FAILURES,
    ),
    "a second attempt": (second_attempt, SUCCESS),
    "a group times out at each attempt of another": (
        lambda: Scheduler(
            Scheduler(Scheduler(Job(nap, 9), timeout=1), Job(nap), retry=2), Job(nap, 9)
        ),
        FAILURES,
    ),
    "services": (
        lambda: Scheduler(
            base := Service(serve, label="base"), Job(nap, 2, required=base)
        ),
        SUCCESS,
    ),
    "only forever jobs": (
        lambda: Scheduler(Job(anyio.sleep_forever, forever=True), timeout=2),
        STOPPED,
    ),
    "adaptive": (
        lambda: Scheduler(*(Job(nap) for _ in range(9)), jobs_window=Adaptive(1, 3)),
        SUCCESS,
    ),
    "everything": (everything, FAILURES),
    "interrupted": (
        lambda: Scheduler(Job(interrupt), Job(nap, 9), Job(nap, 0)),
        INTERRUPTED,
    ),
    "some jobs are cancelled": (cancelled_jobs, SUCCESS),
    "hedges": (
        lambda: Scheduler(*(hedged(1) for _ in range(9)), jobs_window=2),
        SUCCESS,
    ),
    "firsts": (firsts, FAILURES),
    "a critical first": (
        lambda: Scheduler(hedged(9), First(Job(fail, 1), Job(fail, 3), critical=True)),
        STOPPED,
    ),
    "a critical job of a first": (
        lambda: Scheduler(
            First(Job(fail, 1, critical=True), Job(nap, 9), critical=True), hedged(9)
        ),
        STOPPED,
    ),
    "hedges are drained": (
        lambda: Scheduler(hedged(1), hedged(9), hedged(9), Job(stop, "drain")),
        STOPPED,
    ),
    "blocked forever jobs": (blocked_forever_jobs, FAILURES),
    "dropped failures": (dropped_failures, FAILURES),
    "hedged calls without money": (unpaid_calls, FAILURES),
    "5 jobs": (
        lambda: Scheduler(*(Job(nap, n) for n in range(5)), jobs_window=2),
        SUCCESS,
    ),
    "200 jobs": (lambda: many_jobs(200), FAILURES),
}


@pytest.fixture(scope="module")
def views_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Views]:
    """Return the views of a run by its name; it is run once for all tests, on one backend, in turn."""
    backends = dict(zip(RUNS, itertools.cycle(BACKENDS), strict=False))

    @functools.cache
    def views(name: str) -> Views:
        virtual = Virtual(backends[name])
        return Views(
            in_virtual_time(virtual),
            RUNS[name][0](),
            tmp_path_factory.mktemp("views"),
            True,
        )

    return views


@pytest.mark.sampled
@pytest.mark.parametrize("name", RUNS)
def test_all_views_of_a_run_agree(views_of: Callable[[str], Views], name: str) -> None:
    """For each run, all views have the same verdict, counts, failures and duration, and the exit code fits."""
    _, code = RUNS[name]
    views_of(name).check(code)


def blocked_in_two_steps() -> Scheduler:
    return Scheduler(
        Sequence(
            Job(fail, label="fetch"),
            Job(nap, label="parse"),
            Job(nap, label="store", critical=True),
        )
    )


STOPPED_BY = {
    "critical itself": (
        lambda: Scheduler(
            Scheduler(Job(fail, label="bad", critical=True), label="in", critical=True)
        ),
        "a critical failure of in/bad",
    ),
    "blocked": (blocked_in_two_steps, "a failure of fetch, because store is critical"),
    "in a group": (
        lambda: Scheduler(Scheduler(Job(fail, label="bad"), label="in", critical=True)),
        "a failure of in/bad, because in is critical",
    ),
    "blocked by a group": (
        lambda: Scheduler(
            Sequence(
                Scheduler(Scheduler(Job(fail, label="bad"), label="in"), label="out"),
                Job(nap, label="store", critical=True),
            )
        ),
        "a failure of out/in/bad, because store is critical",
    ),
    "one of several": (
        lambda: Scheduler(
            First(
                Job(fail, label="a"), Job(fail, label="b"), label="first", critical=True
            )
        ),
        "a critical failure of first",
    ),
}


@pytest.mark.parametrize("case", STOPPED_BY)
def test_verdicts_name_the_root_failure_and_say_which_critical_job_it_stopped(
    tmp_path: Path, case: str
) -> None:
    build, words = STOPPED_BY[case]
    views = Views(in_virtual_time(Virtual("trio")), build(), tmp_path)
    assert {text.partition(", 1 failed")[0] for text in views.verdicts().values()} == {
        f"✗ stopped by {words}"
    }


def test_all_views_of_a_run_with_restored_jobs_agree(tmp_path: Path) -> None:
    for _ in range(2):
        scheduler = Scheduler(
            Job(nap, 0, "a", label="a"),
            Job(nap, 0, "b", label="b"),
            Job(nap, 0, save=None),
        )
        views = Views(
            lambda scheduler, **options: scheduler.run(
                journal=tmp_path / "run.db", **options
            ),
            scheduler,
            tmp_path,
        )
        views.check(SUCCESS)
    assert (
        Tally.for_scheduler(scheduler).describe() == "3 jobs: 3 succeeded (2 restored)"
    )
    assert (
        f"✓ all 3 jobs succeeded (2 restored from {time.strftime('%Y-')}"
        in views.verdicts()["own"]
    )
    assert [event["path"] for event in views.events if event.get("restored")] == [
        "a",
        "b",
    ]
    assert [span.path for span in views.read.spans if span.restored] == ["a", "b"]


def test_all_views_agree_on_a_group_that_was_taken_back_and_did_not_run_again(
    virtual: Virtual, tmp_path: Path
) -> None:
    """What it requires is tried again, and fails: the trace, alone of all views, counted its members as succeeded."""
    calls = list[int]()

    async def once() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise OSError("broken")

    first = Job(once, label="first")
    inner = Scheduler(Job(nap, 1, label="deep"), label="inner")
    group = Scheduler(Job(nap, 1, label="in"), inner, label="group", required=first)
    scheduler = Scheduler(first, group, Job(later, 3, first.try_again), label="scene")
    Views(in_virtual_time(virtual), scheduler, tmp_path).check(FAILURES)
    assert Tally.for_scheduler(scheduler).count(JobState.IDLE) == 2


def test_a_failure_in_a_tolerated_group_is_among_the_failures_of_each_view(
    virtual: Virtual, tmp_path: Path
) -> None:
    """A JUnit file has it as skipped, also if the run fails, and the other views as one that failed."""
    group = Scheduler(Job(fail, label="inner"), label="group", critical=False)
    scheduler = Scheduler(group, Job(fail, label="other"))
    Views(in_virtual_time(virtual), scheduler, tmp_path).check(FAILURES)


def test_a_failure_that_was_taken_back_is_among_the_failures_of_no_view(
    virtual: Virtual, tmp_path: Path
) -> None:
    """Of two jobs of one kind that have failed, one is tried again, and succeeds."""
    calls = list[int]()

    async def first_calls_fail() -> None:
        calls.append(1)
        if len(calls) <= 2:
            raise OSError("broken")

    mended, broken = [Job(first_calls_fail, label=label) for label in ("a", "b")]
    scheduler = Scheduler(mended, broken, Job(later, 3, mended.try_again))
    Views(in_virtual_time(virtual), scheduler, tmp_path).check(FAILURES)
    assert mended.state == "succeeded"


@pytest.mark.parametrize("again", ["restored", "anew"])
def test_all_views_agree_after_a_success_of_a_run_with_a_journal_was_taken_back(
    virtual: Virtual, tmp_path: Path, again: str
) -> None:
    """A restored job that is tried again is no longer restored, and one that ran again has one more cause, which is not
    its change. The monitor said "0 run again, because 'anew' has changed"."""
    for number in (1, 2):
        restored = Job(nap, 1, label="restored")
        anew = Job(nap, 1, label="anew", version=str(number))
        chosen = {"restored": restored, "anew": anew}[again]
        retry = Job(later, 3, chosen.try_again if number == 2 else int, save=None)
        scheduler = Scheduler(
            restored, anew, retry, Job(nap, 6, label="last", save=None), label="scene"
        )
        views = Views(in_virtual_time(virtual), scheduler, tmp_path, has_journal=True)
        views.check(SUCCESS)
    assert Tally.for_scheduler(scheduler).restored.number == (again == "anew")


def test_the_exit_code_the_job_log_and_the_results_of_a_batch_agree_with_its_verdict(
    tmp_path: Path,
) -> None:
    log, results = tmp_path / "log", tmp_path / "results.jsonl"
    done = command_line.trioflow(
        "batch", "--joblog", log, "--results", results, "exit {}", ":::", 0, 1, 0, 3, 0
    )
    assert done.exit_code == 2
    assert re.match(r"batch  ✗ 2 failed of 5, [\d.]+ m?s\n", done.stderr)
    assert (
        sum(line.split("\t")[6] != "0" for line in log.read_text().splitlines()[1:])
        == 2
    )
    assert (
        sum(
            json.loads(line)["exit_code"] != 0
            for line in results.read_text().splitlines()
        )
        == 2
    )


@pytest.mark.parametrize("failures", [0, 1])
def test_jobs_that_moved_on_do_not_count_as_succeeded(
    tmp_path: Path, failures: int
) -> None:
    """A job that its timeout ended is named in the verdict, shown by every view, and still in `results()`."""
    jobs = [
        Job(nap, 9, timeout=2, on_timeout="move_on", label=label)
        for label in ("slow a", "slow b")
    ]
    scheduler = Scheduler(
        jobs, *(Job(fail) for _ in range(failures)), Job(nap, 0, "x"), Job(nap, 1, "y")
    )
    views = Views(in_virtual_time(Virtual("trio")), scheduler, tmp_path)
    first = "2 succeeded" if not failures else "1 failed of 5"
    assert (
        views.verdicts()["own"]
        == f"{'✗' if failures else '»'} {first}, 2 moved on after their timeout, 2.0 s"
    )
    assert sorted(map(str, scheduler.results().values())) == ["None", "None", "x", "y"]
    assert listing(scheduler).count("»") == 2
    assert mermaid(scheduler).count(":::moved-on") == 2
    for record in (views.live, views.read):
        assert [span.path for span in record.spans if span.moved_on] == [
            "slow a",
            "slow b",
        ]


async def fails_in_two_places(number: int) -> None:
    if number % 2:
        raise ValueError(f"odd: {number}")
    raise ValueError(f"even: {number}")


def test_views_group_failures_by_one_rule(
    virtual: Virtual, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log, too, has a line for each kind: the function, the exception's type and the place, not the message."""
    jobs = [
        *(
            Job(fails_in_two_places, number, label=f"row {number}")
            for number in range(20)
        ),
        *(Job(functools.partial(fail, 0, KeyError(number))) for number in range(3)),
        *(Job(nap, 9, timeout=2) for _ in range(4)),
        *(Job(anyio.sleep, 9, timeout=2) for _ in range(5)),
    ]
    kinds = Views(in_virtual_time(virtual), Scheduler(jobs), tmp_path).failure_kinds()
    first_lines = [line for line in caplog.messages if re.match("'.*' failed: ", line)]
    counts = [
        int(found[1])
        for line in caplog.messages
        if (found := re.match(r"(\d+) more jobs failed with", line))
    ]
    kinds["log"] = sorted(count + 1 for count in counts)
    assert set(map(tuple, kinds.values())) == {(3, 4, 5, 10, 10)}
    assert len(first_lines) == 5


def test_the_time_that_an_instrument_takes_before_the_run_counts_in_no_view(
    tmp_path: Path,
) -> None:
    """A run begins when its instruments have been notified, so that all views have the same duration of it."""
    slow = hooked(before_run=lambda _: pass_time("trio", 5))
    views = Views(
        in_virtual_time(Virtual("trio")),
        Scheduler(Job(nap, 2), instruments=[slow]),
        tmp_path,
    )
    assert set(views.verdicts().values()) == {"✓ 1 job succeeded, 2.0 s"}


@pytest.mark.sampled
@pytest.mark.parametrize("name", RUNS)
def test_the_critical_path_is_that_of_the_trace(
    views_of: Callable[[str], Views], name: str
) -> None:
    """A trace file has the critical path of the run, and `graph()` marks the same path without a trace. Without a
    trace, neither earlier runs of a nested scheduler nor dropped jobs are known."""
    views = views_of(name)
    if name not in ("a second attempt", "everything", "dropped failures"):
        assert {job.path for job in find_critical_path(views.scheduler)} == {
            views.live.spans[number].path for number in views.live.critical_path
        }
    assert views.read.critical_path == views.live.critical_path


def test_a_first_that_was_restored_counts_as_restored(tmp_path: Path) -> None:
    def make() -> Scheduler:
        calls = [
            First(
                *(Job(nap, n, n, key=f"{k}{n}") for k in "ab"), stagger=9, label=f"p{n}"
            )
            for n in range(3)
        ]
        return Scheduler(calls, Job(nap, 0, save=None), label="run")

    for _ in range(2):
        views = Views(
            lambda scheduler, **options: scheduler.run(
                journal=tmp_path / "run.db", **options
            ),
            make(),
            tmp_path,
        )
        views.check(SUCCESS)
    assert (
        Tally.for_scheduler(views.scheduler).describe()
        == "4 jobs: 4 succeeded (3 restored)"
    )
    assert "✓ all 4 jobs succeeded (3 restored from " in views.verdicts()["own"]
    assert (
        "✓ all 4 jobs succeeded (3 restored from "
        in command_line.trioflow("journal", tmp_path / "run.db").stdout
    )


def test_all_views_show_failures_that_count_before_tolerated_ones(
    virtual: Virtual, tmp_path: Path
) -> None:
    """And each says which are tolerated. Five optional jobs once hid the ten that made the run fail."""
    errors = (OSError, KeyError, EOFError, TypeError, IndexError)
    optional = [
        Job(
            fail,
            1,
            error("optional"),
            label=f"optional {error.__name__}",
            critical=False,
        )
        for error in errors
    ]
    loads = [
        Job(fail, 3, ValueError("rows are missing"), label=f"load {number}")
        for number in range(10)
    ]
    shown: dict[str, list[str]] = {}

    async def ask() -> None:
        await anyio.sleep(5)
        (run,) = describe_process()["runs"]
        shown["look"] = [
            line
            for line in text_lines(1, {"command": ["x"], "runs": [run]}, 120)
            if "Error: " in line
        ]
        watched_run = WatchedRun()
        answer = {"may_steer": False, **Watch(runs_in_progress()[0]).answer()}
        watched_run.update(json.loads(json.dumps(answer, default=str)))
        shown["page"] = [
            str(row) for row in console(watched_run, "", has_ended=False)["failed"]
        ]
        shown["monitor"] = [
            line for line in drawn(monitor, 120, 12) if "Error: " in line
        ]

    scheduler, monitor = watched(
        *optional, *loads, Job(ask, label="who asks"), Job(nap, 9)
    )
    trace = traced(virtual, scheduler)
    shown["debrief"] = [
        text.partition(":")[0]
        for text in Debrief(scheduler, Symbols()).failure_paragraphs()
    ]
    page = report_html(trace._get_record(), tmp_path)
    shown["report"] = re.findall(r'<article class="failure">.*', page)
    for view, lines in shown.items():
        is_tolerated = ["tolerated" in line for line in lines]
        assert is_tolerated == sorted(is_tolerated), (view, lines)
        assert sum(is_tolerated) >= len(lines) - 1 >= 2, (view, lines)
    assert (
        len(shown["debrief"])
        == len(shown["report"])
        == len(shown["page"])
        == len(shown["look"])
        == 6
    )


def throttled_and_flaky(times: int) -> Callable[..., Any]:
    """Return a function that is throttled once, fails so often, and then succeeds."""
    calls = itertools.count()

    async def call() -> None:
        number = next(calls)
        await anyio.sleep(1)
        if number == 0:
            raise Throttled("api", after=2)
        if number <= times:
            raise OSError("not yet")

    return call


def test_a_run_and_its_trace_have_the_same_slots_taken_and_seconds_of_work(
    virtual: Virtual,
) -> None:
    jobs: list[Any] = [
        *(Job(nap, 0.9 * number, label=f"job {number}") for number in range(1, 5)),
        *(
            Job(
                throttled_and_flaky(n),
                retry=Retry(n, first=3),
                needs={"api": 1},
                label=f"flaky {n}",
            )
            for n in range(3)
        ),
        Job(nap, 30, timeout=5, label="slow"),
    ]
    found: dict[float, int] = {}

    async def ask() -> None:
        for _ in range(40):
            await anyio.sleep(0.333)
            run = current_run(scheduler)
            assert run is not None
            found[run.clock()] = run.slots_taken

    trace = Trace()
    scheduler = Scheduler(
        jobs,
        Job(ask, forever=True),
        jobs_window=3,
        pool=Pool(api=9),
        instruments=[trace],
    )
    virtual(scheduler.co_run)
    record = trace._get_record()
    bars = [bar for row in compute_slot_use(record).bars_by_slot for bar in row]
    assert found == {
        moment: sum(bar.start < moment < bar.end for bar in bars) for moment in found
    }
    assert max(found.values()) == 3
    for job, span in zip(record.live.jobs, record.spans, strict=True):
        if not job.forever:
            throttled = [until - since for since, until in throttled_before_start(span)]
            assert job.took == pytest.approx(
                work_seconds(record, span) - sum(throttled)
            ), job


# --- Every view, export and verdict of every scenario can be written and read back, and what they say can be true
SEEDS = (0, 20, 27, 32, 34, 74, 87, 100, 109, 387, 465, 574, 1393, 1844)
"""Scenarios of which a view once was missing, or had a number that none of the others had."""


@pytest.mark.sampled
@pytest.mark.parametrize("seed", SEEDS)
def test_all_views_of_a_scenario_can_be_written_and_agree(seed: int) -> None:
    """No view raises, counts are equal, nothing is negative, no share is above 1, at the end and in between."""
    assert strange_in_views(scenario_of(("views", seed)), BACKENDS[seed % 2]) == []


@pytest.mark.parametrize("seed", [1, 4, 23])
def test_all_views_of_a_scenario_that_is_paused_can_be_written_and_agree(
    seed: int, backend: str
) -> None:
    assert strange_in_views(scenario_of(("views", seed)), backend, is_paused=True) == []


@pytest.mark.soak
@pytest.mark.parametrize("is_paused", [False, True])
@pytest.mark.parametrize("part", range(8))
def test_all_views_of_many_scenarios_can_be_written_and_agree(
    part: int, is_paused: bool, backend: str
) -> None:
    for seed in range(part, 2000, 8):
        assert (
            strange_in_views(
                scenario_of(("views", seed)), backend, is_paused=is_paused
            ),
            seed,
        ) == ([], seed)
