"""`Answer`: a job whose result is given from outside, by a person or another program."""

from __future__ import annotations

import itertools
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar, Unpack, cast, overload

from .. import abc
from .._core.base._text_forms import clause, fit, is_among, name_in_errors, shown_value
from .._core.job._job import is_job
from .._core.job._option_descriptors import Argument
from .._hints import explain_form

T = TypeVar("T")

POLL_SECONDS: Final = 0.5
"""The time between two looks for an answer from another process. A look is a single call of `rename`."""
REPORT_SECONDS: Final = 1.0
"""The log names a question that only this program can answer after this time."""
# In place of a question that a job with `redact=True` gives.
SECRET: Final = "a secret"
NOTHING: Final = object()
ANSWERING: Final = threading.Lock()
"""Lets the first of several answers win, and none come to a question that is over. It is held for an instant."""


def steering_advice(path: str) -> str:
    """Return how a person answers a job of this process from outside."""
    command = abc.printable(
        shlex.join(["trioflow", "steer", str(os.getpid()), "answer", path, "VALUE"])
    )
    return f"`{command}` or `trioflow look {os.getpid()} --web`"


class Answer(
    abc.JobKind[T], box=abc.BoxStyle("question", "note", (">", "]")), takes_slot=False
):
    """A job whose result is given from outside: a person approves, or a form comes back.

    Use it where a run has to wait for a person.

    The answer is given by `answer()`, in the program. In a run with a journal, it can also be given by the command
    `trioflow answer RUN.db NAME VALUE`, where NAME is the job's path. This works while the run waits, and while nothing
    runs: then the answer is there when the next run asks. The job takes no slot while it waits, and the run waits for
    it. The monitor, `explain` and listings with details show the question.

    Args:
        question: the text of the question, or a job whose result is the text.
        choices: the values that are accepted, or None for any. A text that is the `str` of a choice stands for the
            choice.
        parse: called with a text that is no choice. Returns the value, or raises an exception.
        options: the options of every job. See `AbstractJob`. `timeout` limits the wait.

    Raises:
        TypeError: the question is not text, `choices` is not a list, or `parse` is not a function.
        ValueError: `choices` is empty.

    Example:
        >>> approve = Answer("deploy?", choices=["yes", "no"], label="approve")
        >>> async def click():
        ...     approve.answer("yes")
        >>> Scheduler(approve, Job(click), jobs_window=1).run(), approve.result()
        (True, 'yes')

    """

    __slots__ = (
        "_choices",
        "_event",
        "_given",
        "_last_asked",
        "_number",
        "_parse",
        "_question",
        "_refusal",
        "_told",
    )

    @overload
    def __init__(
        self: Answer[str],
        question: str | abc.AbstractJob[str],
        /,
        *,
        choices: None = None,
        **options: Unpack[abc.JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        question: str | abc.AbstractJob[str],
        /,
        *,
        choices: Sequence[T],
        **options: Unpack[abc.JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        question: str | abc.AbstractJob[str],
        /,
        *,
        choices: Sequence[T] | None = None,
        parse: Callable[[str], T],
        **options: Unpack[abc.JobOptions],
    ) -> None: ...
    @explain_form
    def __init__(
        self,
        question: object,
        /,
        *,
        choices: object = None,
        parse: Callable[[str], Any] = str,
        **options: Unpack[abc.JobOptions],
    ) -> None:
        redact = options.get("redact") is True
        subject = name_in_errors(
            f"Answer({shown_value(question, name_in_errors('', redact))})", redact
        )
        if not (is_job(question) or isinstance(question, str)):
            raise TypeError(
                f"{subject}: give the question as text, or a job whose result is the text"
            )
        if not callable(parse):  # pyright: ignore[reportUnnecessaryComparison]
            raise TypeError(
                f"parse={shown_value(parse, subject)} of {subject}: give a function that takes a text"
            )
        if choices is not None and (
            isinstance(choices, (str, bytes)) or not isinstance(choices, Sequence)
        ):
            raise TypeError(
                f"choices={shown_value(choices, subject)} of {subject}: give a list of values"
            )
        if choices is not None and not choices:
            raise ValueError(
                f"choices={shown_value(cast(Any, choices), subject)} of {subject}: give at least one value"
            )
        # Empty if any value is accepted.
        self._choices: Final[tuple[Any, ...]] = tuple(choices or ())  # pyright: ignore[reportUnknownArgumentType]
        self._parse: Final = parse
        self._given: Any = NOTHING
        self._event: abc.ThreadEvent | None = None
        self._refusal = ""
        # How many questions the job has asked: the same text again is the same question.
        self._number = 0
        self._last_asked: object = None
        # A sentence about the answer, with its giver and its time, or "" before there is an answer.
        self._told = ""
        super().__init__(question, **options)
        self.forget_run()

    question: Argument[str] = Argument()
    """The text of the question. If it is the result of a job, "" until that job has succeeded."""

    def answer(self, value: T | str) -> None:
        """Give the answer, which becomes the result of the job. Any thread may call this.

        Before the job has started, the answer is kept for it. It takes precedence over another in the journal.

        Args:
            value: one of the `choices`, a text, which `parse` reads, or a value of another type, which is taken as is.

        Raises:
            ValueError: the value is no choice, or `parse` raised an exception. The job still waits.
            RuntimeError: the job has an answer already, or has begun anew since `parse` was called, or has settled in
                the run in progress.

        """
        self._give(value, "the program")

    def _give(self, value: object, by: str) -> None:
        """Take the first valid answer to the question that is open now. This is the only way of an answer to the job.

        Raises:
            ValueError, RuntimeError: as `answer`.

        """
        question = self._event
        self._check_is_open(question)
        # To read the answer may take any time, because the user's `parse` is called.
        given = self._read(value)
        shown = ""
        if not self.redact:
            shown = f"{shown_value(value, '')} "
        with ANSWERING:
            self._check_is_open(question)
            self._given = given
            self._told = f"{shown}by {by}, at {time.strftime('%Y-%m-%d %H:%M:%S')}"
            if (event := self._event) is not None:
                event.set()

    def _check_is_open(self, question: abc.ThreadEvent | None) -> None:
        """Reject an answer if there is one, or if the question that it is for is not asked any more.

        Args:
            question: the event of the attempt that asks, or None if the answer has come before the question.

        Raises:
            RuntimeError: it has been answered, is asked anew, or has settled.

        """
        subject = f"answer() of {self.label!r}"
        if self._given is not NOTHING:
            raise RuntimeError(f"{subject}: it has been answered already: {self._told}")
        if self.is_settled() and any(
            abc.current_run(scheduler) for scheduler in abc.enclosing_schedulers(self)
        ):
            told = clause(": it was answered {}", self._told)
            raise RuntimeError(
                f"{subject}: it is {self.state.value}, and waits for no answer{told}"
            )
        if question is not None and self._event is not question:
            raise RuntimeError(
                f"{subject}: the question that this answers is not asked any more"
            )

    def _read(self, value: object) -> Any:
        """Return the value that an answer stands for.

        Raises:
            ValueError: it is no choice, or cannot be parsed.

        """
        subject = f"answer() of {self.label!r}: {shown_value(value, name_in_errors('', self.redact))}"
        if is_among(value, self._choices):
            return value
        if isinstance(value, str):
            by_text = {str(choice): choice for choice in self._choices}
            if value in by_text:
                return by_text[value]
            try:
                value = self._parse(value)
            except Exception as error:
                if self.redact:
                    # The message may quote the answer.
                    raise ValueError(
                        f"{subject} does not parse: {type(error).__name__}"
                    ) from None
                raise ValueError(
                    f"{subject} does not parse: {type(error).__name__}: {error}"
                ) from error
        if not self._choices or is_among(value, self._choices):
            return value
        if self.redact:
            raise ValueError(f"{subject} is no choice")
        raise ValueError(f"{subject} is no choice; choose {self._choices_text()}")

    def _choices_text(self) -> str:
        *first, last = map(str, self._choices or ("",))
        return " or ".join(filter(None, [", ".join(first), last]))

    # ---- the kind

    def check_before_run(self) -> None:
        """Reject a question that could not be told from another one, if the run has a journal.

        Raises:
            ValueError: another question has the label, in the same scheduler or in a group of the same label, and
                neither has a `key`.

        """
        if self.scheduler is None or self.key is not None:
            return
        *_, outermost = abc.enclosing_schedulers(self)
        run = abc.current_run(outermost)
        if run is not None:
            has_journal = run.has_journal
        else:
            has_journal = getattr(outermost, "journal", None) is not None
        if not has_journal:
            return
        for other in self._told_apart_by_order():
            advice = "give each a label of its own, or key="
            if other.scheduler is not self.scheduler:
                advice = (
                    "give each, or the groups around them, labels of their own, or key="
                )
            raise ValueError(
                f"{self.label!r} is the label of two questions, and an answer could not say for which it is: "
                f"{advice}"
            )

    def _told_apart_by_order(self) -> Iterator[Answer[Any]]:
        """Yield the other questions whose paths differ from this one only in the ordinals of equal labels."""
        names: list[tuple[str, object]] = []
        inner: abc.AbstractJob[Any] = self
        for level in abc.enclosing_schedulers(self):
            names.insert(0, (inner.label, inner.key))
            found: list[abc.AbstractJob[Any]] = [
                job for job in level if job is not inner
            ]
            for depth, name in enumerate(names):
                if depth:
                    groups = filter(abc.is_scheduler, found)
                    found = [*itertools.chain.from_iterable(groups)]
                found = [job for job in found if (job.label, job.key) == name]
            for job in found:
                if isinstance(job, Answer):
                    yield job
            inner = level

    def default_label(self, depth: int) -> str:
        """Return the question, shortened, or the label of the job whose result is the question."""
        (question,) = abc.original_arguments_of(self)
        if is_job(question):
            return f"ask({abc.label_inside(question, depth)})"
        return fit(question, 60, "ends")

    def forget_run(self) -> None:
        """Forget the text of a question that is the result of a job, and what was answered to an earlier one."""
        (question,) = abc.original_arguments_of(self)
        self._question = "" if is_job(question) else question
        if self._given is NOTHING:
            self._told = ""

    def status_text(self) -> str:
        """Return the question, of several lines the first, with the choices."""
        first, _, more = self._shown_question()[0].partition("\n")
        if more:
            first += " …"
        return self._asking_text(first)

    def _asking_text(self, question: str) -> str:
        if self._number < 2:
            asks = "asks"
        else:
            asks = f"asks (--asked {self._number})"
        return f"{asks}: {question}" + clause(
            " ({})", self._shown_question()[1] and self._choices_text()
        )

    def _shown_question(self) -> tuple[str, list[str] | None]:
        """Return the question and its choices as others may read them: a secret answer hides only the choices."""
        (question,) = abc.original_arguments_of(self)
        if is_job(question) and question.redact:
            return SECRET, None
        if self.redact or not self._choices:
            return self._question, None
        return self._question, [*map(str, self._choices)]

    def _open_question(self) -> tuple[str, list[str] | None, bool, str, int] | None:
        """Return the question, the choices, whether it is secret, the last refusal, and the number of the question.

        If the job does not wait for an answer, return None.
        """
        if self._event is None or self._given is not NOTHING:
            return None
        return *self._shown_question(), self.redact, self._refusal, self._number

    def for_journal(self) -> abc.Work:
        """Return the question, the choices, and the function that reads the answer."""
        return abc.Work(
            what="question",
            arguments=abc.original_arguments_of(self),
            options=[self._choices or None, abc.name_of(self._parse)],
            rejects=self._reason_against,
        )

    def _reason_against(self, value: object) -> str | None:
        """Return why an answer in the journal does not count, or None if it counts, or was given by `answer()`."""
        if self._given is NOTHING or is_among(self._given, (value,)):
            return None
        return "answer() has given another answer since"

    def _skip_run(self) -> None:
        """Discard the same answer by `answer()`: it must not count for the next question."""
        self._given = NOTHING

    async def co_run(self) -> T:
        """Wait for the answer.

        Raises:
            TypeError: the result of the job that gives the question is not text.

        """
        run = abc.run_of(self)
        (question,) = abc.arguments_of(self)
        if not isinstance(question, str):
            shown = shown_value(question, name_in_errors("", self.redact))
            raise TypeError(
                f"{self.label!r}: the question is {shown}, which is no text"
            )
        self.forget_run()
        self._question = question
        self._refusal = ""
        if self._last_asked != (asked := (question, *map(str, self._choices))):
            self._number += 1
            self._last_asked = asked
        shown, choices = self._shown_question()
        facts = {
            "question": shown,
            "choices": choices,
            "parse": abc.name_of(self._parse),
            "redact": self.redact,
        }
        published = run.open_question(self, facts)
        if published is not None:
            # The number of the file counts the questions of earlier runs, too.
            self._number = published.number
        self._event = event = abc.ThreadEvent()
        interruption: BaseException | None = None
        try:
            await self._wait_for_answer(run, event, published)
        except BaseException as error:
            interruption = error
        with ANSWERING:
            # The answer to this question must not count for the next one.
            given = self._given
            self._given = NOTHING
            self._event = None
        run.close_question(self)
        if given is NOTHING and interruption is not None:
            raise interruption
        # An answer that was accepted counts, even if a cancellation has come in the same turn of the loop.
        run.report(
            f"'{abc.printable(self.path)}' was answered {self._told}",
            self,
            is_steering=True,
        )
        if published is not None:
            published.close(self._told)
        return given  # type: ignore[no-any-return]

    async def _wait_for_answer(
        self, run: abc.RunHandle, event: abc.ThreadEvent, published: Any
    ) -> None:
        is_unpublished = published is None and self._given is NOTHING
        if (
            is_unpublished
            and not await event.wait(run.clock() + REPORT_SECONDS)
            and self.log
        ):
            advice = f"it is in no journal: answer it by its method answer(), {steering_advice(self.path)}"
            run.log_question(
                f"{self.label!r} {self._asking_text(self._shown_question()[0])}; {advice}"
            )
        while self._given is NOTHING:
            if published is None:
                await event.wait()
            elif (answer := published.poll()) is None:
                await event.wait(run.clock() + POLL_SECONDS)
            else:
                try:
                    self._give(*answer)
                except (ValueError, RuntimeError) as error:
                    self._refusal = str(error)
                    published.refuse(self._refusal)
