"""What a `Cluster` asks of its client, and what it makes of each answer, without a cluster."""

import asyncio
import gc
import operator
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import pytest
import trioflow.dask
from trioflow import Job, ProcessJob, Scheduler, current_scheduler
from trioflow.dask import LOAD_ERROR_PREFIX, Cluster, ClusterResult

pytest.importorskip("cloudpickle")


class Future:
    """The future of a call, which has ended when it was made."""

    def __init__(self, key: str, status: str, value: Any) -> None:
        self.key, self.status, self.value = key, status, value
        self.type = type(value)
        self.cancelled = 0

    def add_done_callback(self, callback: Callable[[object], object]) -> None:
        callback(self)

    def exception(self) -> Any:
        return self.value

    def cancel(self) -> None:
        self.cancelled += 1


class Client:
    """A client of no cluster: it makes each call at once, and notes it."""

    def __init__(self, name: str = "tcp://one") -> None:
        self.asynchronous, self.status = False, "running"
        self.scheduler = SimpleNamespace(address=name)
        self.loop = SimpleNamespace(add_callback=self.add_callback)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.futures: dict[str, Future] = {}
        self.gathered: list[str] = []
        self.ending = "finished"
        self.error: BaseException | None = None

    def scheduler_info(self) -> None: ...

    def submit(
        self,
        function: Any,
        pickled: bytes,
        kwargs: Any,
        *args: Any,
        key: str,
        **options: Any,
    ) -> Future:
        name, _, number = key.rpartition("-")
        assert len(bytes.fromhex(number)) == 16
        shown = tuple(arg.key if isinstance(arg, Future) else arg for arg in args)
        self.calls.append((name, shown, {**kwargs, **options}))
        value: Any = self.error
        if value is None:
            values = [getattr(arg, "value", arg) for arg in args]
            value = function(pickled, kwargs, *values)
        status = "error" if self.error else self.ending
        self.futures[key] = Future(f"{name}#{len(self.calls)}", status, value)
        return self.futures[key]

    def gather(self, future: Future, asynchronous: bool = False) -> Any:
        self.gathered.append(future.key)

        async def get() -> Any:
            return future.value

        if self.ending == "lost":
            raise OSError("no cluster")
        return get() if asynchronous else future.value

    def add_callback(self, function: Callable[[], Any]) -> None:
        thread = threading.Thread(target=lambda: asyncio.run(function()))
        thread.start()
        thread.join()


def call(function: Any, *inputs: Any, **options: Any) -> ProcessJob[Any]:
    return ProcessJob(function, *inputs, **options)


def take(*_: Any, **__: Any) -> str:
    return "taken"


async def local(value: Any) -> Any:
    return value


def test_results_stay_where_all_their_users_are_called(backend: Any) -> None:
    """A value is fetched if a job elsewhere uses it, or none; what was fetched is not sent back if its job keeps it."""
    client, other = Client(), Client("tcp://two")
    stays = call(operator.add, 1, 2, label="stays")
    both = call(operator.mul, 3, 4, label="both")
    dropped = call(operator.sub, 9, 4, label="dropped", keep_result=False)
    abroad = call(operator.pow, 2, 5, label="abroad")
    more = {"more": abroad}
    used = call(take, stays, both, dropped, kwargs=more, label="used")
    here = Job(local, both, label="here")
    too = Job(local, dropped, label="too")
    there = call(operator.neg, abroad, processes=Cluster(other), label="there")
    jobs = [stays, both, dropped, abroad, here, too, used.requires(here, too), there]
    scheduler = Scheduler(jobs, processes=Cluster(client))
    assert scheduler.run(backend=backend)
    names = {name: number for number, (name, *_) in enumerate(client.calls, 1)}
    (_, arguments, options) = client.calls[-1]
    assert arguments == (f"add#{names['add']}", f"mul#{names['mul']}", 5)
    assert options["more"].key == f"pow#{names['pow']}"
    assert client.gathered.count(f"add#{names['add']}") == 0
    assert sorted(key.partition("#")[0] for key in client.gathered) == [
        "mul", "pow", "sub", "take"
    ]  # fmt: skip
    assert [call[:2] for call in other.calls] == [("neg", (32,))]
    assert stays.result() == 3
    assert client.gathered.count(f"add#{names['add']}") == 1


def test_a_journal_gets_each_value(backend: Any, tmp_path: Path) -> None:
    client = Client()
    first = call(operator.add, 1, 2)
    second = call(operator.neg, first)
    unsaved = call(operator.pos, first, save=None)
    last = call(operator.neg, unsaved)
    scheduler = Scheduler(first, second, unsaved, last, processes=Cluster(client))
    assert scheduler.run(backend=backend, journal=tmp_path / "run.db")
    fetched = sorted(key.partition("#")[0] for key in client.gathered)
    # All but the one that is not stored, which only another call uses.
    assert fetched == ["add", "neg", "neg"]
    assert (second.result(), last.result()) == (-3, -3)


def test_the_cluster_may_drop_its_values_when_the_run_has_ended(backend: Any) -> None:
    client = Client()
    job = call(operator.add, 1, 2)
    scheduler = Scheduler(job, Job(local, job), processes=Cluster(client))
    assert scheduler.run(backend=backend)
    (kept,) = map(weakref.ref, client.futures.values())
    client.futures.clear()
    gc.collect()
    assert kept() is None
    assert job.result() == 3


