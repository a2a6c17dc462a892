"""From the first instruction of `run()` on, each word of steering is the run's, whichever thread says it.

The instant is drawn: the word is said in another thread as the thread of the run calls its n-th function, on the way
from `run()` to the run. What is said later takes effect in the next turn of the loop."""

import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import Job, JobState, Journal, JournalError, Retry, Scheduler, StopReason
from ..bodies import hooked, in_threads, pass_time
from ..conftest import Virtual
from ..places import PATIENCE

INSTANTS = 5
"""How many instants are drawn for each word, beside the first and the last."""


class Run:
    """A scheduler, alone or a member of an idle one, in a run of which a word is said at one instant."""

    def __init__(self, backend: Any, is_first: bool, is_member: bool = False) -> None:
        self.job = Job(anyio.sleep, 0, label="job")
        self.group = Scheduler(Job(anyio.sleep, 0, label="inner"), label="group")
        self.scheduler = Scheduler(
            self.job, Job(anyio.sleep, 0, label="other"), self.group, label="night"
        )
        self.idle = Scheduler(*[self.scheduler] * is_member, label="idle")
        self.backend = backend
        self.error: BaseException | None = None
        if not is_first:
            self.scheduler.run(backend=backend)

    def count_or_say(self, instant: int, say: Callable[[], object]) -> tuple[int, bool]:
        """Run, and say the word in another thread at an instant; return how many instants there were, and the result.
        From the first instruction of `run()` until the run is there, each return from a function is an instant."""
        calls = 0

        def said() -> None:
            try:
                say()
            except BaseException as error:
                self.error = error

        def on_call(frame: Any, event: str, _: Any) -> None:
            nonlocal calls
            if self.scheduler.is_running():
                sys.setprofile(None)  # what is said from now on is no early word
                return
            if event != "return" or not (calls or frame.f_code.co_name == "expect_run"):
                return
            calls += 1
            if calls == instant:
                in_threads(said)

        profile = sys.getprofile()
        sys.setprofile(on_call)
        try:
            result = self.scheduler.run(backend=self.backend)
        finally:
            sys.setprofile(profile)
        return calls, result


def drawn_runs(
    backend: Any, say: Callable[[Run], object], seed: str
) -> list[tuple[Run, bool]]:
    """Return runs in each of which a word was said at another instant, and their results."""
    draw, runs = random.Random(seed), []
    for is_first in (True, False):
        for _ in range(2):  # the first one may import what no other has to
            count, result = Run(backend, is_first).count_or_say(0, lambda: None)
        assert result
        assert count > 3 * INSTANTS
        for instant in [1, *sorted(draw.sample(range(2, count), INSTANTS)), count - 1]:
            run = Run(backend, is_first, is_member=instant % 2 == 1)
            count, result = run.count_or_say(instant, lambda run=run: say(run))  # type: ignore[misc]
            assert run.error is None, (is_first, instant)
            if count >= instant:  # on trio, the number of calls differs a little
                runs.append((run, result))
    assert len(runs) >= INSTANTS
    return runs


@pytest.mark.parametrize(
    ("word", "reason"),
    [("cancel", StopReason.CANCELLED), ("drain", StopReason.DRAINED)],
)
def test_an_end_that_is_asked_for_early_ends_the_run_as_it_begins(
    backend: Any, word: str, reason: StopReason
) -> None:
    """A `cancel()` while the loop was still imported was an error, and the run went on to its end."""
    for run, result in drawn_runs(
        backend, lambda run: getattr(run.scheduler, word)(), word
    ):
        assert (result, run.scheduler.stop_reason) == (False, reason)
        assert [job.started_at for job in run.scheduler] == [None] * 3


@pytest.mark.parametrize("word", ["cancel", "drain"])
def test_a_member_that_is_cancelled_early_does_not_start(
    backend: Any, word: str
) -> None:
    for run, result in drawn_runs(
        backend,
        lambda run: getattr(run.group if word == "drain" else run.job, word)(),
        f"{word} of a member",
    ):
        assert result
        cancelled = run.group if word == "drain" else run.job
        assert {
            job: job.state
            for job in run.scheduler
            if job.state is not JobState.SUCCEEDED
        } == {cancelled: JobState.CANCELLED}
        assert cancelled.started_at is None


@pytest.mark.parametrize("where", ["scheduler", "group"])
def test_an_early_pause_holds_until_it_is_resumed(backend: Any, where: str) -> None:
    """No job starts before `resume()`, which comes when the run has had the time for it; a later one undoes a pause."""
    starts: list[bool] = []

    def say(run: Run) -> None:
        paused: Scheduler = getattr(run, where)
        paused.pause()

        def resume() -> None:
            while not run.scheduler.is_running():
                time.sleep(0.0001)
            time.sleep(0.005)
            starts.append(
                not paused.is_paused()
                or any(job.started_at is not None for job in paused)
            )
            paused.resume()

        threading.Thread(target=resume).start()

    runs = drawn_runs(backend, say, f"pause of {where}")
    assert all(result for _, result in runs)
    assert starts == [False] * len(runs)


