"""Pack the standard library of the Python that runs this, and verify that the packs contain it.

    trioflow run examples/pack_stdlib.py
    trioflow run examples/pack_stdlib.py --set limit=5 --set output=/tmp/packs
    python examples/pack_stdlib.py
    python examples/pack_stdlib.py --verify examples/output/manifest.json

The command runs the scenario, and adds options, a monitor and exit codes. The script shows what a program of your own
looks like, and can do a little more. The scenario, with as many jobs at work as the machine has cores:

    read asyncio ──► compress asyncio ──► verify asyncio ──┐
    read email ────► compress email ────► verify email ────┼──► write the manifest   (critical)
    ...                                                    │
    report progress   (only in the script; forever: until all the others have settled)

A file that cannot be read is reported and left out. If a pack does not hold what was read, its job fails. The others go
on, the manifest is written without that pack, and the exit code is not 0.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import shutil
import sys
import sysconfig
import time
import zipfile
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import anyio

from trioflow import Job, JobState, Scheduler, Sequence, ThreadJob, current_scheduler

LIBRARY = Path(sysconfig.get_path("stdlib"))
SKIPPED = {
    "__pycache__",
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idle_test",
}
OUTPUT = Path(__file__).with_name("output")
LARGEST = (
    24  # this many packages and modules get a pack each; the others are packed together
)

Facts = dict[str, int | str]


def facts(data: bytes) -> Facts:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


# ---------------------------------------------------------------- the work


@dataclass
class Pack:
    """A zip file being made. Its steps are plain functions for threads: files, hashes and zlib release the GIL."""

    name: str
    target: Path
    sources: list[Path] = field(default_factory=list)
    contents: dict[str, bytes] = field(
        default_factory=dict
    )  # from reading to compressing
    files: dict[str, Facts] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    packed: Facts = field(default_factory=dict)
    verified: bool = False

    def read(self) -> None:
        for source in self.sources:
            name = source.relative_to(LIBRARY).as_posix()
            try:
                self.contents[name] = source.read_bytes()
                self.files[name] = facts(self.contents[name])
            except OSError as error:
                self.unreadable[name] = str(error)

    def compress(self) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in self.contents.items():
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        self.target.write_bytes(buffer.getvalue())
        self.packed = facts(buffer.getvalue())
        self.contents.clear()

    def verify(self) -> None:
        data = self.target.read_bytes()
        if facts(data) != self.packed:
            raise ValueError(f"{self.target} is not what was written")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if {
                name: facts(archive.read(name)) for name in archive.namelist()
            } != self.files:
                raise ValueError(f"{self.target} does not hold what was read")
        self.verified = True


def summary(packs: list[Pack]) -> str:
    verified = [pack for pack in packs if pack.verified]
    sizes = [int(file["size"]) for pack in verified for file in pack.files.values()]
    packed = sum(int(pack.packed["size"]) for pack in verified)
    files = f"{len(sizes)} files of {sum(sizes) / 1e6:.1f} MB"
    return f"{files}, verified in {len(verified)} packs of {packed / 1e6:.1f} MB"


def write_manifest(manifest: Path, packs: list[Pack]) -> None:
    described = {
        pack.name: {
            "packed": pack.packed,
            "files": pack.files,
            "unreadable": pack.unreadable,
        }
        for pack in packs
        if pack.verified
    }
    manifest.write_text(
        json.dumps({"python": platform.python_version(), "packs": described}, indent=1)
    )
    for reason in chain.from_iterable(pack.unreadable.values() for pack in packs):
        print("left out:", reason)
    print(f"{summary(packs)}; manifest: {os.path.relpath(manifest)}")


async def report_progress() -> None:
    """Print how far the scenario is: on a terminal in one line that changes, else in a new line each second."""
    scheduler = current_scheduler()
    jobs = [job for job in scheduler if not job.forever]
    clear, end, period = (
        ("\r\033[K", "", 0.1) if sys.stdout.isatty() else ("", "\n", 1.0)
    )
    try:
        while True:
            at_work = ", ".join(job.label for job in jobs if job.is_running())
            line = f"{sum(job.is_settled() for job in jobs)} of {len(jobs)} jobs done, at work: {at_work}"
            print(
                clear + line[: shutil.get_terminal_size().columns - 1],
                end=end,
                flush=True,
            )
            await anyio.sleep(period)
    finally:
        print(clear, end="", flush=True)


# ---------------------------------------------------------------- the scenarios


def scenario(output: str = str(OUTPUT), limit: int | None = None) -> Scheduler:
    """Return what the command `trioflow` runs, for a directory and a number of packages, the largest ones."""
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    return packing(find_packs(folder, limit), folder / "manifest.json")


def packing(packs: list[Pack], manifest: Path) -> Scheduler:
    # The steps fill the packs in memory. A journal cannot restore that, so with save=None they always run.
    chains = [
        Sequence(
            ThreadJob(pack.read, label=f"read {pack.name}", save=None),
            ThreadJob(pack.compress, label=f"compress {pack.name}", save=None),
            ThreadJob(pack.verify, label=f"verify {pack.name}", save=None),
        )
        for pack in packs
    ]
    write = ThreadJob(
        write_manifest,
        manifest,
        packs,
        label="write the manifest",
        critical=True,
        save=None,
        required=chains,
        run_if="settled",
    )
    return Scheduler(
        chains, write, label="pack the library", jobs_window=os.cpu_count()
    )


def verifying(packs: list[Pack]) -> Scheduler:
    checks = [ThreadJob(pack.verify, label=f"verify {pack.name}") for pack in packs]
    return Scheduler(checks)


# ---------------------------------------------------------------- the command


def find_packs(output: Path, limit: int | None) -> list[Pack]:
    """Divide the library: a pack for each of the largest packages and modules, and one for all others."""
    found: dict[str, list[Path]] = {}
    for folder, subfolders, names in os.walk(
        LIBRARY, onerror=lambda error: print("left out:", error)
    ):
        subfolders[:] = [
            name
            for name in subfolders
            if name not in SKIPPED and not name.startswith("config-")
        ]
        for path in (Path(folder, name) for name in sorted(names)):
            found.setdefault(
                path.relative_to(LIBRARY).parts[0].removesuffix(".py"), []
            ).append(path)
    by_size = sorted(
        found,
        key=lambda name: sum(path.lstat().st_size for path in found[name]),
        reverse=True,
    )
    packs = {name: found.pop(name) for name in by_size[:LARGEST]}
    packs["others"] = list(chain.from_iterable(found.values()))
    return [
        Pack(name, output / f"{name}.zip", sources) for name, sources in packs.items()
    ][:limit]


def read_manifest(manifest: Path) -> list[Pack]:
    packs = json.loads(manifest.read_text())["packs"]
    return [
        Pack(name, manifest.with_name(f"{name}.zip"), **described)
        for name, described in packs.items()
    ]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Pack the standard library, and verify that the packs contain it."
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=OUTPUT,
        metavar="DIR",
        help="default: output/ beside this file",
    )
    parser.add_argument(
        "--verify",
        type=Path,
        metavar="MANIFEST",
        help="pack nothing, compare the packs with this",
    )
    parser.add_argument(
        "--backend",
        choices=["trio", "asyncio"],
        default="trio",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--window",
        type=int,
        default=os.cpu_count(),
        metavar="N",
        help="jobs at once; 0: no limit",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only the N largest packages"
    )
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    if options.verify:
        packs = read_manifest(options.verify)
        scheduler = verifying(packs)
    else:
        options.output.mkdir(parents=True, exist_ok=True)
        packs = find_packs(options.output, options.limit)
        scheduler = packing(packs, options.output / "manifest.json")

    scheduler.add(Job(report_progress, label="report progress", forever=True))
    start = time.perf_counter()
    try:
        completed = scheduler.run(backend=options.backend, jobs_window=options.window)
    finally:  # also after Ctrl-C
        scheduler.list()
    seconds = time.perf_counter() - start

    print(f"\n{summary(packs)}; it took {seconds:.1f} s")
    failed = [job for job in scheduler if job.state is JobState.FAILED]
    for job in failed:
        print(f"failed: {job.label}: {job.raised_exception()}")
    return 0 if completed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
