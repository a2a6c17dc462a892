"""Commands that list, draw, monitor, trace and report; and the completion of their words by a shell."""

import json
import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
import pytest
from click.shell_completion import ShellComplete
from trioflow.cli._commands import COMMANDS, command
from trioflow.view.graph import _dot
from ..places import PATIENCE
from ..pythons import make_program
from .command_line import ENVIRONMENT, WORDS, process, refused, run, trioflow, written

CODE = """
inner = Scheduler(Job(work, label="b"), label="inner")
scenario = Scheduler(Job(work, label="a"), inner)
"""
BROKEN = "scenario = Scheduler(Job(work, label='a'), Job(fail, label='broken'))"


# --- list
def test_list_prints_the_listing(tmp_path: Path) -> None:
    code = """
    build = Job(work, label="build", critical=True)
    tests = Scheduler(Job(work, label="unit"), label="tests", required=build, jobs_window=2)
    alarm = Job(work, label="alarm", required=[tests, build], run_if="failed")
    x = Scheduler(build, tests, alarm, Job(work, label="watch", forever=True), label="release")
    """
    assert (
        trioflow("list", written(tmp_path, code)).stdout
        == """\
1  ! ·    <Job build>
2    · ∞  <Job watch>
3    ·    > <Scheduler tests>  requires={1} window=2 -> entries={4}
4    ·      <Job unit>
3     end < <Scheduler tests>  exits={4}
5    ·    <Job alarm>          requires={1, 3} run_if=failed
"""
    )


# --- graph
@pytest.mark.parametrize(
    ("suffix", "start"),
    [("dot", b"digraph"), ("mmd", b"flowchart"), ("png", b"\x89PNG")],
)
def test_suffix_of_the_graph_output_sets_the_format(
    tmp_path: Path, suffix: str, start: bytes
) -> None:
    """The suffixes .dot, .mmd and .png of a graph's output file stand for Graphviz, Mermaid and an image."""
    target = tmp_path / f"x.{suffix}"
    done = trioflow("graph", written(tmp_path, CODE), "-o", target)
    assert (done.exit_code, done.output) == (0, "")
    assert target.read_bytes().startswith(start)


def test_graph_in_svg_has_the_labels_of_the_selected_jobs(tmp_path: Path) -> None:
    target = tmp_path / "x.SVG"
    assert (
        trioflow(
            "graph", written(tmp_path, CODE), "--only", "inner", "-o", target
        ).exit_code
        == 0
    )
    texts = {
        "".join(element.itertext()).strip()
        for element in ElementTree.parse(target).iter()
        if "text" in element.tag
    }
    assert any("b" in text for text in texts)
    assert "a" not in texts