def test_a_resume_of_a_group_holds_though_the_group_begins_before_the_loop_hears_it(
    backend: Any,
) -> None:
    async def steer() -> None:
        group.pause()
        in_threads(group.resume)

    # In one turn, the group begins after the job that steers it.
    begin = Job(steer)
    group = Scheduler(Job(anyio.sleep, 0), label="group", required=begin)
    assert Scheduler(begin, group, timeout=PATIENCE).run(backend=backend)


def test_an_early_pause_that_is_resumed_early_is_over(backend: Any) -> None:
    for _, result in drawn_runs(
        backend, lambda run: (run.scheduler.pause(), run.scheduler.resume()), "both"
    ):
        assert result


@pytest.mark.parametrize(
    ("name", "value"), [("jobs_window", 1), ("critical_jobs", True)]
)
def test_a_setting_is_refused_from_the_call_of_run_on(
    tmp_path: Path, backend: Any, name: str, value: object
) -> None:
    """While the journal opened, `jobs_window = 1` was once accepted, and four jobs ran at once."""
    said: list[str] = []

    def set_it() -> None:
        try:
            setattr(scheduler, name, value)
        except RuntimeError as error:
            said.append(str(error))

    class Slow:
        def open_for(self, scheduler: Any) -> Any:
            in_threads(set_it)
            set_it()
            return Journal(tmp_path / "run.db").open_for(scheduler)

    scheduler = Scheduler(Job(anyio.sleep, 0), label="top", jobs_window=4)
    before = getattr(scheduler, name)
    assert scheduler.run(backend=backend, journal=Slow())
    assert said == [f"{name} of 'top': not allowed while a run of 'top' begins"] * 2
    assert getattr(scheduler, name) == before
    setattr(scheduler, name, value)


REFUSED: dict[str, dict[str, Any]] = {
    "its loop": {"backend": "curio"},
    "an argument": {"timeout": -1},
    "its journal": {"journal": "no/such/directory/run.db"},
    "its graph": {},
}
"""Arguments with which a run is refused, each at another step of its beginning."""


@pytest.mark.parametrize("refused", REFUSED)
@pytest.mark.parametrize("word", ["cancel", "drain", ""])
def test_words_for_a_refused_run_are_not_said_of_the_next(
    backend: Any, word: str, refused: str
) -> None:
    first = Job(anyio.sleep, 0)
    scheduler = Scheduler(first, second := Job(anyio.sleep, 0, required=first))
    if refused == "its graph":
        first.requires(second)
    said: list[str] = []

    def say(frame: Any, event: str, _: Any) -> None:
        if event == "return" and frame.f_code.co_name == "expect_run":
            sys.setprofile(profile)
            getattr(scheduler, word)()
            said.append(word)

    profile = sys.getprofile()
    if word:
        sys.setprofile(say)
    else:
        scheduler.cancel()
    with pytest.raises((ValueError, JournalError)):
        scheduler.run(**{"backend": backend, **REFUSED[refused]})
    if refused == "its graph":
        first.requires(second, remove=True)
    assert said == [word] * bool(word)
    assert scheduler.run(backend=backend)


@pytest.mark.parametrize("word", ["cancel", "drain", "pause", "resume"])
def test_after_the_end_steering_is_an_error_as_before(backend: Any, word: str) -> None:
    scheduler = Scheduler(job := Job(anyio.sleep, 0), label="night")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="its scheduler is not running"):
            job.cancel()
        if word != "cancel" or scheduler.stop_reason is not None:
            with pytest.raises(RuntimeError, match="not running"):
                getattr(scheduler, word)()
        assert scheduler.run(backend=backend)
    assert scheduler.stop_reason is StopReason.COMPLETED


def test_a_cancel_that_an_attempt_did_not_come_to_holds_for_the_next_one(
    virtual: Virtual,
) -> None:
    """The first attempt of the group ends before its jobs are linked. Once, the job ran in the second one."""

    def be_late(scheduler: Scheduler) -> None:
        if scheduler is group and group.attempts == 1:
            job.cancel()
            pass_time(virtual.backend, 2)

    job = Job(anyio.sleep, 0)
    group = Scheduler(job, Job(anyio.sleep, 0), timeout=1, retry=Retry(1, first=0))
    assert virtual(Scheduler(group, instruments=[hooked(before_run=be_late)]).co_run)
    assert (group.attempts, job.state, job.started_at) == (2, JobState.CANCELLED, None)
