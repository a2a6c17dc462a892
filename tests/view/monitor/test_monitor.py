"""The contents of a monitor: which jobs, in which order, with which details, in windows of any size."""

import collections
import functools
import io
import itertools
import math
import random
import re
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    Answer,
    Budget,
    First,
    Job,
    JobState,
    Monitor,
    Pool,
    Rate,
    Scheduler,
    Sequence,
    Service,
    current_job,
    ref,
)
from trioflow._core.words._job_queries import failed_through_member
from trioflow.abc import JobKind, criticality
from trioflow.view import listing
from trioflow.view.monitor._model import MAX_KEPT_FAILURES, RunModel
from trioflow.view.monitor._picture_renderer import MAX_FAILURE_ROWS
from trioflow.view.monitor._run_header import RunHeader
from trioflow.view.text._symbols import Symbols, display_width
from ...bodies import fail, flaky, nap, running
from ...conftest import Virtual
from ...midway import ask_midway
from .monitors import Terminal, drawn, jobs_only, look, pictured, serve, watched


def test_every_job_has_its_line(virtual: Virtual) -> None:
    """In the monitor's picture, each job has a line with symbol, time, label and failure, in the listing's order."""
    a, b = Job(nap, 2, label="a"), Job(fail, 1, label="b")
    last = Job(nap, 1, label="last", required=[a, b], critical=True, run_if="settled")
    scheduler, monitor = watched(last, a, b, Job(nap, 90, label="long"))
    lines = pictured(virtual, scheduler, monitor, 65.5)
    assert jobs_only(lines) == [
        "   ✓      2.0 s  a",
        "   ✗      1.0 s  b     OSError: broken",
        "   ▸ 1 min 05 s  long",
        " ! ✓      1.0 s  last",
    ]


def test_the_header_has_progress_elapsed_time_and_counts(virtual: Virtual) -> None:
    """The monitor's header has a bar, the percentage done, the elapsed time, and the number of jobs in each state."""
    done = [Job(nap, 1, label=f"done {number}") for number in range(6)]
    slow = [Job(nap, 9, expected_duration=9), Job(nap, 9, expected_duration=9)]
    scheduler, monitor = watched(
        *done, Job(fail, 2), *slow, Job(nap, 1, required=slow, expected_duration=1)
    )
    lines = pictured(virtual, scheduler, monitor, 3.5)
    bar = "━" * 26 + "╍" * 8 + "─" * 4
    assert lines[0] == f" run  {bar}   70%   7/10     3 s  ≈ 7 s left"
    assert (
        lines[1]
        == " ✓  6 succeeded   ▸  2 running   ✗  1 failed   ·  1 waiting   ∞  1 forever"
    )


def test_slots_of_a_shared_window_are_counted_once(virtual: Virtual) -> None:
    limiter = anyio.CapacityLimiter(3)
    groups = [
        Scheduler(Job(nap, 9), Job(nap, 9), jobs_window=limiter) for _ in range(2)
    ]
    scheduler, monitor = watched(*groups)
    scheduler.jobs_window = limiter
    lines = pictured(virtual, scheduler, monitor, 4, columns=120)
    assert lines[1].split("   ")[1::4] == ["▸ 3 running", "▪ 3 of 3 slots"]


def test_the_header_shows_what_is_spent_of_budgets(virtual: Virtual) -> None:
    """While the run goes on, the second line ends with what is spent of each budget; without room, a third line does.
    At 80 columns, budgets once were not shown at all."""
    jobs = [Job(nap, 9, needs={"usd": 0.75}), Job(nap, 1, needs={"usd": 1})]
    scheduler, monitor = watched(*jobs, pool=Pool(usd=Budget(5), cpu=2))
    (eye, wide), (other_eye, narrow) = (
        look(monitor, 4, columns=120),
        look(monitor, 4, columns=70),
    )
    scheduler.update([eye, other_eye])
    virtual(scheduler.co_run)
    assert wide[1].endswith("∞ 2 forever   usd 1 of 5 spent, 0.75 reserved")
    assert narrow[1].endswith("∞ 2 forever")
    assert narrow[2] == " usd 1 of 5 spent, 0.75 reserved"


def test_nested_schedulers_are_expanded_if_there_is_room(virtual: Virtual) -> None:
    inner = Scheduler(
        Job(nap, 1, label="x"),
        Job(fail, 2, label="y"),
        Job(nap, 9, label="z"),
        label="inner",
    )
    scheduler, monitor = watched(inner, Job(nap, 1, label="after", required=inner))
    lines = pictured(virtual, scheduler, monitor, 4)
    assert jobs_only(lines) == [
        "   ▸    4 s  inner  1 ✓  1 ✗  1 ▸", "   ✓  1.0 s    x", "   ✗  2.0 s    y    OSError: broken",
        "   ▸    4 s    z", "   ·         after",
    ]  # fmt: skip


def test_a_label_that_is_cut_keeps_its_indentation(virtual: Virtual) -> None:
    """The label of a nested job is cut in its middle, not at the blanks that show where it belongs."""
    inner = Scheduler(Job(nap, 9, label="x" * 100), label="inner")
    scheduler, monitor = watched(inner)
    lines = pictured(virtual, scheduler, monitor, 4)
    assert [line[:16] for line in jobs_only(lines)] == [
        "   ▸    4 s  inn",
        "   ▸    4 s    x",
    ]


def test_no_line_says_that_nothing_waits(virtual: Virtual) -> None:
    scheduler, monitor = watched(*(Job(nap, 9) for _ in range(50)))
    lines = pictured(virtual, scheduler, monitor, 3, height=14)
    assert not [line for line in lines if "waiting:" in line]
    assert len(lines) == 14


