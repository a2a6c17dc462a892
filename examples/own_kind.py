"""Define a kind of job of your own: a command in a sandbox (bubblewrap), which cannot write files or use the network.

trioflow run examples/own_kind.py --set numbers=9 --journal run.db --report report.html
"""

from __future__ import annotations

import os
from subprocess import PIPE, STDOUT, Popen
from typing import Any, Unpack

from trioflow import CommandError, CommandResult, Pool, Scheduler
from trioflow.abc import (
    BoxStyle,
    JobKind,
    JobOptions,
    RunHandle,
    TimeLimit,
    arguments_of,
    label_inside,
    run_of,
)

BOX = [
    "bwrap",
    "--ro-bind",
    "/",
    "/",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
    "--unshare-all",
    "--die-with-parent",
    "--",
]


class SandboxJob(
    JobKind[CommandResult], box=BoxStyle("sandbox", "box3d"), keeps_time=True
):
    """A program with its arguments: strings, or jobs, which stand for what they have written."""

    last_result: CommandResult | None = None  # for reports

    def __init__(self, *words: Any, **options: Unpack[JobOptions]) -> None:
        super().__init__(*words, **options)
        self._words = words

    async def co_run(self) -> CommandResult:
        run: RunHandle = run_of(self)
        words = [str(getattr(one, "text", one)) for one in arguments_of(self)]
        began, output = run.clock(), b""
        process = Popen([*BOX, *words], stdout=PIPE, stderr=STDOUT, process_group=0)  # noqa: ASYNC220
        assert process.stdout is not None
        pipe, ended = (
            process.stdout.fileno(),
            os.pidfd_open(process.pid),
        )  # the latter is readable at the end
        limit: TimeLimit
        with process.stdout, run.time_limit(self, missing="output") as limit:
            try:
                while await limit.wait_readable(pipe) and (
                    piece := os.read(pipe, 65536)
                ):
                    output += piece
                    limit.heartbeat()
                if not await limit.wait_readable(ended):
                    raise limit.error()
            finally:
                os.killpg(
                    process.pid, 9
                )  # its group: it may not have tied its child to itself yet
                await run.outlast(lambda: run.wait_readable(ended))
                os.close(ended)
                _, status, usage = os.wait4(process.pid, 0)  # noqa: ASYNC222 - it has ended
                process.returncode = code = os.waitstatus_to_exitcode(status)
                self.last_result = CommandResult(
                    code, run.clock() - began, usage, output, None
                )
        if code:
            what = (
                "no sandbox can be made here"
                if output.startswith(b"bwrap: ")
                else f"exit code {code}"
            )
            raise CommandError(
                self, self.command_line(), what, self.last_result, output
            )
        return self.last_result

    def command_line(self) -> str:
        return self.default_label(1)

    def default_label(self, depth: int) -> str:
        return " ".join(
            label_inside(word, depth) if isinstance(word, JobKind) else str(word)
            for word in self._words
        )


def scenario(numbers: int = 3) -> Scheduler:
    factors = [
        SandboxJob("factor", 10**n + 1, timeout=10, needs={"cpu": 1})
        for n in range(2, numbers + 2)
    ]
    return Scheduler(
        SandboxJob("echo", *factors, label="all", idle_timeout=10), pool=Pool(cpu=2)
    )
