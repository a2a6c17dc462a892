"""`Push` and `Pull`: files and trees with any names, copied completely or not at all."""

import math
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
import pytest
from trioflow import (
    CommandJob,
    First,
    LocalNode,
    Pull,
    Push,
    Scheduler,
    SshError,
    SshJob,
)
from trioflow.jobs.ssh._transport import filter_errors
from ...bodies import ran
from ...places import PATIENCE
from .servers import (
    SSH_ON_TRIO,
    WITHOUT_ROOT_ACCESS,
    LocalConnection,
    Place,
    Server,
    Site,
)

NAMES = [
    "plain",
    "two words",
    "it's",
    'quo"te',
    "back\\slash",
    "st*r",
    "[x]",
    "q?",
    "#hash",
    "-dash",
    "ümlaut",
    "$x",
    "~",
]


def copied(backend: str, place: Place, *steps: Any) -> Any:
    job = ran(backend, SshJob(place.node(), list(steps)))
    return job.result()


def content(directory: Path) -> dict[str, tuple[int, bytes | None]]:
    return {
        str(path.relative_to(directory)): (
            path.stat().st_mode & 0o777,
            path.read_bytes() if path.is_file() else None,
        )
        for path in directory.rglob("*")
    }


def make_tree(directory: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        (directory / name).mkdir(parents=True)
        file = directory / name / name
        file.write_bytes(f"{number}".encode() * 1000)
        file.chmod(0o640 if number % 2 else 0o755)
    (directory / "empty").mkdir(mode=0o700)
    return directory


def test_a_file_with_any_name_is_copied_to_the_node_and_back(
    place: Place, tmp_path: Path
) -> None:
    sources = [tmp_path / name for name in NAMES]
    for source in sources:
        source.write_text(source.name)
        source.chmod(0o640)
        os.utime(source, (1e9, 1e9))
    names = [
        "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in name)
        for name in NAMES
    ]
    pull = Pull(*(f"{tmp_path}/there/{name}" for name in names), to=f"{tmp_path}/back/")
    copied("trio", place, Push(*sources, to=f"{tmp_path}/there/"), pull)
    for side in ("there", "back"):
        assert sorted(path.name for path in (tmp_path / side).iterdir()) == sorted(
            NAMES
        )
        for name in NAMES:
            file = tmp_path / side / name
            assert file.read_text() == name
            assert file.stat().st_mode & 0o777 == 0o640
            assert file.stat().st_mtime == 1e9


def test_results_of_jobs_may_be_sources_of_a_copy(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    """The output of a command may name the file to copy, and the destination may contain a value."""
    (tmp_path / "file").write_text("x")
    name = CommandJob(["echo", tmp_path / "file"], stdout=-1)
    job = SshJob(
        local.node(), Push(name, to=f"{tmp_path}/copy-{{kind}}"), values={"kind": "a"}
    )
    pulled = SshJob(
        local.node(), Pull(f"{tmp_path}/copy-a", to=f"{tmp_path}/back"), required=job
    )
    Scheduler(pulled, name, job).run(backend=backend)
    assert pulled.result() == [f"{tmp_path}/back"]


def test_a_tree_is_copied_to_the_node_and_back(
    backend: str, server: Server, tmp_path: Path
) -> None:
    """A tree is copied to the node and back with its names, contents and modes, and no other file is left."""
    tree = make_tree(tmp_path / "tree", NAMES)
    copied(
        backend,
        server,
        Push(tree, to=f"{tmp_path}/there/deep/tree"),
        Pull(f"{tmp_path}/there/deep/tree", to=f"{tmp_path}/back"),
    )
    assert content(tmp_path / "there" / "deep" / "tree") == content(tree)
    assert content(tmp_path / "back") == content(tree)
    assert [path.name for path in (tmp_path / "there" / "deep").iterdir()] == ["tree"]


def test_a_file_replaces_a_file_and_a_tree_is_merged(
    backend: str, server: Server, tmp_path: Path
) -> None:
    """A copied tree once replaced all that was in the directory of its name. A file replaces a file."""
    (tmp_path / "file").write_text("new")
    tree = make_tree(tmp_path / "tree", ["a"])
    for side in ("there", "back"):
        make_tree(tmp_path / side / "tree", ["old", ".hidden"])
        (tmp_path / side / "tree" / "a").mkdir()
        (tmp_path / side / "tree" / "a" / "a").write_text("old")
        (tmp_path / side / "file").write_text("old")
    copied(
        backend,
        server,
        Push(tmp_path / "file", tree, to=f"{tmp_path}/there"),
        Pull(f"{tmp_path}/there/file", f"{tmp_path}/there/tree", to=f"{tmp_path}/back"),
    )
    for side in ("there", "back"):
        assert (tmp_path / side / "file").read_text() == "new"
        found = content(tmp_path / side / "tree")
        assert found == content(tree) | {
            name: found[name]
            for name in ("old", "old/old", ".hidden", ".hidden/.hidden")
        }
        assert len(list((tmp_path / side).iterdir())) == 2


def test_a_pattern_copies_all_matching_files(
    backend: str, server: Server, tmp_path: Path
) -> None:
    for name in ("a.log", "b.log", "c.txt"):
        (tmp_path / "two words" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "two words" / name).write_text(name)
    (places,) = copied(
        backend, server, Pull(f"{tmp_path}/two words/*.log", to=f"{tmp_path}/{{node}}/")
    )
    assert places == [f"{tmp_path}/127.0.0.2/{name}" for name in ("a.log", "b.log")]
    assert [Path(place).read_text() for place in places] == ["a.log", "b.log"]


@pytest.mark.parametrize("to", ["new", "new/", "there"])
def test_a_dot_is_what_is_in_a_directory(
    backend: str, place: Place, tmp_path: Path, to: str
) -> None:
    """As with cp. It was so by ssh, if `to` ended with a slash; without ssh, the directory itself was copied."""
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    for name in ("a", ".hidden", "sub/b"):
        (tmp_path / "tree" / name).touch()
    target = tmp_path / to
    pull = Pull(f"{tmp_path}/tree/.", to=f"{tmp_path}/{to}")
    copies = ran(backend, SshJob(place.node(), pull)).result()
    assert sorted(copies) == [f"{target}/{name}" for name in (".hidden", "a", "sub")]
    assert (target / "sub/b").exists()


@SSH_ON_TRIO
def test_no_copy_is_of_the_directory_above_by_its_two_dots(
    backend: str, place: Place, tmp_path: Path
) -> None:
    """sftp copied what `..` has into the target itself, where it replaced the files of the user."""
    for name in ("node/file", "node/below/.hidden", "target/file"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    below, to = tmp_path / "node" / "below", f"{tmp_path}/target/"
    for pattern in (".*", ".?", "..*", ".[.]", ".*/file", "..", "../", r"\.*", r"\.\."):
        job = SshJob(place.node(), Pull(f"{below}/{pattern}", to=to))
        Scheduler(job).run(backend=backend)
        with pytest.raises(ValueError, match=r" is or matches '\.\.': "):
            job.result()
        assert (tmp_path / "target" / "file").read_text() == "target/file"
    (below / ".*").touch()
    sources = [f"{below}/{pattern}" for pattern in (".[!.*]*", "../f*", r".\*")]
    copied(backend, place, Pull(*sources, to=to))
    assert sorted(os.listdir(to)) == [".*", ".hidden", "file"]


def test_relative_paths_start_at_home_or_cwd(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the node, `name` means the same as `~/name`; here, paths are relative to the current directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    name = f".test-of-trioflow-{os.getpid()}"
    copied(
        "trio",
        server,
        Push("file", to=f"~/{name}/"),
        Pull(f"{name}/file", to="back"),
        f"rm -r {name}",
    )
    assert (tmp_path / "back").read_text() == "x"
    assert not (Path.home() / name).exists()


def test_named_links_are_followed_and_links_in_trees_are_left_out(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("x")
    (tmp_path / "tree" / "link").symlink_to("file")
    (tmp_path / "link").symlink_to("tree/file")
    copied(
        "trio",
        server,
        Push(tmp_path / "tree", tmp_path / "link", to=f"{tmp_path}/there/"),
    )
    assert content(tmp_path / "there") == {
        "tree": (0o755, None),
        "tree/file": (0o644, b"x"),
        "link": (0o644, b"x"),
    }


def read_only(directory: Path, text: str) -> Path:
    """Create a tree with read-only directories."""
    (directory / "sub").mkdir(parents=True)
    (directory / "sub" / "file").write_text(text)
    for path in (directory / "sub", directory):
        path.chmod(0o555)
    return directory


def test_a_tree_is_merged_into_one_that_appears_while_it_is_placed(
    backend: str,
    local: LocalConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two jobs that pushed a tree to one place at once, one once left its own in the other's, by a hidden name."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/own").touch()
    target, moves = tmp_path / "target", tmp_path / "mv"
    moves.write_text(
        f'#!/bin/sh\nmkdir -p {target}; touch {target}/other; exec {shutil.which("mv")} "$@"\n'
    )
    moves.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ran(backend, SshJob(local.node(), Push(tmp_path / "tree", to=target))).result()
    assert sorted(os.listdir(target)) == ["other", "own"]


def test_a_read_only_directory_may_be_pushed_twice(
    backend: str, site: Site, tmp_path: Path
) -> None:
    server = site.serve(2, WITHOUT_ROOT_ACCESS)
    sources = [read_only(tmp_path / f"from {text}" / "tree", text) for text in "ab"]
    (tmp_path / "there").mkdir()
    copied(
        backend, server, *(Push(source, to=f"{tmp_path}/there/") for source in sources)
    )
    server.stop()
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["tree"]
    there = tmp_path / "there" / "tree"
    assert (
        stat.S_IMODE(there.stat().st_mode),
        (there / "sub" / "file").read_text(),
    ) == (0o555, "b")


def test_a_read_only_directory_may_be_pulled_twice(
    server: Server, tmp_path: Path
) -> None:
    source = read_only(tmp_path / "from" / "tree", "x")
    code = (
        "from trioflow import Pull, Scheduler, SshJob, SshNode\n"
        f"node = SshNode('127.0.0.2', port={server.port}, config={str(server.site.config)!r})\n"
        f"job = SshJob(node, [Pull({str(source)!r}, to={f'{tmp_path}/there/'!r})] * 2)\n"
        "Scheduler(job).run(check=True)\n"
    )
    subprocess.run([*WITHOUT_ROOT_ACCESS, sys.executable, "-c", code], check=True)
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["tree"]
    there = tmp_path / "there" / "tree"
    assert (
        stat.S_IMODE(there.stat().st_mode),
        (there / "sub" / "file").read_text(),
    ) == (0o555, "x")


@SSH_ON_TRIO
def test_a_tilde_in_a_destination_means_the_home_directory(
    backend: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f".test-of-trioflow-{os.getpid()}"
    (tmp_path / name).write_text("x")
    monkeypatch.chdir(tmp_path)
    try:
        copied(backend, place, Push(name, to="~"))
        assert (Path.home() / name).read_text() == "x"
        monkeypatch.setenv("HOME", str(tmp_path / "own"))
        copied(backend, place, Pull(name, to="~/sub/"), Pull(name, to="~"))
    finally:
        monkeypatch.undo()
        (Path.home() / name).unlink()
    assert (
        (tmp_path / "own" / "sub" / name).read_text()
        == (tmp_path / "own" / name).read_text()
        == "x"
    )
    assert not (tmp_path / "~").exists()


def test_a_tilde_in_a_local_source_means_the_home_directory(
    backend: str,
    local: LocalConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("HOME", str(tmp_path))
    copied(backend, local, Push("~/file", to=f"{tmp_path}/there/"))
    assert (tmp_path / "there" / "file").read_text() == "x"
    assert list(Push("~/file", to="b")._files_read()) == [f"{tmp_path}/file"]


def test_a_named_pipe_is_rejected_or_skipped_in_a_tree(
    backend: str, server: Server, tmp_path: Path
) -> None:
    """A named pipe is not opened to be copied, which would block until its other end is opened."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("x")
    for path in (tmp_path / "pipe", tmp_path / "tree" / "pipe"):
        os.mkfifo(path)
    job = SshJob(
        server.node(), Push(tmp_path / "pipe", to=f"{tmp_path}/there"), timeout=PATIENCE
    )
    tree = SshJob(
        server.node(), Push(tmp_path / "tree", to=f"{tmp_path}/copy"), timeout=PATIENCE
    )
    Scheduler(job, tree).run(backend=backend)
    with pytest.raises(ValueError, match="pipe' is a pipe, a socket or a device"):
        job.result()
    assert content(tmp_path / "copy") == {"file": (0o644, b"x")}


ODD_NAMES = [
    "a\nFetching b", "-rf", "...", ".trioflow-x", "\x1b[31m", "x" * 255, "\udcff", "\r", " a ", "\u202e", "$(ls)",
]  # fmt: skip


@SSH_ON_TRIO
def test_a_tree_has_only_its_files_in_a_copy_whatever_their_names_are(
    backend: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links out of it, pipes, sockets and devices are left out, and a copy of a program has no rights of its owner."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for name in ODD_NAMES:
        (tree / "sub" / name).write_text("x")
    (tree / "program").touch(0o755)
    expected = content(tree)
    (tree / "program").chmod(0o6755)
    for name, target in (
        ("up", ".."),
        ("dir", "/etc"),
        ("file", "/etc/passwd"),
        ("none", "none"),
    ):
        (tree / name).symlink_to(target)
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tree)  # the path of a socket has 107 bytes at most
        listener.bind("socket")
        steps = Push(tree, to=f"{tmp_path}/there"), Pull(tree, to=f"{tmp_path}/back")
        copied(backend, place, *steps)
    assert content(tmp_path / "there") == content(tmp_path / "back") == expected
    assert {
        path.stat().st_mode & 0o7000
        for side in ("there", "back")
        for path in (tmp_path / side).rglob("*")
    } == {0}


@SSH_ON_TRIO
def test_a_file_may_have_a_name_of_any_length(
    backend: str, place: Place, tmp_path: Path
) -> None:
    """The name of its incomplete copy was a longer one, which the node refused."""
    name = "x" * 255
    (tmp_path / name).write_text("x")
    copied(
        backend,
        place,
        Push(tmp_path / name, to=f"{tmp_path}/there/"),
        Pull(tmp_path / name, to=f"{tmp_path}/back/"),
    )
    assert [(tmp_path / side / name).read_text() for side in ("there", "back")] == [
        "x",
        "x",
    ]


def test_any_number_of_files_with_long_names_are_copied(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    """The command that gives a hundred copies their names was too long for a node."""
    (tmp_path / "source").mkdir()
    names = [f"{number:0200}" for number in range(101)]
    for name in names:
        (tmp_path / "source" / name).touch()
    target = tmp_path.joinpath(*[200 * "d"] * 3)
    push = Push(*(tmp_path / "source" / name for name in names), to=f"{target}/")
    assert Scheduler(SshJob(local.node(), push)).run(backend=backend)
    assert sorted(os.listdir(target)) == names


def test_any_number_of_files_with_quotation_marks_in_their_names_are_copied(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    """Each of these takes 20 bytes in a command for a node, which then was too long."""
    (tmp_path / "source").mkdir()
    names = [f"{number}{20 * chr(39)}" for number in range(200)]
    for name in names:
        (tmp_path / "source" / name).touch()
    sources = [tmp_path / "source" / name for name in names]
    push = SshJob(local.node(), Push(*sources, to=f"{tmp_path}/there/"))
    assert Scheduler(push).run(backend=backend)
    assert sorted(os.listdir(tmp_path / "there")) == sorted(names)


def test_nothing_is_left_of_many_files_that_cannot_be_copied(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    """The command that removes what is incomplete was too long for a node, and so it stayed there."""
    (tmp_path / "source").mkdir()
    sources = [tmp_path / "source" / str(number) for number in range(200)]
    for source in sources:
        source.touch()
    target = tmp_path.joinpath(*[200 * "d"] * 4)
    (target / "0" / "0").mkdir(parents=True)
    push = SshJob(local.node(), Push(*sources, to=f"{target}/"))
    assert not Scheduler(push).run(backend=backend)
    assert os.listdir(target) == ["0"]


def test_a_tree_that_is_too_deep_for_sftp_is_not_copied_in_part(
    server: Server, tmp_path: Path
) -> None:
    (tree := tmp_path / "tree").joinpath(*"n" * 70).mkdir(parents=True)
    jobs = [
        SshJob(server.node(), step)
        for step in (Push(tree, to=f"{tmp_path}/a"), Pull(tree, to=f"{tmp_path}/b"))
    ]
    Scheduler(jobs).run()
    assert [
        "depth exceeded: 64 levels" in str(job.raised_exception()) for job in jobs
    ] == [True, True]
    assert os.listdir(tmp_path) == ["tree"]


REPORTED = [
    (lambda path: Pull(path / "none", to=str(path / "x")), SshError, 'none" not found'),
    (
        lambda path: Push(path, to="/proc/no/where"),
        SshError,
        r"where\): (realpath|put) .*No such file",
    ),
    (
        lambda path: Pull("/etc/host*", to=str(path / "one")),
        SshError,
        "end to= with a '/'",
    ),
]
"""Failures that sftp reports."""
REJECTED = [
    (
        lambda path: Push(path / "none", to="x"),
        FileNotFoundError,
        r": Push\(.*none, to=x\): No such file .*none'",
    ),
    (
        lambda path: Pull("a", to="/proc/no/x"),
        FileNotFoundError,
        r": Pull\(a, to=/proc/no/x\): No such file",
    ),
    (
        lambda path: Push("/etc/hosts", "/proc/self/root/etc/hosts", to="x/"),
        ValueError,
        "two of these are named",
    ),
    (
        lambda path: Pull("a/x", "b/x/", to=path / "y/"),
        ValueError,
        "two of these are named 'x'",
    ),
]
"""What it does not get to see."""


@pytest.mark.parametrize(
    ("place", "step", "error", "what"),
    [("by ssh", *case) for case in REPORTED] + [("local", *case) for case in REJECTED],
    indirect=["place"],
)
def test_a_failed_copy_raises_and_leaves_no_file(
    backend: str,
    place: Place,
    step: Any,
    error: type[Exception],
    what: str,
    tmp_path: Path,
) -> None:
    job = ran(backend, SshJob(place.node(), step(tmp_path)))
    with pytest.raises(error, match=what):
        job.result()
    assert list(tmp_path.iterdir()) == []


def test_a_file_name_with_a_line_break_is_rejected(
    server: Server, tmp_path: Path
) -> None:
    job = SshJob(server.node(), Pull("a\nb", to=str(tmp_path / "one")))
    Scheduler(job).run()
    with pytest.raises(ValueError, match="line break"):
        job.result()
    assert list(tmp_path.iterdir()) == []


def test_two_files_of_one_name_need_two_destinations(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    """Neither of two files with the same name is copied; a file that two patterns match is copied once."""
    for run in "ab":
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "log").write_text(run)
    job = SshJob(local.node(), Pull(f"{tmp_path}/runs/*/log", to=f"{tmp_path}/logs/"))
    two = SshJob(
        local.node(),
        Pull(
            f"{tmp_path}/runs/a*/log", f"{tmp_path}/runs/b/l*", to=f"{tmp_path}/logs/"
        ),
    )
    twice = SshJob(
        local.node(),
        Pull(f"{tmp_path}/runs/a/l*", f"{tmp_path}/runs/a/?og", to=f"{tmp_path}/once/"),
    )
    Scheduler(job, two, twice).run(backend=backend)
    with pytest.raises(
        ValueError,
        match=r"two of these are named 'log', /.*/runs/a/log and /.*/runs/b/log: copy",
    ):
        job.result()
    assert isinstance(two.raised_exception(), ValueError)
    assert list((tmp_path / "logs").iterdir()) == []
    assert twice.result() == [f"{tmp_path}/once/log"]


@pytest.mark.parametrize("target", ["link/", "link to the log"])
def test_a_file_that_another_job_has_pulled_is_not_replaced_through_a_link(
    backend: str, local: LocalConnection, tmp_path: Path, target: str
) -> None:
    """Two names of one directory are one place: the copy of the job that came first was lost, and both succeeded.

    So are two names of one file: a copy onto a link goes where that leads."""
    (tmp_path / "same").mkdir()
    (tmp_path / "link").symlink_to("same")
    (tmp_path / "link to the log").symlink_to("same/log")
    jobs = list[SshJob]()
    for name, to in (("a", "same/"), ("b", target)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log").write_text(name)
        pull = Pull(f"{tmp_path}/{name}/log", to=f"{tmp_path}/{to}")
        jobs.append(SshJob(local.node(), pull, label=name))
    assert not Scheduler(*jobs, jobs_window=1).run(backend=backend)
    assert (tmp_path / "same" / "log").read_text() == "a"
    assert "'a' and 'b' both pull" in str(jobs[1].raised_exception())


@pytest.mark.parametrize("is_ordered", [False, True])
def test_a_file_that_another_job_has_pulled_is_replaced_only_after_it(
    backend: str, local: LocalConnection, tmp_path: Path, is_ordered: bool
) -> None:
    """A copy takes the place of another job's in the same run only if its job requires that one."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "log").write_text(name)
    pulls = [Pull(f"{tmp_path}/{name}/l*", to=f"{tmp_path}/same/") for name in "ab"]
    jobs: list[Any] = [
        SshJob(local.node(), pull, label=label)
        for label, pull in zip("ab", pulls, strict=True)
    ]
    if is_ordered:
        # In a scheduler of its own, it requires the other all the same.
        jobs[1] = Scheduler(jobs[1], required=jobs[0], label="later")
    assert Scheduler(*jobs, jobs_window=1).run(backend=backend) is is_ordered
    assert (tmp_path / "same" / "log").read_text() == ("b" if is_ordered else "a")
    if not is_ordered:
        assert "'a' and 'b' both pull" in str(jobs[1].raised_exception())


def test_the_next_alternative_pulls_what_the_failed_one_has_pulled(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text("x")
    pull = Pull(f"{tmp_path}/l*", to=f"{tmp_path}/copies/")
    first = First(
        SshJob(local.node(), [pull, "exit 3"]),
        SshJob(local.node(), pull),
        stagger=math.inf,
    )
    assert Scheduler(first).run(backend=backend)


def test_files_in_a_copied_directory_do_not_collide(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    for path in ("one tree/log", "logs/log"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(path)
    copied(
        backend,
        local,
        Pull(f"{tmp_path}/one t*", f"{tmp_path}/logs/*", to=f"{tmp_path}/back/"),
    )
    assert (tmp_path / "back" / "log").read_text() == "logs/log"
    assert (tmp_path / "back" / "one tree" / "log").read_text() == "one tree/log"


@SSH_ON_TRIO
def test_a_file_goes_into_a_directory_that_has_its_name(
    backend: str, place: Place, tmp_path: Path
) -> None:
    """A file goes into a directory, in both directions, as with scp. A pull once removed it with all in it."""
    (tmp_path / "file").write_text("x")
    for side in ("there", "back"):
        make_tree(tmp_path / side, ["a"])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    push, to_link = (
        Push(tmp_path / "file", to=f"{tmp_path}/{to}") for to in ("there", "link")
    )
    results = copied(
        backend,
        place,
        push,
        to_link,
        Pull(f"{tmp_path}/there/file", to=f"{tmp_path}/back"),
    )
    assert results == [None, None, [f"{tmp_path}/back/file"]]
    for side in ("there", "back"):
        assert sorted(path.name for path in (tmp_path / side).iterdir()) == [
            "a",
            "empty",
            "file",
        ]
    assert os.listdir(tmp_path / "elsewhere") == ["file"]


@SSH_ON_TRIO
@pytest.mark.parametrize("step", [Push, Pull])
@pytest.mark.parametrize(
    ("new", "old"), [("t/b/x", "t/b"), ("t/b", "t/b/x"), ("t", "t/t/x"), ("t/b/x", "t")]
)  # fmt: skip
def test_neither_a_file_nor_a_directory_takes_the_place_of_the_other(
    backend: str, place: Place, tmp_path: Path, step: Any, new: str, old: str
) -> None:
    """A copy in whose way an entry of the other kind is has moved nothing when it fails; the error has the cure."""
    for path in (tmp_path / "from" / new, tmp_path / "to" / old):
        path.parent.mkdir(parents=True)
        path.write_text(path.name)
    if new != "t":
        (tmp_path / "from" / "t" / "a").write_text("new")
    job = ran(
        backend, SshJob(place.node(), step(f"{tmp_path}/from/t", to=f"{tmp_path}/to/t"))
    )
    with pytest.raises(
        Exception, match=r"is in the place of a .*, which never replaces it: remove it,"
    ):
        job.result()
    assert [path for path in (tmp_path / "to").rglob("*") if path.is_file()] == [
        tmp_path / "to" / old
    ]


@SSH_ON_TRIO
@pytest.mark.parametrize("step", [Push, Pull])
@pytest.mark.parametrize("target", ["pipe", "link"])
def test_a_copy_replaces_no_pipe(
    backend: str, place: Place, tmp_path: Path, step: Any, target: str
) -> None:
    """A pipe or a device, such as /dev/null, stays where a file was to be copied to, also behind a link."""
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    job = ran(
        backend,
        SshJob(place.node(), step(f"{tmp_path}/file", to=f"{tmp_path}/{target}")),
    )
    with pytest.raises(
        Exception,
        match=r"a pipe or a device is in the place of a file, which never replaces it",
    ):
        job.result()
    assert stat.S_ISFIFO((tmp_path / target).stat().st_mode)


@SSH_ON_TRIO
@pytest.mark.parametrize("step", [Push, Pull])
def test_a_copy_replaces_the_file_behind_a_link(
    backend: str, place: Place, tmp_path: Path, step: Any
) -> None:
    """A copy onto a link, also one in a tree or to a file that is not there, once took the place of the link."""
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    for name in ("tree/deep/file", "file", "new", "plain"):
        (tmp_path / name).write_text("copied")
    (tmp_path / "to" / "tree" / "deep").mkdir(parents=True)
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    ) as directory:
        elsewhere = Path(directory)
        for name, behind in (("tree/deep/file", "a"), ("file", "b"), ("new", "c d\n")):
            (tmp_path / "to" / name).symlink_to(elsewhere / behind)
        for name in ("a", "b"):
            (elsewhere / name).write_text("old")
        copied(
            backend,
            place,
            step(
                *(tmp_path / name for name in ("tree", "file", "new")),
                to=f"{tmp_path}/to/",
            ),
        )
        copied(backend, place, step(tmp_path / "plain", to=tmp_path / "to" / "file"))
        found = {path.name: path.read_text() for path in elsewhere.iterdir()}
        assert found == dict.fromkeys(("a", "b", "c d\n"), "copied")
        assert all(
            (tmp_path / "to" / name).is_symlink()
            for name in ("tree/deep/file", "file", "new")
        )


@pytest.mark.parametrize("step", [Push, Pull])
def test_a_tree_is_not_copied_into_itself(
    backend: str, tmp_path: Path, step: Any
) -> None:
    """A tree was once copied into itself until the names were too long."""
    make_tree(tmp_path / "tree", ["a"])
    before = content(tmp_path / "tree")
    job = SshJob(LocalNode(), step(tmp_path / "tree", to=f"{tmp_path}/tree/copy"))
    assert not Scheduler(job).run(backend=backend)
    assert (
        "the target is in the directory that is to be copied: give another to="
        in str(job.raised_exception())
    )
    assert content(tmp_path / "tree") == before
    assert Scheduler(
        SshJob(LocalNode(), step(tmp_path / "tree", to=f"{tmp_path}/tree-2"))
    ).run(backend=backend)


def test_the_error_on_a_server_without_sftp_names_the_setting(
    site: Any, tmp_path: Path
) -> None:
    server = site.serve(2, Subsystem="other /bin/false")
    (tmp_path / "file").write_text("x")
    job = SshJob(server.node(), Push(tmp_path / "file", to="/tmp/x"))
    Scheduler(job).run()
    with pytest.raises(
        SshError, match="Connection closed\ncheck that its sshd has a Subsystem sftp"
    ):
        job.result()
    server.stop()


def test_the_error_of_a_failed_sftp_write_mentions_a_full_disk() -> None:
    _, advice = filter_errors(b'write remote "/full/copy": Failure\n')
    assert advice.endswith("disk of the node is full (df), or a quota is exceeded")


def test_the_error_of_a_full_temporary_directory_names_it() -> None:
    """What a script or standard input was copied to on this machine was once not named: "No space left on device"."""
    job = SshJob(LocalNode(), "cat", stdin=b"x" * 100_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        assert not Scheduler(job).run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (
        str(job.raised_exception())
        == f"[Errno 27] File too large: '{tempfile.gettempdir()}'"
    )
