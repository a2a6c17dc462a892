"""The standard streams of commands: files, captures, lines, input."""

import contextlib
import copy
import errno
import io
import itertools
import os
import pickle
import re
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import (
    CommandError,
    CommandJob,
    Job,
    JobState,
    JobTimeout,
    Retry,
    Scheduler,
    ThreadJob,
)
from trioflow import _posix as posix
from trioflow.jobs.command import _output_sinks, _streams
from trioflow.jobs.command._output_sinks import LineSink, OutputSpool
from trioflow.jobs.posix import _guard
from ... import pythons
from ...bodies import raising, ran, run
from ...midway import answers_midway
from ...places import PATIENCE
from ..posix.process_trees import Watched, until_there
from ..posix.process_trees import watched as watched
from .commands import PIPE, failure_of, python

STDOUT, DEVNULL = subprocess.STDOUT, subprocess.DEVNULL


def sh(line: str, **options: Any) -> CommandJob:
    return CommandJob(line, shell=True, **options)


# --- captured
def test_text_is_the_output_decoded(backend: str) -> None:
    """`text` is the captured output decoded, in which invalid bytes, which may have a NUL, are replaced."""
    good, bad = sh("printf 'é\\n'", stdout=PIPE), sh(r"printf 'a\377b\0'", stdout=PIPE)
    run(backend, good, bad)
    assert bad.result().stdout == b"a\xffb\0"
    assert (good.result().text, bad.result().text) == ("é\n", "a\ufffdb\0")


def test_text_of_uncaptured_output_raises_with_advice(backend: str) -> None:
    job = ran(backend, sh("true", stdout=DEVNULL))
    with pytest.raises(
        ValueError,
        match=r"'stdout' was not captured: give the job stdout=subprocess\.PIPE",
    ):
        assert job.result().text


def test_output_for_a_slow_sink_is_read_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Output for a slow sink is read in pieces, so that other tasks get a turn; at the end all the rest is read."""
    now = 0.0

    class Slow(_output_sinks.CaptureSink):
        def write(self, data: bytes) -> None:
            nonlocal now
            super().write(data)
            now += 0.01

    monkeypatch.setattr(_streams.time, "perf_counter", lambda: now)
    monkeypatch.setattr(_streams, "MAX_READ_BYTES", 10)
    sink = Slow()
    read_end, write_end = os.pipe()
    stream = _streams.PipeReader(
        read_end, [sink], cast(Any, SimpleNamespace(sink_error=None))
    )
    os.write(write_end, b"." * 100)
    assert stream.read(0.025)
    assert len(sink.output()) == 30
    assert stream.read()
    assert len(sink.output()) == 100
    os.close(write_end)
    assert not stream.read()
    stream.finish()


def test_a_flood_of_lines_is_read_in_small_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If each line takes time, the reader of a full pipe lets other tasks have a turn after some tens of lines."""
    now, lines = 0.0, list[str]()

    def take(line: str) -> None:
        nonlocal now
        lines.append(line)
        now += 0.0001

    monkeypatch.setattr(_streams.time, "perf_counter", lambda: now)
    read_end, write_end = os.pipe()
    stream = _streams.PipeReader(
        read_end, [LineSink(take)], cast(Any, SimpleNamespace(sink_error=None))
    )
    os.write(write_end, (b"." * 63 + b"\n") * 1000)
    assert stream.read(_streams.MAX_READING_SECONDS)
    assert 0 < len(lines) < 100
    assert stream.read()
    os.close(write_end)
    stream.finish()
    assert len(lines) == 1000


