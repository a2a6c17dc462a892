"""Two runs at once in one process: what watches one of them, and words for one of two with the same label."""

from __future__ import annotations

import io
import logging
import os
import re
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow.look
from trioflow import First, Job, JUnit, Monitor, Scheduler, Trace
from trioflow.view.look import _client
from trioflow.view.text._verdict import run_verdict
from ..cli.command_line import trioflow as command


def two_runs(watcher: Any, backend: Any, in_one_loop: bool) -> None:
    """Run two schedulers in two threads, or in one loop, both watched."""
    if in_one_loop:

        async def both() -> None:
            async with anyio.create_task_group() as tasks:
                for label in "AB":
                    group = Scheduler(
                        Job(anyio.sleep, 0.05, label=label), label="group"
                    )
                    tasks.start_soon(
                        partial(
                            Scheduler(group, label=label).co_run, instruments=[watcher]
                        )
                    )

        anyio.run(both, backend=backend)
        return
    meet = threading.Barrier(2)

    async def work() -> None:
        meet.wait(10)
        await anyio.sleep(0.05)

    runs = [Scheduler(Job(work, label=label), label=label) for label in "AB"]
    threads = [
        threading.Thread(
            target=run.run, kwargs={"instruments": [watcher], "backend": backend}
        )
        for run in runs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)


@pytest.mark.parametrize("in_one_loop", [True, False])
@pytest.mark.parametrize("kind", ["trace", "junit"])
def test_what_records_a_run_refuses_another_at_the_same_time(
    backend: Any,
    kind: str,
    in_one_loop: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each loop of trio has a clock with another origin: a trace of 0.1 s lasted seven hours. In one loop, the jobs of
    the second run were cases of the first. Groups are no runs of their own, and a later run is followed."""
    watcher: Any = Trace() if kind == "trace" else JUnit(tmp_path / "j.xml")
    two_runs(watcher, backend, in_one_loop)
    assert (
        len(re.findall("follows one run at a time: give '[AB]' its own", caplog.text))
        == 1
    )
    if kind == "trace":
        leaves = [span for span in watcher.spans if span.kind == "Job"]
        assert len(leaves) == 1
        assert leaves[0].finished_at - leaves[0].started_at < 10
    else:
        text = (tmp_path / "j.xml").read_text()
        assert text.count("<testcase") == 1
    assert Scheduler(Job(done, label="C")).run(instruments=[watcher], backend=backend)
    seen = (
        [span.path for span in watcher.spans]
        if kind == "trace"
        else re.findall('<testcase[^>]* name="(.*?)"', (tmp_path / "j.xml").read_text())
    )
    assert seen == ["C"]


def test_each_of_two_runs_with_one_label_has_a_name(backend: Any) -> None:
    """The advice was to choose a run by its label, which two had: no word reached either, and no page showed them."""
    trioflow.look.enable()
    started = threading.Barrier(3)

    async def work() -> None:
        started.wait(10)
        await anyio.sleep(30)

    runs = [
        Scheduler(Job(work, label="work"), label="request", log=False) for _ in range(2)
    ]
    threads = [
        threading.Thread(target=run.run, kwargs={"backend": backend}) for run in runs
    ]
    for thread in threads:
        thread.start()
    started.wait(10)

    def ask(name: str | None, do: str) -> Any:
        return _client.ask(os.getpid(), {"do": do, "value": None, "run": name})

    try:
        for name in (None, "request"):
            with pytest.raises(
                _client.NoAnswer,
                match=r"--run LABEL: in progress are 'request#(\d+)', 'request#\d+'",
            ) as told:
                ask(name, "pause")
        first, second = re.findall(r"'(request#\d+)'", str(told.value))
        assert ask(second, "pause")["done"] == "'request': paused"
        assert ask(first, "cancel")["done"] == "'request': cancelled"
        for _ in range(200):
            if sum(thread.is_alive() for thread in threads) == 1:
                break
            time.sleep(0.05)
        with pytest.raises(_client.NoAnswer, match="in progress are 'request#"):
            ask(first, "cancel")
        assert ask("request", "resume")["done"] == "'request': resumed"
        assert ask(second, "cancel")["done"] == "'request': cancelled"
    finally:
        for run in runs:
            run.cancel()
        for thread in threads:
            thread.join(10)


async def done() -> None: ...


def test_a_monitor_counts_no_rerun_that_was_taken_back(
    backend: Any, tmp_path: Path
) -> None:
    """Its last line said "0 run again, because 'a' has changed"."""

    def last_line(version: str, again: bool) -> str:
        job, tries, log = (
            Job(done, label="a", version=version),
            list[int](),
            io.StringIO(),
        )

        async def word() -> None:
            if again and not tries:
                tries.append(1)
                job.try_again()

        scheduler = Scheduler(
            job,
            Job(word, label="word", save=None),
            instruments=[Monitor(file=log)],
            jobs_window=1,
        )
        scheduler.run(journal=tmp_path / "run.db", backend=backend)
        return log.getvalue().splitlines()[-1]

    assert "run again" not in last_line("1", again=False)
    assert "1 run again" in last_line("2", again=False)
    assert "0 " not in re.findall(
        "[^,;:]*(?:run again|because)[^,;]*", last_line("3", again=True)
    )
    assert "0 run again" not in last_line("4", again=True)


def test_the_journal_counts_restored_jobs_as_the_run_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It counted records: those of the members of a `First`, which is one job, too."""
    caplog.set_level(logging.CRITICAL)
    path, fails = tmp_path / "run.db", True

    async def flaky() -> None:
        if fails:
            raise OSError("no")

    for fails in (True, False, False):  # noqa: B007
        jobs = [
            *(Job(done, label=f"x{number}") for number in range(3)),
            Job(flaky, label="y", key="y"),
        ]
        group = Scheduler(jobs, label="g")
        scheduler = Scheduler(First(group, label="f"), Job(done, label="z"), label="s")
        scheduler.run(journal=path, backend="asyncio")
        shown = run_verdict(
            scheduler, scheduler.stop_reason, has_duration=False
        ).sentence
        restored = re.search(r"\((\d+) restored", shown)
        told = re.search(r"\((\d+) restored", command("journal", path).output)
        assert (told and told[1]) == (restored and restored[1])
