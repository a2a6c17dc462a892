"""Nested schedulers in `list` and `listing`: every state, critical or forever, with results and
exceptions, at any depth.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import anyio

from trioflow import AbstractJob, Job, Scheduler
from trioflow.abc import Instrument
from trioflow.view import listing
from trioflow.view.text._symbols import ASCII_SYMBOLS, UNICODE_SYMBOLS

from ....bodies import fail_now, give_now, printed
from ....conftest import Virtual
from ..golden import answer


class ListingAtStart(Instrument):
    """An instrument that keeps the listing of the moment when a job starts."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.seen = self.in_ascii = ""

    def job_started(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        if job.label == self.label:
            while scheduler.scheduler is not None:
                scheduler = scheduler.scheduler
            self.seen = listing(scheduler, details=True)
            self.in_ascii = printed(scheduler, "ascii", details=True)


def scenario() -> Scheduler:
    """Return nested schedulers that reach every state."""
    fine = Scheduler(Job(give_now, "値", label="漢字"), label="fine")
    bad = Scheduler(Job(fail_now, KeyError("k"), label="bad"), critical_jobs=True, label="raised", required=fine)
    blocked = Scheduler(Job(answer, label="a"), label="blocked", required=bad)
    skipped = Scheduler(Job(answer, label="b"), run_if="failed", label="skipped", required=fine)
    deep = Scheduler(Job(anyio.sleep, math.inf, label="long"), Job(answer, label="now"), label="deep", critical=True)
    running = Scheduler(deep, label="running", required=[blocked, skipped], run_if="settled")
    waiting = Scheduler(Job(answer, label="c"), label="scheduled", required=[blocked, skipped], run_if="settled")
    watch = Scheduler(Job(anyio.sleep, math.inf, label="w"), label="watch", forever=True)
    never = Scheduler(Job(answer, label="d"), label="idle", required=waiting)
    return Scheduler(fine, bad, blocked, skipped, running, waiting, watch, never, jobs_window=1, label="all")


DURING = """
01    ✓    > <Scheduler fine>       -> entries={02}  -> True
02    ✓      <Job 漢字>             -> '値'
01     end < <Scheduler fine>       exits={02}
03    ▸ ∞  > <Scheduler watch>      -> entries={04}
04    ▸      <Job w>
03     end < <Scheduler watch>      exits={04}
05    ✗    > <Scheduler raised>     requires={01} -> entries={06}  !! KeyError: 'k'
06  ! ✗      <Job bad>              !! KeyError: 'k'
05     end < <Scheduler raised>     exits={06}
07    ⤼    > <Scheduler skipped>    requires={01} run_if=failed -> entries={08}
08    ·      <Job b>
07     end < <Scheduler skipped>    exits={08}
09    ⊗    > <Scheduler blocked>    requires={05} -> entries={10}  !! BLOCKED
10    ·      <Job a>
09     end < <Scheduler blocked>    exits={10}
11    ▸    > <Scheduler running>    requires={07, 09} run_if=settled -> entries={12}
12  ! ▸      > <Scheduler deep>     -> entries={13, 14}
13    ▸        <Job long>
14    ▸        <Job now>
12       end < <Scheduler deep>     exits={13, 14}
11     end < <Scheduler running>    exits={12}
15    ◦    > <Scheduler scheduled>  requires={07, 09} run_if=settled -> entries={16}  no free slot
16    ·      <Job c>
15     end < <Scheduler scheduled>  exits={16}
17    ·    > <Scheduler idle>       requires={15} -> entries={18}
18    ·      <Job d>
17     end < <Scheduler idle>       exits={18}
"""


IN_ASCII = {
    **dict(zip(UNICODE_SYMBOLS.all_symbols(), ASCII_SYMBOLS.all_symbols(), strict=True)),
    "漢": r"\u6f22",
    "字": r"\u5b57",
    "値": r"\u5024",
}


def test_the_listing_during_a_run_shows_nested_schedulers_in_all_states(virtual: Virtual) -> None:
    glance = ListingAtStart("now")
    scheduler = scenario()
    virtual(functools.partial(scheduler.co_run, timeout=1, instruments=[glance]))
    blocked = "RequirementFailed: 'blocked' cannot run, because 'raised' failed"
    expected = DURING.replace("BLOCKED", blocked).strip("\n")
    assert glance.seen.splitlines() == expected.splitlines()
    assert glance.in_ascii.split() == expected.translate(str.maketrans(IN_ASCII)).split()
