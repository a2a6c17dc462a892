"""Every example runs: the Python blocks of docs, and the docstrings of the package."""

import os
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
import pytest
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser
from sybil.sybil import SybilCollection

import trioflow
import trioflow.abc
from tests.places import SESSIONS
from trioflow.testing import run_virtual, virtual_options

TESTS = f"{Path(__file__).parent / 'tests'}{os.sep}"

os.environ.pop("FORCE_COLOR", None)  # what is printed is compared with plain text
# Each process of tests would compile all files anew, for half a minute, and each program that a test starts, too.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def public_names(namespace: dict[str, Any]) -> None:
    for module in (trioflow.abc, trioflow):
        namespace.update(
            {
                name: getattr(module, name)
                for name in dir(module)
                if not name.startswith("_")
            }
        )
    namespace["anyio"] = anyio


plain_run, plain_anyio_run = trioflow.Scheduler.run, anyio.run
patches = ExitStack()


def both_backends_agree(results: list[Any]) -> Any:
    assert results[0] == results[-1]
    return results[-1]


def run_scheduler(
    self: trioflow.Scheduler, *, backend: str | None = None, **options: Any
) -> bool:
    if "backend_options" in options:  # the page makes its own clock
        return plain_run(self, backend=backend, **options)
    backends = ("asyncio", "trio") if backend is None else (backend,)
    return both_backends_agree(
        [
            plain_run(
                self, backend=name, backend_options=virtual_options(name), **options
            )
            for name in backends
        ]
    )


def run_function(
    function: Callable[..., Awaitable[Any]], *args: Any, **options: Any
) -> Any:
    if options:  # the call comes from the library
        return plain_anyio_run(function, *args, **options)
    return both_backends_agree(
        [run_virtual(function, *args, backend=name) for name in ("asyncio", "trio")]
    )


def in_a_folder(namespace: dict[str, Any]) -> None:
    """Let a page make its temporary files and folders in one that is removed after it."""
    folder = patches.enter_context(tempfile.TemporaryDirectory())
    patches.enter_context(mock.patch.object(tempfile, "tempdir", folder))


def in_virtual_time(namespace: dict[str, Any]) -> None:
    """Let what a page runs take no time, and run on both backends: the page itself shows only what users write."""
    in_a_folder(namespace)
    patches.enter_context(mock.patch.object(trioflow.Scheduler, "run", run_scheduler))
    patches.enter_context(mock.patch.object(anyio, "run", run_function))


def as_before(namespace: dict[str, Any]) -> None:
    patches.close()


VIRTUAL = [
    *(
        f"docs/explained/{page}.md"
        for page in ("data", "endings", "failures", "growing", "jobs", "time")
    ),
    *(f"docs/how-to/{page}.md" for page in ("paid-calls", "requests", "why-slow")),
    *(f"docs/{page}.md" for page in ("kinds/services", "reference/instruments")),
    *(f"docs/looking/{page}.md" for page in ("look", "trace")),
]
blocks = [PythonCodeBlockParser(), SkipParser()]
SESSIONS_OF_DOCS = [
    page for page in SESSIONS if page.startswith("docs/")
]  # "README.md" would be that of docs, too
pages = Sybil(
    parsers=blocks,
    patterns=["docs/*.md", "docs/*/*.md"],
    excludes=[*VIRTUAL, *SESSIONS_OF_DOCS],
    setup=in_a_folder,
    teardown=as_before,
)
virtual_pages = Sybil(
    parsers=blocks, patterns=VIRTUAL, setup=in_virtual_time, teardown=as_before
)


class DocStrings(PythonDocStringDocument):
    """The docstrings of a file that have examples: to parse all files takes longer, in each process of tests."""

    @staticmethod
    def extract_docstrings(python_source_code: str) -> Iterator[tuple[int, int, str]]:
        for found in re.finditer(r'"""(.*?)"""', python_source_code, re.DOTALL):
            if ">>> " in found[1]:
                yield found.start(1), found.end(1), found[1]


def public_names_in_virtual_time(namespace: dict[str, Any]) -> None:
    public_names(namespace)
    in_virtual_time(namespace)


in_python: dict[str, Any] = {
    "parsers": [DocTestParser()],
    "document_types": {".py": DocStrings},
}
LISTINGS = ["trioflow/_scheduler.py"]  # a busy machine would print durations
docstrings = Sybil(
    patterns=["trioflow/*.py", "trioflow/*/*.py", "trioflow/*/*/*.py", "trioflow/*/*/*/*.py"], excludes=LISTINGS,
    setup=public_names, **in_python,
)  # fmt: skip
listings = Sybil(
    patterns=LISTINGS,
    setup=public_names_in_virtual_time,
    teardown=as_before,
    **in_python,
)
collect_examples = SybilCollection(
    [pages, virtual_pages, docstrings, listings]
).pytest()


def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> pytest.Collector | None:
    """Collect the examples of a file that may have some: to ask for each file of tests takes each process long."""
    if str(file_path).startswith(TESTS):
        return None
    return collect_examples(file_path, parent)