def test_jobs_of_nested_schedulers_that_do_not_fit_are_counted(
    virtual: Virtual,
) -> None:
    """If there is no room for all jobs, groups, running and failed ones have lines; the rest is counted."""
    groups = [
        Scheduler(*(Job(nap, 1, label=f"a{number}") for number in range(20)), label="A")
    ]
    groups += [
        Scheduler(
            *(Job(nap, 3, label=f"{name}{n}") for n in range(20)),
            label=name,
            jobs_window=2,
        )
        for name in "BC"
    ]
    groups[1].add(Job(fail, 1, label="bad", priority=1))
    scheduler, monitor = watched(*groups, Job(nap, label="after", required=groups))
    lines = pictured(virtual, scheduler, monitor, 2, height=14)
    assert sorted(line.strip() for line in jobs_only(lines) if "/" in line and "▸" in line) == [
        "▸    1 s  B/B1", "▸    2 s  B/B0", "▸    2 s  C/C0", "▸    2 s  C/C1",
    ]  # fmt: skip
    assert [line.strip() for line in jobs_only(lines)[:3]] == [
        "✓  1.0 s  A      ━━━━━━━━━━━━  100%  20 ✓",
        "▸    2 s  B      ────────────    5%  1 ✗  2 ▸  18 ·",
        "▸    2 s  C      ────────────    0%  2 ▸  18 ·",
    ]
    assert [
        line.strip() for line in jobs_only(lines) if "/" in line and "✗" in line
    ] == ["✗  1.0 s  B/bad  OSError: broken"]
    assert jobs_only(lines)[-1].strip() == "… and 37 waiting, 20 settled"


