"""Whole facts of what a journal compares and says: stamps of files, parts of a fingerprint, code, rows and questions.

Each law looks at a table of cases at once, without a run."""

import contextlib
import functools
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
import pytest
from trioflow import (
    Answer,
    CommandJob,
    Job,
    Journal,
    JournalError,
    Scheduler,
    ThreadJob,
    _loaded_files,
)
from trioflow._core.words._job_queries import options_of
from trioflow.abc import LocalDirectory, Work
from trioflow.journal import _code_digests, _end_notes, _lock, _questions, _store
from trioflow.journal._file_stamps import (
    END_BYTES,
    FileStamper,
    files_of,
    own_outputs,
    path_text,
    placed,
)
from trioflow.journal._fingerprint import (
    FingerprintBuilder,
    describe_work,
    job_path,
    path_in_directory,
    read_parts,
    with_requirements,
)
from trioflow.journal._judgement import Evidence, Finding, judge
from trioflow.journal._requirement_forms import NEVER, NOTHING, Counted, first_cause
from trioflow.journal._run_summary import JobTally, parse_summary
from trioflow.journal._serialization import NotSerializable
from trioflow.journal._store import JournalStore
from ..bodies import nap
from ..jobs.fingerprints import difference
from .stage import record

# ---- stamps of files


def stamps(stamper: FileStamper, **files: Any) -> dict[str, str]:
    return stamper.input_stamps(Work(what="", **files), redact=False)


def test_files_of_all_kinds_keep_their_places_if_the_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(what="", reads=["r"], writes=["w"], appends=["a"], begins_anew=["/n", "n"])  # fmt: skip
    assert [*files_of(work)] == ["r", "w", "a", "/n", "n"]
    assert own_outputs(work) == ("w", "a", "/n", "n")
    assert own_outputs(Work(what="", writes=["w"])) == ()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    once = placed(work)
    monkeypatch.chdir(tmp_path / "other")
    kept = [*once.writes, *once.appends, *once.begins_anew]
    expected = [f"{tmp_path}/w", f"{tmp_path}/a", "/n", f"{tmp_path}/n"]
    assert [os.fsdecode(path) for path in kept] == expected
    assert [path_text(path, redact=False) for path in kept] == ["w", "a", "/n", "n"]
    # A second attempt begins in the directory of that time.
    again = placed(once)
    (first,) = again.writes
    assert os.fsdecode(first) == f"{tmp_path}/other/w"
    assert path_text(first, redact=True) == path_text("w", redact=True)


@pytest.mark.parametrize("contents", [False, True])
def test_stamps_that_may_take_long_are_taken_in_a_thread(
    tmp_path: Path, contents: bool
) -> None:
    file = tmp_path / "file"
    file.write_text("1")
    os.utime(file, (1, 1))
    missing, pattern = str(tmp_path / "missing"), str(tmp_path / "*.txt")
    stamper = FileStamper(contents, ())
    kinds = {file: contents, missing: False, pattern: True, tmp_path: True}
    assert {path: stamper.is_slow([path]) for path in kinds} == kinds
    work = Work(what="", reads=[file, pattern, tmp_path], writes=["w"])
    taken = stamper.take([work])
    assert {path for path, _ in taken} == {str(file), pattern, str(tmp_path), "w"}
    with stamper.use(taken):
        assert not stamper.is_slow([file, pattern, tmp_path])
        file.write_text("other")
        before = stamper.input_stamps(work, redact=False)
    assert stamper.is_slow([tmp_path])
    assert stamper.input_stamps(work, redact=False) != before
    assert stamper.is_slow([file]) is contents or contents


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def test_any_change_in_a_directory_changes_its_stamp(tmp_path: Path) -> None:
    """Each change is small, and of another kind: of a name, a place, a kind, a text, a time or the target of a link."""
    top = tmp_path / "top"
    (top / "a/deep").mkdir(parents=True)
    (top / "b").mkdir()
    for name in ("a/deep/x", "a/y", "z"):
        (top / name).write_text("1")
        os.utime(top / name, (1, 1))
    (top / "link").symlink_to("z")
    for name in ("m/y", "p", "q"):
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).touch()
        os.utime(top / name, (1, 1))
    (top / "n").mkdir()
    (top / "to").symlink_to("p")
    (top / "loop").symlink_to(".")
    (tmp_path / "behind").mkdir()
    (tmp_path / "behind/in").touch()
    (top / "far").symlink_to(tmp_path / "behind")
    stamper = FileStamper(False, {str(top / "run.db")})
    own = str(top / "own")

    def stamp() -> str:
        return stamps(stamper, reads=[top], writes=[own])[str(top)]

    changes: list[Callable[[], object]] = [
        lambda: (top / "empty").mkdir(),
        lambda: (top / "m/y").rename(top / "n/y"),
        lambda: replace(top / "to", lambda path: path.symlink_to("q")),
        lambda: (top / "a/y").rename(top / "b/y"),
        lambda: (top / "z").rename(top / "zz"),
        lambda: os.utime(top / "a/deep/x", ns=(10**9, 10**9 + 1)),
        lambda: os.truncate(top / "zz", 0),
        lambda: replace(top / "link", lambda path: path.symlink_to("zz")),
        lambda: (tmp_path / "behind/more").touch(),
        lambda: replace(top / "b/y", Path.mkdir),
        lambda: os.mkfifo(top / "pipe"),
        lambda: replace(top / "pipe", Path.touch),
    ]
    seen = [stamp()]
    for change in changes:
        change()
        seen.append(stamp())
        assert seen[-1] == stamp()
    assert len({*seen}) == len(changes) + 1
    # What the job itself writes there, and the journal, make no difference.
    for name in ("own", "run.db"):
        (top / name).touch()
    assert stamp() == seen[-1]
    assert stamp().startswith("directory ")


