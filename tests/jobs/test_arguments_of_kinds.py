"""What a job was made of can be read, at any time: each parameter of each kind is an attribute of the same name."""

import contextlib
import inspect
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import AbstractJob, Job, LocalNode, OutputLine, Retry
from ..bodies import give_now


def call(*args: object, **kwargs: object) -> None: ...


async def serve(*args: object, task_status: Any = None, **kwargs: object) -> None: ...


INPUT = Job(give_now, b"x")
LIMITER: Any = SimpleNamespace(acquire_on_behalf_of=None)
NODE = LocalNode()
READY = OutputLine("ready")
POSITIONAL: dict[str, dict[str, Any]] = {
    "Answer": {"question": "?"}, "CommandJob": {"command": ("true",)}, "CommandService": {"command": ("true",)},
    "First": {"jobs": ()}, "Job": {"function": serve}, "ProcessJob": {"function": call}, "Service": {"function": serve},
    "SshJob": {"node": NODE, "command": "true"}, "SshService": {"node": NODE, "command": "true"},
    "ThreadJob": {"function": call},
}  # fmt: skip
WITH: dict[str, dict[str, Any]] = {
    "CommandService": {"ready": READY}, "SshService": {"ready": READY}, "on_timeout": {"timeout": 5},
}  # fmt: skip
"""What a kind or an option needs besides."""
VALUES: dict[str, list[Any]] = {
    "abandon_on_cancel": [True], "append": [False], "args": [(1, [INPUT])], "backfill": [3], "check": [False, (0, 3)],
    "choices": [("a", "b")], "cleanup_timeout": [3.0], "critical": [True, False],
    "critical_jobs": [True], "cwd": ["/", Path("/")], "durations": [{"a": 1}], "enough": [2], "env": [{"A": "b"}],
    "expected_duration": [2.0], "forever": [True], "hold": [True], "idle_timeout": [2.0],
    "instruments": [(trioflow.Monitor(),)], "jobs_window": [3], "journal": ["run.db"], "keep_jobs": [False],
    "keep_result": [False], "key": ["k"], "kwargs": [{"a": INPUT}], "label": ["l"], "leftovers": ["end"],
    "limiter": [LIMITER], "log": [False], "memory_limit": [2**30], "needs": [{"cpu": 2}], "nice": [3],
    "on_cancel": [call], "on_job_settled": [call], "on_line": [call], "on_settled": [call], "on_start": [call],
    "on_succeeded": [call], "on_timeout": ["move_on"], "own_task": [True], "parse": [int], "pin": ["slot"],
    "policy": ["fifo"], "pool": [trioflow.Pool(cpu=2)], "priority": [2], "processes": ["local"],
    "reads": [("a",)], "ready": [READY], "redact": [True], "required": [(INPUT,)], "retry": [Retry(2)],
    "run_if": ["settled"], "save": ["pickle"], "scheduler": [trioflow.Scheduler()], "shell": [True],
    "shutdown_timeout": [3.0], "stagger": [2.0], "stderr": ["err", subprocess.STDOUT], "stdin": [b"x", INPUT],
    "stdout": ["out"], "tag": [True, "{label}"], "terminate_grace": [2.0], "timeout": [2.0], "values": [{"a": INPUT}],
    "version": [2], "writes": [("a",)],
}  # fmt: skip
PUBLIC: list[Any] = [getattr(trioflow, name) for name in sorted(dir(trioflow))]
KINDS: list[type[Any]] = [kind for kind in PUBLIC if isinstance(kind, type) and issubclass(kind, AbstractJob)]
NOT_READ = {"jobs_or_sequences", "options"}
"""A scheduler is a collection of its jobs. Each of the options is an attribute."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_parameter_of_a_kind_can_be_read_as_it_was_given(kind: type[Any]) -> None:
    """`CommandJob.cwd` could not be read. What is no option of every job cannot be set, in a run or between two."""
    words = POSITIONAL.get(kind.__name__, {})
    unread = NOT_READ | ({"reads", "writes"} if issubclass(kind, trioflow.Scheduler) else set())
    for name in {*inspect.signature(kind).parameters, *kind._declared_options} - unread:
        for value in [words[name]] if name in words else VALUES[name]:
            given = 2 if (name, kind) == ("processes", trioflow.Scheduler) else value
            positional = [*words.values()]
            if name == "shell":
                positional = ["true"]
            elif name == "args":
                positional += value
            elif kind is trioflow.First:
                positional = [Job(give_now, 1), Job(give_now, 2)]
            options = {} if name in words or name == "args" else {name: given}
            job = kind(*positional, **{**WITH.get(kind.__name__, {}), **WITH.get(name, {}), **options})
            assert (tuple(job.required) if name == "required" else getattr(job, name)) == given, name
            if name not in kind._declared_options:
                with pytest.raises(AttributeError, match=f"^{name} of .* cannot be set: make another job$|no setter"):
                    setattr(job, name, value)


def test_the_arguments_of_a_job_that_has_run_can_be_read_while_it_is_kept(backend: str) -> None:
    seen: list[Any] = []

    async def look(number: int, *, word: str) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append((job.function, job.args, job.kwargs))
        with contextlib.suppress(AttributeError):
            job.args = ()  # type: ignore[misc]

    job = Job(look, 1, kwargs={"word": "w"})
    scheduler = trioflow.Scheduler(job)
    assert scheduler.run(backend=backend)
    assert scheduler.run(backend=backend)
    assert seen == [(look, (1,), {"word": "w"})] * 2
    assert (job.function, job.args, job.kwargs) == seen[0]