@pytest.mark.parametrize("height", [14, 24])
def test_no_group_takes_lines_that_another_may_need(
    virtual: Virtual, height: int
) -> None:
    """Of twelve groups, one ran 96 jobs of one family: these took all lines, and the others could not be seen."""
    many = Scheduler(
        *(Job(nap, 9, label=f"table {number}") for number in range(96)), label="many"
    )
    others = [
        Scheduler(*(Job(nap, 9) for _ in range(30)), label=f"group {n}", jobs_window=2)
        for n in range(3)
    ]
    scheduler, monitor = watched(many, *others, Job(nap, 9, label="alone"))
    lines = jobs_only(pictured(virtual, scheduler, monitor, 2, height=height))
    assert [line[13:].split("  ")[0] for line in lines[:4]] == [
        "many",
        "group 0",
        "group 1",
        "group 2",
    ]
    shown = collections.Counter(
        line[13:].partition("/")[0].strip() for line in lines[4:-1]
    )
    assert shown["alone"] == 1
    assert set(shown) == {"many", "group 0", "group 1", "group 2", "alone"}
    assert shown["many"] <= max(2, (height - 9) // 4)


@pytest.mark.parametrize("number", [2, 9, 10, 40])
def test_the_monitor_counts_the_groups_that_it_does_not_show(
    virtual: Virtual, number: int
) -> None:
    """Of forty groups, some dozen had lines, and nothing said that there are more."""
    groups = [
        Scheduler(*(Job(nap, 9) for _ in range(20)), label=f"group {each}")
        for each in range(number)
    ]
    scheduler, monitor = watched(*groups)
    lines = pictured(virtual, scheduler, monitor, 1, columns=80, height=24)
    shown = sum(" 0%" in line for line in lines[2:])
    hidden = re.findall(r"… and .*\b(\d+) groups?$", "\n".join(lines), re.MULTILINE)
    assert shown >= 2
    assert hidden == [str(number - shown)] * (number > shown)


def test_of_more_groups_than_lines_those_that_run_have_lines_in_their_order(
    virtual: Virtual,
) -> None:
    """Nine of ten groups have ended or wait: the lines are for the tenth, and then for the one that failed."""
    groups = [
        Scheduler(*(Job(nap, 1) for _ in range(20)), label=f"group {number}")
        for number in range(10)
    ]
    groups[3] = Scheduler(
        Job(fail, 1, critical=True),
        *(Job(nap, 30) for _ in range(9)),
        label="bad",
        critical=False,
    )
    groups[8].add(Job(nap, 30, label="long"))
    wait = Job(nap, 5, label="wait")
    groups[9].requires(wait)
    scheduler, monitor = watched(wait, *groups)
    lines = jobs_only(pictured(virtual, scheduler, monitor, 2, height=12))
    assert [line[13:].split("  ")[0].strip() for line in lines if "%" in line] == [
        "bad",
        "group 8",
        "group 9",
    ]


def test_a_question_has_a_line_though_all_lines_were_taken_before(
    virtual: Virtual,
) -> None:
    """The second question, too. In groups and without them."""
    for groups in (2, 0):
        first, second = (
            Answer(f"Publish {number}?", label=f"ask {number}") for number in (1, 2)
        )
        first.requires(began := Job(nap, 1))
        second.requires(Job(nap, 1), began)
        jobs = [Job(nap, 9, label=f"job {number}") for number in range(60)]
        inside = [
            Scheduler(*jobs[number::groups], label=f"group {number}")
            for number in range(groups)
        ]
        scheduler, monitor = watched(
            *(inside or jobs),
            began,
            *second.required,
            first,
            second,
            critical_jobs=False,
        )

        async def end(
            scheduler: Scheduler = scheduler, monitor: Monitor = monitor
        ) -> None:
            assert len(drawn(monitor, height=12)) == 12  # takes all lines
            await anyio.sleep(5)
            scheduler.cancel()

        scheduler.add(Job(end, label="end"))
        lines = pictured(virtual, scheduler, monitor, 3, height=12)
        assert {
            line[13:].split("  ")[0].strip() for line in lines if "asks" in line
        } == {"ask 1", "ask 2"}


def test_jobs_that_do_not_fit_are_counted_in_one_line(virtual: Virtual) -> None:
    """If not all jobs fit, running ones come first, then failures; one line counts the rest; forever jobs are last."""
    bad = [Job(fail, 1 + number / 16, label=f"bad {number}") for number in range(9)]
    slow = [Job(nap, 60, label=f"slow {number}") for number in range(90)]
    scheduler, monitor = watched(
        *bad,
        *slow,
        Job(nap, required=bad, label="more", run_if="settled"),
        jobs_window=40,
    )
    lines = pictured(virtual, scheduler, monitor, 10, columns=110, height=14)
    assert [line[13:] for line in lines[3:]] == [
        *(f"slow {number}" for number in range(8)),
        "bad 0   9 × OSError: broken",
        "… and 32 running, 51 waiting",
        "look",
    ]
    assert lines[1].endswith("∞   1 forever   ▪  40 of 40 slots")
    assert lines[2] == " waiting: 51 for a slot"


def test_waiting_jobs_are_counted_by_cause(virtual: Virtual) -> None:
    async def throttle() -> None:
        if current_job().attempts == 1 and not monitor._model.progress().elapsed > 1:
            raise trioflow.Throttled("api", after=50)

    first = Job(nap, 9)
    jobs = [Job(nap, 9, needs={"gpu": 1}) for _ in range(7)]
    api = [Job(throttle, needs={"api": 1}) for _ in range(3)]
    after = [Job(nap, 1, required=first) for _ in range(4)]
    pool = Pool(gpu=2, api=Rate(requests=100, per=1))
    scheduler, monitor = watched(first, *jobs, *api, *after, pool=pool)
    lines = pictured(virtual, scheduler, monitor, 3, height=12)
    assert lines[2] == " waiting: 4 for jobs · 5 for gpu · 3 api throttled"


def test_no_line_moves_up_when_a_job_settles(virtual: Virtual) -> None:
    jobs = [
        Job(nap, seconds, label=f"job {number}")
        for number, seconds in enumerate([9, 2, 9, 4, *[9] * 60])
    ]
    scheduler, monitor = watched(*jobs, jobs_window=4)
    seen: list[list[str]] = []

    async def draw() -> None:
        assert len(drawn(monitor, height=9)) <= 9
        for _ in range(3):
            await anyio.sleep(2.5)
            seen.append(
                [
                    line.split("  ")[-1].split(" ")[-1]
                    for line in drawn(monitor, height=9)[2:6]
                ]
            )
        await anyio.sleep(math.inf)

    scheduler.add(Job(draw, forever=True))
    virtual(scheduler.co_run)
    assert seen == [["0", "4", "2", "3"], ["0", "4", "2", "5"], ["0", "4", "2", "5"]]


def test_the_job_that_is_slowest_against_its_expected_time_has_the_first_line(
    virtual: Virtual,
) -> None:
    """If not all jobs fit, the one that takes longest, for what was expected of it, changes places with the first."""
    jobs = [Job(nap, 90, label=f"job {number}") for number in range(50)]
    timed = [
        Job(nap, 90, label=label, expected_duration=seconds)
        for label, seconds in (("late", 4), ("later", 2))
    ]
    stuck = Job(nap, 1.5, label="stuck", expected_duration=0.5)
    scheduler, monitor = watched(*jobs, *timed, stuck)
    seen: list[list[str]] = []

    async def draw() -> None:
        for _ in range(5):
            await anyio.sleep(1.2)
            seen.append(
                [
                    line[12:].split("  of ")[0].strip()
                    for line in drawn(monitor, height=9)[2:7]
                ]
            )
        scheduler.cancel()

    scheduler.add(Job(draw, forever=True))
    virtual(scheduler.co_run)
    assert [lines[0] for lines in seen] == ["stuck", *["later"] * 4]
    assert (
        sum(before != after for before, after in zip(seen[0], seen[1], strict=True))
        <= 2
    )  # the others keep theirs
    assert seen[4] == seen[3] == seen[2] == seen[1]


def test_a_settled_job_stays_visible_while_no_other_job_needs_its_line(
    virtual: Virtual,
) -> None:
    jobs = [
        Job(nap, seconds, label=f"job {number}")
        for number, seconds in enumerate([9, 2, 3])
    ]
    scheduler, monitor = watched(
        Sequence(jobs[1], *(Job(nap, 50) for _ in range(40))), jobs[0], jobs[2]
    )
    eye, _ = look(monitor, 2.5, height=10)
    later, lines = look(monitor, 5, height=10)
    scheduler.update([eye, later])
    virtual(scheduler.co_run)
    assert [line[:12].strip() for line in lines[3:6]] == [
        "▸    5 s",
        "✓  3.0 s",
        "▸    3 s",
    ]


def test_forever_jobs_and_services_come_last_and_are_counted_apart(
    virtual: Virtual,
) -> None:
    soon, late = Service(serve, label="soon"), Service(serve, 60, label="late")
    watch = Scheduler(Job(nap, 70, label="inside"), label="watch", forever=True)
    scheduler, monitor = watched(
        soon, late, watch, Job(nap, 70, label="job", required=soon)
    )
    lines = pictured(virtual, scheduler, monitor, 5)
    assert (
        lines[1]
        == " ✓ 0 succeeded   ▸ 2 running   ✗ 0 failed   · 0 waiting   ∞ 3 forever"
    )  # as in `look`
    assert jobs_only(lines) == [
        "   ▸    4 s  job", "   ∞    5 s  soon   ready", "   ∞    5 s  late   starting", "   ∞    5 s  watch  1 ▸",
    ]  # fmt: skip


def test_attempts_and_expected_durations_are_shown(virtual: Virtual) -> None:
    scheduler, monitor = watched(
        Job(fail, 2, label="again", retry=3),
        Job(nap, 20, label="timed", expected_duration=10),
        Job(fail, 1, label="hopeless", retry=1),
    )
    lines = pictured(virtual, scheduler, monitor, 5)
    assert jobs_only(lines) == [
        "   ▸    1 s  again     attempt 3 of 4",
        "   ▸    5 s  timed     of ≈10 s",
        "   ✗  2.0 s  hopeless  OSError: broken",
    ]


def test_the_header_estimates_the_remaining_time_from_graph_and_window(
    virtual: Virtual,
) -> None:
    """With two slots and four jobs of ten seconds, the header shows after five seconds that fifteen are left."""
    scheduler, monitor = watched(
        *(Job(nap, 10, expected_duration=10) for _ in range(4)), jobs_window=2
    )
    lines = pictured(virtual, scheduler, monitor, 5)
    assert lines[0].endswith("≈ 15 s left")


def test_jobs_added_during_a_run_get_lines(virtual: Virtual) -> None:
    async def grow() -> None:
        await anyio.sleep(1)
        scheduler.add(Job(nap, 9, label="new"))
        scheduler.add(Scheduler(Job(nap, 9, label="deep"), label="nested"))

    scheduler, monitor = watched(Job(grow, label="grow"))
    lines = pictured(virtual, scheduler, monitor, 3)
    assert lines[1].startswith(" ✓ 1 succeeded   ▸ 2 running")
    assert jobs_only(lines) == [
        "   ✓  1.0 s  grow", "   ▸    2 s  new", "   ▸    2 s  nested  1 ▸", "   ▸    2 s    deep",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [100, 44])
def test_the_header_says_since_when_a_run_is_paused(
    virtual: Virtual, width: int
) -> None:
    """In a pause the header has its length in place of an estimate, also in a narrow terminal."""
    shown: list[str] = []

    async def work() -> None:
        await anyio.sleep(1)
        scheduler.pause()
        await anyio.sleep(2)
        lines = RunHeader(Symbols()).lines(RunModel(scheduler).progress(), width, None)
        shown.extend(text for line in lines for text, _ in line)
        scheduler.resume()

    scheduler = Scheduler(Job(work), label="run")
    virtual(scheduler.co_run)
    assert "paused 2 s ago" in "".join(shown)


# --- the text after a job's label in a monitor: its progress, and what it waits for
async def part(fraction: float) -> None:
    """Take ten seconds, the first of which brings the given progress."""
    await anyio.sleep(1)
    current_job().progress(fraction)
    await anyio.sleep(9)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (20, " ▸    3 s  fetc…odel"),
        (40, "   ▸    3 s  fetch … model  ━━────   40%"),
        (80, "   ▸    3 s  fetch and unpack the model  ━━━━────────   40%"),
        (200, "   ▸    3 s  fetch and unpack the model  ━━━━────────   40%  of ≈20 s"),
    ],
)
def test_progress_bar_and_percentage_shrink_with_the_terminal(
    virtual: Virtual, columns: int, expected: str
) -> None:
    job = Job(
        part,
        0.4,
        label="fetch and unpack the model",
        expected_duration=20 if columns == 200 else None,
    )
    scheduler, monitor = watched(job)
    assert pictured(virtual, scheduler, monitor, 3, columns=columns)[2] == expected


