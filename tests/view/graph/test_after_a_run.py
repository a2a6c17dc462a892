"""Graphs after a run: durations, the critical path, failures in collapsed schedulers, and the layout."""

import itertools
import re
import struct
from pathlib import Path
from typing import Any

from trioflow import Job, Pool, Scheduler
from trioflow.view import save
from trioflow.view.graph import _dot, _drawing
from trioflow.view.graph._drawing import Drawing
from trioflow.view.trace._trace_record import TOO_MANY_NOTE, GraphDescription, describe_graph
from trioflow.view.trace.report import _report
from ...bodies import fail, idle, nap
from ...conftest import Virtual
from .pictures import dot, mermaid, seen


def run_virtually(virtual: Virtual, *jobs: Any, **options: Any) -> Scheduler:
    scheduler = Scheduler(*jobs, label="all", **options)
    virtual(scheduler.co_run)
    return scheduler


def label_of(box: str) -> str:
    return box.partition("|")[0]


def test_boxes_show_durations_after_a_run(virtual: Virtual) -> None:
    jobs = [Job(nap, seconds, label=f"j {seconds}") for seconds in (2, 5)]
    inner = Scheduler(Job(nap, 90, label="x"), label="inner")
    scheduler = Scheduler(jobs, inner, Job(nap, 999, label="forever", forever=True))
    assert not any("|" in box for box in seen(scheduler.graph()).boxes)
    virtual(scheduler.co_run)
    found = seen(scheduler.graph())
    assert {"j 2|2 s", "j 5|5 s", "x|1 min 30 s"} <= {*found.boxes}
    assert {*found.frames} == {"inner|1 min 30 s"}
    assert [box for box in found.boxes if "forever" in box and "min" in box] == []


def test_a_collapsed_scheduler_shows_the_number_of_its_blocked_jobs(virtual: Virtual) -> None:
    bad = Job(fail, label="bad")
    inner = Scheduler(Job(nap, 0, bad, label="a"), Job(nap, label="b"), label="inner")
    scheduler = run_virtually(virtual, bad, inner)
    assert "✗ inner|2 jobs|1 blocked|1 s" in seen(scheduler.graph(collapse=True)).boxes
    assert "1 blocked" in mermaid(scheduler, collapse=True)


def test_double_borders_and_colored_lines_mark_the_critical_path(virtual: Virtual) -> None:
    """The boxes and lines of the critical path are marked, also inside frames and across waits for resources."""
    first, beside = Job(nap, 1, label="first"), Job(nap, 2, label="beside")
    models = [Job(nap, 5 - n, label=f"m{n}", required=first, needs={"gpu": 1}) for n in range(2)]
    inner = Scheduler(models, Job(nap, 1, label="sum", required=models), label="inner", required=first)
    last = Job(nap, 1, label="last", required=[inner, beside])
    scheduler = Scheduler(first, beside, inner, last, label="all", pool=Pool(gpu=1))
    for job in models:
        job.requires(first, remove=True)
    virtual(scheduler.co_run)
    found = seen(scheduler.graph())
    double = {label_of(box) for box, how in found.boxes.items() if how.get("peripheries") == "2"}
    assert double == {"first", "m0", "m1", "sum", "last"}
    marked = {
        (label_of(tail), label_of(head))
        for (tail, head), how in found.lines.items()
        if how["color"] == _drawing.CRITICAL_PATH_COLOR
    }
    assert marked == {("first", "inner"), ("m1", "sum"), ("inner", "last")}
    assert "linkStyle" in mermaid(scheduler)


def test_a_collapsed_scheduler_with_a_failed_job_has_a_red_border(virtual: Virtual) -> None:
    """A collapsed scheduler with a failed job is a pale box with a red border, unless it succeeded in spite of it."""
    broken = Scheduler(Job(fail, 1, OSError("x"), label="x"), Job(nap, 3, label="y"), label="broken")
    fine = Scheduler(Job(fail, 1, OSError("x"), label="x", critical=False), label="fine")
    scheduler = run_virtually(virtual, broken, fine, timeout=2)
    boxes = seen(scheduler.graph(collapse=True)).boxes
    colors = {label_of(box): (how["fillcolor"], how["color"]) for box, how in boxes.items()}
    assert colors == {"⊘ broken": ("#fdf0ee", "#b3261e"), "fine": ("#c9e7d2", "#2f7d52")}
    assert all("1 failed" in box for box in boxes)
    assert "fill:#fdf0ee,stroke:#b3261e" in mermaid(scheduler, collapse=True)


