"""Each state that a line of a listing can have, in the whole output of a command."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import pytest
from trioflow import CommandResult
from trioflow.cli import _answer, _journal
from trioflow.journal import _serialization
from trioflow.journal._questions import GivenAnswer, Question, QuestionFiles, Refusal
from trioflow.journal._run_summary import FailedJob, RunSummary
from trioflow.journal._serialization import msgspec
from trioflow.journal._store import RunRecord, StoredJob
from .command_line import trioflow

ZERO = "1970-01-01 05:30:00+05:30"
"""The beginning of Unix time, in the zone of these tests."""


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        yield
    time.tzset()


def told(*words: object, code: int = 0) -> list[str]:
    """Return the lines that a command prints, without their alignment."""
    done = trioflow(*words)
    assert done.exit_code == code, done.output
    return [" ".join(line.split()) for line in done.output.splitlines()]


# ---- trioflow journal
USAGE: Any = SimpleNamespace(ru_utime=0, ru_stime=0, ru_maxrss=0)
EXITED = CommandResult(3, 90.5, USAGE, b"out", b"error")
KEPT = {"result": EXITED, "limit": 2.5, "is_idle": False, "waits": "", "options": {}}


def stored(path: str, result: Any = '"x"', why: str = "", **more: Any) -> StoredJob:
    one = StoredJob(path, "{}", "json", None, None, None, 3, None, 0.0, 0.25, None)
    return one._replace(result=result, why=why or None)._replace(**more)


def summary(counts: list[Any], *failures: FailedJob) -> str:
    restored = (1, 0.25, 0.0, 0.0)
    value = RunSummary(counts, [*failures], None, restored=restored)
    return msgspec.json.encode(value).decode()


RECORDS = [
    stored("ran"),
    stored("changed", why="its code has changed"),
    stored("kept", why="it was new", run=1, restored=3),
    stored("old", why="it was new", run=1, restored=2, settled=86399.0),
    stored("cut", None, "incomplete", saved=None, took=None),
    stored("gone", None, "no pickle", saved=None, run=2),
    stored("large", 3 << 20, large="hash"),
    stored("damaged", "x", large="hash"),
    stored("pickled", b"12345", saved="pickle"),
    stored("secret", outputs='{"redacted":true}'),
    stored("command", _serialization.dumps(EXITED)),
    stored("limit", _serialization.dumps(KEPT)),
    stored("floats", "[0.123456789012345,1.5]", took=0.1234567),
    stored("long", json.dumps("y" * 40 + "z" * 40)),
    stored("asked", outputs='{"answered":"yes by Ann"}'),
    stored("bad", run=2),
    stored("w" * 62, run=0),
]
FAILURES = (
    FailedJob("bad", 61.0, None, "OSError: gone"),
    FailedJob("group/worse", None, "", "ValueError: x\n y"),
    FailedJob("mild", 0.001, "its input has changed", "KeyError", True),
)
COUNTS = [
    ("succeeded", False, False, 12),
    ("failed", False, False, 2),
    ("failed", False, True, 1),
]
RUNS = [
    RunRecord(1, "first", 0.0, 1.0, "COMPLETED", "process 5"),
    RunRecord(
        2, "second", 0.0, 1.0, "FAILED", "process 6",
        summary([], FailedJob("ran", 1.0, None, "OSError")),
    ),
    RunRecord(
        3, "last", 86400.0, 86490.0, "FAILED", "process 7", summary(COUNTS, *FAILURES)
    ),
]  # fmt: skip
VERDICT = "2 failed, 1 tolerated of 15, 1 restored from 1970-01-01, "


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[RunRecord]:
    found = [*RUNS]
    monkeypatch.setattr(_journal, "read_runs_and_jobs", lambda path: (found, RECORDS))
    return found


def test_the_list_of_a_journal_has_each_state(runs: list[RunRecord]) -> None:
    long = '"' + "y" * 40 + "z" * 16 + "..."
    *lines, last = told("journal", "run.db")
    assert lines == [
        f"ran {ZERO} 250 ms ran \"x\"",
        f"ran {ZERO} 250 ms changed its code has changed",
        f"restored {ZERO} 250 ms kept \"x\"",
        "earlier 1970-01-02 05:29:59+05:30 250 ms old \"x\"",
        f"unstored {ZERO} cut incomplete",
        f"earlier {ZERO} 250 ms gone no pickle",
        f"ran {ZERO} 250 ms large a large result, 3 MiB",
        f"ran {ZERO} 250 ms damaged damaged",
        f"ran {ZERO} 250 ms pickled pickled, 5 bytes",
        f"ran {ZERO} 250 ms secret (redacted)",
        f"ran {ZERO} 250 ms command exit code 3, 1 min 30 s, stdout of 3 bytes, stderr of 5 bytes",
        f"ran {ZERO} 250 ms limit ended at its limit of 2.5 s",
        f"ran {ZERO} 123 ms floats [0.123456789,1.5]",
        f"ran {ZERO} 250 ms long {long}",
        f"ran {ZERO} 250 ms asked \"x\"",
        f"earlier {ZERO} 250 ms {'w' * 62} \"x\"",
        "failed 1 min 01 s bad OSError: gone",
        r"failed group/worse ValueError: x\n y",
        "tolerated 1.0 ms mild KeyError",
    ]  # fmt: skip
    begun = (
        "15 jobs kept, 3 runs; last run: 'last', started 1970-01-02 05:30:00+05:30: "
    )
    assert last == f"{begun}✗ {VERDICT}1 min 30 s"
    ends: dict[str, dict[str, Any]] = {
        "is running (process 7)": {"outcome": None, "is_running": True},
        "was killed (process 7)": {"outcome": None},
        f"✗ {VERDICT}0 s": {"ended": 0.0},
        "refused": {"outcome": "refused"},
        "failed": {"ending": "of another program"},
    }
    for end, facts in ends.items():
        runs[-1] = RUNS[-1]._replace(**facts)
        assert told("journal", "run.db")[-1] == f"{begun}{end}"
    runs[-1] = RUNS[-1]
    # A path of any length is shown whole, and moves its own text alone.
    place = len(f"ran      {ZERO}     250 ms  ") + 60 + 2
    shown = trioflow("journal", "run.db").output.splitlines()
    assert [line.index('"x"') for line in shown if line.endswith('"x"')] == [
        *[place] * 4, place + 2
    ]  # fmt: skip


def test_why_has_each_reason(runs: list[RunRecord]) -> None:
    plain = ["large", "damaged", "pickled", "secret", "command", "limit"]
    none = "no result in the journal"
    assert told("journal", "run.db", "why") == [
        "job took why it ran",
        "ran 250 ms it failed in the run before",
        "changed 250 ms its code has changed",
        "cut incomplete",
        *(f"{name} 250 ms {none}" for name in plain),
        f"floats 123 ms {none}",
        f"long 250 ms {none}",
        f"asked 250 ms {none}",
        f"bad 1 min 01 s {none}; OSError: gone",
        r"group/worse ValueError: x\n y",
        "mild 1.0 ms its input has changed; KeyError",
        "15 ran (3 of them failed), 1 restored",
    ]


@pytest.mark.usefixtures("runs")
def test_the_details_of_a_job_have_each_fact() -> None:
    shown = "\n".join(told("journal", "run.db", "show", "*")).split("\n\n")
    details = dict(zip([each.split()[1] for each in shown], shown, strict=True))
    assert [*details] == [
        *(each.path for each in RECORDS if each.path != "bad"),
        *(each.path for each in FAILURES),
    ]
    facts = {
        "kept": f"run: 1, settled: {ZERO}, took: 0.25, why: it was new, saved: json, "
        'result: "x"',
        "cut": f"run: 3, settled: {ZERO}, why: incomplete",
        "large": f"run: 3, settled: {ZERO}, took: 0.25, saved: json, "
        "result: a large result, 3 MiB",
        "pickled": f"run: 3, settled: {ZERO}, took: 0.25, saved: pickle, "
        "result: pickled, 5 bytes",
        "secret": f"run: 3, settled: {ZERO}, took: 0.25, saved: json, "
        "result: (redacted)",
        "floats": f"run: 3, settled: {ZERO}, took: 0.123457, saved: json, "
        "result: [0.123456789012345,1.5]",
        "asked": f"run: 3, settled: {ZERO}, took: 0.25, saved: json, "
        'result: "x", answered: yes by Ann',
    }
    states = {"kept": "restored", "cut": "unstored"}
    for name, text in facts.items():
        whole = f"path: {name}, state: {states.get(name, 'ran')}, {text}"
        assert details[name].replace("\n", ", ") == f"{whole}, fingerprint: {{}}"
    assert details["bad"] == "path: bad\ntook: 61.0\nerror: OSError: gone"
    assert details["mild"].splitlines()[1:] == [
        "took: 0.001",
        "why: its input has changed",
        "error: KeyError",
        "tolerated: True",
    ]


# ---- trioflow answer
def question(path: str, created_at: float, **facts: Any) -> Question:
    one = Question(path, path, f"{path}?", None, "str", "print", created_at)
    return one._replace(**facts)


@pytest.fixture
def files(tmp_path: Path) -> QuestionFiles:
    files = QuestionFiles(tmp_path / "run.db")
    files.make()
    (tmp_path / "run.db").touch()
    return files


def give(files: QuestionFiles, kind: str, path: str, text: str, **facts: Any) -> None:
    answer = GivenAnswer("id", path, None, text, 0.0, by="Ann")
    files.write(kind, path, answer._replace(**facts))


def test_the_list_of_questions_has_each_state(files: QuestionFiles) -> None:
    asked = [
        question("open", 9.0, choices=["yes", "no"]),
        question("given", 8.0),
        question("hidden", 7.0, redact=True),
        question("secret", 6.0),
        question("taken", 5.0),
        question("refused", 4.0),
        question("mended", 3.0),
        question("again", 2.0, number=2, question="Dear\n  Ann"),
        question("done", 1.0, answered="yes by Ann"),
    ]
    for each in asked:
        files.write("question", each.path, each)
    for name in ("given", "hidden", "taken", "refused"):
        give(files, "answer", name, "x\x1b")
    give(files, "answer", "secret", "x", is_secret=True)
    give(files, "taken", "taken", "first")
    for name, reason in (("refused", "no"), ("mended", ""), ("again", "too\nlate")):
        files.write("refused", name, Refusal("id", name, reason))
    assert told("answer", str(files.directory).removesuffix("-answers")) == [
        "job first asked question",
        "again 1970-01-01 05:30:02+05:30",
        "Dear",
        r"Ann; refused: too\nlate; --asked 2",
        "mended 1970-01-01 05:30:03+05:30 mended?",
        r"refused 1970-01-01 05:30:04+05:30 refused?; answered: x\x1b",
        "taken 1970-01-01 05:30:05+05:30 taken?; answered: first",
        "secret 1970-01-01 05:30:06+05:30 secret?; answered",
        "hidden 1970-01-01 05:30:07+05:30 hidden?; answered",
        r"given 1970-01-01 05:30:08+05:30 given?; answered: x\x1b",
        "open 1970-01-01 05:30:09+05:30 open? (yes, no)",
    ]


def test_a_name_that_has_not_asked_is_told_who_has(files: QuestionFiles) -> None:
    """Those who wait stand in the order in which they asked, and those with an answer are left out."""
    path = str(files.directory).removesuffix("-answers")
    for each in (
        question("a", 3.0),
        question("b", 2.0),
        question("c", 1.0),
        question("x/d", 5.0, label="d"),
        question("y/d", 4.0, label="d"),
    ):
        files.write("question", each.path, each)
    give(files, "answer", "b", "x")
    assert told("answer", path, "e", "x", code=1) == [
        "Error: 'e' has not asked; these jobs wait for an answer: 'c', 'a', 'y/d', 'x/d'. "
        "If 'e' will ask later, add --early"
    ]
    assert told("answer", path, "d", "x", code=1) == [
        "Error: 'd' is no path, and may be the label of several jobs; give a path: 'y/d', 'x/d'"
    ]
    files.remove("x/d", "question")
    # The run that asked has not said that no other job has the label.
    assert told("answer", path, "d", "x", code=1)[0].startswith("Error: 'd' is no path")
    files.write("question", "y/d", question("y/d", 4.0, label="d", is_sole=True))
    assert told("answer", path, "d", " x ") == ["y/d: x , when the next run asks"]


@pytest.mark.parametrize(
    ("choices", "parse", "value", "said"),
    [
        (["1", "2"], "int", "3", "'3' is no choice; choose 1 or 2"),
        (["1", "2"], "str", "3", "'3' is no choice; choose 1 or 2"),
        (["1", "2"], "own", "3", ""),
        (None, "float", "x", "'x' does not parse: could not convert string to float: 'x'"),
        (None, "float", "nan", ""),
        (None, "int", "1.5", "'1.5' does not parse: invalid literal for int() with base 10: '1.5'"),
        (None, "own", "x", ""),
    ],
)  # fmt: skip
def test_the_command_refuses_what_it_can_tell_to_be_no_answer(
    files: QuestionFiles, choices: list[str] | None, parse: str, value: str, said: str
) -> None:
    files.write("question", "a", question("a", 0.0, choices=choices, parse=parse))
    path = str(files.directory).removesuffix("-answers")
    if said:
        assert told("answer", path, "a", value, code=1) == [f"Error: a: {said}"]
    else:
        assert told("answer", path, "a", value) == [
            f"a: {value}, when the next run asks"
        ]


@pytest.mark.parametrize("text", [" a \n", "a\r\n\n", "\n", ""])
def test_of_standard_input_the_last_newline_alone_is_no_part_of_an_answer(
    files: QuestionFiles, text: str
) -> None:
    files.write("question", "a", question("a", 0.0, redact=True))
    path = str(files.directory).removesuffix("-answers")
    assert trioflow("answer", path, "a", "-", stdin=text.encode()).exit_code == 0
    expected = text.replace("\r\n", "\n").removesuffix("\n")
    assert files.read("answer", "a").text.replace("\r\n", "\n") == expected


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("is_running", [False, True])
@pytest.mark.parametrize("has_taken", [False, True])
def test_an_answer_that_a_run_has_taken_is_replaced_while_nothing_runs(
    files: QuestionFiles,
    monkeypatch: pytest.MonkeyPatch,
    replaces: bool,
    is_running: bool,
    has_taken: bool,
) -> None:
    """A run in progress uses what it has taken; of a killed one, it is replaced like any other."""
    monkeypatch.setattr(_answer, "MAX_WAIT_SECONDS", 0)
    monkeypatch.setattr(_answer, "read_journal", lambda *_: ({}, is_running))
    files.write("question", "a", question("a", 0.0))
    if has_taken:
        give(files, "taken", "a", "first")
    give(files, "answer", "a", "second", created_at=1.0)
    words = ["--replace"] * replaces
    path = str(files.directory).removesuffix("-answers")
    done = trioflow("answer", path, "a", "third", *words)
    found = [
        getattr(files.read(kind, "a"), "text", None) for kind in ("taken", "answer")
    ]
    taken = "first" if has_taken else None
    if not replaces:
        assert (done.exit_code, found) == (1, [taken, "second"])
        first = "first" if has_taken else "second"
        assert f"has been answered '{first}' by Ann, on 1970" in done.output
    elif is_running:
        assert (done.exit_code, found) == (0, [taken, "third"])
        assert done.output.startswith("a: third, in place of 'second' by Ann, on ")
        assert done.output.endswith("05:30:01+05:30; the run has not taken it yet\n")
    else:
        assert (done.exit_code, found) == (0, [None, "third"])
        earlier = "first" if has_taken else "second"
        assert done.output.startswith(f"a: third, in place of '{earlier}' by Ann, on ")
        assert done.output.endswith("+05:30, when the next run asks\n")


def test_a_run_uses_a_journal_if_the_last_one_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An earlier run that is said to go on has been killed, and its process has another program by now."""
    store = SimpleNamespace(job_records=lambda: [stored("a"), stored("b")])
    monkeypatch.setattr(_answer, "read_with_retry", lambda path, read: read(store))
    for flags in ((), (True,), (True, False), (False, True)):
        runs = [RUNS[0]._replace(is_running=flag) for flag in flags]
        store.run_records = lambda runs=runs: runs
        is_running = flags[-1:] == (True,)
        records = {name: stored(name) for name in ("a", "b")}
        assert _answer.read_journal(tmp_path) == (records, is_running)