def test_progress_below_the_total_is_not_rounded_up_to_100_percent(
    virtual: Virtual,
) -> None:
    """The monitor shows 99 % for a job at 99.9 %, and 100 % only for a complete one."""
    jobs = [Job(part, fraction, label=f"{fraction}") for fraction in (0.0, 0.999, 1.0)]
    scheduler, monitor = watched(*jobs)
    lines = pictured(virtual, scheduler, monitor, 3)
    assert [line.split()[-1] for line in lines[2:5]] == ["0%", "99%", "100%"]


def test_the_estimate_follows_the_reported_progress(virtual: Virtual) -> None:
    async def slow() -> None:
        await anyio.sleep(10)
        current_job().progress(0.25)
        await anyio.sleep(30)

    scheduler, monitor = watched(Job(slow))
    lines = pictured(virtual, scheduler, monitor, 10.5)
    assert "≈ 35 s left" in lines[0]


def test_the_estimate_uses_the_durations_given_to_the_scheduler(
    virtual: Virtual,
) -> None:
    inner = Scheduler(Job(anyio.sleep, 30, label="b"), label="inner")
    scheduler, monitor = watched(
        Job(anyio.sleep, 10, label="a"), inner, durations={"a": 10.0, "inner/b": 30.0}
    )
    inner.requires(next(iter(scheduler)))
    lines = pictured(virtual, scheduler, monitor, 5.5)
    assert "≈ 35 s left" in lines[0]


def test_the_line_of_a_job_shows_its_duration_given_to_the_scheduler(
    virtual: Virtual,
) -> None:
    inner = Scheduler(
        Job(anyio.sleep, 30, label="b", expected_duration=99), label="inner"
    )
    scheduler, monitor = watched(inner, durations={"inner/b": 30.0})
    lines = pictured(virtual, scheduler, monitor, 5.5)
    assert [line.partition("of ")[2] for line in lines if " b " in line] == ["≈30 s"]


def waiting_in(virtual: Virtual, *jobs: Any, **options: Any) -> list[str]:
    said: list[str] = []

    async def draw() -> None:
        await anyio.sleep(2)
        said.append(
            drawn(monitor, columns=120)[1 + len(jobs)].partition("last  ")[2].strip()
        )
        said.append(
            listing(scheduler, details=True)
            .splitlines()[len(jobs)]
            .partition(" last>")[2]
            .strip()
            .removeprefix("2.0 s  ")
        )

    scheduler, monitor = watched(Job(draw, forever=True), *jobs, **options)
    virtual(scheduler.co_run)
    return said


def test_a_job_that_waits_for_a_slot_shows_no_free_slot(virtual: Virtual) -> None:
    assert (
        waiting_in(virtual, Job(nap, 9), Job(nap, 9, label="last"), jobs_window=1)
        == ["no free slot"] * 2
    )


def test_a_job_that_waits_for_a_limiter_shows_no_free_token(virtual: Virtual) -> None:
    window = anyio.CapacityLimiter(1)
    assert (
        waiting_in(virtual, Job(nap, 9), Job(nap, 9, label="last"), jobs_window=window)
        == ["no free token"] * 2
    )


def test_a_job_that_waits_for_a_resource_shows_its_holders(virtual: Virtual) -> None:
    jobs = [
        Job(nap, 9, label=label, needs={"gpu": 1, "cpu": 1})
        for label in ("a", "b", "last")
    ]
    said = waiting_in(virtual, *jobs, pool=Pool(gpu=["0", "1"], cpu=8))
    assert said == ["gpu: 2 of 2 taken by 'a', 'b'"] * 2


class Talker(JobKind[None]):
    """A job of three seconds whose `status_text` always returns, or raises, the same."""

    def __init__(self, status: Any, **options: Any) -> None:
        super().__init__(label="last", **options)
        self.status = status
        self.asked = 0

    async def co_run(self) -> None:
        await anyio.sleep(1)
        self.progress(0.4)
        await anyio.sleep(2)

    def status_text(self) -> str:
        self.asked += 1
        if isinstance(self.status, Exception):
            raise self.status
        text: str = self.status
        return text


def test_the_status_text_of_a_running_job_follows_its_progress(
    virtual: Virtual,
) -> None:
    """A running job's status text follows its progress, on one line, with control characters escaped."""
    job = Talker("iteration\n12\x1b[31m")
    assert waiting_in(virtual, job) == [
        r"━━━━────────   40%  iteration\n12\x1b[31m",
        r"40%  iteration\n12\x1b[31m",
    ]
    assert job.asked == 2


