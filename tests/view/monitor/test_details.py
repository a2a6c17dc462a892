"""The text after a job's label in a monitor: its progress, and what it waits for."""

from typing import Any

import anyio
import pytest
from trioflow import First, Job, Pool, Rate, Scheduler, Sequence, current_job
from trioflow.abc import JobKind
from trioflow.view import listing
from trioflow.view.text._symbols import display_width
from ...bodies import fail, nap
from ...conftest import Virtual
from .monitors import drawn, look, pictured, watched


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
def test_progress_bar_and_percentage_shrink_with_the_terminal(virtual: Virtual, columns: int, expected: str) -> None:
    job = Job(part, 0.4, label="fetch and unpack the model", expected_duration=20 if columns == 200 else None)
    scheduler, monitor = watched(job)
    assert pictured(virtual, scheduler, monitor, 3, columns=columns)[2] == expected


def test_progress_below_the_total_is_not_rounded_up_to_100_percent(virtual: Virtual) -> None:
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


def test_the_estimate_uses_the_durations_given_to_the_scheduler(virtual: Virtual) -> None:
    inner = Scheduler(Job(anyio.sleep, 30, label="b"), label="inner")
    scheduler, monitor = watched(Job(anyio.sleep, 10, label="a"), inner, durations={"a": 10.0, "inner/b": 30.0})
    inner.requires(next(iter(scheduler)))
    lines = pictured(virtual, scheduler, monitor, 5.5)
    assert "≈ 35 s left" in lines[0]


def test_the_line_of_a_job_shows_its_duration_given_to_the_scheduler(virtual: Virtual) -> None:
    inner = Scheduler(Job(anyio.sleep, 30, label="b", expected_duration=99), label="inner")
    scheduler, monitor = watched(inner, durations={"inner/b": 30.0})
    lines = pictured(virtual, scheduler, monitor, 5.5)
    assert [line.partition("of ")[2] for line in lines if " b " in line] == ["≈30 s"]


def waiting_in(virtual: Virtual, *jobs: Any, **options: Any) -> list[str]:
    said: list[str] = []

    async def draw() -> None:
        await anyio.sleep(2)
        said.append(drawn(monitor, columns=120)[1 + len(jobs)].partition("last  ")[2].strip())
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
    assert waiting_in(virtual, Job(nap, 9), Job(nap, 9, label="last"), jobs_window=1) == ["no free slot"] * 2


def test_a_job_that_waits_for_a_limiter_shows_no_free_token(virtual: Virtual) -> None:
    window = anyio.CapacityLimiter(1)
    assert waiting_in(virtual, Job(nap, 9), Job(nap, 9, label="last"), jobs_window=window) == ["no free token"] * 2


def test_a_job_that_waits_for_a_resource_shows_its_holders(virtual: Virtual) -> None:
    jobs = [Job(nap, 9, label=label, needs={"gpu": 1, "cpu": 1}) for label in ("a", "b", "last")]
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


def test_the_status_text_of_a_running_job_follows_its_progress(virtual: Virtual) -> None:
    """A running job's status text follows its progress, on one line, with control characters escaped."""
    job = Talker("iteration\n12\x1b[31m")
    assert waiting_in(virtual, job) == [r"━━━━────────   40%  iteration\n12\x1b[31m", r"40%  iteration\n12\x1b[31m"]
    assert job.asked == 2


@pytest.mark.parametrize("status", [ValueError("odd"), ""], ids=["raises", "empty"])
def test_an_empty_or_raising_status_text_is_left_out(virtual: Virtual, status: Any) -> None:
    assert waiting_in(virtual, Talker(status)) == ["━━━━────────   40%", "40%"]


def test_the_status_text_of_a_redacted_job_is_not_shown(virtual: Virtual) -> None:
    job = Talker("swordfish", redact=True)
    assert waiting_in(virtual, job) == ["━━━━────────   40%", "40%"]
    assert job.asked == 0


def test_only_running_jobs_on_the_screen_compute_their_status_text(virtual: Virtual) -> None:
    jobs = [Talker("busy") for _ in range(50)]
    scheduler, monitor = watched(*jobs, jobs_window=20)
    lines = pictured(virtual, scheduler, monitor, 4, height=12)
    shown = sum(line.endswith("busy") for line in lines)
    assert 0 < shown < 12
    assert sum(job.asked for job in jobs) == shown


