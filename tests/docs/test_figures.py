"""Each figure in a table of the pages is one of the results file, of this version."""

import re
from pathlib import Path

import pytest
import trioflow
from benchmarks import published
from benchmarks.figures import Figure
from benchmarks.published import FILE, PAGES, TABLE, TABLES, Results
from ..places import ROOT


def test_tables_of_figures_are_written_from_the_results() -> None:
    """`python -m benchmarks.published` would change no page, and each table is on one of them."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    results = Results.load()
    assert texts == [results.fill(text) for text in texts], "run python -m benchmarks.published"
    assert sorted(name for text in texts for name, _ in TABLE.findall(text)) == sorted([*TABLES, "runs"])


def test_figures_are_those_of_this_version() -> None:
    """A release has its own figures: run `python -m benchmarks --write` once its version is set."""
    assert {facts["version"] for facts in Results.load().runs.values()} == {trioflow.__version__}


def test_each_figure_of_a_table_was_measured() -> None:
    figures = Results.load().figures
    assert {key for table in TABLES.values() for key in table.keys} == figures.keys()


def test_the_readme_sums_up_what_a_job_costs() -> None:
    """It has the least and the greatest figure of jobs that do nothing or wait, and the greatest of small graphs."""
    figures = {key: value for key, (value, _) in Results.load().figures.items()}
    waiting = [
        value
        for (group, row, _), value in figures.items()
        if (group == "running" and row.startswith(("checkpoint", "nap"))) or row.startswith("all sleep")
    ]
    built = [value for (group, row, _), value in figures.items() if group == "small" and row.endswith(", built")]
    cost = [value for (group, row, _), value in figures.items() if group == "running" and row.endswith("in µs")]
    sentence = (
        f"A job that does nothing costs {min(cost):.0f} to {max(cost):.0f} µs. "
        f"A job that waits costs {min(waiting):.1f} to {max(waiting):.1f} times the CPU time of the best code by hand, "
        f"and a job of a small graph that is built for each run up to {max(built):.1f} times."
    )
    assert sentence in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_what_is_measured_again_replaces_its_figure_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "FILE", tmp_path / FILE.name)
    published.FILE.write_text('{"runs": {}, "figures": []}')
    first, second, unused = [
        Figure("small", f"diamond of 5, no-op, {row}", "trio", 1.0) for row in ("again", "built", "in no table")
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
    assert re.search(rf"{row}\n(.*\n)+\nMeasured at `two` and `one`\.\n", results.table("small"))
    published.publish([Figure(*keys[1], 3)], "two", facts)
    assert list(Results.load().runs) == ["two"]


def test_table_names_its_commits_where_table_of_runs_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "FILE", tmp_path / FILE.name)
    monkeypatch.setattr(published, "PAGES", ())
    published.FILE.write_text('{"runs": {}, "figures": []}')
    facts = dict.fromkeys(published.FACTS.values(), "?")
    rows = [Figure("small", f"diamond of 5, no-op, {row}", "trio", 1.0) for row in ("again", "built")]
    table, runs = (f"<!-- figures: {name} -->\n<!-- end -->\n" for name in ("small", "runs"))
    published.publish(rows, "one", facts)
    results = Results.load()
    assert "\nMeasured at `one`.\n" in results.fill(table)
    assert "Measured at" not in results.fill(runs + table)
    published.publish(rows[1:], "two", facts)
    assert "\nMeasured at `one` and `two`.\n" in Results.load().fill(runs + table)
