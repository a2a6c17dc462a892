"""A run followed by its events: a monitor shows the same as for the run itself."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, get_args

import anyio
import pytest

from trioflow import Events, Job, Monitor, Pool, Scheduler, Service, Throttled, current_job
from trioflow.view.events._follow import EVENT_HANDLERS, Follower, UnsupportedEventVersion, placeholder_exception
from trioflow.view.events._format import AnyEvent
from trioflow.view.monitor._picture_renderer import PictureRenderer
from trioflow.view.text._symbols import Symbols

from ...bodies import fail, nap
from .lines import run_with

if TYPE_CHECKING:
    from ...conftest import Virtual


def busy_scenario(look: Any = None) -> Scheduler:
    """Return a scenario with all that a monitor shows: services, nesting, failures, attempts, throttling, progress."""
    tries: list[str] = []

    async def serve(*, task_status: Any) -> None:
        task_status.started()
        await anyio.sleep_forever()

    async def flaky() -> None:
        tries.append("flaky")
        await anyio.sleep(1)
        if tries.count("flaky") < 2:
            raise OSError("again")

    async def throttled() -> None:
        tries.append("throttled")
        if tries.count("throttled") == 1:
            raise Throttled("api", after=2)
        await anyio.sleep(1)

    async def watch() -> None:
        await anyio.sleep(2.5)
        if look is not None:
            look()

    async def reports() -> None:
        job = current_job()
        job.progress(0.5)
        await anyio.sleep(4)

    service = Service(serve, label="store")
    inner = Scheduler(*(Job(nap, one, label=f"nap {one}") for one in (1, 2, 3)), label="inner", jobs_window=1)
    broken = Job(fail, 1, label="broken", critical=False)
    return Scheduler(
        service, inner, broken,
        Job(nap, 1, label="blocked", required=broken, run_if="succeeded"),
        Job(flaky, retry=2, label="flaky", required=service),
        Job(throttled, label="throttled", needs={"api": 1}),
        Job(reports, label="reports", expected_duration=4),
        Job(watch, label="watch", forever=True),
        Job(nap, 1, label="after all", required=[inner]),
        label="busy", pool=Pool(api=1),
    )  # fmt: skip


def followed(text: str, file: io.StringIO) -> Follower:
    follower = Follower(Monitor(file=file))
    for line in text.encode().split(b"\n"):
        follower.replay_line(line)
    return follower


def without_times(log: str) -> list[str]:
    return [line.partition(" ")[2] for line in log.splitlines()]


def test_a_log_made_from_events_equals_the_log_of_the_run(virtual: Virtual) -> None:
    """The two logs agree line by line, including the time that each job took."""
    live, told, events = io.StringIO(), io.StringIO(), io.StringIO()
    virtual(run_with, busy_scenario(), Monitor(file=live), Events(events))
    assert followed(events.getvalue(), told).has_ended
    assert without_times(told.getvalue()) == without_times(live.getvalue())
    assert len(without_times(live.getvalue())) > 15


def test_a_picture_made_from_events_equals_the_picture_of_the_run(virtual: Virtual) -> None:
    """In the middle of the run, lines, symbols, counts and the estimate are the same."""
    live: list[Any] = []
    monitor, file = Monitor(file=io.StringIO()), io.StringIO()
    events = Events(file)

    def look() -> None:
        assert monitor._model is not None
        for line in events._poll_jobs():  # in real time it would have been looked at twice a second
            events._write_line(line)
        live.append(PictureRenderer(monitor._model, Symbols()).draw(100, 30))

    virtual(run_with, busy_scenario(look), monitor, events)
    told = Monitor(file=io.StringIO())
    follower = Follower(told)
    for line in file.getvalue().splitlines():
        event = json.loads(line)
        if event["at"] > 2.5 or (event["path"], event["event"]) == ("watch", "job_finished"):
            break  # when the picture was made, this had not happened
        follower.replay_line(line.encode())
    assert told._model is not None
    follower._latest_event_at = 2.5
    shown = PictureRenderer(told._model, Symbols()).draw(100, 30)
    follower.close()
    assert shown == live[0]
    assert len(shown) > 10


def test_lines_that_are_no_events_are_skipped() -> None:
    """Printed output of jobs, cut lines and unknown events of a later version are skipped."""
    follower = Follower(Monitor(file=io.StringIO()))
    for line in (
        b"hello",
        b"",
        b'{"event": "job_sta',
        b"[1]",
        b'{"event":"new","v":1,"time":1,"at":0,"path":""}',
        b"\xff",
    ):
        follower.replay_line(line)
    assert follower.known_event_count == 0


def test_events_of_an_unsupported_version_raise() -> None:
    """The error names the version found."""
    follower = Follower(Monitor(file=io.StringIO()))
    with pytest.raises(UnsupportedEventVersion, match="version 2"):
        follower.replay_line(b'{"event":"run_started","v":2}')


def test_jobs_whose_events_were_dropped_get_placeholders(virtual: Virtual) -> None:
    """A slow reader gets only part of the lines: here every third is missing, except for the first and last ones."""
    events = io.StringIO()
    virtual(run_with, busy_scenario(), Events(events))
    lines = events.getvalue().splitlines()
    kept = [line for number, line in enumerate(lines) if number % 3 or number in (0, len(lines) - 1)]
    told = io.StringIO()
    assert followed("\n".join(kept), told).has_ended


def test_a_run_whose_process_is_gone_is_abandoned() -> None:
    """A dead process will write nothing more; a living one may."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid, expected in ((gone.pid, True), (os.getpid(), False)):
        follower = Follower(Monitor(file=io.StringIO()))
        event = {"event": "run_started", "v": 1, "time": 1, "at": 0, "path": "", "label": "x", "jobs": 0}
        follower.replay_line(json.dumps({**event, "pid": pid, "host": os.uname().nodename}).encode())
        assert follower.is_abandoned() is expected
        follower.close()


