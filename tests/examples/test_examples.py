"""The examples, run as a newcomer runs them: by their command lines, in their own processes."""

import gzip
import hashlib
import itertools
import json
import lzma
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
import pytest
from trioflow import BudgetSpent, First, JobState, RequirementFailed, Scheduler
from trioflow.abc import Instrument
from ..cli.command_line import run
from ..places import EXAMPLES
from .scripts import LIBRARY, load_example, python, run_example, with_library

PACK_STDLIB = EXAMPLES / "pack_stdlib.py"


def pack(
    *arguments: Any, library: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the example; `library` replaces the standard library."""
    return run_example("pack_stdlib", *arguments, library=library)


def trioflow(*arguments: Any, library: Path) -> subprocess.CompletedProcess[str]:
    """Run the example by the command, as the README does, with a replaced standard library."""
    return with_library(library, "trioflow", "run", PACK_STDLIB, *arguments)


def facts(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def listed(output: str) -> list[str]:
    return re.findall(r"^\d+ .*<\w+ (.*?)>", output, re.MULTILINE)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A small library: three packages, and files that must not be packed."""
    root = tmp_path / "library"
    for name, content in {
        "beta/__init__.py": "import alpha\n" * 1000,
        "beta/test/test_beta.py": "assert False\n",
        "beta/__pycache__/__init__.pyc": "",
        "gamma/inner/deep.py": "deep\n" * 10,
        "site-packages/other.py": "",
        "config-3/library.a": "",
        "alpha.py": "",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def check_manifest(output: Path, library: Path) -> dict[str, Any]:
    """Compare manifest, packs and sources, and return the manifest's packs."""
    packs: dict[str, Any] = json.loads((output / "manifest.json").read_text())["packs"]
    for name, described in packs.items():
        assert facts((output / f"{name}.zip").read_bytes()) == described["packed"]
        with zipfile.ZipFile(output / f"{name}.zip") as archive:
            assert {
                one: facts(archive.read(one)) for one in archive.namelist()
            } == described["files"]
        assert {
            one: facts((library / one).read_bytes()) for one in described["files"]
        } == described["files"]
    return packs


@pytest.mark.parametrize("is_real", [False, pytest.param(True, marks=pytest.mark.ci)])
def test_pack_stdlib_packs_the_largest_package(
    tmp_path: Path, library: Path, is_real: bool
) -> None:
    if is_real:
        library = LIBRARY
    done = pack("--limit", 1, "--output", tmp_path, library=library)
    assert done.returncode == 0, done.stderr
    packs = check_manifest(tmp_path, library)
    assert len(packs) == 1
    assert is_real or [*packs] == ["beta"]
    assert sorted(listed(done.stdout)) == sorted(
        [
            *(
                f"{step} {name}"
                for step in ("read", "compress", "verify")
                for name in packs
            ),
            "write the manifest",
            "report progress",
        ]
    )
    assert " of 4 jobs done, at work: read " in done.stdout
    assert done.stderr == ""


def test_pack_stdlib_runs_by_the_trioflow_command(
    backend: str, tmp_path: Path, library: Path
) -> None:
    """The first command of the README packs all, with a monitor, and its last line counts the jobs."""
    output = tmp_path / "output"
    done = trioflow(
        "--set",
        f"output={output}",
        "--set",
        "limit=2",
        "--backend",
        backend,
        library=library,
    )
    assert done.returncode == 0, done.stderr
    assert set(check_manifest(output, library)) == {"beta", "gamma"}
    assert re.search(r"succeeded .*write the manifest", done.stdout)
    assert re.search(r"✓ all 7 jobs succeeded, ", done.stdout.splitlines()[-1])


def test_pack_stdlib_with_a_journal_runs_its_steps_again(
    tmp_path: Path, library: Path
) -> None:
    output = tmp_path / "output"
    arguments = (
        "--set",
        f"output={output}",
        "--set",
        "limit=2",
        "--journal",
        str(tmp_path / "run.db"),
    )
    manifests: list[dict[str, Any]] = []
    for _ in range(2):
        done = trioflow(*arguments, library=library)
        assert done.returncode == 0, done.stderr
        manifests.append(check_manifest(output, library))
    assert manifests[1] == manifests[0]


def test_pack_stdlib_packs_everything(tmp_path: Path, library: Path) -> None:
    """`pack_stdlib` packs each file once, except for tests, caches, installed packages and files of the build."""
    done = pack("--output", tmp_path, library=library)
    assert done.returncode == 0, done.stderr
    packs = check_manifest(tmp_path, library)
    assert [set(described["files"]) for described in packs.values()] == [
        {"beta/__init__.py"},
        {"gamma/inner/deep.py"},
        {"alpha.py"},
        set(),  # the others, of which there are none
    ]


def test_pack_stdlib_finds_damage(backend: str, tmp_path: Path, library: Path) -> None:
    """`pack_stdlib --verify` finds a changed byte, a missing pack, and a file that differs from the manifest."""
    assert pack("--output", tmp_path, library=library).returncode == 0
    manifest = tmp_path / "manifest.json"
    verify = ("--verify", manifest, "--backend", backend)
    assert pack(*verify).returncode == 0
    damaged = bytearray((tmp_path / "beta.zip").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "beta.zip").write_bytes(damaged)
    (tmp_path / "gamma.zip").unlink()
    described = json.loads(manifest.read_text())
    described["packs"]["alpha"]["files"]["alpha.py"]["size"] = 1
    manifest.write_text(json.dumps(described))
    done = pack(*verify)
    assert done.returncode == 1
    assert re.search(r"failed: verify beta: .*is not what was written", done.stdout)
    assert re.search(r"failed: verify gamma: .*No such file", done.stdout)
    assert re.search(
        r"failed: verify alpha: .*does not hold what was read", done.stdout
    )
    assert "failed: verify others" not in done.stdout


def test_pack_stdlib_reports_what_it_cannot_read(tmp_path: Path, library: Path) -> None:
    """`pack_stdlib` names an unreadable file in its output and manifest, and packs the rest of the package."""
    (library / "gamma" / "gone.py").symlink_to("nowhere")
    done = pack("--output", tmp_path, library=library)
    assert done.returncode == 0, done.stderr
    assert re.search("left out: .*gamma/gone.py", done.stdout)
    gamma = check_manifest(tmp_path, library)["gamma"]
    assert set(gamma["files"]) == {"gamma/inner/deep.py"}
    assert set(gamma["unreadable"]) == {"gamma/gone.py"}


def test_pack_stdlib_continues_if_a_pack_cannot_be_written(
    tmp_path: Path, library: Path
) -> None:
    """If `pack_stdlib` cannot write a pack, the manifest has the others, and the exit code is 1."""
    (tmp_path / "beta.zip").mkdir()
    done = pack("--output", tmp_path, library=library)
    assert done.returncode == 1
    assert "failed: compress beta: " in done.stdout
    assert set(check_manifest(tmp_path, library)) == {"gamma", "alpha", "others"}


def test_pack_stdlib_fails_if_the_manifest_cannot_be_written(
    tmp_path: Path, library: Path
) -> None:
    """The manifest of `pack_stdlib` is critical: if it cannot be written, the exit code is 1."""
    (tmp_path / "manifest.json").mkdir()
    done = pack("--output", tmp_path, library=library)
    assert done.returncode == 1
    assert "failed: write the manifest: " in done.stdout


CASES = [
    ("compress.py", ["files=1"], 3), ("module_graph.py", ["limit=3"], 7), ("own_kind.py", ["numbers=3"], 4),
    ("pack_stdlib.py", ["limit=1"], 4), ("wfcommons.py", ["speed=10000"], 17),
]  # fmt: skip
PROGRAMS = [
    "checkers.py", "crawler.py", "killed.py", "mock_api.py", "nodes.py", "paid.py", "six_faults.py", "sizes.py",
    "sweep.py",
]  # fmt: skip
"""Examples that are programs, not scenarios; each has a test of its own, and `mock_api.py` is what `paid.py` asks."""


@pytest.mark.parametrize(
    ("name", "values", "number"), CASES, ids=[case[0] for case in CASES]
)
def test_command_runs_each_example(
    tmp_path: Path, library: Path, name: str, values: list[str], number: int
) -> None:
    """`trioflow check` finds no fault in an example that is a scenario, and `trioflow run` runs it."""
    if name not in ("own_kind.py", "wfcommons.py"):  # these write nothing
        values = [*values, f"output={tmp_path}"]
    arguments = [
        str(EXAMPLES / name),
        *(word for value in values for word in ("--set", value)),
    ]
    checked = with_library(library, "trioflow", "check", *arguments)
    assert checked.stdout.splitlines()[-1] == f"{number} jobs: nothing found"
    done = with_library(library, "trioflow", "run", "--no-monitor", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"  ✓ (\d+ of|all) \d+ jobs succeeded, ", done.stdout)
    assert f"all {number} jobs" in done.stdout or f"\n{number} jobs: " in done.stdout


def test_each_example_has_a_test() -> None:
    """Each example is in one of the lists of this file, so that a new one is not left without a test."""
    assert sorted([*(name for name, *_ in CASES), *PROGRAMS]) == sorted(
        path.name for path in EXAMPLES.glob("*.py")
    )


# --- the example of an experiment on nodes, run as a newcomer runs it, with fewer of them
def test_the_example_measures_each_wave_on_each_node(tmp_path: Path) -> None:
    """The results of each wave come back from each node, and nothing is left in the home directory."""
    timeline = tmp_path / "timeline.svg"
    done = run_example("nodes", "--nodes", 2, "--waves", 2, "--timeline", timeline)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"wave (\d): (\d) nodes", done.stdout) == [("1", "2"), ("2", "2")]
    assert re.search(
        r"the load of [12] nodes was watched", done.stdout
    )  # the last one may have had no time
    assert "watch 127.0.1.1" in timeline.read_text()
    assert not Path("~/trioflow-example-nodes").expanduser().exists()


# --- the example at three sizes: by worker processes, and on nodes; `tests/test_dask.py` runs it on a cluster
def test_the_command_runs_the_example_in_worker_processes() -> None:
    result = run(EXAMPLES / "sizes.py", "--set", "parts=3", "--set", "size=50")
    assert result.exit_code == 0
    assert "all 7 jobs succeeded" in result.output


def test_nodes_compute_the_same_result_as_plain_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Some programs named python3 begin with a long search for another one.
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    sizes = load_example("sizes")
    texts = "".join(sizes.digest(sizes.make(number, 50)) for number in range(2))
    scheduler: Scheduler = sizes.scenario(2, 50, nodes="local")
    assert scheduler.run()
    *_, last = scheduler
    assert last.result() == hashlib.sha256(texts.encode()).hexdigest()


# --- the example that packs files with the system's gzip and xz, run as a newcomer runs it
@pytest.fixture
def stdlib_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of modules that are packed quickly; another test packs one of the real ones."""
    stdlib_copy = tmp_path_factory.mktemp("library")
    for number in range(4):
        (stdlib_copy / f"{number}.py").write_text(
            f"x = {number}\n" * 1000 * (1 + number)
        )
    return stdlib_copy


def test_packed_files_can_be_unpacked(tmp_path: Path, stdlib_copy: Path) -> None:
    for _ in range(2):  # what is there from last time is replaced
        done = run_example(
            "compress", "--files", 2, "--output", tmp_path, library=stdlib_copy
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert "2 of 2 files packed and proved" in done.stdout
    assert "6 commands (6 succeeded)" in done.stdout
    found = set()
    for packed in tmp_path.iterdir():
        opener: Any = gzip if packed.suffix == ".gz" else lzma
        with opener.open(packed) as file:
            found.add(file.read())
    assert found == {(stdlib_copy / name).read_bytes() for name in ("2.py", "3.py")}


def test_a_command_that_takes_too_long_is_reported(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.mkdir()
    for number in range(3):
        (large / f"{number}.py").write_bytes(b"x = 1\n" * 1_000_000)
    words = ["--files", 3, "--timeout", 0.001, "--output", tmp_path]
    done = run_example("compress", *words, library=large)
    assert done.returncode == 1
    assert "0 of 3 files packed and proved" in done.stdout
    reported = re.findall(
        r"^(?:gzip|xz) .*did not end within its timeout of 0.001 s",
        done.stderr,
        re.MULTILINE,
    )
    assert len(reported) == 3


# --- the example of calls that cost money
@pytest.fixture
def server() -> Iterator[Any]:
    with load_example("mock_api").Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Starts(Instrument):
    """Records when each attempt of a call starts."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def job_started(self, scheduler: Any, job: Any) -> None:
        if "api" in job._options.needs:
            self.times.append(job._started_at)  # of this attempt


def test_the_example_keeps_to_its_rate_and_its_budget(server: Any) -> None:
    """No call starts too fast, no more is charged than the budget has, and what is not answered was not affordable."""
    example, starts = load_example("paid"), Starts()
    scheduler = example.scenario(80, 0.05, server.server_port)
    scheduler.run(instruments=[starts])
    calls = [job for job in scheduler if isinstance(job, First)]
    answered = [call for call in calls if call.is_succeeded()]
    assert 15 < len(answered) <= 50
    assert server.bill()["charged"] <= 0.05 + 1e-9
    for number, first in enumerate(starts.times):
        for count, when in enumerate(starts.times[number:], 1):
            assert count <= example.AT_ONCE + (when - first) * example.PER_SECOND + 1e-6
    for call in calls:
        if not call.is_succeeded():
            assert all(
                isinstance(member.raised_exception(), BudgetSpent) for member in call
            ), call


def test_the_example_goes_on_with_what_its_journal_has(
    server: Any, tmp_path: Path
) -> None:
    arguments = [
        "--calls",
        60,
        "--journal",
        tmp_path / "calls.db",
        "--port",
        server.server_port,
    ]
    first = run_example("paid", *arguments, "--budget", 0.03)
    answered = int(first.stdout.split()[0])
    assert (first.returncode, 0 < answered < 60) == (1, True), first.stderr
    before = set(server.charged)
    second = run_example("paid", *arguments)
    assert second.returncode == 0, second.stderr
    assert second.stdout.startswith(
        f"60 of 60 calls are answered, {answered} from the journal\n"
    )
    assert len(server.charged) == 60
    assert all(server.charged[number] <= 2 for number in before)


def test_the_example_starts_its_own_server() -> None:
    done = run_example("paid", "--calls", 20)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "20 of 20 calls are answered, 0 from the journal\nthe server says: {'requests': "
    )


