"""All ways of a job on a node, by a stand-in for ssh: the wrapper and sftp are the real ones, and no server starts.

A scenario is rich, and a law compares all that comes back: these tests are cheap, so they run each time."""

import os
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import (
    CommandError,
    CommandResult,
    Job,
    JobState,
    LocalNode,
    OutputLine,
    Pool,
    PortOpen,
    Pull,
    Push,
    Retry,
    Scheduler,
    Script,
    ScriptText,
    SshError,
    SshJob,
    SshNode,
    SshService,
    Unreachable,
    granted,
)
from trioflow.abc import BackendName
from trioflow.jobs.posix._processes import ReportedUsage
from trioflow.jobs.ssh import _connections
from trioflow.jobs.ssh._transport import READY, Gateway, OpenSsh
from ...bodies import ran, run
from ..fingerprints import difference
from .servers import free_port

PIPE = subprocess.PIPE
SERVER = "/usr/lib/openssh/sftp-server"
HOLD = f"echo {READY}; exec sleep 1000"
LOST = "echo 'Connection closed by UNKNOWN port 65535' >&2; exit 255"
FULL = "echo 'mux_client_request_session: Session open refused by peer' >&2; exit 255"
REFUSED = "echo 'ssh: connect to host node port 22: Connection refused' >&2; exit 255"

pytestmark = pytest.mark.skipif(
    not os.path.exists(SERVER), reason="needs openssh-sftp-server"
)


