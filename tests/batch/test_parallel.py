"""`trioflow batch` and GNU parallel compared: the same command lines, job logs and exit codes."""

from __future__ import annotations

import concurrent.futures
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..cli.command_line import trioflow
from .process import columns, gnu

pytestmark = pytest.mark.usefixtures("plain_shell")

# ruff: noqa: SIM905 - lists of so many quoted strings are hard to read
PLACES = "{} {.} {/} {//} {/.} {#} {1} {2} {1.} {2/} {1//} {2/.} {-1} {-2.} {0/} {3} {01}".split()
WORDS = ["", *"echo -n a;b $x { } {}{} {x} {+} {{}} {1//.} # | =".split(), "{ }"]
PARTS = [" ", "  ", "\t", *"a bc . .. / // .gz ' '' \" \\ $x ` * ~ é ☉ {} {1} {#} ; & - + _ = : % ! ^ \udcff".split()]
RULES = "never now,fail=3 soon,success=9 now,success=50% x=1".split()
CODES = [0, 5, 0, 6, 7, 0, 8]
MIXED = ["printf abc; printf d >&2", "exit 7", "kill -9 $$", "kill -TERM $$", "exit 300", "no-such-program", "exit -1"]


def texts(source: random.Random, number: int) -> list[str]:
    """Generate arguments that are hard to quote, or look like paths."""
    return ["", ".", "..", "/", "//", *("".join(source.choices(PARTS, k=source.randint(1, 5))) for _ in range(number))]


def template(source: random.Random) -> list[str]:
    """Generate the words of a command, with and without replacement strings."""
    return ["".join(source.choices([*PLACES, *WORDS], k=source.randint(1, 3))) for _ in range(source.randint(1, 5))]


def same_lines(words: list[str], arguments: list[str]) -> None:
    """Assert that trioflow and GNU parallel print the same for a dry run."""
    ours = trioflow("batch", "--dry-run", "-j1", "-k", "--", *words, *arguments)
    theirs = gnu("--dry-run", "-j1", "-k", "--", *words, *arguments)
    assert (ours.stdout_bytes, ours.exit_code) == (theirs.stdout, theirs.returncode)
    assert ours.stdout_bytes


@pytest.mark.parametrize("seed", range(2))
def test_command_lines_of_a_dry_run_are_those_of_gnu_parallel(seed: int) -> None:
    """A dry run with all or random replacement strings, and arguments of all kinds, prints what GNU parallel prints."""
    source = random.Random(seed)
    words = (
        ["run", *(f"{source.choice(WORDS)}{place}" for place in PLACES)] if seed == 0 else ["run", *template(source)]
    )
    same_lines(words, [":::", *texts(source, 20), ":::+", *texts(source, 20)])


@pytest.mark.parametrize(
    "words",
    [
        ["echo", "{2} {1}", ":::", "a", "b", ":::+", "c", "d", "e", ":::", "f", ":::+", "g"],
        ["echo", "{3}", "::::", "one", "two", ":::", "x", "::::+", "one"],
        ["::::", "one", "two", "::::+", "one"],
        ["a={%}", "b={1}", "echo", "{2}", ":::", "x y", ":::", "a;b", "a b"],
    ],
)
def test_combinations_of_sources_are_those_of_gnu_parallel(words: list[str]) -> None:
    """Products of sources, linked sources and files are combined as by GNU parallel."""
    Path("one").write_bytes(b"1\n\n a \n\xff")
    Path("two").write_text("x\ny\n")
    same_lines(words, [])


@pytest.fixture(scope="module")
def their_exits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[int, list[str]]]]:
    """Return GNU parallel's exit code under each rule, and its job logs."""
    directory = tmp_path_factory.mktemp("theirs")

    def ask(rule: str) -> tuple[int, list[str]]:
        log = directory / rule
        done = gnu("-j1", "--halt", rule, "--joblog", log, "exit", ":::", *CODES)
        return done.returncode, columns(log) if log.exists() else []

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        yield dict(zip(RULES, pool.map(ask, RULES), strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_exit_codes_under_halt_rules_are_those_of_gnu_parallel(
    rule: str, their_exits: dict[str, tuple[int, list[str]]]
) -> None:
    """Under a halt rule, trioflow and GNU parallel run the same commands, and have the same exit code."""
    ours = trioflow("batch", "-j1", "--halt", rule, "--joblog", "log", "exit", ":::", *CODES)
    assert (ours.exit_code, columns(Path("log")) if Path("log").exists() else []) == their_exits[rule]


def test_job_log_is_that_of_gnu_parallel() -> None:
    """For exit codes, signals, missing programs and timeouts, job logs equal GNU parallel's, except for the times."""
    for number, (words, arguments) in enumerate([(["-j1"], MIXED), (["-j1", "--timeout", "0.3"], ["sleep 1000"])]):
        ours = trioflow("batch", *words, "--joblog", f"ours{number}", ":::", *arguments)
        theirs = gnu(*words, "--joblog", f"theirs{number}", ":::", *arguments)
        assert (ours.exit_code, ours.stdout_bytes) == (theirs.returncode, theirs.stdout)
        assert columns(Path(f"ours{number}")) == columns(Path(f"theirs{number}"))


def test_gnu_parallel_resumes_from_a_job_log_of_trioflow() -> None:
    """With a job log of trioflow, `parallel --resume` runs only the commands that the log does not have."""
    trioflow("batch", "-j1", "--joblog", "log", "echo", ":::", "a b", "c'd")
    assert gnu("-j1", "--joblog", "log", "--resume", "echo", ":::", "a b", "c'd", "e").stdout == b"e\n"


def test_output_and_results_are_those_of_gnu_parallel() -> None:
    """Tagged output, and names and contents of the files of `--results`, equal those of GNU parallel."""
    words = ["-k", "-j2", "--tag"]
    command = ["printf '%s\\n' {1} {2}; echo e >&2", ":::", "a/b", "c\\d", ":::", "x y"]
    ours, theirs = trioflow("batch", *words, *command), gnu(*words, *command)
    assert (ours.stdout_bytes, ours.stderr_bytes) == (theirs.stdout, theirs.stderr)
    ours, theirs = trioflow("batch", "--results", "ours", *command), gnu("--results", "theirs", *command)
    assert (ours.stdout_bytes, ours.stderr_bytes) == (theirs.stdout, theirs.stderr) == (b"", b"")
    found = [
        {str(path.relative_to(root)): path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}
        for root in ("ours", "theirs")
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 6
