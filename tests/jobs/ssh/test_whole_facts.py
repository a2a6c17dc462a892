"""Whole facts of nodes, of the command lines of ssh, and of reports and copies, without a process."""

import itertools
import os
import re
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import pytest
from trioflow import (
    LocalNode,
    OutputLine,
    Pull,
    Push,
    Script,
    ScriptText,
    SshError,
    SshJob,
    SshNode,
    SshNodes,
    SshService,
)
from trioflow.jobs.command._output_sinks import CaptureSink
from trioflow.jobs.posix._processes import ReportedUsage
from trioflow.jobs.ssh import (
    _connections,
    _local_copier,
    _node_session,
    _nodes,
    _sftp_transfers,
    _steps,
    _transport,
    _wrapper,
)
from trioflow.jobs.ssh._transport import Gateway, Get, MakeDirectory, OpenSsh, Put

NODES: list[tuple[str, list[str]]] = [
    ("a", ["a"]),
    ("a,b a  b,c", ["a", "b", "c"]),
    ("n[1-3]", ["n1", "n2", "n3"]),
    ("n[08-10]", ["n08", "n09", "n10"]),
    ("n[5-5]", ["n5"]),
    ("n[1, x,3]", ["n1", "nx", "n3"]),
    ("[1-2]-[a,b].c", ["1-a.c", "1-b.c", "2-a.c", "2-b.c"]),
    ("n[9-10]", ["n9", "n10"]),
    ("me@h:7", ["h:7"]),
    ("[::1]:7", ["[::1]:7"]),
    ("[fe80::1]", ["fe80::1"]),
    ("::1", ["::1"]),
    (":", ["localhost"]),
]


@pytest.mark.parametrize(("text", "names"), NODES)
def test_a_text_names_its_nodes_in_order_and_once(text: str, names: list[str]) -> None:
    assert [node.name for node in SshNodes(text)] == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n[3-1]", "is not an ascending range"), ("n[1-2", "unbalanced"), ("n[1,,2]", "is empty"),
        ("n[a-b]", "not an ascending"),
        ("a slots=4", "is no name of a node"), ("hosts.txt", "there is no file"), ("", "names no node"),
        ("a 7", "is no name"),
        ("a:b", "not a node"), ("-x", "leading '-'"),
    ],
)  # fmt: skip
def test_a_text_that_names_no_nodes_is_rejected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SshNodes(text)


def test_nodes_have_their_options_and_their_own_take_precedence(tmp_path: Path) -> None:
    file = tmp_path / "nodes"
    file.write_bytes("\ufeffa # comment\n#b\nme@c:7, d\n\n".encode())
    nodes: Any = SshNodes(file, username="all", port=22, config="/c")
    assert [(node.hostname, node.username, node.port, node.config) for node in nodes] == [
        ("a", "all", 22, "/c"), ("c", "me", 7, "/c"), ("d", "all", 22, "/c"),
    ]  # fmt: skip
    assert (len(nodes), nodes[-1].name, nodes[1:] == (nodes[1], nodes[2])) == (3, "d:22", True)  # fmt: skip
    assert repr(nodes) == "<SshNodes a:22, c:7, d:22>"
    assert repr(SshNodes("n[1-4]")) == "<SshNodes n1 ... n4, 4 nodes>"
    file.write_text("a\nb slots=2\n")
    with pytest.raises(ValueError, match=r"'slots=2' in line 2 of .* is for another tool"):  # fmt: skip
        SshNodes(file)
    behind: Any = SshNode("a", gateway="g", config="/c").gateway
    assert (behind.hostname, behind.config) == ("g", "/c")
    for port in (1, 65535):
        assert SshNode("::1", port=port).name == f"[::1]:{port}"
    bad: list[dict[str, Any]] = [
        {"port": 0}, {"port": 65536}, {"username": "a b"}, {"connect_timeout": 0}, {"on_unreachable": "x"},
        {"hostname": "a@"},
        {"hostname": ".."}, {"hostname": "a/b"}, {"hostname": "-a"}, {"hostname": "a;b"}, {"gateway": 7},
    ]  # fmt: skip
    for options in bad:
        with pytest.raises((TypeError, ValueError)):
            SshNode(**{"hostname": "h", **options})
    assert SshNode("a-").hostname == "a-"


