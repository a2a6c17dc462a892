"""Find which module of the standard library imports which, and which import each other in a circle.

    trioflow run examples/module_graph.py --set limit=100
    python examples/module_graph.py
    python examples/module_graph.py --backend asyncio

The scenario, in which results flow along the arrows:

    parser ───┬──► imports of a ──┬──► build the graph ──┬──► find the circles ──┬──► write the report   (critical)
    (service) ├──► imports of b ──┤                      └───────────────────────┘            :
              └──► ...          ──┘                                                   write the alarm   (if that failed)

The parser is a process of its own, which forks for each source that it gets. So all cores are busy, and a source that
crashes the parser ends only that one fork. Then the connection ends without an answer, and the job tries again, twice.
If a module cannot be read or parsed, the graph would lack its imports, so an alarm is written instead of a report, and
the exit code is 1.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import platform
import socketserver
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from pathlib import Path

import anyio
from anyio.abc import TaskStatus
from anyio.streams.text import TextReceiveStream

from trioflow import Job, JobState, Scheduler, Service, current_scheduler, job

LIBRARY = Path(sysconfig.get_path("stdlib"))
SKIPPED = {"test", "tests", "idle_test"}
OUTPUT = Path(__file__).with_name("output")

Import = tuple[
    int, str, list[str]
]  # `from ..a import b, c` is (2, "a", ["b", "c"]); `import a` is (0, "a", [])
Graph = dict[str, list[str]]  # each module with those that it imports

# ---------------------------------------------------------------- the parser, in a process of its own


def imports_in(source: bytes) -> Iterator[Import]:
    """Yield all imports of a module, also those inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names]


class Parse(socketserver.StreamRequestHandler):
    """One connection: it receives a source, and sends back its imports, or what is wrong with it."""

    def handle(self) -> None:
        try:
            answer: object = list(imports_in(self.rfile.read()))
        except (SyntaxError, ValueError, RecursionError) as error:
            answer = str(error)
        with contextlib.suppress(ConnectionError):  # the client has gone
            self.wfile.write(json.dumps(answer).encode())


class ParserServer(socketserver.ForkingTCPServer):
    request_queue_size = 1024  # without a window, all jobs connect at once; with the default of 5 most would be refused
    parent = os.getppid()

    def service_actions(self) -> None:
        super().service_actions()
        if (
            os.getppid() != self.parent
        ):  # the parent was killed, and could not end this process
            sys.exit()


def serve() -> None:
    """Print the port, and serve until killed."""
    with ParserServer(("127.0.0.1", 0), Parse) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


# ---------------------------------------------------------------- the work


