"""Whatever a function of the user says at an event of a job, which causes the next event, where it says the next word.

Each end is told once to each reader, the causing one first; a chain of any length needs no recursion; the run ends,
and has counted each job once. The functions are those that the engine calls in its steps: hooks, `on_job_settled`,
callbacks of jobs, `on=` of a retry, `parse=` of an answer, `save=` of a result. Beside them, for comparison, bodies of
jobs, one of which iterates over ends, `on_cancel=` of a thread, `co_shutdown`, and a function for signals.
"""

import math
import signal
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import (
    Answer,
    CommandJob,
    First,
    Job,
    JobState,
    Retry,
    Scheduler,
    Service,
    StopReason,
    ThreadJob,
)
from trioflow.abc import Instrument, JobKind
from ..bodies import CANCELLED, IDLE, Flaw
from ..conftest import FRAMES

LONG = FRAMES + 10
"""Links of a chain: more than frames."""
SHORT = 40
"""Where each link looks at all jobs, or writes to a journal. A recursion takes more than three frames a link."""
PATIENCE = 300
"""The seconds after which a run counts as hanging."""
TIMES = 3
"""How often each link says its word: one that tries a job again is told again."""


class Link(JobKind[int]):
    """A job of a kind that has the callbacks of commands."""

    def __init__(self, body: Callable[[], Any], **options: Any) -> None:
        super().__init__(**options)
        self._body = body

    async def co_run(self) -> int:
        return await self._body()  # type: ignore[no-any-return]


class Closing(Link):
    """A job that says a word as it is shut down."""

    def __init__(
        self, body: Callable[[], Any], say: Callable[[], object], **options: Any
    ) -> None:
        super().__init__(body, **options)
        self._say = say

    async def co_shutdown(self) -> None:
        self._say()


class Held:
    """The call of a thread that ends as `on_cancel` says a word."""

    def __init__(self, say: Callable[[], object]) -> None:
        self.has_begun = False
        self._released = threading.Event()
        self._say = say

    def wait(self) -> None:
        self.has_begun = True
        self._released.wait(PATIENCE)

    def release(self) -> None:
        self._released.set()
        self._say()


async def work(fails: bool = False) -> int:
    await anyio.lowlevel.checkpoint()
    if fails:
        raise Flaw("broken")
    return 1


async def serve(*, task_status: Any) -> None:
    task_status.started()
    await anyio.sleep_forever()


class Readers(Instrument):
    """Those that are told of ends: an instrument, and `on_job_settled` of the outermost scheduler."""

    def __init__(self) -> None:
        self.run: Any = None
        self.undecided: Any = ()
        self.hook: list[tuple[Any, float]] = []
        self.function: list[tuple[Any, float]] = []
        self.reopened: Counter[Any] = Counter()

    def before_run(self, scheduler: Any) -> None:
        if self.run is None:
            self.run = scheduler._run
            self.undecided = self.run.undecided.jobs

    def job_settled(self, scheduler: Any, job: Any) -> None:
        self.hook.append((job, job.finished_at))

    def job_reopened(self, scheduler: Any, job: Any) -> None:
        self.reopened[job] += job.state is IDLE and any(
            job is each for each, _ in self.hook
        )

    def note(self, job: Any) -> None:
        self.function.append((job, job.finished_at))


HOOKS = (
    "job_added", "job_scheduled", "job_started", "job_attempt", "service_ready", "job_settled", "job_reopened",
    "incident", "before_run", "after_run",
)  # fmt: skip
OF_JOBS = (
    "on_succeeded", "on_settled", "retry_on", "save", "load", "parse", "body", "on_cancel", "co_shutdown", "as_settled",
    "signal",
)  # fmt: skip
SPEAKERS = ("on_job_settled", "on_job_settled of a group", *HOOKS, *OF_JOBS)
GROUPED = ("on_job_settled of a group", "before_run", "after_run")
"""Those that are called for each group: here each link is in a group of its own."""


