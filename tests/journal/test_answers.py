"""Answers that are given by `trioflow answer` while a run waits, while nothing runs, or before a first run."""

import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from trioflow import Answer, First, Job, Scheduler, current_scheduler
from trioflow._check import findings
from trioflow._core.words._job_queries import question_of
from trioflow.cli import _answer
from trioflow.cli._scenario import keep_selected_jobs
from trioflow.journal import _questions
from ..bodies import running
from ..cli.command_line import trioflow
from ..conftest import Virtual

Build = Callable[[], Scheduler]


def ran(
    virtual: Virtual, build: Build, *steps: Callable[[], object], wait: float = 2
) -> Scheduler:
    """Run a scheduler, take each step while it waits, and return it; a run that still waits is cancelled."""
    scheduler = build()

    async def main() -> None:
        async with running(scheduler) as tasks:
            for step in steps:
                await anyio.sleep(wait)
                step()
            await anyio.sleep(wait)
            tasks.cancel_scope.cancel()

    virtual(main)
    return scheduler


def approval(file: Path, question: str = "deploy?", **options: Any) -> Build:
    return lambda: Scheduler(Answer(question, label="approve", **options), journal=file)


def result(scheduler: Scheduler) -> tuple[Any, bool]:
    (job,) = scheduler
    return job.result(default=None), job.restored


def asked(file: Path, *words: str, code: int = 0) -> str:
    """Call `trioflow answer` while the run in this process does not go on, and return what it prints."""
    outcome = trioflow("answer", file, *words)
    assert outcome.exit_code == code, outcome.output
    return str(outcome.output)


def give(file: Path, name: str, value: str, code: int = 0) -> None:
    assert value in asked(file, name, value, code=code)


def left(file: Path) -> list[str]:
    """Return the kinds of the files about questions that are open, and about their answers."""
    files = _questions.QuestionFiles(file)
    answered = {
        question.path
        for question in files.read_all("question")
        if question.answered is not None
    }
    return sorted(
        kind
        for kind in ("question", "answer", "taken", "refused")
        for found in files.read_all(kind)
        if kind != "question" or found.path not in answered
    )


def wait_for_nothing(virtual: Virtual, build: Build) -> None:
    assert result(ran(virtual, build)) == (None, False)


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command not wait for a run, which cannot go on in the meantime, because it is in this process."""
    monkeypatch.setattr(_answer, "MAX_WAIT_SECONDS", 0)


def test_an_answer_is_given_while_a_run_waits(
    virtual: Virtual, file: Path, no_wait: None
) -> None:
    """The command lists what a run asks, and since when; the run takes the answer, and the next one restores it."""
    listed: list[str] = []
    scheduler = ran(
        virtual, approval(file, choices=["yes", "no"]), lambda: listed.append(asked(file)),
        lambda: give(file, "approve", "maybe", code=1), lambda: give(file, "approve", "yes"),
    )  # fmt: skip
    assert result(scheduler) == ("yes", False)
    assert listed[0].splitlines()[0].split() == ["job", "first", "asked", "question"]
    assert listed[0].splitlines()[1].startswith("approve  2")
    assert listed[0].endswith("  deploy? (yes, no)\n")
    assert asked(file) == "nothing is asked\n"
    assert "'approve' was answered 'yes' by trioflow answer, user" in asked(
        file, "approve", "no", code=1
    )
    assert result(ran(virtual, approval(file, choices=["yes", "no"]))) == ("yes", True)
    assert left(file) == []
    shutil.rmtree(f"{file}-answers")
    shown = trioflow("journal", file, "show", "approve").output
    assert re.search(
        r"^answered:    'yes' by trioflow answer, user .*, at 20", shown, re.MULTILINE
    )


@pytest.mark.parametrize("early", [True, False])
def test_an_answer_that_waits_for_a_run_is_replaced_by_none_unseen(
    virtual: Virtual, file: Path, early: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Of two persons who answer while nothing runs, the second is told of the first, or says that it replaces it."""
    words = ["--early"] * early
    if not early:
        wait_for_nothing(virtual, approval(file))
        assert "deploy?" in asked(file)
    assert asked(file, *words, "approve", "first").startswith("approve: first, when ")
    told = asked(file, *words, "approve", "second", code=1)
    assert re.search(
        "'approve' has been answered 'first' by trioflow answer, user .*, on 20.* add --replace",
        told,
    )
    if not early:
        assert "; answered: first" in asked(file)
    shown = asked(file, *words, "approve", "third", "--replace")
    assert re.match(
        "approve: third, in place of 'first' by trioflow answer, user .*, on 20.*, when",
        shown,
    )
    assert result(ran(virtual, approval(file))) == ("third", False)
    assert "'third' by trioflow answer, user" in caplog.text
    assert "in place of 'first' by trioflow answer, user" in caplog.text
    assert left(file) == []


def test_an_answer_that_could_not_be_replaced_still_counts(
    virtual: Virtual, file: Path
) -> None:
    """A text that was too long took the answer before away, too: none was left, and nobody was told."""
    wait_for_nothing(virtual, approval(file))
    assert asked(file, "approve", "first")
    for is_taken in (False, True):
        if is_taken:
            assert _questions.QuestionFiles(file).take("approve")
        long = "x" * _questions.MAX_FILE_SIZE
        told = asked(file, "approve", long, "--replace", code=2)
        assert "takes more than 1 MiB" in told
        kept = "taken" if is_taken else "answer"
        assert left(file) == sorted(["question", kept])
    assert result(ran(virtual, approval(file))) == ("first", False)


def test_an_answer_replaces_that_which_a_killed_run_has_taken_and_one_behind_it(
    virtual: Virtual, file: Path
) -> None:
    """It was refused because of the second, with the advice to add --replace, and the first was lost."""
    wait_for_nothing(virtual, approval(file))
    files = _questions.QuestionFiles(file)
    for by in "ab":
        question = files.read("question", "approve")
        answer = _questions.make_answer("approve", question, by, False, by)
        assert files.write("answer", "approve", answer, replaces=False)
        files.take("approve")
    assert left(file) == ["answer", "question", "taken"]
    told = asked(file, "approve", "c", "--replace")
    assert "approve: c, in place of 'a' by a, on 20" in told
    assert result(ran(virtual, approval(file))) == ("c", False)


