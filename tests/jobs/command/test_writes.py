"""What a command declares in `writes=` keeps its name only if the command has succeeded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from trioflow import CommandJob, Retry, Scheduler

from ..posix.process_trees import until_there

HALF = "echo half > out; mkdir -p tree; echo half > tree/file"
ENDLESS = "touch begun; sleep 1000"


def make(place: Path, code: str, **options: Any) -> CommandJob:
    written = {"writes": [place / "out", place / "tree"], "terminate_grace": 0.1, **options}
    return CommandJob(f"{HALF}; {code}", shell=True, cwd=place, **written)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("exit 1", {}), ("kill -9 $$", {}), (ENDLESS, {"timeout": 0.3}), (ENDLESS, {"idle_timeout": 0.3}),
        (ENDLESS, {}), ("rm out", {}), ("exit 1", {"retry": 1}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("journal", [None, "run.db"])
def test_outputs_of_a_command_without_success_are_set_aside_at_once(
    tmp_path: Path, backend: str, code: str, options: dict[str, Any], journal: str | None
) -> None:
    """Half-written outputs once kept their names after a failure, timeout or cancellation, until the next run."""

    def begun(job: CommandJob) -> None:
        until_there(tmp_path / "begun")
        if not options:
            job.cancel()

    (tmp_path / "tree").mkdir()
    job = make(tmp_path, code, on_start=begun if code == ENDLESS else None, **options)
    Scheduler(job).run(backend=backend, journal=None if journal is None else tmp_path / journal)
    found = {name for name in os.listdir(tmp_path) if not name.startswith("run.db")} - {"begun"}
    assert found == {"out.partial", "tree", "tree.partial"} - ({"out.partial"} if code == "rm out" else set())
    assert os.listdir(tmp_path / "tree") == []
    assert (tmp_path / "tree.partial" / "file").read_text() == "half\n"


def test_outputs_that_a_failed_command_has_not_touched_or_reads_stay(tmp_path: Path, backend: str) -> None:
    for name in ("out", "tree", "old", "link"):
        (tmp_path / name).write_text("before")
    job = CommandJob(
        "echo half > out; exit 1", shell=True, cwd=tmp_path,
        writes=[tmp_path / name for name in ("out", "old", "none")], reads=[tmp_path / "out"],
    )  # fmt: skip
    Scheduler(job).run(backend=backend)
    assert sorted(os.listdir(tmp_path)) == ["link", "old", "out", "tree"]


def test_a_retry_that_succeeds_writes_its_outputs_anew(tmp_path: Path, backend: str) -> None:
    """The outputs of a failed attempt are set aside before the next one, whose own keep their names."""
    job = make(tmp_path, "test -e ok || { touch ok; exit 1; }", retry=Retry(1, first=0))
    Scheduler(job).run(backend=backend)
    assert sorted(os.listdir(tmp_path)) == ["ok", "out", "out.partial", "tree", "tree.partial"]


def test_what_links_in_a_directory_lead_to_stays_when_it_is_set_aside_again(tmp_path: Path, backend: str) -> None:
    """A link to a directory once kept the remains of the attempt before, and so the half-written output in place."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o500)
    job = make(tmp_path, f"mkdir new; ln -s {elsewhere} new/link; exit 1", writes=[tmp_path / "new"], retry=1)
    Scheduler(job).run(backend=backend)
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "new.partial", "out", "tree"]
    assert elsewhere.stat().st_mode & 0o777 == 0o500


@pytest.mark.parametrize("is_there", [True, False])
def test_links_of_others_stay_where_they_are(tmp_path: Path, backend: str, is_there: bool) -> None:
    """What they lead to is set aside if it is new; each leads where it led, although nothing may be there any more."""
    (tmp_path / "data").mkdir()
    links = {"out": "link", "link": "data/file", "tree": "data/tree"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    if is_there:
        (tmp_path / "data" / "file").write_text("before\n")
    code = "echo half >> out; mkdir -p data/tree; echo half > tree/file; exit 1"
    job = CommandJob(code, shell=True, cwd=tmp_path, writes=[tmp_path / "out", tmp_path / "tree"], retry=1)
    Scheduler(job).run(backend=backend)
    assert {name: os.readlink(tmp_path / name) for name in links} == links
    assert sorted(os.listdir(tmp_path / "data")) == ["file" if is_there else "file.partial", "tree.partial"]