def test_graph_says_how_large_a_very_large_picture_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that fits no screen comes with its size, and with what makes it smaller: families, as on the page."""
    monkeypatch.setattr(_dot, "MAX_WIDTH_POINTS", 10)
    done = trioflow("graph", written(tmp_path, CODE), "-o", tmp_path / "flow.svg")
    assert re.fullmatch(
        r'flow.svg has \d+ x \d+ pt: --collapse "\*" draws .*, --only PATH a part\n',
        done.stderr,
    )
    assert done.exit_code == 0
    monkeypatch.setattr(_dot, "MAX_WIDTH_POINTS", 500)
    code = """
        first = [Job(work, label=f"get {number}") for number in range(100)]
        then = [Job(work, job, label=f"put {number}") for number, job in enumerate(first)]
        groups = [Scheduler(Job(work, job), label=f"group {number}") for number, job in enumerate(then[:60])]
        x = Scheduler(first, then, groups, label="large")
    """
    file = written(tmp_path, code)
    assert (
        "pt: --collapse" in trioflow("graph", file, "-o", tmp_path / "flow.svg").stderr
    )
    for suffix in ("svg", "mmd"):
        target = tmp_path / f"small.{suffix}"
        assert trioflow("graph", file, "--collapse", "*", "-o", target).output == ""
        for family, count in {
            "get": "100 jobs",
            "put": "100 jobs",
            "group": "60 groups",
        }.items():
            assert (text := target.read_text()).count(count) == (
                2 if count == "100 jobs" else 1
            )
            assert f"{family} " in text


def test_graph_without_an_output_file_is_a_usage_error_with_advice(
    tmp_path: Path,
) -> None:
    """`graph` without `-o` once printed text for Graphviz, although the user may have wanted the list of jobs."""
    done = trioflow("graph", written(tmp_path, CODE))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "give -o FILE" in done.stderr
    assert "`trioflow list`" in done.stderr


def test_graph_collapses_schedulers(tmp_path: Path) -> None:
    file = written(tmp_path, CODE)

    def drawn(*options: str) -> str:
        assert (
            trioflow("graph", file, *options, "-o", tmp_path / "x.dot").exit_code == 0
        )
        return (tmp_path / "x.dot").read_text()

    assert len(drawn("--collapse", "inner")) < len(drawn())
    said = refused("graph", file, "--collapse", "nowhere", "-o", tmp_path / "x.dot")
    assert "no job has a path like 'nowhere'" in said


def test_graph_without_graphviz_names_command_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = trioflow("graph", written(tmp_path, CODE), "-o", tmp_path / "x.svg")
    assert done.exit_code == 1
    assert "apt install graphviz" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("suffix", ["dot", "svg", "png", "mmd"])
def test_graph_written_to_a_full_disk_gives_exit_code_1(
    tmp_path: Path, suffix: str
) -> None:
    target = tmp_path / f"x.{suffix}"
    target.symlink_to("/dev/full")
    done = trioflow("graph", written(tmp_path, CODE), "-o", target)
    assert done.exit_code == 1
    assert "No space left" in done.stderr
    assert str(target) in done.stderr


# --- monitor
def test_run_has_a_monitor_by_default(tmp_path: Path) -> None:
    """Without a terminal, `run` prints a line when a job ends; --no-monitor suppresses these lines."""
    file = written(tmp_path, CODE)
    done = trioflow("run", file)
    assert done.exit_code == 0
    told = [
        line.split()[1:3] for line in done.stdout.splitlines() if " succeeded " in line
    ]
    assert ["succeeded", "a"] in told
    assert "  ✓ all 2 jobs succeeded, " in done.stdout.splitlines()[-1]
    assert done.stdout.count("all 2 jobs succeeded") == 1
    assert [line.split()[-1] for line in run(file).stdout.splitlines()[:2]] == [
        "works",
        "works",
    ]


def test_scheduler_with_a_monitor_gets_no_second_one(tmp_path: Path) -> None:
    """`run` adds no monitor to a scheduler that has one, so the end of each job is printed once."""
    done = trioflow(
        "run",
        written(
            tmp_path,
            "from trioflow import Monitor\nx = Scheduler(Job(work, label='a'), instruments=[Monitor()])",
        ),
    )
    assert (
        len(
            [
                line
                for line in done.stdout.splitlines()
                if " succeeded " in line and line.split()[2] == "a"
            ]
        )
        == 1
    )


# --- trace and report
def test_suffix_of_the_trace_file_sets_the_format(tmp_path: Path, backend: str) -> None:
    """The suffix of the `--trace` file selects JSON for Perfetto, an SVG timeline, or a CSV table."""
    file = written(tmp_path, BROKEN)
    for name in "x.json", "x.svg", "x.csv":
        assert (
            run(file, "--backend", backend, "--trace", tmp_path / name).exit_code == 3
        )
    events = json.loads((tmp_path / "x.json").read_text())
    assert "broken" in json.dumps(events)
    assert ElementTree.parse(tmp_path / "x.svg").getroot().tag.endswith("svg")
    assert "broken" in (tmp_path / "x.csv").read_text()


@pytest.mark.parametrize("option", ["--trace", "--report"])
def test_unknown_suffix_of_a_trace_or_report_is_rejected(
    tmp_path: Path, option: str
) -> None:
    done = run(written(tmp_path, CODE), option, tmp_path / "x.pdf")
    assert done.exit_code == 2
    endings = {"--trace": ".json, .svg or .csv", "--report": ".html or .htm"}
    assert f"x.pdf' must end in {endings[option]}" in " ".join(done.stderr.split())
    assert done.stdout == ""
    assert run(written(tmp_path, CODE), option, tmp_path / "x").exit_code == 0


def test_report_option_writes_a_page_with_the_failures(tmp_path: Path) -> None:
    target = tmp_path / "x.html"
    assert (
        run(written(tmp_path, BROKEN), "--critical", "--report", target).exit_code == 1
    )
    text = target.read_text()
    assert text.lower().startswith("<!doctype html>")
    assert "OSError" in text


PRINTS = """
def count():
    for number in range(1500):
        print(f"line {number:045}", flush=number % 99 == 0)
    raise OSError("broken")

