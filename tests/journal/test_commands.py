"""Commands with a journal: by the files that they read and write."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trioflow import CommandError, CommandJob, Journal, Scheduler


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "in").write_text("in")
    return tmp_path


def copy(place: Path, code: str = "cat in > out", **options: Any) -> CommandJob:
    options = {"reads": [place / "in"], "writes": [place / "out"]} | options
    return CommandJob(f"cd {place}; echo x >> runs; {code}", shell=True, label="copy", **options)


def runs(place: Path) -> int:
    return len((place / "runs").read_text()) // 2


def run(job: CommandJob, backend: str, journal: Any) -> str:
    """Run it, and return why it was not restored; "" if it was."""
    scheduler = Scheduler(job)
    scheduler.run(backend=backend, journal=journal)
    return "" if job.restored else scheduler.explain(job)


HALF = "test -e ok || { rm -f out; printf ha > out; exit 3; }; test ! -e out && cat in > out"


def touch(path: Path) -> None:
    path.write_text("other")


def touch_time(path: Path) -> None:
    os.utime(path, (1, 1))


CHANGES: list[tuple[str, str, Callable[[Path], object], bool]] = [
    ("in", "file '.*in' has changed", touch, True),
    ("in", "file '.*in' has changed", touch_time, False),
    ("in", "file '.*in' has changed", os.unlink, True),
    ("out", "its output '.*out' has changed", touch, True),
    ("out", "its output '.*out' has changed", touch_time, False),
    ("out", "its output '.*out' is not there", os.unlink, True),
]


@pytest.mark.parametrize(("name", "said", "change", "contents"), CHANGES)
@pytest.mark.parametrize("hashes", [False, True])
def test_a_command_runs_again_when_a_file_has_changed(
    place: Path, backend: str, name: str, said: str, change: Callable[[Path], object], contents: bool, hashes: bool
) -> None:
    """One that it reads, or one that it has written; with `hash=True` only the contents count."""
    journal = Journal(place / "run.db", hash=hashes)
    assert "does not have it" in run(copy(place), backend, journal)
    assert run(copy(place), backend, journal) == ""
    change(place / name)
    why = run(copy(place), backend, journal)
    if contents or not hashes:
        assert re.search(said, why)
        assert runs(place) == 2
    else:
        assert why == ""


def test_a_result_with_output_is_restored(place: Path, backend: str) -> None:
    """Code, output and times."""
    results = []
    for _ in range(2):
        job = copy(place, "echo hello; cat in > out", stdout=subprocess.PIPE)
        run(job, backend, place / "run.db")
        results.append(job.result())
    assert job.restored
    assert results[0].stdout == results[1].stdout == b"hello\n"
    assert results[0].elapsed == results[1].elapsed


def test_what_a_failed_command_has_written_is_moved_aside(place: Path, backend: str) -> None:
    """Before it runs again; what was there before it ever ran is not touched."""
    (place / "out").write_text("mine, from before")
    failing = copy(place, HALF)
    run(failing, backend, place / "run.db")
    assert isinstance(failing.raised_exception(), CommandError)
    assert (place / "out").read_text() == "ha"
    (place / "ok").touch()
    again = copy(place, HALF)
    run(again, backend, place / "run.db")
    assert again.result().returncode == 0
    assert (place / "out.partial").read_text() == "ha"
    assert (place / "out").read_text() == "in"


def test_the_output_of_a_restarted_command_is_complete(place: Path, backend: str) -> None:
    """A timeout cut its first attempt, not the last one: it is restored, and its output stays where it is."""
    code = "test -e once || { touch once; sleep 100; }; cat in > out"
    for restored in (False, True):
        job = copy(place, code, timeout=1, on_timeout="restart", terminate_grace=0)
        assert (run(job, backend, place / "run.db") == "") is restored
        assert job.result().returncode == 0
    assert (place / "out").read_text() == "in"
    assert not (place / "out.partial").exists()


def test_an_output_that_a_failed_command_did_not_touch_stays(place: Path, backend: str) -> None:
    """It is whole: somebody else has made it."""
    (place / "out").write_text("mine")
    for _ in range(2):
        run(copy(place, "exit 3"), backend, place / "run.db")
    assert (place / "out").read_text() == "mine"
    assert not (place / "out.partial").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"cwd": "/"}), ({}, {"env": {"A": "b"}}), ({"env": {"A": "b"}}, {"env": {"A": "c"}}),
        ({}, {"stdin": b"x"}), ({"stdin": b"x"}, {"stdin": b"y"}),
    ],
)  # fmt: skip
def test_options_that_change_what_a_command_does_count(
    place: Path, backend: str, old: dict[str, Any], new: dict[str, Any]
) -> None:
    """Directory, environment and input."""
    run(copy(place, **old), backend, place / "run.db")
    assert run(copy(place, **old), backend, place / "run.db") == ""
    assert "the options of the command have changed" in run(copy(place, **new), backend, place / "run.db")


def test_names_of_files_need_not_be_text(place: Path, backend: str) -> None:
    """Nor need the command line: on Linux they are bytes."""
    name = os.fsdecode(b"a\x80")
    (place / name).write_text("in")
    files = {"reads": [place / name], "writes": [place / "out\udcff"]}
    code = f"test -e {name}.ok || {{ touch {name}.ok; echo half > out\udcff; exit 1; }}; cat {name} > out\udcff"
    for _ in range(2):
        run(copy(place, code, **files), backend, place / "run.db")
    assert (place / "out\udcff.partial").read_text() == "half\n"
    assert run(copy(place, code, **files), backend, place / "run.db") == ""
    (place / name).write_text("other")
    assert "has changed" in run(copy(place, code, **files), backend, place / "run.db")


@pytest.mark.parametrize("name", ["reads", "writes"])
def test_paths_are_checked(name: str) -> None:
    """One path may stand for itself; other things are refused."""
    options: Any = {name: "one"}
    CommandJob(["true"], **options)
    options = {name: [3]}
    with pytest.raises(TypeError, match=f"{name}=3 of 'CommandJob': give a list of paths"):
        CommandJob(["true"], **options)