def test_an_answer_that_a_killed_run_has_taken_has_come_first(
    virtual: Virtual, file: Path, no_wait: None
) -> None:
    """It was once overwritten by what another person said before the next run, and nobody was told."""
    wait_for_nothing(virtual, approval(file))
    for words in ([], ["--replace"]):
        give(file, "approve", "first")
        files = _questions.QuestionFiles(file)
        assert files.take("approve")
        assert "; answered: first" in asked(file)
        assert "has been answered 'first'" in asked(file, "approve", "second", code=1)
        if words:
            assert "in place of 'first'" in asked(file, "approve", "second", *words)
        assert result(ran(virtual, approval(file))) == (
            "second" if words else "first",
            False,
        )
        trioflow("journal", file, "forget", "approve")
        wait_for_nothing(virtual, approval(file))


def test_a_secret_that_was_answered_first_is_not_told(
    virtual: Virtual, file: Path
) -> None:
    wait_for_nothing(virtual, approval(file, redact=True))
    assert asked(file, "approve", "swordfish")
    for words, code in (([], 1), (["--replace"], 0)):
        shown = asked(file, "approve", "herring", *words, code=code)
        assert "an answer by trioflow answer" in shown
        assert "swordfish" not in shown


def test_a_secret_that_an_early_answer_has_replaced_is_not_told(
    virtual: Virtual, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The command cannot know yet that the job has `redact=True`: the log and the journal had the earlier secret."""
    assert asked(file, "--early", "approve", "swordfish")
    for value in ("trout", "herring"):
        assert asked(file, "--early", "approve", value, "--replace")
    secret = approval(file, redact=True)
    assert result(ran(virtual, secret)) == ("herring", False)
    for told in (caplog.text, trioflow("journal", file, "show", "approve").output):
        assert "in place of an answer by trioflow answer, user" in told
        assert not re.search("swordfish|trout|herring", told)


def test_each_of_several_persons_is_told_why_the_answer_is_refused(
    virtual: Virtual, file: Path, no_wait: None
) -> None:
    """A refusal stood in one file, which the next answer removed: its author was told of success."""
    files = _questions.QuestionFiles(file)

    def answer(value: str) -> Callable[[], None]:
        return lambda: give(file, "approve", value)

    def look() -> None:
        found = files.read("refused", "approve")
        assert [
            re.findall(r"'(\d)' does", each) for each in found.reasons.values()
        ] == [["2"], ["3"]]
        assert found.reason == [*found.reasons.values()][-1]
        give(file, "approve", "4")
        assert files.read("refused", "approve") == found

    job = approval(file, parse={"1": "one"}.__getitem__)
    assert result(ran(virtual, job, answer("2"), answer("3"), look)) == (None, False)
    many = range(10, 10 + 2 * _questions.MAX_REFUSALS)
    ran(virtual, job, *[answer(f"{number}" * 5000) for number in many])
    assert len(files.read("refused", "approve").reasons) == _questions.MAX_REFUSALS


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("has_journal", [True, False])
def test_two_questions_with_one_label_are_refused_by_check_as_by_the_run(
    virtual: Virtual, file: Path, depth: int, has_journal: bool
) -> None:
    def build(**keys: Any) -> Scheduler:
        jobs: list[Any] = [
            Answer("a?", label="approve", **keys),
            Answer("b?", label="approve"),
        ]
        for _ in range(depth):
            jobs = [Scheduler(*jobs, label="group")]
        return Scheduler(
            *jobs, journal=file if has_journal else None, timeout=1, log=False
        )

    found = [text for _, text in findings(build())]
    assert found == [
        text for text in found if "'approve' is the label of two questions" in text
    ]
    assert len(found) == 2 * has_journal
    if has_journal:
        with pytest.raises(ValueError, match="'approve' is the label of two questions"):
            virtual(build().co_run)
    assert not findings(build(key="a"))
    assert virtual(build(key="a").co_run) is False  # it waits, for a second


@pytest.mark.parametrize("keys", [(None, None), ("a", None)])
@pytest.mark.parametrize("labels", [("group", "group"), ("group", "other")])
def test_two_questions_in_groups_of_one_label_are_refused(
    virtual: Virtual, file: Path, labels: tuple[str, str], keys: tuple[Any, Any]
) -> None:
    """Only the order of the groups would tell `group/approve` and `group#2/approve` apart, at any depth."""

    def build() -> Scheduler:
        groups = [
            Scheduler(
                Scheduler(Answer(f"{label}?", label="approve", key=key), label="inner"),
                label=label,
            )
            for label, key in zip(labels, keys, strict=True)
        ]
        return Scheduler(*groups, journal=file, timeout=1, log=False)

    if labels[0] == labels[1] and keys == (None, None):
        assert (
            len(
                [
                    text
                    for _, text in findings(build())
                    if "'approve' is the label of two questions" in text
                ]
            )
            == 2
        )
        with pytest.raises(
            ValueError, match="or the groups around them, labels of their own"
        ):
            virtual(build().co_run)
    else:
        assert not findings(build())
        assert virtual(build().co_run) is False  # it waits, for a second


def test_an_answer_is_given_while_nothing_runs(virtual: Virtual, file: Path) -> None:
    assert result(ran(virtual, approval(file))) == (None, False)
    assert "deploy?" in asked(file)
    assert asked(file, "approve", "first") == "approve: first, when the next run asks\n"
    assert "; answered: first" in asked(file)
    assert result(ran(virtual, approval(file))) == ("first", False)


def test_an_answer_to_another_name_than_what_waits_is_refused(
    virtual: Virtual, file: Path
) -> None:
    wait_for_nothing(virtual, approval(file))
    refusal = asked(file, "aprove", "yes", code=1)
    assert "'aprove' has not asked; these jobs wait for an answer: 'approve'" in refusal
    assert "no job has asked that yet" in asked(file, "--early", "later", "yes")
    give(file, "approve", "yes")
    assert "'other' has not asked; no job waits for an answer" in asked(
        file, "other", "yes", code=1
    )


@pytest.mark.parametrize(("value", "parsed"), [("-5", -5), ("-0x", None), ("5", 5)])
def test_a_negative_number_is_an_answer(
    virtual: Virtual, file: Path, value: str, parsed: int | None
) -> None:
    build = approval(file, parse=int)
    wait_for_nothing(virtual, build)
    assert asked(file, "approve", value, code=0 if parsed is not None else 1)
    assert result(ran(virtual, build)) == (parsed, False)
    assert "No such option" in asked(file, "approve", "--erly", code=2)


@pytest.mark.parametrize("keys", [(None, None), ("a", None), (None, "b"), ("a", "b")])
@pytest.mark.parametrize("has_journal", [True, False])
@pytest.mark.parametrize("has_settled", [True, False])
def test_two_questions_of_an_open_scheduler_never_share_a_name(
    virtual: Virtual,
    file: Path,
    keys: tuple[str | None, str | None],
    has_journal: bool,
    has_settled: bool,
) -> None:
    """With a journal, `add` refuses a question that has the label of another one, unless one of them has a key."""

    async def main() -> None:
        async with Scheduler(journal=file if has_journal else None) as scheduler:
            first = scheduler.add(Answer("Delete a?", label="approve", key=keys[0]))
            await anyio.sleep(1)
            if has_settled:
                first.answer("yes")
                await first
            second = Answer("Delete b?", label="approve", key=keys[1])
            if has_journal and keys == (None, None):
                with pytest.raises(
                    ValueError,
                    match=r"'approve' is the label of two questions.*, or key=",
                ):
                    scheduler.add(second)
                assert second not in scheduler
            else:
                scheduler.add(second)
            scheduler.cancel()

    virtual(main)


def test_a_question_is_escaped_in_the_log(
    virtual: Virtual, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Control characters of a question, which may come from a model, reach the log escaped."""
    wait_for_nothing(virtual, approval(file, "really\x1b[2J?"))
    (record,) = caplog.records
    assert "\x1b" not in record.message
    assert "really" in record.message


def test_the_log_says_how_to_give_an_answer(
    virtual: Virtual, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that asks is in the log once a run, with the command that answers; not one with an answer, or log=False."""
    wait_for_nothing(virtual, approval(file, choices=["yes", "no"]))
    (record,) = caplog.records
    assert (
        record.message
        == f"'approve' asks: deploy? (yes, no); to answer: trioflow answer {file} approve VALUE"
    )
    give(file, "approve", "yes")
    assert result(ran(virtual, approval(file, choices=["yes", "no"]))) == ("yes", False)
    wait_for_nothing(virtual, approval(file, "really?", log=False))
    (_, told) = caplog.records
    assert re.fullmatch(
        r"'approve' was answered 'yes' by trioflow answer, user .*, at 20.*",
        told.message,
    )


def test_the_choices_stand_below_a_question_of_several_lines(
    virtual: Virtual, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The letter seemed to end with "the town (yes, no)". The log names the question by its path."""
    letter = Answer(
        "Send this?\n\nYours,\nthe town", choices=["yes", "no"], label="approve"
    )
    ran(
        virtual,
        lambda: Scheduler(Scheduler(letter, label="group"), journal=file),
        lambda: None,
    )
    lines = ["Send this?", "", "  Yours,", "  the town", "  (yes, no)"]
    (record,) = caplog.records
    assert record.message.split("\n")[:-1] == [
        f"'group/approve' asks: {lines[0]}",
        *lines[1:],
    ]
    assert asked(file).split("\n")[2:-1] == [f"  {lines[0]}", *lines[1:]]


def test_an_answer_is_given_before_a_first_run(virtual: Virtual, file: Path) -> None:
    assert "when a first run with this journal asks; there is none yet" in asked(
        file, "--early", "approve", "yes"
    )
    assert result(ran(virtual, approval(file))) == ("yes", False)
    assert "when it is asked; no job has asked that yet" in asked(
        file, "--early", "other", "yes"
    )
    assert "there is no file" in asked(file.with_name("missing.db"), code=2)
    (
        empty := file.with_name("empty.db")
    ).touch()  # a run was killed while it created the file
    assert asked(empty, "--early", "approve", "yes")
    assert result(ran(virtual, approval(empty))) == ("yes", False)


def test_what_a_program_refuses_is_said_at_the_command(
    virtual: Virtual, file: Path, no_wait: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the program can call its `parse`: the run refuses such an answer, logs that, and the command says it."""
    listed: list[str] = []
    scheduler = ran(
        virtual, approval(file, parse=lambda text: {"1": "one"}[text]), lambda: give(file, "approve", "2"),
        lambda: listed.append(asked(file)), lambda: give(file, "approve", "1"),
    )  # fmt: skip
    assert result(scheduler) == ("one", False)
    reason = "answer() of 'approve': '2' does not parse: KeyError: '2'"
    assert f"refused: {reason}" in listed[0]
    assert f"the answer to 'approve' is refused: {reason}" in caplog.text


@pytest.mark.parametrize("is_answered", [True, False])
def test_refusal_is_forgotten_with_its_question(
    virtual: Virtual, file: Path, no_wait: None, is_answered: bool
) -> None:
    """Nothing is left of a refused answer when the question has another, or a run has completed that does not ask."""
    job = Answer("deploy?", label="approve", parse={"1": "one"}.__getitem__)
    steps: list[Callable[[], object]] = [lambda: give(file, "approve", "2")]
    steps += [lambda: job.answer("1")] * is_answered
    ran(
        virtual,
        lambda: Scheduler(job, Answer("more?", label="other"), journal=file),
        *steps,
    )
    assert left(file) == (
        ["question"] if is_answered else ["question", "question", "refused"]
    )
    ran(virtual, lambda: Scheduler(Job(anyio.sleep, 0, label="another"), journal=file))
    assert left(file) == []


def test_a_question_that_is_asked_again_has_no_refusal_yet(
    virtual: Virtual, file: Path, no_wait: None
) -> None:
    """The refusal that views show is of this attempt, and how long it is asked counts from the first one of any run."""
    scheduler = approval(file, parse={"1": "one"}.__getitem__, timeout=2.5, retry=1)()
    (job,) = scheduler
    seen: list[Any] = []

    def look() -> None:
        seen.append(
            (
                question_of(job),
                _questions.QuestionFiles(file).read("question", "approve").created_at,
            )
        )

    ran(
        virtual,
        lambda: scheduler,
        lambda: give(file, "approve", "2"),
        look,
        look,
        wait=1,
    )
    ran(virtual, approval(file, parse={"1": "one"}.__getitem__), look)
    (refused, since), (again, since_again), (_, since_then) = seen
    assert "does not parse" in refused[3]
    assert again == (*refused[:3], "", 1)
    assert since == since_again == since_then


def test_a_question_that_was_answered_and_is_asked_anew_has_another_time(
    virtual: Virtual, file: Path
) -> None:
    files, times = _questions.QuestionFiles(file), list[float]()
    for number in range(2):
        wait_for_nothing(virtual, approval(file))
        times.append(files.read("question", "approve").created_at)
        if not number:
            give(file, "approve", "yes")
            assert result(ran(virtual, approval(file))) == ("yes", False)
            assert trioflow("journal", file, "forget", "approve").exit_code == 0
    assert times[0] < times[1]


def test_the_command_waits_until_the_run_has_taken_or_refused_an_answer(
    backend: str, file: Path
) -> None:
    scheduler = approval(file, parse={"1": "one"}.__getitem__)()
    said: list[str] = []

    def answer_twice() -> None:
        while "approve" not in asked(file):
            time.sleep(0.01)
        said.extend(
            asked(file, "approve", value, code=code)
            for value, code in (("2", 1), ("1", 0))
        )

    async def main() -> None:
        async with running(scheduler):
            await anyio.to_thread.run_sync(answer_twice)

    anyio.run(main, backend=backend)
    assert "does not parse" in said[0]
    assert "1" in said[1]
    assert "not taken it yet" not in said[1]
    assert result(scheduler) == ("one", False)


def test_the_command_is_told_that_its_answer_counts_though_the_job_asks_again(
    virtual: Virtual, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group that is tried again asks at once: the command waited on, and said at last that another had answered."""
    said: list[str] = []
    approve = Answer("deploy?", label="approve")

    def answer() -> None:
        monkeypatch.setattr(
            time, "sleep", lambda _: anyio.from_thread.run(anyio.sleep, 1)
        )
        said.append(trioflow("answer", file, "approve", "yes").output)

    def settled(_: object) -> None:
        if not said:
            approve.try_again()

    async def main() -> None:
        scheduler = Scheduler(approve, journal=file, on_job_settled=settled)
        async with running(scheduler) as tasks:
            await anyio.sleep(2)
            await anyio.to_thread.run_sync(answer)
            tasks.cancel_scope.cancel()

    virtual(main)
    assert said == ["approve: yes\n"]


def test_an_earlier_answer_is_not_taken_again(
    virtual: Virtual, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer belongs to the question that was asked: if that has changed, it approves nothing."""
    wait_for_nothing(virtual, approval(file, "delete 3 files?"))
    give(file, "approve", "yes")
    assert result(ran(virtual, approval(file, "delete 3000 files?"))) == (None, False)
    refusal, question = caplog.messages[-2:]
    assert "it is the answer to an earlier question of the same name" in refusal
    assert question.endswith(" approve VALUE --asked 2")


def test_an_answer_that_is_taken_back_at_once_is_not_taken_again(
    virtual: Virtual, file: Path, no_wait: None
) -> None:
    """An approval that was withdrawn before the journal had it, by `try_again`, approved the second time, too."""
    approve = Answer("deploy?", label="approve")
    answers: list[Any] = []

    def settled(job: Any) -> None:
        answers.append(job.result(default=None))
        if len(answers) == 1:
            approve.try_again()

    scheduler = Scheduler(approve, journal=file, on_job_settled=settled)
    ran(virtual, lambda: scheduler, lambda: give(file, "approve", "yes"))
    assert answers == ["yes", None]
    assert left(file) == ["question"]


def test_a_question_that_is_asked_again_ends_the_answer_before(
    virtual: Virtual, file: Path, no_wait: None
) -> None:
    """A group was tried again, and asked again; a "no" after the run was accepted, and the next run used the "yes"."""
    sent: list[str] = []

    async def send(answer: str) -> None:
        sent.append(answer)
        if len(sent) == 1:
            raise OSError

    def build() -> Scheduler:
        ask = Answer("send?", label="approve")
        jobs = ask, Job(send, ask, label="send")
        group = Scheduler(*jobs, critical_jobs=True, retry=2, label="group")
        return Scheduler(group, journal=file)

    ran(virtual, build, lambda: give(file, "group/approve", "yes"))
    assert sent == ["yes"]
    give(file, "group/approve", "no")
    ran(virtual, build)
    assert sent == ["yes", "no"]


@pytest.mark.parametrize("order_only", [False, True])
def test_an_answer_from_before_a_step_has_changed_is_not_taken(
    virtual: Virtual, file: Path, order_only: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer was given to what the steps in front of it had done: if one has changed, the question is another."""

    def build(version: int) -> Scheduler:
        step = Job(anyio.sleep, 0, label="plan", version=version)
        ask = Answer("deploy?", label="approve").requires(step, order_only=order_only)
        return Scheduler(step, ask, journal=file)

    ran(virtual, lambda: build(1))
    give(file, "approve", "yes")
    assert [*ran(virtual, lambda: build(2))][1].result(default=None) == (
        "yes" if order_only else None
    )
    assert (
        "it is the answer to an earlier question of the same name" in caplog.text
    ) is not order_only


def test_an_answer_that_a_killed_run_has_taken_is_not_lost(
    virtual: Virtual, file: Path
) -> None:
    wait_for_nothing(virtual, approval(file))
    give(file, "approve", "yes")
    assert _questions.QuestionFiles(file).take("approve")
    assert result(ran(virtual, approval(file))) == ("yes", False)


def test_what_a_killed_run_has_left_of_a_committed_answer_answers_nothing(
    virtual: Virtual, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a run was killed after the commit, what it has left answers no later question: not even when forgotten."""
    monkeypatch.setattr(_answer, "MAX_WAIT_SECONDS", 0)
    wait_for_nothing(virtual, approval(file))
    give(file, "approve", "yes")
    (directory := Path(f"{file}-answers")).rename(saved := file.with_name("saved"))
    assert result(
        ran(virtual, approval(file), lambda: give(file, "approve", "yes"))
    ) == ("yes", False)
    shutil.rmtree(directory)
    saved.rename(directory)
    assert _questions.QuestionFiles(file).take("approve")
    assert result(ran(virtual, approval(file))) == ("yes", True)
    assert trioflow("journal", file, "forget", "approve").exit_code == 0
    assert result(ran(virtual, approval(file))) == (None, False)


def test_what_is_forgotten_is_asked_again_though_its_answer_waits(
    virtual: Virtual, file: Path, no_wait: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An approval that was withdrawn still counted: what a killed run had left of it, or what no run had used yet."""
    with monkeypatch.context() as patch:
        patch.setattr(_questions.RunQuestions, "close", lambda *_: None)
        ran(virtual, approval(file), lambda: give(file, "approve", "yes"))
    assert left(file) == ["question", "taken"]
    for _ in range(2):
        assert trioflow("journal", file, "forget", "appr*").stdout == (
            "forgotten: 1 job\n"
        )
        wait_for_nothing(virtual, approval(file))
        # The next time, no run has used it.
        give(file, "approve", "yes")
    assert result(ran(virtual, approval(file))) == ("yes", False)


def test_an_answer_that_comes_after_a_run_that_has_just_begun_is_refused(
    virtual: Virtual, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command said "when the next run asks", though a run had used the first answer since it had looked."""
    wait_for_nothing(virtual, approval(file))
    give(file, "approve", "yes")

    def give_late(*args: Any) -> int:
        assert result(ran(virtual, approval(file))) == ("yes", False)
        return write(*args)

    write = _answer.give
    monkeypatch.setattr(_answer, "give", give_late)
    told = asked(file, "approve", "no", "--replace", code=1)
    assert "'approve' has just been answered 'yes' by trioflow answer" in told
    assert left(file) == []


def test_an_answer_is_in_the_journal_before_any_job_acts_on_it(
    virtual: Virtual, file: Path, no_wait: None
) -> None:
    """A run that was killed had paid for 'yes', and `--replace no` was accepted, as if no run had used the 'yes'."""
    seen: list[str] = []

    async def pay(answer: str) -> None:
        seen.append(answer)
        seen.append(asked(file, "approve", "no", "--replace", code=1))

    def build() -> Scheduler:
        approve = Answer("pay?", label="approve")
        return Scheduler(approve, Job(pay, approve, label="pay"), journal=file)

    ran(virtual, build, lambda: give(file, "approve", "yes"))
    assert seen[0] == "yes"
    assert "'approve' was answered 'yes' by trioflow answer" in seen[1]


def test_a_question_whose_answer_a_killed_run_has_committed_is_not_open(
    virtual: Virtual, file: Path, no_wait: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--replace` took the answer that was in the journal away, as it said, and the next run used it all the same."""
    monkeypatch.setattr(_questions.RunQuestions, "close", lambda *_: None)
    ran(virtual, approval(file), lambda: give(file, "approve", "yes"))
    assert left(file) == ["question", "taken"]
    assert asked(file) == "nothing is asked\n"
    for words in ([], ["--replace"]):
        told = asked(file, "approve", "no", *words, code=1)
        assert "'approve' was answered 'yes' by trioflow answer, user" in told


def test_a_question_that_a_run_ends_without_an_answer_stays_open(
    virtual: Virtual, file: Path, no_wait: None
) -> None:
    """A job that had been answered, and asked anew, lost the answer to that: the next run asked it as the first."""
    ran(virtual, approval(file, "delete 3 files?"), lambda: give(file, "approve", "no"))
    wait_for_nothing(virtual, approval(file, "delete 3000 files?"))
    assert asked(file, "approve", "yes", "--asked", "2")
    scheduler = ran(virtual, approval(file, "delete 3000 files?"))
    assert result(scheduler) == ("yes", False)


def test_an_answer_that_is_not_asked_is_removed(
    virtual: Virtual, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert asked(file, "--early", "aprove", "yes")
    assert asked(file, "--early", "approve", "no")
    assert result(ran(virtual, approval(file))) == ("no", False)
    assert (
        "the answer to 'aprove' was not used, and is removed: no job has asked that"
        in caplog.text
    )
    assert left(file) == []


@pytest.mark.parametrize("is_early", [False, True])
def test_an_answer_waits_until_its_job_can_ask(
    virtual: Virtual, file: Path, is_early: bool
) -> None:
    """If a step in front of it failed, the answer was removed, and the log said that no job had asked that."""
    fails = [True, False] if is_early else [False, True, False]

    async def plan() -> None:
        if fails.pop(0):
            raise OSError

    def build() -> Scheduler:
        step = Job(plan, label="plan", save=None)
        ask = Answer("deploy?", label="approve", required=step)
        return Scheduler(Scheduler(step, ask, label="group"), journal=file)

    if is_early:
        assert asked(file, "--early", "group/approve", "yes")
    else:
        ran(virtual, build)
        assert asked(file, "group/approve", "yes")
    (group,) = ran(virtual, build)
    assert not any(job.is_succeeded() for job in group)
    (group,) = ran(virtual, build)
    assert [job.result() for job in group] == [None, "yes"]
    assert left(file) == []


def test_an_answer_waits_while_the_job_that_adds_its_question_fails(
    virtual: Virtual, file: Path
) -> None:
    """It was removed by the run in which that job failed, which had no such question, and asked again by the next."""
    fails = [False, True, False]

    async def letter() -> Any:
        if fails.pop(0):
            raise OSError
        return await current_scheduler().add(Answer("send?", label="approve"))

    def build() -> Scheduler:
        return Scheduler(Job(letter, label="letter", save=None), journal=file)

    ran(virtual, build)
    assert asked(file, "approve", "yes")
    assert ran(virtual, build).stop_reason == "failed"
    first, *_ = ran(virtual, build)
    assert first.result() == "yes"
    assert left(file) == []


def test_an_answer_waits_while_its_job_is_left_out_of_a_run(
    virtual: Virtual, file: Path
) -> None:
    """`--only` removed what had been answered to the jobs that it left out."""

    def build() -> Scheduler:
        plan = Job(anyio.sleep, 0, label="plan")
        group = Scheduler(plan, Answer("deploy?", label="approve"), label="group")
        return Scheduler(group, Answer("sure?", label="confirm"), journal=file)

    ran(virtual, build)
    assert asked(file, "group/approve", "yes")
    assert asked(file, "confirm", "yes")
    part = build()
    keep_selected_jobs(part, ["group/plan"])
    ran(virtual, lambda: part)
    group, confirm = ran(virtual, build)
    assert (confirm.result(), [*group][1].result()) == ("yes", "yes")


def test_the_question_of_a_first_is_not_open_once_that_is_decided(
    virtual: Virtual, file: Path, no_wait: None
) -> None:
    """It was listed for ever, and an answer was accepted that no run has ever used."""
    ask = Answer("which?", label="approve")
    first = First(ask, Job(anyio.sleep, 3, label="default"), label="pick")
    later = Answer("sure?", label="confirm")
    told: list[str] = []

    def answer() -> None:
        told.append(asked(file))
        told.append(asked(file, "pick/approve", "mine", code=1))

    ran(virtual, lambda: Scheduler(first, later, journal=file), lambda: None, answer)
    assert "pick/approve" not in told[0]
    assert "'pick/approve' has not asked; these jobs wait" in words(told[1])


def test_nor_is_that_of_a_first_that_runs_alone(virtual: Virtual, file: Path) -> None:
    """It stayed in the list, though the next run restores the winner, and asks nothing."""

    def build() -> Scheduler:
        ask = Answer("which?", label="approve")
        return First(ask, Job(anyio.sleep, 1, label="default"), journal=file)

    for is_again in (False, True):
        ask, default = ran(virtual, build)
        assert (ask.started_at is None, default.restored) == (is_again, is_again)
        assert left(file) == []


# ---- a name means the same job whatever has been answered since
def words(text: str) -> str:
    return " ".join(text.split())


def test_a_late_answer_is_for_no_other_question(
    virtual: Virtual, file: Path, no_wait: None
) -> None:
    """A second answer to `left` paid 10,000 euros: it was given to `group/left`, which still asked."""
    outer, inner = (
        Answer(text, choices=["yes", "no"], label="left")
        for text in ("Delete?", "Pay?")
    )
    told: list[str] = []

    def build() -> Scheduler:
        return Scheduler(outer, Scheduler(inner, label="group"), journal=file)

    ran(
        virtual,
        build,
        lambda: give(file, "left", "no"),
        lambda: told.append(asked(file, "left", "yes", code=1)),
    )
    assert (outer.result(), inner.result(default=None)) == ("no", None)
    assert "'left' was answered 'no' by trioflow answer, user" in words(told[0])
    assert left(file) == ["question"]


def test_an_early_answer_is_for_its_path(
    virtual: Virtual, file: Path, no_wait: None
) -> None:
    """`approve` asks later, and `group/approve` now: an early answer waits for the first, another one is refused."""
    told: list[str] = []
    inner = Answer("Drop?", label="approve")
    group = Scheduler(inner, label="group")
    outer: Answer[str] = Answer("Publish?", label="approve").requires(group)

    def early() -> None:
        told.append(asked(file, "approve", "yes", code=1))
        told.append(asked(file, "approve", "yes", "--early"))

    ran(
        virtual,
        lambda: Scheduler(group, outer, journal=file),
        early,
        lambda: give(file, "group/approve", "no"),
    )
    assert (inner.result(), outer.result()) == ("no", "yes")
    assert "may be the label of several jobs; give a path: 'group/approve'" in words(
        told[0]
    )


def test_a_job_that_is_no_question_has_not_been_answered(
    virtual: Virtual, file: Path
) -> None:
    """The name of any job with a result was said to have been answered, and that its record should be forgotten."""
    job = Job(anyio.sleep, 0, label="build")
    ran(virtual, lambda: Scheduler(job, journal=file))
    assert "'build' has not asked; no job waits" in words(
        asked(file, "build", "yes", code=1)
    )


@pytest.mark.parametrize("others", [[], ["approve"], ["left"]])
@pytest.mark.parametrize("is_added", [False, True])
def test_a_label_stands_for_a_path_if_the_run_has_it_once(
    virtual: Virtual, file: Path, no_wait: None, others: list[str], is_added: bool
) -> None:
    """No label stands for a path if another job has it, or if jobs are added, which may have any."""
    is_sole = "approve" not in others and not is_added
    inner = Answer("Drop?", label="approve")
    group = Scheduler(
        inner, *(Job(anyio.sleep, 9, label=label) for label in others), label="group"
    )

    async def add() -> None:
        assert group.scheduler is not None
        group.scheduler.add(Job(anyio.sleep, 9, label="other"))

    def build() -> Scheduler:
        return Scheduler(group, *[Job(add)] * is_added, journal=file)

    ran(virtual, build, lambda: give(file, "approve", "no", code=0 if is_sole else 1))
    assert inner.result(default=None) == ("no" if is_sole else None)


def test_the_path_of_a_question_may_be_written_as_it_is_printed(
    virtual: Virtual, file: Path
) -> None:
    """The refusal of such a name once named, as what waits, the very name that it refused."""

    def build() -> Scheduler:
        return Scheduler(Answer("Drop?", label="a\nb"), journal=file)

    ran(virtual, build)
    name = asked(file).splitlines()[1].partition(" ")[0]
    assert name == r"a\nb"
    give(file, name, "no")
    assert result(ran(virtual, build)) == ("no", False)


def test_an_answer_to_what_was_asked_before_is_refused(
    virtual: Virtual, file: Path, no_wait: None, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    wait_for_nothing(virtual, approval(file, "Pay 100?"))
    ran(virtual, approval(file, "Pay 100?"), lambda: give(file, "approve", "yes"))
    scheduler = ran(
        virtual,
        approval(file, "Pay 900?"),
        lambda: told.append(asked(file)),
        lambda: told.append(asked(file, "approve", "yes", code=1)),
        lambda: told.append(asked(file, "approve", "yes", "--asked", "1", code=1)),
        lambda: told.append(asked(file, "approve", "yes", "--asked", "2")),
    )
    assert "Pay 900?; --asked 2" in told[0]
    calls = [
        record.message.rpartition(" approve ")[2]
        for record in caplog.records
        if "to answer" in record.message
    ]
    assert calls == ["VALUE", "VALUE", "VALUE --asked 2"]
    refusal = "'approve' asks anew: Pay 900?; if that is what you answer, add --asked 2"
    assert [refusal in words(text) for text in told] == [False, True, True, False]
    assert result(scheduler) == ("yes", False)
    wait_for_nothing(virtual, approval(file, "Pay 10?"))
    assert "Pay 10?; --asked 3" in asked(file)


def test_an_answer_is_for_the_text_that_was_asked(virtual: Virtual, file: Path) -> None:
    """With `key=`, nothing but their numbers tells two questions apart."""
    wait_for_nothing(virtual, approval(file, "Pay 1?", key="pay"))
    give(file, "approve", "yes")
    wait_for_nothing(virtual, approval(file, "Pay 900?", key="pay"))


def test_an_answer_that_comes_while_another_is_parsed_is_refused(
    backend: str, file: Path
) -> None:
    """The program answers while the run reads an answer from a shell: the shell is told, and nothing of it is left."""
    begun, given = threading.Event(), threading.Event()

    def parse(text: str) -> str:
        if text == "no":
            begun.set()
            assert given.wait(10)
        return text

    job = Answer("deploy?", label="approve", parse=parse)
    told: list[str] = []

    def answer_by_shell() -> None:
        while question_of(job) is None:
            time.sleep(0.01)
        told.append(asked(file, "approve", "no", code=1))

    def answer_in_program() -> None:
        assert begun.wait(10)
        job.answer("yes")
        given.set()

    async def main() -> None:
        async with running(Scheduler(job, journal=file)) as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, answer_in_program)
            await anyio.to_thread.run_sync(answer_by_shell)

    anyio.run(main, backend=backend)
    assert job.result() == "yes"
    assert "'yes' by the program, at 2" in words(told[0])
    assert left(file) == []


# ---- other users
@pytest.mark.parametrize("trap", ["writable", "link", "foreign"])
def test_answers_that_another_user_may_have_given_are_not_used(
    virtual: Virtual,
    file: Path,
    trap: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A directory into which another user can write answers nothing: the run waits for `answer()`, and says so."""
    assert asked(file, "--early", "approve", "yes")
    directory = Path(f"{file}-answers")
    if trap == "writable":
        directory.chmod(0o777)
    elif trap == "link":
        directory.rename(directory.with_name("elsewhere"))
        directory.symlink_to("elsewhere")
    elif os.geteuid() == 0:
        os.chown(directory, 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    before = sorted(Path(os.path.realpath(directory)).iterdir())
    assert result(ran(virtual, approval(file))) == (None, False)
    assert "so 'approve' can only be answered by its method answer()" in caplog.text
    for words in ((), ("approve", "yes")):
        assert "run.db-answers" in asked(file, *words, code=2)
    assert sorted(Path(os.path.realpath(directory)).iterdir()) == before


def test_questions_and_answers_can_be_read_by_this_user_alone(
    virtual: Virtual, file: Path
) -> None:
    before = os.umask(0)
    try:
        wait_for_nothing(virtual, approval(file))
    finally:
        os.umask(before)
    directory = Path(f"{file}-answers")
    assert [
        path.stat().st_mode & 0o777 for path in (directory, *directory.iterdir())
    ] == [0o700, 0o600]


def test_damaged_files_of_answers_are_ignored(virtual: Virtual, file: Path) -> None:
    wait_for_nothing(virtual, approval(file))
    directory = Path(f"{file}-answers")
    (question,) = directory.iterdir()
    contents = question.read_bytes()
    answer = question.with_suffix(".answer")
    for data in (
        b"",
        b"[",
        b"5",
        b'[1, "approve", null, "yes", 1.0]',
        contents,
        b" " * (2 << 20),
    ):
        answer.write_bytes(data)
        assert result(ran(virtual, approval(file))) == (None, False)
    for name in ("0" * 24, "x"):
        (directory / f"{name}.question").write_bytes(contents)
    question.write_bytes(b"torn")
    assert asked(file) == "nothing is asked\n"
    (directory / "target").write_bytes(contents)
    question.unlink()
    question.symlink_to("target")
    assert asked(file) == "nothing is asked\n"


def test_the_first_of_several_answers_to_a_run_that_waits_counts(
    virtual: Virtual, file: Path, no_wait: None
) -> None:
    def give_two() -> None:
        give(file, "approve", "first")
        assert "has been answered 'first' by trioflow answer" in asked(
            file, "approve", "second", code=1
        )

    assert result(ran(virtual, approval(file), give_two)) == ("first", False)
    assert left(file) == []


def no_token(text: str) -> str:
    raise ValueError(f"{text} does not begin with tok_")


@pytest.mark.parametrize(
    "options",
    [{"choices": ["SEKRET-1", "SEKRET-2"]}, {"parse": no_token}, {"parse": int}],
)
@pytest.mark.usefixtures("no_wait")
def test_a_secret_answer_is_shown_nowhere(
    virtual: Virtual,
    file: Path,
    options: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With `redact=True`, neither log, command, listing nor question have the choices or an answer; all have the
    question itself, for whoever is to answer it."""
    shown: list[str] = []

    def refuse() -> None:
        result = trioflow("answer", file, "approve", "-", stdin="SEKRET-3\n")
        shown.extend(
            (
                result.output,
                *(
                    path.read_text()
                    for path in Path(f"{file}-answers").glob("*.question")
                ),
            )
        )

    scheduler = ran(
        virtual,
        approval(file, "which token?", redact=True, **options),
        refuse,
        lambda: shown.append(asked(file)),
    )
    (job,) = scheduler
    assert isinstance(job, Answer)
    with pytest.raises(ValueError, match="approve") as raised:
        job._read("SEKRET-4")
    shown += [
        str(raised.value),
        repr(raised.value.__cause__),
        caplog.text,
        scheduler.explain(job),
    ]
    assert "which token?" in shown[1]
    assert "which token?" in caplog.text
    assert "SEKRET" not in "\n".join(shown)


def test_a_secret_answer_that_waits_for_its_run_is_not_shown(
    virtual: Virtual, file: Path
) -> None:
    wait_for_nothing(virtual, approval(file, redact=True))
    assert asked(file, "approve", "SEKRET") == "approve: …, when the next run asks\n"
    assert asked(file).endswith("; answered\n")
    assert result(ran(virtual, approval(file, redact=True))) == ("SEKRET", False)


def test_an_answer_is_read_from_standard_input(virtual: Virtual, file: Path) -> None:
    """`trioflow answer RUN NAME -` reads the value, which other users could see among the arguments, and hides it."""
    wait_for_nothing(virtual, approval(file, redact=True))
    given = trioflow("answer", file, "approve", "-", stdin="the value\n")
    assert given.output == "approve: …, when the next run asks\n"
    assert result(ran(virtual, approval(file, redact=True))) == ("the value", False)


@pytest.mark.parametrize("value", ["caf\udce9", "-"])
def test_an_answer_of_other_bytes_than_utf_8_is_refused(
    virtual: Virtual, file: Path, value: str
) -> None:
    """The byte arrived as six other characters."""
    ran(virtual, approval(file, redact=value == "-"))
    outcome = trioflow("answer", file, "approve", value, stdin=b"caf\xe9")
    assert (outcome.exit_code, "in UTF-8" in outcome.output) == (1, True), (
        outcome.output
    )
    assert not _questions.QuestionFiles(file).read_pending("approve")


def test_a_hidden_answer_needs_a_redacted_job(
    virtual: Virtual, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`-` is refused by the command, or for an early answer by the run, if views would show the job's result."""
    trioflow("answer", file, "approve", "-", "--early", stdin="x")
    assert result(ran(virtual, approval(file))) == (None, False)
    assert (
        "the answer to 'approve' is refused: it is to be shown nowhere" in caplog.text
    )
    refused = trioflow("answer", file, "approve", "-", stdin="x")
    assert refused.exit_code == 1
    assert "give the job redact=True" in refused.output


def test_an_answer_of_the_program_counts_more_than_another_one_in_the_journal(
    backend: str, file: Path
) -> None:
    """With "yes" in the journal, "no" in today's program was ignored in silence, and what follows acted on "yes"."""

    async def act(word: str) -> str:
        return f"acted on {word}"

    def run(word: str | None) -> tuple[Any, ...]:
        ask: Answer[str] = Answer("Delete?", choices=["yes", "no"], label="approve")
        follows = Job(act, ask, label="act")
        scheduler = Scheduler(ask, follows)
        if word is not None:
            ask.answer(word)
        assert scheduler.run(backend=backend, journal=file)
        return follows.result(), ask.restored, follows.restored, scheduler.explain(ask)

    assert run("yes")[:3] == ("acted on yes", False, False)
    assert run("yes")[:3] == ("acted on yes", True, True)
    *found, explained = run("no")
    assert found == ["acted on no", False, False]
    assert explained.endswith(
        "; it was not restored: answer() has given another answer since"
    )
    assert run(None)[:3] == ("acted on no", True, True)


def test_an_answer_that_the_program_was_faster_than_does_not_count(
    virtual: Virtual, file: Path, no_wait: None
) -> None:
    """Its author, who may wait for that, was told that it counts."""
    ran(virtual, approval(file))
    give(file, "approve", "no")
    ask = Answer("deploy?", label="approve")
    ask.answer("yes")
    virtual(Scheduler(ask, journal=file).co_run)
    assert ask.result() == "yes"
    assert _questions.QuestionFiles(file).read("question", "approve").counted == ""


@pytest.mark.parametrize("group", [None, First])
@pytest.mark.parametrize(
    "words", [["yes"], ["yes", "yes"], ["yes", "no"], ["yes", "no", "no"]]
)
def test_an_answer_of_the_program_is_for_one_run(
    virtual: Virtual, file: Path, words: list[str], group: type[First] | None
) -> None:
    """That of a job in a `First` too, which is restored as a whole."""
    ask = Answer("Delete?", label="approve")
    shown: Any = ask if group is None else group(ask, label="group")
    scheduler = Scheduler(shown)
    for word in words:
        ask.answer(word)
        assert virtual(lambda: scheduler.co_run(journal=file))
        assert shown.result() == word
    assert not virtual(lambda: scheduler.co_run(timeout=1))
    assert ask.state.name == "CANCELLED"


@pytest.mark.parametrize("groups", ["a", "aa", "ab"])
def test_an_answer_by_label_needs_one_question(
    virtual: Virtual, file: Path, no_wait: None, groups: str
) -> None:
    """A question that an earlier run has left, of a job with this label in another group, is a second one."""

    def build() -> Scheduler:
        return Scheduler(Scheduler(asks, label=names.pop(0)), journal=file)

    names, asks = [*groups], Answer("Drop?", label="approve")
    for _ in groups[1:]:
        ran(virtual, build)
        asks = Answer("Drop?", label="approve")
    is_one = len({*groups}) == 1
    ran(virtual, build, lambda: give(file, "approve", "no", code=0 if is_one else 1))
    assert asks.result(default=None) == ("no" if is_one else None)


def test_an_answer_that_a_killed_run_had_taken_comes_before_a_later_one(
    file: Path,
) -> None:
    files = _questions.QuestionFiles(file)
    files.make()
    answers = [
        _questions.GivenAnswer(text, "ask", None, text, created_at=1.0)
        for text in ("first", "second")
    ]
    for answer in answers:
        files.write("answer", "ask", answer)
        assert files.take("ask")
        assert files.read("taken", "ask") == answers[0]
        assert files.read_pending("ask") == answers[0]
    files.remove("ask", "taken")
    assert files.take("ask")
    assert files.read("taken", "ask") == answers[1]
