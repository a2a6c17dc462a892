"""A column, a field or a key has the name of the attribute whose value it is: one word, one number."""

import csv
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from trioflow import AbstractJob, CommandJob, Events, Job, Retry, Scheduler, Trace
from trioflow.view import save
from trioflow.view.look._process_record import describe_process
from ..bodies import fail

OTHER = {
    "attempts": "a span has the start of each",
    "critical": "what the option means for the job, which the scheduler's default decides",
    "exception": "a text",
    "required": "numbers or paths",
    "settled": "the time, and not whether it is",
}
"""Columns whose values are told in another form than the attribute has."""


@pytest.fixture
def jobs(backend: str, tmp_path: Path) -> dict[str, Any]:
    """Jobs of each end, and what each table says about them, by path: of a run, and of one that restores."""
    tables: dict[str, Any] = {}

    async def flaky() -> int:
        await anyio.sleep(0.01)
        if job.attempts < 3:
            raise OSError
        look()
        return 1

    def look(_: object = None) -> None:
        tables.setdefault("look", []).extend(row for run in describe_process()["runs"] for row in run["running"])

    job = Job(flaky, retry=Retry(5, first=0.02), label="flaky", expected_duration=2.0)
    command = CommandJob(["true"], label="command", on_start=look)
    group = Scheduler(Job(fail, label="bad", critical=False), label="group", forever=False)
    members: list[AbstractJob[Any]] = [job, command, group, Job(fail, label="worse", critical=False, required=job)]
    trace, lines, journal = Trace(), io.StringIO(), tmp_path / "run.db"
    scheduler = Scheduler(members, log=False, label="run")
    scheduler.run(backend=backend, instruments=[trace, Events(lines)], journal=journal)
    save(trace, tmp_path / "trace.csv")
    save(trace, tmp_path / "trace.json")
    with (tmp_path / "trace.csv").open(newline="") as file:
        tables["CSV"] = [*csv.DictReader(file)]
    tables["trace"] = json.loads((tmp_path / "trace.json").read_text())["record"]["spans"]
    tables["events"] = [json.loads(line) for line in lines.getvalue().splitlines()]
    with closing(sqlite3.connect(journal)) as db:
        db.row_factory = sqlite3.Row
        tables["journal"] = [dict(row) for row in db.execute("SELECT * FROM jobs")]
    tables["jobs"] = {each.path: each for each in scheduler.iterate_jobs()}
    tables["spans"] = {span.path: span for span in trace.spans}
    return tables


def plain(value: Any) -> Any:
    """Return a value as it can be compared: CSV has texts, and rounds."""
    if isinstance(value, str):
        value = {"True": True, "False": False}.get(value, value)
        try:
            value = float(value)
        except ValueError:
            return value
    return pytest.approx(value, abs=1e-8) if isinstance(value, float) else value


def test_a_column_has_the_name_of_the_attribute_whose_value_it_is(jobs: dict[str, Any]) -> None:
    """The column `elapsed` of two tables was 3.0, where `job.elapsed` was 23.0 and `job.took` 3.0."""
    wrong, compared = [], set()
    for table in ("CSV", "trace", "events", "look", "journal"):
        for row in jobs[table]:
            known = [subjects[row["path"]] for subjects in (jobs["jobs"], jobs["spans"]) if row.get("path") in subjects]
            told = [name for name, value in row.items() if isinstance(value, float | int | str) and value != ""]
            for column in {*told} - OTHER.keys():
                for subject in known:
                    value = getattr(subject, column, known)
                    if value is known or callable(value):
                        continue
                    compared.add(f"{table} {column}")
                    if plain(row[column]) != plain(value) and [row[column]] != [value]:
                        wrong.append((table, column, type(subject).__name__, row[column], value))
    assert wrong == [], wrong
    named = {"CSV took", "CSV waited", "journal took", "events state", "events expected_duration", "look forever"}
    assert {*named, "trace label", "journal path"} <= compared, compared
    job = jobs["jobs"]["flaky"]
    assert job.took < job.elapsed
    assert job.took == jobs["spans"]["flaky"].took
