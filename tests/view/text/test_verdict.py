"""The words of a verdict, and the counts that all views share: whole sentences, at the ends of each scale."""

from typing import Any
import pytest
from trioflow._core.base._states import MOVED_ON, JobState, ReportedState, StopReason
from trioflow._core.job._job import Restoration
from trioflow.view.text._verdict import (
    FOREVER_KEY,
    MIN_SAVED_SECONDS,
    TOLERATED_KEY,
    RestoredJobs,
    Tally,
    create_verdict,
    failures_text,
    paused_seconds,
    tally_key,
)
from .tallies import tally

NOON = 1_764_072_000.0  # on 2025-11-25, in UTC
DAY = 86400.0

SENTENCES = """
COMPLETED   |                                     | ✓ nothing to do
COMPLETED   | 2 forever                           | ✓ nothing to do
TIMEOUT     |                                     | ✗ timed out, no job succeeded
COMPLETED   | 1 succeeded                         | ✓ 1 job succeeded
COMPLETED   | 2 succeeded, 1 forever              | ✓ all 2 jobs succeeded
COMPLETED   | 3 succeeded, grows                  | ✓ all 3 jobs succeeded
COMPLETED   | 2 succeeded, 1 restored             | ✓ all 2 jobs succeeded (1 restored, 30 s saved)
COMPLETED   | 2 succeeded, 2 restored             | ✓ all 2 jobs succeeded (2 restored, 1 min saved)
COMPLETED   | 2 succeeded, 1 tolerated            | ✓ 2 of 3 jobs succeeded, 1 failed (tolerated)
COMPLETED   | 2 succeeded, 1 failed               | ✓ 2 of 3 jobs succeeded, 1 failed (did not count)
COMPLETED   | 2 succeeded, 1 skipped              | ✓ 2 of 3 jobs succeeded, 1 skipped
COMPLETED   | 1 moved                             | » 1 job moved on after its timeout
COMPLETED   | 2 moved                             | » 2 jobs moved on after their timeout
COMPLETED   | 1 succeeded, 1 moved                | » 1 succeeded, 1 moved on after its timeout
COMPLETED   | 1 succeeded, 2 moved, 1 skipped     | » 1 of 4 jobs succeeded, 1 skipped, 2 moved on after their timeout
FAILED      | 1 succeeded, 1 failed, 1 moved      | ✗ 1 failed of 3, 1 moved on after its timeout
FAILED|1 failed, 2 blocked, 1 tolerated, 1 idle, 1 scheduled | ✗ 1 failed, 2 blocked, 1 tolerated, 2 never started of 6
FAILED      | 1 succeeded, 1 failed, 1 groups     | ✗ 1 failed of 2, 1 group failed
FAILED      | 1 succeeded, 2 groups               | ✗ 1 job succeeded, 2 groups failed
FAILED      | 1 succeeded, 1 blocked, 1 restored  | ✗ 1 blocked of 2, 1 restored, 30 s saved
FAILED      | 3 succeeded, 1 failed, grows        | ✗ 1 failed
INTERRUPTED | 1 succeeded, 1 failed, 1 restored | ✗ interrupted, 1 failed of 2, 1 succeeded (1 restored, 30 s saved)
INTERRUPTED | 1 failed, 1 cancelled               | ✗ interrupted, 1 failed, 1 cancelled of 2
INTERRUPTED | 3 succeeded, 1 cancelled            | ✗ interrupted, 3 of 4 jobs succeeded, 1 cancelled
DRAINED     | 3 succeeded, 1 idle                 | ✗ drained, 3 of 4 jobs succeeded, 1 never started
CRITICAL    | 1 failed, 3 cancelled               | ✗ stopped by a critical failure, 1 failed, 3 cancelled of 4
TIMEOUT     | 3 succeeded, 1 cancelled, grows     | ✗ timed out, 3 jobs succeeded, 1 cancelled
            | 3 succeeded, 1 failed, 1 running, 4 idle | ✗ has not ended, 1 failed of 9
            | 3 succeeded, 1 running, 4 idle      | ✗ has not ended, 3 of 8 jobs succeeded
"""


