"""Runs in which much happens, and all that views for programs and pages say of them: a file for each run.

After a change that users are to see, `python -m tests.view.whole` writes the files anew, and the diff shows what they
will see. All times are virtual, so that a run says the same each time, and on each backend."""

import dataclasses
import functools
import io
import itertools
import json
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock
import anyio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trioflow import (
    Answer,
    Budget,
    Events,
    First,
    Job,
    PerKey,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Service,
    Throttled,
    Trace,
    current_job,
    simulate,
)
from trioflow._core.words._run_view import RunInProgress, runs_in_progress
from trioflow.otel import Tracing
from trioflow.view.events import _nonblocking_writer
from trioflow.view.graph import _dot
from trioflow.view.look import (
    _client,
    _console,
    _job_search,
    _picture,
    _process_record,
    _run_log,
    _steering,
    _watch,
)
from trioflow.view.text._symbols import Symbols
from trioflow.view.trace import _compare, _time_spent, _timeline, _trace_file
from trioflow.view.trace._spans import CommandOutput, CommandRecord, HostFacts
from trioflow.view.trace._trace_record import TraceRecord
from trioflow.view.trace.report import _report
from ..bodies import Flaw, fail, flaky, nap, serve
from ..conftest import Virtual
from ..places import ROOT
from .trace.scenarios import Closing

FOLDER = Path(__file__).parent / "whole"
NOWHERE = Path("/nowhere")
MIDNIGHT = 1_800_000_000.0
"""When a run has begun, in place of the time of day."""
Act = tuple[float, str, Any, str | None]
"""When a word of steering is said, the word, its value, and the path of the group that it is about."""


@dataclasses.dataclass
class Kind:
    """A run, what is said to it, and when it is looked at."""

    make: Callable[[], Scheduler]
    acts: tuple[Act, ...] = ()
    looks: tuple[float, ...] = ()
    has_run_before: bool = False
    commands: Mapping[str, CommandRecord] | None = None
    """Those that jobs are said to have run, by their labels."""
    views: tuple[str, ...] = ()
    """Those that are written of it. All, if there are none."""


# ---- the runs


def unequal() -> Callable[[float], float]:
    """Return what makes each duration longer by another little: what ends at once ends in no promised order."""
    numbers = itertools.count(1)
    return lambda seconds: seconds + next(numbers) ** 2 / 65536


def throttled_twice() -> Callable[[], Awaitable[None]]:
    calls = iter([1.0, 2.0])

    async def call() -> None:
        await anyio.sleep(0.5)
        after = next(calls, None)
        if after is not None:
            raise Throttled("api", after=after)

    return call


async def busy() -> None:
    """Report progress, twice."""
    current_job().progress(0.25)
    await anyio.sleep(1)
    current_job().progress(0.5)
    await anyio.sleep(2)


