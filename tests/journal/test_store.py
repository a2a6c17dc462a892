"""The journal file: which processes may use it, and which files are rejected and left unchanged."""

import contextlib
import errno
import fcntl
import itertools
import json
import math
import os
import re
import shutil
import sqlite3
import struct
import subprocess
import threading
import unittest.mock
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import Job, JournalError, Scheduler
from trioflow.journal import _lock, _run_facts, _store
from trioflow.journal._store import (
    MAX_INLINE_RESULT,
    JournalStore,
    Outputs,
    read_with_retry,
)
from ..bodies import fail_now, nothing, raising
from ..conftest import Virtual
from ..pythons import Python, python
from .stage import found, made, record, refused


def still_open(file: Path) -> list[str]:
    found = (os.path.realpath(one) for one in Path("/proc/self/fd").iterdir())
    return sorted(one for one in found if file.name in one)


def test_committed_jobs_are_found_after_reopening_the_journal(file: Path) -> None:
    made(file, "a", "b")
    assert [one.name for one in file.parent.iterdir()] == ["run.db"]
    assert found(file) == ["a", "b"]


def test_the_journal_stays_when_the_program_changes_directory(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (other := file.parent / "other").mkdir()
    monkeypatch.chdir(file.parent)
    store = JournalStore(Path(file.name), writes=True)
    monkeypatch.chdir(other)
    store.add_records([record("a")], [], [])
    store.close()
    assert sorted(
        str(one.relative_to(file.parent)) for one in file.parent.rglob("*")
    ) == ["other", "run.db"]
    assert found(file) == ["a"]


def test_a_second_writer_in_the_same_process_is_rejected(file: Path) -> None:
    """A second writer in a process is rejected, although the system's lock, which is the process's, would allow it."""
    store = JournalStore(file, writes=True)
    refused(file, rf"another run in this process \({os.getpid()}\)")
    store.close()
    made(file, "a")


def test_a_file_system_without_locks_is_rejected(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        _lock, "set_lock", raising(OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)))
    )
    refused(file, r"cannot lock files \(No locks available\).*local disk")


def test_a_file_that_is_no_journal_is_rejected_and_unchanged(file: Path) -> None:
    """A file that is no journal is left unchanged: a wrong path must not cost the user a file."""
    for contents in [b"hello", b"SQLite format 2\0" + b"x" * 500]:
        file.write_bytes(contents)
        refused(file, "this file is not a journal")


def test_an_sqlite_file_of_another_program_is_rejected_and_unchanged(
    file: Path,
) -> None:
    db = sqlite3.connect(file)
    db.execute("CREATE TABLE jobs (path)")
    db.close()
    refused(file, "SQLite file of another program")


@pytest.mark.parametrize(
    "mark", ["application_id = 1", "user_version = 1", "journal_mode = WAL"]
)
def test_an_sqlite_file_with_a_foreign_header_and_no_table_is_rejected(
    file: Path, mark: str
) -> None:
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA {mark}")
    refused(file, "SQLite file of another program", True, False)


def test_the_log_of_an_sqlite_file_of_another_program_is_unchanged(file: Path) -> None:
    code = (
        "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA journal_mode = WAL')\n"
        "db.execute('CREATE TABLE jobs (path)'); db.commit(); os._exit(0)"
    )
    python("-c", code, file).check_returncode()
    before = {one.name: one.read_bytes() for one in file.parent.iterdir()}
    assert before["run.db-wal"]
    refused(file, "SQLite file of another program", True, False)
    assert {one.name: one.read_bytes() for one in file.parent.iterdir()} == before


def test_an_empty_file_becomes_a_journal(file: Path) -> None:
    """An empty file becomes a journal: `mktemp` creates one, and a run that is killed at its start leaves one."""
    file.touch()
    made(file, "a")
    assert found(file) == ["a"]


def test_a_truncated_journal_is_rejected_and_unchanged(file: Path) -> None:
    made(file, *(f"a job with a long name, number {number}" for number in range(500)))
    data = file.read_bytes()
    for keep in (0.3, 0.7, 0.95):
        file.write_bytes(data[: int(len(data) * keep)])
        refused(file, "the file is damaged, and was left unchanged")


def test_application_id_and_checksums_of_the_format_do_not_change() -> None:
    """The values that tell journals from other files, and intact rows from damaged ones, never change."""
    assert _store.APPLICATION_ID.to_bytes(4, "big") == b"tfj1"
    assert _store.checksum(("a", "{}", "json", "1", None, None)) == 3635516987
    assert _store.checksum(("a", "{}", "json", b"1", None, None)) == 2445181158


