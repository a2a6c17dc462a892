"""`--only`: which jobs are kept, and in which order they run."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import pytest
from trioflow import AbstractJob, CycleError, Job, Scheduler, Service
from trioflow.cli._scenario import keep_selected_jobs
from ..bodies import edges, give, grid, idle, nothing, serve
from .command_line import labels, run, trioflow, written


def kept_paths(scheduler: Scheduler, only: str = "") -> str:
    """Select jobs, and return the paths of the kept ones in the order added."""
    keep_selected_jobs(scheduler, only.split())
    return paths(scheduler.iterate_jobs())


def paths(jobs: Iterable[AbstractJob[Any]]) -> str:
    return " ".join(job.path for job in jobs)


# The grid is a diamond a-b/c-d, then e, which also requires x; z is alone.

CASES = [("b", "b"), ("b e", "b e"), ("[bc]", None), ("?", "a b c d e x z"), ("b nothing", None)]


@pytest.mark.parametrize(("only", "left"), CASES, ids=[only for only, _ in CASES])
def test_patterns_select_which_jobs_stay(only: str, left: str | None) -> None:
    scheduler, _ = grid()
    if left is None:
        with pytest.raises(click.UsageError):
            kept_paths(scheduler, only)
        assert len(scheduler) == 7
    else:
        assert kept_paths(scheduler, only) == left


def test_removing_jobs_keeps_the_order_of_the_others() -> None:
    """The successors of removed jobs inherit their requirements, however many removed jobs are in between."""
    scheduler, _ = grid()
    assert kept_paths(scheduler, only="a e") == "a e"
    assert edges(scheduler) == {"ae"}


def test_without_patterns_the_scenario_is_unchanged() -> None:
    a = idle("a")
    scheduler = Scheduler(idle("b", required=a))
    assert kept_paths(scheduler) == "b"


def test_selecting_from_a_scenario_that_cannot_run_raises() -> None:
    """Selecting jobs of a scenario with a cycle raises, because the selected part would hide the fault."""
    a = idle("a")
    b = idle("b", required=a)
    a.requires(b)
    with pytest.raises(CycleError):
        kept_paths(Scheduler(a, b), only="a")


def test_inputs_of_selected_jobs_are_kept() -> None:
    first = Job(nothing, label="first")
    second = Job(give, first, label="second")
    scheduler, order = Scheduler(first), idle("order")
    elsewhere = Scheduler(Job(nothing, label="other"), second, label="elsewhere")
    scheduler.update([elsewhere, order, Job(give, second, label="last", required=order)])
    assert kept_paths(scheduler, only="last") == "first elsewhere elsewhere/second last"
    assert scheduler.is_runnable()


def test_services_that_selected_jobs_require_are_kept() -> None:
    database = Service(serve, label="database", required=(schema := idle("schema")))
    scheduler = Scheduler(schema, database, idle("user", required=database), idle("other", required=database))
    assert kept_paths(scheduler, only="user") == "database user"


def test_forever_jobs_are_kept_only_if_they_are_selected() -> None:
    scheduler = Scheduler(idle("a"), idle("watch", forever=True))
    assert kept_paths(scheduler, only="a") == "a"


def nested() -> Scheduler:
    first = idle("first")
    inner = [Scheduler(a := idle("a"), idle("b", required=a), label=name) for name in ("one", "two")]
    inner[0].requires(first)
    inner[1].requires(inner[0])
    return Scheduler(first, inner, idle("last", required=inner[1]), label="all")


NESTED = [("one", "one one/a one/b"), ("*/a", "one one/a two two/a"), ("two/b first", "first two two/b")]


@pytest.mark.parametrize(("only", "left"), NESTED, ids=[only for only, _ in NESTED])
def test_patterns_select_jobs_in_nested_schedulers(only: str, left: str) -> None:
    assert kept_paths(nested(), only) == left


def test_nested_schedulers_stay_ordered_if_those_between_them_are_removed() -> None:
    scheduler = nested()
    assert kept_paths(scheduler, only="first two/b") == "first two two/b"
    assert edges(scheduler) == {"firsttwo"}


def test_parentheses_of_a_default_label_are_literal_in_a_pattern() -> None:
    scheduler = Scheduler(Job(nothing), Job(nothing), idle("J"))
    keep_selected_jobs(scheduler, patterns=("noth*",))
    assert len(scheduler) == 2
    keep_selected_jobs(scheduler, patterns=("nothing()",))
    assert len(scheduler) == 1


def test_pattern_that_equals_a_path_with_a_wildcard_selects_that_job_alone() -> None:
    assert kept_paths(Scheduler(idle("a*"), idle("ab")), only="a*") == "a*"


def test_pattern_matches_control_characters_in_their_escaped_form() -> None:
    scheduler = Scheduler(idle("a\x1b"), idle("b"))
    keep_selected_jobs(scheduler, patterns=(r"a\x1b",))
    assert len(scheduler) == 1


def test_selecting_from_twenty_thousand_jobs_takes_linear_time() -> None:
    """Selecting half of a chain of 20,000 jobs takes linear time; quadratic time would be hours."""
    jobs = [idle(f"{'ab'[n % 2]}{n}") for n in range(20_000)]
    for before, after in itertools.pairwise(jobs):
        after.requires(before)
    scheduler = Scheduler(jobs)
    keep_selected_jobs(scheduler, patterns=("a*",))
    assert [len(job.required) for job in scheduler] == [0] + [1] * 9_999


# --- on the command line

CODE = """
a = Job(work, label="a")
scenario = Scheduler(a, Job(work, label="fetch b", required=a), Job(work, label="c"))
"""


def test_run_and_list_use_only_the_selected_jobs(tmp_path: Path) -> None:
    file = written(tmp_path, CODE)
    assert labels(trioflow("list", file, "--only", "?*b", "--only", "a").stdout) == ["a", "fetch b"]
    assert run(file, "--only", "?*b", "--only", "a").stdout.count("works\n") == 2


def test_list_paths_prints_the_paths_of_all_jobs(tmp_path: Path) -> None:
    code = "x = Scheduler(Scheduler(Job(work, label='a/b'), label='in'), Job(work, label='c'), Job(work, label='c'))"
    assert trioflow("list", "--paths", written(tmp_path, code)).stdout == "in\nin/a\\/b\nc\nc#2\n"


def test_a_pattern_may_be_written_as_labels_are(tmp_path: Path) -> None:
    code = "x = Scheduler(Scheduler(Job(work, label='db'), label='eu'), Job(work, label='eu/db'), Job(work, label='c'))"
    file = written(tmp_path, code)
    found = [trioflow("list", "--paths", file, "--only", each).stdout.split() for each in ("eu/db", r"eu\/db", "eu/d?")]
    assert found == [["eu", "eu/db"], [r"eu\/db"], ["eu", "eu/db", r"eu\/db"]]


def test_pattern_without_a_match_is_a_usage_error(tmp_path: Path) -> None:
    done = run(written(tmp_path, CODE), "--only", "fetchb")
    assert done.exit_code == 2
    assert "'fetchb'; do you mean 'fetch b'?" in done.stderr
    assert "list --paths" in done.stderr
