"""Verdicts: their numbers add up, and they say how many jobs a journal has restored, and from when."""

import functools
import io
import re
import time
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import Job, Monitor, Retry, Scheduler, StopReason, Trace, current_job
from trioflow.abc import Restoration, restoration_of
from trioflow.view import save
from trioflow.view.text._verdict import FOREVER_KEY, TALLY_KEYS, RestoredJobs, Tally, create_verdict, failures_text
from ...cli.command_line import trioflow
from ...conftest import Virtual

NOON = 1795521600.0
"""A time on 2026-11-24, in every time zone but the outermost."""


async def squared(number: int) -> int:
    return number**2


async def trained(epoch: int) -> int:
    if current_job().attempts == 1:
        raise ConnectionError("not yet")
    await anyio.sleep(125)
    return epoch


def test_a_verdict_says_how_many_jobs_were_restored_and_from_when(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The debrief and `trioflow journal` have the date of the run that ran the restored jobs."""
    for number in (1, 2):
        jobs = [Job(squared, item) for item in range(number)]
        scheduler = Scheduler(*jobs, journal=tmp_path / "run.db")
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: NOON)
            assert virtual(functools.partial(scheduler.co_run))
    assert restoration_of(jobs[0]) == Restoration(NOON, 0.0)
    assert restoration_of(jobs[1]) is None
    verdict = "✓ all 2 jobs succeeded (1 restored from 2026-11-24)"
    assert verdict in trioflow("journal", tmp_path / "run.db").output
    scheduler.debrief()
    assert verdict in capsys.readouterr().out


def test_verdict_says_what_time_was_saved(virtual: Virtual, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All views add up what the restored jobs worked when they ran: monitor, debrief, `trioflow journal`, trace. To
    wait between two attempts is no work."""
    said, retry = ", 4 min 10 s saved)", Retry(1, first=60, jitter=False)
    for number in (2, 3):
        scheduler = Scheduler(
            *(Job(trained, epoch, retry=retry) for epoch in range(number)), journal=tmp_path / "run.db"
        )
        trace, log = Trace(), io.StringIO()
        assert virtual(functools.partial(scheduler.co_run, instruments=[trace, Monitor(file=log)]))
        assert (said in log.getvalue()) is (number == 3)
    assert said in trioflow("journal", tmp_path / "run.db").output
    scheduler.debrief()
    assert said in capsys.readouterr().out
    save(trace, tmp_path / "report.html")
    assert said in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_times_of_restored_jobs_are_described_by_their_dates() -> None:
    """Jobs of several days have the first and the last of them; times that are no dates are left out."""
    restored = RestoredJobs()
    assert restored.describe() == ""
    for settled_at in (None, 1e300, -1e300, float("nan")):
        restored.add(settled_at, None)
    assert restored.describe() == "4 restored"
    for day in (0, 2, 1):
        restored.add(NOON + day * 86400, None)
    assert restored.describe() == "7 restored from 2026-11-24 to 2026-11-26"


# --- the numbers in a verdict add up to the number of jobs, whatever has become of them

OTHERS = r"(\d+) (?:failed|blocked|cancelled|skipped|tolerated|never started|running)\b"
COUNTS = st.dictionaries(st.sampled_from([key for key in TALLY_KEYS if key != FOREVER_KEY]), st.integers(1, 40))


@pytest.mark.parametrize("reason", StopReason)
@given(counts=COUNTS)
def test_the_numbers_in_a_verdict_add_up(reason: StopReason, counts: dict[object, int]) -> None:
    """Of 32 jobs, 30 had succeeded and 1 was blocked: nothing said that the other one was cancelled."""
    counts = {key: number for key, number in counts.items() if getattr(key, "value", "") != "running"}
    tally = Tally.from_counts(counts)
    sentence = create_verdict(reason, tally, None).sentence
    total, succeeded, moved_on = tally.job_count, *(counts.get(key, 0) for key in TALLY_KEYS[:2])
    others = sum(map(int, re.findall(OTHERS, sentence)))
    moved = re.search(r"(\d+)(?: jobs?)? moved on", sentence)
    assert others == total - succeeded - moved_on, sentence
    assert (int(moved[1]) if moved else 0) == moved_on, sentence
    for pattern, number in ((r"(\d+) of \d+ jobs? succeeded", succeeded), (r"(?:of| all) (\d+)\b", total)):
        for found in re.findall(pattern, sentence):
            assert int(found) == number, sentence
    assert sum(map(int, re.findall(OTHERS, failures_text(tally)))) == others
