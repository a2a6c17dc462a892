"""`trioflow ssh` without a server: which steps each node takes, what is printed of it, and the exit code."""

import io
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import anyio
import pytest
from trioflow import (
    CommandResult,
    Job,
    JobTimeout,
    SshError,
    SshNode,
    Unreachable,
)
from trioflow.cli import _node_runner
from trioflow.cli._node_runner import NodeRun, _has_unread_input
from .command_line import trioflow

USAGE: Any = SimpleNamespace(ru_utime=0, ru_stime=0, ru_maxrss=0)
REFUSED, LOST, AWAY, LATE, NO_FILE = "refused", "lost", "away", "late", "no file"


def exited(code: int, stdout: bytes = b"", stderr: bytes = b"") -> CommandResult:
    return CommandResult(code, 1.0, USAGE, stdout, stderr)


class Nodes:
    """Nodes on which each step ends as it was planned, by the name of the node and the kind of the step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plan: dict[tuple[str, str], CommandResult | str] = {}
        self.steps: list[tuple[str, str, float | None]] = []
        self.nodes: list[SshNode] = []
        monkeypatch.setattr(NodeRun, "_make_step_job", self.make_step)
        # The streams of a test are no pipes.
        monkeypatch.setattr(_node_runner, "_has_unread_input", lambda: False)

    def make_step(self, node: Any, step: Any, timeout: float | None) -> Any:
        kind = "run" if isinstance(step, str) else type(step).__name__.lower()
        text = step if isinstance(step, str) else repr(step)
        self.steps.append((node.name, text, timeout))
        self.nodes.append(node)
        ending = self.plan.get((node.name, kind), exited(0))
        job = types.SimpleNamespace(last_result=None)

        async def co_run() -> None:
            if isinstance(ending, CommandResult):
                job.last_result = ending
            elif ending == LATE:
                job.last_result = exited(-15, b"half")
                raise JobTimeout(Job(anyio.sleep, 9), 5)
            elif ending == AWAY:
                raise Unreachable(node, "it is away")
            elif ending == NO_FILE:
                raise FileNotFoundError(2, "No such file", "x")
            elif ending == "odd":
                raise ValueError("odd name")
            else:
                raise SshError(node, f"it is {ending}", started=ending == LOST)

        job.co_run = co_run
        return job

    def ssh(self, *words: object) -> tuple[int, list[str], list[str]]:
        done = trioflow("ssh", *words)
        return done.exit_code, done.stdout.splitlines(), done.stderr.splitlines()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    return Nodes(monkeypatch)


def test_the_table_has_each_outcome(nodes: Nodes) -> None:
    """Successes first, then by the text, each with the names of its nodes; a copy that fails is the last step."""
    nodes.plan = {
        ("n02", "run"): exited(3, b"a", b"b\n"),
        ("n03", "run"): exited(-9),
        ("n04", "run"): LATE,
        ("n05", "run"): LOST,
        ("n06", "run"): REFUSED,
        ("n07", "run"): AWAY,
        ("n08", "push"): AWAY,
        ("n09", "push"): NO_FILE,
        ("n10", "pull"): NO_FILE,
        ("n11", "pull"): AWAY,
        ("n12", "run"): exited(4),
        ("n12", "pull"): "odd",
        ("n04", "pull"): REFUSED,
    }
    copies = ["--push", __file__, "--to", "there/", "--pull", "x*", "--into", "{node}/"]
    code, out, err = nodes.ssh(
        "-H", "n[01-13],m1", "-j", 1, "--timeout", "5s", *copies, "echo", "{node}"
    )
    assert code == 11
    assert out == [
        "== n01: exit code 0, 1 s",
        "== n02: exit code 3, 1 s",
        "a",
        "== n03: ended by signal SIGKILL, 1 s",
        "== n04: timeout",
        "half",
        "== n05: lost",
        "== n06: refused",
        "== n07: unreachable",
        "== n08: unreachable",
        "== n09: not copied",
        "== n10: not copied",
        "== n11: unreachable",
        "== n12: exit code 4, 1 s",
        "== n13: exit code 0, 1 s",
        "== m1: exit code 0, 1 s",
    ]
    assert err == [
        "b",
        "n04: it is refused",
        "n05: it is lost",
        "n06: it is refused",
        "n07: it is away",
        "n08: it is away",
        "[Errno 2] No such file: 'x'",
        "[Errno 2] No such file: 'x'",
        "n11: it is away",
        "n12: odd name",
        "exit code 0              3  n[01,13],m1",
        "ended by signal SIGKILL  1  n03",
        "exit code 3              1  n02",
        "exit code 4              1  n12",
        "lost                     1  n05",
        "not copied               2  n[09-10]",
        "refused                  1  n06",
        "timeout                  1  n04",
        "unreachable              3  n[07-08,11]",
    ]
    push = f"Push({__file__}, to=there/)"
    taken = {n: [s for s in nodes.steps if s[0] == f"n{n:02}"] for n in (1, 2, 4, 5, 8)}
    whole = {
        n: [
            (f"n{n:02}", push, None),
            (f"n{n:02}", "echo {node}", 5.0),
            (f"n{n:02}", "Pull(x*, to={node}/)", None),
        ]
        for n in taken
    }
    assert taken == {
        **{n: whole[n] for n in (1, 2, 4)},
        5: whole[5][:2],
        8: whole[8][:1],
    }


@pytest.mark.parametrize(
    ("failed", "code"), [(0, 0), (1, 1), (100, 100), (101, 101), (102, 101)]
)
def test_the_exit_code_is_the_number_of_nodes_that_failed(
    nodes: Nodes, failed: int, code: int
) -> None:
    nodes.plan = {(f"n{n:03}", "run"): exited(1) for n in range(1, failed + 1)}
    done, _, err = nodes.ssh("-H", "n[001-102]", "true")
    assert done == code
    digits = len(str(max(failed, 102 - failed)))
    ranges = {0: (failed + 1, 102), 1: (1, failed)}
    assert err == [
        f"exit code {exit_code}  {last - first + 1:{digits}}  "
        + (f"n[{first:03}-{last:03}]" if first < last else f"n{first:03}")
        for exit_code, (first, last) in ranges.items()
        if first <= last
    ]


def test_options_of_ssh_reach_each_node(nodes: Nodes, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.touch()
    options = ["-l", "ann", "-i", "key", "-J", "jump", "--accept-new"]
    nodes.ssh("-H", "n1", "-F", config, *options, "--connect-timeout", "1m30s", "true")
    nodes.ssh("-H", "n2", "--timeout", "0", "true")
    first, second = nodes.nodes
    assert first == SshNode(
        "n1",
        username="ann",
        identity="key",
        config=str(config),
        gateway="jump",
        accept_new=True,
        connect_timeout=90.0,
    )
    assert second == SshNode("n2", connect_timeout=30.0)
    assert [timeout for _, _, timeout in nodes.steps] == [None, None]


def test_places_and_arguments_are_filled_in_for_each_node(
    nodes: Nodes, tmp_path: Path
) -> None:
    script = tmp_path / "s.sh"
    script.touch()
    words = ["--script", script, "--include", tmp_path / "{node}", "-", "{node}", "b"]
    nodes.ssh("-H", "u@n1:7,n2", "-j", 1, "--push", script, "--pull", "x", *words)
    assert nodes.steps == [
        step
        for name, host in (("n1:7", "n1"), ("n2", "n2"))
        for step in (
            (name, f"Push({script}, to=~)", None),
            (name, f"Script({script}, -, {host}, b, includes=[{tmp_path}/{host}])", None),
            (name, "Pull(x, to={node}/)", None),
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["-H", "n1", "--pull", "x", "--into", "y", "true"], ""),
        (["-H", "n[1-2]", "--pull", "x", "--into", "y", "true"], "'x' would replace"),
        (["-H", "n[1-2]", "--pull", "d/x/", "--into", "y", "true"], "'d/x/' would"),
        (["-H", "n[1-2]", "--pull", "x*/y", "--into", "y", "true"], "'x*/y' would"),
        *(
            (["-H", "n[1-2]", "--pull", name, "--into", "y", "true"], "")
            for name in ("x*", "x?", "[x]", "x{1,2}")
        ),
        (["-H", "n1", "--script", __file__, "--include", "no"], "no file 'no'"),
        (["-H", "n1", "--script", __file__, "--include", "no{node}"], ""),
    ],
)
def test_files_that_would_replace_each_other_or_are_missing_are_refused(
    nodes: Nodes, words: list[str], refusal: str
) -> None:
    code, _, err = nodes.ssh(*words)
    assert code == (255 if refusal else 0)
    assert refusal in err[-1]
    assert bool(nodes.steps) is not bool(refusal)


def test_input_of_which_nothing_was_read_is_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "input"
    found = []
    for text, position in (("", 0), ("x\ny\n", 0), ("x\ny\n", 2)):
        file.write_text(text)
        with file.open("rb", buffering=0) as stream:
            stream.seek(position)
            monkeypatch.setattr("sys.stdin", stream)
            found.append(_has_unread_input())
    monkeypatch.setattr("sys.stdin", io.StringIO("x"))
    assert [*found, _has_unread_input()] == [False, True, False, False]