def test_ranges_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nodes, "MAX_NODES", 5)
    assert len(SshNodes("n[1-5]")) == 5
    assert len(SshNodes("a n[1-4]")) == 5
    for text in ("n[1-6]", "a n[1-5]", "n[1-3][1-2]"):
        with pytest.raises(ValueError, match="the limit of 5"):
            SshNodes(text)


# ---- command lines


def options_in(command: Any) -> dict[str, str]:
    """Return the settings of a command line, by name."""
    return dict(
        each.split("=", 1) for flag, each in itertools.pairwise(command) if flag == "-o"
    )


def test_the_command_lines_of_ssh_have_the_options_of_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    node = SshNode(
        "h", username="me", port=7, identity="~/k %", config="/c", known_hosts="/k", accept_new=True,
        connect_timeout=0.3,
    )  # fmt: skip
    words = ["-F", "/c", "-l", "me", "-p", "7"]
    ssh = OpenSsh()
    of_node = {
        "IdentityFile": '"/home/me/k %%"', "UserKnownHostsFile": "/k", "StrictHostKeyChecking": "accept-new",
    }  # fmt: skip
    new = {"StdinNull": "no", "ForkAfterAuthentication": "no"}
    shared = {
        "ControlMaster": "no", "ProxyCommand": "false", "BatchMode": "yes", "RemoteCommand": "none", "RequestTTY": "no",
        "LogLevel": "INFO",
    }  # fmt: skip
    connect = [*ssh.connect(node, "/s%#", None)]
    assert connect[:5] == ["ssh", "-N", "-M", "-S", "/s%%#"]
    assert connect[-2:] == ["--", "h"]
    assert options_in(connect) == {
        **of_node, **new, "ControlPersist": "no", "BatchMode": "yes", "ConnectTimeout": "1",
        "PermitLocalCommand": "yes",
        "LocalCommand": "echo trioflow-ready", "LogLevel": "INFO", "ServerAliveInterval": "15",
        "ServerAliveCountMax": "3",
    }  # fmt: skip
    run = [*ssh.run(node, "/s%#", "line")]
    assert (run[:2], run[-3:]) == (["ssh", "-T"], ["--", "h", "line"])
    assert options_in(run) == {
        **of_node,
        **new,
        **shared,
        "ControlPath": '"/s%%#"',
        "SessionType": "default",
    }
    for command in (connect, run, [*ssh.settings(node)]):
        joined = " ".join(command)
        assert " ".join(words) in joined
    transfer = [*ssh.transfer(node, "/s")]
    assert (transfer[:5], transfer[-2:]) == (["sftp", "-b", "-", "-F", "/c"], ["--", "h"])  # fmt: skip
    assert options_in(transfer) == {**new, **shared, "ControlPath": "/s", "Port": "7", "User": "me"}  # fmt: skip
    assert ssh.transfer(SshNode("::1"), "/s")[-1] == "[::1]"
    gateway = Gateway(SshNode("g", username="you"), "/g%")
    proxy = options_in(ssh.connect(SshNode("h"), "/s", gateway))["ProxyCommand"]
    assert proxy.startswith("ssh -o ControlPath=/g%%%% -o ControlMaster=no ")
    assert proxy.endswith(" -l you -W '[%h]:%p' g")
    assert ssh.settings(SshNode("h")) == ["ssh", "-G", "--", "h"]
    for settings, has_new in (
        ({}, True),
        ({"hostname": "h"}, False),
        ({"stdinnull": "no", "forkafterauthentication": "no"}, True),
    ):
        ssh.note_settings(settings)
        assert ssh.has_new_settings is has_new
        assert ("StdinNull" in options_in(ssh.run(node, "/s", "x"))) is has_new


