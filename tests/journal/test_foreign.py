"""A journal that others wrote, or that is in a directory where others write: nothing outside of it is changed."""

import contextlib
import itertools
import os
import re
import shutil
import signal
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY
import pytest
from trioflow import Job, JournalError, Scheduler
from trioflow.journal import _lock
from trioflow.journal._store import JournalStore
from ..cli.command_line import trioflow
from .stage import fork, found, made, record, refused


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a file of the user that is none of the journal's."""
    (tmp_path / "victim").write_text("mine")
    return tmp_path / "victim"


def link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def link_hard(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def make_pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path)


TRAPS: list[tuple[Callable[[Path, Path], None], str]] = [
    (link, "a symbolic link"),
    (link_hard, "a file with 2 hard links"),
    (make_pipe, "a named pipe"),
]


# ---- the lock file
@pytest.mark.parametrize(("make_trap", "kind"), TRAPS)
def test_a_lock_file_put_there_while_a_run_starts_is_rejected(
    file: Path,
    victim: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_trap: Callable[[Path, Path], None],
    kind: str,
) -> None:
    """The lock file is checked once it is open, too, because another user may replace it at any time."""
    lock = file.with_name("run.db-lock")

    def put_there(*_: object) -> bool:
        lock.unlink(missing_ok=True)
        make_trap(lock, victim)
        return False

    monkeypatch.setattr(_lock, "is_own_journal", put_there)
    refused(file, kind)
    assert victim.read_text() == "mine"


def test_escape_sequences_in_a_lock_file_are_not_shown(file: Path) -> None:
    """Another user may hold the lock file, with escape sequences for the terminal in place of a name."""
    made(file, "a")
    for text in (
        "process 1 on \x1b]0;title\x07x, since today",
        "process 1 on \u202ex, since today",
        "[ok] all done",
    ):
        file.with_name("run.db-lock").write_text(text)
        holder = os.open(file.with_name("run.db-lock"), os.O_RDWR)
        _lock.set_lock(holder, _lock.LOCK_FILE_BYTE, 1)
        with pytest.raises(
            JournalError, match="another run is using it: an unknown process; wait"
        ) as raised:
            JournalStore(file, writes=True)
        assert str(raised.value).isprintable()
        os.close(holder)


def test_a_lock_file_with_an_impossible_process_does_not_raise(file: Path) -> None:
    """A number that is no process, in a lock file that another user wrote, is not looked up."""
    text = re.sub(r"\d+", "4194304" * 9, _lock.describe_this_process(), count=1)
    assert _lock._is_alive(text)
    file.with_name("run.db-lock").write_text(text)
    made(file, "a")
    assert found(file) == ["a"]