def ends() -> Scheduler:
    """Return a run in which jobs end in each way, and wait for each thing."""
    t = unequal()
    bad = Job(fail, t(1), label="bad")
    good = Job(nap, t(2), label="good")
    alike = [
        Job(fail, t(n), Flaw(f"number {n}"), label=f"alike {n}", critical=False)
        for n in (1, 2, 3)
    ]
    blocked = [Job(nap, t(1), label=f"after bad {n}", required=bad) for n in (1, 2)]
    far = Job(nap, t(1), label="far behind", required=[*blocked, good])
    one_loser = First(
        Job(fail, t(1), label="x"), Job(nap, t(2), label="y"), label="one loser"
    )
    lost = First(Job(fail, t(1), label="x"), Job(fail, t(2), label="y"), label="lost")
    twice = Scheduler(
        Job(flaky(error=OSError), label="step", critical=True),
        Job(nap, t(3), label="beside"),
        Job(nap, t(0.5), label="before"),
        label="twice",
        retry=1,
    )
    deep = Scheduler(
        Scheduler(Job(nap, t(1), label="a"), Job(fail, t(2), label="b"), label="in"),
        Job(nap, t(1), label="c"),
        label="out",
        jobs_window=1,
    )
    return Scheduler(
        bad,
        good,
        alike,
        blocked,
        far,
        one_loser,
        lost,
        twice,
        deep,
        Scheduler(Job(nap, t(1), label="m"), label="not begun", required=bad),
        Job(nap, t(1), label="not needed", required=good, run_if="failed"),
        Job(nap, t(1), label="alarm", required=bad, run_if="failed"),
        Job(nap, t(9), label="moves on", timeout=t(2), on_timeout="move_on"),
        Job(nap, t(9), label="late", timeout=t(1), retry=1, critical=False),
        Job(
            flaky(2, error=OSError),
            label="again",
            retry=Retry(2, first=t(1), jitter=False),
        ),
        Job(throttled_twice(), label="call", needs={"api": 1}),
        [Job(nap, t(1), label=f"ask {n}", needs={"api": 1}) for n in (1, 2, 3)],
        [Job(nap, t(2), label=f"train {n}", needs={"gpu": 1}) for n in (1, 2, 3)],
        [Job(nap, t(1), label=f"get {n}", needs={"host": "a"}) for n in (1, 2)],
        Job(nap, t(1), label="hide", needs={"host": "secret"}, redact=True),
        [Job(nap, t(1), label=f"pay {n}", needs={"usd": 1}) for n in (1, 2)],
        base := Service(serve, t(1), "address", label="base"),
        Job(nap, t(1), base, label="uses base"),
        Job(anyio.sleep_forever, label="watch", forever=True),
        Job(fail, t(2), label="frail", forever=True, critical=False),
        Closing(label="closes"),
        Job(nap, t(1), label="a/b"),
        Job(nap, t(1), label="same"),
        Job(nap, t(2), label="same"),
        Job(nap, t(1), label=" "),
        Job(nap, t(1), label="=1+1 \x1b[31m<b>&\u202e\n"),
        Job(busy, label="busy"),
        label="ends",
        jobs_window=6,
        timeout=99,
        critical_jobs=False,
        pool=Pool(gpu=1, api=Rate(requests=2, per=3), host=PerKey(1), usd=Budget(1)),
    )


def steered() -> Scheduler:
    t = unequal()
    wait = Job(nap, t(2), label="wait")
    question = Answer("which?\nand why", choices=["a", "b"], label="question")
    secret = Answer("who?", redact=True, label="secret", required=wait)
    mended = Job(flaky(error=Flaw), label="mended")
    group = Scheduler(
        [Job(nap, t(2), label=f"g{n}") for n in range(4)], label="group", jobs_window=1
    )
    return Scheduler(
        wait,
        question,
        secret,
        mended,
        Job(nap, t(1), label="uses mended", required=mended),
        group,
        [Job(nap, t(3), label=f"long {n}") for n in range(4)],
        [Job(nap, t(30), label=f"endless {n}") for n in range(2)],
        label="steered",
        jobs_window=3,
        critical_jobs=False,
    )


def stopped() -> Scheduler:
    """Return a run that a failure in a group ends, while others run, wait, and clean up."""
    t = unequal()
    step = Job(fail, t(2), Flaw("broken"), label="step", critical=True)
    inner = Scheduler(
        step, Job(nap, t(9), label="beside"), label="inner", critical=True
    )
    outer = Scheduler(
        inner, Job(nap, t(1), label="early"), label="outer", critical=True
    )
    return Scheduler(
        outer,
        [Job(nap, t(3), label=f"page {n}") for n in range(5)],
        Job(nap, t(1), label="clean up", required=outer, run_if="settled"),
        Job(nap, t(1), label="last", required=outer),
        Job(anyio.sleep_forever, label="watch", forever=True),
        label="stopped",
        jobs_window=3,
    )


def drained() -> Scheduler:
    t = unequal()
    return Scheduler(
        [Job(nap, t(2), label=f"page {n}") for n in range(4)],
        Job(fail, t(1), label="bad", critical=False),
        label="drained",
        jobs_window=2,
    )


