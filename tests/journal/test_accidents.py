"""Accidents of the journal file: what other programs, and jobs of the run itself, do to a journal during a run.

SQLite's locks belong to a process and a file: they vanish when the process closes any descriptor of the file. So a job
that copied its directory once let another program remove the journal's log under the running program."""

import contextlib
import ctypes
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
import anyio
import anyio.lowlevel
import pytest
from click.testing import CliRunner
from trioflow import (
    CommandJob,
    Job,
    Journal,
    JournalError,
    Scheduler,
    StopReason,
    ThreadJob,
)
from trioflow.abc import incidents_of
from trioflow.cli._commands import command
from trioflow.journal._store import JournalStore, StoredJob, checksum, read_with_retry
from ..bodies import fail_now
from ..places import PATIENCE
from ..pythons import Python, make_program, python
from .stage import fork, record, refused

MAX_SECONDS: Final = 1.0
"""The maximum processor time, in seconds, for all commands on one mutated journal."""
MAX_MEMORY: Final = 1 << 30
"""The maximum size, in bytes, by which the process may grow."""
FORBIDDEN: Final = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "pickle.find_class",
    "socket.connect",
)
"""Audit events that reading a journal never raises."""
DEEP: Final = "[" * 20_000
COMMAND_RESULT: Final = '{"$":"CommandResult","v":[0,1.5,0.5,0.5,1000,"b3V0",null]}'
TEXTS: Final = (
    "", "x", "\0", "\x1b]0;title\x07", "\u202e", "[", "[]", "{}", DEEP, '{"a":' * 5000, "9" * 5000, "-1", "²",
    '{"$":"CommandResult","v":' + DEEP, '{"$":"CommandResult","v":[1,2,3,4,5,6,7]}',
    '{"$":"CommandResult","v":[0,1e999,0,0,0,"x","y"]}', '{"$":"CommandResult","v":[0,-1,0,0,0,[],{}]}',
    '{"$":"CommandResult","v":[0,' + "9" * 400 + ',0,0,0,null,null]}', '{"$":"dataclass","t":"os:system","v":{}}',
    '[[["succeeded",false,3]],0,[],null]', '[[["failed",true,-3]],' + "9" * 400 + ',[["a",1e308,null,"e"]],"a"]',
    '[[["succeeded",false,3]],0,[[1,"x",2,3]],[]]', f"[[], 0, {DEEP}", "COMPLETED", "CRITICAL", "../../victim",
    "/dev/zero", "a" * 64, "0" * 64, "json", "pickle", "own", "ü" * 1000, "a\nb", "::error::x", "\ud7ff",
)  # fmt: skip
NUMBERS: Final = (
    0,
    1,
    -1,
    2**31,
    2**63 - 1,
    -(2**63),
    1e308,
    -1e308,
    9e999,
    -9e999,
    1e-320,
    0.5,
    253402300800,
)
BLOBS: Final = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"\x80\x04\x95",
    b"c" + b"os\nsystem\n(S'touch victim'\ntR.",
    b"\xed\xa0\x80",
)
COLUMNS: Final = {
    "runs": ["label", "started", "ended", "outcome", "process", "ending"],
    "jobs": [
        "path", "fingerprint", "saved", "result", "large", "outputs", "run", "restored", "settled", "took", "why",
        "checksum",
    ],
    "begun": ["outputs", "checksum"],
    "results": ["hash", "data"],
}  # fmt: skip
EXPRESSIONS: Final = (
    "1", "length(hex(zeroblob(20000000)))", "randomblob(1000000000)", "load_extension('victim')", "writefile('victim')",
    "(SELECT count(*) FROM jobs)", "(" * 50 + "1" + ")" * 50, "printf('%.*c', 1000000000, 'x')",
)  # fmt: skip
SCHEMA_CHANGES: Final = (
    "CREATE VIEW v AS SELECT {}", "CREATE INDEX i ON jobs ({})", "CREATE TABLE extra (a, b AS ({}))",
    "CREATE TABLE extra (a CHECK ({}))", "CREATE TABLE extra (a DEFAULT ({}))", "DROP TABLE {table}",
    "CREATE TRIGGER t AFTER INSERT ON runs BEGIN SELECT {}; END", "ALTER TABLE {table} ADD COLUMN more CHECK ({})",
    "ALTER TABLE {table} RENAME TO other", "ANALYZE", "PRAGMA user_version = {number}", "PRAGMA encoding = 'UTF-16'",
    "PRAGMA application_id = {number}", "UPDATE sqlite_master SET rootpage = {page} WHERE name = '{table}'",
    "UPDATE sqlite_master SET sql = replace(sql, 'TEXT', 'TEXT CHECK ({})')", "DELETE FROM sqlite_master",
    "UPDATE sqlite_master SET name = name || char(0)", "UPDATE sqlite_master SET sql = sql || ' '",
    "UPDATE sqlite_master SET type = 'view' WHERE name = '{table}'", "UPDATE sqlite_master SET sql = NULL",
    "INSERT INTO sqlite_master VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING {table}(a)')",
    "INSERT INTO sqlite_master SELECT * FROM sqlite_master", "VACUUM", "PRAGMA auto_vacuum = {page}; VACUUM",
    "PRAGMA page_size = 512; VACUUM",
)  # fmt: skip