class StandIn(OpenSsh):
    """Programs of ssh whose node is a directory of this machine.

    Args:
        home: the home directory on the node.

    Attributes:
        opens: for each attempt to connect, in order, what the client does. Further attempts succeed.
        sessions: for each session, what the client does in place of the command. Further ones run the command.
        opened: the nodes and gateways of the attempts to connect.

    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.opens: list[str] = []
        self.sessions: list[str] = []
        self.transfers: list[str] = []
        self.opened: list[str] = []
        self.server = home.with_name("sftp-server")
        self.server.write_text(f"#!/bin/sh\nexec {SERVER} -d {home}\n")
        self.server.chmod(0o755)

    def connect(self, node: SshNode, socket: str, gateway: Gateway | None) -> list[str]:
        way = "" if gateway is None else f" by {gateway.node}"
        self.opened.append(f"{node}{way}")
        return ["sh", "-c", self.opens.pop(0) if self.opens else HOLD]

    def run(self, node: SshNode, socket: str, line: str) -> list[str]:
        if self.sessions and (instead := self.sessions.pop(0)):
            return ["sh", "-c", instead]
        # As on a node, the wrapper is in no group of this program.
        enter = 'cd "$1" && exec /bin/sh -c "$2"'
        return ["setsid", "-w", "sh", "-c", enter, "-", str(self.home), line]

    def transfer(self, node: SshNode, socket: str) -> list[str]:
        if self.transfers and (instead := self.transfers.pop(0)):
            return ["sh", "-c", instead]
        return ["sftp", "-D", str(self.server), "-b", "-"]

    def settings(self, node: SshNode) -> list[str]:
        return ["true"]


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    home = tmp_path / "home"
    home.mkdir()
    ssh = StandIn(home)
    monkeypatch.setattr(_connections, "OpenSsh", lambda: ssh)
    monkeypatch.setattr(_connections, "INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr(_connections, "MAX_RETRY_DELAY", 0.002)
    return ssh


@pytest.fixture(params=["ssh", "local"])
def node(request: pytest.FixtureRequest, ssh: StandIn) -> SshNode | LocalNode:
    if request.param == "local":
        return LocalNode("n1", directory=ssh.home)
    return SshNode("n1")


@pytest.mark.parametrize(
    ("backend", "node"), [("trio", "ssh"), ("asyncio", "local")], indirect=["node"]
)
def test_each_step_of_a_job_has_its_words_its_place_and_its_whole_result(
    backend: BackendName, ssh: StandIn, node: SshNode | LocalNode, tmp_path: Path
) -> None:
    tool = tmp_path / "tool.sh"
    tool.write_text(
        '#!/bin/sh -e\necho "${0##*/} $# $2 $WORD"; . "${0%/*}/lib.sh"; exit 143\n'
    )
    library = tmp_path / "lib.sh"
    library.write_text("echo lib $(basename $PWD) >&2\n")
    (ssh.home / "n1").mkdir()
    begun: list[SshJob] = []
    steps = [
        "cat; echo {word} {other}; echo err >&2; exit 4",
        ("printf", "%s|", "a b", "{word}", 5, granted("gpu")),
        Script(tool, 1, "x y", includes=[library]),
        ScriptText('#!/bin/sh\necho "$# $1"; basename "$PWD"; exit 143', "it's"),
        "pwd",
    ]
    job = SshJob(
        node, steps, values={"word": "two words"}, env={"WORD": "on {node}"}, cwd="{node}", stdin=b"in\n",
        stdout=PIPE, stderr=PIPE, check=[0, 4, "TERM"], needs={"gpu": 2}, on_start=begun.append,
    )  # fmt: skip
    scheduler = Scheduler(job, pool=Pool(gpu=["g0", "g1", "g2"]))
    assert scheduler.run(backend=backend), job.raised_exception()
    found = [(each.returncode, each.stdout, each.stderr) for each in job.result()]
    assert found == [
        (4, b"in\ntwo words {other}\n", b"err\n"),
        (0, b"a b|{word}|5|g0,g1|", b""),
        (-15, b"tool.sh 2 x y on n1\n", b"lib n1\n"),
        (-15, b"1 it's\nn1\n", b""),
        (0, f"{ssh.home}/n1\n".encode(), b""),
    ]
    signals = [each.signal for each in job.result()]
    assert signals == [None, None, signal.SIGTERM, signal.SIGTERM, None]
    assert begun == [job]
    assert job.last_result is job.result()[-1]
    assert job.label == "n1: cat; echo {word} {other}; echo err >&2; exit 4; …"
    assert job.command_line() == (
        f"n1: cat; echo {{word}} {{other}}; echo err >&2; exit 4; printf %s| a b {{word}} 5 {{gpu}}; "
        f"Script({tool}, 1, x y, includes=[{library}]); "
        'ScriptText(#!/bin/sh\necho "$# $1"; basename "$PWD"; exit 143, it\'s); pwd'
    )
    assert [*ssh.home.iterdir()] == [ssh.home / "n1"]


def test_each_attempt_writes_its_outputs_anew_and_begins_once(
    backend: BackendName, ssh: StandIn, node: SshNode | LocalNode, tmp_path: Path
) -> None:
    """The first attempt fails in its second step. Files with `append=True` have both attempts."""
    anew, kept = tmp_path / "anew n1", tmp_path / "kept"
    steps = ["echo first; echo err >&2", "echo second; test -e tried || { touch tried; exit 9; }"]  # fmt: skip
    begun: list[str] = []
    truncating = SshJob(
        node, steps, stdout=tmp_path / "anew {node}", append=False, stderr=subprocess.DEVNULL,
        retry=Retry(1, first=0), on_start=lambda job: begun.append(job.label),
    )  # fmt: skip
    run(backend, truncating)
    assert truncating.attempts == 2
    assert anew.read_text() == "first\nsecond\n"
    assert begun == [truncating.label] * 2
    (ssh.home / "tried").unlink()
    kept.write_text("before\n")
    appending = SshJob(
        node, steps, stdout=kept, stderr=subprocess.STDOUT, retry=Retry(1, first=0)
    )
    run(backend, appending)
    assert kept.read_text() == "before\n" + "first\nerr\nsecond\n" * 2


def test_each_line_of_a_node_has_its_stream_its_tag_and_its_caller(
    backend: BackendName,
    ssh: StandIn,
    node: SshNode | LocalNode,
    capfd: pytest.CaptureFixture[str],
) -> None:
    lines: list[tuple[SshJob, str]] = []
    line = "printf 'one\\r\\ntwo'; echo bad >&2"
    tagged = SshJob(
        node,
        line,
        tag="{label} {node} {word} {none}: ",
        values={"word": "w"},
        label="t",
    )
    heard = SshJob(
        node, line, on_line=lambda *found: lines.append(found), required=tagged
    )
    plain = SshJob(node, line, tag=True, stdout=PIPE, required=heard)
    silent = SshJob(node, line, stdout=subprocess.DEVNULL, required=plain)
    run(backend, tagged, heard, plain, silent)
    out, err = capfd.readouterr()
    assert out == "t n1 w {none}: one\nt n1 w {none}: two\nn1: one\nn1: two\n"
    assert err == "t n1 w {none}: bad\nn1: bad\nbad\n"
    assert sorted(lines, key=lambda found: found[1]) == [
        (heard, "bad"), (heard, "one"), (heard, "two"),
    ]  # fmt: skip
    assert plain.result().stdout == b"one\r\ntwo"
    assert (plain.result().stderr, silent.result().stdout) == (None, None)


EXITED = "exit code 3: n1: echo out; echo secret >&2; exit 3"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, f"{EXITED}. Its standard error ended with:\nsecret"),
        ({"stderr": PIPE}, f"{EXITED}. Its standard error ended with:\nsecret"),
        ({"stderr": subprocess.STDOUT}, f"{EXITED}. Its output ended with:\nout\nsecret"),
        ({"redact": True}, "exit code 3: command …"),
    ],
)  # fmt: skip
def test_the_error_of_a_command_has_its_node_its_line_and_the_end_of_its_errors(
    backend: BackendName,
    ssh: StandIn,
    node: SshNode | LocalNode,
    options: dict[str, Any],
    shown: str,
) -> None:
    job = ran(backend, SshJob(node, "echo out; echo secret >&2; exit 3", **options))
    error: Any = job.raised_exception()
    assert str(error) == shown
    assert error.result.returncode == error.returncode == 3
    assert job.last_result is error.result


def tree(directory: Path) -> dict[str, tuple[str, str, int]]:
    """Return the permissions, the text and the time of each entry below a directory."""
    found: dict[str, tuple[str, str, int]] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        text = path.read_text() if path.is_file() else ""
        name = str(path.relative_to(directory))
        found[name] = stat.filemode(status.st_mode), text, int(status.st_mtime)
    return found


def test_copies_have_their_names_places_permissions_and_times(
    backend: BackendName,
    ssh: StandIn,
    node: SshNode | LocalNode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Copies go to a node and come back: each in its place, and nothing else is left there or here."""
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    for name, mode in (("a b", 0o640), ("run", 0o755), ("data/[x]", 0o600)):
        (here / name).write_text(f"of {name}\n")
        (here / name).chmod(mode)
        os.utime(here / name, (1_000_000_000, 1_100_000_000))
    (here / "data/link").symlink_to("[x]")
    (here / "data").chmod(0o750)
    os.utime(here / "data", (1_000_000_000, 1_200_000_000))
    is_remote = isinstance(node, SshNode)
    push = SshJob(
        node,
        [
            Push("a b", "~/data", to="deep/er/"),
            Push("run", to="-renamed"),
            Push(here / "run", to="~/deep" if is_remote else "deep"),
            Push("a b", to="~" if is_remote else "./"),
        ],
    )
    pull = SshJob(
        node,
        [
            Pull("deep/*", to="back/{node}/"),
            Pull("deep/er/data/\\[x\\]", "a b", to="back"),
            Pull("~/-renamed" if is_remote else "-renamed", to="~/back/once more"),
        ],
        required=push,
    )
    run(backend, push, pull)
    file, script = ("-rw-r-----", "of a b\n", 1_100_000_000), ("-rwxr-xr-x", "of run\n", 1_100_000_000)  # fmt: skip
    inside = "-rw-------", "of data/[x]\n", 1_100_000_000
    there = tree(ssh.home)
    data = "drwxr-x---", ""
    assert {name: facts for name, facts in there.items() if name not in ("deep", "deep/er", "deep/er/data")} == {
        "-renamed": script, "a b": file, "deep/er/a b": file, "deep/er/data/[x]": inside, "deep/run": script,
    }  # fmt: skip
    assert there["deep/er/data"][:2] == data
    back = tree(here / "back")
    assert {name: facts for name, facts in back.items() if not facts[0].startswith("d")} == {
        "[x]": inside, "a b": file, "n1/er/a b": file, "n1/er/data/[x]": inside, "n1/run": script, "once more": script,
    }  # fmt: skip
    assert push.result() == [None] * 4
    assert pull.result() == [
        ["back/n1/er", "back/n1/run"], ["back/[x]", "back/a b"], [f"{here}/back/once more"],
    ]  # fmt: skip
    assert sorted(os.listdir(here)) == ["a b", "back", "data", "run"]


