"""The script around commands on nodes, in each shell that this machine has, and the reader of its reports."""

import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import LocalNode, SshError
from trioflow.jobs.command._output_sinks import CaptureSink
from trioflow.jobs.ssh import _node_session, _wrapper
from trioflow.jobs.ssh._node_session import _StartBuffer
from trioflow.jobs.ssh._wrapper import ReportFilter, WrapperReport
from ...places import PATIENCE
from ..posix.process_trees import FORKING, STUBBORN, Watched
from .servers import free_port

TOKEN = "0123456789abcdef"
SHELLS = ["dash", "bash --posix", "busybox sh", "ksh", "mksh"]
"""What /bin/sh is on some system: bash, called so, is in its POSIX mode."""
FOUND = [command for command in SHELLS if shutil.which(command.split()[0])]
SHOW = "import os, sys; print([os.environb[name.encode()] for name in sys.argv[1:]])"
in_each_shell = pytest.mark.parametrize("shell", FOUND)


class Wrapped:
    """A command in its wrapper, run by this machine as a node would run it."""

    def __init__(self, shell: str, words: list[str], **options: Any) -> None:
        variables = options.pop("variables", {})
        sent = _wrapper.export_variables(variables, TOKEN) if variables else b""
        options = {"grace": 0.1, "size": len(sent), **options}
        line = _wrapper.login_shell_line(words, TOKEN, **options).replace(
            "/bin/sh", shell, 1
        )
        read_end, self.lifeline = os.pipe()
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", line], stdin=read_end, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        os.close(read_end)
        os.write(self.lifeline, sent)

    def close_lifeline(self) -> None:
        os.close(self.lifeline)
        self.lifeline = -1

    def end(self) -> tuple[int, bytes, bytes, WrapperReport]:
        """Return exit code, both outputs, and the report."""
        stdout, stderr = self.process.communicate(timeout=PATIENCE)
        if self.lifeline >= 0:
            self.close_lifeline()
        capture = CaptureSink()
        reader = ReportFilter(TOKEN, [capture], capture, bool)
        reader.write(stderr)
        reader.finish()
        kept = capture.output()
        assert isinstance(kept, bytes)
        return self.process.returncode, stdout, kept, reader.report


@in_each_shell
def test_the_wrapper_reports_when_the_port_of_a_service_is_open(shell: str) -> None:
    """The report comes once the program listens, and what tries the port ends with the program."""
    port = free_port("127.0.0.1")
    code = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(1000)"
    wrapped = Wrapped(
        shell,
        [sys.executable, "-c", code],
        port=_wrapper.port_script("127.0.0.1", port),
    )
    assert wrapped.process.stderr is not None
    said = [wrapped.process.stderr.readline().decode() for _ in range(2)]
    assert said == [
        f"{_wrapper.MARK}{TOKEN} {report}\n" for report in ("start", "ready")
    ]
    wrapped.close_lifeline()
    assert wrapped.end()[3].returncode == 128 + signal.SIGTERM


@in_each_shell
def test_the_wrapper_passes_on_the_exit_code_and_both_outputs(shell: str) -> None:
    code, stdout, stderr, report = Wrapped(
        shell, ["sh", "-c", "echo out; echo err >&2; exit 3"]
    ).end()
    assert (code, stdout, stderr) == (3, b"out\n", b"err\n")
    assert (report.started, report.returncode) == (True, 3)


@in_each_shell
def test_a_program_that_the_node_does_not_have_is_named(shell: str) -> None:
    """The error once was that of setsid(1), of which users know nothing."""
    code, _, stderr, report = Wrapped(shell, ["no-such-program", "x"]).end()
    assert (code, stderr, report.returncode) == (
        127,
        b"no-such-program: command not found\n",
        127,
    )