async def parser(*, task_status: TaskStatus[int]) -> None:
    """Start the parser. It is ready when it has printed its port, and is killed when this is cancelled."""
    command = [sys.executable, "-W", "ignore", __file__, "--serve"]
    async with await anyio.open_process(
        command, stderr=None, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            task_status.started(int(await TextReceiveStream(process.stdout).receive()))
            raise ChildProcessError(f"the parser ended with {await process.wait()}")
        except anyio.get_cancelled_exc_class():
            # On asyncio a cancellation comes once, and would leave the process to the wait at the end of the block.
            process.kill()
            raise


async def imports_of(path: Path, port: int) -> list[Import]:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(await anyio.Path(path).read_bytes())
        await stream.send_eof()
        answer = b"".join([part async for part in stream])
    found: list[Import] | str = json.loads(answer or '"the parser gave no answer"')
    if isinstance(found, str):
        raise ValueError(f"{path}: {found}")
    return found


@job(label="build the graph")
async def build_graph(modules: dict[str, Path], imports: list[list[Import]]) -> Graph:
    """Keep imports of modules of the library; `from a import b` means a.b if that is a module."""
    graph: Graph = {}
    for (module, path), found in zip(modules.items(), imports, strict=True):
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        targets: set[str] = set()
        for level, name, members in found:
            base = package.rsplit(".", level - 1)[0] if level else ""
            origin = ".".join(filter(None, (base, name)))
            targets.update(
                one
                for one in (origin, *(f"{origin}.{member}" for member in members))
                if one in modules
            )
        graph[module] = sorted(targets - {module})
    return graph


@job(label="find the circles")
async def find_circles(graph: Graph) -> list[list[str]]:
    """Return the strongly connected components of more than one module, the largest first.

    Kosaraju 1978, after Sharir 1981, O(V + E): going back along the imports from the module that is finished last
    among those that are left, one reaches its part and nothing else.
    """
    back: Graph = {module: [] for module in graph}
    for module, targets in graph.items():
        for target in targets:
            back[target].append(module)
    seen: set[str] = set()
    parts = [
        sorted(finished(back, [module], seen))
        for module in reversed(list(finished(graph, graph, set())))
    ]
    return sorted((part for part in parts if len(part) > 1), key=len, reverse=True)


def finished(graph: Graph, starts: Iterable[str], seen: set[str]) -> Iterator[str]:
    """Yield what can be reached and has not been seen, in post-order."""
    path: list[str] = []
    ways = [
        iter(starts)
    ]  # what is still to be visited: from the start, and from each module on the path
    while ways:
        for module in ways[-1]:
            if module not in seen:
                seen.add(module)
                path.append(module)
                ways.append(iter(graph[module]))
                break
        else:
            ways.pop()
            if path:
                yield path.pop()


@job(label="write the report", critical=True)
async def write_report(report: Path, graph: Graph, circles: list[list[str]]) -> str:
    found = {"python": platform.python_version(), "imports": graph, "circles": circles}
    await anyio.Path(report).write_text(json.dumps(found, indent=1))
    edges, largest = sum(map(len, graph.values())), len(circles[0]) if circles else 0
    return f"{len(graph)} modules, {edges} imports, {len(circles)} circles, the largest of {largest} modules"


async def write_alarm(alarm: Path) -> None:
    scheduler = current_scheduler()
    failed = [one for one in scheduler if one.state is JobState.FAILED]
    lines = [
        f"{one.label}, attempt {one.attempts}: {one.raised_exception()!r}\n"
        for one in failed
    ]
    await anyio.Path(alarm).write_text("".join(lines))


# ---------------------------------------------------------------- the scenario, and the command


def scenario(output: str = str(OUTPUT), limit: int | None = None) -> Scheduler:
    """Return what the command `trioflow` runs, for a directory and a number of modules, the largest ones."""
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    modules = find_modules(LIBRARY, limit)
    return drawing_up(
        modules, folder / "module_graph.json", folder / "module_graph.failed"
    )[0]


def drawing_up(
    modules: dict[str, Path], report: Path, alarm: Path
) -> tuple[Scheduler, Job[str]]:
    """Return the scheduler, and the job whose result is a summary of the report."""
    scheduler = Scheduler(label="module graph", jobs_window=os.cpu_count())
    service: Service[int] = scheduler.add(Service(parser, label="parser", timeout=10))
    imports = scheduler.map(imports_of, modules.values(), repeat(service), retry=2)
    for one, module in zip(imports, modules, strict=True):
        one.label = f"imports of {module}"
    graph = build_graph(modules, imports)
    written = scheduler.add(
        write_report(report, graph, find_circles(graph))
    )  # this also adds its inputs
    scheduler.add(
        Job(
            write_alarm,
            alarm,
            label="write the alarm",
            run_if="failed",
            required=written,
        )
    )
    return scheduler, written


def find_modules(library: Path, limit: int | None) -> dict[str, Path]:
    """Return the names and files of all modules, the largest first, because they take longest."""
    found: dict[str, Path] = {}
    for path in sorted(
        library.rglob("*.py"), key=lambda path: path.lstat().st_size, reverse=True
    ):
        parts = path.relative_to(library).with_suffix("").parts
        if SKIPPED.isdisjoint(parts) and all(
            map(str.isidentifier, parts)
        ):  # "site-packages" is not a name
            found[".".join(parts).removesuffix(".__init__")] = path
    return dict(islice(found.items(), limit))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Find the modules of the standard library that import each other."
    )
    parser.add_argument(
        "--library",
        type=Path,
        default=LIBRARY,
        metavar="DIR",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=OUTPUT,
        metavar="DIR",
        help="default: output/ beside this file",
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
        "--limit", type=int, metavar="N", help="only the N largest modules"
    )
    parser.add_argument(
        "--serve", action="store_true", help=argparse.SUPPRESS
    )  # how the service starts its process
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    if options.serve:
        serve()
    options.output.mkdir(parents=True, exist_ok=True)
    report, alarm = (
        options.output / "module_graph.json",
        options.output / "module_graph.failed",
    )
    for earlier in (report, alarm):
        earlier.unlink(missing_ok=True)
    scheduler, written = drawing_up(
        find_modules(options.library, options.limit), report, alarm
    )
    start = time.perf_counter()
    if not scheduler.run(backend=options.backend, jobs_window=options.window):
        print(f"no report; what failed: {os.path.relpath(alarm)}")
        return 1
    print(
        f"{written.result()}; {time.perf_counter() - start:.1f} s; report: {os.path.relpath(report)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
