"""The reference has every public name once; its tables are complete."""

import importlib
import inspect
import re
import runpy
import types
from pathlib import Path
from typing import Any, get_args
import pytest
import trioflow
import trioflow.abc
from benchmarks import published
from benchmarks.figures import Figure
from benchmarks.published import FILE, TABLE, TABLES, Results
from trioflow import CommandJob, Journal, Scheduler, SshNode
from trioflow._core.admission._policies import PolicyName
from trioflow._core.base._states import OnTimeout, RunIf
from trioflow._core.job._job_options import SaveName
from trioflow.abc import AbstractJob, BackendName
from trioflow.jobs.command._spawn_options import LeftoversOption, PinOption
from trioflow.jobs.ssh._nodes import OnUnreachable
from trioflow.journal._journal import Durability
from .. import public_names as all_public_names
from ..places import ROOT

PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
DIRECTIVES = re.findall(r"^\.\. (?:auto|py:)(\w+):: ([\w.]+)$", TEXT, re.MULTILINE)
WHOLE = [name for kind, name in DIRECTIVES if kind == "module"]
"""Modules that a page shows with all that is in their `__all__`."""


ELSEWHERE = {
    "trioflow.dask.Cluster", "trioflow.look.enable", "trioflow.look.reload", "trioflow.otel.Tracing",
    "trioflow.otel.remote_context",
}  # fmt: skip
"""Names in modules of extras, which are not imported for them here, and in modules that have other modules."""


def public_names(module: types.ModuleType) -> set[str]:
    names = getattr(module, "__all__", None) or [
        name for name in dir(module) if not name.startswith("_")
    ]
    found = {
        name
        for name in names
        if not isinstance(getattr(module, name, None), types.ModuleType)
    }
    return {f"{module.__name__}.{name}" for name in found}


def test_each_public_name_is_on_one_page_of_the_reference() -> None:
    shown = [name for kind, name in DIRECTIVES if kind != "module"]
    expected = public_names(trioflow) | (
        public_names(trioflow.abc) - {"trioflow.abc.AbstractJob"}
    )
    expected |= public_names(trioflow.graph) | public_names(trioflow.view)
    assert sorted(shown) == sorted(expected | {"trioflow.abc.Amount"} | ELSEWHERE)


CODE = re.DOTALL | re.MULTILINE
WRITTEN = [
    ROOT / "README.md",
    *(page for page in (ROOT / "docs").rglob("*.md") if "decisions" not in page.parts),
]
"""The pages for readers. What is generated there, from docstrings, is in blocks of `eval-rst`."""


def test_each_public_name_is_on_a_page_that_is_written_by_hand() -> None:
    texts = (
        re.sub(
            r"^```{eval-rst}$.*?^```$",
            "",
            page.read_text("utf-8"),
            flags=re.DOTALL | re.M,
        )
        for page in WRITTEN
    )
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    names: set[str] = set()
    for module in map(importlib.import_module, all_public_names.MODULES):
        names.update(all_public_names.public(module))
    names.update(
        name
        for kind in (Scheduler, trioflow.Job)
        for name in dir(kind)
        if hasattr(kind, name)
    )
    assert sorted(name for name in names - words if not name.startswith("_")) == []


MOST_NAMES_OF_ABC = 50


def test_each_name_for_kinds_and_views_is_used_by_a_program() -> None:
    """Each name of `trioflow.abc` is promised: code on a page, or an example, shows what it is for."""
    programs = [file.read_text("utf-8") for file in (ROOT / "examples").glob("*.py")]
    for page in WRITTEN:
        blocks = re.findall(r"^```python$(.*?)^```$", page.read_text("utf-8"), CODE)
        programs.append("\n".join(blocks))
    used: set[str] = set()
    for program in programs:
        for imported in re.findall(
            r"from trioflow\.abc import (\([^)]*\)|.*)", program
        ):
            names = re.findall(r"\w+", imported)
            used.update(
                name for name in names if len(re.findall(rf"\b{name}\b", program)) > 1
            )
    names = {name.rpartition(".")[2] for name in public_names(trioflow.abc)} - {
        "AbstractJob"
    }
    assert sorted(names - used) == []
    assert len(names) < MOST_NAMES_OF_ABC


