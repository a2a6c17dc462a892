"""`trioflow run --journal` and `trioflow journal`: their output, and what they change."""

import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any
import pytest
from click.testing import Result
from trioflow.cli import _journal
from trioflow.journal import _serialization
from trioflow.view.text._symbols import display_width
from ..journal.conftest import file as file
from ..journal.stage import record
from ..places import ROOT
from .command_line import process, run, trioflow, written

CODE = """
import sys
async def double(number):
    return 2 * number
scenario = Scheduler(Job(double, 1, label="a"), Job(double, 2, label="b"), Job(double, 3, label="'; DROP TABLE jobs"))
"""


def ran(tmp_path: Path, file: Path, code: str = CODE) -> Result:
    return run(written(tmp_path, code), "--journal", file, "--no-monitor")


def lines(*arguments: Any) -> list[str]:
    result = trioflow("journal", *arguments)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_second_run_with_a_journal_restores_the_jobs(
    tmp_path: Path, file: Path
) -> None:
    assert "all 3 jobs succeeded, " in ran(tmp_path, file).output
    assert "3 jobs succeeded (3 restored from " in ran(tmp_path, file).output


def test_file_that_is_no_journal_is_a_usage_error(tmp_path: Path, file: Path) -> None:
    file.write_text("hello")
    result = ran(tmp_path, file)
    assert result.exit_code == 2
    assert "this file is not a journal" in result.output
    assert trioflow("journal", file).exit_code == 2
    assert (
        f"there is no file '{tmp_path / 'none'}'"
        in trioflow("journal", tmp_path / "none").output
    )


def timeless(line: str) -> str:
    """Remove from a line when its job settled, and how long it took."""
    state, rest = re.split(
        r" +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d +[\d.]+ [mµ]?s  ", line
    )
    return " ".join([state, *rest.split()])


def test_journal_list_shows_restored_jobs_and_why_others_ran(
    tmp_path: Path, file: Path
) -> None:
    ran(tmp_path, file)
    assert [timeless(line) for line in lines(file)[:2]] == ["ran a 2", "ran b 4"]
    ran(tmp_path, file, CODE.replace("double, 2", "double, 5"))
    a, b, c, last = lines(file)
    assert timeless(a) == "restored a 2"
    assert timeless(b) == "ran b argument 1 has changed from 2 to 5"
    assert timeless(c).startswith("restored '; DROP TABLE jobs")
    assert last.startswith("3 jobs kept, 2 runs; last run: 'Scheduler', started 2")
    verdict = (
        r": ✓ all 3 jobs succeeded \(2 restored from [-\d]+\), "
        r"1 run again, because 'b' has changed, [\d.]+ [mµ]?s$"
    )
    assert re.search(verdict, last)
    ran(tmp_path, file, CODE.replace('label="a"', 'label="other"'))
    assert timeless(lines(file)[0]) == "earlier a 2"


def test_journal_list_shortens_long_floats_but_no_text(
    tmp_path: Path, file: Path
) -> None:
    """The list rounds floats to nine digits, and leaves the same digits in a text; `show` has the whole result."""
    code = """
async def sizes():
    return (0.1 + 0.2, "0.30000000000000004", -1234567.123456789, 24998, 1e-17)
scenario = Scheduler(Job(sizes, label="sizes"))
"""
    ran(tmp_path, file, code)
    assert (
        timeless(lines(file)[0])
        == 'ran sizes (0.3,"0.30000000000000004",-1234567.12,24998,1e-17)'
    )
    [result] = [
        line for line in lines(file, "show", "sizes") if line.startswith("result:")
    ]
    assert "[0.30000000000000004," in result


def test_journal_list_shows_values_as_python_does(tmp_path: Path, file: Path) -> None:
    """At any depth, with the types that JSON does not have; what another program has written is shown as it is."""
    code = """
import dataclasses

@dataclasses.dataclass
class Point:
    x: float

async def values():
    return {"a": [(1,), (2, {3})], "p": Point(0.1 + 0.2), "n": None}

scenario = Scheduler(Job(values, label="values"))
"""
    ran(tmp_path, file, code)
    assert (
        timeless(lines(file)[0])
        == 'ran values {"a":[(1,),(2,{3})],"p":Point({"x":0.3}),"n":null}'
    )
    steps = '[{"$":"CommandResult","v":[3,0.5]}]', "[exit code 3]"
    for result, shown in (
        steps,
        *(
            (text, text[:50])
            for text in ('{"$":"tuple"}', '{"$":"set","v":7', "[" * 9999)
        ),
    ):
        with contextlib.closing(sqlite3.connect(file)) as database, database:
            database.execute("UPDATE jobs SET result = ?", (result,))
        assert shown in lines(file)[0]


