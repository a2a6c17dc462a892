"""The table of words and stages says what happens: each word is said at each stage, here and in another thread."""

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import Job, JobNotDone, JobState, Scheduler, StopReason
from trioflow._core.scheduler import _life
from trioflow._core.scheduler._life import Answer, Stage
from ..bodies import at_once, fail_now, hooked, in_threads, nothing

SYNC_WORDS = [
    word
    for word in _life.WORDS
    if not word.startswith(("run", "wait_settled", "cancel, nested"))
]
"""The words that no other test of this file says. `cells_of` knows the one of a nested scheduler."""
SAID: dict[str, Callable[[Any], object]] = {
    "add": lambda scene: scene.subject.add(scene.added),
    "requires": lambda scene: scene.late.requires(scene.flaky),
    "change": lambda scene: scene.subject.remove(scene.spare),
    "jobs_window=": lambda scene: setattr(scene.subject, "jobs_window", 7),
    "cancel": lambda scene: scene.subject.cancel(),
    "cancel of a job": lambda scene: scene.late.cancel(),
    "drain": lambda scene: scene.subject.drain(),
    "pause": lambda scene: scene.subject.pause(),
    "resume": lambda scene: scene.subject.resume(),
    "try_again": lambda scene: scene.subject.try_again(),
    "try_again of a job": lambda scene: scene.flaky.try_again(),
    "as_settled": lambda scene: setattr(
        scene, "iterates", not scene.subject.as_settled()._has_run_ended
    ),
}


class Scene:
    """A scheduler with five jobs, alone or in another, at one stage of its life, of which a word is said."""

    def __init__(self, is_nested: bool, stage: Stage) -> None:
        self.tries, self.stage = 0, stage
        self.is_gate_open = stage not in (Stage.RUNNING, Stage.WAITING, Stage.SETTLED)
        self.gate = Job(self._wait, label="gate")
        self.flaky, self.late, self.spare, self.added = (
            Job(self._fail),
            Job(nothing),
            Job(nothing),
            Job(nothing),
        )
        self.subject = Scheduler(
            self.flaky, self.late, self.spare, jobs_window=3, label="subject"
        )
        self.outermost = self.subject
        if is_nested:
            self.outermost = Scheduler(self.subject, label="outermost")
        (self.subject if stage is Stage.RUNNING else self.outermost).add(self.gate)
        if stage is Stage.RUNNING:
            self.late.requires(self.gate)
        elif stage is Stage.WAITING:
            self.subject.requires(self.gate)
        self.error: BaseException | None = None
        self.was_paused = self.iterates = False

    async def _wait(self) -> None:
        while not self.is_gate_open:  # noqa: ASYNC110 - a word may come from another thread
            await anyio.sleep(0.0005)

    async def _fail(self) -> None:
        self.tries += 1
        if self.tries == 1:
            raise OSError

    def say(self, word: str, is_elsewhere: bool) -> None:
        def said() -> None:
            try:
                SAID[word](self)
            except RuntimeError as error:
                self.error = error

        if is_elsewhere:
            in_threads(said)
        else:
            said()

    async def run(self, says: Callable[[], object] | None = None) -> None:
        """Run it; as soon as the gate waits, and what is to have settled has, say the word, and open the gate."""
        has_ended = False

        async def run_it() -> None:
            nonlocal has_ended
            await self.outermost.co_run()
            has_ended = True

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_it)
            while not has_ended:
                if self.subject.is_paused():
                    self.was_paused = True
                    self.subject.resume()
                if says is not None and self.gate.is_running() and self._is_at_stage():
                    says()
                    says = None
                    await anyio.sleep(0.002)
                    self.was_paused = self.was_paused or self.subject.is_paused()
                    self.is_gate_open = True
                await anyio.sleep(0.0005)

    def _is_at_stage(self) -> bool:
        match self.stage:
            case Stage.WAITING:
                return True
            case Stage.SETTLED:
                return self.subject.is_settled()
            case _:
                return self.flaky.is_settled()

    async def at(self, stage: Stage, say: Callable[[], object]) -> None:
        """Say the word at a stage, and run once more where it may have been kept."""
        if stage is Stage.NEW:
            say()
            await anyio.sleep(0.002)
            await self.run()
        elif stage is Stage.BEGINNING:

            def on_call(frame: Any, event: str, _: Any) -> None:
                if event == "return" and frame.f_code.co_name == "expect_run":
                    sys.setprofile(profile)
                    say()

            profile = sys.getprofile()
            sys.setprofile(on_call)
            await self.run()
        elif stage is Stage.BODY:
            with contextlib.suppress(ExceptionGroup):
                async with self.outermost:
                    # On a busy machine, the drain came before a job had begun, and cancelled it as the word does.
                    for job in self.subject:
                        await job.wait_settled()
                    self.outermost.drain()
                    while self.outermost.is_running():  # noqa: ASYNC110 - the end of a run is what is waited for
                        await anyio.sleep(0.0005)
                    say()
                    await anyio.sleep(0.002)
        elif stage is Stage.ENDED:
            await self.run()
            say()
            await anyio.sleep(0.002)
            await self.run()
        else:
            await self.run(say)

    def has_effect(self, word: str) -> bool:
        """Return whether the word was heeded, now or in the run after it."""
        ended = JobState.CANCELLED if self.outermost is not self.subject else None
        match word:
            case "add":
                return self.added in self.subject
            case "requires":
                return self.flaky in self.late.required
            case "change":
                return self.spare not in self.subject
            case "jobs_window=":
                return self.subject.jobs_window == 7
            case "cancel":
                return ended in (
                    self.subject.state,
                    None,
                ) and self.subject.stop_reason in (StopReason.CANCELLED, None)
            case "cancel of a job":
                return self.late.state is JobState.CANCELLED
            case "drain":
                reasons = (StopReason.DRAINED, StopReason.CANCELLED, None)
                return (
                    ended in (self.subject.state, None)
                    and self.subject.stop_reason in reasons
                )
            case "pause":
                return self.was_paused
            case "resume":
                return not self.was_paused
            case "as_settled":
                return self.iterates
            case _:
                return self.flaky.attempts > 1


