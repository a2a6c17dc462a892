"""The contents of a monitor: which jobs, in which order, with which details; drawn at virtual times from inside the
runs.
"""

import math

import anyio
import pytest
from trioflow import Budget, Job, Pool, Rate, Scheduler, Sequence, Service, Throttled, current_job
from trioflow.view.monitor._model import RunModel
from trioflow.view.monitor._run_header import RunHeader
from trioflow.view.text._symbols import Symbols
from ...bodies import fail, nap
from ...conftest import Virtual
from .monitors import drawn, jobs_only, look, pictured, serve, watched


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
    scheduler, monitor = watched(*done, Job(fail, 2), *slow, Job(nap, 1, required=slow, expected_duration=1))
    lines = pictured(virtual, scheduler, monitor, 3.5)
    bar = "━" * 26 + "╍" * 8 + "─" * 4
    assert lines[0] == f" run  {bar}   70%   7/10     3 s  ≈ 7 s left"
    assert lines[1] == " ✓  6 succeeded   ▸  2 running   ✗  1 failed   ·  1 waiting   ∞  1 forever"


def test_slots_of_a_shared_window_are_counted_once(virtual: Virtual) -> None:
    limiter = anyio.CapacityLimiter(3)
    groups = [Scheduler(Job(nap, 9), Job(nap, 9), jobs_window=limiter) for _ in range(2)]
    scheduler, monitor = watched(*groups)
    scheduler.jobs_window = limiter
    lines = pictured(virtual, scheduler, monitor, 4, columns=120)
    assert lines[1].split("   ")[1::4] == ["▸ 3 running", "▪ 3 of 3 slots"]


def test_the_header_shows_what_is_spent_of_budgets(virtual: Virtual) -> None:
    """While the run goes on, the second line ends with what is spent of each budget; without room, a third line does.
    At 80 columns, budgets once were not shown at all."""
    jobs = [Job(nap, 9, needs={"usd": 0.75}), Job(nap, 1, needs={"usd": 1})]
    scheduler, monitor = watched(*jobs, pool=Pool(usd=Budget(5), cpu=2))
    (eye, wide), (other_eye, narrow) = look(monitor, 4, columns=120), look(monitor, 4, columns=70)
    scheduler.update([eye, other_eye])
    virtual(scheduler.co_run)
    assert wide[1].endswith("∞ 2 forever   usd 1 of 5 spent, 0.75 reserved")
    assert narrow[1].endswith("∞ 2 forever")
    assert narrow[2] == " usd 1 of 5 spent, 0.75 reserved"


def test_nested_schedulers_are_expanded_if_there_is_room(virtual: Virtual) -> None:
    inner = Scheduler(Job(nap, 1, label="x"), Job(fail, 2, label="y"), Job(nap, 9, label="z"), label="inner")
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
    assert [line[:16] for line in jobs_only(lines)] == ["   ▸    4 s  inn", "   ▸    4 s    x"]


def test_no_line_says_that_nothing_waits(virtual: Virtual) -> None:
    scheduler, monitor = watched(*(Job(nap, 9) for _ in range(50)))
    lines = pictured(virtual, scheduler, monitor, 3, height=14)
    assert not [line for line in lines if "waiting:" in line]
    assert len(lines) == 14


def test_jobs_of_nested_schedulers_that_do_not_fit_are_counted(virtual: Virtual) -> None:
    """If there is no room for all jobs, running and failed ones have lines, with their paths; the rest is counted."""
    groups = [Scheduler(*(Job(nap, 1, label=f"a{number}") for number in range(20)), label="A")]
    groups += [
        Scheduler(*(Job(nap, 3, label=f"{name}{n}") for n in range(20)), label=name, jobs_window=2) for name in "BC"
    ]
    groups[1].add(Job(fail, 1, label="bad", priority=1))
    scheduler, monitor = watched(*groups, Job(nap, label="after", required=groups))
    lines = pictured(virtual, scheduler, monitor, 2, height=14)
    assert sorted(line.strip() for line in jobs_only(lines) if "▸" in line) == [
        "▸    1 s  B/B1", "▸    2 s  B/B0", "▸    2 s  C/C0", "▸    2 s  C/C1",
    ]  # fmt: skip
    assert [line.strip() for line in jobs_only(lines) if "✗" in line] == ["✗  1.0 s  B/bad  OSError: broken"]
    assert jobs_only(lines)[-1].strip() == "… and 37 waiting, 20 settled"