# --- the example of checkers over many repositories

FILES = {"sound": "VALUE = 1\n", "broken": "def f(:\n", "unused": "import os\n"}

CHECKER_OF_IMPORTS = """
import sys

found = [line for line in open(sys.argv[1]) if line.startswith("import ")]
print(*(f"{sys.argv[1]}:1:1: unused {line}" for line in found), sep="", end="")
sys.exit(bool(found))
"""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The example, without checkers of its environment but a stand-in for ruff, and with one package of the library."""
    example = load_example("checkers")
    monkeypatch.delitem(example.CHECKERS, "mypy")
    monkeypatch.setitem(example.CHECKERS, "ruff", ["checker_of_imports", "program.py"])
    (tmp_path / "checker_of_imports.py").write_text(CHECKER_OF_IMPORTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(example, "PACKAGES", ["json"])
    return example


@pytest.fixture
def repositories(tmp_path: Path) -> list[Path]:
    """Three git repositories of one file each, and a directory that is none."""
    for name, text in FILES.items():
        directory = tmp_path / name
        directory.mkdir()
        (directory / "program.py").write_text(text)
        identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
        for command in (
            ["init", "-q"],
            ["add", "."],
            [*identity, "commit", "-q", "-m", "all"],
        ):
            subprocess.run(["git", *command], cwd=directory, check=True)
    (tmp_path / "none").mkdir()
    return [tmp_path / name for name in (*FILES, "none")]


def test_the_table_has_what_each_checker_found(
    example: ModuleType,
    repositories: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Findings are counted; what is no repository blocks its own checkers, and the exit code is 1."""
    monkeypatch.setattr(sys, "argv", ["checkers.py", *map(str, repositories)])
    assert example.main() == 1
    header, sound, broken, unused, none = capsys.readouterr().out.splitlines()
    assert header.split() == ["repository", "compileall", "tabnanny", "ruff"]
    assert set(sound.split()[1:]) == {"·"}
    assert int(broken.split()[1]) > 0
    assert unused.split()[1:] == ["·", "·", "1"]
    assert set(none.split()[1:]) == {"blocked"}
    assert "'clone none' failed" in caplog.text


