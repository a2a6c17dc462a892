"""The example that packs files with the system's gzip and xz, run as a newcomer runs it."""

from __future__ import annotations

import gzip
import lzma
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def compress(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "examples" / "compress.py", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )


def test_files_are_packed_and_can_be_had_back(tmp_path: Path) -> None:
    for _ in range(2):  # what is there from last time is replaced
        done = compress("--files", 4, "--output", tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    assert "4 of 4 files packed and proved" in done.stdout
    assert "12 commands (12 succeeded)" in done.stdout
    library = {path.read_bytes() for path in Path(sysconfig.get_path("stdlib")).rglob("*.py")}
    assert len(list(tmp_path.iterdir())) == 4
    for packed in tmp_path.iterdir():
        opener: Any = gzip if packed.suffix == ".gz" else lzma
        with opener.open(packed) as file:
            assert file.read() in library


def test_a_command_that_takes_too_long_is_reported(tmp_path: Path) -> None:
    done = compress("--files", 3, "--timeout", 0.001, "--output", tmp_path)
    assert done.returncode == 1
    assert "0 of 3 files packed and proved" in done.stdout
    assert done.stderr.count("did not end within its timeout of 0.001 s") == 3
