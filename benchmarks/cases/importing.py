"""How long it takes to import trioflow, with and without what it builds on; each time in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from ..measuring import Contest, Contestant, Sample, Setting
from ..plans import Plan
from ..rivals import OURS

ROOT: Final = Path(__file__).resolve().parents[2]

NEEDED: Final = "trio, anyio"
WITH_OURS: Final = f"{NEEDED}, {OURS}"

SCRIPT: Final = """
import time
cpu, wall = time.process_time(), time.perf_counter()
import {modules}
print(time.process_time() - cpu, time.perf_counter() - wall)
"""


def importing(plan: Plan) -> Iterator[Contest]:
    """Import the libraries that trioflow builds on, with it and without it; and it alone, as users do."""
    contestants = [
        Contestant(modules, Setting("", body="import"), partial(attempt, modules), partial(attempt, modules))
        for modules in (NEEDED, WITH_OURS, OURS)
    ]
    yield Contest("import", contestants, 1 if plan.rounds == 1 else 10)


def attempt(modules: str) -> Sample:
    """Import in a new process; the rehearsal has left the compiled files."""
    path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # or each process would compile trioflow again, unlike an installed one
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(modules=modules)],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    cpu, wall = map(float, done.stdout.split())
    return {"import": cpu * 1e3, "import wall": wall * 1e3}
