"""Fixtures for the tests of the journal."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
import pytest
from ..model.real import IN_MEMORY


def has_room(place: str) -> bool:
    """Return whether a file system has some room, and runs programs; that of a container may not."""
    facts = os.statvfs(place)
    return facts.f_bavail * facts.f_frsize > 1 << 30 and not facts.f_flag & os.ST_NOEXEC


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, if there is room: no commit waits for a disk, and a process that is killed loses as much."""
    if IN_MEMORY is None or not has_room(IN_MEMORY):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(
        dir=IN_MEMORY, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.db"