CHOICES = [
    (BackendName, Scheduler.run), (PolicyName, Scheduler), (OnTimeout, AbstractJob), (RunIf, AbstractJob),
    (SaveName, AbstractJob), (SaveName, Journal), (Durability, Journal), (PinOption, CommandJob),
    (LeftoversOption, CommandJob), (OnUnreachable, SshNode),
]  # fmt: skip
"""The names that an option may have, and what describes the option."""


@pytest.mark.parametrize(("choice", "described"), CHOICES)
def test_each_value_of_an_option_is_described_in_its_docstring(
    choice: Any, described: Any
) -> None:
    text = inspect.getdoc(described) or ""
    assert [name for name in get_args(choice) if f'"{name}"' not in text] == []


def test_the_page_on_order_has_each_policy() -> None:
    page = (ROOT / "docs" / "explained" / "order.md").read_text(encoding="utf-8")
    assert [name for name in get_args(PolicyName) if f'| `"{name}"`' not in page] == []


@pytest.mark.parametrize("older", ["asynciojobs", "asynciojobs_classic", "pyexpool"])
def test_modules_shown_whole_in_the_reference_define_all(older: str) -> None:
    assert f"trioflow.compat.{older}" in WHOLE
    assert importlib.import_module(f"trioflow.compat.{older}").__all__


def test_the_table_of_errors_has_each_error() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", page, re.MULTILINE)
    described = re.findall(
        r"^\.\. autoexception:: trioflow\.(\w+)$", page, re.MULTILINE
    )
    errors = {
        name
        for name in trioflow.__all__
        if isinstance(thing := getattr(trioflow, name), type)
        and issubclass(thing, trioflow.TrioflowError)
    }
    assert described == ["TrioflowError", *table]
    assert set(described) == errors


def test_the_tables_of_options_are_generated_from_their_declarations() -> None:
    """The tables of options are what `python docs/_site/option_table.py` makes of the declarations."""
    tables = runpy.run_path(str(ROOT / "docs" / "_site" / "option_table.py"))
    page = (ROOT / "docs" / "reference" / "jobs.md").read_text(encoding="utf-8")
    lines = page.partition("## All options")[2].partition("\n## ")[0].splitlines()
    assert [line for line in lines if line.startswith("|")] == [
        *tables["declared"](),
        *tables["of_kinds"](),
    ]
    groups = lines[: lines.index("A kind may have options of its own:")]
    shown = re.findall(
        r"`(\w+)=",
        "".join(line.split("|")[2] for line in groups if line.startswith("|")),
    )
    assert sorted(shown) == sorted(
        AbstractJob._declared_options | trioflow.Scheduler._declared_options
    )


NOT_MADE = {"CommandResult", "JobState", "StopReason"}
"""Classes whose objects users only get."""


def test_each_class_says_when_to_use_it() -> None:
    """The docstring of each class whose objects users make has a second paragraph that begins with "Use it"."""
    classes = {name: getattr(trioflow, name) for name in {*trioflow.__all__} - NOT_MADE}
    texts = {
        name: inspect.getdoc(thing) or ""
        for name, thing in classes.items()
        if isinstance(thing, type) and not issubclass(thing, BaseException)
    }
    assert [
        name
        for name, text in texts.items()
        if not re.match(r"[^\n]+(\n[^\n]+)*\n\nUse it ", text)
    ] == []


# --- Each figure in a table of the pages is one of the results file, of this version
def test_tables_of_figures_are_written_from_the_results() -> None:
    """`python -m benchmarks.published` would change no page, and each table is on one of them."""
    texts = [page.read_text(encoding="utf-8") for page in published.PAGES]
    results = Results.load()
    assert texts == [results.fill(text) for text in texts], (
        "run python -m benchmarks.published"
    )
    assert sorted(name for text in texts for name, _ in TABLE.findall(text)) == sorted(
        [*TABLES, "runs"]
    )


