"""The whole page of a report, as a reader sees it, compared with a file."""

import base64
import hashlib
import html.parser
import re
import sys
from pathlib import Path
from typing import Final
import pytest
from trioflow import Job, Scheduler, Trace
from trioflow.view import save
from trioflow.view.monitor._output_buffer import PassedOutput
from trioflow.view.trace._trace_file import read_record
from trioflow.view.trace.report._report import report_html
from ...bodies import fail
from ...conftest import Virtual
from .scenarios import everything, traced

GOLDEN: Final = Path(__file__).with_name("report.txt")
BLOCKS: Final = frozenset(
    [
        "article", "dd", "div", "dt", "h1", "h2", "li", "nav", "p", "pre", "section", "summary", "td", "text", "th",
        "title",
    ]
)  # fmt: skip
"""Elements whose text begins a line."""
VARIABLE: Final = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d · on .*", "DATE · on HOST"),
    (r"(?<=\nsystem\n).*", "SYSTEM"),
    (r"(?<=\nversions\n).*", "VERSIONS"),
    (r"\w+\.py:\d+", "FILE:LINE"),
    (r'File ".*", line \d+', 'File "FILE", line LINE'),
    (
        r"\n[~^]+(?=\n)",
        "",
    ),  # the marks in tracebacks, which differ from one version of Python to another
    (r"(?<=\nbackend\n)(trio|asyncio)", "BACKEND"),
)
"""What differs from one machine to another."""


class VisibleText(html.parser.HTMLParser):
    """Collects the text that a page shows, without its scripts and style sheets."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = [""]
        self._hidden = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self._hidden = tag
        elif tag in BLOCKS:
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._hidden:
            self._hidden = ""

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.lines[-1] += data.replace("\N{NO-BREAK SPACE}", "[nbsp]")


def visible_text(page: str) -> str:
    """Return the visible text of a page, a line for each block, without what depends on the machine."""
    parser = VisibleText()
    parser.feed(page)
    lines = (line.strip() for block in parser.lines for line in block.splitlines())
    text = "\n".join(filter(None, lines)) + "\n"
    for pattern, replacement in VARIABLE:
        text = re.sub(pattern, replacement, text)
    return text


def test_the_text_of_a_whole_report_is_as_in_the_golden_file(
    virtual: Virtual, tmp_path: Path
) -> None:
    """A report shows the text of `report.txt`. After a change of the report, delete that file, run this test twice, and
    read the difference."""
    text = visible_text(
        report_html(traced(virtual, everything())._get_record(), tmp_path)
    )
    if not GOLDEN.exists():
        GOLDEN.write_text(text, encoding="utf-8")
        pytest.fail(f"{GOLDEN.name} was missing, and is written: read it")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_what_went_wrong_tells_tolerated_failures_and_gives_paths(
    virtual: Virtual, tmp_path: Path
) -> None:
    """A tolerated failure looked like any other, and failures of one kind had labels, which may occur several times."""
    groups = [
        Scheduler(Job(fail, 1, label="job"), label=label) for label in ("east", "west")
    ]
    soft = Job(fail, 1, label="soft", critical=False)
    text = visible_text(
        report_html(traced(virtual, Scheduler(*groups, soft))._get_record(), tmp_path)
    )
    assert re.search(r"^2 jobs OSError: broken$", text, re.MULTILINE)
    assert re.search(r"^east/job, west/job$", text, re.MULTILINE)
    assert re.search(r"^soft tolerated OSError: broken$", text, re.MULTILINE)


def test_the_content_security_policy_allows_only_the_scripts_of_the_page(
    virtual: Virtual, tmp_path: Path
) -> None:
    """The policy names each script by its hash, and forbids all others, a base address, and sending forms."""
    page = report_html(traced(virtual, everything())._get_record(), tmp_path)
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="(.*?)"', page)
    scripts = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in scripts
    ]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("script-src") == " ".join(f"'sha256-{one}'" for one in hashes)
    assert rules == {
        "default-src": "'none'", "style-src": "'unsafe-inline'", "img-src": "data:", "base-uri": "'none'",
        "form-action": "'none'",
    }  # fmt: skip


def test_a_report_without_jinja_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'trioflow\[report\]'"):
        save(Trace(), tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_what_jobs_print_stays_with_their_ends(
    virtual: Virtual, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record, its file and the report have the end of each job's prints in its last run, failed ones first."""

    async def step(number: int) -> None:
        print(f"step {number}: " + "x" * 5000)
        print(f"end {number} of run {len(runs)}")
        if number == 2:
            raise ValueError

    jobs = [Job(step, 1), Job(step, 2), Job(step, 3, redact=True, label="hidden")]
    trace, runs = Trace(), list[None]()
    scheduler = Scheduler(jobs, instruments=[trace], log=False)
    output = PassedOutput(["stdout"])
    try:
        for _ in range(2):
            runs.append(None)
            virtual(scheduler.co_run)
    finally:
        output.restore()
    record = trace._get_record()
    save(trace, tmp_path / "trace.json")
    assert read_record(tmp_path / "trace.json").printed == record.printed
    ends = {
        record.spans[number].label: text[-15:]
        for number, text in record.printed.items()
    }
    assert ends == {
        f"step({number})": f"end {number} of run 2\n"[-15:] for number in (1, 2)
    }
    assert all(len(text) == 4000 for text in record.printed.values())
    page = report_html(record, tmp_path)
    assert page.index("end 2 of run 2") < page.index("end 1 of run 2")
    assert "end 3" not in page