def long() -> Scheduler:
    """Return a run of so many jobs that they share bars, lines and boxes."""
    t = unequal()
    fetch = [Job(nap, t(0.4 + n % 3 + n / 64), label=f"fetch {n}") for n in range(40)]
    parse = [
        Job(fail if n % 9 == 4 else nap, t(0.1), required=job, label=f"parse {n}")
        for n, job in enumerate(fetch)
    ]
    kinds = [Job(nap, t(1), label=name * 3) for name in "abcdefghi"]
    return Scheduler(fetch, parse, kinds, jobs_window=9, keep_jobs=True)


def dropping() -> Scheduler:
    t = unequal()

    async def feed() -> None:
        for number in range(9):
            scheduler.add(
                Job(fail if number == 4 else nap, t(1), label=f"line {number}")
            )
            await anyio.sleep(0.5)

    scheduler = Scheduler(
        Job(feed, label="feed"), keep_jobs=False, jobs_window=3, label="dropping"
    )
    return scheduler


def restored() -> Scheduler:
    """Return a run whose journal has a success, a failure, and a success with another setting."""
    t = unequal()
    good = Job(nap, t(1), label="good", version=1)
    return Scheduler(
        good,
        Job(nap, t(2), good, label="uses good"),
        Job(_fails_at_first, label="bad"),
        Scheduler(Job(nap, t(1), label="in"), label="group"),
        label="restored",
        critical_jobs=False,
    )


def grown() -> Scheduler:
    """Return a run with jobs without labels, to which a group is added, and another after the first has failed."""
    t = unequal()

    async def add() -> None:
        scheduler.add(
            Scheduler(
                Job(fail, t(1), label="deep", critical=True),
                Scheduler(Job(nap, t(1)), label="deeper"),
                Job(nap, t(3), label="beside"),
                label="added",
                retry=1,
                keep_jobs=False,
            )
        )
        await anyio.sleep(4)
        scheduler.add(Scheduler(Job(nap, t(1), label="deep"), label="added"))

    answer = Answer("how many?", label="question")
    forever = Scheduler(Job(nap, t(1)), Job(anyio.sleep_forever), forever=True)
    scheduler = Scheduler(
        Job(add, critical=True),
        Job(nap, t(1)),
        Job(nap, t(2), needs={"gpu": 1}),
        Job(nap, 1, needs={"gpu": 2}),
        Job(nap, t(1), answer, critical=False),
        forever,
        answer,
        [Job(nap, t(0.01), label=f"short {n}") for n in range(3)],
        jobs_window=2,
        policy="fifo",
        pool=Pool(gpu=2),
    )
    return scheduler


has_failed: list[bool] = []


async def _fails_at_first() -> None:
    await anyio.sleep(1)
    if not has_failed:
        has_failed.append(True)
        raise Flaw("once")


