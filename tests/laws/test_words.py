"""A law over words, states and doors: a word takes effect, or says what stood in its way. None is silent."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import Answer, Job, JobState, Scheduler, StopReason
from trioflow.abc import incidents_of
from trioflow.view.look import _answers, _client
from trioflow.view.look._page import Page
from ..cli.command_line import trioflow

STATES = ["not started", "running", "paused", "draining", "stopping", "ended"]
DOORS = ["method", "thread", "steer", "page", "command"]
WORDS: dict[str, tuple[str, Any, str | None]] = {
    "cancel": ("cancel", None, None), "drain": ("drain", None, None), "pause": ("pause", None, None),
    "resume": ("resume", None, None), "window": ("window", 2, None), "cancel job": ("cancel", None, "first"),
    "cancel waiting": ("cancel", None, "later"), "retry": ("try-again", None, None),
    "retry job": ("try-again", None, "flaky"), "answer": ("answer", "yes", "ask"),
}  # fmt: skip
"""The words, each with its name, its value and its job in `trioflow steer`, on a page and in `trioflow answer`."""

WORDS_OF = {
    "steer": WORDS.keys() - {"answer"},
    "page": WORDS.keys() - {"answer"},
    "command": {"answer"},
}
"""The words of a door, if it has not all."""
NOTHING_AFTER_THE_END = [
    "cancel",
    "drain",
    "pause",
    "cancel job",
    "cancel waiting",
    "retry",
    "retry job",
]
"""What does nothing from another thread after the end of a run, as its docs say: the thread cannot know of it."""
CASES = [
    (word, state, door)
    for word in WORDS
    for state in STATES
    for door in DOORS
    if word in WORDS_OF.get(door, WORDS)
    and not ((door, state) == ("thread", "ended") and word in NOTHING_AFTER_THE_END)
]


class Scene:
    """A run that has been brought into a state, and the jobs that words are about."""

    def __init__(self, journal: Path | None) -> None:
        self.end, self.reached, self.go_on = anyio.Event(), anyio.Event(), anyio.Event()
        self.journal = journal
        self.page: Page | None = None
        self.first = Job(self.end.wait, label="first", save=None)
        self.later = Job(
            anyio.sleep,
            0,
            label="later",
            required=self.first,
            run_if="settled",
            save=None,
        )
        self.flaky = Job(self.fail_once, label="flaky", critical=False, save=None)
        self.ask: Answer[str] = Answer("Go on?", label="ask")
        jobs = self.first, self.later, self.flaky, self.ask, Closing(self)
        self.scheduler = Scheduler(*jobs, jobs_window=5, log=False, journal=journal)

    async def fail_once(self) -> None:
        if self.flaky.attempts == 1:
            raise OSError("broken")

    def say(self, word: str) -> None:
        calls: dict[str, Callable[[], object]] = {
            "cancel": self.scheduler.cancel, "drain": self.scheduler.drain, "pause": self.scheduler.pause,
            "resume": self.scheduler.resume, "window": lambda: setattr(self.scheduler, "jobs_window", 2),
            "cancel job": self.first.cancel, "cancel waiting": self.later.cancel, "retry": self.scheduler.try_again,
            "retry job": self.flaky.try_again, "answer": lambda: self.ask.answer("yes"),
        }  # fmt: skip
        calls[word]()

    def steer(self, word: str) -> str:
        """Say a word as `trioflow steer` does; return the error, or nothing."""
        name, value, path = WORDS[word]
        try:
            _client.ask(os.getpid(), {"do": name, "value": path or value, "run": None})
        except _client.NoAnswer as error:
            return str(error)
        return ""

    def open_page(self) -> None:
        """Show the run on a page; without a run there is none."""
        page = Page(os.getpid(), None)
        page._is_drawing = True  # no graph is laid out
        with contextlib.suppress(_client.NoAnswer):
            page.ask()
            self.page = page

    def click(self, word: str) -> str:
        """Say a word as a button of the page does; return the error, or nothing."""
        if self.page is None:
            return "there is no page of a run that is not in progress"
        name, value, path = WORDS[word]
        job: Any = next(
            (
                key
                for key, (_, facts) in self.page._run.jobs.items()
                if facts.span.path == path
            ),
            None,
        )
        if name == "try-again" and job is not None:
            value, job = [job], None
        marks = [
            self.page._run.attempt_mark(each)
            for each in (value if isinstance(value, list) else [job])
        ]
        form = {
            "do": name,
            "value": value,
            "job": job,
            "seen": self.page._run.answer["seen"],
            "marks": marks,
        }
        answer = self.page.steer(form)
        return str(answer.get("error", ""))

    def command(self, word: str) -> str:
        """Say a word by `trioflow answer`; return the error, or nothing."""
        _, value, path = WORDS[word]
        result = trioflow("answer", self.journal, path, value)
        return result.output if result.exit_code else ""

    def has_taken_effect(self, word: str, state: str, was_paused: bool) -> bool:
        """Return whether what the word forbids has not happened since, and what it asks for has. In an ending, no job
        starts or runs any more, which is what most words ask for."""
        scheduler, started = self.scheduler, self.later.started_at is not None
        reason = StopReason.DRAINED if state == "draining" else StopReason.CANCELLED
        return {
            "cancel": state == "stopping"
            or scheduler.stop_reason in (StopReason.CANCELLED, reason),
            "drain": state == "stopping" or not started,
            "pause": state == "stopping" or was_paused,
            "resume": started or state in ("draining", "stopping"),
            "window": scheduler.jobs_window == 2,
            "cancel job": state == "stopping" or self.first.state is JobState.CANCELLED,
            "cancel waiting": state == "stopping"
            or self.later.state is JobState.CANCELLED,
            "retry": self.flaky.state is JobState.SUCCEEDED,
            "retry job": self.flaky.state is JobState.SUCCEEDED,
            "answer": self.ask.state is JobState.SUCCEEDED
            and self.ask.result() == "yes",
        }[word]


class Closing(Job[Any]):
    """A job whose clean-up waits, so that the run is in its ending."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        super().__init__(anyio.sleep, 0, label="closing", save=None)

    async def co_shutdown(self) -> None:
        """Wait until the word was said."""
        self.scene.reached.set()
        await self.scene.go_on.wait()