def cells_of(word: str, is_nested: bool) -> tuple[Any, ...]:
    return _life.WORDS[
        "cancel, nested" if is_nested and word == "cancel" else word
    ].cells


def cases() -> list[Any]:
    found = []
    for word in SYNC_WORDS:
        for is_nested in (False, True):
            for stage in list(Stage)[: Stage.CLOSED]:
                is_inner = stage in (Stage.WAITING, Stage.SETTLED)
                if cells_of(word, is_nested)[stage] is None or is_inner > is_nested:
                    continue
                name = f"{word}-{'nested-' * is_nested}{stage.name}"
                found.append(pytest.param(word, is_nested, stage, id=name))
    return found


@pytest.mark.parametrize(("word", "is_nested", "stage"), cases())
def test_each_word_has_the_answer_of_the_table(
    backend: Any, word: str, is_nested: bool, stage: Stage
) -> None:
    """Where a scheduler stood was told by eight fields, which ten methods asked, each in another order."""
    cell = cells_of(word, is_nested)[stage]
    for is_elsewhere in (False, True):
        scene = Scene(is_nested, stage)
        seen = answer_to(scene, word, cell, is_elsewhere, backend)
        assert cell is not None
        assert seen is cell[is_elsewhere], (is_elsewhere, scene.error)


def answer_to(
    scene: Scene, word: str, cell: Any, is_elsewhere: bool, backend: Any
) -> Answer:
    """Say the word at the stage of the scene, here or in another thread; return what was the answer."""

    def say() -> None:
        if word == "resume":
            scene.say("pause", is_elsewhere)
            scene.error = None
        scene.say(word, is_elsewhere)

    anyio.run(scene.at, scene.stage, say, backend=backend)
    seen = Answer.REFUSE
    if scene.error is None:
        acts = Answer.KEEP if Answer.KEEP in cell else Answer.ACT
        seen = acts if scene.has_effect(word) else Answer.IGNORE
        # Nothing was paused, and to be in the body is to be drained.
        has_ended = scene.stage in (Stage.ENDED, Stage.BODY, Stage.SETTLED)
        if word in ("drain", "resume") and has_ended and Answer.IGNORE in cell:
            seen = Answer.IGNORE
    return seen


@pytest.mark.parametrize("has_run", [False, True])
@pytest.mark.parametrize("word", SYNC_WORDS)
def test_a_closed_scheduler_takes_no_jobs_and_else_answers_as_before(
    backend: Any, word: str, has_run: bool
) -> None:
    cells = _life.WORDS[word].cells
    scene = Scene(False, Stage.NEW)
    if has_run:
        anyio.run(scene.run, backend=backend)
    scene.subject.close()
    scene.say(word, False)
    cell = cells[Stage.CLOSED] or cells[Stage.ENDED if has_run else Stage.NEW]
    assert cell is not None
    assert (cell[0] is Answer.REFUSE) is (scene.error is not None)


