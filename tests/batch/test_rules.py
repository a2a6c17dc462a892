"""The pure parts of a batch: numbers and durations, rules for stopping, exit codes, and the job log."""

import io
import math
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import _command_options
from trioflow.batch import BatchError
from trioflow.batch._command_job import CommandOutcome
from trioflow.batch._options import HaltRule
from trioflow.batch._output import Backlog, tag_lines
from trioflow.batch._record_files import JoblogFormat, RecordFile
from trioflow.batch._reporter import CommandTally

CODES = st.lists(st.sampled_from([0, 0, 1, 7, 255]), min_size=1, max_size=30)
LOGGED = st.builds(
    CommandOutcome,
    st.integers(1), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.just(None), st.sampled_from([None, OSError()]), st.integers(0, 10**10).map(float),
    st.integers(0, 10**6).map(float), received_bytes=st.integers(0),
)  # fmt: skip


DURATIONS = [("2", 2), ("0.5", 0.5), (".5s", 0.5), ("1m", 60), ("1d2h3m4.5s", 93784.5), ("1H", 3600)]


def test_durations_may_combine_units() -> None:
    """A duration may combine seconds, minutes, hours and days, as in GNU parallel."""
    for text, seconds in DURATIONS:
        assert _command_options.parse_seconds(text) == seconds


def test_an_invalid_duration_is_rejected() -> None:
    for text in ["", "x", "-1", "1 m", "200%", "1e3", "inf", "nan", "."]:
        with pytest.raises(ValueError, match="is not a duration: give seconds"):
            _command_options.parse_seconds(text)


SLOTS = [("3", 3), ("150%", 6), ("100%", 4), ("1%", 1), ("+2", 6), ("-1", 3), ("-9", 1)]


def test_number_of_slots_may_be_a_percentage_or_a_difference() -> None:
    """Percentages and differences for `-j` are relative to the number of CPUs; there is at least one slot."""
    for text, slots in SLOTS:
        assert _command_options.parse_slots(text, cpus=4) == slots


def test_number_of_slots_without_a_limit_depends_on_the_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `-j 0`, as many commands run at once as the process's limit of open files allows."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (340, 340) if which == 7 else (-1, -1))
    assert resource.RLIMIT_NOFILE == 7
    assert _command_options.parse_slots("0") == 50


def test_an_invalid_number_of_slots_is_rejected() -> None:
    for text in ["", "x", "1.5", "+5%", "4k", "²"]:
        with pytest.raises(ValueError, match="is not a number of jobs"):
            _command_options.parse_slots(text)


INVALID_RULES = ["", "now", "now,fail", "now,fail=0", "now,fail=x", "later,fail=1", "now,bar=1", "3", "-1", "30%"]


def test_an_invalid_halt_rule_is_rejected() -> None:
    for text in INVALID_RULES:
        with pytest.raises(ValueError, match="is not a rule: write never, or WHEN,WHY=N"):
            HaltRule.parse(text)


@given(CODES, st.sampled_from(["fail", "success", "done"]), st.integers(1, 9))
def test_halt_rule_is_met_from_the_nth_counted_command_on(codes: list[int], what: str, number: int) -> None:
    """A rule such as `soon,fail=3` is met from the third failure on, whatever other commands end in between."""
    tally = CommandTally(HaltRule.parse(f"soon,{what}={number}"))
    counted = [code for code in codes if what == "done" or bool(code) == (what == "fail")]
    assert sum(tally.add(code) for code in codes) >= max(0, len(counted) - number + 1)
    assert (tally.decisive_exit_code is None) == (len(counted) < number)
    if len(counted) >= number:
        assert tally.decisive_exit_code == counted[number - 1]


@given(CODES, st.integers(1, 100))
def test_percentage_in_a_halt_rule_is_of_all_commands(codes: list[int], percent: int) -> None:
    """`soon,fail=20%`, say, is met when 20 % of all commands have failed; their percentage is the exit code."""
    tally = CommandTally(HaltRule.parse(f"soon,fail={percent}%"), total=40)
    met = [tally.add(code) for code in codes]
    failed = sum(map(bool, codes))
    assert met[-1] == (failed / 40 >= percent / 100)
    assert tally.exit_code == math.ceil(100 * failed / 40)


