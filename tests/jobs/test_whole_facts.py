"""Whole facts of jobs that run elsewhere: words, labels, outputs, codes, conditions and files, each in one table.

Most laws look at what a run would do, without one: these tests are cheap."""

import errno
import functools
import io
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import anyio
import pytest
from trioflow import (
    Answer,
    CommandError,
    CommandJob,
    CommandResult,
    CommandService,
    CommandSucceeds,
    Job,
    JobState,
    JobTimeout,
    OutputLine,
    PortOpen,
    ProcessJob,
    Retry,
    Scheduler,
    ThreadJob,
    _posix,
    granted,
)
from trioflow.abc import BackendName
from trioflow.jobs import _sent_calls, _user_files
from trioflow.jobs.command import (
    _argv,
    _output_sinks,
    _readiness,
    _resource_limits,
    _start_errors,
)
from trioflow.jobs.command._output_sinks import MAX_TAIL_BYTES
from trioflow.jobs.command._program_service import MAX_KEPT_LINES
from trioflow.jobs.command._result import (
    describe_failure,
    parse_check,
    with_output,
)
from trioflow.jobs.posix import _cpus, _files, _guard, _guard_script, _processes
from trioflow.jobs.posix._processes import ReportedUsage
from trioflow.jobs.process import _process_job, _worker_main, _worker_pool
from ..bodies import give, ran, run
from ..conftest import Virtual
from .fingerprints import difference

PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL

# ---- questions


def test_what_others_read_of_a_question() -> None:
    long = f"{'a' * 60} {'b' * 60}?"
    question = Answer("deploy\nnow?", choices=["yes", "no", 3])
    assert question.status_text() == "asks: deploy … (yes, no or 3)"
    assert question.default_label(0) == "deploy\nnow?"
    assert question._shown_question() == ("deploy\nnow?", ["yes", "no", "3"])
    secret = Answer("pin?", choices=["1", "2"], redact=True)
    assert secret._shown_question() == ("pin?", None)
    assert Answer(Job(give, "x", redact=True))._shown_question() == ("a secret", None)
    label = Answer(long).default_label(0)
    assert len(label) == 60
    assert label.startswith("aaaa")
    assert label.endswith("bbb?")
    assert Answer("a", choices=["x"])._choices_text() == "x"
    assert question._open_question() is None


def test_a_question_of_each_run_has_its_number_its_text_and_its_refusal(
    virtual: Virtual,
) -> None:
    """The same text again is the same question, and another has the next number."""
    texts = ["one?", "one?", "two?", "three?"]
    seen: list[Any] = []

    async def ask() -> str:
        return texts.pop(0)

    async def look() -> None:
        await anyio.sleep(0.1)
        seen.append(question._open_question())
        seen.append(question.status_text())
        question.answer("yes")
        seen.append(question._open_question())

    question = Answer(Job(ask), choices=["yes", "no"], label="q")
    scheduler = Scheduler(question, Job(look))
    for number, text in ((1, "one?"), (1, "one?"), (2, "two?"), (3, "three?")):
        question._refusal = "of before"
        assert virtual(scheduler.co_run)
        asked = "" if number == 1 else f" (--asked {number})"
        assert seen == [
            (text, ["yes", "no"], False, "", number), f"asks{asked}: {text} (yes or no)", None,
        ]  # fmt: skip
        seen.clear()
        assert question._open_question() is None
        assert re.fullmatch(r"'yes' by the program, at 2.*", question._told)
        question.forget_run()
        assert (question.question, question._told) == ("", "")


def test_two_questions_are_told_apart_by_labels_and_keys_of_their_groups(
    tmp_path: Path,
) -> None:
    def is_told(*ways: list[Any]) -> bool:
        outermost = Scheduler(journal=tmp_path / "run.db")
        for way in ways:
            job: Any = Answer("a?", label="a", key=way[-1])
            for label, key in way[:-1]:
                job = Scheduler(job, label=label, key=key)
            outermost.add(job)
        try:
            for job in outermost.iterate_jobs():
                if isinstance(job, Answer):
                    job.check_before_run()
        except ValueError:
            return False
        return True

    g, h, k = ("g", None), ("h", None), ("g", 1)
    cases: dict[str, list[Any]] = {
        "alone": [[None]], "same": [[None], [None]], "keys": [[1], [2]], "groups": [[g, None], [g, None]],
        "other groups": [[g, None], [h, None]], "key of a group": [[g, None], [k, None]],
        "depth": [[g, None], [g, g, None]],
        "order": [[g, h, None], [h, g, None]], "deep": [[g, h, None], [g, h, None]],
    }  # fmt: skip
    assert [name for name, ways in cases.items() if not is_told(*ways)] == [
        "same", "groups", "deep",
    ]  # fmt: skip


def test_a_question_is_restored_unless_it_is_another(tmp_path: Path) -> None:
    one = Answer("a?", choices=["x", "y"], label="q")
    assert (
        difference(one, Answer("a?", choices=["x", "y"], label="r"), tmp_path) is None
    )
    assert (
        difference(one, Answer("b?", choices=["x", "y"]), tmp_path)
        == 'argument 1 has changed from "a?" to "b?"'
    )
    others: list[Any] = [
        Answer("a?", choices=["x"]), Answer("a?"), Answer("a?", choices=["x", "y"], parse=repr),
    ]  # fmt: skip
    for other in others:
        changed = difference(one, other, tmp_path)
        assert (changed or "").startswith(("its options", "the options of"))
    rejects = one.for_journal().rejects
    assert rejects is not None
    assert rejects("x") is None
    one.answer("y")
    assert rejects("x") == "answer() has given another answer since"
    assert (rejects("y"), rejects("x")) == (
        None,
        "answer() has given another answer since",
    )
    one._skip_run()
    assert rejects("x") is None


# ---- calls that are sent


