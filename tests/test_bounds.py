"""Each bound of the package has a law: at the bound, and one beyond it.

What is counted, kept or shown "up to N" is right in small tests, and wrong at its end: the first plants that nobody
noticed stood there. A bound is a constant `MAX_...` at the top of a module. Its laws are the tests that name it, so
that they follow its value."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from .places import PACKAGE, ROOT

PACE = """
_adaptive.py MAX_LOWEST_AGE
_core/admission/_admission.py MAX_ADMITTED
_core/run/_ending.py MAX_LEAVING_TURNS
_core/run/_ending.py MAX_TRIES
_core/run/_run.py MAX_FIRST_WORKER_TURNS
_core/run/_worker.py MAX_JOBS_IN_TURN
_core/run/_worker.py MAX_WORKERS_IN_TURN
batch/_output.py MAX_BYTES_IN_MEMORY
cli/_end_of_run.py MAX_SEARCH_SHARE
jobs/command/_argv.py MAX_LABEL_ARGUMENTS_PER_END
jobs/command/_readiness.py MAX_POLL_INTERVAL
jobs/command/_streams.py MAX_LINES_READ_BYTES
jobs/command/_streams.py MAX_READS_PER_TURN
jobs/posix/_guard_script.py MAX_SCANS
jobs/posix/_processes.py MAX_POLL_INTERVAL
jobs/process/_worker_main.py MAX_JOINED_BYTES
jobs/ssh/_connections.py MAX_CONCURRENT_STARTS
jobs/ssh/_connections.py MAX_JITTER
jobs/ssh/_connections.py MAX_RETRY_DELAY
jobs/ssh/_connections.py MAX_START_SECONDS
journal/_code_digests.py MAX_KNOWN
journal/_file_stamps.py MAX_HASHES
journal/_fingerprint.py MAX_FUNCTIONS
testing/_explore.py MAX_FIRST_TASKS
testing/_explore.py MAX_SHRINK_RUNS
testing/_explored_run.py MAX_ENDING_ITERATIONS
view/graph/_dot.py MAX_ANCHORS
view/graph/_dot.py MAX_ORDERED_BOXES
view/graph/_dot.py MAX_ROW
view/look/_answers.py MAX_TRIES
view/monitor/_model.py MAX_DROPPED
view/monitor/_picture_renderer.py MAX_BAR_WIDTH
view/trace/_timeline.py MAX_SIDE_LABEL_WIDTH
""".strip().splitlines()
"""Bounds of a cost or a pace, such as how long to wait before another look: no promise changes with their value."""

BY_NUMBER = {
    "_core/job/_labels.py MAX_ARGUMENTS_LENGTH": (
        "job/test_attributes.py::test_each_part_of_a_label_is_shortened_only_beyond_its_limit"
    ),
    "_core/job/_labels.py MAX_STRING_LENGTH": (
        "job/test_attributes.py::test_each_part_of_a_label_is_shortened_only_beyond_its_limit"
    ),
    "_core/job/_labels.py MAX_FLOAT_LENGTH": (
        "job/test_attributes.py::test_each_part_of_a_label_is_shortened_only_beyond_its_limit"
    ),
    "_core/job/_labels.py MAX_ITEMS": (
        "job/test_attributes.py::test_each_part_of_a_label_is_shortened_only_beyond_its_limit"
    ),
    "batch/_record_files.py MAX_NAME_BYTES": (
        "batch/test_batch.py::test_results_of_arguments_too_long_for_a_file_name_are_saved"
    ),
}
"""Bounds whose law writes them out, because a reader sees more in the example than in the name."""


def bounds() -> Iterator[str]:
    """Return all bounds. Each process of tests asks: to parse the package takes it a second."""
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).as_posix()
        for constant in re.findall(
            r"^(_?MAX_\w+)(?::| =)", path.read_text(encoding="utf-8"), re.MULTILINE
        ):
            yield f"{file} {constant}"


IMPORT_OR_COMMENT = re.compile(
    r"^(?:from|import) [^(\n]*(?:\([^)]*\))?|#.*|``.*?``|`.*?`", re.MULTILINE
)


@cache
def laws() -> list[tuple[str, set[str], str]]:
    """Return the file, the names in it but for its imports, and its text, for each file of tests."""
    found: list[tuple[str, set[str], str]] = []
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        if "MAX_" not in text or file == Path(__file__):
            continue
        # A table of a test names bounds in strings, and so does `setattr`.
        names = re.findall(r"\b_?MAX_\w+", IMPORT_OR_COMMENT.sub("", text))
        found.append((file.relative_to(ROOT).as_posix(), {*names}, text))
    return found


def laws_of(bound: str) -> list[str]:
    """Return the files of tests that name a bound; of several with this name, the one of its module."""
    path, constant = bound.split()
    is_unique = Counter(each.split()[1] for each in BOUNDS)[constant] == 1
    module = Path(path).stem
    imported = re.compile(
        rf"\b{module}(\.|, \W|[.\w]* import [^\n]*\b|[.\w]* import \([^)]*\b){constant}\b"
    )
    return [
        name
        for name, names, text in laws()
        if constant in names and (is_unique or imported.search(text))
    ]


BOUNDS = list(bounds())


def test_each_bound_has_a_law() -> None:
    """A new bound needs a test that names it: one law at the bound, and one beyond it."""
    tables = {*PACE, *BY_NUMBER}
    lawless = [each for each in BOUNDS if each not in tables and not laws_of(each)]
    assert not lawless, (
        f"no test names these bounds; ask for what comes one beyond each: {lawless}"
    )


def test_each_bound_in_a_table_is_one_of_the_package() -> None:
    assert {*PACE, *BY_NUMBER} <= {*BOUNDS}
    for law in BY_NUMBER.values():
        file, name = law.split("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
