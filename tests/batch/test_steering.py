"""A batch that `trioflow steer` drains or cancels, whole or in part: what has not run is told, and no slot is lost."""

import contextlib
import re
import time
from collections import Counter
from pathlib import Path
import pytest
from trioflow.view.look import _client
from trioflow.view.look._page import Page
from trioflow.view.look._process_record import Record
from ..jobs.posix.process_trees import until_there
from ..places import PATIENCE
from .process import running


def steer(pid: int, do: str, value: str | int | None = None) -> Record:
    return _client.ask(pid, {"do": do, "value": value})


def joblog_of(log: Path) -> list[list[str]]:
    """Return the exit value, the signal and the command of each line of a job log."""
    return [line.split("\t")[-3:] for line in log.read_text().splitlines()[1:]]


def ends_with(line: str, file: str) -> str:
    return f"touch {line}; until test -e {file}; do sleep 0.01; done"


def test_a_drained_batch_lets_commands_end_and_fails(tmp_path: Path) -> None:
    first, second, log = tmp_path / "first", tmp_path / "second", tmp_path / "log"
    go_first, go_second = tmp_path / "go-first", tmp_path / "go-second"
    lines = (
        ends_with(str(first), str(go_first)),
        ends_with(str(second), str(go_second)),
        "echo third",
    )
    with running("-j2", "--joblog", str(log), ":::", *lines) as process:
        until_there(first, second)
        assert steer(process.pid, "drain") == {"done": "'batch': drained"}
        go_first.touch()
        while log.read_text().count("\n") < 2:
            time.sleep(0.001)
        go_second.touch()
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (1, b"")
    assert joblog_of(log) == [["0", "0", line] for line in lines[:2]]
    assert "batch  ✗ drained, 2 of 3 commands succeeded, " in stderr.decode()


def test_a_command_that_is_cancelled_has_failed_and_frees_its_slot(
    tmp_path: Path,
) -> None:
    here, log = tmp_path / "here", tmp_path / "log"
    line = f"touch {here}; sleep 1000"
    with running("-j1", "--joblog", str(log), ":::", line, "echo next") as process:
        until_there(here)
        path = line.replace("/", r"\/")
        with pytest.raises(_client.NoAnswer, match=re.escape(f"do you mean '{path}'?")):
            steer(process.pid, "cancel", line)
        assert steer(process.pid, "cancel", path) == {"done": f"'{line}': cancelled"}
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (1, b"next\n")
    assert joblog_of(log) == [["-1", "15", line], ["0", "0", "echo next"]]
    assert f"  {line}: cancelled" in stderr.decode().splitlines()


def test_a_batch_that_is_cancelled_has_failed(tmp_path: Path) -> None:
    here = tmp_path / "here"
    with running("-j1", ":::", f"touch {here}; sleep 1000", "echo next") as process:
        until_there(here)
        steer(process.pid, "cancel")
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (1, b"")
    assert "batch  ✗ cancelled, 0 of 2 commands succeeded, " in stderr.decode()


def test_a_command_that_is_run_again_says_its_attempt(tmp_path: Path) -> None:
    """`--retries` repeats it within its job, so that views see but one attempt of the engine."""
    tries, here = tmp_path / "tries", tmp_path / "here"
    line = f"echo >> {tries}; test $(grep -c ^ {tries}) = 2 || exit 1; touch {here}; sleep 1000"
    with running("--retries", "3", ":::", line) as process:
        until_there(here)
        [run] = _client.ask(process.pid)["runs"]
        assert [job["status"] for job in run["running"]] == ["attempt 2"]


@pytest.mark.parametrize("part", ["feed", "report"])
def test_a_part_of_a_batch_cannot_be_cancelled_alone(part: str, tmp_path: Path) -> None:
    here, go = tmp_path / "here", tmp_path / "go"
    with running("-j1", ":::", ends_with(str(here), str(go)), "echo next") as process:
        until_there(here)
        with pytest.raises(
            _client.NoAnswer,
            match=f"'{part}' is a part of the batch: drain the batch, or cancel it",
        ):
            steer(process.pid, "cancel", part)
        go.touch()
        stdout, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (0, b"next\n")