def test_a_journal_of_another_format_version_is_rejected(file: Path) -> None:
    made(file, "a")
    for version, writes in itertools.product(
        (_store.FORMAT_VERSION - 1, _store.FORMAT_VERSION + 1), (False, True)
    ):
        with contextlib.closing(sqlite3.connect(file)) as db:
            db.execute(f"PRAGMA user_version = {version}")
        before = {each.name: each.read_bytes() for each in file.parent.iterdir()}
        refused(
            file,
            rf"another version of trioflow \(format {version}, this one reads \d\), and was left",
            writes,
        )
        assert {
            each.name: each.read_bytes() for each in file.parent.iterdir()
        } == before


def test_a_read_only_journal_is_rejected_for_writing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(file, "a")
    file.chmod(0o444)
    monkeypatch.setattr(
        os, "access", lambda path, mode: path.stat().st_mode & 0o222 != 0
    )  # root may write all
    refused(file, "read-only")


def test_a_journal_in_a_missing_directory_is_rejected(tmp_path: Path) -> None:
    refused(tmp_path / "no" / "run.db", "No such file or directory")


def test_a_journal_may_have_any_name(tmp_path: Path) -> None:
    """The name of a journal may contain what SQLite reads as an option, and what is no text at all."""
    for name in (
        "a b?c#d%e&mode=rw",
        ":memory:",
        "file:x?mode=ro",
        "new\nline",
        "\udcff",
        "%00",
        "n" * 240,
    ):
        made(tmp_path / name, "a")
        assert os.listdir(tmp_path) == [name]
        assert found(tmp_path / name) == ["a"]
        for file in tmp_path.iterdir():
            file.unlink()


@pytest.mark.parametrize(
    ("path", "said"), [("/", "it is a directory"), ("n" * 300, "name too long")]
)
def test_a_path_that_no_file_can_have_is_rejected(
    tmp_path: Path, path: str, said: str
) -> None:
    refused(tmp_path / path, f"(?i){said}", True, False)


def test_reading_a_missing_journal_raises_and_creates_no_file(file: Path) -> None:
    with pytest.raises(JournalError, match="there is no file"):
        found(file)
    assert not file.exists()


@pytest.mark.parametrize("outputs", [None, '{"a": "absent"}'])
def test_a_job_whose_path_is_invalid_unicode_is_found_again(
    file: Path, outputs: str | None
) -> None:
    store = JournalStore(file, writes=True)
    store.add_records([record("job \udcff")._replace(outputs=outputs)], [], [])
    assert store.find_job("job \udcff") == record("job \\udcff")._replace(
        outputs=outputs
    )
    store.close()


LABELS = [
    "'; DROP TABLE jobs; --",
    'a" OR "1"="1',
    "%",
    "?",
    "a\0b",
    "\\",
    "'" * 50,
    "ü",
    "DELETE FROM jobs",
]


def test_labels_that_look_like_sql_are_stored_as_text(file: Path) -> None:
    made(file, *LABELS)
    assert found(file) == LABELS
    store = JournalStore(file, writes=True)
    assert [store.find_job(label) for label in LABELS] == [
        record(label) for label in LABELS
    ]
    store.forget(LABELS[:1])
    store.close()
    assert found(file) == LABELS[1:]


def test_a_large_result_is_kept_once_and_not_used_if_it_has_changed(file: Path) -> None:
    data = b"x" * (MAX_INLINE_RESULT + 1)
    store = JournalStore(file, writes=True)
    jobs = [
        record(name)._replace(result=len(data), large=store.write_large(data))
        for name in ("a", "b")
    ]
    store.add_records(jobs, [], [])
    assert [store.read_result(job) for job in store.job_records()] == [data, data]
    assert len(data) < file.with_name("run.db-wal").stat().st_size < 2 * len(data)
    store._write("UPDATE results SET data = ?", [(b"y",)])
    with pytest.raises(ValueError, match="its contents have changed"):
        store.read_result(jobs[0])
    store._write("UPDATE results SET data = 'text'")
    with pytest.raises(ValueError, match="cannot be read"):
        store.read_result(jobs[0]._replace(large="\udcff"))
    store.commit()
    store.forget(["a", "b"])
    with pytest.raises(ValueError, match="its contents have changed"):
        store.read_result(jobs[0])
    store.close()
    assert file.stat().st_size < MAX_INLINE_RESULT


