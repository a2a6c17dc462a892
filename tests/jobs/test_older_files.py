"""No byte that was there before an attempt is lost to a failure, whatever becomes of the attempt, and of the next ones.

Each draw fills the places that a job writes with files of others, lets the job fail once, twice and three times, by a
retry, in further runs, or killed with its conductor, in place and anew, through links and on another file system."""

import gc
import logging
import os
import random
import re
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    CommandJob,
    Job,
    LocalNode,
    OutputLine,
    ProcessJob,
    Pull,
    Push,
    Retry,
    Scheduler,
    SshJob,
    ThreadJob,
)
from trioflow._check import notes
from trioflow.jobs import _user_files
from ..places import ROOT
from ..pythons import python

DRAWS = [range(2), pytest.param(range(2, 12), marks=pytest.mark.ci)]
"""The draws of the short test, a few of them outside of CI; the soak test takes two thousand."""
PLACES = {
    "out": "out", "dir/out": "dir/out", "dir": "dir", "to file": "data/file", "to tree": "far", "far/out": "far/out",
}  # fmt: skip
"""What a job names in `writes=`, and what is there: two of them are links, and `far` is on another file system."""
IN_PLACE = [
    "echo added >> {}", "printf x | dd of={} bs=1 conv=notrunc 2>&-", "touch {}", "cat {} > {}.new && mv {}.new {}",
]  # fmt: skip
ANEW = [
    "test -e {0} || echo half-{1} > {0}",
    "test -e {0} || ln stray {0}",
    "test -e {0} || mv stray {0}",
]
INSIDE = [
    "echo half-{1} > {0}/new-{1}", "mkdir -p {0}/deep; echo half-{1} > {0}/deep/new-{1}", "mv stray {0}/stray",
    "echo added >> {0}/old", "mkdir -p {0}/deep; mv stray {0}/deep",
]  # fmt: skip
KILLING = "command", "stdout", "thread"
"""Kinds whose shell is a child of the conductor."""
ENDS = ["exit 1", "kill -9 $$", "sleep 100", "kill -9 $PPID; sleep 100"]


ASIDE = r"\.(partial|before)(-\d+)?(/|$)"


def call_shell(code: str) -> None:
    subprocess.run(code, shell=True, check=True)