def running_in(pid: int) -> list[str]:
    return [
        job["path"].replace(r"\/", "/")
        for job in _client.ask(pid)["runs"][0]["running"]
    ]


def test_another_window_is_the_number_of_commands_at_once(tmp_path: Path) -> None:
    """A larger one starts more commands at once; a smaller one starts none until enough have ended."""
    here = [tmp_path / f"here-{number}" for number in range(4)]
    go, log = [tmp_path / f"go-{number}" for number in range(4)], tmp_path / "log"
    lines = [
        ends_with(str(path), str(its_go)) for path, its_go in zip(here, go, strict=True)
    ]
    with running("-j1", "--joblog", str(log), ":::", *lines) as process:
        until_there(here[0])
        done = steer(process.pid, "window", 3)
        until_there(*here[:3])
        steer(process.pid, "window", 1)
        run = _client.ask(process.pid)["runs"][0]
        for its_go in go[:2]:
            its_go.touch()
        while log.read_text().count("\n") < 3:
            time.sleep(0.001)
        rest = running_in(process.pid)
        go[2].touch()
        until_there(here[3])
        assert running_in(process.pid) == lines[3:]
        go[3].touch()
        assert process.wait(PATIENCE) == 0
    assert done == {"done": "'batch': jobs_window set to 3"}
    assert (run["window"], run["slots_taken"], rest) == (1, 3, lines[2:3])


def test_a_window_over_nodes_leaves_each_node_its_own_limit(tmp_path: Path) -> None:
    """It is the sum of their slots at first; a larger one starts no more on a node than -j."""
    here, go = [tmp_path / "here-0", tmp_path / "here-1"], tmp_path / "go"
    lines = [ends_with(str(path), str(go)) for path in here]
    with running("-j1", "-S", ":", ":::", *lines) as process:
        until_there(here[0])
        first = _client.ask(process.pid)["runs"][0]["window"]
        steer(process.pid, "window", 3)
        run = _client.ask(process.pid)["runs"][0]
        rest = running_in(process.pid)
        go.touch()
        assert process.wait(PATIENCE) == 0
    assert (first, run["window"], run["slots_taken"], rest) == (1, 3, 1, lines[:1])


def test_a_look_counts_all_commands_and_nothing_else(tmp_path: Path) -> None:
    """Those that have ended and those to come count; of a source that is not read to its end, those so far."""
    here, go = tmp_path / "here", tmp_path / "go"
    lines = [
        "echo first",
        "false",
        ends_with(str(here), str(go)),
        "echo last",
        "echo ever",
    ]
    for source, whole in (
        ((":::", *lines), "5 jobs: 1 succeeded, 1 failed, 1 running, 2 idle"),
        ((), ""),
    ):
        with running("-j1", *source) as process:
            assert process.stdin is not None
            process.stdin.write(
                ("" if source else "\n".join([*lines[:3], ""])).encode()
            )
            process.stdin.flush()
            until_there(here)
            run = _client.ask(process.pid)["runs"][0]
            assert run["verdict"] == (
                whole or "3 jobs so far: 1 succeeded, 1 failed, 1 running"
            )
            assert (running_in(process.pid), run["waiting"]) == (lines[2:3], [])
            go.touch()
            process.communicate(timeout=PATIENCE)
        for path in (here, go):
            path.unlink()


def test_a_paused_batch_starts_no_command(tmp_path: Path) -> None:
    here, go = tmp_path / "here", tmp_path / "go"
    with running(
        "-j1",
        "--joblog",
        str(tmp_path / "log"),
        ":::",
        ends_with(str(here), str(go)),
        "echo next",
    ) as process:
        until_there(here)
        steer(process.pid, "pause")
        go.touch()
        while not (waiting := _client.ask(process.pid)["runs"][0]["waiting"]):
            time.sleep(0.001)
        steer(process.pid, "resume")
        assert process.communicate(timeout=PATIENCE)[0] == b"next\n"
    assert [(group["paths"], group["cause"]) for group in waiting] == [
        (["echo next"], "pause")
    ]


