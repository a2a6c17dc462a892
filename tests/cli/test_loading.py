"""While the command loads a user's file, nothing runs: a run is refused where it would begin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ..places import ROOT
from .command_line import labels, trioflow, written

FLOW = "flow = Scheduler(Job(work), label='flow')\n"
"""`work` prints "works"."""
DOORS = {
    "run()": "flow.run()",
    "run() on asyncio": "flow.run(backend='asyncio')",
    "asyncio.run": "import asyncio\nasyncio.run(flow.co_run())",
    "trio.run": "import trio\ntrio.run(flow.co_run)",
    "anyio.run": "anyio.run(flow.co_run)",
    "virtual time": "from trioflow.testing import run_virtual\nrun_virtual(flow.co_run)",
    "async main": "async def main():\n    print(await flow.co_run(), 'works')\nanyio.run(main)",
    "function": "def main():\n    return flow.run()\nmain()",
    "nursery": """
import trio
async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flow.co_run)
trio.run(main)""",
    "async with on trio": "async def main():\n    async with flow:\n        print('works')\nanyio.run(main)",
    "async with on asyncio": """
import asyncio
async def main():
    async with flow:
        print('works')
asyncio.run(main())""",
}
"""Programs that run `flow` by their last line, when they are loaded."""
HIDDEN_DOORS = {
    "except": "try:\n    flow.run()\nexcept Exception:\n    pass\nprint('works')",
    "thread": "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor(1).submit(flow.run).result()",
    "compat": "from trioflow.compat.asynciojobs import Job, Scheduler\nScheduler(Job(work()), label='flow').run()",
}
COMMANDS = {"run": ["--no-monitor"], "list": [], "graph": ["-o", "flow.dot"], "check": []}


@pytest.mark.parametrize(
    ("command", "door"), [*((name, "run()") for name in COMMANDS), *(("check", name) for name in DOORS)]
)
def test_a_run_is_refused_where_it_would_begin(tmp_path: Path, door: str, command: str) -> None:
    """The error of each command names the line of the file that begins the run, and shows where it belongs."""
    file = written(tmp_path, FLOW + DOORS[door])
    done = trioflow(command, file, *COMMANDS[command])
    assert done.exit_code == 2
    assert "works" not in done.stdout
    source = Path(file).read_text("utf-8").splitlines()
    assert f"{file}, line {len(source)}: 'flow' would run" in done.stderr
    assert f'if __name__ == "__main__":\n      {source[-1]}\n' in done.stderr


@pytest.mark.parametrize("door", HIDDEN_DOORS)
def test_a_refused_run_is_reported_whatever_the_file_does_about_it(tmp_path: Path, door: str) -> None:
    done = trioflow("check", written(tmp_path, FLOW + HIDDEN_DOORS[door]))
    assert done.exit_code == 2
    assert "works" not in done.stdout
    assert "'flow' would run" in done.stderr


def test_a_module_that_the_file_imports_runs_nothing(tmp_path: Path) -> None:
    module = Path(written(tmp_path, FLOW + "flow.run()", "library_of_flow.py"))
    done = trioflow("check", written(tmp_path, "from library_of_flow import flow"))
    assert done.exit_code == 2
    assert f"{module}, line {len(module.read_text('utf-8').splitlines())}: 'flow' would run" in done.stderr


def test_a_function_that_builds_the_scenario_does_not_run_it(tmp_path: Path) -> None:
    file = written(tmp_path, "def scenario():\n    flow = Scheduler(Job(work), label='flow')\n    flow.run()\n")
    done = trioflow("run", file)
    assert done.exit_code == 2
    assert "works" not in done.stdout
    number = len(Path(file).read_text("utf-8").splitlines())
    assert f"{file}, line {number}: 'flow' would run" in done.stderr
    assert "Return the Scheduler" in done.stderr


def test_a_file_may_simulate_its_scheduler_while_it_is_loaded(tmp_path: Path) -> None:
    done = trioflow("list", written(tmp_path, FLOW + "assert simulate(flow).makespan == 1.0"))
    assert labels(done.stdout) == ["work()"]


def test_runs_begin_again_after_a_file_was_rejected(tmp_path: Path) -> None:
    trioflow("check", written(tmp_path, FLOW + "flow.run()", "wrong.py"))
    done = trioflow("run", "--no-monitor", written(tmp_path, FLOW))
    assert done.exit_code == 0
    assert "works" in done.stdout


@pytest.mark.parametrize("command", ["check", "list", "graph"])
def test_the_program_of_the_readme_publishes_nothing_when_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A reader who saves the program, and asks about it, has run nothing of it."""
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text("utf-8")
    program = next(block for block in re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S) if "publish" in block)
    Path("weather.py").write_text(program.replace('"echo", "published"', '"touch", "published"'), "utf-8")
    done = trioflow(command, "weather.py", *COMMANDS[command])
    assert done.exit_code == 0, done.stderr
    assert "publish" in done.stdout or command != "list"
    assert not Path("published").exists()
    assert not Path("weather.db").exists()