class Draw:
    """One draw: files of others in and beside the places that the job writes, its attempts, and how they end."""

    def __init__(self, number: int, backend: str, here: Path, far: Path) -> None:
        dice = self.dice = random.Random(f"{number} {backend}")
        self.backend, self.here, self.far = backend, here, far
        self.kind = dice.choice(
            ["command"] * 6 + ["thread", "process", "stdout", "Pull", "Push", "batch"]
        )
        self.place = dice.choice([*PLACES])
        self.end = dice.choice(
            ENDS if self.kind != "thread" else ["exit 1", "kill -9 $$", "kill -9 $PPID"]
        )
        self.journal = dice.random() < 0.5 or "PPID" in self.end
        self.runs, self.retries = dice.choice(
            [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0)]
        )
        self.is_there = dice.random() < 0.5
        self.others: set[str] = set()
        self.said: list[str] = []

    def fill(self) -> None:
        """Write the files of others; each has a text that is nowhere else."""
        for folder in (self.here / "dir", self.here / "data", self.far):
            folder.mkdir(parents=True, exist_ok=True)
        (self.here / "far").symlink_to(self.far)
        (self.here / "to file").symlink_to("data/file")
        (self.here / "to tree").symlink_to(self.far)
        for name in (
            "dir/old",
            "far/old",
            "dir/sub/old",
            "stray",
            *self.dice.sample(self.asides(), 3),
        ):
            self.write(name)
        target = self.here / PLACES[self.place]
        if self.is_there and not target.is_dir():
            self.write(PLACES[self.place])
        elif not self.is_there and self.place == "dir":
            self.others -= {text for text in self.others if "-dir/" in text}
            shutil.rmtree(target)

    def asides(self) -> list[str]:
        """Return what has the name to which something may be renamed."""
        files = ["out", "dir", "dir/out", "data/file", "far/out"]
        return [*(f"{name}.partial" for name in files), "out.partial-2", "out.before"]

    def write(self, name: str) -> None:
        text = f"#older-{len(self.others)}-{name}\n"
        (self.here / name).parent.mkdir(parents=True, exist_ok=True)
        (self.here / name).write_text(text)
        self.others.add(text[1:-1])

    def run(self, caught: list[str]) -> None:
        """Run the job as often as the draw says; a conductor that is killed has a process of its own."""
        for number in range(self.runs):
            if "PPID" in self.end and self.kind in KILLING:
                code = f"from tests.jobs.test_older_files import run_one; run_one(*{self.arguments(number)!r})"
                found = python("-c", code, cwd=ROOT, text=True)
                caught += (found.stderr or "").splitlines()
            else:
                self.run_once(number)

    def arguments(self, number: int) -> tuple[Any, ...]:
        return (*self.identity, str(self.here), str(self.far), number)

    identity: tuple[int, str]

    def run_once(self, number: int) -> None:
        dice = random.Random(f"{self.identity} {number}")
        os.chdir(self.here)
        target, name = self.here / PLACES[self.place], self.place.replace(" ", "\\ ")
        is_directory = target.is_dir() or self.place in ("dir", "to tree")
        codes = ["test -d {0} || mkdir {0}", *dice.sample(INSIDE, 3)]
        codes = (
            codes
            if is_directory
            else [*dice.sample(IN_PLACE, 1), *dice.sample(ANEW, 1)]
        )
        code = "; ".join(
            f"{{ {code.replace('{}', '{0}').format(name, '$$')}; }} 2>&-"
            for code in codes
        )
        options: dict[str, Any] = {
            "retry": Retry(self.retries, first=0),
            "label": "job",
            "log": False,
        }
        if self.kind == "stdout":
            job: Any = CommandJob(
                f"echo line; {self.end}",
                shell=True,
                stdout="dir/log",
                timeout=0.1,
                **options,
            )
        elif self.kind == "batch":
            journal = ["--journal", "run.db", "--keep", "all"] if self.journal else []
            words = [
                *journal, "--retries", f"{self.retries + 1}", "--results", "{}", f"echo new; {self.end}", ":::",
                self.place,
            ]  # fmt: skip
            done = python(
                "-m",
                "trioflow",
                "batch",
                "--timeout",
                "0.1",
                *words,
                cwd=self.here,
                text=True,
            )
            assert done.returncode
            self.said += done.stderr.splitlines()
            return
        elif self.kind in ("thread", "process"):
            timeout = 0.3 if self.end == "sleep 100" else None
            kind: Any = ThreadJob if self.kind == "thread" else ProcessJob
            job = kind(
                call_shell,
                f"{code}; {self.end}",
                writes=[self.place],
                timeout=timeout,
                **options,
            )
        elif self.kind == "command":
            timeout = 0.1 if self.end == "sleep 100" else None
            line = f"{code}; {self.end}"
            job = CommandJob(
                line,
                shell=True,
                writes=[self.place],
                timeout=timeout,
                terminate_grace=0.02,
                **options,
            )
        else:
            source = self.here.with_name("source")
            source.mkdir(exist_ok=True)
            (source / "half").write_text("copied\n")
            step = (Pull if self.kind == "Pull" else Push)(
                f"{source}/half", f"{source}/none", to=f"{self.here}/dir/"
            )
            job = SshJob(LocalNode(), [step], **options)
        assert not Scheduler(job, log=False).run(
            backend=self.backend, journal="run.db" if self.journal else None
        )

    # ---- what is there afterwards

    def files(self) -> Iterator[tuple[Path, str]]:
        for top in (
            self.here,
            self.far,
            self.far.with_name(f"{self.far.name}.partial"),
        ):
            for path in top.rglob("*"):
                if (
                    path.is_file()
                    and not path.is_symlink()
                    and not path.name.startswith("run.db")
                ):
                    yield path, path.read_text()

    def faults(self, lines: list[str]) -> list[str]:
        found = [*self.files()]
        texts = "".join(text for _, text in found)
        faults = [f"{text} is in no file" for text in self.others if text not in texts]
        was_killed = "PPID" in self.end and self.kind in KILLING
        for path, text in found:
            is_aside = re.search(ASIDE, str(path)) is not None
            is_half = "half-" in text and "older-" not in text
            if is_half and not is_aside and not was_killed:
                faults.append(f"{path} is half-written")
            was_there = re.search(ASIDE, text.rstrip()) is not None
            is_moved = is_aside and "#older" in text and not was_there
            if is_moved and "more likewise" not in "".join(lines):
                names = [path.name, *(parent.name for parent in path.parents)]
                if not any(
                    "is now" in line and any(f"{name}'" in line for name in names)
                    for line in lines
                ):
                    faults.append(f"{path} was renamed without a word")
        return faults


