"""`graph`: the drawing, parsed as `dot` lays it out."""

import inspect
import itertools
import json
import re
import struct
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow
from hypothesis import given, settings
from hypothesis import strategies as st
from trioflow import (
    AbstractJob,
    CommandJob,
    Job,
    JobState,
    Pool,
    Scheduler,
    Service,
    SshJob,
    SshNode,
    ThreadJob,
)
from trioflow.abc import BoxStyle
from trioflow.compat.asynciojobs import Scheduler as OlderScheduler
from trioflow.graph import topological_order
from trioflow.view import listing, save
from trioflow.view._state_styles import STATE_STYLES
from trioflow.view.graph import _dot, _drawing
from trioflow.view.graph._drawing import Drawing, EdgeKind
from trioflow.view.trace._trace_record import (
    TOO_MANY_NOTE,
    GraphDescription,
    describe_graph,
)
from trioflow.view.trace.report import _report
from ...bodies import Counting, fail, fail_now, give_now, idle, nap, serve, take
from ...conftest import Virtual
from ...transitions import lead_to
from .pictures import dot, escape, mermaid, seen, texts

REMARK = (
    _dot.EDGE_REMARK.format(_drawing.IF_SETTLED).removeprefix("<").removesuffix(">")
)


# --- boxes
@pytest.mark.parametrize("state", JobState)
def test_boxes_and_frames_show_state_critical_and_forever(state: JobState) -> None:
    """Boxes and frames show state by colour and symbol, critical by "!" and a thick line, forever by a dashed line."""
    scheduler, look = Scheduler(), STATE_STYLES[state]
    pairs = [*itertools.product((False, True), (False, True))]
    for critical, forever in pairs:
        options: Any = {"critical": critical, "forever": forever}
        nested = Scheduler(
            idle("inside"), label=f"nested {critical} {forever}", **options
        )
        job = idle(f"job {critical} {forever}", **options)
        lead_to(state, nested)
        lead_to(state, job)
        scheduler.update([job, nested])
    found = seen(scheduler.graph())
    for (critical, forever), (name, fill, parts) in itertools.product(
        pairs,
        (
            ("job", look.colors.fill, found.boxes),
            ("nested", look.colors.frame, found.frames),
        ),
    ):
        part = parts[
            f"{'!' * critical}{look.box_symbol} {name} {critical} {forever}".strip()
        ]
        assert part["fillcolor"] == fill
        assert part["penwidth"] == ("2.6" if critical else "1")
        assert ("dashed" in part["style"]) == forever
        assert part["color"] == look.colors.outline


def test_a_frame_shows_the_failures_of_its_jobs() -> None:
    """A frame around a failed job has a red border and the number of failures, even if its scheduler did not fail."""
    deep = Scheduler(Job(fail_now, OSError("broken"), label="bad"), label="deep")
    scheduler = Scheduler(
        Scheduler(deep, label="outer"), Scheduler(idle("unharmed"), label="other")
    )
    lead_to(JobState.FAILED, next(iter(deep)))
    frames = seen(scheduler.graph()).frames
    red = STATE_STYLES[JobState.FAILED].colors.fill
    assert {label: frame["color"] == red for label, frame in frames.items()} == {
        "outer|1 failed": True, "deep|1 failed": True, "other": False,
    }  # fmt: skip
    assert "1 failed" in mermaid(scheduler)
    assert f"style n1 stroke:{red}" in mermaid(scheduler)


def test_states_are_distinguishable_in_grey() -> None:
    """Even in grey, each state of a job has a unique symbol or a unique lightness, and readable text."""

    def lightness(colour: str) -> float:
        red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
        return (0.299 * red + 0.587 * green + 0.114 * blue) / 255

    symbols = [look.box_symbol for look in STATE_STYLES.values() if look.box_symbol]
    assert len(symbols) == len(set(symbols)) == len(STATE_STYLES) - 2
    plain = sorted(
        lightness(look.colors.fill)
        for look in STATE_STYLES.values()
        if not look.box_symbol
    )
    assert plain[1] - plain[0] > 0.1
    for look in STATE_STYLES.values():
        assert abs(lightness(look.colors.fill) - lightness(look.colors.text)) > 0.5