COMMANDS = {
    "page 0": CommandRecord("make -j8 '<all>'", 0, 61.5, 1.25, 0.004, 3 << 20),
    "page 1": CommandRecord(
        "x" * 2001,
        255,
        0.0,
        0.0,
        0.0,
        1023,
        (CommandOutput("stdout", "one\ntwo \x1b[31m<b>\n", 0),),
        (("stdout", "/nowhere/out 1.txt"), ("stderr", "/elsewhere/err.txt")),
    ),
    "bad": CommandRecord(
        "kill -9 $$",
        -9,
        1.0,
        0.5,
        0.25,
        None,
        (
            CommandOutput("stdout", " \n", 5),
            CommandOutput("stderr", "first\nlast\n", 5),
        ),
        (("stdout", "/nowhere/in/out.txt"),),
    ),
}
RUNS: dict[str, Kind] = {
    "ends": Kind(ends, looks=(0.13, 2.63, 6.37)),
    "steered": Kind(
        steered,
        acts=(
            (0.37, "pause", None, None),
            (0.38, "pause", None, None),
            (0.63, "resume", None, None),
            (0.64, "resume", None, None),
            (0.71, "window", 0, None),
            (0.72, "window", 1, None),
            (0.73, "window", 2, "group"),
            (0.74, "window", 2, "wait"),
            (0.75, "window", 4, None),
            (0.81, "answer", ("question", "c", None), None),
            (0.82, "answer", ("question", "a", 3), None),
            (0.83, "answer", ("question", "a", None), None),
            (0.84, "answer", ("question", "a", None), None),
            (1.21, "try-again", "mended", None),
            (1.22, "try-again", "wait", None),
            (1.23, "dance", None, None),
            (3.31, "answer", ("secret", "me", None), None),
            (3.41, "cancel", "endless 0", None),
            (3.42, "cancel", "endless 0", None),
            (3.43, "cancel", "endless", None),
            (9.31, "try-again", "mended", None),
            (9.83, "drain", None, None),
            (9.84, "pause", None, None),
            (9.85, "cancel", None, None),
        ),
        looks=(0.5, 1.1, 3.37, 9.5),
    ),
    "stopped": Kind(stopped, looks=(1.37,)),
    "drained": Kind(
        drained,
        acts=((1.37, "drain", None, None),),
        looks=(1.5,),
        commands=COMMANDS,
    ),
    "long": Kind(
        long,
        looks=(1.05,),
        views=("page", "look", "picture", "timeline", "time spent", "report"),
    ),
    "grown": Kind(
        grown,
        acts=((3.31, "answer", ("question", "7", None), None),),
        looks=(0.31, 2.31),
    ),
    "dropping": Kind(dropping, looks=(1.1, 3.1)),
    "restored": Kind(restored, looks=(0.5,), has_run_before=True),
    "empty": Kind(lambda: Scheduler(label="empty")),
    "single": Kind(lambda: Scheduler(Job(nap, 0.5, label="single"), label="run")),
}
OF_A_PLACE = {
    r"[^\"\s]*/site-packages(?=/)": "…/site-packages",
    rf"0x[0-9a-f]+|\b[0-9a-f]{{16}}\b|(?<![\d.])\d{{11,}}\b|{re.escape(str(ROOT))}": "…",
    r"(?<=\.py:)\d+|(?<=, line )\d+|(?<=\.py\", \"number\": )\d+": "N",
    r"(?<=\"line\": )\d+(?=, \"function\")": "N",
    r"\"number\": \d+, (?=\"kind\": \"…)": "",
    r"(?<=`trioflow steer )\d+|(?<=`trioflow look )\d+": "N",
    r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d([+-]\d\d:\d\d)?": "DATE",
    r"(?<=\"restored_at\": )\d+\.\d+": "DATE",
    r"(?<=from )\d{4}-\d\d-\d\d": "DATE",
    r"\b(trio|asyncio)\b(?!\.)": "BACKEND",
}
"""Parts of texts that differ between machines, places in files, and backends, and what stands for them."""


# ---- what is said of them


def lines_of(value: dict[Any, Any]) -> Iterator[str]:
    """Yield the lines of data: one for each part, or for each part of a part with several. Nothing has no line."""
    for name, item in value.items():
        if isinstance(item, (list, tuple, dict)) and len(item) > 1:
            yield f"{name}:"
            parts = item.items() if isinstance(item, dict) else item
            yield from (f"  {line_of(part)}" for part in parts)
        elif item:
            yield f"{name}: {line_of(item)}"


def without_holders(told: Any) -> Any:
    """Return data without the names of the jobs in the slots, which began at once, and stand in no promised order."""
    return json.loads(
        re.sub(r"(?<=is full, with )'.*?(?=\")", "JOBS", json.dumps(told))
    )


def line_of(value: Any) -> str:
    """Return data as a line, without the parts of dicts that are nothing."""
    return json.dumps(without_nothing(value), default=str)


def without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nothing(item) for name, item in value.items() if item}
    if isinstance(value, (list, tuple)):
        return [*map(without_nothing, value)]
    return round(value, 4) if isinstance(value, float) else value


