"""`export_as_dotfile`, `export_as_svgfile`, `export_as_pngfile`: files, with `dot` and without it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trioflow import AbstractJob, Scheduler

from .pictures import texts


@pytest.fixture
def scheduler() -> Scheduler:
    a = AbstractJob(label="ä")
    return Scheduler(a, AbstractJob(label="b", required=a), label="s")


EXPORTS: list[Callable[..., None]] = [Scheduler.export_as_svgfile, Scheduler.export_as_pngfile]
by_export = pytest.mark.parametrize("export", EXPORTS)


def test_dotfile(scheduler: Scheduler, tmp_path: Path) -> None:
    """The dot file is the text of the graph, with the same options."""
    scheduler.export_as_dotfile(tmp_path / "g.dot", legend=True)
    assert (tmp_path / "g.dot").read_text(encoding="utf-8") == scheduler.graph(legend=True).source


def test_svgfile(scheduler: Scheduler, tmp_path: Path) -> None:
    """The SVG file has the labels as text, and takes a path as a string; an older file is replaced."""
    (tmp_path / "g.svg").write_text("x" * 10**6)
    scheduler.export_as_svgfile(str(tmp_path / "g.svg"), only="ä")
    assert texts((tmp_path / "g.svg").read_text(encoding="utf-8")) == ["ä"]


def test_pngfile(scheduler: Scheduler, tmp_path: Path) -> None:
    """The PNG file has 144 dots per inch: twice 72, the points that SVG counts in."""
    scheduler.export_as_pngfile(tmp_path / "g.png")
    scheduler.export_as_svgfile(tmp_path / "g.svg")
    data = (tmp_path / "g.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    width = struct.unpack(">I", data[16:20])[0]
    points = int((tmp_path / "g.svg").read_text().partition('width="')[2].partition("pt")[0])
    assert abs(width - 2 * points) <= 4


def test_the_graph_can_be_changed_and_drawn_by_oneself(scheduler: Scheduler) -> None:
    """What `graph` returns is graphviz's own class: its attributes may be set, and its methods draw it."""
    import graphviz

    graph = scheduler.graph()
    assert isinstance(graph, graphviz.Digraph)
    graph.attr("graph", label="title")
    assert texts(graph.pipe(format="svg", encoding="utf-8")) == ["title", "ä", "b"]  # type: ignore[call-arg]


@by_export
def test_without_dot(
    export: Callable[..., None], scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the program there is an error that says how to install it, and no file; the texts need none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        RuntimeError, match=rf"^{export.__name__}\(\) of 's'.* dot, .*apt install graphviz.*brew"
    ) as info:
        export(scheduler, tmp_path / "g")
    assert info.value.__cause__ is None
    scheduler.export_as_dotfile(tmp_path / "g.dot")
    scheduler.export_as_mermaid(tmp_path / "g.mmd")
    assert {path.name for path in tmp_path.iterdir()} == {"g.dot", "g.mmd"}


@by_export
def test_dot_fails(
    export: Callable[..., None], scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the program fails, the error has its exit code and what it said, and there is no file."""
    program = tmp_path / "bin" / "dot"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ncat >/dev/null\necho no more memory >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    with pytest.raises(RuntimeError, match=r"dot ended with 3: no more memory"):
        export(scheduler, tmp_path / "g")
    assert not (tmp_path / "g").exists()


ALL: list[Any] = [*EXPORTS, Scheduler.export_as_dotfile, Scheduler.export_as_mermaid]


@pytest.mark.parametrize("export", ALL)
def test_unwritable(export: Callable[..., None], scheduler: Scheduler, tmp_path: Path) -> None:
    """A file that cannot be written is the system's own error, which names it."""
    with pytest.raises(FileNotFoundError, match="missing"):
        export(scheduler, tmp_path / "missing" / "g")
    with pytest.raises(OSError, match=r"/dev/full|No space left"):
        export(scheduler, "/dev/full")
