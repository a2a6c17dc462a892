"""Errors and values can be copied and pickled, so that they pass through other processes; jobs refuse it."""

import copy
import enum
import importlib
import pickle
import resource
from collections.abc import Callable
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import AbstractJob, CommandResult, Job, Scheduler, Trace
from trioflow.abc import (
    BoxStyle,
    HashOnly,
    Instrument,
    LocalDirectory,
    Restoration,
    RunPhase,
    WaitCause,
    Waiting,
    Work,
)
from trioflow.batch import BatchError
from trioflow.testing import BrokenRun, explore
from . import public_names
from .pythons import python

PICKLES = "pickle", "copy", "deepcopy"


def duplicate(value: Any, how: str) -> Any:
    """Return a copy of a value; that from a pickle is like one in another process."""
    return (
        pickle.loads(pickle.dumps(value))
        if how == "pickle"
        else getattr(copy, how)(value)
    )


def a_job(label: str = "a", **options: Any) -> Job[None]:
    return Job(anyio.sleep, 0, label=label, **options)


def a_trace() -> Trace:
    trace = Trace()
    first = a_job()
    Scheduler(first, a_job("b", required=first)).run(instruments=[trace])
    return trace


def a_result() -> CommandResult:
    return CommandResult(3, 1.5, resource.getrusage(resource.RUSAGE_SELF), b"out", None)


JOB = a_job()
NODE = trioflow.SshNode("node")
ERRORS: list[BaseException] = [
    trioflow.TrioflowError("text"), trioflow.JobCancelled("text"), trioflow.JobSkipped("text"),
    trioflow.JobNotDone("text"), trioflow.JournalError("text"), BatchError("text"),
    trioflow.CycleError([JOB, a_job("c")]), trioflow.MissingRequirement(JOB, a_job("b"), Scheduler(label="s")),
    trioflow.RequirementFailed(JOB, a_job("b")), trioflow.JobTimeout(JOB, 3.0, "progress", "in f at x.py:1"),
    trioflow.Throttled("api", after=20), trioflow.CommandError(JOB, "make", "exit code 3", a_result(), b"why"),
    trioflow.BudgetSpent(JOB, "usd", "2", "1", "b"),
    trioflow.SshError(NODE, "text", started=True), trioflow.Unreachable(NODE, "text"), BrokenRun("story", "7"),
    trioflow.TrioflowDeprecationWarning("text"),
]  # fmt: skip
VALUES: list[Any] = [
    a_result(), a_trace().spans[0], a_trace().spans[1].waits, a_trace().time_spent(), a_trace().time_spent().families,
    trioflow.Adaptive(1, 4), trioflow.Rate(requests=5, per=1), trioflow.Budget(5.0), trioflow.PerKey(2, gap=1),
    trioflow.OutputLine("ready"), trioflow.PortOpen(5432), trioflow.Script("x.sh"),
    trioflow.ScriptText("true"), trioflow.Push("a", to="b"), trioflow.Pull("a", to="b"), trioflow.granted("gpu"),
    NODE, trioflow.LocalNode(), trioflow.SshNodes(["a", "b"]), trioflow.JobState.FAILED, trioflow.StopReason.TIMEOUT,
    RunPhase.RUNNING, WaitCause.SLOT, Waiting(WaitCause.SLOT), BoxStyle("x"), HashOnly("x"), LocalDirectory("x"),
    Work(what="x"),
    Restoration(1.0, 2.0), trioflow.Retry(2),
    trioflow.view.Wait(WaitCause.SLOT, "", 0, 1, 2),
    explore(lambda: Scheduler(a_job()), runs=2),
]  # fmt: skip
OTHERS = {
    # belong to one process: runs, and what they share
    "Journal", "Pool", "RunHandle", "RunView", "Sequence", "ThreadEvent",
    "TimeLimit", "VirtualTimeEventLoop", "Cluster", "Tracing",
    # have jobs in them
    "CommandSucceeds", "Simulation", "WhatIf", "WhatIfPoint",
    # are only for type checkers
    "JobOptions",
}  # fmt: skip
PUBLIC = [
    getattr(module, name)
    for module in map(
        importlib.import_module, (*public_names.MODULES, "trioflow.batch")
    )
    if not module.__name__.startswith("trioflow.compat")
    for name in public_names.public(module)
    if isinstance(getattr(module, name), type)
]
LIVE = AbstractJob, Instrument


