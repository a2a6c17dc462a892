"""However a PyExPool pool ends, no process is left; and the usage program of the README works."""

import contextlib
import errno
import gc
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any
import pytest
from trioflow.compat.pyexpool import ExecPool, Job, Task, _pool
from trioflow.compat.pyexpool._callbacks import Latch
from ...jobs.posix.process_trees import TREE, Watched, until_there
from ...jobs.posix.process_trees import watched as watched
from ...places import PATIENCE, patiently
from .pools import Notes, program

LOOP = ("sh", "-c", TREE)


def busy(notes: Notes) -> tuple[ExecPool, list[Job]]:
    pool = ExecPool(2)
    jobs = [Job(f"j{number}", args=LOOP, **notes.callbacks()) for number in range(3)]
    for job in jobs:
        pool.execute(job)
    return pool, jobs


def ended_in_order(notes: Notes, jobs: list[Job]) -> None:
    """Check that running jobs were terminated, and the waiting one was dropped."""
    *running, waiting = jobs
    assert [job.proc and job.proc.returncode for job in running] == [
        -signal.SIGTERM
    ] * len(running)
    assert [notes.of(job.name) for job in running] == [["start", "finish"]] * len(
        running
    )
    assert (waiting.tstart, waiting.proc, notes.of(waiting.name)) == (None, None, [])


def test_join_that_times_out_terminates_all_jobs(watched: Watched) -> None:
    """A `join` that times out terminates all jobs; the pool works again when its `alive` is set to True."""
    notes = Notes()
    pool, jobs = busy(notes)
    assert pool.join(0.1) is False
    assert watched.alive() == []
    ended_in_order(notes, jobs)
    assert pool.alive is False
    assert sorted(info.name for info in pool.failures) == ["j0", "j1", "j2"]
    assert pool.execute(Job("k", args=["true"])) == errno.EINTR
    pool.alive = True
    assert pool.execute(Job("k", args=["true"])) == 0
    assert pool.join(PATIENCE) is True
    assert pool.jobsdone == 1


def test_timeout_of_join_counts_from_the_first_execute(watched: Watched) -> None:
    """If the timeout has passed since the first `execute`, `join` terminates the remaining job immediately."""
    pool = ExecPool(1)
    pool.execute(Job("j", args=["sleep", "0.2"]))
    pool.execute(Job("k", args=LOOP))
    while pool.jobsdone < 1:
        time.sleep(0.001)
    assert pool.join(0.1) is False
    assert watched.alive() == []