def double(number: int) -> int:
    return 2 * number


def scenario() -> Scheduler:
    jobs = [ThreadJob(double, number, label=f"job {number}") for number in range(4)]
    return Scheduler(*jobs, Job(fail_now, label="fails"), label="all")


class Samples:
    """A journal as a run left it, as a killed run left it, and one that accepts any value in its rows."""

    def __init__(self, directory: Path) -> None:
        self.whole, self.killed, self.loose = (
            directory / name for name in ("whole", "killed", "loose")
        )
        self.whole.mkdir(parents=True)
        for _ in range(2):
            assert scenario().run(journal=self.whole / "run.db") is False
        with contextlib.closing(
            JournalStore(self.whole / "run.db", writes=True)
        ) as store:
            store.record_start("begun", "{}")
            large = record("large")._replace(
                result=5, large=store.write_large(b"large")
            )
            store.add_records([large, record("command", COMMAND_RESULT)], [], [])
        for source in (self.killed, self.loose):
            shutil.copytree(self.whole, source)
        if not (child := fork()):
            store = JournalStore(self.killed / "run.db", writes=True)
            store.add_run("killed")
            os._exit(0)
        os.waitpid(child, 0)
        with contextlib.closing(sqlite3.connect(self.loose / "run.db")) as db:
            self.schema = db.execute(
                "SELECT sql, name FROM sqlite_master WHERE sql IS NOT NULL"
            ).fetchall()
            db.execute("PRAGMA writable_schema = ON")
            db.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '')")
            db.commit()


def mutate(samples: Samples, seed: int, directory: Path, victim: Path) -> None:
    """Create a mutated journal `run.db` in a new directory."""
    dice = random.Random(seed)
    ways: list[Callable[..., None]] = [
        mutate_rows,
        mutate_rows,
        mutate_schema,
        mutate_bytes,
        mutate_files,
    ]
    way = dice.choice(ways)
    shutil.copytree(
        samples.loose
        if way is mutate_rows
        else dice.choice([samples.whole, samples.killed]),
        directory,
    )
    with contextlib.suppress(
        sqlite3.Error, MemoryError, OSError
    ):  # not every change can be made
        way(dice, directory, victim, samples)
        if dice.random() < 0.2:
            mutate_files(dice, directory, victim, samples)


def mutate_rows(
    dice: random.Random, directory: Path, victim: Path, samples: Samples
) -> None:
    with contextlib.closing(
        sqlite3.connect(directory / "run.db", isolation_level=None)
    ) as db:
        for _ in range(dice.randint(1, 6)):
            table = dice.choice(list(COLUMNS))
            value = dice.choice([None, *NUMBERS, *NUMBERS, *TEXTS, *TEXTS, *BLOBS])
            where = (
                ""
                if table == "begun" or dice.random() < 0.3
                else f" WHERE id = {dice.randint(1, 6)}"
            )
            with contextlib.suppress(sqlite3.Error):  # paths are unique
                db.execute(
                    f"UPDATE {table} SET {dice.choice(COLUMNS[table])} = ?{where}",
                    [value],
                )
        if dice.random() < 0.5:  # as an attacker would, who wants them to be restored
            rows = db.execute(
                f"SELECT {', '.join(StoredJob._fields[:6])}, id FROM jobs"
            ).fetchall()
            db.executemany(
                "UPDATE jobs SET checksum = ? WHERE id = ?",
                [(checksum(row), row[-1]) for row in rows],
            )
        db.execute("PRAGMA writable_schema = ON")
        db.executemany(
            "UPDATE sqlite_master SET sql = ? WHERE name = ?", samples.schema
        )