def test_the_kind_of_a_job_sets_the_shape_of_its_box() -> None:
    class CommandJob(AbstractJob[Any]):
        pass

    class Errand(ThreadJob[Any]):
        pass

    jobs = [
        Job(take, label="async"),
        Errand(print, label="thread"),
        Service(serve, label="service"),
    ]
    boxes = seen(
        Scheduler(jobs, CommandJob(label="own"), Scheduler(label="folded")).graph(
            collapse=True
        )
    ).boxes
    shapes = {
        label: (box.get("shape", "box"), box.get("style"))
        for label, box in boxes.items()
    }
    assert shapes == {
        "async": ("box", "rounded,filled"), "thread": ("box", "filled"), "service": ("hexagon", "filled,dashed"),
        "own": ("box", "rounded,filled"), "folded|0 jobs": ("folder", "filled"),
    }  # fmt: skip


def test_a_class_sets_the_box_style_of_its_kind() -> None:
    """The class option `box=` sets the shape of a new kind of job in graph and Mermaid text."""

    class Errand(AbstractJob[Any], box=BoxStyle("errand", "star", (">", "]"))):
        pass

    scheduler = Scheduler(
        idle("plain"), Errand(label="run"), ThreadJob(print, label="thread")
    )
    assert seen(scheduler.graph()).boxes["run"]["shape"] == "star"
    assert '>"run"]' in mermaid(scheduler)


def test_boxes_and_frames_have_the_numbers_of_the_listing_as_names() -> None:
    a = idle("a")
    scheduler = Scheduler(idle("c", required=a), Scheduler(idle("in"), label="s"), a)
    numbers = {
        line.partition(" <")[2].partition(" ")[2].partition(">")[0]: line.split()[0]
        for line in listing(scheduler).splitlines()
    }
    found = seen(scheduler.graph())
    assert {label: box["name"] for label, box in found.boxes.items()} == {
        n: numbers[n] for n in ("a", "c", "in")
    }
    assert found.frames["s"]["name"] == f"cluster {numbers['s']}"


# --- labels


FITS = 60
"""Characters of a label that has room in its four lines of 32 wherever it is broken: two lines hold at least 32."""


def fitting(label: str) -> str:
    """Return the longest start of a label that is shown whole: an unprintable character takes up to ten columns."""
    return next(
        start
        for end in range(len(label), -1, -1)
        if len(escape(start := label[:end])) <= FITS
    )


@given(st.lists(st.text(max_size=40).map(fitting), min_size=1, max_size=10))
def test_any_label_is_shown_literally(labels: list[str]) -> None:
    """A graph shows any label literally: quotes, backslashes, entities, HTML and control characters. The labels are
    short enough to be shown whole. With up to 40 characters, one in 25 seeds had so many unprintable ones that its
    label took 99 columns, did not fit into four lines, and was rightly cut."""
    jobs = [
        idle(f"x{label}x", run_if=rule)
        for label, rule in zip(
            labels, itertools.cycle(["succeeded", "failed"]), strict=False
        )
    ]
    scheduler = Scheduler(jobs, [Scheduler(label=f"s{label}s") for label in labels])
    shown = [
        text
        for text in texts(dot(scheduler.graph().source, "svg"))
        if text not in ("(empty)", "if failed")
    ]
    assert letters(shown) == letters(escape(job.label) for job in scheduler)


def letters(texts: Iterable[str]) -> list[str]:
    """Return all characters except blanks, at which labels break, in no order."""
    return sorted("".join("".join(texts).split()))


LABELS = (
    '"', '\\"', "\\", "\\N", "\\n", "\\\\", "&amp;", "&#65;", "<b>x</b>", "<", ">", "<>", "a\nb", "\x1b[2J", "", " ",
     "{a|b}", "\\l", "node", "漢字", "👍🏽", "e\u0301", "\ud800", "--", "->", "%", "$(x)", "]];", "/* x */", "# x",
)  # fmt: skip


def test_labels_with_syntax_of_dot_or_html_are_shown_literally() -> None:
    jobs = {label: idle(label) for label in LABELS}
    others = [
        (idle(label, run_if="failed"), Scheduler(idle("in"), label=label))
        for label in LABELS
    ]
    svg = dot(Scheduler(jobs.values(), others).graph().source, "svg")
    counts, told = Counter(text.strip() for text in texts(svg)), titles(svg)
    for label, job in jobs.items():
        if shown := escape(label).strip():
            assert counts[shown] == 3, label
            assert f"AbstractJob: {escape(job.path)} (idle)" in told


def titles(svg: str) -> set[str]:
    name = "{http://www.w3.org/1999/xlink}title"
    return {
        one.attrib[name]
        for one in ElementTree.fromstring(svg).iter()
        if name in one.attrib
    }