@in_each_shell
def test_a_program_is_found_by_the_path_among_its_variables(
    shell: str, tmp_path: Path
) -> None:
    (tmp_path / "own-program").symlink_to(shutil.which("true") or "")
    code, *_ = Wrapped(
        shell, ["own-program"], variables={"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ).end()
    assert code == 0


@in_each_shell
def test_the_exit_code_for_a_signal_is_128_plus_its_number(shell: str) -> None:
    assert Wrapped(shell, ["sh", "-c", "kill -9 $$"]).end()[3].returncode == 137


@in_each_shell
def test_merged_outputs_come_in_one_stream_in_their_order(shell: str) -> None:
    _, stdout, stderr, report = Wrapped(
        shell, ["sh", "-c", "echo out; echo err >&2"], merged=True
    ).end()
    assert (stdout, stderr, report.returncode) == (b"out\nerr\n", b"", 0)


@in_each_shell
def test_a_stdin_file_is_removed_when_the_command_has_opened_it(
    shell: str, tmp_path: Path
) -> None:
    file = tmp_path / "in put"
    file.write_text("read")
    assert Wrapped(shell, ["cat"], stdin=str(file)).end()[1] == b"read"
    assert not file.exists()


@in_each_shell
def test_stdin_is_empty_without_a_stdin_file(shell: str) -> None:
    assert Wrapped(shell, ["cat"]).end()[:2] == (0, b"")


@in_each_shell
def test_variables_with_any_content_arrive_unchanged(shell: str) -> None:
    given = {name: f"own {name}" for name in "acegilmnpstvxy"}
    given |= {
        "a_1": "'\"$HOME`id`\\ \\n*", "b": "\none\n\n+two\n=c=three\n.\n", "d": "", "PATH": "/no/where:/usr/bin:/bin",
    }  # fmt: skip
    given |= {"f": os.fsdecode(bytes(range(1, 256)) + b"\xe3'\xff\xfe"), "q": "  x  "}
    code, stdout, *_ = Wrapped(
        shell, [sys.executable, "-S", "-E", "-c", SHOW, *given], variables=given
    ).end()
    assert (code, eval(stdout)) == (0, list(map(os.fsencode, given.values())))


@in_each_shell
def test_the_time_for_variables_does_not_grow_with_the_square_of_their_size(
    shell: str,
) -> None:
    """A large environment is sent in far less than a second; a loop of the shell once took up to 37 s for one."""
    given = {
        "A": "x" * 40_000,
        "B": "x\n" * 20_000,
        **{f"C{number}": "x" for number in range(1500)},
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert Wrapped(shell, ["true"], variables=given).end()[0] == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


@in_each_shell
def test_a_command_whose_variables_do_not_all_arrive_is_not_started(
    shell: str, tmp_path: Path
) -> None:
    wrapped = Wrapped(shell, ["touch", str(tmp_path / "started")], size=100)
    os.write(wrapped.lifeline, b"export 'A=1'")
    wrapped.close_lifeline()
    assert wrapped.process.wait(PATIENCE) == 1
    assert not (tmp_path / "started").exists()
    wrapped.end()


@in_each_shell
def test_the_report_has_the_cpu_time_of_the_command(shell: str) -> None:
    busy = "n=0; while [ $n -lt 50000 ]; do n=$((n+1)); done"
    report = Wrapped(shell, ["sh", "-c", busy]).end()[3]
    assert report.user_time + report.system_time > 0.01


@in_each_shell
@pytest.mark.parametrize("body", [STUBBORN, FORKING], ids=["stubborn", "forking"])
def test_the_whole_process_tree_ends_when_the_conductor_is_gone(
    shell: str, body: str, watched: Watched
) -> None:
    wrapped = Wrapped(shell, ["sh", "-c", f"trap '' TERM; echo begun; {body}"])
    assert wrapped.process.stdout is not None
    assert wrapped.process.stdout.readline() == b"begun\n"
    time.sleep(0.05)
    wrapped.close_lifeline()
    assert wrapped.end()[3].returncode == 137
    assert watched.gone_in_time(), watched.alive()


@in_each_shell
def test_a_command_that_has_just_begun_ends_when_the_conductor_is_gone(
    shell: str, watched: Watched
) -> None:
    wrapped = Wrapped(shell, ["sleep", "1000"])
    wrapped.close_lifeline()
    wrapped.end()
    assert watched.gone_in_time(), watched.alive()


@in_each_shell
def test_a_line_on_the_input_of_the_wrapper_ends_the_command(
    shell: str, watched: Watched
) -> None:
    wrapped = Wrapped(shell, ["sleep", "1000"])
    os.write(wrapped.lifeline, b"end\n")
    assert wrapped.end()[3].returncode == 143


@in_each_shell
def test_processes_left_by_a_command_have_a_grace_period_to_end(
    shell: str, tmp_path: Path, watched: Watched
) -> None:
    done = tmp_path / "done"
    wrapped = Wrapped(
        shell, ["sh", "-c", f"(sleep 0.05; touch {done}) & exit 0"], grace=60
    )
    assert wrapped.end()[0] == 0
    assert done.exists()
    wrapped = Wrapped(shell, ["sh", "-c", f"({STUBBORN}) >/dev/null 2>&1 & exit 5"])
    assert wrapped.end()[3].returncode == 5
    assert watched.gone_in_time(), watched.alive()


@in_each_shell
def test_a_stopped_command_is_ended(shell: str, watched: Watched) -> None:
    """A stopped command also gets SIGCONT, so that it can handle the SIGTERM."""
    wrapped = Wrapped(shell, ["sh", "-c", "echo $$; kill -STOP $$"])
    assert wrapped.process.stdout is not None
    status = Path(f"/proc/{int(wrapped.process.stdout.readline())}/status")
    while "\nState:\tT" not in status.read_text():
        time.sleep(0.001)
    wrapped.close_lifeline()
    assert wrapped.end()[3].returncode == 143


@pytest.mark.parametrize(
    "shell",
    [shell for shell in ("bash", "dash", "fish", "tcsh", "zsh") if shutil.which(shell)],
)
def test_the_wrapper_passes_through_login_shells(shell: str) -> None:
    """The wrapper passes through all login shells, even those unlike sh, with all characters special to any."""
    words = [
        "it's", '"a  b"', "$HOME", "{x}", "", "0", "1", "%s", "a\\", "\\'", "\\\\n", "!x!", "a\nb\n\n", "\r", "é~*",
    ]  # fmt: skip
    line = _wrapper.login_shell_line(
        ["sh", "-c", "printf '%s|' \"$@\"; exit 3", "-", *words], TOKEN, grace=1
    )
    read_end, lifeline = os.pipe()
    done = subprocess.run(
        [shell, "-c", line],
        stdin=read_end,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    for descriptor in (read_end, lifeline):
        os.close(descriptor)
    assert (done.stdout.decode(), done.returncode) == (
        "".join(f"{word}|" for word in words),
        3,
    )
    assert "\n" not in line


@pytest.mark.parametrize(
    "command",
    [
        *(
            ["dash", "-n"],
            ["bash", "--posix", "-n"],
            ["busybox", "sh", "-n"],
            ["zsh", "--emulate", "sh", "-n"],
        ),
        ["checkbashisms"],
        [
            "shellcheck",
            "-s",
            "sh",
            "-e",
            "2034",
        ],  # a line that is read only to be waited for
    ],
    ids=" ".join,
)
def test_the_wrapper_script_is_portable(tmp_path: Path, command: list[str]) -> None:
    """Shells can read the wrapper script, and shellcheck and checkbashisms find no fault in it."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}")
    file = tmp_path / "script"
    file.write_text("#!/bin/sh\n" + _wrapper.WRAPPER_SCRIPT.replace("; ", ";\n") + "\n")
    done = subprocess.run([*command, file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


START = b"\x1e%b start\n" % TOKEN.encode()
END = b"\x1e%b end 7 0m0.00s 0m0.01s\n1m2.50s 0m0,25s\n" % TOKEN.encode()


@given(
    st.lists(st.binary(max_size=8), min_size=2, max_size=4),
    st.lists(st.integers(0, 120), max_size=6),
)
def test_reports_are_removed_from_output_read_in_any_pieces(
    texts: list[bytes], cuts: list[int]
) -> None:
    before, *between, behind = texts
    data = before + START + b"".join(between) + END + behind
    capture = CaptureSink()
    reader = ReportFilter(TOKEN, [capture], capture, bool)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for first, last in itertools.pairwise(places):
        reader.write(data[first:last])
    reader.finish()
    assert capture.output() == before + b"".join(between) + behind
    assert reader.report == WrapperReport(True, 7, 62.5, 0.25)


@pytest.mark.parametrize("end_first", [False, True])
def test_output_before_the_start_report_is_buffered_and_then_passed_on(
    end_first: bool,
) -> None:
    """Output is held back until the start report, which comes by another pipe, and is then passed on."""
    capture, before = CaptureSink(), CaptureSink()
    gate = _StartBuffer([capture], LocalNode())
    reader = ReportFilter(TOKEN, [CaptureSink()], before, gate.open)
    gate.write(b"out")
    if end_first:
        gate.finish()
    assert capture.output() == b""
    reader.write(b"chatter\n\x1e" + TOKEN.encode() + b" start\n")
    if not end_first:
        gate.finish()
    assert (capture.output(), before.output()) == (b"out", b"chatter\n")


def test_a_node_that_only_prints_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login shell that prints without end fills no memory: at a limit, the session fails with the reason."""
    monkeypatch.setattr(_node_session, "MAX_EARLY_BYTES", 3 << 20)
    gate = _StartBuffer([CaptureSink()], LocalNode())
    gate.write(bytes(3 << 20))
    with pytest.raises(
        SshError,
        match=r"localhost: it has written more than 3 MiB, and has not started the command",
    ):
        gate.write(b"a")


def test_output_held_before_the_start_is_appended_in_place() -> None:
    """Each piece of output before the start is appended to one buffer, so its cost does not grow with that before."""
    gate = _StartBuffer([CaptureSink()], LocalNode())
    gate.write(b"a")
    buffer = gate.buffer
    gate.write(b"b")
    assert gate.buffer is buffer
    assert buffer == b"ab"


def test_a_mark_without_a_report_holds_back_little() -> None:
    """A node knows the mark of reports: what it writes after it is passed on as soon as it can be no report."""
    capture = CaptureSink()
    reader = ReportFilter(TOKEN, [capture], capture, bool)
    data = b"\x1e" + TOKEN.encode() + b" end 0 " + b"1" * 1000
    reader.write(data)
    assert capture.output() == data


@given(st.binary(max_size=60), st.integers(0, 60))
def test_output_that_only_resembles_a_report_is_passed_on(
    data: bytes, cut: int
) -> None:
    """Bytes that only look like a report of the wrapper are passed on whole, wherever they are cut."""
    capture = CaptureSink()
    reader = ReportFilter("a", [capture], capture, bool)
    reader.write(data[:cut])
    reader.write(data[cut:])
    reader.finish()
    assert capture.output() == data
    assert not reader.report.started