class Chain:
    """Jobs, the links, and a function that says a word at an event of each."""

    def __init__(self, speaker: str, word: str, variant: str, path: Path) -> None:
        self.speaker, self.word, self.variant = speaker, word, variant
        self.is_grouped = "group" in word or speaker in GROUPED
        is_slow = word in SLOW or variant == "journal" or self.is_grouped
        is_slow = is_slow or speaker in (
            "service_ready",
            "on_cancel",
            "as_settled",
            "signal",
        )
        self.length = SHORT if is_slow else LONG
        self.is_silent = False
        self.links: list[Any] = []
        self.calls: list[Held] = []
        self.signals: list[int] = []
        self.tops: list[Any] = []
        self.numbers: dict[Any, int] = {}
        self.said: Counter[int] = Counter()
        self.readers = Readers()
        self.recursions: list[RecursionError] = []
        self.failed = Job(work, True, label="failed", critical=variant == "clean-up")
        first = [self.link() for _ in range(1 if word in ADDING else self.length)]
        starter = Job(self.start, label="starter")
        journal = (
            {"journal": path / "run.db"}
            if variant == "journal" or speaker in ("save", "load")
            else {}
        )
        self.options: dict[str, Any] = {
            "instruments": [self.readers, *self.instruments()],
            **journal,
        }
        self.scheduler = Scheduler(
            self.failed, starter, *first, critical_jobs=False, on_job_settled=self.on_job_settled, log=False,
            jobs_window=None if variant == "backoff" else 2,
        )  # fmt: skip

    def instruments(self) -> list[Instrument]:
        if self.speaker not in HOOKS:
            return []
        kind = type(
            "Speaks",
            (Instrument,),
            {
                self.speaker: lambda _, scheduler, job=None, *rest: self.say(
                    job or scheduler
                )
            },
        )
        return [kind()]

    def on_job_settled(self, job: Any) -> None:
        self.readers.note(job)
        if self.speaker == "on_job_settled":
            self.say(job)

    def link(self, **options: Any) -> Any:
        """Return another link, in a group if each link is."""
        number, speaker = len(self.links), self.speaker
        say = partial(self.say_of, number)
        body = partial(work, self.variant == "backoff" or speaker == "retry_on")
        if self.variant == "backoff" or speaker == "retry_on":
            first = 99 if self.variant == "backoff" else 0
            options["retry"] = Retry(
                1,
                first=first,
                jitter=False,
                **({"on": say} if speaker == "retry_on" else {}),
            )
        if self.variant == "clean-up":
            options["run_if"] = "failed"
            options["required"] = self.failed
        if speaker in ("save", "load"):
            options["save"] = (
                (say, lambda value: value)
                if speaker == "save"
                else (lambda value: value, say)
            )
        options["label"] = f"link {number}"
        job: Any
        if speaker in ("on_succeeded", "on_settled"):
            job = Link(body, **{speaker: self.say}, **options)
        elif speaker == "service_ready":
            job = Service(serve, **options)
        elif speaker == "parse":
            job = Answer("?", parse=say, **options)
        elif speaker == "on_cancel":
            call = Held(say)
            self.calls.append(call)
            job = ThreadJob(call.wait, on_cancel=call.release, **options)
        elif speaker == "co_shutdown":
            job = Closing(body, say, **options)
        else:
            job = Job(partial(self.body, say) if speaker == "body" else body, **options)
        self.links.append(job)
        self.tops.append(job)
        self.numbers[job] = number
        if self.is_grouped:
            settled = (
                {"on_job_settled": self.say}
                if speaker == "on_job_settled of a group"
                else {}
            )
            self.tops[-1] = Scheduler(
                job, label=f"group {number}", log=False, **settled
            )
            self.numbers[self.tops[-1]] = number
        return self.tops[-1]

    async def body(self, say: Callable[..., object]) -> int:
        say()
        return await work()

    async def start(self) -> None:
        """Cause the first event, where the run alone does not; end what would wait for the end of its backoff."""
        if self.variant == "backoff":
            while any(  # noqa: ASYNC110 - nothing tells that a backoff has begun
                not top.is_settled() and (job.is_running() or not job.attempts)
                for job, top in zip(self.links, self.tops, strict=True)
            ):
                await anyio.sleep(0.005)
            self.say_of(0, cancels=True)
            await anyio.sleep(0.02)
            self.scheduler.cancel()
        elif self.speaker == "parse":
            for job, top in zip(self.links, self.tops, strict=True):
                while not (job.is_running() or top.is_settled()):
                    await anyio.lowlevel.checkpoint()
                if job.is_running():
                    job.answer("yes")
        elif self.speaker == "on_cancel":
            for job, top, call in zip(self.links, self.tops, self.calls, strict=True):
                while not (call.has_begun or top.is_settled()):  # noqa: ASYNC110 - a thread tells nobody
                    await anyio.sleep(0.001)
                if top.is_settled():
                    continue
                job.cancel()
                await job.wait_settled()
                if self.readers.run.phase._is_ending:
                    break
        elif self.speaker == "as_settled":
            async for job in self.scheduler.as_settled():
                self.say(job)
        elif self.speaker == "signal":
            for number in range(SHORT):
                self.signals.append(number)
                signal.raise_signal(signal.SIGTERM)
                await anyio.lowlevel.checkpoint()
        elif self.speaker in ("job_reopened", "incident"):
            await self.links[0].wait_settled()
            self.links[0].try_again()
        elif self.speaker == "job_added":
            self.scheduler.add(self.link())
        elif self.speaker == "service_ready":
            # In a drain, no other service begins, and the run waits for this job.
            while not self.readers.run.phase._is_ending:
                if all(job.is_running() or job.is_settled() for job in self.links):
                    break
                await anyio.sleep(0.005)

    def on_signal(self, _: int) -> Callable[[], object]:
        """Return what says the word in the next turn of the loop, not between two instructions of a step."""
        return partial(self.say_of, self.signals.pop())

    def say_of(self, number: int, value: object = None, cancels: bool = False) -> Any:
        if cancels:
            self.links[number].cancel()
        elif number < len(self.links):
            self.say(self.links[number])
        return True

    def say(self, job: Any) -> None:
        """Say the word because of an event of a link, or of its group. It may be refused."""
        number = self.numbers.get(job)
        if number is None or self.is_silent or self.said[number] == TIMES:
            return
        self.said[number] += 1
        try:
            WORDS[self.word](self, number)
        except RecursionError as error:
            self.recursions.append(error)
            raise
        except RuntimeError:
            pass

    def after(self, number: int, count: int = 1) -> list[Any]:
        return self.links[number + 1 : number + 1 + count]

    def groups_after(self, number: int) -> list[Any]:
        return self.tops[number + 1 : number + 2]

    def run(self, backend: Any) -> None:
        if self.speaker == "signal":
            self.scheduler.run(
                backend=backend, handle_signals=self.on_signal, **self.options
            )
            return

        async def main() -> None:
            with anyio.fail_after(PATIENCE):
                await self.scheduler.co_run(**self.options)

        anyio.run(main, backend=backend)

    def check(self) -> None:
        """Check what each reader was told, and the counts at the end."""
        scheduler, run, readers = self.scheduler, self.readers.run, self.readers
        assert not self.recursions
        for told in (readers.hook, readers.function):
            times = [at for _, at in told]
            assert times == sorted(times)
        by_hook, by_function = (
            Counter(job for job, _ in told) for told in (readers.hook, readers.function)
        )
        for job in scheduler.iterate_jobs():
            assert job.state is IDLE or job.state.is_settled, job
            assert by_hook[job] - readers.reopened[job] == job.state.is_settled, job
        for job in scheduler:
            assert by_function[job] == by_hook[job], job
        counts, left = run.counts, [job for job in scheduler if job.state is IDLE]
        is_cut_short = scheduler.stop_reason in (
            StopReason.CANCELLED,
            StopReason.DRAINED,
        )
        for count, all_left in (
            (counts.unsettled, sum(not job.forever for job in left)),
            (counts.forever_unsettled, sum(job.forever for job in left)),
        ):
            # A run that ends as it links its jobs has not counted them all.
            assert count == all_left or (count < all_left and is_cut_short)
        assert counts.cancelled == sum(
            job.state is CANCELLED and not job.forever for job in scheduler
        )
        assert not run.line.holders
        assert (run.ends.depth, len(run.ends.waiting), len(readers.undecided)) == (
            0,
            0,
            0,
        )


