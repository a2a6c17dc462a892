"""Scenarios and command lines that a seed draws, of which one thing changes between a run and the next.

A law says that an identity in a journal means all that it should: what a resumed run gives is what a run without a
journal gives, in a copy of the same directory. Some changes are not seen by design, which the page on journals lists:
then each thing that can be seen of the run is right, or as if this change, and nothing else, had not been made, here
or in what it was made of.

Run: python -m tests.journal.test_changes [--count N] [--first SEED]."""

import argparse
import contextlib
import dataclasses
import functools
import logging
import os
import random
import shutil
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from unittest import mock
import anyio
import pytest
from trioflow import CommandJob, First, Job, Scheduler
from trioflow.journal._store import JournalStore, read_with_retry
from ..cli.command_line import trioflow

SHARE_OF_LINES: Final = 5
"""One draw of so many is a command line of `trioflow batch`; the others are scenarios."""


class Design(NamedTuple):
    """A change that may stay unseen."""

    name: str
    edit: tuple[str, str] | None = ("", "")
    """What the change makes of a text in what can be seen, and this text; None if it is a change of files."""


Seen = dict[str, str]
"""All that can be seen of a run, by name."""


class Drawn(Protocol):
    change: str
    design: Design | None

    def prepare(self, world: Path) -> None:
        """Create the files that there are before the first run."""

    def touch(self, world: Path, journal: Path | None) -> None:
        """Change what is outside of the program, and forget in the journal what a user has to."""

    def run(self, world: Path, changed: bool, journal: Path | None) -> tuple[Seen, int]:
        """Run in this directory, and return all that can be seen of it, and the number of restored jobs."""


class Compared(NamedTuple):
    """A resumed run, and what differs between it and one without a journal."""

    change: str
    restored: int
    unseen: str
    """The design because of which a change was not seen."""
    difference: str


def compare(seed: int, place: Path) -> Compared:
    """Draw by this seed, run, change one thing, resume, and compare with a run without a journal."""
    drawn: Drawn = (
        DrawnLine(seed) if seed % SHARE_OF_LINES == 0 else DrawnScenario(seed)
    )
    world, copy, former, journal = (
        place / "world",
        place / "copy",
        place / "former",
        place / "run.db",
    )
    world.mkdir(parents=True)
    drawn.prepare(world)
    shutil.copytree(world, former, symlinks=True)
    drawn.run(world, False, journal)
    shutil.copytree(world, copy, symlinks=True)
    drawn.touch(world, journal)
    drawn.touch(copy, None)
    found, restored = drawn.run(world, True, journal)
    right, _ = drawn.run(copy, True, None)
    wrong = {
        name
        for name in found.keys() | right.keys()
        if found.get(name) != right.get(name)
    }
    unseen = ""
    if wrong and drawn.design is not None:
        unseen = drawn.design.name
        new_text, old_text = drawn.design.edit or ("", "")
        old, _ = drawn.run(former, drawn.design.edit is None, None)
        wrong = {
            name
            for name in wrong
            if found.get(name) != old.get(name)
            and found.get(name, "").replace(new_text, old_text) != old.get(name)
        }
    shutil.rmtree(place)
    lines = [
        f"{name} is {found.get(name)!r}, but without a journal {right.get(name)!r}"
        for name in sorted(wrong)
    ]
    return Compared(
        drawn.change,
        restored,
        unseen,
        f"seed {seed}, {drawn.change}: {'; '.join(lines)}" if wrong else "",
    )


def compare_all(seeds: Iterable[int], place: Path) -> list[Compared]:
    logging.disable()  # scenarios fail, and have results that cannot be stored
    try:
        return [compare(seed, place / "draw") for seed in seeds]
    finally:
        logging.disable(logging.NOTSET)


def summary(compared: Iterable[Compared]) -> str:
    """Return how many draws there were of each change, and in how many the change was not seen, by design."""
    draws = Counter(one.change for one in compared)
    unseen = Counter((one.change, one.unseen) for one in compared if one.unseen)
    lines = [f"{change}: {number} draws" for change, number in sorted(draws.items())]
    lines += [
        f"{change}: not seen in {number}: {design}"
        for (change, design), number in sorted(unseen.items())
    ]
    return "\n".join([*lines, f"{sum(one.restored for one in compared)} jobs restored"])


