"""Whoever tells of a failure names the job that has failed itself, by its path: groups have members of equal labels."""

import copy
import csv
import functools
import io
import json
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    Budget,
    Events,
    First,
    Job,
    PerKey,
    Rate,
    Retry,
    Scheduler,
    Service,
    SshNode,
    Trace,
    granted,
)
from trioflow.view import save
from trioflow.view.look._process_record import describe_process
from ..bodies import Flaw, nap
from ..bodies import fail as fail_later
from ..conftest import Virtual


async def fail(_: object = None) -> None:
    await anyio.sleep(1)
    raise Flaw("broken")


def deep(critical: bool | None) -> Scheduler:
    """Return a group of groups, in which all jobs have the label of their group, or of each other."""
    for group in (inner := Scheduler(Job(fail, label="x"), label="x"),):
        group.critical = group.critical_jobs = critical
    middle = Scheduler(
        inner, Job(nap, label="y"), label="y", critical=critical, critical_jobs=critical
    )
    return Scheduler(
        middle,
        Job(nap, label="x"),
        label="z",
        critical=critical,
        critical_jobs=critical,
    )


@pytest.mark.parametrize("critical", [None, True])
def test_the_log_names_the_job_that_has_failed_however_deep_it_is(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, critical: bool | None
) -> None:
    """Once for itself, and, if it is critical, once for each group that it ends."""
    scheduler = Scheduler(deep(critical), label="home")
    with pytest.raises(Flaw) as caught:
        virtual(functools.partial(scheduler.co_run, check="first"))
    about = [
        record.getMessage()
        for record in caplog.records
        if record.getMessage().startswith("'z")
    ]
    ends = (
        [f"{path!r} failed because of 'z/y/x/x'" for path in ("z/y/x", "z/y", "z")]
        if critical
        else []
    )
    assert [
        text.partition(":" if number == 0 else ";")[0]
        for number, text in enumerate(about)
    ] == [
        "'z/y/x/x' failed",
        *ends,
    ]
    assert caught.value.__notes__ == ["raised by the job 'z/y/x/x' of 'home'"]
    assert list(scheduler.failures()) == [
        job for job in scheduler.iterate_jobs() if job.path == "z/y/x/x"
    ]


