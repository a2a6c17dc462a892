"""The trace as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from trioflow import Job, Scheduler, Trace
from trioflow.view import save

from ...bodies import fail, nap
from ...conftest import Virtual
from .scenarios import NASTY, traced


def rows(trace: Trace, path: Path) -> list[dict[str, str]]:
    save(trace, path)
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def test_jobs_of_a_second_run_have_its_number(virtual: Virtual, tmp_path: Path) -> None:
    """In the CSV file, a job of a retried scheduler has the number of the run, which tells runs apart."""
    inner = Scheduler(Job(fail, label="x", critical=True), label="n", retry=1)
    found = rows(traced(virtual, Scheduler(inner)), tmp_path / "t.csv")
    assert [row["run"] for row in found if row["path"] == "n/x"] == ["1", "2"]


def test_csv_has_the_times_states_and_exceptions_of_all_jobs(virtual: Virtual, tmp_path: Path) -> None:
    """The CSV file has times as seconds since the beginning of the run; missing values are empty."""
    a = Job(nap, 2, label="a")
    b = Job(fail, 1, label="b", required=a, critical=True)
    c = Job(nap, 1, label="c", required=b)
    one, other, never = rows(traced(virtual, Scheduler(a, b, c)), tmp_path / "t.csv")
    assert (one["scheduled"], one["started"], one["finished"], one["took"]) == ("0.0", "0.0", "2.0", "2.0")
    assert (other["started"], other["required"], other["critical"]) == ("2.0", one["number"], "True")
    assert (other["exception"], other["state"]) == ("OSError: broken", "failed")
    assert (other["on_critical_path"], never["on_critical_path"]) == ("True", "False")
    assert (never["state"], never["started"], never["lane"], never["started_wall"]) == ("idle", "", "", "")
    assert one["started_wall"].endswith("Z")


def test_csv_keeps_any_label_in_its_cell(virtual: Virtual, tmp_path: Path) -> None:
    """In the CSV file, a label with commas, quotes or line ends stays in its cell."""
    labels = [*NASTY, "a,b", 'say "x"', "a\nb"]
    found = rows(traced(virtual, Scheduler(*(Job(nap, label=label) for label in labels))), tmp_path / "t.csv")
    assert len(found) == len(labels)
    assert [row["label"] for row in found][-3:] == ["a,b", 'say "x"', "a\\nb"]


def test_csv_has_no_cell_that_a_spreadsheet_computes(virtual: Virtual, tmp_path: Path) -> None:
    """A label that begins with `=`, `+`, `-` or `@` gets an apostrophe before it, unless it is a number."""
    computed = ["=1+1", '=HYPERLINK("x")', "+1+1", "-1+1", "-a", "@SUM(1)", "=-1", "-"]
    kept = ["-1", "+2.5", "-1e-3", "a=1", "1-1", ".5"]
    found = rows(traced(virtual, Scheduler(*(Job(nap, label=label) for label in computed + kept))), tmp_path / "t.csv")
    assert [row["label"] for row in found] == [*(f"'{label}" for label in computed), *kept]
    assert [row["path"][:2] for row in found[: len(computed)]] == [f"'{label[0]}" for label in computed]
