"""How each ending of a command is logged, counted and told, and what a machine has for commands: none runs."""

import glob
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import anyio
import pytest
from trioflow import (
    CommandError,
    CommandJob,
    CommandResult,
    Job,
    JobCancelled,
    JobTimeout,
    SshError,
    SshNode,
    Unreachable,
)
from trioflow.batch import _resources
from trioflow.batch._command_job import (
    CommandOutcome,
    KeptFailure,
    shorten_line,
)
from trioflow.jobs.command._result import MAX_COMMAND_LENGTH

USAGE: Any = SimpleNamespace(ru_utime=0, ru_stime=0, ru_maxrss=0)
NODE = SshNode("n1")
TIMED: Job[Any] = Job(anyio.sleep, 9, label="timed")
COMMAND = CommandJob(["x"], label="x")


def exited(code: int, stdout: bytes = b"out", stderr: bytes = b"") -> CommandResult:
    return CommandResult(code, 1.0, USAGE, stdout, stderr)


def failed(code: int, stderr: bytes = b"") -> tuple[CommandResult, Exception]:
    result = exited(code, stderr=stderr)
    return result, CommandError(COMMAND, "x", f"exit code {code}", result, stderr)


def timeout(missing: str | None = None, waits: str = "") -> JobTimeout:
    return JobTimeout(TIMED, 5, missing, waits=waits)


NOT_FOUND = b"sh: 1: x: not found\n"
LEFT = "exit code 7; what it left running was ended by "
ENDINGS: dict[
    str,
    tuple[tuple[CommandResult | None, Exception | None], tuple[int, int | None, int]],
] = {
    # ending: what the command has left, and its exit codes in a job log, in a table, and for the batch
    "": ((exited(0), None), (0, 0, 0)),
    "exit code 3": (failed(3), (3, 3, 3)),
    "exit code 127": (failed(127), (127, 127, 127)),
    "exit code 127: command not found": (failed(127, NOT_FOUND), (127, 127, 127)),
    "ended by signal SIGSEGV": (failed(-signal.SIGSEGV), (0, None, 139)),
    "ended by --timeout": ((exited(-15), timeout()), (-1, None, 255)),
    "ended by --idle-timeout": ((exited(-15), timeout("output")), (-1, None, 255)),
    f"{LEFT}--timeout": ((exited(7), timeout(waits="a pipe")), (7, 7, 7)),
    f"{LEFT}--idle-timeout": ((exited(7), timeout("output", "a pipe")), (7, 7, 7)),
    "exit code 0; what it left running was ended by --timeout": (
        (exited(0), timeout(waits="a pipe")), (-1, None, 255)
    ),
    "cancelled": ((None, JobCancelled("cancelled")), (-1, None, 255)),
    "[Errno 28] disk is full": ((exited(0), OSError(28, "disk is full")), (-1, None, 255)),
    "no file": ((None, OSError("no file")), (126, 126, 126)),
    "n1: it is away": ((None, Unreachable(NODE, "it is away")), (255, 255, 255)),
    "n1: it is lost": ((None, SshError(NODE, "it is lost")), (255, 255, 255)),
    "a NUL": ((None, ValueError("a NUL")), (126, 126, 126)),
}  # fmt: skip
MESSAGES = {
    "ended by --timeout": "ended by --timeout: echo a",
    "ended by --idle-timeout": "ended by --idle-timeout: echo a",
    f"{LEFT}--timeout": f"{LEFT}--timeout: echo a",
    f"{LEFT}--idle-timeout": f"{LEFT}--idle-timeout: echo a",
    "exit code 0; what it left running was ended by --timeout": (
        "exit code 0; what it left running was ended by --timeout: echo a"
    ),
    "cancelled": "cancelled: echo a",
    "[Errno 28] disk is full": "echo a: [Errno 28] disk is full",
    "no file": "echo a: no file",
    "n1: it is lost": "n1: it is lost",
    "a NUL": "a NUL",
}
"""The messages at once; what another output explains has none."""


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_ending_of_a_command_has_its_codes_and_its_words(ending: str) -> None:
    (result, error), codes = ENDINGS[ending]
    outcome = CommandOutcome(1, "echo a", result, error, 0.0, 1.0)
    assert (
        outcome.joblog_exit_value,
        outcome.table_exit_code,
        outcome.exit_code,
    ) == codes
    assert outcome.has_failed is bool(ending)
    code = 0 if result is None else result.returncode
    assert outcome.signal == max(0, -code)
    if error is not None:
        assert outcome.reason == ending
    assert outcome.message == MESSAGES.get(ending, "")
    restored = CommandOutcome(1, "echo a", result, error, 0.0, 1.0, is_restored=True)
    assert restored.message == ""