def test_the_part_of_a_call_that_cannot_be_sent_is_named() -> None:
    lock = threading.Lock()
    job = ProcessJob(abs, 1, label="j")
    secret = ProcessJob(abs, 1, label="j", redact=True)

    def local() -> None:
        """Be local."""

    def error(call: Any, job: Any = job) -> TypeError:
        call = functools.partial(call) if not isinstance(call, functools.partial) else call  # fmt: skip
        return _sent_calls.unpicklable_error(call, job, "a process", pickle.Pickler, ValueError("why"))  # fmt: skip

    P = functools.partial
    texts = {
        P(local): "test_the_part_of_a_call_that_cannot_be_sent_is_named.<locals>.local cannot be sent to a process, "
        "which could not find it: define it at the top level of a module",
        P(print, 1, lock): "argument 2, a lock, cannot be sent to a process: why",
        P(print, 1, key=lock): "argument 'key', a lock, cannot be sent to a process: why",
    }  # fmt: skip
    assert {call: str(error(call)) for call in texts} == {
        call: f"'j': {text}" for call, text in texts.items()
    }
    assert isinstance(error(P(print, lock)).__cause__, ValueError)
    hidden = error(P(print, lock), secret)
    assert str(hidden) == "'j': argument 1, a lock, cannot be sent to a process"
    assert hidden.__cause__ is None