def test_long_labels_are_wrapped_and_truncated() -> None:
    """In a graph, a long label is wrapped and cut to four lines; the tooltip has the whole label."""
    label = " ".join(f"word{n}" for n in range(100))
    svg = dot(Scheduler(idle(label)).graph().source, "svg")
    lines = texts(svg)
    assert len(lines) == 4
    assert lines[-1].endswith(" …")
    assert all(len(line) <= 34 for line in lines)
    assert f"AbstractJob: {label} (idle)" in titles(svg)


def test_the_lines_of_a_frames_title_begin_at_its_left_edge() -> None:
    frame = Scheduler(idle("job"), label="a title that is too long for a single line")
    svg = dot(Scheduler(frame).graph().source, "svg")
    lines = [
        one
        for one in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
        if one.text != "job"
    ]
    assert len(lines) == 2
    assert len({(line.attrib["x"], line.attrib["text-anchor"]) for line in lines}) == 1
    assert lines[0].attrib["text-anchor"] == "start"


# --- lines
def test_lines_distinguish_order_data_and_alarms() -> None:
    """In a graph, lines of data are thick and begin with a dot; lines to jobs that run after a failure are dashed."""
    source = Job(take, label="source")
    reader = Job(take, source, label="reader", required=idle("before"))
    scheduler = Scheduler(
        source, reader.required, reader, idle("alarm", required=reader, run_if="failed")
    )
    lines = seen(scheduler.graph()).lines
    assert {
        ends: (line.get("penwidth"), line.get("arrowtail"), line.get("style"))
        for ends, line in lines.items()
    } == {
        ("source", "reader"): ("1.8", "dot", None),
        ("before", "reader"): ("1", None, None),
        ("reader", "alarm|if failed"): ("1", None, "dashed"),
    }


def test_lines_say_which_requirements_must_succeed() -> None:
    """In a graph, in Mermaid and in the listing, a requirement with `settled=True` once looked like any other."""
    other, must, source = idle("other"), idle("must"), Job(take, label="source")
    reader = Job(take, source, label="reader", required=[other]).requires(
        must, settled=True
    )
    scheduler = Scheduler(
        other,
        must,
        source,
        reader,
        idle("alarm", run_if="failed").requires(reader, settled=True),
    )
    labels = {
        ends: line.get("label") for ends, line in seen(scheduler.graph()).lines.items()
    }
    assert labels == {
        ("other", "reader"): "", ("must", "reader"): REMARK, ("source", "reader"): "",
        ("reader", "alarm|if failed"): REMARK,
    }  # fmt: skip
    lines = re.findall(r"n\d [-=.]+>.*", mermaid(scheduler))
    assert set(lines) == {
        "n1 --> n4",
        "n2 -->|if settled| n4",
        "n3 ==> n4",
        "n4 -.->|if settled| n5",
    }
    assert "requires={1-3} settled={2}" in listing(scheduler)


def test_lines_end_at_the_borders_of_frames() -> None:
    first = idle("first")
    many = Scheduler([idle(f"m{n}") for n in range(9)], label="many", required=first)
    inner = Scheduler(idle("i"), label="inner")
    one = Scheduler(inner, label="one", required=many)
    empty = Scheduler(label="empty", required=[one, first])
    last = idle("last", required=empty)
    found = seen(Scheduler(first, many, one, empty, last).graph())
    assert set(found.lines) == {
        ("first", "many"), ("many", "one"), ("one", "empty"), ("first", "empty"), ("empty", "last")
    }  # fmt: skip
    assert found.inside == {
        "many": {f"m{n}" for n in range(9)}, "one": {"i"}, "inner": {"i"}, "empty": {"(empty)"}
    }  # fmt: skip


def test_an_input_in_another_scheduler_has_a_line_from_box_to_box() -> None:
    """A line for data from a job in another scheduler leads from box to box, across the borders of frames."""
    outer, x = Job(take, label="outer"), Job(take, label="x")
    scheduler = Scheduler(outer, Scheduler(x, label="a"))
    y = Job(take, x, outer, label="y")
    scheduler.add(Scheduler(Scheduler(y, label="deep"), label="b"))
    scheduler.add(Job(take, y, label="z"))
    lines = seen(scheduler.graph()).lines
    assert set(lines) == {("x", "y"), ("outer", "y"), ("y", "z")}
    assert {line["arrowtail"] for line in lines.values()} == {"dot"}


