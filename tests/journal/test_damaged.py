"""Damage inside the journal file: restored values are those stored, and a damaged row costs one job, not the run."""

import contextlib
import functools
import gzip
import json
import os
import random
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any
import pytest
from trioflow import CommandJob, Job, JournalError, Scheduler
from trioflow.journal import _store
from trioflow.journal._earlier_format import EARLIER_VERSION
from trioflow.journal._store import FORMAT_VERSION, JournalStore, read_with_retry
from ..cli.command_line import trioflow
from ..conftest import Virtual
from ..pythons import python
from .stage import Fault, fork, refused

JOBS = 12
FLIPS = 10
"""How many bits the short test flips, one in each run; the soak test takes a thousand."""


async def text(number: int) -> str:
    return f"the result of job {number}: " + "abcdefgh" * 20


def scenario() -> Scheduler:
    return Scheduler(*(Job(text, number, label=f"job {number}") for number in range(JOBS)))


def right() -> list[str]:
    return [f"the result of job {number}: " + "abcdefgh" * 20 for number in range(JOBS)]


@pytest.mark.parametrize("flips", [FLIPS, pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_no_flipped_bit_gives_a_wrong_value(virtual: Virtual, file: Path, flips: int) -> None:
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


def test_outputs_are_not_moved_if_the_record_of_a_failure_is_damaged(tmp_path: Path, backend: Any, file: Path) -> None:
    """If the record of a failed command is damaged, its outputs stay, since their state before it is unknown."""
    out = tmp_path / "out"

    def build(code: str) -> CommandJob:
        return CommandJob(f"{code}; echo more >> {out}", shell=True, label="one", writes=[out])

    Scheduler(build("exit 3")).run(backend=backend, journal=file)
    change(file, "UPDATE begun SET outputs = replace(outputs, 'absent', 'absend')")
    out.write_text("mine\n")
    Scheduler(build("true")).run(backend=backend, journal=file)
    assert out.read_text() == "mine\nmore\n"


# --- Journals of the format before: they are read, and brought up to date after a copy. `earlier/` has one
VERSIONS = [FORMAT_VERSION, EARLIER_VERSION]
DATA = Path(__file__).with_name("earlier")
RUNS = """
import json, logging, sys
sys.path.insert(0, ".")
logging.basicConfig(format="%(message)s", stream=sys.stderr)
if __name__ == "__main__":
    import flow
    from trioflow import Journal
    scheduler = flow.flow()
    scheduler.run(journal=Journal("run.db", hash=True), backend=sys.argv[1])
    jobs = [job for job in scheduler.iterate_jobs() if job.label != "group"]
    values = [job.result() == flow.VALUES[n] for n, job in enumerate(jobs[: len(flow.VALUES)])]
    print(json.dumps([{job.path: [job.restored, job.state, job.took] for job in jobs}, values]))
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    shutil.copy(DATA / "flow.py", tmp_path)
    for name, text in {"in": "input\n", "out": "input\n", "copy": "input\n", "late.sh": "echo whole > late"}.items():
        (tmp_path / name).write_text(text)
    file = tmp_path / "run.db"
    file.write_bytes(gzip.decompress((DATA / "run.db.gz").read_bytes()))
    return file


def contents(old: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(old)) as db:
        tables = [db.execute(f"SELECT * FROM {table}").fetchall() for table in ("runs", "jobs", "results", "begun")]
        return [db.execute("PRAGMA user_version").fetchone()[0], *tables]


def files(directory: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in directory.iterdir() if each.is_file()}


def found(old: Path) -> list[str]:
    return read_with_retry(old, lambda store: [record.path for record in store.job_records()])


def test_each_job_of_a_journal_of_the_format_before_is_restored(backend: str, old: Path) -> None:
    """What it has of paid calls and of answers is the user's. The next run restores them, too."""
    before = contents(old)
    assert before[0] == EARLIER_VERSION
    for number in range(2):
        done = python("-c", RUNS, backend, cwd=old.parent, text=True)
        assert ("'run.db-format-5' beside it is a copy of it as it was" in done.stderr) is (number == 0), done.stderr
        jobs, values = json.loads(done.stdout)
        assert {path for path, (restored, *_) in jobs.items() if not restored} - {"late"} == {
            "fails", "first/a", "first/b"
        }  # fmt: skip
        assert all(values)
        assert len(jobs) == 32
        assert [jobs[path][1] for path in ("fails", "first", "first/b", "deploy", "late")] == [
            "failed", "succeeded", "idle", "succeeded", "succeeded"
        ]  # fmt: skip
        assert jobs["deploy"][2] > 1
    assert contents(old.with_name("run.db-format-5")) == before
    assert not old.with_name("run.db-format-5-2").exists()
    version, _, jobs, *_ = contents(old)
    assert version == FORMAT_VERSION
    assert [row[1] for row in jobs][: len(before[2])] == [row[1] for row in before[2]]


def test_a_command_that_reads_leaves_a_journal_of_the_format_before_alone(old: Path) -> None:
    """It reads a temporary copy: whoever looks may not be the one who runs."""
    before = files(old.parent)
    assert len(trioflow("journal", old).stdout.splitlines()) == 30
    assert "deploy" in trioflow("journal", old, "show", "deploy").stdout
    assert files(old.parent) == before


def test_a_run_that_is_killed_as_it_brings_a_journal_up_to_date_loses_nothing(old: Path) -> None:
    data, names = old.read_bytes(), found(old)
    for after in (False, True):
        for at in range(99):
            for each in old.parent.glob("run.db*"):
                each.unlink()
            old.write_bytes(data)
            if not (child := fork()):
                Fault(at, after).install()
                JournalStore(old, writes=True).close()
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert found(old) == names
            JournalStore(old, writes=True).close()
            assert found(old) == names
            assert [contents(each)[0] for each in (old, old.with_name("run.db-format-5"))] == VERSIONS
            if code == 0:
                break
            assert code == -signal.SIGKILL
        assert at >= 3


@pytest.mark.parametrize("fault", ["no copy", "a copy is there"])
def test_no_journal_is_brought_up_to_date_without_copy(old: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """If the copy cannot be made, the journal stays as it is. A copy that is there is not overwritten."""
    before = files(old.parent)
    if fault == "no copy":
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        refused(old, r"cannot copy it to '.*run.db-format-5': .*No space left")
        assert files(old.parent) == before
        return
    old.with_name("run.db-format-5").write_bytes(b"mine")
    JournalStore(old, writes=True).close()
    assert old.with_name("run.db-format-5").read_bytes() == b"mine"
    assert contents(old.with_name("run.db-format-5-2"))[0] == EARLIER_VERSION


def test_a_first_run_of_the_format_before_that_was_killed_before_its_tables_leaves_an_empty_journal(
    old: Path,
) -> None:
    """It has a version and no tables. There is nothing to copy."""
    old.unlink()
    with contextlib.closing(sqlite3.connect(old)) as db:
        db.execute(f"PRAGMA application_id = {_store.APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {EARLIER_VERSION}")
        db.execute("PRAGMA journal_mode = WAL")
    JournalStore(old, writes=True).close()
    assert contents(old) == [FORMAT_VERSION, [], [], [], []]
    assert not [*old.parent.glob("run.db-format*")]
