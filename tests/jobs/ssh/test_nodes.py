"""Nodes: `SshNode`, `SshNodes`, and this machine as one, `LocalNode`."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
import pytest
from trioflow import (
    CommandJob,
    JobTimeout,
    LocalNode,
    Pull,
    Push,
    Scheduler,
    Script,
    SshJob,
    SshNode,
    SshNodes,
)
from trioflow.jobs.ssh import _local_copier, _nodes
from ...bodies import ran, run
from ...places import PATIENCE
from ..posix.process_trees import Watched


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("node", ["node"]),
        ("node[1-3]", ["node1", "node2", "node3"]),
        ("node[08-11]", ["node08", "node09", "node10", "node11"]),
        ("r[1-2]n[a,b,7]", ["r1na", "r1nb", "r1n7", "r2na", "r2nb", "r2n7"]),
        ("a,b c", ["a", "b", "c"]),
        (
            "n[1,3-4].example.org,other",
            ["n1.example.org", "n3.example.org", "n4.example.org", "other"],
        ),
        ("fe80::1 2001:db8::10,::1", ["fe80::1", "2001:db8::10", "::1"]),
    ],
)
def test_a_string_of_nodes_is_expanded_to_their_names(
    written: str, names: list[str]
) -> None:
    """In a string of nodes, commas and spaces separate names, and brackets hold ranges with their leading zeros."""
    assert [node.hostname for node in SshNodes(written)] == names


@pytest.mark.parametrize(
    ("written", "hostname", "port", "name"),
    [
        ("2001:db8::10", "2001:db8::10", None, "2001:db8::10"),
        ("fe80::1:2", "fe80::1:2", None, "fe80::1:2"),
        (
            "2001:db8:0:0:0:0:0:10",
            "2001:db8:0:0:0:0:0:10",
            None,
            "2001:db8:0:0:0:0:0:10",
        ),
        ("[2001:db8::10]:2222", "2001:db8::10", 2222, "[2001:db8::10]:2222"),
        ("[2001:db8::10]", "2001:db8::10", None, "2001:db8::10"),
        ("10.0.0.1:22", "10.0.0.1", 22, "10.0.0.1:22"),
    ],
)
def test_ipv6_address_needs_brackets(
    written: str, hostname: str, port: int | None, name: str, tmp_path: Path
) -> None:
    (tmp_path / "nodes").write_text(f"root@{written}\n", "utf-8")
    for nodes in (
        SshNodes([f"root@{written}"]),
        SshNodes(f"root@{written}"),
        SshNodes(tmp_path / "nodes"),
    ):
        assert [
            (node.username, node.hostname, node.port, node.name) for node in nodes
        ] == [("root", hostname, port, name)]


def test_a_file_of_nodes_has_a_node_or_a_range_in_each_line(tmp_path: Path) -> None:
    """In a file of nodes, each line may have a user and a port; comments and empty lines are ignored."""
    file = tmp_path / "nodes.txt"
    file.write_text(
        "# the testbed\nnode[1-2]\n\nroot@other:2222  # the last one\nnode1\n"
    )
    nodes = SshNodes(file, username="me", connect_timeout=3)
    assert [(node.username, node.hostname, node.port) for node in nodes] == [
        ("me", "node1", None),
        ("me", "node2", None),
        ("root", "other", 2222),
    ]
    assert {node.connect_timeout for node in nodes} == {3}
    assert list(SshNodes(str(file), username="me", connect_timeout=3)) == list(nodes)


@pytest.mark.parametrize(
    ("dialect", "found"),
    [
        (
            "node1 slots=8\nnode2 slots=8 max_slots=9\n",
            "'slots=8' in line 1 of",
        ),  # Open MPI
        ("node1 8\nnode2 8\n", "'8' in line 1 of"),  # LSF
        ("node1 8 queue@node1 UNDEFINED\n", "'8' in line 1 of"),  # Grid Engine
        (
            "node1\n\nnode2 ansible_host=10.0.0.2\n",
            "'ansible_host=10.0.0.2' in line 3 of",
        ),  # Ansible
        ("[web]\nnode1\n", r"'\[web\]' in line 1 of"),
        ("node1\n[web:vars]\nx=1\n", r"'\[web:vars\]' in line 2 of"),
        (
            "node1\n[all_nodes:children]\nweb\n",
            r"'\[all_nodes:children\]' in line 2 of",
        ),
    ],
)
def test_what_a_file_of_nodes_says_to_another_tool_is_no_name(
    tmp_path: Path, dialect: str, found: str
) -> None:
    """Options, numbers of slots and headings of other tools' files are refused, and the error names the line."""
    file = tmp_path / "hostfile"
    file.write_text(dialect)
    with pytest.raises(
        ValueError,
        match=rf"{found} .*hostfile is for another tool, and no name of a node",
    ):
        SshNodes(file)