def mutate_schema(
    dice: random.Random, directory: Path, victim: Path, samples: Samples
) -> None:
    with contextlib.closing(
        sqlite3.connect(directory / "run.db", isolation_level=None)
    ) as db:
        for _ in range(dice.randint(1, 3)):
            db.execute("PRAGMA writable_schema = ON")
            change = dice.choice(SCHEMA_CHANGES).replace(
                "{}", "(1)"
            )  # an expression put in later is not computed now
            change = change.replace("{table}", dice.choice(list(COLUMNS))).replace(
                "{page}", str(dice.randint(0, 9))
            )
            with contextlib.suppress(sqlite3.Error):
                db.executescript(
                    change.replace(
                        "{number}", str(dice.choice([0, 1, 3, -1, 99, 0x74666A31]))
                    )
                )
                db.execute(
                    "UPDATE sqlite_master SET sql = replace(sql, '(1)', ?)",
                    [f"({dice.choice(EXPRESSIONS)})"],
                )


def mutate_bytes(
    dice: random.Random, directory: Path, victim: Path, samples: Samples
) -> None:
    """Change bytes of the files, most often in the header, in a page's header, or in its table of cells."""
    file = dice.choice([path for path in directory.rglob("*") if path.is_file()])
    data = bytearray(file.read_bytes())
    for _ in range(dice.choice([1, 1, 2, 8, 64])):
        place = dice.choice(
            [
                dice.randrange(100),
                4096 * dice.randrange(6) + dice.randrange(64),
                dice.randrange(10**9),
            ]
        )
        length = dice.choice([1, 1, 2, 4])
        new = bytes(dice.choice([0, 255, dice.randrange(256)]) for _ in range(length))
        start = place % max(1, len(data))
        data[start : start + length] = new
    if dice.random() < 0.1:
        del data[dice.randrange(len(data)) :]
    file.write_bytes(data)
    if dice.random() < 0.1:
        os.truncate(
            file, dice.choice([len(data) + 4096, 1 << 30, 1 << 40])
        )  # the file has holes, and is longer


def mutate_files(
    dice: random.Random, directory: Path, victim: Path, samples: Samples
) -> None:
    """Put something else in place of a file of the journal, or beside it."""
    path = directory / dice.choice(
        ["run.db-wal", "run.db-shm", "run.db-lock", "run.db-journal", "run.db"]
    )
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    others = [other for other in samples.killed.iterdir() if other.is_file()]
    puts: list[Callable[[], object]] = [
        lambda: path.symlink_to(victim),
        lambda: path.hardlink_to(victim),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to(directory),
        lambda: path.symlink_to(path),
        lambda: path.symlink_to("nowhere"),
        lambda: os.mkfifo(path),
        lambda: path.mkdir(),
        lambda: path.write_bytes(dice.randbytes(dice.choice([0, 1, 100, 5000]))),
        lambda: path.write_text("process 1 on \x1b[2J, since today"),
        lambda: shutil.copy(dice.choice(others), path),
        lambda: (
            path.write_bytes(dice.choice(others).read_bytes()[:100]),
            os.truncate(path, 1 << 40),
        ),
    ]
    dice.choice(puts)()


