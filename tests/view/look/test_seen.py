"""A law over all doors: a word from outside does what was seen, or is refused, whatever has changed in between."""

import itertools
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from trioflow import Answer, Job, Retry, Scheduler
from trioflow._core.words._job_queries import question_of
from trioflow.jobs import _answer
from trioflow.view.look._page import Page
from ...cli.command_line import trioflow
from ...places import PATIENCE

pytestmark = pytest.mark.usefixtures("answers")

ROUNDS = 4
"""How many words are said in the runs of a seed."""
DOORS = {"answer": ["page", "steer", "journal"], "cancel": ["page", "steer"], "try-again": ["page", "steer"]}
CHANGES = {
    "answer": ["nothing", "answered", "asked anew", "ended", "another run"],
    "cancel": ["nothing", "begun anew", "ended", "another run"],
    "try-again": ["nothing", "begun anew", "another run"],
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
        self.fails = self.blows = self.is_over = False
        self.paid: list[tuple[str, str]] = []
        self.told: list[tuple[str, str, str]] = []
        planned = Job(self.plan, label="plan", save=None)
        self.ask: Answer[str] = Answer(planned, label="ask")
        pay = Job(self.pay, planned, self.ask, label="pay", save=None)
        again: Any = {"retry": Retry(1000, first=0), "critical": False}
        self.group = Scheduler(planned, self.ask, pay, Job(self.fuse, critical=True), label="group", **again)
        self.flaky = Job(self.work, label="flaky", critical=False, save=None)
        going_on = Job(anyio.sleep_forever, label="on")
        self.scheduler = Scheduler(self.group, self.flaky, going_on, label="night", journal=file, log=False)

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
        if self.fails:
            raise ValueError("broken")
        await anyio.sleep_forever()

    # ---- what changes

    def is_ready(self) -> bool:
        return question_of(self.ask) is not None and self.flaky.state.value in ("running", "failed")

    def ask_anew(self) -> None:
        """Let the group run once more, or try it again, if it has ended."""
        if self.group.is_settled():
            self.group.try_again()
        else:
            amount, self.blows = self.ask.question, True
            wait_for(lambda: self.ask.question not in ("", amount))
        wait_for(self.is_ready)

    def begin_anew(self) -> None:
        """End the other job in any state, and try it again."""
        count = self.calls
        self.end(self.flaky)
        self.fails = self.chance.random() < 0.5
        self.flaky.try_again()
        wait_for(lambda: self.is_ready() and self.calls > count)

    def end(self, job: Any) -> None:
        if not job.is_settled():
            job.cancel()
        wait_for(job.is_settled)

    def change(self, how: str, job: Any) -> None:
        if how == "answered":
            count = len(self.paid)
            self.ask.answer("of another")
            wait_for(lambda: len(self.paid) > count)
        elif how == "asked anew":
            self.ask_anew()
        elif how == "begun anew":
            self.begin_anew()
        elif how == "ended":
            self.end(job)
        elif how == "another run":
            count = self.run_count
            self.scheduler.cancel()
            wait_for(lambda: self.run_count > count and self.is_ready())

    # ---- a person

    def use(self) -> None:
        """Look, let something change, and say a word; do that several times, and end the run."""
        for number in range(ROUNDS):
            wait_for(lambda: self.run_count and self.flaky.state.value in ("running", "failed"))
            wait_for(lambda: self.ask.question)
            if question_of(self.ask) is None:
                self.ask_anew()
            wait_for(self.is_ready)
            page = Page(os.getpid(), "night")
            page._is_drawing = True
            page.ask()
            state = page.state()
            words = ["answer", "try-again" if self.flaky.is_settled() else "cancel"]
            self.say(self.chance.choice(words), page, state, f"yes {number}")
        self.is_over = True
        self.scheduler.cancel()

    def say(self, word: str, page: Page, state: dict[str, Any], value: str) -> None:
        job: Any = self.ask if word == "answer" else self.flaky
        door, how = self.chance.choice(DOORS[word]), self.chance.choice(CHANGES[word])
        if (door, how) == ("journal", "ended"):
            # An answer to what the run asks no more is there when that is asked again.
            how = "asked anew"
        seen, calls, question = self.ask.question, self.calls, question_of(self.ask)
        key = next(key for key, (_, facts) in page._run.jobs.items() if facts.span.label == job.label)
        assert question is not None
        self.change(how, self.group if word == "answer" else self.flaky)
        is_settled, before = job.is_settled(), (self.calls, [*self.paid])
        if door == "page":
            form = {"do": word, "seen": state["seen"], "marks": [state["marks"][key]], "job": key}
            form["value"] = {"answer": value, "try-again": [key]}.get(word)
            outcome = page.steer(form)
            is_done, text = "done" in outcome, str(outcome)
        else:
            called: list[Any] = ["answer", self.file] if door == "journal" else ["steer", os.getpid(), word]
            called += ["group/ask", value, "--asked", question[-1]] if word == "answer" else ["flaky"]
            result = trioflow(*called)
            is_done, text = result.exit_code == 0, result.output
        told = (word, door, how, text)
        if word == "answer" or door == "page":
            assert is_done is (how == "nothing"), told
        else:
            # It has named a path, and no attempt.
            assert is_done is (is_settled is (word == "try-again")), told
        if how == "answered":
            assert "'of another' by the program" in " ".join(text.split()), told
        if not is_done:
            assert (self.calls, self.paid) == before, told
        elif word == "answer":
            wait_for(lambda: self.paid != before[1])
            assert self.paid[len(before[1]) :] == [(seen, value)], told
        elif word == "cancel":
            wait_for(self.flaky.is_settled)
            assert self.flaky.state.value == "cancelled", told
            self.begin_anew()
        else:
            wait_for(lambda: self.calls > before[0] and self.flaky.state.value in ("running", "failed"))
            assert self.calls == before[0] + 1, told
            assert door != "page" or self.calls == calls + 1, told
        if self.flaky.state.value == "cancelled":
            self.begin_anew()


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
        desk.run_count += 1
        desk.scheduler.run(backend=backend)
    person.join()
    for error in errors:
        raise AssertionError(f"seed {seed}") from error


@pytest.mark.both_backends
@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 2000), marks=pytest.mark.soak)], ids=["few", "more"])
def test_a_word_does_what_was_seen_or_is_refused(
    backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: range
) -> None:
    """An answer, a cancel or another try, of the page, a shell or the journal, after any change or none."""
    monkeypatch.setattr(_answer, "POLL_SECONDS", 0.01)
    for seed in seeds:
        check(tmp_path / f"{seed}.db", seed, backend)