def test_the_words_of_sftp_are_quoted() -> None:
    cases: dict[Any, str] = {
        MakeDirectory('a "b\\'): '-mkdir "a \\"b\\\\"', Put("a b", "c"): 'put -pR "a b" "c"',
        Get("a b#c", "/d"): 'get -pR a\\ b\\#c "/d/"', Get("a*", "/d"): '-ls -1 a*\nget -pR a* "/d/"',
        Get("[a]", "/d"): '-ls -1 [a]\nget -pR [a] "/d/"',
    }  # fmt: skip
    assert {each: each.sftp_command() for each in cases} == cases
    for name in ("a\nb", "a\rb"):
        for operation in (Put(name, "x"), Get(name, "x"), MakeDirectory(name)):
            with pytest.raises(ValueError, match="line break"):
                operation.sftp_command()


def test_messages_of_ssh_about_sessions_are_told_apart() -> None:
    lost = "Connection closed by UNKNOWN port 65535"
    mux = "mux_client_request_session: read from master failed: Broken pipe"
    full = "mux_client_request_session: session request failed: Session open refused by peer"
    cases = {lost: (True, True, False), mux: (False, True, False), f"{mux}\n{lost}": (False, True, False),
             full: (True, True, True), "sh: x: not found": (False, False, False)}  # fmt: skip
    found = {
        text: (_transport.never_started(text), _transport.is_loss(text), _transport.is_session_limit_error(text))
        for text in cases
    }  # fmt: skip
    assert found == cases
    diagnose = OpenSsh().diagnose
    node = SshNode("h")
    crowded = diagnose(node, "first\nkex_exchange_identification: reset\n")
    assert (crowded.is_crowded, crowded.is_final) == (True, False)
    assert crowded.problem == "kex_exchange_identification: reset"
    assert diagnose(node, "Stdio forwarding request failed").problem == "its gateway cannot reach it"  # fmt: skip
    text = "Warning: Permanently added\nKilled by signal 15\n"
    assert diagnose(node, text).problem == "ssh exited without an error message"
    assert _transport._offending_place("Offending key in /a b:12 \nx") == "/a b, line 12"  # fmt: skip


def test_a_pause_grows_to_a_second() -> None:
    pauses = [_connections.pause_after(count) for count in (0, 1, 2, 5, 6, 20)]
    assert pauses == [0.02, 0.04, 0.08, 0.64, 1.0, 1.0]


def test_paths_on_a_node_begin_at_its_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    node_path = _connections.Connection.node_path
    cases = {"~": ".", "~/": ".", "~/a": "a", "a/~": "a/~", "-a": "./-a", "/a": "/a", "~/-a": "./-a"}  # fmt: skip
    assert {path: node_path(None, path) for path in cases} == cases  # type: ignore[arg-type]
    local = _connections.LocalConnection(LocalNode(directory="/d"))
    assert (local.node_path("~/a"), local.node_path("a")) == ("/home/me/a", "a")
    assert local.scratch.endswith("/")
    assert local.command("x") == ["/bin/sh", "-c", "x"]
    assert local.explain_errors(b" e\n") == (b"e", "")
    assert local.parse_listing(b"a\nb\n", []) == ["a", "b"]
    assert _sftp_transfers._with_ancestors("a/b/c") == ["a", "a/b", "a/b/c"]
    assert _sftp_transfers._with_ancestors("/a/b") == ["/a", "/a/b"]
    assert [_sftp_transfers._with_ancestors(each) for each in ("", ".", "~", "/")] == [[]] * 4  # fmt: skip
    width = _wrapper.MAX_PORTION_BYTES // 100 - 35
    copies = [(f"{number:0{width}}", "t", "n") for number in range(201)]
    words = [command[4:] for command in _sftp_transfers._placing_commands(copies)]
    assert [len(each) for each in words] == [300, 300, 3]
    assert int(words[1][0]) == 100
    for paths in (["a/x", "b/x"], ["x/", "y/x"]):
        with pytest.raises(ValueError, match="two of these are named 'x'"):
            _sftp_transfers._check_names(paths, "Push")
    _sftp_transfers._check_names(["a/x", "a/x/", "a/y"], "Push")