def test_checkers_of_one_repository_take_turns(
    example: ModuleType, repositories: list[Path], tmp_path: Path
) -> None:
    """No two checkers are in the same clone at once; those of what was not cloned are BLOCKED by that failure."""
    checks = example.scenario([repositories[0], repositories[-1]], tmp_path / "clones")
    assert not checks.run()
    for one, other in itertools.combinations(checks, 2):
        if (
            one.needs
            and one.needs["clone"] == other.needs.get("clone")
            and one.is_succeeded()
        ):
            assert (
                one.finished_at <= other.started_at
                or other.finished_at <= one.started_at
            )
    blocked = [job for job in checks if job.needs.get("clone") == "none"]
    assert blocked
    for job in blocked:
        assert job.state is JobState.BLOCKED
        assert isinstance(job.raised_exception(), RequirementFailed)


def test_the_example_makes_repositories_of_the_library(
    example: ModuleType, tmp_path: Path
) -> None:
    (repository,) = example.make_repositories(tmp_path)
    status = subprocess.run(
        ["git", "status", "--porcelain"],
        cwd=repository,
        check=True,
        capture_output=True,
    )
    assert (status.stdout, len(list(repository.rglob("*.py"))) > 1) == (b"", True)


@pytest.mark.ci
def test_a_batch_that_is_killed_finishes() -> None:
    """A batch that is killed gives the right result, and the example asserts that few calls are repeated."""
    done = run_example("killed", "--calls", 40, "--kills", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("killed after") == 1
    assert f"the sum of 40 squares is {sum(n * n for n in range(40))};" in done.stdout
    assert "41 jobs kept, 2 runs; last run: 'Scheduler'" in done.stdout


# --- the example of a sweep on a Dask cluster, with fewer simulations, and workers that are threads

WITH_THREADS = """
import distributed, functools, runpy, sys
distributed.LocalCluster = functools.partial(distributed.LocalCluster, processes=False)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.ci
def test_a_sweep_finds_the_best_pair(tmp_path: Path) -> None:
    sweep = load_example("sweep")
    pairs = [
        (0.5 + 5 * row / 2, 1.0 + 9 * column / 2)
        for row in range(2)
        for column in range(2)
    ]
    damping, stiffness, swing = sweep.best(
        pairs, [sweep.overshoot(sweep.simulate(*pair)) for pair in pairs]
    )
    timeline = tmp_path / "timeline.svg"
    done = python(
        "-c", WITH_THREADS, EXAMPLES / "sweep.py", "--size", 2, "--timeline", timeline
    )
    assert done.returncode == 0, done.stderr
    assert (
        f"best of 4: damping {damping:.3g}, stiffness {stiffness:.3g}; it overshoots by {swing:.2g}"
        in done.stdout
    )
    assert "overshoot(simulate(0.5, 1.0))" in timeline.read_text()
