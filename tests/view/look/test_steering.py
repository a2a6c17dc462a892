"""`trioflow steer` steers a run: pause, resume, window, drain and cancel, who may, and what is told about it."""

import json
import logging
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow.look
from trioflow import Answer, First, Job, Scheduler, ThreadJob, _loaded_files
from trioflow._core.job._labels import unescape_path
from trioflow._core.words._run_view import runs_in_progress
from trioflow.abc import incidents_of, printable
from trioflow.view.look import _answers, _client, _steering
from trioflow.view.look._page import Page
from trioflow.view.look._reload import NOTHING_KNOWN
from ...bodies import fail_now, hooked, nap, nothing
from ...cli.command_line import trioflow as command
from ...places import PATIENCE
from ...pythons import Python

pytestmark = pytest.mark.usefixtures("answers")

BY = rf"trioflow steer, pid {os.getpid()}, user \S+"


def output_of(*words: Any) -> str:
    return str(command("steer" if words else "look", os.getpid(), *words).output)


def steered(
    backend: Any,
    words: Iterable[tuple[Any, ...]],
    *jobs: Any,
    after: Any = (),
    **options: Any,
) -> tuple[Scheduler, list[str]]:
    """Run a scheduler in which a job, after others, gives words to `trioflow steer`; return it, and the outputs."""
    outputs: list[str] = []
    steering = ThreadJob(
        lambda: outputs.extend(output_of(*each).rstrip() for each in words),
        label="steering",
    )
    steering.requires(*after, settled=True)
    scheduler = Scheduler(steering, *jobs, label="night", **options)
    scheduler.run(backend=backend)
    return scheduler, outputs


