"""Whole graphs of a rich run, for dot and as Mermaid: `graphs.txt` has each of them, as it must be."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from trioflow import CommandJob, Job, Scheduler
from trioflow.view.graph import _drawing
from trioflow.view.trace._trace import find_critical_path
from ...bodies import fail, idle, nap, nothing
from ...conftest import Virtual

GRAPHS = Path(__file__).with_name("graphs.txt")


def rich_run() -> Scheduler:
    """Return a run that shows each kind of box, frame, edge and state."""
    first = Job(nap, 2, label='a "q" & <b> \\')
    bad = Job(fail, 1, label="bad")
    after = Job(nap, 1, first, label="after")
    empty = Scheduler(label="empty")
    ill = Job(fail, 1, label="ill")
    deep = Scheduler(
        ill,
        Job(nothing, label="next", required=ill),
        Job(fail, 2, label="worse", critical=True),
        label="deep",
        critical=False,
    )
    group = Scheduler(
        [Job(nap, 1 + n, label=f"page {n}") for n in range(3)],
        deep,
        label="group",
        required=after,
    )
    repair = Job(nap, 1, label="repair", required=bad, run_if="failed")
    calm = Job(nothing, label="calm", required=first, run_if="failed")
    anyway = Job(nothing, label="anyway", required=[bad, after], run_if="settled")
    mixed = Job(nap, 1, first, label="mixed", required=empty)
    mixed.requires(bad, settled=True)
    long = Job(nap, 9, label="long", timeout=2, on_timeout="move_on")
    watch = Job(nap, 99, label="watch", forever=True, critical=True)
    last = Job(nap, 1, label="last", required=[group, mixed])
    return Scheduler(
        first, bad, after, empty, group, repair, calm, anyway, mixed, long, watch, last,
        Job(nap, 99, label="cut", required=last), label="all", timeout=9,
    )  # fmt: skip


def alike() -> Scheduler:
    """Return so many jobs that alike ones are folded, where they are of one level, state and kind."""
    first = idle("begin")
    pages = [idle(f"page {n}", required=first) for n in range(30)]
    later = [idle(f"page {n + 30}", required=pages[n]) for n in range(3)]
    odd: list[Any] = [
        idle("page 40", required=first, critical=True),
        idle("page 41", required=first, forever=True),
        idle("page 42", required=first, run_if="settled"),
        CommandJob(["true"], label="page 43", required=first),
    ]
    groups = [
        Scheduler(idle("x"), label=f"group {n}", required=later) for n in range(9)
    ]
    return Scheduler(first, pages, later, odd, groups, label="many")


def texts_of(scheduler: Scheduler, collapse: Any) -> Iterator[str]:
    """Yield the statements for dot, and the lines of Mermaid."""
    path = find_critical_path(scheduler)
    drawing = _drawing.Drawing(scheduler, collapse, path)
    yield f"---- {scheduler.label}, collapse={collapse}, {drawing.direction}"
    for part in _drawing.describe(drawing):
        words = [f"{key}={value}" for key, value in part.dot_attributes().items()]
        yield " ".join([part.kind, *map(repr, part.names), *words]).rstrip()
    yield _drawing.mermaid(scheduler, path, collapse)


def test_whole_graphs_are_as_they_must_be(virtual: Virtual) -> None:
    scheduler = rich_run()
    shown = [*texts_of(scheduler, False)]
    virtual(scheduler.co_run)
    for collapse in (False, True, "*deep"):
        shown += texts_of(scheduler, collapse)
    for part in scheduler:
        if isinstance(part, Scheduler):
            shown += texts_of(part, False)
    shown += texts_of(alike(), True)
    assert "\n".join(shown) == GRAPHS.read_text(encoding="utf-8")
