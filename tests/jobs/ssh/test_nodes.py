"""`SshNode` and `SshNodes`: what users write, and what is rejected."""

from pathlib import Path
from typing import Any

import pytest
from trioflow import LocalNode, SshNode, SshNodes
from trioflow.jobs.ssh import _nodes


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("node", ["node"]),
        ("node[1-3]", ["node1", "node2", "node3"]),
        ("node[08-11]", ["node08", "node09", "node10", "node11"]),
        ("r[1-2]n[a,b,7]", ["r1na", "r1nb", "r1n7", "r2na", "r2nb", "r2n7"]),
        ("a,b c", ["a", "b", "c"]),
        ("n[1,3-4].example.org,other", ["n1.example.org", "n3.example.org", "n4.example.org", "other"]),
        ("fe80::1 2001:db8::10,::1", ["fe80::1", "2001:db8::10", "::1"]),
    ],
)
def test_a_string_of_nodes_is_expanded_to_their_names(written: str, names: list[str]) -> None:
    """In a string of nodes, commas and spaces separate names, and brackets hold ranges with their leading zeros."""
    assert [node.hostname for node in SshNodes(written)] == names


@pytest.mark.parametrize(
    ("written", "hostname", "port", "name"),
    [
        ("2001:db8::10", "2001:db8::10", None, "2001:db8::10"),
        ("fe80::1:2", "fe80::1:2", None, "fe80::1:2"),
        ("2001:db8:0:0:0:0:0:10", "2001:db8:0:0:0:0:0:10", None, "2001:db8:0:0:0:0:0:10"),
        ("[2001:db8::10]:2222", "2001:db8::10", 2222, "[2001:db8::10]:2222"),
        ("[2001:db8::10]", "2001:db8::10", None, "2001:db8::10"),
        ("10.0.0.1:22", "10.0.0.1", 22, "10.0.0.1:22"),
    ],
)
def test_ipv6_address_needs_brackets(written: str, hostname: str, port: int | None, name: str, tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text(f"root@{written}\n", "utf-8")
    for nodes in SshNodes([f"root@{written}"]), SshNodes(f"root@{written}"), SshNodes(tmp_path / "nodes"):
        assert [(node.username, node.hostname, node.port, node.name) for node in nodes] == [
            ("root", hostname, port, name)
        ]


def test_a_file_of_nodes_has_a_node_or_a_range_in_each_line(tmp_path: Path) -> None:
    """In a file of nodes, each line may have a user and a port; comments and empty lines are ignored."""
    file = tmp_path / "nodes.txt"
    file.write_text("# the testbed\nnode[1-2]\n\nroot@other:2222  # the last one\nnode1\n")
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
        ("node1 slots=8\nnode2 slots=8 max_slots=9\n", "'slots=8' in line 1 of"),  # Open MPI
        ("node1 8\nnode2 8\n", "'8' in line 1 of"),  # LSF
        ("node1 8 queue@node1 UNDEFINED\n", "'8' in line 1 of"),  # Grid Engine
        ("node1\n\nnode2 ansible_host=10.0.0.2\n", "'ansible_host=10.0.0.2' in line 3 of"),  # Ansible
        ("[web]\nnode1\n", r"'\[web\]' in line 1 of"),
        ("node1\n[web:vars]\nx=1\n", r"'\[web:vars\]' in line 2 of"),
        ("node1\n[all_nodes:children]\nweb\n", r"'\[all_nodes:children\]' in line 2 of"),
    ],
)
def test_what_a_file_of_nodes_says_to_another_tool_is_no_name(tmp_path: Path, dialect: str, found: str) -> None:
    """Options, numbers of slots and headings of other tools' files are refused, and the error names the line."""
    file = tmp_path / "hostfile"
    file.write_text(dialect)
    with pytest.raises(ValueError, match=rf"{found} .*hostfile is for another tool, and no name of a node"):
        SshNodes(file)


@pytest.mark.parametrize(
    ("written", "fact"), [("nosuch.txt", "there is no file 'nosuch.txt'"), ("node 01", "'01' in 'node 01' is no name")]
)
def test_a_text_that_was_meant_as_a_file_or_as_one_name_is_told_so(written: str, fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        SshNodes(written)


@pytest.mark.parametrize("written", ["[::1]", "[fe80::1%eth0]", "[a,b]", "[08-09]", "n[1]", "node1 node1 :", "8a"])
def test_names_that_look_like_other_tools_are_nodes(written: str, tmp_path: Path) -> None:
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
    with pytest.raises(ValueError, match=r"hostfile is not in UTF-8 .*: save it in UTF-8"):
        SshNodes(str(file))


def test_a_list_of_nodes_may_contain_names_ranges_and_nodes() -> None:
    """Nodes in a list of names and ranges keep their own options, and equal nodes are listed once."""
    own = SshNode("own", port=22)
    nodes = SshNodes(["n[1-2]", own, "n2"], username="me")
    assert list(nodes) == [SshNode("n1", username="me"), SshNode("n2", username="me"), own]
    assert (len(nodes), nodes[-1], nodes[:1], own in nodes) == (3, own, (nodes[0],), True)


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
def test_invalid_arguments_of_node_are_rejected(hostname: Any, options: Any, error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        SshNode(hostname, **options)


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", ".", "a..b", "~", "~root"])
@pytest.mark.parametrize("kind", [SshNode, LocalNode])
def test_a_name_of_a_node_is_no_path(kind: type[SshNode | LocalNode], name: str) -> None:
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
        ("n[1-1000]n[1-1000]", "expands to 1000000 nodes, more than the limit of 100000"),
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
    assert [getattr(node, "hostname", None) for node in nodes] == [piece.replace("[1]", "1") * 50_000]


LINES = "\n".join(f"n{number}[1-999]" for number in range(12))


@pytest.mark.parametrize("text", ["n" + "[1-99999]" * 50, "n[" + "0" * 4000 + "1-99999]", LINES])
def test_a_hostfile_has_one_limit_checked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Each line could name 100,000 nodes, and the brackets of a range were expanded before their product was known."""
    monkeypatch.setattr(_nodes, "MAX_NODES", 1000)
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(ValueError, match="more than the limit of"):
        SshNodes(tmp_path / "hosts")