def test_a_killed_run_is_shown_as_not_ended(virtual: Virtual) -> None:
    """The last line must not claim success just because nothing has failed."""
    events, told = io.StringIO(), io.StringIO()
    virtual(run_with, Scheduler(Job(nap, 1, label="a"), Job(nap, 2, label="b"), label="all"), Events(events))
    *lines, _, _ = events.getvalue().splitlines()  # without the end of b, and that of the run
    followed("\n".join(lines), told).close()
    assert "all  ✗ has not ended, 1 of 2 jobs succeeded, 1.0 s; 1 succeeded, 1 running" in told.getvalue()


def test_two_runs_in_a_file_are_shown_one_after_the_other() -> None:
    """One `Events` object appends its second run to the file."""
    events, told = io.StringIO(), io.StringIO()
    scheduler, instrument = Scheduler(Job(nap, 0, label="a"), label="twice"), Events(events)
    scheduler.run(instruments=[instrument])
    scheduler.run(instruments=[instrument])
    assert followed(events.getvalue(), told).has_ended
    assert told.getvalue().count("twice: 1 job") == 2


def test_a_placeholder_exception_has_the_type_name_from_the_event() -> None:
    """An event has only the name of the type and the text, which may be anything."""
    assert repr(placeholder_exception("OSError: no: way")) == "OSError('no: way')"
    assert repr(placeholder_exception("Flaw")) == "Flaw()"
    assert str(placeholder_exception("not a name: x")) == "not a name: x"


def test_every_event_type_is_in_the_table_of_handlers() -> None:
    """An event type added later fails here until it is handled or skipped on purpose."""
    assert set(EVENT_HANDLERS) == set(get_args(AnyEvent))


@pytest.mark.parametrize("kept", ["all but the first", "no failure", "every third", "the first and the last"])
def test_a_file_with_missing_lines_shows_the_verdict_of_the_run(virtual: Virtual, kept: str) -> None:
    """The last line has the counts and the number of lines; no time shown is negative."""
    file, shown = io.StringIO(), io.StringIO()
    groups = [Scheduler(*(Job(nap, 1 + n, label=f"{g}{n}") for n in range(3)), Job(fail, 2), label=g) for g in "ab"]
    virtual(lambda: Scheduler(*groups, label="run").co_run(instruments=[Events(file)]))
    lines = file.getvalue().encode().splitlines()
    left = {
        "all but the first": lines[1:],
        "no failure": [line for line in lines if b'"failed"' not in line or b"run_ended" in line],
        "every third": [*lines[:-1:3], lines[-1]],
        "the first and the last": [lines[0], lines[-1]],
    }[kept]
    follower = Follower(Monitor(file=shown))
    for line in left:
        follower.replay_line(line)
    follower.close()
    assert "✗ 2 of 8 jobs failed" in shown.getvalue()
    assert " -" not in shown.getvalue()
    assert follower.missing_line_count == len(lines) - len(left)
