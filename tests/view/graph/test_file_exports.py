"""`export_as_dotfile`, `export_as_svgfile` and `export_as_pngfile`, with and without `dot`."""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trioflow import AbstractJob, CommandJob, ProcessJob, Scheduler, SshJob, SshNode, ThreadJob

from .pictures import texts


@pytest.fixture
def scheduler() -> Scheduler:
    a = AbstractJob(label="ä")
    return Scheduler(a, AbstractJob(label="b", required=a), label="s")


EXPORTS: list[Callable[..., None]] = [Scheduler.export_as_svgfile, Scheduler.export_as_pngfile]
by_export = pytest.mark.parametrize("export", EXPORTS)


def test_export_as_dotfile_writes_the_text_of_the_graph(scheduler: Scheduler, tmp_path: Path) -> None:
    """`export_as_dotfile` writes the text of the graph, and has the same options as `graph`."""
    scheduler.export_as_dotfile(tmp_path / "g.dot", only="b")
    assert (tmp_path / "g.dot").read_text(encoding="utf-8") == scheduler.graph(only="b").source


def test_export_as_svgfile_writes_labels_as_text(scheduler: Scheduler, tmp_path: Path) -> None:
    """`export_as_svgfile` writes labels as text, accepts a path that is a string, and replaces an existing file."""
    (tmp_path / "g.svg").write_text("x" * 10**6)
    scheduler.export_as_svgfile(str(tmp_path / "g.svg"), only="ä")
    assert texts((tmp_path / "g.svg").read_text(encoding="utf-8")) == ["ä"]


KINDS: list[Callable[..., AbstractJob[Any]]] = [
    AbstractJob,
    lambda **options: ThreadJob(print, **options),
    lambda **options: ProcessJob(print, **options),
    lambda **options: CommandJob(["true"], **options),
    lambda **options: SshJob(SshNode("node"), "true", **options),
]


@pytest.mark.parametrize("make", KINDS, ids=["plain", "thread", "process", "command", "ssh"])
@pytest.mark.parametrize("run_if", ["settled", "succeeded"])
def test_a_box_is_higher_than_the_text_of_its_label(make: Callable[..., Any], run_if: str, tmp_path: Path) -> None:
    """In a graph, the box of every kind of job is higher than its text: those of SSH jobs once cut through it."""
    first = AbstractJob(label="a")
    job = make(label="label", required=first, run_if=run_if)
    Scheduler(first, job).export_as_svgfile(tmp_path / "g.svg", only=["label"])
    tree = ElementTree.parse(tmp_path / "g.svg")
    (box,) = tree.iterfind(".//{*}g[@class='node']")
    outline = next(one for one in box.iter() if one.get("points") or one.get("d"))
    heights = [float(y) for y in re.findall(r",(-?[\d.]+)", outline.get("points") or outline.get("d") or "")]
    lines = [(float(text.get("y", 0)), float(text.get("font-size", 0))) for text in box.iterfind(".//{*}text")]
    assert len(lines) == (2 if run_if == "succeeded" else 1)
    assert min(heights) < min(y - 0.75 * size for y, size in lines)  # the height of a capital letter, and a little
    assert max(heights) > max(y for y, _ in lines)


def test_export_as_pngfile_writes_144_dots_per_inch(scheduler: Scheduler, tmp_path: Path) -> None:
    """`export_as_pngfile` writes two pixels for each point of the SVG file, which is 144 dots per inch."""
    scheduler.export_as_pngfile(tmp_path / "g.png")
    scheduler.export_as_svgfile(tmp_path / "g.svg")
    data = (tmp_path / "g.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    width = struct.unpack(">I", data[16:20])[0]
    points = int((tmp_path / "g.svg").read_text().partition('width="')[2].partition("pt")[0])
    assert abs(width - 2 * points) <= 4


def test_graph_returns_a_digraph_that_callers_can_change_and_render(scheduler: Scheduler) -> None:
    """`graph` returns a `graphviz.Digraph`, whose attributes callers can set and which they can render."""
    import graphviz

    graph = scheduler.graph()
    assert isinstance(graph, graphviz.Digraph)
    graph.attr("graph", label="title")
    assert texts(graph.pipe(format="svg", encoding="utf-8")) == ["title", "ä", "b"]  # type: ignore[call-arg]


@by_export
def test_image_exports_without_dot_raise_with_an_install_hint(
    export: Callable[..., None], scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `dot`, image exports raise an error that explains how to install it; the text formats do not need it."""
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
def test_image_exports_raise_if_dot_fails(
    export: Callable[..., None], scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If `dot` fails, an image export raises an error with its exit code and standard error, and writes no file."""
    program = tmp_path / "bin" / "dot"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ncat >/dev/null\necho no more memory >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    with pytest.raises(RuntimeError, match=r"dot exited with 3: no more memory"):
        export(scheduler, tmp_path / "g")
    assert not (tmp_path / "g").exists()


ALL: list[Any] = [*EXPORTS, Scheduler.export_as_dotfile, Scheduler.export_as_mermaid]


@pytest.mark.parametrize("export", ALL)
def test_exports_to_an_unwritable_path_raise_the_os_error(
    export: Callable[..., None], scheduler: Scheduler, tmp_path: Path
) -> None:
    """An export to a path that cannot be written raises the OSError of the system, which names the file."""
    with pytest.raises(FileNotFoundError, match="missing"):
        export(scheduler, tmp_path / "missing" / "g")
    with pytest.raises(OSError, match=r"/dev/full|No space left"):
        export(scheduler, "/dev/full")
