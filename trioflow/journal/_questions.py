"""The questions of a run's jobs, and the answers from other processes: small files in a directory beside the journal.

```
run.db-answers/
  HASH.question    written by the run when a job asks, and kept after the run, so that an answer can precede the next;
                   once the answer is committed, it says what was answered, by whom and when
  HASH.answer      written by `trioflow answer`
  HASH.taken       the answer that the run has renamed, and reads
  HASH.refused     written by the run: why it has refused the last answers, each by its id
```

HASH is the hash of the job's path in the journal. Each file is written under another name, so it is never read while it
is written. An answer gets its name by a link, which succeeds for the first of several writers alone: an answer that was
accepted is never replaced by another person's unseen, whether a run waits or none. `--replace` first takes the earlier
answer away, and says whose it was. The run removes the answer when it has committed the job's result.

The directory can be entered by this user alone. It is not used if another user could have written to it, since an
answer may be an approval.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shlex
import stat
import time
from collections.abc import (
    Callable,
    Container,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from .. import _posix as posix
from .._core.base._logger import warn
from .._core.base._text_forms import clause, fit
from .._core.job._errors import JournalError
from .._core.job._job import AbstractJob
from .._core.job._labels import printable, printable_lines
from ._serialization import digest, escape_row, msgspec
from ._store import JournalStore, StoredJob

MAX_FILE_SIZE: Final = 1 << 20
"""The maximum size, in bytes, of a file with a question or an answer. A larger one is not written, and not read."""


MAX_REFUSALS: Final = 20
MAX_REASON_LENGTH: Final = 2000
"""How many refusals of a question are kept, and how much of each, so that the file stays below its maximum size."""

NOT_REDACTED: Final = (
    "it is to be shown nowhere, but views show what the job returns: "
    "give the job redact=True, or the answer as VALUE"
)


class Question(NamedTuple):
    """A question, as a run has published it."""

    path: str
    label: str
    question: str
    choices: list[str] | None
    """The texts that are accepted, or None for any."""
    parse: str
    """The name of the function that reads the answer, such as "int"."""
    fingerprint: str
    """A hash of the job's fingerprint: the answer to another question is not taken for an answer to this question."""
    created_at: float
    redact: bool = False
    number: int = 1
    """How many different questions the job has asked, in runs before, too."""
    is_sole: bool = False
    """Whether the run has found the label once in its whole scenario, so that it stands for the path."""
    answered: str | None = None
    """What was answered, by whom and when, or None while the question is open."""
    counted: str = ""
    """The `id` of the last answer that counted, or "" if the program has given it."""

    def described(self, indent: str = "") -> str:
        """Return the question with the choices, as printable lines. The further lines begin with `indent`."""
        # Choices are no part of the last line, which may be that of a letter.
        separator = "\n" if "\n" in self.question else " "
        choices = clause(f"{separator}({{}})", ", ".join(self.choices or ()))
        return printable_lines(self.question + choices, indent)


class GivenAnswer(NamedTuple):
    id: str
    path: str
    fingerprint: str | None
    """The question's, or None if the question had not been asked."""
    text: str
    created_at: float
    is_secret: bool = False
    """Whether the job must have `redact=True`, because the answer is to be shown nowhere."""
    by: str = "trioflow answer"
    number: int | None = None
    """The question's, or None if the question had not been asked."""
    hidden_by: str = ""
    """`by` without the text of the answer that this one replaces: the job may turn out to have `redact=True`."""


class Refusal(NamedTuple):
    id: str
    path: str
    reason: str
    """Why the last answer was refused, for all, or "" if none was refused since the job has asked."""
    reasons: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple
    """Why each of the last answers was refused, by its id. Each answer has its author, who looks for it here."""


FILE_TYPES: Final = {
    ".question": Question,
    ".answer": GivenAnswer,
    ".taken": GivenAnswer,
    ".refused": Refusal,
}


