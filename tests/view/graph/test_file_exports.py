"""Pictures of graphs, as `dot` draws them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trioflow import AbstractJob, CommandJob, ProcessJob, Scheduler, SshJob, SshNode, ThreadJob
from trioflow.view import save

from .pictures import texts

KINDS: list[Callable[..., AbstractJob[Any]]] = [
    AbstractJob,
    lambda **options: ThreadJob(print, **options),
    lambda **options: ProcessJob(print, **options),
    lambda **options: CommandJob(["true"], **options),
    lambda **options: SshJob(SshNode("node"), "true", **options),
]


@pytest.mark.parametrize("make", KINDS, ids=["plain", "thread", "process", "command", "ssh"])
@pytest.mark.parametrize("run_if", ["succeeded", "settled"])
def test_a_box_is_higher_than_the_text_of_its_label(make: Callable[..., Any], run_if: str, tmp_path: Path) -> None:
    """In a graph, the box of every kind of job is higher than its text: those of SSH jobs once cut through it."""
    first = AbstractJob(label="a")
    job = make(label="label", required=first, run_if=run_if)
    save(Scheduler(first, job), tmp_path / "g.svg")
    tree = ElementTree.parse(tmp_path / "g.svg")
    box = tree.findall(".//{*}g[@class='node']")[-1]
    outline = next(one for one in box.iter() if one.get("points") or one.get("d"))
    heights = [float(y) for y in re.findall(r",(-?[\d.]+)", outline.get("points") or outline.get("d") or "")]
    lines = [(float(text.get("y", 0)), float(text.get("font-size", 0))) for text in box.iterfind(".//{*}text")]
    assert len(lines) == (2 if run_if == "settled" else 1)
    assert min(heights) < min(y - 0.75 * size for y, size in lines)  # the height of a capital letter, and a little
    assert max(heights) > max(y for y, _ in lines)


def test_graph_returns_a_digraph_that_callers_can_change_and_render() -> None:
    import graphviz

    graph = Scheduler(AbstractJob(label="ä")).graph()
    assert isinstance(graph, graphviz.Digraph)
    graph.attr("graph", label="title")
    assert texts(graph.pipe(format="svg", encoding="utf-8")) == ["title", "ä"]  # type: ignore[call-arg]