def test_variables_of_a_call_are_set_for_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Calls overlap: each takes away what still has its value."""
    monkeypatch.setenv("TF_B", "before")
    monkeypatch.delenv("TF_A", raising=False)

    def read(change: str = "") -> list[str | None]:
        found = [os.environ.get("TF_A"), os.environ.get("TF_B")]
        if change:
            os.environ["TF_A"] = change
        return found

    call = functools.partial(_sent_calls.call_with_variables, {"TF_A": "1", "TF_B": "2"})  # fmt: skip
    assert call(read) == ["1", "2"]
    assert "TF_A" not in os.environ
    assert call(read, change="other") == ["1", "2"]
    assert os.environ.pop("TF_A") == "other"
    with pytest.raises(ZeroDivisionError):
        call(divmod, 1, 0)
    assert "TF_A" not in os.environ


# ---- threads


def test_more_threads_run_at_once_than_by_default() -> None:
    """Neither the limit of 40 threads of trio nor that of anyio applies."""
    number = 41
    barrier = threading.Barrier(number, timeout=60)
    jobs = [ThreadJob(barrier.wait) for _ in range(number)]
    assert Scheduler(*jobs, jobs_window=None).run()
    assert sorted(job.result() for job in jobs) == [*range(number)]


def test_on_cancel_is_called_once_for_a_function_that_runs(
    backend: BackendName,
) -> None:
    """Not for one that has ended. What the function then raises is dropped, unless it ends the program."""
    begun, end, calls = threading.Event(), threading.Event(), list[str]()

    def body() -> None:
        begun.set()
        end.wait(60)
        raise ValueError("dropped")

    def cancel() -> None:
        calls.append("cancel")
        end.set()

    async def fail() -> None:
        while not begun.is_set():  # noqa: ASYNC110 - of a thread
            await anyio.sleep(0.001)
        raise OSError("stop")

    job = ThreadJob(body, on_cancel=cancel)
    done = ThreadJob(int, on_cancel=lambda: calls.append("done"))
    scheduler = Scheduler(job, done, Job(fail, critical=True, required=done))
    assert not scheduler.run(backend=backend)
    assert (calls, job.state, done.result()) == (["cancel"], JobState.CANCELLED, 0)
    assert job.raised_exception() is None


# ---- words and labels of commands


def test_a_word_of_a_command_is_what_a_program_would_get() -> None:
    result = CommandResult(0, 0.0, ReportedUsage(0, 0), b" a \n\n", None)
    words = {"a": "a", b"\xff": b"\xff", 5: "5", 1.5: "1.5", Path("/p"): "/p", result: b" a "}  # fmt: skip
    assert {word: _argv.convert_argument(word, 1, "j") for word in words} == words
    for bad, message in (
        (True, "is True, a bool"),
        (None, "a NoneType"),
        ([], "a list"),
        ("a\0", "contains a NUL"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^j: argument 1 .*{message}"):  # fmt: skip
            _argv.convert_argument(bad, 1, "j")
    wrong: list[tuple[list[Any], str]] = [
        ([" \t", True], "empty"),
        ([[], False], "empty"),
        ([["", "a"], False], "argument 0 is empty"),
    ]
    for command, message in wrong:
        with pytest.raises(ValueError, match=message):
            _argv.check_arguments(command[0], command[1], "j")
    advised = ["a", "*.csv"], ["a", "|", "b"], ["a", "~/x"], ["a", "d/*"]
    assert all(_argv.shell_advice(command) for command in advised)
    assert not any(_argv.shell_advice(["a", word]) for word in ("a*b*", "x", "-*-", ""))  # fmt: skip


def test_labels_of_commands_keep_both_ends() -> None:
    many = [str(number) for number in range(41)]
    label = "0 1 2 3 4 5 6 7 8 9 10 11 12 1…31 32 33 34 35 36 37 38 39 40"
    assert _argv.default_label(many, False, 0) == label
    long = "x" * 100 + "\n  " + "y" * 300
    label = CommandJob(long, shell=True).label
    assert len(label) == 60
    assert (label[:5], label[-5:]) == ("xxxxx", "yyyyy")
    inner = CommandJob(["echo", "a b"], label="in")
    job = CommandJob(["cat", inner, granted("g"), "it's", b"\xc3\xa9", Path("p")], needs={"g": 1})  # fmt: skip
    assert job.label == "cat <in> {g} 'it'\"'\"'s' 'é' p"
    assert job.command_line() == job.label
    assert CommandJob(" a   'b'\n c", shell=True).label == "a 'b' c"
    assert (
        job.failure_group(),
        job.command[0],
        CommandJob("x y", shell=True).command,
    ) == ("cat", "cat", ("x y",))


def test_variables_are_encoded_and_those_that_differ_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environb", {b"A": b"1", b"B": b"2"})
    assert _argv.encode_environment({"A": "é", "B": granted("g")}, "j") == {
        b"A": "é".encode(), b"B": b"",
    }  # fmt: skip
    for bad in ({"": "x"}, {"A=": "x"}, {"A": "x\0"}, {b"": b"x"}, {b"A": b"\0"}):
        with pytest.raises(ValueError, match=r"^env of j: "):
            _argv.encode_environment(bad, "j")
    counted = _argv.counted_variables
    assert counted(None, False) == {"set of variables": None}
    found = counted({b"A": b"1", b"B": b"3", b"C": b"4"}, False)
    assert {name: value and value.value for name, value in found.items()} == {
        "variable 'B'": b"3", "variable 'C'": b"4", "set of variables": None,
    }  # fmt: skip
    assert counted({b"A": b"1"}, False)["set of variables"].value == [b"A"]
    assert counted({b"A": b"1", b"B": b"2"}, True) == {"environment": None, "set of variables": None}  # fmt: skip


def test_granted_resources_are_texts() -> None:
    texts = {"1,2": ("1", "2"), "7": 7, "1.5": 1.5, "requests=1,tokens=8": {"requests": 1, "tokens": 8}}  # fmt: skip
    for text, grant in texts.items():
        job: Any = SimpleNamespace(granted={"g": grant}, label="j", redact=False)
        assert granted("g").text(job) == text
        assert _argv.fill_argument(granted("g"), 1, job) == text
    with pytest.raises(ValueError, match="add needs="):
        CommandJob(["a", granted("g")])
    with pytest.raises(ValueError, match="add needs="):
        CommandJob(["a"], env={"A": granted("g")})


# ---- outputs


def test_the_end_of_an_output_is_kept_in_memory_and_on_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_output_sinks, "SPOOL_LIMIT_BYTES", 6)
    capture, tail = _output_sinks.CaptureSink(), _output_sinks.TailSink()
    for part in (b"abc", b"def", b"ghi", b"j"):
        capture.write(part)
        tail.write(part)
        if part == b"def":
            assert isinstance(capture.output(), bytes)
    found: Any = capture.output()
    assert isinstance(found, _output_sinks.OutputSpool)
    assert (len(found), found.read(), pickle.loads(pickle.dumps(found))) == (
        10,
        b"abcdefghij",
        b"abcdefghij",
    )
    assert [sink.tail(4) for sink in (capture, tail)] == [b"ghij"] * 2
    assert capture.tail(99) == b"abcdefghij"
    with found.open() as file:
        moves = [(2, os.SEEK_SET), (-3, os.SEEK_END), (1, os.SEEK_CUR)]
        assert [(file.seek(*move), file.read(1)) for move in moves] == [(2, b"c"), (7, b"h"), (9, b"j")]  # fmt: skip
    tail.write(b"x" * (_output_sinks.MAX_KEPT_TAIL_BYTES - 1))
    assert tail.tail(10**6) == b"j" + b"x" * (_output_sinks.MAX_KEPT_TAIL_BYTES - 1)
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    ends = [_output_sinks.file_tail(path, *where) for where in ((4,), (4, 8), (99, 3), (4, 99))]  # fmt: skip
    assert ends == [b"6789", b"89", b"3456789", b""]
    assert _output_sinks.file_tail(tmp_path / "none", 4) is None
    assert [_output_sinks.file_size(name) for name in (path, tmp_path / "none")] == [10, 0]  # fmt: skip


def test_lines_are_the_same_however_they_arrive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_output_sinks, "MAX_LINE_BYTES", 8)
    data = b"one\r\n\n two \xff\n12345678\n123456789\nlast"
    expected = ["one", "", r" two \xff", "12345678", "12345678", "9", "last"]
    for size in (1, 2, 3, 7, 100):
        lines: list[str] = []
        sink = _output_sinks.LineSink(lines.append)
        for start in range(0, len(data), size):
            sink.write(data[start : start + size])
        sink.finish()
        assert lines == expected
    for file, text in (
        (io.StringIO(), r"é\xc3"),
        (io.BytesIO(), "é\xc3".encode("latin1")[:0] + b"\xc3\xa9\xc3"),
    ):
        to_file = _output_sinks.FileSink(file)
        for byte in (b"\xc3", b"\xa9", b"\xc3"):
            to_file.write(byte)
        to_file.finish()
        assert file.getvalue() == text


def test_tags_have_their_values_and_other_braces_stay() -> None:
    def tag(template: bool | str, **values: str) -> str | None:
        made = _output_sinks.make_tag_function(template, "n\x1b", values)
        return None if made is None else made()

    assert tag(False) is None
    assert tag(True) == r"n\x1b: "
    assert tag("{label} {x} {label:3} {}", label="a\nb") == r"a\nb {x} {label:3} {}"
    assert re.fullmatch(r"\d\d:\d\d:\d\d 20\d\d", str(tag("{time} {time:%Y}")))
    assert tag("{time}", time="own") == "own"


def test_outputs_of_a_command_go_where_its_options_say(
    backend: BackendName, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One program, and all kinds of outputs; `idle_timeout` changes nothing."""
    script = "echo out; echo err >&2"
    expected = {
        "captured": (b"out\n", b"err\n"), "merged": (b"out\nerr\n", None), "none": (None, None), "file": (None, None),
        "heard": (None, None), "printed": (None, None), "both": (b"out\n", None),
    }  # fmt: skip
    idles: list[dict[str, Any]] = [{}, {"idle_timeout": 60}]
    for idle in idles:
        lines: list[tuple[str, str]] = []

        def hear(job: CommandJob, line: str, lines: Any = lines) -> None:
            lines.append((job.label, line))

        for name in ("file", "open"):
            (tmp_path / name).write_text("before\n")
        opened = (tmp_path / "open").open("ab")
        options: dict[str, dict[str, Any]] = {
            "captured": {"stdout": PIPE, "stderr": PIPE}, "merged": {"stdout": PIPE, "stderr": STDOUT},
            "none": {"stdout": DEVNULL, "stderr": DEVNULL},
            "file": {"stdout": tmp_path / "file", "stderr": opened},
            "heard": {"on_line": hear}, "printed": {"tag": "{label}> "}, "both": {"stdout": PIPE, "on_line": hear},
        }  # fmt: skip
        jobs: list[CommandJob] = []
        for label, given in options.items():
            jobs.append(CommandJob(script, shell=True, label=label, required=jobs[-1:], **given, **idle))  # fmt: skip
        plain = CommandJob(
            script,
            shell=True,
            required=jobs[-1],
            append=False,
            stderr=tmp_path / "new/file",
            **idle,
        )
        run(backend, *jobs, plain)
        opened.close()
        assert {job.label: (job.result().stdout, job.result().stderr) for job in jobs} == expected  # fmt: skip
        assert ((tmp_path / "file").read_text(), (tmp_path / "open").read_text()) == (
            "before\nout\n",
            "before\nerr\n",
        )
        assert sorted(lines) == [("both", "err"), ("both", "out"), ("heard", "err"), ("heard", "out")]  # fmt: skip
        assert (tmp_path / "new/file").read_text() == "err\n"
        assert capfd.readouterr() == ("printed> out\nout\n", "printed> err\n")


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({"stderr": PIPE}, " Its standard error ended with:\ne"),
        ({"stderr": "file"}, " Its standard error ended with:\ne"),
        ({"stderr": STDOUT, "stdout": PIPE}, " Its output ended with:\no\ne"), ({"stderr": DEVNULL}, ""),
        ({"stderr": STDOUT, "stdout": "file"}, " Its output ended with:\no\ne"),
        ({"stderr": PIPE, "redact": True}, None),
    ],
)  # fmt: skip
def test_the_error_of_a_command_has_the_end_of_what_it_wrote(
    backend: BackendName,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    end: str | None,
) -> None:
    """The file had lines before, and the exit code 3 is none of `check=`."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("before\n")
    job = ran(backend, CommandJob("echo o; echo e >&2; exit 3", shell=True, check=[0, 4], **options))  # fmt: skip
    error = job.raised_exception()
    assert isinstance(error, CommandError)
    shown = "exit code 3: echo o; echo e >&2; exit 3"
    if end is None:
        shown = "exit code 3: command …"
    assert str(error) == shown + ("." + end if end else "")
    assert (error.returncode, job.last_result) == (3, error.result)
    again = CommandJob("exit 4", shell=True, check=[0, 4])
    run(backend, again)
    assert again.result().returncode == 4


def test_codes_of_success_and_signals() -> None:
    def result(code: int) -> CommandResult:
        return CommandResult(code, 1.25, ReportedUsage(1.5, 2.25, 7), b"o" * 60, None, 7, 99)  # fmt: skip

    facts = result(-9)
    assert (facts.signal, facts.pid, facts.user_time, facts.system_time) == (signal.SIGKILL, 99, 1.5, 2.25)  # fmt: skip
    assert (facts.max_rss, facts.max_rss_bound) == (None, 7 * 1024)
    assert repr(facts) == f"<CommandResult signal=SIGKILL, stdout={b'o' * 60!r}, 1.250 s>"  # fmt: skip
    more = CommandResult(3, 0.5, ReportedUsage(0, 0, 8), b"o" * 61, b"\xff", 7)
    assert (more.signal, more.max_rss, more.max_rss_bound) == (None, 8 * 1024, None)
    assert repr(more) == "<CommandResult returncode=3, stdout=61 bytes, stderr=b'\\xff', 0.500 s>"  # fmt: skip
    assert more.open("stderr").read() == b"\xff"
    assert CommandResult(0, 0, ReportedUsage(0, 0), b"\xffa", None).text == "\ufffda"
    assert result(0).max_rss_bound == 7 * 1024
    codes = parse_check([0, 255, "TERM", "sigkill", signal.SIGINT], "j")
    assert sorted(codes or ()) == [-15, -9, -2, 0, 255]
    assert [parse_check(each, "j") for each in (True, False)] == [frozenset([0]), None]
    for bad in ([256], [-signal.NSIG], ["NONE"], [], "0", 0, [True], [1.0]):
        with pytest.raises((TypeError, ValueError), match="check"):
            parse_check(bad, "j")  # type: ignore[arg-type]
    failures = {
        (frozenset([0]), 0): None, (frozenset([0]), 3): "exit code 3", (frozenset([0]), -15): "ended by signal SIGTERM",
        (frozenset([3]), 0): "exit code 0, which is not in check=", (None, 7): None, (frozenset([-15]), 143): None,
        (frozenset([143]), -15): None, (frozenset([0]), 128): "exit code 128", (frozenset([0]), 129): "exit code 129",
        (frozenset([-15]), 15): "exit code 15", (frozenset([128]), -64): "ended by signal SIGRTMAX",
    }  # fmt: skip
    assert {case: describe_failure(*case) for case in failures} == failures
    exits = {0: "exit code 0", -40: "ended by signal 40", -1: "ended by signal SIGHUP"}
    assert {code: _processes.describe_exit(code) for code in exits} == exits


def test_a_timeout_of_a_command_shows_what_it_has_written() -> None:
    def notes(out: Any, err: Any, more: Any = None, **options: Any) -> list[str]:
        job = CommandJob(["a"], **options)
        error = JobTimeout(job, 1.0)
        result = CommandResult(-15, 1.0, ReportedUsage(0, 0), out, err)
        with_output(error, result, more)
        return error.__notes__[1:]

    out, err = "Its standard output ended with:\n", "Its standard error ended with:\n"
    assert notes(b"o\n", b" e\xff") == [f"{out}o", rf"{err}e\xff"]
    assert notes(None, None, b"e") == [f"{err}e"]
    assert notes(b" \n", b"", b"e") == [f"{err}e"]
    assert notes(b"o", b"e", redact=True) == []
    (long,) = notes(b"x" + b"y" * MAX_TAIL_BYTES, None)
    assert long == f"{out}{'y' * MAX_TAIL_BYTES}"


# ---- why a command does not start


NO_INTERPRETER = "exists, but the interpreter in its first line (#!) does not"
NOT_EXECUTABLE = "run chmod +x, or put its interpreter in front of it"
TOO_LONG = "its arguments and environment are too long: 154 bytes, 103 of them in variable 'LONG'"


def test_the_reason_for_a_failed_start_is_named(tmp_path: Path) -> None:
    script, plain = tmp_path / "script", tmp_path / "plain"
    script.write_text("#!/no/such\n")
    script.chmod(0o755)
    plain.write_text("x")

    def reason(
        number: int,
        program: str,
        cwd: str | None = None,
        name: str | None = None,
        hides: bool = False,
    ) -> tuple[str, str]:
        error = OSError(number, os.strerror(number), name)
        return tuple(
            _start_errors.reason_for_failed_start(
                error,
                [program, "b" * 50],
                cwd,
                {b"LONG": b"x" * 99},
                lambda text, hidden: hidden if hides else text,
            )
        )  # type: ignore[return-value]

    nothing, spelling = errno.ENOENT, "check its spelling"
    cases = [
        (reason(nothing, "a"), ("program 'a' not found", f"{spelling}, and PATH")),
        (reason(nothing, "/a"), ("program '/a' not found", spelling)),
        (reason(nothing, "/a", hides=True), ("program not found", spelling)),
        (reason(nothing, str(script)), (f"{str(script)!r} {NO_INTERPRETER}", "")),
        (reason(nothing, "./script", str(tmp_path)), (f"'./script' {NO_INTERPRETER}", "")),
        (reason(nothing, "script"), ("program 'script' not found", f"{spelling}, and PATH")),
        (reason(nothing, "a", "/no", "/no"), ("cwd='/no': No such file or directory", "")),
        (reason(errno.EACCES, str(tmp_path)), (f"{str(tmp_path)!r} is a directory, not a program", "")),
        (reason(errno.EACCES, str(plain)), (f"{str(plain)!r} is not executable", NOT_EXECUTABLE)),
        (reason(errno.ENOEXEC, "a"), ("'a' is not a program", "a script must begin with a line such as #!/bin/sh")),
        (reason(errno.EMFILE, "a"), ("too many open files (ulimit -n)", "run fewer commands at once")),
        (reason(errno.E2BIG, "a"), (TOO_LONG, "pass large data in a file, or through stdin=")),
        (reason(errno.EIO, "a"), (os.strerror(errno.EIO), "")),
    ]  # fmt: skip
    assert [found for found, _ in cases] == [expected for _, expected in cases]

    def before(number: int, name: str | None, stdin: object) -> tuple[str, str]:
        error = OSError(number, os.strerror(number), name)
        return tuple(
            _start_errors.reason_before_start(error, lambda text, _: text, stdin)
        )  # type: ignore[return-value]

    assert before(errno.EMFILE, "x", None) == (
        "too many open files (ulimit -n)",
        "run fewer commands at once",
    )
    assert before(nothing, "in", "in")[1].startswith("stdin= is the name of a file")
    assert before(nothing, "in", Path("in")) == ("cannot open 'in': No such file or directory", "")  # fmt: skip
    assert before(nothing, None, None) == ("No such file or directory", "")


def test_limits_and_places_of_programs(tmp_path: Path) -> None:
    options: Any = SimpleNamespace(memory_limit=None, cwd=None, env=None)
    command: list[Any] = ["a", "b"]
    assert _resource_limits.wrap_command(command, options) is command
    for limit, kib in ((10_240, "10"), (1, "1"), (2048 + 1023, "2")):
        options.memory_limit = limit
        assert _resource_limits.wrap_command(command, options)[3:] == [kib, "a", "b"]
    tool = tmp_path / "tool"
    tool.write_text("")
    for program, more, error in (
        ("./tool", {"cwd": tmp_path}, PermissionError), ("./none", {"cwd": tmp_path}, FileNotFoundError),
        ("tool", {"env": {b"PATH": os.fsencode(tmp_path)}}, FileNotFoundError), ("/", {}, PermissionError),
    ):  # fmt: skip
        place: Any = SimpleNamespace(**{"cwd": None, "env": None, **more})
        with pytest.raises(error):
            _resource_limits.check_program(program, place)
    tool.chmod(0o755)
    for program, more in (
        ("./tool", {"cwd": tmp_path}),
        ("tool", {"env": {b"PATH": os.fsencode(tmp_path)}}),
    ):
        found: Any = SimpleNamespace(**{"cwd": None, "env": None, **more})
        _resource_limits.check_program(program, found)
    assert [
        _processes.check_limits(None, each, "j")
        for each in (None, 1, "2 KiB", 2**63 - 1)
    ] == [None, 1, 2048, 2**63 - 1]
    for bad in (0, -1, 2**63, True, 1.5, "0"):
        with pytest.raises((TypeError, ValueError)):
            _processes.check_limits(None, bad, "j")


def test_the_niceness_of_a_group_is_added_to_that_of_this_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    fake = SimpleNamespace(
        PRIO_PROCESS=0, PRIO_PGRP=1, getpriority=lambda *_: 5, setpriority=lambda *args: seen.append(args)
    )  # fmt: skip
    monkeypatch.setattr(_processes, "posix", fake)
    process: Any = SimpleNamespace(pid=77)
    for nice in (3, 0, 15, -30):
        _processes.renice(process, nice)
    assert seen == [(1, 77, 8), (1, 77, 5), (1, 77, 19), (1, 77, -20)]


def test_pinned_commands_take_the_lowest_free_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The slots of each scheduler are its own, and sharing a CPU is said once."""
    monkeypatch.setattr(_cpus, "usable_cpus", lambda: [4, 6])
    said: list[str] = []
    pinned = _resource_limits.PinnedCommands(SimpleNamespace(report=said.append))  # type: ignore[arg-type]
    one, other = (SimpleNamespace(scheduler=name) for name in "ab")
    held = [pinned.hold_slot(job) for job in (one, one, one, other)]  # type: ignore[arg-type]
    assert [each.__enter__() for each in held[:2]] == [4, 6]
    assert said == []
    assert [each.__enter__() for each in held[2:]] == [4, 4]
    (message,) = said
    assert message.startswith('commands with pin="slot" share CPU 4, because this program may use 2 CPUs;')  # fmt: skip
    held[1].__exit__(None, None, None)
    again = pinned.hold_slot(one)  # type: ignore[arg-type]
    assert again.__enter__() == 6
    for each in (held[0], held[2], held[3], again):
        each.__exit__(None, None, None)
    last = pinned.hold_slot(one)  # type: ignore[arg-type]
    assert last.__enter__() == 4
    assert len(said) == 1
    assert set(pinned._counts.values()) == {0, 1}