def test_members_of_a_frame_are_drawn_in_their_order() -> None:
    """The jobs of a frame are drawn in their order, from left to right or from top to bottom."""
    directions: list[tuple[_dot.Direction, int, int]] = [("TB", 2, 1), ("LR", 3, -1)]
    for direction, place, sign in directions:
        members = [idle(f"m{n}") for n in range(6)]
        frame = Scheduler(members, idle("end", required=members), label="frame")
        after = Scheduler([idle(f"n{n}") for n in range(4)], label="next", required=frame)
        drawing = Drawing(Scheduler(frame, after), False, {})
        drawing.direction = direction
        graph = _dot.digraph_of(_drawing.describe(drawing), direction)
        rows = [line.split() for line in dot(graph.source, "plain").splitlines() if line.startswith("node")]
        for letter in "mn":
            found = sorted((sign * float(row[place]), row[6]) for row in rows if row[6].startswith(letter))
            assert [label for _, label in found] == sorted(label for _, label in found)


def test_groups_of_jobs_without_arrows_are_grids(tmp_path: Path) -> None:
    """Four groups of eight were once a column of 32 boxes, because eight in a row made the picture too wide."""
    groups = [Scheduler([idle(f"{group}{number}") for number in range(8)], label=group) for group in "abcd"]
    save(Scheduler(groups), tmp_path / "x.svg")
    found = re.search(r'<svg width="(\d+)pt" height="(\d+)pt"', (tmp_path / "x.svg").read_text())
    assert found is not None
    assert int(found[1]) > int(found[2])


def test_large_graphs_go_from_left_to_right() -> None:
    few, many = (Scheduler([idle(f"a{n}") for n in range(number)]) for number in (40, 41))
    assert "rankdir=TB" in few.graph().source
    assert "rankdir=LR" in many.graph().source
    assert mermaid(many).startswith("flowchart LR")


def test_a_picture_that_is_too_wide_goes_from_left_to_right(tmp_path: Path) -> None:
    """A small graph whose boxes would stand in a row wider than a page stands in a column if that is narrower."""
    first = idle("first")
    row = [idle(f"a long label of job {number}", required=first) for number in range(30)]
    save(Scheduler(first, row, idle("last", required=row)), tmp_path / "x.svg")
    found = re.search(r'<svg width="(\d+)pt" height="(\d+)pt"', (tmp_path / "x.svg").read_text())
    assert found is not None
    assert int(found[1]) < int(found[2])


def test_a_long_chain_goes_from_top_to_bottom(tmp_path: Path) -> None:
    """A chain of 500 jobs was 43,776 points wide, and 47 high, since large graphs go from left to right."""
    jobs = [idle(f"job {number}") for number in range(60)]
    for before, after in itertools.pairwise(jobs):
        after.requires(before)
    chain = Scheduler(jobs)
    for suffix in ("svg", "png"):
        save(chain, tmp_path / f"x.{suffix}")
    found = re.search(r'<svg width="(\d+)pt" height="(\d+)pt"', (tmp_path / "x.svg").read_text())
    assert found is not None
    assert int(found[1]) < int(found[2])
    width, height = struct.unpack(">II", (tmp_path / "x.png").read_bytes()[16:24])
    assert width < height


def test_an_svg_has_no_background_and_no_tooltip_on_it(tmp_path: Path) -> None:
    """An SVG file of a graph has neither a background nor a tooltip on it: the page behind it is seen."""
    save(Scheduler(idle("a")), tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text()
    assert "<title>%3" not in text
    assert "<polygon" not in text  # which dot makes of the background of a page
    assert "<style" not in text


def test_a_report_reduces_a_large_graph_to_a_readable_number_of_boxes(virtual: Virtual) -> None:
    """A report collapses 20 groups into 20 boxes, shows a small graph whole, and none of more than 300 boxes."""
    groups = [
        Scheduler(*[Job(nap, 1, label=f"{'abc'[n % 3] * (n + 1)} {g}") for n in range(25)], label=f"group {g}")
        for g in range(20)
    ]
    many = run_virtually(virtual, groups, Job(nap, 1, label="last", required=groups))
    flat = run_virtually(virtual, [Job(nap, 1, label=f"j {n}") for n in range(301)])
    few = run_virtually(virtual, Scheduler([Job(nap, 1, label=f"j {n}") for n in range(30)], label="inner"))
    assert describe_graph(flat, {}) == GraphDescription(notes=(TOO_MANY_NOTE,))
    assert sum(bool(statement.tooltip) for statement in describe_graph(few, {}).statements) == 31
    svg, notes = _report.draw_graph(describe_graph(many, {}))
    assert notes[-1].endswith("Each group is one box.")
    assert svg.count('class="node"') == 21


def test_a_forever_job_that_ended_with_a_completed_run_has_no_failure_symbol(virtual: Virtual) -> None:
    for critical, symbol in (False, ""), (True, "⊘"):
        forever, job = Job(nap, 99, forever=True, label="watch"), Job(fail, 1, critical=critical)
        scheduler = Scheduler(forever, job)
        virtual(scheduler.co_run)
        assert _drawing.caption(forever)[0] == f"{symbol} watch".lstrip()
