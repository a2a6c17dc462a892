"""Lanes: the loop on the node in each shell that this machine has, and what becomes of commands over a real server."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow import JobState, JobTimeout, Scheduler, SshError, SshJob
from trioflow.jobs.command._capture import Capture
from trioflow.jobs.ssh import _lane, _lanes, _wrapper
from trioflow.jobs.ssh._lane import Tap

from ...places import PATIENCE
from ..posix.process_trees import FORKING, STUBBORN, TREE, Watched
from .servers import Server, Site, targets

SHELLS = ("dash", "bash --posix", "busybox sh")
FOUND = [command for command in SHELLS if shutil.which(command.split()[0])]
SHOW = "import os, sys; print([os.environb.get(name.encode()) for name in sys.argv[1:]])"
SCRIPTS = {"lane": _lane.SCRIPT, "wrapper": _wrapper.SCRIPT}
in_each_shell = pytest.mark.parametrize("shell", FOUND)
PIPE = subprocess.PIPE
KILLS = int(os.environ.get("TRIOFLOW_KILLS", "2"))
"""How many processes are killed at random instants; more by hand."""


class Loop:
    """A lane, run by this machine as a node would run it.

    Args:
        shell: what runs its script.
        held: tenths of a second after which it gives up what holds an output of a command that was ended.

    """

    def __init__(self, shell: str, held: int = 40) -> None:
        script = _lane.opening("ready").replace("/bin/sh", shell, 1)
        for waiting, less in (("sleep 4;", f"sleep {held / 10};"), ("-ge 40 ]", f"-ge {held} ]")):
            assert script.count(waiting) == 1
            script = script.replace(waiting, less)
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", script], stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
        self._tokens = count()
        self._cpu_time = 0.0
        self.end("ready")

    def begin(self, words: list[str], **options: Any) -> str:
        """Send a command; return its token."""
        token = f"token{next(self._tokens)}"
        options = {"grace": 0.3, "stdin": "", "merged": False, "variables": {}, **options}
        assert self.process.stdin is not None
        self.process.stdin.write(_lane.command_line(words, token, **options))
        self.process.stdin.flush()
        return token

    def end(self, token: str) -> tuple[int | None, bytes, bytes, float]:
        """Return exit code, both outputs, and the CPU time; no code if the lane has ended instead."""
        stdout, stderr, told = self._until(token)
        code, user, system = _lane.ending(told)
        before, self._cpu_time = self._cpu_time, user + system
        return code, stdout, stderr, self._cpu_time - before

    def run(self, words: list[str], **options: Any) -> tuple[int | None, bytes, bytes, float]:
        return self.end(self.begin(words, **options))

    def let_go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _until(self, token: str) -> tuple[bytes, bytes, bytes | None]:
        found: list[tuple[bytes, bytes | None]] = []
        for stream in (self.process.stdout, self.process.stderr):
            tap, capture = Tap(), Capture()
            tap.expect(token, [capture])
            while tap.told is None and (data := os.read(stream.fileno(), 65536)):  # type: ignore[union-attr]
                tap.write(data)
            kept = capture.kept()
            assert isinstance(kept, bytes)
            found.append((kept, tap.told))
        (stdout, ended), (stderr, told) = found
        return stdout, stderr, told if ended is not None else None

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.process.stdin.closed:  # type: ignore[union-attr]
            self.let_go()
        self.process.stdin = None
        self.process.communicate(timeout=PATIENCE)


@in_each_shell
def test_commands_follow_one_another(shell: str, tmp_path: Path) -> None:
    """Each has its own output, exit code, variables and input; nothing of one is there in the next."""
    (tmp_path / "in put").write_text("read")
    with Loop(shell) as loop:
        assert loop.run(["sh", "-c", "echo out; echo err >&2; exit 3"])[:3] == (3, b"out\n", b"err\n")
        assert loop.run(["sh", "-c", "kill -9 $$"])[:3] == (137, b"", b"")
        assert loop.run(["sh", "-c", "echo out; echo err >&2"], merged=True)[:3] == (0, b"out\nerr\n", b"")
        assert loop.run(["cat"], stdin=str(tmp_path / "in put"))[:3] == (0, b"read", b"")
        assert not (tmp_path / "in put").exists()
        assert loop.run(["cat"])[:3] == (0, b"", b"")
        code, _, stderr, _ = loop.run(["no-such-program"])
        assert (code, b"no-such-program" in stderr) == (127, True)
        assert loop.run(["sh", "-c", "cd /; umask 0; exit 1"])[0] == 1
        assert loop.run(["pwd"])[1].decode().strip() == os.getcwd()


@in_each_shell
def test_words_and_variables_come_as_they_are(shell: str) -> None:
    """Whatever is in them, and whatever names the script itself uses; the next command does not have them."""
    hostile = os.fsdecode(bytes(range(1, 256)) + b"\xe3'\xff\xfe\n\n\x1etoken0\n")
    variables = {f"{name}": f"own {name}'\n" for name in "abceglmnpqstvwxyE"} | {"d": hostile, "f": ""}
    with Loop(shell) as loop:
        code, stdout, *_ = loop.run([sys.executable, "-c", SHOW, *variables], variables=variables)
        assert (code, eval(stdout)) == (0, list(map(os.fsencode, variables.values())))
        assert eval(loop.run([sys.executable, "-c", SHOW, *variables])[1]) == [None] * len(variables)
        assert loop.run(["printf", "%s|", hostile, "", "-n", "\\"])[1] == os.fsencode(hostile) + b"||-n|\\|"


@in_each_shell
def test_a_line_may_be_of_any_length(shell: str) -> None:
    """More than the system allows for one word, and 7,000 variables."""
    with Loop(shell) as loop:
        code, stdout, *_ = loop.run([sys.executable, "-c", "import sys; print(len(sys.argv))", *["x" * 1000] * 200])
        assert (code, stdout) == (0, b"201\n")
        assert loop.run(["sh", "-c", "echo $A6999"], variables={f"A{n}": f"{n}" for n in range(7000)})[1] == b"6999\n"


@in_each_shell
def test_output_comes_byte_by_byte_and_as_it_is_written(shell: str) -> None:
    """A command sees what it writes arrive while it runs."""
    data = random.Random(7).randbytes(300_000) + b"\0\x1etoken\x1e"
    show = "import os, random; d = random.Random(7).randbytes(300_000) + b'\\0\\x1etoken\\x1e'; {}"
    with Loop(shell) as loop:
        both = show.format("os.write(1, d[:7]); os.write(2, d[:9])")
        assert loop.run([sys.executable, "-c", both])[1:3] == (data[:7], data[:9])
        assert loop.run([sys.executable, "-c", show.format("import sys; sys.stdout.buffer.write(d)")])[1] == data
        token = loop.begin(["sh", "-c", "echo now; sleep 1000"])
        assert os.read(loop.process.stdout.fileno(), 100) == b"now\n"  # type: ignore[union-attr]
        loop.let_go()
        assert loop.end(token)[0] == 143


@in_each_shell
def test_a_token_that_a_command_writes_is_its_output(shell: str) -> None:
    """Neither an older token, nor one that looks like it, ends anything: the next one is known to nobody before."""
    with Loop(shell) as loop:
        told = "\\036ready\\n\\036token0 0 /\\n\\036token0\\n\\036\\036toke\\n"
        expected = told.replace("\\036", "\x1e").replace("\\n", "\n").encode()
        loop.run(["true"])
        for _ in range(2):
            code, stdout, stderr, _ = loop.run(["sh", "-c", f"printf '{told}'; printf '{told}' >&2"])
            assert (code, stdout, stderr) == (0, expected, expected)


@in_each_shell
def test_times_are_those_of_one_command(shell: str) -> None:
    """Neither those of the one before, nor those of the lane."""
    busy = "n=0; while [ $n -lt 200000 ]; do n=$((n+1)); done"
    with Loop(shell) as loop:
        assert loop.run(["sh", "-c", busy])[3] > 0.04
        assert loop.run(["true"])[3] < 0.04


@in_each_shell
@pytest.mark.parametrize("body", [TREE, STUBBORN, FORKING], ids=["tree", "stubborn", "forking"])
def test_the_end_of_its_input_ends_the_whole_tree(shell: str, body: str, watched: Watched) -> None:
    """TERM, the grace, KILL; its report still comes, and the lane ends."""
    with Loop(shell) as loop:
        loop.run(["true"])
        token = loop.begin(["sh", "-c", f"echo begun; {body}"])
        assert os.read(loop.process.stdout.fileno(), 100) == b"begun\n"  # type: ignore[union-attr]
        loop.let_go()
        assert loop.end(token)[0] in (137, 143)
        assert loop.process.wait(PATIENCE) == 0
    assert watched.gone_in_time(), watched.alive()


@in_each_shell
def test_a_lane_waits_for_whoever_holds_an_output(shell: str, tmp_path: Path) -> None:
    """What a command has left in a session of its own writes into no output but its own."""
    late = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; echo late >&2"
    with Loop(shell) as loop:
        token = loop.begin(["sh", "-c", f"setsid sh -c '{late}' & echo done"])
        assert os.read(loop.process.stdout.fileno(), 100) == b"done\n"  # type: ignore[union-attr]
        (tmp_path / "go").touch()
        assert loop.end(token)[:3] == (0, b"", b"late\n")


@in_each_shell
def test_nothing_of_a_lane_stays_for_one_who_holds_an_output(shell: str, tmp_path: Path, watched: Watched) -> None:
    """When its input has ended, the lane ends, though the output is still held."""
    with Loop(shell, held=2) as loop:
        pid = tmp_path / "pid"
        hold = f"setsid sh -c 'echo $$ > {pid}; exec sleep 1000' & until [ -s {pid} ]; do sleep 0.01; done; echo done"
        token = loop.begin(["sh", "-c", hold])
        assert os.read(loop.process.stdout.fileno(), 100) == b"done\n"  # type: ignore[union-attr]
        loop.let_go()
        assert loop.process.wait(PATIENCE) == -signal.SIGKILL
        os.kill(int(pid.read_text()), signal.SIGKILL)
        assert loop.end(token)[0] is None
    assert watched.gone_in_time(), watched.alive()


@pytest.mark.parametrize(
    ("shell", "part"), [(FOUND[0], "cat"), (FOUND[0], "pipeline"), *[(shell, "shell") for shell in FOUND]]
)
def test_whatever_is_killed_of_a_lane_is_no_end_of_a_command(shell: str, part: str, watched: Watched) -> None:
    """It ends without a mark, and when its input ends, which a server sees to, nothing is left."""
    with Loop(shell, held=2) as loop:
        token = loop.begin(["sh", "-c", "sleep 0.5; echo begun; sleep 1000"])
        assert os.read(loop.process.stdout.fileno(), 100) == b"begun\n"  # type: ignore[union-attr]
        for pid in of_lane(loop.process.pid, part):
            with contextlib.suppress(ProcessLookupError):  # one of them may end when another does
                os.kill(pid, signal.SIGKILL)
        loop.let_go()
        assert loop.end(token)[0] in ((143, None) if part == "pipeline" else (None,))  # its end may still be told
    assert watched.gone_in_time(), watched.alive()


@in_each_shell
def test_a_command_does_not_begin_before_it_is_watched(shell: str, tmp_path: Path, monkeypatch: Any) -> None:
    """A lane that is killed in between leaves nothing that runs."""
    before = "f=$((9-f))"
    assert _lane.SCRIPT.count(before) == 1
    monkeypatch.setattr(_lane, "SCRIPT", _lane.SCRIPT.replace(before, f'kill -KILL "$a"; {before}'))
    with Loop(shell) as loop:
        assert loop.run(["touch", str(tmp_path / "file")]) == (None, b"", b"", 0.0)
    assert not (tmp_path / "file").exists()


def test_the_cats_know_the_order_of_their_pipes_for_all_commands_of_a_lane() -> None:
    """They have one word more than there are commands, for the last mark."""
    with Loop(FOUND[0]) as loop:
        loop.run(["true"])
        for pid in of_lane(loop.process.pid, "cat"):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[1:-1]
            assert len(words) > _lane.MOST_COMMANDS
            assert words == words[:2] * (len(words) // 2)


def of_lane(pid: int, part: str) -> list[int]:
    """Return the outermost process of a lane; its cats; or the shells that run commands."""
    if part == "pipeline":
        return [pid]
    group = subprocess.run(["pgrep", "-g", str(pid), "-l"], capture_output=True, text=True, check=True).stdout
    names = dict(line.split(" ", 1) for line in group.splitlines())
    if part == "cat":
        return [int(one) for one, name in names.items() if name == "cat"]
    parents = {int(Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[1]) for one in names}
    return [one for one in parents if str(one) in names and one != pid]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_are_portable(script: str, tmp_path: Path) -> None:
    """As shellcheck and checkbashisms see it."""
    file = tmp_path / "script"
    file.write_text("#!/bin/sh\n" + SCRIPTS[script].replace("; ", ";\n") + "\n")
    if shutil.which("checkbashisms") is not None:
        subprocess.run(["checkbashisms", file], check=True)
    if shutil.which("shellcheck") is not None:
        # SC2034: a line that is read only to be waited for, and what stands in the lines that come
        subprocess.run(["shellcheck", "-s", "sh", "-e", "2034", file], check=True)


MARK = b"\x1etoken 0 /\n"


@given(st.binary(max_size=30), st.lists(st.integers(0, 50), max_size=4), st.binary(max_size=5))
def test_a_mark_is_found_however_it_comes(before: bytes, cuts: list[int], behind: bytes) -> None:
    """What is before it is passed on, what is behind it is not."""
    data, tap, capture = before + MARK + behind, Tap(), Capture()
    tap.expect("token", [capture])
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for first, last in pairwise(places):
        tap.write(data[first:last])
    assert (capture.kept(), tap.told, tap.stray) == (before, b" 0 /", behind)


# ---- over a real server


def sessions(server: Server) -> int:
    """Return how many commands the server has been asked for so far."""
    return server.logged("Starting session: command")


def test_commands_that_follow_one_another_share_a_session(backend: str, server: Server) -> None:
    """With lanes=False each has one."""
    for lanes, expected in ((True, 1), (False, 4)):
        before = sessions(server)
        jobs = [SshJob(server.node(max_sessions=1, lanes=lanes), f"echo {one}", stdout=PIPE) for one in range(4)]
        assert Scheduler(*jobs).run(backend=backend)
        assert [job.result().text for job in jobs] == ["0\n", "1\n", "2\n", "3\n"]
        assert sessions(server) - before == expected


@pytest.mark.parametrize("size", [1, 10_000], ids=["short", "long"])
def test_the_first_command_of_a_connection_has_a_session(
    backend: str, server: Server, size: int, monkeypatch: Any
) -> None:
    """Most nodes may have no other, and a lane costs more than it; but a long one has no room in its command line."""
    monkeypatch.setattr(_lanes, "FIRST", 1)
    before, opened = sessions(server), list[str]()
    opening = _lane.opening
    monkeypatch.setattr(_lane, "opening", lambda token: [opened.append(token), opening(token)][1])
    node = server.node(max_sessions=1)
    jobs = [SshJob(node, ("printf", "%.1s", str(one) * size), stdout=PIPE) for one in range(3)]
    assert Scheduler(*jobs).run(backend=backend)
    assert [job.result().text for job in jobs] == ["0", "1", "2"]
    assert (sessions(server) - before, len(opened)) == ((2, 1) if size == 1 else (1, 1))


def test_another_lane_is_opened_when_one_has_had_all_its_commands(
    backend: str, server: Server, monkeypatch: Any
) -> None:
    """The cats of a lane know the order of their pipes for so many."""
    monkeypatch.setattr(_lane, "MOST_COMMANDS", 2)
    before = sessions(server)
    jobs = [SshJob(server.node(max_sessions=1), "true") for _ in range(5)]
    assert Scheduler(*jobs).run(backend=backend)
    assert sessions(server) - before == 3


def test_a_forced_command_that_has_no_place_for_lanes(backend: str, site: Site, tmp_path: Path) -> None:
    """Each command has a session then, and the first shows it for all."""
    forced = tmp_path / "forced"
    forced.write_text(
        '#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in *"IFS= read"*) exit 1;; esac\neval "$SSH_ORIGINAL_COMMAND"\n'
    )
    forced.chmod(0o755)
    server = site.serve(2, ForceCommand=forced)
    jobs = [SshJob(server.node(max_sessions=1), "echo x", stdout=PIPE) for _ in range(3)]
    assert Scheduler(*jobs).run(backend=backend)
    assert [job.result().text for job in jobs] == ["x\n"] * 3
    assert server.logged("Starting session") == 4
    server.stop()


def test_a_lane_is_ready_soon_or_never(backend: str, site: Site, tmp_path: Path, monkeypatch: Any) -> None:
    """What keeps back its output until it ends has no lanes, and no job waits for one for ever."""
    monkeypatch.setattr(_lane, "PATIENCE", 0.5)
    forced = tmp_path / "forced"
    forced.write_text(
        '#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in *"IFS= read"*) exec sleep 30;; esac\neval "$SSH_ORIGINAL_COMMAND"\n'
    )
    forced.chmod(0o755)
    server = site.serve(2, ForceCommand=forced)
    job = SshJob(server.node(), "echo x", stdout=PIPE)
    assert Scheduler(job).run(backend=backend)
    assert job.result().text == "x\n"
    server.stop()


def test_a_timeout_in_a_session_of_its_own(
    backend: str, server: Server, mark: dict[str, str], watched: Watched
) -> None:
    """Nothing is left, as with lanes."""
    job = SshJob(server.node(lanes=False), TREE, env=mark, timeout=1, terminate_grace=0.3)
    Scheduler(job).run(backend=backend)
    assert isinstance(job.raised_exception(), JobTimeout)
    assert watched.gone_in_time(), watched.alive()


def test_a_lane_that_was_killed_is_not_used_again(backend: str, server: Server) -> None:
    """The command that it had fails, which may have started; the next one has another lane."""
    kill = "sleep 0.5; kill -9 $PPID; sleep 1000"  # not before the lane watches it
    node = server.node(max_sessions=1)
    first, killed = SshJob(node, "true"), SshJob(node, kill)
    last = SshJob(node, "echo x", stdout=PIPE, required=[first, killed])
    Scheduler(first, killed, last).run(backend=backend)
    failure = killed.raised_exception()
    assert isinstance(failure, SshError)
    assert failure.started
    assert last.result().text == "x\n"


def test_lanes_make_room_for_transfers(backend: str, site: Site, tmp_path: Path) -> None:
    """A server that allows one session has one: a lane that nobody uses ends first."""
    from trioflow import Push

    server = site.serve(2, MaxSessions=1)
    (tmp_path / "file").write_text("x")
    steps = ["true", Push(tmp_path / "file", to=tmp_path / "copy"), f"cat {tmp_path}/copy"]
    job = SshJob(server.node(), steps, stdout=PIPE)
    assert Scheduler(job).run(backend=backend)
    assert job.result()[2].text == "x"
    assert server.accepted == 1
    server.stop()


@pytest.mark.timeout(240)
def test_whenever_something_is_killed_nothing_survives(
    backend: str, site: Site, watched: Watched, mark: dict[str, str]
) -> None:
    """At random instants a part of a lane, an sshd on the node, or an ssh here: a result is whole, or there is none."""
    server = site.serve(2)
    chance, done = random.Random(11), threading.Event()
    killed = list[str]()

    def kill() -> None:
        while len(killed) < KILLS and not done.is_set():
            time.sleep(0.01)
            found = targets(server)
            if any(name == "lane" for _, name in found):
                pid, name = chance.choice(found)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(name)
        done.set()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        while not done.is_set():
            body = "sleep 0.02 & echo $$; sleep 0.05; wait"
            jobs = [SshJob(server.node(), body, env=mark, stdout=PIPE, terminate_grace=0.3) for _ in range(12)]
            Scheduler(*jobs, jobs_window=4).run(backend=backend)
            for job in jobs:
                assert job.state is JobState.FAILED or job.result().text.strip().isdigit()
    finally:
        done.set()
        thread.join()
    assert len(killed) == KILLS
    assert watched.gone_in_time(), watched.alive()
    end = time.monotonic() + PATIENCE
    while targets(server):
        assert time.monotonic() < end, targets(server)
        time.sleep(0.05)
    server.stop()