@pytest.mark.parametrize("status", [ValueError("odd"), ""], ids=["raises", "empty"])
def test_an_empty_or_raising_status_text_is_left_out(
    virtual: Virtual, status: Any
) -> None:
    assert waiting_in(virtual, Talker(status)) == ["━━━━────────   40%", "40%"]


def test_the_status_text_of_a_redacted_job_is_not_shown(virtual: Virtual) -> None:
    job = Talker("swordfish", redact=True)
    assert waiting_in(virtual, job) == ["━━━━────────   40%", "40%"]
    assert job.asked == 0


def test_only_running_jobs_on_the_screen_compute_their_status_text(
    virtual: Virtual,
) -> None:
    jobs = [Talker("busy") for _ in range(50)]
    scheduler, monitor = watched(*jobs, jobs_window=20)
    lines = pictured(virtual, scheduler, monitor, 4, height=12)
    shown = sum(line.endswith("busy") for line in lines)
    assert 0 < shown < 12
    assert sum(job.asked for job in jobs) == shown


def test_details_of_a_job_are_cut_to_the_width_of_the_terminal(
    virtual: Virtual,
) -> None:
    """No line becomes wider than the terminal, even with a long status text or many holders of a resource."""
    jobs = [
        Job(nap, 9, label=f"a job with a long name {number}", needs={"gpu": 1})
        for number in range(9)
    ]
    scheduler, monitor = watched(
        Talker("long " * 99), Talker("漢" * 99), *jobs, pool=Pool(gpu=4)
    )
    scheduler.add(Scheduler(label="empty"))
    lines = pictured(virtual, scheduler, monitor, 2, columns=60)
    assert max(map(display_width, lines)) <= 60
    assert any("40%  l" in line for line in lines)
    assert any("gpu: 4 of 4 taken" in line for line in lines)


# --- a `First` in a monitor: it is one job in the bar, the counts, the causes of waits and the estimate
def hedged(seconds: float, **options: Any) -> First:
    return First(
        Job(nap, seconds, label="ask", **options),
        Job(nap, seconds, label="hedge", **options),
        stagger=5,
    )


def test_hedges_are_not_counted(virtual: Virtual) -> None:
    """Half of the calls have an answer: that is 50 %, although no hedge has started. The total once included the
    hedges, so that a run in which all calls succeeded ended at 50 %."""
    calls = [hedged(1) for _ in range(4)]
    scheduler, monitor = watched(*calls, jobs_window=1)
    lines = pictured(virtual, scheduler, monitor, 2.5)
    assert "50%  2/4" in lines[0]
    assert lines[1].startswith(
        " ✓ 2 succeeded   ▸ 1 running   ✗ 0 failed   · 1 waiting"
    )


def test_the_jobs_of_a_failed_first_are_no_failures(virtual: Virtual) -> None:
    """A `First` that fails is one failure, and its jobs are none; a loser beside a winner is none, either."""
    scheduler, monitor = watched(
        First(Job(fail), Job(fail)), First(Job(fail), Job(nap)), Job(nap, 9)
    )
    lines = pictured(virtual, scheduler, monitor, 3)
    assert lines[1].startswith(
        " ✓ 1 succeeded   ▸ 1 running   ✗ 1 failed   · 0 waiting"
    )


def test_a_first_whose_jobs_all_wait_is_waiting(virtual: Virtual) -> None:
    """A `First` counts as running while one of its jobs runs. If all wait for a rate, so does the `First`."""
    calls = [hedged(1.5, needs={"api": 1}) for _ in range(9)]
    scheduler, monitor = watched(
        *calls,
        *(Job(nap, 9) for _ in range(30)),
        pool=Pool(api=Rate(requests=1, per=1)),
    )
    lines = pictured(virtual, scheduler, monitor, 3.2)
    assert lines[1].startswith(
        " ✓  2 succeeded   ▸ 32 running   ✗  0 failed   ·  5 waiting"
    )
    assert lines[2] == " waiting: 5 for api"


def test_the_estimate_counts_a_first_once(virtual: Virtual) -> None:
    """What is left of ten calls after five is as long as these took: the hedges that never start take no time."""
    calls = [First(Job(nap, 2), Job(nap, 2), stagger=9) for _ in range(10)]
    scheduler, monitor = watched(*calls, jobs_window=1)
    pictures: list[list[str]] = []

    async def draw() -> None:
        await nap(10.5)
        pictures.append(drawn(monitor))

    scheduler.add(Job(draw, forever=True))
    virtual(scheduler.co_run)
    assert pictures[0][0].endswith("≈ 10 s left")


def test_the_estimate_counts_the_rate_that_calls_need(virtual: Virtual) -> None:
    """The first job of each `First` needs the rate, so that 20 calls that are left take 20 s at one per second. An
    estimate of such calls once raised a KeyError, and the monitor with it."""
    calls = [hedged(0.5, needs={"api": 1}) for _ in range(30)]
    scheduler, monitor = watched(
        *calls, pool=Pool(api=Rate(requests=1, per=1, burst=1))
    )
    lines = pictured(virtual, scheduler, monitor, 9.9)
    assert lines[0].endswith("≈ 20 s left")


def test_a_symbol_that_a_count_before_has_keeps_its_word(virtual: Virtual) -> None:
    stopped = Scheduler(
        Sequence(Job(fail, 1, critical=True), *(Job(nap) for _ in range(3)))
    )
    scheduler, monitor = watched(
        stopped, Job(nap, 9), *(Job(nap) for _ in range(2)), jobs_window=2
    )
    eyes, lines = zip(
        *(look(monitor, 2, columns=columns) for columns in (150, 40, 30)), strict=True
    )
    scheduler.update(eyes)
    virtual(scheduler.co_run)
    wide, narrow, narrower = (line[1] for line in lines)
    assert "· 1 waiting" in wide
    assert "· 3 never started" in wide
    assert "· 1  · 3 never started" in narrow
    assert "· 1" in narrower
    assert "· 3" not in narrower


