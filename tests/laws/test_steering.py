"""Each word of steering in each phase of a run, and of a group that is tried again: what it does, or why it is refused.

What is set during a run is the scheduler's, until the outermost run ends: each of its runs and attempts takes it."""

from collections.abc import Callable
from itertools import product
from typing import Any
import anyio
import pytest
from trioflow import (
    AbstractJob,
    Job,
    JobNotDone,
    JobState,
    Retry,
    Scheduler,
    Service,
    StopReason,
    current_job,
)
from ..bodies import Flaw, later, nap, nothing, running, serve
from ..conftest import Virtual


def set_window(scheduler: Scheduler) -> None:
    scheduler.jobs_window = 1


WORDS: dict[str, Callable[[Scheduler], None]] = {
    "pause": Scheduler.pause, "resume": Scheduler.resume, "window": set_window, "drain": Scheduler.drain,
    "cancel": Scheduler.cancel,
}  # fmt: skip
TRIED_TWICE = {"a": [1, 5], "c": [1, 5], "b": [6]}
"""When the jobs of the group start if nobody steers it."""
PHASES = {
    "not begun": 0.5,
    "running": 1.5,
    "ending": 2.5,
    "between": 4,
    "again": 5.5,
    "settled": 15,
}
REFUSED, CANCELLED, NOTHING = "refused", "cancelled", "nothing"
TABLE: dict[tuple[str, str], Any] = {
    ("pause", "not begun"): {"a": [10, 14], "c": [10, 14], "b": [15]},
    ("pause", "running"): {"a": [1, 10], "c": [1, 10], "b": [11]},
    ("pause", "ending"): {"a": [1, 10], "c": [1, 10], "b": [11]},
    ("pause", "between"): {"a": [1, 10], "c": [1, 10], "b": [11]},
    ("pause", "again"): {"a": [1, 5], "c": [1, 5], "b": [10]},
    ("pause", "settled"): REFUSED,
    **{("resume", phase): NOTHING for phase in PHASES},
    ("window", "not begun"): {"a": [1, 4], "c": [5], "b": [6]},
    ("window", "running"): {"a": [1, 5], "c": [1, 6], "b": [7]},
    ("window", "ending"): {"a": [1, 5], "c": [1, 6], "b": [7]},
    ("window", "between"): {"a": [1, 5], "c": [1, 6], "b": [7]},
    ("window", "again"): NOTHING,
    ("window", "settled"): REFUSED,
    ("drain", "not begun"): CANCELLED,
    ("drain", "running"): CANCELLED,
    ("drain", "ending"): CANCELLED,
    ("drain", "between"): CANCELLED,
    ("drain", "again"): CANCELLED,
    ("drain", "settled"): REFUSED,
    **{("cancel", phase): CANCELLED for phase in PHASES},
    ("cancel", "settled"): NOTHING,
}


NOT_ALLOWED = "jobs_window of 'group': not allowed while 'Scheduler' is running"


class Group:
    """A group whose first attempt fails: it begins at 1, fails at 2, has unwound at 3, and is tried again at 5."""

    def __init__(self) -> None:
        self.starts: dict[str, list[float]] = {}
        gate, first, other = (
            Job(nap, 1),
            Job(self.fail_once, label="a", critical=True),
            Job(self.linger_once, label="c"),
        )
        last = Job(self.note, label="b", required=first)
        options = {
            "required": gate,
            "retry": Retry(1, first=2, jitter=False),
            "jobs_window": 3,
        }
        self.scheduler = Scheduler(first, other, last, label="group", **options)  # type: ignore[arg-type]
        self.outer = Scheduler(gate, self.scheduler, Job(nap, 30))

    async def note(self) -> int:
        """Write down the start of a job, and return how often it has started."""
        starts = self.starts.setdefault(current_job().label, [])
        starts.append(anyio.current_time())
        return len(starts)

    async def fail_once(self) -> None:
        number = await self.note()
        await anyio.sleep(1)
        if number == 1:
            raise OSError

    async def linger_once(self) -> None:
        is_first = await self.note() == 1 and not self.scheduler.attempts > 1
        try:
            await anyio.sleep(9 if is_first else 1)
        finally:
            if is_first:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1)


@pytest.mark.sampled
@pytest.mark.parametrize(("word", "phase"), TABLE)
def test_each_word_in_each_phase_of_a_group(
    virtual: Virtual, word: str, phase: str
) -> None:
    """A group that has not begun, ends, or is tried again, takes pause and window; what cannot be done is refused."""
    group, refusals = Group(), []

    async def steer() -> None:
        await anyio.sleep(PHASES[phase])
        try:
            WORDS[word](group.scheduler)
        except RuntimeError as error:
            refusals.append(str(error))
        assert group.scheduler.is_paused() is (word == "pause" and not refusals)
        await anyio.sleep(max(0, 10 - PHASES[phase]))
        if word == "pause" and not refusals:
            group.scheduler.resume()

    group.outer.add(Job(steer, forever=True))
    assert virtual(group.outer.co_run)
    expected = TABLE[word, phase]
    if expected is CANCELLED:
        assert group.scheduler.state is JobState.CANCELLED
        assert [
            times for times in group.starts.values() if times[-1] > PHASES[phase]
        ] == []
    else:
        assert group.scheduler.state is JobState.SUCCEEDED
        assert group.starts == (
            TRIED_TWICE if expected in (REFUSED, NOTHING) else expected
        )
    why = f"{word}() of 'group': it is not running" if word != "window" else NOT_ALLOWED
    assert refusals == ([why] if expected is REFUSED else [])
    assert group.scheduler.jobs_window == (
        1 if word == "window" and not refusals else 3
    )


