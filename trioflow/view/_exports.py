"""How pictures and tables get out: into a file, whole or not at all, or into a cell of a notebook."""

from __future__ import annotations

import base64
import contextlib
import os
from pathlib import Path

from .._core.api.views import file_path


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


def bundle(svg: str, what: str) -> dict[str, str]:
    """Return a picture as HTML and as SVG; front ends that know both choose the first.

    HTML is what fits the cell everywhere: some show an SVG at its own size, whatever it says, and cut off the rest. As
    an image in a page it goes by the scheme of the page, not by that of the browser.
    """
    return {"text/html": html(svg, what), "image/svg+xml": svg}


def html(svg: str, what: str) -> str:
    """Return the HTML alone; `what` is in the picture, for those who cannot see it."""
    data = base64.b64encode(svg.encode()).decode("ascii")
    return f'<img alt="{what}" style="max-width: 100%; height: auto" src="data:image/svg+xml;base64,{data}">'