def add(chain: Chain, **options: Any) -> None:
    if len(chain.links) < chain.length:
        chain.scheduler.add(chain.link(**options))


def each(
    jobs: Callable[[Chain, int], list[Any]], word: str
) -> Callable[[Chain, int], None]:
    return lambda chain, number: (
        [getattr(job, word)() for job in jobs(chain, number)] and None
    )


def pause(chain: Chain, number: int) -> None:
    chain.scheduler.pause()
    chain.scheduler.resume()


def require(chain: Chain, number: int) -> None:
    for job in chain.links[number + 2 : number + 3]:
        job.requires(chain.links[number + 1])


WORDS: dict[str, Callable[[Chain, int], None]] = {
    "cancel itself": lambda chain, number: chain.links[number].cancel(),
    "cancel the next": each(Chain.after, "cancel"),
    "cancel the next twenty": each(
        lambda chain, number: chain.after(number, 20), "cancel"
    ),
    "cancel its group": lambda chain, number: chain.tops[number].cancel(),
    "cancel the next group": each(Chain.groups_after, "cancel"),
    "cancel all": lambda chain, number: chain.scheduler.cancel(),
    "drain": lambda chain, number: chain.scheduler.drain(),
    "drain the next group": each(Chain.groups_after, "drain"),
    "add": lambda chain, number: add(chain),
    "add a group": lambda chain, number: add(chain),
    "add what is blocked": lambda chain, number: add(chain, required=chain.failed),
    "require": require,
    "try itself again": lambda chain, number: chain.links[number].try_again(),
    "try the first again": lambda chain, number: chain.links[0].try_again(),
    "try the next again": each(Chain.after, "try_again"),
    "try the one before again": lambda chain, number: chain.links[
        number - 1
    ].try_again(),
    "try all again": lambda chain, number: chain.scheduler.try_again(),
    "pause and resume": pause,
    # The starter takes a place of it.
    "set the window": lambda chain, number: setattr(
        chain.scheduler, "jobs_window", 2 + number % 4
    ),
}
ADDING = ("add", "add a group", "add what is blocked")
SLOW = (
    *(word for word in WORDS if word.startswith("try")),
    "pause and resume",
    "add a group",
)
VARIANTS = ("plain", "journal", "backoff", "clean-up")


