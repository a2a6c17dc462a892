"""Which test holds a promise of a page: look for the words of the page here.

The table has promises whose tests are hard to find by their names. If the words of a page change, or a test moves, it
follows."""

import pytest
from ..mutation.__main__ import ROOT

PROMISES = [
    ("explained/endings.md", "then [services](../kinds/services.md), each before the services that it uses",
     "run/test_memory.py::test_a_later_service_ends_before_what_it_uses_by_a_dropped_job"),
    ("explained/endings.md", "Objects that the jobs [shared](../kinds/own.md#the-run-in-progress)",
     "job/test_user_defined_kinds.py::test_an_object_shared_by_a_run_is_made_once_and_closed_last"),
    ("explained/failures.md", "A failure that `await job` raises does not count",
     "scheduler/test_run_outcome.py::test_a_failure_that_an_await_raises_belongs_to_whoever_awaits"),
    ("explained/failures.md", "share a line after a second",
     "run/test_failure_log.py::test_further_failures_of_kind_are_logged_as_count"),
    ("explained/growing.md", "an iteration ends before the run is held",
     "scheduler/test_map_and_as_settled.py::test_as_settled_ends_before_a_hold"),
    ("explained/growing.md", "It ends when only forever jobs and jobs that iterate like this are left",
     "scheduler/test_map_and_as_settled.py::test_jobs_that_iterate_over_all_jobs_do_not_wait_for_each_other"),
    ("explained/growing.md", "If it has the only slot, or all others await it, the log says so after a second",
     "scheduler/test_awaiting.py::test_an_iteration_over_jobs_that_wait_for_it_logs_a_warning"),
    ("explained/limits.md", "Jobs of one run get tokens in the order of asking",
     "run/test_windows.py::test_runs_get_tokens_in_the_order_in_which_they_asked"),
    ("explained/limits.md", "nor take a second token: both raise a `RuntimeError`",
     "run/test_windows.py::test_a_job_that_takes_a_token_of_its_window_again_fails_at_once"),
    ("explained/limits.md", "at any depth, takes one of its **tokens** while the job runs",
     "run/test_windows.py::test_one_token_is_enough_at_any_depth"),
    ("explained/rates.md", "the jobs that start in any `per` seconds take no more",
     "run/test_rates.py::test_without_a_burst_no_interval_has_more_than_allowed"),
    ("explained/rates.md", "corrects the amount that this attempt took, up or down",
     "run/test_rates.py::test_used_corrects_the_amount_of_a_rate_in_both_directions"),
    ("explained/runs-again.md", "Different jobs with the same label are not stored",
     "journal/test_growing.py::test_of_jobs_with_one_name_none_is_stored"),
    ("explained/runs-again.md", "A requirement that did not succeed counts by its state",
     "journal/test_requirements.py::test_a_requirement_that_did_not_succeed_counts_by_its_state"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("page", "words", "test"),
    PROMISES,
    ids=[test.split("::")[1] for _, _, test in PROMISES],
)
def test_a_promise_stands_on_its_page_and_has_its_test(
    page: str, words: str, test: str
) -> None:
    text = " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
    assert words in text, f"{page} says it in other words; see {test}"
    file, name = test.split("::")
    assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