def state(places: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Return what changes when a file is written, for all files in these directories, but for SQLite's `-shm`."""
    found = {}
    for place in places:
        for directory, names, files in os.walk(place):
            for name in (*names, *files):
                status = os.lstat(os.path.join(directory, name))
                if not name.endswith("-shm") and name not in names:
                    found[os.path.join(directory, name)] = (
                        status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_nlink,
                    )  # fmt: skip
    return found


def read_mutated(samples: Samples, seeds: Iterable[int], place: Path) -> list[str]:
    """Read mutated journals in a process of their own, and return what was wrong, a line for each seed."""
    wrong: list[str] = []
    left = list(seeds)
    while left:
        read_end, write_end = os.pipe()
        child = fork()
        if not child:
            os.close(read_end)
            serve(samples, left, place, write_end)
        os.close(write_end)
        with open(read_end, encoding="utf-8") as answers:
            for line in answers:
                seed, _, message = line.rstrip("\n").partition(" ")
                assert int(seed) == left.pop(0)
                if message:
                    wrong.append(line)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            wrong.append(
                f"{left.pop(0)} the process ended with {code}: it took too long, or crashed"
            )
    return wrong


def serve(samples: Samples, seeds: list[int], place: Path, write_end: int) -> None:
    """Read mutated journals, and write a line for each; then end the process."""
    code = 1
    try:
        used = (
            int(Path("/proc/self/statm").read_text().split()[0])
            * resource.getpagesize()
        )
        resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY, used + MAX_MEMORY))
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        events: list[str] = []
        sys.addaudithook(lambda event, arguments: note(events, event, arguments))
        with open(write_end, "w", encoding="utf-8") as answers:
            for seed in seeds:
                message = read_one(samples, seed, place, events)
                answers.write(
                    f"{seed} {message}\n".replace("\n", " | ", message.count("\n"))
                )
                answers.flush()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def note(events: list[str], event: str, arguments: Any) -> None:
    """Note an audit event that reading a journal must not raise."""
    writes = (
        event == "open"
        and isinstance(arguments[2], int)
        and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    )
    if event in FORBIDDEN or writes:
        events.append(f"{event} {arguments!r}"[:200])


def read_one(samples: Samples, seed: int, place: Path, events: list[str]) -> str:
    """Read one mutated journal by each command, and return what was wrong, or ""."""
    outside, directory = place / "outside", place / "journal"
    shutil.rmtree(place, ignore_errors=True)
    outside.mkdir(parents=True)
    (victim := outside / "victim").write_text("mine")
    mutate(samples, seed, directory, victim)
    file = directory / "run.db"
    before = state([outside, directory])
    events.clear()
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    signal.alarm(int(PATIENCE))
    wrong = []
    try:
        for words in ([], ["why"], ["show", "*"]):
            wrong += [
                f"{words}: {message}"
                for message in called(["journal", str(file), *words])
            ]
        wrong += events
        if (after := state([outside, directory])) != before:
            wrong.append(f"changed: {sorted(set(before.items()) ^ set(after.items()))}")
        if seed % 4 == 0:
            with contextlib.suppress(JournalError):
                scenario().run(journal=file)
        if state([outside]) != {
            path: value
            for path, value in before.items()
            if path.startswith(str(outside))
        }:
            wrong.append("a run changed a file outside")
    except BaseException:
        wrong.append(traceback.format_exc())
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.alarm(0)
    return "; ".join(wrong)


def called(words: list[str]) -> Iterable[str]:
    """Call the command, and yield what was wrong."""
    result = CliRunner().invoke(command, words, prog_name="trioflow")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        yield "".join(traceback.format_exception(result.exception))
    if result.exit_code not in (0, 1, 2):
        yield f"exit code {result.exit_code}"
    if not result.output.replace("\n", "").isprintable():
        yield f"control characters: {result.output[:300]!r}"


# --- accidents

