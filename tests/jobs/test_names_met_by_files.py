"""A name that a job gives is met by a file, or somebody says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from trioflow import CommandJob, Job, Scheduler
from trioflow._check import notes


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory of its own."""
    monkeypatch.chdir(tmp_path)


def put(name: str, text: str) -> None:
    Path(name).write_text(text)


async def write(name: str) -> None:
    put(name, "new")


async def replace(name: str) -> None:
    put("other", "old")
    os.utime("other", ns=(1, os.stat(name).st_mtime_ns))
    os.replace("other", name)


def logged(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if words in record.getMessage()]


@pytest.mark.both_backends
@pytest.mark.parametrize(
    ("function", "name", "writes", "is_named"),
    [
        (write, "reports.txt", "report.txt", True),
        (write, "report.txt", "report.txt", False),
        (replace, "report.txt", "report.txt", False),
        (write, "new.txt", "new.txt", False),
        (write, "folder/new", "folder", False),
        (write, "new.txt", "folder", True),
    ],
)
def test_an_output_that_was_there_and_is_not_touched_is_named(
    backend: Any, function: Any, name: str, writes: str, is_named: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A step that wrote another file than it said was green, and the next step read the file of yesterday."""
    Path("report.txt").write_text("old")
    Path("folder").mkdir()
    Path("folder/old").write_text("old")
    assert Scheduler(Job(function, name, writes=writes, label="step")).run(backend=backend)
    assert len(logged(caplog, "was there before, and 'step' has not touched it")) == is_named


@pytest.mark.both_backends
def test_a_link_counts_as_an_output_before_its_target_is_there(backend: Any) -> None:
    """A link that was made before its target was set aside, and its user blocked."""
    link = CommandJob(["ln", "-s", "lld", "lld-link"], writes="lld-link", label="link")
    target = Job(write, "lld", writes="lld", required=link, label="lld")
    assert Scheduler(link, target).run(backend=backend)
    assert Path("lld-link").read_text() == "new"


def test_an_input_that_is_not_there_and_that_no_job_writes_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """A typo in reads= was silent: the absence of a file counts, too, and the change of the right one does not."""
    Path("orders.csv").write_text("1")
    makes = Job(write, "made.csv", writes="made.csv", label="make")
    logs = CommandJob(["true"], stdout="log.txt", label="logs")
    load = Job(
        write, "loaded", required=(makes, logs), label="load",
        reads=["order.csv", "orders.csv", "made.csv", "log.txt", "*.tsv"],
    )  # fmt: skip
    scheduler = Scheduler(makes, logs, load)
    text = "'load' reads 'order.csv', which is not there and which no job writes"
    assert [*notes(scheduler, starts=True)] == [text]
    assert scheduler.run()
    assert logged(caplog, "which is not there") == [text]