def test_failed_commands_run_again_and_the_last_try_counts(tmp_path: Path) -> None:
    """In the exit code, the job log, the table and the journal; what fails again has failed once."""
    disk, go, log, table = (
        tmp_path / "disk",
        tmp_path / "go",
        tmp_path / "log",
        tmp_path / "table.csv",
    )
    mended, broken = f"test -e {disk} && echo mended", "false"
    lines = [
        mended,
        broken,
        f"{mended}; exit $?",
        ends_with(str(tmp_path / "here"), str(go)),
    ]
    options = [
        "--joblog",
        str(log),
        "--results",
        str(table),
        "--journal",
        str(tmp_path / "run.db"),
    ]
    with running("-j2", *options, ":::", *lines) as process:
        until_there(tmp_path / "here")
        while log.read_text().count("\n") < 4:
            time.sleep(0.001)
        disk.touch()
        assert steer(process.pid, "try-again") == {"done": "'batch': tried again"}
        while log.read_text().count("\n") < 7:
            time.sleep(0.001)
        go.touch()
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "batch  ✗ 1 failed of 4" in stderr.decode()
    assert sorted(joblog_of(log)) == sorted(
        [["1", "0", "false"], *(["0", "0", line] for line in lines if line != broken)]
    )
    assert table.read_text().count("mended\n") == 2
    with running("-j2", *options, ":::", *lines) as process:
        _, stderr = process.communicate(timeout=PATIENCE)
    assert "3 restored from" in stderr.decode()


def test_who_looks_counts_each_command_once_however_often_it_has_run(
    tmp_path: Path,
) -> None:
    """The page went on to count a failure after the next try had succeeded, and tried no more than 16 of them again.
    The summary ended with an IndexError once the first of many that had failed alike were mended."""
    last, count = ends_with("here", "go"), 18
    lines = [
        last,
        *(
            f"until test -e begin; do sleep 0.01; done; ls; test -e disk/{n}"
            for n in range(count)
        ),
    ]
    with running("-j2", "--results", "out", ":::", *lines, cwd=tmp_path) as process:
        until_there(tmp_path / "here")
        page = Page(process.pid, None)

        def failed_until(number: int) -> Record:
            page.ask()
            state = page.state()
            while (state["counts"][-2][2], state["settled"]) != (number, count):
                page.ask()
                state = page.state()
            return state

        page.ask()
        (tmp_path / "begin").touch()
        (row,) = failed_until(count)["failed"]
        (tmp_path / "disk").mkdir()
        for number in range(count):
            (tmp_path / "disk" / str(number)).touch()
        assert page.steer(
            {"do": "try-again", "seen": page.state()["seen"], "value": row[-1][:-1]}
        )["done"]
        state = failed_until(1)
        found = page.find_jobs(state["seen"], "", "")
        first = page.job(state["seen"], row[-1][0])
        told = [
            (kind, len(keys))
            for _, kind, keys, *_ in page.log("")["lines"]
            if kind != "steered"
        ]
        (tmp_path / "go").touch()
        _, stderr = process.communicate(timeout=PATIENCE)
    counts = {name: number for _, _, number, name in state["counts"]}
    assert (counts, state["count"]) == (
        {"succeeded": 17, "failed": 1, "running": 1},
        19,
    )
    assert (state["failed_count"], found["count"], found["counts"]) == (
        1,
        19,
        "1 failed, 1 running, 17 succeeded",
    )
    assert (first["state"], told) == ("succeeded", [("failed", 18)])
    assert stderr.decode().splitlines()[-1][2:] in {
        f"{line}: exit code 1" for line in lines
    }
    names = Counter(
        path.name for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    assert names == dict.fromkeys(("seq", "stdout", "stderr"), len(lines))


def test_a_failed_command_that_is_to_run_again_has_failed_until_it_does(
    tmp_path: Path,
) -> None:
    """A batch that was drained before a slot was free had forgotten the failure."""
    here = tmp_path / "here"
    with running(
        "-j1", ":::", "false", ends_with(str(here), str(tmp_path / "go"))
    ) as process:
        until_there(here)
        for _ in range(2):
            with contextlib.suppress(_client.NoAnswer):
                steer(process.pid, "try-again")
        assert _client.ask(process.pid)["runs"][0]["counts"] == {
            "failed": 1,
            "running": 1,
        }
        steer(process.pid, "drain")
        (tmp_path / "go").touch()
        _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "✗ 1 failed of 2" in stderr.decode()) == (1, True)


