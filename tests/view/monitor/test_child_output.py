"""The output of child processes while a monitor draws: it is above the picture, whole, and nothing hangs."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
import pytest
from ...places import PATIENCE
from .session import Session

HEAD = """
    import os, signal, subprocess, sys, time
    import anyio
    from trioflow import CommandJob, Job, Monitor, ProcessJob, Scheduler, ThreadJob

    def sh(code):
        subprocess.run(code, shell=True)

    async def blocking(code):
        sh(code)

    def run(*jobs, tag=False, backend="trio", **options):
        monitor = Monitor(child_output=True, tag=tag)
        return Scheduler(*jobs, label="run", instruments=[monitor], **options).run(backend=backend)
"""


def above(lines: list[str]) -> list[str]:
    return lines[
        : next(number for number, line in enumerate(lines) if line.startswith(" run  "))
    ]


def is_alive(pid: int) -> bool:
    """Return whether a process still works; an unreaped zombie does not."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except OSError:
        return False


@pytest.mark.parametrize("library", ["trio", "asyncio"])
def test_no_line_of_a_child_process_is_lost(
    session: Callable[..., Session], library: str
) -> None:
    """All lines that the children of three jobs write, to both streams, are above the picture."""
    code = f"""
    code = "echo {{0}} first; sleep 0.1; echo {{0}} second >&2; sleep 0.1; echo {{0}} third"
    run(*(ThreadJob(sh, code.format(number), label=f"job {{number}}") for number in range(3)), backend="{library}")
    """
    shown = session(HEAD + code, lines=24).end()
    said = [
        f"{number} {word}"
        for number in range(3)
        for word in ("first", "second", "third")
    ]
    assert sorted(above(shown)) == said
    assert len(shown) == len(said) + 4


def test_prints_and_the_output_of_children_keep_their_order(
    session: Callable[..., Session],
) -> None:
    code = """
    async def both():
        print("one"); sh("echo two"); print("three"); sh("echo four >&2")
        print("five", file=sys.stderr); os.write(1, b"six\\n"); print("seven")
        sys.stdout.buffer.write(b"eight\\n"); sys.stdout.buffer.flush(); print("nine")

    run(Job(both))
    """
    lines = above(session(HEAD + code, lines=24).end())
    assert lines == [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
    ]


def test_locks_are_taken_in_one_order(session: Callable[..., Session]) -> None:
    """The locks around a print are taken in one order, even if many threads and children print; who draws takes one."""
    code = """
    import threading, types
    from trioflow.view.monitor import _output_buffer, _terminal

    held, pairs = threading.local(), set()

    class RankedLock:
        def __init__(self):
            owner = type(sys._getframe(1).f_locals["self"])
            self.rank = [_terminal.TerminalDisplay, _output_buffer.FdCapture, _output_buffer.OutputBuffer].index(owner)
            self.lock = threading.RLock()

        def __enter__(self):
            self.lock.acquire()
            ranks = held.__dict__.setdefault("ranks", [])
            pairs.update((rank, self.rank) for rank in ranks)
            ranks.append(self.rank)

        def __exit__(self, *_):
            held.ranks.pop()
            self.lock.release()

    for module in (_terminal, _output_buffer):
        module.threading = types.SimpleNamespace(**{**vars(threading), "RLock": RankedLock})

    def prints(text):
        for _ in range(50):
            print(text)

    texts = ["short", "long" * 5000, "no end"]
    threads = [*(ThreadJob(prints, text) for text in texts), *(ThreadJob(sh, "seq 99") for _ in range(3))]
    run(*threads, Job(blocking, "seq 9"))
    print("pairs", sorted(pair for pair in pairs if pair[0] != pair[1]), "end")
    """
    view = session(HEAD + code, lines=24)
    view.is_watched = False
    view.end()
    assert b"pairs [(1, 2)] end" in view.written