KILLED = """
import os, shutil, signal, subprocess, sys
import anyio
from pathlib import Path
from trioflow import CommandJob, Job, Journal, JournalError, Scheduler

journal, accident, backend = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

async def work(number):
    await anyio.sleep(0)
    return number

def look():
    return subprocess.run([sys.argv[4], "journal", journal], check=True, capture_output=True, text=True).stdout

async def happen():
    if accident == "copied":
        shutil.copytree(journal.parent, journal.parent.with_name("copy"))
        code = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT * FROM jobs'); db.close()"
        subprocess.run([sys.executable, "-c", code, journal], check=True)  # any other program that reads it
    if accident == "fingerprint":
        inner = CommandJob(["true"], reads=[journal.parent], label="reader")
        await Scheduler(inner).co_run(journal=Journal(journal.parent.with_name("other.db"), hash=True))
    if accident == "rejected":
        try:
            await Scheduler(Job(work, 1)).co_run(journal=journal)
        except JournalError as error:
            assert "another run in this process" in str(error)
        else:
            raise AssertionError("it was let in")
    assert "is running" in look()

async def die():
    await anyio.sleep(0.01)  # what has succeeded before is committed within a turn
    look()
    os.kill(os.getpid(), signal.SIGKILL)

def chain(first, last):
    return [Job(work, number, label=str(number), version=1) for number in range(first, last)]

from trioflow import Sequence
jobs = [*chain(0, 5), Job(happen, label="happen", save=None), *chain(5, 10), Job(die, label="die", save=None)]
scheduler = Scheduler(Sequence(*jobs))
scheduler.run(journal=journal, backend=backend)
"""
"""A run with an accident in its middle, whose journal another process reads, and which is killed."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a path for a journal, in an empty directory."""
    (directory := tmp_path / "place").mkdir()
    return directory / "run.db"


def found(path: Path) -> set[str]:
    return read_with_retry(
        path, lambda store: {one.path for one in store.job_records()}
    )


@pytest.mark.parametrize(
    ("accident", "backend"),
    [("copied", "asyncio"), ("fingerprint", "trio"), ("rejected", "asyncio")],
)
def test_copying_or_reading_the_journal_here_keeps_its_locks(
    place: Path, accident: str, backend: str
) -> None:
    """If its own process copies or reads a journal in use, the locks stay, and later commits survive a kill."""
    make_program(program := place.with_name("trioflow"), "-m", "trioflow")
    done = python("-c", KILLED, place, accident, backend, program)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert found(place) == {str(number) for number in range(10)}


HOLD = """
import os, pathlib, shutil, sys
from trioflow.journal._store import JournalStore
file = pathlib.Path(sys.argv[1])
store = JournalStore(file, writes=True)
shutil.copytree(file.parent, file.parent.with_name("copy"))
print(flush=True)
input()
"""


def opened(path: Path) -> str:
    code = (
        "import pathlib, sys; from trioflow.journal._store import JournalStore; "
        "JournalStore(pathlib.Path(sys.argv[1]), writes=True)"
    )
    stderr: str = python("-c", code, path, text=True).stderr
    return stderr


