"""A law over random trees of jobs: `try_again()` does what is promised, or nothing, and no result stays out of date."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import anyio
import pytest
from trioflow import Job, JobState, Scheduler
from trioflow.abc import enclosing_schedulers, is_scheduler
from ..conftest import Virtual

WORDS_OF_TREE = 12
TREES = 20
MANY_TREES = 420


class Tree:
    """A run of jobs and groups, some of which fail, in which a job says `try_again()` of one after the other."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"tree {seed}")
        self.calls, self.words = Counter[str](), Counter[str]()
        self.began: dict[str, float] = {}
        self.scheduler = Scheduler(label="root", jobs_window=self.random.choice([None, 2, 4]), log=False)
        self.fill(self.scheduler, "", 0)
        self.jobs: list[Any] = [*self.scheduler.iterate_jobs()]
        self.scheduler.add(Job(self.say_words))

    def fill(self, home: Scheduler, prefix: str, depth: int) -> None:
        made: list[Any] = []
        for number in range(self.random.randint(2, 5)):
            label = f"{prefix}{number}"
            if depth < 2 and self.random.random() < 0.3:
                job: Any = Scheduler(label=label, jobs_window=self.random.choice([None, 1]))
                self.fill(job, f"{label}.", depth + 1)
            else:
                inputs = [each for each in made if not is_scheduler(each) and self.random.random() < 0.3]
                job = Job(self.body(label), *inputs, label=label)
            job.requires([each for each in made if self.random.random() < 0.25 and each not in job.required])
            made.append(job)
        home.update(made)

    def body(self, label: str) -> Callable[..., Any]:
        fails, seconds = self.random.choice([0, 0, 0, 1, 2, 9]), self.random.choice([0, 0.5, 1, 3])

        async def work(*values: Any) -> tuple[str, int, tuple[Any, ...]]:
            self.calls[label] += 1
            call, self.began[label] = self.calls[label], anyio.current_time()
            await anyio.sleep(seconds)
            if call <= fails:
                raise OSError(label, call)
            return label, call, values

        return work

    async def say_words(self) -> None:
        for _ in range(WORDS_OF_TREE):
            await anyio.sleep(self.random.randint(0, 8) / 4 + 0.1)
            # A group that runs would try again all that has failed in it.
            self.say(self.random.choice([job for job in self.jobs if not (is_scheduler(job) and job.is_running())]))

    def say(self, job: Any) -> None:
        """Try a job again, and compare what waits then, and what does not, with what is promised."""
        levels = [level for level in (job, *enclosing_schedulers(job)) if level is not self.scheduler]
        ended = max((number for number, level in enumerate(levels) if level.is_settled()), default=0)
        meant = levels[: ended + 1]
        waits = self.followers(meant[-1], any(level.is_succeeded() for level in meant))
        before = self.facts()
        try:
            job.try_again()
        except RuntimeError:
            self.words["refused"] += 1
            assert self.facts() == before
            return
        self.words["done"] += 1
        after = self.facts()
        assert [each.label for each in waits if each.state not in (JobState.IDLE, JobState.SCHEDULED)] == []
        assert {each.label for each in self.jobs if after[each] != before[each]} <= {each.label for each in waits}

    def followers(self, job: Any, is_taken_back: bool) -> list[Any]:
        """Return a job, and all that require it, at any distance: if it has failed, those that are blocked."""
        found = [job]
        for each in found:
            users = [user for user in job.scheduler if each in user.required and user not in found]
            found += [user for user in users if is_taken_back or user.state is JobState.BLOCKED]
        return found

    def facts(self) -> dict[Any, Any]:
        return {
            job: (job.state, job.attempts, job.started_at, job.finished_at, job.raised_exception()) for job in self.jobs
        }

    def check_end(self) -> None:
        """Check that all has been decided, and that nothing was made from, or before, an older end than the last."""
        for job in self.jobs:
            around = enclosing_schedulers(job)
            assert job.is_settled() or any(level.state is JobState.BLOCKED for level in around), job.label
            if is_scheduler(job) or not job.is_succeeded():
                continue
            required = [each for level in (job, *around) for each in level.required]
            assert [each.label for each in required if each.finished_at > self.began[job.label]] == [], job.label
            label, call, values = job.result()
            assert (label, call) == (job.label, self.calls[job.label])
            current = {each.label: each.result() for each in job.required if not is_scheduler(each)}
            assert [value for value in values if value != current[value[0]]] == [], job.label


@pytest.mark.parametrize("count", [TREES, pytest.param(MANY_TREES, marks=pytest.mark.soak)])
def test_each_word_takes_effect_as_promised_or_changes_nothing(virtual: Virtual, count: int) -> None:
    words = Counter[str]()
    for seed in range(count):
        tree = Tree(seed)
        virtual(tree.scheduler.co_run)
        tree.check_end()
        words += tree.words
    assert words.total() == count * WORDS_OF_TREE
    assert min(words["done"], words["refused"]) > words.total() / 5