@pytest.mark.parametrize(
    ("written", "fact"),
    [
        ("nosuch.txt", "there is no file 'nosuch.txt'"),
        ("./nosuch", "there is no file './nosuch'"),
        ("node 01", "'01' in 'node 01' is no name"),
    ],
)
def test_a_text_that_was_meant_as_a_file_or_as_one_name_is_told_so(
    written: str, fact: str
) -> None:
    with pytest.raises(ValueError, match=fact):
        SshNodes(written)


@pytest.mark.parametrize(
    "written",
    ["[::1]", "[fe80::1%eth0]", "[a,b]", "[08-09]", "n[1]", "node1 node1 :", "8a"],
)
def test_names_that_look_like_other_tools_are_nodes(
    written: str, tmp_path: Path
) -> None:
    """An IPv6 address, a range without a name, a node in several lines, and this machine are nodes."""
    file = tmp_path / "hostfile"
    file.write_text(written.replace(" ", "\n"))
    assert list(SshNodes(file)) == list(SshNodes(written)) != []


def test_the_encoding_of_a_file_of_nodes_is_not_part_of_a_name(tmp_path: Path) -> None:
    """A byte order mark is no part of the first name, and a file in UTF-16 is refused with what to do."""
    file = tmp_path / "hostfile"
    file.write_text("node1\r\nnode2\r\n", encoding="utf-8-sig")
    assert [node.hostname for node in SshNodes(file)] == ["node1", "node2"]
    file.write_text("node1\n", encoding="utf-16")
    with pytest.raises(
        ValueError, match=r"hostfile is not in UTF-8 .*: save it in UTF-8"
    ):
        SshNodes(str(file))


def test_a_list_of_nodes_may_contain_names_ranges_and_nodes() -> None:
    """Nodes in a list of names and ranges keep their own options, and equal nodes are listed once."""
    own = SshNode("own", port=22)
    nodes = SshNodes(["n[1-2]", own, "n2"], username="me")
    assert list(nodes) == [
        SshNode("n1", username="me"),
        SshNode("n2", username="me"),
        own,
    ]
    assert (len(nodes), nodes[-1], nodes[:1], own in nodes) == (
        3,
        own,
        (nodes[0],),
        True,
    )


def test_equal_nodes_have_equal_hashes() -> None:
    assert SshNode("a", port=3) == SshNode("a", port=3)
    assert len({SshNode("a"), SshNode("a"), SshNode("a", username="b")}) == 2


def test_str_of_a_node_has_its_port_and_repr_of_nodes_is_short() -> None:
    assert [str(SshNode("a")), str(SshNode("a", port=3))] == ["a", "a:3"]
    assert repr(SshNodes("n[1-3]")) == "<SshNodes n1, n2, n3>"
    assert repr(SshNodes("n[01-37]")) == "<SshNodes n01 ... n37, 37 nodes>"


def test_a_gateway_may_be_given_by_name() -> None:
    assert SshNode("a", gateway="b", config="c").gateway == SshNode("b", config="c")


