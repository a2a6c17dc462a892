"""Every example runs: the Python blocks of README and docs, and the docstrings of the package."""

from typing import Any

import anyio
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

import trioflow
import trioflow.abc


def public_names(namespace: dict[str, Any]) -> None:
    namespace.update({name: getattr(trioflow, name) for name in dir(trioflow) if not name.startswith("_")})
    namespace["anyio"] = anyio
    namespace["Instrument"] = trioflow.abc.Instrument


pages = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["*.md"])
docstrings = Sybil(
    parsers=[DocTestParser()],
    patterns=["trioflow/*.py", "trioflow/*/*.py", "trioflow/*/*/*.py"],
    document_types={".py": PythonDocStringDocument},
    setup=public_names,
)
pytest_collect_file = (pages + docstrings).pytest()
