"""Errors about a job with `redact=True` show the place and the type of a wrong value, and never the value."""

import concurrent.futures
import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
import pytest
import trioflow
from trioflow import (
    Answer,
    CommandJob,
    CommandService,
    Job,
    OutputLine,
    Pull,
    Push,
    Script,
    SshJob,
    SshService,
)
from ..bodies import Unpicklable, at_once

SECRET = "SEKRET-7f3a9"
WRONG: Any = {"token": SECRET}
NUL: Any = f"{SECRET}\0"
NODE = trioflow.LocalNode()
Make = Callable[[], Any]

CREATIONS: dict[str, Make] = {
    "argument": lambda: CommandJob(["curl", WRONG], redact=True),
    "command": lambda: CommandJob(SECRET, redact=True),
    "command line": lambda: CommandJob([SECRET], shell=True, redact=True),
    "shell": lambda: CommandJob(["x"], shell=SECRET, redact=True),  # type: ignore[arg-type]
    "stdin": lambda: CommandJob(["x"], stdin=WRONG, redact=True),
    "stdout": lambda: CommandJob(["x"], stdout=WRONG, redact=True),
    "cwd": lambda: CommandJob(["x"], cwd=WRONG, redact=True),
    "env value": lambda: CommandJob(["x"], env={"TOKEN": WRONG}, redact=True),
    "env name": lambda: CommandJob(["x"], env={f"{SECRET}=": "x"}, redact=True),
    "env NUL": lambda: CommandJob(["x"], env={"TOKEN": NUL}, redact=True),
    "reads": lambda: CommandJob(["x"], reads=[WRONG], redact=True),
    "writes": lambda: CommandJob(["x"], writes=WRONG, redact=True, check={SECRET}),
    "writes entry": lambda: CommandJob(["x"], writes=[WRONG], redact=True),
    "check": lambda: CommandJob(["x"], check=[SECRET], redact=True),
    "nice": lambda: CommandJob(["x"], nice=WRONG, redact=True),
    "tag": lambda: CommandJob(["x"], tag=WRONG, redact=True),
    "ready": lambda: CommandService(["x"], ready=WRONG, redact=True),
    "ready line": lambda: CommandService(
        ["x"], ready=OutputLine(SECRET), stdout=subprocess.DEVNULL, redact=True
    ),
    "OutputLine": lambda: OutputLine(WRONG),
    "word": lambda: SshJob(NODE, ("curl", WRONG), redact=True),
    "step": lambda: SshJob(NODE, WRONG, redact=True),
    "words as a list": lambda: SshJob(NODE, ["curl", f"-H{SECRET}"], redact=True),
    "ssh ready": lambda: SshService(NODE, "x", ready=WRONG, redact=True),
    "ssh ready line": lambda: SshService(
        NODE, "x", ready=OutputLine(SECRET), stdout=subprocess.DEVNULL, redact=True
    ),
    "ssh steps": lambda: SshService(
        NODE, [SECRET, SECRET], ready=OutputLine("x"), redact=True
    ),  # type: ignore[arg-type]
    "values": lambda: SshJob(NODE, "x", values={SECRET + "-": 1}, redact=True),
    "ssh env": lambda: SshJob(NODE, "x", env={SECRET: 1}, redact=True),
    "Script": lambda: Script(WRONG),
    "Script argument": lambda: Script("x", WRONG),
    "Script includes": lambda: Script("x", includes=[WRONG]),
    "ScriptText": lambda: trioflow.ScriptText(WRONG),
    "Push": lambda: Push(WRONG, to="x"),
    "Pull": lambda: Pull("x", to=WRONG),
    "question": lambda: Answer(WRONG, redact=True),
    "choices": lambda: Answer("which?", choices=SECRET, redact=True),
    "parse": lambda: Answer(SECRET, parse=SECRET, redact=True),  # type: ignore[arg-type]
    "choice": lambda: Answer("which?", choices=[SECRET], redact=True).answer("none"),
    "answer": lambda: Answer("which?", choices=["none"], redact=True).answer(SECRET),
    "parsed answer": lambda: Answer("which?", parse=int, redact=True).answer(SECRET),
}


@pytest.mark.parametrize("place", CREATIONS)
def test_error_at_creation_does_not_show_a_secret(place: str) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        CREATIONS[place]()
    assert SECRET not in str(raised.value)


def test_error_names_the_type_in_place_of_the_value() -> None:
    with pytest.raises(
        TypeError, match=r"'CommandJob': argument 1 is <dict>, a dict: give a string"
    ):
        CommandJob(["curl", WRONG], redact=True)


def value_job(value: Any) -> Job[Any]:
    return Job(at_once, lambda: value, redact=True)