# ---- scenarios: functions
class World:
    path = Path()


class Pair(NamedTuple):
    left: str
    right: str


class ReorderedPair(NamedTuple):
    right: str
    left: str


ReorderedPair.__name__ = ReorderedPair.__qualname__ = Pair.__name__


class Opaque:
    def __init__(self, text: str) -> None:
        self.text = text


def read(name: str) -> str:
    path = World.path / name
    return path.read_text() if path.exists() else "none"


def shown(value: Any) -> str:
    if hasattr(value, "left"):
        return f"left={value.left} right={value.right}"
    return (
        value.text
        if isinstance(value, Opaque)
        else value.stdout.strip()
        if hasattr(value, "stdout")
        else str(value)
    )


async def give(const: Any, names: list[str], *inputs: Any, factor: str = "x1") -> str:
    return f"{shown(const)}*{factor}({','.join(map(shown, inputs))})"


async def write(const: Any, names: list[str], *inputs: Any, factor: str = "x1") -> None:
    """Write a file, from those of the jobs before, as a query does with tables."""
    name, *before = names
    (World.path / name).write_text(
        f"{shown(const)}*{factor}[{','.join(map(read, before))}]"
    )


async def write_from_source(
    const: Any, names: list[str], *inputs: Any, factor: str = "x1"
) -> None:
    await write(f"{const} {read('source-' + names[0])}", names, *inputs, factor=factor)


async def write_and_name(
    const: Any, names: list[str], *inputs: Any, factor: str = "x1"
) -> str:
    """Write a file, and return its name, which is the same whatever is in it."""
    await write(const, names, *inputs, factor=factor)
    return names[0]


async def write_or_fail(
    const: Any, names: list[str], *inputs: Any, factor: str = "x1"
) -> None:
    if (World.path / f"broken-{names[0]}").exists():
        (World.path / names[0]).unlink(missing_ok=True)
        raise OSError("broken")
    await write(const, names, *inputs, factor=factor)


async def give_opaque(
    const: Any, names: list[str], *inputs: Any, factor: str = "x1"
) -> Opaque:
    return Opaque(
        f"{await give(const, names, *inputs, factor=factor)} {read('source-' + names[0])}"
    )


async def give_pair(
    const: Any, names: list[str], *inputs: Any, factor: str = "x1"
) -> Any:
    return Pair(left=factor, right=shown(const))


async def give_other(
    const: Any, names: list[str], *inputs: Any, factor: str = "x1"
) -> str:
    return f"other {await give(const, names, *inputs, factor=factor)}"


async def write_other(
    const: Any, names: list[str], *inputs: Any, factor: str = "x1"
) -> None:
    await write(f"other {shown(const)}", names, *inputs, factor=factor)


async def rewrite(name: str, mark: str) -> None:
    """Change a file that another job has written, once."""
    text = read(name)
    (World.path / name).write_text(text if text.endswith(mark) else text + mark)


async def lose() -> None:
    """End after all others, so that it wins only if the other job fails."""
    await anyio.sleep(0.02)


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(const: Any, *args: Any, **kwargs: Any) -> Any:
        return await function(f"wrapped {shown(const)}", *args, **kwargs)

    return wrapper


FUNCTIONS: Final[dict[str, str]] = {
    "value": "give", "write": "write", "flaky": "write_or_fail", "opaque": "give_opaque", "pair": "give_pair",
    "sourced": "write_from_source", "named": "write_and_name", "unsaved": "write",
}  # fmt: skip
OTHERS: Final = {"give": give_other, "write": write_other}
EDITS: Final = {
    "argument": ("c2", "c1"), "default": ("x2", "x1"), "function": ("other ", ""), "wrapper": ("wrapped ", ""),
    "version": ("wrapped ", ""), "session": ("w2", "w1"),
}  # fmt: skip
"""What some changes make of a text, and this text."""
CODE_CHANGES: Final = ("argument", "default", "function", "wrapper", "version")
LIST_TREE: Final = """find -L . | LC_ALL=C sort | while read -r name; do
    echo "$name"; if [ -f "$name" ]; then cat "$name"; fi
done"""


