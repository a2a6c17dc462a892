"""`trioflow.view.save`: the suffix of a file says in which form a scheduler or a trace is written to it."""

import json
import os
import stat
import struct
import sys
from pathlib import Path
from typing import Any
import pytest
from trioflow import AbstractJob, Job, Scheduler, SshNodes, Trace, simulate
from trioflow.cli import _traces
from trioflow.view import _exports, _save, listing, save
from trioflow.view.graph import _dot
from trioflow.view.graph._dot import Statement
from trioflow.view.trace._trace_file import BadTrace, read_record
from trioflow.view.trace._trace_record import GraphDescription
from trioflow.view.trace.report._report import draw_graph
from ..bodies import give_now
from ..cli.command_line import trioflow
from .graph.pictures import texts


@pytest.fixture
def scheduler() -> Scheduler:
    a = AbstractJob(label="ä")
    return Scheduler(a, AbstractJob(label="b", required=a), label="s")


def traced() -> Trace:
    trace = Trace()
    Scheduler(Job(give_now, 1, label="one"), label="s", instruments=[trace]).run()
    return trace


BEGINNINGS = {
    (Scheduler, ".dot"): b"digraph {", (Scheduler, ".svg"): b"<?xml", (Scheduler, ".png"): b"\x89PNG\r\n",
    (Scheduler, ".mmd"): b"flowchart TB\n", (Trace, ".svg"): b"<svg ", (Trace, ".html"): b"<!DOCTYPE html>",
    (Trace, ".json"): b'{"displayTimeUnit"', (Trace, ".csv"): b"number,",
}  # fmt: skip
"""How a file of each form begins."""


def source(kind: type, scheduler: Scheduler) -> Any:
    return scheduler if kind is Scheduler else traced()


def test_each_form_is_known_by_its_suffix() -> None:
    assert {suffix for kind, suffix in BEGINNINGS if kind is Scheduler} == {
        *_save.GRAPH_SUFFIXES
    }
    assert {suffix for kind, suffix in BEGINNINGS if kind is Trace} == {
        *_save.TRACE_SUFFIXES
    }


@pytest.mark.parametrize(("kind", "suffix"), BEGINNINGS)
def test_the_suffix_says_what_is_written(
    kind: type, suffix: str, scheduler: Scheduler, tmp_path: Path
) -> None:
    """A file is written in the form of its suffix, in any case, and replaces an existing one."""
    file = tmp_path / f"a{suffix.upper()}"
    file.write_text("x" * 10**6)
    save(source(kind, scheduler), str(file))
    assert file.read_bytes().startswith(BEGINNINGS[kind, suffix])
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(("kind", "suffix"), BEGINNINGS)
def test_a_file_that_cannot_be_written_raises(
    kind: type, suffix: str, scheduler: Scheduler, tmp_path: Path
) -> None:
    """A missing directory, a full disk, or a directory in place of a file raises the OSError of the system."""
    saved = source(kind, scheduler)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save(saved, tmp_path / "nowhere" / f"a{suffix}")
    full = tmp_path / f"full{suffix}"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        save(saved, full)
    directory = tmp_path / f"directory{suffix}"
    directory.mkdir()
    with pytest.raises(IsADirectoryError):
        save(saved, directory)


@pytest.mark.parametrize(
    ("kind", "path"),
    [(Scheduler, "a.json"), (Scheduler, "a"), (Trace, "a.png"), (Trace, "a.")],
)
def test_other_suffixes_raise_with_the_known_ones(
    kind: type, path: str, scheduler: Scheduler, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=r"must end in \.svg, .* \(a (Trace|Scheduler): \.svg, "
    ):
        save(source(kind, scheduler), tmp_path / path)
    assert not list(tmp_path.iterdir())


def test_a_scheduler_is_saved_with_the_options_of_its_graph(
    scheduler: Scheduler, tmp_path: Path
) -> None:
    save(scheduler, tmp_path / "g.dot", collapse=True)
    assert (tmp_path / "g.dot").read_text(encoding="utf-8") == scheduler.graph(
        collapse=True
    ).source
    save(scheduler, tmp_path / "g.svg")
    assert "ä" in texts((tmp_path / "g.svg").read_text(encoding="utf-8"))
    with pytest.raises(
        TypeError, match=r"collapse=True is for the graph of a Scheduler"
    ):
        save(traced(), tmp_path / "t.svg", collapse=True)
    with pytest.raises(TypeError, match=r"3 is neither a Scheduler nor a Trace"):
        save(3, tmp_path / "t.svg")  # type: ignore[arg-type]


def test_a_png_has_144_dots_per_inch(scheduler: Scheduler, tmp_path: Path) -> None:
    save(scheduler, tmp_path / "g.png")
    save(scheduler, tmp_path / "g.svg")
    width = struct.unpack(">I", (tmp_path / "g.png").read_bytes()[16:20])[0]
    points = int(
        (tmp_path / "g.svg").read_text().partition('width="')[2].partition("pt")[0]
    )
    assert abs(width - 2 * points) <= 4


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_picture_without_dot_raises_with_the_command_that_installs_it(
    suffix: str, scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `dot`, a picture raises an error that says how to install it; the forms that are text do not need it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        RuntimeError,
        match=r"^save\(\) of 's'.* dot, .*apt install graphviz.*\.dot or \.mmd",
    ) as info:
        save(scheduler, tmp_path / f"g{suffix}")
    assert info.value.__cause__ is None
    save(scheduler, tmp_path / "g.dot")
    save(scheduler, tmp_path / "g.mmd")
    assert {path.name for path in tmp_path.iterdir()} == {"g.dot", "g.mmd"}


