"""No failure is silent: the lines about failed jobs in the log, and when they come."""

import asyncio
import html
import io
import linecache
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn
import anyio
import pytest
import trio
from trioflow import (
    Budget,
    CommandJob,
    First,
    Job,
    Monitor,
    Pool,
    Retry,
    Scheduler,
    Trace,
    current_job,
)
from trioflow.abc import Instrument
from trioflow.view import save
from trioflow.view.text._verdict import run_verdict
from ..bodies import at_once, clumsy, fail_now, hooked, nap, raising, ran
from ..conftest import Virtual
from ..pythons import python


async def fail_after(
    seconds: float, error: type[Exception] = OSError, text: str = "broken"
) -> NoReturn:
    await anyio.sleep(seconds)
    raise error(text)


@pytest.fixture
def logged_lines(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[float, str]]:
    lines: list[tuple[float, str]] = []
    clock = (
        trio.current_time
        if virtual.backend == "trio"
        else lambda: asyncio.get_running_loop().time()
    )

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((clock(), record.getMessage()))

    monkeypatch.setattr(logging.getLogger("trioflow"), "handlers", [Handler()])
    return lines


def test_first_failure_of_a_kind_is_logged_at_once(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    """A failure is logged at once, with the job's path, the exception, that the run continues, and what to call."""
    failing = Job(fail_after, 2, label="fetch")
    virtual(
        Scheduler(Scheduler(failing, label="inner"), Job(nap, 9), label="home").co_run
    )
    assert logged_lines[0] == (
        2,
        "'inner/fetch' failed: OSError: broken; the run goes on; debrief() shows the traceback",
    )


def test_the_first_failure_of_a_kind_is_logged_at_once_in_each_run(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    """A second run does not count its failures among those of the first."""
    scheduler = Scheduler([Job(fail_after, n, label=f"at {n}") for n in (1, 1.5, 1.75)])
    for _ in range(2):
        virtual(scheduler.co_run)
        assert [line.partition(";")[0] for _, line in logged_lines] == [
            "'at 1' failed: OSError: broken",
            "2 more jobs failed with OSError like 'at 1': 'at 1.5', 'at 1.75'",
            "3 jobs of 'Scheduler' failed",
        ]
        logged_lines.clear()


def test_a_long_error_is_logged_with_its_end(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    """The reason why a command on a node failed is at the end of its message, which once was cut off."""
    virtual(
        Scheduler(Job(fail_after, 1, OSError, f"begins {'x' * 500}\nthe reason")).co_run
    )
    assert " failed: OSError: begins xx" in logged_lines[0][1]
    assert "x the reason; the run goes on" in logged_lines[0][1]


def test_the_log_names_the_run_that_a_failure_stops(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    """The log line of a critical failure names the run that it stops, and if nested, how that stopped the outer one."""
    inner = Scheduler(
        Job(fail_after, 1, label="x", critical=True), label="inner", critical=True
    )
    virtual(Scheduler(inner, Job(nap, 9), label="home").co_run)
    assert [line for _, line in logged_lines] == [
        "'inner/x' failed: OSError: broken; it is critical, so the run of 'inner' stops; debrief() shows the traceback",
        "'inner' failed because of 'inner/x'; the run of 'home' stops",
    ]  # and no count of failures: it would say the same a third time


def test_failures_besides_the_critical_one_are_counted(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    jobs = Job(fail_after, 1, label="x"), Job(fail_after, 2, label="y", critical=True)
    virtual(Scheduler(jobs, Job(nap, 9), label="home").co_run)
    assert (
        logged_lines[-1][1]
        == "2 jobs of 'home' failed; the run stopped; debrief() shows the tracebacks"
    )


def test_groups_that_failed_by_themselves_are_no_jobs(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    first = First(Job(fail_after, 1), label="first")
    groups = [Scheduler(Job(nap, 9), timeout=2) for _ in range(2)]
    scheduler = Scheduler(first, groups, label="home")
    virtual(scheduler.co_run)
    assert logged_lines[-1][1].startswith(
        "1 job of 'home' failed; 2 groups of 'home' failed; the run has failed"
    )
    assert (
        run_verdict(scheduler, scheduler.stop_reason).sentence
        == "1 failed, 2 cancelled of 3, 2 groups failed"
    )


def test_blocked_jobs_are_not_counted_as_failures(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    source = Job(fail_after, 1, label="source")
    users = [Job(nap, source, label=f"user {number}") for number in range(3)]
    virtual(Scheduler(users, Job(nap, 9), label="home").co_run)
    told = [line.partition(";")[0] for _, line in logged_lines]
    assert told == ["'source' failed: OSError: broken", "1 job of 'home' failed"]
    logged_lines.clear()
    source, last = Job(fail_after, 1, label="source"), Job(nap, label="other")
    blocked = Job(nap, source, label="user", critical=True)
    virtual(
        Scheduler(
            Job(nap, source, label="first"), blocked, last, Job(nap, 9), label="home"
        ).co_run
    )
    assert [line.partition(";")[0] for _, line in logged_lines if "'user'" in line] == [
        "'user' failed: RequirementFailed: 'user' cannot run, because 'source' failed"
    ]


def test_a_run_that_is_ending_does_not_go_on(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    late = (
        Job(clumsy, label="late", critical=True),
        Job(clumsy, label="more", critical=False),
    )
    assert not virtual(Scheduler(*late, timeout=1).co_run)
    fates = {line.split("; ")[1] for _, line in logged_lines[:2]}
    assert fates == {"the run is ending", "it is tolerated, and the run is ending"}


def test_failures_of_jobs_with_log_false_are_silent(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    """A job with `log=False`, and all jobs below a scheduler with it, fail without a line; the others are counted."""
    silent = Scheduler(Scheduler(Job(fail_after, 1)), Job(fail_after, 1), log=False)
    virtual(
        Scheduler(
            silent,
            Job(fail_after, 2, log=False),
            Job(fail_after, 3, label="loud"),
            label="home",
        ).co_run
    )
    assert [line.partition(";")[0] for _, line in logged_lines] == [
        "'loud' failed: OSError: broken",
        "1 job of 'home' failed",
    ]


def test_a_run_with_log_false_logs_incidents_alone(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    critical, slow = Job(fail_after, 1, critical=True), Job(nap, 9)
    assert not virtual(
        Scheduler(
            critical,
            slow,
            log=False,
            instruments=[hooked(job_started=raising(OSError("no space left")))],
        ).co_run
    )
    assert not virtual(Scheduler(Job(nap, 9), log=False, timeout=1).co_run)
    assert ["raised in job_started" in line for _, line in logged_lines] == [True]


def run_and_drop(virtual: Virtual, *jobs: Job[Any]) -> None:
    async def main() -> None:
        async with Scheduler(label="home", keep_jobs=False) as scheduler:
            scheduler.update(jobs)

    with pytest.raises(ExceptionGroup):
        virtual(main)


def test_dropped_jobs_with_log_false_are_not_counted(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    run_and_drop(virtual, Job(fail_after, 1, log=False), Job(fail_after, 2))
    assert logged_lines[-1][1].startswith("1 job of 'home' failed")


@pytest.mark.parametrize("shown", [[], ["failure"], ["end"], ["failure", "end"]])
def test_what_is_shown_is_not_printed(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, shown: list[str]
) -> None:
    """One failure was once told twice on a terminal. Handlers of the program, such as that of a file, get it all. An
    instrument that has raised, and was removed, shows nothing."""
    logger = logging.getLogger("trioflow")
    printed, handled = (
        type("Lines", (logging.NullHandler,), {"lines": [], "handle": _keep})()
        for _ in range(2)
    )
    monkeypatch.setattr(logging, "lastResort", printed)
    monkeypatch.setattr(logger, "propagate", False)

    class View(Instrument):
        shown_subjects = shown  # type: ignore[assignment]

    class Removed(Instrument):
        shown_subjects = ("failure", "end")

        def before_run(self, scheduler: Any) -> None:
            raise OSError

    views = [Removed(), View()]
    scheduler = Scheduler(
        *[Job(fail_after, 1) for _ in range(2)], label="home", instruments=views
    )
    for handlers in ([], [handled]):
        monkeypatch.setattr(logger, "handlers", handlers)
        virtual(scheduler.co_run)
    assert sorted({*handled.lines} - {*printed.lines}) == sorted(shown)
    assert handled.lines == [None, "failure", "failure", "end"]


def test_a_spent_budget_is_told_beside_any_display(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = type("Lines", (logging.NullHandler,), {"lines": [], "handle": _keep})()
    monkeypatch.setattr(logging, "lastResort", printed)
    monkeypatch.setattr(logging.getLogger("trioflow"), "propagate", False)

    class View(Instrument):
        shown_subjects = ("failure", "end")

    jobs = [Job(nap, needs={"usd": 1}) for _ in range(3)]
    virtual(Scheduler(*jobs, pool=Pool(usd=Budget(1)), instruments=[View()]).co_run)
    assert printed.lines == ["end"]


def _keep(handler: Any, record: logging.LogRecord) -> None:
    handler.lines.append(record.__dict__["about"])


def test_further_failures_of_kind_are_logged_as_count(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    """Two hundred jobs that fail alike give three log lines: one at once, one a second later, one at the end."""
    jobs = [
        Job(fail_after, 1 + number / 1600, label=f"job {number}")
        for number in range(200)
    ]
    late = [Job(fail_after, 5) for _ in range(3)]
    virtual(Scheduler(jobs, late, Job(nap, 5.5), label="home").co_run)
    said = [
        (round(time, 6), line.partition(";")[0].partition(" like "))
        for time, line in logged_lines
    ]
    assert (
        said[1][1][2]
        == "'job 0': 'job 1', 'job 2', 'job 3', 'job 4', 'job 5' and 194 more"
    )
    assert said[2][1][2].count("'fail_after(5)") == 3
    assert [(time, line[0]) for time, line in said] == [
        (1, "'job 0' failed: OSError: broken"),
        (2.000625, "199 more jobs failed with OSError"),
        (5.5, "3 more jobs failed with OSError"),
        (5.5, "203 jobs of 'home' failed"),
    ]


def test_failures_of_other_messages_are_one_kind(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    """Failures of one function at one place are one kind; the line that counts them has the messages that differ. The
    name of the job in a message does not make it a different one."""
    rows = [
        Job(fail_after, 0, ValueError, f"row {number} is broken", label=f"r{number}")
        for number in range(30)
    ]
    slow = [Job(nap, 9, timeout=3, label=f"slow {number}") for number in range(3)]
    virtual(Scheduler(rows, slow, label="home").co_run)
    messages = ", ".join(
        f"'r{number}' (row {number} is broken)" for number in range(1, 6)
    )
    assert [line.partition(";")[0] for _, line in logged_lines] == [
        "'r0' failed: ValueError: row 0 is broken",
        f"29 more jobs failed with ValueError like 'r0': {messages} and 24 more",
        "'slow 0' failed: JobTimeout: 'slow 0' did not end within its timeout of 3 s",
        "2 more jobs failed with JobTimeout like 'slow 0': 'slow 1', 'slow 2'",
        "33 jobs of 'home' failed",
    ]


def test_failures_of_a_function_are_of_one_kind_however_it_gets_its_arguments(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    """Jobs with keyword arguments once had a line each."""
    by_name = [Job(fail_after, kwargs={"seconds": seconds}) for seconds in (0, 0.5)]
    virtual(
        Scheduler(
            Job(fail_after, 0), Job(partial(fail_after, 0)), by_name, label="home"
        ).co_run
    )
    assert [
        line.partition(" like ")[0].partition(";")[0] for _, line in logged_lines
    ] == [
        "'fail_after(0)' failed: OSError: broken",
        "3 more jobs failed with OSError",
        "4 jobs of 'home' failed",
    ]


def test_repeated_failure_is_logged_again_in_a_minute(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    """A repeated failure is logged in full again after a minute, so that in a long run today's log has it."""
    jobs = [
        Job(fail_after, seconds, label=f"at {seconds}")
        for seconds in (1, 30, 60.5, 90, 122)
    ]
    virtual(Scheduler(jobs, label="home").co_run)
    assert [
        (round(time, 6), line.partition(";")[0]) for time, line in logged_lines[:-1]
    ] == [
        (1, "'at 1' failed: OSError: broken"),
        (31, "one more job failed with OSError like 'at 1': 'at 30'"),
        (61.5, "one more job failed with OSError like 'at 1': 'at 60.5'"),
        (90, "'at 90' failed: OSError: broken"),
        (122, "one more job failed with OSError like 'at 90': 'at 122'"),
    ]


def test_failures_of_another_kind_are_logged_at_once(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    jobs = [
        Job(fail_after, 0, label="a"),
        Job(fail_after, 0, KeyError, label="b"),
        Job(fail_now, None, label="c"),
    ]
    virtual(Scheduler(jobs).co_run)
    assert sorted(line[:3] for _, line in logged_lines[:-1]) == ["'a'", "'b'", "'c'"]


@pytest.mark.parametrize("is_blocked", [False, True])
def test_the_failure_that_stopped_the_run_has_its_own_line(
    virtual: Virtual, logged_lines: list[tuple[float, str]], is_blocked: bool
) -> None:
    """Even if it repeats an earlier one, or is that of a job which is blocked."""
    first = Job(fail_after, 0, label="first")
    bad = (
        Job(nap, first, critical=True, label="bad")
        if is_blocked
        else Job(fail_after, 1, label="bad", critical=True)
    )
    virtual(Scheduler(first, bad, Job(nap, 9), label="home").co_run)
    assert logged_lines[1][1].startswith(
        f"'bad' failed: {'RequirementFailed: ' if is_blocked else 'OSError: broken; '}"
    )
    assert "it is critical, so the run of 'home' stops" in logged_lines[1][1]


def test_timeout_of_the_run_is_logged(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    virtual(Scheduler(Job(nap, 9), Job(fail_after, 0), timeout=3, label="home").co_run)
    time, line = logged_lines[-1]
    assert time == 3
    ended = "the run of 'home' stopped after its timeout of 3 s; it was running 'nap(9)'; 1 job of 'home' failed; "
    assert line.startswith(ended)
    assert line.endswith("debrief(listing=True) shows where each job was")


def test_failures_of_commands_are_counted_separately_for_each_program(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = [CommandJob(["false"], label="false") for _ in range(3)]
    Scheduler(bad, CommandJob(["sh", "-c", "exit 3"]), jobs_window=1).run()
    assert sorted(
        line.split("; ")[0] for line in caplog.messages if "failed: " in line
    ) == [
        "'false' failed: CommandError: exit code 1: false",
        "'sh -c 'exit 3'' failed: CommandError: exit code 3: sh -c 'exit 3'",
    ]
    assert (
        "2 more jobs failed with CommandError like 'false': 'false#2', 'false#3'"
        in caplog.messages
    )


def test_jobs_that_are_not_kept_need_no_debrief(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    """With `keep_jobs=False`, the log has the line that failed in place of `debrief()`, which would show nothing."""
    run_and_drop(virtual, Job(fail_after, 1))
    line = max(line for _, _, line in fail_after.__code__.co_lines() if line)
    place = f"it was in fail_after at test_failure_log.py:{line} (raise error(text))"
    assert [line for _, line in logged_lines] == [
        f"'fail_after(1)' failed: OSError: broken; the run goes on; {place}",
        "1 job of 'home' failed; the run has failed",
    ]


def test_logged_exception_is_one_short_line(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    texts = ["two\nlines", "x" * 1_000_000, "\x1b[31mred"]
    for text in texts:
        virtual(Scheduler(Job(fail_after, 0, OSError, text)).co_run)
    lines = [line for _, line in logged_lines if "failed: " in line]
    assert len(lines) == 3
    assert all(
        "\n" not in line and "\x1b" not in line and len(line) < 400 for line in lines
    )


async def open_nursery() -> None:
    async with trio.open_nursery():
        pass


async def gather() -> None:
    asyncio.set_event_loop(
        None
    )  # as after any asyncio.run(); before, Python 3.11 makes a loop that nobody closes
    sleep = asyncio.sleep(1)
    try:
        await asyncio.gather(sleep)
    finally:
        sleep.close()


async def sleep_by_trio() -> None:
    await trio.sleep(1)


async def wait_for_item() -> None:
    await asyncio.Queue[int]().get()


@pytest.mark.parametrize(
    ("backend", "other", "body"),
    [
        ("trio", "asyncio", lambda: asyncio.sleep(1)), ("trio", "asyncio", gather), ("trio", "asyncio", wait_for_item),
        ("asyncio", "trio", sleep_by_trio), ("asyncio", "trio", open_nursery),
    ],
)  # fmt: skip
def test_failure_line_names_the_backend_that_the_job_needs(
    backend: Literal["trio", "asyncio"],
    other: str,
    body: Callable[[], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A job that needs the other async library fails at once, without its retries, and the log names `backend=`."""
    job = ran(backend, Job(body, retry=Retry(3, first=60)))
    assert (
        f'run it with backend="{other}", or await co_run() on {other} ('
        in caplog.messages[0]
    )
    assert job.attempts == 1


def test_jobs_that_need_the_other_backend_are_one_kind(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """If all jobs need the other backend, the log and the debrief say so once, and each view says it first."""
    scheduler = Scheduler(
        Job(gather, label="a"),
        Job(wait_for_item, label="b"),
        Job(asyncio.sleep, 1, label="c"),
    )
    scheduler.run(
        instruments=[Monitor(file=(shown := io.StringIO())), trace := Trace()]
    )
    remedy = 'run it with backend="asyncio", or await co_run() on asyncio'
    assert [remedy in line for line in caplog.messages] == [True, False, False]
    scheduler.debrief(file=(debrief := io.StringIO()))
    assert f"3 failures of one kind: {remedy}\n" in debrief.getvalue()
    failed = [line for line in shown.getvalue().splitlines() if "FAILED" in line]
    assert [f"Error: {remedy} (" in line for line in failed] == [True] * 3
    save(trace, tmp_path / "report.html")
    assert f"Error: {remedy} (" in html.unescape(
        (tmp_path / "report.html").read_text(encoding="utf-8")
    )


def test_log_handler_that_raises_does_not_end_the_run(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(logging.Filter):
        def filter(self, record: Any) -> bool:
            raise RuntimeError("broken filter")

    monkeypatch.setattr(logging.getLogger("trioflow"), "filters", [Broken()])
    assert (
        virtual(
            Scheduler(Job(fail_after, 0), Job(fail_after, 1), Job(fail_after, 1)).co_run
        )
        is False
    )


def test_script_without_logging_setup_prints_failure_lines_to_stderr() -> None:
    code = (
        "from trioflow import Job, Scheduler\n"
        "async def f(): raise ValueError('why')\n"
        "Scheduler(Job(f, critical=True, label='f')).run(backend='asyncio')\n"
    )
    assert (
        "'f' failed: ValueError: why; it is critical"
        in python("-c", code, text=True).stderr
    )


def test_repeated_failures_of_a_retried_nested_scheduler_are_counted_in_one_line(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    """If all attempts of a nested scheduler fail alike, the first failure is logged, and others are counted."""
    inner = Scheduler(
        Job(fail_after, 0.1, label="x", critical=True), label="inner", retry=5
    )
    virtual(Scheduler(inner, label="home").co_run)
    assert [line for _, line in logged_lines] == [
        "'inner/x' failed: OSError: broken; it is critical, so the run of 'inner' stops; debrief() shows the traceback",
        "'inner/x' failed 5 more times with OSError",
        "1 job of 'home' failed; the run has failed; debrief() shows the tracebacks",
    ]


def test_a_job_that_fails_like_one_that_has_failed_again_is_named(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    group = Scheduler(Job(fail_after, 0.25, label="x"), label="inner", retry=1)
    virtual(Scheduler(group, Job(fail_after, 0.75, label="y")).co_run)
    assert "2 more jobs failed with OSError like 'inner/x': 'inner/x', 'y'" in [
        line for _, line in logged_lines
    ]


def test_second_failed_attempt_of_a_group_is_once_more(
    virtual: Virtual, logged_lines: list[tuple[float, str]]
) -> None:
    """If two attempts of a nested scheduler fail alike, and the third succeeds, each failure has a log line."""
    left = [1, 1]

    async def fail_twice() -> None:
        if left:
            raise OSError(left.pop())

    inner = Scheduler(Job(fail_twice, label="x", critical=True), label="inner", retry=2)
    assert virtual(Scheduler(inner, label="home").co_run)
    assert [line.partition(";")[0] for _, line in logged_lines] == [
        "'inner/x' failed: OSError: 1",
        "'inner/x' failed once more with OSError",
    ]


def test_records_name_a_line_of_the_user_or_none(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise OSError("broken")  # the line of the record

    Scheduler(Job(broken, label="bad")).run(backend=backend)
    failure, end = caplog.records
    assert linecache.getline(failure.pathname, failure.lineno).endswith(
        "# the line of the record\n"
    )
    assert (failure.funcName, failure.module) == ("broken", "test_failure_log")
    assert (end.pathname, end.lineno) == ("(unknown file)", 0)


@pytest.mark.parametrize("other", [None, OSError])
def test_what_a_spent_budget_keeps_from_running_is_counted_once_whenever_that_is_said(
    virtual: Virtual,
    logged_lines: list[tuple[float, str]],
    other: type[Exception] | None,
) -> None:
    """After the minute, before another failure is told; if there is none, as the run ends."""
    first = Job(at_once, lambda: current_job().used(usd=1), needs={"usd": 1})
    poor = [
        Job(nap, needs={"usd": 1}, required=first, label=f"poor {number}")
        for number in range(4)
    ]
    long = Job(nap, 100)
    late = [Job(fail_after, 0, other, required=long)] if other else []
    virtual(Scheduler(first, *poor, long, *late, pool=Pool(usd=Budget(1))).co_run)
    counts = [
        (second, line)
        for second, line in logged_lines
        if line.startswith("3 more jobs did not run")
    ]
    assert [round(second) for second, _ in counts] == [100]
    texts = [line for _, line in logged_lines]
    assert not late or texts.index(counts[0][1]) < [
        ": OSError" in text for text in texts
    ].index(True)
