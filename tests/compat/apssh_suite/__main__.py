"""Run the tests of apssh over asynciojobs and over our names, and compare: python -m tests.compat.apssh_suite CHECKOUT.

CHECKOUT is a clone of https://github.com/parmentelat/apssh: the releases have no tests in them. They log in to this
machine at port 22, as root and as another user, count its connections, and kill what is called sleep. So each run has
a network, users and processes of its own: this needs Linux, root, unshare(1), ip(8), sshd and psutil.

It takes an hour, most of which is waiting: `close_ssh_in_scheduler()` of apssh closes connections in another event loop
than that of the run, and gives each hop its 30 seconds.

A test that passes over asynciojobs and fails over our names is a difference. One that fails over both is told of, with
the reason, which is in `EXPLAINED`. The exit code is 0 if there is no difference and nothing is unexplained."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final
from xml.etree import ElementTree
from ...places import ROOT

EXPLAINED: Final[dict[str, str]] = {
    "::test_x11": "they forward the windows of X11, and this machine has no screen",
    "test_services::": "they start services by systemd, which does not run here",
    "test_deferred::test_deferred_service": "it starts a service by systemd, which does not run here",
    "test_keys::test_import": "it asks for the words that protect a key, and nobody is there to answer",
}
"""Why some of apssh's tests fail over asynciojobs, too: the reasons, each under a part of the names of its tests."""


STAND_IN = Path(__file__).parents[1] / "programs" / "stand_in"
WAYS = {"asynciojobs": [], "trioflow": [STAND_IN]}
"""Folders put first on the path, by the library that `import asynciojobs` then loads."""


def main() -> int:
    """Compare, and return 0 if nothing is unexplained."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.compat.apssh_suite", description=__doc__
    )
    parser.add_argument("checkout", type=Path, help="a clone of apssh's repository")
    parser.add_argument(
        "-k", dest="words", default="", help="only the tests that pytest -k chooses"
    )
    parser.add_argument(
        "--seconds",
        type=int,
        default=240,
        help="how long a test may take; default: 240",
    )
    options = parser.parse_args()
    return 0 if compare(options.checkout, options.words, options.seconds) else 1


def compare(checkout: Path, words: str, seconds: int) -> bool:
    """Run the suite both ways, print the outcomes, and return whether every failure is explained."""
    theirs, ours = (outcomes(checkout, words, seconds, way) for way in WAYS)
    passed = {name for name in theirs if theirs[name] == "passed"}
    differing = sorted(name for name in passed if ours.get(name) != "passed")
    print(
        f"{len(theirs)} tests; over asynciojobs {len(passed)} pass, {len(passed) - len(differing)} of them over ours"
    )
    for name in differing:
        print(f"  differs: {name}")
    for name in sorted(
        name for name in ours if ours[name] == "passed" and name not in passed
    ):
        print(f"  passes over ours alone: {name}")
    failing = [
        name
        for name in sorted(theirs)
        if name not in passed and ours.get(name) != "passed"
    ]
    reasons = {name: explanation(name) for name in failing}
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name in failing if reasons[name] == reason]
        print(f"  fail over both, {len(names)}, {reason}: {', '.join(names)}")
    return not differing and all(reasons.values())


def explanation(name: str) -> str:
    return next((why for part, why in EXPLAINED.items() if part in name), "")


def outcomes(checkout: Path, words: str, seconds: int, way: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory, "apssh")
        shutil.copytree(checkout / "tests", place / "tests")
        report = Path(directory, "report.xml")
        path = os.pathsep.join(
            map(str, [*WAYS[way], Path(__file__).parent / "older", ROOT])
        )
        chosen = ["-k", words] if words else []
        command = [
            *("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc"),
            *(sys.executable, str(Path(__file__).with_name("_machine.py")), directory),
            *(
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-c",
                os.devnull,
                "--rootdir",
                ".",
                "-p",
                "no:cacheprovider",
            ),
            *(
                "-p",
                "older_names",
                f"--junitxml={report}",
                f"--timeout={seconds}",
                "tests",
                *chosen,
            ),
        ]
        environment = {**os.environ, "PYTHONPATH": path, "LOGNAME": "root"}
        done = subprocess.run(
            command,
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.exists():
            raise SystemExit(
                f"pytest ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
            )
        print(f"over {way}: {done.stdout.splitlines()[-1]}", flush=True)
        return outcomes_in(report)


def outcomes_in(report: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.get("classname", "").split(".")[-2]
        failed = any(case.find(kind) is not None for kind in ("failure", "error"))
        found[f"{file}::{case.get('name')}"] = "failed" if failed else "passed"
    return found


if __name__ == "__main__":
    sys.exit(main())
