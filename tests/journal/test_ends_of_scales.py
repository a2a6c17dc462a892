"""What a journal keeps, compares or reads "up to N" is right at N, and one beyond it."""

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any
import pytest
from trioflow import (
    Job,
    JournalError,
    Scheduler,
    ThreadJob,
    _loaded_files,
    current_scheduler,
)
from trioflow.cli import _journal
from trioflow.journal import (
    _end_notes,
    _file_stamps,
    _fingerprint,
    _questions,
    _run_summary,
    _store,
)
from trioflow.journal._code_digests import (
    MAX_CONSTANTS,
    MAX_ITEMS,
    _is_constant,
    code_digest,
    find_change,
)
from trioflow.journal._end_notes import MAX_NOTED_JOBS, EndNotes
from trioflow.journal._fingerprint import describe_work
from trioflow.journal._record_paths import MAX_ARGUMENTS_LENGTH
from trioflow.journal._serialization import (
    MAX_TEXT_LENGTH,
    NotSerializable,
    comparison_form,
)
from trioflow.journal._store import JournalStore
from ..bodies import fail_now, give, nap
from ..cli.command_line import trioflow
from ..conftest import Virtual
from .stage import found, record, refused

BEYOND = pytest.mark.parametrize("beyond", [0, 1])


@BEYOND
def test_a_constant_of_a_function_counts_up_to_a_number(
    monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    names = [f"C{number}" for number in range(MAX_CONSTANTS + beyond)]
    digests: list[str | None] = []
    for last in (1, 2):
        values = dict.fromkeys(names, 1) | {names[-1]: last}
        lines = [f"{each} = {value}" for each, value in values.items()]
        lines += ["def read():", f"    return {' + '.join(names)}"]
        text, namespace = "\n".join(lines), dict[str, Any]()
        file = f"/constants {beyond} {last}.py"
        loaded = _loaded_files.LoadedFile(text.encode(), 0, True, {}, {})
        monkeypatch.setitem(_loaded_files.loaded, file, loaded)
        exec(compile(text, file, "exec"), namespace)
        digests.append(code_digest(namespace["read"]))
    assert digests[0] is not None
    assert find_change(*digests) == (None if beyond else names[-1])


@BEYOND
def test_the_types_of_the_first_items_tell_a_constant(beyond: int) -> None:
    first = (*range(MAX_ITEMS - 1 + beyond),)
    assert _is_constant(first)
    assert _is_constant((*first, [])) is bool(beyond)


@pytest.mark.parametrize("missing", [0, 1])
def test_jobs_that_cannot_be_stored_are_counted_up_to_a_number(
    tmp_path: Path, missing: int
) -> None:
    notes, told = EndNotes(), list[str]()
    for number in range(MAX_NOTED_JOBS - missing):
        notes.add_unstorable(Job(nap, label=f"j{number}"), "why")
    notes.report(told.append, tmp_path, [])
    count = MAX_NOTED_JOBS - missing
    at_least = "" if missing else "at least "
    assert told[0].startswith(
        f"the journal cannot store {at_least}{count} jobs, which will run again: "
        f"'j0', 'j1', 'j2', 'j3', 'j4' and {count - 5} more; "
    )
    notes.add_unstorable(Job(nap, label="last"), "why")
    notes.report(told.append, tmp_path, [])
    assert told[1].startswith(
        f"the journal cannot store at least {MAX_NOTED_JOBS} jobs"
    )


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_jobs_known_by_name_only_are_counted_up_to_a_number(
    virtual: Virtual,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    beyond: int,
) -> None:
    """Of 1,200 such jobs, the log once named five, "and 995 more"."""
    for module in (_end_notes, _fingerprint):
        monkeypatch.setattr(module, "MAX_NOTED_JOBS", 7)
    jobs = [Job(lambda: nap(0), label=f"j{number}") for number in range(7 + beyond)]
    assert virtual(lambda: Scheduler(*jobs).co_run(journal=file))
    counted = min(7, len(jobs))
    at_least = "at least " if beyond >= 0 else ""
    (note,) = caplog.messages
    assert note.startswith(
        f"the journal knows the functions of {at_least}{counted} jobs by name only, because"
    )
    assert f": 'j0', 'j1', 'j2', 'j3', 'j4' and {counted - 5} more; give" in note


@BEYOND
def test_a_file_with_an_answer_is_read_up_to_a_size(file: Path, beyond: int) -> None:
    files = _questions.QuestionFiles(file)
    files.make()
    answer = files._file("answer", "ask")
    answer.touch(0o600)
    size = _questions.MAX_FILE_SIZE + beyond
    contents = ["1", "ask", None, "yes", 1.0]
    answer.write_text(json.dumps(contents).ljust(size))
    given = files.read("answer", "ask")
    assert (given is None) is bool(beyond)


@BEYOND
def test_a_reason_for_a_refusal_is_kept_whole_as_long_as_it_fits(
    file: Path, beyond: int
) -> None:
    reason = "x" * (_questions.MAX_REASON_LENGTH + beyond)
    files = _questions.QuestionFiles(file)
    files.make()
    question = _questions.Question(
        "ask", "ask", "sure?", None, "str", "print", created_at=1.0
    )
    asked = _questions.PublishedQuestion(files, question, lambda _: None)
    answer = _questions.GivenAnswer("1", "ask", None, "yes", created_at=1.0)
    files.write("answer", "ask", answer)
    assert asked.poll() == ("yes", answer.by)
    asked.refuse(reason)
    (kept,) = files.read("refused", "ask").reasons.values()
    assert (kept == reason) is not bool(beyond)
    assert len(kept) == _questions.MAX_REASON_LENGTH


@BEYOND
def test_the_path_of_an_added_job_has_its_arguments_as_long_as_they_fit(
    virtual: Virtual, file: Path, beyond: int
) -> None:
    first = "x" * 27
    second = "y" * (MAX_ARGUMENTS_LENGTH - len(f'"{first}", ""') + beyond)

    async def add() -> None:
        current_scheduler().add(Job(join, first, second))

    assert virtual(lambda: Scheduler(Job(add, save=None)).co_run(journal=file))
    (path,) = found(file)
    shown = f'join("{first}", "{second}")'
    assert (path == shown) is not bool(beyond)
    assert path.startswith("join(~" if beyond else shown)


async def join(*texts: str) -> str:
    return "".join(texts)


@BEYOND
def test_a_stored_text_is_compared_by_itself_as_long_as_it_is_short(
    beyond: int,
) -> None:
    text = "x" * (MAX_TEXT_LENGTH + beyond)
    form = comparison_form(text)
    assert (form == text) is not bool(beyond)
    assert form != comparison_form(f"{text[1:]}y")


@BEYOND
def test_a_result_is_stored_up_to_a_size(
    file: Path, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    monkeypatch.setattr(_store, "MAX_RESULT", 5000)
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        store.add_run("test")
        data = b"x" * (_store.MAX_RESULT + beyond)
        refusal: Any = contextlib.nullcontext()
        if beyond:
            refusal = pytest.raises(NotSerializable, match="too large: it takes")
        with refusal:
            store.write_large(data)


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_a_schema_of_any_size_that_is_not_a_journals_is_refused(
    file: Path, beyond: int
) -> None:
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        store.add_run("test")
        (own,) = store._fetch_row("SELECT max(length(sql)) FROM sqlite_master")
    assert own < _store.MAX_SCHEMA_TEXT / 10
    with contextlib.closing(sqlite3.connect(file)) as connection:
        text = "CREATE TABLE extra (a) /**/"
        rest = _store.MAX_SCHEMA_TEXT + beyond - len(text)
        connection.execute(text.replace("/**/", f"/*{'x' * rest}*/"))
    refused(file, "its tables are not those of a journal", True, False)


def test_a_schema_of_many_tables_is_refused_after_a_number_of_steps(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        store.add_run("test")
    # A journal's own schema takes a small part of the steps.
    steps = _store.MAX_SCHEMA_STEPS
    monkeypatch.setattr(_store, "MAX_SCHEMA_STEPS", steps // 10)
    JournalStore(file, writes=False).close()
    monkeypatch.setattr(_store, "MAX_SCHEMA_STEPS", steps)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        for number in range(steps // 10):
            connection.execute(f"CREATE TABLE t{number} (a)")
        connection.commit()
    refused(file, "its tables are not those of a journal", True, False)


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_a_journal_says_that_more_have_failed_than_it_keeps(
    virtual: Virtual, file: Path, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    monkeypatch.setattr(_run_summary, "MAX_FAILURES", 3)
    monkeypatch.setattr(_journal, "MAX_FAILURES", 3)
    jobs = [Job(fail_now, label=f"bad {number}") for number in range(3 + beyond)]
    assert not virtual(lambda: Scheduler(*jobs).co_run(journal=file))
    kept = min(3, len(jobs))
    at_least = "" if len(jobs) < 3 else "at least "
    lines = trioflow("journal", file, "why").stdout.splitlines()
    assert lines[-1] == f"{at_least}{kept} ran ({kept} of them failed), 0 restored"
    assert len(lines) == 1 + kept + 1
    # The verdict counts all of them.
    assert f"{len(jobs)} failed of {len(jobs)}" in trioflow("journal", file).stdout


@BEYOND
def test_the_most_common_causes_of_reruns_are_kept(
    virtual: Virtual, file: Path, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    monkeypatch.setattr(_run_summary, "MAX_CAUSES", 2)

    def run(version: int) -> None:
        starts = [
            Job(give, version, label=f"start {number}") for number in range(2 + beyond)
        ]
        uses = [Job(give, start, label=f"use of {start.label}") for start in starts]
        uses += [Job(give, starts[0], label="another use")]
        virtual(lambda: Scheduler(*starts, *uses).co_run(journal=file))

    run(1)
    run(2)
    (summary,) = [
        _run_summary.parse_summary(run.ending)
        for run in JournalStore(file, writes=False).run_records()[-1:]
    ]
    assert summary is not None
    assert len(summary.reruns) == 2
    assert summary.reruns[0][1] >= summary.reruns[1][1]


@BEYOND
def test_a_listing_of_a_journal_has_the_whole_result_as_long_as_it_fits(
    beyond: int,
) -> None:
    text = "x" * (_journal.MAX_RESULT_LENGTH - len('""') + beyond)
    shown = _journal.short_result(record("job", json.dumps(text)))
    assert (shown == f'"{text}"') is not bool(beyond)
    assert len(shown) == _journal.MAX_RESULT_LENGTH


@BEYOND
def test_a_file_with_an_answer_is_written_up_to_a_size(file: Path, beyond: int) -> None:
    """An answer just below the bound was once written, with what stands beside it, and then ignored in silence."""
    files = _questions.QuestionFiles(file)
    files.make()
    answer = _questions.GivenAnswer("1", "ask", None, "", created_at=1.0)
    files.write("answer", "ask", answer)
    rest = _questions.MAX_FILE_SIZE - files._file("answer", "ask").stat().st_size
    answer = answer._replace(text="x" * (rest + beyond - len("é".encode())) + "é")
    refusal: Any = contextlib.nullcontext()
    if beyond:
        refusal = pytest.raises(JournalError, match="takes more than 1 MiB")
    with refusal:
        files.write("answer", "ask", answer)
        assert files.read("answer", "ask") == answer


def test_an_answer_that_no_run_would_read_is_refused(file: Path) -> None:
    text = "x" * (_questions.MAX_FILE_SIZE - 9)
    done = trioflow("answer", file, "token", "-", "--early", stdin=text)
    assert done.exit_code == 2
    assert "the answer of 'token' takes more than 1 MiB" in done.stderr
    done = trioflow("answer", file, "token", "-", "--early", stdin=text[999:])
    assert done.exit_code == 0, done.output


@BEYOND
def test_a_stamp_has_a_size_up_to_a_number_of_digits(
    tmp_path: Path, beyond: int
) -> None:
    """A stamp with more is not of this package: what a killed attempt has left is not judged by it."""
    output = tmp_path / "output"
    output.write_text("half")
    job = ThreadJob(abs, 1, writes=[output])
    stamper = _file_stamps.FileStamper(contents=False, journal_files=())
    size = "9" * (_file_stamps.MAX_SIZE_DIGITS - 1 + beyond)
    work = describe_work(job)
    assert work is not None
    done = stamper.set_aside_partial_files(job, work, {str(output): f"{size} 1"}, ())
    assert output.exists() is bool(beyond)
    assert bool(done) is not bool(beyond)
