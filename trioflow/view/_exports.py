"""The output of pictures and tables: atomic replacement of files, and MIME bundles for notebook cells."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
from pathlib import Path

from .. import _posix as posix


def write_atomically(path: str | os.PathLike[str], contents: str | bytes) -> None:
    """Write a file atomically, so that a reader sees either all of the old contents or all of the new.

    The contents are written to a temporary file in the directory of the file. The temporary file is then renamed. A
    device, a pipe, or a file in a directory without write permission is written directly.

    Raises:
        OSError: the file cannot be written. Its old contents are kept, unless it is written directly.

    """
    data = contents
    if isinstance(data, str):
        data = data.encode()
    # Replaces the target of a symbolic link, not the link.
    target = Path(path).resolve()
    if (target.exists() and not target.is_file()) or not os.access(
        target.parent, os.W_OK
    ):
        target.write_bytes(data)
        return
    temporary_file = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
    descriptor = posix.open_regular(temporary_file, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            with contextlib.suppress(FileNotFoundError):
                # The descriptor names the file: others may have put a link under its name.
                mode = target.stat().st_mode
                if posix.IS_POSIX:
                    os.chmod(descriptor, mode)
                else:
                    temporary_file.chmod(mode)
        temporary_file.replace(target)
    except BaseException:
        temporary_file.unlink(missing_ok=True)
        raise


def svg_bundle(svg: str, alt_text: str) -> dict[str, str]:
    """Return the MIME bundle of an SVG picture, as HTML and as plain SVG. Front ends prefer the HTML.

    The HTML makes the picture fit the cell, because some front ends show an SVG at its full size and cut it off at the
    border of the cell. As an image in the page, the picture follows the color scheme of the page, not of the browser.

    Args:
        svg: the picture.
        alt_text: the alternative text for screen readers.

    """
    encoded_svg = base64.b64encode(svg.encode()).decode("ascii")
    html = f'<img alt="{alt_text}" style="max-width: 100%; height: auto" src="data:image/svg+xml;base64,{encoded_svg}">'
    return {"text/html": html, "image/svg+xml": svg}
