"""Bad input: each public parameter rejects each bad value with an error that names the parameter.

Each call below is complete and right. Then one of its parameters at a time gets each of the values."""

import contextlib
import dataclasses
import enum
import functools
import inspect
import io
import logging
import math
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
import trioflow
from trioflow import Job, PortOpen, Scheduler, current_job
from trioflow.abc import BoxStyle, JobKind
from trioflow.testing import FAULTS, explore, run_virtual
from .bodies import at_once, nothing

PACKAGE = os.path.join(os.path.dirname(trioflow.__file__), "")


class Thing:
    """A type that no parameter accepts."""

    def __repr__(self) -> str:
        return "<Thing>"


class Hostile:
    """An object that cannot be shown, compared or used as a key."""

    def _refuse(self, *_: Any) -> Any:
        raise LookupError("hostile")

    __repr__ = __str__ = __eq__ = __hash__ = _refuse  # type: ignore[assignment]


VALUES: dict[str, Any] = {
    "None": None, "True": True, "0": 0, "-1": -1, "1.5": 1.5, "NaN": math.nan, "infinity": math.inf,
    "-infinity": -math.inf, "10**400": 10**400, "1e308": 1e308, "1j": 1j, '""': "", '"text"': "text", '"a\\0b"': "a\0b",
    'b"x"': b"x", "[1]": [1], "{1: 2}": {1: 2}, "object": Thing(), "hostile": Hostile(),
}  # fmt: skip
"""What each parameter is given, by the name that a failed test shows."""


async def one(_: object) -> None:
    """Do nothing with the argument."""


def home() -> Scheduler:
    return Scheduler(Job(nothing, label="a"), label="home")


def method(make: Callable[[], Any], name: str) -> Callable[..., Any]:
    """Return a function that calls a method of a new object, with its signature."""
    function = getattr(type(make()), name)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(make(), name)(*args, **kwargs)

    parameters = list(inspect.signature(function).parameters.values())[1:]
    call.__signature__ = inspect.signature(function).replace(parameters=parameters)  # type: ignore[attr-defined]
    return call


def while_it_runs(name: str, **options: Any) -> Callable[..., Any]:
    def call(**kwargs: Any) -> Any:
        job = Job(lambda: body(kwargs), label="a", **options)
        Scheduler(job).run()
        return job.result()

    async def body(kwargs: dict[str, Any]) -> None:
        getattr(current_job(), name)(**kwargs)

    parameters = list(inspect.signature(getattr(Job, name)).parameters.values())[1:]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def used(amount: Any) -> Any:
    job = Job(
        at_once, lambda: current_job().used(api=amount), label="a", needs={"api": 1}
    )
    Scheduler(job, pool=trioflow.Pool(api=trioflow.Rate(requests=1, per=1))).run()
    return job.result()


def explored(
    make_scheduler: Any,
    *,
    seed: Any = 1,
    check: Any = None,
    faults: Any = FAULTS,
    backends: Any = ("asyncio",),
) -> Any:
    return explore(
        make_scheduler, runs=2, seed=seed, check=check, faults=faults, backends=backends
    )


