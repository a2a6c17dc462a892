"""A law over all doors: a word from outside does what was seen, or is refused, whatever has changed in between."""

import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import Answer, Job, Retry, Scheduler
from trioflow._core.base._states import RunPhase
from trioflow._core.words._job_queries import question_of
from trioflow._core.words._run_view import current_run, runs_in_progress
from trioflow.abc import incidents_of
from trioflow.cli import _answer as answer_command
from trioflow.jobs import _answer
from trioflow.view.look import _steering
from trioflow.view.look._page import Page
from ...cli.command_line import trioflow
from ...conftest import BACKENDS
from ...places import PATIENCE

pytestmark = pytest.mark.usefixtures("answers")

ROUNDS = 4
"""How many words are said in the runs of a seed."""
OF_THE_RUN = ["pause", "resume", "drain", "window"]
ANY_DOOR = ["page", "steer", "thread"]
DOORS = {
    **dict.fromkeys(["cancel", "try-again", *OF_THE_RUN], ANY_DOOR),
    "answer": [*ANY_DOOR, "journal"],
    # The window is no other thread's to change.
    "window": ["page", "steer"],
}
CHANGES = {
    "answer": ["nothing", "answered", "asked anew", "ended", "another run"],
    "cancel": ["nothing", "begun anew", "ended", "another run"],
    "try-again": ["nothing", "begun anew", "another run"],
    **{word: ["nothing", "another run"] for word in OF_THE_RUN},
}


