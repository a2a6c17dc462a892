"""Draw the pictures of docs/graph.md: python docs/draw_graphs.py.

The first one is drawn of the scenario that the page itself describes, as it stands there, after a run.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
PICTURES = DOCS / "pictures"


def scenario_of_the_page() -> Any:
    """Run the first block of the page, and return its scheduler."""
    page = (DOCS / "graph.md").read_text(encoding="utf-8")
    block = re.search(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)
    return names["scheduler"]


def mosaic() -> Any:
    """The workflow of the example that runs those of WfCommons."""
    path = DOCS.parent / "examples" / "wfcommons.py"
    spec = importlib.util.spec_from_file_location("wfcommons", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example.scenario(path.parent / "data" / "mosaic.json")


def main() -> None:
    logging.disable()  # of the failure that the scenario has on purpose
    scheduler = scenario_of_the_page()
    scheduler.run()
    scheduler.export_as_svgfile(PICTURES / "graph.svg", legend=True)
    mosaic().export_as_svgfile(PICTURES / "mosaic.svg")
    mosaic().export_as_svgfile(PICTURES / "mosaic-bundled.svg", bundle=True, direction="LR")


if __name__ == "__main__":
    main()
