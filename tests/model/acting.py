"""An instrument whose hooks act on a run at random: they cancel, drain, add jobs, and raise."""

import contextlib
import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from trioflow import Job, Scheduler
from trioflow.abc import Instrument
from ..bodies import nap
from .real import observe
from .scenario import LAST_CALL, Scenario

LATE = LAST_CALL * 0.8
"""What ends later has been cut."""


class Actor(Instrument):
    def __init__(self, seed: object, chance: float) -> None:
        self._random = random.Random(repr(seed))
        self._chance = chance
        self.acts: list[str] = []  # the names of the acts, in their order

    def _act(self, scheduler: Scheduler, job: Any = None) -> None:
        if self._random.random() > self._chance:
            return
        root: Any = scheduler
        while root.scheduler is not None:
            root = root.scheduler
        jobs: list[Any] = list(root.iterate_jobs())
        schedulers = [root, *(each for each in jobs if isinstance(each, Scheduler))]
        what = self._random.choice(("cancel", "cancel this", "try again", "drain", "add", "end", "raise"))
        self.acts.append(what)
        with contextlib.suppress(RuntimeError):  # it comes too late
            match what:
                case "cancel":
                    self._random.choice(jobs).cancel()
                case "cancel this":
                    (scheduler if job is None else job).cancel()
                case "try again":
                    self._random.choice([root, *jobs]).try_again()
                case "drain":
                    self._random.choice(schedulers).drain()
                case "add":
                    scheduler.add(Job(nap, 0.25))
                case "end":
                    root.cancel()
                case _:
                    raise ValueError("of a hook")

    before_run = after_run = job_added = job_scheduled = job_started = job_attempt = service_ready = job_settled = _act


class _Faults(logging.Handler):
    """Collects the log records that only a fault of the engine brings about."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "fault of trioflow" in text or "Traceback" in text:
            self.texts.append(text)


def faults_in(scenario: Scenario, backend: str, seed: object) -> Iterator[str]:
    """Run a scenario with hooks that act; yield what must not be, whatever they do."""
    scenario = replace(scenario, killed_at=None, keep_jobs=True)
    actor = Actor(seed, random.Random(repr(seed)).choice((0.02, 0.1, 0.3)))
    logger, handler = logging.getLogger("trioflow"), _Faults()
    logger.addHandler(handler)
    try:
        (seen,) = observe(scenario, backend, 1, actor)
    finally:
        logger.removeHandler(handler)
    yield from handler.texts
    yield from (doubt for doubt in seen.doubts if "left" in doubt)
    if seen.ended_at > LATE and observe(scenario, backend)[0].ended_at < LATE:
        yield f"it does not end, after {actor.acts}"
