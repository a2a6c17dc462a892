"""Files that two jobs use: two writers without an order are an error before the run, a reader is a warning."""

import itertools
import math
import random
import re
import time
from pathlib import Path
from typing import Any, cast
import pytest
from trioflow import (
    CommandJob,
    First,
    Job,
    LocalNode,
    Pull,
    Push,
    Scheduler,
    Script,
    ScriptText,
    SshJob,
    _check,
)
from trioflow._check import FileUses, findings
from trioflow.abc import AbstractJob, Work
from ..bodies import nothing


def command(label: str, **options: Any) -> CommandJob:
    return CommandJob(["true"], label=label, **options)


class Writer(AbstractJob[None]):
    """A kind of a user, which declares its files for a journal."""

    def for_journal(self) -> Work:
        return Work(what="write", writes=["out"])

    async def co_run(self) -> None:
        """Do nothing."""


PULLS = ("pull", "pull to a name", "pull into a directory")


def build(kind: str) -> Scheduler:
    """Return two jobs that write one file, and a file that has an order, by kind."""
    first, between = command("first", writes=["out"]), Job(nothing, label="between")
    second: Any
    match kind:
        case "stream":
            second = command("second", stdout="./out", append=False)
        case "braces":  # no placeholder, but for a node
            return Scheduler(
                *(
                    command(name, stdout="{node}.txt", append=False)
                    for name in ("first", "second")
                )
            )
        case "node":
            second = SshJob(
                LocalNode(), "true", stdout="out", append=False, label="second"
            )
        case "pull":
            second = SshJob(
                LocalNode(), Pull("a/other", "b/out", to="./"), label="second"
            )
        case "pull to a name":
            second = SshJob(
                LocalNode(), ["true", Pull("other", to=Path("out"))], label="second"
            )
        case "pull into a directory":
            Path("into").mkdir()
            first = command("first", writes=["into/out"])
            second = SshJob(LocalNode(), Pull("a/out/", to="into"), label="second")
        case "own kind":
            second = Writer(label="second")
        case "nested":
            inner = command("second", writes=["out"])
            return Scheduler(first, Scheduler(inner, label="group"))
        case "race":
            return Scheduler(
                First(first, command("second", writes=["out"]), label="race")
            )
        case "in order":
            between.requires(first)
            group = Scheduler(
                command("second", writes=["out"]), label="group", required=between
            )
            third = command("third", writes=["out"], required=group)
            return Scheduler(third, group, between, first)
        case "appended":
            return Scheduler(
                command("first", stdout="log"), command("second", stdout="log")
            )
        case "nodes":
            jobs = [
                SshJob(LocalNode(name), "true", stdout="{node}.txt", append=False)
                for name in "ab"
            ]
            jobs += [SshJob(LocalNode(name), Pull("*", to="{node}/")) for name in "ab"]
            jobs += [
                SshJob(LocalNode(name), Pull("o*", Job(nothing), to="y"))
                for name in "ab"
            ]
            return Scheduler(
                *jobs,
                command("null", stdout="/dev/null", append=False),
                command("x", writes=["/dev/null"]),
            )
        case _:
            second = command("second", writes=[Path("out").absolute()])
    return Scheduler(first, second)


