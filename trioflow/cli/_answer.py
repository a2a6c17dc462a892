"""The subcommand `trioflow answer`: lists the questions of a run, and answers them."""

from __future__ import annotations

import getpass
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from .. import JournalError
from .. import _posix as posix
from .._core.base._text_forms import clause, join_names
from ..abc import printable
from ..journal._questions import (
    MAX_FILE_SIZE,
    NOT_REDACTED,
    GivenAnswer,
    Question,
    QuestionFiles,
    Refusal,
    is_answered_in,
    make_answer,
)
from ..journal._store import (
    EmptyJournal,
    JournalStore,
    Outputs,
    StoredJob,
    read_with_retry,
)
from ..view.look._answers import user_name
from ..view.text._symbols import align_columns
from . import SUCCESS_CODE, _outputs
from ._journal import timestamp_text
from ._scenario import CliError

REFUSED_CODE: Final = 1
MAX_WAIT_SECONDS: Final = 10.0
PARSERS: Final[dict[str, Callable[[str], Any]]] = {"int": int, "float": float}
"""The functions that may read an answer, if this command can call them, too: it runs no code of the program."""


@click.command(
    name="answer",
    context_settings={"ignore_unknown_options": True},  # -5 is an answer
    epilog="""\b
Examples:
  trioflow answer run.db
  trioflow answer run.db approve yes
  pass show token | trioflow answer run.db token -

Exit codes: 0 for success; 1 if the answer is refused; 2 if the file is not a journal.
""",
)
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("name", required=False)
@click.argument("value", required=False)
@click.option("--early", is_flag=True, help="Answer a job that has not asked yet.")
@click.option(
    "--asked",
    type=int,
    metavar="N",
    help="The number of the question, if the job has asked something else before.",
)
@click.option(
    "--replace", is_flag=True, help="Replace an answer that no run has taken yet."
)
def command(
    path: Path,
    name: str | None,
    value: str | None,
    early: bool,
    asked: int | None,
    replace: bool,
) -> int:
    """List the questions of the jobs of a run, or answer one: give VALUE to the job NAME.

    NAME is the path of the job. The label will do if no other job of the run has it.

    For a secret, which other users could see among the arguments of this command, give - as VALUE: it is then read from
    standard input, and the job must have redact=True, so that no view shows it.

    FILE is the journal of the run. A run in progress takes the answer at once. Otherwise it is there when the next run
    asks. Without a journal, only the program itself can answer, by the method answer() of the job.
    """
    if value is not None and value.startswith("--"):
        raise click.NoSuchOption(value)
    if (name is None) is not (value is None):
        raise click.UsageError(
            f"what is the answer? write: trioflow answer {path} {name} VALUE"
        )
    is_secret = value == "-"
    if is_secret:
        value = read_secret()
    if value is not None:
        check_text(value, is_secret)
    files = QuestionFiles(Path(os.path.realpath(path)))
    is_new = name is not None and not os.path.lexists(path)
    records: dict[str, StoredJob] = {}
    is_running = False
    if files.exists():
        with _outputs.errors_as(CliError, JournalError):
            files.check()
    question = None
    if name is not None:
        question = find_question(files, name)
    if not is_new:
        # After the question, since it says how it was answered when that is in the journal.
        records, is_running = read_journal(path)
    if name is None or value is None:
        return list_questions(files, records)
    if not is_running:
        # The run may have ended in the meantime.
        question = find_question(files, name)
    record = records.get(name if question is None else question.path)
    told = None
    if record is not None:
        # A job that is no question has none.
        told = Outputs.parse(record.outputs).answered
    is_open = question is not None and is_asked(question, records)
    if question is not None and is_open:
        check_number(question, asked)
        if is_secret and not question.redact:
            raise Refused(
                f"the answer to '{printable(question.path)}' is refused: {NOT_REDACTED}"
            )
        is_secret = question.redact
        check_answer(question, value, is_secret)
    elif record is not None and told is not None:
        raise Refused(
            f"'{printable(record.path)}' was answered {printable(told)}; to be asked again: "
            f"{printable(shlex.join(['trioflow', 'journal', str(path), 'forget', record.path]))}"
        )
    elif not early:
        check_name(files, records, name)
    return give(
        files,
        question if is_open else None,
        name,
        value,
        is_secret,
        is_new,
        is_running,
        replace,
    )


def check_text(value: str, is_secret: bool) -> None:
    """Refuse an answer whose bytes are no UTF-8: the program would get other characters.

    Raises:
        Refused: it has such bytes.

    """
    try:
        value.encode()
    except UnicodeEncodeError:
        shown = "the answer"
        if not is_secret:
            shown = repr(os.fsencode(value))
        raise Refused(
            f"{shown} is no text in UTF-8: give the answer in UTF-8"
        ) from None


def read_secret() -> str:
    """Read an answer from standard input, without the newline at its end, or from a person at a terminal."""
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it may be closed
        raise CliError("cannot read the answer: standard input is closed")
    if sys.stdin.isatty():
        return str(click.prompt("answer", hide_input=True, err=True))
    try:
        # Of a longer one, the rest is not needed to refuse it.
        text = sys.stdin.read(MAX_FILE_SIZE + 1)
    except UnicodeDecodeError:
        raise Refused(
            "the answer on standard input is no text in UTF-8: give the answer in UTF-8"
        ) from None
    return text.removesuffix("\n")