def fits(speaker: str, word: str, variant: str) -> bool:
    """Return whether there is such a chain."""
    if variant == "backoff" and speaker in (
        "service_ready",
        "body",
        "parse",
        "job_reopened",
        "incident",
        "job_added",
    ):
        return False
    if variant == "backoff" and speaker in (
        "save",
        "load",
        "before_run",
        "on_succeeded",
    ):
        return False
    if variant == "clean-up":
        if speaker == "service_ready" or speaker in GROUPED:
            return False
        if word in ADDING or "group" in word:
            return False
    if variant == "journal" and speaker in ("save", "load", "parse"):
        return False
    if speaker in ("on_cancel", "co_shutdown", "as_settled", "signal") and variant in (
        "backoff",
        "clean-up",
    ):
        return False
    if speaker == "on_cancel" and word.startswith("try"):
        # Nobody would end its thread again.
        return False
    if speaker == "parse" and (word.startswith("try the") or variant == "clean-up"):
        # Nobody would answer, or answer again.
        return False
    return not (speaker == "service_ready" and ("group" in word or word in ADDING))


SHARES = {"plain": 1, "journal": 4, "backoff": 2, "clean-up": 2}
"""The suite takes its sample from all chains of a variant, from a half of them, or from a fourth: some are dear."""
CHAINS = [
    pytest.param(speaker, word, variant, marks=[pytest.mark.ci] * ((one + two) % SHARES[variant] > 0))
    for one, speaker in enumerate(SPEAKERS)
    for two, word in enumerate(WORDS)
    for variant in VARIANTS
    if fits(speaker, word, variant)
]  # fmt: skip


@pytest.mark.sampled
@pytest.mark.usefixtures("few_frames")
@pytest.mark.parametrize(("speaker", "word", "variant"), CHAINS)
def test_a_chain_of_events(
    speaker: str, word: str, variant: str, backend: Any, tmp_path: Path
) -> None:
    chain = Chain(speaker, word, variant, tmp_path)
    if speaker == "load":
        chain.is_silent = True
        chain.run(backend)
        chain.check()
        chain = Chain(speaker, word, variant, tmp_path)
    chain.run(backend)
    chain.check()