def calls() -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """Yield the callables: name, function, and the arguments that it needs, by the names of parameters."""
    one = {"function": nothing}
    yield "AbstractJob", trioflow.AbstractJob, {}
    yield "Job", Job, one
    yield "Service", trioflow.Service, one
    yield "ThreadJob", trioflow.ThreadJob, {"function": os.getpid}
    yield "ProcessJob", trioflow.ProcessJob, {"function": os.getpid}
    yield "CommandJob", trioflow.CommandJob, {"command": ["true"]}
    yield (
        "CommandService",
        trioflow.CommandService,
        {"command": ["true"], "ready": PortOpen(1)},
    )
    yield "PortOpen", PortOpen, {"number": 1}
    yield "OutputLine", trioflow.OutputLine, {"text": "ready"}
    yield "CommandSucceeds", trioflow.CommandSucceeds, {"command": ["true"]}
    yield "SshJob", trioflow.SshJob, {"node": "node", "command": "true"}
    yield (
        "SshService",
        trioflow.SshService,
        {"node": "node", "command": "true", "ready": trioflow.OutputLine("ready")},
    )
    yield "SshNode", trioflow.SshNode, {"hostname": "node"}
    yield "SshNodes", trioflow.SshNodes, {"nodes": ["node"]}
    yield "LocalNode", trioflow.LocalNode, {}
    yield "Push", trioflow.Push, {"sources": "here", "to": "there"}
    yield "Pull", trioflow.Pull, {"sources": "there", "to": "here"}
    yield "Script", trioflow.Script, {"path": "script", "args": "a"}
    yield "ScriptText", trioflow.ScriptText, {"text": "true", "args": "a"}
    yield "Scheduler", Scheduler, {}
    yield "First", trioflow.First, {}
    yield "Answer", trioflow.Answer, {"question": "why?"}
    yield "Retry", trioflow.Retry, {"times": 1}
    yield "Budget", trioflow.Budget, {"amount": 1}
    yield "PerKey", trioflow.PerKey, {"limit": 1}
    yield "Sequence", trioflow.Sequence, {}
    yield "Adaptive", trioflow.Adaptive, {"minimum": 1, "maximum": 2}
    yield "Pool", lambda *, cpu: trioflow.Pool(cpu=cpu), {"cpu": 1}
    yield "Rate", lambda *, per, burst, requests: trioflow.Rate(per=per, burst=burst, requests=requests), {
        "per": 1, "burst": 1, "requests": 1,
    }  # fmt: skip
    yield "Throttled", trioflow.Throttled, {"key": "api"}
    yield "Journal", trioflow.Journal, {"path": "run.db"}
    yield "Monitor", trioflow.Monitor, {}
    yield "Events", trioflow.Events, {"file": "events"}
    yield "JUnit", trioflow.JUnit, {"path": "junit.xml"}
    yield "simulate", trioflow.simulate, {"scheduler": home()}
    yield "ref", trioflow.ref, {"value": Job(nothing)}
    for name, needed in METHODS.items():
        yield f"scheduler.{name}", method(home, name), needed
    yield "view.save", trioflow.view.save, {"source": home(), "path": "graph.mmd"}
    yield "view.listing", trioflow.view.listing, {"scheduler": home()}
    for name, needed in QUERIES.items():
        yield (
            f"graph.{name}",
            getattr(trioflow.graph, name),
            {"scheduler": home(), **needed},
        )
    yield "job.requires", method(lambda: Job(nothing, label="a"), "requires"), {}
    yield "job.progress", while_it_runs("progress"), {}
    yield "job.used", lambda *, api: used(api), {"api": 1}
    yield (
        "sequence.requires",
        method(lambda: trioflow.Sequence(Job(nothing, label="a")), "requires"),
        {},
    )
    yield "sequence.append", method(trioflow.Sequence, "append"), {}
    yield "abc.JobKind", JobKind, {}
    yield "abc.BoxStyle", kind, {"name": "boxed"}
    yield "testing.explore", explored, {"make_scheduler": home}
    yield "testing.run_virtual", run_virtual, {"async_fn": nothing}


def kind(
    *, name: str, shape: Any = "box", brackets: Any = ("[", "]"), rounded: Any = False
) -> type:
    return type("Boxed", (JobKind,), {}, box=BoxStyle(name, shape, brackets, rounded))


METHODS: dict[str, dict[str, Any]] = {
    "run": {}, "add": {"job": None}, "update": {"jobs": ()}, "remove": {"job": None}, "explain": {"job": None},
    "iterate_jobs": {}, "graph": {}, "map": {"function": one, "iterables": ([1],)}, "list": {}, "debrief": {},
}  # fmt: skip
"""The methods of a scheduler, with the arguments that they need."""

QUERIES: dict[str, dict[str, Any]] = {
    "entry_jobs": {}, "exit_jobs": {}, "keep_only": {"jobs": ()}, "predecessors": {"jobs": None},
    "successors": {"jobs": None}, "topological_order": {},
}  # fmt: skip
"""The functions of `trioflow.graph`, with the arguments that they need beside a scheduler."""


ELSEWHERE = {
    "CommandResult": "made by a command", "Trace": "takes nothing",
    "current_job": "takes nothing", "current_scheduler": "takes nothing", "job": "has the options of Job",
}  # fmt: skip
"""What is public and not called here, with the reason."""