def test_a_copy_that_cannot_be_made_leaves_nothing_behind(
    backend: BackendName, ssh: StandIn, node: SshNode | LocalNode, tmp_path: Path
) -> None:
    (ssh.home / "taken").mkdir()
    for name in ("one", "two"):
        (ssh.home / name).touch()
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole/x").touch()
    (ssh.home / "taken/x").mkdir()
    target = tmp_path / "target"
    messages: dict[SshJob, str] = {
        SshJob(node, Pull("missing", to=target)): "not found",
        SshJob(node, Pull("[ot][nw][eo]", to=target)): "found 2 files for one target",
        SshJob(node, Push(tmp_path / "missing", to="x")): f"n1: Push({tmp_path}/missing, to=x): No such file",
        SshJob(node, Push(tmp_path / "whole", to="taken")): "taken/x: a directory is in the place of a file",
        SshJob(node, Pull("one", "a/one", to=target)): "two of these are named 'one', one and a/one",
        SshJob(node, Push("/dev/null", to="x")): "is a pipe, a socket or a device",
    }  # fmt: skip
    for job, message in messages.items():
        ran(backend, job)
        assert message in str(job.raised_exception())
    assert [path.name for path in tmp_path.iterdir() if "trioflow" in path.name] == []
    assert sorted(os.listdir(ssh.home)) == ["one", "taken", "two"]
    assert not (target / "one").exists()