def test_join_waits_for_what_is_left_since_the_first_execute(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40 seconds, 41 have passed since the first `execute`: a job that would end in time, counted from the call of
    `join`, is terminated."""
    pool = ExecPool(1)
    pool.execute(Job("j", args=["sleep", "10"]))
    began = time.monotonic()
    monkeypatch.setattr(_pool, "time", SimpleNamespace(monotonic=lambda: began + 41))
    assert pool.join(40) is False
    assert watched.alive() == []


def test_a_pool_that_accepts_no_more_jobs_accepts_none_after_a_join() -> None:
    """A user sets `alive` to False: a join whose jobs all end by themselves leaves it so."""
    pool = ExecPool(1)
    pool.execute(Job("j", args=["true"]))
    pool.alive = False
    assert pool.join(PATIENCE) is True
    assert pool.alive is False
    assert pool.execute(Job("k", args=["true"])) == errno.EINTR


def test_join_without_new_jobs_returns_false() -> None:
    """`join` returns False before the first job, and after a join if no job came since."""
    pool = ExecPool(1)
    assert pool.join() is False
    pool.execute(Job("j", args=["true"]))
    assert (pool.join(), pool.join()) == (True, False)


def test_clear_terminates_all_jobs_and_resets_the_pool(watched: Watched) -> None:
    notes = Notes()
    pool, jobs = busy(notes)
    pool.execute(Job("t", args=["true"], task=Task("t")))
    pool.clear()
    assert watched.alive() == []
    ended_in_order(notes, jobs)
    assert (pool.alive, pool.failures, pool.tasks, pool.jobsdone) == (
        True,
        [],
        set(),
        0,
    )
    assert pool.execute(Job("j", args=["true"])) == 0
    assert pool.join() is True


def test_a_with_block_that_raises_terminates_the_jobs(watched: Watched) -> None:
    notes = Notes()
    with contextlib.suppress(OSError), ExecPool(1) as pool:
        pool.execute(Job("j0", args=LOOP, **notes.callbacks()))
        raise OSError("broken")
    assert watched.alive() == []
    assert notes.of("j0") == ["start", "finish"]


@pytest.mark.parametrize("finalizer", ["__del__", "__finalize__", ""])
def test_a_finalizer_called_by_name_or_by_del_terminates_all_jobs(
    watched: Watched, finalizer: str
) -> None:
    notes = Notes()
    pool, jobs = busy(notes)
    if finalizer:
        getattr(pool, finalizer)()
    else:
        del pool
    assert watched.alive() == []
    ended_in_order(notes, jobs)


def test_a_pool_in_a_reference_cycle_terminates_its_jobs_when_it_is_collected(
    watched: Watched,
) -> None:
    """A collected pool ends its jobs, in whatever thread the garbage collector runs, even in one of the pool."""
    pool, _ = busy(Notes())
    pool.self = pool  # type: ignore[attr-defined]
    pool.execute(Job("k", args=["true"]))
    del pool
    gc.collect()
    assert watched.gone_in_time()


def test_a_pool_deleted_in_its_own_callback_leaves_no_process(watched: Watched) -> None:
    pools, gone = list[ExecPool](), threading.Event()

    def forget(job: Job) -> None:
        pools.clear()
        gone.set()

    pools.append(ExecPool(2))
    pools[0].execute(Job("long", args=LOOP))
    pools[0].execute(Job("j", args=["sleep", "0.05"], ondone=forget))
    assert gone.wait(PATIENCE)
    assert watched.gone_in_time()


def test_callbacks_of_terminated_jobs_may_not_execute_others(watched: Watched) -> None:
    """In the callbacks of terminated jobs, `execute` returns EINTR, because the pool is ending."""
    codes: list[int] = []
    pool = ExecPool(1)

    def more(owner: Any) -> None:
        codes.append(pool.execute(Job("k", args=LOOP)))
        codes.append(pool.execute(Job("l", args=LOOP), False))

    pool.execute(Job("j", args=LOOP, onfinish=more, task=Task("t", onfinish=more)))
    assert pool.join(0.1) is False
    assert codes == [errno.EINTR] * 4
    assert watched.alive() == []


@patiently(0.01, 0.1, 0.6)
def test_a_job_that_ends_slowly_causes_no_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    unit: float,
) -> None:
    """When a job ended slowly, the engine once warned, with frames of trioflow, not to swallow cancellations."""
    caplog.clear()
    monkeypatch.setattr("trioflow._core.run._standstill.STUCK_REPORT_DELAY", unit)
    slow = f"trap 'sleep {1.5 * unit}; exit' TERM; touch here; while :; do sleep 0.01; done"
    pool = ExecPool(1)
    pool.execute(Job("slow", workdir=tmp_path, args=("sh", "-c", slow)))
    until_there(tmp_path / "here")
    assert pool.join(0.001) is False
    assert "is still running" not in caplog.text


# ---- programs

BUSY = f"""
execpool = ExecPool(2)
for number in range(4):
    execpool.execute(Job("j%d" % number, args=("sh", "-c", 'touch "$0"; ' + {TREE!r}, sys.argv[1])))
open(sys.argv[1] + ".busy", "w").close()
"""
FAILOVER = """
execpool = None

def terminated(number=None, frame=None, leave=True):
    global execpool
    if execpool:
        del execpool
        execpool = None
        print("no process:", os.system("ps -o comm= --ppid %d | grep -q sleep" % os.getpid()) != 0, flush=True)
    if leave:
        sys.exit(0)

for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGABRT"):
    signal.signal(getattr(signal, name), terminated)
atexit.register(terminated, leave=False)
"""


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        *(
            pytest.param(other, marks=pytest.mark.soak)
            for other in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
        ),
    ],
)
def test_deleting_pool_in_handler_leaves_no_process(
    watched: Watched, tmp_path: Path, number: signal.Signals
) -> None:
    """If a signal handler deletes the pool and calls `sys.exit`, the exit code is 0, and no process is left."""
    code, output = program(
        FAILOVER + BUSY + "while True: time.sleep(0.01)", tmp_path, number
    )
    assert (code, output) == (0, "no process: True\n")
    assert watched.gone_in_time()


WAYS = {
    "a handler deletes the pool while execute waits": (
        FAILOVER + BUSY + "execpool.execute(Job('j', args=['sleep', '1000']), False)", signal.SIGTERM, 0,
    ),
    "Ctrl-C while join waits": (BUSY + "execpool.join()", signal.SIGINT, -signal.SIGINT),
    "SIGTERM without a handler": (BUSY + "execpool.join()", signal.SIGTERM, -signal.SIGTERM),
    "SIGKILL": (BUSY + "execpool.join()", signal.SIGKILL, -signal.SIGKILL),
    "the program ends without join": (BUSY + "time.sleep(0.1); sys.exit(3)", None, 3),
    "the program ends by atexit": (FAILOVER + BUSY + "time.sleep(0.1)", None, 0),
    "a callback keeps the pool": (
        "def main():\n    pool = ExecPool(1)\n"
        "    pool.execute(Job('j', args=['sleep', '1000'], ondone=lambda job: pool.join()))\nmain()", None, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_no_process_is_left_when_a_program_ends(
    watched: Watched, tmp_path: Path, way: str
) -> None:
    """However a program with a pool ends, its exit code is right, and no process is left."""
    code, number, expected = WAYS[way]
    sends = () if number is None else (number,)
    assert program(code, tmp_path, *sends)[0] == expected
    assert watched.gone_in_time()


FORKED = """
from trioflow.compat.pyexpool import _batch

_batch.END_TIMEOUT = 1000
pool = ExecPool(1)
pool.execute(Job("j", args=["sleep", "0.01"]))
child = os.fork()
if child == 0:
    print(pool.join(), pool.execute(Job("own", args=["echo", "own"])), pool.join(), flush=True)
    pool.execute(Job("left", args=["sleep", "1000"]))
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), pool.join(), pool.jobsdone)
"""


def test_a_forked_child_shares_no_job_with_its_parent(tmp_path: Path) -> None:
    """A forked child once took 16 s to end, because it waited for a thread of its parent's pool."""
    assert program(FORKED, tmp_path) == (0, "own\nFalse 0 True\n7 True 1\n")