class Told:
    """All that views say of a run, by their names."""

    def __init__(self, kind: Kind, virtual: Virtual) -> None:
        self.texts: dict[str, list[str]] = {}
        self._kind = kind
        self._trace = Trace()
        self._lines = io.StringIO()
        self._events = Events(self._lines)
        self._spans = InMemorySpanExporter()
        nothing = Resource.get_empty()
        provider = TracerProvider(shutdown_on_exit=False, resource=nothing)
        provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self._metrics = InMemoryMetricReader()
        meters = MeterProvider(
            [self._metrics], shutdown_on_exit=False, resource=nothing
        )
        tracing = Tracing(provider, meters)
        self._instruments: list[Any] = [self._trace, self._events, tracing]
        self.scheduler = kind.make()
        has_failed.clear()
        with tempfile.TemporaryDirectory() as folder:
            options: dict[str, Any] = {}
            earlier = None
            if kind.has_run_before:
                options["journal"] = f"{folder}/journal.db"
                before = functools.partial(kind.make().co_run, **options)
                virtual(functools.partial(before, instruments=self._instruments))
                earlier = self.record()
            # A thread would poll now and then, in real time.
            with (
                mock.patch.object(time, "localtime", time.gmtime),
                mock.patch.object(_nonblocking_writer, "POLL_INTERVAL", 1e6),
            ):
                virtual(self._run, options)
        if earlier is not None:
            self._write_comparisons(earlier, self.record())
        self._write_record()
        self._write_events()
        self._write_spans()

    def note(self, view: str, *lines: str) -> None:
        if self._kind.views and view not in self._kind.views:
            return
        said = self.texts.setdefault(view, [])
        text = "\n".join(lines)
        for pattern, stand_in in OF_A_PLACE.items():
            text = re.sub(pattern, stand_in, text)
        if lines:
            said += text.split("\n")

    async def _run(self, options: dict[str, Any]) -> None:
        todo: list[tuple[float, Callable[[], None]]] = []
        todo += [(at, self._look) for at in self._kind.looks]
        for at, word, value, target in self._kind.acts:
            todo.append((at, functools.partial(self._act, word, value, target)))
        self._eye: _watch.Watch | None = None
        self._page = _console.WatchedRun()

        async def watch() -> None:
            now = 0.0
            for at, do in sorted(todo, key=lambda each: each[0]):
                await anyio.sleep(at - now)
                now = at
                do()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await self.scheduler.co_run(instruments=self._instruments, **options)
            tasks.cancel_scope.cancel()
        if self._eye is not None:
            self._ask("the end")
            self._eye.close()

    def _run_in_progress(self) -> RunInProgress:
        [run] = [run for run in runs_in_progress() if run.scheduler is self.scheduler]
        return run

    def _act(self, word: str, value: Any, target: str | None) -> None:
        run = self._run_in_progress()
        seen = _steering._seen_now(run, word, value)
        request = _steering.SteeringRequest(run, word, value, "me", target, None, seen)
        try:
            text = _steering._act(request)
        except (TypeError, ValueError, RuntimeError) as error:
            text = f"{type(error).__name__}: {error}"
        self.note("steering", f"{word} {value} {target}: {text}")

    def _look(self) -> None:
        run = self._run_in_progress()
        if self._eye is None:
            self._eye = _watch.Watch(run)
        self._ask(f"at {run.view.clock():g}")
        record = {"command": ["python", "x.py"], "runs": []}
        told = without_holders(_process_record._describe_run(run, {}))
        record["runs"].append(told)
        for size in ((), (60, 24)):
            self.note("look", "", *_client.text_lines(1, record, *size))
        self.note("look", *lines_of(told))
        for _, line in self._events._poll_jobs():
            event = json.loads(line)
            del event["time"]
            self.note("polled events", line_of(without_holders(event)))
        self.note("metrics", "", *sorted(map(line_of, self._points())))

    def _ask(self, when: str) -> None:
        assert self._eye is not None
        page = self._page
        answer = self._eye.answer()
        answer |= {"seen": "", "host": None if answer["host"] is None else {}}
        answer["wall_offset"] = MIDNIGHT
        answer["began"] = 0.0
        answer = without_holders(answer)
        plain = json.loads(json.dumps(answer))
        plain["jobs"] = list(map(json.loads, plain["jobs"]))
        self.note("answers", "", when, *lines_of(plain))
        page.update(json.loads(json.dumps({"may_steer": True, **answer})))
        is_over = page.answer["is_over"]
        shown = _console.console(page, "", is_over)
        self.note("page", "", when, *lines_of(shown))
        self.note("page", *lines_of(_run_log.log(page, "")))
        picture = _picture.Picture(page)
        if not is_over:
            self._note_lists(page, picture)
        for key in page.jobs:
            told = {}
            if not is_over:
                told = without_holders(self._eye.describe_one(key))
            self.note("jobs", line_of(_console.describe_job(page, key, told)))
        if is_over:
            self._note_picture(page, picture)

    def _note_lists(self, page: Any, picture: Any) -> None:
        for which in ("", "state failed", "state running", "in 1", "box 1"):
            found = _job_search.find_jobs(page, picture, which, "")
            self.note("lists", f"{which}:", *lines_of(found))

    def _note_picture(self, page: Any, picture: Any) -> None:
        """Note the look of all boxes in each form, and the source of the first form that can be read."""
        has_source = False
        for (placing, plan), has_labels in zip(
            picture._plans.items(), (True, False, True, True, True, True), strict=False
        ):
            names = {place: f"n{number}" for number, place in enumerate(plan.titles)}
            picture.plan = plan
            picture.names = names
            picture._has_labels = has_labels
            self.note("picture", str(placing), *lines_of({"": picture.states(page)}))
            if plan.can_be_read(has_labels) and not has_source:
                has_source = True
                writer = _picture.PictureWriter(plan, names, has_labels, "TB")
                self.note("picture", *writer.source().splitlines())

    def _points(self) -> Iterator[list[Any]]:
        data = self._metrics.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        each: Any = point
                        value = getattr(each, "value", None)
                        if value is None:
                            value = each.count, round(each.sum, 6)
                        yield [metric.name, dict(point.attributes or {}), value]

    # ---- after the run

    def record(self) -> TraceRecord:
        record = self._trace._get_record()
        spans = list(record.spans)
        commands: dict[int, CommandRecord] = {}
        for number, span in enumerate(spans):
            command = (self._kind.commands or {}).get(span.label)
            if command is not None:
                commands[number] = command
                spans[number] = dataclasses.replace(
                    span,
                    returncode=command.returncode,
                    user_time=command.user_time,
                    system_time=command.system_time,
                    max_rss=command.max_rss,
                )
            if span.restored_at is not None:
                spans[number] = dataclasses.replace(span, restored_at=MIDNIGHT)
        return dataclasses.replace(
            record,
            spans=tuple(spans),
            commands=commands,
            printed=dict.fromkeys([*commands][1:], "printed\nas well <b>\n"),
            host=HostFacts("host", "system", "versions"),
            wall_offset=MIDNIGHT,
        )

    def _write_record(self) -> None:
        record = self.record()
        self.note("csv", *_trace_file.csv_text(record).splitlines())
        trace = json.loads(_trace_file.json_text(record))
        graphs = trace["record"].pop("stored_graphs")
        for graph in graphs:
            self.note("graph", *lines_of(graph))
        self.note("trace", *lines_of(trace["record"]))
        self.note("trace", *map(line_of, trace["traceEvents"]))
        self.note("trace", line_of(trace["otherData"]))
        self.note("timeline", *picture_lines(_timeline.timeline_svg(record)))
        spent = _time_spent.compute_time_spent(record)
        self.note("time spent", str(spent))
        for field in dataclasses.fields(spent):
            self.note("time spent", f"{field.name}: {getattr(spent, field.name)}")
        for part in _time_spent.critical_path_parts(record):
            self.note("time spent", str(part))
        with mock.patch.object(_dot, "render", return_value=b"<svg></svg>"):
            page = _report.report_html(record, NOWHERE)
        self.note("report", *page_lines(page))
        run = _console.WatchedRun()
        run.take_record(record)
        with mock.patch.object(time, "localtime", time.gmtime):
            shown = _console.console(run, "", has_ended=True)
            self.note("page of the trace", *lines_of(shown))
            self.note("page of the trace", *lines_of(_run_log.log(run, "", 8)))
            self.note("page of the trace", *lines_of(_console.ending(record)))
            for key in run.jobs:
                about = _console.describe_job(run, key, {})
                self.note("page of the trace", line_of(about))
        try:
            simulation = simulate(self._kind.make(), durations=self._trace)
        except ValueError as error:
            self.note("simulation", str(error))
            return
        for field in dataclasses.fields(simulation):
            value: Any = getattr(simulation, field.name)
            if isinstance(value, Mapping):
                value = {job.path: seconds for job, seconds in value.items()}
            if isinstance(value, tuple):
                value = [job.path for job in value]
            if field.name != "timeline":
                self.note("simulation", f"{field.name}: {value}")

    def _write_comparisons(self, *records: TraceRecord) -> None:
        first, second = map(_compare.run_times, records)
        for comparison in (
            _compare.compare(first, second),
            _compare.compare(second, first),
            _compare.compare(first, first),
        ):
            lines = _compare.comparison_lines(comparison, Symbols())
            self.note("comparison", "", *lines)

    def _write_events(self) -> None:
        for line in self._lines.getvalue().splitlines():
            event = json.loads(line)
            if event["event"] not in ("job_waiting", "job_progress"):
                for name in ("time", "pid", "host", "lines"):
                    event.pop(name, None)
                self.note("events", line_of(event))

    def _write_spans(self) -> None:
        spans = self._spans.get_finished_spans()
        names = {span.context.span_id: span.name for span in spans}
        for span in spans:
            self.note(
                "spans",
                json.dumps(
                    [
                        span.name,
                        span.parent and names.get(span.parent.span_id, "none"),
                        [names.get(link.context.span_id) for link in span.links],
                        dict(span.attributes or {}),
                        [
                            [
                                event.name,
                                {
                                    name: value
                                    for name, value in (event.attributes or {}).items()
                                    if name != "exception.stacktrace"
                                },
                            ]
                            for event in span.events
                        ],
                        str(span.status.status_code),
                        span.status.description,
                    ]
                ),
            )
        self.note("metrics", "", *sorted(map(line_of, self._points())))