def test_partial_lines_of_different_jobs_are_kept_apart_and_tagged(
    session: Callable[..., Session],
) -> None:
    """Partial lines of jobs, commands and processes become whole lines, each with the label of its job. A child that a
    job has started itself has no tag, since its job is unknown."""
    code = """
    async def halves(name):
        for word in ("one", "two"):
            print(name, end=" ")
            await anyio.sleep(0.05)
            print(word)
        print("no end", end="")

    inner = Scheduler(Job(halves, "x", label="x"), label="in")
    program = CommandJob("printf c; sleep 0.1; echo ommand", shell=True, label="c")
    halves_of_it = "printf '%s'; sleep 0.2; echo ' whole'; printf error >&2"
    processes = [ProcessJob(os.system, halves_of_it.replace("%s", name), label=name) for name in "pqr"]
    printing = ProcessJob(print, "in", "process", kwargs={"end": ""}, label="s", required=processes)
    child = ThreadJob(sh, "echo nobody", label="t")
    run(Job(halves, "y", label="y"), inner, program, *processes, printing, child, tag=True)
    """
    lines = above(session(HEAD + code, lines=40, columns=80).end())
    parts = [f"{job}{line}" for job in ("in/x: x", "y: y") for line in (" one", " two")]
    parts += [
        f"{name}: {line}" for name in "pqr" for line in (f"{name} whole", "error")
    ]
    others = ["in/x: no end", "y: no end", "c: command", "s: in process", "nobody"]
    assert sorted(lines) == sorted([*parts, *others])


def test_ten_megabytes_of_child_output_arrive_while_the_loop_is_blocked(
    session: Callable[..., Session],
) -> None:
    """A child may write ten megabytes, even binary ones without line ends, while its job blocks the event loop."""
    code = """
    code = "head -c 5000000 /dev/zero | tr '\\\\0' x; echo; head -c 5000000 /dev/urandom; echo; echo done"
    print(run(Job(blocking, code), timeout=60))
    """
    program = session(HEAD + code)
    program.is_watched = False
    program.end()
    assert program.written.count(b"x") > 5_000_000
    assert b"\ndone" in program.written
    assert program.written.endswith(b"True\r\n")
    assert b"\x1b[?1049h" not in program.written


