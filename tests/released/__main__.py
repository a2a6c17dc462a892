"""Make the folder of this version: ``python -m tests.released``."""

import gzip
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any
import trioflow
from .. import public_names
from ..pythons import python
from . import FILES, FLOW, HERE

RUN = """
import flow
import trioflow
from trioflow import Events, Journal, Trace
from trioflow.view import save

if __name__ == "__main__":
    scheduler = flow.flow()
    scheduler.durations = "durations.json"
    (deploy,) = [job for job in scheduler.iterate_jobs() if job.label == "deploy"]

    async def say() -> None:
        deploy.answer("yes")

    scheduler.add(trioflow.Job(say, save=None))
    trace = Trace()
    scheduler.run(journal=Journal("run.db", hash=True), instruments=[trace, Events("events.jsonl")])
    save(trace, "trace.json")
"""


def anonymous(value: Any) -> Any:
    """Return JSON that names another machine."""
    text = re.sub(
        re.escape(json.dumps(os.uname().nodename)),
        '"example"',
        json.dumps(value, ensure_ascii=True),
    )
    return json.loads(text)


def main() -> None:
    """Run the scenario in an empty directory, and keep what the run has written."""
    folder = HERE / trioflow.__version__
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        shutil.copy(FLOW, place)
        for name, text in FILES.items():
            Path(place, name).write_text(text)
        Path(place, "run.py").write_text(RUN)
        done = python("run.py", cwd=place, text=True)
        assert done.returncode == 0, done.stderr
        (folder / "run.db.gz").write_bytes(
            gzip.compress(Path(place, "run.db").read_bytes(), mtime=0)
        )
        shutil.copy(Path(place, "durations.json"), folder)
        lines = Path(place, "events.jsonl").read_text().splitlines()
        (folder / "events.jsonl").write_text(
            "".join(json.dumps(anonymous(json.loads(line))) + "\n" for line in lines)
        )
        (folder / "trace.json").write_text(
            json.dumps(anonymous(json.loads(Path(place, "trace.json").read_text())))
        )
    shutil.copy(public_names.FILE, folder)


main()
