"""A picture as the value of a notebook's cell: in the formats that front ends know, as wide as the cell at most."""

from __future__ import annotations

import base64


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
