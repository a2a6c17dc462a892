"""A trace file is the whole record of a run: what is made of it is what is made of the run itself."""

import functools
import itertools
import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
import pytest
from trioflow import (
    Adaptive,
    CommandJob,
    Job,
    Pool,
    Rate,
    Scheduler,
    Sequence,
    Throttled,
    Trace,
)
from trioflow.view import _junit, save
from trioflow.view.trace import _compare, _trace_file
from trioflow.view.trace._trace_record import TraceRecord
from trioflow.view.trace.report._report import report_html
from ...bodies import fail, flaky, nap
from ...conftest import BACKENDS, Virtual
from .scenarios import NASTY, everything, stop, traced

pytestmark = pytest.mark.usefixtures("no_dot")


def blocked() -> Scheduler:
    bad = Job(fail, 1, label="bad")
    inner = Scheduler(
        Job(nap, label="x"), label="inner", run_if="succeeded", required=bad
    )
    return Scheduler(bad, inner, Job(nap, 0, bad, label="after"), label="blocked")


RUNS: dict[str, Any] = {
    "everything": everything,
    "one job": lambda: Scheduler(Job(nap)),
    "empty": Scheduler,
    "blocked": blocked,
    "critical": lambda: Scheduler(
        Job(fail, 1, KeyError("k"), critical=True), Job(nap, 9), label="critical"
    ),
    "timeout": lambda: Scheduler(
        Job(nap, 9, label="long"), Job(nap, 1), timeout=5, label="late"
    ),
    "drained": lambda: Scheduler(
        Job(stop, "drain"), Sequence(Job(nap, 2), Job(nap)), jobs_window=2
    ),
    "cancelled": lambda: Scheduler(
        Job(stop, "cancel"), Sequence(Job(nap, 2), Job(nap))
    ),
    "resources": lambda: Scheduler(
        *(
            Job(nap, 2, label=f"train {n}", needs={"gpu": 1, "ram": "2 GiB"})
            for n in range(4)
        ),
        Job(
            flaky(seconds=0, error=functools.partial(Throttled, "api", after=2)),
            label="ask",
            needs={"api": 1},
        ),
        pool=Pool(gpu=["0", "1"], ram="8 GiB", api=Rate(requests=1, per=1)),
    ),
    "adaptive": lambda: Scheduler(
        *(Job(nap, 1) for _ in range(20)), jobs_window=Adaptive(1, 4)
    ),
    "nasty": lambda: Scheduler(
        *(Job(nap, label=label) for label in NASTY), label=NASTY[0]
    ),
    "many": lambda: Scheduler(
        *(Job(fail if n % 50 == 7 else nap, 1, label=f"page {n}") for n in range(200)),
        jobs_window=8,
    ),
}


def record_of(virtual: Virtual, name: str) -> tuple[Trace, TraceRecord]:
    trace = traced(virtual, RUNS[name]())
    return trace, trace._get_record()


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "backend"),
    list(zip(RUNS, itertools.cycle(BACKENDS), strict=False)),
    indirect=["backend"],
)
def test_what_is_made_of_a_file_is_what_is_made_of_the_run(
    virtual: Virtual, tmp_path: Path, name: str
) -> None:
    trace, live = record_of(virtual, name)
    save(trace, tmp_path / "t.json")
    read = _trace_file.read_record(tmp_path / "t.json")
    assert report_html(read, tmp_path) == report_html(live, tmp_path)
    assert _trace_file.csv_text(read) == _trace_file.csv_text(live)
    assert _junit.xml_text(read) == _junit.xml_text(live)
    compared = _compare.compare(_compare.run_times(read), _compare.run_times(live))
    assert (compared.changes, compared.state_changes) == ((), ())
    assert json.loads(_trace_file.record_json(read)) == json.loads(
        _trace_file.record_json(live)
    )


def test_a_command_in_a_file_has_its_line_outputs_and_files(tmp_path: Path) -> None:
    bad = CommandJob(
        "echo hello; exit 3", shell=True, stdout=subprocess.PIPE, label="bad"
    )
    file = CommandJob(["true"], stdout=tmp_path / "out.txt", label="file")
    trace = Trace()
    Scheduler(bad, file).run(instruments=[trace])
    save(trace, tmp_path / "t.json")
    live, read = trace._get_record(), _trace_file.read_record(tmp_path / "t.json")
    assert read.commands == live.commands
    assert [command.line for command in read.commands.values()] == [
        "echo hello; exit 3",
        "true",
    ]
    assert [
        output.text for command in read.commands.values() for output in command.outputs
    ] == ["hello\n"]
    assert report_html(read, tmp_path) == report_html(live, tmp_path)


def test_a_file_has_nothing_that_redact_hides(tmp_path: Path) -> None:
    job = CommandJob(
        ["sh", "-c", "echo $0; exit 1", "hunter2"],
        stdout=subprocess.PIPE,
        stderr=tmp_path / "hunter2",
        redact=True,
    )
    trace = Trace()
    Scheduler(job).run(instruments=[trace])
    save(trace, tmp_path / "t.json")
    assert "hunter2" not in (tmp_path / "t.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("backend", ["trio"], indirect=True)  # it is about the file
def test_a_damaged_record_is_an_error_and_no_exception_of_a_view(
    virtual: Virtual, tmp_path: Path
) -> None:
    """If any one item of a record is removed or has another type, the file is rejected, or read as a default."""
    trace, _ = record_of(virtual, "blocked")
    save(trace, tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    record = document["record"]
    places = [(record, name) for name in record]
    places += [
        (item, name)
        for part in ("spans", "runs")
        for item in record[part]
        for name in item
    ]
    outcomes = Counter[str]()
    for container, name in places:
        value = container.pop(name)
        for damaged in ({}, {name: [None]}, {name: {"a": "b"}}):
            container.update(damaged)
            (tmp_path / "x.json").write_text(json.dumps(document), encoding="utf-8")
            try:
                report_html(_trace_file.read_record(tmp_path / "x.json"), tmp_path)
                outcomes["read"] += 1
            except _trace_file.BadTrace:
                outcomes["rejected"] += 1
            container.pop(name, None)
        container[name] = value
    assert outcomes["rejected"] > outcomes["read"] > 0
