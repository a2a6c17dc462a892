"""What a trace exports gets into its file: whole, or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..._core.api.views import file_path


def write(path: str | os.PathLike[str], text: str) -> None:
    """Put a text in the place of a file, so that whoever opens it finds the old one or the new one, whole.

    It is written beside and renamed, unless it is a device or a pipe, or nothing may be written beside it.

    Raises:
        TypeError, ValueError: it is not a path.
        OSError: it cannot be written; then the old one is left.

    """
    place = Path(file_path(path, "path", "a Trace")).resolve()  # of a link, where it leads
    if (place.exists() and not place.is_file()) or not os.access(place.parent, os.W_OK):
        place.write_text(text, encoding="utf-8", newline="")
        return
    beside = place.with_name(f".{place.name}.{os.getpid()}.new")
    try:
        beside.write_text(text, encoding="utf-8", newline="")
        with contextlib.suppress(FileNotFoundError):
            beside.chmod(place.stat().st_mode)
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
