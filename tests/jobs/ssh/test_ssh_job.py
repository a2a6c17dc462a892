"""`SshJob`: what runs on a node, what it gets, and what comes back. Real servers on loopback."""

import contextlib
import io
import os
import re
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import trioflow
from trioflow import (
    CommandError,
    CommandJob,
    Pull,
    Push,
    Scheduler,
    Script,
    ScriptText,
    SshJob,
    SshNode,
    granted,
)
from trioflow.abc import propagate_env
from trioflow.jobs.ssh import (
    _connections,
    _node_session,
    _sftp_transfers,
    _ssh_job,
)
from ...bodies import hooked, ran, run
from ...places import patiently
from ...pythons import python
from ...testing.kinds import check_kind
from .servers import SSH_ON_TRIO, LocalConnection, Place, Server, Site, free_port

PIPE = subprocess.PIPE


def captured(
    backend: str, node: SshNode | trioflow.LocalNode, command: Any, **options: Any
) -> Any:
    job = ran(
        backend, SshJob(node, command, **{"stdout": PIPE, "stderr": PIPE, **options})
    )
    return job.result()


@pytest.fixture
def own_files(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the prefix of this test's temporary files: other programs put theirs into the same home."""
    mark = f".trioflow-{os.urandom(6).hex()}-"
    monkeypatch.setattr(_sftp_transfers, "INCOMPLETE_PREFIX", mark)
    return mark


def test_ssh_jobs_pass(local: LocalConnection) -> None:
    job = partial(SshJob, local.node())
    long, failing = partial(job, "exec sleep 1000"), partial(job, "false")
    check_kind(
        "trio", partial(job, "true"), make_long_job=long, make_failing_job=failing
    )


# ---- the outcome


OUTCOMES: list[tuple[Any, dict[str, Any], tuple[bytes, bytes, int]]] = [
    ("echo out; echo err >&2; exit 3", {}, (b"out\n", b"err\n", 3)),
    (
        "exit 255",
        {},
        (b"", b"", 255),
    ),  # although ssh itself reports this code for a lost connection
    ("exit 128", {}, (b"", b"", 128)),
    ("kill -KILL $$", {}, (b"", b"", -signal.SIGKILL)),
    (("no-such-program",), {}, (b"", b"no-such-program: command not found\n", 127)),
    (
        (
            "printf",
            "%s|",
            "a b",
            "$HOME",
            "*",
            "it's",
            '"',
            "\\",
            "é",
            "line\nbreak",
            "",
            5,
            Path("/p"),
        ),
        {},
        ("a b|$HOME|*|it's|\"|\\|é|line\nbreak||5|/p|".encode(), b"", 0),
    ),
    ("for i in 1 2; do echo $i; done | tac", {}, (b"2\n1\n", b"", 0)),
    (
        "echo {value}",
        {"values": {"value": "$(touch /tmp/evil); 'x'"}},
        (b"$(touch /tmp/evil); 'x'\n", b"", 0),
    ),
    (
        'pwd; echo "$A|$B"',
        {"cwd": "/usr", "env": {"A": "a b", "B": "on {node}"}},
        (b"/usr\na b|on 127.0.0.2\n", b"", 0),
    ),
    (
        'test "$(pwd)" = "$(cd; pwd)"',
        {},
        (b"", b"", 0),
    ),  # the home directory, as after a login
    (
        'printf %s "$A" | wc -c',
        {"env": {"A": f"{'x' * 30_000}\n" * 3}},
        (b"90003\n", b"", 0),
    ),  # more than a pipe takes
    ("cat", {}, (b"", b"", 0)),
    (
        ScriptText('echo "$# {node} $1"\nexit 4\n', "it's"),
        {},
        (b"1 {node} it's\n", b"", 4),
    ),
    (
        ScriptText("#!/bin/cat\nread by its own interpreter\n"),
        {},
        (b"#!/bin/cat\nread by its own interpreter\n", b"", 0),
    ),
]
"""Commands with options, and what comes back of them: both outputs, and the exit code, or the number of a signal."""


@SSH_ON_TRIO
def test_commands_on_a_node_have_the_outcomes_of_local_ones(
    backend: str, place: Place
) -> None:
    """What a command gets, and what comes back of it, is on a node as it is here: words, variables, outputs, codes."""
    jobs = [
        SshJob(place.node(), line, stdout=PIPE, stderr=PIPE, check=False, **given)
        for line, given, _ in OUTCOMES
    ]
    run(backend, *jobs)
    results = [job.result() for job in jobs]
    assert [(one.stdout, one.stderr, one.returncode) for one in results] == [
        expected for *_, expected in OUTCOMES
    ]
    assert [one.signal for one in results] == [
        signal.SIGKILL if code == -signal.SIGKILL else None
        for *_, (_, _, code) in OUTCOMES
    ]
    assert all(one.elapsed > 0 for one in results)


def test_a_directory_that_a_node_does_not_have_fails_the_command(
    backend: str, local: LocalConnection
) -> None:
    assert (
        captured(
            backend, local.node(), ("pwd",), cwd="/no/such", check=False
        ).returncode
        != 0
    )


@pytest.mark.parametrize("command", ["pwd", ScriptText("pwd")], ids=["line", "script"])
def test_cwd_is_no_other_directory_of_its_name(
    backend: str, tmp_path: Path, command: Any
) -> None:
    """A command once ran in a directory of the same name that CDPATH led to, and that was in its output, too."""
    for place in ("here/work", "other/work"):
        (tmp_path / place).mkdir(parents=True)
    node = trioflow.LocalNode(directory=tmp_path / "here")
    env = {"CDPATH": tmp_path / "other"}
    job = ran(backend, SshJob(node, command, cwd="work", env=env, stdout=PIPE))
    assert job.result().text == f"{tmp_path}/here/work\n"


def test_propagated_variables_arrive_without_acceptenv_of_the_server(
    backend: str, local: LocalConnection
) -> None:
    """Variables that an instrument propagates reach a node without AcceptEnv in the configuration of its sshd."""
    watch = hooked(
        job_started=lambda _, job: propagate_env({"TRACEPARENT": f"of {job.label}"})
    )
    node = local.node()
    plain = SshJob(node, "printenv TRACEPARENT", stdout=PIPE, label="plain")
    own = SshJob(
        node,
        "printenv TRACEPARENT",
        stdout=PIPE,
        env={"TRACEPARENT": "own"},
        required=plain,
    )
    assert Scheduler(plain, own).run(backend=backend, instruments=[watch])
    assert (plain.result().text, own.result().text) == ("of plain\n", "own\n")


def command_line_of(pid: str) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def test_values_of_env_are_in_no_command_line(
    backend: str, server: Server, tmp_path: Path
) -> None:
    secret, seen = f"secret {os.urandom(8).hex()}", set[bytes]()
    command = f'until test -e {tmp_path}/seen; do sleep 0.1; done; echo "$TOKEN"'
    job = SshJob(server.node(), command, env={"TOKEN": secret}, stdout=PIPE)

    async def look() -> None:
        while not job.is_settled():
            for pid in os.listdir("/proc"):
                with contextlib.suppress(OSError):
                    seen.add(command_line_of(pid))
            if any(b"TOKEN" in line for line in seen):
                (tmp_path / "seen").touch()
            await anyio.lowlevel.checkpoint()

    run(backend, job, trioflow.Job(look))
    assert job.result().stdout.decode() == f"{secret}\n"
    assert [line for line in seen if secret.encode() in line] == []


def test_the_error_on_a_long_command_line_does_not_show_the_call_of_ssh(
    backend: str, server: Server
) -> None:
    words = SshJob(server.node(), ("echo", "x" * 140_000), label="words")
    variables = SshJob(
        server.node(), "true", env={"A": "x" * 140_000}, label="variables"
    )
    run(backend, words, variables)
    whole = "its command line, including the wrapper of trioflow, takes"
    assert re.match(
        rf"not started: {whole} 14\d{{4}} bytes, and", str(words.raised_exception())
    )
    whole = "its variables (env=) take"
    assert re.match(
        rf"not started: {re.escape(whole)} 14\d{{4}} bytes, and the limit",
        str(variables.raised_exception()),
    )
    for job in (words, variables):
        assert isinstance(job.raised_exception(), CommandError)
        assert "ControlPath" not in str(job.raised_exception())


def test_a_command_line_and_variables_may_be_as_long_as_their_limits(
    backend: str, server: Server
) -> None:
    def echo(length: int) -> SshJob:
        return SshJob(server.node(), ("echo", "x" * length), stdout=PIPE)

    def show(length: int) -> SshJob:
        env = {"A": "x" * length}
        return SshJob(server.node(), "echo $A", env=env, stdout=PIPE)

    limits = {
        echo: _node_session.MAX_LINE_BYTES,
        show: _node_session.MAX_VARIABLE_BYTES,
    }
    for job_of_length, limit in limits.items():
        too_long = job_of_length(140_000)
        run(backend, too_long)
        match = re.search(r"(\d+) bytes, and", str(too_long.raised_exception()))
        assert match is not None
        most = 140_000 - (int(match[1]) - limit)
        fits, beyond = job_of_length(most), job_of_length(most + 1)
        run(backend, fits, beyond)
        assert fits.result().stdout == b"x" * most + b"\n"
        assert f"{limit + 1} bytes, and the limit for a node is {limit}" in str(
            beyond.raised_exception()
        )


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_script_runs_alike_whether_it_is_sent_with_the_variables_or_as_a_file(
    backend: str, server: Server, beyond: int
) -> None:
    text = 'echo "$#" "$1"\n#'
    text += "x" * (_ssh_job.MAX_INLINE_BYTES - len(text) + beyond)
    job = SshJob(server.node(), ScriptText(text, "a b"), stdout=PIPE)
    run(backend, job)
    assert job.result().stdout == b"1 a b\n"


def test_a_script_may_have_any_number_of_quotation_marks(
    backend: str, server: Server
) -> None:
    """Each takes four bytes among the variables, which were then too many."""
    marks = _node_session.MAX_VARIABLE_BYTES // 4
    job = SshJob(server.node(), ScriptText("echo x\n#" + "'" * marks), stdout=PIPE)
    run(backend, job)
    assert job.result().stdout == b"x\n"


def test_messages_of_ssh_about_sessions_are_not_in_the_output(
    backend: str, site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Messages of ssh about rejected sessions, before the command starts, are not in its output, wherever it goes."""
    server, lines, path = site.serve(2, MaxSessions=1), list[str](), tmp_path / "log"
    streams: list[dict[str, Any]] = [
        {"stdout": path, "stderr": path},
        {"on_line": lambda job, line: lines.append(line)},
        {"stdout": PIPE, "stderr": PIPE},
    ]
    jobs = [
        SshJob(server.node(), "sleep 0.1; echo out; echo err >&2", **options)
        for options in streams
    ]
    run(backend, *jobs)
    server.stop()
    assert (jobs[2].result().stdout, jobs[2].result().stderr) == (b"out\n", b"err\n")
    assert sorted(lines) == sorted(path.read_text().splitlines()) == ["err", "out"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("shell", "said"),
    [
        (
            "echo no commands here; exit 1",
            "exit code 1 before the command started (no commands here)",
        ),
        ("/bin/false", "exit code 1 before"),
    ],
)
def test_the_error_quotes_a_bad_login_shell(
    backend: str, site: Site, shell: str, said: str, tmp_path: Path
) -> None:
    """If a login shell runs no commands, the error quotes it, and says that the command had not started."""
    server = site.serve(2, ForceCommand=shell)
    job = ran(
        backend,
        SshJob(server.node(), "true", stdout=tmp_path / "log", stderr=tmp_path / "log"),
    )
    server.stop()
    error = job.raised_exception()
    assert isinstance(error, trioflow.SshError)
    assert not error.started
    assert "lost" not in str(error)
    assert said in str(error)
    assert (tmp_path / "log").read_bytes() == b""


def test_output_files_are_truncated_at_each_attempt(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    """With `append=False`, the first command of each attempt truncates the output file; the others append."""
    path = tmp_path / "log"
    path.write_text("of an earlier run, and longer than what comes now\n")
    last = f"test -e {tmp_path}/second || {{ touch {tmp_path}/second; exit 1; }}"
    run(
        backend,
        SshJob(
            local.node(), ["echo a", "echo b", last], stdout=path, append=False, retry=1
        ),
    )
    assert path.read_text() == "a\nb\n"


def test_the_error_of_a_failed_command_names_the_node(
    backend: str, local: LocalConnection
) -> None:
    """The error of a failed command has its exit code, node and line, and the end of stderr, or of merged outputs."""
    job = SshJob(local.node(), "echo why >&2; exit 3", stderr=subprocess.DEVNULL)
    merged = SshJob(
        local.node(),
        "echo 1; echo 2 >&2; exit 3",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    run(backend, job, merged)
    error, of_both = job.raised_exception(), merged.raised_exception()
    assert isinstance(error, CommandError)
    assert (error.returncode, error.stderr) == (3, b"why\n")
    assert (
        str(error)
        == "exit code 3: 127.0.0.2: echo why >&2; exit 3. Its standard error ended with:\nwhy"
    )
    assert job.last_result is error.result
    assert isinstance(of_both, CommandError)
    assert (of_both.stderr, str(of_both).partition(". ")[2]) == (
        b"1\n2\n",
        "Its output ended with:\n1\n2",
    )


def test_check_may_list_the_allowed_exit_codes_and_signals_on_a_node(
    backend: str, local: LocalConnection
) -> None:
    lines = "exit 4", "kill -TERM $$", "exit 3", "kill -HUP $$"
    jobs = [
        SshJob(local.node(), [line, "true"], check=[0, 4, "TERM"]) for line in lines
    ]
    run(backend, *jobs)
    assert [job.is_succeeded() for job in jobs] == [True, True, False, False]


def test_cpu_time_is_measured_on_the_node(server: Server) -> None:
    result = captured(
        "trio", server.node(), "n=0; while [ $n -lt 100000 ]; do n=$((n+1)); done"
    )
    assert 0.03 < result.user_time + result.system_time < result.elapsed + 0.1


def test_large_output_on_both_streams_arrives_complete(
    backend: str, server: Server
) -> None:
    code = "head -c 3000000 /dev/zero; head -c 300000 /dev/zero >&2"
    result = captured(backend, server.node(), code)
    assert result.stdout == bytes(3_000_000)
    assert result.stderr == bytes(300_000)


# ---- arguments, directory, environment and input
def test_results_of_jobs_may_be_words_and_values_of_a_command(
    backend: str, local: LocalConnection
) -> None:
    """Results of local and remote jobs are filled in as words and values; unknown braces remain."""
    here = CommandJob(["echo", "from here"], stdout=PIPE)
    first = SshJob(local.node(), "echo 'from there'", stdout=PIPE)
    second = SshJob(
        local.node(),
        "echo {node} {here} {there} ${HOME:+home} {unknown}",
        values={"here": here, "there": first},
        stdout=PIPE,
    )
    third = ran(backend, SshJob(local.node(), ("echo", second), stdout=PIPE))
    expected = b"127.0.0.2 from here from there home {unknown}\n"
    assert (second.result().stdout, third.result().stdout) == (expected, expected)


@SSH_ON_TRIO
def test_stdin_may_be_bytes_a_file_or_an_output(
    backend: str, place: Place, tmp_path: Path, own_files: str
) -> None:
    data, file = b"some \0 bytes\n" * 10_000, tmp_path / "input"
    file.write_bytes(data)
    with file.open("rb") as opened:
        stdin: list[Any] = [data]
        if isinstance(place, LocalConnection):
            stdin += [file, opened, CommandJob(["cat", file], stdout=PIPE)]
        jobs = [SshJob(place.node(), "cat", stdin=one, stdout=PIPE) for one in stdin]
        run(backend, *jobs)
    assert all(job.result().stdout == data for job in jobs)
    assert list(Path.home().glob(f"{own_files}*")) == []


# ---- scripts
def test_a_script_is_sent_to_the_node_and_run(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:], sys.argv[0] == __file__)\n"
    )
    number = CommandJob(["echo", "7"], stdout=PIPE)
    result = captured(backend, local.node(), Script(script, "a b", number, "$x"))
    assert result.stdout == b"['a b', '7', '$x'] True\n"


@pytest.mark.parametrize(
    ("place", "content"),
    [("by ssh", "pwd; exit\n" + "# x\n" * 30_000), ("local", "pwd; exit\n\0")],
    indirect=["place"],
    ids=["large", "nul"],
)
def test_large_or_binary_script_runs(
    backend: str, place: Place, content: str, tmp_path: Path, own_files: str
) -> None:
    """A script that no command line can hold runs as well, with `cwd=`, and leaves nothing on the node."""
    script = tmp_path / "script.sh"
    script.write_text(content)
    assert (
        captured(backend, place.node(), Script(script), cwd=tmp_path).text
        == f"{tmp_path}\n"
    )
    assert list(Path.home().glob(f"{own_files}*")) == []


def test_included_files_are_in_the_directory_of_the_script(
    backend: str, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "more.sh").write_text("echo more\n")
    (tmp_path / "functions.sh").write_text('hello() { echo "hello $1"; }\n')
    (tmp_path / "tool").write_text("#!/bin/sh\necho tool\n")
    (tmp_path / "tool").chmod(0o755)
    script = tmp_path / "main.sh"
    lines = (
        'here=$(dirname "$0")', '. "$here/functions.sh"', 'hello "$1"', '. "$here/lib/more.sh"', '"$here/tool"', "pwd",
    )  # fmt: skip
    script.write_text("\n".join(lines))
    tool = CommandJob(["echo", tmp_path / "tool"], stdout=PIPE)
    step = Script(
        script,
        "you there",
        includes=[tmp_path / "functions.sh", tmp_path / "lib", tool],
    )
    assert (
        captured(backend, server.node(), step, cwd=tmp_path).text
        == f"hello you there\nmore\ntool\n{tmp_path}\n"
    )
    text = ScriptText(
        '#!/bin/sh -e\ncat "$(dirname "$0")/more.sh"; echo "$0"\n',
        includes=tmp_path / "lib" / "more.sh",
    )
    said, path = captured(backend, server.node(), text).text.splitlines()
    assert said == "echo more"
    assert not Path(path).parent.exists()
    assert Path(path).parent.is_absolute()


@pytest.mark.parametrize(
    ("includes", "error", "what"),
    [
        (["none"], FileNotFoundError, "none"),
        (["main.sh"], ValueError, "two of these are named 'main.sh'"),
        (["a/x", "b/x"], ValueError, "two of these are named 'x'"),
    ],
)
def test_the_error_names_a_file_that_a_script_cannot_include(
    local: LocalConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    includes: list[str],
    error: Any,
    what: str,
) -> None:
    """A script is not run without its included files, and the error names the file at fault."""
    monkeypatch.chdir(tmp_path)
    for name in ("main.sh", "a/x", "b/x"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    job = SshJob(local.node(), Script("main.sh", includes=includes))
    run("trio", job)
    with pytest.raises(error, match=what):
        job.result()


def test_repr_and_equality_of_a_script_cover_its_included_files() -> None:
    plain, beside = Script("a.sh", "b"), Script("a.sh", includes=["b"])
    assert (repr(plain), repr(beside)) == (
        "Script(a.sh, b)",
        "Script(a.sh, includes=[b])",
    )
    assert plain != beside == Script("a.sh", includes="b")
    assert hash(beside) == hash(Script("a.sh", includes="b"))
    assert plain._journal_key(plain.words) != beside._journal_key(beside.words)
    assert list(beside._files_read()) == ["a.sh", "b"]
    assert list(ScriptText("x", includes=["~/b"])._files_read()) == [
        os.path.expanduser("~/b")
    ]
    with pytest.raises(TypeError, match=r"includes=3 of Script: give a list of paths"):
        Script("a.sh", includes=3)  # type: ignore[arg-type]


def test_a_script_is_removed_from_the_node_after_it_has_run(
    local: LocalConnection,
) -> None:
    """The path of a script on the node no longer exists when it has run, nor does its directory, which is its own. It
    was once in /tmp, where Python imported the `select.py` of somebody else."""
    result = captured("trio", local.node(), ScriptText("echo $0; ls -A ${0%/*}"))
    path, *beside = result.stdout.decode().splitlines()
    assert beside == [os.path.basename(path)]
    assert not Path(path).parent.exists()


# ---- several steps
def test_the_steps_of_a_list_are_done_in_order(
    backend: str, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("hello")
    job = SshJob(
        server.node(),
        [
            Push(tmp_path / "in.txt", to=f"{tmp_path}/there/"),
            f"tr a-z A-Z < {tmp_path}/there/in.txt > {tmp_path}/there/out.txt; echo done",
            Pull(f"{tmp_path}/there/out.txt", to=f"{tmp_path}/{{node}}.txt"),
            ScriptText("echo $1", "last"),
        ],
        stdout=PIPE,
    )
    run(backend, job)
    nothing, command, places, script = job.result()
    assert (nothing, command.stdout, script.stdout) == (None, b"done\n", b"last\n")
    assert places == [f"{tmp_path}/127.0.0.2.txt"]
    assert Path(places[0]).read_text() == "HELLO"


def test_steps_after_a_failed_step_do_not_run(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    job = ran(
        backend,
        SshJob(local.node(), [f"touch {tmp_path}/a", "exit 3", f"touch {tmp_path}/b"]),
    )
    assert isinstance(job.raised_exception(), CommandError)
    assert (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


# ---- destinations of the output
def test_output_goes_to_a_file_for_each_node(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    where = tmp_path / "logs" / "{node}-{what}.txt"
    job = SshJob(
        local.node(),
        ["echo 1", "echo 2; echo 3 >&2"],
        values={"what": "x"},
        stdout=where,
        stderr=subprocess.STDOUT,
    )
    run(backend, job)
    assert (tmp_path / "logs" / "127.0.0.2-x.txt").read_text() == "1\n2\n3\n"


def test_stderr_may_go_to_a_file_while_stdout_is_captured(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    result = captured(
        backend, local.node(), "echo 1; echo 2 >&2", stderr=tmp_path / "err"
    )
    assert (result.stdout, result.stderr, (tmp_path / "err").read_text()) == (
        b"1\n",
        None,
        "2\n",
    )


def test_an_output_file_is_opened_only_when_its_command_starts(
    backend: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connections, "MAX_SESSIONS", 1)
    node = server.node()
    jobs = [
        SshJob(node, f"ls {tmp_path} | wc -l", stdout=tmp_path / str(number))
        for number in range(3)
    ]
    run(backend, *jobs)
    assert sorted(
        (tmp_path / str(number)).read_text().strip() for number in range(3)
    ) == ["1", "2", "3"]


@pytest.mark.parametrize("wrong", ["node", "/proc/not/there", "/dev/full"])
def test_output_files_are_closed_after_error(
    backend: str, local: LocalConnection, wrong: str, tmp_path: Path
) -> None:
    """Output files are closed if the node is unreachable, or if the other file cannot be opened or written."""
    node = (
        SshNode("127.0.0.1", port=free_port("127.0.0.1"))
        if wrong == "node"
        else local.node()
    )
    stderr = None if wrong == "node" else wrong
    job = ran(
        backend, SshJob(node, "echo x >&2", stdout=tmp_path / "file", stderr=stderr)
    )
    assert job.state is trioflow.JobState.FAILED
    assert str(tmp_path / "file") not in map(
        os.path.realpath, Path("/proc/self/fd").iterdir()
    )


def test_tag_prefixes_each_line_of_live_output_with_the_node(
    backend: str, local: LocalConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `tag=True`, lines of both outputs are shown after the name of the node, unfinished lines included."""
    run(backend, SshJob(local.node(), "echo out; echo err >&2; printf rest", tag=True))
    assert capsys.readouterr() == (
        "127.0.0.2: out\n127.0.0.2: rest\n",
        "127.0.0.2: err\n",
    )


def test_tag_may_have_time_and_values(
    backend: str, local: LocalConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tag may contain the node, values, and the time at which the line has arrived on this machine."""
    run(
        backend,
        SshJob(
            local.node(),
            "echo out",
            tag="{time:%H-%M-%S}:{node}:{run} ",
            values={"run": 7},
        ),
    )
    assert re.fullmatch(r"\d\d-\d\d-\d\d:127\.0\.0\.2:7 out\n", capsys.readouterr().out)


def test_on_start_is_called_at_each_attempt_as_its_first_command_starts(
    backend: str, local: LocalConnection
) -> None:
    """`on_start` gets the running SshJob once at each attempt; if it raises, the job fails with that exception."""
    heard: list[Any] = []

    def refuse(job: SshJob) -> None:
        raise LookupError(job.label)

    steps = ["echo one", "exit 3"]
    job = SshJob(
        local.node(),
        steps,
        retry=1,
        on_start=lambda job: heard.append((job.attempts, job.state)),
    )
    bad = SshJob(local.node(), "sleep 1000", on_start=refuse, label="bad")
    run(backend, job, bad)
    assert heard == [(1, trioflow.JobState.RUNNING), (2, trioflow.JobState.RUNNING)]
    assert repr(bad.raised_exception()) == "LookupError('bad')"


def test_output_may_go_to_open_files(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    text = io.StringIO()
    with (tmp_path / "out").open("wb") as file:
        run(
            backend,
            SshJob(local.node(), "echo é; echo 2 >&2", stdout=file, stderr=text),
        )
    assert ((tmp_path / "out").read_text(), text.getvalue()) == ("é\n", "2\n")


def test_descriptors_of_this_program_stay_blocking(server: Server) -> None:
    """This program's descriptors stay blocking, although the ssh of a connection makes its own non-blocking."""
    code = (
        "import os, sys, trioflow\n"
        f"node = trioflow.SshNode('127.0.0.2', port={server.port}, config={str(server.site.config)!r})\n"
        "assert trioflow.Scheduler(trioflow.SshJob(node, 'echo there')).run()\n"
        "print('here', os.get_blocking(0), os.get_blocking(1), os.get_blocking(2))\n"
    )
    assert (
        python("-c", code, stdin=PIPE, text=True).stdout
        == "there\nhere True True True\n"
    )


def test_a_callback_that_raises_fails_the_job_and_ends_the_command(
    backend: str, server: Server, mark: dict[str, str], watched: Any
) -> None:
    def broken(job: SshJob, line: str) -> None:
        raise ValueError(job, line)

    job = ran(
        backend, SshJob(server.node(), "echo 5; sleep 1000", on_line=broken, env=mark)
    )
    assert repr(job.raised_exception()) == repr(ValueError(job, "5"))
    assert watched.gone_in_time(), watched.alive()


# ---- invalid arguments, labels and errors
@pytest.mark.parametrize(
    ("command", "options", "error", "what"),
    [
        ([], {}, ValueError, "the list of commands is empty"),
        ("", {}, ValueError, "empty"),
        ("  ", {}, ValueError, "empty"),
        ((), {}, ValueError, "empty"),
        (
            ["ls", "-l"],
            {},
            ValueError,
            r"a list contains several commands.*'ls -l', or a tuple: \('ls', '-l'\)",
        ),
        (5, {}, TypeError, "is not a command: give a command"),
        ([5], {}, TypeError, "is not a command: give a command"),
        (("a", b"\0"), {}, ValueError, "'SshJob': argument 1 contains a NUL"),
        ("a\0", {"label": "j"}, ValueError, "'j': argument 0 contains a NUL"),
        (
            "true",
            {"append": "no"},
            TypeError,
            "append='no' of 'SshJob': give True or False",
        ),
        (("a", object()), {}, TypeError, "argument 1"),
        *(
            (
                "true",
                {"env": {name: "x"}},
                ValueError,
                "is not a valid name for a variable",
            )
            for name in ("-i", "", "1A", "é")
        ),
        (
            "true",
            {"env": ["A=x"]},
            TypeError,
            "env of 'SshJob': found list; give a dict",
        ),
        (
            "true",
            {"values": ["A=x"]},
            TypeError,
            "values of 'SshJob': found list; give a dict",
        ),
        ("true", {"values": {"a b": 1}}, ValueError, "cannot be a placeholder"),
        (
            "true",
            {"values": {"node": 1}},
            ValueError,
            "other than 'node', which is reserved",
        ),
        ("true", {"stdout": b"x"}, TypeError, "give a path"),
        ("true", {"terminate_grace": -1}, ValueError, "0 or more"),
        ("true", {"on_line": 5}, TypeError, "plain function"),
        ("true", {"stdin": PIPE}, ValueError, "PIPE and STDOUT are only for output"),
        ("true", {"timeout": 0}, ValueError, "positive"),
    ],
)
def test_invalid_arguments_of_a_job_are_rejected(
    command: Any, options: Any, error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        SshJob("node", command, **options)


def test_the_error_names_a_value_that_cannot_be_text(backend: str) -> None:
    """If a value cannot be text, the error has its name; once, it had a number, as for an argument."""
    job = ran(
        backend, SshJob("node", "echo {b}", values={"a": 1, "b": None}, label="j")
    )
    with pytest.raises(TypeError, match="'j': argument 'b' is None"):
        job.result()


@pytest.mark.parametrize("kind", [Push, Pull])
def test_a_copy_without_files_is_rejected(kind: Any) -> None:
    with pytest.raises(ValueError, match="give the files"):
        kind(to="x")


@pytest.mark.parametrize("kind", [Push, Pull])
def test_a_copy_without_a_destination_is_named(kind: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{kind.__name__}.* missing .*'to'"):
        kind("a")


def test_an_empty_destination_of_a_copy_is_rejected() -> None:
    """An empty destination of a copy raises when the job is created; once, such a job failed only on the node."""
    with pytest.raises(
        ValueError, match=r"Push\(\): to='' is empty: give a path on the node, or '~'"
    ):
        Push("a", to="")


@pytest.mark.parametrize("step", [Push(b"a\xff", to="b"), Script(b"a\xff")])
def test_files_named_by_bytes_are_listed_for_a_journal(step: Any) -> None:
    assert list(SshJob("node", step).for_journal().reads) == [os.fsdecode(b"a\xff")]


def test_labels_show_node_and_command() -> None:
    """The label of an SshJob shows node and command; steps, nested jobs and long chains are shortened."""
    assert SshJob("node", "echo {node}").label == "node: echo {node}"
    assert SshJob("node", ("ls", "-l", SshJob("m", "x"))).label == "node: ls -l <m: x>"
    steps = SshJob(SshNode("node", port=3), [Push("a", to="b/"), "true"])
    assert steps.label == "node:3: Push(a, to=b/); …"
    assert repr(steps) == "<SshJob node:3: Push(a, to=b/); …, idle>"
    many = SshJob("node", "uptime")
    for _ in range(1200):
        many = SshJob("node", ("echo", many))
    assert many.label == "node: echo <node: echo <… echo <…>>>>"
    assert SshJob("node", "secret", redact=True).label == "node: command …"
    assert repr(Script("a", 1)) == "Script(a, 1)"
    assert Pull("a", to="b") == Pull("a", to="b") != Push("a", to="b")
    assert len({Script("a"), Script("a"), ScriptText("a")}) == 2


# ---- granted resources
def test_granted_resources_are_filled_into_words_values_and_env(
    backend: str, local: LocalConnection
) -> None:
    jobs = [
        SshJob(
            local.node(), [("echo", granted("gpu")), "echo {cards} $CARDS"],
            values={"cards": granted("gpu")}, env={"CARDS": granted("gpu")}, needs={"gpu": number}, stdout=PIPE,
        )
        for number in (1, 2)
    ]  # fmt: skip
    assert Scheduler(*jobs, pool=trioflow.Pool(gpu=["a", "b", "c"])).run(
        backend=backend
    )
    said = [[result.stdout for result in job.result()] for job in jobs]
    assert said == [[b"a\n", b"a a\n"], [b"b,c\n", b"b,c b,c\n"]]
    for options in ({"values": {"x": granted("gpu")}}, {"env": {"X": granted("gpu")}}):
        with pytest.raises(
            ValueError,
            match=r"it uses granted\('gpu'\), but does not need that resource",
        ):
            SshJob(local.node(), "true", **options)


# ---- idle_timeout
@patiently(0.6, 6, 30)
def test_output_of_a_command_on_a_node_resets_idle_timeout(
    backend: str, local: LocalConnection, unit: float
) -> None:
    tick = f"for n in 1 2 3 4; do sleep {0.27 * unit}; echo $n; done"
    steady = SshJob(local.node(), [tick, tick], stdout=PIPE, idle_timeout=unit)
    silent = SshJob(
        local.node(), f"{tick}; sleep 99", stdout=subprocess.DEVNULL, idle_timeout=unit
    )
    run(backend, Scheduler(steady, silent))
    assert [result.stdout for result in steady.result()] == [b"1\n2\n3\n4\n"] * 2
    error = silent.raised_exception()
    assert isinstance(error, trioflow.JobTimeout)
    assert error.missing == "output"