def test_a_large_result_of_a_killed_run_is_kept_with_its_job_or_not_at_all(
    file: Path,
) -> None:
    """A large result is written with the record of its job: a run that ends before the commit leaves none."""
    made(file, "a")
    store = JournalStore(file, writes=True)
    store.write_large(b"large")
    store.close()
    with contextlib.closing(sqlite3.connect(file)) as db:
        assert db.execute("SELECT count(*) FROM results").fetchone() == (0,)


FILL = """
import resource, signal, sys
import anyio
from trioflow import Job, Scheduler

async def text(number):
    await anyio.sleep(0.001)
    return f"{number} " + "x" * 2000

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit or resource.RLIM_INFINITY, resource.RLIM_INFINITY))
scheduler = Scheduler(*(Job(text, number, label=str(number), version=1) for number in range(100)), jobs_window=1)
scheduler.run(journal=sys.argv[1], backend=sys.argv[3])
print(scheduler.stop_reason.name, scheduler.culprit, sum(job.restored for job in scheduler))
"""


def test_a_run_ends_at_the_file_size_limit_and_the_next_run_continues(
    file: Path, backend: str
) -> None:
    """A run that reaches `ulimit -f` is CRITICAL, the error names it, and the next run restores what was committed."""

    def run(limit: int) -> subprocess.CompletedProcess[str]:
        return python("-c", FILL, file, limit, backend, text=True)

    full = run(100_000)
    assert full.stdout.split() == ["CRITICAL", "None", "0"]
    assert re.search(
        "journal '.*run.db': cannot write to it: the limit of the file size is 100000 bytes",
        full.stderr,
    )
    committed = len(found(file))
    assert 0 < committed < 100
    assert run(0).stdout.split() == ["COMPLETED", "None", str(committed)]
    assert len(found(file)) == 100


def test_the_error_without_msgspec_has_the_install_command(file: Path) -> None:
    code = (
        "import sys; sys.modules['msgspec'] = None\n"
        "for name in [name for name in sys.modules if name.startswith('trioflow.journal.')]: del sys.modules[name]\n"
        "import trioflow; trioflow.Scheduler().run(journal=sys.argv[1])"
    )
    done = python("-c", code, file, text=True)
    assert done.returncode == 1
    assert (
        "JournalError: a journal needs msgspec: pip install 'trioflow[journal]'"
        in done.stderr
    )
    assert not file.exists()