# --- to files
def test_output_is_appended_to_a_path_whose_directories_are_created(
    backend: str, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "directory" / "log"
    run(
        backend,
        sh("echo a; echo b >&2", stdout=path, stderr=str(path)),
        sh("echo c", stdout=path),
        jobs_window=1,
    )
    assert path.read_text() == "a\nb\nc\n"


def test_append_false_truncates_the_file_at_each_attempt(
    backend: str, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    path.write_text("of an earlier run, and longer than what comes now\n")
    line = f"echo a; echo b >&2; echo c; test -e {tmp_path}/second || {{ touch {tmp_path}/second; exit 1; }}"
    job = ran(backend, sh(line, stdout=path, stderr=path, append=False, retry=1))
    assert job.attempts == 2
    assert path.read_text() == "a\nb\nc\n"


def test_an_error_shows_the_end_of_a_truncated_standard_error_file(
    backend: str, tmp_path: Path
) -> None:
    """With `append=False`, an error quotes the new standard error, whatever the earlier length of its file."""
    path = tmp_path / "log"
    path.write_text("x" * 1000)
    assert (
        failure_of(
            backend, sh("echo why >&2; exit 1", stderr=path, append=False)
        ).stderr
        == b"why\n"
    )


class Display(io.StringIO):
    """A replacement of sys.stdout, as live displays and notebooks install."""

    def fileno(self) -> int:
        return 1


def test_output_goes_to_sys_stdout_and_not_to_its_descriptor(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Output goes to a replaced `sys.stdout`, not to its descriptor, where a live display or notebook would lose it."""
    monkeypatch.setattr(sys, "stdout", Display())
    run(backend, sh("echo a; printf b"))
    assert sys.stdout.getvalue() == "a\nb"  # type: ignore[attr-defined]


def test_an_output_path_is_not_relative_to_cwd(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    run(backend, sh("echo a", cwd=tmp_path / "elsewhere", stdout="log"))
    assert (tmp_path / "log").read_text() == "a\n"


def test_output_may_go_to_an_open_file_or_a_descriptor(
    backend: str, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("w") as file:
        run(
            backend,
            sh("echo a", stdout=file),
            sh("echo b", stdout=file.fileno()),
            jobs_window=1,
        )
    assert (tmp_path / "log").read_text() == "a\nb\n"


def test_output_without_a_destination_goes_where_print_goes(
    backend: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Output without a destination arrives at this program's own streams, and none that goes to DEVNULL."""
    run(
        backend,
        sh("echo out; echo err >&2"),
        sh("echo out; echo err >&2", stdout=DEVNULL, stderr=STDOUT),
    )
    assert capfd.readouterr() == ("out\n", "err\n")


@pytest.mark.parametrize("where", ["stdout", "stderr"])
def test_standard_error_may_go_where_print_goes(where: str) -> None:
    """With `stderr=STDOUT` and no `stdout=`, both streams go to `sys.stdout` of this program."""
    job = "CommandJob('echo out; echo err >&2', shell=True, stderr=subprocess.STDOUT)"
    code = f"import subprocess, sys; from trioflow import *; sys.stdout = sys.{where}; Scheduler({job}).run()"
    done = pythons.python("-c", code, text=True)
    assert {"stdout": done.stdout, "stderr": done.stderr} == {
        "stdout": "",
        "stderr": "",
        where: "out\nerr\n",
    }


def test_output_goes_to_a_sys_stdout_without_a_descriptor(backend: str) -> None:
    file = io.StringIO()
    with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        job = sh("echo out; printf 'gr\\303\\274n \\377'")
        run(backend, job, sh("echo err >&2"), jobs_window=1)
    assert job.result().stdout is None
    assert file.getvalue() == "out\ngrün \\xfferr\n"


def test_a_binary_file_object_gets_the_output_as_bytes(backend: str) -> None:
    file = io.BytesIO()
    run(backend, sh("printf 'a\\377'", stdout=file, stderr=STDOUT))
    assert file.getvalue() == b"a\xff"


def test_output_is_discarded_if_sys_stdout_is_none(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    job = ran(backend, sh("exec 3>&1; readlink /proc/$$/fd/3 >&2", stderr=PIPE))
    assert job.result().stderr == b"/dev/null\n"


# --- captured
def test_both_streams_are_captured_apart_or_together(backend: str) -> None:
    """Both streams may be captured, separately or merged, or one alone; an uncaptured stream is None."""
    apart = sh("echo out; echo err >&2", stdout=PIPE, stderr=PIPE)
    together = sh("echo out; echo err >&2", stdout=PIPE, stderr=STDOUT)
    error_alone = sh("echo out; echo err >&2", stdout=DEVNULL, stderr=PIPE)
    run(backend, apart, together, error_alone)
    assert (apart.result().stdout, apart.result().stderr) == (b"out\n", b"err\n")
    assert (together.result().stdout, together.result().stderr) == (b"out\nerr\n", None)
    assert (error_alone.result().stdout, error_alone.result().stderr) == (
        None,
        b"err\n",
    )


def test_large_output_is_spooled_to_disk(backend: str) -> None:
    size = 8 << 20
    job = ran(
        backend,
        sh(
            f"head -c {size} /dev/zero | tr '\\0' x; echo end >&2",
            stdout=PIPE,
            stderr=PIPE,
        ),
    )
    result = job.result()
    assert isinstance(result._stdout, OutputSpool)
    assert repr(result).startswith(
        f"<CommandResult returncode=0, stdout={size} bytes, stderr=b'end\\n',"
    )
    with result.open() as file:
        assert file.read(3) == b"xxx"
        assert file.seek(-2, os.SEEK_END) == size - 2
        assert file.read() == b"xx"
        assert file.seek(1) + file.seek(1, os.SEEK_CUR) == 3
    assert result.stdout == b"x" * size
    assert result.open("stderr").read() == b"end\n"
    with pytest.raises(ValueError, match="'stdin' was not captured"):
        result.open("stdin")  # type: ignore[arg-type]


@pytest.mark.soak
def test_a_gibibyte_is_captured_in_little_memory(backend: str) -> None:
    """Capturing 1 GiB of output takes less than 50 MiB of memory."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    job = ran(backend, sh(f"head -c {1 << 30} /dev/zero", stdout=PIPE))
    with job.result().open() as file:
        assert file.seek(0, os.SEEK_END) == 1 << 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_full_disk_fails_the_job_and_ends_the_command(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        _output_sinks.OutputSpool,
        "write",
        raising(OSError(28, "No space left on device")),
    )
    job, other = sh("yes", stdout=PIPE), sh("echo a", stdout=PIPE)
    run(backend, job, other)
    with pytest.raises(OSError, match="No space left"):
        job.result()
    assert other.result().stdout == b"a\n"


def test_output_that_a_grandchild_holds_open_is_not_waited_for(
    backend: str, watched: Watched
) -> None:
    job = ran(
        backend, sh("setsid sleep 1000 & printf x", stdout=PIPE, timeout=PATIENCE)
    )
    assert job.result().stdout == b"x"


def test_output_written_after_sigterm_is_captured(backend: str, tmp_path: Path) -> None:
    """Pipes are read until their last writer closes them, so output written after SIGTERM is captured, too."""
    armed = tmp_path / "armed"
    line = f"trap 'head -c 200000 /dev/zero; exit 1' TERM; echo; touch '{armed}'; sleep 1000 & wait"
    job = ran(
        backend,
        sh(line, stdout=PIPE, timeout=0.1, on_start=lambda job: until_there(armed)),
    )
    assert job.last_result is not None
    assert job.last_result.returncode == 1
    assert len(job.last_result.stdout or b"") == 200_001


# --- line by line
def test_on_line_gets_each_line_as_text(backend: str) -> None:
    lines: list[tuple[str, str]] = []
    job = sh(
        "printf 'a\\r\\nb\\377\\n\\nc'; exit 0",
        label="me",
        on_line=lambda job, line: lines.append((job.label, line)),
    )
    run(backend, job)
    assert lines == [("me", "a"), ("me", "b\\xff"), ("me", ""), ("me", "c")]
    assert job.result().stdout is None


def test_on_line_is_called_while_the_command_runs(backend: str) -> None:
    job = ran(
        backend,
        sh("echo ready; exec sleep 1000", on_line=lambda job, line: job.cancel()),
    )
    assert job.state is JobState.CANCELLED


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has larger pipes")
def test_all_lines_arrive_though_the_program_has_made_its_pipe_larger(
    backend: str,
) -> None:
    def add(job: CommandJob, line: str) -> None:
        if not lines:
            # All of the output is in the pipe.
            posix.has_exited(job.pid or 0, waits=True)
        lines.append(line)

    lines: list[str] = []
    set_pipe_size = 1031
    code = f"import fcntl; fcntl.fcntl(1, {set_pipe_size}, 1 << 20); print('line\\n' * 100_000, end='')"
    run(backend, python(code, on_line=add))
    assert lines == ["line"] * 100_000


def test_on_line_and_capture_can_be_combined(backend: str) -> None:
    lines: list[str] = []
    job = ran(
        backend,
        sh(
            "echo a; echo b >&2",
            stdout=PIPE,
            stderr=PIPE,
            on_line=lambda job, line: lines.append(line),
        ),
    )
    assert sorted(lines) == ["a", "b"]
    assert (job.result().stdout, job.result().stderr) == (b"a\n", b"b\n")


@given(data=st.data())
def test_what_on_line_gets_does_not_depend_on_how_output_arrives(
    data: st.DataObject,
) -> None:
    """However output is cut on its way, lines are whole, or in pieces of the maximum size. Lines of more than 64 KiB
    once came in pieces that depended on the moments of reads."""
    sizes = data.draw(
        st.lists(st.sampled_from([0, 1, 99, 100, 101, 200, 350]), max_size=4)
    )
    output = b"\n".join(b"x" * size for size in sizes)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(output)), max_size=6)))
    lines: list[int] = []
    sink = LineSink(lambda line: lines.append(len(line)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_output_sinks, "MAX_LINE_BYTES", 100)
        for begin, end in itertools.pairwise([0, *cuts, len(output)]):
            sink.write(output[begin:end])
        sink.finish()
    whole = (
        sizes[:-1] if sizes and not sizes[-1] else sizes
    )  # an empty last line is none
    pieces = [
        [100] * ((size - 1) // 100) + [size - max(size - 1, 0) // 100 * 100]
        for size in whole
    ]
    assert lines == [*itertools.chain.from_iterable(pieces)]


def test_on_line_gets_long_lines_whole(backend: str) -> None:
    size = 3_000_000
    lines: list[str] = []
    run(
        backend,
        sh(
            f"head -c {size} /dev/zero | tr '\\0' x",
            on_line=lambda job, line: lines.append(line),
        ),
    )
    assert [len(line) for line in lines] == [size]


def test_an_on_line_callback_that_raises_fails_the_job_and_ends_the_command(
    backend: str,
) -> None:
    def refuse(job: CommandJob, line: str) -> None:
        raise LookupError(line)

    job = ran(backend, sh("echo a; echo b; exec sleep 1000", on_line=refuse))
    with pytest.raises(LookupError, match="a"):
        job.result()


def test_tagged_lines_are_printed_whole(
    backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `tag=`, each line is printed after the label or the given text, on the stream it was written to."""
    run(
        backend,
        sh("echo a; printf b", label="one", tag=True),
        sh("echo c >&2", tag="2> "),
        jobs_window=1,
    )
    assert capsys.readouterr() == ("one: a\none: b\n", "2> c\n")


def test_tagged_lines_have_escapes_for_what_the_stream_cannot_encode(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A character that standard output lacks does not fail the command, which has written it."""
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding="ascii"))
    run(backend, sh("printf 'caf\\303\\251'", label="é", tag=True))
    sys.stdout.flush()
    assert data.getvalue() == b"\\xe9: caf\\xe9\n"


@pytest.mark.parametrize("tag", [True, "{label}: "])
def test_a_tag_escapes_control_characters(
    backend: str, capsys: pytest.CaptureFixture[str], tag: bool | str
) -> None:
    """A label in a tag is escaped, so that it can neither control the terminal nor begin a new line."""
    run(backend, sh("echo a", label="\x1b[31mred\nline", tag=tag))
    assert capsys.readouterr().out == "\\x1b[31mred\\nline: a\n"


@pytest.mark.parametrize(
    ("tag", "line"),
    [
        ("{time} {label}: ", r"\d\d:\d\d:\d\d it: a"),
        ("{time:%Y-%m-%d %H-%M-%S.%f} ", r"\d{4}-\d\d-\d\d \d\d-\d\d-\d\d\.\d{6} a"),
        ("{nobody} {} {label:x} {", r"{nobody} {} {label:x} {a"),
        ("100% ", "100% a"),
    ],
)
def test_a_tag_may_have_each_lines_time(
    backend: str, capsys: pytest.CaptureFixture[str], tag: str, line: str
) -> None:
    """A tag may contain `{label}` and `{time}`, also with a format; other braces are printed unchanged."""
    run(backend, sh("echo a", label="it", tag=tag))
    assert re.fullmatch(f"{line}\n", capsys.readouterr().out)


def test_time_in_a_tag_is_that_of_the_line(
    backend: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shown: list[str] = []

    async def until_shown() -> None:
        while not shown or not shown[-1]:
            await anyio.sleep(0.01)
            shown.append(capsys.readouterr().out)
        (tmp_path / "shown").touch()

    line = f"echo a; until test -e {tmp_path}/shown; do sleep 0.01; done; echo b"
    run(backend, sh(line, tag="{time:%H%M%S%f} "), Job(until_shown))
    assert shown[-1].removesuffix(" a\n") != capsys.readouterr().out.removesuffix(
        " b\n"
    )


def test_lines_of_many_commands_are_never_mixed(
    backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [
        python(
            "import sys\nfor _ in range(50): print(sys.argv[1] * 99, flush=True)",
            name,
            tag=f"{name} ",
        )
        for name in "abcdef"
    ]
    run(backend, *jobs)
    lines = capsys.readouterr().out.splitlines()
    assert sorted(set(lines)) == [f"{name} {name * 99}" for name in "abcdef"]
    assert len(lines) == 300


# --- input
def test_standard_input_is_empty_by_default(backend: str) -> None:
    job = ran(backend, sh("wc -c", stdout=PIPE))
    assert job.result().stdout == b"0\n"


@pytest.mark.parametrize("size", [0, 3, 5_000_000])
def test_standard_input_may_be_bytes(backend: str, size: int) -> None:
    """`stdin=` may be any number of bytes, from none to more than a pipe holds."""
    job = ran(backend, CommandJob(["wc", "-c"], stdin=b"x" * size, stdout=PIPE))
    assert int(job.result().stdout or b"-1") == size


def test_standard_input_may_be_a_path_a_file_a_descriptor_or_devnull(
    backend: str, tmp_path: Path
) -> None:
    path = tmp_path / "input"
    path.write_text("text")
    with path.open() as file, path.open() as another:
        given: list[Any] = [path, str(path), file, another.fileno(), DEVNULL]
        jobs = [CommandJob(["cat"], stdin=one, stdout=PIPE) for one in given]
        run(backend, *jobs)
    assert [job.result().stdout for job in jobs] == [b"text"] * 4 + [b""]


def test_standard_input_may_be_the_result_of_a_job(backend: str) -> None:
    """`stdin=` may be a job whose result is bytes or captured output, which several commands may read."""
    few, many = (
        CommandJob(["echo", "few"], stdout=PIPE),
        sh("head -c 3000000 /dev/zero", stdout=PIPE),
    )
    data = ThreadJob(lambda: b"data")
    jobs = [
        CommandJob(["wc", "-c"], stdin=one, stdout=PIPE)
        for one in (few, many, many, data)
    ]
    run(backend, *jobs)
    assert [int(job.result().stdout or b"") for job in jobs] == [
        4,
        3_000_000,
        3_000_000,
        4,
    ]


def test_what_cannot_be_standard_input_is_refused(backend: str) -> None:
    """A result that cannot be standard input fails the command; a file in memory has no descriptor, and is refused."""
    number = ran(
        backend, CommandJob(["cat"], stdin=ThreadJob(lambda: 1.5), label="one")
    )
    with pytest.raises(TypeError, match=r"stdin of 'one': 1.5, a float"):
        number.result()
    with pytest.raises(
        TypeError,
        match=r"stdin of 'two': <_io.BytesIO .*: give bytes, a path, an open file",
    ):
        CommandJob(["cat"], stdin=io.BytesIO(b"in"), label="two")


def test_output_in_small_pieces_takes_no_more_memory() -> None:
    """Output captured in small pieces is joined: an object for each piece would take six times the memory."""
    capture, size = _output_sinks.CaptureSink(), _output_sinks.SPOOL_LIMIT_BYTES // 64
    tracemalloc.start()
    for _ in range(size // 10):
        capture.write(str(tracemalloc).encode()[:10])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(capture.output(), bytes)
    assert peak < 3 * size


def test_a_spooled_result_can_be_copied_and_pickled(backend: str) -> None:
    """A copied or pickled result has its output in memory, since a descriptor is meaningless in another process."""
    job = ran(
        backend,
        CommandJob(
            ["head", "-c", _output_sinks.SPOOL_LIMIT_BYTES + 1, "/dev/zero"],
            stdout=PIPE,
        ),
    )
    assert isinstance(job.result()._stdout, OutputSpool)
    for made in (pickle.loads(pickle.dumps(job.result())), copy.deepcopy(job.result())):
        assert isinstance(made._stdout, bytes)
        assert made.stdout == bytes(_output_sinks.SPOOL_LIMIT_BYTES + 1)
        assert made.elapsed == job.result().elapsed


@pytest.mark.parametrize(
    ("stream", "path"),
    [("stdout", "/proc/nothing/log"), ("stderr", "/dev"), ("stdin", "/no such file")],
)
def test_a_stream_that_cannot_be_opened_fails_the_job(
    backend: str, stream: str, path: str
) -> None:
    error = failure_of(backend, CommandJob(["true"], **{stream: path}))  # type: ignore[arg-type]
    assert "not started" in str(error)
    assert "cannot open" in str(error)
    assert isinstance(error.__cause__, OSError)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_named_pipe_without_another_end_does_not_stop_the_event_loop(
    backend: str, stream: str, pipe: Path
) -> None:
    """A named pipe as a stream once stopped the loop for ever, because opening it waits for the other end."""
    job = CommandJob(["true"], timeout=0.05, **{stream: pipe})  # type: ignore[arg-type]
    run(backend, job)
    assert isinstance(job.raised_exception(), JobTimeout)


def test_a_command_that_fails_with_a_named_pipe_does_not_stop_the_event_loop(
    backend: str, pipe: Path
) -> None:
    """The end of standard error, which a failure shows, is not read from a named pipe."""
    fails = sh("echo err >&2; exit 3", stderr=pipe)
    reads = CommandJob(["cat"], stdin=pipe, stdout=PIPE)
    run(backend, fails, reads)
    assert (str(fails.raised_exception()).partition(":")[0], reads.result().stdout) == (
        "exit code 3",
        b"err\n",
    )


def test_commands_may_be_joined_by_a_named_pipe(
    backend: str, pipe: Path, tmp_path: Path
) -> None:
    """Two commands meet at a named pipe, wherever they run; the one that writes keeps its exit code."""
    (tmp_path / "place").mkdir()
    path = os.path.relpath(pipe)
    writes = sh(
        "echo out; echo err >&2; exit 3",
        stdout=path,
        stderr=STDOUT,
        cwd=tmp_path / "place",
        check=[3],
    )
    reads = CommandJob(["cat"], stdin=path, stdout=PIPE, cwd="/", env={})
    run(backend, writes, reads)
    assert (writes.result().returncode, reads.result().stdout) == (3, b"out\nerr\n")


def test_a_missing_program_with_a_named_pipe_is_said_not_to_exist(
    backend: str, pipe: Path
) -> None:
    assert "program 'no-such-program' not found" in str(
        failure_of(backend, CommandJob(["no-such-program"], stdin=pipe))
    )


def test_output_that_passes_through_this_program_cannot_go_to_a_named_pipe(
    backend: str, pipe: Path
) -> None:
    """Output that is watched for signs of life passes through this program, which must not wait for a reader."""
    error = failure_of(backend, CommandJob(["true"], stdout=pipe, idle_timeout=60))
    assert "it is a named pipe, and this output passes through trioflow" in str(error)


def test_a_program_that_cannot_write_its_output_fails_with_its_own_error(
    backend: str,
) -> None:
    error = failure_of(backend, CommandJob(["seq", 9], stdout="/dev/full", stderr=PIPE))
    assert isinstance(error, CommandError)
    assert b"No space left" in (error.stderr or b"")


def test_no_descriptor_is_left_open_by_commands(
    backend: str, tmp_path: Path, watched: Watched
) -> None:
    def jobs() -> list[CommandJob]:
        return [
            sh("echo a", stdout=PIPE, stderr=PIPE, stdin=b"x"),
            sh("echo a", stdout=tmp_path / "log", on_settled=lambda job: None),
            sh("exec sleep 1000", stdout=PIPE, stderr=STDOUT, timeout=0.02),
            sh("echo a", tag=True),
            CommandJob(["no such program"], stdout=PIPE, stdin=b"x"),
            CommandJob(["true"], stdin="no such file", stdout=PIPE),
            sh("setsid sleep 1000 & echo a", stdout=PIPE),
        ]

    run(backend, *jobs())
    before = set(os.listdir("/proc/self/fd"))
    Scheduler(*jobs()).run(backend=backend)
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("fault", ["full", "locked"])
def test_captured_output_that_cannot_be_kept_fails_with_the_place_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backend: str, fault: str
) -> None:
    """A full disk was once reported as "[Errno 28]" alone, without the folder for temporary files, or what to do."""
    number = errno.ENOSPC if fault == "full" else errno.EACCES
    fail = raising(OSError(number, "bare"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module = "trioflow.jobs.command._output_sinks"
    monkeypatch.setattr(
        *(
            (f"{module}.write_all", fail)
            if fault == "full"
            else ("tempfile.TemporaryFile", fail)
        )
    )
    job = ran(
        backend,
        CommandJob(["head", "-c", "2000000", "/dev/zero"], stdout=subprocess.PIPE),
    )
    what = "captured output"
    if fault == "locked" and not hasattr(_guard.os, "memfd_create"):
        what = "the table of running commands"  # without memfd this is the first temporary file
    assert (
        f"cannot keep {what} in '{tmp_path}': {os.strerror(number)}; free space there"
        in str(job.raised_exception())
    )


@pytest.mark.parametrize("kept", ["the table of running commands", "standard input"])
def test_what_a_command_needs_before_its_start_is_not_mistaken_for_its_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backend: str, kept: str
) -> None:
    """Without memfd, a folder for temporary files that cannot be written once came out as "'cat' is not executable"."""
    fail = raising(OSError(errno.EACCES, "bare"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if kept == "standard input":
        monkeypatch.setattr(_streams, "write_all", fail)
    else:
        monkeypatch.setattr(tempfile, "TemporaryFile", fail)
        monkeypatch.delattr(_guard.os, "memfd_create", raising=False)
    job = ran(backend, CommandJob(["cat"], stdin=b"input"))
    message = str(job.raised_exception())
    assert message.startswith(
        f"not started: cannot keep {kept} in '{tmp_path}': Permission denied; free space there"
    )


# --- what a command declares in `writes=` keeps its name only if the command has succeeded

HALF = "echo half > out; mkdir -p tree; echo half > tree/file"
ENDLESS = "touch begun; sleep 1000"


def make(place: Path, code: str, **options: Any) -> CommandJob:
    written = {
        "writes": [place / "out", place / "tree"],
        "terminate_grace": 0.1,
        **options,
    }
    return CommandJob(f"{HALF}; {code}", shell=True, cwd=place, **written)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("exit 1", {}), ("kill -9 $$", {}), (ENDLESS, {"timeout": 0.3}), (ENDLESS, {"idle_timeout": 0.3}),
        (ENDLESS, {}), ("rm out", {}), ("exit 1", {"retry": 1}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("journal", [None, "run.db"])
def test_outputs_of_a_command_without_success_are_set_aside_at_once(
    tmp_path: Path,
    backend: str,
    code: str,
    options: dict[str, Any],
    journal: str | None,
) -> None:
    """Half-written outputs once kept their names after a failure, timeout or cancellation, until the next run."""

    def begun(job: CommandJob) -> None:
        until_there(tmp_path / "begun")
        if not options:
            job.cancel()

    (tmp_path / "tree").mkdir()
    job = make(tmp_path, code, on_start=begun if code == ENDLESS else None, **options)
    Scheduler(job).run(
        backend=backend, journal=None if journal is None else tmp_path / journal
    )
    found = {name for name in os.listdir(tmp_path) if not name.startswith("run.db")} - {
        "begun"
    }
    assert found == {"out.partial", "tree", "tree.partial"} - (
        {"out.partial"} if code == "rm out" else set()
    )
    assert os.listdir(tmp_path / "tree") == []
    assert (tmp_path / "tree.partial" / "file").read_text() == "half\n"


@pytest.mark.both_backends
@pytest.mark.parametrize("exit_code", [0, 1])
@pytest.mark.parametrize("retries", [0, 1])
def test_outputs_are_where_the_directory_was_as_the_attempt_began(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    exit_code: int,
    retries: int,
) -> None:
    """Another job once changed the directory meanwhile: the output was looked for, and set aside, in the new one."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)

    def move() -> None:
        until_there(first / "out")
        os.chdir(second)
        if exit_code:
            # The output of the job is elsewhere.
            (second / "out").write_text("of others")
        (first / "go").touch()

    line = f"echo printed; echo mine > out; until test -e {first}/go; do sleep 0.01; done; exit {exit_code}"
    options: dict[str, Any] = {"retry": Retry(retries, first=0)} if retries else {}
    job = sh(line, writes="out", stdout="log", timeout=PATIENCE, **options)
    assert Scheduler(job, ThreadJob(move)).run(backend=backend) is (exit_code == 0)
    is_retried = bool(exit_code and retries)
    assert job.attempts == (2 if is_retried else 1)
    assert job.state is (JobState.FAILED if exit_code else JobState.SUCCEEDED)
    assert not isinstance(job.raised_exception(), JobTimeout)
    assert sorted(os.listdir(first)) == [
        "go",
        "log",
        "out.partial" if exit_code else "out",
    ]
    assert (first / "log").read_text() == "printed\n"
    if is_retried:
        # The second attempt has begun in the other directory, where the file of others was begun anew.
        assert sorted(os.listdir(second)) == ["log", "out.partial"]
    elif exit_code:
        assert (second / "out").read_text() == "of others"
        assert os.listdir(second) == ["out"]
    else:
        assert os.listdir(second) == []


def test_outputs_that_a_failed_command_has_not_touched_or_reads_stay(
    tmp_path: Path, backend: str
) -> None:
    for name in ("out", "tree", "old", "link"):
        (tmp_path / name).write_text("before")
    job = CommandJob(
        "echo half > out; exit 1", shell=True, cwd=tmp_path,
        writes=[tmp_path / name for name in ("out", "old", "none")], reads=[tmp_path / "out"],
    )  # fmt: skip
    Scheduler(job).run(backend=backend)
    assert sorted(os.listdir(tmp_path)) == ["link", "old", "out", "tree"]


def test_a_retry_that_succeeds_writes_its_outputs_anew(
    tmp_path: Path, backend: str
) -> None:
    """The outputs of a failed attempt are set aside before the next one, whose own keep their names."""
    job = make(tmp_path, "test -e ok || { touch ok; exit 1; }", retry=Retry(1, first=0))
    Scheduler(job).run(backend=backend)
    assert sorted(os.listdir(tmp_path)) == [
        "ok",
        "out",
        "out.partial",
        "tree",
        "tree.partial",
    ]


def test_what_links_in_a_directory_lead_to_stays_when_it_is_set_aside_again(
    tmp_path: Path, backend: str
) -> None:
    """A link to a directory once kept the remains of the attempt before, and so the half-written output in place."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o500)
    job = make(
        tmp_path,
        f"mkdir new; ln -s {elsewhere} new/link; exit 1",
        writes=[tmp_path / "new"],
        retry=1,
    )
    Scheduler(job).run(backend=backend)
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "new.partial", "out", "tree"]
    assert elsewhere.stat().st_mode & 0o777 == 0o500


@pytest.mark.parametrize("is_there", [True, False])
def test_links_of_others_stay_where_they_are(
    tmp_path: Path, backend: str, is_there: bool
) -> None:
    """What they lead to is set aside if it is new; each leads where it led, although nothing may be there any more."""
    (tmp_path / "data").mkdir()
    links = {"out": "link", "link": "data/file", "tree": "data/tree"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    if is_there:
        (tmp_path / "data" / "file").write_text("before\n")
    code = "echo half >> out; mkdir -p data/tree; echo half > tree/file; exit 1"
    job = CommandJob(
        code,
        shell=True,
        cwd=tmp_path,
        writes=[tmp_path / "out", tmp_path / "tree"],
        retry=1,
    )
    Scheduler(job).run(backend=backend)
    assert {name: os.readlink(tmp_path / name) for name in links} == links
    assert sorted(os.listdir(tmp_path / "data")) == [
        "file" if is_there else "file.partial",
        "tree.partial",
    ]


def test_a_text_that_was_given_as_the_input_is_told_from_the_name_of_a_file(
    backend: str,
) -> None:
    error = failure_of(backend, CommandJob(["cat"], stdin="hello world"))
    assert "give bytes: stdin=text.encode()" in error.__notes__[0]


def test_a_file_object_has_all_output_when_the_command_has_ended(backend: str) -> None:
    """Also one with a buffer: nobody else flushes it."""
    written: list[bytes] = []

    class Raw(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            written.append(bytes(data))
            return len(data)

    file = io.BufferedWriter(Raw(), 1 << 16)
    sink = _output_sinks.FileSink(file)
    sink.write(b"said")
    assert written == []
    sink.finish()
    assert b"".join(written) == b"said"
    text = io.TextIOWrapper(io.BufferedWriter(Raw(), 1 << 16), "utf-8")
    sink = _output_sinks.FileSink(text)
    sink.write("é".encode()[:1])
    sink.finish()
    assert b"".join(written) == b"said\\xc3"


def test_the_end_of_an_output_may_be_asked_as_it_moves_to_the_disk() -> None:
    """A page showed no output at that instant."""

    def prepare() -> tuple[Callable[[], bytes], Callable[[], None]]:
        sink = _output_sinks.CaptureSink()
        sink.write(b"x" * _output_sinks.SPOOL_LIMIT_BYTES)
        return lambda: sink.tail(2), lambda: sink.write(b"yy")

    assert {*answers_midway(prepare)} == {b"xx", b"yy"}

    def prepare_asking() -> tuple[Callable[[], None], Callable[[], None]]:
        sink = _output_sinks.CaptureSink()
        sink.write(b"x" * _output_sinks.SPOOL_LIMIT_BYTES)
        return lambda: sink.write(b"yy"), lambda: ends.add(sink.tail(2))

    ends = set[bytes]()
    assert {*answers_midway(prepare_asking)} == {None}
    assert ends == {b"xx"}
