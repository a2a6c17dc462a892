"""Imports in the first run of a program, and the error if one fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BEFORE = """
import json, sys, anyio
from trioflow import Job, Scheduler

before = []

async def look():
    before.append(sorted(sys.modules))
    await anyio.sleep(0)

job = Job(look)
"""


@pytest.mark.parametrize(("backend", "in_a_loop"), [("trio", False), ("asyncio", True)])
def test_the_first_job_waits_for_no_import_of_anyio(backend: str, in_a_loop: bool) -> None:
    """anyio's part for trio was once imported during the first job, which kept the loop still for 14 to 100 ms."""
    run = (
        f"anyio.run(Scheduler(job).co_run, backend={backend!r})"
        if in_a_loop
        else f"Scheduler(job).run(backend={backend!r})"
    )
    end = "print(json.dumps([name for name in set(sys.modules) - set(before[0]) if name.startswith('anyio.')]))"
    code = f"{BEFORE}\n{run}\n{end}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_error_names_a_backend_library_that_cannot_be_imported(tmp_path: Path) -> None:
    """An `attrs.py` beside the program, which hides the library that trio needs, gives an error that explains this."""
    (tmp_path / "attrs.py").write_text("")
    (tmp_path / "program.py").write_text(f"{BEFORE}\nScheduler(job).run()")
    done = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: trio cannot be imported, so backend='trio' cannot be used: ")
    assert "attrs" in last
    assert last.endswith("; does one of your files shadow a library of the same name?")
    assert "private attributes" not in done.stderr