def test_jobs_that_do_not_fit_are_counted_in_one_line(virtual: Virtual) -> None:
    """If not all jobs fit, running ones come first, then failures; one line counts the rest; forever jobs are last."""
    bad = [Job(fail, 1 + number / 16, label=f"bad {number}") for number in range(9)]
    slow = [Job(nap, 60, label=f"slow {number}") for number in range(90)]
    scheduler, monitor = watched(*bad, *slow, Job(nap, required=bad, label="more", run_if="settled"), jobs_window=40)
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
            raise Throttled("api", after=50)

    first = Job(nap, 9)
    jobs = [Job(nap, 9, needs={"gpu": 1}) for _ in range(7)]
    api = [Job(throttle, needs={"api": 1}) for _ in range(3)]
    after = [Job(nap, 1, required=first) for _ in range(4)]
    pool = Pool(gpu=2, api=Rate(requests=100, per=1))
    scheduler, monitor = watched(first, *jobs, *api, *after, pool=pool)
    lines = pictured(virtual, scheduler, monitor, 3, height=12)
    assert lines[2] == " waiting: 4 for jobs · 5 for gpu · 3 api throttled"


def test_no_line_moves_up_when_a_job_settles(virtual: Virtual) -> None:
    jobs = [Job(nap, seconds, label=f"job {number}") for number, seconds in enumerate([9, 2, 9, 4, *[9] * 60])]
    scheduler, monitor = watched(*jobs, jobs_window=4)
    seen: list[list[str]] = []

    async def draw() -> None:
        assert len(drawn(monitor, height=9)) <= 9
        for _ in range(3):
            await anyio.sleep(2.5)
            seen.append([line.split("  ")[-1].split(" ")[-1] for line in drawn(monitor, height=9)[2:6]])
        await anyio.sleep(math.inf)

    scheduler.add(Job(draw, forever=True))
    virtual(scheduler.co_run)
    assert seen == [["0", "4", "2", "3"], ["0", "4", "2", "5"], ["0", "4", "2", "5"]]


def test_the_job_that_is_slowest_against_its_expected_time_has_the_first_line(virtual: Virtual) -> None:
    """If not all jobs fit, the one that takes longest, for what was expected of it, changes places with the first."""
    jobs = [Job(nap, 90, label=f"job {number}") for number in range(50)]
    timed = [Job(nap, 90, label=label, expected_duration=seconds) for label, seconds in (("late", 4), ("later", 2))]
    stuck = Job(nap, 1.5, label="stuck", expected_duration=0.5)
    scheduler, monitor = watched(*jobs, *timed, stuck)
    seen: list[list[str]] = []

    async def draw() -> None:
        for _ in range(5):
            await anyio.sleep(1.2)
            seen.append([line[12:].split("  of ")[0].strip() for line in drawn(monitor, height=9)[2:7]])
        scheduler.cancel()

    scheduler.add(Job(draw, forever=True))
    virtual(scheduler.co_run)
    assert [lines[0] for lines in seen] == ["stuck", *["later"] * 4]
    assert sum(before != after for before, after in zip(seen[0], seen[1], strict=True)) <= 2  # the others keep theirs
    assert seen[4] == seen[3] == seen[2] == seen[1]


def test_a_settled_job_stays_visible_while_no_other_job_needs_its_line(virtual: Virtual) -> None:
    jobs = [Job(nap, seconds, label=f"job {number}") for number, seconds in enumerate([9, 2, 3])]
    scheduler, monitor = watched(Sequence(jobs[1], *(Job(nap, 50) for _ in range(40))), jobs[0], jobs[2])
    eye, _ = look(monitor, 2.5, height=10)
    later, lines = look(monitor, 5, height=10)
    scheduler.update([eye, later])
    virtual(scheduler.co_run)
    assert [line[:12].strip() for line in lines[3:6]] == ["▸    5 s", "✓  3.0 s", "▸    3 s"]


def test_forever_jobs_and_services_come_last_and_are_counted_apart(virtual: Virtual) -> None:
    soon, late = Service(serve, label="soon"), Service(serve, 60, label="late")
    watch = Scheduler(Job(nap, 70, label="inside"), label="watch", forever=True)
    scheduler, monitor = watched(soon, late, watch, Job(nap, 70, label="job", required=soon))
    lines = pictured(virtual, scheduler, monitor, 5)
    assert lines[1] == " ✓ 0 succeeded   ▸ 2 running   ✗ 0 failed   · 0 waiting   ∞ 3 forever"  # as in `look`
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


def test_the_header_estimates_the_remaining_time_from_graph_and_window(virtual: Virtual) -> None:
    """With two slots and four jobs of ten seconds, the header shows after five seconds that fifteen are left."""
    scheduler, monitor = watched(*(Job(nap, 10, expected_duration=10) for _ in range(4)), jobs_window=2)
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
def test_the_header_says_since_when_a_run_is_paused(virtual: Virtual, width: int) -> None:
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