def read_journal(path: Path) -> tuple[dict[str, StoredJob], bool]:
    """Return the records of all jobs by path, and whether a run uses the journal.

    Raises:
        CliError: the file is not a journal.

    """

    def read(store: JournalStore) -> tuple[dict[str, StoredJob], bool]:
        runs = store.run_records()
        is_running = bool(runs) and runs[-1].is_running
        return {record.path: record for record in store.job_records()}, is_running

    try:
        return read_with_retry(path, read)
    except EmptyJournal:
        return {}, False
    except JournalError as error:
        hint = ": answers from a shell need a run with journal="
        if os.path.exists(path):
            hint = ""
        raise CliError(printable(f"{error}{hint}")) from None


def is_asked(question: Question, records: dict[str, StoredJob]) -> bool:
    """Return whether a question is open. A run that was killed may have left one whose answer is in the journal."""
    is_answered = is_answered_in(records.get(question.path), question)
    return question.answered is None and not is_answered


def open_questions(
    files: QuestionFiles, records: dict[str, StoredJob]
) -> list[Question]:
    """Return the questions that are open, the oldest first."""
    questions = [each for each in files.read_all("question") if is_asked(each, records)]
    return sorted(questions, key=lambda question: question.created_at)


def list_questions(files: QuestionFiles, records: dict[str, StoredJob]) -> int:
    questions = open_questions(files, records)
    if not questions:
        _outputs.echo("nothing is asked")
        return SUCCESS_CODE
    rows = [("job", "first asked", "question")]
    # A text of several lines stands below its row.
    texts_below = [""]
    for question in questions:
        given = files.read_pending(question.path)
        refusal: Refusal | None = files.read("refused", question.path)
        notes = ""
        if given is not None:
            if question.redact or given.is_secret:
                notes = "; answered"
            else:
                notes = f"; answered: {printable(given.text)}"
        elif refusal is not None and refusal.reason:
            notes = f"; refused: {printable(refusal.reason)}"
        if question.number > 1:
            notes += f"; --asked {question.number}"
        text = f"{question.described('  ')}{notes}"
        text_below = ""
        if "\n" in text:
            text_below = f"\n  {text}"
            text = ""
        texts_below.append(text_below)
        asked_at = timestamp_text(question.created_at)
        rows.append((printable(question.path), asked_at, text))
    lines = align_columns(rows, (0, 1, 2))
    for line, text in zip(lines, texts_below, strict=True):
        _outputs.echo(f"{line}{text}")
    return SUCCESS_CODE


def find_question(files: QuestionFiles, name: str) -> Question | None:
    """Return the question of the job at a path, open or answered, or None if it has not asked.

    The path may be written as it is printed. A label stands for its path if no other job has it, as the run has said
    when it asked. What is still open plays no part: a name that meant one question must not mean another as soon as
    that is answered.
    """
    if not files.exists():
        return None
    question: Question | None = files.read("question", name)
    if question is not None:
        return question
    questions: list[Question] = [*files.read_all("question")]
    for each in questions:
        # No other path is printed so.
        if printable(each.path) == name:
            return each
    matches = [each for each in questions if each.label == name]
    return matches[0] if len(matches) == 1 and matches[0].is_sole else None


def check_number(question: Question, asked: int | None) -> None:
    """Refuse an answer to a job that has asked something else before, unless it has the number of the question.

    Raises:
        Refused: the number is another.

    """
    if (asked or 1) != question.number:
        raise Refused(
            f"'{printable(question.path)}' asks anew: {question.described()}; "
            f"if that is what you answer, add --asked {question.number}"
        )


def check_name(files: QuestionFiles, records: dict[str, StoredJob], name: str) -> None:
    """Refuse an answer that nothing asks for: the name is probably misspelt, or the label of several jobs.

    Raises:
        Refused: always. The message names the jobs that wait.

    """
    questions = open_questions(files, records)
    paths = [question.path for question in questions if question.label == name]
    names = join_names([f"'{printable(path)}'" for path in paths])
    if names:
        raise Refused(
            f"'{printable(name)}' is no path, and may be the label of several jobs; give a path: {names}"
        )
    waiting = [
        question.path
        for question in questions
        if files.read("answer", question.path) is None
    ]
    names = join_names([f"'{printable(path)}'" for path in waiting])
    others = "no job waits for an answer"
    if waiting:
        others = f"these jobs wait for an answer: {names}"
    raise Refused(
        f"'{printable(name)}' has not asked; {others}. If '{printable(name)}' will ask later, add --early"
    )


