"""Output for other programs: events of `trioflow run`, and reports for CI."""

import re
import subprocess
import sys
from pathlib import Path
import pytest
from ..pythons import Python
from ..view.events.lines import checked
from .command_line import ENVIRONMENT, WORDS, process, run, trioflow, written

TWO = "x = Scheduler(Job(work, label='a'), CommandJob(['echo', 'from a command'], label='b'), label='two')"


def test_events_option_writes_a_line_for_each_event(tmp_path: Path) -> None:
    assert run("--events", tmp_path / "events", written(tmp_path, TWO)).exit_code == 0
    events = checked((tmp_path / "events").read_text())
    assert [one["path"] for one in events if one["event"] == "job_settled"] == [
        "a",
        "b",
    ]


def test_events_on_standard_output_move_other_output_to_standard_error(
    tmp_path: Path,
) -> None:
    done = process("run", "--events", "-", written(tmp_path, TWO))
    assert checked(done.stdout)[-1]["event"] == "run_ended"
    assert {"works", "from a command"} <= set(done.stderr.splitlines())
    assert "all 2 jobs succeeded" in done.stderr


def test_reader_of_events_that_closes_the_pipe_does_not_stop_the_run(
    tmp_path: Path,
) -> None:
    code = "x = Scheduler(*[Job(anyio.sleep, 0.01) for _ in range(30)], Job(work), jobs_window=1)"
    with Python(
        [*WORDS, "run", "--events", "-", written(tmp_path, code)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True,
    ) as ran:  # fmt: skip
        assert ran.stdout is not None
        assert ran.stderr is not None
        ran.stdout.readline()
        ran.stdout.close()
        assert "all 31 jobs succeeded" in ran.stderr.read()
    assert ran.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="a pseudo-file of Linux")
@pytest.mark.parametrize("option", ["--events", "--junit"])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/dev/full", "No space left on device"),
        ("/proc/none", "No such file or directory"),
    ],
)
def test_output_that_cannot_be_written_sets_the_exit_code(
    tmp_path: Path, option: str, path: str, reason: str
) -> None:
    """If a run cannot write an output, one line on standard error says why, the run completes, and the code is 1."""
    done = process("run", "--no-monitor", option, path, written(tmp_path, TWO))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"written to {path!r}: {reason}" in line
    assert "all 2 jobs succeeded" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="a pseudo-file of Linux")
def test_full_disk_for_events_on_standard_output_is_an_error(tmp_path: Path) -> None:
    """If `--events -` cannot be written, the error names the standard output, and the exit code is 1."""
    with open("/dev/full", "wb") as full:
        done = process(
            "run", "--no-monitor", "--events", "-", written(tmp_path, TWO), stdout=full
        )
    assert done.returncode == 1
    assert "written to 'standard output': No space left on device" in done.stderr


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ("--trace", ["a.csv", "b.svg", "c.json"]),
        ("--report", ["a.html", "b.html"]),
        ("--events", ["a.events", "b.events"]),
        ("--junit", ["a.xml", "b.xml"]),
    ],
)
def test_an_option_for_a_file_may_be_repeated(
    tmp_path: Path, option: str, names: list[str]
) -> None:
    """`--trace a.csv --trace b.svg` once wrote the last file only, without a word."""
    files = [tmp_path / name for name in names]
    words = [word for file in [*files, files[0]] for word in (option, file)]
    done = run(written(tmp_path, "x = Scheduler(Job(work))"), *words)
    assert done.exit_code == 0, done.output
    assert all(file.stat().st_size for file in files)
    assert [
        line.split()[1]
        for line in done.stdout.splitlines()
        if line.startswith(f"{option[2:]} ")
    ] == [str(file) for file in files]


def test_report_command_writes_each_file_that_an_option_names(tmp_path: Path) -> None:
    assert (
        run(
            written(tmp_path, "x = Scheduler(Job(work))"),
            "--trace",
            tmp_path / "t.json",
        ).exit_code
        == 0
    )
    names = ["a.html", "b.html", "a.xml", "b.xml"]
    options = ["-o", "-o", "--junit", "--junit"]
    words = [
        word
        for option, name in zip(options, names, strict=True)
        for word in (option, tmp_path / name)
    ]
    assert trioflow("report", tmp_path / "t.json", *words).exit_code == 0
    assert all((tmp_path / name).stat().st_size for name in names)


# --- `trioflow report`: reports and files for CI systems from a trace, without the program that ran

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


def test_the_files_of_a_report_are_those_of_the_run(
    tmp_path: Path, trace: Path
) -> None:
    """The report and the JUnit file of a trace are those that the run itself wrote. The instruments of the run began
    one after another, so the times that they give the run differ a little."""
    names = {"-o": "r.html", "--junit": "j.xml"}
    done = trioflow(
        "report",
        trace,
        *(word for option, name in names.items() for word in (option, tmp_path / name)),
    )
    assert (done.exit_code, done.output) == (0, "")
    for name in names.values():
        paths = tmp_path / name, tmp_path / "elsewhere" / name
        made, own = (
            re.sub(r'\d+(\.\d+)? [mµ]?s|time="[\d.]+"', "TIME", path.read_text("utf-8"))
            for path in paths
        )
        assert made == own, name


def test_the_default_output_of_report_is_a_page_beside_the_trace(trace: Path) -> None:
    assert trioflow("report", trace).exit_code == 0
    assert "<title>night</title>" in trace.with_suffix(".html").read_text(
        encoding="utf-8"
    )


def test_a_file_that_is_no_trace_is_a_usage_error(tmp_path: Path) -> None:
    """For a file that is no trace, or is missing, `report` exits with code 2, and the reason."""
    (tmp_path / "x.json").write_text("{}")
    done = trioflow("report", tmp_path / "x.json")
    assert (done.exit_code, "is not a trace of trioflow" in done.stderr) == (2, True)
    assert not (tmp_path / "x.html").exists()
    assert "there is no file" in trioflow("report", tmp_path / "none.json").stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--junit", "t"], "TRACE and --junit"),
        (["-o", "t"], "TRACE and --output"),
        (["-o", "both", "--junit", "both"], "--output and --junit"),
    ],
)
def test_a_report_never_replaces_its_trace_or_another_output(
    tmp_path: Path, words: list[str], named: str
) -> None:
    """The trace, from which a report can be made anew, was once replaced by it."""
    trace = tmp_path / "t"
    run("--trace", trace, written(tmp_path, TWO))
    before = trace.read_bytes()
    files = [word if word.startswith("-") else tmp_path / word for word in words]
    done = trioflow("report", trace, *files)
    assert done.exit_code == 2
    assert f"{named} name one file" in done.stderr
    assert trace.read_bytes() == before
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_report_that_cannot_write_one_of_its_files_writes_the_others(
    tmp_path: Path, trace: Path, number: int
) -> None:
    """Whichever it is, one line says why, and the code is 1."""
    outputs = [tmp_path / "a.html", tmp_path / "b.html", tmp_path / "c.xml"]
    options = ["-o", "-o", "--junit"]
    (full := tmp_path / f"full{outputs[number].suffix}").symlink_to("/dev/full")
    outputs[number] = full
    words = [word for pair in zip(options, outputs, strict=True) for word in pair]
    done = trioflow("report", trace, *words)
    assert done.exit_code == 1
    assert done.stderr.count(f"Error: cannot write '{full}': No space left") == 1
    others = [each for each in outputs if each != full]
    assert [each.stat().st_size > 0 for each in others] == [True, True]
