"""`CommandJob`: what is run, with what arguments, and its outcome."""

import contextlib
import functools
import io
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
import pytest
import trioflow
from trioflow import (
    CommandError,
    CommandJob,
    CommandResult,
    Job,
    Pool,
    Scheduler,
    Sequence,
    SshJob,
    ThreadJob,
    granted,
)
from trioflow.abc import propagate_env
from ...bodies import hooked, nothing, raising, ran, run
from ...places import patiently
from ..posix.process_trees import Watched
from ..posix.process_trees import watched as watched
from .commands import PIPE, failure_of, python


# --- result, label and arguments
def test_result_of_a_command_has_its_exit_code_output_and_usage(backend: str) -> None:
    """A result has the exit code, the output and the times; a peak memory below that of this program is None."""
    job = ran(backend, CommandJob(["echo", "hello"], stdout=PIPE))
    result = job.result()
    assert isinstance(result, CommandResult)
    assert (result.returncode, result.signal, result.stdout, result.stderr) == (
        0,
        None,
        b"hello\n",
        None,
    )
    assert result.elapsed > 0
    assert result.user_time + result.system_time > 0
    assert result.user_time == round(result.user_time, 6)
    assert result.max_rss is None  # less than this program's own
    assert isinstance(result._stdout, bytes)


def test_cpu_time_of_a_command_includes_its_children(backend: str) -> None:
    job = CommandJob(
        [
            "sh",
            "-c",
            f"{sys.executable} -S -E -c 'import time\nwhile time.process_time() < 0.1: pass'; :",
        ]
    )
    run(backend, job)
    assert 0.1 <= job.result().user_time + job.result().system_time < 5


def test_peak_memory_is_that_of_the_command_or_none(backend: str) -> None:
    ballast = b"x" * 100_000_000
    size = (
        50_000_000 + 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )  # more than this program ever had
    large, small = (
        python(f"x = b'x' * {size}"),
        [CommandJob(["true"]) for _ in range(5)],
    )
    run(backend, large, *small, jobs_window=1)
    del ballast
    assert size < (large.result().max_rss or 0) < 2 * size
    assert {job.result().max_rss for job in small} == {None}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["gzip", "-k", "a file"], "gzip -k 'a file'"),
        (["x"] * 100, "x " * 15 + "…" + "x " * 14 + "x"),
        (["echo", "y" * 10**7], "echo " + "y" * 25 + "…" + "y" * 29),
        (
            ["bench", "/a" * 20, "--repeat", 3, "--size", 200],
            "bench /a/a/a/a/a/a/a/a/a/a/a/a…a/a/a/a --repeat 3 --size 200",
        ),
        ([Path("/bin/true"), b"bytes", 1.5], "/bin/true bytes 1.5"),
    ],
)
def test_the_default_label_is_the_command_line_shortened(
    command: list[Any], expected: str
) -> None:
    assert CommandJob(command).label == expected


def test_label_of_a_job_shows_the_command_lines_of_its_inputs() -> None:
    async def use(result: CommandResult) -> None: ...

    count = CommandJob(["wc", "-l", "file-7.txt"])
    assert Job(use, count).label == "use(wc -l file-7.txt)"
    assert Job(use, CommandJob("ls | wc -l", shell=True)).label == "use(ls | wc -l)"
    assert (
        Job(use, CommandJob(["curl", "secret"], redact=True)).label == "use(command …)"
    )
    assert Job(use, CommandJob(["true"], label="mine")).label == "use(mine)"
    assert CommandJob(["echo", Job(use, count)]).label == "echo <use(wc -l file-7.txt)>"
    for _ in range(1500):
        count = CommandJob(["cat", count])
    assert count.label == "cat <cat <cat <cat <…>>>>"


def test_the_label_of_a_shell_command_is_its_line() -> None:
    assert CommandJob("a | b\n c", shell=True).label == "a | b c"


def test_arguments_may_be_strings_bytes_paths_and_numbers(backend: str) -> None:
    job = ran(
        backend,
        CommandJob(["printf", "%s|", "a b", b"\xff", Path("p"), 3, 0.5], stdout=PIPE),
    )
    assert job.result().stdout == b"a b|\xff|p|3|0.5|"
    assert job.command[1:3] == ("%s|", "a b")


