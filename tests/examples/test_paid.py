"""The example of calls that cost money."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trioflow import BudgetSpent, First
from trioflow.abc import Instrument

from .scripts import load_example, run_example


@pytest.fixture
def server() -> Iterator[Any]:
    """Run the server of the example in a thread."""
    with load_example("mock_api").Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Starts(Instrument):
    """Records when each attempt of a call starts."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def job_started(self, scheduler: Any, job: Any) -> None:
        if "api" in job._options.needs:
            self.times.append(job._started_at)  # of this attempt


def test_the_example_keeps_to_its_rate_and_its_budget(server: Any) -> None:
    """No call starts too fast, no more is charged than the budget has, and what is not answered was not affordable."""
    example, starts = load_example("paid"), Starts()
    scheduler = example.scenario(80, 0.05, server.server_port)
    scheduler.run(instruments=[starts])
    calls = [job for job in scheduler if isinstance(job, First)]
    answered = [call for call in calls if call.is_succeeded()]
    assert 15 < len(answered) <= 50
    assert server.bill()["charged"] <= 0.05 + 1e-9
    for number, first in enumerate(starts.times):
        for count, when in enumerate(starts.times[number:], 1):
            assert count <= example.AT_ONCE + (when - first) * example.PER_SECOND + 1e-6
    for call in calls:
        if not call.is_succeeded():
            assert all(isinstance(member.raised_exception(), BudgetSpent) for member in call), call


def test_the_example_goes_on_with_what_its_journal_has(server: Any, tmp_path: Path) -> None:
    arguments = ["--calls", 60, "--journal", tmp_path / "calls.db", "--port", server.server_port]
    first = run_example("paid", *arguments, "--budget", 0.03)
    answered = int(first.stdout.split()[0])
    assert (first.returncode, 0 < answered < 60) == (1, True), first.stderr
    before = set(server.charged)
    second = run_example("paid", *arguments)
    assert second.returncode == 0, second.stderr
    assert second.stdout.startswith(f"60 of 60 calls are answered, {answered} from the journal\n")
    assert len(server.charged) == 60
    assert all(server.charged[number] <= 2 for number in before)


def test_the_example_starts_its_own_server() -> None:
    done = run_example("paid", "--calls", 20)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("20 of 20 calls are answered, 0 from the journal\nthe server says: {'requests': ")