def test_journal_list_shows_failures_in_the_order_of_all_views(
    tmp_path: Path, file: Path
) -> None:
    """Those that count come first, in the order in which they settled; which are tolerated stands before each."""
    code = """
async def late():
    await anyio.sleep(0.05)
    raise OSError("late")

jobs = Job(fail, label="optional", critical=False), Job(late, label="late"), Job(fail, label="early")
scenario = Scheduler(jobs)
"""
    ran(tmp_path, file, code)
    assert [line.split()[0] for line in lines(file)[:-1]] == [
        "failed",
        "failed",
        "tolerated",
    ]
    assert [
        name
        for line in lines(file)
        for name in re.findall("early|late  |optional", line)
    ] == [
        "early",
        "late  ",
        "optional",
    ]


def test_journal_show_prints_the_details_of_the_selected_jobs(
    tmp_path: Path, file: Path
) -> None:
    ran(tmp_path, file)
    shown = lines(file, "show", "a")
    assert "result:      2" in shown
    assert any(line.startswith("fingerprint: {") for line in shown)
    assert (
        len([line for line in lines(file, "show", "?") if line.startswith("path:")])
        == 2
    )


def test_job_removed_by_journal_forget_runs_again(tmp_path: Path, file: Path) -> None:
    ran(tmp_path, file)
    assert lines(file, "forget", "'; DROP*") == ["forgotten: 1 job"]
    assert "3 jobs succeeded (2 restored from " in ran(tmp_path, file).output
    result = trioflow("journal", file, "forget", "nothing*")
    assert result.exit_code == 2
    assert "no job in" in result.output


def test_tables_of_a_journal_are_those_of_the_docs(tmp_path: Path, file: Path) -> None:
    ran(tmp_path, file)
    page = (ROOT / "docs" / "explained" / "journals.md").read_text()
    with contextlib.closing(sqlite3.connect(file)) as db:
        (statement,) = re.findall(r'"(SELECT .* FROM jobs)"', page)
        assert [row[0] for row in db.execute(statement)] == [
            "a",
            "b",
            "'; DROP TABLE jobs",
        ]
        reference = (ROOT / "docs" / "reference" / "looking.md").read_text()
        jobs, runs = re.split(r"table `(?:jobs|runs)` has", reference)[1:]
        described = (
            re.findall(r"^\| (`.*?) \|", jobs, re.MULTILINE),
            re.findall(r".*", runs)[:1],
        )
        for table, texts in zip(("jobs", "runs"), described, strict=True):
            columns = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
            assert columns - set(re.findall(r"`(\w+)`", "".join(texts))) <= {
                "id",
                "checksum",
            }


FAILING = """
async def slow():
    await anyio.sleep(5)
f = CommandJob("echo broken >&2; exit 3", shell=True, stderr=-1, label="f")
late = Scheduler(Job(slow), label="late", timeout=0.001)
once = Job(fail if NUMBER else work, NUMBER, label="once")
blocked = Job(work, required=f, run_if="succeeded", label="blocked")
scenario = Scheduler(Job(work, label="fine"), f, once, late, blocked, label="all"KEEP)
"""


@pytest.mark.parametrize("keep", ["", ", keep_jobs=False"])
def test_the_journal_list_has_failures_with_their_errors(
    tmp_path: Path, file: Path, keep: str
) -> None:
    first, second = (
        FAILING.replace("NUMBER", number).replace("KEEP", keep) for number in "01"
    )
    ran(tmp_path, file, first)
    said = ran(tmp_path, file, second).output
    table = [re.split("  +", line) for line in lines(file, "why")]
    # `slow` may not start in time.
    assert {
        row[0]: row[-1].partition("; it was running")[0] for row in table[1:-1]
    } == {
        "f": "it failed in the run before; CommandError: exit code 3: echo broken >&2; exit 3",
        "late": "JobTimeout: 'late' did not end within its timeout of 0.001 s",
        "once": "its function has changed from flow.py:work to flow.py:fail; OSError: broken",
    }
    assert table[-1] == ["3 ran (3 of them failed), 1 restored"]
    shown = lines(file, "show", "f")
    assert "error:       CommandError: exit code 3: echo broken >&2; exit 3" in shown
    # It had 18 digits, where that of a stored job has six decimals.
    (took,) = [line.split()[1] for line in shown if line.startswith("took:")]
    assert took == str(round(float(took), 6))
    listed = lines(file)
    assert [line.split()[0] for line in listed[:-1]] == [
        "restored",
        "failed",
        "failed",
        "failed",
    ]
    assert any(
        line.endswith("  CommandError: exit code 3: echo broken >&2; exit 3")
        for line in listed[1:4]
    )
    verdict = "2 failed, 1 blocked, 1 (cancelled|never started) of 5, 1 group failed"  # `slow` may not start in time
    assert re.search(verdict, said)
    assert re.search(f": ✗ {verdict}, ", listed[-1])


