"""Commands with a journal, identified by the files that they read and write."""

import contextlib
import json
import os
import re
import shlex
import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast
import pytest
import trioflow
from trioflow import (
    AbstractJob,
    Answer,
    CommandError,
    CommandJob,
    Job,
    Journal,
    LocalNode,
    Retry,
    Scheduler,
    Script,
    SshJob,
)
from trioflow.abc import HashOnly, Work
from trioflow.graph import keep_only
from trioflow.journal._store import JournalStore, StoredJob, checksum
from ..bodies import fail_now, nothing
from ..cli import command_line
from ..pythons import python


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "in").write_text("in")
    return tmp_path


def copy(place: Path, code: str = "cat in > out", **options: Any) -> CommandJob:
    options = {"reads": [place / "in"], "writes": [place / "out"]} | options
    return CommandJob(
        f"cd {place}; echo x >> runs; {code}", shell=True, label="copy", **options
    )


def runs(place: Path) -> int:
    return len((place / "runs").read_text()) // 2


def run(job: CommandJob, backend: str, journal: Any) -> str:
    scheduler = Scheduler(job)
    scheduler.run(backend=backend, journal=journal)
    return "" if job.restored else scheduler.explain(job)


def run_all(jobs: Sequence[CommandJob], backend: str, journal: Any) -> list[str]:
    """Run jobs, each in a group of its own, at once; return of each why it was not restored, or "" if it was."""
    scheduler = Scheduler(
        *(Scheduler(job, label=str(number)) for number, job in enumerate(jobs))
    )
    scheduler.run(backend=backend, journal=journal)
    return ["" if job.restored else scheduler.explain(job) for job in jobs]


HALF = "test -e ok || { rm -f out; printf ha > out; exit 3; }; test ! -e out && cat in > out"


def touch(path: Path) -> None:
    path.write_text("other")


def touch_time(path: Path) -> None:
    os.utime(path, (1, 1))


CHANGES: list[tuple[str, str, Callable[[Path], object], bool]] = [
    ("in", "file '.*in' has changed", touch, True),
    ("in", "file '.*in' has changed", touch_time, False),
    ("in", "file '.*in' is missing", os.unlink, True),
    ("out", "its output '.*out' has changed", touch, True),
    ("out", "its output '.*out' has changed", touch_time, False),
    ("out", "its output '.*out' is missing", os.unlink, True),
]


@pytest.mark.parametrize("hashes", [False, True])
def test_a_command_runs_again_when_a_file_has_changed(
    tmp_path: Path, backend: str, hashes: bool
) -> None:
    journal = Journal(tmp_path / "run.db", hash=hashes)
    places = [tmp_path / str(number) for number in range(len(CHANGES))]
    for place in places:
        place.mkdir()
        (place / "in").write_text("in")
    for said in ("no result in the journal", "^$"):
        assert all(
            re.search(said, why)
            for why in run_all([*map(copy, places)], backend, journal)
        )
    for place, (name, _, change, _) in zip(places, CHANGES, strict=True):
        change(place / name)
    whys = run_all([*map(copy, places)], backend, journal)
    for place, why, (_, said, _, contents) in zip(places, whys, CHANGES, strict=True):
        assert re.search(said if contents or not hashes else "^$", why), why
        assert runs(place) == 1 + (contents or not hashes)


@pytest.mark.parametrize("hashes", [False, True])
def test_changing_how_files_are_compared_runs_a_command_again_once(
    place: Path, backend: str, hashes: bool
) -> None:
    before, now = (Journal(place / "run.db", hash=one) for one in (hashes, not hashes))

    def whys(journal: Journal) -> list[str]:
        files: dict[str, Any] = {"reads": [place / "in"], "writes": []}
        jobs = [
            copy(place, "true", **files),
            copy(place, "true", **files, key="the same"),
            copy(place, reads=[]),
        ]
        return run_all(jobs, backend, journal)

    assert all("no result in the journal" in why for why in whys(before))
    assert all(
        why.endswith("files are compared, by time or by contents, has changed")
        for why in whys(now)
    )
    assert whys(now) == ["", "", ""]


def test_a_result_with_output_is_restored(place: Path, backend: str) -> None:
    results = []
    for restored in (False, True):
        job = copy(place, "echo hello; cat in > out", stdout=subprocess.PIPE)
        assert (run(job, backend, place / "run.db") == "") is restored
        results.append(job.result())
    assert results[0].stdout == results[1].stdout == b"hello\n"
    assert results[0].elapsed == results[1].elapsed


def test_a_half_written_output_of_a_failed_command_is_moved_aside(
    place: Path, backend: str
) -> None:
    """A half-written output of a failed command is moved aside at once, and the next run does not touch it."""
    (place / "out").write_text("mine, from before")
    failing = copy(place, HALF)
    assert "failed" in run(failing, backend, place / "run.db")
    assert isinstance(failing.raised_exception(), CommandError)
    assert (place / "out.partial").read_text() == "ha"
    assert not (place / "out").exists()
    (place / "ok").touch()
    again = copy(place, HALF)
    assert "no result in the journal" in run(again, backend, place / "run.db")
    assert again.result().returncode == 0
    assert (place / "out.partial").read_text() == "ha"
    assert (place / "out").read_text() == "in"


def test_a_command_that_succeeds_after_a_timeout_is_restored_with_its_output(
    place: Path, backend: str
) -> None:
    code = "test -e once || { touch once; sleep 100; }; cat in > out"
    for restored in (False, True):
        job = copy(
            place,
            code,
            timeout=1,
            retry=Retry(None, first=0, on=trioflow.JobTimeout),
            terminate_grace=0,
        )
        assert (run(job, backend, place / "run.db") == "") is restored
        assert job.result().returncode == 0
    assert (place / "out").read_text() == "in"
    assert not (place / "out.partial").exists()


def test_an_output_untouched_by_a_failed_command_is_not_moved(
    place: Path, backend: str
) -> None:
    (place / "out").write_text("mine")
    for _ in range(2):
        assert "failed" in run(copy(place, "exit 3"), backend, place / "run.db")
    assert (place / "out").read_text() == "mine"
    assert not (place / "out.partial").exists()


OPTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"cwd": "/"}), ({}, {"env": {"A": "b"}}), ({"env": {"A": "b"}}, {"env": {"A": "c"}}),
    ({}, {"stdin": b"x"}), ({"stdin": b"x"}, {"stdin": b"y"}),
    ({}, {"stdout": subprocess.PIPE}), ({"stdout": subprocess.PIPE}, {}), ({}, {"stdout": subprocess.DEVNULL}),
]  # fmt: skip


def test_a_command_with_other_options_runs_again(place: Path, backend: str) -> None:
    """A command runs again if `cwd=`, `env=`, `stdin=` or `stdout=` has changed: an old result may lack the output."""
    changed = r"(its (option|variable|set) .* changed|its directory has changed from '.*' to '.*\.\.')"
    for number, said in ((0, "no result in the journal"), (0, "^$"), (1, changed)):
        jobs = [copy(place, "true", writes=[], **pair[number]) for pair in OPTIONS]
        whys = run_all(jobs, backend, place / "run.db")
        assert [why for why in whys if not re.search(said, why)] == []


DIRECTORIES: dict[str, Callable[[Path], AbstractJob[Any]]] = {
    "current": lambda place: CommandJob(
        ["cat", "f"], stdout=subprocess.PIPE, label="job"
    ),
    "relative": lambda place: CommandJob(
        ["cat", "f"], cwd=".", stdout=subprocess.PIPE, label="job"
    ),
    "absolute": lambda place: CommandJob(
        ["cat", "f"], cwd=place, stdout=subprocess.PIPE, label="job"
    ),
    "local node": lambda place: SshJob(
        LocalNode(), "cat f", stdout=subprocess.PIPE, label="job"
    ),
    "directory of a node": lambda place: SshJob(
        LocalNode(directory=place), "cat f", stdout=subprocess.PIPE, label="job"
    ),
}