def test_a_call_gets_the_variables_of_its_run(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trioflow.dask, "propagated_env", lambda: {"X_Y": "1"})
    job = call(os.getenv, "X_Y")
    assert Scheduler(job, processes=Cluster(Client())).run(backend=backend)
    assert (job.result(), os.environ.get("X_Y")) == ("1", None)


def test_a_job_that_is_added_late_has_no_rank(backend: Any) -> None:
    client = Client()

    async def add() -> None:
        current_scheduler().add(call(operator.neg, 1, expected_duration=5))

    first = call(operator.pos, 1, expected_duration=2)
    scheduler = Scheduler(first, Job(add, required=first), processes=Cluster(client))
    assert scheduler.run(backend=backend)
    priorities = [options["priority"] for _, _, options in client.calls]
    assert priorities[0] > 2
    assert priorities[1] == 0


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ({}, (None, None)),
        ({"resources": {}, "workers": []}, (None, None)),
        ({"resources": {"GPU": 1}, "workers": "w1"}, ({"GPU": 1}, ["w1"])),
        ({"workers": ("w1", "w2")}, (None, ["w1", "w2"])),
    ],
)
def test_options_of_a_cluster_are_those_of_each_call(
    backend: Any, given: dict[str, Any], passed: tuple[Any, Any]
) -> None:
    """The jobs with the longest path to the end come first."""
    client = Client()
    last = call(operator.neg, 1, label="last", expected_duration=2)
    first = call(operator.pos, 1, label="first", expected_duration=5)
    last.requires(first)
    alone = call(operator.abs, 1, label="alone", expected_duration=4)
    scheduler = Scheduler(last, first, alone, processes=Cluster(client, **given))
    assert scheduler.run(backend=backend)
    assert {name: options["priority"] for name, _, options in client.calls} == {
        "pos": 7, "neg": 2, "abs": 4
    }  # fmt: skip
    for _, _, options in client.calls:
        assert (options["resources"], options["workers"]) == passed
        assert options["pure"] is False


MODULE_NOTE = "must be able to import {}: install it there, or call client.upload_file"


@pytest.mark.parametrize(
    ("error", "module"),
    [
        (OSError("broken"), None),
        (ModuleNotFoundError("no x", name="x"), "x"),
        (ModuleNotFoundError("no x"), "tests.test_dask_calls"),
        (RuntimeError(f"{LOAD_ERROR_PREFIX}: ..."), "tests.test_dask_calls"),
    ],
)
def test_an_error_of_a_call_is_that_of_the_job(
    backend: Any, error: Exception, module: str | None
) -> None:
    client = Client()
    client.error = error
    job = call(take, label="a")
    assert not Scheduler(job, processes=Cluster(client)).run(backend=backend)
    assert job.raised_exception() is error
    notes = [note for note in getattr(error, "__notes__", []) if "cluster" in note]
    assert len(notes) == (module is not None)
    if module is not None:
        assert MODULE_NOTE.format(module) in notes[0]
    assert [future.cancelled for future in client.futures.values()] == [0]


CLOSED = "'a': its Dask client is closed: close it after the run"
LOST = "'a': the connection to the Dask scheduler at tcp://one was lost: "


@pytest.mark.parametrize(
    ("status", "ending", "said", "calls"),
    [
        ("closed", "finished", CLOSED, 0),
        ("closing", "finished", CLOSED, 0),
        ("connecting", "finished", LOST, 0),
        ("running", "cancelled", "'a': its future is cancelled: another client", 1),
        ("running", "lost", "'a': its future is lost: another client", 1),
        ("running then closed", "cancelled", CLOSED, 1),
        ("running then connecting", "lost", LOST, 1),
    ],
)
def test_a_lost_call_says_what_was_lost(
    backend: Any, status: str, ending: str, said: str, calls: int
) -> None:
    client = Client()
    before, _, after = status.partition(" then ")
    client.status, client.ending = before, ending
    if after:
        submit = client.submit

        def submit_and_lose(*arguments: Any, **options: Any) -> Future:
            future = submit(*arguments, **options)
            client.status = after
            return future

        client.submit = submit_and_lose  # type: ignore[method-assign]
    job = call(take, label="a")
    assert not Scheduler(job, processes=Cluster(client)).run(backend=backend)
    error = job.raised_exception()
    assert isinstance(error, RuntimeError)
    assert str(error).startswith(said)
    assert len(client.calls) == calls
    # What may still run there is cancelled.
    assert [future.cancelled for future in client.futures.values()] == [
        int(bool(after))
    ] * calls


def test_a_result_that_has_stayed_says_where_it_is() -> None:
    client = Client()
    stored = ClusterResult(client, Future("a", "finished", 3), "tcp://one")
    assert repr(stored) == "<int on the Dask cluster at tcp://one>"
    assert stored.fetch("a") == 3
    client.ending = "lost"
    with pytest.raises(
        RuntimeError, match="'a': its value was kept on the Dask cluster at tcp://one, "
    ):
        stored.fetch("a")
    unknown: Any = SimpleNamespace(type=None)
    assert (
        repr(ClusterResult(client, unknown, "x"))
        == "<a value on the Dask cluster at x>"
    )
