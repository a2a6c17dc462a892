"""A part of trio's own tests passes in jobs as it does plainly; `python -m tests.inside` runs all, and anyio's."""

import subprocess
from pathlib import Path
import pytest
from ..pythons import python
from . import __main__ as inside
from .__main__ import compare


def test_some_of_trios_tests_pass_in_jobs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample has the tests of channels, and one that is explained."""
    (tmp_path / "in_jobs.py").symlink_to(
        Path(__file__).with_name("in_jobs.py")
    )  # forks do not look at PYTHONPATH
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, cwd, env, **_: python(
            *command[1:], cwd=cwd, env=env, text=True
        ),
    )
    assert compare(
        "trio",
        tmp_path,
        "test_channel or test_current_statistics",
        modules=["trio._tests.test_channel", "trio._core._tests.test_run"],
    )
    said = capsys.readouterr().out
    assert "differences that are explained: 1\n" in said
    assert int(said.partition("Python")[2].partition(": ")[2].split()[0]) > 20


@pytest.mark.parametrize(
    ("plain", "in_jobs", "again", "good", "said"),
    [
        ("good", "good", "", True, "1 tests pass plainly"),
        ("good odd", "good", "", True, "differences that are explained: 1"),
        ("good", "", "", False, "  differs: test_it::good"),
        (
            "good",
            "",
            "good",
            True,
            "  differs by chance, not when its file runs again: test_it::good",
        ),
        (
            "good odd",
            "good odd",
            "",
            False,
            "  differs no more: test_it::odd (a reason)",
        ),
        (
            "good",
            "good",
            "",
            False,
            "  is explained, but does not pass plainly, or is no more: test_it::odd (a reason)",
        ),
    ],
)
def test_differences_are_explained_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    plain: str,
    in_jobs: str,
    again: str,
    good: bool,
    said: str,
) -> None:
    """Random differences are removed, and outdated explanations are reported."""
    explains = "odd" in plain or "is no more" in said
    passed = [
        {f"test_it::{test}": "passed" for test in tests.split()}
        for tests in (plain, in_jobs, again)
    ]
    monkeypatch.setattr(inside, "SUITES", {"trio": lambda directory: (directory, [])})
    monkeypatch.setattr(
        inside, "EXPLAINED", {"trio": {"test_it::odd": "a reason"} if explains else {}}
    )
    monkeypatch.setattr(inside, "outcomes", lambda *_, **__: passed.pop(0))
    assert compare("trio", tmp_path) is good
    assert said in capsys.readouterr().out


def test_a_pytest_that_breaks_off_is_no_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Any exit code other than success or failed tests ends the comparison, whatever the output."""

    def broken(
        command: list[str], env: dict[str, str], **options: object
    ) -> subprocess.CompletedProcess[str]:
        Path(env["TRIOFLOW_OUTCOMES"]).write_text(
            '{"test_it::good": "passed"}', encoding="utf-8"
        )
        return subprocess.CompletedProcess(
            command, pytest.ExitCode.INTERNAL_ERROR, "INTERNALERROR> broken", ""
        )

    monkeypatch.setattr(subprocess, "run", broken)
    with pytest.raises(
        SystemExit, match=r"pytest ended with 3, 1 tests:\nINTERNALERROR> broken"
    ):
        inside.outcomes(tmp_path, [], "", inside=False)
