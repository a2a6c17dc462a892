"""Lets the links and pictures of the README lead to the repository: PyPI shows it, and has none of its files.

hatchling calls this whenever it builds the package, so that each wheel and each sdist, whoever builds it, has the same
description. Its address is the one in pyproject.toml.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class AbsoluteReadme(MetadataHookInterface):
    """The description of the package: the README, with absolute addresses."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the description."""
        address = metadata["urls"]["Repository"]
        readme = Path(self.root, "README.md").read_text("utf-8")
        text = absolute(readme, address, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def absolute(text: str, address: str, tag: str) -> str:
    """Return a README whose links and pictures lead to what a tag of a repository has."""
    with_links = re.sub(r"\]\((?!\w+:)([^)]+)\)", rf"]({address}/blob/{tag}/\1)", text)
    return re.sub(
        r'\b(src|srcset)="(?!\w+:)([^"]+)"', rf'\1="{address}/raw/{tag}/\2"', with_links
    )