@pytest.mark.parametrize("row", SENTENCES.strip().splitlines())
def test_a_verdict_has_all_counts_that_matter(row: str) -> None:
    reason, counts, sentence = (part.strip() for part in row.split("|"))
    why = StopReason[reason] if reason else None
    verdict = create_verdict(why, tally(counts), None)
    symbol = {JobState.FAILED: "✗", MOVED_ON: "»"}.get(verdict.state, "✓")
    assert f"{symbol} {verdict.sentence}" == sentence


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({}, ""),
        ({"seconds": 0.5}, ", 500 ms"),
        ({"seconds": 9.0}, ", 9.0 s"),
        ({"seconds": 90.0, "paused": 0.0}, ", 1 min 30 s"),
        ({"seconds": 9.0, "paused": 2.0}, ", 9.0 s, paused or held for 2.0 s of it"),
    ],
)
def test_a_verdict_ends_with_its_times(options: Any, times: str) -> None:
    counts = tally("1 cancelled, 1 failed")
    seconds = options.get("seconds")
    paused = options.get("paused", 0.0)
    verdict = create_verdict(StopReason.TIMEOUT, counts, seconds, paused=paused)
    assert verdict.sentence == f"timed out, 1 failed, 1 cancelled of 2{times}"


@pytest.mark.parametrize(
    ("reruns", "words"),
    [
        ({"b": 1200}, "1,200 run again, because b"),
        ({"b": 3, "a": 3}, "6 run again: 3 because a; 3 because b"),
        ({"b": 1, "a": 1000, "c": 2}, "1,003 run again: 1,000 because a; 2 because c; 1 for other reasons"),
        ({"b": 2, "a": 5, "c": 1, "d": 2}, "10 run again: 5 because a; 2 because b; 3 for other reasons"),
    ],
)  # fmt: skip
def test_a_verdict_says_why_most_jobs_ran_again(
    reruns: dict[str, int], words: str
) -> None:
    verdict = create_verdict(StopReason.COMPLETED, tally("1 succeeded", reruns), None)
    assert verdict.sentence == f"1 job succeeded, {words}"


COUNTS = """
 | 0 jobs: nothing to do |  | 0 0 0
2 forever | 0 jobs: nothing to do, and 2 forever jobs |  | 0 0 0
1 succeeded, 1 forever | 1 job: 1 succeeded, and 1 forever job |  | 1 1 0
2 succeeded, 1 restored, 1 tolerated | 3 jobs: 2 succeeded (1 restored), 1 failed (tolerated) | 1 tolerated of 3 | 3 3 0
1 succeeded, 1 moved, 1 skipped | 3 jobs: 1 succeeded, 1 moved on, 1 skipped | 1 skipped of 3 | 3 3 0
1 succeeded, 1 failed, 1 groups | 2 jobs: 1 succeeded, 1 failed, 1 group failed | 1 failed of 2, 1 group failed | 2 2 2
2 groups | 0 jobs: nothing to do, 2 groups failed | 2 groups failed | 0 0 2
1 failed, 2 running, 3 scheduled | 6 jobs: 1 failed, 2 running, 3 scheduled | 1 failed, 3 never started of 6 | 1 6 1
3 succeeded, 1 cancelled, grows | 4 jobs so far: 3 succeeded, 1 cancelled | 1 cancelled | 4 4 0
1 idle, 1 blocked | 2 jobs: 1 blocked, 1 idle | 1 blocked, 1 never started of 2 | 1 2 0
"""


@pytest.mark.parametrize("row", COUNTS.strip("\n").splitlines())
def test_counts_are_described_whole(row: str) -> None:
    counts, words, failures, numbers = (part.strip() for part in row.split(" | "))
    found = tally(counts)
    assert found.describe() == words
    assert failures_text(found) == failures
    shown = found.settled_count, found.job_count, found.failure_count
    assert " ".join(map(str, shown)) == numbers


def test_what_has_not_started_is_no_failure_while_a_run_goes_on() -> None:
    going = tally("1 failed, 1 running, 2 idle, 1 scheduled")
    assert failures_text(going, is_over=False) == "1 failed of 5"
    assert failures_text(tally("2 idle"), is_over=False) == ""


