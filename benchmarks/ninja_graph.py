"""A build of ninja's, run by trioflow: python -m benchmarks.ninja_graph BUILD [TARGET ...] [-j N] [--compare N].

BUILD is a directory that CMake or Meson has made for ninja, at least 1.13. What is to be done, and in which order, is
asked of ninja itself (`ninja -t compdb`, `ninja -t graph`); each command becomes a `CommandJob` with what it reads and
writes. `--compare` cleans and builds in turns, by `ninja -jN` and by trioflow in a new process, and prints the times on
the clock and the ratio of the best ones. Any source distribution with a C project will do, for example

    pip download --no-binary :all: --no-deps blosc && tar xf blosc-*.tar.gz
    cmake -G Ninja -S blosc-*/blosc/c-blosc -B build -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS=-DZSTD_DISABLE_ASM
    python -m benchmarks.ninja_graph build -j 2 --compare 5
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from trioflow import CommandJob, Depfile, Scheduler

NODE: Final = re.compile(r'^"(0x[0-9a-f]+)" \[label="((?:[^"\\]|\\.)*)"')
EDGE: Final = re.compile(r'^"(0x[0-9a-f]+)" -> "(0x[0-9a-f]+)"')
DEPFILE: Final = re.compile(r"(?<= -MF )\S+")


def scenario(build: str = ".", targets: Iterable[str] = (), jobs: int = 2) -> Scheduler:
    """Return the commands of a build directory, each after those whose outputs it needs.

    Args:
        build: the directory with `build.ninja`.
        targets: what is to be built; nothing for what ninja builds by default.
        jobs: how many run at once.

    """
    commands = {one["output"]: one for one in json.loads(_asked(build, "-t", "compdb", "-x")) if one["command"]}
    names, before, _ = _graph(_asked(build, "-t", "graph", *targets))
    used = {node for inputs in before.values() for node in inputs}
    wanted = {name for node, name in names.items() if node not in used}
    # Of an edge with several outputs, only those that are asked for have a name; the command is known by the first one.
    names, before, edges = _graph(_asked(build, "-t", "graph", *wanted, *commands))
    known: dict[str, dict[str, Any]] = {}  # by the node of the edge, or of its output if the edge has no node
    for node, name in names.items():
        if node not in edges and name in commands:
            known[next((one for one in before.get(node, ()) if one in edges), node)] = commands[name]
    made: dict[str, CommandJob] = {}
    for node in _in_order([node for node, name in names.items() if name in wanted], before):
        if node in known:
            made[node] = _job(known[node], Path(build), required=_nearest(node, before, made))
    return Scheduler(made.values(), jobs_window=jobs, critical_jobs=True, label=Path(build).name)


def _asked(build: str, *what: str) -> str:
    return subprocess.run(["ninja", "-C", build, *what], capture_output=True, text=True, check=True).stdout


def _graph(text: str) -> tuple[dict[str, str], dict[str, list[str]], set[str]]:
    """Return the names of the nodes of a graph in dot's language, what stands before each, and which are no files."""
    edges: set[str] = set()
    names: dict[str, str] = {}
    before: dict[str, list[str]] = {}
    for line in text.splitlines():
        if edge := EDGE.match(line):
            before.setdefault(edge[2], []).append(edge[1])
        elif node := NODE.match(line):
            names[node[1]] = node[2].replace('\\"', '"').replace("\\\\", "\\")
            if "shape=ellipse" in line:
                edges.add(node[1])
    return names, before, edges


def _in_order(names: Iterable[str], before: dict[str, list[str]]) -> list[str]:
    """Return the nodes, each after what stands before it."""
    order: dict[str, None] = {}
    for start in names:
        stack = [(start, False)]
        while stack:
            node, is_left = stack.pop()
            if is_left:
                order[node] = None
            elif node not in order:
                stack.append((node, True))
                stack += [(one, False) for one in reversed(before.get(node, ())) if one not in order]
    return list(order)


def _nearest(node: str, before: dict[str, list[str]], made: dict[str, CommandJob]) -> list[CommandJob]:
    """Return the jobs that make the inputs of a node, through what has no command of its own."""
    found: dict[CommandJob, None] = {}
    seen: set[str] = set()
    stack = list(before.get(node, ()))
    while stack:
        one = stack.pop()
        if one in made:
            found[made[one]] = None
        elif one not in seen:
            seen.add(one)
            stack += before.get(one, ())
    return list(found)


def _job(command: dict[str, Any], build: Path, required: list[CommandJob]) -> CommandJob:
    output = build / command["output"]
    output.parent.mkdir(parents=True, exist_ok=True)  # as ninja does
    reads: list[Any] = [build / command["file"]] if command["file"] else []
    if depfile := DEPFILE.search(command["command"]):
        reads.append(Depfile(build / depfile[0]))
    return CommandJob(
        command["command"], shell=True, cwd=build, reads=reads, writes=output, label=command["output"],
        required=required, run_if="succeeded",
    )  # fmt: skip


# ---- compared with ninja


def compare(build: str, targets: list[str], jobs: int, rounds: int) -> None:
    """Build in turns by ninja and by trioflow, and print how long that takes."""
    ways = {
        "ninja": ["ninja", "-C", build, f"-j{jobs}", "--quiet", *targets],
        "trioflow": [sys.executable, "-m", "benchmarks.ninja_graph", build, *targets, "-j", str(jobs)],
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way, command in list(ways.items())[:: -1 if number % 2 else 1]:  # a machine may become slower all the time
            _asked(build, "-t", "clean")
            begun, used = time.perf_counter(), _cpu()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[way].append(time.perf_counter() - begun)
            cpu[way].append(_cpu() - used)
    for way, took in seconds.items():
        print(
            f"{way:8}  {min(took):7.2f} s on the clock, {min(cpu[way]):7.2f} s of CPU; all:",
            *(f"{one:.2f}" for one in took),
        )
    for what, found in (("on the clock", seconds), ("of CPU", cpu)):
        print(f"ratio of the best {what}: {min(found['trioflow']) / min(found['ninja']):.3f}")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Build once, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", metavar="BUILD")
    parser.add_argument("targets", metavar="TARGET", nargs="*")
    parser.add_argument("-j", dest="jobs", type=int, default=2, metavar="N")
    parser.add_argument("--journal", metavar="FILE")
    parser.add_argument("--compare", type=int, metavar="ROUNDS")
    given = parser.parse_args()
    if given.compare:
        compare(given.build, given.targets, given.jobs, given.compare)
    elif not scenario(given.build, given.targets, given.jobs).run(journal=given.journal):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