def test_jobs_among_the_arguments_are_filled_in(backend: str) -> None:
    """A job among the arguments becomes its result, and a command its output without the final line ending."""
    number = ThreadJob(lambda: 7)
    words = CommandJob(["echo", "two words"], stdout=PIPE)
    job = ran(backend, CommandJob(["printf", "%s|", number, words], stdout=PIPE))
    assert job.result().stdout == b"7|two words|"
    assert job.label == "printf '%s|' <<lambda>()> <echo 'two words'>"


def test_a_result_that_cannot_be_an_argument_fails_the_job(backend: str) -> None:
    nobody = Job(nothing, label="nobody")
    job = ran(backend, CommandJob(["echo", nobody]))
    with pytest.raises(
        TypeError, match="argument 1 is None, a NoneType: give a string"
    ):
        job.result()


def test_uncaptured_output_as_an_argument_or_input_fails_the_job(backend: str) -> None:
    first = CommandJob(["true"])
    argument, read = CommandJob(["echo", first]), CommandJob(["cat"], stdin=first)
    run(backend, argument, read)
    with pytest.raises(
        TypeError,
        match="argument 1 is the result of a command whose output was not captured",
    ):
        argument.result()
    with pytest.raises(
        TypeError,
        match="stdin of 'cat' is the result of a command whose output was not captured",
    ):
        read.result()