@contextlib.contextmanager
def replaced(**values: Any) -> Any:
    with mock.patch.dict(globals(), values):
        yield


async def fail() -> None:
    raise OSError("always")


async def follow() -> None:
    """Do nothing, if nothing that is required has failed."""


# ---- trees
def make_tree(root: Path) -> None:
    """Make files, directories and links at several depths; all files differ in size."""
    for name in ("v1/deep", "v2", "empty"):
        (root / name).mkdir(parents=True)
    for number, name in enumerate(("a", "v1/b", "v1/deep/c", "v2/b", "v2/d"), 1):
        (root / name).write_text("x" * number + "\n")
    for name, target in {
        "now": "v1",
        "v1/up": "../a",
        "v1/deep/other": "../../v2",
        "none": "missing",
    }.items():
        (root / name).symlink_to(target)


def change_tree(root: Path, draw: random.Random) -> None:
    """Change one entry of a tree, or swap two, at any depth."""
    entries = sorted(
        Path(place, name)
        for place, *found in os.walk(root)
        for name in [*found[0], *found[1]]
    )
    directories = [
        root,
        *(each for each in entries if each.is_dir() and not each.is_symlink()),
    ]
    entry, way = (
        draw.choice(entries),
        draw.choice(["rename", "move", "swap", "retarget", "rewrite", "remove", "add"]),
    )
    if way == "rename":
        entry.rename(entry.with_name("other"))
    elif way == "move":
        places = [
            each / entry.name for each in directories if not each.is_relative_to(entry)
        ]
        entry.rename(
            draw.choice(
                [each for each in places if not os.path.lexists(each)]
                or [root / "other"]
            )
        )
    elif way == "swap":
        apart = [
            each
            for each in entries
            if not each.is_relative_to(entry) and not entry.is_relative_to(each)
        ]
        other, aside = draw.choice(apart), root / "aside"
        entry.rename(aside)
        other.rename(entry)
        aside.rename(other)
    elif way == "retarget":
        link = draw.choice([each for each in entries if each.is_symlink()])
        target = draw.choice(
            [
                each
                for each in ("v1", "v2", "../v2", "../a", "a")
                if each != os.readlink(link)
            ]
        )
        link.unlink()
        link.symlink_to(target)
    elif way == "rewrite":
        draw.choice(
            [each for each in entries if each.is_file() and not each.is_symlink()]
        ).write_text("rewritten\n")
    elif way == "remove":
        shutil.rmtree(entry) if entry in directories else entry.unlink()
    else:
        added = draw.choice(directories) / "added"
        draw.choice(
            [
                added.mkdir,
                added.touch,
                functools.partial(added.symlink_to, "."),
                lambda: added.symlink_to("b"),
            ]
        )()


