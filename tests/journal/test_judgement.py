"""The judgement of recorded work: each row of the table in `_judgement`, and which row comes first."""

import itertools

import pytest
from trioflow.journal._judgement import Evidence, Finding, judge
from trioflow.journal._requirement_forms import NOTHING, Counted
from trioflow.journal._store import StoredJob

RECORDED = StoredJob("a", "work", "json", "1", None, None, run=3, restored=None, settled=30.0, took=1.0, why=None)
BEFORE, SINCE = Counted("b", 1, (2, 20.0), None), Counted("b", 1, (3, 31.0), "'b' has run since")


@pytest.mark.parametrize(
    ("record", "fingerprint", "required", "is_cut", "finding"),
    [
        (None, "work", NOTHING, False, Finding.NO_RECORD), (RECORDED, "work", NOTHING, False, Finding.MATCHES),
        (RECORDED, "work", BEFORE, False, Finding.MATCHES), (RECORDED, "work", SINCE, False, Finding.DIFFERS),
        (RECORDED, "other", NOTHING, False, Finding.DIFFERS), (RECORDED, "work", NOTHING, True, Finding.DIFFERS),
    ],
)  # fmt: skip
def test_a_record_matches_with_the_same_fingerprint_and_no_requirement_that_has_run_since(
    record: StoredJob | None, fingerprint: str, required: Counted, is_cut: bool, finding: Finding
) -> None:
    """With requirements left out, nothing matches before what changed has been sought."""
    assert judge(Evidence(record, fingerprint, required, is_cut)) is finding


def test_the_first_row_that_holds_decides() -> None:
    """An ambiguous path is never stored, whatever else is true; a record of this run restores nothing."""
    rows = (Finding.AMBIGUOUS, Finding.RAN_BEFORE, Finding.DAMAGED)
    for *holds, has_moved in itertools.product((False, True), repeat=4):
        for record in (None, RECORDED):
            is_ambiguous, was_used, is_damaged = holds
            found = judge(Evidence(record, "work", NOTHING, False, is_ambiguous, was_used, is_damaged, has_moved))
            missing = Finding.MOVED if has_moved else Finding.NO_RECORD
            last = missing if record is None else Finding.MATCHES
            assert found is next((row for row, is_so in zip(rows, holds, strict=True) if is_so), last)