async def told(scene: Scene, word: str, door: str) -> str:
    """Say a word through a door; return the error, or nothing."""
    try:
        if door == "method":
            scene.say(word)
        elif door == "thread":
            await anyio.to_thread.run_sync(scene.say, word)
        else:
            doors = {
                "steer": scene.steer,
                "page": scene.click,
                "command": scene.command,
            }
            return await anyio.to_thread.run_sync(doors[door], word)
    except (RuntimeError, ValueError) as error:
        return str(error)
    return ""


async def play(scene: Scene, word: str, state: str, door: str) -> tuple[str, bool]:
    """Bring the run into the state, say the word, let the run end; return the error, and whether it was paused."""

    async def run() -> None:
        await scene.scheduler.co_run()
        ended.set()

    async def some_turns() -> None:
        for _ in range(20):
            await anyio.lowlevel.checkpoint()

    ended, error = anyio.Event(), ""
    async with anyio.create_task_group() as tasks:
        if state == "not started":
            error = await told(scene, word, door)
        tasks.start_soon(run)
        await some_turns()
        if door == "page" and state != "not started":
            await anyio.to_thread.run_sync(scene.open_page)
        if state == "paused":
            scene.scheduler.pause()
        if state == "draining":
            scene.scheduler.drain()
        if state in ("stopping", "ended"):
            scene.end.set()
            scene.ask.answer("no")
            await scene.reached.wait()
        if state == "ended":
            scene.go_on.set()
            await ended.wait()
        if state != "not started":
            error = await told(scene, word, door)
        await some_turns()
        scene.end.set()
        await some_turns()
        was_paused = scene.later.started_at is None
        for call in (scene.scheduler.resume, lambda: scene.ask.answer("late")):
            with contextlib.suppress(RuntimeError):
                call()
        scene.go_on.set()
    return error, was_paused


@pytest.mark.sampled
@pytest.mark.parametrize(("word", "state", "door"), CASES)
def test_a_word_acts_or_says_what_is_in_its_way(
    backend: Any, word: str, state: str, door: str, tmp_path: Path
) -> None:
    """Each word, in each state of a run, by its method, from another thread, by `look`, on a page, by `answer`. What is
    said through a door of another program is an error: what has been done, has been done."""

    async def main() -> tuple[Scene, str, bool]:
        scene = Scene(tmp_path / "run.db" if door == "command" else None)
        return scene, *await play(scene, word, state, door)

    with _answers.answering():
        scene, error, was_paused = anyio.run(main, backend=backend)
    if (word, state) == (
        "answer",
        "ended",
    ) and not error:  # it is kept for the next run
        assert scene.scheduler.run(backend=backend)
    said = error
    if door in ("method", "thread"):
        said += "".join(incident.message for incident in incidents_of(scene.scheduler))
    assert said or scene.has_taken_effect(word, state, was_paused), (
        scene.scheduler,
        list(scene.scheduler),
    )