def test_a_journal_gives_up_the_space_of_forgotten_jobs(
    tmp_path: Path, file: Path
) -> None:
    """When jobs are forgotten, the file of the journal becomes smaller at once."""
    many = "async def work(number): return 'x' * 1000\nscenario = Scheduler(*[Job(work, n) for n in range(500)])"
    ran(tmp_path, file, many)
    before = file.stat().st_size
    assert lines(file, "forget", "*") == ["forgotten: 500 jobs"]
    assert file.stat().st_size < before / 4
    assert lines(file)[-1].startswith("0 jobs kept, 1 run;")


def test_columns_of_a_journal_are_aligned_for_wide_characters(
    tmp_path: Path, file: Path
) -> None:
    ran(
        tmp_path,
        file,
        "async def one(): return 1\nx = Scheduler(*(Job(one, label=name) for name in ('漢字漢字', 'abcdef')))",
    )
    rows = [line for line in lines(file) if line.endswith("  1")]
    assert len(rows) == 2
    assert len({display_width(row) for row in rows}) == 1


def test_paths_of_a_journal_are_listed_as_people_read_them(
    tmp_path: Path, file: Path
) -> None:
    """A slash in a label has no backslash in the list, and what is listed selects the job."""
    ran(
        tmp_path,
        file,
        "async def one(): return 1\nscenario = Scheduler(Job(one, label='cat a/b'))",
    )
    assert "  cat a/b  1" in lines(file)[0]
    assert lines(file, "why")[1].startswith("cat a/b  ")
    assert "result:      1" in lines(file, "show", "cat a/b")


def test_journal_list_shows_that_a_run_was_killed(tmp_path: Path, file: Path) -> None:
    code = (
        CODE
        + "import os\nscenario.add(ThreadJob(os._exit, 3, label='die', required=list(scenario)))\n"
    )
    assert (
        process(
            "run", written(tmp_path, code), "--journal", file, "--no-monitor"
        ).returncode
        == 3
    )
    assert re.search(
        r"; last run: 'Scheduler', started .*: was killed \(process \d+ on .*\)",
        lines(file)[-1],
    )


def test_journal_why_lists_each_job_that_ran_with_the_reason(
    tmp_path: Path, file: Path
) -> None:
    ran(tmp_path, file)
    first = lines(file, "why")
    assert first[0].split() == ["job", "took", "why", "it", "ran"]
    assert all(line.endswith("no result in the journal") for line in first[1:-1])
    ran(tmp_path, file)
    assert lines(file, "why")[1:] == ["0 ran, 3 restored"]
    assert lines(file, "forget", "a") == ["forgotten: 1 job"]
    ran(tmp_path, file)
    assert [line.split()[0] for line in lines(file, "why")[1:]] == ["a", "1"]


def test_a_job_that_has_failed_is_listed_once(tmp_path: Path, file: Path) -> None:
    ran(tmp_path, file)
    failing = CODE.replace(
        "return", "if number == 2: raise OSError\n    return"
    ).replace("2,", "2, version=2,")
    ran(tmp_path, file, failing)
    for words in ((), ("why",)):
        assert sum("OSError" in line for line in lines(file, *words)) == 1
        assert sum("b" in line.split() for line in lines(file, *words)) == 1
    assert lines(file, "why")[-1] == "1 ran (1 of them failed), 2 restored"


def test_journal_lists_a_job_cut_short_by_its_timeout_as_unstored(
    tmp_path: Path, file: Path
) -> None:
    ran(
        tmp_path,
        file,
        CODE
        + "scenario.add(Job(anyio.sleep, 9, label='cut', timeout=0.01, on_timeout='move_on'))",
    )
    (cut,) = [line for line in lines(file) if line.startswith("unstored")]
    assert timeless(cut) == "unstored cut incomplete because of its timeout"
    assert lines(file)[-1].startswith("3 jobs kept, 1 run;")
    assert lines(file, "why")[-1] == "4 ran, 0 restored"


@pytest.mark.parametrize(
    "value", [(), (1,), (1, 2), set(), {1}, [], [()], {"a": ((), (1,))}]
)
def test_a_container_is_shown_as_in_python(value: Any) -> None:
    text = _serialization.dumps(value)
    assert isinstance(text, str)
    shown = _journal.short_result(record("job", text))
    # An empty set has no display of its own.
    python = "{}" if value == set() else repr(value)
    assert shown.replace('"', "'") == python.replace(" ", "")
