"""Commands that wait for memory, for a lower load, or for resources of a pool; and the grants that they get."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from trioflow.batch import _batch, _batch_pool, _quantities, _start_conditions
from trioflow.batch._template import CommandTemplate, ReplacementStrings

from ..places import patiently
from .process import batch, meanwhile

pytestmark = pytest.mark.usefixtures("plain_shell")

GIB = 1 << 30


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll without a pause."""
    monkeypatch.setattr(_batch, "POLL_INTERVAL", 0.001)


def memory(monkeypatch: pytest.MonkeyPatch, free: Iterator[int]) -> None:
    """Give the machine 8 GiB in all, and the given sizes of free memory in turn."""
    monkeypatch.setattr(_start_conditions, "_read_meminfo", lambda name: 8 * GIB if name == "MemTotal" else next(free))


# ---- conditions for a start


@pytest.mark.usefixtures("hurry")
def test_memfree_option_delays_starts_until_enough_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message has the reason, however often the batch waits; then all commands run, and none fails."""
    memory(monkeypatch, itertools.cycle([GIB, GIB, 5 * GIB]))
    done = batch("-k", "--memfree", "4G", "echo", ":::", "a", "b", "c")
    assert (done.stdout, done.exit_code) == ("a\nb\nc\n", 0)
    said = "trioflow batch: no command starts until 4 GiB of memory are free (--memfree); now it is 1 GiB\n"
    assert done.stderr == said


def test_memfree_option_delays_nothing_if_enough_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs without a message."""
    memory(monkeypatch, itertools.repeat(4 * GIB))
    done = batch("--memfree", "4G", "echo", ":::", "a")
    assert (done.stdout, done.stderr, done.exit_code) == ("a\n", "", 0)


@pytest.mark.usefixtures("hurry")
def test_load_option_delays_starts_and_retries_until_the_load_is_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load has to be below the number, as in GNU parallel."""
    loads = iter([2, 3, 1, 2, 0])
    monkeypatch.setattr(_start_conditions, "current_load", lambda: next(loads))
    done = batch("--load", "2", "--retries", "2", "echo {}; exit 1", ":::", "a")
    assert (done.stdout, done.exit_code) == ("a\n", 1)
    assert (
        meanwhile(done.stderr) == "trioflow batch: no command starts until the load is below 2 (--load); now it is 2\n"
    )
    assert list(loads) == []


@pytest.mark.usefixtures("hurry")
def test_batch_that_halts_does_not_wait_for_a_lower_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """The --halt rule is met while the next start is delayed."""
    loads = itertools.chain([0], itertools.repeat(9))
    monkeypatch.setattr(_start_conditions, "current_load", lambda: next(loads))
    done = batch("-j2", "--load", "2", "--halt", "soon,fail=1", "exit", ":::", 1, 2, 3)
    assert done.exit_code == 1


def test_load_is_the_number_of_running_and_blocked_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trioflow itself does not count. Without /proc/stat, the load is the average of the last minute."""
    stat = tmp_path / "stat"
    stat.write_text("cpu  1 2 3\nprocs_running 4\nprocs_blocked 2\nsoftirq 1 2\n")
    monkeypatch.setattr(_start_conditions, "STAT_PATH", stat)
    assert _start_conditions.current_load() == 5
    stat.unlink()
    monkeypatch.setattr(os, "getloadavg", lambda: (0.25, 1.0, 2.0))
    assert _start_conditions.current_load() == 0.25


def test_load_option_accepts_the_values_of_the_jobs_option() -> None:
    """The value 0 differs: it means nearly no load, not no limit."""
    assert _quantities.parse_load("3").max_load == 3
    assert _quantities.parse_load("200%").max_load == 2 * _quantities.count_usable_cpus()
    assert _quantities.parse_load("0").max_load == 0.01


