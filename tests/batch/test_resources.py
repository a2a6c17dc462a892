"""Commands that wait for memory, for a lower load, or for resources of a pool; and the grants that they get."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
import pytest
from trioflow.batch import _batch, _resources
from trioflow.batch._template import CommandTemplate
from trioflow.jobs.posix._cpus import count_usable_cpus, usable_cpus
from ..places import patiently
from .process import batch, meanwhile, refusal

pytestmark = pytest.mark.usefixtures("plain_shell")

GIB = 1 << 30


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_batch, "POLL_INTERVAL", 0.001)


def memory(monkeypatch: pytest.MonkeyPatch, free: Iterator[int]) -> None:
    """Let the machine have 8 GiB of memory in all, and as much of it free, in turn, as given."""
    monkeypatch.setattr(
        _resources,
        "_read_meminfo",
        lambda name: 8 * GIB if name == "MemTotal" else next(free),
    )


# ---- conditions for a start
@pytest.mark.usefixtures("hurry")
def test_memfree_option_delays_starts_until_enough_memory_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory(monkeypatch, itertools.cycle([GIB, GIB, 5 * GIB]))
    done = batch("-k", "--memfree", "4G", "echo", ":::", "a", "b", "c")
    assert (done.stdout, done.exit_code) == ("a\nb\nc\n", 0)
    said = "trioflow batch: no command starts until 4 GiB of memory are free (--memfree); 1 GiB is free now\n"
    assert done.stderr == said


def test_memfree_option_delays_nothing_if_enough_memory_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With --memfree, a command runs at once and without a message if enough memory is free."""
    memory(monkeypatch, itertools.repeat(4 * GIB))
    done = batch("--memfree", "4G", "echo", ":::", "a")
    assert (done.stdout, done.stderr, done.exit_code) == ("a\n", "", 0)


@pytest.mark.usefixtures("hurry")
def test_retries_wait_for_memory_as_starts_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --memfree, a retry starts only when enough memory is free, and one message says why the batch waits."""
    free = iter([5 * GIB, GIB, 5 * GIB, GIB, GIB, 5 * GIB])
    memory(monkeypatch, free)
    done = batch("--memfree", "4G", "--retries", "2", "echo {}; exit 1", ":::", "a")
    assert (done.stdout, done.exit_code, list(free)) == ("a\n", 1, [])
    assert meanwhile(done.stderr).count("no command starts until") == 1


@pytest.mark.usefixtures("hurry")
def test_batch_that_halts_does_not_wait_for_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory(monkeypatch, itertools.chain([5 * GIB, 5 * GIB], itertools.repeat(GIB)))
    assert (
        batch(
            "-j2", "--memfree", "4G", "--halt", "soon,fail=1", "exit", ":::", 1, 2, 3
        ).exit_code
        == 1
    )


def test_memfree_option_accepts_sizes_with_units(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The units of --memfree are those of pools, and GNU parallel's small letters; other sizes are rejected."""
    memory(monkeypatch, itertools.repeat(1))
    sizes = {
        "1": 1,
        "4k": 4000,
        "4K": 4096,
        "1.5g": 15 * 10**8,
        "2m": 2 * 10**6,
        "1 GiB": GIB,
        "3 MB": 3 * 10**6,
    }
    assert {text: _resources.parse_size(text) for text in sizes} == sizes
    for text in ("", "-1", "4x", "lots", "nan", "4KG"):
        with pytest.raises(ValueError, match="write a number and a unit"):
            _resources.parse_memfree(text)
    with pytest.raises(
        ValueError, match="9G will never be free: this machine has 8 GiB"
    ):
        _resources.parse_memfree("9G")
    monkeypatch.undo()
    monkeypatch.setattr(_resources, "MEMINFO_PATH", tmp_path / "nothing")
    done = batch("--memfree", "1G", "echo", ":::", "a")
    assert done.exit_code == 255
    assert "does not report its free memory" in done.stderr