@pytest.mark.parametrize(
    "kind",
    ["absolute", "stream", "braces", "node", "own kind", "nested", "race", *PULLS],
)
def test_two_unordered_writers_of_a_file_are_an_error_before_the_run(
    backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Two jobs that wrote one file at once got no word, and succeeded with a file of pieces of both."""
    monkeypatch.chdir(tmp_path)
    scheduler = build(kind)
    name = {"braces": "{node}.txt", "pull into a directory": "into/out"}.get(
        kind, "out"
    )
    text = f"'first' and 'second' both write '{name}', and neither requires the other: have one require the other"
    assert [found for _, found in findings(scheduler) if text in found]
    with pytest.raises(ValueError, match=re.escape(text)):
        scheduler.run(backend=backend)
    assert not scheduler.is_runnable()


@pytest.mark.parametrize("options", [{}, {"timeout": 9}, {"forever": True}])
def test_two_unordered_writers_are_found_whatever_job_was_added_last(
    options: Any, tmp_path: Path
) -> None:
    writers = [command(name, writes=[tmp_path / "out"]) for name in ("first", "second")]
    scheduler = Scheduler(*writers, Job(nothing, **options))
    with pytest.raises(ValueError, match="'first' and 'second' both write"):
        scheduler.run()


@pytest.mark.parametrize("kind", ["in order", "appended", "nodes"])
def test_writers_that_have_an_order_or_append_are_no_error(kind: str) -> None:
    assert findings(build(kind)) == []


@pytest.mark.parametrize(
    ("reads", "writes"),
    [
        ("out", "out"),
        ("dir", "dir/out"),
        ("dir/**/*.c", "dir/sub/a.c"),
        ("dir/sub/a", "dir"),
    ],
)
def test_a_reader_without_an_order_is_named_in_a_warning(
    backend: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reads: str,
    writes: str,
) -> None:
    """A job that read what another one writes, without requiring it, got the old file, and no word."""
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / writes, tmp_path / "other"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if writes == "dir" else path.touch()
    make, use = command("make", writes=[writes, "other"]), command("use", reads=[reads])
    scheduler = Scheduler(use, make, command("later", writes=[writes], required=make))
    (text,) = FileUses(scheduler).unordered_readers()
    assert text.startswith(
        f"'use' reads '{writes}', which 'make' writes, without an order"
    )
    assert scheduler.run(backend=backend)
    assert text in caplog.text
    for is_first in (True, False):
        make, between, use = (
            command("make", writes=[writes]),
            Job(nothing, label="between"),
            command("use", reads=[reads]),
        )
        first, second = (make, use) if is_first else (use, make)
        between.requires(first)
        assert (
            list(
                FileUses(
                    Scheduler(use, make, between, Scheduler(label="none"))
                ).unordered_readers()
            )
            != []
        )
        second.requires(between)
        assert list(FileUses(cast(Any, second.scheduler)).unordered_readers()) == []


class Reader(AbstractJob[None]):
    """A kind of a user, which declares its files for a journal."""

    def for_journal(self) -> Work:
        return Work(what="read", reads=["x"])

    async def co_run(self) -> None:
        """Do nothing."""


READERS = {
    "an option": lambda: Job(nothing, reads=["x"], label="use"),
    "an input": lambda: command("use", stdin="x"),
    "an input on a node": lambda: SshJob(LocalNode(), "true", stdin="x", label="use"),
    "what is sent": lambda: SshJob(LocalNode(), Push("x", to="y/"), label="use"),
    "a script": lambda: SshJob(LocalNode(), Script("x"), label="use"),
    "what goes with a script": lambda: SshJob(
        LocalNode(), ["true", ScriptText(":", includes=["x"])], label="use"
    ),
    "a kind of its own": lambda: Reader(label="use"),
}


@pytest.mark.parametrize("way", READERS)
def test_a_file_is_read_in_each_way_that_a_job_may_name_it(way: str) -> None:
    scheduler = Scheduler(command("make", writes=["x"]), READERS[way]())
    (text,) = FileUses(scheduler).unordered_readers()
    assert text.startswith("'use' reads 'x', which 'make' writes, without an order")


def test_the_order_of_jobs_is_that_of_all_paths_between_them() -> None:
    """Two writers are reported if and only if no path of requirements, also through groups, leads between them."""
    for seed in range(60):
        dice = random.Random(seed)
        jobs = [
            command(
                f"job {n}",
                writes=[f"file {dice.randrange(3)}"] if dice.random() < 0.5 else [],
            )
            for n in range(7)
        ]
        groups = [
            Scheduler(*jobs[start : start + 2], label=f"group {start}")
            for start in (0, 4)
        ]
        members: list[Any] = [groups[0], jobs[2], jobs[3], groups[1], jobs[6]]
        before: dict[Any, set[Any]] = {member: set() for member in members}
        for number, member in enumerate(members):
            for other in members[:number]:
                if dice.random() < 0.3:
                    member.requires(other)
                    before[member] |= {other} | before[other]
        scheduler = Scheduler(*dice.sample(members, len(members)))
        place = {
            job: next(each for each in members if each is job or each is job.scheduler)
            for job in jobs
        }
        clashes = any(
            set(one.writes) & set(two.writes)
            and (place[one] is place[two] or not (place[one] in before[place[two]] or place[two] in before[place[one]]))
            for number, one in enumerate(jobs) for two in jobs[:number]
        )  # fmt: skip
        assert bool(findings(scheduler)) is clashes, seed


def test_many_jobs_are_checked_in_time_for_their_number() -> None:
    """Each of many jobs reads what one writes that is not required directly: one pass tells their order."""

    def seconds(number: int) -> float:
        jobs = [
            command(f"{n}", writes=[f"{n}"], reads=[f"{n - 2}"] if n > 1 else [])
            for n in range(number)
        ]
        for one, two in itertools.pairwise(jobs):
            two.requires(one)
        scheduler = Scheduler(*jobs)
        began = time.process_time()
        assert list(FileUses(scheduler).unordered_readers()) == []
        return time.process_time() - began

    assert min(seconds(800) for _ in range(3)) < 40 * min(seconds(80) for _ in range(3))


def test_alternatives_in_turn_may_write_one_file(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download from two mirrors was refused with advice that cannot be followed; the second begins last."""
    monkeypatch.chdir(tmp_path)
    mirrors = [
        CommandJob(
            "echo half > out; exit 1", shell=True, writes="out", label="near", log=False
        ),
        CommandJob("echo whole > out", shell=True, writes="out", label="far"),
    ]
    assert Scheduler(First(*mirrors, stagger=math.inf)).run(backend=backend)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "out": "whole\n",
        "out.partial": "half\n",
    }


