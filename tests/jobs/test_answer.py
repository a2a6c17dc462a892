"""`Answer`: a job whose result is given from outside, here in the program; `tests/journal` has the command."""

import re
import sys
import threading
from collections.abc import Callable
from typing import Any
import anyio
import anyio.to_thread
import pytest
from trioflow import Answer, Job, JobState, JobTimeout, Scheduler, Trace
from trioflow.abc import incidents_of
from trioflow.view import listing
from trioflow.view.look import _answers
from ..bodies import at_once, in_threads, nap, running
from ..conftest import Virtual


@pytest.mark.parametrize("make_window", [lambda: 1, lambda: anyio.CapacityLimiter(1)])
def test_an_answer_takes_no_slot_and_the_run_waits_for_it(
    virtual: Virtual, make_window: Callable[[], Any]
) -> None:
    """A question is asked although the window is full, also by the job that fills it; the run waits for the answer."""

    async def ask() -> str:
        scheduler = asks.scheduler
        assert scheduler is not None
        question = scheduler.add(Answer("deploy?", label="approve"))
        tasks.start_soon(later, question)
        return await question

    async def later(question: Answer[str]) -> None:
        await anyio.sleep(3600)
        question.answer("yes")

    async def main() -> None:
        nonlocal tasks
        async with anyio.create_task_group() as tasks:
            assert await Scheduler(asks, jobs_window=make_window()).co_run()

    asks, tasks = Job(ask), None
    virtual(main)
    assert asks.result() == "yes"
    assert asks.elapsed == pytest.approx(3600)