def test_a_second_holder_is_rejected_until_the_first_has_ended(place: Path) -> None:
    JournalStore(place, writes=True).close()
    (other := place.parent.with_name("other.db")).symlink_to(place)
    with Python(
        ["-c", HOLD, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        for name in (place, other):
            assert re.search(
                rf"another run is using it: process {holder.pid} on ", opened(name)
            )
        (place.parent / "run.db-lock").unlink()
        for name in (place, other):
            assert "another run is using it" in opened(name)
        holder.kill()
    assert opened(other) == ""


def test_a_second_holder_in_the_same_process_is_rejected_by_any_path(
    place: Path,
) -> None:
    store = JournalStore(place, writes=True)
    other = place.parent.with_name("other.db")
    other.symlink_to(place)
    refused(other, "another run in this process")
    store.close()


def test_opening_waits_for_the_locks_of_a_child_of_a_killed_process(
    place: Path,
) -> None:
    """Opening waits for a child of a killed process, which keeps the locks until it ends or calls `exec`."""
    code = (
        "import os, pathlib, sys, time, ctypes; from trioflow.journal._store import JournalStore\n"
        "store = JournalStore(pathlib.Path(sys.argv[1]), writes=True)\n"
        "if not ctypes.CDLL(None).fork(): os.close(1); time.sleep(0.5); os._exit(0)\n"  # no hook of Python's is called
        "os._exit(0)"
    )
    python("-c", code, place).check_returncode()
    JournalStore(place, writes=True).close()


@pytest.mark.parametrize(
    "fork", [os.fork, ctypes.CDLL(None).fork], ids=["forked", "without hooks"]
)
def test_a_forked_child_does_not_hold_the_journal(
    place: Path, fork: Callable[[], int]
) -> None:
    store = JournalStore(place, writes=True)
    read_end, write_end = os.pipe()
    child = fork()
    if not child:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    store.close()
    found = opened(place)
    os.close(write_end)
    os.close(read_end)
    os.waitpid(child, 0)
    assert found == ""


def remove(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name("other.db"))


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("other.db"))
    path.with_name("other.db").rename(path)


def remove_log(path: Path) -> None:
    path.with_name("run.db-wal").unlink()


def move_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("accident", "said"),
    [
        (remove, "removed or renamed"),
        (replace, "replaced by another file"),
        (remove_log, "'run.db-wal'.*removed or renamed"),
        (move_directory, "removed or renamed"),
    ],
)
def test_removing_or_replacing_the_journal_during_a_run_ends_the_run(
    place: Path, backend: Any, accident: Callable[[Path], None], said: str
) -> None:
    """If the journal is removed or replaced, the run ends at the next commit, and the error has the reason."""

    async def work(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        if number == 5:
            accident(place)
        return number

    scheduler, last = Scheduler(), None
    for number in range(10):
        last = scheduler.add(Job(work, number, label=str(number), required=last))
    assert not scheduler.run(journal=place, backend=backend)
    assert (scheduler.stop_reason, scheduler.culprit) == (StopReason.CRITICAL, None)
    (incident,) = incidents_of(scheduler)
    assert "journal '" in incident.message
    assert re.search(said, incident.message), incident.message


WRITES: list[Callable[[JournalStore], object]] = [
    lambda store: store.add_records([record("b")], [], []), lambda store: store.add_records([], [(1, "a")], []),
    lambda store: store.add_records([], [], [("a",)]), lambda store: store.add_run("next"),
    lambda store: store.end_run(1, "COMPLETED", 1.0), lambda store: store.record_start("a", "{}"),
    lambda store: store.forget(["a"]),
]  # fmt: skip


def test_a_journal_renamed_during_a_run_keeps_all_commits(place: Path) -> None:
    """Each write to a renamed journal raises, and its log is merged into the renamed file when it is closed."""
    for write in WRITES:
        store = JournalStore(place, writes=True)
        store.add_records([record("a")], [], [])
        rename(place)
        with pytest.raises(JournalError, match="removed or renamed"):
            write(store)
        store.close()
        assert found(place.with_name("other.db")) == {"a"}
        for file in place.parent.iterdir():
            file.unlink()


def test_new_timestamps_of_the_journal_file_do_not_end_the_run(place: Path) -> None:
    store = JournalStore(place, writes=True)
    os.utime(place, (1, 1))
    store.add_records([record("a")], [], [])
    store.close()
    assert found(place) == {"a"}


@pytest.mark.parametrize("name", ["{}", "here", ".", "../here", "link", "./*"])
def test_journal_files_in_a_directory_that_a_command_reads_are_ignored(
    place: Path,
    backend: Any,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (place.parent / "data").write_text("data")
    for link in ("here", "link"):
        (tmp_path / link).symlink_to(place.parent)
    monkeypatch.chdir(place.parent if name[0] == "." else tmp_path)
    if name == "../here":
        name = f"../{place.parent.name}"
    for restored in (False, True, True):
        job: Any = CommandJob(
            ["true"], reads=[name.format(place.parent)], label="reader"
        )
        Scheduler(job).run(journal=Journal(place, hash=True), backend=backend)
        assert job.restored is restored


@pytest.mark.parametrize("writes", [True, False])
def test_a_journal_with_several_hard_links_is_rejected(
    place: Path, writes: bool
) -> None:
    """A journal with several hard links is rejected: the log of a killed run belongs to only one of its names."""
    JournalStore(place, writes=True).close()
    other = place.parent.with_name("other.db")
    other.hardlink_to(place)
    for name in (place, other):
        refused(name, r"it is a file with 2 hard links; .* one name", writes)
    other.unlink()
    JournalStore(place, writes=writes).close()


# --- mutated journals, as somebody may send them: to list and show them does no harm
MANY = pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])


@pytest.mark.parametrize("number", [12, MANY])
def test_reading_a_mutated_journal_does_no_harm(tmp_path: Path, number: int) -> None:
    """A mutated journal is read in bounded time, without a traceback, a write outside of it, or running anything."""
    assert (
        read_mutated(Samples(tmp_path / "samples"), range(number), tmp_path / "place")
        == []
    )
