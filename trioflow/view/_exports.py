"""Output of pictures and tables: files that are replaced atomically, and cells of notebooks."""

from __future__ import annotations

import base64
import contextlib
import os
from pathlib import Path

from .._core.api.views import file_path


def write(path: str | os.PathLike[str], text: str) -> None:
    """Replace a file by a text atomically: readers find the old text or the new one, whole.

    The text goes to a temporary file in the same directory, which is then renamed. A device or a pipe, or a file in a
    directory without write permission, is written directly.

    Raises:
        TypeError, ValueError: `path` is not a path.
        OSError: it cannot be written; then the old one is left.

    """
    place = Path(file_path(path, "path", "a Trace")).resolve()  # follow a symbolic link
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


def bundle(svg: str, what: str) -> dict[str, str]:
    """Return a picture as HTML and as SVG; front ends that know both choose the first.

    Only HTML fits the cell everywhere: some front ends show an SVG at its own size and cut off the rest. As
    an image in a page it follows the scheme of the page, not the browser's. `what` is the alternative text, for screen
    readers.
    """
    data = base64.b64encode(svg.encode()).decode("ascii")
    html = f'<img alt="{what}" style="max-width: 100%; height: auto" src="data:image/svg+xml;base64,{data}">'
    return {"text/html": html, "image/svg+xml": svg}
