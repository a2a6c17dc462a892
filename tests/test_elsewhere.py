"""Systems other than POSIX: what is rejected there, with which errors, and the lock of a journal."""

import os
import re
import subprocess
import sys
from pathlib import Path
import pytest
from trioflow import _posix
from .elsewhere import VARIABLE
from .places import PACKAGE, ROOT

TRIED = """
import tests.elsewhere
import tempfile, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from trioflow import *

def text(call):
    try:
        call()
    except NotImplementedError as error:
        return str(error)
    return "nothing was rejected"

print(text(lambda: CommandJob(["true"])))
print(text(lambda: CommandService(["true"], ready=PortOpen(80))))
print(text(lambda: SshJob("node", "true")))
print(text(Scheduler(ProcessJob(len, "ab", label="count")).run))
inside = ProcessJob(len, "ab")
print(Scheduler(inside, processes=ThreadPoolExecutor()).run(), inside.result())

from trioflow.journal import _lock
path = Path(tempfile.mkdtemp(dir=Path.cwd())) / "run.db"
lock = _lock.JournalLock(path, "journal")
print(_lock.find_holder(path) == lock.process_description, lock.process_description.startswith("process"))
other = open(path.with_name("run.db-lock"), "r+b")
try:
    _lock.set_lock(other.fileno(), _lock.LOCK_FILE_BYTE, 1)
except OSError:
    print("locked")
other.close()
lock.release()
print(_lock.find_holder(path), path.with_name("run.db-lock").exists())

from trioflow.cli._commands import command
for line in sys.argv[1:]:
    try:
        command.main(line.split())
    except SystemExit as ended:
        print("ended with", ended.code, flush=True)
"""
INSTEAD = "use ThreadJob(subprocess.run, [...], check=True)"
NEEDS = "needs a POSIX system, but this is win32:"
FOUND = f"""\
CommandJob 'CommandJob' {NEEDS} {INSTEAD}
CommandService 'CommandService' {NEEDS} use a Service around anyio.open_process
SshJob 'SshJob' {NEEDS} use ThreadJob(subprocess.run, ["ssh", ...], check=True)
'count', a ProcessJob without processes=, {NEEDS} give the scheduler processes=ProcessPoolExecutor(), of \
concurrent.futures
True 2
True True
locked
None False
"""
COMMANDS = {
    "run s.py --report r.html --journal j.db --trace t.json": "all 2 jobs succeeded",
    "run s.py --journal j.db": "2 restored",
    "list s.py": "requires={1}",
    "check s.py": "2 jobs",
    "graph s.py -o g.dot": "",
    "journal j.db": "2 jobs kept, 2 runs",
    "report t.json -o again.html": "",
}
SCENARIO = """
import anyio
from trioflow import Job, Scheduler, ThreadJob

async def fetch(name):
    await anyio.sleep(0.01)
    return name

scheduler = Scheduler(ThreadJob(sorted, Job(fetch, "ba", label="fetch"), label="sort"), label="small")
"""


@pytest.mark.ci
def test_what_needs_posix_is_rejected_and_all_else_works_without_it(
    tmp_path: Path,
) -> None:
    """Without POSIX, jobs that need it are rejected with advice what to use; a journal has a lock; commands work."""
    (tmp_path / "s.py").write_text(SCENARIO)
    done = subprocess.run(
        [sys.executable, "-c", TRIED, *COMMANDS, "batch echo ::: 1"],
        env={**os.environ, VARIABLE: "win32", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.stdout.startswith(FOUND)
    *printed, rest = done.stdout.removeprefix(FOUND).split("ended with 0\n")
    assert len(printed) == len(COMMANDS), done.stdout
    for (line, words), text in zip(COMMANDS.items(), printed, strict=True):
        assert words in text, (line, text)
    assert "batch needs a POSIX system: use `trioflow run` with ThreadJobs" in rest
    for name in ("r.html", "again.html", "g.dot"):
        assert "fetch" in (tmp_path / name).read_text()


def test_the_exit_of_a_child_is_detected_without_os_waitid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without `os.waitid`, as on macOS before Python 3.13, the exit of a child is detected without reaping it."""
    monkeypatch.delattr(os, "waitid")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert not _posix.has_exited(child.pid)
        child.stdin.close()
        assert _posix.has_exited(child.pid, waits=True)
        assert _posix.has_exited(child.pid)
        assert child.wait() == 0
        with pytest.raises(ChildProcessError):
            _posix.has_exited(child.pid)


def names_of_systems() -> set[str]:
    texts = (path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    return {
        name for text in texts for name in re.findall(r"(?<![\w.])posix\.(\w+)", text)
    }


@pytest.mark.skipif(sys.platform != "linux", reason="other systems lack some")
def test_each_name_that_only_some_systems_have_exists_on_linux() -> None:
    names = names_of_systems()
    assert "killpg" in names
    assert [
        name for name in names if isinstance(getattr(_posix, name), _posix.MissingName)
    ] == []