# ---- a rollback journal, with which SQLite deletes files
def poison(file: Path, victim: Path) -> None:
    """Create a rollback journal that names another file, which SQLite deletes after the rollback."""
    page = int.from_bytes(file.read_bytes()[16:18], "big")
    magic, name = bytes.fromhex("d9d505f920a163d7"), os.fsencode(victim)
    header = magic + struct.pack(">IIIII", 0, 0, file.stat().st_size // page, 512, page)
    end = (
        struct.pack(">I", (1 << 30) // page + 1)
        + name
        + struct.pack(">II", len(name), sum(name))
        + magic
    )
    file.with_name("run.db-journal").write_bytes(header.ljust(512, b"\0") + end)


def test_a_journal_with_a_rollback_journal_deletes_no_file(
    file: Path, victim: Path
) -> None:
    made(file, "a")
    poison(file, victim)
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    for words in ([], ["why"], ["show", "*"], ["forget", "a"]):
        result = trioflow("journal", file, *words)
        assert result.exit_code == 2
        assert "'run.db-journal' next to it is a rollback journal" in result.output
    refused(file, r"'run.db-journal' next to it is a rollback journal")
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before


def test_reading_a_journal_creates_and_changes_no_file(file: Path) -> None:
    made(file, "a")

    def state() -> list[tuple[str, bytes, int]]:
        return [
            (path.name, path.read_bytes(), path.stat().st_mtime_ns)
            for path in file.parent.iterdir()
        ]

    before = state()
    for words in ([], ["why"], ["show", "*"]):
        assert trioflow("journal", file, *words).exit_code == 0
    assert state() == before


STARTS = ["new", "copy", "no table"]


@pytest.mark.parametrize("start", STARTS)
def test_a_killed_run_never_leaves_a_rollback_journal(file: Path, start: str) -> None:
    """At whichever write a run is killed, it leaves no rollback journal, and the next run can use the file. Each start
    tries each ninth write; together they try each third."""
    if start == "copy":
        made(file.with_name("original.db"), "a")
        with contextlib.closing(sqlite3.connect(file.with_name("original.db"))) as db:
            db.execute("VACUUM INTO ?", [str(file)])
        file.with_name("original.db").unlink()
    elif start == "no table":
        with contextlib.closing(sqlite3.connect(file)) as db:
            db.execute("CREATE TABLE t (x)")
            db.execute("DROP TABLE t")
    contents = file.read_bytes() if file.exists() else None
    for number in range(3 * STARTS.index(start), 100, 9):
        for path in file.parent.iterdir():
            path.unlink()
        if contents is not None:
            file.write_bytes(contents)
        child = fork()
        if not child:
            with contextlib.suppress(BaseException):
                kill_at_statement(number)
                made(file, "b")
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert not file.with_name("run.db-journal").exists(), number
        made(file, "c")
        assert {"c"} <= set(found(file)) <= {"a", "b", "c"}
        if code == 0:
            break
    assert number > 10
    assert ("a" in found(file)) is (start == "copy")


def kill_at_statement(number: int) -> None:
    """Kill this process before SQLite executes its n-th statement on a journal."""
    connect, left = JournalStore._connect, iter(range(number))

    def traced(*arguments: Any) -> sqlite3.Connection:
        connection = connect(*arguments)
        connection.set_trace_callback(
            lambda statement: (
                next(left, None) is None and os.kill(os.getpid(), signal.SIGKILL)
            )
        )
        return connection

    JournalStore._connect = traced  # type: ignore[method-assign]


# ---- the database and its log
def test_a_file_beside_a_journal_that_no_run_would_create_is_rejected(
    file: Path, victim: Path
) -> None:
    """The log of a journal is a regular file with one name: SQLite would write into it, and a pipe has no end. A run
    writes its name into the lock file: once, it emptied the target of a link."""
    made(file, "a")
    for suffix, (make_trap, kind) in itertools.product(
        ["-wal", "-shm", "-lock"], TRAPS
    ):
        make_trap(trap := Path(f"{file}{suffix}"), victim)
        for writes in (True, False):
            refused(file, rf"'run.db{suffix}' next to it is {kind}; remove it", writes)
            assert victim.read_text() == "mine"
        trap.unlink()


def test_a_journal_that_is_no_regular_file_is_rejected(tmp_path: Path) -> None:
    """A pipe or a device as a journal is not opened: to read it could wait forever, or never end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    before = sorted(os.listdir(tmp_path))
    for name, kind in (
        ("pipe", "a named pipe"),
        ("directory", "a directory"),
        ("device", "a device"),
    ):
        refused(
            tmp_path / name,
            rf"it is {kind}; give the path of a regular file",
            True,
            False,
        )
    assert sorted(os.listdir(tmp_path)) == before


def test_a_journal_behind_a_link_keeps_its_files_beside_the_target(file: Path) -> None:
    """A link to a journal is followed, because users have such links; no file appears beside the link."""
    (elsewhere := file.with_name("elsewhere")).mkdir()
    made(elsewhere / "run.db", "a")
    file.symlink_to(elsewhere / "run.db")
    with contextlib.closing(JournalStore(file, writes=True)):
        assert sorted(os.listdir(file.parent)) == ["elsewhere", "run.db"]
    assert found(file) == ["a"]


def test_a_link_to_a_missing_file_is_rejected(file: Path) -> None:
    """A run creates no file at the end of a link, because another user may have chosen its place."""
    file.symlink_to(file.with_name("nowhere"))
    refused(
        file,
        "a symbolic link to a file that does not exist; create an empty file there",
    )
    assert os.listdir(file.parent) == ["run.db"]


# ---- large results
def made_with_result(file: Path, data: bytes = b"large") -> None:
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        name = store.write_large(data)
        store.add_records(
            [record("large")._replace(result=len(data), large=name)], [], []
        )


STRANGE = [
    ("UPDATE runs SET outcome = 'broken' || char(27) || '[2J'", r"broken\\x1b\[2J$"),
    ("UPDATE runs SET ended = 9e999, started = -9e999", "1 job succeeded"),
    ("UPDATE runs SET ended = 1e308, started = -1e308", "1 job succeeded"),
    ("UPDATE jobs SET took = 9e999, settled = 9e999", "1 job succeeded"),
    (
        """UPDATE jobs SET result = '{"$":"CommandResult","v":' || replace(hex(zeroblob(50000)), '00', '[')""",
        "1 job",
    ),
    (
        """UPDATE jobs SET result = '{"$":"CommandResult","v":[0,1e999,0,0,0,null,null]}'""",
        "1 job succeeded",
    ),
    ("UPDATE jobs SET result = 7", "damaged"),
]


def test_strange_values_in_a_journal_are_shown_without_a_traceback(file: Path) -> None:
    """Another program can store anything in a journal: infinite times, terminal sequences, JSON of any depth."""
    assert Scheduler(Job(evil, label="x", save=(lambda value: 1, str))).run(
        journal=file
    )
    intact = file.read_bytes()
    for change, said in STRANGE:
        file.write_bytes(intact)
        with contextlib.closing(sqlite3.connect(file)) as db:
            db.execute(change)
            db.commit()
        for words in (["show", "*"], ["why"], []):
            result = trioflow("journal", file, *words)
            assert result.exit_code == 0
            assert result.output.replace("\n", "").isprintable()
        assert re.search(said, result.output, re.MULTILINE)


# ---- the schema, which can contain code


SLOW = "length(hex(zeroblob(20000000))) > 0"
"""An expression that SQLite computes for a tenth of a second."""
SCHEMAS = [
    f"UPDATE sqlite_master SET sql = 'CREATE TABLE extra (a CHECK ({SLOW}))' WHERE name = 'extra'",
    f"UPDATE sqlite_master SET sql = 'CREATE TABLE extra (a, b AS ({SLOW}) NOT NULL)' WHERE name = 'extra'",
    f"UPDATE sqlite_master SET sql = replace(sql, 'why TEXT', 'why TEXT CHECK ({SLOW})')",
    "CREATE INDEX i ON jobs (length(path))",
    "CREATE VIEW v AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n",
    "DROP TABLE jobs; CREATE VIEW jobs AS SELECT * FROM runs",
    "CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM jobs; END",
    "INSERT INTO sqlite_master VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING fts5(a)')",
    "ANALYZE",
    "DROP TABLE begun",
    "ALTER TABLE runs DROP COLUMN ending",
    f"UPDATE sqlite_master SET sql = 'CREATE TABLE extra ({'a' * 70_000})' WHERE name = 'extra'",
    f"UPDATE sqlite_master SET sql = 'CREATE TABLE extra (a CHECK ({'(' * 900}1{')' * 900}))' WHERE name = 'extra'",
    "UPDATE sqlite_master SET sql = 'CREATE TABLE jobs (' WHERE name = 'jobs'",
    "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'jobs')",
]


def test_a_journal_with_another_schema_is_rejected_without_evaluating_it(
    file: Path,
) -> None:
    """Another schema than a journal's may compute anything, even when the file is read, so it is only compared."""
    made(file, "a")
    intact = file.read_bytes()
    for statement in SCHEMAS:
        file.write_bytes(intact)
        with contextlib.closing(sqlite3.connect(file)) as db:
            if "extra" in statement:
                db.execute("CREATE TABLE extra (a)")
                db.executemany(
                    "INSERT INTO extra VALUES (?)",
                    [(number,) for number in range(2000)],
                )
            db.commit()
            db.execute("PRAGMA writable_schema = ON")
            db.executescript(statement)
        refused(
            file,
            r"its tables are not those of a journal|the file is damaged",
            False,
            True,
        )
        assert os.listdir(file.parent) == ["run.db"]


def test_a_schema_of_ten_thousand_tables_is_not_parsed(file: Path) -> None:
    """A schema of any length is rejected after some rows: to parse all of it could take minutes."""
    made(file, "a")
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA writable_schema = ON")
        rows = [
            (
                "view",
                f"v{number}",
                f"v{number}",
                0,
                f"CREATE VIEW v{number} AS SELECT 1",
            )
            for number in range(10**4)
        ]
        rows.append(
            ("view", "last", "last", 0, "CREATE VIEW last (, which would be an error")
        )
        db.executemany("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", rows)
        db.commit()
    with pytest.raises(JournalError, match="its tables are not those of a journal"):
        found(file)


def test_a_log_from_elsewhere_is_not_merged_into_a_journal_that_is_rejected(
    file: Path,
) -> None:
    """A log that changes the schema was put beside the journal by others: neither file is changed."""
    made(file, "a")
    (other := file.with_name("other.db")).write_bytes(file.read_bytes())
    with contextlib.closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM jobs; END")
        file.with_name("run.db-wal").write_bytes(
            other.with_name("other.db-wal").read_bytes()
        )
    refused(file, "its tables are not those of a journal", False, True, False)
    file.with_name("run.db-wal").unlink()
    assert found(file) == ["a"]


def test_a_tree_of_pages_with_more_paths_than_atoms_is_not_walked(file: Path) -> None:
    """Pages that refer to the same pages again and again have endless rows, and are rejected by a check of pages."""
    made(file, "a")
    with contextlib.closing(sqlite3.connect(file)) as db:
        (root,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'jobs'"
        ).fetchone()
    pages = [
        file.read_bytes()[place : place + 4096]
        for place in range(0, file.stat().st_size, 4096)
    ]

    def interior(child: int) -> bytes:
        """Return a page whose 121 children are one and the same."""
        cells = [struct.pack(">IB", child, key) for key in range(120, 0, -1)]
        places = struct.pack(">120H", *range(4096 - 5, 4096 - 5 * 121, -5))
        header = struct.pack(">BHHHBI", 5, 0, 120, 4096 - 5 * 120, 0, child) + places
        return header.ljust(4096 - 5 * 120, b"\0") + b"".join(cells)

    pages.append(pages[root - 1])
    for _ in range(12):
        pages.append(interior(len(pages)))
    pages[root - 1] = interior(len(pages))
    pages[0] = pages[0][:28] + struct.pack(">I", len(pages)) + pages[0][32:]
    file.write_bytes(b"".join(pages))
    refused(file, "2nd reference to page", False, True)


def test_the_log_of_an_empty_file_is_not_removed(file: Path) -> None:
    """SQLite removes the log beside an empty file, so such a journal is rejected: the log may be all that is left."""
    made(file, "a")
    leave_log(file)
    file.write_bytes(b"")
    refused(file, "it is empty, but has a log 'run", False, True)


def test_a_log_without_its_file_is_left_until_it_is_removed(file: Path) -> None:
    made(file, "a")
    leave_log(file)
    file.unlink()
    before = {path: path.read_bytes() for path in file.parent.iterdir()}
    for writes in (False, True):
        refused(
            file,
            r"the file is missing, but its log 'run\.db-wal' is there; restore the",
            writes,
        )
        assert {path: path.read_bytes() for path in file.parent.iterdir()} == before
    for suffix in ("-wal", "-shm"):
        file.with_name(f"run.db{suffix}").unlink(missing_ok=True)
    made(file, "b")


# ---- pickles
class Evil:
    """A class whose pickle runs code."""

    loaded = False

    @staticmethod
    def load() -> str:
        Evil.loaded = True
        return "evil"

    def __reduce__(self) -> Any:
        return Evil.load, ()


async def evil() -> Any:
    return Evil()


def restored_pickle(file: Path) -> tuple[bool, str]:
    """Run a job with `save="pickle"`, and return whether its pickle was loaded, and why the job ran if it did."""
    Evil.loaded = False
    scheduler = Scheduler(job := Job(evil, label="evil", save="pickle"))
    assert scheduler.run(journal=file)
    assert job.restored is Evil.loaded
    return Evil.loaded, scheduler.explain(job)


def test_a_pickle_is_not_loaded_from_a_journal_that_others_may_write(
    file: Path,
) -> None:
    """Who may write to a journal could put a pickle there that runs any code, so the job runs instead."""
    assert restored_pickle(file) == (False, ANY)
    for mode in (0o660, 0o602):
        assert restored_pickle(file) == (True, ANY)
        file.chmod(mode)
        loaded, why = restored_pickle(file)
        assert not loaded
        assert "not loaded because other users may write to 'run.db': chmod go-w" in why
        file.chmod(0o644)
    assert restored_pickle(file) == (True, ANY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("name", ["run.db", "run.db-wal"])
def test_a_pickle_is_not_loaded_from_a_journal_of_another_user(
    file: Path, name: str
) -> None:
    """Another user may have put a journal, or a log, in place of this user's, so its pickles are not loaded."""
    assert restored_pickle(file) == (False, ANY)
    if name == "run.db-wal":
        leave_log(file)
    os.chown(file.with_name(name), 12345, -1)
    loaded, why = restored_pickle(file)
    assert not loaded
    assert f"not loaded because {name!r} belongs to another user" in why


def test_a_pickle_is_not_loaded_if_others_may_write_to_the_log(file: Path) -> None:
    """The log of a killed run is as good as the journal: what it has replaces the contents of the journal."""
    assert restored_pickle(file) == (False, ANY)
    leave_log(file)
    file.with_name("run.db-wal").chmod(0o666)
    loaded, why = restored_pickle(file)
    assert not loaded
    assert "not loaded because other users may write to 'run.db-wal'" in why


def test_log_that_appears_while_journal_is_opened_counts_as_well(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that another user puts there just before SQLite opens it is found afterwards."""
    assert restored_pickle(file) == (False, ANY)
    (file.parent / "other").mkdir()
    shutil.copy(file, other := file.parent / "other" / "run.db")
    leave_log(other)
    connect = JournalStore._connect

    def put_there(store: JournalStore, mode: str) -> sqlite3.Connection:
        if mode == "rw":
            shutil.copy(f"{other}-wal", f"{file}-wal")
            os.chmod(f"{file}-wal", 0o666)
        return connect(store, mode)

    monkeypatch.setattr(JournalStore, "_connect", put_there)
    loaded, why = restored_pickle(file)
    assert not loaded
    assert "not loaded because other users may write to 'run.db-wal'" in why


def leave_log(file: Path) -> None:
    """Write to a journal in a process that is killed, and so leaves a log."""
    child = fork()
    if not child:
        JournalStore(file, writes=True).add_run("killed")
        os._exit(0)
    os.waitpid(child, 0)


def test_a_new_journal_cannot_be_written_by_others_under_any_umask(
    tmp_path: Path,
) -> None:
    """A new journal, and its log, cannot be written by others, so that its pickles are loaded under any umask."""
    before = os.umask(0)
    try:
        for umask in (0o000, 0o077):
            os.umask(umask)
            file = tmp_path / f"{umask}.db"
            with contextlib.closing(JournalStore(file, writes=True)):
                for name in (file, f"{file}-wal", f"{file}-shm"):
                    assert os.stat(name).st_mode & 0o777 == 0o644 & ~umask
            assert restored_pickle(file) == (False, ANY)
            assert restored_pickle(file) == (True, ANY)
    finally:
        os.umask(before)
