"""`--only`, `--from` and `--until`: which jobs stay, and in which order they run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import pytest

from trioflow import AbstractJob, CycleError, Job, Scheduler, Service
from trioflow.cli._subgraph_options import keep_selected_jobs

from ..bodies import edges, grid, idle, nothing, serve
from .command_line import labels, run, trioflow, written


def part(scheduler: Scheduler, only: str = "", starts: str = "", ends: str = "") -> str:
    """Return the paths of the jobs that stay, in the order added."""
    keep_selected_jobs(scheduler, only.split(), starts.split(), ends.split())
    return paths(scheduler.iterate_jobs())


def paths(jobs: Iterable[AbstractJob[Any]]) -> str:
    return " ".join(job.path for job in jobs)


# The grid is a diamond a-b/c-d, then e, which also requires x; z is alone.

CASES = [
    ({"only": "b"}, "b"),
    ({"only": "b e"}, "b e"),
    ({"only": "[bc]"}, None),
    ({"only": "?"}, "a b c d e x z"),
    ({"starts": "b"}, "b d e"),
    ({"starts": "b c"}, "b c d e"),
    ({"starts": "z"}, "z"),
    ({"ends": "d"}, "a b c d"),
    ({"ends": "x d"}, "a b c d x"),
    ({"starts": "b", "ends": "d"}, "b d"),
    ({"starts": "a", "ends": "e", "only": "b c z"}, "b c"),
    ({"starts": "e", "ends": "a"}, None),
]


@pytest.mark.parametrize(("patterns", "left"), CASES, ids=[str(case[0]) for case in CASES])
def test_patterns_select_which_jobs_stay(patterns: dict[str, str], left: str | None) -> None:
    """--only keeps the named jobs; --from adds their successors, --until their requirements; combined,
    they intersect.
    """
    scheduler, _ = grid()
    if left is None:
        with pytest.raises(click.UsageError):
            part(scheduler, **patterns)
        assert len(scheduler) == 7
    else:
        assert part(scheduler, **patterns) == left


def test_removed_jobs_keep_the_order_of_those_around_them() -> None:
    """The successors of a removed job inherit its requirements, through any number of removed jobs."""
    scheduler, _ = grid()
    assert part(scheduler, only="a e") == "a e"
    assert edges(scheduler) == {"ae"}


def test_without_patterns_the_scenario_is_unchanged() -> None:
    """Even a scenario that could not run stays as it is."""
    a = idle("a")
    scheduler = Scheduler(idle("b", required=a))
    assert part(scheduler) == "b"


def test_a_scenario_that_cannot_run_is_refused() -> None:
    """A part of a scenario with a cycle or a missing requirement would hide the fault."""
    a = idle("a")
    b = idle("b", required=a)
    a.requires(b)
    with pytest.raises(CycleError):
        part(Scheduler(a, b), only="a")


def test_inputs_stay() -> None:
    """Inputs of a kept job are kept, with their own inputs, in whatever scheduler they are."""
    first = Job(nothing, label="first")
    second = Job(nothing, first, label="second")
    scheduler, order = Scheduler(first), idle("order")
    elsewhere = Scheduler(Job(nothing, label="other"), second, label="elsewhere")
    scheduler.update([elsewhere, order, Job(nothing, second, label="last", required=order)])
    assert part(scheduler, only="last") == "first elsewhere elsewhere/second last"
    assert scheduler.is_runnable()


def test_services_stay() -> None:
    """A kept job keeps the services that it requires: it could not work without them."""
    database = Service(serve, label="database", required=(schema := idle("schema")))
    scheduler = Scheduler(schema, database, idle("user", required=database), idle("other", required=database))
    assert part(scheduler, only="user") == "database user"


def test_forever_jobs_stay_if_they_are_named() -> None:
    """A forever job that no kept job requires is left out like any other."""
    scheduler = Scheduler(idle("a"), idle("watch", forever=True))
    assert part(scheduler, starts="a") == "a"


def nested() -> Scheduler:
    """Return two nested schedulers of two jobs each, one behind the other, between two jobs."""
    first = idle("first")
    inner = [Scheduler(a := idle("a"), idle("b", required=a), label=name) for name in ("one", "two")]
    inner[0].requires(first)
    inner[1].requires(inner[0])
    return Scheduler(first, inner, idle("last", required=inner[1]), label="all")


NESTED = [
    ({"only": "one"}, "one one/a one/b"),
    ({"only": "*/a"}, "one one/a two two/a"),
    ({"only": "two/b first"}, "first two two/b"),
    ({"starts": "one/b"}, "one one/b two two/a two/b last"),
    ({"ends": "two/a"}, "first one one/a one/b two two/a"),
    ({"starts": "one/b", "ends": "two/a"}, "one one/b two two/a"),
    ({"starts": "one/b two/b"}, "one one/b two two/a two/b last"),
    ({"starts": "two"}, "two two/a two/b last"),
]


@pytest.mark.parametrize(("patterns", "left"), NESTED, ids=[str(case[0]) for case in NESTED])
def test_nested(patterns: dict[str, str], left: str) -> None:
    """A nested scheduler is kept or removed as a whole, unless only some of its jobs are named."""
    assert part(nested(), **patterns) == left


def test_order_of_nested_schedulers() -> None:
    """Nested schedulers stay ordered, even if the jobs between them are left out."""
    scheduler = nested()
    assert part(scheduler, only="first two/b") == "first two two/b"
    assert edges(scheduler) == {"firsttwo"}


def test_a_path_of_a_default_label() -> None:
    """Only `*` and `?` are wildcards: brackets in a label are literal."""
    scheduler = Scheduler(Job(nothing), Job(nothing), idle("J"))
    keep_selected_jobs(scheduler, only=("noth*",))
    assert len(scheduler) == 2
    keep_selected_jobs(scheduler, only=("nothing()",))
    assert len(scheduler) == 1


def test_a_path_with_a_wildcard_in_it() -> None:
    """An exact path selects that job alone, even if its wildcards match others."""
    assert part(Scheduler(idle("a*"), idle("ab")), only="a*") == "a*"


def test_control_characters_are_given_as_they_are_shown() -> None:
    """A label with control characters is matched in the form that `list --paths` prints."""
    scheduler = Scheduler(idle("a\x1b"), idle("b"))
    keep_selected_jobs(scheduler, only=(r"a\x1b",))
    assert len(scheduler) == 1


def test_twenty_thousand_jobs() -> None:
    """Leaving out half of a chain of 20,000 jobs takes linear time; quadratic time would be hours."""
    jobs = [idle(f"{'ab'[n % 2]}{n}") for n in range(20_000)]
    for before, after in itertools.pairwise(jobs):
        after.requires(before)
    scheduler = Scheduler(jobs)
    keep_selected_jobs(scheduler, only=("a*",))
    assert [len(job.required) for job in scheduler] == [0] + [1] * 9_999


# --- on the command line

CODE = """
a = Job(work, label="a")
scenario = Scheduler(a, Job(work, label="fetch b", required=a), Job(work, label="c"))
"""


def test_run_and_list_take_a_part(tmp_path: Path) -> None:
    """`run` runs the part alone; `list` shows it."""
    file = written(tmp_path, CODE)
    assert labels(trioflow("list", file, "--from", "a").stdout) == ["a", "fetch b"]
    assert run(file, "--from", "a").stdout.count("works\n") == 2


def test_paths_are_listed(tmp_path: Path) -> None:
    """`list --paths` prints the arguments of --only and its like, one a line."""
    code = "x = Scheduler(Scheduler(Job(work, label='a/b'), label='in'), Job(work, label='c'), Job(work, label='c'))"
    assert trioflow("list", "--paths", written(tmp_path, code)).stdout == "in\nin/a/b\nc\nc#2\n"


def test_a_pattern_that_nothing_matches(tmp_path: Path) -> None:
    """A pattern without a match is a usage error that suggests the nearest path."""
    done = run(written(tmp_path, CODE), "--only", "fetchb")
    assert done.exit_code == 2
    assert "'fetchb'; do you mean 'fetch b'?" in done.stderr
    assert "list --paths" in done.stderr
