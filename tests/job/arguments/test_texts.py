"""A text that is made of a job is no input, so it is an error where it is given to another job."""

from __future__ import annotations

import functools
import gc
import json
import logging
import pathlib
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from trioflow import Answer, CommandJob, Job, ProcessJob, Scheduler, Service, SshJob, ThreadJob
from trioflow._core.job._labels import TEXTS
from ...bodies import fail, give

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...conftest import Virtual


async def ask(*prompts: Any, **options: Any) -> tuple[Any, ...]:
    return prompts, options


async def serve(*prompts: Any, task_status: Any) -> None:
    raise NotImplementedError


class Prompt(str):
    """A text with a class of its own."""


WAYS: dict[str, Callable[[Any], object]] = {
    "f-string": lambda plan: Job(ask, f"sum up: {plan}"),
    "percent": lambda plan: Job(ask, "sum up: %s" % plan),  # noqa: UP031
    "repr of a list": lambda plan: Job(ask, f"sum up {[plan]}, please"),
    "join": lambda plan: Job(ask, ", ".join(map(str, [1, plan]))),
    "json": lambda plan: Job(ask, json.dumps({"prompt": plan}, default=str)),
    "bytes": lambda plan: Job(ask, f"{plan}".encode()),
    "subclass of str": lambda plan: Job(ask, Prompt(f"{plan}")),
    "keyword": lambda plan: Job(ask, kwargs={"prompt": f"{plan}"}),
    "messages": lambda plan: Job(ask, [{"role": "user", "content": f"{plan}"}]),
    "key of a dict": lambda plan: Job(ask, {f"{plan}": 1}),
    "set": lambda plan: Job(ask, {f"{plan}"}),
    "iterator": lambda plan: Job(ask, iter([f"{plan}"])),
    "beside an input": lambda plan: Job(ask, plan, f"{plan}"),
    "partial": lambda plan: Job(functools.partial(ask, f"{plan}")),
    "partial as a value": lambda plan: Job(ask, functools.partial(ask, prompt=f"{plan}")),
    "thread": lambda plan: ThreadJob(print, f"{plan}"),
    "process": lambda plan: ProcessJob(print, f"{plan}"),
    "service": lambda plan: Service(serve, f"{plan}"),
    "map": lambda plan: Scheduler().map(ask, [f"{plan}"]),
    "command": lambda plan: CommandJob(["echo", f"--x={plan}"]),
    "shell": lambda plan: CommandJob(f'echo "{plan}"', shell=True),
    "stdin": lambda plan: CommandJob(["cat"], stdin=f"{plan}".encode()),
    "stdout": lambda plan: CommandJob(["ls"], stdout=pathlib.Path(f"{plan}.txt")),
    "environment": lambda plan: CommandJob(["env"], env={"A": f"{plan}"}),
    "on a node": lambda plan: SshJob("node", f"echo {plan}"),
    "environment on a node": lambda plan: SshJob("node", "env", env={"A": f"{plan}"}),
    "question": lambda plan: Answer(f"publish {plan}?"),
    "key": lambda plan: Job(ask, key=f"after {plan}"),
    "version": lambda plan: CommandJob(["ls"], version=["1", f"{plan}"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_text_of_a_job_that_has_not_settled_raises(way: str) -> None:
    """A model was once asked to "sum up: <Job plan idle>", and a shell ran the label: no result replaces a text."""
    group = Scheduler(Job(ask), label="plan")
    cures = {Job(ask, label="plan"): r"give the job itself, as in Job\(f, job\)", group: r"give .* ref\(scheduler\)"}
    for plan, cure in cures.items():
        with pytest.raises(TypeError, match=f"the text of 'plan', which is not its result: {cure}"):
            WAYS[way](plan)


def test_the_arguments_of_a_coroutine_object_are_searched_for_texts() -> None:
    plan = Job(ask, label="plan")
    coroutine = ask(f"{plan}")
    with pytest.raises(TypeError, match="the text of 'plan'"):
        Job(coroutine)
    coroutine.close()


def test_a_running_job_s_text_raises_and_a_settled_one_s_does_not(virtual: Virtual) -> None:
    """A text says how a job stood: after the run it is only a report, and accepted, whenever it was made."""
    texts: list[str] = []

    async def note() -> None:
        texts.append(f"log: {first}")
        with pytest.raises(TypeError, match="the text of 'first'"):
            Job(ask, texts)

    first = Job(note, label="first")
    before = f"{first}"
    assert virtual(lambda: Scheduler(first).co_run(check=True))
    second = Job(ask, texts, before, f"{first}")
    assert (before, texts, f"{first}") == ("<Job first, idle>", ["log: <Job first, running>"], "<Job first, succeeded>")
    assert not second.required


def test_what_is_no_text_of_a_job_is_accepted(caplog: pytest.LogCaptureFixture) -> None:
    """Log lines, labels, and texts that only look like that of a job are not rejected."""
    plan = Job(ask, label="plan")
    logging.getLogger("test").warning("starting %s", plan)
    assert caplog.messages == ["starting <Job plan, idle>"]
    jobs = [
        Job(ask, "<Job other, idle>, <Job plan, running>, <Job plan>, plan, <b>, idle>" * 9),
        Job(ask, f"after {plan.label}", label=f"after {plan}"),
        CommandJob(["echo", plan, plan.label]),
    ]
    assert [len(job.required) for job in jobs] == [0, 0, 1]
    text = f"{Job(ask, label='gone')}"
    gc.collect()
    assert not Job(ask, text).required


def test_no_text_of_a_job_is_made_by_a_run(virtual: Virtual) -> None:
    gc.collect()
    known = dict(TEXTS)
    scheduler = Scheduler(bad := Job(fail), Job(give, bad), Scheduler(Job(give)))
    assert not virtual(scheduler.co_run)
    scheduler.list()
    scheduler.debrief()
    assert dict(TEXTS) == known


@pytest.mark.parametrize("label", ["echo `touch ran`", "$(touch ran)", '"; touch ran; "', "$HOME"])
def test_the_text_of_a_job_is_harmless_in_a_shell(tmp_path: pathlib.Path, label: str) -> None:
    """The text of a job once had its label between backquotes, which a shell runs as a command."""
    text = repr(CommandJob(["echo", label], label=label))
    for line in (f'echo "{text}"', f"echo {text}"):
        subprocess.run(["sh", "-c", line], cwd=tmp_path, check=False, capture_output=True)
    assert [*tmp_path.iterdir()] == []