def test_figures_are_those_of_this_version() -> None:
    """A release has its own figures: run `python -m benchmarks --write` once its version is set."""
    assert {facts["version"] for facts in Results.load().runs.values()} == {
        trioflow.__version__
    }


def test_each_figure_of_a_table_was_measured() -> None:
    figures = Results.load().figures
    assert {key for table in TABLES.values() for key in table.keys} == figures.keys()


def test_the_readme_sums_up_what_a_job_costs() -> None:
    """It has the least and the greatest figure of jobs that wait or do nothing, and the greatest of small graphs, a
    diamond of five."""
    figures = {key: value for key, (value, _) in Results.load().figures.items()}
    waiting = [
        value
        for (group, row, _), value in figures.items()
        if (group == "running" and row.startswith(("checkpoint", "nap")))
        or row.startswith("all sleep")
    ]
    built = [
        value
        for (group, row, _), value in figures.items()
        if group == "small" and row.endswith(", built")
    ]
    cost = [
        value
        for (group, row, _), value in figures.items()
        if group == "running" and row.endswith("in µs")
    ]
    sentence = (
        f"A job that waits costs what a task costs: {min(waiting):.1f} to {max(waiting):.1f} times the CPU time of the "
        f"best code by hand. A job that does nothing costs {min(cost):.0f} to {max(cost):.0f} µs, so a graph of five "
        f"no-ops, built for each run, takes up to {max(built):.1f} times as long as in a `TaskGroup`."
    )
    assert sentence in " ".join(
        (ROOT / "README.md").read_text(encoding="utf-8").split()
    )


def test_what_is_measured_again_replaces_its_figure_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "FILE", tmp_path / FILE.name)
    published.FILE.write_text('{"runs": {}, "figures": []}')
    first, second, unused = [
        Figure("small", f"diamond of 5, no-op, {row}", "trio", 1.0)
        for row in ("again", "built", "in no table")
    ]
    keys = [(figure.group, figure.row, figure.column) for figure in (first, second)]
    facts = dict.fromkeys(published.FACTS.values(), "?, and more")
    monkeypatch.setattr(published, "PAGES", ())
    published.publish([first, second, unused], "one", facts)
    published.publish([Figure(*keys[0], 2.5), Figure(*keys[1], None)], "two", facts)
    results = Results.load()
    assert results.figures == {keys[0]: (2.5, "two"), keys[1]: (1.0, "one")}
    assert list(results.runs) == ["one", "two"]
    row = re.escape("| diamond of 5, no-op | 2.5 | 1 | – | – | – |")
    assert re.search(
        rf"{row}\n(.*\n)+\nMeasured at `two` and `one`\.\n", results.table("small")
    )
    published.publish([Figure(*keys[1], 3)], "two", facts)
    assert list(Results.load().runs) == ["two"]


def test_table_names_its_commits_where_table_of_runs_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "FILE", tmp_path / FILE.name)
    monkeypatch.setattr(published, "PAGES", ())
    published.FILE.write_text('{"runs": {}, "figures": []}')
    facts = dict.fromkeys(published.FACTS.values(), "?")
    rows = [
        Figure("small", f"diamond of 5, no-op, {row}", "trio", 1.0)
        for row in ("again", "built")
    ]
    table, runs = (
        f"<!-- figures: {name} -->\n<!-- end -->\n" for name in ("small", "runs")
    )
    published.publish(rows, "one", facts)
    results = Results.load()
    assert "\nMeasured at `one`.\n" in results.fill(table)
    assert "Measured at" not in results.fill(runs + table)
    published.publish(rows[1:], "two", facts)
    assert "\nMeasured at `one` and `two`.\n" in Results.load().fill(runs + table)
