"""Run the tests of trio and anyio in jobs, and plainly, and compare: python -m tests.inside [trio|anyio] [-k WORDS].

A test that passes plainly and fails in a job is a difference, unless it is explained in `EXPLAINED`. The exit code
is 0 if there is no other difference, and each of the explained ones is there. The suites are those of the installed
versions: trio brings its own; that of anyio is in its source distribution, which is downloaded. It runs on trio, on
asyncio, on uvloop, and on Python 3.12 and later with eager tasks."""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Final
import pytest

CTRL_C: Final = (
    "the task of a job counts as protected from Ctrl-C, because its worker is: the handler of the run raises it in a "
    "job only while the code of the job is being executed, and otherwise the run ends cleanly"
)
TASKS: Final = "it counts the tasks of the loop: a run has its own, one more than a test without a scheduler"
OPEN: Final = "it leaves a cancel scope open: as a job it fails, because the next job would be in that scope"

EXPLAINED: Final[dict[str, dict[str, str]]] = {
    "trio": {
        "test_cancelled::test_reason_delayed_ki": CTRL_C,
        "test_repl::test_KI_interrupts": CTRL_C,
        "test_run::test_current_statistics": TASKS,
    },
    "anyio": {
        "test_taskgroups::test_cancelscope_wrong_exit_order[asyncio]": OPEN,
        "test_taskgroups::test_cancelscope_wrong_exit_order[asyncio+uvloop]": OPEN,
    },
}
"""Tests that pass plainly and fail in a job, by suite and name, each with the reason why that is right."""
if sys.version_info >= (3, 12):
    EXPLAINED["anyio"][
        "test_taskgroups::test_cancelscope_wrong_exit_order[asyncio+eager]"
    ] = OPEN


def main() -> int:
    """Compare what the command line asks for, and return 0 if nothing is unexplained."""
    parser = argparse.ArgumentParser(prog="python -m tests.inside", description=__doc__)
    parser.add_argument(
        "suites", nargs="*", choices=[*SUITES, []], help="default: both"
    )
    parser.add_argument(
        "-k", dest="words", default="", help="only the tests that pytest -k chooses"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        good = [
            compare(name, Path(directory), options.words)
            for name in options.suites or SUITES
        ]
    return 0 if all(good) else 1


def compare(
    name: str, directory: Path, words: str = "", modules: Sequence[str] = ()
) -> bool:
    """Run a suite, or modules of trio's, both ways, print the differences, and return whether they are explained."""
    place, arguments = SUITES[name](directory)
    if modules:
        arguments = [*arguments[: arguments.index("--pyargs") + 1], *modules]
    plain, inside = (
        outcomes(place, arguments, words, inside) for inside in (False, True)
    )
    differing = differences(plain, inside)
    unexplained = differing - set(EXPLAINED[name])
    by_chance = unexplained - differences_again(
        place, arguments, words, plain, unexplained
    )
    differing -= by_chance
    explained = {
        test: why
        for test, why in EXPLAINED[name].items()
        if plain.get(test) == "passed"
    }
    gone = (
        {}
        if words or modules
        else {
            test: why for test, why in EXPLAINED[name].items() if test not in explained
        }
    )
    passed = sum(outcome == "passed" for outcome in plain.values())
    print(
        f"{name} {metadata.version(name)}, Python {sys.version.partition(' ')[0]}: {passed} tests pass plainly,"
    )
    print(
        f"  {passed - len(differing)} in jobs; differences that are explained: {len(differing & set(explained))}"
    )
    for test in sorted(differing - set(explained)):
        print(f"  differs: {test}")
    for test in sorted(by_chance):
        print(f"  differs by chance, not when its file runs again: {test}")
    for test in sorted(set(explained) - differing):
        print(f"  differs no more: {test} ({explained[test]})")
    for test in sorted(gone):
        print(
            f"  is explained, but does not pass plainly, or is no more: {test} ({gone[test]})"
        )
    return differing == set(explained) and not gone


def differences_again(
    place: Path,
    arguments: list[str],
    words: str,
    plain: dict[str, str],
    differing: set[str],
) -> set[str]:
    """Return the tests that differ again when all tests of their files run in jobs again. Some fail by chance: the
    collector finds what another test has left open. Alone they would pass, and so would tests that fail because of
    earlier ones."""
    if not differing:
        return set()
    files = {test.partition("::")[0] for test in differing}
    same_files = {test for test in plain if test.partition("::")[0] in files}
    return differing & differences(
        plain, outcomes(place, arguments, words, inside=True, only=same_files)
    )


def differences(plain: dict[str, str], inside: dict[str, str]) -> set[str]:
    return {
        test
        for test, outcome in plain.items()
        if outcome == "passed" and inside.get(test) != "passed"
    }


def outcomes(
    place: Path,
    arguments: list[str],
    words: str,
    inside: bool,
    only: set[str] | None = None,
) -> dict[str, str]:
    """Run a suite in its own process, and return the outcome of each test."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        environment = {
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(
                Path(__file__).parent
            ),  # the suites have a package `tests` of their own
            "TRIOFLOW_INSIDE": "1" if inside else "",
            "TRIOFLOW_ONLY": json.dumps(sorted(only)) if only is not None else "",
            "TRIOFLOW_OUTCOMES": file.name,
        }
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--no-header",
            "--tb=short",
            "-p",
            "no:cacheprovider",
        ]
        done = subprocess.run(
            [*command, *arguments, "-p", "in_jobs", *(["-k", words] if words else [])],
            cwd=place, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        found: dict[str, str] = json.loads(
            Path(file.name).read_text(encoding="utf-8") or "{}"
        )
    if not found or done.returncode not in (
        pytest.ExitCode.OK,
        pytest.ExitCode.TESTS_FAILED,
    ):
        raise SystemExit(
            f"pytest ended with {done.returncode}, {len(found)} tests:\n{done.stdout}\n{done.stderr}"
        )
    return found


def trio_suite(directory: Path) -> tuple[Path, list[str]]:
    return directory, [
        "-c", os.devnull, "--rootdir", str(directory), "-p", "trio._tests.pytest_plugin", "--skip-optional-imports",
        "--ignore-glob", "*test_exports.py",  # they look at the files of the package alone
        "--pyargs", "trio._core._tests", "trio._tests",
    ]  # fmt: skip


def anyio_suite(directory: Path) -> tuple[Path, list[str]]:
    """Return the directory for anyio's tests, and the arguments of pytest."""
    version = metadata.version("anyio")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-binary",
            ":all:",
            "--no-deps",
            f"anyio=={version}",
        ],
        cwd=directory,
        check=True,
    )
    (archive,) = directory.glob("anyio-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    return directory / archive.name.removesuffix(".tar.gz"), [
        "-p",
        "_hypothesis_pytestplugin",
        "tests",
    ]


SUITES = {"trio": trio_suite, "anyio": anyio_suite}


if __name__ == "__main__":
    sys.exit(main())
