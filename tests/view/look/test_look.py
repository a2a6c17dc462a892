"""`trioflow look`, and the end of the output of a command that runs, for whoever looks at it."""

import contextlib
import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from trioflow import (
    Answer,
    CommandJob,
    Job,
    LocalNode,
    Pool,
    Rate,
    Scheduler,
    SshJob,
    ThreadJob,
)
from trioflow._core.base._text_forms import age
from trioflow._core.words._job_queries import output_tails
from trioflow._core.words._run_view import runs_in_progress
from trioflow.abc import AbstractJob
from trioflow.jobs.command import _output_sinks
from trioflow.look import enable
from trioflow.view.look import _answers, _client, _process_record
from ...bodies import fail_now, nap, nothing, raising
from ...cli.command_line import run, trioflow, written
from ...places import PATIENCE
from ...pythons import python

ROOT = Path(__file__).parents[3]


def in_thread(function: Any) -> Any:
    """Call a function in another thread, while this one, and with it the event loop, is blocked."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


async def wait_for_line() -> None:
    await anyio.sleep_forever()  # the line that is shown


@pytest.mark.usefixtures("answers")
def test_a_job_that_blocks_the_loop_is_shown_with_all_others(backend: Any) -> None:
    """A program answers while a job blocks its event loop: with lines of jobs, the causes of waits, and failures."""
    record: dict[str, Any] = {}

    async def block() -> None:
        await anyio.sleep(0.01)
        try:
            record.update(in_thread(lambda: _client.ask(os.getpid())))
        finally:
            waiting.cancel()

    waiting = Job(wait_for_line, label="waiting")
    asking = [
        Job(nothing, label=f"ask {number}", needs={"api": 1}) for number in range(2)
    ]
    failing = Job(fail_now, ValueError("no\ndata"), label="wrong")
    inner = Scheduler(waiting, label="inner")
    after = Job(nothing, label="after", required=inner)
    scheduler = Scheduler(
        failing, inner, Job(block, label="block"), *asking, after,
        label="night", jobs_window=9, pool=Pool(api=Rate(requests=1, per=0.05)),
    )  # fmt: skip
    assert not scheduler.run(backend=backend, timeout=PATIENCE)
    lines = [line.rstrip() for line in _client.text_lines(7, record)]
    [text] = ["\n".join(lines)]
    [shown] = record["runs"]
    blocking, suspended = (
        next(job for job in shown["running"] if job["path"] == path)
        for path in ("block", "inner/waiting")
    )
    assert (blocking["blocks_loop"], suspended["blocks_loop"]) == (True, False)
    assert "thread.join()" in blocking["line"]["text"]
    assert suspended["line"]["text"].endswith(
        "await anyio.sleep_forever()  # the line that is shown"
    )
    assert shown["seconds"] > 0
    assert (shown["backend"], shown["thread"], shown["window"]) == (
        backend,
        "MainThread",
        9,
    )
    assert "window: 9 slots, 2 taken" in text
    assert "blocks the event loop, test_look.py" in text
    assert "after  waits for 'inner': 'inner' has been running for" in text
    assert re.search(
        r"^  wrong  ValueError: no.* at bodies\.py:\d+$", text, re.MULTILINE
    )


def test_a_job_that_blocks_a_loop_does_not_block_another(backend: Any) -> None:
    async def look() -> None:
        (run,) = runs_in_progress()
        (found,) = _process_record._describe_run(run, {job: run.thread_id + 1})[
            "running"
        ]
        assert not found["blocks_loop"]

    job = Job(look)
    assert Scheduler(job).run(backend=backend)


def test_jobs_that_are_ready_while_the_loop_is_blocked_wait_for_it_or_for_their_rate(
    backend: Any,
) -> None:
    texts: dict[str, str] = {}

    async def block() -> None:
        [run] = in_thread(_process_record.describe_process)["runs"]
        texts.update(
            (path, group["explanation"])
            for group in run["waiting"]
            for path in group["paths"]
        )
        scheduler.cancel()

    first = Job(nothing, label="first")
    asking = [
        Job(nothing, label=f"ask {number}", needs={"api": 1}, required=first)
        for number in range(2)
    ]
    others = (
        Job(block, label="block", required=first),
        Job(nothing, label="other", required=first),
    )
    scheduler = Scheduler(
        first, *others, *asking, pool=Pool(api=Rate(requests=1, per=900))
    )
    scheduler.run(backend=backend)
    blocked = "is ready, but 'block' blocks the event loop; it has been ready for "
    expected = {"other": blocked, "ask 0": blocked, "ask 1": "waits for api: "}
    assert {
        path: text[: len(expected[path])] for path, text in texts.items()
    } == expected


@pytest.mark.usefixtures("answers")
def test_a_program_whose_loop_is_idle_answers(backend: Any) -> None:
    def look() -> dict[str, Any]:
        return _client.ask(os.getpid())

    looking = ThreadJob(look, label="look")
    assert Scheduler(looking).run(backend=backend)
    [job] = looking.result()["runs"][0]["running"]
    assert job["line"]["text"].endswith("return _client.ask(os.getpid())")
    assert not job["blocks_loop"]


def test_a_question_of_several_lines_stands_once(backend: Any) -> None:
    """The row of the job has its first line and the choices; the whole, which was there with escapes, stands below."""
    records = list[dict[str, Any]]()

    async def look() -> None:
        records.append(in_thread(_process_record.describe_process))
        question.answer("yes")

    question = Answer(
        "Send this?\n\nDear reader", choices=["yes", "no"], label="approve"
    )
    Scheduler(question, Job(look)).run(backend=backend)
    text = "\n".join(line.rstrip() for line in _client.text_lines(7, records[0]))
    assert re.search(
        r"^  approve +[\d.]+  asks: Send this\? … \(yes or no\)$", text, re.MULTILINE
    )
    assert "approve asks:\n    Send this?\n\n    Dear reader" in text
    assert (text.count("Dear reader"), "\\n" in text) == (1, False)


def test_slots_of_groups_are_said_to_be_such(backend: Any) -> None:
    """Two slots of three stood beside four jobs that ran."""
    texts = list[str]()

    async def look() -> None:
        await begun.wait()
        texts.extend(_client.text_lines(7, in_thread(_process_record.describe_process)))
        scheduler.cancel()

    async def begin() -> None:
        begun.set()
        await anyio.sleep_forever()

    begun = anyio.Event()
    group = Scheduler(Job(wait_for_line), Job(wait_for_line), Job(begin))
    scheduler = Scheduler(group, Job(look), jobs_window=3)
    scheduler.run(backend=backend)
    assert "  window: 3 slots, 2 taken, a group is one" in texts


def test_a_command_is_at_its_command_line(backend: Any) -> None:
    """A job that runs a command shows its command line, not a line of the loop that awaits its process."""
    records = list[dict[str, Any]]()

    async def look() -> None:
        await begun.wait()
        records.append(in_thread(_process_record.describe_process))
        command.cancel()

    begun = anyio.Event()
    command = CommandJob(
        ["sleep", "1000"], label="nap", critical=False, on_start=lambda _: begun.set()
    )
    Scheduler(command, Job(look)).run(backend=backend)
    [shown] = [job for job in records[0]["runs"][0]["running"] if job["path"] == "nap"]
    assert (shown["command_line"], shown["line"]) == ("sleep 1000", None)
    assert next(
        line for line in _client.text_lines(7, records[0]) if "nap" in line
    ).endswith("sleep 1000")


def test_a_function_in_c_in_a_thread_has_no_line(backend: Any) -> None:
    release, shown = threading.Lock(), list[dict[str, Any]]()
    release.acquire()
    sleeping = ThreadJob(release.acquire, label="in C")

    def lines() -> dict[str, Any]:
        return {
            job["path"]: job["line"]
            for job in _process_record.describe_process()["runs"][0]["running"]
        }

    async def look() -> None:
        end = time.monotonic() + PATIENCE
        try:
            while not shown or (
                shown[-1]["in C"] is not None and time.monotonic() < end
            ):  # until it is called
                await anyio.sleep(0.01)
                shown.append(in_thread(lines))
        finally:
            release.release()

    assert Scheduler(sleeping, Job(look)).run(backend=backend)
    assert shown[-1]["in C"] is None


def test_jobs_that_an_ended_scheduler_has_left_do_not_wait(backend: Any) -> None:
    """They are IDLE for good, at any depth; they are counted, but are not among the jobs that wait."""
    failing = Job(fail_now, critical=True)
    inner = Scheduler(
        failing,
        Scheduler(Job(nothing), label="left", required=failing),
        label="inner",
        critical=False,
    )
    looking = ThreadJob(
        lambda: _process_record.describe_process()["runs"], required=inner
    )
    last = Job(nothing, label="last", required=looking)
    assert Scheduler(inner, looking, last).run(backend=backend)
    [run] = looking.result()
    assert run["counts"]["idle"] == 2
    assert [group["paths"] for group in run["waiting"]] == [["last"]]


def test_a_job_that_starts_or_settles_during_a_look_is_left_out(backend: Any) -> None:
    jobs = [Job(nothing, label="first"), Job(nothing, label="second")]
    assert Scheduler(*jobs).run(backend=backend)
    assert not list(_process_record.group_waits(jobs, time.monotonic))
    assert not list(_process_record._describe_running(jobs, {}, time.monotonic, None))


@pytest.mark.skipif(
    not hasattr(os, "fork") or sys.platform == "win32", reason="needs signals"
)
def test_a_program_that_answers_but_is_stopped_is_told_apart(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "ANSWER_TIMEOUT", 0.1)
    with program(backend, TRIOFLOW_LOOK="1") as pid:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)  # until then, a thread of it may still answer
        with pytest.raises(
            _client.NoAnswer, match=r"SIGCONT continues it.*py-spy dump"
        ):
            _client.ask(pid)


@pytest.mark.usefixtures("answers")
def test_a_program_without_a_run_says_so() -> None:
    assert list(_client.text_lines(7, _client.ask(os.getpid())))[1:] == [
        "no run is in progress"
    ]


def test_equal_waits_are_one_line() -> None:
    waits = [
        {
            "paths": [f"job {number}" for number in range(30)],
            "explanation": "waits for api, at 0",
        },
        {
            "paths": [f"next {number}" for number in range(30)],
            "explanation": "waits for 'job 0': it runs",
        },
    ]
    run = {
        "label": "night\n", "backend": "trio", "thread": None, "seconds": 2, "phase": "runs", "stop_reason": None,
        "verdict": "60 jobs", "window": None, "resources": [], "running": [], "waiting": waits, "failures": [],
        "omitted": {"waiting": 5},
    }  # fmt: skip
    lines = list(_client.text_lines(7, {"command": ["python", "a b"], "runs": [run]}))
    assert lines[0] == "process 7: python 'a b'"
    assert lines[2:5] == [
        r"night\n  60 jobs",
        "  on trio in an unknown thread for 2 s",
        "waiting:",
    ]
    assert lines[5:] == [
        "  job 0, job 1, job 2, job 3, job 4 and 25 more       waits for api, at 0",
        "  next 0, next 1, next 2, next 3, next 4 and 25 more  waits for 'job 0': it runs",
        "  and 5 jobs more; --json has up to 1000",
    ]
    narrow = list(
        _client.text_lines(7, {"command": ["python"], "runs": [run]}, 40)
    )  # once `job 0, job 1…nd 25 more`
    start = narrow.index("waiting:") + 1
    assert narrow[start : start + 3] == [
        "  job 0, job 1, job 2, job 3, job 4 and",
        "    25 more",
        "      waits for api, at 0",
    ]


@pytest.mark.parametrize("columns", [80, 160])
def test_a_large_program_fits_a_screen(columns: int) -> None:
    """The text begins with the counts, has a line for each cause of a wait, and as many jobs as fit."""
    running = [
        {
            "path": f"fetch {number}", "seconds": number, "attempts": 1, "forever": False, "status": "",
            "line": {"text": "flow.py:7: return await get(number)", "function": "fetch"}, "blocks_loop": False,
            "command_line": None,
        }
        for number in range(50)
    ]  # fmt: skip
    explanations = {
        "slot": "waits for a slot, 0 before",
        "resource": "waits for gpu: 0 of 2",
        "jobs": "waits for 1",
    }
    waiting = [
        {
            "paths": [f"{cause} {number}" for number in range(100)],
            "explanation": explanation,
        }
        for cause, explanation in explanations.items()
    ]
    failures = [
        {"paths": [f"job {n}"], "headline": f"ValueError: {n}", "line": "flow.py:9"}
        for n in range(30)
    ]
    run = {
        "label": "night", "backend": "trio", "thread": "main", "seconds": 2, "phase": "runs", "stop_reason": None,
        "verdict": "500 jobs: 50 running", "window": 50, "slots_taken": 50, "resources": [{"text": "gpu=0 of 2"}] * 9,
        "running": running, "waiting": waiting, "failures": failures, "omitted": {},
    }  # fmt: skip
    record = {"command": ["python", "flow.py"], "runs": [run]}
    lines = _client.text_lines(7, record, columns, 40)
    assert 30 < len(lines) <= 40
    assert lines[2] == "night  500 jobs: 50 running"
    assert [number for number, _ in _client._waiting_rows(run)] == [100] * 3
    assert any("waits for gpu: 0 of 2" in line for line in lines)
    assert len(_client.text_lines(7, record, columns, 5)) < len(
        lines
    )  # what fits nowhere has its least


def test_equal_waits_of_two_schedulers_are_two_lines(virtual: Any) -> None:
    """Each queue has its own line, although the jobs at the heads of both have the same label."""
    found: list[Any] = []

    def group(city: str) -> Scheduler:
        return Scheduler(
            Job(nap, 9, label="holds the slot"),
            Job(nap),
            Job(nap),
            label=city,
            jobs_window=1,
        )

    async def look() -> None:
        await anyio.sleep(1)
        (run,) = _process_record.runs_in_progress()
        found.extend(_client._waiting_rows(_process_record._describe_run(run, {})))

    virtual(Scheduler(group("oslo"), group("riga"), Job(look)).co_run)
    assert [
        (number, {name.partition("/")[0] for name in names.split(", ")})
        for number, (names, _) in found
    ] == [
        (2, {"oslo"}),
        (2, {"riga"}),
    ]


def test_of_very_many_jobs_the_others_are_counted(
    monkeypatch: pytest.MonkeyPatch, backend: Any
) -> None:
    monkeypatch.setattr(_process_record, "MAX_JOBS", 2)
    looking = ThreadJob(lambda: _process_record.describe_process()["runs"])
    assert Scheduler(looking, [Job(nothing, required=looking) for _ in range(5)]).run(
        backend=backend
    )
    [run] = looking.result()
    assert ([len(group["paths"]) for group in run["waiting"]], run["omitted"]) == (
        [2],
        {"waiting": 3},
    )


def test_lines_that_are_too_long_for_the_terminal_are_broken() -> None:
    jobs = [
        {
            "path": path, "seconds": time, "attempts": 1, "forever": False, "status": "", "line": line,
            "blocks_loop": False, "command_line": None,
        }
        for path, time, line in (
            ("short", 1.5, None), ("a" * 30, 12, {"text": "x.py:1: await " + "b" * 30, "function": "work"})
        )
    ]  # fmt: skip
    run = {
        "label": "night", "backend": "trio", "thread": "main", "seconds": 2, "phase": "runs", "stop_reason": None,
        "verdict": "2 jobs", "window": None, "resources": [], "running": jobs, "waiting": [], "failures": [],
        "omitted": {},
    }  # fmt: skip
    record = {"command": ["python"], "runs": [run]}
    name, rest = "  " + "a" * 30 + "  12.00", "x.py:1: await " + "b" * 30 + " (in work)"
    assert list(_client.text_lines(7, record, 80))[-3:] == [
        "  short" + " " * 27 + " 1.50",
        name,
        f"      {rest}",
    ]
    assert list(_client.text_lines(7, record, 100))[-1] == f"{name}  {rest}"
    assert list(_client.text_lines(7, record))[-1] == f"{name}  {rest}"
    for columns in (
        20,
        30,
        50,
    ):  # a name has half of them; a long one once put all times on lines of their own
        lines = list(_client.text_lines(7, record, columns))
        assert max(map(len, lines)) <= columns
        assert re.sub("[^b]", "", "".join(lines).partition("1.50")[2]) == "b" * 30
        assert re.search("  a+…a+ ", "\n".join(lines))


@pytest.mark.usefixtures("answers")
def test_another_user_gets_nothing() -> None:
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("needs root, to be another user")
    connect = f"connect({_answers.socket_address(os.getpid())!r})"
    code = f"import socket; client = socket.socket(socket.AF_UNIX); client.{connect}; print(client.recv(9))"
    found = shutil.which("python3", path="/usr/bin")
    words = [found or os.path.realpath(sys.executable), "-c", code]
    done = subprocess.run(  # others may not run ours
        words, user=65534, capture_output=True, text=True
    )
    assert done.stdout == "b''\n", done.stderr


def test_a_stranger_costs_a_pause_and_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The user at the other end is asked for before a thread starts, and the next client waits a moment."""
    pauses, answered = list[float](), list[Any]()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        time_sleep(seconds)

    time_sleep = time.sleep
    monkeypatch.setattr(_answers, "_answer_client", answered.append)
    monkeypatch.setattr(_answers, "peer_of", lambda _: (1, os.geteuid() + 1))
    monkeypatch.setattr(_answers.time, "sleep", sleep)
    with _answers.answering():
        for _ in range(5):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(_answers.socket_address(os.getpid()))
                assert stranger.recv(9) == b""
    assert (answered, pauses) == ([], [_answers.STRANGER_PAUSE] * 5)