def test_tolerated_failures_are_shown_at_80_columns(virtual: Virtual) -> None:
    """They have the symbol of the failures that count, behind which they once were missing, of 5,019 jobs."""
    optional = [Job(fail, critical=False) for _ in range(30)]
    group = Scheduler(Job(nap, 9), timeout=1)
    jobs = (
        optional,
        [Job(fail) for _ in range(10)],
        [Job(nap, 0) for _ in range(970)],
        [Job(nap, 9) for _ in range(80)],
    )
    scheduler, monitor = watched(*jobs, group, Job(nap, required=group))
    lines = pictured(virtual, scheduler, monitor, 2, columns=80)
    assert (
        lines[1]
        == " ✓ 970   ▸ 80   ✗ 10   ✗ 30 tolerated   · 0   ✗ 1 group failed   ⊗ 1   ⊘ 1   ∞ 1"
    )


# --- pictures of the monitor in windows of any size, and their cost
def test_a_picture_reads_only_the_labels_that_it_shows(virtual: Virtual) -> None:
    asked: set[Any] = set()

    class Asked(Job[Any]):
        def counted(self) -> str:
            asked.add(self)
            return "job"

    Asked.label = property(Asked.counted)  # type: ignore[assignment]  # which no class body may do
    monitor = Monitor(file=Terminal())
    scheduler = Scheduler(jobs_window=100, instruments=[monitor])
    scheduler.update(Asked(nap, 3, label="x") for _ in range(1000))

    async def draw() -> None:
        await anyio.sleep(1)
        asked.clear()
        assert len(drawn(monitor)) <= 24
        assert 0 < len(asked) <= 24
        await anyio.sleep(1)
        scheduler.cancel()

    draws = Job(draw, forever=True)
    scheduler.add(draws)
    virtual(scheduler.co_run)
    assert draws.raised_exception() is None


def test_the_picture_fits_a_terminal_of_any_size(virtual: Virtual) -> None:
    """No line is wider and no picture higher than the terminal, whatever the labels are."""
    labels = ["plain", "漢字の長いラベル" * 5, "tab\tand\x1b[31mred\nlines", "x" * 300]
    jobs = [
        Job(fail if number % 3 else nap, 1, label=label)
        for number, label in enumerate(labels * 5)
    ]
    inner = Scheduler(*jobs, Job(nap, 9, label=labels[1]), label=labels[3])
    scheduler, monitor = watched(
        inner, Service(serve, label=labels[1]), label=labels[1]
    )

    async def draw() -> None:
        await anyio.sleep(3)
        for columns, height in itertools.product(
            [1, 5, 20, 39, 40, 60, 80, 200], [1, 2, 3, 5, 23]
        ):
            lines = drawn(monitor, columns, height)
            assert 1 <= len(lines) <= height
            assert max(map(display_width, lines)) <= columns
            assert all(line.isprintable() for line in lines)

    draws = Job(draw)
    scheduler.add(draws)
    virtual(scheduler.co_run)
    assert draws.raised_exception() is None


def test_the_header_fits_into_twenty_columns(virtual: Virtual) -> None:
    scheduler, monitor = watched(
        *(Job(nap, 1) for _ in range(6)), *(Job(nap, 9) for _ in range(4))
    )
    lines = pictured(virtual, scheduler, monitor, 3, columns=20, height=2)
    assert lines == [" ━━━━╍╍╍╍   60%  3 s", " ✓ 6  ▸ 4  ✗ 0  · 0"]


def test_the_header_has_the_estimate_in_forty_columns(virtual: Virtual) -> None:
    scheduler, monitor = watched(
        *(Job(nap, 1) for _ in range(6)),
        *(Job(nap, 9, expected_duration=9) for _ in range(4)),
    )
    scheduler.label = "release"
    eye, lines = look(monitor, 3, columns=40, height=2)
    early, without = look(monitor, 0.5, columns=40, height=2)
    scheduler.update([eye, early])
    virtual(scheduler.co_run)
    assert lines[0].startswith(" ━")
    assert lines[0].endswith("≈ 6 s left")
    assert without[0].startswith(" release  ╍")
    assert display_width(lines[0]) <= 40
    assert display_width(without[0]) <= 40


@pytest.mark.parametrize(("encoding", "ellipsis"), [("utf-8", "…"), ("ascii", "...")])
def test_a_verdict_that_is_too_long_ends_with_an_ellipsis(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, encoding: str, ellipsis: str
) -> None:
    """In a narrow terminal, a verdict was cut as if it ended there: `1 skipped, 1` of `1 skipped, 105 ms`."""
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("LINES", "24")
    terminal = Terminal(columns=30, encoding=encoding)
    soft = Job(fail, 1, critical=False)
    virtual(
        Scheduler(
            soft, Job(nap, 1), label="run", instruments=[Monitor(file=terminal)]
        ).co_run
    )
    verdict = next(line for line in terminal.shown() if "1 of 2 jobs" in line)
    assert verdict.endswith(ellipsis)
    assert 27 <= len(verdict) <= 30


def test_forever_jobs_use_the_lines_that_other_jobs_leave_free(
    virtual: Virtual,
) -> None:
    forever = [
        Job(nap, 99, label=f"watch {number}", forever=True) for number in range(4)
    ]
    first = Job(nap, 9, label="first")
    scheduler, monitor = watched(
        first, *forever, *(Job(nap, 1, required=first) for _ in range(50))
    )
    lines = pictured(virtual, scheduler, monitor, 3, columns=80, height=12)
    assert sum("watch" in line for line in lines) == 4


def test_a_label_that_is_too_long_keeps_its_end(virtual: Virtual) -> None:
    """A label that is too long loses its middle, but no number. A third of the room is for the group around the job."""
    inner = Scheduler(
        Job(nap, 9, label="verify the checksum of number 17"), label="amsterdam"
    )
    scheduler, monitor = watched(inner, *(Job(nap, 9) for _ in range(30)))
    seen: list[str] = []

    async def draw() -> None:
        await anyio.sleep(1)
        for columns in (120, 90, 60):
            seen.extend(
                line.strip() for line in drawn(monitor, columns) if "17" in line
            )

    scheduler.add(Job(draw, forever=True))
    virtual(scheduler.co_run)
    assert seen == [
        "▸    1 s  amsterdam/verify the checksum of number 17",
        "▸    1 s  amsterdam/verify the ch…m of number 17",
        "▸    1 s  ams…am/verify …umber 17",
    ]