@pytest.mark.parametrize("kind", DIRECTORIES)
def test_a_command_counts_by_its_directory(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A command in another directory is other work, though the journal is the same, and both keep their records. The
    directory counts relative to that of the journal: if both are moved, the command is restored."""
    top, found = tmp_path / "project", []
    for name in "ab":
        (top / name).mkdir(parents=True)
        (top / name / "f").write_text(name)
    for name in "abab":
        monkeypatch.chdir(top / name)
        job = DIRECTORIES[kind](top / name)
        assert Scheduler(job).run(backend=backend, journal=top / "run.db")
        found.append((job.result().text, job.restored))
    monkeypatch.chdir(tmp_path)
    top = top.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(top / "a")
    moved = DIRECTORIES[kind](top / "a")
    assert Scheduler(moved).run(backend=backend, journal=top / "run.db")
    assert found == [("a", False), ("b", False), ("a", True), ("b", True)]
    assert (moved.result().text, moved.restored) == ("a", True)


def test_the_name_of_a_command_stands_for_it_in_all_directories(
    tmp_path: Path, backend: str
) -> None:
    file, places = tmp_path / "run.db", [tmp_path / name for name in "abc"]
    labels = ["job", "job (in d)"]  # a label may look like the path of a record
    for place in places:
        place.mkdir()
        jobs = [CommandJob(["true"], cwd=place, label=label) for label in labels]
        assert Scheduler(*jobs).run(backend=backend, journal=file)
    assert len(command_line.trioflow("journal", file).stdout.splitlines()) == 7
    for pattern, number in (
        ("job (in b)", "1 job"),
        ("job", "2 jobs"),
        ("job (in d) (in c)", "1 job"),
        ("j*", "2 jobs"),
    ):
        assert (
            command_line.trioflow("journal", file, "forget", pattern).stdout
            == f"forgotten: {number}\n"
        )


def test_file_names_may_be_invalid_unicode(place: Path, backend: str) -> None:
    name = os.fsdecode(b"a\x80")
    (place / name).write_text("in")
    files = {"reads": [place / name], "writes": [place / "out\udcff"]}
    code = f"test -e {name}.ok || {{ touch {name}.ok; echo half > out\udcff; exit 1; }}; cat {name} > out\udcff"
    for _ in range(2):
        assert "no result in the journal" in run(
            copy(place, code, **files), backend, place / "run.db"
        )
    assert (place / "out\udcff.partial").read_text() == "half\n"
    assert run(copy(place, code, **files), backend, place / "run.db") == ""
    (place / name).write_text("other")
    assert "has changed" in run(copy(place, code, **files), backend, place / "run.db")


def test_reads_and_writes_accept_a_single_path_and_reject_other_objects() -> None:
    for name in ["reads", "writes"]:
        options: Any = {name: "one"}
        CommandJob(["true"], **options)
        options = {name: [3]}
        with pytest.raises(
            TypeError, match=f"{name}= of 'true': found int; give a path"
        ):
            CommandJob(["true"], **options)


def test_a_changed_file_in_a_directory_or_pattern_runs_a_command_again(
    place: Path, backend: str
) -> None:
    """In a directory or pattern that a command reads, a new or removed file counts like a changed one."""
    sub = place / "src" / "sub"
    sub.mkdir(parents=True)
    (sub / "a.c").write_text("a")
    changes: list[Callable[[], object]] = [
        lambda: touch(sub / "a.c"),
        lambda: (sub / "b.c").write_text("b"),
        lambda: (sub / "b.c").unlink(),
    ]
    patterns = ["src", "src/**/*.c", "src/*/[ab].c"]

    def whys() -> list[str]:
        jobs = [
            copy(place, "true", reads=[place / pattern], writes=[])
            for pattern in patterns
        ]
        return run_all(jobs, backend, place / "run.db")

    assert all("no result in the journal" in why for why in whys())
    for change in changes:
        assert whys() == ["", "", ""]
        change()
        assert all(
            f"{pattern}' has changed" in why
            for pattern, why in zip(patterns, whys(), strict=True)
        )


ENTRIES: dict[str, Callable[[Path], object]] = {
    "the contents of a file": lambda src: touch(src / "file"),
    "the name of a file": lambda src: (src / "file").rename(src / "file2"),
    "an empty directory that is new": lambda src: (src / "new").mkdir(),
    "an empty directory that is gone": lambda src: (src / "empty").rmdir(),
    "the name of an empty directory": lambda src: (src / "empty").rename(
        src / "empty2"
    ),
    "a link that is new": lambda src: (src / "new").symlink_to("file"),
    "where a link points": lambda src: point(src / "link", "../outside2"),
    "the contents behind a link": lambda src: touch(src.parent / "outside"),
    "where a link to a directory points": lambda src: point(
        src / "folder", "../folder2"
    ),
    "an entry behind a link to a directory": lambda src: (
        src.parent / "folder1" / "new"
    ).mkdir(),
    "what a link to nothing points to": lambda src: point(src / "broken", "nothing2"),
    "a file in place of an empty directory": lambda src: (
        (src / "empty").rmdir(),
        (src / "empty").touch(),
    ),
}


def point(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


@pytest.mark.sampled
@pytest.mark.parametrize("hashes", [False, True])
@pytest.mark.parametrize("entry", ENTRIES)
def test_each_kind_of_entry_of_a_directory_counts_alone(
    place: Path, backend: str, entry: str, hashes: bool
) -> None:
    """With `reads=DIRECTORY`, one entry changes, and nothing else: the job runs again, and once."""
    (src := place / "src").mkdir()
    (src / "empty").mkdir()
    (src / "file").write_text("text")
    for name in ("outside", "outside2"):
        (place / name).write_text("text")
        os.utime(place / name, (1, 1))
    for name in ("folder1", "folder2"):
        (place / name).mkdir()
    for link, target in (
        ("link", "../outside"),
        ("folder", "../folder1"),
        ("broken", "nothing1"),
    ):
        (src / link).symlink_to(target)

    def why() -> str:
        journal = Journal(place / "run.db", hash=hashes)
        return run(copy(place, "true", reads=[src], writes=[]), backend, journal)

    assert "no result in the journal" in why()
    assert why() == ""
    ENTRIES[entry](src)
    assert "src' has changed" in why()
    assert why() == ""


@pytest.mark.sampled
@pytest.mark.parametrize(
    "reads",
    ["out", "out/*", "out/**/*", "out/**/page*", "out/link", "out/../out/sub/page.txt"],
)
@pytest.mark.parametrize(
    "writes", ["out/sub/page.txt", "out/sub/pages", "out/./sub/page.txt"]
)
@pytest.mark.parametrize("hashes", [False, True])
def test_what_a_job_writes_does_not_count_where_it_reads(
    place: Path, backend: str, reads: str, writes: str, hashes: bool
) -> None:
    """A job that wrote into a directory that it reads ran again each night, and so did all that follows it."""
    (place / "out" / "sub").mkdir(parents=True)
    (place / "out" / "link").symlink_to("sub")
    (place / "out" / "sub" / "page1.csv").write_text("1")
    target = place / writes
    is_directory = writes.endswith("pages")
    command = (
        "mkdir -p {0}; date +%N > {0}/page.txt; mkdir {0}/d$$"
        if is_directory
        else "date +%N > {0}"
    )
    text = command.format(shlex.quote(str(target)))

    def why() -> str:
        job = CommandJob(
            text, shell=True, reads=str(place / reads), writes=str(target), label="page"
        )
        return run(job, backend, Journal(place / "run.db", hash=hashes))

    assert "no result in the journal" in why()
    if is_directory and "page.txt" in reads:
        return
    assert (why(), why()) == ("", "")
    (place / "out" / "sub" / "page1.csv").write_text("22")
    assert ("has changed" in why()) is ("page.txt" not in reads)
    assert why() == ""
    (target / "page.txt" if is_directory else target).write_text("by hand")
    assert "its output" in why()
    assert why() == ""


@pytest.mark.parametrize("name", ["", "*", "**", "run.db*"])
def test_the_files_of_the_journal_count_nowhere(
    place: Path, backend: str, name: str
) -> None:
    """Each run changes them: a command that reads where they are, by a directory or a pattern, would always run again.
    The name of another file there is not UTF-8."""
    (folder := place / "folder").mkdir()
    odd = folder / os.fsdecode(b"run.db\xff")
    odd.write_text("odd")

    def why() -> str:
        return run(
            copy(place, "true", reads=[folder / name], writes=[]),
            backend,
            folder / "run.db",
        )

    assert "no result in the journal" in why()
    assert (why(), why()) == ("", "")
    odd.write_text("changed")
    assert "has changed" in why()


def test_each_input_of_a_command_on_a_node_counts(place: Path, backend: str) -> None:
    def restored(options: dict[str, Any]) -> bool:
        given = {
            "values": {"x": "1"},
            "env": {"A": "1"},
            "stdin": b"1",
            "version": 1,
            **options,
        }
        job = SshJob(
            LocalNode(),
            "cat; pwd; echo $A {x}",
            label="on a node",
            stdout=subprocess.PIPE,
            **given,
        )
        assert Scheduler(job).run(backend=backend, journal=place / "run.db")
        return job.restored

    changes: dict[str, Any] = {
        "values": {"x": "2"},
        "env": {"A": "2"},
        "stdin": b"2",
        "cwd": "/",
        "version": 2,
    }
    changed: dict[str, Any] = {}
    for name in ("", *changes):
        changed |= {name: changes[name]} if name else {}
        assert (name, restored(changed)) == (name, False)
    assert restored(changed)


def test_an_existing_file_named_like_a_pattern_is_not_expanded(
    place: Path, backend: str
) -> None:
    """A path in `reads=` that looks like a pattern means the file of that name, if there is one."""
    for name in ("a[1].c", "a1.c"):
        (place / name).write_text(name)
    assert "no result in the journal" in run(
        copy(place, reads=[place / "a[1].c"]), backend, place / "run.db"
    )
    touch(place / "a1.c")
    assert run(copy(place, reads=[place / "a[1].c"]), backend, place / "run.db") == ""
    touch(place / "a[1].c")
    assert "has changed" in run(
        copy(place, reads=[place / "a[1].c"]), backend, place / "run.db"
    )


def test_a_command_fails_if_it_has_not_written_a_declared_output(
    tmp_path: Path, backend: str
) -> None:
    out = tmp_path / "out"
    for journal in (None, tmp_path / "run.db"):
        job = CommandJob(["true"], writes=[tmp_path, out])
        Scheduler(job).run(backend=backend, journal=journal)
        assert str(job.raised_exception()) == f"it did not write {str(out)!r}: true"
        assert isinstance(job.raised_exception(), CommandError)


# ---- files of standard streams, and files that a killed run leaves
def test_a_changed_stdin_file_runs_a_command_again(place: Path, backend: str) -> None:
    for content, restored in (("one", False), ("one", True), ("two", False)):
        if not restored:
            (place / "words").write_text(content)
        job = copy(
            place, "cat", stdin=place / "words", stdout=subprocess.PIPE, writes=[]
        )
        assert (run(job, backend, place / "run.db") == "") is restored
        assert job.result().stdout == content.encode()


@pytest.mark.parametrize(("stream", "hashes"), [("stdout", False), ("stderr", True)])
def test_removed_or_changed_stdout_file_is_written_again(
    place: Path, backend: str, stream: str, hashes: bool
) -> None:
    """A removed or changed output file is written again; with `append=True`, text added by others is no change."""
    logs = {place / "appended": True, place / "written": False}
    journal = Journal(place / "run.db", hash=hashes)

    def grow(log: Path) -> None:
        log.write_text(log.read_text() + "more\n")

    changes: list[tuple[Callable[[Path], object], str, str]] = [
        (str, *["no result in the journal"] * 2), (str, "^$", "^$"), (Path.unlink, *["' is missing"] * 2),
        (grow, "^$", "written' has changed"), (touch, *["' has changed"] * 2), (str, "^$", "^$"),
    ]  # fmt: skip
    for change, *said in changes:
        for log in logs:
            change(log)
        jobs = [copy(place, "echo hello | tee /dev/stderr", **{stream: log, "append": append, "writes": []})
                for log, append in logs.items()]  # fmt: skip
        assert all(map(re.search, said, run_all(jobs, backend, journal)))
    assert all(log.read_text().endswith("hello\n") for log in logs)


@pytest.mark.parametrize("hashes", [False, True])
def test_a_log_that_was_changed_and_has_not_grown_is_written_again(
    place: Path, backend: str, hashes: bool
) -> None:
    """Although its end, with which text that others add is told from a change, is as the command has left it."""
    log, journal = place / "log", Journal(place / "run.db", hash=hashes)

    def run_again() -> str:
        code = "head -c 5000 /dev/zero | tr '\\0' x"  # more than its end
        return run(copy(place, code, stdout=log, writes=[]), backend, journal)

    assert run_again()
    log.write_text("y" + log.read_text()[1:])
    assert "log' has changed" in run_again()
    log.write_text(log.read_text() + "more")
    assert not run_again()


KILLED = """
import os, signal, sys
from trioflow import CommandJob, Scheduler
from pathlib import Path
place, code = Path(sys.argv[1]), sys.argv[2]
log = place / "log"
job = CommandJob(code, shell=True, label="one", stdout=log, append=sys.argv[4] == "True")
other = CommandJob("echo other", shell=True, label="other", stdout=log, required=job)
jobs = [job, other] if sys.argv[5] == "True" else [job]
scheduler = Scheduler(*jobs)
scheduler.run(journal=place / "run.db", backend=sys.argv[3])
print(*(int(one.restored) for one in jobs))
"""


def killed(
    place: Path, code: str, backend: str, append: bool = True, shared: bool = False
) -> str:
    stdout: str = python(
        "-c", KILLED, place, code, backend, append, shared, text=True
    ).stdout
    return stdout


@pytest.mark.parametrize("append", [True, False])
def test_output_without_append_is_not_doubled_after_a_kill(
    place: Path, backend: str, append: bool
) -> None:
    """After a kill, an output file begins anew with `append=False`; otherwise all in it stays, whoever wrote it."""
    (place / "log").write_text("before\n")
    code = f"echo one; test -e {place}/go || {{ kill -9 $PPID; sleep 60; }}; echo two"
    for _ in range(2):
        assert killed(place, code, backend, append) == ""
    (place / "go").touch()
    assert killed(place, code, backend, append) == "0\n"
    assert (place / "log").read_text() == (
        "before\none\none\n" if append else ""
    ) + "one\ntwo\n"
    assert killed(place, code, backend, append) == "1\n"


def test_a_log_shared_by_several_jobs_is_not_truncated_after_a_kill(
    place: Path, backend: str
) -> None:
    """After a kill, a log shared by several jobs is not truncated, since it may have newer output of other jobs. The
    second job requires the first, which has changed: it runs again, and its line is in the log twice."""
    first = (
        f"echo one; test ! -e {place}/die || {{ kill -9 $PPID; sleep 60; }}; echo two"
    )
    assert killed(place, first, backend, shared=True) == "0 0\n"
    assert killed(place, first, backend, shared=True) == "1 1\n"
    assert (place / "log").read_text() == "one\ntwo\nother\n"
    (place / "die").touch()
    changed = f"{first}; echo three"
    assert killed(place, changed, backend, shared=True) == ""
    (place / "die").unlink()
    assert killed(place, changed, backend, shared=True) == "0 0\n"
    assert (
        place / "log"
    ).read_text() == "one\ntwo\nother\none\none\ntwo\nthree\nother\n"


def test_a_half_written_directory_does_not_replace_what_has_the_name(
    place: Path, backend: str
) -> None:
    """A half-written directory once replaced a file that had the name NAME.partial, whoever had made it."""
    (place / "out.partial").write_text("mine")
    for number in (2, 3):
        code = "test ! -e out && mkdir out && exit 3"
        assert "failed" in run(copy(place, code), backend, place / "run.db")
        assert (place / f"out.partial-{number}").is_dir()
    assert (place / "out.partial").read_text() == "mine"


def test_an_output_that_a_failed_command_also_reads_is_not_moved(
    place: Path, backend: str
) -> None:
    for number in range(2):
        code = "echo more >> in; exit 3"
        assert "failed" in run(
            copy(place, code, writes=[place / "in"]), backend, place / "run.db"
        )
        assert (place / "in").read_text() == "in" + "more\n" * (number + 1)


@pytest.mark.parametrize("before", [None, "before\n"])
def test_what_a_failed_attempt_has_appended_to_a_log_stays(
    place: Path, backend: str, before: str | None
) -> None:
    """What a failed attempt has appended to a log was once cut off by the next run, with lines of other programs."""
    if before is not None:
        (place / "log").write_text(before)
    elsewhere = CommandJob(
        ["true"], label="elsewhere", stdout=place / "another log", append=True
    )
    assert "no result in the journal" in run(elsewhere, backend, place / "run.db")
    for code in ("echo half; exit 3", "echo half; exit 3", "echo whole"):
        run_of_one = run(
            copy(place, code, stdout=place / "log", append=True, writes=[]),
            backend,
            place / "run.db",
        )
        assert "no result in the journal" in run_of_one or "failed" in run_of_one
        with (place / "log").open("a") as log:
            log.write("by cron\n")
    lines = (before or "") + "half\nby cron\nhalf\nby cron\nwhole\nby cron\n"
    assert (place / "log").read_text() == lines
    beside = CommandJob(["true"], label="beside", stdout=place / "log", append=True)
    assert "no result in the journal" in run(beside, backend, place / "run.db")
    for code in ("echo half; exit 3", "echo all"):
        job = copy(place, code, stdout=place / "log", append=True, writes=[])
        assert "has changed" in run(job, backend, place / "run.db")
    assert (place / "log").read_text() == f"{lines}half\nall\n"


def test_a_forged_stamp_of_a_log_raises_nothing(place: Path, backend: str) -> None:
    stamps = ["²", "9" * 5000, "", " ", "-1 x", "1", "0 x y z", "absent x"]
    logs = [place / f"log{number}" for number in range(len(stamps))]

    def whys(code: str) -> list[str]:
        jobs = [copy(place, code, stdout=log, append=True, writes=[]) for log in logs]
        return run_all(jobs, backend, place / "run.db")

    for log in logs:
        log.write_text("mine\n")
    assert all("no result in the journal" in why for why in whys("true"))
    with contextlib.closing(sqlite3.connect(place / "run.db")) as db:
        columns = ", ".join(StoredJob._fields[:6])
        rows = db.execute(
            f"SELECT {columns}, checksum FROM jobs ORDER BY path"
        ).fetchall()
        for (*row, _), log, stamp in zip(rows, logs, stamps, strict=True):
            row[-1] = json.dumps({"stamps": {str(log): stamp}})
            db.execute(
                "UPDATE jobs SET outputs = ?, checksum = ? WHERE path = ?",
                (row[-1], checksum(row), row[0]),
            )
        db.commit()
    assert all(whys("echo more"))
    assert [log.read_text() for log in logs] == ["mine\nmore\n"] * len(logs)


def test_a_command_runs_again_if_others_changed_its_log_and_not_only_appended(
    place: Path, backend: str
) -> None:
    """A command runs again if the last 4 KiB of its log have changed; text that others appended is no change."""
    changes = [(length, changed) for length in (10, 10_000) for changed in (0, -1)]
    logs = [place / f"log{number}" for number in range(len(changes))]

    def whys() -> list[str]:
        jobs = [
            copy(place, "echo hello", stdout=log, append=True, writes=[])
            for log in logs
        ]
        return run_all(jobs, backend, place / "run.db")

    for log, (length, _) in zip(logs, changes, strict=True):
        log.write_bytes(b"x" * length)
    assert all("no result in the journal" in why for why in whys())
    for log, (_, changed) in zip(logs, changes, strict=True):
        data = bytearray(log.read_bytes())
        data[changed] = ord("y")
        log.write_bytes(data + b"more")
    assert [why == "" for why in whys()] == [
        change == (10_000, 0) for change in changes
    ]


def test_the_error_names_an_output_that_cannot_be_inspected(
    place: Path, backend: str
) -> None:
    assert "no result in the journal" in run(copy(place), backend, place / "run.db")
    (place / "out").unlink()
    (place / "out").symlink_to(place / "out")
    assert re.search(
        r"an output file: Too many levels of symbolic links: '.*out'",
        run(copy(place), backend, place / "run.db"),
    )


def test_only_the_changed_one_of_several_commands_runs_again(
    place: Path, backend: str
) -> None:
    for last, restored in (
        ("b", [False, False]),
        ("b", [True, True]),
        ("c", [True, False]),
    ):
        jobs = [
            CommandJob(["echo", word], label=f"job {number}")
            for number, word in enumerate(("a", last))
        ]
        assert Scheduler(*jobs).run(backend=backend, journal=place / "run.db")
        assert [job.restored for job in jobs] == restored


def test_only_command_with_writes_is_recorded_early(
    place: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a command that writes files is recorded before it starts, since the record costs a separate commit."""
    noted: list[str] = []
    monkeypatch.setattr(
        JournalStore, "record_start", lambda self, path, stamps: noted.append(path)
    )
    reads, nothing = (
        copy(place, "true", writes=[]),
        CommandJob(["true"], label="nothing"),
    )
    reads.label, writes = "reads", copy(place)
    assert Scheduler(reads, nothing, writes).run(
        backend=backend, journal=place / "run.db"
    )
    assert noted == ["copy"]


@pytest.mark.parametrize("name", ["out", "out/"])
def test_a_half_written_directory_is_moved_aside_after_each_failure(
    place: Path, backend: str, name: str
) -> None:
    for number in range(2):
        code = f"test ! -e out && mkdir out && echo {number} >> out/file && exit 3"
        job = copy(place, code, writes=[f"{place}/{name}"], retry=Retry(1, first=0))
        assert "failed" in run(job, backend, place / "run.db")
        assert (
            place / f"out.partial{'-2' * number}" / "file"
        ).read_text() == f"{number}\n"
        assert not (place / "out").exists()
    assert sorted(path.name for path in place.glob("out*")) == [
        "out.partial",
        "out.partial-2",
    ]


class Compress(AbstractJob[str]):
    """A user's kind that describes its work as a command does."""

    def __init__(
        self, source: Any, level: int = 1, password: str = "x", **options: Any
    ) -> None:
        super().__init__(label="compress", **options)
        self._source, self._level, self._password = source, level, password

    def for_journal(self) -> Work:
        """Return the files that it reads and writes."""
        target = f"{self._source}.gz"
        return Work(
            what="compress", arguments=[self._source], options=[self._level, HashOnly(self._password)],
            reads=[self._source], writes=[target],
        )  # fmt: skip

    async def co_run(self) -> str:
        return self._compress(Path(self._source), Path(f"{self._source}.gz"))

    def _compress(self, source: Path, target: Path) -> str:
        target.write_text("half")
        if not source.with_name("ok").exists():
            raise OSError("the disk is full")
        target.write_text(f"{source.read_text()} {self._level}")
        return "done"


def test_a_user_defined_job_kind_is_restored_by_its_files_and_options(
    place: Path, backend: Any
) -> None:
    def why(**options: Any) -> str:
        job = Compress(place / "in", **options)
        scheduler = Scheduler(job)
        scheduler.run(backend=backend, journal=place / "run.db")
        return "" if job.restored else scheduler.explain(job)

    assert "the disk is full" in why()
    (place / "ok").touch()
    assert "it has no result in the journal" in why()
    assert (place / "in.gz.partial").read_text() == "half"
    assert why() == ""
    assert "the options of the compress have changed" in why(level=2)
    assert "the options of the compress have changed" in why(level=2, password="secret")
    assert b"secret" not in b"".join(
        file.read_bytes() for file in place.glob("run.db*")
    )
    (place / "in.gz").unlink()
    assert "in.gz' is missing" in why(level=2, password="secret")
    (place / "in").write_text("more")
    assert "in' has changed" in why(level=2, password="secret")


def test_a_job_whose_for_journal_raises_runs_each_time(
    place: Path, backend: Any
) -> None:
    class Broken(Compress):
        def for_journal(self) -> Work:
            raise LookupError("no work")

    (place / "ok").touch()
    for _ in range(2):
        job = Broken(place / "in")
        scheduler = Scheduler(job)
        assert scheduler.run(backend=backend, journal=place / "run.db")
        assert "for_journal() raised LookupError('no work')" in scheduler.explain(job)


def identity(*given: Any, **options: Any) -> tuple[Any, ...]:
    work = SshJob(*given, **options).for_journal()
    return work.arguments, work.options, work.reads, work.appends, work.begins_anew


IDENTITIES = [
    (("node1", "ls"), ("node2", "ls")), (("node1", "ls"), ("node1", "ls -l")),
    (("node1", "ls"), ("node1", Script("ls"))), (("node1", "ls"), ("node1", ["ls", "ls"])),
]  # fmt: skip


def test_an_ssh_job_is_identified_by_its_node_and_steps() -> None:
    """An SshJob is identified by its node and steps; once, all had the same identity."""
    for old, new in IDENTITIES:
        assert identity(*old) == identity(*old)
        assert identity(*old) != identity(*new)


def test_scripts_and_files_sent_to_a_node_count_as_files_an_ssh_job_reads(
    place: Path,
) -> None:
    *_, reads, appends, anew = identity(
        "node1",
        [Script("run.sh", 1), trioflow.Push("a", "{node}.txt", to="b")],
        stdin=place / "in",
        stdout="log",
        append=False,
    )
    assert (list(reads), list(appends), list(anew)) == (
        [place / "in", "run.sh", "a", "{node}.txt"],
        [],
        ["log"],
    )
    assert identity("node1", "ls", env={"A": "b"}) != identity(
        "node1", "ls", env={"A": "c"}
    )


@pytest.mark.parametrize("with_command", [False, True])
def test_a_pull_alone_always_runs(
    place: Path, backend: str, with_command: bool
) -> None:
    """An SshJob of Pulls alone is never restored; once, a resumed experiment kept the files of an earlier round."""
    node = LocalNode("node1", directory=place)
    pull = trioflow.Pull("in", to=place / "there")
    for text in ("first", "second"):
        (place / "in").write_text(text)
        job = SshJob(node, ["true", pull] if with_command else [pull], label="pull")
        Scheduler(job).run(journal=place / "run.db", backend=backend)
        assert job.restored is (with_command and text == "second")
    assert (place / "there").read_text() == ("first" if with_command else "second")


@pytest.mark.parametrize("hashes", [False, True])
def test_a_named_pipe_among_the_read_files_is_not_opened(
    place: Path, backend: str, hashes: bool
) -> None:
    """A named pipe in `reads=` is not opened, since reading it might never end."""
    os.mkfifo(place / "pipe")
    for restored in (False, True):
        job = copy(place, reads=[place / "pipe"])
        assert (
            run(job, backend, Journal(place / "run.db", hash=hashes)) == ""
        ) is restored


def test_a_stored_exit_code_is_judged_by_the_present_check(
    place: Path, backend: str
) -> None:
    """A result with an exit code that is a failure now was once restored, as succeeded."""
    make: Any
    for make in (
        lambda check: CommandJob(
            "exit 4", shell=True, check=check, label="job", log=False
        ),
        lambda check: SshJob(
            LocalNode(), ["true", "exit 4"], check=check, label="job", log=False
        ),
    ):
        file = place / f"{make.__code__.co_firstlineno}.db"
        assert "no result in the journal" in run(make([0, 4]), backend, file)
        assert (
            run(make([4, 0, "TERM"]), backend, file)
            == run(make(False), backend, file)
            == ""
        )
        job = make(True)
        assert "failed" in run(job, backend, file)
        assert not job.is_succeeded()


def test_variables_as_in_the_environment_of_the_program_do_not_count(
    place: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`env={**os.environ, ...}` once ran a command again in each new terminal; the reason now names the variables."""

    def why(env: dict[str, str] | None, **program: str) -> str:
        for name in ("WINDOWID", "SSH_TTY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in program.items():
            monkeypatch.setenv(name, value)
        given = (
            None
            if env is None
            else {**(os.environ if "HOME" not in env else {}), **env}
        )
        return run(
            copy(place, "true", env=given, reads=[], writes=[]),
            backend,
            place / "run.db",
        )

    assert "no result" in why({"MODE": "fast"}, WINDOWID="1")
    assert (
        why({"MODE": "fast"}, WINDOWID="2", SSH_TTY="x") == why({"MODE": "fast"}) == ""
    )
    assert "its variable 'MODE' has changed" in why({"MODE": "slow"})
    assert "its variable 'MODE', variable 'TERM' have changed" in why({"TERM": "none"})
    assert "its variable 'TERM' has changed" in why(None)
    assert why({}, WINDOWID="3") == ""
    assert "have changed" in why({"HOME": "/", "PATH": "/bin"})
    assert why({"HOME": "/", "PATH": "/bin"}, WINDOWID="4") == ""
    assert "has changed" in why(
        {"HOME": "/", "PATH": "/bin", "WINDOWID": "4"}, WINDOWID="4"
    )


def test_the_reason_names_the_options_that_have_changed(
    place: Path, backend: str
) -> None:
    """The reason for another run once was "the options of the command have changed", which named none of them."""
    files: dict[str, Any] = {"reads": [], "writes": []}
    assert "no result" in run(copy(place, "true", **files), backend, place / "run.db")
    assert "its option stdin= has changed" in run(
        copy(place, "true", stdin=b"x", **files), backend, place / "run.db"
    )
    job = copy(place, "true", stdin=b"y", stdout=subprocess.PIPE, **files)
    assert "its option stdin=, option stdout= have changed" in run(
        job, backend, place / "run.db"
    )


def test_a_job_that_changes_a_file_in_place_takes_it_over(
    place: Path, backend: str
) -> None:
    """A job that strips what another has built, in place, once had both run in each run, and was not named."""

    def outcome(built: str = "1", code: str = "stripped") -> list[str]:
        files: dict[str, Any] = {"writes": [place / "out"], "shell": True}
        build = CommandJob(f"echo {built} > {place}/out", label="build", **files)
        strip = CommandJob(
            f"echo {code} >> {place}/out", label="strip", reads=[place / "out"], **files
        )
        strip.requires(build)
        scheduler = Scheduler(strip, build)
        scheduler.run(backend=cast(Any, backend), journal=place / "run.db")
        return [
            (place / "out").read_text(),
            *("" if job.restored else scheduler.explain(job) for job in (build, strip)),
        ]

    for built, code in (("1", "stripped"), ("2", "stripped"), ("2", "shrunk")):
        text, why, _ = outcome(built, code)
        assert text == f"{built}\n{code}\n"
        assert outcome(built, code) == [text, "", ""]
    assert "by 'strip'" in why
    (place / "out").write_text("mine")
    text, *whys = outcome("2", "shrunk")
    assert text == "2\nshrunk\n"
    assert "its output" in whys[0]
    assert whys[1].endswith("out' has changed")
    assert outcome("2", "shrunk") == [text, "", ""]


async def write_line(word: str, is_first: bool, out: Path, *others: Path) -> None:
    with out.open("w" if is_first else "a") as file:
        file.write(f"{word}\n")
    for path in others:
        path.touch()


@pytest.mark.parametrize("is_chain", [True, False])
def test_of_several_jobs_that_change_a_file_in_place_none_runs_again(
    place: Path, backend: str, is_chain: bool
) -> None:
    """Three in an order that write one file once ran in each run: only a job and the next one were compared."""

    def outcome(words: str, also: str | None = None) -> tuple[str, list[str]]:
        jobs: list[Job[None]] = []
        for name, word in zip(
            ("build", "strip", "index", "sign"), words.split(), strict=True
        ):
            writes = [place / "out", *[place / "also"] * (name == also)]
            jobs.append(
                Job(write_line, word, not jobs, *writes, label=name, writes=writes)
            )
            jobs[-1].requires(*(jobs[-2:-1] if is_chain else jobs[:-1]))
        Scheduler(jobs[::-1]).run(backend=cast(Any, backend), journal=place / "run.db")
        return (place / "out").read_text(), [
            job.label for job in jobs if not job.restored
        ]

    every = ["build", "strip", "index", "sign"]
    for words in ("a b c d", "a f c d"):
        assert outcome(words) == ("".join(f"{word}\n" for word in words.split()), every)
        assert outcome(words)[1] == []
    for name in every:
        assert outcome("a f c d", name)[1] == every
        assert outcome("a f c d", name)[1] == []
        (place / "also").unlink()
        assert outcome("a f c d", name) == ("a\nf\nc\nd\n", every)


BROKEN = list[str]()


class Fragile:
    """A result that cannot be loaded while `BROKEN` says why."""

    def __reduce__(self) -> tuple[Any, ...]:
        return load_fragile, ()


def load_fragile() -> Fragile:
    for why in BROKEN:
        raise ValueError(why)
    return Fragile()


@pytest.mark.parametrize("change", ["answer", "result", "mark"])
def test_no_file_is_changed_twice_after_a_job_between_its_writers(
    place: Path, backend: Any, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`build` was restored, and the question behind it then had another answer: `strip` stripped what it had stripped.

    An answer that the program gives is not lost while `build` asks whether the question will be restored.
    """

    async def build() -> None:
        (place / "out").write_text("built")

    async def strip(_answer: object, _result: object, mark: str) -> None:
        with (place / "out").open("a") as file:
            file.write(f" {mark}")

    async def make() -> Fragile:
        return Fragile()

    def run(word: str, mark: str) -> tuple[str, list[str]]:
        built = Job(build, label="build", writes=[place / "out"])
        asks: Answer[str] = Answer("Strip?", label="ask", required=built)
        asks.answer(word)
        made = Job(make, label="make", required=built, save="pickle")
        stripped = Job(strip, asks, made, mark, label="strip", writes=[place / "out"])
        scheduler = Scheduler(built, asks, made, stripped, timeout=10)
        scheduler.run(backend=backend, journal=place / "run.db")
        ran = [job.label for job in scheduler if not job.restored]
        return (place / "out").read_text(), ran

    every = ["build", "ask", "make", "strip"]
    assert run("yes", "stripped") == ("built stripped", every)
    assert run("yes", "stripped") == ("built stripped", [])
    word = "no" if change == "answer" else "yes"
    mark = "marked" if change == "mark" else "stripped"
    with monkeypatch.context() as patched:
        if change == "result":
            patched.setitem(globals(), "BROKEN", ["not today"])
        assert run(word, mark) == (f"built {mark}", every)
    assert run(word, mark) == (f"built {mark}", [])


@pytest.mark.parametrize(
    ("lint", "strip"),
    [
        ({"critical": False}, {}),
        ({}, {"run_if": "settled"}),
        ({}, {"run_if": "failed"}),
        ({"run_if": "failed"}, {}),
    ],
)
def test_a_file_that_two_jobs_change_is_as_it_was_whatever_a_tolerated_job_has_done(
    place: Path, backend: Any, lint: Any, strip: Any
) -> None:
    """If one beside them had failed, or was skipped, before the first was looked up, both ran again in each run."""
    for is_again in (False, True):
        begin = Job(nothing, label="begin")
        linted = Job(fail_now, label="lint", required=begin, **lint)
        files: Any = {"writes": [place / "out"]}
        build = Job(write_line, "a", True, place / "out", label="build", **files)
        build.requires(begin).requires(linted, settled=True)
        mark = Job(
            write_line, "b", False, place / "out", label="mark", **files, **strip
        )
        mark.requires(build, linted)
        scheduler = Scheduler(begin, linted, build, mark)
        scheduler.run(backend=backend, journal=place / "run.db")
        assert [build.restored, mark.restored] == [is_again, is_again]
        assert (place / "out").read_text() == "a\nb\n"


@pytest.mark.parametrize("change", ["alike", "blocked"])
def test_no_file_is_changed_twice_after_a_job_that_is_not_restored_whatever_its_record(
    place: Path, change: str
) -> None:
    """Another job has its name and its function's, or what it requires has failed, which its key leaves out."""

    async def write(text: str, mode: str) -> None:
        with (place / "out").open(mode) as file:
            file.write(text)

    def lint_of(secret: object) -> Callable[[], Any]:
        async def lint() -> None:
            assert secret

        return lint

    async def check(why: str) -> None:
        if why == "blocked":
            raise ValueError(why)

    for why in ("", "", change):
        checked = Job(check, why, label="check", save=None)
        built = Job(write, "built", "w", label="build", writes=[place / "out"], key="b")
        built.requires(checked, settled=True)
        key = None if change == "alike" else "l"
        linted: Job[Any] = Job(lint_of(object()), label="lint", key=key)
        linted.requires(built, order_only=True)
        if key is not None:
            linted.requires(checked)
        stripped = Job(write, "!", "a", label="strip", writes=[place / "out"])
        stripped.requires(built)
        stripped.requires(linted, settled=True)
        scheduler = Scheduler(checked, built, linted, stripped, log=False)
        if why == "alike":
            scheduler.add(Job(lint_of(object()), label="lint", required=built))
        scheduler.run(journal=place / "run.db")
        assert (place / "out").read_text() == "built!"


def test_a_failure_that_is_tolerated_lets_the_writers_of_a_file_be_restored(
    place: Path,
) -> None:
    async def write(text: str, mode: str) -> None:
        with (place / "out").open(mode) as file:
            file.write(text)

    for is_restored in (False, True):
        fails = Job(fail_now, label="fails", critical=False)
        built = Job(write, "built", "w", label="build", writes=[place / "out"])
        stripped = Job(write, "!", "a", label="strip", writes=[place / "out"])
        stripped.requires(built)
        for job in (built, stripped):
            job.requires(fails, settled=True)
        Scheduler(fails, built, stripped, log=False).run(journal=place / "run.db")
        assert [built.restored, stripped.restored] == [is_restored] * 2
        assert (place / "out").read_text() == "built!"


HOWS = (
    "", "key of strip", "key of build", "input", "input of lint", "behind", "left out", "save",
)  # fmt: skip


@pytest.mark.parametrize(
    ("how", "order"),
    [
        pytest.param(how, order, marks=[pytest.mark.ci] * (number % 2 != other))
        for number, how in enumerate(HOWS)
        for other, order in enumerate(("build lint strip", "lint build strip"))
    ],
)
def test_a_job_that_changes_a_file_in_place_is_restored(
    place: Path, backend: Any, how: str, order: str
) -> None:
    """It ran again with a key, after a job that is looked up later, with an input, and if `--only` left one out.

    With another `save=`, only the second of both ran, and changed twice what the first had made.
    """

    async def build() -> int:
        (place / "out").write_text("built")
        return 5

    async def strip(*_: object) -> None:
        with (place / "out").open("a") as file:
            file.write(" stripped")

    async def lint() -> int:
        return 3

    for number in range(3):
        save = "pickle" if how == "save" and number else "json"
        built: Job[Any] = Job(
            build,
            label="build",
            writes=[place / "out"],
            key="b" if how == "key of build" else None,
        )
        linted: Job[Any] = Job(lint, label="lint")
        given = {"input": [built], "input of lint": [linted]}.get(how, [])
        key = "s" if how == "key of strip" else None
        stripped = Job(
            strip, *given, label="strip", writes=[place / "out"], save=save, key=key
        )
        (linted if how == "behind" else stripped).requires(built)
        stripped.requires(linted)
        jobs: dict[str, Job[Any]] = {"build": built, "lint": linted, "strip": stripped}
        scheduler = Scheduler([jobs[name] for name in order.split()], log=False)
        if how == "left out" and number:
            keep_only(scheduler, [built, stripped])
        scheduler.run(backend=backend, journal=place / "run.db")
        assert (place / "out").read_text() == "built stripped"
        ran = {job.label for job in scheduler if not job.restored}
        assert ran == (
            {*jobs}
            if not number
            else {"build", "strip"}
            if how == "save" and number == 1
            else set()
        )


def test_a_tuple_is_listed_as_one(tmp_path: Path) -> None:
    """The text that JSON has for a tuple is for programs: a list of results shows it as Python does."""

    async def pair() -> tuple[int, str]:
        return 7, "x"

    file = tmp_path / "run.db"
    assert Scheduler(Job(pair, label="pair"), journal=file).run()
    assert (
        command_line.trioflow("journal", file)
        .stdout.splitlines()[0]
        .endswith('pair  (7,"x")')
    )
    assert (
        '{"$":"tuple","v":[7,"x"]}'
        in command_line.trioflow("journal", file, "show", "pair").stdout
    )