def test_a_directory_of_sockets_is_safe_from_others(tmp_path: Path) -> None:
    parent = Path("/tmp") / f"tf{os.getpid()}"
    parent.mkdir(mode=0o700)
    try:
        modes = {0o700: True, 0o750: False, 0o701: False, 0o722: False}
        found: dict[int, bool] = {}
        for mode in modes:
            parent.chmod(mode)
            found[mode] = _connections._is_safe_parent(str(parent), is_private=True)
        assert found == modes
        shared = {0o755: True, 0o775: False, 0o757: False, 0o1777: True}
        found = {}
        for mode in shared:
            parent.chmod(mode)
            found[mode] = _connections._is_safe_parent(str(parent), is_private=False)
        assert found == shared
        assert not _connections._is_safe_parent(f"{parent}/none", is_private=False)
    finally:
        parent.rmdir()


# ---- steps


def test_steps_have_their_texts_their_keys_and_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    script = Script("~/s", 1, "x", includes=["~/a", "b"])
    assert repr(script) == "Script(~/s, 1, x, includes=[~/a, b])"
    assert script._split_words(script.words) == ("~/s", (1, "x"), ("~/a", "b"))
    assert [*script._files_read()] == ["~/s", "/home/me/a", "b"]
    assert script._journal_key(script.words) == ["Script", "~/s", 1, "x", "~/a", "b", {"includes": 2}]  # fmt: skip
    assert [*ScriptText("t", includes=["b"])._files_read()] == ["b"]
    push = Push("~/a", "b", to="c")
    assert ([*push._files_read()], [*push._files_written()]) == (
        ["/home/me/a", "b"],
        [],
    )
    assert repr(push) == "Push(~/a, b, to=c)"
    written = {
        Pull("a", to="b"): ["b"], Pull("a/", to="b/"): ["b/a"], Pull("a", "x/c", to="b"): ["b/a", "b/c"],
        Pull("a*", "b", "[c]", to="d"): ["d/b"], Pull("a", to="~"): ["/home/me"],
        Pull("a", to=str(tmp_path)): [f"{tmp_path}/a"],
    }  # fmt: skip
    assert {pull: [*pull._files_written()] for pull in written} == written
    assert Script("s", "x") == Script("s", "x") != Script("s", includes=["x"])
    assert Script("s") != ScriptText("s")
    assert Push("a", to="b") != Pull("a", to="b")
    assert hash(Script("s")) == hash(Script("s"))
    directories = {("a", 1): False, ("a/", 1): True, ("~", 1): True, ("a", 2): True}
    assert {case: _steps.is_directory(*case) for case in directories} == directories
    interpreters = {
        b"#!/bin/bash\nx": ["/bin/bash"], b"#! /usr/bin/env  python -u \nx": ["/usr/bin/env", "python -u"],
        b"echo": ["/bin/sh"], b"#!\nx": ["/bin/sh"], b"": ["/bin/sh"], b"#!/x": ["/x"],
    }  # fmt: skip
    assert {text: _steps.interpreter(text) for text in interpreters} == interpreters
    for bad in ([], "", " ", ["ls", "-l"], 7, [["a"]], ()):
        with pytest.raises((TypeError, ValueError), match=r"^j: "):
            _steps.parse_steps(bad, "j")
    assert len(_steps.parse_steps(["-x", "y"], "j")) == 2
    assert [
        type(each).__name__ for each in _steps.parse_steps(["a", ("b", "c"), push], "j")
    ] == ["Command", "Command", "Push"]


def test_placeholders_are_filled_and_other_braces_stay() -> None:
    values = _steps.PlaceholderValues({"a": 1, "bc": "{a}", "node": "n"})
    assert values.fill("{a} {bc} {d} {} {{a}} {node}") == "1 {a} {d} {} {1} n"
    assert values.split(["x {a} y {d}", "value", " z{bc}"]) == (
        ["x ", 1, " y {d}", "value", " z", "{a}", ""], ["{a}", "a value", "{bc}"],
    )  # fmt: skip
    for names in ({"node": 1}, {"a b": 1}, {"": 1}, {7: 1}):
        with pytest.raises(ValueError, match="cannot be a placeholder"):
            SshJob("n", "true", values=names)  # type: ignore[arg-type]
    for env in ({"1a": "x"}, {"a-b": "x"}, {"A": "x\0"}):
        with pytest.raises(ValueError, match=r"^env of "):
            SshJob("n", "true", env=env)