def run_one(number: int, backend: str, here: str, far: str, run: int) -> None:
    """Run the job of a draw in this process, which it kills."""
    make(number, backend, Path(here), Path(far)).run_once(run)


def make(number: int, backend: str, here: Path, far: Path) -> Draw:
    draw = Draw(number, backend, here, far)
    draw.identity = number, backend
    return draw


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on another file system, if there is one."""
    shared = Path("/dev/shm")
    is_other = shared.is_dir() and shared.stat().st_dev != tmp_path.stat().st_dev
    with tempfile.TemporaryDirectory(
        dir=shared if is_other else ("/var/tmp" if os.path.isdir("/var/tmp") else None)
    ) as place:
        yield Path(place)


def compare(
    draws: range,
    backend: str,
    tmp_path: Path,
    elsewhere: Path,
    caplog: pytest.LogCaptureFixture,
) -> list[str]:
    found: list[str] = []
    before = os.getcwd()
    for number in draws:
        here, far = tmp_path / f"{number}" / "here", elsewhere / f"{number}" / "far"
        here.mkdir(parents=True)
        draw = make(number, backend, here, far)
        draw.fill()
        caplog.clear()
        lines: list[str] = []
        try:
            with caplog.at_level(logging.WARNING, "trioflow"):
                draw.run(lines)
        finally:
            os.chdir(before)
        faults = draw.faults(
            [*lines, *draw.said, *(record.getMessage() for record in caplog.records)]
        )
        if faults:
            found.append(
                f"draw {number} on {backend}, {vars(draw)}: {faults}; {caplog.messages} {lines}"
            )
        else:
            shutil.rmtree(here.parent)
            shutil.rmtree(far.parent)
    return found


@pytest.mark.parametrize("draws", DRAWS, ids=["few", "more"])
def test_older_bytes_survive_failures(
    tmp_path: Path,
    elsewhere: Path,
    backend: str,
    caplog: pytest.LogCaptureFixture,
    draws: range,
) -> None:
    """Each older byte is in some file, each move is a line of the log, and nothing half-written keeps its name."""
    assert compare(draws, backend, tmp_path, elsewhere, caplog) == []


def test_a_service_that_the_run_ends_keeps_its_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A service SUCCEEDED when the run ended it, and yet its log was taken for half-written."""
    monkeypatch.chdir(tmp_path)
    line = "echo x > log; echo ready; exec sleep 100"
    service = trioflow.CommandService(
        line,
        shell=True,
        ready=OutputLine("ready"),
        stdout=subprocess.PIPE,
        writes="log",
        terminate_grace=0.1,
    )
    with caplog.at_level(logging.WARNING, "trioflow"):
        assert Scheduler(service, CommandJob(["true"], required=service)).run(
            backend=backend
        )
    assert (os.listdir(), caplog.messages, service.is_succeeded()) == (
        ["log"],
        [],
        True,
    )


