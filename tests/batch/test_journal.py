"""`trioflow batch --journal`: a command that succeeded does not run again, and its output is printed again."""

import csv
import dataclasses
import json
import random
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any
import pytest
from click.testing import Result
from trioflow.batch._command_job import OUTCOME_OPTIONS
from trioflow.batch._options import Options
from ..cli.command_line import trioflow
from ..places import PATIENCE, patiently
from .process import meanwhile, running

pytestmark = pytest.mark.usefixtures("plain_shell")


def batch(*words: Any) -> Result:
    return trioflow("batch", "-k", "--journal", "run.db", *words)


def runs(directory: Path = Path()) -> list[str]:
    """Return what the commands wrote into a file when they ran."""
    file = directory / "runs"
    return sorted(file.read_text().split()) if file.exists() else []


def test_a_successful_command_is_not_run_again() -> None:
    """A second batch with the journal prints stored outputs again, and runs only the commands that failed."""
    command = "echo {} >> runs; echo out {}; echo err {} >&2; exit {}"
    first = batch(command, ":::", 0, 3, 0, 0)
    assert (first.stdout, first.exit_code, runs()) == (
        "out 0\nout 3\nout 0\nout 0\n",
        1,
        ["0", "0", "0", "3"],
    )
    again = batch(command, ":::", 0, 3, 0, 0)
    assert (again.stdout, meanwhile(again.stderr), again.exit_code) == (
        first.stdout,
        meanwhile(first.stderr),
        1,
    )
    assert runs() == ["0", "0", "0", "3", "3"]


def test_the_verdict_in_a_journal_counts_commands_only() -> None:
    for _ in range(2):
        batch("exit {}", ":::", 0, 3, 0)
        last = trioflow("journal", "run.db").output.splitlines()[-1]
        assert ": ✗ 1 failed of 3, " in last


def test_a_batch_says_what_its_journal_says_about_the_time_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trioflow.view.text._verdict.MIN_SAVED_SECONDS", 0)
    for _ in range(2):
        again = batch("exit {}", ":::", 0, 3, 0)
    [said] = re.findall("2 restored from .* saved", again.stderr)
    assert said in trioflow("journal", "run.db").output


def test_the_verdict_in_a_journal_counts_kept_failures() -> None:
    """A journal once said that all commands had succeeded, though it kept two of them as failures."""
    for _ in range(2):
        batch("--keep", "all", "exit {}", ":::", 0, 3, 4)
        last = trioflow("journal", "run.db").output.splitlines()[-1]
        assert "3 jobs kept" in last
        assert ": ✗ 2 failed of 3, " in last


NOT_OUTCOME_OPTIONS = [
    "words", "jobs", "timeout", "idle_timeout", "memfree", "pool", "halt", "joblog", "journal", "keep", "results",
    "keep_order", "line_buffer", "tag", "bar", "dry_run", "files", "null", "colsep", "items_per_command", "fills_lines",
]  # fmt: skip
"""The options that cannot turn a failure into a success, but for the limits, which count if they ended the command."""


def test_each_option_that_can_change_an_outcome_counts() -> None:
    """A new option is either among those that count for kept failures, or stands in the list above."""
    names = [field.name for field in dataclasses.fields(Options)]
    assert sorted(names) == sorted([*OUTCOME_OPTIONS, *NOT_OUTCOME_OPTIONS])


def test_the_defaults_of_options_that_count_are_those_of_the_command_line() -> None:
    batch("--keep", "all", "exit {}", ":::", 3)
    assert '"options":{}' in trioflow("journal", "run.db", "show", "*").stdout


def test_a_kept_failure_counts_for_the_same_options_only() -> None:
    """A failure by a lack of memory was once restored for ever, though the memory limit was raised."""
    for options, expected in (
        ("", 1),
        ("", 1),
        ("--retries 2", 3),
        ("--retries 2", 3),
        ("--pin", 4),
    ):
        batch("--keep", "all", *options.split(), "echo x >> runs; exit {}", ":::", 3)
        assert len(runs()) == expected


