"""`collapse` makes large graphs small."""

from __future__ import annotations

from typing import Any

import pytest

from trioflow import Job, Scheduler

from ...bodies import idle, take
from .pictures import seen


def drawn(scheduler: Scheduler, **options: Any) -> tuple[set[str], set[tuple[str, str]]]:
    """Return the labels of the boxes, and the lines between labels."""
    found = seen(scheduler.graph(**options))
    return set(found.boxes), set(found.lines)


def test_collapse_true_draws_each_scheduler_as_a_box() -> None:
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


def test_patterns_match_full_paths_if_a_nested_scheduler_is_drawn_alone() -> None:
    x = Scheduler(idle("y"), label="x")
    inner = Scheduler(x, label="inner")
    Scheduler(inner)
    assert drawn(inner, collapse=x.path)[0] == {"x|1 job"}


def test_brackets_in_a_pattern_match_literally() -> None:
    """In a pattern, only `*` and `?` are wildcards; brackets, which default labels may have, match literally."""
    assert drawn(Scheduler(Scheduler(idle("x"), label="c[1]")), collapse="c[*")[0] == {"c[1]|1 job"}
    with pytest.raises(ValueError, match="no job of"):
        Scheduler(idle("a")).graph(collapse="[abc]")


def test_collapse_raises_on_unknown_jobs_and_patterns() -> None:
    """`collapse` rejects patterns without a match, jobs outside the scheduler, and objects of other types."""
    scheduler = Scheduler(idle("fetch"), idle("parse"), label="s")
    with pytest.raises(ValueError, match=r"collapse='fetsch': no job of 's' has a path like this; .* 'fetch'\?"):
        scheduler.graph(collapse="fetsch")
    with pytest.raises(ValueError, match=r"collapse='z\*': no job of 's' has a path like this$"):
        scheduler.graph(collapse=["fetch", "z*"])
    with pytest.raises(ValueError, match="collapse: 'stray' is neither in 's'"):
        scheduler.graph(collapse=idle("stray"))
    for wrong in (7, [7]):
        with pytest.raises(TypeError, match="collapse=7: give jobs, or strings"):
            scheduler.graph(collapse=wrong)  # type: ignore[arg-type]
