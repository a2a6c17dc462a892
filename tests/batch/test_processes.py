"""`trioflow batch` in a separate process: signals, pipes, a terminal."""

import contextlib
import os
import pty
import re
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace
from typing import cast
import pyte
import pytest
from trioflow.batch._batch import Batch
from trioflow.batch._output import StdStream
from trioflow.batch._record_files import JoblogFormat
from trioflow.cli.batch._progress_bar import remaining_seconds
from ..jobs.posix.process_trees import STUBBORN, Watched, until_there, watched
from ..places import PATIENCE, patiently
from .process import batch, running

__all__ = ["watched"]


def test_first_signal_ends_commands_cleanly(tmp_path: Path, watched: Watched) -> None:
    """At the first signal, commands get SIGTERM and may clean up; finished ones are printed; shells give such codes."""
    here, log = tmp_path / "here", tmp_path / "log"
    script = f"trap 'echo cleaned > {here}; exit' TERM; touch {here}; while :; do sleep 0.01; done"
    with running(
        "-kj2",
        "--joblog",
        str(log),
        ":::",
        script,
        "echo b",
        f"cat {here} | grep -q .; sleep 1000",
    ) as process:
        until_there(here, log)
        while log.read_text().count("\n") < 2:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (130, b"b\n")
    assert (
        stderr.decode().splitlines()[0]
        == "SIGINT: shutting down; a second one quits at once"
    )
    assert here.read_text() == "cleaned\n"
    assert [line.split("\t")[-1] for line in log.read_text().splitlines()] == [
        "Command",
        "echo b",
    ]
    assert watched.gone_in_time()


def test_appended_output_of_a_resumed_batch_has_each_command_once(
    tmp_path: Path,
) -> None:
    """A resumed batch whose output was appended to a file once repeated all kept outputs; `>` gets them all."""
    words = ("-k", "--journal", "run.db", "echo {}", ":::")
    for mode, arguments, expected in (
        ("ab", "ab", "a\nb\n"),
        ("ab", "abc", "a\nb\nc\n"),
        ("wb", "abc", "a\nb\nc\n"),
    ):
        with (
            (tmp_path / "all").open(mode) as file,
            running(*words, *arguments, stdout=file, cwd=tmp_path) as process,
        ):
            assert process.wait(PATIENCE) == 0
        assert (tmp_path / "all").read_text() == expected


@pytest.mark.parametrize("order", [[], ["-k"]])
def test_output_written_before_an_interruption_is_printed(
    tmp_path: Path, order: list[str]
) -> None:
    """When a batch was interrupted, the output of the running commands was once lost."""
    paths = [tmp_path / "0", tmp_path / "1"]
    lines = [
        f"echo {path.name}; echo e >&2; touch {path}; exec sleep 1000" for path in paths
    ]
    with running("-j2", "--tag", *order, ":::", *lines) as process:
        until_there(*paths)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    written = [line.rpartition("\t")[2] for line in stdout.decode().splitlines()]
    assert (process.returncode, written) == (130, ["0", "1"])
    assert stderr.decode().count("\te\n") == 2


def test_output_written_before_an_interruption_is_saved(tmp_path: Path) -> None:
    """At SIGTERM, `--results` gets all that the running commands have written so far."""
    here, saved = tmp_path / "here", tmp_path / "saved"
    with running(
        "--results", str(saved), "echo a; touch {}; exec sleep 1000", ":::", str(here)
    ) as process:
        until_there(here)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 143
    assert [path.read_text() for path in saved.rglob("stdout")] == ["a\n"]


def test_output_being_read_at_an_interruption_is_printed_to_its_end(
    tmp_path: Path,
) -> None:
    with running("--joblog", "/dev/null", "seq {}", ":::", "100000") as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"1"
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=PATIENCE)
    assert stdout.split()[-1] == b"100000"