def test_an_answer_is_asked_while_another_job_has_the_only_slot(
    virtual: Virtual,
) -> None:
    question = Answer("deploy?", required=(first := Job(nap, 1)))
    scheduler = Scheduler(first, Job(nap, 9), question, jobs_window=2)
    other = scheduler.add(Job(nap, 9, required=first))

    async def main() -> None:
        async with running(scheduler, 2):
            assert (question.state, other.state) == (JobState.RUNNING, JobState.RUNNING)
            assert scheduler.explain(question).endswith(", and asks: deploy?")
            question.answer("yes")

    virtual(main)
    assert question.elapsed == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "given", "result"),
    [
        ({}, "text", "text"), ({}, 5, 5), ({"choices": ["yes", "no"]}, "no", "no"), ({"choices": [1, 2]}, "2", 2),
        ({"choices": [1, 2]}, 2, 2), ({"parse": int}, " 7 ", 7), ({"parse": int, "choices": [7, 8]}, "07", 7),
    ],
)  # fmt: skip
def test_an_answer_is_a_choice_or_what_parse_makes_of_the_text(
    options: Any, given: Any, result: Any
) -> None:
    job: Answer[Any] = Answer("which?", **options)
    job.answer(given)
    assert Scheduler(job).run()
    assert job.result() == result


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        (
            {"choices": ["yes", "no"]},
            "maybe",
            "answer() of 'q': 'maybe' is no choice; choose yes or no",
        ),
        (
            {"choices": [1, 2, 3]},
            4,
            "answer() of 'q': 4 is no choice; choose 1, 2 or 3",
        ),
        (
            {"parse": int},
            "x",
            "answer() of 'q': 'x' does not parse: ValueError: invalid literal",
        ),
    ],
)
def test_a_wrong_answer_is_refused_where_it_is_given(
    options: Any, given: Any, message: str
) -> None:
    job: Answer[Any] = Answer("which?", label="q", **options)
    with pytest.raises(ValueError, match="answer") as raised:
        job.answer(given)
    assert str(raised.value).startswith(message)
    job.answer(options.get("choices", ["1"])[0])
    with pytest.raises(
        RuntimeError, match=r"answer\(\) of 'q': it has been answered already"
    ):
        job.answer(given)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((5,), {}, "give the question as text"),
        (("q",), {"choices": "yes"}, "choices='yes' of Answer.'q'.: give a list"),
        (("q",), {"choices": []}, "give at least one value"),
        (("q",), {"parse": 5}, "parse=5 of Answer.'q'.: give a function"),
    ],
)
def test_wrong_arguments_of_an_answer_are_rejected(
    arguments: Any, options: Any, message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Answer(*arguments, **options)


@pytest.mark.parametrize("is_looked_into", [False, True])
def test_the_log_says_what_a_question_needs_to_be_answered_from_outside(
    virtual: Virtual,
    is_looked_into: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under `trioflow run`, whose runs can be looked into, the line once said that it would need that."""
    monkeypatch.setattr(sys, "version_info", (3, 13))
    monkeypatch.setattr(_answers.answer_thread, "is_running", lambda: is_looked_into)
    virtual(Scheduler(Scheduler(Answer("which?", label="q")), timeout=2).co_run)
    assert ("TRIOFLOW_LOOK=1" in caplog.text) is not is_looked_into
    assert "q VALUE`" in caplog.text


def test_the_question_may_be_the_result_of_a_job(virtual: Virtual) -> None:
    question = Answer(
        Job(at_once, lambda: "delete 3 files?", label="plan"), label="approve"
    )
    scheduler = Scheduler(question, timeout=60)

    async def main() -> None:
        async with running(scheduler, 1):
            assert question.question == "delete 3 files?"
            in_threads(lambda: question.answer("yes"))

    virtual(main)
    assert question.result() == "yes"


def test_an_answer_may_time_out(virtual: Virtual) -> None:
    question = Answer("deploy?", timeout=60, label="approve")

    async def late() -> None:
        await anyio.sleep(70)
        with pytest.raises(RuntimeError, match="it is failed, and waits for no answer"):
            question.answer("yes")

    virtual(Scheduler(question, Job(late)).co_run)
    assert isinstance(question.raised_exception(), JobTimeout)


def test_views_show_the_question_and_count_no_slot(virtual: Virtual) -> None:
    """A listing shows what is asked; a trace has the wait in no slot, so that no window was full because of it."""
    question = Answer("deploy?", choices=["yes", "no"], label="approve")
    scheduler = Scheduler(question, *[Job(nap, 4) for _ in range(2)], jobs_window=1)
    trace = Trace()

    async def main() -> None:
        async with running(scheduler, 9, instruments=[trace]):
            assert "asks: deploy? (yes or no)" in listing(scheduler, details=True)
            question.answer("yes")

    virtual(main)
    span = next(span for span in trace.spans if span.label == "approve")
    assert not span.takes_slot
    assert span.elapsed == pytest.approx(9, abs=1)
    assert [span.lane for span in trace.spans] == [2, 1, 1]


@pytest.mark.both_backends
def test_of_two_answers_at_once_the_second_is_refused_and_none_is_left(
    backend: Any,
) -> None:
    """Both were once accepted, while one was parsed, and the second answered the next run, which asked nobody."""
    parsing, said, given = threading.Semaphore(0), dict[str, str](), threading.Event()

    def parse(text: str) -> str:
        parsing.release()
        if text == "no":
            assert given.wait(10)
        return text.upper()

    question: Answer[str] = Answer("deploy?", parse=parse, label="deploy")

    def give(text: str) -> None:
        try:
            question.answer(text)
            said[text] = "accepted"
        except RuntimeError as error:
            said[text] = str(error)
        given.set()

    async def people() -> None:
        if said:
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, give, "no")
            await anyio.to_thread.run_sync(parsing.acquire)
            tasks.start_soon(anyio.to_thread.run_sync, give, "yes")

    scheduler = Scheduler(question, Job(people))
    assert scheduler.run(backend=backend)
    assert question.result() == "YES"
    assert said["yes"] == "accepted"
    assert re.search("answered (already: )?'yes' by the program, at 2", said["no"])
    assert not scheduler.run(backend=backend, timeout=0.2)
    assert question.state is JobState.CANCELLED


def test_an_answer_is_not_for_an_attempt_that_began_while_it_was_parsed(
    virtual: Virtual,
) -> None:
    """`parse` lasts until the question's time is over, and it is asked anew: what was said to the first is refused."""
    parsing, anew, said = threading.Event(), threading.Event(), list[str]()

    def parse(text: str) -> str:
        parsing.set()
        assert anew.wait(10)
        return text

    question: Answer[str] = Answer(
        "deploy?", parse=parse, label="deploy", timeout=5, retry=1
    )

    def give() -> None:
        with pytest.raises(RuntimeError) as raised:
            question.answer("yes")
        said.append(str(raised.value))

    async def main() -> None:
        async with running(Scheduler(question), 1):
            thread = threading.Thread(target=give)
            thread.start()
            assert parsing.wait(10)
            await anyio.sleep(6)
            assert question.attempts == 2
            anew.set()
            thread.join()

    virtual(main)
    assert said == [
        "answer() of 'deploy': the question that this answers is not asked any more"
    ]
    assert question.state is JobState.FAILED


@pytest.mark.both_backends
@pytest.mark.parametrize("order", [["answer", "cancel"], ["cancel", "answer"]])
def test_an_answer_that_was_accepted_counts(virtual: Virtual, order: list[str]) -> None:
    """A cancellation in the same turn of the loop does not take back what somebody was told to have answered."""
    question = Answer("deploy?", label="deploy", critical=False)

    async def both() -> None:
        await anyio.sleep(1)
        for word in order:
            question.answer("yes") if word == "answer" else question.cancel()

    virtual(Scheduler(question, Job(both)).co_run)
    assert (question.state, question.result(default=None)) == (
        JobState.SUCCEEDED,
        "yes",
    )


@pytest.mark.parametrize("redact", [False, True])
def test_an_answer_is_told(
    virtual: Virtual, redact: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What was answered, if it is no secret, by whom and when, is an incident that is no fault, and in the log."""
    scheduler = Scheduler(
        Scheduler(
            question := Answer("deploy?", label="deploy", redact=redact), label="group"
        )
    )
    question.answer("yes")
    virtual(scheduler.co_run)
    (incident,) = incidents_of(question.scheduler)
    told = "" if redact else "'yes' "
    assert re.fullmatch(
        rf"'group/deploy' was answered {told}by the program, at 20.*", incident.message
    )
    assert (incident.job, incident.is_steering) == (question, True)
    assert caplog.messages == [incident.message]


def test_the_second_question_of_a_job_says_its_number_and_the_first_does_not(
    virtual: Virtual,
) -> None:
    texts = iter(["first?", "second?"])
    told: list[str] = []
    text = Job(at_once, lambda: next(texts), label="text")
    question = Answer(text, label="ask")
    scheduler = Scheduler(text, question, Job(nap, 99))

    async def main() -> None:
        async with running(scheduler, 1):
            told.append(question.status_text())
            question.answer("yes")
            await anyio.sleep(1)
            text.try_again()
            await anyio.sleep(1)
            told.append(question.status_text())
            question.answer("yes")

    virtual(main)
    assert told == ["asks: first?", "asks (--asked 2): second?"]
