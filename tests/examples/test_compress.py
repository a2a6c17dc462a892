"""The example that packs files with the system's gzip and xz, run as a newcomer runs it."""

from __future__ import annotations

import gzip
import lzma
import re
from pathlib import Path
from typing import Any

import pytest

from .scripts import run_example


@pytest.fixture
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of modules that are packed quickly; `test_examples.py` packs one of the real ones."""
    library = tmp_path_factory.mktemp("library")
    for number in range(4):
        (library / f"{number}.py").write_text(f"x = {number}\n" * 1000 * (1 + number))
    return library


def test_packed_files_can_be_unpacked(tmp_path: Path, library: Path) -> None:
    for _ in range(2):  # what is there from last time is replaced
        done = run_example("compress", "--files", 2, "--output", tmp_path, library=library)
        assert (done.returncode, done.stderr) == (0, "")
    assert "2 of 2 files packed and proved" in done.stdout
    assert "6 commands (6 succeeded)" in done.stdout
    found = set()
    for packed in tmp_path.iterdir():
        opener: Any = gzip if packed.suffix == ".gz" else lzma
        with opener.open(packed) as file:
            found.add(file.read())
    assert found == {(library / name).read_bytes() for name in ("2.py", "3.py")}


def test_a_command_that_takes_too_long_is_reported(tmp_path: Path) -> None:
    """The report names each command that takes too long, with its timeout, and the exit code is 1."""
    done = run_example("compress", "--files", 3, "--timeout", 0.001, "--output", tmp_path)
    assert done.returncode == 1
    assert "0 of 3 files packed and proved" in done.stdout
    reported = re.findall(r"^(?:gzip|xz) .*did not end within its timeout of 0.001 s", done.stderr, re.MULTILINE)
    assert len(reported) == 3
