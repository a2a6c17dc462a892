"""Damage inside the journal file: restored values are those stored, and a damaged row costs one job, not the run."""

import functools
import random
import sqlite3
from pathlib import Path
from typing import Any
import pytest
from trioflow import CommandJob, Job, JournalError, Scheduler
from ..cli.command_line import trioflow
from ..conftest import Virtual

JOBS = 12
FLIPS = 10
"""How many bits the short test flips, one in each run; the soak test takes a thousand."""


async def text(number: int) -> str:
    return f"the result of job {number}: " + "abcdefgh" * 20


def scenario() -> Scheduler:
    return Scheduler(
        *(Job(text, number, label=f"job {number}") for number in range(JOBS))
    )


def right() -> list[str]:
    return [f"the result of job {number}: " + "abcdefgh" * 20 for number in range(JOBS)]


@pytest.mark.parametrize(
    "flips",
    [FLIPS, pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_no_flipped_bit_gives_a_wrong_value(
    virtual: Virtual, file: Path, flips: int
) -> None:
    """Of many runs, each with another flipped bit, some restore all jobs, and some a part of them."""
    virtual(functools.partial(scenario().co_run, journal=file))
    data = file.read_bytes()
    dice = random.Random(5)
    whole = partly = 0
    for _ in range(flips):
        damaged = bytearray(data)
        damaged[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        file.write_bytes(damaged)
        scheduler = scenario()
        try:
            assert virtual(functools.partial(scheduler.co_run, journal=file))
        except JournalError:
            continue  # it cannot be used at all, and says so
        assert [job.result() for job in scheduler] == right()
        restored = sum(job.restored for job in scheduler)
        whole += restored == JOBS
        partly += 0 < restored < JOBS
    assert whole
    assert partly


def change(file: Path, statement: str, *parameters: Any) -> None:
    db = sqlite3.connect(file)
    with db:
        db.execute(statement, parameters)
    db.close()


DAMAGE = [
    ("result = CAST(x'22ff22' AS TEXT)", "is damaged"),
    ("fingerprint = CAST(x'ff' AS TEXT)", "is damaged"),
    ("why = CAST(x'ff' AS TEXT)", None),
    ("result = replace(result, 'job 3', 'job 6')", "is damaged"),
    ("result = (SELECT result FROM jobs WHERE path = 'job 6')", "is damaged"),
    ("path = CAST(x'ff' AS TEXT)", "no result"),
]


def test_only_the_job_of_a_damaged_row_runs_again(virtual: Virtual, file: Path) -> None:
    virtual(functools.partial(scenario().co_run, journal=file))
    for number, (column, _) in enumerate(DAMAGE):
        change(file, f"UPDATE jobs SET {column} WHERE path = 'job {number}'")
    change(file, "UPDATE runs SET label = CAST(x'ff' AS TEXT)")
    assert trioflow("journal", file).exit_code == 0
    scheduler = scenario()
    virtual(functools.partial(scheduler.co_run, journal=file))
    assert [job.result() for job in scheduler] == right()
    whys = [reason for _, reason in DAMAGE] + [None] * (JOBS - len(DAMAGE))
    for job, why in zip(scheduler, whys, strict=True):
        assert job.restored is (why is None)
        assert why is None or why in scheduler.explain(job)


def test_outputs_are_not_moved_if_the_record_of_a_failure_is_damaged(
    tmp_path: Path, backend: Any, file: Path
) -> None:
    """If the record of a failed command is damaged, its outputs stay, since their state before it is unknown."""
    out = tmp_path / "out"

    def build(code: str) -> CommandJob:
        return CommandJob(
            f"{code}; echo more >> {out}", shell=True, label="one", writes=[out]
        )

    Scheduler(build("exit 3")).run(backend=backend, journal=file)
    change(file, "UPDATE begun SET outputs = replace(outputs, 'absent', 'absend')")
    out.write_text("mine\n")
    Scheduler(build("true")).run(backend=backend, journal=file)
    assert out.read_text() == "mine\nmore\n"