RUNS: dict[str, Callable[[Path], trioflow.AbstractJob[Any]]] = {
    "argument": lambda here: CommandJob(["echo", value_job(WRONG)], redact=True),
    "argument NUL": lambda here: CommandJob(["echo", value_job(NUL)], redact=True),
    "stdin": lambda here: CommandJob(["cat"], stdin=value_job(WRONG), redact=True),
    "stdin path": lambda here: CommandJob(
        ["cat"], stdin=here / "x" / SECRET, redact=True
    ),
    "stdout path": lambda here: CommandJob(
        ["ls"], stdout=here / "x" / SECRET, redact=True
    ),
    "cwd": lambda here: CommandJob(["ls"], cwd=here / "x" / SECRET, redact=True),
    "program": lambda here: CommandJob([str(here / "x" / SECRET)], redact=True),
    "writes": lambda here: CommandJob(
        ["true"], writes=[str(here / "x" / SECRET)], redact=True
    ),
    "returned value": lambda here: Job(lambda: WRONG, redact=True),
    "pickled argument": lambda here: trioflow.ProcessJob(
        print, lambda: SECRET, Unpicklable(SECRET), redact=True
    ),
    "argument of an executor": lambda here: trioflow.ProcessJob(
        print,
        Unpicklable(SECRET),
        processes=concurrent.futures.ProcessPoolExecutor(1),
        redact=True,
    ),
    "ready": lambda here: CommandService(
        ["sleep", "9"], ready=OutputLine(SECRET), timeout=0.05, redact=True
    ),
    "ready output": lambda here: CommandService(
        ["sh", "-c", f"echo {SECRET}; sleep 9"],
        ready=OutputLine("x"),
        timeout=0.3,
        redact=True,
    ),
    "ready command": lambda here: CommandService(
        ["sleep", "9"],
        ready=trioflow.CommandSucceeds([f"/no/{SECRET}"]),
        timeout=9,
        redact=True,
    ),
    "early end": lambda here: CommandService(
        ["true"], ready=OutputLine(SECRET), redact=True
    ),
    "word": lambda here: SshJob(NODE, ("echo", value_job(WRONG)), redact=True),
    "values": lambda here: SshJob(
        NODE, "echo {x}", values={"x": value_job(WRONG)}, redact=True
    ),
    "ssh ready": lambda here: SshService(
        NODE, "sleep 9", ready=OutputLine(SECRET), timeout=0.05, redact=True
    ),
    "ssh ready output": lambda here: SshService(
        NODE, f"echo {SECRET}; sleep 9", ready=OutputLine("x"), timeout=0.3, redact=True
    ),
    "ssh early end": lambda here: SshService(
        NODE, f"echo {SECRET}", ready=OutputLine("x"), redact=True
    ),
    "ssh stdin": lambda here: SshJob(NODE, "cat", stdin=value_job(WRONG), redact=True),
    "ssh stdin path": lambda here: SshJob(
        NODE, "cat", stdin=here / "x" / SECRET, redact=True
    ),
    "ssh stdout path": lambda here: SshJob(
        NODE, "ls", stdout=here / "x" / SECRET, redact=True
    ),
    "ssh command": lambda here: SshJob(NODE, f"echo {SECRET} >&2; exit 3", redact=True),
    "Script": lambda here: SshJob(NODE, Script(here / "x" / SECRET), redact=True),
    "Script includes": lambda here: SshJob(
        NODE, Script(here / "x", includes=[str(here / "x" / SECRET)]), redact=True
    ),
    "Push": lambda here: SshJob(
        NODE, Push(here / "x" / SECRET, to=str(here)), redact=True
    ),
    "Push names": lambda here: SshJob(
        NODE,
        Push(here / "a" / SECRET, here / "b" / SECRET, to=f"{here}/c/"),
        redact=True,
    ),
    "Pull": lambda here: SshJob(
        NODE, Pull(str(here / SECRET), to=f"{here}/"), redact=True
    ),
    "thread": lambda here: trioflow.ThreadJob(str, NUL, b"", redact=True),
    "service": lambda here: trioflow.Service(returns_early, WRONG, redact=True),
    "question": lambda here: Answer(value_job(WRONG), redact=True),
    "Pull to": lambda here: SshJob(
        NODE, Pull(here / "x", to=f"{here}/x/{SECRET}/"), redact=True
    ),
}


async def returns_early(_: Any, *, task_status: Any) -> None: ...


@pytest.mark.sampled
@pytest.mark.parametrize("place", RUNS)
def test_error_of_a_run_does_not_show_a_secret(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a redacted job raises when it runs contains its values neither in logs nor in events, JUnit or debrief."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / SECRET).touch()
    (tmp_path / "x").write_text("true\n")
    scheduler = trioflow.Scheduler(job := RUNS[place](tmp_path))
    files = [tmp_path / "events.ndjson", tmp_path / "junit.xml"]
    scheduler.run(instruments=[trioflow.Events(files[0]), trioflow.JUnit(files[1])])
    scheduler.debrief(debrief := io.StringIO())
    error = job.raised_exception()
    assert error is not None
    shown = [
        str(error),
        repr(error),
        *getattr(error, "__notes__", []),
        caplog.text,
        debrief.getvalue(),
    ]
    assert SECRET not in "\n".join([*shown, *(file.read_text() for file in files)])
    assert error.__suppress_context__ or error.__cause__ is None


def test_each_kind_of_job_is_among_those_whose_errors_are_checked(
    tmp_path: Path,
) -> None:
    public = [getattr(trioflow, name) for name in trioflow.__all__]
    kinds = {
        kind
        for kind in public
        if isinstance(kind, type) and issubclass(kind, trioflow.AbstractJob)
    }
    without_values = {trioflow.AbstractJob, trioflow.Scheduler, trioflow.First}
    assert {type(make(tmp_path)) for make in RUNS.values()} == kinds - without_values


def test_the_error_of_a_redacted_command_has_no_command() -> None:
    trioflow.Scheduler(job := CommandJob(["false", SECRET], redact=True)).run()
    assert job.raised_exception().command == "command …"  # type: ignore[union-attr]
