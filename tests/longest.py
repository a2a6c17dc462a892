"""Write the table of the files of tests that take longest, from the JUnit report of a run.

python -m tests -- --junitxml report.xml && python -m tests.longest report.xml"""

import collections
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

CONFTEST = Path(__file__).parent / "conftest.py"
FIRST = 30
"""How many files the table has."""
PART_SECONDS = 4
"""How long a part of a file may take, or somewhat more."""


def seconds_of_files(report: str) -> collections.Counter[str]:
    """Return how long the tests of each file took, by its path in `tests/`; `report` is a JUnit report."""
    seconds: collections.Counter[str] = collections.Counter()
    for case in ET.fromstring(report).iter("testcase"):
        folder, *places = case.get("classname", "").split(".")
        if folder == "tests" and places:
            file = [
                place for place in places if not place[:1].isupper()
            ]  # without the name of a class
            seconds["/".join(file) + ".py"] += float(case.get("time", 0))  # type: ignore[assignment]
    return seconds


def table_of(seconds: collections.Counter[str]) -> str:
    entries = [
        f'"{file}": {max(1, round(spent / PART_SECONDS))},'
        for file, spent in seconds.most_common(FIRST)
    ]
    lines = [""]
    for entry in entries:
        if len(lines[-1]) + len(entry) > 114:
            lines.append("")
        lines[-1] += f" {entry}"
    return "\n".join(
        ["LONGEST = {", *(f"   {line}" for line in lines), "}  # fmt: skip"]
    )


def main() -> None:
    """Write the table into `tests/conftest.py`."""
    table = table_of(seconds_of_files(Path(sys.argv[1]).read_text(encoding="utf-8")))
    text = CONFTEST.read_text(encoding="utf-8")
    CONFTEST.write_text(
        re.sub(
            r"LONGEST = \{.*?\}  # fmt: skip", lambda _: table, text, flags=re.DOTALL
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