@given(CODES)
def test_exit_code_without_a_halt_rule_counts_failures(codes: list[int]) -> None:
    tally = CommandTally()
    assert not any(tally.add(code) for code in codes * 10)
    assert tally.exit_code == min(10 * sum(map(bool, codes)), 101)


EXIT_CODES = [
    ("now,fail=1", [0, 5, 6], 5), ("now,fail=1", [0, 0], 0), ("soon,fail=2", [0, 5, 6], 2),
    ("now,success=1", [5, 0], 0), ("now,success=3", [5, 0, 0], 1), ("now,done=2", [5, 0], 1),
    ("soon,success=50%", [5, 0, 0], 0), ("soon,success=90%", [5, 0, 0], 34),
]  # fmt: skip


def test_halt_rule_determines_the_exit_code() -> None:
    """Under `fail=1`, the exit code is that of the failure; a met `success` rule gives 0; others count failures."""
    for rule, codes, exit_code in EXIT_CODES:
        tally = CommandTally(HaltRule.parse(rule), total=len(codes))
        for code in codes:
            tally.add(code)
        assert tally.exit_code == exit_code


@given(LOGGED)
def test_command_is_one_line_of_the_job_log(row: CommandOutcome) -> None:
    """In the job log, any command is a line of nine columns, and line ends in the command become NULs."""
    *columns, command = b"".join(JoblogFormat().encode_outcome(row, ())).decode().split("\t", 8)
    assert (len(columns), command) == (8, row.command.replace("\n", "\0") + "\n")


def test_job_log_is_replaced_or_appended_to(tmp_path: Path) -> None:
    """A last line of the job log that a crash cut off is removed, since it may look like a shorter command."""
    path = tmp_path / "log"
    for append, command in ((True, "a"), (True, "b"), (False, "c")):
        write(path, append, command)
        if command == "b":
            assert [line.split("\t")[-1] for line in path.read_text().splitlines()] == ["Command", "a", "b"]
    path.write_text(path.read_text() + "2\t:\t1")
    write(path, True, "d")
    assert [line.split("\t")[-1] for line in path.read_text().splitlines()] == ["Command", "c", "d"]
    path.write_text("notes without a newline")
    for append in (True, False):
        with pytest.raises(BatchError, match="no batch has written this file, so it stays as it is: give another file"):
            write(path, append, "e")
    assert path.read_text() == "notes without a newline"


def write(path: Path, append: bool, command: str) -> None:
    log = RecordFile(str(path), JoblogFormat(), append=append)
    log.add(CommandOutcome(1, command, None, None, 0, 0), (), 1)
    log.close()


def test_a_job_log_that_cannot_be_written_stops_the_batch_at_its_start() -> None:
    for path in ["/dev/full", "/no/such/log", "/"]:
        with pytest.raises(BatchError, match=f"cannot write the job log '{path}': "):
            RecordFile(path, JoblogFormat())


@given(st.lists(st.binary(max_size=30), max_size=8), st.integers(0, 60), st.randoms(use_true_random=False))
def test_waiting_outputs_are_kept_in_any_order(outputs: list[bytes], in_memory: int, random: object) -> None:
    backlog = Backlog(in_memory)
    for _ in range(2):
        places = [(backlog.store(io.BytesIO(output)), output) for output in outputs]
        random.shuffle(places)  # type: ignore[attr-defined]
        assert all(b"".join(backlog.take(place)) == output for place, output in places)


@given(st.lists(st.sampled_from([b"a", b"\n", b"b\nc", b"\n\n", b"d\n"])))
def test_each_line_is_tagged_once(pieces: list[bytes]) -> None:
    """Each line of output gets one tag, into whatever pieces the output is cut; nothing else changes."""
    lines = b"".join(pieces).splitlines(keepends=True)
    assert b"".join(tag_lines(pieces, b"t\t")) == b"".join(b"t\t" + line for line in lines)