def test_a_requirement_outside_the_drawing_has_a_question_mark() -> None:
    """Requirements outside the drawn scheduler, or in no scheduler at all, are dotted boxes with a question mark."""
    outer = Job(take, label="outer")
    scheduler = Scheduler(outer)
    inner = scheduler.add(
        Scheduler(Job(take, outer, label="in", required=idle("stray")), label="inner")
    )
    found = seen(inner.graph())
    assert set(found.lines) == {("? outer", "in"), ("? stray", "in")}
    assert "dotted" in found.boxes["? outer"]["style"]


def test_cycles_and_impossible_requirements_are_drawn() -> None:
    """A scenario that cannot run, for example because of a cycle, is still drawn, so that the user sees why."""
    a, b = idle("a"), idle("b")
    a.requires(b.requires(a))
    around = Scheduler(a, b, label="around")
    a.requires(around)
    around.requires(b)
    assert set(seen(Scheduler(around).graph()).lines) == {("a", "b"), ("b", "a")}


def positions(graph: Any) -> tuple[dict[str, float], dict[str, set[str]]]:
    """Return how far down each box is, and the members of each frame. The graph is drawn without lines: for about one
    of 5,000 graphs `dot` cannot route some of them and prints a warning, which moves no box."""
    read = json.loads(dot(graph.source, "json", "-Gsplines=none"))
    objects = read["objects"]
    rows = {
        one["name"]: float(one["pos"].split(",")[1]) for one in objects if "pos" in one
    }
    frames = {
        one["name"].removeprefix("cluster "): {
            objects[n]["name"] for n in one.get("nodes", [])
        }
        for one in objects
        if one["name"].startswith("cluster")
    }
    return rows, frames