@pytest.mark.parametrize("state", [*JobState, MOVED_ON])
def test_a_forever_job_that_did_not_fail_counts_apart(state: ReportedState) -> None:
    """And a failure that is tolerated, of any job."""
    is_failed = state is JobState.FAILED
    assert tally_key(state, False) is state
    assert tally_key(state, True) == (state if is_failed else FOREVER_KEY)
    assert tally_key(state, False, True) == (TOLERATED_KEY if is_failed else state)
    assert tally_key(state, True, True) == (TOLERATED_KEY if is_failed else FOREVER_KEY)


def test_a_part_that_runs_again_is_taken_from_the_counts() -> None:
    """Only the dates of restored jobs stay."""
    whole, part = Tally(), Tally()
    for each in (whole, part):
        each.add_jobs(JobState.SUCCEEDED, number=2)
        each.add_jobs(JobState.FAILED)
        each.add_journal_facts(Restoration(NOON, 5.0), None)
        each.add_journal_facts(None, "a")
        each.failed_groups = 1
    whole.add_jobs(JobState.RUNNING)
    whole.add_journal_facts(Restoration(NOON, 7.0), "b")
    whole.subtract(part)
    assert whole.describe() == "1 job: 1 running"
    assert whole.restored.describe() == "1 restored from 2025-11-25, 7 s saved"
    assert whole.reruns == {"b": 1}
    whole.add_journal_facts(Restoration(NOON, 7.0), "b", -1)
    assert not whole.reruns
    assert whole.restored.describe() == ""
    assert whole.restored.seconds == 0


def test_restored_jobs_have_their_first_and_last_date_and_their_time() -> None:
    restored = RestoredJobs()
    said: list[str] = []
    for settled_at, took in (
        (NOON + DAY, MIN_SAVED_SECONDS / 2),
        (NOON + DAY, MIN_SAVED_SECONDS / 2),
        (NOON + 3 * DAY, None),
        (NOON, 60.0),
        (NOON + 2 * DAY, 1.0),
        (None, 1.0),
    ):
        restored.add(settled_at, took)
        said.append(restored.describe())
    restored.add(NOON, 10.0, -2)
    assert [*said, restored.describe()] == [
        "1 restored from 2025-11-26",
        "2 restored from 2025-11-26, 1 s saved",
        "3 restored from 2025-11-26 to 2025-11-28, 1 s saved",
        "4 restored from 2025-11-25 to 2025-11-28, 1 min 01 s saved",
        "5 restored from 2025-11-25 to 2025-11-28, 1 min 02 s saved",
        "6 restored from 2025-11-25 to 2025-11-28, 1 min 03 s saved",
        "4 restored from 2025-11-25 to 2025-11-28, 43 s saved",
    ]


def test_the_counts_of_a_scheduler_without_idle_jobs_may_grow() -> None:
    """A scheduler that keeps no jobs says so by a count without the state."""
    assert Tally.from_counts({JobState.SUCCEEDED: 1}).may_grow
    assert not Tally.from_counts({JobState.SUCCEEDED: 1, JobState.IDLE: 0}).may_grow
    words = Tally.from_counts({"succeeded": 1, "moved on": 2}, False, failed_groups=1)
    assert words.describe() == "3 jobs: 1 succeeded, 2 moved on, 1 group failed"
    assert words.counts_by_state() == {"succeeded": 1, "moved on": 2}


def test_a_pause_that_goes_on_ends_with_the_run() -> None:
    pauses = [(1.0, 2.0), (4.0, 9.0), (10.0, float("inf"))]
    assert paused_seconds(pauses, 12.0) == 8.0
    assert paused_seconds([], 12.0) == 0.0


def test_a_verdict_names_what_has_stopped_the_run() -> None:
    counts = tally("1 failed, 3 cancelled")
    verdict = create_verdict(StopReason.CRITICAL, counts, None, "a failure of x")
    assert verdict.sentence == "stopped by a failure of x, 1 failed, 3 cancelled of 4"
    assert create_verdict(None, tally(""), None, noun="command").sentence == (
        "has not ended, no command succeeded"
    )