@pytest.mark.parametrize(
    "stage", [Stage.RUNNING, Stage.WAITING, Stage.SETTLED, Stage.BODY, Stage.CLOSED]
)
@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_a_scheduler_in_a_run_or_closed_is_refused_a_run(
    backend: Any, stage: Stage, is_elsewhere: bool
) -> None:
    assert _life.WORDS["run"].cells[stage] is _life.REFUSES
    scene = Scene(stage in (Stage.WAITING, Stage.SETTLED), stage)
    errors: list[BaseException] = []

    def run_it() -> None:
        try:
            scene.subject.run(
                backend=backend
            ) if is_elsewhere else scene.subject.co_run().send(None)
        except RuntimeError as error:
            errors.append(error)

    def say() -> None:
        thread = threading.Thread(target=run_it)
        (thread.start if is_elsewhere else thread.run)()
        if is_elsewhere:
            thread.join()

    async def main() -> None:
        if stage is Stage.CLOSED:
            scene.subject.close()
            say()
        else:
            await scene.at(stage, say)

    anyio.run(main, backend=backend)
    assert len(errors) == 1


@pytest.mark.parametrize("stage", [Stage.NEW, Stage.RUNNING, Stage.ENDED, Stage.BODY])
@pytest.mark.parametrize("word", ["wait_settled", "wait_settled of a job"])
def test_a_wait_lasts_until_the_end_of_the_run_or_is_refused(
    backend: Any, word: str, stage: Stage
) -> None:
    cell = _life.WORDS[word].cells[stage]
    assert cell is not None
    scene = Scene(False, stage)
    seen: list[Answer] = []

    async def wait() -> None:
        waited: Any = scene.subject if word == "wait_settled" else scene.late
        if stage is Stage.ENDED:
            waited = scene.subject.add(scene.added) if waited is scene.late else waited
        is_over = scene.subject.stop_reason is not None and word == "wait_settled"
        try:
            await waited.wait_settled()
            seen.append(Answer.IGNORE if is_over else Answer.ACT)
        except JobNotDone:
            seen.append(Answer.REFUSE)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            await scene.at(stage, lambda: tasks.start_soon(wait))

    anyio.run(main, backend=backend)
    if (word, stage) == ("wait_settled of a job", Stage.BODY):
        seen = [Answer.REFUSE] if scene.late.is_settled() else seen  # it has settled
    assert seen == [cell[0]]


def test_waits_that_begin_before_a_run_in_another_thread_end_there(
    backend: Any,
) -> None:
    """The listener of an iteration set an event of the other loop, and that of an await did as its group had begun."""
    first, last = Job(anyio.sleep, 0.01), Job(anyio.sleep, 0.02)
    group = Scheduler(first, last.requires(first))
    scheduler = Scheduler(group)
    seen: list[object] = []

    async def iterate() -> None:
        async for job in group.as_settled():
            seen.append(job)

    async def wait() -> None:
        await last.wait_settled()
        seen.append("awaited")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(iterate)
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert await anyio.to_thread.run_sync(
                lambda: scheduler.run(backend=backend)
            )

    anyio.run(main, backend=backend)
    assert seen[0] is first
    assert set(seen) == {first, last, "awaited"}