def test_failures_of_one_kind_have_the_same_cause_on_the_same_host() -> None:
    def kind(error: Exception | None, host: str = ":", result: Any = None) -> Any:
        return CommandOutcome(1, "x", result, error, 0, 0, host=host).failure_kind

    def caused(number: int) -> Exception:
        error = CommandError(COMMAND, "x", "not started", None)
        error.__cause__ = OSError(number, "why")
        return error

    assert kind(caused(2)) == kind(caused(2))
    assert kind(caused(2)) != kind(caused(13))
    assert kind(caused(2), "n1") != kind(caused(2), "n2")
    assert kind(caused(2)) != kind(OSError(2, "why"))
    first, second = failed(3), failed(3, b"else")
    assert kind(first[1], "n1", first[0]) == kind(second[1], "n2", second[0])
    assert kind(timeout()) == kind(timeout(), "n2", exited(-15))
    assert kind(timeout()) != kind(timeout("output"))


@pytest.mark.parametrize(
    ("ending", "is_kept"),
    [
        (failed(125), True),
        (failed(126), False),
        (failed(127), False),
        (failed(128), True),
        (failed(-9), True),
        ((exited(-15), timeout()), True),
        ((exited(126), timeout()), False),
        ((None, timeout()), False),
        ((exited(0), OSError("disk")), False),
        ((exited(0), SshError(NODE, "lost")), False),
    ],
)
def test_a_failure_is_kept_if_the_command_has_run(
    ending: tuple[CommandResult | None, Exception], is_kept: bool
) -> None:
    result, error = ending
    kept = KeptFailure.of(error, result, {"retries": "2"})
    assert (kept is not None) is is_kept
    if kept is not None:
        assert (kept.result, kept.options) == (result, {"retries": "2"})
        assert kept.limit == (5 if isinstance(error, JobTimeout) else None)


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_command_is_named_whole_as_long_as_it_fits(beyond: int) -> None:
    line = "x" * (MAX_COMMAND_LENGTH + beyond)
    assert shorten_line(line) == (
        "x" * (MAX_COMMAND_LENGTH - 3) + "..." if beyond else line
    )


@pytest.mark.parametrize(
    ("sizes", "is_large"),
    [
        ((1 << 20, 0), False),
        ((1 << 20, 1), True),
        ((1, 1 << 20), True),
        ((0, 0), False),
    ],
)
def test_outputs_are_large_together(sizes: tuple[int, int], is_large: bool) -> None:
    result = exited(0, *(b"x" * size for size in sizes))
    assert CommandOutcome(1, "x", result, None, 0, 0).has_large_output is is_large


# ---- what the machine has
@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    file = tmp_path / "meminfo"
    monkeypatch.setattr(_resources, "MEMINFO_PATH", file)

    def write(total: int, free: int) -> None:
        file.write_text(
            f"MemTotal:  {total} kB\nMemFree: 1 kB\nMemAvailable:    {free} kB\nX: 2 kB\n"
        )

    return write


