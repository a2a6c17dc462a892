"""The project's checks, one after the other: ``python -m tests``.

All of them run, whatever fails; the exit code says whether any did. ``--quick`` runs pytest alone, without
coverage. What follows ``--`` goes to pytest: ``python -m tests --quick -- -k window -x``.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

DEBIAN: dict[str, str] = {
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "dot": "graphviz",
    "gzip": "gzip",
    "parallel": "parallel",
    "ps": "procps",
    "rsvg-convert": "librsvg2-bin",
    "setsid": "util-linux",
    "xz": "xz-utils",
}
"""Commands that the tests call and pip cannot bring, each with the Debian package that does."""

STATIC_CHECKS = (
    "ruff check",
    "ruff format --check",
    "mypy",
    "pyright",
    "pyright --verifytypes trioflow --ignoreexternal",
    "lint-imports --no-logo",
)


def main() -> int:
    """Run the checks that the command line asks for; 0 if all have passed."""
    options = parse_arguments()
    os.chdir(ROOT)
    prefer_this_environment()
    if not provide_commands():
        return 1
    checks = [pytest_command(options)] if options.quick else [*STATIC_CHECKS, pytest_command(options)]
    failed = [check for check in checks if not passes(check)]
    print(f"\n{len(checks) - len(failed)} of {len(checks)} checks passed", *failed, sep="\nfailed: ")
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests", description="Run the project's checks.")
    parser.add_argument("--quick", action="store_true", help="only pytest, without coverage")
    parser.add_argument("pytest_options", nargs="*", metavar="-- ...", help="options of pytest, after a --")
    return parser.parse_args()


def pytest_command(options: argparse.Namespace) -> str:
    """The call of pytest, with coverage unless it has to be quick."""
    coverage = [] if options.quick else ["--cov"]
    return shlex.join(["pytest", *coverage, *options.pytest_options])


def passes(check: str) -> bool:
    """Run one check under a heading, say how long it took; True if it has passed."""
    print(f"\n=== {check}", flush=True)
    start = time.perf_counter()
    passed = subprocess.run(shlex.split(check), check=False).returncode == 0
    print(f"--- {'passed' if passed else 'FAILED'} in {time.perf_counter() - start:.1f} s", flush=True)
    return passed


def prefer_this_environment() -> None:
    """Find the commands next to the running Python, whether its environment is activated or not."""
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])


def provide_commands() -> bool:
    """Install what DEBIAN lists and this machine lacks, or say how; True if nothing is missing."""
    packages = sorted({package for command, package in DEBIAN.items() if shutil.which(command) is None})
    if not packages:
        return True
    install = ["apt-get", "install", "--yes", *packages]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return all([passes("apt-get update"), passes(shlex.join(install))])
    print(f"Some commands that the tests call are missing here: sudo {shlex.join(install)}", file=sys.stderr)
    return False


if __name__ == "__main__":
    sys.exit(main())