def picture_lines(svg: str) -> list[str]:
    """Return the elements of a picture, without its style."""
    bare = re.sub("<style>.*?</style>", "", svg, flags=re.DOTALL)
    return bare.replace("><", ">\n<").splitlines()


def page_lines(page: str) -> list[str]:
    """Return the lines of a report, without its styles, its script and its timeline."""
    bare = re.sub(
        r"<style>.*?</style>|<script>.*?</script>|<svg .*?</svg>|sha256-[^']*",
        "",
        page,
        flags=re.DOTALL,
    )
    bare = re.sub(r'(?<=\]\]|\d\]),(?=\[")|(?<=[\]}]),(?=")', ",\n", bare)
    return [line for line in bare.splitlines() if line.strip()]


def _is_cancelled(line: str) -> bool:
    return '"cancelled"' in line


def text_of(told: Told) -> str:
    lines: list[str] = []
    for view, said in told.texts.items():
        lines.append(f"# {view}")
        for are_cancelled, some in itertools.groupby(said, _is_cancelled):
            part = list(some)
            if are_cancelled:
                # What is cancelled at once ends in no promised order.
                part.sort()
            lines += part
        lines.append("")
    return "\n".join(lines)


def write_all() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, kind in RUNS.items():
        text = text_of(Told(kind, Virtual("trio")))
        (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_all()