def test_a_paused_run_starts_nothing_until_it_is_resumed(
    backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A pause and its end are in the log, with who asked, and a look shows the pause; a second one changes nothing."""
    running = [("pause",), ("pause",), (), ("resume",), ("resume",)]
    waiting = [Job(nothing, label=f"next {number}") for number in range(3)]
    scheduler, outputs = steered(backend, running, *waiting, jobs_window=1)
    paused, again, text, resumed, never = outputs
    assert (paused, again) == ("'night': paused", "'night': was paused already")
    assert (resumed, never) == ("'night': resumed", "'night': is not paused")
    assert re.search(rf"\n  paused \S+ \S+ ago by {BY}\n", text)
    assert text.count("waits for a resume") == 1, (
        text
    )  # the jobs share a line, whenever each was described
    assert [
        re.sub(BY, "BY", incident.message) for incident in incidents_of(scheduler)
    ] == [
        "'night': paused by BY",
        "'night': resumed by BY",
    ]
    assert [record.getMessage() for record in caplog.records] == [
        one.message for one in incidents_of(scheduler)
    ]
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    assert all(job.is_settled() for job in waiting)


def test_a_resume_of_the_run_resumes_each_paused_group(backend: Any) -> None:
    """The answer was "resumed", and the group stayed as it was."""
    outputs: list[str] = []

    def steer() -> None:
        group.pause()
        beside.pause()
        outputs.append(output_of("resume").rstrip())

    steering = ThreadJob(steer)
    group = Scheduler(Scheduler(Job(nothing), label="below"), label="group")
    beside = Scheduler(Job(nothing), label="beside", required=steering)
    scheduler = Scheduler(
        steering,
        Scheduler(group, label="outer", required=steering),
        beside,
        label="night",
    )
    assert scheduler.run(backend=backend)
    assert outputs == ["'night': resumed; and in it beside, outer/group"]
    assert [
        re.sub(BY, "BY", incident.message) for incident in incidents_of(scheduler)
    ] == ["'night': resumed by BY"]


def test_a_number_of_slots_replaces_another_one(backend: Any) -> None:
    """`window N` takes effect at once, also for 1. A window that is no number stays, and the error says why."""
    scheduler, outputs = steered(backend, [("window", 7)], jobs_window=3)
    assert (outputs, scheduler.jobs_window) == (["'night': jobs_window set to 7"], 7)
    scheduler, outputs = steered(backend, [("window", 1)], jobs_window=3)
    assert (outputs, scheduler.jobs_window) == (["'night': jobs_window set to 1"], 1)
    scheduler, [error] = steered(backend, [("window", 7)])
    assert (
        "of 'night', where it is None: during a run a number can only be replaced by"
        in " ".join(error.split())
    )
    assert (scheduler.jobs_window, incidents_of(scheduler)) == (None, ())


def test_the_window_of_a_group_is_its_own(backend: Any) -> None:
    """The answer names the groups that a window does not limit, and a path in `--run` reaches each of these."""
    begun, release = threading.Event(), threading.Event()
    held = ThreadJob(lambda: begun.set() or release.wait(), label="held")
    inner = Scheduler(held, label="in", jobs_window=4)
    groups = (
        Scheduler(inner, label="out"),
        First(ThreadJob(release.wait), label="one of many"),
    )
    outputs: list[str] = []

    def steer() -> None:
        try:
            assert begun.wait(PATIENCE)
            for words in (
                (1,),
                (2, "--run", "out/in"),
                (3, "--run", "out/in/held"),
                (3, "--run", "nope"),
            ):
                outputs.append(" ".join(output_of("window", *words).split()))
            outputs.append(output_of("pause", "--run", "out/in"))
        finally:
            release.set()

    scheduler = Scheduler(ThreadJob(steer), *groups, label="night", jobs_window=9)
    assert scheduler.run(backend=backend)
    root, nested, one_job, unknown, pause = outputs
    own = "'out' (no limit), 'out/in' (4)"
    assert (
        root
        == f"'night': jobs_window set to 1; a group counts as one job there, and keeps a window of its own: {own}"
    )
    assert (nested, inner.jobs_window) == ("'out/in': jobs_window set to 2", 2)
    assert "'out/in/held' is one job, without a window" in one_job
    assert (
        "no job with the path 'nope' runs or waits; --json has up to 1000 of each kind, unshortened"
        in unknown
    )
    assert "choose a run by --run LABEL" in pause
    assert [
        incident.message.partition(" by ")[0] for incident in incidents_of(scheduler)
    ] == [
        "'night': jobs_window set to 1",
        "'out/in': jobs_window set to 2",
    ]


@pytest.mark.parametrize("value", [0, -1, None, "many", 1.5, True])
def test_a_wrong_number_of_slots_has_one_answer(backend: Any, value: Any) -> None:
    """The command and the page refuse it with the same advice, whatever the window of the run is."""
    errors: list[str] = []

    def steer() -> None:
        with pytest.raises(_client.NoAnswer) as caught:
            _client.ask(os.getpid(), {"do": "window", "value": value})
        errors.append(str(caught.value))
        errors.append(" ".join(output_of("window", value).split()))

    assert Scheduler(ThreadJob(steer), label="night", jobs_window=2).run(
        backend=backend
    )
    assert [error.endswith(_steering.WINDOW_ADVICE) for error in errors] == [
        True,
        True,
    ], errors


def test_the_debrief_tells_steering_from_incidents(
    backend: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who has steered the run stands apart in the debrief, and only what went wrong is an incident there."""

    class Broken(Job[Any]):
        async def co_shutdown(self) -> None:
            raise OSError("broken")

    scheduler, _ = steered(
        backend, [("pause",), ("resume",)], Broken(nothing), jobs_window=1
    )
    scheduler.debrief()
    text = re.sub(BY, "BY", capsys.readouterr().out)
    assert "\n\nsteered:\n  'night': paused by BY\n  'night': resumed by BY\n\n" in text
    assert text.count("incident") == 1, text


def test_a_word_without_a_number_answers_the_first_question_alone(backend: Any) -> None:
    """A "yes" that was typed for the first question paid the second."""
    outputs: list[str] = []
    amounts = iter((1, 2))

    async def plan() -> str:
        return f"Pay {next(amounts)} euros?"

    def steer() -> None:
        plain, numbered = (
            ("answer", "ask", "yes"),
            ("answer", "ask", "no", "--asked", "2"),
        )
        for begin, words in (
            ("Pay 1", ("try-again", "plan", "--cancel")),
            ("Pay 2", plain),
            ("Pay 2", numbered),
        ):
            while not (question.question or "").startswith(begin):
                time.sleep(0.001)
            outputs.append(" ".join(output_of(*words).split()))

    planned = Job(plan, label="plan")
    question = Answer(planned, label="ask")
    Scheduler(planned, question, ThreadJob(steer), label="night").run(backend=backend)
    assert "asks anew: Pay 2 euros?" in outputs[1], outputs
    assert question.result() == "no"


def test_a_path_without_a_letter_is_one_job(backend: Any) -> None:
    nameless, other = Job(fail_now, label=""), Job(fail_now, label="other")
    _, [output] = steered(
        backend, [("try-again", "")], nameless, other, after=(nameless, other)
    )
    assert "tried again" in output
    assert (nameless.attempts, other.attempts) == (2, 1)


def test_a_draining_run_still_takes_the_answers_that_it_waits_for(backend: Any) -> None:
    question = Answer("Go on?", label="ask")
    _, outputs = steered(backend, [("drain",), ("answer", "ask", "yes")], question)
    assert outputs == ["'night': drained", "'ask': answered 'yes'"]
    assert question.result() == "yes"


def test_a_run_is_drained_and_then_only_answered_or_cancelled(backend: Any) -> None:
    """`drain` lets running jobs end, so that nothing but `cancel` has an effect afterwards."""
    after = Job(nothing, label="after")
    scheduler, outputs = steered(
        backend, [("drain",), ("pause",)], after, jobs_window=1
    )
    assert scheduler.stop_reason is not None
    assert (outputs[0], scheduler.stop_reason.name, after.state.name) == (
        "'night': drained",
        "DRAINED",
        "CANCELLED",
    )
    assert outputs[1].endswith("'night' is draining already"), outputs[1]


def test_a_job_or_the_run_is_cancelled(backend: Any) -> None:
    inner = Job(anyio.sleep_forever, label="inner")
    forever = Job(anyio.sleep_forever, label="long")
    words = [("cancel", "group/inner"), ("cancel", "group/inner"), ("cancel",)]
    scheduler, outputs = steered(
        backend, words, Scheduler(inner, label="group"), forever
    )
    assert (outputs[0], outputs[2]) == (
        "'group/inner': cancelled",
        "'night': cancelled",
    )
    assert "'group/inner' is cancelled" in outputs[1]
    assert {inner.state.name, forever.state.name} == {"CANCELLED"}
    assert [incident.job for incident in incidents_of(scheduler)] == [inner, None]


@pytest.mark.parametrize("spelling", [str, printable])
def test_a_path_steers_exactly_its_job(
    backend: Any, spelling: Callable[[str], str]
) -> None:
    """Whatever the labels, `cancel PATH` cancels the job with this path, as it is or as it is printed."""
    labels = [
        "db",
        "eu/db",
        r"eu\/db",
        "a",
        "a",
        "a#2",
        "a\n",
        r"a\n",
        r"a\\n",
        "é ",
        "é\u2003",
        "/",
        "\\",
        "",
        "-x",
        "--web",
    ]
    jobs: list[Any] = [
        Job(anyio.sleep_forever, label=label) for label in (*labels, "db", "/")
    ]
    members = (
        *jobs[:-2],
        Scheduler(jobs[-2], label="eu"),
        Scheduler(jobs[-1], label="\\"),
    )
    words = (
        ("cancel", "--", spelling(job.path)) for job in jobs
    )  # read in the run, when the jobs have their places
    scheduler, outputs = steered(backend, words, *members)
    assert outputs == [
        f"'{printable(unescape_path(job.path))}': cancelled" for job in jobs
    ]
    assert [incident.job for incident in incidents_of(scheduler)] == jobs


def test_one_of_several_runs_is_chosen_by_its_label(backend: Any) -> None:
    begun = threading.Event()

    def run_other() -> bool:
        return bool(Scheduler(Job(begin), label="other").run(backend=backend))

    async def begin() -> None:
        begun.set()
        await anyio.sleep_forever()

    def steer() -> list[str]:
        assert begun.wait(PATIENCE)
        looks = [
            command("look", os.getpid(), "--run", label).output
            for label in ("nope", "night")
        ]
        return [
            output_of("pause"),
            *looks,
            output_of("cancel", "--run", "other").rstrip(),
        ]

    steering = ThreadJob(steer, label="steering")
    Scheduler(steering, ThreadJob(run_other), label="night").run(backend=backend)
    several, unknown, night, cancelled = steering.result()
    assert "choose a run by --run LABEL: in progress are 'night', 'other'" in " ".join(
        several.split()
    )
    assert "no run 'nope' is in progress" in unknown
    assert ("\nnight  " in night, "\nother  " in night) == (True, False)
    assert cancelled == "'other': cancelled"


def test_a_program_can_refuse_to_be_steered(backend: Any) -> None:
    """After `enable(steer=False)` a look is still answered, and each word is refused, until another call allows it."""
    trioflow.look.enable(steer=False)
    try:
        scheduler, (refused, text) = steered(backend, [("cancel",), ()])
    finally:
        trioflow.look.enable()
    assert "has called trioflow.look.enable(steer=False)" in " ".join(refused.split())
    assert "steering" in text
    assert incidents_of(scheduler) == ()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("pause", "resume"), ["'night': paused by BY", "'night': resumed by BY"]),
        (
            ("drain", "pause"),
            [
                "'night': drained by BY",
                "pause by BY has no effect: 'night' is draining already",
            ],
        ),
    ],
)
def test_a_run_whose_loop_is_blocked_is_steered_afterwards(
    backend: Any,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, str],
    told: list[str],
) -> None:
    """Who asked is told that it takes effect then, and waits no more: what is refused by then is in the log."""
    monkeypatch.setattr(_steering, "STEER_TIMEOUT", 0.05)
    answers: list[str] = []

    async def block() -> None:
        thread = threading.Thread(target=lambda: answers.extend(map(output_of, words)))
        thread.start()
        thread.join()

    scheduler = Scheduler(Job(block), Job(nap, 0.01), label="night")
    assert scheduler.run(backend=backend) is (words[0] == "pause")
    assert answers == [
        f"{word}: takes effect as soon as no job blocks the event loop\n"
        for word in words
    ]
    assert [re.sub(BY, "BY", one.message) for one in incidents_of(scheduler)] == told