# --- Runs that end, are repeated or retried: how the monitor counts and shows them
def test_retrying_a_nested_scheduler_resets_its_counts_and_lines(
    virtual: Virtual,
) -> None:
    """When a nested scheduler is retried, the results of the earlier attempt vanish from the monitor, but for the
    number and the time of the attempts of its jobs."""
    inner = Scheduler(
        Job(nap, 1, label="x"),
        Job(fail, 2, label="y", critical=True),
        Job(nap, 9, label="z"),
        label="in",
        retry=1,
    )
    scheduler, monitor = watched(inner)
    lines = pictured(virtual, scheduler, monitor, 3.5)
    assert lines[1].startswith(
        " ✓ 1 succeeded   ▸ 2 running   ✗ 0 failed   · 0 waiting"
    )
    assert jobs_only(lines) == [
        "   ▸    1 s  in    attempt 2 of 2, 1 ✓  2 ▸", "   ✓  2.0 s    x   attempt 2",
        " ! ▸    1 s    y   attempt 2", "   ▸    1 s    z   attempt 2",
    ]  # fmt: skip


def test_a_second_run_resets_counts_clock_and_failures(virtual: Virtual) -> None:
    attempts = iter([1, 0])

    async def first_fails() -> None:
        if next(attempts):
            raise OSError
        await anyio.sleep(5)

    scheduler, monitor = watched(Job(first_fails, label="job"), Job(nap, 3))
    virtual(scheduler.co_run)
    lines = pictured(virtual, scheduler, monitor, 2)
    assert lines[1].startswith(" ✓ 0 succeeded   ▸ 2 running   ✗ 0 failed")
    assert repr(monitor) == "<Monitor>"