if __name__ != "__mp_main__":  # what the worker process need not import
    from trioflow import CommandJob, Job, ProcessJob, Scheduler, ThreadJob

    async def counts():
        count()

    command = CommandJob("seq -f 'line %045.0f' 0 1499; exit 3", shell=True)
    scheduler = Scheduler(Job(counts), ThreadJob(count), ProcessJob(count), command)
"""


@pytest.mark.parametrize(
    "options", [[], ["--no-monitor"]], ids=["monitor", "no monitor"]
)
def test_a_report_has_the_end_of_what_each_failed_job_printed(
    tmp_path: Path, options: list[str]
) -> None:
    """The last 4,000 characters, of functions, threads, processes and commands, of more than a pipe holds. The report
    had none of it, but with a page, or a picture on a terminal."""
    target = tmp_path / "x.html"
    file = tmp_path / "flow.py"
    file.write_text(PRINTS, "utf-8")
    assert process("run", *options, "--report", target, file).returncode == 3
    ends = re.findall("<p>printed:</p><pre>(.*?)</pre>", target.read_text(), re.DOTALL)
    assert len(ends) == 4
    for end in ends:
        numbers = [
            int(number) for number in re.findall(r"^line (\d+)$", end, re.MULTILINE)
        ]
        assert (
            3900 <= len(end) <= 4000 + len(numbers)
        )  # and an escape for each newline at most
        assert numbers == [*range(numbers[0], 1500)]


def test_trace_written_to_a_full_disk_gives_exit_code_1(tmp_path: Path) -> None:
    done = run(
        written(tmp_path, CODE), "--trace", "/dev/full", "--report", tmp_path / "x.html"
    )
    assert done.exit_code == 1
    assert "Error: cannot write '/dev/full': No space left" in done.stderr
    assert (tmp_path / "x.html").exists()


# --- completion
def completed(*words: str) -> list[str]:
    complete = ShellComplete(command, {}, "trioflow", "_TRIOFLOW_COMPLETE")
    return [
        item.value for item in complete.get_completions(list(words[:-1]), words[-1])
    ]


def test_subcommands_and_options_are_completed() -> None:
    assert completed("") == list(COMMANDS)
    assert "--jobs" in completed("run", "x.py", "--")
    assert completed("run", "x.py", "--backend", "a") == ["asyncio"]


def test_files_are_completed_by_the_shell() -> None:
    complete = ShellComplete(command, {}, "trioflow", "_TRIOFLOW_COMPLETE")
    for words in (
        ["run"],
        ["run", "x.py", "--report"],
        ["compare", "a.json"],
        ["batch", "--joblog"],
        ["graph", "-o"],
    ):
        assert [item.type for item in complete.get_completions(words, "fl")] == [
            "file"
        ], words


def test_misspelt_words_and_words_in_the_wrong_order_get_the_correction(
    tmp_path: Path,
) -> None:
    file = written(tmp_path, "def scenario(pages: int = 3):\n    return Scheduler()")
    assert "unknown command 'rum'; do you mean 'run'?" in trioflow("rum").stderr
    assert "to run a file, write: trioflow run flow.py" in trioflow("flow.py").stderr
    assert (
        "unknown parameter; do you mean pages=?" in run(file, "--set", "page=3").stderr
    )
    assert (
        "write: trioflow journal run.db why"
        in trioflow("journal", "why", "run.db").stderr
    )
    assert trioflow("journal", "why", "run.db").exit_code == 2


@pytest.mark.parametrize("name", ["", "run", "list", "graph", "check", "journal"])
def test_each_help_has_examples(name: str) -> None:
    text = trioflow(*name.split(), "--help").stdout
    examples = re.findall(
        rf"^ +trioflow {name}.*", text.partition("Example")[2], re.MULTILINE
    )
    assert examples
    for option in re.findall(r" (--?[a-z][\w-]*)", " ".join(examples)):
        assert name in ("", "journal") or f"{option}" in text.partition("Example")[0], (
            option
        )


def test_completion_script_for_bash_completes_subcommands(tmp_path: Path) -> None:
    script = """
    eval "$(_TRIOFLOW_COMPLETE=bash_source trioflow)"
    COMP_WORDS=(trioflow rep) COMP_CWORD=1
    _trioflow_completion trioflow
    echo "${COMPREPLY[@]}"
    """
    make_program(tmp_path / "trioflow", *WORDS)
    environment = {**ENVIRONMENT, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout == "report\n", done.stderr