@pytest.mark.parametrize(
    ("phase", "starts"), [("not begun", ([5], [4])), ("between", ([], [1]))]
)
def test_members_that_are_cancelled_before_a_run_of_their_group_are_so_in_that_run(
    virtual: Virtual, phase: str, starts: tuple[list[int], list[int]]
) -> None:
    group = Group()
    for member in group.scheduler:
        if member.label in "bc":
            group.outer.add(Job(later, PHASES[phase], member.cancel, forever=True))
    assert virtual(group.outer.co_run)
    assert tuple(group.starts.get(label, []) for label in "bc") == starts


class Closing(AbstractJob[None]):
    """A job whose shutdown takes half a second."""

    async def co_run(self) -> None:
        await anyio.sleep(1)

    async def co_shutdown(self) -> None:
        await anyio.sleep(0.5)


ENDS = {"drain": StopReason.DRAINED, "cancel": StopReason.CANCELLED}


@pytest.mark.sampled
@pytest.mark.usefixtures("many_pauses")
@pytest.mark.parametrize("phase", ["before", "checking", "running", "ending", "after"])
@pytest.mark.parametrize("word", WORDS)
def test_each_word_in_each_phase_of_an_outermost_run(
    virtual: Virtual, word: str, phase: str
) -> None:
    """What comes while the run is checked holds from its first job on; what comes as it ends changes nothing."""
    first = Closing()
    last = Job(nap, 1, required=first)
    many = [
        Job(nothing) for _ in range(60)
    ]  # so that checks and links take several turns of the loop
    scheduler = Scheduler(first, last, many, jobs_window=4000, label="home")

    def steer() -> str:
        try:
            WORDS[word](scheduler)
        except RuntimeError as error:
            return str(error)
        return ""

    async def run() -> str:
        refusal = steer() if phase == "before" else ""
        async with running(scheduler):
            if phase == "checking":
                while not scheduler.is_running():
                    await anyio.lowlevel.checkpoint()
                refusal = steer()
            elif phase in ("running", "ending"):
                await anyio.sleep({"running": 0.5, "ending": 2.2}[phase])
                refusal = steer()
            if word == "pause" and phase in ("checking", "running"):
                assert scheduler.is_paused()
                await anyio.sleep(5 - anyio.current_time())
                scheduler.resume()
        return steer() if phase == "after" else refusal

    is_refused = (
        phase in (("after",) if word == "cancel" else ("before", "after"))
        and word != "window"
    )
    assert virtual(run) == (
        f"{word}() of 'home': {REASONS.get(word, 'it is not running')}"
        if is_refused
        else ""
    )
    ends = (phase in ("checking", "running") and word in ENDS) or (word, phase) == (
        "cancel",
        "before",
    )
    assert scheduler.stop_reason is (ENDS[word] if ends else StopReason.COMPLETED)
    starts: Any = {"before": {"cancel": [None, None]}}
    starts["checking"] = {
        "pause": [5, 6],
        "drain": [None, None],
        "cancel": [None, None],
    }
    starts["running"] = {"pause": [0, 5], "drain": [0, None], "cancel": [0, None]}
    assert [first.started_at, last.started_at] == starts.get(phase, {}).get(
        word, [0, 1]
    )
    assert scheduler.jobs_window == (1 if word == "window" else 4000)


REASONS = {"cancel": "its scheduler is not running"}


# --- Whoever waits for a job that the run will not reach any more is told so at the word, not when the run has ended
UNREACHED: dict[str, Callable[[Job[Any]], Any]] = {
    "a job": lambda running: Job(nap, required=running),
    "a service": lambda running: Service(serve, required=running),
    "a forever job": lambda running: Job(nap, required=running, forever=True),
    "a clean-up job": lambda running: Job(nap, required=running, run_if="failed"),
    "a job of a group with a retry": lambda running: Scheduler(
        Job(nap), required=running, retry=2
    ),
}
WAYS: dict[str, Callable[[Job[Any]], Any]] = {
    "await": lambda job: job,
    "wait_settled": lambda job: job.wait_settled(),
}


ENDINGS = ["drain", "cancel", "critical", "timeout"]
CLEANED_UP = {"critical", "timeout"}


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize(
    ("word", "what"),
    [
        each
        for each in product(ENDINGS, UNREACHED)
        if not ("clean" in each[1] and each[0] in CLEANED_UP)
    ],
)
def test_who_waits_for_an_unreached_job_is_told_at_the_word(
    virtual: Virtual, word: str, what: str, depth: int
) -> None:
    """A drain and `cancel()` do without clean-up jobs, and a drain without further attempts of a group."""

    async def slow() -> None:
        try:
            await anyio.sleep(6)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)
            raise

    async def say() -> None:
        await anyio.sleep(1)
        if word == "drain":
            scheduler.drain()
        elif word == "cancel":
            scheduler.cancel()
        elif word == "critical":
            raise Flaw

    running = Job(slow)
    member = UNREACHED[what](running)
    unreached = next(iter(member)) if isinstance(member, Scheduler) else member
    members: list[Any] = [running, member]
    for _ in range(depth):
        members = [Scheduler(members, retry=2 if word == "drain" else None)]
    scheduler = Scheduler(
        members,
        Job(say, critical=True),
        log=False,
        timeout=1 if word == "timeout" else None,
    )
    told: list[float] = []

    async def wait(way: Callable[[Job[Any]], Any]) -> None:
        await anyio.sleep(0.5)
        with pytest.raises(JobNotDone):
            await way(unreached)
        told.append(anyio.current_time())

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for way in WAYS.values():
                tasks.start_soon(wait, way)
            await scheduler.co_run()
            assert anyio.current_time() == pytest.approx(6)

    virtual(main)
    assert told == pytest.approx([1, 1])
