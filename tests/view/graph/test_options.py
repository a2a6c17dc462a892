"""`only`, `collapse` and `bundle` make large graphs small."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow import AbstractJob, Job, JobState, Scheduler
from trioflow.view.graph import _render
from trioflow.view.graph._drawing import Drawing, DrawingRole, EdgeKind

from ...bodies import fail_now, idle, take
from .pictures import mermaid, seen


def drawn(scheduler: Scheduler, **options: Any) -> tuple[set[str], set[tuple[str, str]]]:
    """Return the labels of the boxes, and the lines between labels."""
    found = seen(scheduler.graph(**options))
    return set(found.boxes), set(found.lines)


def chain(*labels: str) -> list[AbstractJob[Any]]:
    jobs: list[AbstractJob[Any]] = []
    for label in labels:
        jobs.append(idle(label, required=jobs[-1:]))
    return jobs


# --- only


def test_only_selects_jobs_by_object_path_or_pattern() -> None:
    """`only` selects jobs by object, path or pattern; a nested scheduler selects all of its jobs."""
    inner = Scheduler(idle("x"), idle("y"), label="inner")
    a, b = idle("a1"), idle("b1")
    scheduler = Scheduler(a, b, inner, idle("c[1]"), label="outer")
    assert drawn(scheduler, only=a)[0] == {"a1"}
    assert drawn(scheduler, only=[a, "b1"])[0] == {"a1", "b1"}
    assert drawn(scheduler, only="?1")[0] == {"a1", "b1"}
    assert drawn(scheduler, only="c[1]")[0] == {"c[1]"}
    assert drawn(scheduler, only=inner)[0] == {"x", "y"}
    assert drawn(scheduler, only=["inner", "inner/x"])[0] == {"x", "y"}
    assert drawn(scheduler, only=[])[0] == set()


def test_enclosing_frames_of_selected_jobs_are_drawn() -> None:
    """A nested job that `only` selects keeps the frames around it, and lines end at them."""
    first = idle("first")
    inner = Scheduler(idle("x"), idle("y"), label="inner")
    outer = Scheduler(inner, idle("z"), label="outer", required=first)
    found = seen(Scheduler(first, outer).graph(only=["first", "*/x"]))
    assert found.inside == {"outer": {"x"}, "inner": {"x"}}
    assert set(found.lines) == {("first", "outer")}


def test_patterns_match_full_paths_if_a_nested_scheduler_is_drawn_alone() -> None:
    """The full path of a job selects the job even if the nested scheduler around it is drawn alone."""
    x = idle("x")
    inner = Scheduler(x, idle("y"), label="inner")
    Scheduler(inner)
    assert drawn(inner, only=x.path)[0] == {"x"}


def test_brackets_in_a_pattern_match_literally() -> None:
    """In a pattern, only `*` and `?` are wildcards; brackets, which default labels may have, match literally."""
    job, other = Job(take), idle("J")
    assert drawn(Scheduler(job, other), only="take(*")[0] == {job.label}
    with pytest.raises(ValueError, match="no job of"):
        Scheduler(idle("a")).graph(only="[abc]")


def test_dotted_lines_bridge_jobs_left_out() -> None:
    """If `only` leaves out the jobs between two others, a dotted line connects these; a direct line stays solid."""
    a, b, c, d = chain(*"abcd")
    d.requires(a)
    scheduler = Scheduler(a, b, c, d)
    lines = seen(scheduler.graph(only=["a", "c", "d"])).lines
    assert {ends: line.get("style") for ends, line in lines.items()} == {
        ("a", "c"): "dotted", ("a", "d"): None, ("c", "d"): None
    }  # fmt: skip


def test_no_line_leads_to_a_job_left_out() -> None:
    """Jobs that `only` leaves out at the beginning or the end of a chain leave no loose lines."""
    a, b, c, d, e = chain(*"abcde")
    assert drawn(Scheduler(a, b, c, d, e), only="c") == ({"c"}, set())


def test_many_indirect_requirements_meet_in_a_junction() -> None:
    """A job left out between three jobs and three others becomes a point with six lines, instead of nine lines."""
    before = [idle(f"a{n}") for n in range(3)]
    barrier = idle("barrier", required=before)
    after = [idle(f"b{n}", required=barrier) for n in range(3)]
    found = seen(Scheduler(before, barrier, after).graph(only=["a?", "b?"]))
    assert found.boxes[""]["shape"] == "point"
    assert set(found.lines) == {(f"a{n}", "") for n in range(3)} | {("", f"b{n}") for n in range(3)}
    assert {line["style"] for line in found.lines.values()} == {"dotted"}


def test_dotted_lines_bridge_a_nested_scheduler_left_out() -> None:
    """A dotted line bridges a nested scheduler of which no job is drawn, along the inputs of its jobs."""
    a = Job(take, label="a")
    scheduler = Scheduler(a)
    inner = Job(take, a, label="inner")
    scheduler.add(Scheduler(inner, label="n"))
    scheduler.add(Job(take, inner, label="b"))
    found = seen(scheduler.graph(only=["a", "b"]))
    assert {ends: line.get("style") for ends, line in found.lines.items()} == {("a", "b"): "dotted"}


def test_dotted_lines_bridge_a_cycle_of_jobs_left_out() -> None:
    """Dotted lines bridge jobs that are left out even if these require each other in a cycle."""
    a, b, c, d = chain(*"abcd")
    b.requires(c)
    assert drawn(Scheduler(a, b, c, d), only=["a", "d"])[1] in ({("a", "d")}, {("a", ""), ("", "d")})


@given(st.data())
def test_bridges_preserve_reachability_between_drawn_jobs(data: st.DataObject) -> None:
    """Two drawn jobs are connected, at most through points, if and only if a path through undrawn jobs connects them;
    and the number of lines never grows.
    """
    jobs: list[AbstractJob[Any]] = []
    for n in range(data.draw(st.integers(0, 12))):
        before = data.draw(st.lists(st.sampled_from(jobs), max_size=4)) if jobs else []
        jobs.append(idle(f"{n}", required=before))
    kept = data.draw(st.sets(st.sampled_from(jobs))) if jobs else set()
    drawing = Drawing(Scheduler(jobs), only=kept)
    whole = {job: list(job.required) for job in jobs}
    parts: dict[AbstractJob[Any], list[AbstractJob[Any]]] = {}
    for tail, head in drawing.edges:
        parts.setdefault(head, []).append(tail)
    for job in kept:
        assert nearest(job, whole, kept) == nearest(job, parts, kept)
    assert len(drawing.edges) <= sum(map(len, whole.values()))
    direct = {(one, job) for job in kept for one in job.required if one in kept}
    assert {ends for ends, line in drawing.edges.items() if line is EdgeKind.ORDER} == direct
    assert all(job in kept or drawing.get_role(job) is DrawingRole.JUNCTION for ends in drawing.edges for job in ends)


def nearest(job: Any, required: dict[Any, list[Any]], kept: set[Any]) -> set[Any]:
    """Return the kept jobs with a path to `job` that passes no other kept job."""
    found: set[Any] = set()
    todo, met = list(required.get(job, ())), set()
    while todo:
        one = todo.pop()
        if one in kept:
            found.add(one)
        elif one not in met:
            met.add(one)
            todo += required.get(one, ())
    return found


# --- collapse


def test_collapse_true_draws_each_scheduler_as_a_box() -> None:
    """`collapse=True` draws each nested scheduler as a box with its number of jobs, at which their lines end."""
    source = Job(take, label="source")
    scheduler = Scheduler(source)
    deep = Scheduler(Job(take, source, label="reader"), label="deep")
    scheduler.add(Scheduler(deep, idle("beside"), label="outer"))
    assert drawn(scheduler, collapse=True) == ({"source", "outer|3 jobs"}, {("source", "outer|3 jobs")})


def test_collapse_selects_schedulers_by_object_or_path() -> None:
    """`collapse` selects schedulers by object or path; plain jobs that a pattern also matches stay as they are."""
    inner = Scheduler(idle("x"), label="inner")
    outer = Scheduler(inner, idle("y"), label="outer")
    scheduler = Scheduler(outer)
    assert drawn(scheduler, collapse=inner)[0] == {"inner|1 job", "y"}
    assert drawn(scheduler, collapse="outer/*")[0] == {"inner|1 job", "y"}
    assert drawn(scheduler, collapse=[])[0] == {"x", "y"}


def test_only_on_a_job_in_a_collapsed_scheduler_draws_the_schedulers_box() -> None:
    """If `only` selects a job in a collapsed scheduler, the box of that scheduler is drawn, not the job."""
    scheduler = Scheduler(Scheduler(idle("x"), label="inner"), idle("y"))
    assert drawn(scheduler, only="inner/x", collapse=True)[0] == {"inner|1 job"}


# --- many jobs


def test_large_graphs_are_simplified_unless_the_caller_sets_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large graph bundles similar jobs and groups, with a notice, unless the caller sets `bundle` or `only`."""
    monkeypatch.setattr(_render, "MIN_JOBS_TO_SIMPLIFY", 6)
    scheduler = Scheduler(Scheduler(idle(f"host {n}") for n in range(3 * g, 3 * g + 3)) for g in range(2))
    whole = scheduler.graph(bundle=False)
    assert len(seen(whole).boxes) == 6
    assert "alike" not in whole.source
    for text in (scheduler.graph().source, mermaid(scheduler)):
        assert "6 jobs; those that are alike share a box" in text
    assert set(seen(scheduler.graph()).boxes) == {"host *|× 6"}
    assert len(seen(scheduler.graph(only="*")).boxes) == 6
    monkeypatch.setattr(_render, "MIN_JOBS_TO_SIMPLIFY", 7)
    assert len(seen(scheduler.graph()).boxes) == 6


