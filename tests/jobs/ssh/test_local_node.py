"""`LocalNode`: this machine as a node. Tests of `SshJob` check that the same commands behave as on a server."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trioflow import CommandJob, JobTimeout, LocalNode, Pull, Push, Scheduler, Script, SshJob, SshNode, SshNodes
from trioflow.jobs.ssh import _local_copier
from ...bodies import run
from ...places import PATIENCE
from ..posix.process_trees import Watched

PIPE = subprocess.PIPE


def test_the_result_of_a_command_without_captured_output_is_no_input(backend: str) -> None:
    silent = SshJob(LocalNode(), "true")
    reader = SshJob(LocalNode(), "cat", stdin=silent, label="reader")
    assert not Scheduler(silent, reader).run(backend=backend)
    assert "stdin of 'reader' is the result of a command whose output was not captured" in str(
        reader.raised_exception()
    )


def test_a_local_node_needs_no_ssh(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a local node no connection is made, so neither ssh nor a directory for sockets is needed."""
    for program in ("sh", "rm", "mv", "cat", "chmod", "mktemp", "setsid", "sleep", "grep"):
        (tmp_path / program).symlink_to(f"/usr/bin/{program}")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "script").write_text("cat pushed")
    job = SshJob(
        LocalNode(),
        ["true", Push(tmp_path / "script", to=f"{tmp_path}/pushed"), Script(tmp_path / "script")],
        cwd=tmp_path,
        stdout=PIPE,
    )
    run(backend, job)
    assert job.result()[2].stdout == b"cat pushed"
    assert not list(tmp_path.glob("*trioflow*"))


