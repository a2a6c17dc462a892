"""`trioflow batch` and GNU parallel compared: the same command lines, job logs and results."""

import random
from pathlib import Path

import pytest
from ..cli.command_line import trioflow
from .process import columns, gnu

pytestmark = pytest.mark.usefixtures("plain_shell")

# ruff: noqa: SIM905 - lists of so many quoted strings are hard to read
PLACES = "{} {.} {/} {//} {/.} {#} {1} {2} {1.} {2/} {1//} {2/.} {-1} {-2.} {0/} {3} {01}".split()
WORDS = ["", *"echo -n a;b $x { } {}{} {x} {+} {{}} {1//.} # | =".split(), "{ }"]
PARTS = [" ", "  ", "\t", *"a bc . .. / // .gz ' '' \" \\ $x ` * ~ é ☉ {} {1} {#} ; & - + _ = : % ! ^ \udcff".split()]
MIXED = ["printf abc; printf d >&2", "exit 7", "kill -9 $$", "kill -TERM $$", "exit 300", "no-such-program", "exit -1"]


def texts(source: random.Random, number: int) -> list[str]:
    """Generate arguments that are hard to quote, or look like paths."""
    return ["", ".", "..", "/", "//", *("".join(source.choices(PARTS, k=source.randint(1, 5))) for _ in range(number))]


def test_command_lines_of_a_dry_run_are_those_of_gnu_parallel() -> None:
    """A dry run with all replacement strings, and arguments of all kinds, prints what GNU parallel prints."""
    source = random.Random(0)
    words = ["run", *(f"{source.choice(WORDS)}{place}" for place in PLACES)]
    command = ["--dry-run", "-j1", "-k", "--", *words, ":::", *texts(source, 20), ":::+", *texts(source, 20)]
    ours, theirs = trioflow("batch", *command), gnu(*command)
    assert (ours.stdout_bytes, ours.exit_code) == (theirs.stdout, theirs.returncode)
    assert ours.stdout_bytes


COMBINED = [
    "a=1 b=1 echo 'x y'c x1", "a=1 b=1 echo 'a;b'd x1", "a=1 b='' echo 'x y'c y1", "a=1 b='' echo 'a;b'd y1",
    "a=1 b=1 echo 'x y'c x''", "a=1 b=1 echo 'a;b'd x''", "a=1 b='' echo 'x y'c y''", "a=1 b='' echo 'a;b'd y''",
]  # fmt: skip


def test_combinations_of_sources_are_those_of_gnu_parallel() -> None:
    """Products of sources, linked sources and files are combined as by version 20221122 of GNU parallel."""
    Path("one").write_bytes(b"1\n\n")
    Path("two").write_text("x\ny\n")
    words = ["a={%}", "b={3}", "echo", "{4}{5} {2}{1}", "::::", "one", "two", "::::+", "one"]
    ours = trioflow("batch", "--dry-run", "-j1", "-k", "--", *words, ":::", "x y", "a;b", ":::+", "c", "d", "e")
    assert ours.stdout.splitlines() == COMBINED


def test_job_log_is_that_of_gnu_parallel() -> None:
    """For exit codes, signals and missing programs, the job log equals GNU parallel's, except for the times."""
    ours = trioflow("batch", "-j1", "--joblog", "ours", ":::", *MIXED)
    theirs = gnu("-j1", "--joblog", "theirs", ":::", *MIXED)
    assert (ours.exit_code, ours.stdout_bytes) == (theirs.returncode, theirs.stdout)
    assert columns(Path("ours")) == columns(Path("theirs"))


def test_results_are_those_of_gnu_parallel() -> None:
    command = ["printf '%s\\n' {1} {2}; echo e >&2", ":::", "a/b", "c\\d", ":::", "x y"]
    ours, theirs = trioflow("batch", "--results", "ours", *command), gnu("--results", "theirs", *command)
    assert (ours.stdout_bytes, ours.stderr_bytes) == (theirs.stdout, theirs.stderr) == (b"", b"")
    found = [
        {str(path.relative_to(root)): path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}
        for root in ("ours", "theirs")
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 6
