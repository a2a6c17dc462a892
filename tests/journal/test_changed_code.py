"""The line that names restored jobs whose code has changed since they ran."""

import functools
import os
import re
from pathlib import Path
import pytest
from trioflow import Job, Pool, Rate, Scheduler, Throttled, _loaded_files, current_job
from trioflow.journal import _code_digests, _recorder
from trioflow.journal._store import read_with_retry
from ..conftest import Virtual
from ..pythons import python


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_steps(text: str, *changes: tuple[str, str]) -> tuple[str, str]:
    """Run a program whose file is older than its start, and return what it prints and logs."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path("steps.py").write_text(text)
    os.utime("steps.py", (1, 1))
    done = python("steps.py", text=True)
    return done.stdout.strip(), done.stderr


STEPS = '''
import functools
from trioflow import Job, Scheduler, ThreadJob

def twice(function):
    @functools.wraps(function)
    def call(*args):
        return function(*args) * 2
    return call

def load(n):
    """Load it."""
    return n + 2

@twice
def decorated(n):
    return n + 3

async def many(n):
    return [item + 1 for item in range(n)]

s = Scheduler(
    ThreadJob(load, 1, label="load"), ThreadJob(decorated, 1, label="decorated"), Job(many, 3, label="many"),
    ThreadJob(load, 2, version=1, label="versioned"), ThreadJob(load, 3, key="k", label="keyed"),
    ThreadJob(lambda: 1 + 2, label="lambda"),
)
assert s.run(journal="run.db")
print(sum(job.restored for job in s))
'''
HARMLESS = {
    "layout": [("(n):", "( n ) :  # the number"), ("+ 2", "+ (\n        2\n    )")],
    "docstring": [("Load it.", "Loads.")],
    "lines": [("import functools", "# moved\n\n\nimport functools")], "decorator": [("* 2", "* 3")],
}  # fmt: skip


@pytest.mark.parametrize("harmless", HARMLESS)
def test_a_verdict_names_the_restored_jobs_whose_code_has_changed(
    harmless: str,
) -> None:
    assert run_steps(STEPS)[0] == "0"
    restored, said = run_steps(STEPS, *HARMLESS[harmless])
    assert (restored, "has changed since" in said) == ("6", False)
    restored, said = run_steps(STEPS, (" + ", " - "))
    assert restored == "6"
    assert (
        "the code of 3 restored jobs has changed since, 'load', 'decorated', 'many': that counts only with"
        in said
    )


CONSTANTS = """
import os, time
import parts.more
import prompts
from prompts import BRIEF as SHORT, LEVELS
from trioflow import Scheduler, ThreadJob

PROMPT = "Be breif."
WHOLE = PROMPT + " Please."
NEVER = "none"
NUMBER: int = 3
FLAGS = ("a", ("b", 1.5), frozenset({b"c"}))
TODAY = str(time.time_ns())
HOME = os.environ.get("HOME", "here")
counter = 0
LIST = [1]
if True:
    DEEP = None

class Ask:
    @staticmethod
    def method():
        return PROMPT

def flags():
    return PROMPT, FLAGS

def whole():
    return WHOLE

def imported():
    return SHORT, LEVELS

def attribute():
    return prompts.BRIEF

def count():
    global counter
    counter += 1
    return counter, TODAY, HOME, LIST

def inner():
    return [(lambda: PROMPT)() for _ in range(NUMBER)]

def local():
    NEVER = 3
    return NEVER, DEEP

def default(prompt=SHORT, *, times, levels=prompts.TIMES):
    return prompt, levels

def dotted():
    return prompts.TIMES, parts.more.MAX, parts.more.TIMES