# ---- scenarios
class DrawnScenario:
    """Layers of jobs, each of which requires all of the layer before; one job is the target of the change."""

    CHANGES = (
        *CODE_CHANGES, "step", "requirement", "fields", "save", "reads", "directory", "environment", "repair",
        "source", "session", "place", "nothing", *["tree"] * 4,
    )  # fmt: skip

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        self.seed, number = seed, 0
        self.layers: list[tuple[list[tuple[int, str, str]], str]] = []
        self.between: list[
            str
        ] = []  # the state of what is after each layer; "" if nothing is
        for _ in range(draw.randint(2, 4)):
            jobs, form = [], draw.choice(["plain", "plain", "group", "first"])
            for _ in range(draw.randint(1, 3)):
                kinds = [*FUNCTIONS, "write", "named"]
                if (
                    form != "first" and draw.random() < 0.3
                ):  # who wins depends on no process
                    kinds += [*["command"] * 5, *["tree"] * 3]
                jobs.append(
                    (
                        number,
                        draw.choice(kinds),
                        draw.choice(["required", "input", "input"]),
                    )
                )
                number += 1
            self.layers.append((jobs, form))
            self.between.append(draw.choice(["", "", "skipped", "blocked"]))
        self.kinds = {n: kind for jobs, _ in self.layers for n, kind, _ in jobs}
        self.forms = {n: form for jobs, form in self.layers for n, _, _ in jobs}
        self.broken = {
            n
            for n, kind in self.kinds.items()
            if kind == "flaky" and draw.random() < 0.7
        }
        targets: list[int] = []
        while not targets:
            self.change = draw.choice(self.CHANGES)
            targets = [n for n in self.kinds if self.can_change(n)]
        self.target = draw.choice(targets)
        self.design = self.find_design()

    def can_change(self, n: int) -> bool:
        kind = self.kinds[n]
        kinds = {
            "function": ("value", "write", "unsaved"), "requirement": ("sourced", "command"), "fields": ("pair",),
            "save": ("value",), "reads": ("command",), "directory": ("command",), "environment": ("command",),
            "source": ("sourced",), "session": ("command",), "tree": ("tree",), "place": ("value", "write"),
            "argument": (*FUNCTIONS, "command"),
        }.get(self.change)  # fmt: skip
        if self.change in ("default", "wrapper", "version"):
            return kind in FUNCTIONS
        if self.change == "place":
            return kinds is not None and kind in kinds and self.forms[n] != "first"
        if self.change == "step":
            return n >= len(self.layers[0][0])
        if self.change == "repair":
            return n in self.broken
        return kinds is None or kind in kinds

    def find_design(self) -> Design | None:
        kind = self.kinds[self.target]
        if self.change == "session":
            return Design(
                "what env= has as the program's own environment has it",
                EDITS["session"],
            )
        if self.change == "default" and kind != "command":
            return Design(
                "the default of a function that is found by its name", EDITS["default"]
            )
        if self.change in CODE_CHANGES and kind == "unsaved":
            return Design("what a job with save=None does", EDITS[self.change])
        if self.target in self.broken and self.forms[self.target] == "first":
            if self.change in CODE_CHANGES:
                return Design("a loser of a First that is decided")
            if self.change == "repair":
                return Design("a loser of a First that is decided", edit=None)
        return None

    def prepare(self, world: Path) -> None:
        for directory in ("one", "two"):
            (world / directory).mkdir()
            (world / directory / "here").write_text(directory)
        for n, kind in self.kinds.items():
            (world / f"source-{n}").write_text("s1")
            if kind == "tree":
                make_tree(world / f"tree-{n}")
        for n in self.broken:
            (world / f"broken-{n}").touch()

    def touch(self, world: Path, journal: Path | None) -> None:
        kind, n = self.kinds[self.target], self.target
        if self.change == "repair":
            (world / f"broken-{n}").unlink(missing_ok=True)
        if self.change == "tree":
            change_tree(world / f"tree-{n}", random.Random(self.seed))
        if self.change == "reads" and kind == "command":
            (world / f"source-{n}").write_text("s22")
        if (
            self.change == "source" and kind == "sourced"
        ):  # files that a function reads do not count
            (world / f"source-{n}").write_text("s2")
            if journal is not None:
                with contextlib.closing(JournalStore(journal, writes=True)) as store:
                    paths = [record.path for record in store.job_records()]
                    store.forget(path for path in paths if path.endswith(f"job {n}"))

    def run(self, world: Path, changed: bool, journal: Path | None) -> tuple[Seen, int]:
        World.path = world
        session = "w2" if changed and self.change == "session" else "w1"
        with contextlib.ExitStack() as edits:
            edits.enter_context(mock.patch.dict(os.environ, {"SESSION": session}))
            if changed and self.change == "fields":
                edits.enter_context(replaced(Pair=ReorderedPair))
            if (
                changed
                and self.change == "default"
                and self.kinds[self.target] != "command"
            ):
                name = FUNCTIONS[self.kinds[self.target]]
                edits.enter_context(
                    replaced(**{name: with_other_default(globals()[name])})
                )
            scheduler, seen = self.build(changed)
            scheduler.run(
                backend="trio" if self.seed % 2 else "asyncio", journal=journal
            )
        visible = {
            f"job {n}": shown(job.result()) if job.is_succeeded() else "-"
            for n, job in seen.items()
        }
        visible |= {
            f"file {path.name}": path.read_text()
            for path in world.iterdir()
            if path.name.isdigit()
        }
        return visible, sum(job.restored for job in scheduler.iterate_jobs())

    def build(self, changed: bool) -> tuple[Scheduler, dict[int, Any]]:
        members: list[Any] = []
        seen: dict[int, Any] = {}
        before: list[tuple[int, Any]] = []
        gates: list[Any] = []  # what the next layer requires
        for (jobs, form), state in zip(self.layers, self.between, strict=True):
            has_inputs = gates == [job for _, job in before]
            layer: list[Any] = [
                self.make_job(n, how if has_inputs else "", before, changed)
                for n, _, how in jobs
            ]
            numbers = [n for n, _, _ in jobs]
            seen |= zip(numbers, layer, strict=True)
            if form == "first":
                layer = [
                    First(
                        job,
                        Job(lose, label=f"slow {n}"),
                        label=f"race {n}",
                        critical=False,
                    )
                    for n, job in zip(numbers, layer, strict=True)
                ]
                seen |= zip(
                    numbers, layer, strict=True
                )  # the jobs in a restored one are idle
            if changed and self.change == "place" and self.target in numbers:
                place = numbers.index(self.target)
                layer[place] = Scheduler(layer[place], label="x", critical=False)
            outer: list[Any] = layer
            if form == "group":
                outer = [Scheduler(*layer, label=f"group {numbers[0]}", critical=False)]
                layer = outer * len(numbers)
            for item in outer:
                item.requires(
                    *(gate for gate in gates if gate not in item._inputs), settled=True
                )
            members += outer
            if changed and self.target in numbers:
                members += self.extra_steps(
                    before, layer[numbers.index(self.target)], outer
                )
            before = list(zip(numbers, layer, strict=True))
            gates = layer
            if state:
                run_if: Any = {"run_if": "failed"} if state == "skipped" else {}
                gates = [
                    Job(follow, label=f"after {numbers[0]}", critical=False, **run_if)
                ]
                gates[0].requires(*layer, settled=True)
                members += gates
                if state == "blocked":
                    members.append(
                        Job(fail, label=f"stop {numbers[0]}", critical=False)
                    )
                    gates[0].requires(members[-1])
        return Scheduler(*members, label="law"), seen

    def extra_steps(
        self, before: list[tuple[int, Any]], target: Any, layer: list[Any]
    ) -> list[Any]:
        """Return a step between two layers, or one that the target alone requires."""
        if self.change == "step" and before:
            steps, users = [Job(rewrite, str(before[0][0]), "+m", label="step")], layer
        elif self.change == "requirement" and self.kinds[self.target] in (
            "sourced",
            "command",
        ):
            steps, users = (
                [Job(rewrite, f"source-{self.target}", "+m", label="step")],
                [target],
            )
        else:
            return []
        for step in steps:
            step.requires(*(job for _, job in before), settled=True)
            for user in users:
                user.requires(step)
        return steps

    def make_job(
        self, n: int, how: str, before: list[tuple[int, Any]], changed: bool
    ) -> Any:
        kind, change = (
            self.kinds[n],
            self.change if changed and n == self.target else "",
        )
        const: Any = "c2" if change == "argument" else "c1"
        options: dict[str, Any] = {"label": f"job {n}", "critical": False}
        is_placed = self.change == "place" and n == self.target
        if is_placed:  # a label that reads like a path, then this path
            options |= {"key": "today", "label": f"job {n}" if change else f"x/job {n}"}
            const = "c2" if change else "c1"
        if kind == "tree":
            tree = World.path / f"tree-{n}"
            return CommandJob(
                ["sh", "-c", LIST_TREE], cwd=tree, reads=[tree], stdout=-1, **options
            )
        if kind == "command":
            source = World.path / f"source-{n}"
            line = f"cat here ../{source.name}; echo {const} $LAW $SESSION"
            env = {**os.environ, "LAW": "e2" if change == "environment" else "e1"}
            directory = World.path / ("two" if change == "directory" else "one")
            return CommandJob(
                ["sh", "-c", line],
                cwd=directory,
                env=env,
                reads=[source],
                stdout=-1,
                **options,
            )
        function: Any = globals()[FUNCTIONS[kind]]
        if change == "function":
            function = OTHERS.get(FUNCTIONS[kind], function)
        if change in ("wrapper", "version"):
            function = wrapped(function)
        if change == "version":
            options["version"] = 2
        if kind == "unsaved" or (change == "save" and kind == "value"):
            options["save"] = None
        if kind == "pair":
            const = Pair("a", const)
        takes_inputs = how == "input" and self.forms[n] == "plain"
        hidden = {
            m
            for m, form in self.forms.items()
            if form == "group" or self.kinds[m] == "flaky"
        }
        if self.change == "place":
            hidden.add(self.target)
        inputs = [job for m, job in before if m not in hidden and takes_inputs]
        return Job(
            function, const, [str(n), *(str(m) for m, _ in before)], *inputs, **options
        )


