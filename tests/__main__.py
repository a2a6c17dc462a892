"""The project's checks: ``python -m tests``.

All of them run, whatever fails; the exit code says whether any did. Lint, types and imports are checked, two at a time,
in the time that the tests leave, which often wait for programs: what they found comes after the tests.
``.ci/run types_inside`` runs pyright on the package, which takes longer than all of them.

While you work, ``pytest`` alone is enough: it runs the fast tests. Name a folder or a file to run all tests in it.
``tests/conftest.py`` says which tests are slow."""

import argparse
import concurrent.futures
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

DEBIAN: dict[str, str] = {
    "/usr/lib/chromium/chromium-headless-shell": "chromium-headless-shell",
    "/usr/sbin/sshd": "openssh-server",
    "busybox": "busybox",
    "bwrap": "bubblewrap",
    "chromedriver": "chromium-driver",
    "dot": "graphviz",
    "faketime": "faketime",
    "fish": "fish",
    "gzip": "gzip",
    "mksh": "mksh",
    "parallel": "parallel",
    "pg_ctlcluster": "postgresql",
    "ps": "procps",
    "redis-server": "redis-server",
    "rsvg-convert": "librsvg2-bin",
    "setsid": "util-linux",
    "ssh-keygen": "openssh-client",
    "tcsh": "tcsh",
    "xz": "xz-utils",
    "zsh": "zsh",
}
"""Commands, and files, that the tests use and pip cannot bring, each with the Debian package that does."""

STATIC_CHECKS = (
    "ruff check",
    "ruff check --preview --select PLR0916",  # the mode changes other rules
    "ruff format --check",
    "mypy",
    "lint-imports --no-logo",
    "python .ci/check_density.py",
)


MOST_TESTS = "pytest -m 'not soak and not ci' -n auto"
ALL_TESTS = "pytest -m 'not soak' -n auto"
TESTS = {
    "fast": ("the fast tests alone, as plain pytest does", "pytest"),
    "tests": ("all tests, those of CI alone included, and no other checks", ALL_TESTS),
    "coverage": ("all tests, and which lines and branches of the package they leave out", f"{ALL_TESTS} --cov"),
    "soak": ("the long versions of some tests alone: many processes, much output, many random scenarios",
             "pytest -m 'soak or hypothesis' --hypothesis-profile soak --timeout 0"),
}  # fmt: skip
"""Parts of the checks that have an option of their own: what it does, and the command."""


def main() -> int:
    """Run the checks that the command line asks for; return 0 if all have passed."""
    options = parse_arguments()
    os.chdir(ROOT)
    prefer_this_environment()
    os.environ.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # a thousand starts of Python would compile everything again
    if not provide_commands():
        return 1
    tests = shlex.join(
        [*shlex.split(options.part or MOST_TESTS), *options.pytest_options]
    )
    others = () if options.part else STATIC_CHECKS
    pool = concurrent.futures.ThreadPoolExecutor(2)
    try:
        ended = {check: pool.submit(run_silently, check) for check in others}
        results = {tests: passes(tests)}
        results |= {
            check: report(check, *future.result()) for check, future in ended.items()
        }
    finally:
        pool.shutdown(cancel_futures=True)
    failed = [check for check, passed in results.items() if not passed]
    print(
        f"\n{len(results) - len(failed)} of {len(results)} checks passed",
        *failed,
        sep="\nfailed: ",
    )
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_mutually_exclusive_group()
    for name, (explained, command) in TESTS.items():
        parts.add_argument(
            f"--{name}",
            action="store_const",
            const=command,
            dest="part",
            help=explained,
        )
    parser.add_argument(
        "pytest_options",
        nargs="*",
        metavar="-- ...",
        help="options of pytest, after a --",
    )
    return parser.parse_args()


def run_silently(check: str) -> tuple[int, str, float]:
    """Run one check; return its exit code, its output, and how many seconds it took."""
    start = time.perf_counter()
    command = ["nice", *shlex.split(check)]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, time.perf_counter() - start


def report(check: str, code: int, output: str, seconds: float) -> bool:
    print(f"\n=== {check}\n{output}{verdict(code, seconds)}", flush=True)
    return code == 0


def passes(check: str) -> bool:
    """Run one check, which prints as it goes; return whether it has passed."""
    print(f"\n=== {check}", flush=True)
    start = time.perf_counter()
    code = subprocess.run(shlex.split(check), check=False).returncode
    print(verdict(code, time.perf_counter() - start), flush=True)
    return code == 0


def verdict(code: int, seconds: float) -> str:
    """Say how a check has ended: by a signal, nothing else tells why its output stops."""
    outcome = "passed"
    if code > 0:
        outcome = f"FAILED with exit code {code}"
    elif code < 0:
        outcome = f"KILLED by {signal.strsignal(-code)}"
    return f"--- {outcome} in {seconds:.1f} s"


def prefer_this_environment() -> None:
    """Find the commands next to the running Python, whether its environment is activated or not."""
    os.environ["PATH"] = os.pathsep.join(
        [sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]
    )


def is_there(command: str) -> bool:
    return (
        os.path.exists(command)
        if command.startswith("/")
        else shutil.which(command) is not None
    )


def provide_commands() -> bool:
    """Install what DEBIAN lists and this machine lacks, or say how; return whether nothing is missing."""
    packages = sorted(
        {package for command, package in DEBIAN.items() if not is_there(command)}
    )
    if not packages:
        return True
    install = ["apt-get", "install", "--yes", *packages]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        os.environ["DEBIAN_FRONTEND"] = (
            "noninteractive"  # nobody may be there to answer the questions of a package
        )
        return all([passes("apt-get update"), passes(shlex.join(install))])
    print(
        f"Some commands that the tests call are missing here: sudo {shlex.join(install)}",
        file=sys.stderr,
    )
    return False


if __name__ == "__main__":
    sys.exit(main())