jobs = [
    ThreadJob(work, label=work.__name__)
    for work in (flags, inner, count, local, whole, Ask.method, imported, attribute, dotted)
]
jobs.append(ThreadJob(default, kwargs={"times": 2}, label="default"))
Scheduler(jobs).run(journal="run.db")
print(sum(job.restored for job in jobs))
"""
PROMPTS = 'BASE = "Be "\nBRIEF = BASE + "brief"\nLEVELS = (1, 2)\nTIMES = 5\n'
MORE = "MAX = 10\nTIMES = 7\n"


def write_modules(*changes: tuple[str, str]) -> None:
    Path("parts").mkdir(exist_ok=True)
    for name, text in (("prompts.py", PROMPTS), ("parts/more.py", MORE)):
        changed = text
        for old, new in changes:
            changed = changed.replace(old, new)
        Path(name).write_text(changed)
        os.utime(name, (1, 1))


def said_after(*changes: tuple[str, str]) -> str:
    """Return which jobs the log says have changed, after a change of the constants."""
    write_modules(*changes)
    restored, said = run_steps(
        CONSTANTS, *[(old, new) for old, new in changes if old in CONSTANTS]
    )
    assert restored == "10"
    found = re.search("has changed since, (.*): that counts", said)
    return found[1] if found else ""


def test_a_constant_that_a_restored_job_reads_is_code() -> None:
    """The mended prompt of a model is most often a constant: a reload refuses it, and the old answer was restored."""
    write_modules()
    assert run_steps(CONSTANTS)[0] == "0"
    assert said_after() == ""
    of_prompt = "'flags' (PROMPT), 'inner' (PROMPT), 'whole' (WHOLE), 'method' (PROMPT)"
    assert said_after(("breif", "brief")) == of_prompt
    assert said_after(("int = 3", "int = 4")) == "'inner' (NUMBER)"
    assert said_after(("1.5", "2.5")) == "'flags' (FLAGS)"
    assert said_after(('b"c"', 'b"d"')) == "'flags' (FLAGS)"
    assert said_after(("DEEP = None", "DEEP = False")) == "'local' (DEEP)"
    assert (
        said_after(('"Be "', '"Do be "'))
        == "'imported' (SHORT), 'attribute' (prompts.BRIEF), 'default' (SHORT)"
    )
    assert said_after(("TIMES = 5", "TIMES = 6")) == (
        "'dotted' (prompts.TIMES), 'default' (prompts.TIMES)"
    )
    assert said_after(("TIMES = 7", "TIMES = 8")) == "'dotted' (parts.more.TIMES)"
    assert said_after(("MAX = 10", "MAX = 11")) == "'dotted' (parts.more.MAX)"
    assert said_after(("(1, 2)", "(1, 3)")) == "'imported' (LEVELS)"
    layout = '"Be breif."', '(  # short\n    "Be breif.")'
    for harmless in (('"none"', '"all"'), ("LIST = [1]", "LIST = [2]"), layout):
        assert said_after(harmless) == ""


NOTEBOOK = """
import importlib
import os
from pathlib import Path
import steps
from trioflow import Job, Scheduler

def run(prompt, body="", again=True):
    text = f"PROMPT = {prompt!r}\\nasync def ask():\\n    {body}return PROMPT\\n"
    Path("steps.py").write_text(text)
    os.utime("steps.py", (len(text), len(text)))
    if again:
        importlib.reload(steps)
    job = Job(steps.ask, label="ask")
    assert Scheduler(job).run(journal="run.db")
    print(job.restored)

run("brief")
run("at length")
run("at length", "1 + 1; ")
run("at length", "1 + 1; 2 + 2; ", again=False)
"""


@pytest.mark.parametrize("bytecode", ["", "1"])
def test_what_a_notebook_has_loaded_again_is_what_runs(bytecode: str) -> None:
    """After `importlib.reload`, the texts of the first import were compared: a mended prompt was no change."""
    Path("steps.py").write_text("")
    Path("notebook.py").write_text(NOTEBOOK)
    os.utime("steps.py", (1, 1))
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": bytecode}
    done = python("notebook.py", text=True, env=environment)
    assert done.stdout.split() == ["False", "True", "True", "True"]
    told = re.findall("has changed since, (.*): that counts", done.stderr)
    assert told == ["'ask' (PROMPT)", "'ask'", "'ask'"]


def test_a_constant_that_was_not_known_to_be_read_is_no_change() -> None:
    """A journal that an earlier version has written knows the code alone."""
    before = f"{_code_digests.PYTHON_VERSION} abc"
    assert _code_digests.find_change(before, f"{before} PROMPT:12") is None
    assert _code_digests.find_change(f"{before} PROMPT:12", before) is None
    assert (
        _code_digests.find_change(f"{before} PROMPT:12 X:1", f"{before} PROMPT:13 X:2")
        == "PROMPT, X"
    )
    assert (
        _code_digests.find_change(f"{before} PROMPT:12", f"{before}d PROMPT:12") == ""
    )
    assert _code_digests.find_change("2.7 abc PROMPT:12", f"{before} PROMPT:13") is None


def test_the_code_of_a_killed_run_is_known() -> None:
    text = """
import os
from trioflow import Journal, Scheduler, ThreadJob

def first():
    return 1 + 1

begin = ThreadJob(first, label="first")
Scheduler(begin, ThreadJob(os._exit, 1, required=begin, label="last")).run(journal=Journal("run.db", durable="each"))
"""
    assert run_steps(text)[0] == ""
    _, said = run_steps(text, ("1 + 1", "1 + 2"), ("os._exit, 1", "print"))
    assert "the code of 1 restored job has changed since, 'first'" in said


def test_code_that_was_replaced_during_a_run_is_that_of_the_later_jobs_alone() -> None:
    text = """
