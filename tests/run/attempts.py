"""Helpers for the tests of `retry`."""

from __future__ import annotations

from typing import Any

import anyio

from trioflow import AbstractJob
from trioflow.abc import Instrument


class Flaky(AbstractJob[int]):
    """A job that raises at its first `failures` calls, after `seconds`, and then returns its number of calls."""

    def __init__(
        self, failures: float, error: type[BaseException] = OSError, seconds: float = 1, **options: Any
    ) -> None:
        super().__init__(**options)
        self.failures, self.error, self.seconds = failures, error, seconds
        self.calls: list[float] = []
        self.shutdowns = 0

    async def co_run(self) -> int:
        self.calls.append(anyio.current_time())
        await anyio.sleep(self.seconds)
        if len(self.calls) <= self.failures:
            raise self.error(f"call {len(self.calls)}")
        return len(self.calls)

    async def co_shutdown(self) -> None:
        self.shutdowns += 1


class Attempts(Instrument):
    """An instrument that records starts, attempts and ends, with the time."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def job_started(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        self.seen.append(("started", anyio.current_time()))

    def job_attempt(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        self.seen.append((job.attempts, anyio.current_time()))

    def job_finished(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        self.seen.append(("finished", anyio.current_time()))