def test_the_quotas_of_control_groups_are_rounded_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "own").write_text("1:cpu:/x\n0::/a/b\n")
    monkeypatch.setattr(_cpus, "CGROUP_ROOT", str(tmp_path))
    monkeypatch.setattr(_cpus, "CGROUP_FILE", str(tmp_path / "own"))
    monkeypatch.setattr(_posix, "sched_getaffinity", lambda _: {9, 2, 4, 7})
    monkeypatch.setattr(os, "process_cpu_count", lambda: 4, raising=False)
    assert _cpus.usable_cpus() == [2, 4, 7, 9]
    for place, text, cpus in (
        ("a", "max 100", 4),
        ("a", "210 100", 3),
        ("a/b", "110 100", 2),
        (".", "10 100", 1),
    ):
        (tmp_path / place / "cpu.max").write_text(f"{text}\n")
        assert _cpus.count_usable_cpus() == cpus
    assert _cpus.usable_cpus() == [2]


# ---- the guard


def test_the_table_of_the_guard_has_the_groups_that_run() -> None:
    table = _guard.ProcessGroupTable()
    read = functools.partial(_guard_script.read_table, table.descriptor)
    try:
        assert read() == ([], False)
        indexes = [table.add_group(group) for group in (11, 12, 13)]
        assert 0 not in indexes
        assert read() == ([11, 12, 13], False)
        table.remove_group(indexes[1])
        table.note_start(is_starting=True)
        assert read() == ([11, 13], True)
        assert table.add_group(14) == indexes[1]
        table.remove_group(0)
        table.note_start(is_starting=False)
        assert read() == ([11, 14, 13], False)
        table._entries[_guard_script.LAST_INDEX] = len(table._entries) - 2
        assert [table.add_group(group) for group in (15, 16)] == [len(table._entries) - 1, 0]  # fmt: skip
    finally:
        table.close()