@pytest.mark.parametrize("words", [(), ("pause",)])
def test_who_asks_is_told_of_an_error_in_the_answer(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    words: tuple[str, ...],
) -> None:
    """The thread ended, or the loop broke, and who had asked waited. The log has the traceback once."""
    outputs: list[str] = []

    def fail(*_: Any, **__: Any) -> Any:
        raise AttributeError("broken")

    monkeypatch.setattr(_answers, "logged_kinds", set())
    monkeypatch.setattr(_steering, "paths_of", fail)
    monkeypatch.setattr(_answers, "_choose_run" if not words else "expect_page", fail)
    asked = {"watch": "key", "number": 1} if not words else {"do": "pause"}
    ask = ThreadJob(
        lambda: outputs.extend(str(_answers._handle(asked, None)) for _ in range(2))
    )
    scheduler = Scheduler(ask, Job(nap, 0.01), label="night")
    assert scheduler.run()
    assert [output.partition("AttributeError")[1:] for output in outputs] == [
        ("AttributeError", ": broken'}")
    ] * 2
    assert [record.exc_info is not None for record in caplog.records] == [True]


WORKING = """
import anyio, sys, trioflow.look
from trioflow import Job, Scheduler
trioflow.look.enable()
tries = []
async def fail_once():
    tries.append(1)
    if len(tries) == 1:
        print("works", flush=True)
        raise OSError("broken")
flaky = Job(fail_once, label="flaky")
jobs = Job(anyio.sleep_forever, label="long"), Job(anyio.sleep_forever, label="job")
after = Job(anyio.sleep, 0, required=[*jobs, flaky], run_if="settled")
scheduler = Scheduler(*jobs, flaky, after, label="night", jobs_window=9)
scheduler.run(backend=sys.argv[1])
print(scheduler.stop_reason.name, scheduler.jobs_window, len(tries), after.state.name)
"""