def test_the_log_counts_jobs_that_failed_alike_by_name(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    retry = Retry(1, first=0.1, jitter=False)
    for labels, alike in (
        (
            "ab",
            [
                "one more job failed with Flaw like 'a/x': 'b/x'",
                "2 more jobs failed with Flaw like 'a/x': 'a/x', 'b/x'",
            ],
        ),
        ("a", ["'a/x' failed once more with Flaw"]),
    ):
        caplog.clear()
        groups = [
            Scheduler(Job(fail, label="x"), label=label, retry=retry)
            for label in labels
        ]
        virtual(Scheduler(groups, Job(nap, 9)).co_run)
        assert caplog.messages[1:-1] == alike


def test_the_refusal_of_another_try_names_the_job_and_what_stands_in_its_way(
    virtual: Virtual,
) -> None:
    async def again() -> None:
        await group.wait_settled()
        with pytest.raises(
            RuntimeError,
            match=r"try_again\(\) of 'x': it is in 'group', which is succeeded, and keeps its winners",
        ):
            broken.try_again()

    broken = Job(fail, label="x")
    group = First(broken, Job(nap, 2), label="group")
    assert virtual(Scheduler(group, Job(again), log=False).co_run)


@pytest.mark.parametrize("ends", [True, False])
def test_the_value_of_a_service_is_that_with_which_it_was_ready(
    virtual: Virtual, ends: bool
) -> None:
    """Whatever its function returns, before or after its users, or at its cancellation."""

    async def serve(*, task_status: Any) -> str:
        task_status.started("ready")
        if not ends:
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                return "cancelled"
        return "returned"

    async def use(value: str) -> str:
        await anyio.sleep(1)
        return f"{value} {service.result()}"

    service = Service(serve)
    user = Job(use, service)
    assert virtual(Scheduler(user).co_run)
    assert (user.result(), service.result()) == ("ready ready", "ready")


def test_the_winners_of_a_first_that_is_tried_again_come_in_the_order_of_their_ends(
    virtual: Virtual,
) -> None:
    ends = iter([False, True])

    async def win(seconds: float) -> float:
        await anyio.sleep(seconds)
        if seconds == 3 and not next(ends):
            raise Flaw
        return seconds

    async def again() -> None:
        await group.wait_settled()
        group.try_again()

    group = First(*(Job(win, seconds) for seconds in (2, 3, 1)), enough=3)
    assert virtual(Scheduler(group, Job(again), log=False).co_run)
    assert group.result() == [1, 2, 3]


# --- Values of options say in their `repr` all that they were made of: another argument makes another one
def is_busy(error: Exception) -> bool:
    return isinstance(error, OSError)


MADE: list[
    tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], dict[str, Any]]
] = [
    (
        Retry,
        (3,),
        {},
        {"first": 2.0, "factor": 3.0, "cap": 9.0, "jitter": False, "on": OSError},
    ),
    (
        Retry,
        (None,),
        {},
        {"first": 0.0, "factor": 1.0, "cap": 1.0, "on": (OSError, ValueError)},
    ),
    (Retry, (None,), {}, {"first": 1 / 3, "on": is_busy}),
    (trioflow.Adaptive, (1, 4), {}, {"slower_on": (trioflow.Throttled,)}),
    (Rate, (), {"requests": 5, "per": 1e7 / 3}, {"tokens": 1e9 / 3}),
    (Rate, (), {"requests": 5, "per": 60}, {"burst": 2, "give_up": 5.0, "tokens": 9.0}),
    (Rate, (), {"requests": 5, "per": 60}, {"give_up": None}),
    (PerKey, (2,), {}, {"gap": 1.5, "sizes": {"slow.org": 1}}),
    (
        PerKey,
        (Rate(requests=1, per=2),),
        {},
        {"sizes": {"slow.org": Rate(requests=1, per=9)}},
    ),
    (Budget, (5.0,), {}, {}),
    (Budget, (0.25,), {}, {}),
    (Budget, (1e9 / 3,), {}, {}),
    (trioflow.PortOpen, (5432,), {}, {"host": "db"}),
    (trioflow.OutputLine, ("ready",), {}, {}),
    (
        trioflow.CommandSucceeds,
        (["pg_isready", "-q"],),
        {},
        {"cwd": "/tmp", "env": {"A": "1"}},
    ),
    (
        SshNode,
        ("db",),
        {},
        {"username": "ann", "port": 23, "identity": "key", "gateway": SshNode("gate")},
    ),
    (trioflow.LocalNode, (), {}, {"directory": "x"}),
    (granted, ("gpu",), {}, {}),
]
"""Each kind, with the arguments that it needs, and others, each of which makes another value."""


def public_values(value: object) -> dict[str, str]:
    found = {name: getattr(value, name) for name in dir(value) if name[0] != "_"}
    return {
        name: repr(each)
        for name, each in found.items()
        if not callable(each) or isinstance(each, type)
    }


@pytest.mark.parametrize(("kind", "args", "needed", "others"), MADE)
def test_the_repr_of_a_value_makes_an_equal_one(
    kind: Callable[..., Any],
    args: tuple[Any, ...],
    needed: dict[str, Any],
    others: dict[str, Any],
) -> None:
    """With no other argument, with each alone, and with all of them; a `Retry` is also compared, copied and pickled."""
    values = [
        kind(*args, **needed),
        *(kind(*args, **{**needed, name: value}) for name, value in others.items()),
    ]
    together = {
        name: value
        for name, value in others.items()
        if (name, kind) != ("tokens", Rate)
    }
    values.append(kind(*args, **needed, **together))
    names = {name: getattr(trioflow, name) for name in trioflow.__all__} | {
        "is_busy": is_busy
    }
    for value in values:
        made = eval(repr(value), names.copy())
        assert repr(made) == repr(value)
        assert public_values(made) == public_values(value)
        if isinstance(value, Retry):
            assert (
                value == made == copy.copy(value) == pickle.loads(pickle.dumps(value))
            )
            assert hash(made) == hash(value)
    assert len(set(map(repr, values))) == len(
        {*others, "", *(["all"] if len(together) > 1 else [])}
    )
    if kind is Retry:
        assert len(set(values)) == len(values)