def test_children_end_when_the_controller_is_killed(
    session: Callable[..., Session], tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    code = f"""
    async def fork():
        if not (pid := os.fork()):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # sent when the controller of the terminal has died
            time.sleep(60)
            os._exit(0)
        with open({str(pids)!r}, "a") as file:
            print(pid, os.getpid(), file=file)

    endless = 'until test -s {pids}; do sleep 0.01; done; echo $$ >> {pids}; exec yes'
    run(Job(fork), ThreadJob(sh, endless, label="endless"))
    """
    program = session(HEAD + code)
    program.is_watched = False
    program.until(lambda _: b"y\r\ny\r\ny" in program.written)
    forked, controller, child = map(int, pids.read_text().split())
    os.kill(controller, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(forked, signal.SIGKILL)


def test_the_partial_line_of_a_killed_child_is_shown(
    session: Callable[..., Session],
) -> None:
    code = """
    run(ThreadJob(sh, "printf begun; kill -9 $$"))
    print("after")
    """
    shown = session(HEAD + code).end()
    assert above(shown) == ["begun"]
    assert shown[-1] == "after"


ENDINGS = {
    "completed": "run(ThreadJob(sh, 'echo said'))",
    "critical": "run(ThreadJob(sh, 'echo said; exit 1'), Job(blocking, None, critical=True))",
    "interrupted": "run(ThreadJob(sh, 'echo said; kill -INT $PPID; sleep 0.5'))",
    "exit": "run(ThreadJob(sh, 'echo said'), Job(leave))",
    "fault": "Monitor._current_display = None; run(ThreadJob(sh, 'echo said'))",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_descriptors_are_restored_however_the_run_ends(
    session: Callable[..., Session], ending: str
) -> None:
    """However a run ends, descriptors refer to the terminal again, and the standard streams are the original ones."""
    code = f"""
    async def leave():
        sh("echo leaving")
        sys.exit(3)

    import logging
    logging.disable()
    streams = sys.stdin, sys.stdout, sys.stderr
    try:
        {ENDINGS[ending]}
    except BaseException as error:
        assert isinstance(error, (KeyboardInterrupt, SystemExit)), error
    assert streams == (sys.stdin, sys.stdout, sys.stderr)
    assert all(os.isatty(number) for number in (0, 1, 2))
    print("printed")
    sh("test -t 1 && test -t 2 && echo from a child")
    """
    program = session(HEAD + code, lines=24)
    assert program.end()[-2:] == ["printed", "from a child"]
    assert not program.screen.cursor.hidden


def test_a_child_that_outlives_the_run_still_writes(
    session: Callable[..., Session], tmp_path: Path
) -> None:
    over, seen = tmp_path / "over", tmp_path / "seen"
    code = f"""
    run(ThreadJob(sh, "(until test -e {over}; do sleep 0.01; done; echo late) & echo early"))
    print("between")
    open({str(over)!r}, "w").close()
    while not os.path.exists({str(seen)!r}):
        time.sleep(0.01)
    print("end")
    """
    program = session(HEAD + code)
    program.until(lambda lines: "late" in lines)
    seen.touch()
    shown = program.end()
    assert above(shown) == ["early"]
    assert shown[-3:] == ["between", "late", "end"]


def test_closing_the_terminal_does_not_stop_the_run(
    session: Callable[..., Session], tmp_path: Path
) -> None:
    """When the terminal is closed, the run continues, and its children do not hang, however much they write."""
    result = tmp_path / "result"
    code = f"""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    jobs = [ThreadJob(sh, "echo one; sleep 0.5; head -c 1000000 /dev/zero; true", label="a"), Job(anyio.sleep, 0.8)]
    ended = run(*jobs)
    with open({str(result)!r}, "w") as file:
        print(ended, file=file)
    """
    program = session(HEAD + code)
    program.until(lambda lines: "one" in lines)
    program.hang_up()
    program.process.wait(PATIENCE)
    assert result.read_text() == "True\n"


def test_the_picture_is_hidden_while_input_or_a_debugger_waits(
    session: Callable[..., Session],
) -> None:
    """While `input()` or a debugger waits, the picture is hidden, and printed text is shown immediately."""
    code = """
    async def ask():
        answer = await anyio.to_thread.run_sync(input, "what? ")
        print("it was", answer)
        import pdb; value = 42; pdb.Pdb(nosigint=True).set_trace()
        return 1

    async def talk():
        for number in range(4):
            await anyio.sleep(0.1)
            sh(f"echo talk {number}")

    run(Job(ask, label="ask"), Job(talk, label="talk"))
    """
    program = session(HEAD + code, lines=30)
    program.until(
        lambda lines: (
            any(line.startswith("what?") for line in lines)
            and "talk 3" in "".join(lines)
        )
    )
    assert not any(line.startswith(" run  ") for line in program.shown())
    assert not program.screen.cursor.hidden
    program.type(b"it\n")
    program.until(lambda lines: lines[-1].startswith("(Pdb)"))
    program.type(b"p value + 1\n")
    program.until(lambda lines: "43" in lines)
    program.type(b"c\n")
    shown = program.end()
    assert "it was it" in above(shown)
    assert shown[-1].endswith("talk")
    assert not program.screen.cursor.hidden


def test_a_prompt_of_a_child_is_shown_after_a_moment(
    session: Callable[..., Session],
) -> None:
    """A partial line of a child is shown after a moment, because it may be a prompt."""
    code = """
    run(ThreadJob(sh, "printf 'sure? '; read answer; echo $answer"))
    """
    program = session(HEAD + code)
    program.until(lambda lines: "sure?" in lines)
    program.type(b"yes\n")
    assert "yes" in program.end()


def test_a_monitor_replaces_descriptors_only_with_child_output(
    session: Callable[..., Session], tmp_path: Path
) -> None:
    """Children write to a pipe instead of the terminal only if the monitor has `child_output=True`."""
    said = tmp_path / "said"
    code = f"""
    for asked in (False, True):
        job = ThreadJob(sh, "test -t 1 && echo terminal >> {said} || echo pipe >> {said}")
        Scheduler(job, label="run", instruments=[Monitor(child_output=asked)]).run()
    """
    session(HEAD + code).end()
    assert said.read_text().split() == ["terminal", "pipe"]


def test_child_output_survives_widening_a_narrow_terminal(
    session: Callable[..., Session], tmp_path: Path
) -> None:
    wide = tmp_path / "wide"
    line = f"echo 1234567890123456789012345; until test -e {wide}; do sleep 0.01; done; echo end of it; sleep 0.5"
    code = f"""
    run(ThreadJob(sh, {line!r}, label="job"))
    """
    program = session(HEAD + code, columns=20, lines=6)
    program.until(
        lambda lines: lines[:2] == ["12345678901234567890", "12345"] and len(lines) == 5
    )
    program.resize(60, 12)
    wide.touch()
    shown = program.end()
    assert shown[-3] == "end of it"
    assert shown[-2].startswith(" run  ✓ ")