def test_commands_count_by_their_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two directories with one journal, each has its own outputs; one once got those of the other. A project that is
    moved with its journal is as before."""
    top = tmp_path / "project"
    for name in "ab":
        (top / name).mkdir(parents=True)
        (top / name / "f").write_text(f"{name}\n")
    for place, expected in (("a", 1), ("b", 1), ("a", 1), ("b", 1), ("moved", 1)):
        if place == "moved":
            monkeypatch.chdir(tmp_path)
            top = top.rename(tmp_path / "elsewhere")
        for name in "ab" if place == "moved" else place:
            monkeypatch.chdir(top / name)
            shown = trioflow(
                "batch",
                "-k",
                "--journal",
                str(top / "run.db"),
                "cat {}; echo x >> runs",
                ":::",
                "f",
            )
            assert (shown.stdout, len(runs())) == (f"{name}\n", expected)


@patiently(0.3, 3, 30)
def test_a_kept_failure_has_one_line_in_the_job_log(unit: float) -> None:
    """A resumed batch with `--keep all` once logged each failure and timeout again."""
    for _ in range(2):
        words = ["--journal", f"{unit}.db", "--joblog", f"log{unit}", "--timeout", unit]
        trioflow(
            "batch", "--keep", "all", *words, ":::", "exit 0", "exit 3", "sleep 900"
        )
    assert sorted(
        line.split("\t")[6] for line in Path(f"log{unit}").read_text().splitlines()[1:]
    ) == ["-1", "0", "3"]


def test_equal_command_that_a_later_batch_adds_is_run() -> None:
    batch("echo {} >> runs", ":::", "a")
    batch("echo {} >> runs", ":::", "a", "a", "b")
    assert runs() == ["a", "a", "b"]


def test_command_with_arguments_that_are_not_utf8_is_restored() -> None:
    """A command whose arguments are not UTF-8 is restored, because any bytes identify a command in the journal."""
    Path("names").write_bytes(b"a\x80\n")
    for _ in range(2):
        assert batch("-a", "names", "echo x >> runs; : {}").exit_code == 0
    assert runs() == ["x"]


def test_restored_outputs_are_saved_again() -> None:
    words = ["--results", "saved", "echo", ":::", "a", "b"]
    batch(*words)
    Path("saved/1/a/stdout").unlink()
    assert batch(*words).exit_code == 0
    assert Path("saved/1/a/stdout").read_text() == "a\n"


def test_a_resumed_batch_begins_its_records_anew() -> None:
    """With a journal, too, the job log and the lines of JSON have each command once, restored ones with their times."""
    words = [
        "-j1",
        "--results",
        "done.jsonl",
        "--joblog",
        "log",
        "echo {}; exit {}",
        ":::",
        "0",
        "3",
        "0",
    ]
    assert batch(*words).exit_code == 1
    header, *before = Path("log").read_text().splitlines()
    Path("done.jsonl").write_text('{"seq": 1, "comm')
    assert batch(*words).exit_code == 1
    assert Path("log").read_text().splitlines()[0] == header
    after = [line.split("\t") for line in Path("log").read_text().splitlines()[1:]]
    assert [(row[0], row[6]) for row in after] == [("1", "0"), ("2", "3"), ("3", "0")]
    assert [row[3] for row in after[::2]] == [
        line.split("\t")[3] for line in before[::2]
    ]
    records = [json.loads(line) for line in Path("done.jsonl").read_text().splitlines()]
    assert [record["exit_code"] for record in records] == [0, 3, 0]
    assert all(record["seconds"] > 0 for record in records)


def test_a_job_log_that_is_appended_to_gets_only_commands_that_ran_now() -> None:
    words = ["-j1", "--joblog", "+log", "exit {}", ":::", "0", "3"]
    for _ in range(2):
        batch(*words)
    assert [
        line.split("\t")[6] for line in Path("log").read_text().splitlines()[1:]
    ] == ["0", "3", "3"]


def test_journal_that_cannot_grow_ends_the_batch(tmp_path: Path) -> None:
    words = (
        "--journal",
        "run.db",
        "-j1",
        "head -c 3000 /dev/zero | tr '\\0' x; echo {}",
        ":::",
        *map(str, range(40)),
    )
    with running(
        *words,
        first="resource.setrlimit(resource.RLIMIT_FSIZE, (40960, 40960))",
        cwd=tmp_path,
    ) as process:
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 255
    assert stderr.startswith(
        b"Error: journal 'run.db': cannot write to it: the limit of the file size is "
    )
    assert stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--journal", "run.db", "--dry-run", "echo", ":::", "a"],
            "run `trioflow journal run.db`",
        ),
        (
            ["--journal", "other", "echo", ":::", "a"],
            "journal 'other': this file is not a journal",
        ),
    ],
)
def test_invalid_journal_options_of_a_batch_are_rejected(
    words: list[str], told: str
) -> None:
    """Invalid journal options give exit code 255 and advice, and a file that is no journal is not changed."""
    Path("other").write_text("of somebody else")
    done = trioflow("batch", *words)
    assert done.exit_code == 255
    assert told in done.stderr.replace("\n", " ")
    assert Path("other").read_text() == "of somebody else"


def test_killed_batch_completes_when_it_is_started_again(tmp_path: Path) -> None:
    """A batch that is killed at random times can be started again; it repeats only commands that were running."""
    numbers = [str(number) for number in range(20)]
    words = (
        "--journal",
        str(tmp_path / "run.db"),
        "-j3",
        "-k",
        "sleep 0.05; echo {} >> runs; echo {}",
        ":::",
    )
    kills = 0
    while True:
        with running(*words, *numbers, cwd=tmp_path) as process:
            if kills < 2:
                end = time.monotonic() + random.uniform(0.1, 0.3)
                while process.poll() is None and time.monotonic() < end:
                    time.sleep(0.01)
            if kills < 2 and process.poll() is None:
                process.kill()
                kills += 1
                process.communicate(timeout=PATIENCE)
                continue
            stdout, stderr = process.communicate(timeout=PATIENCE)
        assert (stdout.decode().split(), stderr, process.returncode) == (
            numbers,
            b"",
            0,
        )
        break
    assert kills
    ran = runs(tmp_path)
    assert set(ran) == set(numbers)
    assert len(ran) <= len(numbers) + 3 * kills


def rows(table: str = "runs.csv") -> list[dict[str, str]]:
    with open(table, newline="", encoding="utf-8") as file:
        return sorted(csv.DictReader(file), key=lambda row: int(row["seq"]))


TIMES = "seconds", "user_time", "system_time", "max_rss"


def test_a_resumed_table_has_the_values_of_the_first_run_and_says_which_rows_were_restored() -> (
    None
):
    """The second batch neither repeats a row nor measures it anew, and has the row of a command that ran again."""
    words = ["--results", "runs.csv", "echo {}; exit {}", ":::", "0", "3"]
    for _ in range(2):
        before = rows() if Path("runs.csv").exists() else []
        assert batch(*words).exit_code == 1
    first, second = rows()
    assert (first["arg1"], first["restored"], first["stdout"]) == ("0", "True", "0\n")
    assert [first[name] for name in TIMES] == [before[0][name] for name in TIMES]
    assert float(first["started"]) < float(
        second["started"]
    )  # when the journal has it, without what it took
    assert (second["exit_code"], second["restored"]) == ("3", "False")
    assert second["started"] > before[1]["started"]


@patiently(0.5, 5, 50)
def test_keep_all_keeps_failures_and_timeouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: float
) -> None:
    monkeypatch.chdir(tmp_path)
    command = "echo {} >> runs; sleep {1}; exit {2}"
    words = [
        "--results",
        "runs.csv",
        "--timeout",
        unit,
        command,
        ":::",
        "0",
        "900",
        ":::",
        "0",
        "3",
    ]
    assert [batch("--keep", "all", *words).exit_code for _ in range(2)] == [3, 3]
    assert len(runs()) == 8  # two words each
    assert [row["exit_code"] for row in rows()] == ["0", "3", "", ""]
    assert {row["restored"] for row in rows()} == {"True"}
    assert all(row["seconds"] for row in rows())
    assert [bool(row["user_time"] and row["system_time"]) for row in rows()] == [
        True,
        True,
        False,
        False,
    ]
    assert batch(*words).exit_code == 3  # without the option, failures run again
    assert len(runs()) == 14


@pytest.mark.parametrize("option", ["--timeout", "--idle-timeout"])
@patiently(0.2, 2, 20)
def test_a_kept_timeout_is_restored_under_the_same_limit_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, unit: float
) -> None:
    """A command that a limit ended runs again under a longer one, which it was once said to have reached."""
    monkeypatch.chdir(tmp_path)
    waits = "echo {} >> runs; until test -e go; do sleep 0.01; done"
    words = ["--keep", "all", "--results", "runs.csv", waits, ":::", "a"]
    assert batch(option, unit, *words).exit_code == 1
    assert (batch(option, unit, *words).exit_code, runs()) == (1, ["a"])
    Path("go").touch()
    assert batch(option, PATIENCE, *words).exit_code == 0
    assert runs() == ["a", "a"]
    (row,) = rows()
    assert (row["failure"], row["restored"]) == ("", "False")


def test_keep_all_does_not_keep_what_could_not_be_started() -> None:
    """A program that was missing, or could not be executed, is tried again by the next batch, and then runs."""
    Path("locked").write_text("#!/bin/sh\n")
    words = [
        "--keep",
        "all",
        "--results",
        "runs.csv",
        "./{} x",
        ":::",
        "missing",
        "locked",
    ]
    assert "./missing x: exit code 127: command not found" in batch(*words).stderr
    assert [row["failure"] for row in rows()] == [
        "exit code 127: command not found",
        "exit code 126",
    ]
    for name in ("missing", "locked"):
        Path(name).write_text("#!/bin/sh\n")
        Path(name).chmod(0o755)
    assert batch(*words).exit_code == 0
    assert [row["failure"] for row in rows()] == ["", ""]


@pytest.mark.parametrize("table", ["runs.csv", "runs.jsonl"])
def test_restored_rows_have_the_numbers_of_this_batch(table: str) -> None:
    """An argument that is added in front of others moves them, so two rows of a table once had one number."""
    words = ["-j1", "--joblog", "log", "--results", table, "echo", ":::"]
    batch(*words, "a", "c")
    batch(*words, "a", "b", "c")
    expected = {"echo a": 1, "echo b": 2, "echo c": 3}
    records = (
        rows()
        if table == "runs.csv"
        else [json.loads(line) for line in Path(table).read_text().splitlines()]
    )
    assert {str(row["command"]): int(row["seq"]) for row in records} == expected
    columns = [line.split("\t") for line in Path("log").read_text().splitlines()[1:]]
    assert {row[-1]: int(row[0]) for row in columns} == expected
    assert len(records) == len(columns) == 3


def test_a_refused_batch_leaves_the_records_of_the_running_one() -> None:
    words = ["--joblog", "log", "--results", "runs.jsonl", "echo", ":::", "a"]
    batch(*words)
    before = Path("log").read_bytes(), Path("runs.jsonl").read_bytes()
    Path("run.db").write_text("no journal")
    assert batch(*words).exit_code == 255
    assert (Path("log").read_bytes(), Path("runs.jsonl").read_bytes()) == before


def test_a_resumed_table_of_csv_keeps_texts_that_a_spreadsheet_would_compute() -> None:
    """In CSV, texts that begin like a formula have an apostrophe in front, also in a resumed table."""
    words = ["-j1", "--results", "runs.csv", "{}", ":::", "echo -1", "echo =1+1", "-x"]
    for _ in range(2):
        batch(*words)
    found = [(row["arg1"], row["command"], row["stdout"]) for row in rows()]
    assert found == [
        ("echo -1", "echo -1", "-1\n"),
        ("echo =1+1", "echo =1+1", "'=1+1\n"),
        ("'-x", "'-x", ""),
    ]


@patiently(0.5, 5, 50)
def test_journal_names_end_of_each_kept_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: float
) -> None:
    """The listing of a journal has exit codes and limits, not the form in which a failure is stored."""
    monkeypatch.chdir(tmp_path)
    batch(
        "--keep",
        "all",
        "--timeout",
        unit,
        "sleep {1}; exit {2}",
        ":::",
        "0",
        "900",
        ":::",
        "3",
    )
    listing = trioflow("journal", "run.db").stdout
    assert "exit code 3" in listing
    assert f"ended at its limit of {unit} s" in listing


def test_keep_all_needs_a_journal() -> None:
    assert (
        "--keep all needs --journal"
        in trioflow("batch", "--keep", "all", "true", ":::", "x").stderr
    )


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux counts the moment before exec"
)
def test_the_peak_memory_of_a_small_command_has_a_bound_in_a_table() -> None:
    code = "import sys; x = b'x' * (int(sys.argv[1]) << 20)"
    command = f"{sys.executable} -I -S -c {shlex.quote(code)}"
    # In a process of its own: the memory of this one may be more than that of the commands.
    with running(
        "-k",
        "--journal",
        "run.db",
        "-j1",
        "--results",
        "runs.csv",
        command,
        ":::",
        "1",
        "200",
    ) as process:
        process.communicate(timeout=PATIENCE)
    small, large = rows()
    assert (small["max_rss"], large["max_rss_bound"]) == ("", "")
    assert 0 < int(small["max_rss_bound"]) < 200 << 20 < int(large["max_rss"])


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux counts the moment before exec"
)
def test_no_bound_is_claimed_for_the_memory_of_what_a_timeout_has_ended() -> None:
    batch(
        "-j1", "--timeout", "1", "--results", "runs.csv", "sleep 600; echo", ":::", "x"
    )
    (row,) = rows()
    assert row["failure"] == "ended by --timeout"
    assert (row["max_rss"], row["max_rss_bound"]) == ("", "")