# --- A column, a field or a key has the name of the attribute whose value it is: one word, one number
OTHER = {
    "attempts": "a span has the start of each",
    "critical": "what the option means for the job, which the scheduler's default decides",
    "exception": "a text",
    "required": "numbers or paths",
    "settled": "the time, and not whether it is",
}
"""Columns whose values are told in another form than the attribute has."""


@pytest.fixture
def jobs(backend: str, tmp_path: Path) -> dict[str, Any]:
    """Jobs of each end, and what each table says about them, by path: of a run, and of one that restores."""
    tables: dict[str, Any] = {}

    async def flaky() -> int:
        await anyio.sleep(0.01)
        if job.attempts < 3:
            raise OSError
        look()
        return 1

    def look(_: object = None) -> None:
        tables.setdefault("look", []).extend(
            row for run in describe_process()["runs"] for row in run["running"]
        )

    job = Job(flaky, retry=Retry(5, first=0.02), label="flaky", expected_duration=2.0)
    command = trioflow.CommandJob(["true"], label="command", on_start=look)
    group = Scheduler(
        Job(fail_later, label="bad", critical=False), label="group", forever=False
    )
    members: list[trioflow.AbstractJob[Any]] = [
        job,
        command,
        group,
        Job(fail_later, label="worse", critical=False, required=job),
    ]
    trace, lines, journal = Trace(), io.StringIO(), tmp_path / "run.db"
    scheduler = Scheduler(members, log=False, label="run")
    scheduler.run(backend=backend, instruments=[trace, Events(lines)], journal=journal)
    save(trace, tmp_path / "trace.csv")
    save(trace, tmp_path / "trace.json")
    with (tmp_path / "trace.csv").open(newline="") as file:
        tables["CSV"] = [*csv.DictReader(file)]
    tables["trace"] = json.loads((tmp_path / "trace.json").read_text())["record"][
        "spans"
    ]
    tables["events"] = [json.loads(line) for line in lines.getvalue().splitlines()]
    with closing(sqlite3.connect(journal)) as db:
        db.row_factory = sqlite3.Row
        tables["journal"] = [dict(row) for row in db.execute("SELECT * FROM jobs")]
    tables["jobs"] = {each.path: each for each in scheduler.iterate_jobs()}
    tables["spans"] = {span.path: span for span in trace.spans}
    return tables


def plain(value: Any) -> Any:
    """Return a value as it can be compared: CSV has texts, and rounds."""
    if isinstance(value, str):
        value = {"True": True, "False": False}.get(value, value)
        try:
            value = float(value)
        except ValueError:
            return value
    return pytest.approx(value, abs=1e-8) if isinstance(value, float) else value


def test_a_column_has_the_name_of_the_attribute_whose_value_it_is(
    jobs: dict[str, Any],
) -> None:
    """The column `elapsed` of two tables was 3.0, where `job.elapsed` was 23.0 and `job.took` 3.0."""
    wrong, compared = [], set()
    for table in ("CSV", "trace", "events", "look", "journal"):
        for row in jobs[table]:
            known = [
                subjects[row["path"]]
                for subjects in (jobs["jobs"], jobs["spans"])
                if row.get("path") in subjects
            ]
            told = [
                name
                for name, value in row.items()
                if isinstance(value, float | int | str) and value != ""
            ]
            for column in {*told} - OTHER.keys():
                for subject in known:
                    value = getattr(subject, column, known)
                    if value is known or callable(value):
                        continue
                    compared.add(f"{table} {column}")
                    if plain(row[column]) != plain(value) and [row[column]] != [value]:
                        wrong.append(
                            (table, column, type(subject).__name__, row[column], value)
                        )
    assert wrong == [], wrong
    named = {
        "CSV took",
        "CSV waited",
        "journal took",
        "events state",
        "events expected_duration",
        "look forever",
    }
    assert {*named, "trace label", "journal path"} <= compared, compared
    job = jobs["jobs"]["flaky"]
    assert job.took < job.elapsed
    assert job.took == jobs["spans"]["flaky"].took