def test_wait_settled_of_an_outermost_scheduler_waits_for_the_end_of_its_run(
    virtual: Any,
) -> None:
    errors: list[str] = []

    async def ask_inside() -> None:
        try:
            await scheduler.wait_settled()
        except RuntimeError as error:
            errors.append(str(error))

    scheduler = Scheduler(Job(anyio.sleep, 2), Job(ask_inside), label="night")

    async def main() -> None:
        for number in (1, 2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(scheduler.co_run)
                await anyio.sleep(1)
                began = anyio.current_time()
                await scheduler.wait_settled()
                assert (anyio.current_time() - began, scheduler.is_running()) == (
                    1,
                    False,
                )
                assert scheduler.stop_reason is StopReason.COMPLETED
                assert len(errors) == number
        await scheduler.wait_settled()  # it has settled
        with pytest.raises(JobNotDone, match="'new' is idle"):
            await Scheduler(label="new").wait_settled()

    virtual(main)


@pytest.mark.parametrize("word", ["drain", "pause", "resume", "cancel"])
def test_steering_of_a_group_that_a_run_elsewhere_has_not_reached_comes_too_late(
    backend: Any, word: str
) -> None:
    """Only a group that had begun knew the thread of its run: for another, three of these words were errors."""
    group = Scheduler(
        Job(nothing), label="group", required=(failing := Job(fail_now, log=False))
    )
    in_threads(lambda: Scheduler(failing, group).run(backend=backend))
    assert group.state is JobState.BLOCKED
    getattr(group, word)()


def test_a_scheduler_that_was_nested_before_is_steered_as_any_other(
    backend: Any,
) -> None:
    """It had settled in the run of the other, and so `drain()` in a run of its own said that it was not running."""
    scheduler = Scheduler(Job(nothing))
    outermost = Scheduler(scheduler)
    assert outermost.run(backend=backend)
    outermost.remove(scheduler)
    scheduler.add(Job(at_once, scheduler.drain))
    assert not scheduler.run(backend=backend)
    assert scheduler.stop_reason is StopReason.DRAINED


def test_of_two_threads_that_call_run_at_once_one_runs(backend: Any) -> None:
    """Both began a run, and the second took the place of the first. Now it is refused before it opens a loop."""
    scheduler, errors, results = (
        Scheduler(Job(nothing), label="top"),
        list[str](),
        list[bool](),
    )

    def run() -> None:
        try:
            results.append(scheduler.run(backend=backend))
        except RuntimeError as error:
            errors.append(str(error))

    def rival(frame: Any, event: str, _: Any) -> None:
        if event == "return" and frame.f_code.co_name == "expect_run":
            sys.setprofile(profile)
            in_threads(run)

    profile = sys.getprofile()
    sys.setprofile(rival)
    run()
    assert (results, errors) == (
        [True],
        [
            "another call runs 'top'; wait for that run to end, or build one for each call"
        ],
    )
    assert scheduler.run(backend=backend)


def test_many_threads_that_race_for_a_run_never_run_it_twice_at_once(
    backend: Any,
) -> None:
    scheduler, running, most = Scheduler(label="top"), 0, 0

    async def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.lowlevel.checkpoint()
        running -= 1

    scheduler.add(Job(count))
    outcomes: list[bool] = []

    def run() -> None:
        start.wait()
        for _ in range(5):
            with contextlib.suppress(RuntimeError):
                outcomes.append(scheduler.run(backend=backend))

    start = threading.Barrier(4)
    in_threads(run, 4)
    assert (most, all(outcomes), len(outcomes) > 0) == (1, True, True)


def test_a_group_in_a_group_that_waits_is_refused_a_run_of_its_own(
    virtual: Any,
) -> None:
    """Only the scheduler around it was asked, so that it ran twice: by itself, and in the run further out."""
    inner = Scheduler(Job(nothing), label="inner")
    errors: list[str] = []

    async def run_inner() -> None:
        try:
            await inner.co_run()
        except RuntimeError as error:
            errors.append(str(error))

    first = Job(run_inner)
    assert virtual(
        Scheduler(first, Scheduler(inner, required=first), label="top").co_run
    )
    assert errors == ["'inner' is in 'top', which is running, and will run it"]


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("word", ["cancel", "drain"])
def test_what_is_in_a_group_that_has_not_begun_can_be_ended(
    virtual: Any, word: str, depth: int
) -> None:
    late = Job(nothing)
    ended: Any = Scheduler(late) if word == "drain" or depth == 2 else late
    group = Scheduler(ended, other := Job(nothing))
    for _ in range(depth - 1):
        group = Scheduler(group)
    scheduler = Scheduler(
        first := Job(at_once, lambda: getattr(ended, word)()), group.requires(first)
    )
    for _ in range(2):
        virtual(scheduler.co_run)
        assert (ended.state, late.started_at, other.state) == (
            JobState.CANCELLED,
            None,
            JobState.SUCCEEDED,
        )
    group.requires(first, remove=True)
    scheduler.remove(first)
    assert virtual(scheduler.co_run)
    assert ended.state is JobState.SUCCEEDED


@pytest.mark.parametrize("reaches", ["option", "hook"])
def test_jobs_may_be_added_as_a_job_settles_while_the_run_begins(
    virtual: Any, reaches: str
) -> None:
    """A job that is skipped at once settles before the first job starts: "has not started yet" ended the run."""
    rules: list[Any] = ["succeeded", "failed", "failed"]

    def grow(job: Any) -> None:
        if rules:
            scheduler.add(Job(nothing, run_if=rules.pop()))

    options: Any = (
        {"on_job_settled": grow}
        if reaches == "option"
        else {"instruments": [hooked(job_settled=lambda scheduler, job: grow(job))]}
    )
    scheduler = Scheduler(Job(nothing, run_if="failed"), **options)
    assert virtual(scheduler.co_run), scheduler.failures()
    assert [job.state.value for job in scheduler] == ["skipped"] * 3 + ["succeeded"]