@pytest.mark.parametrize("is_same", [True, False])
def test_earlier_job_owns_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, is_same: bool
) -> None:
    """In the second run of a program, half of a file kept its name, since a job of the first one had written it."""
    monkeypatch.chdir(tmp_path)
    line = "if test -e again; then echo half > out; exit 1; fi; echo the whole > out; touch again"

    def make() -> Scheduler:
        first = CommandJob(line, shell=True, writes="out", label="first", log=False)
        return Scheduler(
            first,
            CommandJob("echo more >> out", shell=True, writes="out", required=first),
            log=False,
        )

    scheduler, other = make(), make()
    assert scheduler.run(backend=backend)
    assert not (scheduler if is_same else other).run(backend=backend)
    assert (sorted(os.listdir()), Path("out.partial").read_text()) == (
        ["again", "out.partial"],
        "half\n",
    )


@pytest.mark.parametrize("again", ["throttled", "retried", "its group retried"])
def test_a_file_of_another_job_changed_again_stays(backend: str, again: str) -> None:
    """When its first attempt did not count, as after `Throttled`, a job was taken for the one that made the file."""
    texts = ["four", "two"]

    def change() -> None:
        put("out", texts.pop(0))
        raise (
            trioflow.Throttled("api", after=0)
            if again == "throttled" and texts
            else OSError
        )

    make = ThreadJob(put, "out", "the whole", writes="out")
    change_it = ThreadJob(
        change, writes="out", needs={"api": 1}, retry=int(again == "retried"), log=False
    )
    group = Scheduler(
        change_it, required=make, retry=int(again == "its group retried"), log=False
    )
    assert not Scheduler(make, group, pool=trioflow.Pool(api=1), log=False).run(
        backend=backend
    )
    assert (os.listdir(), Path("out").read_text()) == (["out"], "two")


def placed(job: Any, place: str) -> Any:
    return Scheduler(job) if place == "in groups" else job


@pytest.mark.parametrize("place", ["alone", "in groups", "in a directory"])
def test_a_file_of_a_job_that_was_dropped_stays(backend: str, place: str) -> None:
    """With `keep_jobs=False`, a job that nothing requires is freed: what it had made once counted as nobody's."""
    name = "made/out" if place == "in a directory" else "out"

    async def make() -> None:
        put(name, "the whole")

    async def change() -> None:
        if place == "in a directory":
            is_begun.set()
            await is_made.wait()
        else:
            put("out", "two")
        raise OSError

    async def program() -> None:
        nonlocal is_begun, is_made, scheduler
        is_begun = anyio.Event()
        is_made = anyio.Event()
        async with Scheduler(keep_jobs=False, log=False) as scheduler:
            output = os.path.dirname(name) or name
            changed = Job(change, writes=output, log=False, retry=1)
            if place == "in a directory":
                scheduler.add(placed(changed, place))
                await is_begun.wait()
                os.mkdir("made")
            await scheduler.add(placed(Job(make, writes=name), place))
            gc.collect()
            is_made.set()
            if place != "in a directory":
                scheduler.add(placed(changed, place))

    is_begun: Any = None
    is_made: Any = None
    scheduler: Any = None
    with pytest.raises(ExceptionGroup):
        anyio.run(program, backend=backend)
    assert Path(name).exists()
    assert not any(".partial" in found for found in os.listdir())