@pytest.mark.parametrize(
    "value",
    [*ERRORS, *VALUES, JOB, Scheduler()],
    ids=lambda value: type(value).__name__,
)
def test_each_attribute_of_an_object_is_in_the_record_of_public_names(
    value: Any,
) -> None:
    """Those that methods set, too: of 17 classes, 45 attributes were missing, which programs read in place of texts."""
    own = {name for name in dir(value) if not name.startswith("_")}
    bases = [
        base for base in type(value).__mro__ if base.__module__.startswith("trioflow")
    ]
    foreign = {"name", "value"} if isinstance(value, enum.Enum) else set()
    foreign |= {
        name for base in {*type(value).__mro__} - {*bases} for name in dir(base)
    }
    assert own - foreign <= {
        name for base in bases for name in public_names.members(base)
    }


def test_every_public_class_of_errors_and_values_is_tested_here() -> None:
    tested = {type(value) for value in (*ERRORS, *VALUES)} | {
        trioflow.view.FamilyTime,
        trioflow.view.Wait,
    }
    assert [
        kind.__name__
        for kind in PUBLIC
        if kind not in tested
        and kind.__name__ not in OTHERS
        and not issubclass(kind, LIVE)
    ] == []
    assert [kind for kind in tested if kind.__name__ in OTHERS] == []


@pytest.mark.parametrize("how", PICKLES)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_can_be_copied_and_pickled(error: BaseException, how: str) -> None:
    """A copy of an error has its message and attributes; one from a pickle has None in place of jobs."""
    error.__dict__.pop("__notes__", None)
    error.add_note("a note")
    other: Any = duplicate(error, how)
    assert (type(other), str(other), other.args) == (
        type(error),
        str(error),
        error.args,
    )
    for name, value in vars(error).items():
        has_job = any(
            isinstance(item, AbstractJob)
            for item in (value if isinstance(value, tuple) else [value])
        )
        if how == "pickle" and has_job:
            assert getattr(other, name) is None
        elif has_job or isinstance(value, (str, float, bool, list)):
            assert getattr(other, name) == value
        else:
            assert type(getattr(other, name)) is type(value)
    other.add_note("another")
    assert not isinstance(error, trioflow.TrioflowError) or error.__notes__ == [
        "a note"
    ]


@pytest.mark.parametrize("how", PICKLES)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_can_be_copied_and_pickled(value: Any, how: str) -> None:
    other = duplicate(value, how)
    assert type(other) is type(value)
    assert type(other).__repr__ is object.__repr__ or repr(other) == repr(value)
    for name in (
        name
        for name in dir(value)
        if not name.startswith("_") and not callable(getattr(value, name))
    ):
        assert repr(getattr(other, name)) == repr(getattr(value, name)), name


class Detailed(trioflow.TrioflowError):
    """An error of a user, made of other arguments than its message."""

    def __init__(self, code: int, *, handler: Callable[[], None]) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.handler = handler


def test_an_attribute_that_cannot_be_pickled_does_not_hinder_an_error() -> None:
    error = pickle.loads(pickle.dumps(Detailed(4, handler=lambda: None)))
    assert (str(error), error.code, error.handler) == ("code 4", 4, None)


@pytest.mark.parametrize("how", PICKLES)
@pytest.mark.parametrize(
    "make",
    [a_job, lambda: Scheduler(a_job("inner"), label="a")],
    ids=["job", "scheduler"],
)
def test_jobs_cannot_be_copied_or_pickled(
    make: Callable[[], AbstractJob[Any]], how: str
) -> None:
    """A copied scheduler once had the same jobs as the original, which no scheduler may."""
    with pytest.raises(
        TypeError,
        match=r"^'a' cannot be copied or pickled, because a job belongs to one scheduler",
    ):
        duplicate(make(), how)


POOL = """
import anyio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from trioflow import Job, JobTimeout, Scheduler

def exceed_timeout():
    Scheduler(Job(anyio.sleep_forever, label="slow"), timeout=0.01).run(check=True)

with ProcessPoolExecutor(1, get_context("fork")) as pool:
    try:
        pool.submit(exceed_timeout).result()
    except JobTimeout as error:
        print(error)
"""


def test_errors_pass_through_a_pool_of_processes() -> None:
    """An error of trioflow arrives from a process pool; one that could not be unpickled once broke the pool."""
    done = python("-c", POOL, text=True)
    assert "did not end within its timeout of 0.01 s" in done.stdout, done.stderr
