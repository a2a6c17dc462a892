"""The monitor in real programs: in a terminal that is resized and interrupted, in a pipe."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
import pytest
from ...jobs.posix.process_trees import until_there
from ...pythons import Python, python
from .session import Session

SLEEPERS = """
    import anyio, sys, time
    from trioflow import Job, Monitor, Scheduler

    async def nap(seconds):
        await anyio.sleep(seconds)

    jobs = [Job(nap, 1000, label=f"job {number} with a label that takes some space") for number in range(5)]
    scheduler = Scheduler(*jobs, label="run", instruments=[Monitor()])
"""


def is_sane(session: Session) -> bool:
    """Return whether the cursor is visible and no alternate screen was ever used."""
    return not session.screen.cursor.hidden and b"\x1b[?1049h" not in session.written


@pytest.mark.parametrize("library", ["trio", "asyncio"])
def test_the_output_of_commands_is_above_the_picture(
    session: Callable[..., Session], library: str
) -> None:
    code = f"""
        import subprocess
        from trioflow import CommandJob, Monitor, Scheduler

        code = "echo begin $0; printf half; sleep 0.05; echo ' of it'; echo error $0 >&2; printf '\\\\377 end'"
        jobs = [CommandJob(["sh", "-c", code, str(number)], label=f"command {{number}}") for number in range(3)]
        Scheduler(*jobs, label="run", instruments=[Monitor()]).run(backend="{library}")
    """
    shown = session(code, lines=30).end()
    place = next(
        number for number, line in enumerate(shown) if line.startswith(" run  ✓ ")
    )
    said = [f"begin {n}" for n in range(3)] + [f"error {n}" for n in range(3)]
    assert sorted(shown[:place]) == sorted(
        [*said, *["half of it"] * 3, *["\\xff end"] * 3]
    )
    assert [line.split()[-2:] for line in shown[place + 1 :]] == [
        ["command", str(n)] for n in range(3)
    ]


def test_a_failure_is_told_once(session: Callable[..., Session]) -> None:
    """A program with a monitor of its own once told a failure, and that the run failed, twice on the terminal."""
    code = """
        from trioflow import Job, Monitor, Scheduler

        async def feed():
            raise ValueError("no such animal")

        Scheduler(Job(feed), label="zoo", instruments=[Monitor()]).run()
    """
    assert [line.split(", ")[0].split("s  ")[-1] for line in session(code).end()] == [
        " zoo  ✗ 1 failed of 1",
        "feed()  ValueError: no such animal",
    ]


@pytest.mark.parametrize("streams", ["together", "apart"])
def test_lines_of_a_monitor_and_of_the_log_are_not_told_twice(
    tmp_path: Path, streams: str
) -> None:
    """In one file, only the monitor tells of a failure; if standard output is another file, so does the log."""
    code = """
        from trioflow import Job, Monitor, Scheduler

        async def feed():
            raise ValueError("no such animal")

        Scheduler([Job(feed) for _ in range({})], label="zoo", instruments=[Monitor()]).run()
    """
    for count in (1, 201):  # of many jobs, the lines are only the progress
        with (
            (tmp_path / "out").open("w+b") as out,
            (tmp_path / "errors").open("w+b") as errors,
        ):
            stderr = out if streams == "together" else errors
            python("-c", textwrap.dedent(code.format(count)), stdout=out, stderr=stderr)
            lines, logged = (
                Path(file.name).read_text().splitlines() for file in (out, errors)
            )
        assert sum("no such animal" in line for line in lines) == (
            streams == "together" or count == 1
        )
        assert sum("the run has failed" in line for line in [*lines, *logged]) == (
            streams == "apart"
        )
        assert sum("no such animal" in line for line in logged) == (streams == "apart")


@pytest.mark.parametrize("library", ["trio", "asyncio"])
def test_ctrl_c_ends_the_run_cleanly(
    session: Callable[..., Session], library: str
) -> None:
    """After Ctrl-C the last picture shows the interruption, the cursor is visible, and the traceback is below."""
    program = session(SLEEPERS + f"    scheduler.run(backend={library!r})")
    program.until(lambda lines: "5 running" in "".join(lines))
    assert program.screen.cursor.hidden
    program.type(b"\x03")
    lines = program.end()
    assert is_sane(program)
    assert lines[-1] == "KeyboardInterrupt: Ctrl-C ended the run of 'run' cleanly"
    assert b"interrupted, 0 of 5 jobs succeeded, " in program.written
    assert b"5 cancelled" in program.written


def test_second_ctrl_c_restores_the_terminal_of_a_blocked_loop(
    session: Callable[..., Session], tmp_path: Path
) -> None:
    program = session(
        SLEEPERS
        + f"""
    from pathlib import Path
    from trioflow._core.scheduler import _sync_run

    asked = []
    interrupt = _sync_run.SignalHandler.interrupt
    _sync_run.SignalHandler.interrupt = lambda *args: asked.append(interrupt(*args))

    async def block():
        while not asked:
            time.sleep(0.001)
        time.sleep(_sync_run.STALL_SECONDS)
        Path({str(tmp_path / "asked")!r}).touch()
        time.sleep(1000)

    scheduler.add(Job(block, label="block"))
    scheduler.run()
    """
    )
    program.until(lambda lines: any("1 s  block" in line for line in lines))
    program.type(b"\x03")
    until_there(
        tmp_path / "asked"
    )  # a second one counts only when the loop has stood still for a while
    program.type(b"\x03")
    program.end()
    assert is_sane(program)


def test_program_that_exits_during_a_run_gets_its_cursor_back(
    session: Callable[..., Session], tmp_path: Path
) -> None:
    program = session(
        SLEEPERS
        + f"""
    import asyncio, os

    async def until_seen():
        while not os.path.exists({str(tmp_path / "seen")!r}):
            await asyncio.sleep(0.01)

    loop = asyncio.new_event_loop()
    task = loop.create_task(scheduler.co_run())
    loop.run_until_complete(until_seen())
    sys.exit(3)
    """
    )
    program.until(lambda lines: "5 running" in "".join(lines))
    (tmp_path / "seen").touch()
    assert "5 running" in "".join(program.end())
    assert b"\x1b[?25l" in program.written
    assert is_sane(program)


def test_resizing_the_terminal_redraws_the_picture(
    session: Callable[..., Session],
) -> None:
    """When the terminal is resized, the picture is redrawn in the new size, down to three lines and twenty columns."""
    program = session(SLEEPERS + "    scheduler.run()", columns=80, lines=24)
    program.until(lambda lines: len(lines) == 7 and "5 running" in lines[1])
    program.resize(20, 3)
    lines = program.until(
        lambda lines: any("0%" in line and len(line) <= 20 for line in lines[:2])
    )
    program.resize(100, 20)
    lines = program.until(
        lambda lines: (
            sum("job 4 with a label that takes some space" in line for line in lines)
            == 1
        )
    )
    assert "5 running" in "".join(lines)
    program.type(b"\x03")
    program.end()
    assert is_sane(program)


def test_dumb_terminals_get_lines_instead_of_a_picture(
    session: Callable[..., Session],
) -> None:
    program = session(
        SLEEPERS
        + "    [scheduler.remove(job) for job in jobs[1:]]; jobs[0].timeout = 0.01; scheduler.run()",
        TERM="dumb",
    )
    program.end()
    assert b"\x1b" not in program.written
    assert (
        b" run: 1 job" in program.written
    )  # not on the screen any more, if the line of the log is long


def test_closing_the_pipe_does_not_stop_the_run() -> None:
    code = """
    import anyio, sys
    from trioflow import Job, Monitor, Scheduler
    jobs = [Job(anyio.sleep, 0.001 * number, label=f"job {number}") for number in range(50)]
    print(Scheduler(*jobs, instruments=[Monitor()]).run(), file=sys.stderr)
    """
    program = Python(
        ["-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stderr is not None
    assert program.stdout.readline()[9:] == "Scheduler: 50 jobs\n"
    program.stdout.close()
    said = program.stderr.read()
    program.stderr.close()
    program.wait()
    assert said.splitlines()[0] == "True"


@pytest.mark.parametrize(
    ("words", "running"),
    [
        ("{flow}", "5 running"),
        ("-m trioflow batch --bar -j3 sleep ::: 1000 1000 1000", "3 running"),
    ],
    ids=["monitor", "batch"],
)
def test_ctrl_z_leaves_the_prompt_of_the_shell_a_cursor(
    session: Callable[..., Session], tmp_path: Path, words: str, running: str
) -> None:
    """The shell's prompt had no cursor, and stood behind the picture; `fg` draws the picture anew.

    A batch with `--bar`, whose display is there before its run, once died of a RecursionError.
    """
    flow = tmp_path / "flow.py"
    flow.write_text(textwrap.dedent(SLEEPERS) + "\nscheduler.run()\n", "utf-8")
    line = words.format(flow=flow)
    script = f"set -m; {sys.executable} {line}; echo status $?; read line; fg"
    program = session(
        f"import os; os.execv('/bin/bash', ['bash', '-c', {script!r}])", columns=80
    )
    program.until(lambda lines: any(running in line for line in lines))
    assert program.screen.cursor.hidden
    program.type(b"\x1a")
    shown = program.until(lambda lines: any("status 148" in line for line in lines))
    assert not program.screen.cursor.hidden
    assert not any(running in line for line in shown)
    program.type(b"\n")
    program.until(lambda lines: any(running in line for line in lines))
    program.type(b"\x03")
    program.end()
    assert is_sane(program)
