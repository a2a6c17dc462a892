"""`trioflow report`: reports and files for CI systems from a trace, without the program that ran."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .command_line import run, trioflow, written

CODE = "scenario = Scheduler(Job(work, label='a'), Job(fail, label='broken'), label='night')"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Return the trace of a run whose program is gone."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    file = written(folder, CODE)
    path = tmp_path / "night.json"
    own = ["--report", folder / "r.html", "--junit", folder / "j.xml"]
    assert run(file, "--trace", path, *own).exit_code == 3
    Path(file).unlink()
    return path


def test_the_files_of_a_report_are_those_of_the_run(tmp_path: Path, trace: Path) -> None:
    """The report and the JUnit file of a trace are those that the run itself wrote.

    The instruments of the run began one after another, so the times that they give the run differ a little.
    """
    names = {"-o": "r.html", "--junit": "j.xml"}
    done = trioflow("report", trace, *(word for option, name in names.items() for word in (option, tmp_path / name)))
    assert (done.exit_code, done.output) == (0, "")
    for name in names.values():
        paths = tmp_path / name, tmp_path / "elsewhere" / name
        made, own = (re.sub(r'\d+(\.\d+)? [mµ]?s|time="[\d.]+"', "TIME", path.read_text("utf-8")) for path in paths)
        assert made == own, name


def test_the_default_output_of_report_is_a_page_beside_the_trace(trace: Path) -> None:
    assert trioflow("report", trace).exit_code == 0
    assert "<title>night</title>" in trace.with_suffix(".html").read_text(encoding="utf-8")


def test_a_file_that_is_no_trace_is_a_usage_error(tmp_path: Path) -> None:
    """For a file that is no trace, or is missing, `report` exits with code 2, and the reason."""
    (tmp_path / "x.json").write_text("{}")
    done = trioflow("report", tmp_path / "x.json")
    assert (done.exit_code, "is not a trace of trioflow" in done.stderr) == (2, True)
    assert not (tmp_path / "x.html").exists()
    assert "there is no file" in trioflow("report", tmp_path / "none.json").stderr