TINY = 1 << 20
"""Bytes of a file system that fills up."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on a file system of 1 MiB, if the test may create one."""
    (place := tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TINY}", "tmpfs", str(place)]
    if (
        os.getuid()
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("only root may mount a file system, and not everywhere")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


PLENTY, NONE_LEFT = (
    os.statvfs_result((4096, 4096, 10**6, free, free, 10, 10, 10, 0, 255))
    for free in (10**6, 0)
)
DISK_ERROR = sqlite3.SQLITE_IOERR | (3 << 8)  # SQLITE_IOERR_WRITE


Operational, Database = sqlite3.OperationalError, sqlite3.DatabaseError
ADVICE: list[tuple[type[Exception], int | None, Any, int, str]] = [
    (
        Operational,
        DISK_ERROR,
        NONE_LEFT,
        -1,
        "no space left on its disk; free some space",
    ),
    (
        Operational,
        DISK_ERROR,
        PLENTY,
        50_000,
        r"file size is 50000 bytes \(ulimit -f\); free some space",
    ),
    (Operational, DISK_ERROR, PLENTY, 1 << 40, "words; check the disk"),
    (Operational, DISK_ERROR, PLENTY, -1, "words; check the disk"),
    (Operational, sqlite3.SQLITE_FULL, PLENTY, -1, "words; free some space"),
    (
        Operational,
        sqlite3.SQLITE_BUSY,
        NONE_LEFT,
        -1,
        "words; another program is using the file",
    ),
    (
        Operational,
        sqlite3.SQLITE_LOCKED,
        PLENTY,
        -1,
        "words; another program is using the file",
    ),
    (
        Operational,
        sqlite3.SQLITE_READONLY,
        PLENTY,
        -1,
        "words; the file or its directory",
    ),
    (
        Operational,
        sqlite3.SQLITE_CANTOPEN,
        PLENTY,
        -1,
        "words; the file or its directory",
    ),
    (Operational, sqlite3.SQLITE_ERROR, NONE_LEFT, -1, "words; check the disk"),
    (Database, sqlite3.SQLITE_CORRUPT, PLENTY, -1, "words; the file is damaged"),
    (Database, None, NONE_LEFT, -1, "words; the file is damaged"),
    (OSError, None, PLENTY, -1, "words; check the disk"),
]


def test_a_database_error_comes_with_advice_for_its_cause(file: Path) -> None:
    """SQLite reports many faults as disk errors, and only for some of them the advice is to free some space."""
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        for kind, code, disk, limit, advice in ADVICE:
            error: Any = kind("words")
            if code is not None:
                error.sqlite_errorcode = code
            with (
                unittest.mock.patch("os.statvfs", return_value=disk),
                unittest.mock.patch("resource.getrlimit", return_value=(limit, limit)),
            ):
                assert re.search(
                    f"cannot write to it: .*{advice}",
                    str(store._make_error("write to it", error)),
                )


@pytest.mark.parametrize("free", [0, 20_000, 200_000])
def test_the_error_on_a_full_file_system_advises_to_make_room(
    small_disk: Path, free: int
) -> None:
    file = small_disk / "run.db"
    if free > 100_000:
        made(file, "a")
    (small_disk / "ballast").write_bytes(
        b"x" * (TINY - free - 60_000 * (free > 100_000))
    )
    with pytest.raises(JournalError, match="free some space") as raised:
        made(file, *(f"job {number}" + "x" * 1000 for number in range(1000)))
    assert "disk I/O error" not in str(raised.value)
    (small_disk / "ballast").unlink()
    made(file, "b")
    assert {"b"} <= set(found(file)) <= {"a", "b"}


@pytest.mark.parametrize("times", [1, 3])
def test_reader_retries_while_a_journal_needs_recovery(
    file: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    made(file, "a")
    check, refused = JournalStore._check_format, 0

    def too_early(store: JournalStore, db: sqlite3.Connection) -> None:
        nonlocal refused
        if refused < times:
            refused += 1
            error = sqlite3.OperationalError("attempt to write a readonly database")
            error.sqlite_errorcode = sqlite3.SQLITE_READONLY_RECOVERY
            raise error
        check(store, db)

    monkeypatch.setattr(JournalStore, "_check_format", too_early)
    assert [
        one.path
        for one in read_with_retry(file, lambda store: list(store.job_records()))
    ] == ["a"]
    assert refused == times


# ---- locks: which process has the journal
def test_a_running_run_is_distinguished_from_a_killed_one(file: Path) -> None:
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        store.add_run("killed")
        store.add_run("now")
        assert [
            one.is_running for one in read_with_retry(file, JournalStore.run_records)
        ] == [False, True]
    assert [
        one.is_running for one in read_with_retry(file, JournalStore.run_records)
    ] == [False, False]
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        store.end_run(store.add_run("over"), "succeeded", 1.0)
        assert [
            one.is_running for one in read_with_retry(file, JournalStore.run_records)
        ] == [False, False, False]


def test_a_holder_on_another_machine_counts_as_alive() -> None:
    with Python(["-c", "pass"]) as ended:
        ended.wait()
    here = _lock.describe_this_process()
    assert _lock._is_alive(here)
    assert not _lock._is_alive(
        here.replace(f"process {os.getpid()} ", f"process {ended.pid} ")
    )
    assert _lock._is_alive(
        f"process {ended.pid} on a-machine-of-another-name, since then"
    )
    assert _lock._is_alive("")


HOLD = "import sys, trioflow.journal._store as s, pathlib\ns.JournalStore(pathlib.Path(sys.argv[1]), writes=True)\nprint(flush=True)\ninput()"  # noqa: E501


def test_a_rejected_process_does_not_wait_and_leaves_no_files(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(file, "a")
    with Python(
        ["-c", HOLD, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        monkeypatch.setattr(_lock, "RELEASE_TIMEOUT", math.inf)
        for said in (f"process {holder.pid} ", "an unknown process"):
            refused(file, f"another run is using it: {said}")
            file.with_name("run.db-lock").unlink()
        assert found(file) == ["a"]  # reading is possible meanwhile
        assert still_open(file) == []
        holder.kill()


def test_a_holder_that_has_just_taken_the_lock_is_named(file: Path) -> None:
    """Of two workers of a server that start at once, the second names the first, which has yet to write its name."""
    made(file, "a")
    lock, name = (
        file.with_name("run.db-lock"),
        re.sub(r"\d+", "1", _lock.describe_this_process(), count=1),
    )
    lock.write_text("")
    holder = os.open(lock, os.O_RDWR)
    _lock.set_lock(holder, _lock.LOCK_FILE_BYTE, 1)
    writer = threading.Timer(0.05, os.pwrite, (holder, name.encode(), 0))
    writer.start()
    refused(file, "another run is using it: process 1 on ")
    writer.join()
    os.close(holder)


def test_waiting_for_a_holder_that_seems_dead_is_logged(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A holder in another PID namespace seems dead, so waiting for it is logged; once, the wait was silent."""
    name = re.sub(r"\d+", "4194304", _lock.describe_this_process(), count=1)
    monkeypatch.setattr(_lock, "RELEASE_TIMEOUT", 0.03)
    monkeypatch.setattr(_lock, "LOG_DELAY", 0.0)
    with Python(
        ["-c", HOLD, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        file.with_name("run.db-lock").write_text(name)
        refused(file, "another run is using it: process 4194304 ")
        holder.kill()
    (line,) = caplog.messages
    assert line.endswith(f"waiting up to 0.03 s for another run to release it ({name})")


def test_opening_waits_for_the_second_lock_of_a_killed_process(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.with_name("run.db-lock").write_text(
        re.sub(r"\d+", "4194304", _lock.describe_this_process(), count=1)
    )
    database = os.open(file, os.O_RDWR | os.O_CREAT)
    _lock.set_lock(database, _lock.WRITER_BYTE, 1)
    monkeypatch.setattr(_lock.time, "sleep", lambda _: os.close(database))
    made(file, "a")
    assert found(file) == ["a"]


def test_a_lock_file_removed_while_being_locked_is_created_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, lock = file.with_name("run.db-lock"), _lock.set_lock

    def late(descriptor: int, *place: int) -> None:
        monkeypatch.setattr(_lock, "set_lock", lock)
        name.unlink()
        lock(descriptor, *place)

    monkeypatch.setattr(_lock, "set_lock", late)
    with contextlib.closing(JournalStore(file, writes=True)):
        assert name.exists()
        assert set(still_open(file)) == {
            f"{file}{end}" for end in ("", "-lock", "-shm", "-wal")
        }


def test_only_the_process_that_created_a_lock_file_removes_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the process that created a lock file removes it; otherwise two processes could hold the journal."""
    name = file.with_name("run.db-lock")
    with (
        contextlib.closing(JournalStore(file, writes=True)),
        monkeypatch.context() as patch,
    ):
        store = JournalStore(file.with_name("other.db"), writes=True)
        patch.setattr(os, "getpid", lambda: 1)
        store.close()
    assert file.with_name("other.db-lock").exists()
    assert not name.exists()
    store = JournalStore(file, writes=True)
    name.unlink()
    name.write_text("another one's")
    store.close()
    assert name.read_text() == "another one's"


@pytest.mark.skipif(_lock.SET_LOCK_COMMAND is None, reason="needs locks of open files")
def test_sqlite_locks_survive_closing_another_descriptor_of_the_file(
    file: Path,
) -> None:
    with contextlib.closing(JournalStore(file, writes=True)):
        for name, place in ((f"{file}", (0x40000002, 510)), (f"{file}-shm", (128, 1))):
            os.close(os.open(name, os.O_RDONLY))
            with open(name, "r+b") as other:
                asked = struct.pack(
                    _lock.FLOCK_STRUCT, fcntl.F_WRLCK, os.SEEK_SET, *place, 0
                )
                answer = struct.unpack_from(
                    _lock.FLOCK_STRUCT,
                    fcntl.fcntl(other, _lock.GET_LOCK_COMMAND, asked),
                )
            assert answer[:4] == (fcntl.F_RDLCK, os.SEEK_SET, *place)


def test_a_failed_open_releases_the_journals_lock(file: Path) -> None:
    """A failed open, here of a directory, leaves no descriptor open that would block later opens."""
    file.mkdir()
    refused(file, "it is a directory")
    assert still_open(file) == []


def test_the_lock_file_names_its_holder_and_nothing_more(file: Path) -> None:
    """The lock file names its holder and nothing more, even if a killed holder before had a longer name."""
    lock = file.with_name("run.db-lock")
    lock.write_text("process 4194304 on " + "a-very-long-name." * 9)
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        assert re.fullmatch(
            rf"process {os.getpid()} on .*, since [-0-9: +]+", lock.read_text()
        )
        store.add_run("a")
        assert store.run_records()[0].process == lock.read_text()


# ---- contents
def test_a_reader_finds_what_is_only_in_the_log_of_a_killed_run(
    file: Path, tmp_path: Path
) -> None:
    (after := tmp_path / "after").mkdir()
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        store.add_records([record("a")], [], [])
        for name in ("run.db", "run.db-wal"):  # as they are when it is killed now
            shutil.copy(file.with_name(name), after / name)
    before = [(after / name).read_bytes() for name in ("run.db", "run.db-wal")]
    for _ in range(2):
        assert found(after / "run.db") == ["a"]
        assert [
            (after / name).read_bytes() for name in ("run.db", "run.db-wal")
        ] == before
    made(after / "run.db", "b")
    assert os.listdir(after) == ["run.db"]
    assert found(after / "run.db") == ["a", "b"]


@pytest.mark.parametrize(
    ("place", "goes_on"), [("_check_format", True), ("job_records", False)]
)
def test_a_journal_is_read_again_if_a_run_has_changed_it_meanwhile(
    file: Path, monkeypatch: pytest.MonkeyPatch, place: str, goes_on: bool
) -> None:
    """A journal that no run uses is read without locks, so it is read again if a run has begun meanwhile."""
    made(file, "a")
    method: Any = getattr(JournalStore, place)
    with contextlib.ExitStack() as stack:

        def disturbed(store: JournalStore, *arguments: Any) -> Any:
            monkeypatch.undo()
            method(store, *arguments)
            made(file, "b")
            if goes_on:
                stack.enter_context(contextlib.closing(JournalStore(file, writes=True)))
            raise JournalError("half of it is of another time")

        monkeypatch.setattr(JournalStore, place, disturbed)
        assert found(file) == ["a", "b"]


def test_an_error_is_not_blamed_on_a_run_if_there_was_none(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that meets an error raises it at once, unless a run has changed the journal."""
    made(file, "a")
    monkeypatch.setattr(JournalStore, "job_records", raising(JournalError("broken")))
    with pytest.raises(JournalError, match=r"^broken$"):
        found(file)


def test_a_journal_that_runs_change_all_the_time_is_not_read_wrongly(
    file: Path,
) -> None:
    made(file, "a")
    with pytest.raises(
        JournalError, match=r"a run has changed it while it was read; try again$"
    ):
        read_with_retry(file, lambda store: made(file, "b"))


def test_a_missing_table_raises_an_error_unlike_a_damaged_row(file: Path) -> None:
    """A missing table raises an error, since no result could be stored; a damaged row only runs its job again."""
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        store.add_records([record("a")], [], [])
        store._database.execute("DROP TABLE jobs")
        with pytest.raises(JournalError, match="no such table"):
            store.find_job("a")


def test_large_results_that_nothing_refers_to_are_removed(file: Path) -> None:
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        names = [
            store.write_large(data)
            for data in (b"kept", b"replaced", b"forgotten", b"output")
        ]
        larges = [f"{names[0]} {names[3]}", *names[1:3]]
        store.add_records(
            [record(large)._replace(result=4, large=large) for large in larges], [], []
        )
        store.forget([names[2]])
        store.add_records([record(names[1])], [], [])
        store.end_run(store.add_run("run"), "COMPLETED", 1.0)
        assert set(store._database.execute("SELECT hash FROM results")) == {
            (names[0],),
            (names[3],),
        }
        assert store.read_result(store.job_records()[0]) == b"kept"


@pytest.mark.parametrize(
    "disturbance", ["nothing", "a reader", "a job that opens the file", "no space"]
)
def test_space_is_released_whoever_uses_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, disturbance: str
) -> None:
    """A run whose results have become small leaves a small file; a reader keeps its snapshot, and no result is lost."""
    names = [f"job {number:02}" for number in range(60)]
    store = JournalStore(file, writes=True)
    store.add_records(
        [record(name)._replace(result=json.dumps(name * 5000)) for name in names],
        [],
        [],
    )
    store.close()
    before = file.stat().st_size
    store = JournalStore(file, writes=True)
    store.add_records([record(name) for name in names], [], [])
    reader = JournalStore(file, writes=False) if disturbance == "a reader" else None
    read = (
        None
        if reader is None
        else reader._database.execute("SELECT path FROM jobs ORDER BY id")
    )
    if (
        disturbance == "a job that opens the file"
    ):  # closing it releases SQLite's own locks
        file.read_bytes()
    if disturbance == "no space":
        monkeypatch.setattr(store, "_db", WithoutSpace(store._database))
    store.end_run(store.add_run("run"), "COMPLETED", 1.0)
    store.add_records([record("late")], [], [])
    assert read is None or [path for (path,) in read] == names
    store.close()
    if reader is not None:
        reader.close()
    assert found(file) == [
        *names,
        "late",
    ]  # the next one that closes the file writes the log into it
    made(file, "later")
    assert (file.stat().st_size < before / 4) is (disturbance != "no space")
    assert not file.with_name("run.db-wal").exists()
    made(file, "last")
    assert found(file) == [*names, "late", "later", "last"]


class WithoutSpace:
    """A database on a disk that is too full to rewrite it."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)

    def execute(self, statement: str, *parameters: Any) -> Any:
        if statement == "VACUUM":
            raise sqlite3.OperationalError("database or disk is full")
        return self.database.execute(statement, *parameters)


@pytest.mark.parametrize("syncs", [True, False])
def test_a_new_journal_is_synced_with_its_directory(
    file: Path, monkeypatch: pytest.MonkeyPatch, syncs: bool
) -> None:
    """With `durable="each"`, the directory of a new journal is synced: a power cut could leave it without the file."""
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    JournalStore(file, writes=True, syncs=syncs).close()
    assert synced == [file.parent.name] * syncs


# --- A journal that cannot be closed at the end of a run that has failed: both are told
@pytest.mark.both_backends
@pytest.mark.parametrize("fails", [True, False])
def test_a_journal_that_cannot_be_closed_hides_no_failure(
    tmp_path: Path,
    backend: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fails: bool,
) -> None:
    """The failure of a job is raised, and that of the journal logged. Without the first, the second is raised."""

    async def main() -> None:
        async with Scheduler(journal=tmp_path / "run.db") as scheduler:
            scheduler.add(Job(fail_now if fails else nothing, label="works"))

    monkeypatch.setattr(
        JournalStore, "end_run", raising(JournalError("the disk is full"))
    )
    with pytest.raises(ExceptionGroup if fails else JournalError):
        anyio.run(main, backend=backend)
    assert not Scheduler(
        Job(fail_now if fails else nothing), journal=tmp_path / "run.db"
    ).run(backend=backend)
    assert caplog.text.count("the disk is full") == 2
    assert caplog.text.count("failed: OSError: broken") == 2 * fails


def test_the_jobs_of_a_first_count_once_at_any_depth() -> None:
    first = '{"f":"first"}'
    rows = [
        ("a", "{}"),
        ("group/a", "{}"),
        ("group/first", first),
        ("group/first/b", "{}"),
        ("group/first/inner", first),
        ("group/first/inner/c", "{}"),
        ("other/deep/first", first),
        ("other/deep/first/d", "{}"),
    ]
    assert _store.count_jobs(rows) == 4


def test_files_of_an_attempt_that_was_killed_are_those_of_another_job(
    file: Path,
) -> None:
    """What is set aside for one job is not what another had begun to write."""
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        store.add_run("test")
        outputs = Outputs(stamps={"/written": "1 1"}).to_json()
        store.add_records([record("a")._replace(outputs=outputs)], [], [])
        begun = Outputs(stamps={"/begun": "absent"}).to_json()
        assert begun is not None
        store.record_start("b", begun)
        assert store.outputs_of_other_jobs("c") == ["/written", "/begun"]
        assert store.outputs_of_other_jobs("b") == ["/written"]
        assert store.outputs_of_other_jobs("a") == ["/begun"]


def test_a_clock_that_is_set_back_does_not_turn_the_order_of_records(
    virtual: Virtual, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = itertools.count(2e9, -60)
    monkeypatch.setattr(_run_facts.time, "time", lambda: next(times))
    jobs = [Job(nothing, label="a")]
    for label in "bcd":
        jobs.append(Job(nothing, label=label, required=jobs[-1]))
    assert virtual(lambda: Scheduler(*jobs).co_run(journal=file))
    settled = read_with_retry(
        file, lambda store: [each.settled for each in store.job_records()]
    )
    assert settled == sorted(settled)
    assert len(settled) == 4