@pytest.mark.parametrize(
    ("hostname", "options", "error", "what"),
    [
        ("-oProxyCommand=evil", {}, ValueError, "a leading '-'"),
        ("a b", {}, ValueError, "without spaces"),
        ("a;b", {}, ValueError, "without spaces"),
        ("", {}, ValueError, "give a name"),
        (5, {}, TypeError, "give a string"),
        ("a", {"username": "-x"}, ValueError, "username"),
        ("a", {"port": 0}, ValueError, "1 to 65535"),
        ("a", {"port": 70000}, ValueError, "1 to 65535"),
        ("a", {"connect_timeout": 0}, ValueError, "positive"),
        ("a", {"connect_timeout": float("inf")}, ValueError, "finite"),
        ("a", {"on_unreachable": "ignore"}, ValueError, "choose 'fail' or 'skip'"),
        ("a", {"gateway": 3}, TypeError, "give an SshNode"),
    ],
)
def test_invalid_arguments_of_node_are_rejected(
    hostname: Any, options: Any, error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        SshNode(hostname, **options)


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", ".", "a..b", "~", "~root"])
@pytest.mark.parametrize("kind", [SshNode, LocalNode])
def test_a_name_of_a_node_is_no_path(
    kind: type[SshNode | LocalNode], name: str
) -> None:
    """In `stdout="out/{node}.log"` and `Pull(to="out/{node}/")`, no name of a node leads to another directory."""
    with pytest.raises(ValueError, match="give a name that is not a path"):
        kind(name)


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("node[1-3", "unbalanced or nested brackets"),
        ("node1]", "unbalanced or nested brackets"),
        ("node[3-1]", "not an ascending range of numbers"),
        ("node[a-c]", "not an ascending range of numbers"),
        ("node[1,,2]", "an item between commas or brackets is empty"),
        ("node[1-99999999]", "expands to more than the limit of 100000 nodes"),
        (
            "n[1-1000]n[1-1000]",
            "expands to 1000000 nodes, more than the limit of 100000",
        ),
    ],
)
def test_an_invalid_range_of_nodes_is_rejected(written: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        SshNodes(written)


@pytest.mark.parametrize("given", [5, [5]])
def test_an_argument_that_is_no_list_of_nodes_is_rejected(given: Any) -> None:
    with pytest.raises(TypeError, match="SshNodes"):
        SshNodes(given)


@pytest.mark.parametrize("piece", ["n[1]", "[1]"])
def test_a_name_of_many_brackets_is_read_once(piece: str) -> None:
    """All lengths were once added up again at each pair of brackets: a line of 400 KB took minutes."""
    nodes = SshNodes(piece * 50_000)
    assert [getattr(node, "hostname", None) for node in nodes] == [
        piece.replace("[1]", "1") * 50_000
    ]


LINES = "\n".join(f"n{number}[1-999]" for number in range(12))


@pytest.mark.parametrize(
    "text", ["n" + "[1-99999]" * 50, "n[" + "0" * 4000 + "1-99999]", LINES]
)
def test_a_hostfile_has_one_limit_checked_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Each line could name 100,000 nodes, and the brackets of a range were expanded before their product was known."""
    monkeypatch.setattr(_nodes, "MAX_NODES", 1000)
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(ValueError, match="more than the limit of"):
        SshNodes(tmp_path / "hosts")


# --- `LocalNode`; tests of `SshJob` check that the same commands behave as on a server
PIPE = subprocess.PIPE


def test_the_result_of_a_command_without_captured_output_is_no_input(
    backend: str,
) -> None:
    silent = SshJob(LocalNode(), "true")
    reader = SshJob(LocalNode(), "cat", stdin=silent, label="reader")
    assert not Scheduler(silent, reader).run(backend=backend)
    assert (
        "stdin of 'reader' is the result of a command whose output was not captured"
        in str(reader.raised_exception())
    )


def test_a_local_node_needs_no_ssh(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a local node no connection is made, so neither ssh nor a directory for sockets is needed."""
    for program in (
        "sh",
        "rm",
        "mv",
        "cat",
        "chmod",
        "mktemp",
        "setsid",
        "sleep",
        "grep",
    ):
        (tmp_path / program).symlink_to(f"/usr/bin/{program}")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "script").write_text("cat pushed")
    job = SshJob(
        LocalNode(),
        [
            "true",
            Push(tmp_path / "script", to=f"{tmp_path}/pushed"),
            Script(tmp_path / "script"),
        ],
        cwd=tmp_path,
        stdout=PIPE,
    )
    run(backend, job)
    assert job.result()[2].stdout == b"cat pushed"
    assert not list(tmp_path.glob("*trioflow*"))