def test_a_command_has_the_marks_of_all_runs_that_it_belongs_to(
    backend: BackendName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIOFLOW_RUN", "outer")
    line = 'echo "$TRIOFLOW_RUN|$TF_X"'
    monkeypatch.setenv("TF_X", "1")
    first = CommandJob(line, shell=True, stdout=PIPE)
    second = CommandJob(
        line, shell=True, stdout=PIPE, env={"TRIOFLOW_RUN": "forged", "TF_X": "2"}
    )

    async def change() -> None:
        os.environ["TF_X"] = "3"

    changed = Job(change, required=[first, second])
    third = CommandJob(line, shell=True, stdout=PIPE, required=changed)
    run(backend, first, second, changed, third)
    texts = [job.result().text.strip() for job in (first, second, third)]
    marks = {text.partition("|")[0] for text in texts}
    (mark,) = marks
    assert re.fullmatch(rf"outer:{os.getpid()}-[0-9a-f]{{16}}", mark)
    assert [text.partition("|")[2] for text in texts] == ["1", "2", "3"]


# ---- services


def test_a_service_is_ready_by_its_condition(
    backend: BackendName, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By a line, by a line in a file that had one before, by a file, and by a command that fails at first."""
    log, made = tmp_path / "log", tmp_path / "made"
    log.write_text("it is up\n")
    up = "echo it is up; exec sleep 1000"
    probe = f"test -e {tmp_path}/tried && echo ok || {{ touch {tmp_path}/tried; exit 3; }}"  # fmt: skip
    services: dict[str, CommandService] = {
        "line": CommandService(f"echo no; {up}", shell=True, ready=OutputLine(re.compile("^it.*(?=p)"))),
        "file": CommandService(f"echo it is not; {up.replace('up', 'up 2')}", shell=True, ready=OutputLine("is up"),
                               stdout=log),
        "path": CommandService(f"touch {made}; exec sleep 1000", shell=True, ready=made),
        "command": CommandService(["sleep", "1000"], ready=CommandSucceeds(probe, shell=True, stdout=PIPE)),
    }  # fmt: skip
    users = {name: Job(give, service) for name, service in services.items()}
    run(backend, *users.values())
    assert users["line"].result() == "it is up"
    assert users["file"].result() == "it is up 2"
    assert users["path"].result() == made
    assert users["command"].result().text == "ok\n"
    assert log.read_text() == "it is up\nit is not\nit is up 2\n"
    assert capfd.readouterr() == ("", "no\nit is up\n")


def test_a_service_that_ends_early_says_how_and_what_it_wrote(
    backend: BackendName, tmp_path: Path
) -> None:
    """Of many lines, the last are shown. A second attempt shows nothing of the first, nor a file what it had before."""
    last = "\n".join(map(str, range(201 - MAX_KEPT_LINES, 201)))
    for second, shown in {"seq 1 200": last, "echo second": "second"}.items():
        tried = tmp_path / f"tried {second}"
        script = f"test -e '{tried}' || {{ touch '{tried}'; echo first; exit 4; }}; {second}; kill -TERM $$"
        heard: list[Any] = []
        service = CommandService(
            script, shell=True, ready=OutputLine("never"), retry=Retry(1, first=0),
            on_line=lambda *line, heard=heard: heard.append(line), label="s",
        )  # fmt: skip
        error = ran(backend, service).raised_exception()
        assert str(error) == (
            "the service ended with signal 15 before it was ready "
            "(it was waiting for a line with 'never' in its output): "
            f"{script}. Its output ended with:\n{shown}"
        ).replace("signal 15", f"signal {signal.SIGTERM}")
        assert heard[0] == (service, "first")
    log = tmp_path / "log"
    log.write_text("old\n")
    to_file = CommandService(
        "echo new; exit 0", shell=True, ready=OutputLine("never"), stdout=log
    )
    error = ran(backend, to_file).raised_exception()
    assert isinstance(error, CommandError)
    assert str(error).endswith("Its output ended with:\nnew")
    assert "exit code 0 before it was ready" in str(error)
    assert error.__notes__ == ["it must stay in the foreground: most programs have an option for that"]  # fmt: skip


def test_conditions_are_checked_and_named(tmp_path: Path) -> None:
    names = {
        PortOpen(1): ("PortOpen(1, 'localhost')", "port 1 of localhost to accept connections"),
        PortOpen(65535, "h"): ("PortOpen(65535, 'h')", "port 65535 of h to accept connections"),
        OutputLine("x"): ("OutputLine('x')", "a line with 'x' in its output"),
        CommandSucceeds(["a"], cwd="/"): ("CommandSucceeds(['a'], cwd='/')", "'a' to succeed"),
    }  # fmt: skip
    assert {each: (repr(each), str(each)) for each in names} == names
    for bad in (0, 65536, -1, True, "1"):
        with pytest.raises((TypeError, ValueError)):
            PortOpen(bad)  # type: ignore[arg-type]
    shared = OutputLine("x")
    assert _readiness.make_readiness(shared, "s") is not shared
    copy: Any = CommandSucceeds(["a"], cwd="/")._copy()
    assert (copy.options, copy._job._command_options.cwd) == ({"cwd": "/"}, "/")
    file = tmp_path / "file"
    ready: Any = _readiness.make_readiness(file, "s")

    def found() -> bool:
        coroutine = ready._find_file()
        try:
            coroutine.send(None)
        except StopIteration as end:
            return end.value is not None
        raise AssertionError

    ready._check_before_start()
    assert not found()
    file.touch()
    assert found()
    ready._check_before_start()
    assert not found()
    os.utime(file, ns=(5, 5))
    assert found()
    ready._check_before_start()
    other = tmp_path / "other"
    other.touch()
    os.utime(other, ns=(5, 5))
    os.replace(other, file)
    assert found()
    line = OutputLine("x")
    line._check_before_start()
    for text in ("no", "x1", "x2"):
        line._process_line(text)
    assert line._matching_line == "x1"
    line._check_before_start()
    assert line._matching_line is None


# ---- users' files


def test_files_of_an_attempt_are_set_aside_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New files go, a file that has become shorter, and nothing else. Only what this job has left is replaced."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    job = ThreadJob(abs, 1, reads=["read", "./link"])
    (tmp_path / "link").symlink_to("target")
    began = _user_files._file_time()

    def set_aside(name: str, before: Any = None, began: int = 0, others: Any = ()) -> str:  # fmt: skip
        place = os.path.realpath(name)
        return _user_files.set_aside(name, place, before or {}, job, began, others)

    out.write_text("1")
    assert set_aside("out") == "'out' is now 'out.partial'"
    out.write_text("2")
    assert set_aside("out") == "'out' is now 'out.partial'"
    assert (tmp_path / "out.partial").read_text() == "2"
    (tmp_path / "out.partial").write_text("of a user")
    out.write_text("3")
    assert set_aside("out") == "'out' is now 'out.partial-2'"
    out.write_text("4")
    assert set_aside("out", others={str(out)}) == ""
    for name in ("read", "target"):
        (tmp_path / name).touch()
        assert set_aside(name) == ""
    before = _user_files.take_snapshot(str(out))
    assert set_aside("out", before) == ""
    out.write_text("5")
    assert set_aside("out", before) == ""
    out.write_text("")
    assert set_aside("out", before) == "'out' is now 'out.partial-2'"
    # A folder that was there stays, with what was in it; names of its new entries stay in their places.
    (tmp_path / "dir/deep").mkdir(parents=True)
    (tmp_path / "dir/old").touch()
    before = _user_files.take_snapshot(str(tmp_path / "dir"))
    for number in range(5):
        (tmp_path / f"dir/deep/new{number}").touch()
    text = set_aside("dir/", before)
    assert text.endswith(", and 2 more likewise")
    assert text.count(" is now 'dir.partial/deep/new") == 3
    assert sorted(os.listdir("dir/deep")) == []
    assert os.listdir("dir.partial/deep") != []
    assert (tmp_path / "dir/old").exists()
    # A new folder goes whole, unless a file of another job is in it, not just beside it.
    (tmp_path / "made/in").mkdir(parents=True)
    (tmp_path / "made/in/x").touch()
    assert set_aside("made", others={f"{tmp_path}/made2/x"}) == "'made' is now 'made.partial'"  # fmt: skip
    (tmp_path / "made").mkdir()
    for name in ("theirs", "ours"):
        (tmp_path / "made" / name).touch()
    theirs = {f"{tmp_path}/made/theirs"}
    assert set_aside("made", others=theirs) == "'made/ours' is now 'made.partial/ours'"
    assert os.listdir("made") == ["theirs"]
    assert began <= _user_files._file_time()


def test_outputs_that_are_missing_or_untouched_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = ThreadJob(abs, 1, writes=["a/", "b", "c?"])
    places = _user_files.outputs_from_here(job)
    assert places == [f"{tmp_path}/{name}" for name in ("a", "b", "c?")]
    missing = functools.partial(_user_files.describe_missing_output, job, places)
    (tmp_path / "a").mkdir()
    assert missing() == "it did not write 'b'"
    (tmp_path / "b").symlink_to("later")
    assert missing() == "it did not write 'c?'; patterns are for reads="
    (tmp_path / "c?").touch()
    assert missing() is None
    older = [
        (
            place,
            os.path.realpath(place),
            _user_files.take_snapshot(os.path.realpath(place)),
        )
        for place in places
    ]
    assert (
        _user_files._describe_untouched(job, [older[0], older[2]])
        == f"'a', 'c?' was there before, and {job.label!r} has not touched it"
    )
    (tmp_path / "a/x").touch()
    (tmp_path / "c?").write_text("1")
    assert _user_files._describe_untouched(job, older[:1] + older[2:]) == ""
    secret = ThreadJob(abs, 1, writes=["none"], redact=True, label="s")
    hidden = _user_files.describe_missing_output(secret, [f"{tmp_path}/none"])
    assert "none" not in str(hidden)
    assert "did not write" in str(hidden)
    assert _user_files._clean("/") == "/"


def test_output_files_are_opened_to_append_or_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ThreadJob(abs, 1)
    path = tmp_path / "new/deep/file"
    umask = os.umask(0o022)
    try:
        for text, truncates in (("a", False), ("b", False), ("c", True), ("d", False)):
            file = _user_files.open_output_file(path, job, truncate=truncates)
            os.write(file, text.encode())
            os.lseek(file, 0, os.SEEK_SET)
            os.write(file, text.encode())
            os.close(file)
        other = _user_files.open_output_file(path.with_name("x"), job, truncate=False)
        os.close(other)
    finally:
        os.umask(umask)
    assert path.read_text() == "ccdd"
    assert [each.stat().st_mode & 0o777 for each in (path, path.with_name("x"))] == [0o644] * 2  # fmt: skip
    assert _user_files._claimed[str(path)] is job
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a named pipe"):
        _user_files.open_output_file(tmp_path / "pipe", job, truncate=False)
    monkeypatch.chdir(tmp_path)
    for old, is_renamed in ((b"same", False), (b"sam", True), (b"same and more", True)):
        Path("log").write_bytes(old)
        content = io.BytesIO(b"same")
        done = _user_files.set_aside_older("log", content, job)
        assert (bool(done), content.tell()) == (is_renamed, 0)
        assert Path("log").exists() is not is_renamed
    assert done == "'log' is now 'log.before-2'" or done == "'log' is now 'log.before'"
    assert _user_files.set_aside_older("none", io.BytesIO(b""), job) == ""


def test_own_files_are_removed_whatever_their_permissions(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "x").touch()
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").touch()
    (tree / "link").symlink_to(kept)
    (tree / "a").chmod(0)
    os.chmod(tree, 0o700)
    _user_files.remove_own(str(tree))
    assert not tree.exists()
    link = tmp_path / "link"
    link.symlink_to(kept)
    _user_files.remove_own(str(link))
    _user_files.remove_own(str(tmp_path / "none"))
    assert os.listdir(kept) == ["x"]
    assert not link.is_symlink()


def test_reads_that_wait_for_another_program_are_known(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    kinds = {tmp_path / "pipe": True, tmp_path / "file": False, Path("/dev/null"): True, tmp_path: False}  # fmt: skip
    assert {path: _files.may_wait_for_writer(path) for path in kinds} == kinds
    with (tmp_path / "file").open("rb") as file:
        assert not _files.may_wait_for_writer(file)
        assert not _files.may_wait_for_writer(file.fileno())
    pipes = [_files.is_named_pipe(tmp_path / name) for name in ("pipe", "file", "none")]
    assert pipes == [True, False, False]


# ---- calls in processes


class Odd(Exception):
    """An exception whose `__init__` takes other arguments, with attributes of its own."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}", code)
        self.code = code
        self.lock = threading.Lock()


def fail_oddly(*, group: bool = False) -> None:
    if group:
        raise ExceptionGroup("all", [Odd(1), ExceptionGroup("in", [KeyError("k")])])
    raise Odd(7)


def test_the_answer_of_a_call_has_its_value_or_its_whole_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TF_A", "before")
    monkeypatch.delenv("TF_B", raising=False)

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        request = pickle.dumps((function, args, kwargs, {"TF_A": "1", "TF_B": "2"}))
        loaded: list[int] = []
        answer = _worker_main.call_and_pickle(request, 0, lambda: loaded.append(1))
        assert loaded == [1]
        assert (os.environ["TF_A"], os.environ.get("TF_B")) == ("before", None)
        has_returned, value, note = pickle.loads(answer)
        return value if has_returned else (_worker_main.rebuild_error(value), note)

    assert call(os.getenv, "TF_A") == "1"
    error, note = call(fail_oddly)
    assert (type(error), error.args, error.code) == (Odd, ("code 7", 7), 7)
    assert error.__notes__ == [
        "it came from a worker process without its attribute 'lock', which cannot be pickled"
    ]
    assert note.startswith("in a worker process:\nTraceback")
    assert "call_and_pickle" not in note
    assert note.splitlines()[-1].endswith("Odd: ('code 7', 7)")
    group, _ = call(fail_oddly, group=True)
    assert [type(each) for each in group.exceptions] == [Odd, ExceptionGroup]
    assert group.exceptions[0].code == 1
    assert (group.message, group.exceptions[1].exceptions[0].args) == ("all", ("k",))
    error, note = call(threading.Lock)
    assert str(error).startswith(
        (
            "lock returned a lock, which cannot be pickled",
            "allocate_lock returned a lock, which cannot be",
        )
    )
    assert note == ""


def test_progress_of_a_call_is_reported_rarely_and_its_end_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(_worker_main, "time", SimpleNamespace(monotonic=lambda: now[0]))
    stream = io.BytesIO()
    call = _worker_main.WorkerCall(stream)
    for at, fraction in ((1.0, 0), (1.005, 0.1), (1.012, 0.2), (1.013, None), (1.014, 1), (1.03, None)):  # fmt: skip
        now[0] = at
        call.progress(fraction)
    for bad in (-0.1, 1.1, True, "1"):
        with pytest.raises((TypeError, ValueError), match="fraction"):
            call.progress(bad)  # type: ignore[arg-type]
    call.send_answer(b"x" * 5)
    with pytest.raises(RuntimeError, match="has ended"):
        call.progress(0.5)
    stream.seek(0)
    found: list[Any] = []
    while header := stream.read(_worker_main.ANSWER_HEADER.size):
        is_answer, size = _worker_main.ANSWER_HEADER.unpack(header)
        data = stream.read(size)
        found.append(data if is_answer else pickle.loads(data))
    assert found == [0.0, 0.2, 1.0, None, b"x" * 5]


def test_the_maker_of_a_call_is_the_innermost_that_is_given(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        cases: list[tuple[Any, Any, Any, Any]] = [
            (None, None, None, None), (None, None, one, one), (None, two, one, two), (two, None, one, two),
            ("local", one, two, None), (None, "local", one, None), (None, 3, one, None), (one, 2, None, one),
        ]  # fmt: skip
        for own, inner, outer, expected in cases:
            job = ProcessJob(abs, 1, processes=own)
            Scheduler(Scheduler(job, processes=inner), processes=outer)
            assert _process_job.find_executor(job) is expected
            text = "" if expected is None else "called by ThreadPoolExecutor"
            assert job.status_text() == text
        limited = ProcessJob(abs, 1, processes=one, memory_limit="1 GiB", label="j")
        with pytest.raises(ValueError, match=f"^'j' has memory_limit={2**30}, which only"):  # fmt: skip
            limited.check_before_run()
        assert [
            _process_job.check_processes(each, "p") for each in (None, 1, "local", one)
        ] == [None, 1, "local", one]
        for bad in (0, -1, True, "other", 1.0, object()):
            with pytest.raises((TypeError, ValueError), match=r"^p is"):
                _process_job.check_processes(bad, "p")


def test_workers_import_the_main_module_of_a_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "main.py"
    file.touch()

    def is_imported(**names: Any) -> bool:
        monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(**names))
        return _worker_pool.is_main_imported()

    def spec(name: str) -> Any:
        return SimpleNamespace(name=name)

    cases = [
        ({"__spec__": spec("package.module")}, True), ({"__spec__": spec("package.__main__")}, False),
        ({"__spec__": spec("cProfile")}, False), ({"__file__": str(file)}, True), ({"__file__": "/none"}, False),
        ({"__file__": "/dev/stdin"}, False), ({}, False), ({"__file__": f"/proc/{os.getpid()}/exe"}, False),
    ]  # fmt: skip
    assert [is_imported(**names) for names, _ in cases] == [each for _, each in cases]