def test_labels_of_jobs_on_nodes() -> None:
    assert SshJob("n", ["a", "b"]).label == "n: a; …"
    assert SshJob(SshNode("n", port=7), "a").label == "n:7: a"
    secret = SshJob("n", "a", redact=True)
    assert secret.redacted_label() == "n: command …"
    assert SshJob("n", ["a", Push("b", to="c")]).command_line() == "n: a; Push(b, to=c)"
    for step in (Push("a", to="b"), Pull("a", to="b"), ["a", "b"]):
        with pytest.raises(TypeError, match="a service runs one program"):
            SshService("n", step, ready=OutputLine("x"))  # type: ignore[arg-type]
    home: Any = SshJob(LocalNode(directory="/d"), "a", cwd="c").for_journal().options
    assert (home["directory"].path, home["directory"].within) == ("c", "/d")


# ---- the report of the wrapper


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_report_of_a_command_is_read_however_it_arrives(size: int) -> None:
    mark = "\x1etoken"
    text = (
        f"login\n{mark} start\nerr\x1e {mark}x \x1eto{mark} ready\nmore"
        f"{mark} end 7 0m0.1s 0m0.2s\n1m2,5s 0m3.25s\nlast\x1etok"
    )
    sink, login, events = CaptureSink(), CaptureSink(), list[str]()
    report = _wrapper.ReportFilter("token", [sink], login, lambda: events.append("start"))  # fmt: skip
    report.on_ready = lambda: events.append("ready")
    finished: list[int] = []
    sink.finish = lambda: finished.append(1)  # type: ignore[method-assign]
    data = text.encode()
    for start in range(0, len(data), size):
        report.write(data[start : start + size])
    report.finish()
    facts = report.report
    assert (facts.started, facts.returncode, facts.user_time, facts.system_time) == (True, 7, 62.5, 3.25)  # fmt: skip
    assert (login.output(), events, finished) == (b"login\n", ["start", "ready"], [1])
    assert sink.output() == f"err\x1e {mark}x \x1etomorelast\x1etok".encode()


def test_what_follows_the_mark_and_is_no_report_is_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for beyond in (0, 1):
        sink, login = CaptureSink(), CaptureSink()
        report = _wrapper.ReportFilter("t", [sink], login, lambda: None)
        report.write(b"\x1et start\n")
        data = b"\x1et " + b"x" * (_wrapper.MAX_REPORT_BYTES + beyond)
        report.write(data)
        assert sink.output() == (data if beyond else b"")
        report.finish()
    cpus = {b"8\n": 8, b" 12 ": 12, b"0": 1, b"x": 1, b"4096": 4096, b"4097": 4096}
    assert {text: _wrapper.parse_cpu_count(text) for text in cpus} == cpus


def test_words_for_a_login_shell_are_quoted_or_encoded() -> None:
    assert _wrapper._encode_words(["a b", "$c"]) == "'' 'a b' '$c'"
    encoded = _wrapper._encode_words(["it's", "a\\b\n!"])
    assert encoded == "'set -- \\0047it\\0047\\0134\\0047\\0047s\\0047 \\0047a\\0134b\\0012\\0041\\0047'"  # fmt: skip
    line = _wrapper.login_shell_line(["cmd"], "tok", grace=2.5, stdin="in", merged=True, size=9)  # fmt: skip
    assert line.endswith("trioflow '' '\x1etok' '25' 'in' '1' '9' '' 'cmd'")
    assert line.startswith("exec /bin/sh -c 'if ")
    plain = _wrapper.login_shell_line(["cmd"], "tok", grace=0)
    assert plain.endswith("'0' '' '' '0' '' 'cmd'")
    assert (
        _wrapper.export_variables({"A": "it's", "B": "é"}, "tok")
        == "export 'A=it'\\''s' 'B=é' #\x1etok".encode()
    )