def test_another_program_is_steered(backend: str) -> None:
    """Each word of the command, given to a program as it runs, takes effect, and the answer says so."""
    words = [
        "pause", "window 2", "try-again flaky", "resume", "cancel job", "cancel nope", "drain", "cancel",
    ]  # fmt: skip
    with Python(["-c", WORKING, backend], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "works\n"
        answered = [
            command("steer", program.pid, *word.split()).output.strip()
            for word in words
        ]
        ended = program.stdout.read().split()
    assert answered[:5] == [
        "'night': paused", "'night': jobs_window set to 2", "'flaky': tried again; these wait or run again: flaky",
        "'night': resumed", "'job': cancelled",
    ]  # fmt: skip
    assert "no job with the path 'nope' runs or waits" in answered[5]
    assert answered[6:] == ["'night': drained", "'night': cancelled"]
    assert ended == ["DRAINED", "2", "2", "IDLE"]


@pytest.mark.parametrize(
    "kind", [KeyError, TypeError, RuntimeError, ZeroDivisionError, SystemExit]
)
def test_an_exception_of_a_word_reaches_who_asked(
    backend: Any, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell, a page and a thread: a KeyError was told as "it does not understand the request". The run goes on."""

    def act(_: Any) -> str:
        raise kind("broken")

    monkeypatch.setitem(_steering.ACTIONS, "pause", act)
    told = list[str]()

    def say() -> None:
        (run,) = runs_in_progress()
        page = Page(os.getpid(), None)
        page.ask()
        told.append(output_of("pause"))
        told.append(
            page.steer({"do": "pause", "seen": page._run.answer["seen"]})["error"]
        )
        with pytest.raises(ValueError, match="broken") as refusal:
            _steering.steer(run, "pause", None, "a thread")
        told.append(str(refusal.value))

    scheduler = Scheduler(ThreadJob(say), label="night")
    assert scheduler.run(backend=backend)
    assert len(told) == 3
    for text in told:
        assert "broken" in text
        assert "understand" not in text


def ask(data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(_answers.socket_address(os.getpid()))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b"{}", b"7", b'{"detail":0}', b'{"do":"pause","seen":0}']
)
def test_a_request_that_is_none_is_refused(data: bytes) -> None:
    assert ask(data) == b' {"error":"it does not understand the request"}'


@pytest.mark.parametrize("group", ["", "group/"])
def test_a_request_names_several_jobs_that_are_tried_again(
    backend: str, group: str
) -> None:
    """Each is tried again once, also in a group that has ended; if one has no such path, nothing is done."""
    names, answers = [f"{group}one", f"{group}two"], list[bytes]()

    def say() -> None:
        for value in ([*names, "no path"], [5], names):
            answers.append(
                ask(
                    json.dumps({"do": "try-again", "value": value}).encode() + b"\n"
                ).strip()
            )

    tries: list[None] = []

    async def fail() -> None:
        tries.append(None)
        raise ValueError

    failing: list[Any] = [Job(fail, label=label) for label in ("one", "two")]
    if group:
        failing = [Scheduler(*failing, label="group")]
    Scheduler(
        *failing,
        ThreadJob(say, required=failing, label="says", run_if="settled"),
        label="night",
    ).run(backend=backend)
    assert [b"no job with the path" in answer for answer in answers] == [
        True,
        True,
        False,
    ]
    # What was asked for is named, and not the group that ends anew.
    asked = f"'{names[0]}, {names[1]}': tried again"
    assert json.loads(answers[2])["done"].startswith(asked)
    assert len(tries) == 4


def test_a_program_that_closes_the_connection_is_not_said_to_have_no_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If a program can start no thread for a client, its word fails with that reason."""
    monkeypatch.setattr(
        _answers, "_answer_client", lambda connection: connection.close()
    )
    with pytest.raises(
        _client.NoAnswer, match="ends, or can start no thread: it has not answered"
    ):
        _client.ask(os.getpid(), {"do": "cancel"})


ENDING = """
import os, sys, time
import anyio, trioflow.look
from trioflow import Job, Scheduler
from trioflow.view.look import _answers
encode = _answers._encode
def slow(made):
    time.sleep(0.2)
    return encode(made)
def die(made):
    os._exit(0)
def die_meanwhile(made):
    yield b'{"done":'
    os._exit(0)
_answers._encode = globals()[sys.argv[1]]
_answers.WATCH_INTERVAL = 60.0  # at its end, it waits so long for who asks
trioflow.look.enable()
async def work():
    print("works", flush=True)
    await anyio.sleep_forever()
Scheduler(Job(work), label="night").run()
"""


@pytest.mark.parametrize(
    ("ends", "word", "expected"),
    [
        ("slow", "cancel", "'night': cancelled"),
        ("die", "cancel", "process {} has ended"),
        ("die_meanwhile", "cancel", "process {} has ended"),
        ("die", "drain", "process {} has ended"),
        (
            "die",
            "pause",
            "Error: process {} ends, or can start no thread: it has not answered",
        ),
    ],
)
def test_the_end_of_a_program_is_an_answer_to_the_word_that_ended_it(
    ends: str, word: str, expected: str
) -> None:
    with Python(["-c", ENDING, ends], stdout=subprocess.PIPE) as ending:
        assert ending.stdout is not None
        assert ending.stdout.readline() == b"works\n"
        answered = command("steer", ending.pid, word)
    assert (answered.output.strip(), answered.exit_code) == (
        expected.format(ending.pid),
        2 if word == "pause" else 0,
    )


def test_a_program_without_a_run_has_nothing_to_steer() -> None:
    assert "no run is in progress" in output_of("pause")
    assert "unknown command 'try_again'; do you mean 'try-again'?" in output_of(
        "try_again"
    )
    assert (
        "found 'pause'; give the PID of the program"
        in command("steer", "pause", os.getpid()).output
    )


HELD = """
import sys
from trioflow import Job, Scheduler

async def upload():
    return missing

if __name__ == "__main__":
    job = Job(upload, label="upload")
    scheduler = Scheduler(job, label="night", hold=True)
    print(scheduler.run(backend=sys.argv[1]), job.result())
"""


def test_another_program_takes_its_mended_code(backend: str, tmp_path: Path) -> None:
    """A look says that a file has changed. What cannot be taken changes nothing, and nothing is tried again."""
    file = tmp_path / "night.py"
    file.write_text(HELD)
    os.utime(file, (0, 0))  # before the start of what forks
    with Python(
        [file, backend],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        held = next(line for line in program.stderr if "is held" in line)
        again = "steer", program.pid, "try-again", "--reload"
        answers = [command("steer", program.pid, "reload").output]
        for old, new in (
            ("return missing", "return (missing"),
            ('"night"', '"day"'),
            ("missing", "gone"),
            ("missing", "42"),
        ):
            file.write_text(HELD.replace(old, new))
            answers += [command("look", program.pid).output, command(*again).output]
            if new == "return (missing":
                # What was mended is not what is tried.
                answers[-1] += command("steer", program.pid, "try-again").output
                next(line for line in program.stderr if "is held" in line)
            if new == "gone":
                # A word that came before the job has failed would try nothing again.
                held += next(line for line in program.stderr if "is held" in line)
                answers[-1] += command(*again).output
                held += next(line for line in program.stderr if "is held" in line)
        ended = program.stdout.read()
        log = program.stderr.read()
    assert (
        answers[0]
        == f"Error: process {program.pid}: no file of the program has changed since it was loaded\n"
    )
    assert "; night.py changed since it was loaded" in answers[1]
    assert (
        "night.py:6: SyntaxError: '(' was never closed; nothing was taken: undo it, "
        in answers[2]
    )
    assert "; nothing was tried again\n" in answers[2]
    assert (
        "; night.py changed since it was loaded, which only a reload takes\n"
        in answers[2]
    )
    assert 'night.py:8: "if __name__' in answers[4]
    reloaded = "reloaded night.py: upload"
    again_text = "'night': tried again; these wait or run again: upload\n"
    unchanged = "no file of the program has changed since it was loaded"
    assert answers[6] == f"{reloaded}; {again_text}{unchanged}; {again_text}"
    assert answers[8] == f"{reloaded}; {again_text}"
    assert f"{reloaded} by trioflow steer, pid {os.getpid()}, user " in log
    assert ended == "True 42\n"
    assert "reload" not in held


WRONG = """
import sys, anyio
from trioflow import Job, Scheduler, Service

async def collect():
    return 41

async def watch(number, task_status):
    task_status.started()
    await anyio.sleep_forever()

async def upload(number):
    if number != 42:
        raise ValueError(number)
    return number

if __name__ == "__main__":
    collected = Job(collect, label="collect")
    uploaded = Job(upload, collected, label="upload")
    watching = Service(watch, collected, label="watch")
    user = Job(upload, collected, label="user", required=watching)
    scheduler = Scheduler(collected, uploaded, watching, user, label="night", hold=True)
    print(scheduler.run(backend=sys.argv[1]), uploaded.result(), watching.attempts, user.attempts)
"""


def test_what_has_succeeded_with_the_code_of_before_is_named(
    backend: str, tmp_path: Path
) -> None:
    """The answer to a reload names it, and so do the log and a look, until it runs again."""
    text = WRONG.replace(", watching, user", "").replace(
        ", watching.attempts, user.attempts", ""
    )
    file = tmp_path / "night.py"
    file.write_text(text)
    os.utime(file, (0, 0))  # before the start of what forks
    with Python(
        [file, backend],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        held = [next(line for line in program.stderr if "is held" in line)]
        file.write_text(text.replace("41", "42"))
        answers = [command("steer", program.pid, "try-again", "--reload").output]
        for line in program.stderr:
            held += [line] * ("succeeded with" in line)
            if "is held" in line:
                break
        answers += [command("look", program.pid).output]
        answers += [command("steer", program.pid, "try-again", "collect").output]
        ended = program.stdout.read()
        log = program.stderr.read()
    older = f"'collect' succeeded with older code: `trioflow steer {program.pid} try-again collect` runs it again"
    assert answers[0].endswith(f"; these wait or run again: upload; {older}\n")
    assert f"or end as failed; {older}\n" in answers[1]
    assert "older" not in answers[2]
    assert [line.partition(older)[1] for line in held] == ["", older, older]
    assert "older" not in log
    assert ended == "True 42\n"


def test_a_step_that_has_succeeded_is_mended_and_all_that_used_it_runs_again(
    backend: str, tmp_path: Path
) -> None:
    """What runs with the wrong result refuses the word, which then cancels it, too."""
    file = tmp_path / "night.py"
    file.write_text(WRONG)
    os.utime(file, (0, 0))  # before the start of what forks
    with Python(
        [file, backend],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert any("is held" in line for line in program.stderr)
        file.write_text(WRONG.replace("41", "42"))
        again = "steer", program.pid, "try-again", "collect"
        answers = [
            command(*again, "--reload").output,
            command(*again, "--cancel").output,
        ]
        ended = program.stdout.read()
        program.stderr.read()
    assert answers == [
        f"Error: process {program.pid}: reloaded night.py: collect; try_again() of 'collect': what follows it is "
        "running: 'watch'; cancel() that first, or wait; try-again --cancel does both\n",
        "'collect': tried again, and 3 jobs that used it; these wait or run again: watch, collect, upload, user\n",
    ]
    assert ended == "True 42 2 2\n"


def test_code_is_taken_alone_or_before_a_retry(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is of the process, so no run has to be chosen; what was loaded has to be known."""
    monkeypatch.setattr(_loaded_files, "loaded", {})
    nested = ThreadJob(
        lambda: Scheduler(ThreadJob(lambda: outputs.append(output_of("reload")))).run(
            backend=backend
        )
    )
    outputs: list[str] = []
    assert Scheduler(nested).run(backend=backend)
    assert [" ".join(output.split()) for output in outputs] == [
        f"Error: process {os.getpid()}: {NOTHING_KNOWN}"
    ]


@pytest.mark.both_backends
def test_a_held_run_can_be_paused(backend: Any) -> None:
    """The word said that the run was paused already, and what was tried again started before the resume."""

    def begin_to_steer(*incident: Any) -> None:
        if not threads:
            threads.append(threading.Thread(target=steer))
            threads[0].start()

    def steer() -> None:
        for words in (["pause"], ["pause"], ["try-again", "job"], [], ["resume"]):
            outputs.append(output_of(*words).rstrip())

    async def work() -> None:
        if job.attempts == 1:
            raise ValueError("broken")

    threads: list[threading.Thread] = []
    outputs: list[str] = []
    job = Job(work, label="job")
    scheduler = Scheduler(job, label="night", hold=True)
    watch = hooked(incident=begin_to_steer)
    assert scheduler.run(backend=backend, instruments=[watch])
    threads[0].join()
    paused, again, tried, text, resumed = outputs
    assert (paused, again) == ("'night': paused", "'night': was paused already")
    assert tried.startswith("'job': tried again")
    assert "waits for a resume" in text
    assert resumed == "'night': resumed"
