"""A program works in the same way however it is started: a table of doors and kinds of jobs, with its exceptions.

docs/platforms.md names the exceptions for users."""

import os
import shutil
import subprocess
import sys
import zipapp
from collections.abc import Callable
from pathlib import Path
import pytest
from .places import PATIENCE
from .pythons import make_program

PROGRAM = """
import os, sys
import trioflow.look
from trioflow import CommandJob, Job, ProcessJob, Scheduler, ThreadJob

def double(number):
    return 2 * number

async def double_soon(number):
    return 2 * number

def show():
    for job in kinds:
        error = job.raised_exception()
        text = str(job.result() if error is None else error)
        print(f"{job.label}: {text}{', restored' * job.restored}", flush=True)

kinds = [
    Job(double_soon, 21, label="Job"),
    ThreadJob(double, 21, label="ThreadJob"),
    ProcessJob(double, 21, label="ProcessJob", log=False),
    CommandJob("exit 0", shell=True, label="CommandJob"),
    CommandJob([os.environ["LOOKS"], "look", str(os.getpid())], stdout=-1, label="look", save=None),
]
scheduler = Scheduler(kinds, ThreadJob(show, required=kinds, run_if="settled", save=None), journal="run.db", log=False)
"""
START = """
if __name__ == "__main__":
    trioflow.look.enable()
    scheduler.run(backend=BACKEND)
"""
"""What `trioflow run` does itself."""
NOT_SENT = "its function double cannot be sent to a process"


def plain(
    *words: str, name: str = "flow.py", program: str = PROGRAM + START
) -> Callable[[Path, str], str]:
    """Return the door of a program in a file, which is started with these words."""

    def enter(folder: Path, backend: str) -> str:
        (folder / name).write_text(program.replace("BACKEND", repr(backend)), "utf-8")
        return started(folder, *words)

    return enter


def started(folder: Path, *words: str, text: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=PATIENCE,
    )  # fmt: skip
    return done.stdout


def as_text(folder: Path, backend: str) -> str:
    return started(folder, "-c", (PROGRAM + START).replace("BACKEND", repr(backend)))


def in_zip(folder: Path, backend: str) -> str:
    """Start a zip application that holds trioflow, too, and whose functions are in a module of it."""
    source = folder / "app"
    if not source.exists():
        import trioflow

        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(
            os.path.dirname(trioflow.__file__), source / "trioflow", ignore=ignored
        )
    (source / "flow.py").write_text(PROGRAM, "utf-8")
    (source / "__main__.py").write_text(
        "from flow import *\n" + START.replace("BACKEND", repr(backend)), "utf-8"
    )
    zipapp.create_archive(source, folder / "app.pyz")
    return started(folder, "app.pyz")


def as_package(folder: Path, backend: str) -> str:
    (folder / "package").mkdir(exist_ok=True)
    (folder / "package" / "__main__.py").write_text(
        (PROGRAM + START).replace("BACKEND", repr(backend)), "utf-8"
    )
    return started(folder, "-m", "package")


def by_link(folder: Path, backend: str) -> str:
    (folder / "bin").mkdir(exist_ok=True)
    if not (folder / "bin" / "v1.2").is_symlink():
        (folder / "bin" / "v1.2").symlink_to("../flow.py")
    return plain("bin/v1.2")(folder, backend)


def in_debugger(folder: Path, backend: str) -> str:
    plain("-c", "")(folder, backend)
    return started(folder, "-m", "pdb", "flow.py", text="continue\nquit\n")


def by_command(folder: Path, backend: str) -> str:
    (folder / "html.v1.py").write_text(PROGRAM, "utf-8")  # no module has this name
    return started(
        folder,
        "-m",
        "trioflow",
        "run",
        "html.v1.py",
        "--no-monitor",
        "--backend",
        backend,
    )


def in_pytest(folder: Path, backend: str) -> str:
    test = f"\ndef test_it():\n    trioflow.look.enable()\n    scheduler.run(backend={backend!r})\n"
    (folder / "test_flow.py").write_text(PROGRAM + test, "utf-8")
    return started(
        folder, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "test_flow.py"
    )


def in_notebook(folder: Path, backend: str) -> str:
    import nbformat
    from nbclient import NotebookClient

    cells = [PROGRAM, "trioflow.look.enable()", f"scheduler.run(backend={backend!r})"]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells]
    )
    NotebookClient(
        notebook, timeout=PATIENCE, resources={"metadata": {"path": str(folder)}}
    ).execute()
    return "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.outputs
    )


DOORS: dict[str, tuple[Callable[[Path, str], str], str]] = {
    "file": (plain("flow.py"), ""),
    "no suffix": (plain("flow", name="flow"), ""),
    "-m": (plain("-m", "flow"), ""),
    "-m package": (as_package, NOT_SENT),
    "-c": (as_text, NOT_SENT),
    "zip": (in_zip, ""),
    "link": (by_link, ""),
    "pdb": (in_debugger, ""),
    "trioflow run": (by_command, ""),
    "notebook": (in_notebook, NOT_SENT),
    "pytest": (in_pytest, ""),
    "frozen": (
        plain("flow.py", program="import sys\nsys.frozen = True\n" + PROGRAM + START),
        "set_executable",
    ),
    "embedded": (
        plain(
            "flow.py", program="import sys\nsys.executable = None\n" + PROGRAM + START
        ),
        "set_executable",
    ),
}
"""How a program is started, and what the error of a ProcessJob says there; "" if it works."""


@pytest.mark.parametrize("name", DOORS)
def test_each_kind_works_through_each_door_or_says_what_to_do(
    name: str, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run has its results from the journal, which knows functions by their names."""
    make_program(tmp_path / "looks", "-m", "trioflow")
    monkeypatch.setenv("LOOKS", str(tmp_path / "looks"))
    enter, problem = DOORS[name]
    for suffix in ("", ", restored") if name in ("link", "trioflow run") else ("",):
        output = enter(tmp_path, backend).replace("(Pdb) ", "")
        found = dict(
            line.split(": ", 1) for line in output.splitlines() if ": " in line
        )
        expected = {
            "Job": f"42{suffix}",
            "ThreadJob": f"42{suffix}",
            "ProcessJob": f"42{suffix}",
        }
        if problem:
            assert problem in found["ProcessJob"], output
            del expected["ProcessJob"]
        assert expected.items() <= found.items(), output
        assert "returncode=0" in found["CommandJob"], output
        assert "returncode=0" in found["look"], output