def test_any_change_of_what_a_pattern_matches_changes_its_stamp(tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    for name in ("one.txt", "d/two.txt", "d/e/three.txt", "d/other"):
        (tmp_path / name).write_text("1")
        os.utime(tmp_path / name, (1, 1))
    pattern = str(tmp_path / "**/*.txt")
    stamper = FileStamper(False, {str(tmp_path / "journal.txt")})

    def stamp() -> str:
        own = [tmp_path / "own.txt", tmp_path / "out"]
        return stamps(stamper, reads=[pattern], begins_anew=own)[pattern]

    changes: list[Callable[[], object]] = [
        lambda: (tmp_path / "d/e/three.txt").write_text("22"),
        lambda: (tmp_path / "one.txt").rename(tmp_path / "d/e/one.txt"),
        lambda: (tmp_path / "d/two.txt").rename(tmp_path / "d/tww.txt"),
        lambda: (tmp_path / "d/tww.txt").unlink(),
    ]
    seen = [stamp()]
    for change in changes:
        change()
        seen.append(stamp())
    assert len({*seen}) == len(changes) + 1
    (tmp_path / "out").mkdir()
    for name in ("own.txt", "out/in.txt", "journal.txt", "d/more"):
        (tmp_path / name).touch()
    assert stamp() == seen[-1]
    for name in ("d/e/three.txt", "d/e/one.txt"):
        (tmp_path / name).unlink()
    assert stamp() == "absent"


def test_what_a_job_reads_and_writes_is_judged_as_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_text("1")
        os.utime(name, ns=(5, 7))
    stamper = FileStamper(False, ())
    assert stamps(stamper, reads=["a", "b", "c"], writes=["./b"]) == {
        "a": "1 7", "c": "absent",
    }  # fmt: skip
    work = Work(what="", writes=["a"], begins_anew=["b"], appends=["c"])
    assert stamper.output_stamps(work, redact=False) == {
        "a": "1 7", "b": "1 7", "c": "absent",
    }  # fmt: skip
    assert stamps(stamper, reads=["/dev/null"]) == {"/dev/null": "special 20000"}
    # Two files of the same size and time have their own hashes.
    (tmp_path / "b").write_text("2")
    os.utime("b", ns=(5, 7))
    hashed = FileStamper(True, ())
    both = hashed.output_stamps(work, redact=False)
    assert both["a"] != both["b"]
    assert hashed.output_stamps(work, redact=True).keys() == {
        path_text(name, redact=True) for name in "abc"
    }
    assert hashed.output_stamps(work, redact=False)["a"].startswith("1 6b86b273ff34fce1")  # fmt: skip
    # The same contents at another time are the same, and other contents of the same size are not.
    before = hashed.output_stamps(work, redact=False)
    os.utime("a")
    assert hashed.output_stamps(work, redact=False) == before
    (tmp_path / "a").write_text("2")
    os.utime("a", ns=(5, 8))
    assert hashed.output_stamps(work, redact=False) != before


def test_the_first_change_of_an_output_is_described(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    file, stamper = str(tmp_path / "file"), FileStamper(False, ())
    work = Work(what="", writes=[file])
    now = stamper.output_stamps(work, redact=False)

    def change(old: dict[str, str], taker: str | None = None) -> str | None:
        return stamper.describe_changed_output(work, old, False, lambda *_: taker)

    named = f"its output {file!r}"
    assert change(now) is None
    assert change({file: "7 7"}) == f"{named} has changed"
    assert change({file: "7 7"}, "strip") == f"{named} has changed, by 'strip'"
    assert change({file: "7 7"}, "") is None
    assert change({file: "absent"}) == f"{named} is new"
    assert change({}, "") == f"{named} was not listed before"
    assert change({**now, "/more": "1 1"}, "") == "its output '/more' is no longer listed"  # fmt: skip
    os.unlink(file)
    assert change(now) == f"{named} is missing"
    assert change({file: "absent"}) is None


def test_an_output_may_only_be_appended_to_after_its_end(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"x" * END_BYTES + b"old")
    stamper = FileStamper(False, ())
    work = Work(what="", appends=[file])
    old = stamper.output_stamps(work, redact=False)

    def changed() -> bool:
        return (
            stamper.describe_changed_output(work, old, False, lambda *_: None)
            is not None
        )

    def write(data: bytes) -> None:
        file.write_bytes(data)
        os.utime(file, (9, 9))

    whole = file.read_bytes()
    cases = {
        whole: True, whole + b"more": False, b"y" + whole[1:] + b"more": False, whole[:-1] + b"Xmore": True,
        whole[:3] + b"y" + whole[4:] + b"more": True, b"short": True, b"": True,
    }  # fmt: skip
    for data, is_changed in cases.items():
        write(data)
        assert changed() is is_changed, data[-10:]
    file.unlink()
    assert changed()


# ---- fingerprints


def f(*args: object, **kwargs: object) -> None:
    """Do nothing."""


def g(*args: object) -> None:
    """Do nothing."""


class Kind(ThreadJob[Any]):
    """A kind of its own, with attributes."""

    def __init__(self, function: Any, *, number: int = 1, **options: Any) -> None:
        super().__init__(function, **options)
        self.number = number
        self._hidden = number + 1


def made(*kwdefault: object, **default: object) -> Any:
    def inner(a: object = default.get("a", 0), *, b: object = default.get("b", 0)) -> None:  # fmt: skip
        """Do nothing."""

    return inner


def thread(function: Any, *args: Any, **options: Any) -> ThreadJob[Any]:
    return ThreadJob(function, *args, label="job", **options)


P = functools.partial
X = "x" * 50
BY_KEY: list[tuple[Any, Any, str | None]] = [
    (thread(f, 1), thread(f, 1), None),
    (thread(f, 1), thread(g), f"its function has changed from {__name__}:f to {__name__}:g"),
    (thread(f, 1), thread(f, 2), "argument 1 has changed from 1 to 2"),
    (thread(f, 1, 2), thread(f, 1, 3), "argument 2 has changed from 2 to 3"),
    (thread(f, X), thread(f, "y"), "argument 1 has changed"),
    (thread(f, "y"), thread(f, X), "argument 1 has changed"),
    (thread(f, 1), thread(f, 1, 1), "it had 1 argument, and now has 2"),
    (thread(f, 1, 1), thread(f), "it had 2 arguments, and now has 0"),
    (thread(f, kwargs={"a": 1}), thread(f, kwargs={"a": 2}), "argument 'a' has changed from 1 to 2"),
    (thread(f, kwargs={"a": 1}), thread(f), "argument 'a' has changed"),
    (thread(f), thread(f, kwargs={"a": 1}), "argument 'a' has changed"),
    (thread(f, kwargs={"a": 1, "b": 2}), thread(f, kwargs={"b": 2, "a": 1}), None),
    (thread(P(f, 1), 2), thread(f, 1, 2), None),
    (thread(P(f, a=1, b=2), kwargs={"a": 3}), thread(f, kwargs={"a": 3, "b": 2}), None),
    (thread(f, version=1), thread(f, version=2), "its version has changed from 1 to 2"),
    (thread(f), thread(f, version=0), "its version has changed"),
    (thread(f), thread(f, key=0), "it was given a key"),
    (thread(f, key=0), thread(f), "its key was removed"),
    (thread(f, key=1), thread(g, 5, key=1, version=7), None),
    (thread(f, key=1), thread(f, key=2), "its key has changed from 1 to 2"),
    (thread(f, reads=["/x1"]), thread(f), "file '/x1' is no longer listed"),
    (thread(f), thread(f, reads=["/x1"]), "file '/x1' is missing"),
    (thread(f), thread(f, reads=["/dev/null"]), "file '/dev/null' was not listed before"),
    (thread(f, 1, redact=True), thread(f, 2, redact=True), "argument 1 has changed"),
    (thread(made(a=1)), thread(made(a=2)), "its function has changed from "),
    (thread(made(b=1)), thread(made(b=2)), "its function has changed from "),
    (thread(made()), thread(made()), None),
    (Kind(f, number=1), Kind(f, number=2), "attribute 'number' has changed from 1 to 2"),
    (Kind(f, number=1), ThreadJob(f), "its class has changed"),
    (thread(SimpleNamespace().__eq__, 1), thread(abs, 1), "its function has changed…"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "now", "why"), BY_KEY, ids=range(len(BY_KEY)))
def test_the_first_change_of_a_job_is_described(
    tmp_path: Path, before: Any, now: Any, why: str | None
) -> None:
    found = difference(before, now, tmp_path)
    if why is None or not why.endswith((" ", "…")):
        assert found == why
    else:
        assert (found or "").startswith(why.rstrip("…"))


def command(*words: Any, **options: Any) -> Callable[[], CommandJob]:
    """Return what makes a command, which needs a POSIX system."""
    return functools.partial(CommandJob, words or ["a"], label="job", **options)


ENV = {"A": "1"}
OPTIONS: list[tuple[Any, Any, str | None]] = [
    (command("a", 1), command("a", "1"), 'argument 2 has changed from 1 to "1"'),
    (command(), command(cwd="/"), "its directory has changed from "),
    (command(), command(stdin=b"x"), "its option stdin= has changed"),
    (command(), command(stdout=-1), "its option stdout= has changed"),
    (command(stdout=-1), command(stdout=-3), 'its option stdout= has changed from "PIPE" to "DEVNULL"'),
    (command(), command(stderr=-2), "its option stderr= has changed"),
    (command(stdout="/x1"), command(stdout="/x2"), None),
    (command(stdout="/x1"), command(stdout=sys.__stderr__), 'its option stdout= has changed from "path" to "file"'),
    (command(stdin="/x1"), command(stdin="/x2"), "file '/x1' is no longer listed"),
    (command(env=ENV), command(env={"A": "2"}), "its variable 'A' has changed"),
    (command(env=ENV), command(env={"B": "1"}), "its variable 'A', variable 'B' have changed"),
    (command(env=ENV, redact=True), command(env={"A": "2"}, redact=True), "its environment has changed"),
    (command(), command(env=ENV), "its variable 'A' has changed"),
    (command(), command(env={}), "its set of variables has changed"),
    (command(), command(terminate_grace=1, nice=3, on_line=print, append=False, leftovers="end", timeout=3), None),
    (functools.partial(CommandJob, "a", shell=True), functools.partial(CommandJob, ["/bin/sh", "-c", "a"]),
     "its option shell= has changed"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "now", "why"), OPTIONS, ids=range(len(OPTIONS)))
def test_the_first_change_of_a_command_is_described(
    tmp_path: Path, before: Any, now: Any, why: str | None
) -> None:
    test_the_first_change_of_a_job_is_described(tmp_path, before(), now(), why)


def test_the_files_of_a_command_are_those_of_its_options_too() -> None:
    options = {"stdin": "in", "stdout": "out", "stderr": "err"}
    job = command(**options, reads=["r"], writes=["w"], append=False)()

    work = describe_work(job)
    assert work is not None
    facts = [*work.reads], [*work.writes], [*work.appends], [*work.begins_anew]
    assert facts == (["r", "in"], ["w"], [], ["out", "err"])


def test_a_function_known_by_name_only_is_known_anew_for_each_job(
    tmp_path: Path,
) -> None:
    """A job beside it is not, with a version it is not either, and its defaults tell it from others."""

    builder = FingerprintBuilder(lambda _: "", FileStamper(False, ()), str(tmp_path))

    def facts(job: Any) -> tuple[bool, Any]:
        return builder.compute(job, None, options_of(job))[1:]

    closure = made()
    assert facts(thread(closure)) == (True, None)
    assert facts(thread(f)) == (False, f)
    assert facts(thread(f, version=1)) == (False, None)
    assert facts(thread(closure, version=1)) == (False, None)
    assert facts(thread(closure, key=1)) == (False, None)
    assert facts(thread(f)) == (False, f)
    identities = [
        builder.find_ambiguous_identity(thread(function, **options))
        for function, options in ((f, {}), (closure, {}), (closure, {"version": 2}), (f, {"key": 3}))
    ]  # fmt: skip
    assert identities[0] is None
    texts = [each[0] for each in identities[1:] if each is not None]
    assert [text.rpartition(" ")[2] for text in texts] == [
        "[null,null]", "[null,2]", "[3,null]",
    ]  # fmt: skip
    assert [" (by name)" in text for text in texts] == [True, True, False]


def test_each_part_of_a_fingerprint_is_there_for_what_it_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    kind = Answer("q?")

    def parts(contents: bool = False, job: Any = kind, **work: Any) -> dict[str, Any]:
        stamper = FileStamper(contents, ())
        builder = FingerprintBuilder(lambda _: "", stamper, str(tmp_path))
        described = Work(what="kind", **work)
        return read_parts(builder.compute(job, described, options_of(job))[0])

    assert parts() == {"f": "kind", "a": []}
    for files in ("reads", "writes", "appends", "begins_anew"):
        given: dict[str, Any] = {files: ["x"]}
        assert parts(contents=True, **given)["h"] is True
        assert "h" not in parts(**given)
    assert "h" not in parts(contents=True)
    assert parts(reads=["x"])["r"] == {"x": "absent"}
    named = {"zero": 0, "empty": "", "false": False, "none": None, "true": True}
    assert parts(options=named)["o"] == {"zero": "0", "empty": '""', "true": "true"}
    assert "o" not in parts(options={"false": False, "none": None})
    assert "o" not in parts(options=[False, None])
    assert parts(options=[False, None, 0])["o"] != parts(options=[False, None, 1])["o"]
    places = {
        (None, None): "here", ("c", None): "here/c", ("..", None): ".",
        ("c", "/d"): "../" * (len(tmp_path.parts) - 1) + "d/c",
    }  # fmt: skip
    found = {place: parts(options=[LocalDirectory(*place)])["w"] for place in places}
    assert found == places
    monkeypatch.chdir(tmp_path)
    assert parts(options=[LocalDirectory(None)])["w"] == "."
    # A redacted job hides its own values, and no others.
    builder = FingerprintBuilder(lambda _: "", FileStamper(False, ()), str(tmp_path))
    texts: list[str] = []
    for job in (thread(f, 1), thread(f, 1, redact=True), thread(f, 1)):
        texts.append(builder.compute(job, None, options_of(job))[0])
    assert texts[0] == texts[2] != texts[1]
    assert '"a":["1"]' in texts[0]
    assert '"a":["~' in texts[1]
    bad = [
        thread(f, 1, object()),
        thread(f, kwargs={"x": object()}),
        thread(f, key=object()),
    ]
    messages: list[str] = []
    for job in bad:
        with pytest.raises(NotSerializable) as raised:
            builder.compute(job, None, options_of(job))
        messages.append(str(raised.value).partition(" (")[0])
    assert messages == ["argument 2", "argument 'x'", "its key"]


def test_the_parts_of_a_fingerprint_are_joined_and_read() -> None:
    assert with_requirements('{"f":"x"}', "1:2") == '{"q":"1:2","f":"x"}'
    assert with_requirements("{}", "1:2") == '{"q":"1:2"}'
    moved = path_in_directory("a", "d")
    assert job_path(moved, '{"w":"d"}') == "a"
    assert [job_path(moved, text) for text in ("{}", '{"w":"e"}', "x")] == [moved] * 3


def test_a_record_is_judged_by_the_first_row_that_holds() -> None:
    old = record("a")._replace(run=3, settled=5.0, fingerprint="x")
    required = Counted("r", 1, (3, 5.0))
    later = Counted("r", 1, (3, 5.5))
    cases = {
        Evidence(old, "x", required): Finding.MATCHES,
        Evidence(old, "x", later): Finding.DIFFERS,
        Evidence(old, "y", required): Finding.DIFFERS,
        Evidence(old, "x", required, is_cut=True): Finding.DIFFERS,
        Evidence(None, "x", required): Finding.NO_RECORD,
        Evidence(None, "x", required, has_moved=True): Finding.MOVED,
        Evidence(None, "x", required, is_damaged=True, has_moved=True): Finding.DAMAGED,
        Evidence(old, "x", required, was_used=True, is_damaged=True): Finding.RAN_BEFORE,
        Evidence(old, "x", required, is_ambiguous=True, was_used=True): Finding.AMBIGUOUS,
    }  # fmt: skip
    assert {evidence: judge(evidence) for evidence in cases} == cases


def test_shares_of_requirements_are_summed_in_any_order() -> None:
    def joined(*texts: str) -> Counted:
        whole = Counted()
        for text in texts:
            whole.add(Counted(text, 2))
        return whole

    assert joined("a", "b", "a").part == joined("b", "a", "a").part
    parts = {joined(*texts).part for texts in ("", "a", "aa", "aaa", "ab", "abb")}
    assert len(parts) == 6
    assert (joined().part, joined("a").part[-2:], NOTHING.part) == (":0", ":2", ":0")


def test_the_last_run_of_a_requirement_and_the_first_cause_count() -> None:
    job = Job(nap, label="r")
    shares = [
        Counted("a", 1, (1, 5.0)), Counted("b", 1, (2, 1.0), "first"), Counted("c", 1, (2, 3.0), "second"),
        Counted("d", 1, (2, 3.0), "as late"), Counted("e", 1, (2, 2.0), "earlier"), Counted("f", 1, (3, 0.5)),
    ]  # fmt: skip
    whole, seen = Counted(), list[tuple[Any, str | None]]()
    assert whole.ran == NEVER
    for share in shares:
        whole.note_run(share, job)
        seen.append((whole.ran, whole.cause))
    since = "'r' has run since"
    assert seen == [
        ((1, 5.0), since), ((2, 1.0), "first"), ((2, 3.0), "first"), ((2, 3.0), "first"), ((2, 3.0), "first"),
        ((3, 0.5), since),
    ]  # fmt: skip


def test_a_cause_names_the_file_or_the_input_that_has_changed() -> None:
    job = Job(nap, label="j")
    causes = {
        "file 'x' has changed": "'x' has changed",
        "its output 'x' is missing": "'x' is missing",
        "its output '~0a1b' is missing": "a file of 'j' is missing",
        "argument 2, the result of 'k', has changed from 1 to 2": "the result of 'k' has changed",
        "argument 2 has changed from 1 to 2": "'j' has changed",
    }
    assert {change: first_cause(job, change) for change in causes} == causes


# ---- code


def digests(monkeypatch: pytest.MonkeyPatch, text: str, **names: Any) -> str | None:
    file = f"/code {abs(hash(text))}.py"
    loaded = _loaded_files.LoadedFile(text.encode(), 0, True, {}, {})
    monkeypatch.setitem(_loaded_files.loaded, file, loaded)
    namespace: dict[str, Any] = {"__package__": "", **names}
    exec(compile(text, file, "exec"), namespace)
    return _code_digests.code_digest(namespace["read"])


READ = "def read(a, *, b=1):\n    '''Text.'''\n    return C + a"
CODES: list[tuple[str, str, str | None]] = [
    (READ, READ.replace("    return", "    # comment\n    return").replace("Text", "Other"), None),
    (READ, READ.replace("return C", "return -C"), ""),
    (READ, READ.replace("b=1", "b=2"), ""),
    (READ, READ.replace("a, *", "a, c, *"), ""),
    ("C = 1\n" + READ, "C = 2\n" + READ, "C"),
    ("C: int = 1\n" + READ, "C: int = 2\n" + READ, "C"),
    ("C = 1\nC += 1\n" + READ, "C = 1\nC += 2\n" + READ, "C"),
    ("D = 1\nC = D\n" + READ, "D = 2\nC = D\n" + READ, "C"),
    ("D = 1\nC = 1\n" + READ, "D = 2\nC = 1\n" + READ, None),
    ("if 1:\n    C = 1\n" + READ, "if 1:\n    C = 2\n" + READ, "C"),
    ("try:\n    x\nexcept NameError:\n    C = 1\n" + READ, "try:\n    x\nexcept NameError:\n    C = 2\n" + READ, "C"),
    ("C = [1]\n" + READ, "C = [2]\n" + READ, None),
    ("C = (1, 'a')\n" + READ, "C = (1, 'b')\n" + READ, "C"),
    ("C, D = 1, 2\n" + READ.replace("C", "C + D"), "C, D = 1, 3\n" + READ.replace("C", "C + D"), "C, D"),
    ("C = D = 1\n" + READ.replace("b=1", "b=D"), "C = D = 2\n" + READ.replace("b=1", "b=D"), "C, D"),
    ("C = 1\nD = 1\n" + READ.replace("b=1", "b=D"), "C = 1\nD = 2\n" + READ.replace("b=1", "b=D"), "D"),
    ("C = 1\n" + READ, READ, None),
    ("C = 1\ndef read():\n    return [C for _ in 'a']", "C = 2\ndef read():\n    return [C for _ in 'a']", "C"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "now", "change"), CODES, ids=range(len(CODES)))
def test_a_change_of_code_or_of_a_constant_that_it_reads_is_found(
    monkeypatch: pytest.MonkeyPatch, before: str, now: str, change: str | None
) -> None:
    found = [digests(monkeypatch, text) for text in (before, now)]
    assert None not in found
    assert _code_digests.find_change(*found) == change
    assert _code_digests.find_change(None, found[1]) is None
    other = (found[0] or "").replace(_code_digests.PYTHON_VERSION, "2.7", 1)
    assert _code_digests.find_change(other, found[1]) is None


def test_a_constant_of_another_module_counts_by_its_name_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is imported under another name, or read as an attribute of its module."""
    for read in (
        "from m import C as D\ndef read():\n    return D",
        "import m\ndef read():\n    return m.C",
    ):
        found: list[str | None] = []
        for value in (1, 2):
            module = ModuleType("m")
            module.__file__ = f"/m {value}.py"
            text = f"C = {value}\n".encode()
            loaded = _loaded_files.LoadedFile(text, 0, True, {}, {})
            monkeypatch.setitem(_loaded_files.loaded, module.__file__, loaded)
            exec(text, vars(module))
            monkeypatch.setitem(sys.modules, "m", module)
            _code_digests._known.clear()
            _code_digests._assignments.cache_clear()
            found.append(digests(monkeypatch, read))
        assert _code_digests.find_change(*found) in ("D", "m.C")


# ---- locks


def test_the_holder_of_a_lock_is_read_if_it_can_be_one(tmp_path: Path) -> None:
    here = socket.gethostname()
    own = f"process {os.getpid()} on {here}, since now"
    texts = {
        own: own,
        "process 1 on \x1b[2J, since now": "",
        "process x on y, since": "",
        "": "",
        "more process 1 on y, since": "",
    }
    found: dict[str, str] = {}
    for text in texts:
        file = tmp_path / "lock"
        file.write_text(text)
        with open(file, "rb") as opened:
            opened.read()
            found[text] = _lock._read_holder(opened.fileno())
    assert found == texts
    child = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    alive = {
        own: True,
        f"process {child} on {here}, since now": False,
        f"process {child} on elsewhere, since now": True,
        "": True,
    }
    assert {text: _lock._is_alive(text) for text in alive} == alive
    os.waitpid(child, 0)
    assert not _lock._is_alive(f"process {child} on {here}, since now")


def test_a_wait_for_a_lock_is_logged_once_and_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    clock = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + 0.25)
    )
    monkeypatch.setattr(_lock, "time", clock)
    wait = _lock.ReleaseWait("journal 'x'", "")
    said: list[int] = []
    while wait.wait():
        said.append(len(caplog.messages))
    assert said == [0, 0, 0, *([1] * 38)]
    assert caplog.messages == [
        "journal 'x': waiting up to 10 s for another run to release it (an unknown process)"
    ]


def test_a_lock_file_names_this_process_while_the_journal_is_open(file: Path) -> None:
    assert _lock.find_holder(file) is None
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        store.add_run("a")
        assert _lock.is_own_journal(file)
        lock = Path(f"{file}-lock")
        name = lock.read_text()
        assert name.startswith(
            f"process {os.getpid()} on {socket.gethostname()}, since 2"
        )
        assert name.count(":") == 3
        again = "another run in this process"
        with pytest.raises(JournalError, match=again):
            JournalStore(file, writes=True)
        (run,) = store.run_records()
        assert (run.process, run.label, run.outcome) == (name, "a", None)
        assert run.is_running
        assert file.stat().st_mode & 0o777 == 0o644 & ~_umask()
    assert _lock.find_holder(file) is None
    assert not lock.exists()
    assert not _lock.is_own_journal(file)
    with contextlib.closing(JournalStore(file, writes=False)) as store:
        assert not store.run_records()[-1].is_running


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


# ---- rows


@pytest.fixture
def store(file: Path) -> Iterator[JournalStore]:
    with contextlib.closing(JournalStore(file, writes=True)) as store:
        yield store


def test_a_store_finds_counts_and_sorts_its_rows(store: JournalStore) -> None:
    """A `First` is one job, whatever is in it, at any depth. A job that was restored is kept as one that ran."""
    first = '{"f":"first"}'
    assert store.is_empty()
    assert [store.add_run(label) for label in "ab"] == [1, 2]
    assert store.is_empty()
    rows = [
        record("z")._replace(run=1), record("a")._replace(run=2), record("g/x")._replace(run=2),
        record("g")._replace(run=2, fingerprint=first), record("g/h/y")._replace(run=2), record("gg")._replace(run=2),
        record("none")._replace(run=2, saved=None), record("é\udc80")._replace(run=1),
    ]  # fmt: skip
    store.add_records(rows, [(2, "z")], [])
    assert not store.is_empty()
    assert [row.path for row in store.job_records()] == [
        "z",
        "a",
        "g/x",
        "g",
        "g/h/y",
        "gg",
        "none",
        "é\\udc80",
    ]
    assert [row.restored for row in store.job_records()] == [2, *([None] * 7)]
    # z, a, g and gg.
    assert store.count_kept_jobs() == 4
    assert _store.count_jobs((row.path, row.fingerprint) for row in rows) == 6
    ran = {"z": 1, "g": 2, "g/h": 2, "g/": 0, "h": 0, "a": 2, "a/b": 0}
    assert {path: store.last_run(path) for path in ran} == ran
    found = store.find_job("é\udc80")
    assert found is not None
    assert found.path == "é\\udc80"
    store.end_run(2, "COMPLETED", 7.5, "summary")
    last = store.run_records()[-1]
    assert (last.id, last.label, last.outcome, last.ending) == (2, "b", "COMPLETED", "summary")  # fmt: skip
    assert last.ended == last.started + 7.5


def test_a_row_whose_facts_are_changed_is_damaged(store: JournalStore) -> None:
    store.add_run("a")
    rows = [
        record("plain"),
        record("large")._replace(result=5, large="ab"),
        record("out")._replace(outputs="{}"),
    ]
    changes = (
        "fingerprint = 'x'",
        "saved = 'own'",
        "result = '2'",
        "large = 'cd'",
        "outputs = '{1}'",
        "settled = 'x'",
    )
    for row in rows:
        for change in changes:
            store.add_records([row], [], [])
            assert store.find_job(row.path) == row
            store._write(f"UPDATE jobs SET {change}")
            with pytest.raises(_store.DamagedRow):
                store.find_job(row.path)
            assert store.find_undamaged_job(row.path) is None
    store.record_start("p", '{"stamps":{}}')
    assert store.find_stamps_before_start("p") == '{"stamps":{}}'
    store._write("UPDATE begun SET outputs = '{}'")
    with pytest.raises(_store.DamagedRow):
        store.find_stamps_before_start("p")
    store.add_records([], [], [("p",)])
    assert store.find_stamps_before_start("p") is None


def test_outputs_of_other_jobs_are_those_that_ended_and_that_have_begun(
    store: JournalStore,
) -> None:
    store.add_run("a")
    outputs = [_store.Outputs({name: "1 1"}).to_json() or "" for name in ("x", "y", "z")]  # fmt: skip
    rows = [
        record("a")._replace(outputs=outputs[0]),
        record("b")._replace(outputs=outputs[1]),
        record("c"),
    ]
    store.add_records(rows, [], [])
    store.record_start("d", outputs[2])
    assert sorted(store.outputs_of_other_jobs("a")) == ["y", "z"]
    assert sorted(store.outputs_of_other_jobs("d")) == ["x", "y"]
    store.forget(["d"])
    assert sorted(store.outputs_of_other_jobs("c")) == ["x", "y"]
    assert store.find_stamps_before_start("d") is None


def test_large_results_are_shared_mended_and_removed(
    store: JournalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_store, "CHUNK_SIZE", 4)
    store.add_run("a")
    data = b"0123456789"
    name, other = store.write_large(data), store.write_large(b"other")
    lost = store.write_large(b"lost")
    large = record("a")._replace(result=10, large=f"{name} {other}")
    store.add_records([large], [], [])
    assert store.read_result(large) == data
    assert b"".join(store.read_large(other)) == b"other"
    store._write("UPDATE results SET data = x'00' WHERE piece = 1")
    with pytest.raises(ValueError, match="its contents have changed"):
        store.read_result(large)
    assert (store.write_large(data), store.write_large(b"other")) == (name, other)
    assert store.read_result(large) == data
    store.end_run(1, "COMPLETED", 1.0)
    assert store._fetch_rows("SELECT DISTINCT hash FROM results WHERE hash = ?", (lost,)) == []  # fmt: skip
    assert store.read_result(large) == data
    assert b"".join(store.read_large(other)) == b"other"
    marked = record("m")._replace(fingerprint=f"{_store.AMBIGUOUS_PREFIX}{{}}}}")
    store.add_records([marked], [], [])
    store.discard(["a", "m"])
    assert [row.path for row in store.job_records()] == ["m"]
    store.forget(["m"])
    assert store._fetch_rows("SELECT * FROM results") == []


def test_a_journal_hands_its_options_on(file: Path) -> None:
    journal = Journal(file)
    assert (journal.durable, journal.save, journal.hash) == ("group", "json", False)
    for durable, level in (("group", 1), ("each", 2)):
        journal = Journal(file, durable=durable, save="pickle", hash=True)  # type: ignore[arg-type]

        session: Any = journal.open_for(Scheduler(label="s"))
        facts = session.facts
        assert session.commits_each is (durable == "each")
        assert facts.store._fetch_row("PRAGMA synchronous") == (level,)
        assert (facts.default_save, facts.file_stamper.compares_contents) == ("pickle", True)  # fmt: skip
        session.close(None, print)


# ---- the end of a run


def test_the_first_reason_and_all_numbers_are_in_the_notes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notes, told = _end_notes.EndNotes(), list[Any]()
    for label, reason in (("a", "why a"), ("b", "why b"), ("a", "again")):
        notes.add_unstorable(Job(nap, label=label), reason)
    notes.changed_arguments["c"] = None
    notes.changed_code["d"] = "'d' (LIMIT)"
    notes.report(told.append, Path("run.db"), ["e"])
    assert told == [
        "the journal cannot store 2 jobs, which will run again: 'a', 'b'; reason for the first: again; for a result, "
        "give save='pickle', save=(dump, load) or save=None; for an argument, give key="
    ]
    assert [each.partition(";")[0].partition(" (lambdas")[0] for each in caplog.messages] == [
        "jobs have changed their arguments in place, 'c': a run that restores them gives others to the jobs after them",
        "the code of 1 restored job has changed since, 'd' (LIMIT): that counts only with version=, or after trioflow "
        "journal run.db forget NAME",
        "the journal knows the functions of 1 job by name only, because looking up the name does not give them",
    ]  # fmt: skip
    notes = _end_notes.EndNotes()
    caplog.clear()
    notes.report(told.append, Path("run.db"), [])
    assert (len(told), caplog.messages) == (1, [])


def test_a_summary_that_cannot_be_read_is_none() -> None:

    text = JobTally().to_json(Scheduler())
    assert parse_summary(text) is not None
    assert [parse_summary(each) for each in (None, "", "{}", text[:-1])] == [None] * 4


# ---- questions and answers in files

ASKED = _questions.Question("a", "a", "sure?", None, "str", "work", created_at=5.0)
GIVEN = _questions.GivenAnswer("1", "a", None, "yes", created_at=6.0)


@pytest.fixture
def files(file: Path) -> _questions.QuestionFiles:
    files = _questions.QuestionFiles(file)
    assert not files.exists()
    files.make()
    files.make()
    return files


def test_files_of_questions_are_whole_and_private(
    files: _questions.QuestionFiles,
) -> None:
    """The first of several answers stays, unless it is replaced, and what was taken comes before what is new."""
    assert files.exists()
    assert stat.S_IMODE(files.directory.stat().st_mode) == 0o700
    assert files.write("answer", "a", GIVEN, replaces=False)
    second = GIVEN._replace(id="2", text="no")
    assert not files.write("answer", "a", second, replaces=False)
    assert files.read("answer", "a") == GIVEN
    (name,) = os.listdir(files.directory)
    assert name == f"{_questions.hash_of_text('a')}.answer"
    assert stat.S_IMODE((files.directory / name).stat().st_mode) == 0o600
    assert files.write("answer", "a", second)
    assert files.read_pending("a") == second
    assert files.take("a")
    assert files.write("answer", "a", GIVEN)
    assert files.take("a")
    assert (files.read("taken", "a"), files.read("answer", "a")) == (second, GIVEN)
    assert files.read_pending("a") == second
    for expected in (GIVEN, None):
        with files.withdrawn("a", ["answer"]) as found:
            assert found == expected
    files.remove("a", "taken", "refused")
    assert not files.take("a")
    assert os.listdir(files.directory) == []
    open_one, done = ASKED, ASKED._replace(path="b", answered="yes")
    for each in (done, open_one):
        files.write("question", each.path, each)
    (files.directory / "other.question").write_bytes(
        files._file("question", "a").read_bytes()
    )
    files._file("question", "c").write_text("{")
    assert {each.path for each in files.read_all("question")} == {"a", "b"}
    assert files.read_open() == [open_one]
    for mode, is_safe in ((0o755, True), (0o720, False), (0o702, False), (0o500, True)):
        files.directory.chmod(mode)
        refusal: Any = contextlib.nullcontext()
        if not is_safe:
            refusal = pytest.raises(JournalError, match="can be written by other users")
        with refusal:
            files.check()
    files.directory.chmod(0o700)


def test_a_question_that_is_another_has_the_next_number(
    files: _questions.QuestionFiles,
) -> None:
    def publish(question: _questions.Question) -> _questions.Question:
        return _questions.PublishedQuestion(files, question, lambda _: None).question

    later = ASKED._replace(created_at=9.0)
    assert publish(ASKED) == ASKED
    assert publish(later) == ASKED
    changes: list[dict[str, Any]] = [
        {"question": "really?"}, {"choices": ["x"]}, {"choices": ["y"]}, {"fingerprint": "other"},
    ]  # fmt: skip
    for number, change in enumerate(changes, 2):
        later = later._replace(**change)
        found = publish(later)
        assert (found.number, found.created_at) == (number, 9.0)
        assert files.read("question", "a") == found
        assert publish(later).number == number
    files.write("question", "a", found._replace(answered="yes"))
    assert publish(later._replace(created_at=11.0)).created_at == 11.0
    files.write("refused", "a", _questions.Refusal("1", "a", "why", {"1": "why"}))
    assert publish(later).number == found.number
    assert files.read("refused", "a") == ("1", "a", "", {"1": "why"})
    assert ASKED.described() == "sure?"
    assert ASKED._replace(choices=["x", "y"]).described() == "sure? (x, y)"
    lines = ASKED._replace(question="a\nb", choices=["x", "y"])
    assert lines.described("  ") == "a\n  b\n  (x, y)"
    assert _questions.make_answer("a", found, "t", True, "me")[1:4] == ("a", "other", "t")  # fmt: skip
    assert _questions.make_answer("a", found, "t", True, "me")[5:8] == (True, "me", found.number)  # fmt: skip
    assert _questions.make_answer("a", None, "t", False, "me")[2:3] == (None,)


def test_an_answer_counts_for_its_question_alone(
    files: _questions.QuestionFiles, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[Any] = []
    asked = _questions.PublishedQuestion(files, ASKED._replace(number=1), closed.append)
    assert asked.poll() is None
    cases: dict[_questions.GivenAnswer, tuple[str, str] | None] = {
        GIVEN: ("yes", "trioflow answer"), GIVEN._replace(by="me", fingerprint="work", number=1): ("yes", "me"),
        GIVEN._replace(id="3", fingerprint="other"): None, GIVEN._replace(id="4", number=2): None,
        GIVEN._replace(id="5", is_secret=True): None,
    }  # fmt: skip
    for answer, expected in cases.items():
        files.write("answer", "a", answer)
        assert asked.poll() == expected
        assert (files.read("taken", "a") is None) is (expected is None)
        files.remove("a", "taken")
    refused = files.read("refused", "a")
    assert [*refused.reasons] == ["3", "4", "5"]
    assert (refused.id, refused.reason) == ("5", refused.reasons["5"])
    earlier = "it is the answer to an earlier question of the same name"
    assert refused.reasons["4"] == refused.reasons["3"] == earlier
    assert refused.reason == _questions.NOT_REDACTED
    assert caplog.messages[0] == f"the answer to 'a' is refused: {earlier}"
    for number in range(10, 10 + _questions.MAX_REFUSALS):
        files.write("answer", "a", GIVEN._replace(id=str(number)))
        assert asked.poll() is not None
        asked.refuse("x" * 5000 + "end")
    kept = files.read("refused", "a").reasons
    assert [*kept] == [str(number) for number in range(10, 10 + _questions.MAX_REFUSALS)]  # fmt: skip
    assert kept["10"].endswith("end")
    files._file("answer", "a").write_text("{")
    assert asked.poll() is None
    assert not files._file("taken", "a").exists()
    asked.close("told")
    files.write("answer", "a", GIVEN._replace(id="9"))
    assert asked.poll() is not None
    asked.close("told")
    assert [(each.answered, each.counted) for each in closed] == [("told", ""), ("told", "9")]  # fmt: skip
    secret = _questions.PublishedQuestion(files, ASKED._replace(path="s", redact=True), print)  # fmt: skip
    files.write("answer", "s", GIVEN._replace(path="s", is_secret=True))
    assert secret.poll() == ("yes", "trioflow answer")


def test_files_of_questions_go_when_their_answers_are_in_the_journal(
    store: JournalStore, caplog: pytest.LogCaptureFixture
) -> None:
    """What a killed run has left goes as the next begins, and at its end what belongs to none of its jobs."""
    store.add_run("a")
    questions = _questions.RunQuestions(store)
    files = questions._files
    files.make()
    stored = record("x")._replace(settled=7.0, fingerprint="f")
    store.add_records([stored, stored._replace(path="old", settled=4.0)], [], [])
    work = _questions.hash_of_text("f")
    for path, fingerprint in (("x", work), ("old", work), ("y", work)):
        files.write("question", path, ASKED._replace(path=path, fingerprint=fingerprint))  # fmt: skip
        files.write("taken", path, GIVEN._replace(path=path))
        files.write("refused", path, _questions.Refusal("1", path, "why"))

    def left() -> set[tuple[str, str]]:
        return {
            (kind, each.path)
            for kind in ("question", "taken", "refused", "answer")
            for each in files.read_all(kind)
        }

    questions.discard_answered()
    rest = {(kind, path) for kind in ("question", "taken", "refused") for path in ("old", "y")}  # fmt: skip
    assert left() == rest
    files.write("question", "x", ASKED._replace(path="x", fingerprint="another"))
    files.write("answer", "z", GIVEN._replace(path="z"))
    questions.discard_answered()
    assert left() == {*rest, ("question", "x"), ("answer", "z")}
    job = Job(nap, label="q")
    facts = {"question": "sure?", "choices": None, "parse": "str", "redact": False}
    published = questions.publish(job, "q", "f", True, facts)
    assert published.question.fingerprint == work
    assert caplog.messages[-1].endswith(
        f"'q' asks: sure?; to answer: trioflow answer {store.path} q VALUE"
    )
    questions.publish(job, "q", "g", True, facts)
    assert caplog.messages[-1].endswith(" q VALUE --asked 2")
    questions.publish(job, "lines", "f", True, facts | {"question": "a\nb"})
    assert "\n  to answer: trioflow" in caplog.messages[-1]
    # The log once told everybody to give the secret as an argument, which others see.
    questions.publish(job, "token", "f", True, facts | {"redact": True})
    assert caplog.messages[-1].endswith(f"trioflow answer {store.path} token -")
    caplog.clear()
    questions.publish(Job(nap, label="quiet", log=False), "quiet", "f", True, facts)
    assert caplog.messages == []
    assert questions.told("q") is None
    published.close("yes, by me")
    assert questions.told("q") == "yes, by me"
    files.write("answer", "q", GIVEN._replace(path="q"))
    questions.close({"q": 1, "quiet": 1})
    assert {path for _, path in left() if path == "q"} == {"q"}
    assert files.read("question", "q").answered == "yes, by me"
    assert files.read("answer", "q") is None
    store.add_records([record("q")], [], [])
    questions.discard_unasked([])
    kept = ("q", "lines", "token", "quiet")
    assert left() == {("question", path) for path in kept}
    assert caplog.messages == [
        "the answer to 'z' was not used, and is removed: no job has asked that"
    ]