def test_a_failed_command_runs_again_and_again_and_its_last_end_is_told(
    tmp_path: Path,
) -> None:
    """The batch had reported the command, and a KeyError ended it when `try-again PATH` made the same job run again."""
    log, table, line = (
        tmp_path / "log",
        tmp_path / "table.csv",
        "echo try >> tries; test `wc -l < tries` = 3",
    )
    options, last = (
        ["-j2", "--joblog", str(log), "--results", str(table)],
        ends_with("here", "go"),
    )
    with running(*options, ":::", line, "false", last, cwd=tmp_path) as process:
        until_there(tmp_path / "here")
        for number in (3, 4, 5):
            while log.read_text().count("\n") < number:
                time.sleep(0.001)
            if number < 5:
                assert steer(process.pid, "try-again", line)["done"].startswith(
                    f"'{line}': tried again"
                )
        with pytest.raises(_client.NoAnswer, match="no such command has failed"):
            steer(process.pid, "try-again", line)
        (tmp_path / "go").touch()
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "batch  ✗ 1 failed of 3" in stderr.decode()
    assert sorted(joblog_of(log)) == [
        ["0", "0", line],
        ["0", "0", last],
        ["1", "0", "false"],
    ]
    rows = [
        row.split(",")[0] for row in table.read_text().splitlines() if row[:1].isdigit()
    ]
    assert sorted(rows) == ["1", "2", "3"]


def test_each_failed_command_is_tried_again_by_its_path(tmp_path: Path) -> None:
    """A batch keeps the jobs of a few of many failed commands; the page had the others, `try-again PATH` had not."""
    last, log = ends_with("here", "go"), tmp_path / "log"
    lines = [f"test -e disk/{number}" for number in range(20)]
    with running(
        "-j2", "--joblog", str(log), ":::", last, *lines, cwd=tmp_path
    ) as process:
        until_there(tmp_path / "here")
        while log.read_text().count("\n") < 1 + len(lines):
            time.sleep(0.001)
        (tmp_path / "disk").mkdir()
        for number, line in enumerate(lines):
            (tmp_path / "disk" / str(number)).touch()
            path = line if number % 2 else line.replace("/", r"\/")
            assert (
                steer(process.pid, "try-again", path)["done"]
                == f"'{line}': tried again"
            )
        with pytest.raises(_client.NoAnswer, match="no such command has failed"):
            steer(process.pid, "try-again", "test -e nothing")
        while log.read_text().count("\n") < 1 + 2 * len(lines):
            time.sleep(0.001)
        (tmp_path / "go").touch()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.mark.parametrize("options", [[], ["--keep", "all"]])
def test_a_batch_without_failures_that_could_end_otherwise_says_so(
    tmp_path: Path, options: list[str]
) -> None:
    here, go = tmp_path / "here", tmp_path / "go"
    commands = ["false"] if options else []
    journal = ["--journal", str(tmp_path / "run.db")]
    with running(
        "-j1", *journal, *options, ":::", *commands, ends_with(str(here), str(go))
    ) as process:
        until_there(here)
        with pytest.raises(
            _client.NoAnswer,
            match="no such command has failed, or only such as --keep all keeps as results",
        ):
            steer(process.pid, "try-again")
        go.touch()
        process.communicate(timeout=PATIENCE)
