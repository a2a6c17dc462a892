"""The comparison of apssh's tests over asynciojobs and over trioflow reports every difference."""

from pathlib import Path
import pytest
from . import __main__ as suite


@pytest.mark.parametrize(
    ("theirs", "ours", "good", "said"),
    [
        (
            {"test_a::one": "passed"},
            {"test_a::one": "passed"},
            True,
            "1 pass, 1 of them over ours",
        ),
        (
            {"test_a::one": "passed"},
            {"test_a::one": "failed"},
            False,
            "  differs: test_a::one",
        ),
        ({"test_a::one": "passed"}, {}, False, "  differs: test_a::one"),
        (
            {"test_a::one": "failed"},
            {"test_a::one": "passed"},
            True,
            "  passes over ours alone: test_a::one",
        ),
        (
            {"test_a::one": "failed"},
            {"test_a::one": "failed"},
            False,
            "  fail over both, 1, : test_a::one",
        ),
        (
            {"test_basics::test_x11": "failed"},
            {"test_basics::test_x11": "failed"},
            True,
            "  fail over both, 1, they forward the windows of X11, and this machine has no screen: "
            "test_basics::test_x11",
        ),
    ],
)
def test_comparison_reports_each_difference_and_unexplained_failure(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    theirs: dict[str, str],
    ours: dict[str, str],
    good: bool,
    said: str,
) -> None:
    """A test of apssh that fails over trioflow alone is a difference; one that fails over both needs a reason."""
    found = {"asynciojobs": theirs, "trioflow": ours}
    monkeypatch.setattr(suite, "outcomes", lambda *given: found[given[-1]])
    assert suite.compare(Path(), "", 1) is good
    assert said in capsys.readouterr().out.splitlines()[-1]


def test_outcomes_are_read_from_pytests_report(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(
        "<testsuites><testsuite>"
        "<testcase classname='tests.test_a.Tests' name='good'/>"
        "<testcase classname='tests.test_a.Tests' name='bad'><failure/></testcase>"
        "<testcase classname='tests.test_a.Tests' name='worse'><error/></testcase>"
        "</testsuite></testsuites>"
    )
    found = suite.outcomes_in(tmp_path / "report.xml")
    assert found == {
        "test_a::good": "passed",
        "test_a::bad": "failed",
        "test_a::worse": "failed",
    }