ANY = {
    "args": "what the function gets",
    "default": "what is returned in place of a result",
    "key": "what tells a job apart in a journal",
    "version": "what a journal compares",
}
"""Parameters that take any value, with the reason."""


@dataclass(frozen=True)
class Rejected:
    call: str
    parameter: str
    value: str  # its name in `VALUES`
    error: BaseException

    def __str__(self) -> str:
        return f"{self.call}({self.parameter}={self.value}): {type(self.error).__name__}: {self.error}"

    @property
    def is_clear(self) -> bool:
        """Return whether a check rejected it, with an error that names the call or the parameter."""
        *_, (frame, _) = traceback.walk_tb(self.error.__traceback__)
        place = frame.f_code.co_filename
        in_job = place == __file__ and self.call.startswith(
            "job."
        )  # errors of jobs are without frames of the engine
        words = str(self.error).lower()
        names = self.parameter.rstrip("s"), self.call.rpartition(".")[2].lower()
        return (
            isinstance(self.error, (TypeError, ValueError, KeyError))
            and (in_job or place.startswith(PACKAGE))
            and any(name in words for name in names)
        )


def parameters(
    function: Callable[..., Any], known: set[str]
) -> list[inspect.Parameter]:
    return [
        one
        for one in inspect.signature(function).parameters.values()
        if one.name not in known | ANY.keys()
        and one.kind is not one.VAR_KEYWORD
        and not one.name.startswith("_")
    ]


def attempt(
    function: Callable[..., Any],
    signature: inspect.Signature,
    arguments: dict[str, Any],
) -> BaseException | None:
    args, kwargs = [], {}
    for one in signature.parameters.values():
        if one.name in arguments:
            given = arguments[one.name]
            if one.kind is one.VAR_POSITIONAL:
                args += given if isinstance(given, tuple) else (given,)
            elif one.kind is one.POSITIONAL_ONLY:
                args.append(given)
            else:
                kwargs[one.name] = given
    try:
        made = function(*args, **kwargs)
        if isinstance(made, Iterator):
            list(made)
    except Exception as error:
        return error
    return None


def walked() -> Iterator[tuple[str, str, list[Rejected]]]:
    known: set[str] = set()
    for name, function, needed in calls():
        signature = inspect.signature(function)
        is_kind = isinstance(function, type) and issubclass(
            function, trioflow.AbstractJob
        )
        for one in parameters(function, known if is_kind else set()):
            found = [
                Rejected(name, one.name, value, error)
                for value, given in VALUES.items()
                if (error := attempt(function, signature, {**needed, one.name: given}))
                is not None
            ]
            yield name, one.name, found
        if name == "AbstractJob":  # every other kind has the same
            known = set(inspect.signature(trioflow.AbstractJob).parameters)


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Direct files of the calls into a directory of their own, and hide their output."""
    logging.disable()
    try:
        with (
            tempfile.TemporaryDirectory() as directory,
            contextlib.chdir(directory),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        logging.disable(logging.NOTSET)


@functools.cache
def walk() -> list[tuple[str, str, list[Rejected]]]:
    with aside():
        return list(walked())


def test_bad_input_is_rejected_by_a_check_that_names_the_parameter() -> None:
    """A deliberate check rejects each bad value; no error comes from deep inside, or from the value itself."""
    assert [
        str(one) for _, _, rejected in walk() for one in rejected if not one.is_clear
    ] == []


def test_an_object_of_a_foreign_type_is_rejected() -> None:
    taken = [
        f"{call}({parameter})"
        for call, parameter, rejected in walk()
        if "object" not in {one.value for one in rejected}
    ]
    assert taken == [
        "ref(value)",
        "abc.JobKind(arguments)",
    ]  # what a function or a kind of one's own gets


def is_to_be_tried(thing: object) -> bool:
    """Return whether users call this with values of their choice: not an error, an enumeration or a record."""
    is_made_by_trioflow = isinstance(thing, type) and (
        issubclass(thing, (BaseException, enum.Enum, tuple))
        or dataclasses.is_dataclass(thing)
    )
    return callable(thing) and not is_made_by_trioflow


def test_each_public_callable_is_tried_with_bad_input() -> None:
    public = {
        name for name in trioflow.__all__ if is_to_be_tried(getattr(trioflow, name))
    }
    assert public - {call for call, _, _ in walk()} == ELSEWHERE.keys()