def test_details_of_a_job_are_cut_to_the_width_of_the_terminal(virtual: Virtual) -> None:
    """No line becomes wider than the terminal, even with a long status text or many holders of a resource."""
    jobs = [Job(nap, 9, label=f"a job with a long name {number}", needs={"gpu": 1}) for number in range(9)]
    scheduler, monitor = watched(Talker("long " * 99), Talker("漢" * 99), *jobs, pool=Pool(gpu=4))
    scheduler.add(Scheduler(label="empty"))
    lines = pictured(virtual, scheduler, monitor, 2, columns=60)
    assert max(map(display_width, lines)) <= 60
    assert any("40%  l" in line for line in lines)
    assert any("gpu: 4 of 4 taken" in line for line in lines)


# --- a `First` in a monitor: it is one job in the bar, the counts, the causes of waits and the estimate
def hedged(seconds: float, **options: Any) -> First:
    return First(Job(nap, seconds, label="ask", **options), Job(nap, seconds, label="hedge", **options), stagger=5)


def test_hedges_are_not_counted(virtual: Virtual) -> None:
    """Half of the calls have an answer: that is 50 %, although no hedge has started. The total once included the
    hedges, so that a run in which all calls succeeded ended at 50 %."""
    calls = [hedged(1) for _ in range(4)]
    scheduler, monitor = watched(*calls, jobs_window=1)
    lines = pictured(virtual, scheduler, monitor, 2.5)
    assert "50%  2/4" in lines[0]
    assert lines[1].startswith(" ✓ 2 succeeded   ▸ 1 running   ✗ 0 failed   · 1 waiting")


def test_the_jobs_of_a_failed_first_are_no_failures(virtual: Virtual) -> None:
    """A `First` that fails is one failure, and its jobs are none; a loser beside a winner is none, either."""
    scheduler, monitor = watched(First(Job(fail), Job(fail)), First(Job(fail), Job(nap)), Job(nap, 9))
    lines = pictured(virtual, scheduler, monitor, 3)
    assert lines[1].startswith(" ✓ 1 succeeded   ▸ 1 running   ✗ 1 failed   · 0 waiting")


def test_a_first_whose_jobs_all_wait_is_waiting(virtual: Virtual) -> None:
    """A `First` counts as running while one of its jobs runs. If all wait for a rate, so does the `First`."""
    calls = [hedged(1.5, needs={"api": 1}) for _ in range(9)]
    scheduler, monitor = watched(*calls, *(Job(nap, 9) for _ in range(30)), pool=Pool(api=Rate(requests=1, per=1)))
    lines = pictured(virtual, scheduler, monitor, 3.2)
    assert lines[1].startswith(" ✓  2 succeeded   ▸ 32 running   ✗  0 failed   ·  5 waiting")
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
    scheduler, monitor = watched(*calls, pool=Pool(api=Rate(requests=1, per=1, burst=1)))
    lines = pictured(virtual, scheduler, monitor, 9.9)
    assert lines[0].endswith("≈ 20 s left")


def test_a_symbol_that_a_count_before_has_keeps_its_word(virtual: Virtual) -> None:
    stopped = Scheduler(Sequence(Job(fail, 1, critical=True), *(Job(nap) for _ in range(3))))
    scheduler, monitor = watched(stopped, Job(nap, 9), *(Job(nap) for _ in range(2)), jobs_window=2)
    eyes, lines = zip(*(look(monitor, 2, columns=columns) for columns in (150, 40, 30)), strict=True)
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
    jobs = optional, [Job(fail) for _ in range(10)], [Job(nap, 0) for _ in range(4970)], [Job(nap, 9) for _ in range(8)]
    scheduler, monitor = watched(*jobs, group, Job(nap, required=group))
    lines = pictured(virtual, scheduler, monitor, 2, columns=80)
    assert lines[1] == " ✓ 4970   ▸ 8   ✗ 10   ✗ 30 tolerated   · 0   ✗ 1 group failed   ⊗ 1   ⊘ 1   ∞ 1"