def test_schedulers_of_a_large_graph_are_collapsed_if_bundling_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a large graph has too many boxes even when similar jobs are bundled, its schedulers are collapsed."""
    monkeypatch.setattr(_render, "MIN_JOBS_TO_SIMPLIFY", 6)
    monkeypatch.setattr(_render, "MAX_READABLE_BOXES", 3)
    groups = [Scheduler(idle("x" * n + name) for n in range(3)) for name in "ab"]
    assert set(seen(Scheduler(groups).graph()).boxes) == {"Scheduler|3 jobs"}


# --- bundle


def test_bundle_joins_jobs_that_differ_only_in_numbers() -> None:
    """`bundle` joins jobs whose labels differ only in numbers and whose requirements are the same or joined as well."""
    split = idle("split")
    parse = [idle(f"parse {n} of 3", required=split) for n in range(1, 4)]
    count = [idle(f"count {n}", required=one) for n, one in enumerate(parse)]
    merge = idle("merge", required=count)
    assert drawn(Scheduler(split, parse, count, merge), bundle=True) == (
        {"split", "parse * of 3|× 3", "count *|× 3", "merge"},
        {("split", "parse * of 3|× 3"), ("parse * of 3|× 3", "count *|× 3"), ("count *|× 3", "merge")},
    )


def test_bundle_keeps_different_jobs_apart() -> None:
    """`bundle` keeps jobs apart that differ in kind, visible settings, requirements or scheduler."""
    a, b = idle("a"), idle("b")
    jobs = [
        idle("j 1"), idle("j 2"), Job(take, label="j 3"), idle("j 4", critical=True), idle("j 5", forever=True),
        idle("j 6", run_if="failed", required=a), idle("j 7", required=a), idle("j 8", required=[a, b]),
        Scheduler(idle("j 9")), Scheduler(idle("k 10")), Scheduler(idle("j 11"), idle("k")),
    ]  # fmt: skip
    assert drawn(Scheduler(a, b, jobs), bundle=True)[0] == {
        "a", "b", "j *|× 2", "j 3", "! j 4", "j 5", "j 6|if failed", "j 7", "j 8", "j 9", "k 10",
        "j 11", "k",
    }  # fmt: skip


def test_bundle_joins_similar_groups() -> None:
    """`bundle` joins nested schedulers that are alike in requirements and all their contents, at any depth."""
    fetches = [idle(f"fetch {n}") for n in range(3)]
    groups = []
    for n, fetch in enumerate(fetches):
        compile, test = idle(f"compile {n}", required=fetch), idle(f"test {n}")
        test.requires(compile)
        inner = Scheduler(idle(f"part {n}"), idle(f"part {n + 1}"), label=f"inner {n}", required=test)
        groups.append(Scheduler(compile, test, inner, label=f"group {n}", required=fetch))
    last = idle("last", required=groups)
    found = seen(Scheduler(fetches, groups, last).graph(bundle=True))
    assert set(found.boxes) == {"fetch *|× 3", "compile *|× 3", "test *|× 3", "part *|× 6", "last"}
    assert set(found.frames) == {"group *|× 3", "inner *|× 3"}
    assert len(found.lines) == 5


def test_bundle_joins_chains() -> None:
    """`bundle` joins three or more similar jobs in a row; a job with another successor ends the chain."""
    long = [idle(f"step {n}") for n in range(6)]
    short = idle("a 1"), idle("a 2")
    for chain in (long, short):
        for one, following in itertools.pairwise(chain):
            following.requires(one)
    beside = idle("beside", required=long[3])
    boxes = drawn(Scheduler(long, short, beside), bundle=True)[0]
    assert boxes == {"step *|× 4, one after the other", "step 4", "step 5", "beside", "a 1", "a 2"}


def test_a_bundle_shows_its_most_important_state() -> None:
    """A bundle shows the most important state of its jobs: one failure among many is shown and counted."""
    jobs = [Job(fail_now if n == 2 else take, label=f"j{n}") for n in range(4)]
    scheduler = Scheduler(jobs)
    scheduler.run()
    assert jobs[2].state is JobState.FAILED
    found = seen(scheduler.graph(bundle=True))
    ((box, how),) = found.boxes.items()
    assert box.startswith("✗ j*|× 4|1 failed, 3 succeeded|")
    assert (how["fillcolor"], how["color"]) == ("#fdf0ee", "#b3261e")  # pale: not all of them failed
    all_failed = Scheduler([Job(fail_now, label=f"k{n}") for n in range(2)])
    all_failed.run()
    (how,) = seen(all_failed.graph(bundle=True)).boxes.values()
    assert how["fillcolor"] == "#b3261e"


# --- unknown jobs and patterns


@pytest.mark.parametrize("option", ["only", "collapse"])
def test_only_and_collapse_raise_on_unknown_jobs_and_patterns(option: str) -> None:
    """`only` and `collapse` reject patterns without a match, jobs outside the scheduler, and objects of other types."""
    scheduler = Scheduler(idle("fetch"), idle("parse"), label="s")
    with pytest.raises(ValueError, match=f"{option}='fetsch': no job of 's' has a path like this; .* 'fetch'\\?"):
        scheduler.graph(**{option: "fetsch"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{option}='z\\*': no job of 's' has a path like this$"):
        scheduler.graph(**{option: ["fetch", "z*"]})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{option}: 'stray' is neither in 's'"):
        scheduler.graph(**{option: idle("stray")})  # type: ignore[arg-type]
    for wrong in (7, [7]):
        with pytest.raises(TypeError, match=f"{option}=7: give jobs, or strings"):
            scheduler.graph(**{option: wrong})  # type: ignore[arg-type]