def test_alternatives_that_run_together_may_not_write_one_file() -> None:
    first = First(
        command("near", writes="out"), command("far", writes="out"), stagger=0.1
    )
    with pytest.raises(ValueError, match="both write 'out'"):
        Scheduler(first).run()


@pytest.mark.parametrize(
    ("path", "is_file"),
    [("/dev/shm/out", True), ("/dev/null", False), ("/dev/stdout", False)],
)
def test_files_in_shared_memory_are_files(path: str, is_file: bool) -> None:
    """All of /dev was left out of the check, and with it the usual place for scratch files."""
    scheduler = Scheduler(
        command("first", writes=[path]), command("second", writes=[path])
    )
    assert any(path in str(found) for found in findings(scheduler)) is is_file


@pytest.mark.parametrize("missing", [0, 1, 3, 4, 5])
def test_warnings_about_files_are_few_and_name_what_is_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    missing: int,
) -> None:
    """The first three are told and the others counted. What is there, even as a link into nothing, what is appended to,
    what a pattern stands for, and what a command reads by other words, is not looked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("nothing")
    (tmp_path / "there").touch()
    known = ["link", "there", "log", "x/*.c", "made/sub/a", "all/b/c"]
    jobs: list[Any] = [
        Job(nothing, label="known", reads=known),
        command("stdin", stdin="elsewhere"),
        command("appends", stdout="log"),
        command("makes", writes=["made", "all/b/c"]),
        *(
            Job(nothing, label=f"r{n}", reads=[f"gone {n}"], redact=n == 1)
            for n in range(missing)
        ),
    ]
    jobs[0].requires(jobs[3])
    _check.check_files(Scheduler(jobs))
    which = "which is not there and which no job writes"
    shown = [f"'r{n}' reads 'gone {n}', {which}" for n in range(min(missing, 3))]
    if missing > 1:
        shown[1] = f"'r1' reads a file, {which}"
    if missing > 3:
        shown.append(f"{missing - 3} more")
    assert caplog.messages == (["; ".join(shown)] if missing else [])


@pytest.mark.parametrize(
    ("reads", "writes", "is_read"),
    [
        ("dir", "dirx/out", False),
        ("dir", "dir/sub/out", True),
        ("dir/sub", "dir/out", False),
        ("dir/a", "dir", True),
        ("d/**/a", "d/a", True),
        ("d/**/a", "d/x/y/a", True),
        ("d/**/a", "e/a", False),
        ("d/*/a", "d/a", False),
        ("d/?", "d/ab", False),
        ("d/[ab]", "d/b", True),
        ("d/**", "d/x/y", True),
    ],
)
def test_a_path_stands_for_the_files_below_it_and_a_pattern_for_its_matches(
    reads: str, writes: str, is_read: bool
) -> None:
    use, make = command("use", reads=[reads]), command("make", writes=[writes])
    told = [*FileUses(Scheduler(use, make)).unordered_readers()]
    advice = "an old file, or half of one; give it required="
    text = f"'use' reads '{writes}', which 'make' writes, without an order: it may get {advice}"
    assert told == [text] * is_read


@pytest.mark.parametrize("redacted", ["", "use", "make"])
def test_the_files_of_a_redacted_job_are_not_named(redacted: str) -> None:
    use = command("use", reads=["x"], redact=redacted == "use")
    make = command("make", writes=["x"], redact=redacted == "make")
    (text,) = FileUses(Scheduler(use, make)).unordered_readers()
    name = "the same file" if redacted else "'x'"
    assert text.startswith(f"'use' reads {name}, which 'make' writes")


@pytest.mark.parametrize("unordered", range(5))
def test_of_many_writers_those_beside_a_reader_tell_whether_it_has_an_order(
    unordered: int,
) -> None:
    """One writer after the other, and a reader between two of them that waits for one, or that one waits for."""
    writers = [command(f"w{number}", writes=["x"]) for number in range(4)]
    for before, after in itertools.pairwise(writers):
        after.requires(Job(nothing, label=f"after {before.label}", required=before))
    use = command("use", reads=["x"])
    between = [job for writer in writers for job in writer.required]
    if unordered:
        use.requires(writers[unordered - 1])
    scheduler = Scheduler(use, *writers, *between)
    told = [
        text.partition(", without")[0]
        for text in FileUses(scheduler).unordered_readers()
    ]
    # It comes before no other, and those after the next one come after it, too.
    following = writers[unordered : unordered + 1]
    assert told == [f"'use' reads 'x', which {one.label!r} writes" for one in following]
