"""The table of `docs/how-to/clusters.md`: what holds for ProcessJobs on each engine that pip installs."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
import pytest
from ...places import PATIENCE, ROOT, patiently
from .engines import COLUMNS, ENGINES, PAGE

IN_EVERY_RUN = ["`ProcessPoolExecutor`"]
"""The engine that needs nothing, and is the fastest. `.ci/run engines` has all: Ray alone takes 220 MB."""
BY_HAND = ["MPI"]
"""The engines that need programs which pip does not install."""


def rows_of_the_page() -> dict[str, dict[str, str]]:
    """Return what the page says of each engine: in the table, and in the sentences above it."""
    lines = re.findall(r"(?m)^\| (.*) \|$", PAGE.read_text(encoding="utf-8"))
    table = [line.split(" | ") for line in lines]
    header = next(cells for cells in table if cells[0] == "engine")
    rows = [
        cells for cells in table if len(cells) == len(header) and cells[0] in ENGINES
    ]
    return {
        cells[0]: {
            **dict(zip(header[1:], cells[1:], strict=True)),
            "results between jobs": "stay there" if cells[0] == "Dask" else "come here",
            "restored by a journal": "yes",
        }
        for cells in rows
    }


def observe(engine: str, folder: Path, unit: float) -> dict[str, str]:
    """Run the program that observes an engine, with Ctrl-C as from a terminal, and return its row."""
    errors = folder / "errors"
    with errors.open("wb") as file:
        program = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.jobs.process.engines",
                engine,
                str(folder),
                str(unit),
            ],
            stdout=subprocess.PIPE,
            stderr=file,
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            start_new_session=True,
        )
    assert program.stdout is not None
    row: dict[str, str] = {}
    try:
        for line in program.stdout:
            if line == b"failed\n":
                break
            if line == b"ready\n":
                os.killpg(program.pid, signal.SIGINT)
                end = time.monotonic() + 4 * unit
                while (
                    time.monotonic() < end and not (folder / "Ctrl-C" / "go").exists()
                ):
                    time.sleep(0.01)
                (folder / "Ctrl-C" / "go").touch()
            elif line.startswith(b"{"):  # an engine may print lines, too
                row = json.loads(line)
                if len(row) == len(COLUMNS):
                    return row
        pytest.fail(f"{row}, then: {errors.read_text(encoding='utf-8')[-5000:]}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.stdout.close()
        program.wait(PATIENCE)


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(engine, marks=() if engine in IN_EVERY_RUN else pytest.mark.soak)
        for engine in ENGINES
        if engine not in BY_HAND
    ],
)
@patiently(0.5, 2, 8)
def test_the_page_says_what_holds_on_an_engine(
    engine: str, tmp_path: Path, unit: float
) -> None:
    """What the page says of a timeout, the queue, data, a journal, a killed worker and Ctrl-C is what is observed."""
    expected = rows_of_the_page()[engine]
    assert observe(engine, tmp_path, unit) == expected


def test_the_page_has_a_row_for_each_engine() -> None:
    assert rows_of_the_page().keys() == ENGINES.keys()