def test_a_function_of_a_retry_that_cancels_its_job_cancels_no_other(
    backend: Any,
) -> None:
    """On trio, the next job of the same task ended as cancelled, and on both loops, the job itself was tried again."""

    def on(error: Exception) -> bool:
        first.cancel()
        return True

    first = Job(
        work, True, label="first", retry=Retry(2, first=0, on=on), critical=False
    )
    others = [Job(work, label=f"other {number}") for number in range(9)]
    scheduler = Scheduler(first, *others, jobs_window=1, log=False)
    scheduler.run(backend=backend)
    assert (first.state, first.attempts) == (JobState.FAILED, 1)
    assert {job.state for job in others} == {JobState.SUCCEEDED}


@pytest.mark.parametrize("word", ["cancel", "add", "drain"])
def test_each_line_of_a_command_is_a_word(word: str, backend: Any) -> None:
    def on_line(command: Any, line: str) -> None:
        if word == "cancel":
            jobs[int(line)].cancel()
        elif word == "add":
            scheduler.add(Job(work, label=line))
        else:
            scheduler.drain()

    jobs = [Job(anyio.sleep, 0.01, label=f"job {number}") for number in range(SHORT)]
    command = CommandJob(f"seq 0 {SHORT - 1}", shell=True, on_line=on_line)
    readers = Readers()
    scheduler = Scheduler(command, *jobs, jobs_window=2, on_job_settled=readers.note)
    scheduler.run(backend=backend, instruments=[readers])
    assert (
        Counter(job for job, _ in readers.hook)
        == dict.fromkeys(scheduler, 1)
        == Counter(job for job, _ in readers.function)
    )
    assert len(scheduler) == 1 + SHORT * (1 + (word == "add"))
    assert readers.run.counts.unsettled == 0


@pytest.mark.parametrize("word", ["add", "require"])
def test_a_function_for_signals_changes_nothing_by_itself(
    word: str, backend: Any
) -> None:
    """It may be called between two instructions of a step. It may return a function that changes the scenario."""

    def on_signal(_: int) -> Callable[[], object]:
        with pytest.raises(
            RuntimeError,
            match=r"a function for signals is calling; let it return a function",
        ):
            changes[word]()
        return partial(scheduler.add, Job(work, label="added"))

    async def raise_signal() -> None:
        signal.raise_signal(signal.SIGTERM)
        await anyio.sleep(0.01)

    first = Job(raise_signal, label="first")
    last = Job(work, label="last", required=first)
    scheduler = Scheduler(first, last, log=False)
    changes: dict[str, Any] = {
        "add": lambda: scheduler.add(Job(work)),
        "require": lambda: last.requires(first),
    }
    assert scheduler.run(backend=backend, handle_signals=on_signal)
    assert {job.label for job in scheduler} == {"first", "last", "added"}


def test_the_end_that_opens_a_turn_is_told_before_the_turn(backend: Any) -> None:
    """A part of the run let the next job be ready while the end that caused it was still to be told."""
    told: list[str] = []

    class Told(Instrument):
        def job_scheduled(self, scheduler: Any, job: Any) -> None:
            told.append(f"{job.label} ready")

        def job_settled(self, scheduler: Any, job: Any) -> None:
            told.append(f"{job.label} settled")

    first = First(Job(work, True, label="a"), Job(work, label="b"), stagger=math.inf)
    Scheduler(first, log=False).run(backend=backend, instruments=[Told()])
    assert told == [
        "First ready",
        "a ready",
        "a settled",
        "b ready",
        "b settled",
        "First settled",
    ]


def test_jobs_are_told_as_added_before_their_ends(backend: Any) -> None:
    """Of two that were added together, the second was told as settled, and then as added."""
    told: list[str] = []

    class Cancels(Instrument):
        def job_added(self, scheduler: Any, job: Any) -> None:
            told.append(f"{job.label} added")
            two.cancel()

        def job_settled(self, scheduler: Any, job: Any) -> None:
            told.append(f"{job.label} settled")

    one = Job(work, label="one")
    two = Job(work, label="two")

    async def add() -> None:
        scheduler.update([one, two])

    scheduler = Scheduler(Job(add, label="adds"), log=False)
    scheduler.run(backend=backend, instruments=[Cancels()])
    assert told[:3] == ["one added", "two added", "two settled"]
