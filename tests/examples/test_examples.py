"""The examples, run as a newcomer runs them: by their command lines, in their own processes."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ..places import EXAMPLES
from .scripts import LIBRARY, run_example, with_library

PACK_STDLIB = EXAMPLES / "pack_stdlib.py"


def pack(*arguments: Any, library: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the example; `library` replaces the standard library."""
    return run_example("pack_stdlib", *arguments, library=library)


def trioflow(*arguments: Any, library: Path) -> subprocess.CompletedProcess[str]:
    """Run the example by the command, as the README does, with a replaced standard library."""
    return with_library(library, "trioflow", "run", PACK_STDLIB, *arguments)


def facts(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def listed(output: str) -> list[str]:
    """Return the labels of the listing, in its order."""
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
            assert {one: facts(archive.read(one)) for one in archive.namelist()} == described["files"]
        assert {one: facts((library / one).read_bytes()) for one in described["files"]} == described["files"]
    return packs


def test_pack_stdlib_packs_the_largest_package(tmp_path: Path) -> None:
    """`pack_stdlib` packs, lists and verifies a package of the real library."""
    done = pack("--limit", 1, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    packs = check_manifest(tmp_path, LIBRARY)
    assert len(packs) == 1
    assert sorted(listed(done.stdout)) == sorted(
        [
            *(f"{step} {name}" for step in ("read", "compress", "verify") for name in packs),
            "write the manifest",
            "report progress",
        ]
    )
    assert " of 4 jobs done, at work: read " in done.stdout
    assert done.stderr == ""


def test_pack_stdlib_runs_by_the_trioflow_command(backend: str, tmp_path: Path, library: Path) -> None:
    """The first command of the README packs all, with a monitor, and its last line counts the jobs."""
    output = tmp_path / "output"
    done = trioflow("--set", f"output={output}", "--set", "limit=2", "--backend", backend, library=library)
    assert done.returncode == 0, done.stderr
    assert set(check_manifest(output, library)) == {"beta", "gamma"}
    assert re.search(r"succeeded .*write the manifest", done.stdout)
    assert re.search(r"✓ all 7 jobs succeeded, ", done.stdout.splitlines()[-1])


def test_pack_stdlib_with_a_journal_runs_its_steps_again(tmp_path: Path, library: Path) -> None:
    """`pack_stdlib` with a journal packs the same files in a second run, because its steps run again."""
    output = tmp_path / "output"
    arguments = ("--set", f"output={output}", "--set", "limit=2", "--journal", str(tmp_path / "run.db"))
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
    assert re.search(r"failed: verify alpha: .*does not hold what was read", done.stdout)
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


def test_pack_stdlib_continues_if_a_pack_cannot_be_written(tmp_path: Path, library: Path) -> None:
    """If `pack_stdlib` cannot write a pack, the manifest has the others, and the exit code is 1."""
    (tmp_path / "beta.zip").mkdir()
    done = pack("--output", tmp_path, library=library)
    assert done.returncode == 1
    assert "failed: compress beta: " in done.stdout
    assert set(check_manifest(tmp_path, library)) == {"gamma", "alpha", "others"}


def test_pack_stdlib_fails_if_the_manifest_cannot_be_written(tmp_path: Path, library: Path) -> None:
    """The manifest of `pack_stdlib` is critical: if it cannot be written, the exit code is 1."""
    (tmp_path / "manifest.json").mkdir()
    done = pack("--output", tmp_path, library=library)
    assert done.returncode == 1
    assert "failed: write the manifest: " in done.stdout


CASES = [
    ("compress.py", ["files=1"], 3),
    ("module_graph.py", ["limit=3"], 7),
    ("own_kind.py", ["numbers=3"], 4),
    ("pack_stdlib.py", ["limit=1"], 4),
    ("wfcommons.py", ["speed=10000"], 17),
]
PROGRAMS = [
    "checkers.py",
    "crawler.py",
    "killed.py",
    "mock_api.py",
    "nodes.py",
    "paid.py",
    "six_faults.py",
    "sizes.py",
    "sweep.py",
    "tenants.py",  # tests/examples/test_tenants.py
]
"""Examples that are programs, not scenarios; each has a test of its own, and `mock_api.py` is what `paid.py` asks."""


@pytest.mark.parametrize(("name", "values", "number"), CASES, ids=[case[0] for case in CASES])
def test_the_command_runs_each_example(
    tmp_path: Path, library: Path, name: str, values: list[str], number: int
) -> None:
    """`trioflow check` finds no fault in an example that is a scenario, and `trioflow run` runs it."""
    if name not in ("own_kind.py", "wfcommons.py"):  # these write nothing
        values = [*values, f"output={tmp_path}"]
    arguments = [str(EXAMPLES / name), *(word for value in values for word in ("--set", value))]
    checked = with_library(library, "trioflow", "check", *arguments)
    assert checked.stdout.splitlines()[-1] == f"{number} jobs: nothing found"
    done = with_library(library, "trioflow", "run", "--no-monitor", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"  ✓ (\d+ of|all) \d+ jobs succeeded, ", done.stdout)
    assert f"all {number} jobs" in done.stdout or f"\n{number} jobs: " in done.stdout


def test_each_example_has_a_test() -> None:
    """Each example is in one of the lists of this file, so that a new one is not left without a test."""
    assert sorted([*(name for name, *_ in CASES), *PROGRAMS]) == sorted(path.name for path in EXAMPLES.glob("*.py"))