# ---- needs
def test_needs_option_grants_each_command_units_that_no_other_command_has() -> None:
    """With --needs, no two commands have the same unit at once, and `{gpu}` is replaced by the granted unit."""
    Path("held").mkdir()
    line = "mkdir held/{gpu} && sleep 0.05 && rmdir held/{gpu} && echo {} {gpu}"
    done = batch("-j8", "--needs", "gpu=1", "--pool", "gpu=x,y", line, ":::", *range(8))
    assert (done.stderr, done.exit_code) == ("", 0)
    lines = [text.split() for text in done.stdout.splitlines()]
    assert sorted(number for number, _ in lines) == list("01234567")
    assert {card for _, card in lines} == {"x", "y"}


def test_needs_option_accepts_several_resources() -> None:
    """With several resources, `{gpu}` becomes names joined by commas, `{mem}` an amount, and unknown names stay."""
    command = ["echo {} {gpu} {mem} {disk}", ":::", "a b"]
    done = batch("--needs", "gpu=2,mem=1.5K", "--pool", "gpu=0,1,2,mem=1M", *command)
    assert done.stdout == "a b 0,1 1536 {disk}\n"
    done = batch(
        "--needs",
        "gpu=2",
        "--needs",
        "mem=1.5K",
        "--pool",
        "gpu=0,1,2",
        "--pool",
        "mem=1M",
        *command,
    )
    assert done.stdout == "a b 0,1 1536 {disk}\n"


def test_a_placeholder_for_grants_does_not_replace_the_argument() -> None:
    """If a command has a placeholder for grants alone, the argument is still appended, and quoted."""
    template = CommandTemplate(["CARD={gpu}", "run"], ["gpu"])
    assert template.fill(["a b"], 1, 1, {"gpu": "0,1"}) == "CARD='0,1' run 'a b'"
    assert template.fill(["{gpu}"], 1, 1) == "CARD={gpu} run '{gpu}'"
    assert CommandTemplate(["run {gpu}"]).fill(["a"], 1, 1) == "run {gpu} a"


def test_job_log_and_dry_run_do_not_contain_granted_units() -> None:
    words = [
        "--needs",
        "gpu=1",
        "--pool",
        "gpu=7,",
        "--joblog",
        "log",
        "echo",
        "{gpu}",
        ":::",
        "a",
    ]
    assert batch(*words).stdout == "7 a\n"
    assert Path("log").read_text().splitlines()[1].endswith("echo {gpu} a")
    assert (
        batch(
            "--dry-run",
            "--needs",
            "gpu=1",
            "--pool",
            "gpu=7,",
            "echo",
            "{gpu}",
            ":::",
            "a",
        ).stdout
        == "echo {gpu} a\n"
    )


def test_cpus_memory_and_gpus_of_the_machine_are_detected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert _resources.detect_resource("gpu") == ["3", "5"]
    assert _resources.detect_resource("cpu") == count_usable_cpus()
    assert _resources.detect_resource("mem") == _resources._read_meminfo("MemTotal")
    assert batch("--needs", "gpu=2", "echo {gpu}", ":::", "a").stdout == "3,5 a\n"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert _resources.detect_resource("gpu") == []