def put_dot_on_path(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let a shell script be the `dot` that is found."""
    program = tmp_path / "bin" / "dot"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.defpath}")


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_picture_raises_if_dot_fails(
    suffix: str, scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If `dot` fails, the error has its exit code and what it wrote on standard error, and no file is written."""
    put_dot_on_path(
        "cat >/dev/null\necho no more memory >&2\nexit 3", tmp_path, monkeypatch
    )
    with pytest.raises(RuntimeError, match=r"dot exited with 3: no more memory"):
        save(scheduler, tmp_path / f"g{suffix}")
    assert not (tmp_path / f"g{suffix}").exists()


def test_picture_that_takes_long_raises(
    scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tens of thousands of boxes, or the graph in the trace of a stranger, do not keep `dot` busy without end."""
    put_dot_on_path("exec sleep 1000", tmp_path, monkeypatch)
    monkeypatch.setattr(_dot, "MAX_DOT_SECONDS", 0.1)
    with pytest.raises(
        RuntimeError,
        match=r"^save\(\) of 's': dot has not ended in 0.1 s: .*collapse=True.*\.mmd",
    ):
        save(scheduler, tmp_path / "g.svg")
    picture = draw_graph(GraphDescription((Statement("node", ("1",)),)))
    assert (picture.svg, picture.notes[0][:32]) == (
        "",
        "No graph: dot has not ended in 0",
    )


def test_a_record_of_a_run_needs_no_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of a run is written where no extra is installed; its graph is data, which is drawn elsewhere."""
    for package in ("graphviz", "jinja2", "msgspec", "rich", "click"):
        monkeypatch.setitem(sys.modules, package, None)
    save(traced(), tmp_path / "t.json")
    (graph,) = json.loads((tmp_path / "t.json").read_text())["record"]["stored_graphs"]
    assert graph["statements"]
    save(traced(), tmp_path / "t.csv")
    save(traced(), tmp_path / "t.svg")


def test_listing_is_what_list_prints(
    scheduler: Scheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    """`listing` returns what `list` prints with the same options; anything but a scheduler raises."""
    scheduler.list(details=True)
    assert listing(scheduler, details=True) + "\n" == capsys.readouterr().out
    with pytest.raises(TypeError, match=r"scheduler=7 of listing.*: give a Scheduler"):
        listing(7)  # type: ignore[arg-type]


def test_a_temporary_file_that_others_replace_stays_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that is put under the name of a temporary file while it is written has its target left as it is."""
    mine, target = tmp_path / "mine", tmp_path / "t.json"
    mine.touch(0o600)
    target.touch(0o644)

    def open_and_lose(path: Path, *arguments: Any) -> int:
        descriptor = open_regular(path, *arguments)
        path.unlink()
        path.symlink_to(mine)
        return descriptor

    open_regular = _exports.posix.open_regular
    monkeypatch.setattr(_exports.posix, "open_regular", open_and_lose)
    save(traced(), target)
    assert stat.S_IMODE(mine.stat().st_mode) == 0o600


def test_a_name_that_nobody_gave_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may put a link under the name of a temporary file, of a lock, or of the default of `trioflow report`."""
    mine = tmp_path / "mine"
    mine.write_text("precious")
    (tmp_path / "d.json.lock").symlink_to(mine)
    Scheduler(Job(give_now, 1), durations=tmp_path / "d.json").run()
    (tmp_path / f".t.json.{os.getpid()}.new").symlink_to(mine)
    save(traced(), tmp_path / "t.json")
    (tmp_path / "t.html").symlink_to(mine)
    done = trioflow("report", tmp_path / "t.json")
    assert (done.exit_code != 0, "is a symbolic link: give -o FILE" in done.stderr) == (
        True,
        True,
    )
    (tmp_path / "t.html").unlink()
    (tmp_path / "t.html").write_text("ours")
    monkeypatch.setattr(_traces.posix, "geteuid", lambda: os.geteuid() + 1)
    assert (
        "is the file of another user: give -o FILE"
        in trioflow("report", tmp_path / "t.json").stderr
    )
    assert mine.read_text() == "precious"


def test_a_file_read_as_a_whole_neither_blocks_nor_lasts_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe or a device is refused as a trace, a hostfile or a file of durations; as a program, it is bounded."""
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    monkeypatch.setattr(_traces.posix, "MAX_STREAM_SIZE", 1 << 20)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(
            BadTrace, match="not a regular file, and could block; give a file written"
        ):
            read_record(path)
        for read in (SshNodes, lambda path: simulate(Scheduler(), durations=path)):
            with pytest.raises(OSError, match="not a regular file, and could block"):
                read(path)
    assert (
        "cannot read '/dev/zero': it is a device with more than 1 MiB"
        in trioflow("run", "/dev/zero").stderr
    )