def with_other_default(function: Any) -> Any:
    copy = types.FunctionType(function.__code__, globals(), function.__name__)
    copy.__kwdefaults__ = {"factor": "x2"}
    return copy


# ---- command lines


MENDED: Final = "if [ -e mended-{1} ]; then echo {}; else exit 3; fi"
TRIED: Final = "if [ -e tried-{1} ]; then echo {}; else : > tried-{1}; exit 4; fi"
UNLIMITED: Final = '[ "$(ulimit -v)" = unlimited ] || exit 5; echo {}'
ENVIRONMENT: Final = "echo $LAW {}"


@dataclasses.dataclass
class Line:
    """A command line of `trioflow batch`."""

    command: str
    arguments: list[str]
    options: dict[str, str | None]
    directory: str = "one"
    environment: str = "e1"

    def words(self, journal: Path | None) -> list[str]:
        words = ["batch", "-k", "-j2", "--joblog", "jobs.log"]
        for name, value in self.options.items():
            if name != "--keep" or journal is not None:
                words += [name] if value is None else [name, value]
        return [
            *words,
            *(() if journal is None else ("--journal", str(journal))),
            self.command,
            ":::",
            *self.arguments,
        ]


class DrawnLine:
    COMMANDS = (
        "echo {}",
        "cat {}",
        "cat {} missing 2>&1",
        MENDED,
        TRIED,
        UNLIMITED,
        ENVIRONMENT,
    )
    CHANGES = (
        "argument",
        "command",
        "directory",
        "environment",
        "order",
        "repair",
        "nothing",
        *["option"] * 5,
    )
    OPTIONS: Final[dict[str, str | None]] = {
        "--keep": "all", "--tag": None, "-N": "2", "--xargs": None, "--retries": "2", "--memory-limit": "64G",
        "--pin": None, "--results": "saved", "--needs": "cpu=1", "--timeout": "1000",
    }  # fmt: skip
    EXCLUSIVE = ("-N", "--xargs")
    AS_OUTCOME = ("--retries", "--memory-limit", "--pin", "--needs")
    """The options that a kept failure counts."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        arguments = draw.sample("abcd", draw.randint(2, 3))
        options = {
            name: value for name, value in self.OPTIONS.items() if draw.random() < 0.3
        }
        if "-N" in options:
            options.pop("--xargs", None)
        self.change = draw.choice(self.CHANGES)
        commands = {"environment": ENVIRONMENT, "repair": MENDED, "directory": "cat {}"}
        command = draw.choice(
            [*self.COMMANDS, *[commands.get(self.change, TRIED)] * len(self.COMMANDS)]
        )
        self.line = Line(command, arguments, options)
        self.number = draw.randrange(len(arguments))
        self.option = draw.choice([*self.OPTIONS])
        self.other_command = draw.choice(self.COMMANDS)
        self.design = self.find_design()
        if self.change == "option":
            self.change = f"option {self.option}"

    def changed_line(self) -> Line:
        line = self.line
        arguments, options = [*line.arguments], {**line.options}
        if self.change == "argument":
            arguments[self.number] = "e"
        if self.change == "order":
            arguments.reverse()
        if self.change.startswith("option"):
            if self.option in options:
                del options[self.option]
            else:
                if self.option in self.EXCLUSIVE:
                    options = {
                        name: value
                        for name, value in options.items()
                        if name not in self.EXCLUSIVE
                    }
                options[self.option] = self.OPTIONS[self.option]
        return Line(
            self.other_command if self.change == "command" else line.command,
            arguments,
            options,
            "two" if self.change == "directory" else "one",
            "e2" if self.change == "environment" else "e1",
        )

    def find_design(self) -> Design | None:
        old, new = self.line, self.changed_line()
        if self.change == "environment" and old.command == ENVIRONMENT:
            return Design("the environment of a batch")
        if (
            old.command == UNLIMITED
            and "--memory-limit" in new.options.keys() - old.options.keys()
        ):
            return Design("a success under other limits")
        is_kept = "--keep" in old.options and "--keep" in new.options
        differs = any(
            (name in old.options) is not (name in new.options)
            for name in self.AS_OUTCOME
        )
        if is_kept and old.command == new.command in (MENDED, TRIED) and not differs:
            return Design("a failure that --keep all keeps", edit=None)
        return None

    def prepare(self, world: Path) -> None:
        for directory in ("one", "two"):
            (world / directory).mkdir()
            for name in "abcde":
                (world / directory / name).write_text(f"{name} in {directory}\n")

    def touch(self, world: Path, journal: Path | None) -> None:
        if self.change == "repair":
            (world / "one" / f"mended-{self.line.arguments[self.number]}").touch()

    def run(self, world: Path, changed: bool, journal: Path | None) -> tuple[Seen, int]:
        line = self.changed_line() if changed else self.line
        environment = {"LAW": line.environment, "PARALLEL_SHELL": "/bin/sh"}
        with (
            contextlib.chdir(world / line.directory),
            mock.patch.dict(os.environ, environment),
        ):
            done = trioflow(*line.words(journal))
            assert done.exit_code != 255, done.output
            visible: Seen = {
                f"file {path}": path.read_text()
                for path in Path("saved").rglob("*")
                if path.is_file()
            }
            rows = [
                row.split("\t") for row in Path("jobs.log").read_text().splitlines()
            ]
        visible |= {f"exit code of {row[-1]}": row[6] for row in rows}
        visible |= {
            f"line {line}": str(number)
            for line, number in Counter(done.stdout.splitlines()).items()
        }
        restored = 0
        if journal is not None:
            runs, records = read_with_retry(
                journal, lambda store: (store.run_records(), list(store.job_records()))
            )
            restored = sum(record.restored == runs[-1].id for record in records)
        return visible, restored


pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the commands are those of a POSIX shell"
)
MANY = pytest.param(range(5000), marks=[pytest.mark.soak, pytest.mark.timeout(3600)])
DRAWS = [range(5), pytest.param(range(5, 20), marks=pytest.mark.ci), MANY]
"""A few draws, more in CI, and five thousand of scenarios and command lines, which take long."""


@pytest.mark.parametrize("draws", DRAWS, ids=["few", "more", "all"])
def test_a_resumed_run_gives_what_a_run_without_a_journal_gives(
    tmp_path: Path, draws: range
) -> None:
    """One thing changes, and nothing stale comes from the journal, but by a design that the pages name."""
    compared = compare_all(draws, tmp_path)
    print(summary(compared))
    assert [one.difference for one in compared if one.difference] == []
    assert sum(one.restored for one in compared) > len(draws)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        results = compare_all(
            range(options.first, options.first + options.count), Path(directory)
        )
    print(
        summary(results),
        *(each.difference for each in results if each.difference),
        sep="\n",
    )