def test_memory_is_waited_for_until_as_much_as_is_given_is_free(
    memory: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes of /proc/meminfo are of 1024 bytes. As much as the machine has may be given, and not a byte more."""
    memory(4096, 2048)
    wait = _resources.parse_memfree("2M")
    assert wait() is None
    memory(4096, 2047)
    told = "2 MiB of memory are free (--memfree); 1.999 MiB is free now"
    assert wait() == told
    assert _resources.parse_memfree(str(4 << 20))() is not None
    with pytest.raises(
        ValueError, match="4194305 will never be free: this machine has 4 MiB"
    ):
        _resources.parse_memfree(str((4 << 20) + 1))
    assert _resources.detect_resource("mem") == 4 << 20
    # Of a system that no longer says it, nothing is waited for.
    monkeypatch.setattr(_resources, "MEMINFO_PATH", "/nothing")
    assert wait() is None


def test_a_size_has_the_units_of_gnu_parallel() -> None:
    units = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
    for number, (unit, size) in enumerate(units.items(), 1):
        assert _resources.parse_size(f"1.5{unit}") == 1.5 * size
        assert _resources.parse_size(f"3{unit.upper()}") == 3 * 1024**number
    for limit in (1, 2**63 - 1):
        assert _resources.parse_memory_limit(str(limit)) == limit
    for limit in (0, 2**63):
        with pytest.raises(ValueError, match="give a positive size, such as 2G"):
            _resources.parse_memory_limit(str(limit))


@pytest.mark.parametrize(
    ("visible", "devices", "cards"),
    [
        (None, [0, 2, 10], ["0", "2", "10"]),
        (None, [], None),
        ("", [0], []),
        ("1,0", [5], ["1", "0"]),
        ("2,,GPU-8,-1,3", [5], ["2", "GPU-8"]),
    ],
)
def test_cards_are_those_that_cuda_would_see(
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    devices: list[int],
    cards: list[str] | None,
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    names = sorted(f"/dev/nvidia{number}" for number in devices)
    monkeypatch.setattr(glob, "glob", {"/dev/nvidia[0-9]*": names}.__getitem__)
    assert _resources.detect_resource("gpu") == cards


@pytest.mark.parametrize(
    ("needs", "totals", "count"),
    [
        ({"gpu": 2}, {"gpu": ["0", "1", "2", "3", "4"]}, 2),
        ({"gpu": 1, "mem": 3 << 30}, {"gpu": ["a", "b", "c"], "mem": "8G"}, 2),
        ({"mem": 3 << 30, "gpu": 1}, {"gpu": ["a"], "mem": "8G"}, 1),
        ({"mem": 3 << 30, "gpu": 1}, {"gpu": ["a", "b", "c"], "mem": "8G"}, 2),
        ({"cpu": 0.7}, {"cpu": "2"}, 2),
        ({"cpu": 0.5}, {"cpu": "2"}, 4),
        ({}, {"cpu": "2"}, None),
    ],
)
def test_as_many_commands_run_at_once_as_the_scarcest_resource_allows(
    needs: dict[str, Any], totals: dict[str, Any], count: int | None
) -> None:
    pool, most = _resources.make_pool(needs, totals)
    assert most == count
    assert (pool is None) is (count is None)


def test_totals_that_are_given_replace_those_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if nothing is given: a pool without cards has none, whatever the machine has."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert _resources.make_pool({"gpu": 1}, {})[1] == 3
    assert _resources.make_pool({"gpu": 1}, {"gpu": "2"})[1] == 2
    with pytest.raises(ValueError, match="--needs gpu=1: the total is 0; give less"):
        _resources.make_pool({"gpu": 1}, {"gpu": []})
    parsed = {"a": ["x"], "b": ["x", "y"], "c": "x 1", "d": "2", "e": ["", "z"]}
    text = "a=x,,b=x,y,d=2"
    assert _resources.parse_pool(text) == {name: parsed[name] for name in "abd"}