def wait_for(is_true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Desk:
    """Runs in which a job asks about one amount after the other, and another goes on or fails, until the end."""

    def __init__(self, file: Path, seed: int) -> None:
        self.chance, self.file = random.Random(seed), file
        self.amounts, self.calls, self.run_count = itertools.count(1), 0, 0
        self.fails = self.blows = self.breaks = self.is_over = self.is_ending = False
        self.paid: list[tuple[str, str]] = []
        self.cancelled: list[int] = []
        planned = Job(self.plan, label="plan", save=None)
        self.ask: Answer[str] = Answer(planned, label="ask")
        pay = Job(self.pay, planned, self.ask, label="pay", save=None)
        again: Any = {"retry": Retry(1000, first=0), "critical": False}
        self.group = Scheduler(
            planned,
            self.ask,
            pay,
            Job(self.fuse, critical=True),
            label="group",
            **again,
        )
        self.flaky = Job(self.work, label="flaky", critical=False, save=None)
        going_on = Job(anyio.sleep_forever, label="on")
        jobs = self.group, self.flaky, going_on
        self.scheduler = Scheduler(
            *jobs, label="night", jobs_window=100, journal=file, log=False
        )

    async def plan(self) -> str:
        return f"Pay {next(self.amounts)} euros?"

    async def pay(self, question: str, answer: str) -> None:
        self.paid.append((question, answer))
        await anyio.sleep_forever()

    async def fuse(self) -> None:
        while not self.blows:  # noqa: ASYNC110 - another thread sets it
            await anyio.sleep(0.001)
        self.blows = False
        raise ValueError("all of this once more")

    async def work(self) -> None:
        self.calls += 1
        call, self.breaks = self.calls, self.fails
        try:
            while not self.breaks:  # noqa: ASYNC110 - another thread sets it
                await anyio.sleep(0.001)
        except BaseException:
            if not self.is_ending:
                self.cancelled.append(call)
            raise
        raise ValueError("broken")

    # ---- what changes

    def has_begun(self) -> bool:
        return self.flaky.state.value in ("running", "failed")

    def is_ready(self) -> bool:
        return question_of(self.ask) is not None and self.has_begun()

    def ask_anew(self) -> None:
        """Let the group run once more, or try it again, if it has ended."""
        amount = self.ask.question
        if self.group.is_settled():
            self.group.try_again()
            wait_for(
                lambda: (
                    question_of(self.ask) is not None
                    or self.ask.state.value == "succeeded"
                )
            )
        if self.ask.question == amount:
            # What was answered as the group was cancelled is answered.
            self.blows = True
            wait_for(lambda: self.ask.question not in ("", amount))
        wait_for(self.is_ready)

    def begin_anew(self, is_cancelled: bool = True) -> None:
        """End the other job in any state, and try it again."""
        count = self.calls
        if is_cancelled:
            self.end(self.flaky)
        else:
            self.breaks = True
            wait_for(self.flaky.is_settled)
        self.fails = self.chance.random() < 0.5
        self.flaky.try_again()
        wait_for(lambda: self.calls > count)

    def end(self, job: Any) -> None:
        if not job.is_settled():
            job.cancel()
        wait_for(job.is_settled)

    def run_anew(self) -> None:
        count, self.is_ending = self.run_count, True
        self.scheduler.cancel()
        wait_for(lambda: self.run_count > count and self.is_ready())

    def change(self, how: str, job: Any) -> None:
        if how == "answered":
            count = len(self.paid)
            with contextlib.suppress(RuntimeError):
                # Another answer may be the first.
                self.ask.answer("of another")
            wait_for(lambda: len(self.paid) > count)
        elif how == "asked anew":
            self.ask_anew()
        elif how == "begun anew":
            self.begin_anew(is_cancelled=False)
        elif how == "ended":
            self.end(job)
        elif how == "another run":
            self.run_anew()

    # ---- a person

    def use(self) -> None:
        """Look, let something change, and say a word; do that several times, and end the run."""
        for number in range(ROUNDS):
            wait_for(lambda: self.run_count and self.has_begun() and self.ask.question)
            if question_of(self.ask) is None:
                self.ask_anew()
            wait_for(self.is_ready)
            words = [
                "answer",
                "answer",
                "try-again" if self.flaky.is_settled() else "cancel",
                *OF_THE_RUN,
            ]
            word = self.chance.choice(words)
            if word == "resume":
                self.scheduler.pause()
                wait_for(self.scheduler.is_paused)
            page = Page(os.getpid(), "night")
            page._is_drawing = True
            page.ask()
            says = self.say_of_the_run if word in OF_THE_RUN else self.say_of_a_job
            says(word, page, number)
        self.is_over = self.is_ending = True
        self.scheduler.cancel()

    def said(
        self, word: str, door: str, page: Page, value: object
    ) -> Callable[[], tuple[bool, str]]:
        """Return how a word is said about what is seen now. It returns whether it was done, and the answer."""
        job: Any = {
            "answer": self.ask,
            "cancel": self.flaky,
            "try-again": self.flaky,
        }.get(word)
        state, question = page.state(), question_of(self.ask)
        assert question is not None
        if door == "page":
            key = next(
                (
                    key
                    for key, (_, facts) in page._run.jobs.items()
                    if job and facts.span.label == job.label
                ),
                None,
            )
            mark = state["marks"].get(key, "paused")
            form = {
                "do": word,
                "seen": state["seen"],
                "marks": [mark],
                "job": key,
                "value": value,
            }
            if word == "try-again":
                form["value"] = [key]
            return lambda: ("done" in (answer := page.steer(form)), str(answer))
        if door == "thread":
            return lambda: self.call(word, value)
        called: list[Any] = (
            ["answer", self.file] if door == "journal" else ["steer", os.getpid(), word]
        )
        if word == "answer":
            called += ["group/ask", value, "--asked", question[-1]]
        elif value is not None or job is not None:
            called.append(value or "flaky")

        def command() -> tuple[bool, str]:
            result = trioflow(*called)
            return result.exit_code == 0, result.output

        return command

    def call(self, word: str, value: Any) -> tuple[bool, str]:
        """Call the method in this thread."""
        methods: dict[str, Callable[[], None]] = {
            "answer": lambda: self.ask.answer(value), "cancel": self.flaky.cancel, "try-again": self.flaky.try_again,
            "pause": self.scheduler.pause, "resume": self.scheduler.resume, "drain": self.scheduler.drain,
        }  # fmt: skip
        try:
            methods[word]()
        except (ValueError, RuntimeError) as error:
            return False, str(error)
        return True, ""

    def at_once(
        self, how: str, job: Any, say: Callable[[], tuple[bool, str]]
    ) -> tuple[bool, str]:
        """Say a word while the loop is blocked, and let something change in the turn in which it acts, or nearby."""
        answers, is_blocked, goes_on = (
            list[tuple[bool, str]](),
            threading.Event(),
            threading.Event(),
        )

        def block() -> None:
            is_blocked.set()
            goes_on.wait(PATIENCE)

        runs_in_progress()[0].call_in_loop(block)
        assert is_blocked.wait(PATIENCE)
        saying = threading.Thread(target=lambda: answers.append(say()))
        changing = threading.Thread(target=self.change, args=(how, job))
        for thread in self.chance.sample([saying, changing], 2):
            thread.start()
            time.sleep(self.chance.choice([0, 0.001, 0.01]))
        goes_on.set()
        saying.join()
        changing.join()
        wait_for(lambda: self.flaky.state.value in ("running", "failed", "cancelled"))
        return answers[0]

    def say_of_the_run(self, word: str, page: Page, number: int) -> None:
        door, how = self.chance.choice(DOORS[word]), self.chance.choice(CHANGES[word])
        is_at_once = (door, how) == (
            "page",
            "another run",
        ) and self.chance.random() < 0.5
        before, value = self.scheduler.jobs_window, {"window": 50 + number}.get(word)
        say = self.said(word, door, page, value)
        if is_at_once:
            is_done, text = self.at_once(how, None, say)
        else:
            self.change(how, None)
            is_done, text = say()
            assert is_done is (door != "page" or how == "nothing"), (
                word,
                door,
                how,
                text,
            )
        told, acts = (word, door, how, is_at_once, text), is_done and not is_at_once
        view = current_run(self.scheduler)
        assert view is not None
        if not acts:
            assert (view.phase, self.scheduler.is_paused()) == (
                RunPhase.RUNNING,
                False,
            ), told
        if word == "window":
            assert self.scheduler.jobs_window == (value if is_done else before), told
        elif acts and word == "drain":
            wait_for(lambda: view.phase is RunPhase.DRAINING)
            self.run_anew()
        elif acts:
            wait_for(lambda: self.scheduler.is_paused() is (word == "pause"))
        self.scheduler.resume()

    def say_of_a_job(self, word: str, page: Page, number: int) -> None:
        value = f"yes {number}" if word == "answer" else None
        job: Any = self.ask if value else self.flaky
        changed: Any = self.group if value else self.flaky
        door, how = self.chance.choice(DOORS[word]), self.chance.choice(CHANGES[word])
        is_at_once = (
            word != "try-again" and how != "nothing" and self.chance.random() < 0.3
        )
        seen, call, cancelled = self.ask.question, self.calls, len(self.cancelled)
        say = self.said(word, door, page, value)
        if not is_at_once:
            self.change(how, changed)
        asked, is_settled, before = (
            self.ask.question,
            job.is_settled(),
            (self.calls, [*self.paid]),
        )
        is_done, text = self.at_once(how, changed, say) if is_at_once else say()
        told = (word, door, how, is_at_once, text)
        if is_at_once:
            done = [call for call in self.cancelled[cancelled:] if how == "begun anew"]
            assert is_done or not done, told
            assert door != "page" or done in ([], [call]), told
        elif door == "journal" and how == "ended":
            # The run goes on, and may ask this again: an answer to another question is refused then.
            assert "the run has not taken it yet" in text, told
            self.ask_anew()
        elif (word, door) == ("answer", "thread"):
            # A program means the question that is open, in this run.
            assert is_done is (how not in ("answered", "ended")), told
        elif word == "answer" or door == "page":
            assert is_done is (how == "nothing"), told
        elif (word, door) == ("cancel", "thread"):
            assert is_done, told
        else:
            # It means the attempt that is there as it is said.
            assert is_done is (is_settled is (word == "try-again")), told
        if word == "answer":
            self.check_paid(
                told, seen if door != "thread" else asked, str(value), len(before[1])
            )
        elif not is_at_once and not (is_done and is_settled is (word == "try-again")):
            assert self.calls == before[0], told
        elif not is_at_once and word == "cancel":
            wait_for(self.flaky.is_settled)
            assert self.flaky.state.value == "cancelled", told
        elif not is_at_once:
            wait_for(lambda: self.calls > before[0] and self.has_begun())
            assert self.calls == before[0] + 1, told
        if self.flaky.state.value == "cancelled":
            self.begin_anew()

    def check_paid(
        self, told: tuple[Any, ...], question: str, value: str, count: int
    ) -> None:
        """Check that what was refused is paid by none, and that an answer pays what it was given to, once."""
        _, door, how, is_at_once, text = told
        is_done = (
            "Error" not in text
            and "error" not in text
            and bool(text) is (door != "thread")
        )
        if how == "answered" and not is_done:
            assert "'of another' by the program" in " ".join(text.split()), told
        is_paid = how in ("nothing", "answered") or not is_at_once
        if is_done and is_paid and "not taken" not in text:
            wait_for(lambda: self.paid[count:])
        new = [pair for pair in self.paid[count:] if pair[1] == value]
        assert new in ([], [(question, value)]) or (
            is_at_once and door == "thread" and len(new) == 1
        ), (told, new)
        assert is_done or not new, (told, new)


def check(file: Path, seed: int, backend: Any) -> None:
    """Let a person say words in runs that change."""
    desk, errors = Desk(file, seed), list[BaseException]()

    def use() -> None:
        try:
            desk.use()
        except BaseException as error:
            errors.append(error)
            desk.is_over = True
            desk.scheduler.cancel()

    person = threading.Thread(target=use)
    person.start()
    while not desk.is_over:
        desk.is_ending = False
        desk.run_count += 1
        desk.scheduler.run(backend=backend)
    person.join()
    for error in errors:
        raise AssertionError(f"seed {seed}") from error


@pytest.mark.both_backends
@pytest.mark.parametrize(
    "seeds",
    [[1, 7, 2, 4], pytest.param(range(2000), marks=pytest.mark.soak)],
    ids=["few", "more"],
)
def test_a_click_or_word_does_what_was_seen_or_is_refused(
    backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: Sequence[int]
) -> None:
    """Any word, of the page, a shell, another thread or the journal, after any change or none, or just as it comes.

    Each backend takes a part of the seeds."""
    monkeypatch.setattr(_answer, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(answer_command, "MAX_WAIT_SECONDS", 0.3)
    for seed in seeds[BACKENDS.index(backend) :: len(BACKENDS)]:
        check(tmp_path / f"{seed}.db", seed, backend)


def test_a_word_of_a_shell_means_the_attempt_that_is_there_then(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the attempt blocks the loop. When that lets the word act, it is another attempt's turn."""
    monkeypatch.setattr(_steering, "STEER_TIMEOUT", 0.05)
    has_begun, was_said, outputs = threading.Event(), threading.Event(), list[str]()

    async def work() -> None:
        if job.attempts == 1:
            has_begun.set()
            was_said.wait(PATIENCE)
            raise ValueError("broken")
        while not incidents_of(scheduler):  # noqa: ASYNC110 - another thread causes it
            await anyio.sleep(0.001)

    def say() -> None:
        assert has_begun.wait(PATIENCE)
        outputs.append(trioflow("steer", os.getpid(), "cancel", "work").output)
        was_said.set()

    job = Job(work, label="work", retry=Retry(1, first=0))
    scheduler = Scheduler(job, label="night")
    thread = threading.Thread(target=say)
    thread.start()
    assert scheduler.run(backend=backend)
    thread.join()
    assert (outputs, job.attempts) == (
        ["cancel: takes effect as soon as no job blocks the event loop\n"],
        2,
    )
    incidents = [
        incident.message for incident in incidents_of(scheduler) if incident.is_steering
    ]
    assert len(incidents) == 1, incidents
    assert incidents[0].endswith(
        " has no effect: 'work' has begun anew meanwhile, so nothing was done; look again"
    )


def test_a_resume_does_not_end_a_run_that_is_held_by_now(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It speaks of a pause, as a page has shown it, or as it was when a shell said the word."""
    is_paused, was_said, outputs = threading.Event(), threading.Event(), list[str]()

    async def work() -> None:
        if job.attempts == 1:
            scheduler.pause()
            is_paused.set()
            was_said.wait(PATIENCE)
            scheduler.resume()
            raise ValueError("broken")

    def say() -> None:
        try:
            assert is_paused.wait(PATIENCE)
            page = Page(os.getpid(), "night")
            page._is_drawing = True
            page.ask()
            state = page.state()
            with monkeypatch.context() as impatient:
                impatient.setattr(_steering, "STEER_TIMEOUT", 0.05)
                outputs.append(trioflow("steer", os.getpid(), "resume").output)
            was_said.set()
            wait_for(lambda: current_run(scheduler).pause_text.startswith("held"))  # type: ignore[union-attr]
            form = {
                "do": "resume",
                "seen": state["seen"],
                "marks": [state["paused"].split()[0]],
            }
            outputs.append(page.steer(form)["error"])
        finally:
            was_said.set()
            job.try_again()

    job = Job(work, label="work")
    scheduler = Scheduler(job, label="night", hold=True)
    thread = threading.Thread(target=say)
    thread.start()
    assert scheduler.run(backend=backend)
    thread.join()
    refusal = "'night' is held by now, and was not before; look again"
    assert outputs == [
        "resume: takes effect as soon as no job blocks the event loop\n",
        refusal,
    ]
