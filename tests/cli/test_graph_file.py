"""Graphs of commands as JSON: `trioflow run graph.json`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from trioflow import CommandJob, Depfile, JobTimeout, OptionalFile, Pool, Retry
from trioflow.cli import _graph_file

from .command_line import trioflow

SCHEMA = json.loads(_graph_file.SCHEMA_FILE.read_text())
CHECK = jsonschema.Draft202012Validator(SCHEMA).validate


def graph(tmp_path: Path, jobs: Any, **top: Any) -> Path:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps({"trioflow": 1, "jobs": jobs, **top}))
    return path


def entry(name: str, *requires: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "command": ["true"], **({"requires": requires} if requires else {}), **options}


def test_a_graph_runs_with_journal_report_and_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs of a graph file run in order, pass on results, and are restored by a second run with the journal."""
    monkeypatch.chdir(tmp_path)
    jobs = [
        entry("last", "group", command="cat > out", stdin={"result": "first"}, writes=["out"]),
        entry("first", command="echo one; echo two", stdout={"to": "PIPE"}, retry=2, timeout=20),
        {"name": "group", "jobs": [entry("b", "a"), entry("a", needs={"cpu": 0.5})], "requires": ["first"]},
    ]  # fmt: skip
    path = graph(tmp_path, jobs, jobs_window=2, pool={"cpu": 2, "gpu": ["0", "1"]}, label="mine")
    CHECK(json.loads(path.read_text()))
    options = ["--journal", "run.db", "--report", "r.html", "--events", "e.jsonl", "--no-monitor"]
    done = trioflow("run", *options, path)
    assert done.exit_code == 0, done.output
    assert "mine" in done.output
    assert (tmp_path / "out").read_text() == "one\ntwo\n"
    assert "4 restored" in trioflow("run", "--journal", "run.db", "--no-monitor", path).output
    assert "group/a" in trioflow("list", path, "--paths").output


def test_each_field_of_a_graph_file_sets_the_option_of_the_same_name(tmp_path: Path) -> None:
    """Commands and groups of a graph file have the options of the Python classes, and the schema has all of them."""
    options: dict[str, Any] = {
        "timeout": 2.5, "retry": 1, "priority": 3, "run_if": "succeeded", "needs": {"cpu": 1}, "idle_timeout": 4.0,
        "critical": True, "key": "k", "version": 2, "redact": True, "expected_duration": 7.0,
    }  # fmt: skip
    own: dict[str, Any] = {"cwd": "/tmp", "env": {"A": "b"}, "append": False, "nice": 3, "leftovers": "end"}
    first = entry("x", command="cat; true", stdout={"to": "PIPE"}, stderr={"to": "STDOUT"}, **options, **own)
    files = {"reads": ["in", {"depfile": "d", "cwd": "sub"}], "writes": [{"optional": "out"}], "check": [0, "TERM"]}
    retry = {"times": 2, "first": 0.5, "factor": 1, "cap": 9, "jitter": False, "on": "timeout"}
    second = entry("y", "x", command=["echo", 1, {"result": "x"}], stdin={"result": "x"}, timeout=1, retry=retry,
                   **files)  # fmt: skip
    group = {"jobs_window": 3, "policy": "critical-path", "jobserver": "fifo", "backfill": 5, "critical_jobs": True,
             "cleanup_timeout": 8.0, "shutdown_timeout": 9.0}  # fmt: skip
    pool = {"cpu": 4, "disk": "2 GiB", "gpu": ["a", "b"]}
    path = graph(tmp_path, [first, second, {"name": "g", "jobs": [entry("z")], **group}], pool=pool, timeout=9)
    CHECK(json.loads(path.read_text()))
    whole = _graph_file.read_graph_file(path)
    x, y, g = whole
    assert {name: getattr(x, name) for name in options} == {**options, "retry": Retry(1, first=0)}
    python = CommandJob("cat; true", shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **own)
    assert x._command_options == python._command_options
    python = CommandJob(["echo"], reads=["in", Depfile("d", "sub")], writes=[OptionalFile("out")], check=[0, "TERM"])
    assert y._command_options == python._command_options
    assert [job.label for job in y.required] == ["x"]
    assert repr(y.retry) == repr(Retry(2, first=0.5, factor=1, cap=9, jitter=False, on=JobTimeout))
    assert {name: getattr(g, name) for name in group} == group
    assert whole.timeout == 9
    assert whole.pool is not None
    assert whole.pool.total == Pool(**pool).total