def test_a_program_answers_again_when_it_has_file_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accept, failures = (
        socket.socket.accept,
        [OSError(errno.EMFILE, "Too many open files")] * 2,
    )

    def flaky(listener: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", flaky)
    with _answers.answering():
        assert _client.ask(os.getpid())["runs"] == []
    assert failures == []


def test_a_program_stops_to_answer_between_two_clients(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its socket may be closed at any time, and the thread ends; this once was an exception in it."""
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as client,
    ):
        listener.bind(str(tmp_path / "look"))
        listener.listen()
        client.connect(str(tmp_path / "look"))
        client.shutdown(socket.SHUT_WR)
        monkeypatch.setattr(_answers, "forget_abandoned", listener.close)
        _answers.AnswerThread()._answer_all(listener)
        assert listener.fileno() == -1
        while client.recv(1 << 16):
            pass


def test_a_program_that_ends_waits_for_each_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A page that has been told the end is not waited for."""
    monkeypatch.setattr(_answers, "WATCH_INTERVAL", PATIENCE)
    were_over: list[bool] = []
    pages = [
        SimpleNamespace(is_over=is_over, asked_at=time.monotonic())
        for is_over in (True, False)
    ]
    for page in pages:
        page.close = lambda page=page: were_over.append(page.is_over)
    with _answers.answering():
        _answers.watches.update(told=pages[0], waits=pages[1])
        finish = threading.Thread(target=_answers.answer_thread.finish)
        with _answers.watching:
            finish.start()
            assert _answers.watching.wait(PATIENCE)
            pages[1].is_over = True
            _answers.watching.notify_all()
        finish.join()
    assert were_over == [True, True]


def test_errors_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has ended, one that was not asked, and one of another user are told apart, with advice."""
    monkeypatch.delattr(sys, "remote_exec", raising=False)
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        with pytest.raises(
            _client.NoAnswer, match=r"TRIOFLOW_LOOK=1 .* call trioflow\.look\.enable"
        ):
            _client.ask(sleeping.pid)
        user = os.geteuid()
        monkeypatch.setattr(_client.posix, "geteuid", lambda: user + 1)
        with pytest.raises(
            _client.NoAnswer, match="belongs to another user: run this as user "
        ):
            _client.ask(sleeping.pid)
        sleeping.kill()
        os.waitid(os.P_PID, sleeping.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(_client.NoAnswer, match="it has ended"):
            _client.ask(sleeping.pid)
    with pytest.raises(_client.NoAnswer, match=f"^there is no process {sleeping.pid}$"):
        _client.ask(sleeping.pid)
    assert "there is neither a process nor a trace file 'abc'" in " ".join(
        trioflow("look", "abc").output.split()
    )


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_program_in_a_container_is_told_apart() -> None:
    words = [
        "unshare",
        "--mount",
        sys.executable,
        "-c",
        "print('runs', flush=True); input()",
    ]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as contained:
        assert contained.stdout is not None
        if not contained.stdout.readline():
            pytest.skip("needs root, for a namespace")
        with pytest.raises(
            _client.NoAnswer,
            match="is in a container, with other files: run trioflow look in there",
        ):
            _client.ask(contained.pid)
        contained.kill()


def test_trioflow_run_answers_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`trioflow run` answers, in its own process, until the run has ended; nothing is left behind."""
    monkeypatch.delattr(sys, "remote_exec", raising=False)
    file = written(tmp_path, """
        from trioflow.view.look import _client
        import os
        def look():
            print([job["path"] for run in _client.ask(os.getpid())["runs"] for job in run["running"]][-1:])
        scenario = Scheduler(ThreadJob(look, label="look"))
    """)  # fmt: skip
    assert "['look']" in run(file).output
    with pytest.raises(_client.NoAnswer):
        _client.ask(os.getpid())


PROGRAM = """
import anyio, sys
from trioflow import Job, Scheduler
async def work():
    print("works", flush=True)
    await anyio.sleep_forever()
Scheduler(Job(work), label="night").run(backend=sys.argv[1])
"""


@contextlib.contextmanager
def program(backend: str, **variables: str) -> Iterator[int]:
    """Run PROGRAM until the end of the block, and return the number of its process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    words = [sys.executable, "-c", PROGRAM, backend]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"works\n"
        try:
            yield started.pid
        finally:
            started.kill()


def test_any_program_answers_with_a_variable_in_its_environment(backend: str) -> None:
    """With TRIOFLOW_LOOK=1 a program answers from its first run on, and the command prints the text, or JSON."""
    with program(backend, TRIOFLOW_LOOK="1") as pid:
        assert f"\n  on {backend} in MainThread for " in trioflow("look", pid).output
        assert '"label": "night"' in trioflow("look", pid, "--json").output
        listed = trioflow("look")
    assert (listed.exit_code, f"{pid}  night: " in listed.output) == (0, True), (
        listed.output
    )
    assert f"Error: there is no process {pid}\n" in trioflow("look", pid).output


@pytest.mark.skipif(sys.platform != "linux", reason="lists the sockets of Linux")
def test_names_of_other_programs_are_any_bytes(tmp_path: Path) -> None:
    """A socket of somebody else, whose name was no UTF-8, ended the list of all programs with a UnicodeDecodeError."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(os.fsencode(tmp_path / "x") + b"\xff")
        list(_client.answering_programs())
    path = Path(os.fsdecode(os.fsencode(tmp_path / "sleep") + b"\xff"))
    shutil.copy(str(shutil.which("sleep")), path)
    with subprocess.Popen([path, "60"]) as sleeping:
        sleeping.kill()
        os.waitid(os.P_PID, sleeping.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(_client.NoAnswer, match="it has ended"):
            _client.ask(sleeping.pid)


def test_without_a_program_that_answers_the_list_says_how_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without PID and such a program, the exit code is 2; JSON needs a PID."""
    monkeypatch.setattr(_client, "answering_programs", lambda: iter(()))
    answer = trioflow("look")
    assert (
        answer.exit_code,
        "start it with trioflow run, or TRIOFLOW_LOOK=1" in answer.output,
    ) == (2, True)
    assert "give the PID of the program" in trioflow("look", "--json").output


@pytest.mark.skipif(not hasattr(sys, "remote_exec"), reason="since Python 3.14")
def test_a_program_on_a_new_python_answers_without_being_asked(backend: str) -> None:
    with program(backend) as pid:
        assert f"\n  on {backend} in MainThread for " in trioflow("look", pid).output


@pytest.mark.skipif(not hasattr(sys, "remote_exec"), reason="since Python 3.14")
def test_several_looks_at_once_are_answered(backend: str) -> None:
    """Python keeps one script for a process that was not asked: a second look waits until the first was answered."""
    with program(backend) as pid:
        words = [sys.executable, "-m", "trioflow", "look", str(pid)]
        looks = [
            subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(3)
        ]
        assert [
            f"\n  on {backend} in MainThread for " in look.communicate()[0]
            for look in looks
        ] == [True] * 3


EXECUTING = """
import sys
from trioflow._core.backend._shared import await_chain
class Looks:
    def __call__(self):
        return len([*await_chain(looks.at)])
looks = Looks()
async def coroutine():
    # A call of what Python cannot make faster leaves ever other numbers behind its instruction.
    found = set()
    for _ in range(5000):
        found.add(looks())
    print(found)
def generator():
    found = set()
    for _ in range(5000):
        found.add(looks())
    print(found)
    yield
looks.at = globals()[sys.argv[1]]()
try:
    looks.at.send(None)
except StopIteration:
    pass
"""


@pytest.mark.parametrize("kind", ["coroutine", "generator"])
def test_a_look_at_what_is_executing_does_not_crash_python(kind: str) -> None:
    """Python 3.11 and 3.12 took a number in the code of a coroutine that was executing for what it awaits."""
    done = python("-c", EXECUTING, kind, text=True)
    assert (done.returncode, done.stdout) == (0, "{1}\n"), done.stderr


def test_looking_at_a_run_changes_nothing(backend: Any) -> None:
    order: list[int] = []
    looks: list[int] = []
    has_looked = threading.Event()

    async def body(number: int) -> None:
        await anyio.lowlevel.checkpoint()
        order.append(number)

    def look() -> None:
        try:
            while len(order) < 300:
                looks.append(len(_process_record.describe_process()["runs"]))
                has_looked.set()
        finally:
            has_looked.set()

    first = ThreadJob(has_looked.wait)
    jobs = [Job(body, number, required=first) for number in range(300)]
    for former, later in zip(jobs[:-3], jobs[3:], strict=True):
        later.requires(former)
    assert Scheduler(first, *jobs, ThreadJob(look), jobs_window=4).run(backend=backend)
    assert order == list(range(300))
    assert set(looks) == {1}


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere the name belongs to the user"
)
def test_a_program_runs_where_another_one_has_taken_the_name_of_its_socket() -> None:
    """TRIOFLOW_LOOK=1 never lets a run fail: a program that cannot answer says so in the log, once, and goes on.

    It answers from the next run on, once the name is free.
    """
    code = """
import os, socket, warnings
from trioflow import Job, Scheduler, _scheduler
from trioflow.view.look._answers import answer_thread, socket_address
warnings.simplefilter("default")
_scheduler.LOOK_IS_ENABLED = True
taken = socket.socket(socket.AF_UNIX)
taken.bind(socket_address(os.getpid()))
async def work():
    print("answers" if answer_thread.is_running() else "works")
for _ in range(2):
    Scheduler(Job(work)).run()
taken.close()
Scheduler(Job(work)).run()
"""
    done = python("-c", code, text=True)
    assert done.stdout == "works\nworks\nanswers\n", done.stderr
    assert done.stderr.count("`trioflow look` cannot look into this program") == 1
    assert "ResourceWarning" not in done.stderr


def test_a_program_runs_where_no_thread_can_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With too many processes, a program that cannot answer goes on, and answers once a thread can start again."""
    with monkeypatch.context() as context:
        context.setattr(
            threading.Thread, "start", raising(RuntimeError("can't start new thread"))
        )
        with _answers.answering():
            assert Scheduler(Job(anyio.sleep, 0)).run()
    with _answers.answering():
        assert _client.ask(os.getpid())["runs"] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_no_run(backend: Any) -> None:
    async def fork() -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(len(_process_record.describe_process()["runs"]))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])  # noqa: ASYNC222 - it ends at once

    job = Job(fork)
    assert Scheduler(job).run(backend=backend)
    assert job.result() == 0


def test_enable_twice_starts_one_thread() -> None:
    with _answers.answering():
        assert not _answers.answer_thread.start()
        assert (
            sum(thread.name == "trioflow look" for thread in threading.enumerate()) == 1
        )


@pytest.mark.parametrize("steer", [False, True])
def test_a_second_call_of_enable_only_changes_steer(steer: bool) -> None:
    with _answers.answering():
        threads = set(threading.enumerate())
        for may in (not steer, steer):
            enable(steer=may)
            assert _answers.answer_thread.may_steer is may
        assert set(threading.enumerate()) == threads
        enable()
    assert _answers.answer_thread.may_steer


def test_no_age_is_below_zero() -> None:
    """While thousands of jobs were described, some started after the time of the record: they ran for "-0.03 s"."""
    assert [age(since, lambda: 4.0) for since in (None, 3.0, 5.0)] == [None, 1.0, None]


# --- the end of the output of a command that runs
MORE: str = "yes a line of more than a megabyte in all | head -n 40000; "
JOBS: dict[str, Callable[[str, Path], AbstractJob[Any]]] = {
    "captured": lambda line, _: CommandJob(line, shell=True, stdout=subprocess.PIPE),
    "captured on disk": lambda line, _: CommandJob(
        MORE + line, shell=True, stdout=subprocess.PIPE
    ),
    "a file": lambda line, path: CommandJob(line, shell=True, stdout=path),
    "standard error": lambda line, _: CommandJob(
        f"{{ {line}; }} >&2", shell=True, stderr=subprocess.PIPE
    ),
    "on a node": lambda line, _: SshJob(LocalNode(), line, stdout=subprocess.PIPE),
    "on a node, to a file": lambda line, path: SshJob(LocalNode(), line, stdout=path),
    "redacted": lambda line, _: CommandJob(
        line, shell=True, stdout=subprocess.PIPE, redact=True
    ),
}


@pytest.mark.parametrize("place", JOBS)
def test_the_end_of_the_output_of_a_running_command_is_known(
    backend: Any, tmp_path: Path, place: str
) -> None:
    """Captured in memory or on disk, or in a file; afterwards nothing is, and of a redacted job never."""
    go = tmp_path / "go"
    os.mkfifo(go)
    job = JOBS[place](f"echo first; echo last; read answer <{go}", tmp_path / "output")
    seen: list[tuple[str, bytes]] = []

    async def look() -> None:
        while not (seen and seen[0][1].endswith(b"last\n")) and not (
            job.redact and job.state.value == "running"
        ):
            await anyio.sleep(0.01)
            seen[:] = output_tails(job, 9)
        async with await anyio.open_file(go, "w") as file:
            await file.write("\n")

    assert Scheduler(job, Job(look)).run(backend=backend)
    stream = "stderr" if place == "standard error" else "stdout"
    assert [each for each in seen if each[1]] == (
        [] if place == "redacted" else [(stream, b"rst\nlast\n"[-9:])]
    )
    assert [each for each in output_tails(job, 9) if each[1]] == []


def test_a_file_that_becomes_a_pipe_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command may replace its file between the test of what it is and its opening, which would wait for a writer."""
    os.mkfifo(pipe := tmp_path / "pipe")
    assert _output_sinks.file_tail(pipe, 9) == b""
    monkeypatch.setattr(_output_sinks, "may_wait_for_writer", lambda _: False)
    assert _output_sinks.file_tail(pipe, 9) is None
    (link := tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_text("first last")
    assert _output_sinks.file_tail(link, 4) == b"last"


def test_the_end_of_what_a_node_has_written_stays(backend: Any) -> None:
    """It passes through this program on its way to the terminal: a page shows it without a monitor, and afterwards."""
    job = SshJob(LocalNode(), "echo first; echo last")
    assert Scheduler(job).run(backend=backend)
    assert [*output_tails(job, 9)] == [("stdout", b"rst\nlast\n"[-9:]), ("stderr", b"")]