def test_a_local_node_runs_in_this_directory(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = SshJob(
        LocalNode(),
        ["echo x > a", Push("a", to="sub/"), Pull("sub/a", to="b"), "cat b; pwd"],
        stdout=PIPE,
    )
    run(backend, job)
    assert job.result()[-1].text == f"x\n{tmp_path}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "sub"]


def test_a_local_node_may_have_its_directory(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Local nodes may have separate directories, created on demand, to try out a scenario for many nodes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").write_text("x")
    nodes = [
        LocalNode(name, directory=tmp_path / "nodes" / name) for name in ("one", "two")
    ]
    steps = [
        Push("data", to="in/"),
        "cat in/data > out",
        Pull("out", to="results/{node}"),
    ]
    run(backend, *(SshJob(node, steps) for node in nodes))
    assert (tmp_path / "nodes" / "two" / "in" / "data").read_text() == "x"
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "one",
        "two",
    ]


def test_commands_on_a_local_node_inherit_the_environment(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a local node, variables of `env=` are added to those of this program."""
    monkeypatch.setenv("OURS", "1")
    job = ran(
        backend, SshJob(LocalNode(), 'echo "$OURS $OWN"', env={"OWN": "2"}, stdout=PIPE)
    )
    assert job.result().text == "1 2\n"


def test_local_processes_end_with_the_run(
    backend: str, tmp_path: Path, mark: dict[str, str], watched: Watched
) -> None:
    line = f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000' & "
    wait = f"while ! test -s {tmp_path}/pid; do sleep 0.01; done"
    job = ran(
        backend,
        SshJob(
            LocalNode(),
            line + wait,
            env=mark,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ),
    )
    assert job.is_succeeded()
    assert (tmp_path / "pid").exists()
    assert watched.gone_in_time(), watched.alive()


def test_a_local_node_does_not_limit_the_commands_at_once(
    backend: str, tmp_path: Path
) -> None:
    all_begun = f"until set -- {tmp_path}/*; test $# -eq 12; do sleep 0.05; done"
    jobs = [
        SshJob(LocalNode(), f"touch {tmp_path}/{number}; {all_begun}", timeout=PATIENCE)
        for number in range(12)
    ]
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
def test_bad_arguments_of_a_local_node_raise(
    arguments: Any, options: Any, error: type[Exception], what: str
) -> None:
    with pytest.raises(error) as raised:
        LocalNode(*arguments, **options)
    assert what in str(raised.value)


def test_a_directory_that_cannot_be_created_fails_the_job(backend: str) -> None:
    job = ran(backend, SshJob(LocalNode(directory="/proc/none"), "true"))
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
        (
            ("Get", "pipe", "back"),
            "get 'pipe' 'back': 'pipe' is not a file or a directory\n",
        ),
        (("Put", "tree", "back"), "put 'tree' 'back': File exists\n"),
    ],
)
def test_the_copier_of_a_local_node_stops_at_the_first_operation_that_fails(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    operation: Any,
    what: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("file").touch()
    for name in ("back", "tree"):
        Path(name).mkdir()
    assert copied(monkeypatch, operation, ("Put", "file", "never")) == 1
    assert capfd.readouterr() == ("", what)
    assert not Path("never").exists()


def test_a_local_nodes_copier_skips_links_and_pipes_in_trees(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
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
def test_a_named_pipe_for_a_node_does_not_stop_the_event_loop(
    backend: str, tmp_path: Path, what: str
) -> None:
    os.mkfifo(tmp_path / "pipe")

    def job(**options: Any) -> SshJob:
        if what == "script":
            return SshJob(
                LocalNode(), Script(tmp_path / "pipe"), stdout=PIPE, **options
            )
        return SshJob(
            LocalNode(), "sh", stdin=tmp_path / "pipe", stdout=PIPE, **options
        )

    alone, fed = job(timeout=0.05), job()
    run(backend, alone)
    assert isinstance(alone.raised_exception(), JobTimeout)
    run(backend, fed, CommandJob(["echo", "echo x"], stdout=tmp_path / "pipe"))
    assert fed.result().text == "x\n"


@pytest.mark.parametrize("small", [True, False])
def test_no_argument_of_a_process_has_the_text_of_a_script(
    backend: str, tmp_path: Path, small: bool
) -> None:
    """Other users see the arguments of processes, in which a script once stood."""
    text = "#!/bin/sh\ncat /proc/[0-9]*/cmdline 2>/dev/null\n: SEKRET-in-script\n"
    (tmp_path / "script").write_text(text + "#" * (0 if small else 70_000))
    job = ran(
        backend,
        SshJob(LocalNode(), Script(tmp_path / "script"), stdout=PIPE, check=False),
    )
    assert b"/bin/sh" in job.result().stdout
    assert b"SEKRET-in-script" not in job.result().stdout


def test_a_pull_drops_the_bits_that_let_others_act_as_the_owner(
    backend: str, tmp_path: Path
) -> None:
    """A copy had the setuid bit of a file on a local node, which sftp drops."""
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(0o6755)
    run(backend, SshJob(LocalNode(), Pull(tmp_path / "a", to=tmp_path / "b")))
    assert (tmp_path / "b").stat().st_mode & 0o7777 == 0o755


def test_each_file_that_a_step_reads_or_writes_here_is_known() -> None:
    assert [*Push("a", "b", to="c/")._files_read()] == ["a", "b"]
    assert [*Script("s", "x", includes=["i", "j"])._files_read()] == ["s", "i", "j"]
    assert [*Pull("d/a", "b", to="c")._files_written()] == ["c/a", "c/b"]