def test_a_pipe_that_another_program_has_made_non_blocking_gets_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is lost in a non-blocking pipe, even if it is full at first and its reader is slow."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    filled = os.write(write_end, bytes(1 << 20))
    stream = os.fdopen(write_end, "w")
    monkeypatch.setattr(sys, "stdout", stream)
    outlet = StdStream("stdout")

    def write() -> None:
        with stream:
            outlet.write_blocking(b"all of it")

    with ThreadPoolExecutor(1) as pool, os.fdopen(read_end, "rb") as reader:
        writing = pool.submit(write)
        wait([writing], timeout=0.02)
        assert reader.read()[filled:] == b"all of it"
        writing.result()


def test_a_slot_is_the_lowest_free_one() -> None:
    """A command gets the lowest free slot; slots once took turns even if only one command ran at a time."""
    with running("-j3", "echo {%} $PARALLEL_JOBSLOT") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(4):
            process.stdin.write(b"x\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"1 1\n"


def test_ignored_signals_stay_ignored(tmp_path: Path) -> None:
    """A batch started by nohup once ended when its user logged out."""
    here = tmp_path / "here"
    with running(
        "touch {}; sleep 0.3; echo done",
        ":::",
        str(here),
        first="signal.signal(signal.SIGHUP, signal.SIG_IGN)",
    ) as process:
        until_there(here)
        process.send_signal(signal.SIGHUP)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout, stderr) == (0, b"done\n", b"")


def test_the_second_signal_ends_the_batch_at_once(
    tmp_path: Path, watched: Watched
) -> None:
    """At a second signal, commands that ignore SIGTERM are killed, with all processes that they started."""
    here = tmp_path / "here"
    with running(":::", f"touch {here}; {STUBBORN}") as process:
        until_there(here)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"SIGINT: shutting down")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    assert watched.gone_in_time()


def test_commands_start_as_soon_as_their_arguments_are_read() -> None:
    with running("-j2", "--halt", "soon,fail=2", "echo {}; exit {}") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"0\n", b"7\n", b"8\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
        assert process.wait(PATIENCE) == 2


def test_ctrl_c_ends_a_batch_that_waits_for_arguments() -> None:
    """Ctrl-C ends a batch with code 130 while it waits for arguments, although the standard input is still open."""
    with running("echo") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"a\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"a\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130


@pytest.mark.parametrize("option", ["--group", "--line-buffer"])
def test_a_broken_pipe_ends_a_batch_as_a_drain_with_exit_code_141(
    option: str, tmp_path: Path
) -> None:
    ended, go, log = tmp_path / "ended", tmp_path / "go", tmp_path / "log"
    line = f"test {{}} = 1 || until test -e {go}; do sleep .01; done; echo {{}}; sleep .01; echo {{}} >> {ended}"
    words = [
        "-j1",
        "--joblog",
        str(log),
        *[option] * (option != "--group"),
        line,
        ":::",
        "1",
        "2",
        "3",
    ]
    with running(*words) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        process.stdout.close()
        go.touch()
        assert process.wait(PATIENCE) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert ended.read_text() == "1\n2\n"
    assert [row.split("\t")[6] for row in log.read_text().splitlines()[1:]] == [
        "0",
        "0",
    ]


@pytest.mark.parametrize("options", [[], ["--line-buffer", "--retries", "0"]])
def test_full_disk_at_standard_output_ends_a_batch_with_an_error(
    options: list[str],
) -> None:
    """It is no failure of the command, which runs once."""
    with (
        open("/dev/full", "wb") as full,
        running(*options, "echo", ":::", "a", stdout=full) as process,
    ):
        _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (
        255,
        b"Error: cannot write the output: No space left on device\n",
    )


