"""`ref(value)`: an argument that is passed as it is, in each place in which a value can stand, and to each reader."""

import functools
import gc
import json
import logging
import pathlib
import pickle
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
import anyio
import pytest
from trioflow import (
    Answer,
    CommandJob,
    Job,
    ProcessJob,
    Scheduler,
    Service,
    SshJob,
    ThreadJob,
    job,
    ref,
)
from trioflow._core.job._labels import TEXTS
from trioflow.abc import JobKind, arguments_of
from trioflow.view import listing
from ...bodies import fail, nap
from ...conftest import Virtual


class Pair(NamedTuple):
    first: Any
    second: Any


class Unsearched(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("the list is searched")


async def give() -> str:
    return "given"


async def take(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def take_in_thread(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


async def serve(*args: Any, task_status: Any, **kwargs: Any) -> None:
    task_status.started((args, kwargs))
    await anyio.sleep_forever()


class Kind(JobKind[Any]):
    async def co_run(self) -> Any:
        return arguments_of(self), {}


class Silent(Kind):
    async def co_run(self) -> None: ...


async def ignore(*args: Any) -> None: ...


Make = Callable[[Any], Any]
PLACES: dict[str, tuple[Make, Callable[[Any, Any], Any]]] = {
    "positional": (lambda value: Job(take, 1, value), lambda args, _: args[1]),
    "keyword": (
        lambda value: Job(take, kwargs={"x": value}),
        lambda _, kwargs: kwargs["x"],
    ),
    "in a list": (
        lambda value: Job(take, [value, Job(give)]),
        lambda args, _: args[0][0],
    ),
    "in a dict": (
        lambda value: Job(take, kwargs={"x": {"y": (value,)}}),
        lambda _, kwargs: kwargs["x"]["y"][0],
    ),
    "of a partial": (
        lambda value: Job(functools.partial(take, value)),
        lambda args, _: args[0],
    ),
    "of @job": (lambda value: job(take)(value), lambda args, _: args[0]),
    "keyword of @job": (
        lambda value: job(take)(x=value),
        lambda _, kwargs: kwargs["x"],
    ),
    "of map": (
        lambda value: Scheduler().map(take, [value])[0],
        lambda args, _: args[0],
    ),
    "of a thread": (
        lambda value: ThreadJob(take_in_thread, value),
        lambda args, _: args[0],
    ),
    "of a service": (lambda value: Service(serve, value), lambda args, _: args[0]),
    "of one's own kind": (lambda value: Kind(value), lambda args, _: args[0]),
}
VALUES: dict[str, Callable[[], Any]] = {
    "job": lambda: Job(give, label="other"), "scheduler": lambda: Scheduler(Job(give)),
    "list of jobs": lambda: [Job(give)], "set": lambda: {Job(give)}, "named tuple": lambda: Pair(1, Job(give)),
    "generator": lambda: (item for item in "ab"), "text of a job": lambda: str(Job(give)), "atom": lambda: 7,
    "what cannot be searched": Unsearched,
}  # fmt: skip


@pytest.mark.sampled
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", PLACES)
def test_ref_passes_any_value_as_it_is(place: str, value: str, backend: Any) -> None:
    """What `ref` wraps is not searched, nor rejected, and is the very object that the function gets."""
    make, find = PLACES[place]
    wanted = VALUES[value]()
    asking = make(ref(wanted))
    assert not [
        one for one in asking.required if one is wanted or one.label != "give()"
    ]
    scheduler = asking.scheduler or Scheduler(asking, Job(give, required=asking))
    assert scheduler.run(backend=backend)
    assert find(*asking.result()) is wanted


def test_ref_of_ref_is_ref() -> None:
    asking = Job(take, ref(ref(7)))
    assert Scheduler(asking).run(backend="asyncio")
    assert asking.result() == ((7,), {})


# The label of a partial shows its arguments only if they are searched; a kind makes its own label.
@pytest.mark.parametrize(
    "place",
    [place for place in PLACES if place not in ("of a partial", "of one's own kind")],
)
def test_labels_show_the_value(place: str) -> None:
    make, _ = PLACES[place]
    assert make(ref("text")).label == make("text").label
    assert make(ref([1, 2])).label == make([1, 2]).label
    assert "ref" not in listing(
        make(ref("text")).scheduler or Scheduler(make(ref("text")))
    )


def test_labels_and_keys_of_map_get_the_value() -> None:
    labels = [
        one.label
        for one in Scheduler().map(take, [ref("a"), ref("b")], label="page {}")
    ]
    keys = [
        one.key for one in Scheduler().map(take, [ref("a"), ref("b")], key=str.upper)
    ]
    assert (labels, keys) == (["page a", "page b"], ["A", "B"])


def test_ref_where_nothing_can_be_filled_in_is_rejected() -> None:
    for hidden in ({ref(7)}, Pair(1, ref(7)), {ref(7): 1}, iter([ref(7)])):
        with pytest.raises(TypeError, match=r"'?ref\(7\)'? is .*'take'.* plain list"):
            Job(take, hidden)


def test_ref_where_no_function_is_called_is_named() -> None:
    """Commands, questions and options take texts, in which nothing is searched: the error shows the placeholder."""
    for make in (
        lambda: CommandJob(["echo", ref("x")]),
        lambda: CommandJob(["echo"], env={"X": ref("x")}),
        lambda: CommandJob(["cat"], stdin=ref(b"x")),
        lambda: Answer(ref("sure?")),
        lambda: SshJob("node", ref("ls")),
        lambda: Job(take, required=ref(7)),  # type: ignore[arg-type]
        lambda: Job(take, label=ref("x")),
    ):
        with pytest.raises(TypeError, match=r"ref\("):
            make()


def test_ref_is_not_sent_to_another_process() -> None:
    with ThreadPoolExecutor(1) as executor:
        called = ProcessJob(
            take_in_thread, ref([1]), kwargs={"x": ref({2})}, processes=executor
        )
        assert Scheduler(called).run(backend="asyncio")
    assert called.result() == (([1],), {"x": {2}})
    sent = ProcessJob(pickle.dumps, ref([1, 2]))
    unsent = ProcessJob(len, ref([Job(give)]))
    assert not Scheduler(sent, unsent, log=False).run(backend="asyncio")
    assert pickle.loads(sent.result()) == [1, 2]
    assert "argument 1, a list, cannot be sent" in str(unsent.raised_exception())


@pytest.mark.parametrize(
    "make", [functools.partial(Job, ignore), Silent], ids=["function", "kind"]
)
def test_journals_know_the_value(make: Any, backend: Any, tmp_path: Path) -> None:
    """The fingerprint of a value is the same with `ref` and without; a job counts as an object, by its path."""

    def run(*values: Any) -> list[bool]:
        jobs = [
            make(value, label=f"job {number}") for number, value in enumerate(values)
        ]
        assert Scheduler(jobs, log=False).run(
            backend=backend, journal=str(tmp_path / "run.db")
        )
        return [one.restored for one in jobs]

    other = Job(give, label="other")
    assert (
        run([1, 2], ref({"a": 1}), ref(other), ref(item for item in "ab"))
        == [False] * 4
    )
    assert run(ref([1, 2]), {"a": 1}, ref(other), ref(item for item in "ab")) == [
        True,
        True,
        True,
        False,
    ]
    assert run(ref([1, 3]), {"a": 2}, ref(Job(give, label="another")), 7) == [False] * 4


# --- A text that is made of a job is no input, so it is an error where it is given to another job


async def ask(*prompts: Any, **options: Any) -> tuple[Any, ...]:
    return prompts, options


async def serves(*prompts: Any, task_status: Any) -> None:
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
    "partial as a value": lambda plan: Job(
        ask, functools.partial(ask, prompt=f"{plan}")
    ),
    "thread": lambda plan: ThreadJob(print, f"{plan}"),
    "process": lambda plan: ProcessJob(print, f"{plan}"),
    "service": lambda plan: Service(serves, f"{plan}"),
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
    cures = {
        Job(ask, label="plan"): r"give the job itself, as in Job\(f, job\)",
        group: r"give .* ref\(scheduler\)",
    }
    for plan, cure in cures.items():
        with pytest.raises(
            TypeError, match=f"the text of 'plan', which is not its result: {cure}"
        ):
            WAYS[way](plan)


def test_the_arguments_of_a_coroutine_object_are_searched_for_texts() -> None:
    plan = Job(ask, label="plan")
    coroutine = ask(f"{plan}")
    with pytest.raises(TypeError, match="the text of 'plan'"):
        Job(coroutine)
    coroutine.close()


def test_a_running_job_s_text_raises_and_a_settled_one_s_does_not(
    virtual: Virtual,
) -> None:
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
    assert (before, texts, f"{first}") == (
        "<Job first, idle>",
        ["log: <Job first, running>"],
        "<Job first, succeeded>",
    )
    assert not second.required


def test_what_is_no_text_of_a_job_is_accepted(caplog: pytest.LogCaptureFixture) -> None:
    """Log lines, labels, and texts that only look like that of a job are not rejected."""
    plan = Job(ask, label="plan")
    logging.getLogger("test").warning("starting %s", plan)
    assert caplog.messages == ["starting <Job plan, idle>"]
    jobs = [
        Job(
            ask,
            "<Job other, idle>, <Job plan, running>, <Job plan>, plan, <b>, idle>" * 9,
        ),
        Job(ask, f"after {plan.label}", label=f"after {plan}"),
        CommandJob(["echo", plan, plan.label]),
    ]
    assert [len(job.required) for job in jobs] == [0, 0, 1]
    scheduler = Scheduler(gone := Job(ask, label="gone"))
    text = f"{gone}"
    del gone, scheduler
    gc.collect()
    assert not Job(ask, text).required


def test_the_text_of_a_job_that_was_made_in_place_is_refused() -> None:
    """Nothing but the text is left of the job when the text is looked up: it was once passed on as it is."""
    for make in (
        lambda: f"sum up {Job(ask, 'x')}",
        lambda: str(Job(ask, 1, label="plan")),
        lambda: [f"{Job(ask, 2)}"],
    ):
        with pytest.raises(
            TypeError,
            match=r"is given the text <Job .*, idle>, and nothing has that job to run it",
        ):
            Job(ask, make())
    with pytest.raises(TypeError, match="is given the text"):
        CommandJob(["echo", f"{Job(ask, 'x')}"])
    assert Job(ask, "x").label


def test_the_texts_of_few_lost_jobs_are_kept() -> None:
    gc.collect()
    before = len(TEXTS)
    texts = [f"{Job(ask, number, label=f'lost {number}')}" for number in range(300)]
    assert len(TEXTS) <= before + 100
    assert not Job(ask, texts[0]).required
    with pytest.raises(TypeError, match="lost 299"):
        Job(ask, texts[-1])


def test_no_text_of_a_job_is_made_by_a_run(virtual: Virtual) -> None:
    gc.collect()
    known = dict(TEXTS)
    scheduler = Scheduler(bad := Job(fail), Job(nap, bad), Scheduler(Job(nap)))
    assert not virtual(scheduler.co_run)
    scheduler.list()
    scheduler.debrief()
    assert dict(TEXTS) == known


@pytest.mark.parametrize(
    "label", ["echo `touch ran`", "$(touch ran)", '"; touch ran; "', "$HOME"]
)
def test_the_text_of_a_job_is_harmless_in_a_shell(
    tmp_path: pathlib.Path, label: str
) -> None:
    """The text of a job once had its label between backquotes, which a shell runs as a command."""
    text = repr(CommandJob(["echo", label], label=label))
    for line in (f'echo "{text}"', f"echo {text}"):
        subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, check=False, capture_output=True
        )
    assert [*tmp_path.iterdir()] == []