USAGE = '''
pool = ExecPool(max(cpu_count() - 1, 1))
time_limit = 30 * 60

pool.execute(Job(name="list_dir", args=("ls", "-a")))

shuffled = []
pool.execute(Job(
    name="shuffle", workdir="nets", timeout=3 * 60,
    args=(sys.executable, "-c", """
import subprocess
for number in range(1, 4):
    subprocess.check_call(("sort", "-R", "net.txt", "-o", "net.%d.txt" % number))
"""),
    ondone=lambda job: shuffled.extend(sorted(os.listdir("nets"))),
))

task = Task("both", ondone=lambda task: print(task.name, "are done"))
for word in ("one", "two"):
    pool.execute(Job(word, args=("echo", word), task=task, stdout=word + ".txt"))

print(pool.join(time_limit), shuffled)
'''


def test_the_usage_program_of_the_readme_works(
    watched: Watched, tmp_path: Path
) -> None:
    """The usage program in the README of PyExPool's version 1, here rewritten, works."""
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "net.txt").write_text("1\n2\n3\n")
    code, output = program(USAGE, tmp_path)
    assert code == 0
    listed, said, result = output.partition("both are done\n")
    assert "nets" in listed.splitlines()
    assert said
    assert result == "True ['net.1.txt', 'net.2.txt', 'net.3.txt', 'net.txt']\n"
    assert (tmp_path / "one.txt").read_text() + (
        tmp_path / "two.txt"
    ).read_text() == "one\ntwo\n"
    assert sorted((tmp_path / "nets" / "net.2.txt").read_text().split()) == [
        "1",
        "2",
        "3",
    ]
    assert watched.gone_in_time()


# --- A signal handler may interrupt a pool's waits between any two steps, raise, or use the pool; nothing hangs
FILES = (str(Path("compat", "pyexpool")), "threading.py", "contextlib.py")
"""Code in which a handler is tested. In trio's it is not: a trace function may interrupt what no handler can."""


class Interrupted(BaseException):
    """The exception that a handler raises."""


def interrupted(step: int, body: Callable[[], Any], handler: Callable[[], Any]) -> bool:
    """Call `body`, and `handler` before the given step; return whether `body` has that many steps."""
    steps = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal steps
        if not any(name in frame.f_code.co_filename for name in FILES):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            steps += 1
            if steps == step:
                sys.settrace(None)
                handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        body()
    except Interrupted:
        pass
    finally:
        sys.settrace(before)
    return steps >= step


def fail(*_: Any) -> None:
    raise Interrupted