@settings(max_examples=5, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_job_is_drawn_below_its_requirements(random: Any) -> None:
    """In a graph, every requirement is above the jobs that require it, at any depth of nesting. Without `newrank`, one
    in about fifty such graphs had a frame beside another that required it."""

    def members(depth: int) -> list[AbstractJob[Any]]:
        made: list[AbstractJob[Any]] = []
        for _ in range(random.randint(0 if depth else 2, 7)):
            required = random.sample(made, min(len(made), random.randint(0, 2)))
            if depth < 3 and random.random() < 0.4:
                made.append(Scheduler(members(depth + 1), required=required))
            else:
                made.append(AbstractJob(required=required))
        return made

    scheduler = Scheduler(members(0))
    drawing = Drawing(scheduler, False, {})
    drawing.direction = "TB"
    rows, frames = positions(_dot.digraph_of(_drawing.describe(drawing), "TB"))
    numbers = dict(zip(_in_listing_order(scheduler), itertools.count(1), strict=False))
    width = len(str(len(numbers)))

    def boxes(job: AbstractJob[Any]) -> set[str]:
        name = f"{numbers[job]:0{width}}"
        return frames.get(name, {name})

    for job in numbers:
        for one in job.required:
            assert min(rows[name] for name in boxes(one)) > max(
                rows[name] for name in boxes(job)
            )


def _in_listing_order(scheduler: Scheduler) -> list[AbstractJob[Any]]:
    found: list[AbstractJob[Any]] = []
    for job in topological_order(scheduler):
        found.append(job)
        if isinstance(job, Scheduler):
            found += _in_listing_order(job)
    return found


# --- cost
@pytest.mark.parametrize("options", [{}, {"collapse": True}], ids=str)
def test_the_cost_of_a_graph_is_linear_in_the_number_of_jobs(options: Any) -> None:
    """Each further hundred jobs costs a graph as many reads of requirements and statements as the hundred before."""

    def cost(size: int) -> tuple[int, int]:
        jobs = [Counting(label=f"{n:03}") for n in range(size)]
        for job, before in itertools.pairwise(jobs):
            job.requires(before)
        start = next(Counting.looks)
        lines = len(Scheduler(jobs).graph(**options).body)
        return next(Counting.looks) - start, lines

    (reads1, lines1), (reads2, lines2), (reads3, lines3) = (
        cost(100),
        cost(200),
        cost(300),
    )
    assert reads3 - reads2 == reads2 - reads1 > 0
    assert lines3 - lines2 == lines2 - lines1


def test_a_frame_with_hundreds_of_requirements_has_one_line_for_each() -> None:
    before = [idle(f"a{n}") for n in range(200)]
    middle = Scheduler(
        [idle(f"m{n}") for n in range(200)], label="middle", required=before
    )
    source = (
        Scheduler(before, middle, [idle(f"b{n}", required=middle) for n in range(200)])
        .graph()
        .source
    )
    lines = [line for line in source.splitlines() if " -> " in line]
    assert sum("style=invis" not in line for line in lines) == 400
    assert len(lines) < 1000
    assert (
        source.count('lhead="cluster 201"')
        == source.count('ltail="cluster 201"')
        == 200
    )


def test_graph_supports_any_depth_of_nesting() -> None:
    """A graph may be nested to any depth, since frames are written without recursion."""
    scheduler = Scheduler(idle("deepest"))
    for _ in range(120):
        scheduler = Scheduler(scheduler)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        source = scheduler.graph().source
    finally:
        sys.setrecursionlimit(limit)
    assert source.count("subgraph") == 120


# --- `collapse` makes large graphs small
def drawn(
    scheduler: Scheduler, **options: Any
) -> tuple[set[str], set[tuple[str, str]]]:
    """Return the labels of the boxes, and the lines between labels."""
    found = seen(scheduler.graph(**options))
    return set(found.boxes), set(found.lines)


def test_collapse_true_draws_each_scheduler_as_a_box() -> None:
    source = Job(take, label="source")
    scheduler = Scheduler(source)
    deep = Scheduler(Job(take, source, label="reader"), label="deep")
    scheduler.add(Scheduler(deep, idle("beside"), label="outer"))
    assert drawn(scheduler, collapse=True) == (
        {"source", "outer|3 jobs"},
        {("source", "outer|3 jobs")},
    )


@pytest.mark.parametrize(
    "kinds", [*itertools.permutations(EdgeKind, 2), *itertools.permutations(EdgeKind)]
)
def test_of_several_requirements_between_two_boxes_the_line_shows_the_kind_defined_first(
    kinds: tuple[EdgeKind, ...],
) -> None:
    first, second = Scheduler(), Scheduler()
    for kind in kinds:
        source = first.add(Job(take))
        user = second.add(Job(take, *[source] * (kind is EdgeKind.DATA)))
        if kind is not EdgeKind.DATA:
            user.requires(source, settled=kind is EdgeKind.SETTLED)
    found = Drawing(Scheduler(first, second), True, {}).edges
    assert found == {(first, second): min(kinds, key=[*EdgeKind].index)}


def test_collapse_selects_schedulers_by_object_or_path() -> None:
    """`collapse` selects schedulers by object or path; plain jobs that a pattern also matches stay as they are."""
    inner = Scheduler(idle("x"), label="inner")
    outer = Scheduler(inner, idle("y"), label="outer")
    scheduler = Scheduler(outer)
    assert drawn(scheduler, collapse=inner)[0] == {"inner|1 job", "y"}
    assert drawn(scheduler, collapse="outer/*")[0] == {"inner|1 job", "y"}
    assert drawn(scheduler, collapse=[])[0] == {"x", "y"}


def test_patterns_match_full_paths_if_a_nested_scheduler_is_drawn_alone() -> None:
    x = Scheduler(idle("y"), label="x")
    inner = Scheduler(x, label="inner")
    Scheduler(inner)
    assert drawn(inner, collapse=x.path)[0] == {"x|1 job"}


def test_brackets_in_a_pattern_match_literally() -> None:
    assert drawn(Scheduler(Scheduler(idle("x"), label="c[1]")), collapse="c[*")[0] == {
        "c[1]|1 job"
    }
    with pytest.raises(ValueError, match="no job of"):
        Scheduler(idle("a")).graph(collapse="[abc]")


def test_collapse_raises_on_unknown_jobs_and_patterns() -> None:
    """`collapse` rejects patterns without a match, jobs outside the scheduler, and objects of other types."""
    scheduler = Scheduler(idle("fetch"), idle("parse"), label="s")
    with pytest.raises(
        ValueError,
        match=r"collapse='fetsch': no job of 's' has a path like this; .* 'fetch'\?",
    ):
        scheduler.graph(collapse="fetsch")
    with pytest.raises(
        ValueError, match=r"collapse='z\*': no job of 's' has a path like this$"
    ):
        scheduler.graph(collapse=["fetch", "z*"])
    with pytest.raises(ValueError, match="collapse: 'stray' is neither in 's'"):
        scheduler.graph(collapse=idle("stray"))
    for wrong in (7, [7]):
        with pytest.raises(TypeError, match="collapse=7: give jobs, or strings"):
            scheduler.graph(collapse=wrong)  # type: ignore[arg-type]


# --- pictures of graphs, as `dot` draws them

KINDS: list[Callable[..., AbstractJob[Any]]] = [
    AbstractJob, lambda **options: ThreadJob(print, **options), lambda **options: trioflow.ProcessJob(print, **options),
    lambda **options: CommandJob(["true"], **options), lambda **options: SshJob(SshNode("node"), "true", **options),
]  # fmt: skip


def test_a_box_is_higher_than_the_text_of_its_label(tmp_path: Path) -> None:
    """In a graph, the box of every kind of job is higher than its text: those of SSH jobs once cut through it."""
    first = AbstractJob(label="a")
    rules: Any = ("succeeded", "settled")
    jobs = [make(required=first, run_if=rule) for make in KINDS for rule in rules]
    for number, job in enumerate(jobs):
        job.label = f"label {number}"
    save(Scheduler(first, jobs), tmp_path / "g.svg")
    tree = ElementTree.parse(tmp_path / "g.svg")
    boxes = tree.findall(".//{*}g[@class='node']")
    assert len(boxes) == 1 + len(jobs)
    line_counts = set[int]()
    for box in boxes[1:]:
        outline = next(one for one in box.iter() if one.get("points") or one.get("d"))
        points = outline.get("points") or outline.get("d") or ""
        heights = [float(y) for y in re.findall(r",(-?[\d.]+)", points)]
        lines = [
            (float(text.get("y", 0)), float(text.get("font-size", 0)))
            for text in box.iterfind(".//{*}text")
        ]
        # The height of a capital letter, and a little.
        assert min(heights) < min(y - 0.75 * size for y, size in lines)
        assert max(heights) > max(y for y, _ in lines)
        line_counts.add(len(lines))
    assert line_counts == {1, 2}


def test_graph_returns_a_digraph_that_callers_can_change_and_render() -> None:
    import graphviz

    graph = Scheduler(AbstractJob(label="ä")).graph()
    assert isinstance(graph, graphviz.Digraph)
    graph.attr("graph", label="title")
    assert texts(graph.pipe(format="svg", encoding="utf-8")) == ["title", "ä"]  # type: ignore[call-arg]


# --- graphs after a run: durations, the critical path, failures in collapsed schedulers, and the layout
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


def test_a_collapsed_scheduler_says_what_blocked_its_jobs(virtual: Virtual) -> None:
    bad = Job(fail, label="bad")
    inner = Scheduler(Job(nap, 0, bad, label="a"), Job(nap, label="b"), label="inner")
    scheduler = run_virtually(virtual, bad, inner)
    boxes = seen(scheduler.graph(collapse=True)).boxes
    assert "⊗ inner|2 jobs|1 blocked: bad failed|1 s" in boxes, (
        "the failure is not in it"
    )
    assert "1 blocked" in mermaid(scheduler, collapse=True)


def test_double_borders_and_colored_lines_mark_the_critical_path(
    virtual: Virtual,
) -> None:
    """The boxes and lines of the critical path are marked, also inside frames and across waits for resources."""
    first, beside = Job(nap, 1, label="first"), Job(nap, 2, label="beside")
    models = [
        Job(nap, 5 - n, label=f"m{n}", required=first, needs={"gpu": 1})
        for n in range(2)
    ]
    inner = Scheduler(
        models, Job(nap, 1, label="sum", required=models), label="inner", required=first
    )
    last = Job(nap, 1, label="last", required=[inner, beside])
    scheduler = Scheduler(first, beside, inner, last, label="all", pool=Pool(gpu=1))
    for job in models:
        job.requires(first, remove=True)
    virtual(scheduler.co_run)
    found = seen(scheduler.graph())
    double = {
        label_of(box)
        for box, how in found.boxes.items()
        if how.get("peripheries") == "2"
    }
    assert double == {"first", "m0", "m1", "sum", "last"}
    marked = {
        (label_of(tail), label_of(head))
        for (tail, head), how in found.lines.items()
        if how["color"] == _drawing.CRITICAL_PATH_COLOR
    }
    assert marked == {("first", "inner"), ("m1", "sum"), ("inner", "last")}
    assert "linkStyle" in mermaid(scheduler)


def test_a_collapsed_scheduler_with_a_failed_job_has_a_red_border(
    virtual: Virtual,
) -> None:
    """A collapsed scheduler with a failed job is a pale box with a red border, unless it succeeded in spite of it."""
    broken = Scheduler(
        Job(fail, 1, OSError("x"), label="x"), Job(nap, 3, label="y"), label="broken"
    )
    fine = Scheduler(
        Job(fail, 1, OSError("x"), label="x", critical=False), label="fine"
    )
    scheduler = run_virtually(virtual, broken, fine, timeout=2)
    boxes = seen(scheduler.graph(collapse=True)).boxes
    colors = {
        label_of(box): (how["fillcolor"], how["color"]) for box, how in boxes.items()
    }
    assert colors == {
        "⊘ broken": ("#fdf0ee", "#b3261e"),
        "fine": ("#c9e7d2", "#2f7d52"),
    }
    assert all("1 failed: x" in box for box in boxes)
    assert "fill:#fdf0ee,stroke:#b3261e" in mermaid(scheduler, collapse=True)


def test_members_of_a_frame_are_drawn_in_their_order() -> None:
    """The jobs of a frame are drawn in their order, from left to right or from top to bottom."""
    directions: list[tuple[_dot.Direction, int, int]] = [("TB", 2, 1), ("LR", 3, -1)]
    for direction, place, sign in directions:
        members = [idle(f"m{n}") for n in range(6)]
        frame = Scheduler(members, idle("end", required=members), label="frame")
        after = Scheduler(
            [idle(f"n{n}") for n in range(4)], label="next", required=frame
        )
        drawing = Drawing(Scheduler(frame, after), False, {})
        drawing.direction = direction
        graph = _dot.digraph_of(_drawing.describe(drawing), direction)
        rows = [
            line.split()
            for line in dot(graph.source, "plain").splitlines()
            if line.startswith("node")
        ]
        for letter in "mn":
            found = sorted(
                (sign * float(row[place]), row[6])
                for row in rows
                if row[6].startswith(letter)
            )
            assert [label for _, label in found] == sorted(label for _, label in found)


def test_groups_of_jobs_without_arrows_are_grids(tmp_path: Path) -> None:
    """Four groups of eight were once a column of 32 boxes, because eight in a row made the picture too wide."""
    groups = [
        Scheduler([idle(f"{group}{number}") for number in range(8)], label=group)
        for group in "abcd"
    ]
    save(Scheduler(groups), tmp_path / "x.svg")
    found = re.search(
        r'<svg width="(\d+)pt" height="(\d+)pt"', (tmp_path / "x.svg").read_text()
    )
    assert found is not None
    assert int(found[1]) > int(found[2])


def test_large_graphs_go_from_left_to_right() -> None:
    few, many = (
        Scheduler([idle(f"a{n}") for n in range(number)]) for number in (40, 41)
    )
    assert "rankdir=TB" in few.graph().source
    assert "rankdir=LR" in many.graph().source
    assert mermaid(many).startswith("flowchart LR")


def test_a_picture_that_is_too_wide_goes_from_left_to_right(tmp_path: Path) -> None:
    """A small graph whose boxes would stand in a row wider than a page stands in a column if that is narrower."""
    first = idle("first")
    row = [
        idle(f"a long label of job {number}", required=first) for number in range(30)
    ]
    save(Scheduler(first, row, idle("last", required=row)), tmp_path / "x.svg")
    found = re.search(
        r'<svg width="(\d+)pt" height="(\d+)pt"', (tmp_path / "x.svg").read_text()
    )
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
    found = re.search(
        r'<svg width="(\d+)pt" height="(\d+)pt"', (tmp_path / "x.svg").read_text()
    )
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


def test_a_report_reduces_a_large_graph_to_a_readable_number_of_boxes(
    virtual: Virtual,
) -> None:
    """A report collapses 20 groups into 20 boxes, and jobs alike, shows a small graph whole, and at most 300 boxes."""
    groups = [
        Scheduler(
            *[Job(nap, 1, label=f"{'abc'[n % 3] * (n + 1)} {g}") for n in range(25)],
            label=f"group {g}",
        )
        for g in range(20)
    ]
    many = run_virtually(virtual, groups, Job(nap, 1, label="last", required=groups))
    flat = run_virtually(virtual, [Job(nap, 1, label="j" * n) for n in range(1, 302)])
    alike = [
        Job(nap, 1 + n % 2, label=f"page {n}", critical=n == 7) for n in range(301)
    ]
    fan = run_virtually(virtual, alike, Job(nap, 1, label="merge", required=alike))
    few = run_virtually(
        virtual,
        Scheduler([Job(nap, 1, label=f"j {n}") for n in range(30)], label="inner"),
    )
    assert describe_graph(flat, {}) == GraphDescription(notes=(TOO_MANY_NOTE,))
    assert (
        sum(bool(statement.tooltip) for statement in describe_graph(few, {}).statements)
        == 31
    )
    svg, notes = _report.draw_graph(describe_graph(many, {}))
    assert notes[-1].startswith("Each group is one box;")
    assert svg.count('class="node"') == 21
    statements = describe_graph(fan, {}).statements
    boxes = [
        (statement.label, statement.remarks)
        for statement in statements
        if statement.kind == "node"
    ]
    assert boxes == [
        ("page *", ("300 jobs",)),
        ("! page 7", ("2 s",)),
        ("merge", ("1 s",)),
    ]


def test_a_forever_job_that_ended_with_a_completed_run_has_no_failure_symbol(
    virtual: Virtual,
) -> None:
    for critical, symbol in (False, ""), (True, "⊘"):
        forever, job = (
            Job(nap, 99, forever=True, label="watch"),
            Job(fail, 1, critical=critical),
        )
        scheduler = Scheduler(forever, job)
        virtual(scheduler.co_run)
        assert _drawing.caption(forever)[0] == f"{symbol} watch".lstrip()


# --- Graphs where the package graphviz, which an extra installs, is missing
@pytest.fixture
def without_graphviz(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `import graphviz` fail, as in an environment without it."""
    monkeypatch.setitem(sys.modules, "graphviz", None)


@pytest.mark.usefixtures("without_graphviz")
def test_the_error_names_the_extra_that_installs_graphviz(tmp_path: Path) -> None:
    scheduler = Scheduler(Job(give_now, 1))
    message = r"needs the package graphviz, .*: pip install 'trioflow\[graph\]'"
    for draw in (
        scheduler.graph,
        lambda: save(scheduler, tmp_path / "a.dot"),
        lambda: save(scheduler, tmp_path / "a.svg"),
        OlderScheduler().graph,
        lambda: OlderScheduler().export_as_svgfile(tmp_path / "b"),
    ):
        with pytest.raises(ModuleNotFoundError, match=message):
            draw()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("without_graphviz")
def test_a_notebook_shows_the_graph_as_mermaid() -> None:
    bundle = Scheduler(Job(give_now, 1, label="one"))._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/vnd.mermaid"}
    assert "one" in bundle["text/vnd.mermaid"]


# --- schedulers and jobs as the values of cells in a notebook; `view/test_notebook` has a real kernel
def bundle(job: Any) -> dict[str, str]:
    found: dict[str, str] = job._repr_mimebundle_()
    return found


def test_a_graph_of_a_thousand_jobs_is_not_drawn() -> None:
    """A notebook shows a thousand jobs as text only, since drawing their graph would take minutes."""
    shown = bundle(Scheduler(AbstractJob(label=f"job {n}") for n in range(1000)))
    assert shown == {"text/plain": "<Scheduler Scheduler, idle, 1000 jobs>"}


def test_an_empty_scheduler_is_displayed_with_its_repr() -> None:
    """An empty scheduler is displayed with its repr: a picture and a listing of no jobs would be blank."""
    assert bundle(Scheduler()) == {"text/plain": repr(Scheduler())}


def test_jobs_without_arrows_are_drawn_as_a_grid() -> None:
    """Forty parallel jobs are drawn as a grid, because a row or a column of them would be unreadable in a cell."""
    picture = bundle(
        Scheduler(AbstractJob(label=f"a job {'x' * (n % 20)}") for n in range(40))
    )["image/svg+xml"]
    size = re.search(r'width="([0-9.]+)pt" height="([0-9.]+)pt"', picture)
    assert size is not None
    assert 1 / 2 < float(size[1]) / float(size[2]) < 2


def test_pictures_and_listings_show_the_same_times(virtual: Virtual) -> None:
    jobs = [
        Job(anyio.sleep, seconds, label=f"nap {seconds}") for seconds in (0.001, 0.06)
    ]
    scheduler = Scheduler(jobs)
    virtual(scheduler.co_run)
    shown = bundle(scheduler)
    assert [line.endswith("ms") for line in shown["text/plain"].splitlines()] == [
        False,
        True,
    ]
    assert sum(text.endswith("ms") for text in texts(shown["image/svg+xml"])) == 1