def check_answer(question: Question, value: str, is_secret: bool) -> None:
    """Check an answer as far as this is possible without the program.

    Raises:
        Refused: it is no choice, or no number.

    """
    parser = PARSERS.get(question.parse)
    name = printable(question.path)
    given = quoted_answer(value, is_secret)
    if (
        question.choices is not None
        and question.parse in ("str", *PARSERS)
        and value not in question.choices
    ):
        choices = printable(" or ".join(question.choices))
        raise Refused(f"{name}: {given} is no choice; choose {choices}")
    if question.choices is None and parser is not None:
        try:
            parser(value)
        except ValueError as error:
            reason = "" if is_secret else f": {error}"
            raise Refused(f"{name}: {given} does not parse{reason}") from None


def quoted_answer(value: str, is_secret: bool) -> str:
    if is_secret:
        return "the answer"
    return repr(printable(value))


class Refused(CliError):
    exit_code = REFUSED_CODE


def give(
    files: QuestionFiles,
    question: Question | None,
    name: str,
    value: str,
    is_secret: bool,
    is_new: bool,
    is_running: bool,
    replaces: bool = False,
) -> int:
    """Write the answer. If a run waits for it, wait until the run has taken it.

    Raises:
        Refused: the run has refused it, or somebody has answered before.

    """
    path = name if question is None else question.path
    if posix.IS_POSIX:
        user = user_name(posix.geteuid())
    else:
        user = getpass.getuser()
    is_awaited = question is not None and is_running
    kinds: list[str] = []
    if replaces and not is_running:
        # A run in progress uses what it has taken.
        kinds.append("taken")
    if replaces:
        kinds.append("answer")
    with _outputs.errors_as(CliError, JournalError):
        files.make()
        with files.withdrawn(path, kinds) as replaced:
            by = hidden_by = f"trioflow answer, user {user}"
            if replaced is not None:
                by += f", in place of {described(replaced, is_secret)}"
                hidden_by += f", in place of {described(replaced, is_secret=True)}"
            answer = make_answer(path, question, value, is_secret, by)
            answer = answer._replace(hidden_by=hidden_by)
            is_first = is_running or files.read("taken", path) is None
            if not (is_first and files.write("answer", path, answer, replaces=False)):
                raise Refused(answered_before(files, path, is_secret))
    shown_value = "…"
    if not is_secret:
        shown_value = printable(value)
    shown_value += clause(
        ", in place of {}", replaced and printable(described(replaced, is_secret))
    )
    shown = f"{printable(path)}: {shown_value}"
    if is_awaited:
        return wait_until_taken(files, answer, shown)
    if question is not None:
        # A run may have begun since, used another answer, and ended.
        refuse_late(files, answer, files.read("question", path))
        _outputs.echo(f"{shown}, when the next run asks")
    elif is_new:
        _outputs.echo(
            f"{shown}, when a first run with this journal asks; there is none yet"
        )
    else:
        _outputs.echo(f"{shown}, when it is asked; no job has asked that yet")
    return SUCCESS_CODE


def described(answer: GivenAnswer, is_secret: bool) -> str:
    """Return an answer, if it is no secret, who has given it, and when."""
    told = f"{answer.text!r} by {answer.by}"
    if is_secret or answer.is_secret:
        told = f"an answer by {answer.hidden_by or answer.by}"
    return f"{told}, on {timestamp_text(answer.created_at)}"


def answered_before(files: QuestionFiles, path: str, is_secret: bool) -> str:
    """Return why an answer does not count: another one, which no run has used yet, has come first."""
    if (first := files.read_pending(path)) is None:
        return answered_otherwise(files, path)
    told = f"'{path}' has been answered {described(first, is_secret)}, and no run has used that yet"
    return printable(f"{told}; to give another answer in its place, add --replace")


def answered_otherwise(files: QuestionFiles, path: str) -> str:
    question: Question | None = files.read("question", path)
    if question is None:
        return f"'{printable(path)}' is not asked any more"
    told = question.answered
    return f"'{printable(path)}' has just been answered {printable(told or 'by another command')}"


def refuse_late(
    files: QuestionFiles, answer: GivenAnswer, question: Question | None
) -> None:
    """Take an answer away if another one has come first.

    Raises:
        Refused: the question, as it is now, has another answer, or is not asked any more.

    """
    if question is not None:
        if question.answered is None or question.counted == answer.id:
            return
    late = files.read("answer", answer.path)
    if late is not None and late.id == answer.id:
        files.remove(answer.path, "answer")
    raise Refused(answered_otherwise(files, answer.path))


def wait_until_taken(files: QuestionFiles, answer: GivenAnswer, shown: str) -> int:
    """Wait until the run has taken the answer.

    Raises:
        Refused: the run has refused it, or has another answer.

    """
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while time.monotonic() < deadline:
        question: Question | None = files.read("question", answer.path)
        refusal: Refusal | None = files.read("refused", answer.path)
        if refusal is not None and answer.id in refusal.reasons:
            raise Refused(printable(refusal.reasons[answer.id]))
        if question is not None and question.counted == answer.id:
            # It may be asked again already.
            _outputs.echo(shown)
            return SUCCESS_CODE
        refuse_late(files, answer, question)
        time.sleep(0.05)
    _outputs.echo(f"{shown}; the run has not taken it yet")
    return SUCCESS_CODE
