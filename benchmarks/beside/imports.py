"""What trioflow brings along: the tables of docs/how-to/library.md, beside other libraries.

    python -m benchmarks.beside.imports

Each program runs 25 times, in turns with the others, in an interpreter of its own without the settings of the user
(`python -I`); the best counts, without what the interpreter takes alone. A busy machine slows all programs down, so the
times are multiples of the time of `import asyncio`. A package counts with all that it requires, without extras and
compiled files. Install trioflow from a wheel to see its own size.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from typing import Final

from packaging.requirements import Requirement

ROUNDS: Final = 25
LIBRARIES: Final = ("asyncio", "trio", "anyio", "tenacity", "httpx", "trioflow")
THREE_JOBS: Final = """
from trioflow import Job, Scheduler
async def double(number):
    return 2 * number
job = Job(double, Job(double, Job(double, 1)))
assert Scheduler(job).run(backend={!r}) and job.result() == 8
"""
BY_HAND: Final = """
import asyncio
async def double(number):
    return 2 * number
async def main():
    async with asyncio.TaskGroup() as group:
        task = group.create_task(double(await group.create_task(double(await group.create_task(double(1))))))
    assert task.result() == 8
asyncio.run(main())
"""
PROGRAMS: Final = {
    "an interpreter": "pass",
    **{f"`import {name}`": f"import {name}" for name in LIBRARIES},
    "three jobs by hand, in an `asyncio.TaskGroup`": BY_HAND,
    "three jobs, on asyncio": THREE_JOBS.format("asyncio"),
    "three jobs, on trio": THREE_JOBS.format("trio"),
}
COUNT_MODULES: Final = "\nimport sys\nsys.stdout.write(str(len(sys.modules)))"


def cpu_seconds(program: str) -> float:
    """Return the CPU time of one run of a program in an interpreter of its own."""
    process = os.posix_spawn(
        sys.executable, [sys.executable, "-I", "-c", program], os.environ
    )
    _, status, usage = os.wait4(process, 0)
    assert status == 0
    return usage.ru_utime + usage.ru_stime


def modules(program: str) -> int:
    """Return how many modules a program has imported."""
    with os.popen(
        f"{sys.executable} -I -c '{program.replace(chr(39), chr(34))}{COUNT_MODULES}'"
    ) as output:
        return int(output.read())


def packages(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Return the names of the packages that come with one, itself among them."""
    found = {re.sub("[-_.]+", "-", name).lower()}
    for text in importlib.metadata.requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(
            requirement.marker.evaluate({"extra": one}) for one in extras or {""}
        ):
            found |= packages(requirement.name, frozenset(requirement.extras))
    return found


def megabytes(name: str) -> float:
    files = importlib.metadata.files(name) or ()
    return sum(file.size or 0 for file in files if file.suffix != ".pyc") / 1e6


def main() -> None:
    """Print both tables, in Markdown."""
    best = dict.fromkeys(PROGRAMS, float("inf"))
    for _ in range(ROUNDS):
        for name, program in PROGRAMS.items():
            best[name] = min(best[name], cpu_seconds(program))
    alone = best.pop("an interpreter")
    own = modules("pass")
    of_asyncio = best["`import asyncio`"] - alone
    print(
        f"`import asyncio`: {of_asyncio * 1000:.0f} ms\n\n| program | CPU | modules |\n|---|---:|---:|"
    )
    for name, seconds in best.items():
        print(
            f"| {name} | {(seconds - alone) / of_asyncio:.1f} | {modules(PROGRAMS[name]) - own} |"
        )
    print("\n| package | comes with | MB |\n|---|---|---:|")
    for name in LIBRARIES[1:]:
        found = packages(name)
        others = ", ".join(sorted(found - {name}))
        print(
            f"| {name} {megabytes(name):.1f} MB | {others or '–'} | {sum(map(megabytes, found)):.1f} |"
        )


if __name__ == "__main__":
    main()