def test_a_local_node_runs_in_this_directory(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = SshJob(LocalNode(), ["echo x > a", Push("a", to="sub/"), Pull("sub/a", to="b"), "cat b; pwd"], stdout=PIPE)
    run(backend, job)
    assert job.result()[-1].text == f"x\n{tmp_path}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "sub"]


def test_a_local_node_may_have_its_directory(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local nodes may have separate directories, created on demand, to try out a scenario for many nodes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").write_text("x")
    nodes = [LocalNode(name, directory=tmp_path / "nodes" / name) for name in ("one", "two")]
    steps = [Push("data", to="in/"), "cat in/data > out", Pull("out", to="results/{node}")]
    run(backend, *(SshJob(node, steps) for node in nodes))
    assert (tmp_path / "nodes" / "two" / "in" / "data").read_text() == "x"
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["one", "two"]


def test_commands_on_a_local_node_inherit_the_environment(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a local node, variables of `env=` are added to those of this program."""
    monkeypatch.setenv("OURS", "1")
    job = SshJob(LocalNode(), 'echo "$OURS $OWN"', env={"OWN": "2"}, stdout=PIPE)
    run(backend, job)
    assert job.result().text == "1 2\n"


def test_local_processes_end_with_the_run(backend: str, tmp_path: Path, mark: dict[str, str], watched: Watched) -> None:
    line = f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000' & "
    wait = f"while ! test -s {tmp_path}/pid; do sleep 0.01; done"
    job = SshJob(LocalNode(), line + wait, env=mark, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run(backend, job)
    assert job.is_succeeded()
    assert (tmp_path / "pid").exists()
    assert watched.gone_in_time(), watched.alive()


def test_a_local_node_does_not_limit_the_commands_at_once(backend: str, tmp_path: Path) -> None:
    """Only the window of the scheduler limits how many commands run at once on a local node."""
    all_begun = f"until set -- {tmp_path}/*; test $# -eq 12; do sleep 0.05; done"
    jobs = [SshJob(LocalNode(), f"touch {tmp_path}/{number}; {all_begun}", timeout=PATIENCE) for number in range(12)]
    run(backend, *jobs)
    assert all(job.is_succeeded() for job in jobs)


def test_a_list_of_nodes_may_contain_local_nodes() -> None:
    """In a list of nodes, a local node is written as an object, or as ":", and equal nodes are listed once."""
    nodes = SshNodes(["node[1-2]", LocalNode(), ":", LocalNode("other")], username="me")
    others = [SshNode(name, username="me") for name in ("node1", "node2")]
    assert list(nodes) == [*others, LocalNode(), LocalNode("other")]
    assert list(SshNodes(":,node1")) == [LocalNode(), SshNode("node1")]
    assert SshJob(":", "true").node == LocalNode()
    assert (str(LocalNode()), LocalNode("x").name) == ("localhost", "x")
    assert SshJob(LocalNode(), "uname").label == "localhost: uname"


@pytest.mark.parametrize(
    ("arguments", "options", "error", "what"),
    [
        (("a b",), {}, ValueError, "hostname='a b' of LocalNode('a b')"),
        ((3,), {}, TypeError, "hostname=3 of LocalNode(3): give a string"),
        (
            (),
            {"directory": 3},
            TypeError,
            "directory=3 of LocalNode('localhost'): give a path, as text or a pathlib.Path",
        ),
        ((), {"directory": ""}, ValueError, "directory='' of LocalNode('localhost')"),
    ],
)
def test_bad_arguments_of_a_local_node_raise(arguments: Any, options: Any, error: type[Exception], what: str) -> None:
    with pytest.raises(error) as raised:
        LocalNode(*arguments, **options)
    assert what in str(raised.value)


def test_a_directory_that_cannot_be_created_fails_the_job(backend: str) -> None:
    job = SshJob(LocalNode(directory="/proc/none"), "true")
    run(backend, job)
    with pytest.raises(FileNotFoundError, match="/proc/none"):
        job.result()


# ---- the program that copies on a local node
def copied(monkeypatch: pytest.MonkeyPatch, *operations: tuple[str, ...]) -> int:
    """Run the copier of local nodes in this process, and return its exit code."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(operations)))
    return _local_copier.main()


def test_the_copier_of_a_local_node_does_operations_in_sequence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The copier of a local node makes directories, copies both ways, and prints what it has fetched."""
    (tmp_path / "a*").write_text("x")
    (tmp_path / "ab").write_text("y")
    (tmp_path / "back").mkdir()
    place, new = f"{tmp_path}/there", f"{tmp_path}/there/new"
    code = copied(
        monkeypatch, ("MakeDirectory", place), ("MakeDirectory", place), ("Put", f"{tmp_path}/a*", new),
        ("Get", f"{tmp_path}/a\\*", f"{tmp_path}/back"), ("Get", f"{tmp_path}/?[b-c]", f"{tmp_path}/back"),
    )  # fmt: skip
    assert (code, *capfd.readouterr()) == (0, f"{tmp_path}/a*\n{tmp_path}/ab\n", "")
    assert (tmp_path / "there" / "new").read_text() == "x"
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["a*", "ab"]


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        (("Get", "none*", "."), "get 'none*' '.': File \"none*\" not found\n"),
        (("Get", "pipe", "back"), "get 'pipe' 'back': 'pipe' is not a file or a directory\n"),
        (("Put", "tree", "back"), "put 'tree' 'back': File exists\n"),
    ],
)
def test_the_copier_of_a_local_node_stops_at_the_first_operation_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str], operation: Any, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("file").touch()
    for name in ("back", "tree"):
        Path(name).mkdir()
    assert copied(monkeypatch, operation, ("Put", "file", "never")) == 1
    assert capfd.readouterr() == ("", what)
    assert not Path("never").exists()


def test_a_local_nodes_copier_skips_links_and_pipes_in_trees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_text("x")
    (tree / "sub" / "file").chmod(0o666)
    (tree / "link").symlink_to("sub")
    os.mkfifo(tree / "pipe")
    (tree / "sub").chmod(0o555)
    os.utime(tree / "sub", (1e9, 1e9))
    assert copied(monkeypatch, ("Put", str(tree), str(tmp_path / "copy"))) == 0
    sub = tmp_path / "copy" / "sub"
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["sub"]
    assert (sub.stat().st_mode & 0o777, sub.stat().st_mtime) == (0o555, 1e9)
    assert (sub / "file").stat().st_mode & 0o777 == 0o666
    sub.chmod(0o755)


@pytest.mark.parametrize("what", ["standard input", "script"])
def test_a_named_pipe_for_a_node_does_not_stop_the_event_loop(backend: str, tmp_path: Path, what: str) -> None:
    os.mkfifo(tmp_path / "pipe")

    def job(**options: Any) -> SshJob:
        if what == "script":
            return SshJob(LocalNode(), Script(tmp_path / "pipe"), stdout=PIPE, **options)
        return SshJob(LocalNode(), "sh", stdin=tmp_path / "pipe", stdout=PIPE, **options)

    alone, fed = job(timeout=0.05), job()
    run(backend, alone)
    assert isinstance(alone.raised_exception(), JobTimeout)
    run(backend, fed, CommandJob(["echo", "echo x"], stdout=tmp_path / "pipe"))
    assert fed.result().text == "x\n"


@pytest.mark.parametrize("small", [True, False])
def test_no_argument_of_a_process_has_the_text_of_a_script(backend: str, tmp_path: Path, small: bool) -> None:
    """Other users see the arguments of processes, in which a script once stood."""
    text = "#!/bin/sh\ncat /proc/[0-9]*/cmdline 2>/dev/null\n: SEKRET-in-script\n"
    (tmp_path / "script").write_text(text + "#" * (0 if small else 70_000))
    job = SshJob(LocalNode(), Script(tmp_path / "script"), stdout=PIPE, check=False)
    run(backend, job)
    assert b"/bin/sh" in job.result().stdout
    assert b"SEKRET-in-script" not in job.result().stdout


def test_a_pull_drops_the_bits_that_let_others_act_as_the_owner(backend: str, tmp_path: Path) -> None:
    """A copy had the setuid bit of a file on a local node, which sftp drops."""
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(0o6755)
    run(backend, SshJob(LocalNode(), Pull(tmp_path / "a", to=tmp_path / "b")))
    assert (tmp_path / "b").stat().st_mode & 0o7777 == 0o755