def test_memfree_option_accepts_sizes_with_units(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The units are those of pools, and the small letters of GNU parallel; other sizes are rejected."""
    memory(monkeypatch, itertools.repeat(1))
    sizes = {"1": 1, "4k": 4000, "4K": 4096, "1.5g": 15 * 10**8, "2m": 2 * 10**6, "1 GiB": GIB, "3 MB": 3 * 10**6}
    assert {text: _start_conditions.parse_memfree(text).min_free_bytes for text in sizes} == sizes
    for text in ("", "-1", "4x", "lots", "nan", "4KG"):
        with pytest.raises(ValueError, match="write a number and a unit"):
            _start_conditions.parse_memfree(text)
    with pytest.raises(ValueError, match="9G will never be free: this machine has 8 GiB"):
        _start_conditions.parse_memfree("9G")
    monkeypatch.undo()
    monkeypatch.setattr(_start_conditions, "MEMINFO_PATH", tmp_path / "nothing")
    done = batch("--memfree", "1G", "echo", ":::", "a")
    assert done.exit_code == 255
    assert "does not report its free memory" in done.stderr


# ---- needs


def test_needs_option_grants_each_command_units_that_no_other_command_has() -> None:
    """As many commands run as can get what they need; braces are replaced by the granted unit."""
    Path("held").mkdir()
    line = "mkdir held/{gpu} && sleep 0.05 && rmdir held/{gpu} && echo {} {gpu}"
    done = batch("-j8", "--needs", "gpu=1", "--pool", "gpu=x,y", line, ":::", *range(8))
    assert (done.stderr, done.exit_code) == ("", 0)
    lines = [text.split() for text in done.stdout.splitlines()]
    assert sorted(number for number, _ in lines) == list("01234567")
    assert {card for _, card in lines} == {"x", "y"}


def test_needs_option_accepts_several_resources() -> None:
    """Granted names are joined by commas, amounts are numbers; braces with another name are not replaced."""
    command = ["echo {} {gpu} {mem} {disk}", ":::", "a b"]
    done = batch("--needs", "gpu=2,mem=1.5K", "--pool", "gpu=0,1,2,mem=1M", *command)
    assert done.stdout == "a b 0,1 1536 {disk}\n"
    done = batch("--needs", "gpu=2", "--needs", "mem=1.5K", "--pool", "gpu=0,1,2", "--pool", "mem=1M", *command)
    assert done.stdout == "a b 0,1 1536 {disk}\n"


def test_a_placeholder_for_grants_does_not_replace_the_argument() -> None:
    """The argument is appended as without a placeholder, and quoted even if the first word has one."""
    template = CommandTemplate(["CARD={gpu}", "run"], ReplacementStrings(resources=["gpu"]))
    assert template.fill(["a b"], 1, 1, {"gpu": "0,1"}) == "CARD='0,1' run 'a b'"
    assert template.fill(["{gpu}"], 1, 1) == "CARD={gpu} run '{gpu}'"
    assert CommandTemplate(["run {gpu}"]).fill(["a"], 1, 1) == "run {gpu} a"


def test_job_log_and_dry_run_do_not_contain_granted_units() -> None:
    """The job log has the braces, and --dry-run grants nothing."""
    words = ["--needs", "gpu=1", "--pool", "gpu=7,", "--joblog", "log", "echo", "{gpu}", ":::", "a"]
    assert batch(*words).stdout == "7 a\n"
    assert Path("log").read_text().splitlines()[1].endswith("echo {gpu} a")
    assert (
        batch("--dry-run", "--needs", "gpu=1", "--pool", "gpu=7,", "echo", "{gpu}", ":::", "a").stdout
        == "echo {gpu} a\n"
    )


def test_cpus_memory_and_gpus_of_the_machine_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors, memory and cards are known without --pool."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert _batch_pool.detect_resource("gpu") == ["3", "5"]
    assert _batch_pool.detect_resource("cpu") == _quantities.count_usable_cpus()
    assert _batch_pool.detect_resource("mem") == _start_conditions.total_memory()
    assert batch("--needs", "gpu=2", "echo {gpu}", ":::", "a").stdout == "3,5 a\n"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert _batch_pool.detect_resource("gpu") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--needs", "gpu"], "write each name once, with an amount, as in gpu=1,mem=4G"),
        (["--needs", "gpu=1,gpu=2"], "write each name once"),
        (["--needs", "gpu=1", "--needs", "gpu=2"], "gpu is in two of them: write each name once"),
        (["--needs", "mem=9P"], "--needs mem=9 PiB: the total is "),
        (["--needs", "mem=2G", "--pool", "mem=1.5G"], "--needs mem=2 GiB: the total is 1.5 GiB"),
        (["--needs", "2=1"], "write each name once"),
        (["--needs", "gpu=0"], "gpu=0: give more than 0"),
        (["--needs", "gpu=-1"], "write a number and a unit"),
        (["--needs", "gpu=nan"], "write a number and a unit"),
        (["--needs", "gpu=3", "--pool", "gpu=0,1"], "--needs gpu=3: the total is 2"),
        (["--needs", "gpu=0.5", "--pool", "gpu=0,1"], "--needs gpu=0.5: these are things; give a whole number"),
        (["--needs", "licence=1"], "the total amount is unknown; give it with --pool licence=..."),
        (["--needs", "gpu=1", "--pool", "0,1"], "write NAME=AMOUNT, or NAME=THING,THING"),
        (["--needs", "gpu=1", "--pool", "gpu=1,gpu=2"], "write each name once"),
        (["--needs", "gpu=1", "--pool", "gpu=0,0"], "a unit is listed twice"),
        (["--pool", "gpu=1"], "--pool needs --needs"),
        (["-S", "host", "--needs", "gpu=1", "--load", "1"], "--load and --needs are about this machine"),
        (["--load", "1.5"], "is not a number of jobs"),
        (["--nice", "25"], "is not a priority: give a number from 0 to 19"),
        (["--memory-limit", "much"], "'--memory-limit': 'much': write a number and a unit"),
        (["--memory-limit", "0"], "'--memory-limit': '0': give a positive size, such as 2G"),
        (["-S", "host", "--pin", "--memory-limit", "2G"], "--memory-limit and --pin are about this machine"),
    ],
)
def test_invalid_resource_options_of_a_batch_are_rejected(words: list[str], said: str) -> None:
    """The error explains what to write, and no command runs."""
    done = batch(*words, "touch", ":::", "ran")
    assert done.exit_code == 255
    assert said in " ".join(done.stderr.split())
    assert not Path("ran").exists()


# ---- priority, limits, CPUs, timeout without output


def test_nice_option_lowers_the_priority_of_commands() -> None:
    """The priority is relative to that of the batch."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert batch("--nice", 3, "sleep 0.1; nice #", ":::", "a").stdout == f"{min(19, own + 3)}\n"


def test_memory_limit_option_limits_the_memory_of_a_command() -> None:
    """`ulimit -v` of the shell prints the limit in KiB."""
    assert batch("--memory-limit", "2G", "ulimit -v #", ":::", "a").stdout == f"{2 * GIB // 1024}\n"


def test_pin_option_gives_each_slot_a_different_cpu() -> None:
    """The k-th slot gets the k-th of the CPUs that the batch may use."""
    cpus = sorted(os.sched_getaffinity(0))
    done = batch("-k", "-j", len(cpus), "--pin", "sleep 0.1; grep Cpus_allowed_list /proc/self/status #", ":::", *cpus)
    assert [line.split()[1] for line in done.stdout.splitlines()] == [str(cpu) for cpu in cpus]


@patiently(0.1, 0.5, 3)
def test_idle_timeout_option_ends_a_command_without_output(unit: float) -> None:
    """A command that keeps writing is not ended."""
    steady = f"for n in 1 2 3 4; do sleep {1.5 * unit}; echo $n; done"
    done = batch("-j2", "--idle-timeout", str(4 * unit), ":::", steady, "echo b; sleep 99")
    assert (sorted(done.stdout.split()), done.exit_code) == (["1", "2", "3", "4", "b"], 1)
    assert meanwhile(done.stderr) == "trioflow batch: ended by --idle-timeout: echo b; sleep 99\n"