def test_a_connection_is_tried_again_and_shared(
    backend: BackendName, ssh: StandIn, tmp_path: Path
) -> None:
    """The node is behind a gateway, whose first attempt fails, as the first of the node does."""
    gateway = SshNode("gateway", port=2222)
    node = SshNode("node", gateway=gateway)
    ssh.opens = [REFUSED, HOLD, "exit 255", HOLD]
    jobs = [SshJob(node, "true"), SshJob(gateway, "true"), SshJob(node, "true")]
    run(backend, *jobs)
    assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 3
    behind = "node by gateway:2222"
    assert ssh.opened == ["gateway:2222", "gateway:2222", behind, behind]


def test_a_node_that_cannot_be_reached_fails_or_skips_its_jobs(
    backend: BackendName, ssh: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """A job with a retry connects again, and a second run, in which the node is up, knows nothing of the first."""
    gateway = SshNode("gateway")
    failing = SshJob(SshNode("a"), "true", retry=Retry(1, first=0), critical=False)
    skipped = [
        SshJob(SshNode("b", on_unreachable="skip"), "true", label=f"b{number}", required=failing)
        for number in range(2)
    ]  # fmt: skip
    behind = SshJob(SshNode("c", gateway=gateway), "true", required=skipped)
    ssh.opens = [REFUSED] * 12
    scheduler = Scheduler(failing, *skipped, behind)
    assert not scheduler.run(backend=backend)
    refused = "it cannot be reached (tried 3 times): ssh: connect to host node port 22: Connection refused"
    assert str(failing.raised_exception()) == f"a: {refused}"
    assert isinstance(failing.raised_exception(), Unreachable)
    assert [job.result() for job in skipped] == [None, None]
    assert [str(job.unreachable) for job in skipped] == [f"b: {refused}"] * 2
    assert str(behind.raised_exception()) == (
        f"c: cannot connect to its gateway: gateway: {refused}"
    )
    assert isinstance(behind.raised_exception(), Unreachable)
    assert ssh.opened == ["a"] * 6 + ["b"] * 3 + ["gateway"] * 3
    skips = [one for one in caplog.messages if one.startswith("b: ")]
    assert skips == [f"b: {refused}; its jobs are skipped"]
    assert scheduler.run(backend=backend)
    assert [job.unreachable for job in skipped] == [None, None]
    assert skipped[0].result().returncode == 0


@pytest.mark.parametrize(
    ("text", "tries", "shown", "note"),
    [
        ("Permission denied (publickey).", 1, "login failed (Permission denied (publickey).): ssh cannot log in",
         "try: ssh -o BatchMode=yes -l me -p 7 node"),
        ("Host key verification failed.", 1, "its host key is unknown: the known_hosts files has no entry for it",
         "accept_new=True"),
        ("x has changed and you have requested strict checking\nOffending key in /a:1\nOffending key in /b:2\n", 1,
         "it does not match the one in /b, line 2. ", "ssh-keygen -R"),
        ("Bad configuration option: x", 1, "its ssh settings are invalid: Bad configuration option: x", ""),
        ("no matching cipher", 3, "(tried 3 times): it has no compatible ssh server: no matching cipher", ""),
        ("Warning: Permanently added x\nKilled by signal 15.", 3,
         "(tried 3 times): ssh exited without an error message", ""),
    ],
)  # fmt: skip
def test_the_error_of_a_connection_has_its_cause_and_the_advice(
    backend: BackendName, ssh: StandIn, text: str, tries: int, shown: str, note: str
) -> None:
    ssh.opens = [f"cat >&2 <<'.'\n{text}\n.\nexit 255"] * 3
    job = ran(backend, SshJob(SshNode("node", username="me", port=7), "true"))
    error = job.raised_exception()
    assert isinstance(error, SshError)
    assert isinstance(error, Unreachable) is (tries > 1)
    assert shown in str(error)
    assert note in "".join(getattr(error, "__notes__", []))
    assert len(ssh.opened) == tries


@pytest.mark.parametrize("beyond", [0, 1])
def test_ssh_may_report_on_a_connection_up_to_a_number_of_bytes(
    backend: BackendName, ssh: StandIn, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    """A server may say what it likes before the login, and no limit of ssh's own keeps it from filling the disk."""
    monkeypatch.setattr(_connections, "MAX_LOG_SIZE", 1024)
    until_limited = "while [ $(ulimit -f) = unlimited ]; do sleep 0.01; done"
    says = f"{until_limited}; head -c {1024 + beyond} /dev/zero >&2 && {HOLD}"
    ssh.opens = [says] * 3
    job = ran(backend, SshJob(SshNode("node"), "true"))
    assert isinstance(job.raised_exception(), Unreachable) is bool(beyond)
    assert len(ssh.opened) == (3 if beyond else 1)


def test_what_has_not_begun_on_a_node_is_tried_again_and_what_has_begun_is_not(
    backend: BackendName, ssh: StandIn, tmp_path: Path
) -> None:
    node = SshNode("node")
    log = tmp_path / "log"
    lost_twice = SshJob(node, "echo ran", stdout=log)
    ssh.sessions = [LOST, LOST]
    run(backend, lost_twice)
    assert log.read_text() == "ran\n"
    ssh.sessions = [LOST] * 3
    lost = ran(backend, SshJob(node, "echo ran", stdout=log)).raised_exception()
    assert str(lost) == "node: echo ran: the connection was lost"
    assert isinstance(lost, SshError)
    assert not lost.started
    ssh.transfers = [LOST, LOST]
    run(backend, SshJob(node, Push(log, to="copy")))
    assert (ssh.home / "copy").read_text() == "ran\n"
    ssh.sessions = ["echo rubbish >&2; exit 7"]
    bad_login = ran(backend, SshJob(node, "echo ran", stdout=log)).raised_exception()
    assert str(bad_login) == (
        "node: echo ran: the login succeeded, but the session ended with exit code 7 before the command started "
        "(rubbish)"
    )
    ssh.sessions = ["exit 0"]
    empty = ran(backend, SshJob(node, "true")).raised_exception()
    assert "ended with exit code 0 before the command started" in str(empty)
    begun = ran(
        backend, SshJob(node, "kill -KILL $PPID", stdout=log)
    ).raised_exception()
    assert log.read_text() == "ran\n"
    assert isinstance(begun, SshError)
    assert begun.started
    assert str(begun) == (
        "node: the connection was lost, which ends the command on the node: kill -KILL $PPID"
    )


def test_a_job_waits_for_a_session_that_its_node_has_refused(
    backend: BackendName, ssh: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As nothing of it has begun, it goes back to wait; a job whose step has begun asks again where it is."""
    monkeypatch.setattr(_connections, "pause_after", lambda count: 0.001 * (count + 1))
    ssh.sessions = [FULL, FULL, FULL]
    first = SshJob(SshNode("node"), ["echo a", "echo b"], stdout=PIPE)
    run(backend, first)
    assert [each.stdout for each in first.result()] == [b"a\n", b"b\n"]
    ssh.sessions = ["", FULL, FULL]
    second = SshJob(SshNode("node"), ["echo a", "echo b"], stdout=PIPE)
    run(backend, second)
    assert [each.stdout for each in second.result()] == [b"a\n", b"b\n"]
    assert (first.attempts, second.attempts) == (1, 1)
    monkeypatch.setattr(_connections, "MAX_REFUSALS", 2)
    # Twice it goes back to wait, and then it asks three times where it is.
    ssh.sessions = [FULL] * 5
    third = ran(backend, SshJob(SshNode("node"), "true"))
    assert str(third.raised_exception()) == "node: true: the connection was lost"
    assert ssh.sessions == []


def test_a_service_of_a_node_serves_until_its_users_have_ended(
    backend: BackendName,
    ssh: StandIn,
    node: SshNode | LocalNode,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Its second attempt is ready: the first ends too early, and what that has written counts no more."""
    heard: list[tuple[Any, str]] = []
    script = "echo up; test -e tried || { touch tried; echo why >&2; exit 3; }; echo now up; exec sleep 1000"
    service = SshService(
        node, script, ready=OutputLine("now up"), retry=Retry(1, first=0), label="s",
        on_line=lambda *line: heard.append(line), stderr=subprocess.STDOUT,
    )  # fmt: skip
    user = SshJob(node, ("echo", "uses", service), stdout=PIPE)
    run(backend, service, user)
    assert user.result().text == "uses now up\n"
    assert heard == [(service, line) for line in ("up", "why", "up", "now up")]
    ends = SshService(node, "echo end; exit 3", ready=OutputLine("never"), label="e")
    error = ran(backend, ends).raised_exception()
    assert str(error) == (
        "the service ended with exit code 3 before it was ready (it was waiting for a line with 'never' in its "
        "output): n1: echo end; exit 3. Its output ended with:\nend"
    )
    assert capfd.readouterr() == ("", "end\n")
    to_file = SshService(
        node, "echo ready; exec sleep 1000", ready=OutputLine("ready"), stdout=tmp_path / "{node}.log",
        stderr=tmp_path / "{node}.err",
    )  # fmt: skip
    run(backend, to_file, SshJob(node, "true", required=to_file))
    assert (tmp_path / "n1.log").read_text() == "ready\n"


def test_a_port_of_a_node_is_ready_when_it_accepts_connections(
    backend: BackendName, ssh: StandIn, node: SshNode | LocalNode
) -> None:
    """This program has the port, at first too early, and then once the program of the service has begun."""
    ready = PortOpen(free_port("127.0.0.1"), "127.0.0.1")
    address = ready.host, ready.number
    line = "touch begun; exec sleep 1000"
    with socket.create_server(address):
        found = ran(backend, SshService(node, line, ready=ready)).raised_exception()
    assert isinstance(found, CommandError)
    assert found.returncode == 1
    assert str(found).endswith(
        f"ended with:\nport {ready.number} of 127.0.0.1 is in use before the service starts"
    )
    assert not (ssh.home / "begun").exists()

    async def listen() -> None:
        while not await anyio.Path(ssh.home / "begun").exists():  # noqa: ASYNC110 - it has no event
            await anyio.sleep(0.01)
        with socket.create_server(address):
            await user.wait_settled()

    user = SshJob(node, ("echo", SshService(node, line, ready=ready)), stdout=PIPE)
    assert Scheduler(user, Job(listen)).run(backend=backend)
    assert user.result().text == f"{ready.number}\n"


FACTS: dict[str, Any] = {
    "node": SshNode("n1"), "steps": ["echo {w}", ("echo", "b")], "values": {"w": "x"}, "env": {"A": "1"},
    "stdin": b"in", "stdout": PIPE,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, None),
        ({"terminate_grace": 1.0, "tag": True, "append": False}, None),
        ({"node": SshNode("n2")}, 'argument 1 has changed from "n1" to "n2"'),
        ({"node": SshNode("n1", port=7)}, 'argument 1 has changed from "n1" to "n1:7"'),
        ({"node": SshNode("n1", username="me")}, None),
        ({"steps": ["echo {w}", ("echo", "c")]}, "argument 2 has changed"),
        ({"steps": ["echo {w}", "echo b"]}, "argument 2 has changed"),
        ({"values": {"w": "y"}}, 'argument 3 has changed from {"w":"x"} to {"w":"y"}'),
        ({"cwd": "/"}, "its directory has changed"),
        ({"env": {"A": "2"}}, "its variable 'A' has changed"),
        ({"env": {}}, "its variable 'A' has changed"),
        ({"stdin": b"other"}, "its option stdin= has changed"),
        ({"stdout": subprocess.DEVNULL}, 'its option stdout= has changed from "PIPE" to "DEVNULL"'),
        ({"stderr": subprocess.STDOUT}, "its option stderr= has changed"),
    ],
)  # fmt: skip
def test_a_job_on_a_node_is_restored_unless_its_work_has_changed(
    tmp_path: Path, changed: dict[str, Any], why: str | None
) -> None:
    def make(**options: Any) -> SshJob:
        given = FACTS | options
        return SshJob(given.pop("node"), given.pop("steps"), **given)

    found = difference(make(), make(**changed), tmp_path)
    assert (found or "").startswith(why or "")
    assert (found is None) is (why is None)


def test_the_work_of_a_job_on_a_node_has_all_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    steps = [
        Script("script", 1, includes=["~/lib", "data"]), ScriptText("true", includes="text"), Push("~/a", "b", to="c"),
        Pull("d", to="e"),
    ]  # fmt: skip
    files: dict[str, Any] = {"stdin": "in", "stdout": "out", "stderr": "err"}
    work = SshJob("n", steps, **files).for_journal()
    assert [*work.reads] == [
        "in", "script", "/home/me/lib", "data", "text", "/home/me/a", "b",
    ]  # fmt: skip
    assert ([*work.appends], [*work.begins_anew]) == (["out", "err"], [])
    work = SshJob("n", steps, **files, append=False).for_journal()
    assert ([*work.appends], [*work.begins_anew]) == ([], ["out", "err"])
    # Which of its words are arguments, and which are files, counts, too.
    plain, included = (
        SshJob("n", Script("s", *words, includes=[*files]))
        for words, files in (("x", ""), ("", "x"))
    )
    assert difference(plain, included, tmp_path) == (
        'argument 2 has changed from [["Script","s","x"]] to [["Script","s","x",{"includes":1}]]'
    )
    secret, other = (SshJob("n", "a", redact=True, env={"A": text}) for text in "12")
    assert difference(secret, other, tmp_path) == "its environment has changed"


def test_a_result_that_would_fail_now_is_not_restored() -> None:
    code = {code: CommandResult(code, 0.0, ReportedUsage(0, 0), None, None) for code in (0, 3)}  # fmt: skip
    rejects = SshJob("n", ["true", "true"]).for_journal().rejects
    assert rejects is not None
    why = "by check=, it would have failed now: exit code 3"
    assert [rejects([code[0], code[last]]) for last in code] == [None, why]
    assert [rejects(code[last]) for last in code] == [None, why]


def test_a_job_of_pulls_alone_always_runs() -> None:
    pull = Pull("a", to="b")
    jobs = [SshJob("n", steps) for steps in (pull, [pull, pull], ["true", pull])]
    assert [job.save for job in jobs] == [None, None, "default"]
    assert SshJob("n", pull, save="json").save == "json"
