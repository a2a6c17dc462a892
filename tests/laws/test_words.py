"""A law over words, states and doors: a word takes effect, or says what stood in its way. None is silent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from trioflow import Answer, Job, JobState, Scheduler, StopReason
from trioflow.abc import incidents_of

STATES = ["not started", "running", "paused", "draining", "stopping", "ended"]
WORDS = ["cancel", "drain", "pause", "resume", "window", "cancel job", "cancel waiting", "answer"]

NOTHING_AFTER_THE_END = ["cancel", "drain", "pause", "cancel job", "cancel waiting"]
"""What does nothing from another thread after the end of a run, as its docs say: the thread cannot know of it."""


class Scene:
    """A run that has been brought into a state, and the jobs that words are about."""

    def __init__(self) -> None:
        self.end, self.reached, self.go_on = anyio.Event(), anyio.Event(), anyio.Event()
        self.first = Job(self.end.wait, label="first")
        self.later = Job(anyio.sleep, 0, label="later", required=self.first, run_if="settled")
        self.ask: Answer[str] = Answer("Go on?", label="ask")
        self.scheduler = Scheduler(self.first, self.later, self.ask, Closing(self), jobs_window=5, log=False)

    def say(self, word: str) -> None:
        """Say a word to the run or to a job."""
        calls: dict[str, Callable[[], object]] = {
            "cancel": self.scheduler.cancel,
            "drain": self.scheduler.drain,
            "pause": self.scheduler.pause,
            "resume": self.scheduler.resume,
            "window": lambda: setattr(self.scheduler, "jobs_window", 2),
            "cancel job": self.first.cancel,
            "cancel waiting": self.later.cancel,
            "answer": lambda: self.ask.answer("yes"),
        }
        calls[word]()

    def has_taken_effect(self, word: str, state: str, was_paused: bool) -> bool:
        """Return whether what the word forbids has not happened since, and what it asks for has.

        In an ending, no job starts or runs any more, which is what most words ask for.
        """
        scheduler, started = self.scheduler, self.later.started_at is not None
        reason = StopReason.DRAINED if state == "draining" else StopReason.CANCELLED
        return {
            "cancel": state == "stopping" or scheduler.stop_reason in (StopReason.CANCELLED, reason),
            "drain": state == "stopping" or not started,
            "pause": state == "stopping" or was_paused,
            "resume": started or state in ("draining", "stopping"),
            "window": scheduler.jobs_window == 2,
            "cancel job": state == "stopping" or self.first.state is JobState.CANCELLED,
            "cancel waiting": state == "stopping" or self.later.state is JobState.CANCELLED,
            "answer": self.ask.state is JobState.SUCCEEDED and self.ask.result() == "yes",
        }[word]


class Closing(Job[Any]):
    """A job whose clean-up waits, so that the run is in its ending."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        super().__init__(anyio.sleep, 0, label="closing")

    async def co_shutdown(self) -> None:
        """Wait until the word was said."""
        self.scene.reached.set()
        await self.scene.go_on.wait()


async def told(scene: Scene, word: str, door: str) -> str:
    """Say a word through a door; return the error, or nothing."""
    try:
        if door == "method":
            scene.say(word)
        else:
            await anyio.to_thread.run_sync(scene.say, word)
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


@pytest.mark.parametrize("door", ["method", "thread"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("word", WORDS)
def test_a_word_takes_effect_or_says_what_stood_in_its_way(backend: Any, word: str, state: str, door: str) -> None:
    """Each word, in each state of a run, by its method and from another thread."""
    if (door, state) == ("thread", "ended") and word in NOTHING_AFTER_THE_END:
        return

    async def main() -> tuple[Scene, str, bool]:
        scene = Scene()
        return scene, *await play(scene, word, state, door)

    scene, error, was_paused = anyio.run(main, backend=backend)
    if (word, state) == ("answer", "ended"):  # it is kept for the next run
        assert scene.scheduler.run(backend=backend)
    said = error + "".join(incident.message for incident in incidents_of(scene.scheduler))
    assert said or scene.has_taken_effect(word, state, was_paused), (scene.scheduler, list(scene.scheduler))