def test_an_answer_that_comes_second_is_told_what_came_first(
    files: QuestionFiles,
) -> None:
    """Also if a run that was killed has taken it, and without its text if it was a secret."""
    path = str(files.directory).removesuffix("-answers")
    for name, kind, facts, shown in (
        ("a", "answer", {}, "'x' by Ann"),
        ("b", "taken", {}, "'x' by Ann"),
        ("c", "answer", {"is_secret": True}, "an answer by Ann"),
    ):
        files.write("question", name, question(name, 0.0))
        give(files, kind, name, "x", **facts)
        assert told("answer", path, name, "y", code=1) == [
            f"Error: '{name}' has been answered {shown}, on {ZERO}, and no run has used "
            "that yet; to give another answer in its place, add --replace"
        ]
        first = files.read_pending(name)
        assert first is not None
        assert first.text == "x"


@pytest.mark.parametrize(
    ("answered", "counted", "refused", "waiting", "said"),
    [
        ("x by Ann", "own", "", None, "done"),
        ("x by Bob", "other", "", "own", "'a' has just been answered x by Bob"),
        ("x by Bob", "other", "", "other", "'a' has just been answered x by Bob"),
        ("x by Bob", "", "", None, "'a' has just been answered x by Bob"),
        (None, "", "own", None, "not so"),
        (None, "", "other", None, "done; the run has not taken it yet"),
    ],
)
def test_the_command_says_what_a_run_has_made_of_its_own_answer(
    files: QuestionFiles,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answered: str | None,
    counted: str,
    refused: str,
    waiting: str | None,
    said: str,
) -> None:
    """What is left of an answer that came too late is removed, and nobody else's."""
    monkeypatch.setattr(_answer, "MAX_WAIT_SECONDS", 0.01)
    asked = question("a", 0.0, answered=answered, counted=counted)
    files.write("question", "a", asked)
    if refused:
        files.write("refused", "a", Refusal("x", "a", "", {refused: "not so"}))
    if waiting:
        give(files, "answer", "a", "x", id=waiting)
    answer = GivenAnswer("own", "a", None, "x", 0.0)
    if said.startswith("done"):
        assert _answer.wait_until_taken(files, answer, "done") == 0
        assert capsys.readouterr().out == f"{said}\n"
    else:
        with pytest.raises(_answer.Refused) as raised:
            _answer.wait_until_taken(files, answer, "done")
        assert (str(raised.value), raised.value.exit_code) == (said, 1)
    left = files.read("answer", "a")
    assert getattr(left, "id", None) == (waiting if waiting == "other" else None)