LONG_CYCLE = [entry(f"j{number}", f"j{(number + 1) % 99}") for number in range(99)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "it is not JSON: "),
        ("[]", "Expected `object`, got `array` - at `$`"),
        ('{"jobs": []}', "Object missing required field `trioflow` - at `$`"),
        ('{"trioflow": 1, "jobs": [], "jobs": []}', "the field 'jobs' occurs more than once: keep one"),
        (
            '{"trioflow": 1, "jobs": [{"name": "a", "cwd": "/", "cwd": "."}]}',
            "'a': the field 'cwd' occurs more than once",
        ),
        ('{"trioflow": 1, "timeout": NaN}', "it is not JSON: "),
        (r'{"trioflow": 1, "jobs": [], "label": "\ud800"}', "it is not JSON: "),
        ('{"trioflow": 2, "more": 1}', "version is 2, but this trioflow reads version 1 - at `$.trioflow`"),
        ('{"trioflow": 1}', "Object missing required field `jobs` - at `$`"),
        (b'{"trioflow": 1, "label": "\xff"}', "graph.json"),
        ('{"trioflow":1,"jobs":' + '[{"name":"g","jobs":' * 50_000, "nested too deep"),
    ],
)
def test_a_file_without_a_graph_is_rejected(tmp_path: Path, text: str | bytes, said: str) -> None:
    """A JSON file that is not a valid graph gives exit code 2, and the error has the file and the fault."""
    path = tmp_path / "graph.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = trioflow("run", path)
    assert done.exit_code == 2
    assert "graph.json is not a graph of commands" in done.output
    assert said in done.output


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ([entry("a", comand=1)], "'a': Object contains unknown field `comand` - at `$.jobs[0]`"),
        ([entry("a"), entry("b", timeout="5")], "'b': Expected `float`, got `str` - at `$.jobs[1].timeout`"),
        ([{"name": "a"}], "'a' has neither a command nor jobs: give one of them - at `$.jobs[0]`"),
        ([entry("a", jobs=[])], "'a' has both a command and jobs"),
        ([entry("a", command=[])], "the command is empty: give a program and its arguments - at `$.jobs[0]`"),
        ([entry("a", command=" ")], "'a': the command is empty: give a command line - at `$.jobs[0]`"),
        ([entry("a", command=["\0"])], "contains a NUL, which cannot be passed to a program - at `$.jobs[0]`"),
        ([entry("a"), entry("a")], "two jobs are called 'a' - at `$.jobs[1]`"),
        ([entry("a", "z")], "'a' requires 'z', which is not among the jobs of the same list - at `$.jobs[0]`"),
        ([entry("a", stdin={"result": "z"})], "'a' requires 'z'"),
        ([entry("c", "b"), entry("a", "b"), entry("b", "a")], "in a cycle: b requires a requires b - at"),
        ([entry("a", "a")], "in a cycle: a requires a - at `$.jobs`"),
        (LONG_CYCLE, f"cycle: {' requires '.join([f'j{index}' for index in range(8)])} requires ... requires j0 - at"),
        ([{"name": "g", "jobs": [entry("a", "g")]}], "'g/a': 'a' requires 'g', which is not among"),
        ([entry("a", jobs_window=2)], "'jobs_window' is for groups, and 'a' is a command"),
        ([{"name": "g", "jobs": [], "cwd": "/"}], "'cwd' is for commands, and 'g' is a group"),
        ([entry("a", needs={"cpu": 1})], "cpu"),
        ([entry("a", stdout={"to": "file"})], "'a': Invalid enum value 'file' - at `$.jobs[0].stdout.to`"),
        ([entry("a", stdout={"at": "PIPE"})], "'a': Object contains unknown field `at` - at `$.jobs[0].stdout`"),
        ([entry("a", run_if="succes")], "'a': Invalid enum value 'succes' - at `$.jobs[0].run_if`"),
        ([entry("a", env=1), 5], "'a': Expected `object`, got `int` - at `$.jobs[0].env`"),
        ([{"command": ["true"]}], "Object missing required field `name` - at `$.jobs[0]`"),
        ([entry("fetch"), entry("a", "fetsh")], "not among the jobs of the same list; do you mean 'fetch'? - at"),
        ([entry("a", on_timeout="move_on")], "or omit on_timeout - at `$.jobs[0]`"),
        ([entry("a"), entry("b", command=["echo", {"result": "a"}])], "result of 'a', whose output is not captured"),
        ([entry("a", stdout="f"), entry("b", stdin={"result": "a"})], 'that job "stdout": {"to": "PIPE"} - at'),
        ([{"name": "g", "jobs": []}, entry("b", stdin={"result": "g"})], "which is a group and has none - at"),
    ],
)  # fmt: skip
def test_invalid_job_of_a_graph_file_is_rejected_with_its_json_path(tmp_path: Path, jobs: Any, said: str) -> None:
    """An error for an invalid job has its JSON path; an error for a cycle lists the first jobs of the cycle."""
    done = trioflow("run", graph(tmp_path, jobs))
    assert done.exit_code == 2, done.output
    assert said in done.output