CPU_COUNT = len(usable_cpus())
INVALID = [
    (["--needs", "gpu"], "write each name once, with an amount, as in gpu=1,mem=4G"),
    (["--needs", "gpu=1,gpu=2"], "write each name once"),
    (
        ["--needs", "gpu=1", "--needs", "gpu=2"],
        "gpu is given twice: give each name once",
    ),
    (["--needs", "mem=9P"], "--needs mem=9 PiB: the total is "),
    (
        ["--needs", "mem=2G", "--pool", "mem=1.5G"],
        "--needs mem=2 GiB: the total is 1.5 GiB",
    ),
    (["--needs", "2=1"], "write each name once"),
    (["--needs", "gpu=0"], "gpu=0: give more than 0"),
    (["--needs", "gpu=-1"], "write a number and a unit"),
    (["--needs", "gpu=nan"], "write a number and a unit"),
    (["--needs", "gpu=3", "--pool", "gpu=0,1"], "--needs gpu=3: the total is 2"),
    (
        ["--needs", "gpu=1", "--pool", "gpu=0"],
        "gpu=0 is an amount of 0; for one unit named 0, write gpu=0,",
    ),
    (["--needs", "mem=1G", "--pool", "mem=0"], "--needs mem=1 GiB: the total is 0"),
    (
        ["--needs", "gpu=0.5", "--pool", "gpu=0,1"],
        "gpu=0.5: the units of gpu have names; give a whole number",
    ),
    (
        ["--needs", "licence=1"],
        "the total amount is unknown; give it with --pool licence=...",
    ),
    (["--needs", "gpu=1", "--pool", "0,1"], "write NAME=AMOUNT, or NAME=UNIT,UNIT"),
    (["--needs", "gpu=1", "--pool", "gpu=1,gpu=2"], "write each name once"),
    (["--needs", "gpu=1", "--pool", "gpu=0,0"], "duplicate unit"),
    (["--pool", "gpu=1"], "--pool needs --needs"),
    (["--memory-limit", "much"], "'--memory-limit': 'much': write a number and a unit"),
    (
        ["--memory-limit", "0"],
        "'--memory-limit': '0': give a positive size, such as 2G",
    ),
    (
        ["-j", str(CPU_COUNT + 1), "--pin"],
        f"{CPU_COUNT + 1} slots are more than the {CPU_COUNT} CPU",
    ),
    (
        ["-j0", "--pin", "--joblog", "ran"],
        f"that may be used: give -j{CPU_COUNT}, or leave --pin out",
    ),
    (
        ["-S", "host", "--pin", "--memory-limit", "2G"],
        "--memory-limit and --pin apply to this machine",
    ),
]


def test_invalid_resource_options_of_a_batch_are_rejected() -> None:
    """The error for an invalid resource option explains what to write, and no command runs."""
    for words, said in INVALID:
        assert said in refusal(*words, "touch", ":::", "ran")
        assert not Path("ran").exists()


# ---- priority, limits, CPUs, timeout without output
def test_memory_limit_option_limits_the_memory_of_a_command() -> None:
    """With --memory-limit 2G, `ulimit -v` in the shell of a command prints that limit."""
    assert (
        batch("--memory-limit", "2G", "ulimit -v #", ":::", "a").stdout
        == f"{2 * GIB // 1024}\n"
    )


def test_pin_option_gives_each_slot_a_different_cpu() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    all_run = (
        f'echo >> run; until test "$(wc -l < run)" = {len(cpus)}; do sleep 0.01; done'
    )
    line = f"{all_run}; grep Cpus_allowed_list /proc/self/status #"
    done = batch("-k", "-j", len(cpus), "--pin", line, ":::", *cpus)
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        str(cpu) for cpu in cpus
    ]


@patiently(0.1, 0.5, 3, 12)
def test_idle_timeout_option_ends_a_command_without_output(unit: float) -> None:
    steady = f"for n in 1 2 3 4; do sleep {1.5 * unit}; echo $n; done"
    done = batch(
        "-j2", "--idle-timeout", str(4 * unit), ":::", steady, "echo b; sleep 99"
    )
    assert (sorted(done.stdout.split()), done.exit_code) == (
        ["1", "2", "3", "4", "b"],
        1,
    )
    assert (
        meanwhile(done.stderr)
        == "trioflow batch: ended by --idle-timeout: echo b; sleep 99\n"
    )


def test_devices_are_in_the_order_of_their_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices = [f"/dev/nvidia{number}" for number in (10, 2, 0, 9)]
    monkeypatch.setattr("glob.glob", lambda pattern: devices)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _resources.detect_resource("gpu") == ["0", "2", "9", "10"]
