"""Graphs of commands as JSON: `trioflow run graph.json`."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from trioflow import CommandJob, Depfile, OptionalFile, Pool
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
    second = entry("y", "x", command=["echo", 1, {"result": "x"}], stdin={"result": "x"}, on_timeout="restart",
                   timeout=1, restarts=2, **files)  # fmt: skip
    group = {"jobs_window": 3, "policy": "critical-path", "jobserver": "fifo", "backfill": 5, "critical_jobs": True,
             "cleanup_timeout": 8.0, "shutdown_timeout": 9.0}  # fmt: skip
    pool = {"cpu": 4, "disk": "2 GiB", "gpu": ["a", "b"]}
    path = graph(tmp_path, [first, second, {"name": "g", "jobs": [entry("z")], **group}], pool=pool, timeout=9)
    CHECK(json.loads(path.read_text()))
    whole = _graph_file.read_graph_file(path)
    x, y, g = whole
    assert {name: getattr(x, name) for name in options} == options
    python = CommandJob("cat; true", shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **own)
    assert x._options == python._options
    python = CommandJob(["echo"], reads=["in", Depfile("d", "sub")], writes=[OptionalFile("out")], check=[0, "TERM"])
    assert y._options == python._options
    assert [job.label for job in y.required] == ["x"]
    assert (y.on_timeout, y.restarts) == ("restart", 2)
    assert {name: getattr(g, name) for name in group} == group
    assert whole.timeout == 9
    assert whole.pool is not None
    assert whole.pool.total == Pool(**pool).total


LONG_CYCLE = [entry(f"j{number}", f"j{(number + 1) % 99}") for number in range(99)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "it is not JSON: Expecting property name"),
        ("[]", "give an object, not a list"),
        ('{"jobs": []}', 'the format version is missing: add "trioflow": 1 - at `$.trioflow`'),
        ('{"trioflow": 1, "jobs": [], "jobs": []}', "the field 'jobs' occurs more than once: keep one - at `$`"),
        ('{"trioflow": 1, "timeout": NaN}', "it is not JSON: NaN is not a JSON number"),
        (r'{"trioflow": 1, "label": "\ud800"}', "unpaired surrogate"),
        ('{"trioflow": 2, "more": 1}', "version is 2, but this trioflow reads version 1 - at `$.trioflow`"),
        ('{"trioflow": 1}', "the list \"jobs\" is missing - at `$.jobs`"),
        (b'{"trioflow": 1, "label": "\xff"}', "graph.json"),
        ('{"trioflow":1,"jobs":' + '[{"name":"g","jobs":' * 50_000, "nested too deep"),
    ],
)  # fmt: skip
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
        ([entry("a", comand=1)], "'a': unknown field 'comand'; do you mean 'command'? - at `$.jobs[0]`"),
        ([entry("a"), entry("b", timeout="5")], "'b': give a number, not a string - at `$.jobs[1].timeout`"),
        ([{"name": "a"}], "'a' has neither a command nor jobs: give one of them - at `$.jobs[0]`"),
        ([entry("a", jobs=[])], "'a' has both a command and jobs"),
        ([entry("a", command=[])], "the command is empty: give a program and its arguments - at `$.jobs[0]`"),
        ([entry("a", command=" ")], "'a': the command is empty: give a command line - at `$.jobs[0]`"),
        ([entry("a", command=["\0"])], "contains a NUL, which cannot be passed to a program - at `$.jobs[0]`"),
        ([entry("a"), entry("a")], "two jobs are called 'a' - at `$.jobs[1]`"),
        ([entry("a", "z")], "'a' requires 'z', but no job in this file has that name - at `$.jobs[0]`"),
        ([entry("a", stdin={"result": "z"})], "'a' requires 'z'"),
        ([entry("c", "b"), entry("a", "b"), entry("b", "a")], "in a cycle: b requires a requires b - at"),
        ([entry("a", "a")], "in a cycle: a requires a - at `$.jobs`"),
        (LONG_CYCLE, f"cycle: {' requires '.join([f'j{index}' for index in range(8)])} requires ... requires j0 - at"),
        ([{"name": "g", "jobs": [entry("a", "g")]}], "which is not in the same group - at `$.jobs[0].jobs[0]`"),
        ([entry("a", jobs_window=2)], "'jobs_window' is for groups, and 'a' is a command"),
        ([{"name": "g", "jobs": [], "cwd": "/"}], "'cwd' is for commands, and 'g' is a group"),
        ([entry("a", needs={"cpu": 1})], "cpu"),
        ([entry("a", stdout={"to": "file"})], "'a': 'file' is not one of \"DEVNULL\", \"PIPE\", \"STDOUT\" - at"),
        ([entry("a", stdout={"at": "PIPE"})], "unknown field 'at'; known fields: \"to\" - at `$.jobs[0].stdout`"),
        ([entry("a", run_if="succes")], "'succes' is not one of \"failed\", \"settled\", \"succeeded\" - at"),
        ([entry("a", env=1), 5], "'a': give an object, not an integer - at `$.jobs[0].env`"),
        ([{"command": ["true"]}], 'it has no name: add "name" - at `$.jobs[0]`'),
        ([entry("fetch"), entry("a", "fetsh")], "but no job in this file has that name; do you mean 'fetch'? - at"),
        ([entry("a", restarts=2)], '"restarts": 2 of \'a\': it has no effect without "on_timeout": "restart"'),
        ([entry("a", on_timeout="restart")], 'give "timeout" or "idle_timeout" too, or omit on_timeout'),
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


def test_all_problems_of_a_graph_file_are_reported_together(tmp_path: Path) -> None:
    """Each problem of a graph file has a line, equal ones share one, and bad values do not hide wrong names."""
    inner = [entry("x", "y"), entry("y", retrys=1)]
    jobs = [entry("a", "z", retrys=2), {"name": "g", "jobs": inner}, entry("c", "d"), entry("d", "c")]
    done = trioflow("check", graph(tmp_path, jobs, policy="fif"))
    assert done.exit_code == 2
    assert done.output.split(": ", 2)[2].splitlines() == [
        "4 problems",
        """  'fif' is not one of "auto", "critical-path", "fifo" - at `$.policy`""",
        "  'a': unknown field 'retrys'; do you mean 'retry'? - at `$.jobs[0]`; the same for 'g/y'",
        "  'a' requires 'z', which is not in the same group - at `$.jobs[0]`",
        "  jobs require each other in a cycle: c requires d requires c - at `$.jobs`",
    ]


def test_invalid_stdout_causes_no_second_error_about_the_missing_result(tmp_path: Path) -> None:
    """If the stdout of a job is invalid, the job that uses its result is not reported as well."""
    jobs = [entry("a", stdout={"to": "PIP"}), entry("b", stdin={"result": "a"})]
    said = trioflow("check", graph(tmp_path, jobs)).output
    assert len(said.splitlines()) == 1
    assert "'PIP' is not one of" in said


def test_invalid_options_of_several_jobs_are_reported_together(tmp_path: Path) -> None:
    """An invalid job of a graph file hides no error in jobs that require it."""
    jobs = [entry("a", command=[]), entry("b", "a", restarts=1), {"name": "g", "jobs": [entry("x", jobs_window=1)]}]
    said = trioflow("run", graph(tmp_path, jobs, pool={"cpu": -1})).output
    assert [re.sub(".* - at `", "", line) for line in said.splitlines()[1:]] == [
        "$`", "$.jobs[0]`", "$.jobs[1]`", "$.jobs[2].jobs[0]`"
    ]  # fmt: skip
    assert "Pool(cpu=-1)" in said


def test_long_lists_of_problems_are_truncated(tmp_path: Path) -> None:
    """The first 20 problems of a graph file are shown, and the others are counted; long values are shortened."""
    said = trioflow("run", graph(tmp_path, [entry(f"j{number}", **{f"k{number}": 1}) for number in range(30)])).output
    assert "30 problems" in said
    assert said.splitlines()[-2:] == ["  'j19': unknown field 'k19' - at `$.jobs[19]`", "  and 10 more"]
    assert len(trioflow("run", graph(tmp_path, [entry("a", run_if="x" * 9_999)])).output) < 600


def test_duplicate_keys_are_reported_with_their_job(tmp_path: Path) -> None:
    """A key that occurs twice is an error, because JSON parsers silently choose one of the two values."""
    path = tmp_path / "graph.json"
    job = '{"name": "a", "command": ["true"], "timeout": 1, "timeout": 2, "env": {"A": "1", "A": "2"}}'
    path.write_text(f'{{"trioflow": 1, "jobs": [{job}]}}')
    said = trioflow("check", path).output
    assert "'a': the field 'timeout' occurs more than once: keep one - at `$.jobs[0]`" in said
    assert "'a': the field 'A' occurs more than once: keep one - at `$.jobs[0].env`" in said


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
    """The schema file in the package equals `graph_schema()`.

    After a change of the format, write the file again with `json.dumps(_graph_file.graph_schema(), indent=1)`.
    """
    assert _graph_file.graph_schema() == SCHEMA
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