def test_job_log_that_cannot_grow_ends_the_batch(tmp_path: Path) -> None:
    log, limit = tmp_path / "log", 1 << 23
    header = JoblogFormat.start + b"\n"
    log.write_bytes(header + b"x" * (limit - 301 - len(header)) + b"\n")
    words = ("-j1", "--joblog", f"+{log}", "/bin/echo", ":::", *map(str, range(100)))
    with running(
        *words, first=f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    ) as process:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 255
    assert (
        stderr.decode() == f"Error: cannot write the job log '{log}': File too large\n"
    )
    assert 3 < stdout.count(b"\n") < 20


@pytest.mark.parametrize("order", [[], ["-k"]], ids=["as they end", "in order"])
def test_output_of_commands_that_have_ended_is_printed_before_a_fatal_error(
    tmp_path: Path, order: list[str]
) -> None:
    """With -k, all output that waited for that of a command that ran was once lost, though the job log had its row."""
    log = tmp_path / "log"
    line = "if [ {} = 1 ]; then echo first; sleep 99; fi; echo {}"
    words = (*order, "-j2", "--joblog", str(log), line, ":::", *map(str, range(1, 100)))
    with running(
        *words, first="resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))"
    ) as process:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 255
    assert stderr.endswith(b": File too large\n")
    logged = [line.split(b"\t")[0] for line in log.read_bytes().splitlines()[1:-1]]
    assert {b"first", *logged} <= {*stdout.split()}
    assert len(logged) > 3


def test_a_closed_standard_input_is_an_error() -> None:
    with running("echo", first="os.close(0); sys.stdin = None") as process:
        _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (
        255,
        b"Error: cannot read the arguments: standard input is closed\n",
    )


@patiently(0.5, 5, 50)
def test_slow_reader_of_the_output_delays_no_timeout(
    tmp_path: Path, unit: float
) -> None:
    over = tmp_path / "over"
    late = f"trap 'touch {over}; exit' TERM; while :; do sleep 0.01; done"
    with running("-j2", "--timeout", str(unit), ":::", "seq 20000", late) as process:
        while not over.exists() and process.poll() is None:
            time.sleep(0.01)
        stdout, _ = process.communicate(timeout=PATIENCE)
    assert stdout == b"".join(b"%d\n" % number for number in range(1, 20001))
    assert process.returncode == 1


def screen_of(
    *words: str, seen: Callable[[pyte.Screen], object] = id, **options: object
) -> tuple[list[str], int | None]:
    """Return the final screen of a batch and its exit code; `seen` is called with the screen in between."""
    ours, theirs = pty.openpty()
    screen = pyte.Screen(80, 24)
    stream = pyte.ByteStream(screen)
    with running(*words, **{"stdout": theirs, "stderr": theirs, **options}) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # EIO: the terminal is closed
            while data := os.read(ours, 4096):
                stream.feed(data)
                seen(screen)
    os.close(ours)
    return [
        line.rstrip() for line in screen.display if line.strip()
    ], process.returncode


def test_bar_on_a_terminal_shows_progress_and_vanishes_at_the_end(
    tmp_path: Path,
) -> None:
    """The bar looks like a monitor's, has the number of commands, and makes room for output; failures are below."""
    go = tmp_path / "go"
    lines = [
        "echo one",
        "exit 3",
        f"until [ -e {go} ]; do sleep 0.01; done; echo three",
    ]

    def seen(screen: pyte.Screen) -> None:
        # A piece of what is written may end anywhere in the bar.
        first, second = screen.display[1:3]
        words = "1 succeeded", "1 failed", "1 running", "0 waiting"
        if "2/3" in first and all(word in second for word in words):
            assert first.startswith(" batch  ━")
            go.touch()

    input_end, write_end = os.pipe()
    os.write(write_end, "".join(f"{line}\n" for line in lines).encode())
    os.close(write_end)
    shown, code = screen_of("--bar", "-j1", seen=seen, stdin=input_end)
    os.close(input_end)
    assert shown[:2] == ["one", "three"]
    assert re.fullmatch(r"batch  ✗ 1 failed of 3, .*s", shown[2])
    assert (shown[3:], code) == (["  exit 3: exit code 3"], 1)


