"""What is shown "up to N" is right at N, and one beyond it: all are named, then one is counted."""

import errno
import logging
import os
import re
from pathlib import Path
import pytest
from trioflow import CommandJob, Job, Scheduler, ThreadJob, current_scheduler
from trioflow._check import MAX_NAMED_READERS
from trioflow._core.base._text_forms import (
    MAX_LENGTH,
    MAX_LISTED_NAMES,
    MAX_NAMED_JOBS,
    join_names,
    short_repr,
)
from trioflow._core.run._failure_counts import MAX_COUNTED_KEPT
from trioflow.batch._reporter import MAX_EXIT_CODE, CommandTally
from trioflow.jobs._user_files import MAX_NAMED_FILES
from trioflow.jobs.command._result import MAX_COMMAND_LENGTH
from ..bodies import fail_now, give, nap
from ..conftest import Virtual

BEYOND = pytest.mark.parametrize("beyond", [0, 1])


@BEYOND
def test_a_list_of_names_has_the_first_of_them_and_the_number_of_the_others(
    beyond: int,
) -> None:
    names = [f"n{number}" for number in range(MAX_LISTED_NAMES + beyond)]
    more = " and 1 more" if beyond else ""
    assert join_names(names) == ", ".join(names[:MAX_LISTED_NAMES]) + more


@BEYOND
def test_a_short_form_is_the_whole_value_as_long_as_it_fits(beyond: int) -> None:
    value = "a" * (MAX_LENGTH - len("''") + beyond)
    shown = short_repr(value)
    assert (shown == repr(value)) is not bool(beyond)
    assert len(shown) == MAX_LENGTH


@BEYOND
def test_what_a_job_waits_for_is_named_and_the_others_are_counted(
    virtual: Virtual, beyond: int
) -> None:
    explained: list[str] = []

    async def look() -> None:
        explained.append(current_scheduler().explain(last))

    naps = [
        Job(nap, 1, label=f"n{number}") for number in range(MAX_NAMED_JOBS + beyond)
    ]
    last = Job(give, 1, required=naps, label="last")
    assert virtual(Scheduler(*naps, Job(look), last).co_run)
    names = ", ".join(f"'n{number}'" for number in range(MAX_NAMED_JOBS))
    more = " and 1 more" if beyond else ""
    assert explained[0].startswith(f"'last' waits for {names}{more}: ")


@BEYOND
def test_the_error_of_a_command_has_its_whole_line_as_long_as_it_fits(
    backend: str, beyond: int
) -> None:
    words = ["false", "x" * (MAX_COMMAND_LENGTH - len("false ") + beyond)]
    job = CommandJob(words, log=False)
    Scheduler(job, log=False).run(backend=backend)
    message = str(job.raised_exception()).partition(": ")[2]
    assert (message == " ".join(words)) is not bool(beyond)
    assert len(message) == MAX_COMMAND_LENGTH
    assert message.endswith("...") is bool(beyond)


@BEYOND
def test_the_files_that_a_failed_job_has_left_in_its_directory_are_named(
    backend: str,
    beyond: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)

    def write() -> None:
        for number in range(MAX_NAMED_FILES + beyond):
            Path("out", f"f{number}").write_text("half")
        raise OSError(errno.ENOSPC, "full")

    Path("out").mkdir()
    job = ThreadJob(write, writes=["out"])
    assert not Scheduler(job).run(backend=backend)
    told = caplog.text + "".join(getattr(job.raised_exception(), "__notes__", ()))
    assert os.listdir("out") == []
    assert told.count(".partial") == MAX_NAMED_FILES
    assert ("and 1 more likewise" in told) is bool(beyond)


@BEYOND
def test_readers_that_may_be_too_early_are_named_and_the_others_are_counted(
    backend: str, beyond: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count = MAX_NAMED_READERS + beyond
    readers = [
        ThreadJob(abs, number, reads=[tmp_path / "none"], label=f"r{number}")
        for number in range(count)
    ]
    with caplog.at_level(logging.WARNING):
        Scheduler(*readers).run(backend=backend)
    (line,) = [message for message in caplog.messages if "none" in message]
    assert re.findall(r"'(r\d)'", line) == [
        f"r{number}" for number in range(MAX_NAMED_READERS)
    ]
    assert line.endswith("; 1 more") is bool(beyond)


@BEYOND
def test_failures_of_dropped_jobs_are_raised_and_the_others_are_counted(
    virtual: Virtual, beyond: int
) -> None:
    count = MAX_COUNTED_KEPT + beyond

    async def call_all() -> None:
        for _ in range(count):
            current_scheduler().add(Job(fail_now))

    scheduler = Scheduler(Job(call_all), keep_jobs=False)
    with pytest.raises(ExceptionGroup) as raised:
        virtual(lambda: scheduler.co_run(check=True))
    assert len(raised.value.exceptions) == MAX_COUNTED_KEPT
    assert ("and 1 more" in str(raised.value)) is bool(beyond)


@BEYOND
def test_the_exit_code_of_a_batch_is_the_number_of_failures_up_to_the_last(
    beyond: int,
) -> None:
    tally = CommandTally()
    for _ in range(MAX_EXIT_CODE - 1 + beyond):
        tally.add(1)
    assert tally.exit_code == MAX_EXIT_CODE - 1 + beyond
    tally.add(1)
    assert tally.exit_code == MAX_EXIT_CODE
