"""A program that runs apssh's jobs, here and on a node: port, key, user and a folder are its arguments."""

import json
import sys
from pathlib import Path
import asyncssh
from apssh import (
    CaptureFormatter,
    LocalNode,
    Pull,
    Push,
    Run,
    RunString,
    SshJob,
    SshNode,
)
from asynciojobs import Scheduler, Sequence
from asynciojobs import __name__ as name

port, key, user, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])


def node_with(formatter):
    keys = [asyncssh.read_private_key(key)]
    return SshNode(
        "127.0.0.1", port=port, username=user, keys=keys, formatter=formatter
    )


far, here = CaptureFormatter(), CaptureFormatter()
node, local = node_with(far), LocalNode(formatter=here)
(folder / "source").write_text("pushed and pulled\n")

scheduler = Scheduler()
failing = SshJob(node, command="exit 3", label="failing", critical=False)
Sequence(
    SshJob(node, command="echo hello from afar"),
    SshJob(
        node,
        commands=[
            RunString("#!/bin/sh\necho script got $1 $2\n", "one", "two"),
            Push(localpaths=str(folder / "source"), remotepath=str(folder / "remote")),
            Run("cat", str(folder / "remote")),
            Pull(remotepaths=str(folder / "remote"), localpath=str(folder / "pulled")),
        ],
    ),
    SshJob(local, command="echo hello from here"),
    failing,
    scheduler=scheduler,
)
report = {"asynciojobs is": name, "result": scheduler.run()}
report["output"] = far.get_capture().split("\n")[:3]
report["local"] = [
    line.strip() for line in here.get_capture().split("\n") if line.strip()
]
report["failed"] = failing.result()
report["pulled"] = (folder / "pulled").read_text().strip()
scheduler.list(details=True)
report["listed"] = "hello from afar" in scheduler.dot_format()

try:
    Scheduler(SshJob(node_with(CaptureFormatter()), command="false")).run()
except Exception as error:
    report["critical"] = type(error).__name__
print("REPORT", json.dumps(report))