def test_output_before_the_start_of_a_command_waits_for_its_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_node_session, "MAX_EARLY_BYTES", 4)

    class Sink(CaptureSink):
        ended = 0

        def finish(self) -> None:
            self.ended += 1

    sink = Sink()
    buffer = _node_session._StartBuffer([sink], SshNode("n"))
    buffer.write(b"1234")
    assert (sink.output(), bytes(buffer.buffer)) == (b"", b"1234")
    buffer.finish()
    assert sink.ended == 0
    buffer.open()
    assert (sink.output(), sink.ended) == (b"1234", 1)
    buffer.write(b"5")
    assert (sink.output(), bytes(buffer.buffer)) == (b"12345", b"")
    late = _node_session._StartBuffer([sink], SshNode("n"))
    with pytest.raises(SshError, match="it has written more than"):
        late.write(b"12345")
    codes = {0: 0, 7: 7, 128: 128, 129: -1, 137: -9, 143: -15, 255: 255}
    assert {code: _node_session._to_subprocess_code(code) for code in codes} == codes
    command: Any = SimpleNamespace(
        report=SimpleNamespace(returncode=143, user_time=1.5, system_time=2.5), _elapsed=9.0,
        _stdout=SimpleNamespace(captured=lambda: b"o"), _stderr=SimpleNamespace(captured=lambda: b"e"),
    )  # fmt: skip
    result = _node_session.RemoteCommand.result(command)
    facts = (
        result.returncode,
        result.elapsed,
        result.user_time,
        result.system_time,
        result.stdout,
        result.stderr,
    )
    assert facts == (-15, 9.0, 1.5, 2.5, b"o", b"e")
    assert ReportedUsage(1, 2).ru_maxrss == 0


# ---- copies on this machine


def test_a_copy_on_this_machine_is_whole_and_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    (source / "in").mkdir(parents=True)
    (source / "in/x").write_text("1")
    (source / "in/x").chmod(0o4751)
    os.utime(source / "in/x", ns=(5, 7))
    (source / "link").symlink_to("in/x")
    (source / "far").symlink_to("in")
    os.mkfifo(source / "pipe")
    (source / "in").chmod(0o500)
    target = tmp_path / "target"
    _local_copier.put(str(source), str(target))
    assert sorted(os.listdir(target)) == ["in"]
    status = (target / "in/x").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_atime_ns, status.st_mtime_ns) == (0o751, 5, 7)  # fmt: skip
    assert stat.S_IMODE((target / "in").stat().st_mode) == 0o500
    (tmp_path / "long").write_text("longer than that")
    _local_copier.put(str(source / "link"), str(tmp_path / "long"))
    assert (tmp_path / "long").read_text() == "1"
    with pytest.raises(OSError, match="the target is in the directory"):
        _local_copier.put(str(source), f"{source}/in/new")
    _local_copier.put(str(source / "in"), f"{source}-beside")
    with pytest.raises(OSError, match="is not a file or a directory"):
        _local_copier.put("/dev/null", str(tmp_path / "x"))
    monkeypatch.chdir(tmp_path)
    into = tmp_path / "into"
    into.mkdir()
    for name in ("b*", "bx", "a\n"):
        (tmp_path / name).touch()
    capsys.readouterr()
    _local_copier.get("b*", str(into))
    _local_copier.get("source/in/", str(into))
    assert capsys.readouterr().out == "b*\nbx\nsource/in/\n"
    assert sorted(os.listdir(into)) == ["b*", "bx", "in"]
    (into / "bx").unlink()
    _local_copier.get("b\\*", str(into))
    _local_copier.get("a\\\n", str(into))
    assert sorted(os.listdir(into)) == ["a\n", "b*", "in"]
    with pytest.raises(OSError, match='File "none" not found'):
        _local_copier.get("none", str(into))