from trioflow import Retry, Scheduler, ThreadJob

def step(number):
    return 1 // number

def mended(number):
    return 2 // (number + 1)

def mend(error):
    step.__code__ = mended.__code__
    return True

jobs = [ThreadJob(step, 1, label="one"), ThreadJob(step, 0, label="zero", retry=Retry(1, first=0, on=mend))]
jobs[1].requires(jobs[0])
Scheduler(*jobs).run(journal="run.db")
print(sum(job.restored for job in jobs))
"""
    assert run_steps(text)[0] == "0"
    restored, said = run_steps(text, ("1 // number", "2 // (number + 1)"))
    assert restored == "2"
    assert "the code of 1 restored job has changed since, 'one'" in said


MENDED = """
from pathlib import Path
import trioflow.look
from trioflow import Job, JobState, Scheduler

async def collect():
    return 40

async def upload(number):
    return number + missing

def mend(job):
    if job.state is JobState.FAILED:
        Path("steps.py").write_text(Path("steps.py").read_text().replace("+ " + "missing", "+ 2"))
        print(trioflow.look.reload())
        job.try_again()

collected = Job(collect)
jobs = [collected, Job(upload, collected, label="upload")]
print(Scheduler(*jobs, hold=True, on_job_settled=mend).run(journal="run.db"), [job.result() for job in jobs])
print(sum(job.restored for job in jobs))
"""


def test_what_was_mended_in_a_run_is_restored_by_the_next_one() -> None:
    """It is stored under its name, and its code, which is that of the file by then, has not changed since."""
    assert (
        run_steps(MENDED.replace("missing", "1", 1), ("+ " + "1", "+ 2"))[0]
        == "True [40, 42]\n0"
    )
    assert (
        python("-m", "trioflow", "journal", "run.db", "forget", "upload").returncode
        == 0
    )
    assert run_steps(MENDED)[0] == "reloaded steps.py: upload\nTrue [40, 42]\n1"
    mended = Path("steps.py").read_text()
    assert run_steps(mended) == ("True [40, 42]\n2", "")


MENDED_LIVE = """
import os, pathlib, sys
import anyio
import trioflow.look
from trioflow import Job, Scheduler

mended = anyio.Event()

async def clean(n):
    await begun.wait()
    if n == 3: raise ValueError("bad row")
    return n * 10

begun = anyio.Event()

async def through():
    begun.set()
    await mended.wait()
    return 1 + 1

def mend(job):
    if job.label == "row 3" and job.attempts == 1 and job.raised_exception():
        text = pathlib.Path(__file__).read_text()
        text = text.replace('    if n == 3: raise ValueError("bad row")\\n    return n * 10', "    return n * 100")
        pathlib.Path(__file__).write_text(text.replace("return 1 +" + " 1", "return 1 + 2"))
        trioflow.look.reload()
        mended.set()
        job.try_again()

rows = [Job(clean, n, label=f"row {n}") for n in (1, 2, 3)]
ran_through = Job(through, label="through")
s = Scheduler(ran_through, *rows, on_job_settled=mend, hold=True)
assert s.run(journal="run.db")
print(*[job.result() for job in rows], ran_through.result(), sum(job.restored for job in s))
"""


def test_what_code_has_made_before_it_was_mended_in_the_live_run_is_named() -> None:
    """What old code had made was restored without a word, and mended functions were not followed any more."""
    assert run_steps(MENDED_LIVE)[0] == "10 20 300 2 0"
    mended = Path("steps.py").read_text()
    restored, said = run_steps(mended)
    assert restored == "10 20 300 2 4"
    # What ran through the reload has run the old code.
    assert (
        "the code of 3 restored jobs has changed since, 'row 1', 'row 2', 'through'"
        in said
        or "'through', 'row 1', 'row 2'" in said
    )
    restored, said = run_steps(mended, ("return n * 100", "return n * 1000"))
    assert restored == "10 20 300 2 4"
    assert "the code of 4 restored jobs has changed since" in said


MENDED_BEFORE_ITS_WORKER = """
import pathlib
import anyio
import made
import trioflow.look
from trioflow import Job, ProcessJob, Scheduler

async def mend():
    for number in (22, 333):
        pathlib.Path("made.py").write_text(f"def make(): return {number}")
        print(trioflow.look.reload())
        # The worker that it had claimed ends, because it has older code.
        while not called.attempts:
            await anyio.sleep(0)