def test_the_first_fault_of_a_graph_file_is_reported(tmp_path: Path) -> None:
    """Of several faults one is reported, on one line, and a long value is shortened."""
    jobs = [entry("a", "z"), {"name": "g", "jobs": [entry("x", "y")]}, entry("b", needs=[1], run_if=2)]
    said = trioflow("check", graph(tmp_path, jobs, pool={"cpu": -1})).output
    assert said.count(" - at `$") == len(said.splitlines()) == 1
    assert "'b': Expected `object`, got `array` - at `$.jobs[2].needs`" in said
    assert "Pool(cpu=-1)" in trioflow("run", graph(tmp_path, [entry("a")], pool={"cpu": -1})).output
    assert len(trioflow("run", graph(tmp_path, [entry("a", run_if="x" * 9_999)])).output) < 600


def test_check_of_a_graph_file_reports_what_a_run_would_reject(tmp_path: Path) -> None:
    """For a graph file, `run` reports the first problem, and `check` those of all jobs."""
    path = graph(tmp_path, [entry("a", needs={"gpu": 1}), entry("b", needs={"cpu": 3})], pool={"cpu": 2})
    hint = "'a' needs gpu=1, which no enclosing pool has (they have cpu)"
    assert hint in trioflow("run", path).output
    found = trioflow("check", path).output
    assert hint in found
    assert "rejected    b: 'b' needs cpu=3, but the total is only 2" in found


def test_job_names_are_never_used_as_paths_control_sequences_or_code(tmp_path: Path) -> None:
    """Jobs of a graph file with hostile names run like any others, and control characters are not printed."""
    names = ["../../etc", "\x1b[31mred\x07", "a/b", "$(touch owned)", "__proto__", "", " ", "x" * 10_000, "‮abc", "-rf"]
    done = trioflow("run", "--no-monitor", graph(tmp_path, [entry(name) for name in names]))
    assert done.exit_code == 0, done.output
    listed = trioflow("list", tmp_path / "graph.json").output
    assert "\x1b" not in listed
    assert "\x07" not in listed
    assert not (tmp_path / "owned").exists()


def test_set_and_a_name_are_rejected_for_a_graph_file(tmp_path: Path) -> None:
    """`--set` and a name after the colon are rejected for a graph file, which has no functions."""
    path = graph(tmp_path, [entry("a")])
    assert "which has no functions" in trioflow("run", path, "--set", "a=1").output
    assert "which has no functions" in trioflow("run", f"{path}:scenario").output


def test_the_schema_in_the_package_is_that_of_the_reader() -> None:
    """The schema file in the package is that of `Graph`. After a change of the format, write `schema` to it again."""
    (root,), definitions = msgspec.json.schema_components([_graph_file.Graph], ref_template="#/$defs/{name}")
    header = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A graph of commands for trioflow"}
    schema = {**header, **root, "$defs": definitions}
    assert schema == SCHEMA
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