@pytest.mark.parametrize("place", ["alone", "in groups"])
def test_a_file_stays_whose_job_is_dropped_as_another_changes_it(
    backend: str, place: str
) -> None:
    """The job was known by a reference to it, which the run drops: what it had made counted as nobody's."""

    async def make() -> None:
        put("out", "the whole")
        is_made.set()
        await is_begun.wait()

    async def change() -> None:
        is_begun.set()
        await is_dropped.wait()
        put("out", "two")
        raise OSError

    async def program() -> None:
        nonlocal is_made, is_begun, is_dropped
        is_made, is_begun, is_dropped = anyio.Event(), anyio.Event(), anyio.Event()
        async with Scheduler(keep_jobs=False, log=False) as scheduler:
            making = Job(make, writes="out")
            made = scheduler.add(placed(making, place))
            await is_made.wait()
            changed = Job(change, writes="out", log=False, retry=1)
            scheduler.add(placed(changed, place))
            await made
            references.append(weakref.ref(making))
            del made, making
            gc.collect()
            is_dropped.set()

    is_made: Any = None
    is_begun: Any = None
    is_dropped: Any = None
    references: list[weakref.ref[Job[Any]]] = []
    with pytest.raises(ExceptionGroup):
        anyio.run(program, backend=backend)
    assert [reference() for reference in references] == [None]
    assert (os.listdir(), Path("out").read_text()) == (["out"], "two")