def test_a_monitor_ignores_a_second_concurrent_run(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler, monitor = watched(Job(nap, 5, label="kept"))
    other = Scheduler(Job(nap, 1), label="other", instruments=[monitor])
    eye, lines = look(monitor, 3)
    scheduler.add(eye)

    async def both() -> None:
        async with running(scheduler, 1) as tasks:
            tasks.start_soon(other.co_run)

    virtual(both)
    assert jobs_only(lines) == ["   ▸    3 s  kept"]
    assert "give 'other' its own Monitor()" in caplog.text


@pytest.mark.parametrize(
    ("critical", "timeout", "said"),
    [(None, None, "1 failed of 3, 5.0 s"),
     (True, None, "stopped by a critical failure of bad, 1 failed, 1 cancelled, 1 never started…"),
     (None, 3, "timed out, 1 failed, 1 cancelled, 1 never started of 3, 3.0 s")],
)  # fmt: skip
def test_last_picture_shows_how_the_run_ended(
    virtual: Virtual, critical: bool | None, timeout: Any, said: str
) -> None:
    terminal = Terminal()
    bad = Job(fail, 2, label="bad", critical=critical)
    scheduler = Scheduler(
        bad,
        Sequence(Job(nap, 4), Job(nap, 1)),
        label="run",
        instruments=[Monitor(file=terminal)],
    )
    virtual(functools.partial(scheduler.co_run, timeout=timeout))
    assert terminal.shown()[0] == f" {'run  ' * ('…' not in said)}✗ {said}"
    counts = (
        "⊘ 1 cancelled   · 1 never started"
        if "…" in said
        else "✗  2.0 s  bad     OSError: broken"
    )
    assert terminal.shown()[1].endswith(counts)


@pytest.mark.parametrize("beyond", [0, 1, 2])
def test_the_last_picture_lists_up_to_a_hundred_kinds_of_failures(
    virtual: Virtual, beyond: int
) -> None:
    """It may be higher than the terminal. Those of a kind share a line; the jobs of more kinds are counted."""
    assert MAX_FAILURE_ROWS == 100
    number = MAX_FAILURE_ROWS - 1 + beyond
    bad = [
        Job(
            fail, 1, type(f"Error{each}", (OSError,), {})("broken"), label=f"bad {each}"
        )
        for each in range(number)
    ]
    same = [Job(fail, 2, KeyError("k"), label=f"same {each}") for each in range(30)]
    terminal = Terminal()
    virtual(Scheduler(*same, *bad, instruments=[Monitor(file=terminal)]).co_run)
    head, *lines = terminal.all_lines()[-MAX_FAILURE_ROWS - 1 - bool(beyond) :]
    assert head.endswith(f"✗ {number + 30} failed of {number + 30}, 2.0 s")
    kinds = [re.findall(r"\b(?:Error\d+(?=: broken$)|30 ×.*)", line) for line in lines]
    expected = [[f"Error{each}"] for each in range(number)] + [["30 × KeyError: 'k'"]]
    more = [[], ["… and 30 failed"], ["… and 31 failed"]][beyond]
    assert kinds[:MAX_FAILURE_ROWS] == expected[:MAX_FAILURE_ROWS]
    assert [line.strip() for line in lines[MAX_FAILURE_ROWS:]] == more


def test_a_kind_of_failures_with_several_messages_shows_the_first(
    virtual: Virtual,
) -> None:
    terminal = Terminal()
    same = [Job(fail, 2, KeyError("k"), label=f"same {each}") for each in range(20)]
    two = [Job(fail, 1, OSError(f"row {each}")) for each in range(2)]
    alone = Job(fail, 3, ValueError("v"))
    virtual(Scheduler(*same, *two, alone, instruments=[Monitor(file=terminal)]).co_run)
    ends = [re.split(" {2,}", line)[-1] for line in terminal.all_lines()[-3:]]
    assert ends == [
        "2 like this: OSError: row 0",
        "20 × KeyError: 'k'",
        "ValueError: v",
    ]


def random_scheduler(rng: random.Random, depth: int = 0) -> Scheduler:
    """Return a scheduler of jobs that fail, retry, are critical, run forever or wait for each other, nested up to three
    deep."""
    jobs: list[Any] = []
    for _ in range(rng.randint(1, 12)):
        body = rng.choice([nap, nap, nap, fail])
        options: dict[str, Any] = {
            "retry": rng.choice([None, None, 1]),
            "critical": rng.choice([True, False, *[None] * 6]),
        }
        options["required"] = rng.sample(jobs, min(len(jobs), rng.randint(0, 2)))
        if depth < 2 and rng.random() < 0.3:
            inner = random_scheduler(rng, depth + 1)
            jobs.append(inner.requires(options["required"]))
        else:
            jobs.append(
                Job(
                    body,
                    rng.choice([1, 2, 4]),
                    run_if=rng.choice(["settled", "succeeded"]),
                    **options,
                )
            )
    beside = [Job(nap, 50, forever=True)] if rng.random() < 0.3 else []
    limits: dict[str, Any] = {
        "timeout": rng.choice([None, None, 5]),
        "retry": rng.choice([None, 1]) if depth else None,
    }
    return Scheduler(*jobs, *beside, jobs_window=rng.choice([None, 1, 3]), **limits)


@pytest.mark.parametrize("number", [MAX_KEPT_FAILURES, MAX_KEPT_FAILURES + 1, 30])
def test_a_monitor_keeps_few_of_the_failed_jobs_that_the_scheduler_drops(
    virtual: Virtual, number: int
) -> None:
    """The first of a kind are kept, and all are counted."""
    scheduler, monitor = watched(keep_jobs=False)

    async def serve() -> None:
        async with scheduler:
            for each in range(number):
                scheduler.add(Job(fail, label=f"request {each}"))
            await anyio.sleep(2)
            scheduler.add(Job(fail, 0, KeyError("of another kind")))
            await anyio.sleep(2)
            assert monitor._model is not None
            failures, _ = monitor._model.failed_jobs_by_kind.values()
            assert len(failures) == number
            assert [job.job.label for job in failures] == [
                f"request {each}" for each in range(min(number, MAX_KEPT_FAILURES))
            ]

    with pytest.raises(ExceptionGroup):
        virtual(serve)


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(12))
def test_final_counts_match_the_states_of_jobs(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """In the monitor's final counts, each job counts once, in its last state, even after retries of its scheduler. A
    nested scheduler that failed for a reason other than a failed job counts, too, as in all views."""
    models: list[RunModel] = []
    end = RunModel.run_ended

    def note(self: RunModel, ended_at: float) -> None:
        end(self, ended_at)
        models.append(self)

    monkeypatch.setattr(RunModel, "run_ended", note)
    scheduler = random_scheduler(random.Random(seed))
    virtual(functools.partial(scheduler.co_run, instruments=[Monitor(file=Terminal())]))
    (model,) = models
    jobs = [
        job
        for job in scheduler.iterate_jobs()
        if not (job.forever or isinstance(job, Scheduler))
    ]
    groups = [job for job in scheduler.iterate_jobs() if isinstance(job, Scheduler)]
    failed_groups = [
        job
        for job in groups
        if job.state is JobState.FAILED and not failed_through_member(job)
    ]
    settled = collections.Counter(job.state for job in jobs if job.is_settled())
    counts = model.root.counts
    unreached = sum(not job.is_settled() for job in jobs)
    assert dict(counts.states()) == {
        **settled,
        **({JobState.IDLE: unreached} if unreached else {}),
    }
    assert counts.unreached_count == unreached
    failed = {
        job.job for kind in model.failed_jobs_by_kind.values() for job in kind.jobs
    }
    assert {job.state for job in failed} <= {JobState.FAILED}
    assert failed >= {
        job for job in [*jobs, *failed_groups] if job.state is JobState.FAILED
    }
    assert counts.failed_groups == sum(
        criticality(job) is not False for job in failed_groups
    )
    assert not model.running_jobs


# --- the counts of a monitor are right for jobs that settle while they wait for another attempt
def test_a_job_that_is_blocked_before_its_next_attempt_is_not_counted_as_running(
    virtual: Virtual,
) -> None:
    job = Job(
        fail,
        1,
        OSError("try again"),
        retry=trioflow.Retry(3, first=1),
        needs={"usd": 1},
    )
    log = io.StringIO()
    virtual(
        Scheduler(job, pool=Pool(usd=Budget(1)), instruments=[Monitor(file=log)]).co_run
    )
    verdict = log.getvalue().splitlines()[-1]
    assert "1 blocked" in verdict
    assert "running" not in verdict
    assert "never started" not in verdict


def test_a_group_that_a_spent_budget_blocks_in_each_try_counts_once(
    virtual: Virtual,
) -> None:

    async def try_again(job: Scheduler) -> None:
        for _ in range(2):
            await anyio.sleep(4)
            job.try_again()

    spending = Job(anyio.sleep, 1, needs={"usd": 2})
    blocked = Scheduler(Job(anyio.sleep, 1), needs={"usd": 1}, required=spending)
    fails = Job(flaky(2, 2))
    group = Scheduler(spending, blocked, fails)
    log = io.StringIO()
    outer = Scheduler(
        group,
        Job(try_again, ref(group)),
        pool=Pool(usd=Budget(2)),
        instruments=[Monitor(file=log)],
    )
    virtual(outer.co_run)
    assert fails.attempts == 3
    assert "1 group failed" in log.getvalue().splitlines()[-1]


@pytest.mark.parametrize("height", [20, 3], ids=["a line for each job", "few lines"])
def test_a_picture_may_be_drawn_while_jobs_are_throttled_and_tried_again(
    virtual: Virtual, height: int
) -> None:
    """A thread draws: one picture that could not be drawn was the last of the run."""
    failing = Job(fail, 1, label="failing")
    working = Job(nap, 9, label="working", expected_duration=0.5)
    scheduler, monitor = watched(failing, working, Job(nap, 9, label="other"))

    def change() -> None:
        monitor.job_reopened(scheduler, failing)
        monitor.job_scheduled(scheduler, working)

    async def draw() -> None:
        await anyio.sleep(2)
        number = 0
        has_changed = True
        while has_changed:
            lines, has_changed = ask_midway(
                number, lambda: drawn(monitor, height=height), change, "/view/monitor"
            )
            assert len(lines) <= height
            if has_changed:
                monitor.job_settled(scheduler, failing)
                monitor.job_started(scheduler, working)
            number += 1

    looks = scheduler.add(Job(draw))
    virtual(scheduler.co_run)
    looks.result()