@pytest.mark.parametrize(
    ("command", "options", "error", "message"),
    [
        (
            "ls | wc -l",
            {},
            TypeError,
            r"such as CommandJob\(\['sh', '-c', 'ls \| wc -l'\]\), or a string with shell=True",
        ),
        (
            "echo a",
            {},
            TypeError,
            r"give a list, such as CommandJob\(\['echo', 'a'\]\), or a string with shell=True",
        ),
        (["echo"], {"shell": True}, TypeError, "give one string"),
        ([], {}, ValueError, "the command is empty"),
        (
            " \n",
            {"shell": True},
            ValueError,
            "the command is empty: give a command line",
        ),
        (5, {}, TypeError, "give a list"),
        (["echo", None], {}, TypeError, "argument 1 is None"),
        (["echo", ["a"]], {}, TypeError, r"argument 1 is \['a'\], a list"),
        (["echo", True], {}, TypeError, "argument 1 is True"),
        (["echo", "a\0b"], {}, ValueError, "argument 1 contains a NUL"),
        ("echo a\0b", {"shell": True}, ValueError, "NUL"),
        ([""], {}, ValueError, "argument 0 is empty: give the name of a program"),
        (
            ["x"],
            {"append": "no"},
            TypeError,
            "append='no' of 'CommandJob': give True or False",
        ),
        (["x"], {"terminate_grace": -1}, ValueError, "terminate_grace=-1"),
        (["x"], {"on_start": 3}, TypeError, "on_start=3"),
        (["x"], {"pin": "core"}, ValueError, "pin='core'"),
        (["x"], {"nice": 1.5}, TypeError, "nice=1.5"),
        (["x"], {"memory_limit": 0}, ValueError, "memory_limit=0"),
        (
            ["x"],
            {"memory_limit": 1 << 70},
            ValueError,
            "memory_limit=1180591620717411303424 of",
        ),
        (["x"], {"stdin": PIPE}, ValueError, "PIPE and STDOUT are only for output"),
        (["x"], {"stdout": b"bytes"}, TypeError, "stdout=b'bytes'"),
        (
            ["x"],
            {"stdout": subprocess.STDOUT},
            ValueError,
            "only stderr= can be STDOUT",
        ),
        (["x"], {"stdout": "file", "tag": True}, ValueError, "line by line"),
        (["x"], {"env": {"A": 1}}, TypeError, "'A': 1"),
        (["x"], {"env": {"A=B": "c"}}, ValueError, "must not be empty or contain '='"),
        (["x"], {"retry": -1, "on_succeeded": print}, ValueError, "retry=-1"),
        (["x"], {"timeout": 0}, ValueError, "timeout=0"),
        (["x"], {"unknown": 0}, TypeError, "unknown"),
    ],
)
def test_invalid_arguments_of_a_command_raise_when_the_job_is_created(
    command: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        CommandJob(command, **options)


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_stream_file_that_is_closed_before_the_start_fails_the_job(
    backend: str, name: str
) -> None:
    file: Any = io.BytesIO() if name == "stdout" else open(os.devnull, "r+b")  # noqa: SIM115  # it is closed below
    options: Any = {name: file}
    job = CommandJob(["touch", "/nowhere/at/all"], label="j", **options)
    file.close()
    run(backend, job)
    with pytest.raises(
        ValueError,
        match=f"{name} of 'j' is a closed file: keep it open until the job has ended",
    ):
        job.result()


def test_a_command_has_the_given_directory_and_environment(
    backend: str, tmp_path: Path
) -> None:
    """A command runs in `cwd=` with the variables of `env=`, to which only the mark of the run is added."""
    job = ran(
        backend,
        CommandJob(
            "pwd; /usr/bin/env", shell=True, cwd=tmp_path, env={"A": "ä"}, stdout=PIPE
        ),
    )
    directory, *variables = job.result().stdout.decode().splitlines()
    assert directory == str(tmp_path)
    assert "A=ä" in variables
    assert {one.partition("=")[0] for one in variables} == {"A", "TRIOFLOW_RUN", "PWD"}


def test_a_command_inherits_the_environment_at_its_start(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = CommandJob("echo $TRIOFLOW_NEW", shell=True, stdout=PIPE)
    after = CommandJob("echo $TRIOFLOW_NEW", shell=True, stdout=PIPE)
    run(
        backend,
        Sequence(before, ThreadJob(monkeypatch.setenv, "TRIOFLOW_NEW", "here"), after),
    )
    assert (before.result().stdout, after.result().stdout) == (b"\n", b"here\n")


def test_a_run_inside_a_command_keeps_the_mark_of_the_outer_run(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run inside a command keeps the outer run's mark, so that the outer program still finds its processes."""
    monkeypatch.setenv("TRIOFLOW_RUN", "outer-mark")
    job = ran(backend, CommandJob("echo $TRIOFLOW_RUN", shell=True, stdout=PIPE))
    assert job.result().stdout.startswith(b"outer-mark:")


# --- how it is started
def test_a_command_inherits_no_descriptor_but_its_streams(backend: str) -> None:
    read_end, write_end = os.pipe()
    with contextlib.suppress(
        OSError
    ):  # the first one after the streams, if there is one
        os.set_inheritable(3, True)
    os.set_inheritable(write_end, True)
    line = "ls /proc/$$/fd; exit 0"
    job = CommandJob(
        line,
        shell=True,
        stdout=PIPE,
        on_succeeded=lambda job: os.set_inheritable(read_end, True),
    )
    later = CommandJob(
        line, shell=True, stdout=PIPE, stderr=subprocess.STDOUT, required=job
    )
    run(backend, job, later)
    assert (job.result().stdout, later.result().stdout) == (b"0\n1\n2\n", b"0\n1\n2\n")
    with contextlib.suppress(OSError):
        os.set_inheritable(3, False)
    os.close(read_end)
    os.close(write_end)


def test_a_command_has_the_streams_and_the_environment_that_it_was_given(
    backend: str, tmp_path: Path
) -> None:
    job = CommandJob(
        "cat; echo err >&2; echo ${HOME-none}",
        shell=True,
        stdin=b"in ",
        stdout=tmp_path / "log",
        stderr=PIPE,
        env={},
    )
    merged = CommandJob(
        "echo out; echo err >&2", shell=True, stdout=PIPE, stderr=subprocess.STDOUT
    )
    quiet = CommandJob(
        "echo out; echo err >&2",
        shell=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    run(backend, job, merged, quiet)
    assert (tmp_path / "log").read_text() == "in none\n"
    assert (job.result().stderr, merged.result().stdout) == (b"err\n", b"out\nerr\n")


def test_a_command_has_its_own_process_group_and_the_default_handling_of_sigpipe(
    backend: str,
) -> None:
    job = CommandJob(
        "ps -o pid=,pgid= -p $$; kill -PIPE $$; echo ignored",
        shell=True,
        stdout=PIPE,
        check=False,
    )
    run(backend, job)
    assert len(set((job.result().stdout or b"").split())) == 1
    assert job.result().signal is signal.SIGPIPE


def test_a_program_is_found_in_the_path_of_env(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        program = tmp_path / name / "program"
        program.write_text(f"#!/bin/sh\necho {name}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "here"), prepend=os.pathsep)
    ours = CommandJob(["program"], stdout=PIPE)
    other = CommandJob(["program"], stdout=PIPE, env={"PATH": str(tmp_path / "there")})
    run(backend, ours, other)
    assert (ours.result().stdout, other.result().stdout) == (b"here\n", b"there\n")


def test_program_that_was_just_created_is_found(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directories = [tmp_path / "first", tmp_path / "second"]

    def install(directory: Path) -> None:
        directory.mkdir()
        (directory / "program").write_text(f"#!/bin/sh\necho {directory.name}\n")
        (directory / "program").chmod(0o755)

    monkeypatch.setenv(
        "PATH", os.pathsep.join([*map(str, directories), os.environ["PATH"]])
    )
    install(directories[1])
    before, after = (CommandJob(["program"], stdout=PIPE) for _ in range(2))
    run(backend, Sequence(before, ThreadJob(install, directories[0]), after))
    assert (before.result().stdout, after.result().stdout) == (b"second\n", b"first\n")


def test_standard_streams_may_be_given_by_their_numbers(
    backend: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """`stdout=2, stderr=1` exchanges the streams, although a descriptor could be overwritten before it is used."""
    run(
        backend,
        CommandJob("echo out; echo err >&2", shell=True, stdout=2, stderr=1),
        CommandJob(["true"]),
    )
    assert capfd.readouterr() == ("err\n", "out\n")


# --- outcome
def test_an_exit_code_other_than_0_fails_the_job(backend: str) -> None:
    job = CommandJob(["sh", "-c", "echo no such luck >&2; exit 3"], stderr=PIPE)
    error = failure_of(backend, job)
    assert (error.returncode, error.stderr) == (3, b"no such luck\n")
    assert error.command == "sh -c 'echo no such luck >&2; exit 3'"
    assert (
        str(error)
        == f"exit code 3: {error.command}. Its standard error ended with:\nno such luck"
    )
    assert error.result is job.last_result


def test_command_error_shows_the_end_of_a_standard_error_file(
    backend: str, tmp_path: Path
) -> None:
    """If standard error goes to a file, the error quotes what the command has written, not older contents."""
    log = tmp_path / "log"
    log.write_text("of somebody else\n")
    job = CommandJob("echo mine >&2; exit 1", shell=True, stderr=log)
    assert failure_of(backend, job).stderr == b"mine\n"
    merged = CommandJob(
        "echo both >&2; exit 1", shell=True, stdout=log, stderr=subprocess.STDOUT
    )
    assert failure_of(backend, merged).stderr == b"both\n"


def test_command_error_does_not_read_a_file_without_a_name(backend: str) -> None:
    """The `name` of a temporary file is its descriptor, which must not be opened and closed to quote the file."""
    with tempfile.TemporaryFile() as file:
        error = failure_of(
            backend, CommandJob("echo mine >&2; exit 1", shell=True, stderr=file)
        )
        assert error.stderr is None
        file.seek(0)
        assert file.read() == b"mine\n"


def test_command_error_shows_only_the_end_of_a_long_standard_error(
    backend: str,
) -> None:
    job = CommandJob("seq 100000 >&2; exit 1", shell=True, stderr=PIPE)
    shown = failure_of(backend, job).stderr
    assert shown is not None
    assert len(shown) == 2000
    assert shown.endswith(b"\n100000\n")


@pytest.mark.parametrize(
    ("check", "line", "is_fine"),
    [
        ([0, 4, "TERM"], "exit 0", True), ([0, 4, "TERM"], "exit 4", True), ([0, 4, "TERM"], "exit 3", False),
        ([0, 4, "TERM"], "kill -TERM $$", True), ([0, 4, "TERM"], "exit 143", True),
        ([0, 4, "TERM"], "kill -HUP $$", False), ({"sigterm", 1}, "kill -TERM $$", True),
        ([signal.SIGTERM], "kill -TERM $$", True), ([-signal.SIGTERM], "kill -TERM $$", True),
        ([143], "kill -TERM $$", True), ([1], "exit 0", False), ([0, 125], "exit 3", False), (True, "exit 128", False),
        (range(3), "exit 2", True),
    ],
)  # fmt: skip
def test_check_may_list_the_allowed_exit_codes_and_signals(
    backend: str, check: Any, line: str, is_fine: bool
) -> None:
    """With a list as `check=`, only its exit codes and signals are successes; 128 + n is the same as signal n."""
    job = ran(backend, CommandJob(["sh", "-c", line], check=check))
    assert job.is_succeeded() is is_fine
    error = job.raised_exception()
    assert (error is None) is is_fine
    if line == "exit 0" and not is_fine:
        assert "exit code 0, which is not in check=" in str(error)


@pytest.mark.parametrize(
    ("check", "error", "what"),
    [
        (
            "TERM",
            TypeError,
            "check='TERM' of 'it': give True, False, or a list of exit codes and signals",
        ),
        (4, TypeError, "check=4 of 'it': give True, False, or a list"),
        (None, TypeError, "check=None of 'it'"),
        ([], ValueError, "to accept all, give False"),
        ([0, "NOPE"], ValueError, "unknown signal 'NOPE'; give a name such as 'TERM'"),
        ([256], ValueError, "256 is not an exit code; give a number from 0 to 255"),
        ([-1000], ValueError, "-1000 is not an exit code"),
        ([True], TypeError, "found True in the list; give exit codes and signal names"),
        ([1.5], TypeError, "found 1.5 in the list"),
    ],
)
@pytest.mark.parametrize("kind", [CommandJob, functools.partial(SshJob, "node")])
def test_an_invalid_check_option_raises(
    kind: Any, check: Any, error: type[Exception], what: str
) -> None:
    """An invalid `check=` raises when the job is created, in the same words for local and remote commands."""
    with pytest.raises(error, match=re.escape(what)):
        kind(("x",), check=check, label="it")


def test_a_command_error_distinguishes_a_signal_from_an_exit_code(backend: str) -> None:
    job = CommandJob("kill -SEGV $$", shell=True)
    error = failure_of(backend, job)
    assert error.returncode == -signal.SIGSEGV
    assert error.result is not None
    assert error.result.signal is signal.SIGSEGV
    assert "ended by signal SIGSEGV" in str(error)


def test_a_signal_without_a_name_is_shown_by_its_number(backend: str) -> None:
    job = ran(backend, CommandJob("kill -40 $$", shell=True, check=False))
    assert (job.result().signal, job.result().returncode) == (40, -40)


def test_a_process_reaped_elsewhere_fails_the_job(backend: str) -> None:
    """A command whose process was reaped by other code fails, since its exit code is unknown."""

    def steal(job: CommandJob) -> None:
        assert job.pid is not None
        os.waitpid(job.pid, 0)

    job = ran(backend, CommandJob(["true"], on_start=steal))
    with pytest.raises(CommandError, match="its exit code is unknown"):
        job.result()


# --- retries
def test_a_retry_repeats_only_after_the_given_exit_codes(
    backend: str, tmp_path: Path
) -> None:
    retry = trioflow.Retry(
        5,
        first=0,
        on=lambda error: isinstance(error, CommandError) and error.returncode == 75,
    )
    count = (
        f"echo >> {tmp_path}/n; test $(wc -l < {tmp_path}/n) -ge 2 && exit 1; exit 75"
    )
    job = CommandJob(count, shell=True, retry=retry)
    assert (failure_of(backend, job).returncode, job.attempts) == (1, 2)
    late = ran(backend, CommandJob(["sleep", 100], timeout=0.02, retry=retry))
    assert isinstance(late.raised_exception(), trioflow.JobTimeout)
    assert late.attempts == 1


@pytest.mark.parametrize("limit", ["timeout", "idle_timeout"])
@pytest.mark.parametrize(
    "kind", [CommandJob, functools.partial(SshJob, trioflow.LocalNode())]
)
@patiently(0.4, 4, 40)
def test_a_timeout_says_what_the_command_had_written(
    backend: str, kind: Any, limit: str, unit: float
) -> None:
    """What a hung command had written, and how it ended, was on the job alone: its error named neither."""
    line = "echo the test hung; echo why >&2; exec sleep 100"
    command = {} if kind is not CommandJob else {"shell": True}
    job = kind(
        line, **command, **{limit: unit}, stdout=PIPE, stderr=PIPE, terminate_grace=0.1
    )
    secret = kind(
        line,
        **command,
        timeout=unit,
        stdout=PIPE,
        stderr=PIPE,
        terminate_grace=0.1,
        redact=True,
    )
    run(backend, job, secret).debrief(file=(text := io.StringIO()))
    notes = job.raised_exception().__notes__
    assert notes[1:] == [
        "Its standard output ended with:\nthe test hung",
        "Its standard error ended with:\nwhy",
    ]
    assert "the test hung" in text.getvalue()
    assert not any("hung" in note for note in secret.raised_exception().__notes__)
    assert job.last_result.stdout == b"the test hung\n"


# --- `granted()`: a command gets the resources granted to it in its arguments and its environment
def test_granted_is_replaced_in_arguments_and_environment(backend: Any) -> None:
    """In arguments and variables, `granted()` becomes the granted amount, or the names of the units with commas."""
    env = {**os.environ, "CARDS": granted("gpu")}
    jobs = [
        CommandJob(
            ["sh", "-c", 'echo "$CARDS $0"; sleep 0.05', granted("cpu")],
            env=env, needs={"gpu": number, "cpu": number + 0.5}, stdout=PIPE,
        )
        for number in (1, 2)
    ]  # fmt: skip
    pool = Pool(gpu=["a", "b", "c"], cpu=8)
    assert Scheduler(*jobs, pool=pool).run(backend=backend, check=True)
    assert [job.result().stdout for job in jobs] == [b"a 1.5\n", b"b,c 2.5\n"]
    assert pool.free == pool.total


def test_label_shows_the_name_of_a_granted_resource() -> None:
    """A label shows `granted("gpu")` as `{gpu}`, since the granted units are not known before the start."""
    assert (
        CommandJob(["train", granted("gpu")], needs={"gpu": 1}).label == "train {gpu}"
    )


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["train", granted("gpu")], {}),
        (["train"], {"env": {"CARD": granted("gpu")}, "needs": {"cpu": 1}}),
    ],
)
def test_granted_of_a_resource_that_the_job_does_not_need_raises(
    command: list[Any], options: dict[str, Any]
) -> None:
    with pytest.raises(
        ValueError,
        match=r"'x': it uses granted\('gpu'\), but does not need that resource: add needs=",
    ):
        CommandJob(command, label="x", **options)


# --- `pin`, `nice`, `memory_limit`: what a command may use

CPUS = sorted(os.sched_getaffinity(0))
AFFINITY = "import os; print(sorted(os.sched_getaffinity(0)))"


def test_pin_binds_each_slot_to_one_cpu(backend: str, tmp_path: Path) -> None:
    """With `pin="slot"`, slot k runs on CPU k modulo the number of CPUs, and this program itself is not bound."""
    window = len(CPUS) + 1
    all_run = f"open('run', 'a').write('.')\nwhile os.path.getsize('run') < {window}: time.sleep(0.01)"
    code = f"{AFFINITY}\nimport time\n{all_run}"
    jobs = [python(code, stdout=PIPE, pin="slot", cwd=tmp_path) for _ in range(window)]
    after = python(AFFINITY, stdout=PIPE, pin="slot", required=jobs)
    run(backend, *jobs, after, jobs_window=window)
    expected = [[CPUS[number % len(CPUS)]] for number in range(window)]
    assert [job.result().stdout for job in jobs] == [
        f"{one}\n".encode() for one in expected
    ]
    assert after.result().stdout == f"[{CPUS[0]}]\n".encode()
    assert sorted(os.sched_getaffinity(0)) == CPUS


def test_a_pinned_slot_is_released_however_the_command_ended(backend: str) -> None:
    """After a failure, a failed start and a timeout, the next pinned command gets the first CPU again."""
    jobs = [
        CommandJob(["false"], pin="slot"),
        CommandJob(["no such program"], pin="slot"),
        CommandJob(["sleep", 100], pin="slot", timeout=0.02),
        python(AFFINITY, stdout=PIPE, pin="slot"),
    ]
    run(backend, *jobs, jobs_window=1)
    assert jobs[-1].result().stdout == f"[{CPUS[0]}]\n".encode()


def test_pinned_slots_are_counted_for_each_scheduler(backend: str) -> None:
    inner = python(AFFINITY, stdout=PIPE, pin="slot")
    outer = CommandJob(["sleep", 0.2], pin="slot")
    Scheduler(outer, Scheduler(inner)).run(backend=backend)
    assert inner.result().stdout == f"[{CPUS[0]}]\n".encode()


def test_pinned_commands_that_share_a_cpu_are_reported_once(
    backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning of a run says that pinned commands share a CPU: in a larger window, or in several schedulers."""

    def messages(count: int, *, nested: bool = False) -> list[str]:
        caplog.clear()
        log = tmp_path / f"{count} {nested}"
        line = f"echo >> '{log}'; until test $(wc -l < '{log}') = {count}; do sleep 0.01; done"  # until all run
        jobs = [CommandJob(line, shell=True, pin="slot") for _ in range(count)]
        run(
            backend,
            *([Scheduler(job) for job in jobs] if nested else jobs),
            jobs_window=count,
        )
        return caplog.messages

    assert messages(len(CPUS)) == []
    for shared in (messages(len(CPUS) + 2), messages(3, nested=True)):
        assert len(shared) == 1
        assert (
            f'commands with pin="slot" share CPU {CPUS[0]}, because this program may use'
            in shared[0]
        )


def test_a_command_without_pin_may_run_on_any_cpu(backend: str) -> None:
    job = ran(backend, python(AFFINITY, stdout=PIPE))
    assert job.result().stdout == f"{CPUS}\n".encode()


def test_nice_is_added_to_the_niceness_of_this_program(
    backend: str, tmp_path: Path
) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    started = tmp_path / "started"
    line = f"until test -e {started}; do sleep 0.01; done; nice; sh -c nice"
    job = ran(
        backend,
        CommandJob(
            line, shell=True, nice=3, stdout=PIPE, on_start=lambda job: started.touch()
        ),
    )
    expected = min(own + 3, 19)
    assert job.result().stdout == f"{expected}\n{expected}\n".encode()
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


GREEDY = "x = bytes(500_000_000); print(len(x))"  # of which no page is written


def test_memory_limit_applies_from_the_start_of_the_program(backend: str) -> None:
    limited = python(GREEDY, memory_limit=200 << 20, stderr=PIPE)
    free = python(GREEDY, stdout=PIPE)
    enough = python(
        "import resource; print(resource.getrlimit(resource.RLIMIT_AS))",
        memory_limit="1 GiB",
        stdout=PIPE,
    )
    run(backend, limited, free, enough)
    error = limited.raised_exception()
    assert isinstance(error, CommandError)
    assert b"MemoryError" in (error.stderr or b"")
    assert free.state is trioflow.JobState.SUCCEEDED
    assert enough.result().stdout == f"({1 << 30}, {1 << 30})\n".encode()


@pytest.mark.parametrize("program", ["no such program", "/no/such/program", "/tmp"])
def test_start_errors_are_the_same_with_a_memory_limit(
    backend: str, program: str
) -> None:
    error = failure_of(backend, CommandJob([program], memory_limit=1 << 30))
    assert error.returncode is None
    assert "not started" in str(error)


def test_a_program_with_a_memory_limit_is_found_in_the_path_of_its_environment(
    backend: str,
) -> None:
    directory, name = os.path.split(os.path.realpath(sys.executable))
    job = CommandJob(
        [name, "-S", "-E", "-c", "print(5)"],
        memory_limit=1 << 30,
        env={"PATH": directory},
        stdout=PIPE,
    )
    run(backend, job)
    assert job.result().stdout == b"5\n"


def test_a_priority_that_is_not_allowed_fails_the_job_and_ends_the_process(
    backend: str, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    """If a negative `nice=` is not permitted, the error says that it requires root, and no process is left."""
    monkeypatch.setattr(
        os, "setpriority", raising(PermissionError(1, "Operation not permitted"))
    )
    error = failure_of(backend, CommandJob(["sleep", 1000], nice=-5))
    assert "nice=-5 requires root" in str(error)
    assert watched.alive() == []


def test_a_variable_of_this_program_is_not_one_that_the_user_has_set(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`env={**os.environ, ...}` has all variables of this program: the one that an instrument propagates replaces its
    own, and not another that the user has given."""
    monkeypatch.setenv("TRACEPARENT", "outer")
    watch = hooked(
        job_started=lambda _, job: propagate_env({"TRACEPARENT": f"of {job.label}"})
    )
    jobs = [
        CommandJob(["printenv", "TRACEPARENT"], stdout=PIPE, env=env, label=label)
        for label, env in {
            "none": None,
            "copied": {**os.environ, "X": "1"},
            "set": {**os.environ, "TRACEPARENT": "own"},
        }.items()
    ]
    assert Scheduler(*jobs).run(backend=backend, instruments=[watch])
    said = [job.result().text for job in jobs]
    assert said == ["of none\n", "of copied\n", "own\n"]


def test_the_output_of_a_command_as_an_argument_lacks_all_newlines_at_its_end(
    backend: str,
) -> None:
    """As in a shell's `$(...)`."""
    said = CommandJob(["printf", "\n a \nb\n\n\n"], stdout=PIPE)
    user = CommandJob(["printf", "%s", said], stdout=PIPE)
    assert Scheduler(said, user).run(backend=backend)
    assert user.result().stdout == b"\n a \nb"