def test_only_the_last_files_of_dropped_jobs_are_known(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as the bound, and one more: a run that adds jobs for a year needs no memory for all their files."""
    monkeypatch.setattr(_user_files, "MAX_MADE_FILES", 100)

    async def make(number: int) -> None:
        _user_files.claim(
            trioflow.current_job(), [f"out-{each}" for each in range(number)]
        )

    async def change() -> None:
        job: Any = trioflow.current_job()
        _user_files.claim(job, ["out-1", "out-0"])
        taken = _user_files._taken_over.get(job, {})
        texts.append(sorted(map(os.path.basename, taken)))

    async def program(number: int) -> None:
        async with Scheduler(keep_jobs=False) as scheduler:
            await scheduler.add(Job(make, number))
            gc.collect()
            await scheduler.add(Job(change))

    texts: list[list[str]] = []
    for more in (0, 1):
        anyio.run(program, _user_files.MAX_MADE_FILES + more, backend=backend)
    assert texts == [["out-0", "out-1"], ["out-1"]]


def test_a_directory_with_a_file_of_a_throttled_job_stays(backend: str) -> None:
    """The job that had made the directory failed meanwhile."""
    is_made, is_throttled = anyio.Event(), anyio.Event()

    async def make_directory() -> None:
        os.mkdir("made")
        is_made.set()
        await is_throttled.wait()
        raise OSError

    async def make() -> None:
        await is_made.wait()
        put("made/out", "one")

    async def change() -> None:
        put("made/out", "two")
        if not is_throttled.is_set():
            is_throttled.set()
            scheduler.pause()
            raise trioflow.Throttled("api", after=0)

    directory = Job(make_directory, writes="made", log=False)
    made = Job(make, writes="made/out")
    changed = Job(change, writes="made/out", needs={"api": 1}, required=made)
    scheduler = Scheduler(
        directory, made, changed, pool=trioflow.Pool(api=1), log=False,
        on_job_settled=lambda job: scheduler.resume() if job is directory else None,
    )  # fmt: skip
    assert not scheduler.run(backend=backend)
    assert (changed.is_succeeded(), os.listdir(), Path("made/out").read_text()) == (
        True,
        ["made"],
        "two",
    )


@pytest.mark.parametrize("spelling", ["out", "./out", "folder/../out", "link"])
def test_a_file_also_read_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, spelling: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("link").symlink_to("out")
    job = CommandJob(
        "echo half > out; exit 1",
        shell=True,
        writes=["out"],
        reads=[spelling],
        log=False,
    )
    assert not Scheduler(job).run(backend=backend)
    assert sorted(os.listdir()) == ["folder", "link", "out"]


CHANGES = {
    "none": "true",
    "added": "echo '#theirs' >> out.partial/old",
    "new": "echo '#theirs' > out.partial/new",
    "removed": "rm out.partial/old; echo '#theirs' > out.partial/other",
    "another": "rm -r out.partial; echo '#theirs' > out.partial",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_others_did_to_what_was_set_aside_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, change: str
) -> None:
    """The next attempts replace what the job has set aside, but not what has changed since, which has its name."""
    monkeypatch.chdir(tmp_path)
    calls = [change, "none"]

    def fail() -> None:
        Path("out").mkdir()
        Path("out/old").write_text("#half")
        raise OSError

    def changes(_: BaseException) -> bool:
        call_shell(CHANGES[calls.pop(0)])
        return True

    job = ThreadJob(fail, writes="out", retry=Retry(2, first=0, on=changes), log=False)
    assert not Scheduler(job).run(backend=backend)
    texts = [path.read_text() for path in Path().rglob("*") if path.is_file()]
    is_changed = change != "none"
    assert sorted(os.listdir()) == ["out.partial", *["out.partial-2"] * is_changed]
    assert sum("#theirs" in text for text in texts) == is_changed


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.both_backends
def test_older_bytes_survive_failures_in_two_thousand_draws(
    tmp_path: Path, elsewhere: Path, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert compare(range(2000), backend, tmp_path, elsewhere, caplog) == []


# --- A name that a job gives is met by a file, or somebody says so
@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory of its own."""
    monkeypatch.chdir(tmp_path)


def put(name: str, text: str) -> None:
    Path(name).write_text(text)


async def write(name: str) -> None:
    put(name, "new")


async def replace(name: str) -> None:
    put("other", "old")
    os.utime("other", ns=(1, os.stat(name).st_mtime_ns))
    os.replace("other", name)


def logged(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if words in record.getMessage()
    ]


@pytest.mark.both_backends
@pytest.mark.parametrize(
    ("function", "name", "writes", "is_named"),
    [
        (write, "reports.txt", "report.txt", True),
        (write, "report.txt", "report.txt", False),
        (replace, "report.txt", "report.txt", False),
        (write, "new.txt", "new.txt", False),
        (write, "folder/new", "folder", False),
        (write, "new.txt", "folder", True),
    ],
)
def test_an_output_that_was_there_and_is_not_touched_is_named(
    backend: Any,
    function: Any,
    name: str,
    writes: str,
    is_named: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A step that wrote another file than it said was green, and the next step read the file of yesterday."""
    Path("report.txt").write_text("old")
    Path("folder").mkdir()
    Path("folder/old").write_text("old")
    assert Scheduler(Job(function, name, writes=writes, label="step")).run(
        backend=backend
    )
    assert (
        len(logged(caplog, "was there before, and 'step' has not touched it"))
        == is_named
    )


@pytest.mark.both_backends
def test_a_link_counts_as_an_output_before_its_target_is_there(backend: Any) -> None:
    """A link that was made before its target was set aside, and its user blocked."""
    link = CommandJob(["ln", "-s", "lld", "lld-link"], writes="lld-link", label="link")
    target = Job(write, "lld", writes="lld", required=link, label="lld")
    assert Scheduler(link, target).run(backend=backend)
    assert Path("lld-link").read_text() == "new"


def test_an_input_that_is_not_there_and_that_no_job_writes_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A typo in reads= was silent: the absence of a file counts, too, and the change of the right one does not."""
    Path("orders.csv").write_text("1")
    makes = Job(write, "made.csv", writes="made.csv", label="make")
    logs = CommandJob(["true"], stdout="log.txt", label="logs")
    load = Job(
        write, "loaded", required=(makes, logs), label="load",
        reads=["order.csv", "orders.csv", "made.csv", "log.txt", "*.tsv"],
    )  # fmt: skip
    scheduler = Scheduler(makes, logs, load)
    text = "'load' reads 'order.csv', which is not there and which no job writes"
    assert [*notes(scheduler, starts=True)] == [text]
    assert scheduler.run()
    assert logged(caplog, "which is not there") == [text]