class QuestionFiles:
    """The directory of a journal's questions and answers.

    Args:
        database: the file of the journal, with symbolic links resolved.

    """

    def __init__(self, database: Path) -> None:
        self.directory: Final = Path(f"{database}-answers")

    def exists(self) -> bool:
        """Return whether anything was ever asked or answered."""
        return os.path.lexists(self.directory)

    def check(self) -> None:
        """Check that no other user can have written to the directory.

        Raises:
            JournalError: another user can, or it is no directory.

        """
        subject = f"{os.fspath(self.directory)!r}, which has the questions and answers of the journal,"
        try:
            status = os.lstat(self.directory)
        except OSError as error:
            raise JournalError(f"{subject} cannot be read: {error.strerror}") from None
        if not stat.S_ISDIR(status.st_mode):
            problem = f"is {posix.describe_irregularity(status) or 'a file'}; remove it"
        elif posix.IS_POSIX and status.st_uid != posix.geteuid():
            problem = "belongs to another user; remove it, or use a journal of your own"
        elif posix.IS_POSIX and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            problem = "can be written by other users: chmod go-w"
        else:
            return
        raise JournalError(f"{subject} {problem}")

    def make(self) -> None:
        """Create the directory if it is missing, for this user alone, and check it.

        Raises:
            JournalError: it cannot be used.

        """
        try:
            os.mkdir(self.directory, 0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise JournalError(
                f"cannot create {os.fspath(self.directory)!r}: {error.strerror}"
            ) from error
        self.check()

    def read(self, kind: str, path: str) -> Any:
        """Return the contents of a file about the job at `path`, or None if there is no such file, or it is damaged."""
        return self._read_file(self._file(kind, path))

    def read_all(self, kind: str) -> Iterator[Any]:
        """Yield the contents of all files of a kind, except damaged files."""
        for file in sorted(self.directory.glob(f"*.{kind}")):
            value = self._read_file(file)
            if value is not None and file == self._file(kind, value.path):
                yield value

    def read_open(self) -> list[Question]:
        """Return the questions that have not been answered."""
        return [
            question
            for question in self.read_all("question")
            if question.answered is None
        ]

    def write(self, kind: str, path: str, value: Any, *, replaces: bool = True) -> bool:
        """Write a file whole, and return True.

        Args:
            kind: the kind of the file.
            path: the path of the job.
            value: the contents.
            replaces: whether to replace an earlier file. If not, and there is one, return False.

        Raises:
            JournalError: the file cannot be written, or is too large.

        """
        target = self._file(kind, path)
        data = msgspec.json.encode(escape_row(value))
        if len(data) > MAX_FILE_SIZE:
            raise JournalError(
                f"the {kind} of '{printable(path)}' takes more than 1 MiB: give a shorter text, such as a path"
            )
        partial = target.with_name(
            f"{target.name}.{os.getpid()}.{secrets.token_hex(4)}"
        )
        try:
            descriptor = posix.open_regular(
                partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600
            )
            try:
                with open(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                if replaces:
                    os.replace(partial, target)
                else:
                    os.link(partial, target)
            finally:
                partial.unlink(missing_ok=True)
            return True
        except FileExistsError:
            return False
        except OSError as error:
            raise JournalError(
                f"cannot write {os.fspath(target)!r}: {error.strerror}"
            ) from error

    def take(self, path: str) -> bool:
        """Rename the answer for the job at `path`, so that no later answer replaces it. Return whether it exists."""
        taken = self._file("taken", path)
        # A run that was killed may have left it, and it has come first.
        if not os.path.lexists(taken):
            with contextlib.suppress(OSError):
                os.rename(self._file("answer", path), taken)
        return os.path.lexists(taken)

    def read_pending(self, path: str) -> GivenAnswer | None:
        """Return the answer that no run has used yet: a run that was killed may have taken it."""
        taken: GivenAnswer | None = self.read("taken", path)
        return taken or self.read("answer", path)

    def pending_paths(self) -> set[str]:
        """Return the paths of the jobs that have an answer that no run has used yet."""
        pending = itertools.chain(self.read_all("taken"), self.read_all("answer"))
        return {answer.path for answer in pending}

    @contextlib.contextmanager
    def withdrawn(
        self, path: str, kinds: Iterable[str]
    ) -> Generator[GivenAnswer | None]:
        """Take away these files about the job at `path`. If the body raises, put them back.

        Each is put back unless another one has come meanwhile. The body gets what the first of them says, if there is
        one.
        """
        name = f"{hash_of_text(path)}.{secrets.token_hex(8)}"
        withdrawn: dict[str, Path] = {}
        for kind in kinds:
            file = self.directory / f"{name}.{kind}"
            with contextlib.suppress(OSError):
                os.rename(self._file(kind, path), file)
                withdrawn[kind] = file
        try:
            found = [*map(self._read_file, withdrawn.values())]
            yield next(iter(found), None)
        except BaseException:
            for kind, file in withdrawn.items():
                with contextlib.suppress(OSError):
                    os.link(file, self._file(kind, path))
            raise
        finally:
            for file in withdrawn.values():
                file.unlink(missing_ok=True)

    def remove(self, path: str, *kinds: str) -> None:
        for kind in kinds:
            with contextlib.suppress(OSError):
                os.unlink(self._file(kind, path))

    def _file(self, kind: str, path: str) -> Path:
        return self.directory / f"{hash_of_text(path)}.{kind}"

    def _read_file(self, file: Path) -> Any:
        try:
            with open(posix.open_regular(file, os.O_RDONLY), "rb") as stream:
                if (
                    posix.IS_POSIX
                    and os.fstat(stream.fileno()).st_uid != posix.geteuid()
                ):
                    return None
                data = stream.read(MAX_FILE_SIZE + 1)
            if len(data) <= MAX_FILE_SIZE:
                return msgspec.json.decode(data, type=FILE_TYPES[file.suffix])
            return None
        except Exception:
            # It is missing, or another program has changed it.
            return None


@final
class PublishedQuestion:
    """A question of a job that runs, as a run with the journal sees it.

    Args:
        files: the directory of the questions.
        question: the question.
        on_answered: called with the question, as it is once it has been answered.

    """

    def __init__(
        self,
        files: QuestionFiles,
        question: Question,
        on_answered: Callable[[Question], None],
    ) -> None:
        self._files: Final = files
        self._on_answered: Final = on_answered
        self._taken: GivenAnswer | None = None
        earlier: Question | None = files.read("question", question.path)
        if earlier is not None:
            # The text may be another with the same fingerprint, if it is the result of a job that is not stored.
            fields = ("fingerprint", "question", "choices")
            is_same = all(
                getattr(earlier, name) == getattr(question, name) for name in fields
            )
            number = earlier.number
            if not is_same:
                number += 1
            question = question._replace(number=number, counted=earlier.counted)
            if is_same and earlier.answered is None:
                question = question._replace(created_at=earlier.created_at)
        self.question: Final = question
        self.number: Final = question.number
        files.write("question", question.path, question)
        refusal: Refusal | None = files.read("refused", question.path)
        if refusal is not None:
            files.write("refused", question.path, refusal._replace(reason=""))

    def close(self, told: str) -> None:
        # An answer that the program was faster than has been refused.
        counted = "" if self._taken is None else self._taken.id
        self._on_answered(self.question._replace(answered=told, counted=counted))

    def poll(self) -> tuple[str, str] | None:
        path = self.question.path
        if not self._files.take(path):
            return None
        answer: GivenAnswer | None = self._files.read("taken", path)
        if answer is None:
            self._files.remove(path, "taken")
            return None
        self._taken = answer
        is_to_other = answer.fingerprint not in (None, self.question.fingerprint)
        if is_to_other or answer.number not in (None, self.number):
            self.refuse("it is the answer to an earlier question of the same name")
            return None
        if answer.is_secret and not self.question.redact:
            self.refuse(NOT_REDACTED)
            return None
        by = answer.by
        if self.question.redact:
            by = answer.hidden_by or by
        return answer.text, by

    def refuse(self, reason: str) -> None:
        """Refuse the answer that `poll` has returned: tell its author, and the log."""
        assert self._taken is not None
        path = self.question.path
        earlier: Refusal | None = self._files.read("refused", path)
        shown = fit(reason, MAX_REASON_LENGTH, keep="ends")
        reasons: dict[str, str] = {}
        if earlier is not None:
            reasons.update(earlier.reasons)
        reasons[self._taken.id] = shown
        kept = dict([*reasons.items()][-MAX_REFUSALS:])
        with contextlib.suppress(JournalError):
            refusal = Refusal(self._taken.id, path, shown, kept)
            self._files.write("refused", path, refusal)
        self._files.remove(path, "taken")
        self._taken = None
        warn(f"the answer to '{printable(path)}' is refused: {reason}")


class RunQuestions:
    """The questions of a run with a journal, which another process may answer.

    Args:
        store: the open file of the journal.

    """

    def __init__(self, store: JournalStore) -> None:
        self._store: Final = store
        self._files: Final = QuestionFiles(store.file)
        # The questions that were asked and not withdrawn, by path. None until it has been answered.
        self._open: Final[dict[str, Question | None]] = {}

    def discard_answered(self) -> None:
        """Remove the files of questions whose answers are in the journal: a killed run has left them."""
        for found in (*self._files.read_open(), *self._files.read_all("taken")):
            record = self._store.find_undamaged_job(found.path)
            if is_answered_in(record, found):
                self._files.remove(found.path, "question", "taken", "refused")

    def publish(
        self,
        job: AbstractJob[Any],
        path: str,
        fingerprint: str,
        is_sole: bool,
        facts: Mapping[str, Any],
    ) -> PublishedQuestion:
        """Publish the question of a job that runs.

        Raises:
            JournalError: its file cannot be written.

        """
        self._open[path] = None
        self._files.make()
        work = hash_of_text(fingerprint)
        question = Question(
            path,
            job.label,
            fingerprint=work,
            created_at=time.time(),
            is_sole=is_sole,
            **facts,
        )
        published = PublishedQuestion(
            self._files, question, lambda its: self._open.update({path: its})
        )
        # An answer to what was asked before is refused first.
        if job.log and published.poll() is None:
            call = shlex.join(["trioflow", "answer", str(self._store.path), path])
            # Others see the arguments of commands: a secret is read from standard input.
            call += " -" if question.redact else " VALUE"
            if published.number > 1:
                call += f" --asked {published.number}"
            end = "\n  to answer" if "\n" in question.question else "; to answer"
            warn(
                f"'{printable(path)}' asks: {question.described('  ')}{end}: {call}",
                about="question",
            )
        # The job looks for it again, unless the program has answered.
        published._taken = None
        return published

    def told(self, path: str) -> str | None:
        """Return what a question was answered, by whom and when, or None if it was not."""
        return getattr(self._open.get(path), "answered", None)

    def close(self, paths: Container[str]) -> None:
        """Withdraw the questions whose answers are committed, or taken back. An answer that came too late goes, too."""
        for path in [path for path in self._open if path in paths]:
            question = self._open[path]
            if question is not None:
                del self._open[path]
                with contextlib.suppress(JournalError):
                    self._files.write("question", path, question)
                self._files.remove(path, "taken", "answer", "refused")

    def withdraw(self, prefix: str) -> None:
        """Withdraw the open questions of jobs in a `First` that is decided: a later run restores it, and asks none."""
        for path, question in [*self._open.items()]:
            if question is None and path.startswith(prefix):
                del self._open[path]
                self._files.remove(path, "question", "taken", "answer", "refused")

    def discard_unasked(self, to_be_asked: Iterable[str]) -> None:
        """At the end of a run, remove questions and answers that belong to none of its jobs, or are of no more use.

        Args:
            to_be_asked: the paths of jobs that have no result.

        """
        files: list[tuple[str, str]] = []
        for kind in ("question", "taken", "refused", "answer"):
            for found in self._files.read_all(kind):
                if found.path not in self._open and not self._is_answer(found):
                    files.append((kind, found.path))
        if not files:
            return
        kept = {*to_be_asked}
        for kind, path in files:
            if path in kept:
                continue
            self._files.remove(path, kind)
            if kind == "answer":
                warn(
                    f"the answer to '{printable(path)}' was not used, and is removed: no job has asked that"
                )

    def _is_answer(self, found: Any) -> bool:
        """Return whether a file is about a question whose answer is in the journal, and says how it was answered."""
        return bool(
            getattr(found, "answered", None)
            and self._store.find_undamaged_job(found.path)
        )


def is_answered_in(record: StoredJob | None, found: Question | GivenAnswer) -> bool:
    """Return whether the record of a job has the answer to a question, or this answer.

    An attempt that ends without an answer leaves a record without a result.
    """
    if record is None or record.saved is None or record.settled < found.created_at:
        return False
    return found.fingerprint in (None, hash_of_text(record.fingerprint))


def hash_of_text(text: str) -> str:
    """Return the hash that stands for the path and the fingerprint of a job in the names of files."""
    return digest(text.encode(errors="backslashreplace"))


def make_answer(
    path: str, question: Question | None, text: str, is_secret: bool, by: str
) -> GivenAnswer:
    id_ = secrets.token_hex(8)
    answer = GivenAnswer(id_, path, None, text, time.time(), is_secret, by)
    if question is None:
        return answer
    return answer._replace(fingerprint=question.fingerprint, number=question.number)