def opens_soon(latch: Latch) -> bool:
    """Return whether another thread can open a latch and waiters see it."""
    threads = [threading.Thread(target=latch.wait, daemon=True) for _ in range(2)]
    threads.append(threading.Thread(target=latch.open, daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return latch.wait(0) and not any(thread.is_alive() for thread in threads)


def looks(latch: Latch) -> None:
    latch.wait(1e-6)


@pytest.mark.parametrize("handler", [fail, looks, Latch.open])
@pytest.mark.parametrize("body", [looks, Latch.open])
def test_latch_survives_interruption_at_any_step(
    body: Callable[[Latch], Any], handler: Callable[[Latch], Any]
) -> None:
    """A signal handler that raised once left the lock of a `threading.Event` held."""
    for step in range(1, 1000):
        latch = Latch()
        was_there = interrupted(step, partial(body, latch), partial(handler, latch))
        assert opens_soon(latch)
        if not was_there:
            return
    pytest.fail("it never ended")


def test_a_pool_works_after_an_interruption_of_join_at_any_step() -> None:
    pool = ExecPool(1)
    for step in range(random.randrange(1, 5), 2000, 4):
        assert pool.execute(Job("stub")) == 0
        was_there = interrupted(step, lambda: pool.join(PATIENCE), fail)
        pool.join()
        pool.alive = True  # after jobs were terminated it is not
        if not was_there:
            return
    pytest.fail("join never ended")


IN_ANOTHER_THREAD = """
class Stop(BaseException):
    pass

def stop(number, frame):
    raise Stop

def receive():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    os.kill(os.getpid(), signal.SIGUSR1)

signal.signal(signal.SIGUSR1, stop)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
with ExecPool(1) as pool:
    pool.execute(Job("j", args=["sleep", "1000"]))
    try:
        threading.Timer(0.1, receive).start()
        pool.join()
    except Stop:
        print("stopped")
"""


SLOW_HANDLER = """
signal.signal(signal.SIGALRM, lambda *_: time.sleep(1))
pool = ExecPool(1)
pool.execute(Job("j", args=["sleep", "1000"]))
signal.setitimer(signal.ITIMER_REAL, 0.05)
in_time = pool.join(0.5)
signal.setitimer(signal.ITIMER_REAL, 0)  # if this process has not run meanwhile, the signal may still come
print(in_time)
"""


def test_join_times_out_even_if_a_handler_returns_after_the_deadline(
    watched: Watched, tmp_path: Path
) -> None:
    """Before Python 3.13, a queue waits without a limit when a handler has used up all the time; `join` does not."""
    assert program(SLOW_HANDLER, tmp_path, seconds=PATIENCE) == (0, "False\n")
    assert watched.gone_in_time(), watched.alive()


def test_a_signal_received_by_another_thread_ends_join_by_its_handler(
    watched: Watched, tmp_path: Path
) -> None:
    assert program(IN_ANOTHER_THREAD, tmp_path, seconds=2 * PATIENCE) == (
        0,
        "stopped\n",
    )
    assert watched.gone_in_time()


DELETIONS = """
import random

class Stop(BaseException):
    pass

def stop(number, frame):
    global pool
    del pool
    raise Stop

signal.signal(signal.SIGALRM, stop)
for number in range(int(sys.argv[2])):
    pool = ExecPool(1)
    pool.execute(Job("j", args=["sleep", "1000"]))
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-4))
        pool.join()
    except Stop:
        pass
"""


@pytest.mark.parametrize(
    "number",
    [20, pytest.param(3000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])],
)
def test_pool_deleted_by_a_handler_at_random_leaves_no_process(
    watched: Watched, tmp_path: Path, number: int
) -> None:
    assert program(
        DELETIONS, tmp_path, arguments=[str(number)], seconds=2 * PATIENCE + number / 5
    ) == (0, "")
    assert watched.gone_in_time()


@patiently(0.3, 3, 30)
def test_a_task_of_several_jobs_times_out_once(
    unit: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Its jobs have one time together, which begins with the first of them."""
    caplog.clear()
    task = Task("task", timeout=unit)
    pool = ExecPool(2)
    for number in range(3):
        pool.execute(Job(f"j{number}", args=("sleep", "900"), task=task))
    assert pool.join(100 * unit)
    told = [text for text in caplog.messages if text.startswith("task ")]
    assert told == [
        f"task 'task' did not end within its timeout of {unit:g} s: its jobs are terminated"
    ]
    assert [each.levelname for each in caplog.records if each.levelno > 30] == []
    assert sorted(each.name for each in pool.failures) == ["j0", "j1", "j2"]