def test_the_bar_of_a_resumed_batch_counts_only_restored_successes_as_succeeded(
    tmp_path: Path,
) -> None:
    """The bar once said `1 succeeded (2 restored)`, because it counted a kept failure there."""
    go = tmp_path / "go"
    options = (
        "--bar",
        "-j1",
        "--journal",
        str(tmp_path / "run.db"),
        "--keep",
        "all",
        ":::",
        "exit 0",
        "exit 3",
    )
    with running(*options) as process:
        process.communicate(timeout=PATIENCE)
    texts: list[str] = []

    def seen(screen: pyte.Screen) -> None:
        if "1 running" in (line := screen.display[1]) and "1 failed" in line:
            texts.append(line)
            go.touch()

    _, code = screen_of(*options, f"until [ -e {go} ]; do sleep 0.01; done", seen=seen)
    assert code == 1
    assert " 1 succeeded (1 restored) " in texts[0]


@pytest.mark.parametrize(("run_count", "expected"), [(2, None), (3, 6.0)])
def test_time_left_of_a_resumed_batch_leaves_out_restored_commands(
    run_count: int, expected: float | None
) -> None:
    """The time that was spent on restoring once counted for the few commands that ran: 1 min 25 s left, for seconds."""
    now = time.monotonic()
    reporter = SimpleNamespace(
        run_count=run_count,
        last_restored_at=now - 6,
        tally=SimpleNamespace(succeeded_count=15, failed_count=2),
    )
    batch = cast(Batch, SimpleNamespace(expected_count=20, reporter=reporter))
    remaining = remaining_seconds(batch, now - 100)
    assert remaining == (None if expected is None else pytest.approx(expected, abs=3))


def test_a_bar_has_the_total_when_arguments_are_words_or_in_a_file(
    tmp_path: Path,
) -> None:
    """The bar once began with 0/?, as it does for lines of a pipe, whose number is unknown."""
    go = tmp_path / "go"
    firsts: list[str] = []

    def seen(screen: pyte.Screen) -> None:
        if "batch" in screen.display[0] and " waiting" in screen.display[1]:
            firsts.append("".join(screen.display[:2]))
            go.touch()

    lines = [f"until [ -e {go} ]; do sleep 0.01; done", "exit 0"]
    assert screen_of("--bar", "-j1", ":::", *lines, seen=seen) == ([], 0)
    assert " 0%  0/2 " in firsts[0]
    (tmp_path / "lines").write_text("\n".join(lines))
    firsts.clear()
    go.unlink()
    assert screen_of("--bar", "-j1", "::::", str(tmp_path / "lines"), seen=seen) == (
        [],
        0,
    )
    assert " 0%  0/2 " in firsts[0]


def test_bar_does_not_cover_a_line_without_a_newline(tmp_path: Path) -> None:
    """The bar once covered output without a final newline, so that it was never visible."""
    words = (
        "--bar",
        "-k",
        "-j1",
        ":::",
        "printf one",
        "printf two; printf three >&2",
        "true",
    )
    assert screen_of(*words) == (["one", "twothree"], 0)
    with (tmp_path / "file").open("wb") as file:
        assert screen_of(*words, stdout=file) == (["three"], 0)
    assert (tmp_path / "file").read_bytes() == b"onetwo"


def test_the_message_on_a_signal_hides_the_bar() -> None:
    """The message about a signal once appeared in the middle of the bar, and the rest of the bar stayed."""
    lines = screen_of("--bar", "-j1", ":::", "echo one", "kill -INT $PPID; sleep 1000")
    assert lines[0][:2] == ["one", "SIGINT: shutting down; a second one quits at once"]
    assert "1 of 2 commands succeeded" in lines[0][2]
    assert lines[1] == 130


def test_bar_is_not_drawn_without_a_terminal() -> None:
    done = batch("--bar", "echo", ":::", "a")
    assert (done.stdout, done.stderr) == ("a\n", "")