called = ProcessJob(made.make, label="called")
if __name__ == "__main__":
    assert Scheduler(Job(mend, label="mend"), called).run(journal="run.db")
    print(called.result(), called.restored)
"""


def test_code_that_was_mended_before_its_worker_was_there_is_the_code_that_ran() -> (
    None
):
    """What mended code had made was named as made by older code: its attempt had begun before, without a worker."""
    Path("made.py").write_text("def make(): return 1")
    os.utime("made.py", (1, 1))
    assert (
        run_steps(MENDED_BEFORE_ITS_WORKER)[0]
        == "reloaded made.py: make\nreloaded made.py: make\n333 False"
    )
    os.utime("made.py", (2, 2))
    assert run_steps(MENDED_BEFORE_ITS_WORKER) == ("333 True", "")
    Path("made.py").write_text("def make(): return 4444")
    os.utime("made.py", (3, 3))
    assert (
        "the code of 1 restored job has changed since, 'called'"
        in run_steps(MENDED_BEFORE_ITS_WORKER)[1]
    )


MENDED_BEFORE_THE_RECORD = """
import os
import pathlib
import made
import trioflow.look
from trioflow import ProcessJob, Scheduler

listdir = os.listdir

def mend_and_list(path="."):
    if path == "given" and called.is_running():
        os.listdir = listdir
        pathlib.Path("made.py").write_text("def make(): return 22")
        print(trioflow.look.reload())
    return listdir(path)

called = ProcessJob(made.make, reads=["given"], label="called")
if __name__ == "__main__":
    os.listdir = mend_and_list
    assert Scheduler(called).run(journal="run.db")
    print(called.result(), called.restored)
"""


def test_code_that_was_mended_between_an_answer_and_its_record_has_not_run() -> None:
    """What a worker had made was stored as made by the mended code, while its files were read for the record."""
    Path("given").mkdir()
    Path("made.py").write_text("def make(): return 1")
    os.utime("made.py", (1, 1))
    assert run_steps(MENDED_BEFORE_THE_RECORD)[0] == "reloaded made.py: make\n1 False"
    os.utime("made.py", (2, 2))
    restored, said = run_steps(MENDED_BEFORE_THE_RECORD)
    assert restored == "1 True"
    assert "the code of 1 restored job has changed since, 'called'" in said


HELD = """
from trioflow import Scheduler, ThreadJob
from trioflow.abc import Instrument

def load(n):
    return n + 1

def use(n):
    return 1 / n

class Answers(Instrument):
    def incident(self, scheduler, job, message, exception):
        if message.endswith("is held"):
            (loaded.try_again if loaded.restored else scheduler.resume)()

loaded, other = ThreadJob(load, -1, label="load"), ThreadJob(load, 3, label="other")
used = ThreadJob(use, loaded, label="use")
print(Scheduler(loaded, used, other, label="night", hold=True, instruments=[Answers()]).run(journal="run.db"))
"""


def test_a_held_run_names_the_restored_jobs_whose_code_has_changed() -> None:
    """The line at the end does not name those that have run again meanwhile."""
    assert run_steps(HELD)[0] == "False"
    succeeded, said = run_steps(HELD, ("n + 1", "n + 2"))
    assert succeeded == "True"
    [held] = [line for line in said.splitlines() if "is held" in line]
    assert "; 'load', 'other' succeeded with older code: `trioflow steer " in held
    assert held.endswith(" try-again load` runs it again")
    assert (
        "the code of 1 restored job has changed since, 'other': that counts only with"
        in said
    )


BEGAN: list[object] = []


async def fetch() -> None:
    """Raise `Throttled` in the first attempt, in which a file is mended and reloaded."""
    if not BEGAN:
        BEGAN.append(current_job())
        for note in [*_loaded_files.before_reload]:
            note()
        raise Throttled("api", 1.0)


def test_the_code_of_a_throttled_attempt_is_not_that_of_the_next(
    virtual: Virtual, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A throttled attempt does not count, so the next has its number, and had its code in the journal, too."""
    digests = iter(["3.11 of the first attempt", "3.11 of the second"])
    monkeypatch.setattr(_recorder, "code_digest", lambda _: next(digests))
    BEGAN.clear()
    scheduler = Scheduler(
        Job(fetch, label="fetch", needs={"api": {"calls": 1}}),
        pool=Pool(api=Rate(calls=9, per=1)),
    )
    assert virtual(functools.partial(scheduler.co_run, journal=file))
    (record,) = read_with_retry(file, lambda store: [*store.job_records()])
    assert record.code == "3.11 of the second"
