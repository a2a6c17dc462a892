"""`trioflow batch`: its options, and the summary of its failures."""

import csv
import gc
import io
import itertools
import json
import os
import re
import signal
from pathlib import Path
import pytest
from trioflow import CommandJob
from trioflow.batch import _record_files
from trioflow.batch._record_files import OutputDirectory
from trioflow.batch._reporter import CommandTally
from trioflow.batch._template import CommandTemplate
from trioflow.cli._commands import COMMANDS
from trioflow.cli.batch import _batch_run
from trioflow.view.text._symbols import escape_formula
from ..cli.command_line import trioflow
from ..jobs.posix.process_trees import until_there
from ..places import PATIENCE, patiently
from .process import batch, meanwhile, refusal, running

pytestmark = pytest.mark.usefixtures("plain_shell")


def logged(path: str = "log") -> list[list[str]]:
    """Return the reproducible columns of a job log, without its header."""
    lines = [line.split("\t") for line in Path(path).read_text().splitlines()]
    return [[line[0], line[1], *line[4:]] for line in lines[1:]]


def commands(path: str = "log") -> list[str]:
    return [line[-1] for line in logged(path)]


def test_batch_is_a_subcommand() -> None:
    """`trioflow --help` lists the command with a one-line summary."""
    assert "batch" in COMMANDS
    assert re.search(r"batch +Run COMMAND for each ARGUMENT", trioflow("--help").output)


def test_command_runs_once_for_each_argument() -> None:
    """Arguments with blanks, quotes or no characters arrive unchanged, and a successful batch prints no message."""
    done = batch("-k", "echo", ":::", "a", "b  c", "", "it's")
    assert (done.stdout, done.stderr, done.exit_code) == ("a\nb  c\n\nit's\n", "", 0)


def test_without_a_command_arguments_are_commands() -> None:
    assert batch("-k", ":::", "echo a; echo b", "echo c | cat").stdout == "a\nb\nc\n"


def test_batch_without_arguments_succeeds_and_runs_nothing() -> None:
    done = batch("echo", ":::")
    assert (done.output, done.exit_code) == ("", 0)


def test_the_exit_code_is_the_number_of_failures() -> None:
    assert batch("exit", ":::", 0, 1, 2, 0).exit_code == 2


def test_output_of_one_command_is_never_mixed_with_another() -> None:
    """Each output stream of a command is printed in one piece, even if the command writes it bit by bit."""
    done = batch(
        "-j3",
        "for i in 1 2 3; do echo {}; echo {} >&2; sleep 0.00{}; done",
        ":::",
        *"123",
        *"123",
    )
    for output in (done.stdout, done.stderr):
        blocks = re.findall(r"(\d\n)\1\1", output)
        assert "".join(block * 3 for block in blocks) == output
        assert sorted(blocks) == [f"{number}\n" for number in (1, 1, 2, 2, 3, 3)]


UNTIL_B_IS_LOGGED = "[ {} = b ] || until grep -q 'b$' log; do sleep 0.01; done; "


def test_outputs_are_printed_in_the_order_in_which_commands_end() -> None:
    words = ("-j2", "--joblog", "log", UNTIL_B_IS_LOGGED + "echo {}", ":::", "a", "b")
    assert batch(*words).stdout == "b\na\n"
    assert batch("-k", *words).stdout == "a\nb\n"


def test_empty_output_gets_no_tag() -> None:
    """With -k and --tag, each command without error output once printed a lone tag on standard error."""
    for order in ("-k", "--tag"):
        done = batch(order, "--tag", "-j1", "test {} = a || echo", ":::", "a", "b")
        assert (done.stdout, done.stderr) == ("b\t\n", "")


def test_tag_option_puts_the_arguments_before_each_line() -> None:
    """`--tag` puts the arguments before each line of both streams; a last line without a newline gets none."""
    done = batch(
        "-k",
        "--tag",
        "printf '%s\\n\\n%s' {1} {2}; echo e >&2",
        ":::",
        "a",
        "b",
        ":::",
        "x y",
    )
    assert done.stdout == "a x y\ta\na x y\t\na x y\tx yb x y\tb\nb x y\t\nb x y\tx y"
    assert done.stderr == "a x y\te\nb x y\te\n"


def test_waiting_output_above_the_memory_limit_is_buffered_on_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Output that waits for its turn and exceeds the limit in memory is complete, and in the order of the arguments."""
    monkeypatch.setattr(
        "trioflow.batch._output.Backlog.__init__.__defaults__", (10,), raising=False
    )
    done = batch(
        "-kj2",
        "--tag",
        "--joblog",
        "log",
        UNTIL_B_IS_LOGGED + "seq 2000 # {}",
        ":::",
        "a",
        "b",
    )
    assert done.stdout == "".join(
        f"{name}\t{number}\n" for name in "ab" for number in range(1, 2001)
    )


def test_results_of_arguments_too_long_for_a_file_name_are_saved() -> None:
    """`--results` once ended the batch at a long argument; such arguments now have directories of their own."""
    arguments = ["é" * 200 + "1", "é" * 200 + "2", "a" * 255]
    done = batch("--results", "res", "echo", ":::", *arguments)
    assert (done.output, done.exit_code) == ("", 0)
    written = {
        path.parent.name: path.read_text().strip()
        for path in Path("res/1").glob("*/stdout")
    }
    assert sorted(written.values()) == sorted(arguments)
    assert written["a" * 255] == "a" * 255
    assert sum(name.startswith("é" * 100) for name in written) == 2


def test_output_above_the_limit_of_a_commands_buffer_is_complete() -> None:
    """1.2 MB of output are complete with and without -k and --tag, and in the files of --results."""
    words = ("head -c 1200000 /dev/zero | tr '\\0' {}", ":::", "a")
    assert [batch(*words).stdout, batch("-k", *words).stdout] == ["a" * 1_200_000] * 2
    assert batch("--tag", *words).stdout == "a\t" + "a" * 1_200_000
    batch("--results", ".", *words)
    assert Path("1/a/stdout").stat().st_size == 1_200_000


def test_bytes_that_are_not_utf8_pass_through() -> None:
    """Bytes that are not UTF-8 pass unchanged through arguments, outputs, tags and the job log."""
    Path("arguments").write_bytes(b"a\xff\n")
    done = batch(
        "--tag",
        "--joblog",
        "log",
        "printf '%s\\376'",
        ":::",
        "b\udcfe",
        "::::",
        "arguments",
    )
    assert done.stdout_bytes == b"b\xfe a\xff\tb\xfe\xfea\xff\xfe"
    assert Path("log").read_bytes().endswith(b"\tprintf '%s\\376' 'b\xfe' 'a\xff'\n")
    assert (
        batch("--dry-run", "echo", "::::", "arguments").stdout_bytes
        == b"echo 'a\xff'\n"
    )


def test_commands_get_an_empty_standard_input() -> None:
    assert batch("cat; echo", ":::", "/dev/null").stdout == "/dev/null\n"


def test_a_command_gets_its_job_and_slot_number() -> None:
    done = batch(
        "-kj1",
        "echo {#} $PARALLEL_SEQ {%} $PARALLEL_JOBSLOT $PARALLEL_PID",
        ":::",
        "a",
        "b",
    )
    assert done.stdout == f"1 1 1 1 {os.getpid()}\n2 2 1 1 {os.getpid()}\n"


def test_no_slot_is_used_twice_at_once() -> None:
    """No two commands have a slot at once: each makes the slot's directory, and would fail if it existed."""
    assert (
        batch(
            "-j3", "mkdir {%} && sleep 0.00{} && rmdir {%}", ":::", *"123456789"
        ).exit_code
        == 0
    )


def test_jobs_option_limits_the_commands_at_once() -> None:
    """With `-j2`, at most two commands run at once, even if they end in another order than they began."""
    script = "touch run.{#}; ls run.* | wc -l; sleep 0.00{}; rm run.{#}"
    found = {
        int(line) for line in batch("-j2", script, ":::", *"5432154321").stdout.split()
    }
    assert max(found) <= 2


def test_job_log_distinguishes_the_kinds_of_failure() -> None:
    """In the job log, an exit code, a signal, a missing program and a timeout have different values."""
    lines = [
        "printf abc; echo e >&2",
        "exit 7",
        "kill -9 $$",
        "no-such-program 2>&1",
        "sleep 1000",
    ]
    done = batch("-j1", "--joblog", "log", ":::", *lines[:-1])
    late = batch("--timeout", "0.1", "--joblog", "+log", ":::", lines[-1])
    assert (done.exit_code, late.exit_code) == (3, 1)
    assert [line[3:] for line in logged()] == [
        ["3", "0", "0", lines[0]], ["0", "7", "0", lines[1]], ["0", "0", "9", lines[2]],
        [str(len(done.stdout) - 3), "127", "0", lines[3]], ["0", "-1", "15", lines[4]],
    ]  # fmt: skip
    assert meanwhile(late.stderr) == "trioflow batch: ended by --timeout: sleep 1000\n"


def test_command_that_cannot_be_started_counts_as_failed() -> None:
    """A command that cannot be started has the exit code of a shell in the job log, and the other commands run."""
    Path("arguments").write_bytes(b"a\0b\nc\n")
    Path("script").write_text("#!/no/such/interpreter\n")
    Path("script").chmod(0o755)
    done = batch(
        "-kj1",
        "--joblog",
        "log",
        "{}",
        ":::",
        "/bin/echo " + "x" * 200_000,
        "./script",
        "echo c",
    )
    assert (done.stdout, done.exit_code) == ("c\n", 2)
    assert [line[4:6] for line in logged()] == [["126", "0"], ["126", "0"], ["0", "0"]]
    assert meanwhile(done.stderr).count("not started") == 2
    done = batch("-j1", "echo", "::::", "arguments")
    assert (done.stdout, done.exit_code) == ("c\n", 1)
    assert "contains a NUL" in done.stderr


def test_retries_option_repeats_a_failed_command() -> None:
    """`--retries` is the number of attempts, or 0 for any number; the output is that of the last attempt."""
    script = 'echo {} >> tries; echo try $(grep -c {} tries); [ "$(grep -c {} tries)" -eq 3 ]'
    outputs = [
        batch("--retries", tries, script, ":::", name).stdout
        for tries, name in ((2, "a"), (5, "b"), (0, "c"))
    ]
    assert outputs == ["try 2\n", "try 3\n", "try 3\n"]


@patiently(0.3, 3, 30)
def test_retries_option_repeats_a_command_that_timed_out(unit: float) -> None:
    done = batch(
        "--retries",
        2,
        "--timeout",
        unit,
        f"echo {{}} >> tries{unit}; exec sleep 1000",
        ":::",
        "a",
    )
    assert (Path(f"tries{unit}").read_text(), done.exit_code) == ("a\na\n", 1)


@pytest.mark.parametrize(
    ("rule", "ran", "exit_code"),
    [("never", 4, 3), ("soon,fail=1", 2, 5), ("now,fail=50%", 3, 50)],
)
def test_halt_rule_ends_the_batch_and_decides_the_exit_code(
    rule: str, ran: int, exit_code: int
) -> None:
    done = batch("-j1", "--halt", rule, "--joblog", "log", "exit", ":::", 0, 5, 6, 7)
    assert (len(logged()), done.exit_code) == (ran, exit_code)


def test_halt_now_ends_running_commands() -> None:
    """A command ended by `--halt now` is not in the job log, because it did not end by itself."""
    done = batch(
        "-j2",
        "--halt",
        "now,fail=1",
        "--joblog",
        "log",
        ":::",
        "sleep 1000",
        "echo b; exit 3",
        "echo c",
    )
    assert (commands(), done.stdout, done.exit_code) == (["echo b; exit 3"], "b\n", 3)
    assert (
        meanwhile(done.stderr)
        == "trioflow batch: --halt: ending the running commands after: echo b; exit 3\n"
    )


def test_halt_soon_lets_running_commands_complete() -> None:
    """Commands that run when a `--halt soon` rule is met complete, and their output is printed and logged."""
    script = [
        "until grep -q 't 3$' log; do sleep 0.01; done; echo a; exit 4",
        "exit 3",
        "echo c",
    ]
    done = batch("-j2", "--halt", "soon,fail=1", "--joblog", "log", ":::", *script)
    assert (done.stdout, done.exit_code, len(logged())) == ("a\n", 3, 2)


def test_outputs_after_that_of_a_command_ended_by_halt_are_printed() -> None:
    assert (
        batch(
            "-kj2", "--halt", "now,done=2", ":::", "sleep 1000", "echo b", "echo c"
        ).stdout
        == "b\nc\n"
    )


def test_a_line_is_filled_up_to_what_a_shell_takes() -> None:
    """With -X, 300 KB of arguments go to the few commands that they need, and none is lost."""
    Path("arguments").write_text("".join(f"{number:099}\n" for number in range(3000)))
    done = batch("-X", "-j1", "echo $(echo {} | wc -w)", "::::", "arguments")
    counts = [int(line) for line in done.stdout.split()]
    assert (sum(counts), len(counts), done.exit_code) == (3000, 3, 0)


def test_plus_sign_before_the_job_log_appends_to_it() -> None:
    for name in ("log", "+log"):
        batch("--joblog", name, "echo", ":::", "a")
    assert commands() == ["echo a", "echo a"]


@patiently(0.01, 0.1, 0.6)
def test_command_that_ends_slowly_after_a_halt_is_not_reported_as_stuck(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, unit: float
) -> None:
    """When a command ended slowly after a halt, the engine once logged that a "slot" was stuck."""
    caplog.clear()
    monkeypatch.setattr("trioflow._core.run._standstill.STUCK_REPORT_DELAY", unit)
    slow = f"trap 'sleep {1.5 * unit}; exit' TERM; touch here{unit}; while :; do sleep 0.01; done"
    done = batch(
        "-j2",
        "--halt",
        "now,fail=1",
        ":::",
        slow,
        f"until [ -e here{unit} ]; do sleep 0.01; done; exit 3",
    )
    assert (done.exit_code, caplog.messages) == (3, [])


def test_results_option_saves_outputs_in_directories_named_by_the_arguments() -> None:
    done = batch(
        "-k",
        "--results",
        "saved",
        "echo {}; echo {2} >&2",
        ":::",
        "a/b",
        "..",
        ":::",
        "c",
    )
    assert done.output == ""
    found = {
        str(path): path.read_text()
        for path in Path("saved").rglob("*")
        if path.is_file()
    }
    first, second = r"saved/1/a\_b/2/c/", r"saved/1/\.../2/c/"
    assert found == {
        first + "seq": "1", first + "stdout": "a/b c\n", first + "stderr": "c\n",
        second + "seq": "2", second + "stdout": ".. c\n", second + "stderr": "c\n",
    }  # fmt: skip


def test_an_existing_file_with_other_contents_becomes_name_before() -> None:
    """Each older file with other contents was once replaced without a word, whoever had written it."""
    Path("a.txt").write_text("notes")
    words = ("-j1", "--results", "{.}.txt", "echo {} $(cat day)", ":::", "a.md", "b.md")
    said: list[str] = []
    for day in ("1", "1", "2"):
        Path("day").write_text(day)
        done = batch(*words)
        assert done.exit_code == 0
        said.append(done.stderr)
    found = {str(path): path.read_text() for path in Path().glob("*.txt*")}
    assert found == {
        "a.txt": "a.md 2\n", "a.txt.before": "notes", "a.txt.before-2": "a.md 1\n", "a.txt.err": "", "a.txt.seq": "1",
        "b.txt": "b.md 2\n", "b.txt.before": "b.md 1\n", "b.txt.err": "", "b.txt.seq": "2",
    }  # fmt: skip
    assert said == [
        "trioflow batch: older results were there: 'a.txt' is now 'a.txt.before'\n", "",
        "trioflow batch: older results were there: 'a.txt' is now 'a.txt.before-2', and 1 more likewise\n",
    ]  # fmt: skip


def test_the_results_of_the_last_try_replace_those_of_the_first(tmp_path: Path) -> None:
    directory = OutputDirectory(
        CommandTemplate([str(tmp_path / "saved" / "{}.txt")], is_command=False)
    )
    for text in (b"first", b"second"):
        directory.save(1, ["a"], 1, (io.BytesIO(text), io.BytesIO()))
    assert directory.notice() == ""
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "a.txt",
        "a.txt.err",
        "a.txt.seq",
    ]
    assert (tmp_path / "saved" / "a.txt").read_bytes() == b"second"


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl"])
def test_a_table_of_results_never_empties_a_file_of_others(name: str) -> None:
    """A file of data that was given as `--results` by mistake was once emptied; the table of a batch begins anew."""
    Path(name).write_text("id,weight\n1,80\n")
    done = batch("--results", name, "echo", ":::", "a")
    assert (done.exit_code, "no batch has written this file" in done.stderr) == (
        255,
        True,
    )
    assert Path(name).read_text() == "id,weight\n1,80\n"
    Path(name).unlink()
    for argument in ("b", "c"):
        assert batch("--results", name, "echo", ":::", argument).exit_code == 0
    assert "echo c" in Path(name).read_text()
    assert "echo b" not in Path(name).read_text()


@pytest.mark.parametrize(
    "refused",
    [
        ["--needs", "unheard_of=1", "echo", ":::", "b"],
        ["-S", "node[", "echo", ":::", "b"],
        ["--results", "{.}.txt", "echo", ":::", "b", "b"],
        ["--joblog", "no/log", "echo", ":::", "b"],
    ],
)
def test_a_batch_that_is_refused_keeps_the_records_of_the_one_before(
    refused: list[str],
) -> None:
    """A typing error in another option once emptied the job log and the table of hours."""
    assert (
        batch("--joblog", "log", "--results", "t.csv", "echo", ":::", "a").exit_code
        == 0
    )
    before = [Path(name).read_bytes() for name in ("log", "t.csv")]
    others = []
    for option, name in (("--joblog", "log"), ("--results", "t.csv")):
        if option not in refused:
            others += [option, name]
    assert batch(*others, *refused).exit_code == 255
    assert [Path(name).read_bytes() for name in ("log", "t.csv")] == before


@pytest.mark.parametrize(
    "files",
    [
        ("--journal", "one.jsonl", "--results", "./one.jsonl"),
        ("--journal", "run.db", "--joblog", "run.db"),
        ("--joblog", "+one.csv", "--results", "one.csv"),
    ],
)
def test_each_file_of_a_batch_has_a_name_of_its_own(files: tuple[str, ...]) -> None:
    """The rows of two tables once stood in one file, or none in the file of the journal."""
    problem = refusal(*files, "echo", ":::", "a")
    assert f"{files[0]} and {files[2]} name one file" in problem
    assert list(Path().iterdir()) == []


def test_a_batch_without_arguments_begins_its_records_anew() -> None:
    """With a journal, too."""
    for options in ([], ["--journal", "run.db"]):
        words = ["--joblog", "log", "--results", "t.jsonl", *options, "echo", ":::"]
        assert batch(*words, "a").exit_code == 0
        assert batch(*words).exit_code == 0
        assert logged() == []
        assert Path("t.jsonl").read_text() == ""


def test_a_dry_run_runs_nothing() -> None:
    """`--dry-run` prints the lines with their replacements, and creates no file, not even the job log."""
    done = batch("--dry-run", "--joblog", "log", "touch {} > {.}", ":::", "a b.c")
    assert done.stdout == "touch 'a b.c' > 'a b'\n"
    assert list(Path().iterdir()) == []


def test_finished_commands_leave_no_jobs_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alive: list[int] = []
    ended = itertools.count(1)
    add = CommandTally.add

    def count_jobs(self: CommandTally, code: int) -> bool:
        if next(ended) % 10 == 0:
            alive.append(sum(isinstance(one, CommandJob) for one in gc.get_objects()))
        return add(self, code)

    monkeypatch.setattr(CommandTally, "add", count_jobs)
    Path("arguments").write_text("".join(f"{number}\n" for number in range(40)))
    assert batch("-kj2", "/bin/echo", "::::", "arguments").exit_code == 0
    assert len(alive) == 4
    assert max(alive) <= 4


INVALID = [
    (["--no-such", "x"], "No such option"),
    (["-j", "x", "true"], "'x' is not a number of jobs"),
    (["--halt", "x", "true"], "'x' is not a rule"),
    (
        ["--results", "d", "--results", "t.csv", "true"],
        "several are given, and only one can be taken: leave the others",
    ),
    (["--timeout", "200%", "true"], "'200%' is not a duration"),
    (["echo {= 1 =}", ":::", "1"], "Perl expressions"),
    (["true", "::::", "/no/such"], "cannot read the arguments from '/no/such'"),
    (
        ["--joblog", "/dev/full", "touch", ":::", "a"],
        "cannot write the job log '/dev/full': No space left on device",
    ),
    (
        ["--results", "x.tsv", "true", ":::", "a"],
        "--results x.tsv: give FILE.csv or FILE.jsonl for a table, or a directory",
    ),
    (["--results", "/dev/null/x", "true", ":::", "a"], "cannot write the results in"),
]


def test_batch_that_cannot_run_gives_exit_code_255() -> None:
    """The exit code of a batch that cannot run, 255, differs from all counts of failures, and no command runs."""
    for words, message in INVALID:
        assert message in refusal(*words)
        assert list(Path().iterdir()) == []


def test_options_in_the_variable_parallel_are_ignored_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PARALLEL", "--dry-run")
    done = batch("echo", ":::", "a")
    assert (done.stdout, done.exit_code) == ("a\n", 0)
    assert "the options in the environment variable PARALLEL are ignored" in done.stderr
    assert done.stderr.endswith(": --dry-run\n")


@pytest.mark.parametrize("options", [["--timeout", "0.05"], ["--halt", "soon,fail=1"]])
def test_messages_show_the_beginning_of_a_long_command_only(options: list[str]) -> None:
    """A message about a command of 100 KB once filled the terminal."""
    done = batch(*options, "sleep 0.2; false", ":::", "x" * 100_000)
    assert "sleep 0.2; false xxx" in done.stderr
    assert len(done.stderr) < 1000


def test_a_full_disk_is_reported_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error of the system in a command, such as a full disk, was once reported without the command."""

    async def co_run(job: CommandJob) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CommandJob, "co_run", co_run)
    said = batch("echo", ":::", "a").stderr
    assert (
        meanwhile(said)
        == "trioflow batch: echo a: [Errno 28] No space left on device\n"
    )


def test_a_carriage_return_makes_no_row() -> None:
    """Before Python 3.13, a carriage return in an argument began a row in `--results FILE.csv`, with a live formula."""
    batch("-j1", "--results", "r.csv", "true {} #", ":::", "a\r=1+1", "b")
    with open("r.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 3


def test_each_row_of_a_table_has_all_columns() -> None:
    batch("-j1", "-N2", "--results", "r.csv", "echo", ":::", "a", "b", "c")
    with open("r.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert [len(row) for row in rows] == 2 * [len(header)]


FORMULA_STARTS = "=+-@\t\r\uff1d\uff0b\uff0d\uff20"


def test_no_cell_of_a_table_is_a_formula_whatever_its_separator() -> None:
    """A spreadsheet that divides cells at `;` or tabs, or trims them, computes nothing either; numbers stay numbers."""
    texts = [
        f"{before}{start}cmd|'/c x'!A0"
        for before in ("", "x;", "a;b\t", ";")
        for start in FORMULA_STARTS
    ]
    batch(
        "-j1",
        "--results",
        "r.csv",
        "printf '%s' {}",
        ":::",
        *texts,
        "-5",
        "x;-5",
        "+1e3;2",
    )
    text = Path("r.csv").read_text(encoding="utf-8")
    assert text.count("cmd|") == 3 * len(texts)
    for separator in ",;\t":
        for row in csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, strict=False
        ):
            for cell in row:
                assert not cell.startswith(tuple(FORMULA_STARTS)) or re.match(
                    r"[+-]\d", cell
                ), row
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert (
        [row["stdout"] for row in found[-3:]]
        == [row["arg1"] for row in found[-3:]]
        == ["-5", "x;-5", "+1e3;2"]
    )


def test_a_formula_in_the_middle_of_a_long_output_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An output is read in pieces: what a piece begins with is a formula only after a separator."""
    pieces = [["a;", "=1"], ["a", "=1"], ["=", "=1;", "-x"]]
    for texts in pieces:
        monkeypatch.setattr(
            _record_files, "_decoded", lambda *_, texts=texts: iter(texts)
        )
        joined = b"".join(_record_files._csv_cell(io.BytesIO())).decode()
        assert joined == f'"{escape_formula("".join(texts))}"'


def test_results_do_not_leave_their_directory_and_a_nul_writes_none() -> None:
    """An argument with `..` once led out of the directory of results, and one with a NUL raised a traceback."""
    done = batch("--results", "out/{}", "true", ":::", "../../x")
    assert "an argument leads out of the directory" in done.stderr
    Path("list").write_bytes(b"a\0b\nc\n")
    assert (
        "Traceback"
        not in batch("-0", "--results", "res", "true", "::::", "list").stderr
    )


# --- the summary: nothing after a success, else how many commands failed, which, and why
def summary_lines(stderr: str) -> list[str]:
    return re.sub(
        r", [\d.]+ m?s\n", "\n", stderr.removeprefix(meanwhile(stderr))
    ).splitlines()


@patiently(0.3, 3, 30)
def test_the_end_of_a_batch_counts_and_shows_failures(unit: float) -> None:
    lines = ["exit 3", "sleep 900", "kill -9 $$", "./script", "true"]
    Path("script").write_text("#!/no/such/interpreter\n")
    Path("script").chmod(0o755)
    done = batch("-j1", "--timeout", unit, ":::", *lines)
    assert summary_lines(done.stderr) == [
        "batch  ✗ 4 failed of 5",
        "  kill -9 $$: ended by signal SIGKILL",
        "  exit 3: exit code 3",
        "  sleep 900: ended by --timeout",
        "  ./script: not started: './script' exists, but the interpreter in its first line (#!) does not. "
        "The command: ./script",
    ]


def test_end_of_a_batch_has_a_line_for_each_kind_of_failure() -> None:
    """The summary counts failures of one kind in one line; long or multi-line commands are shortened."""
    done = batch(
        "-j1", ":::", "exit 2 #\n\x1b[31m", "exit 3 #" + "x" * 500, *["exit 4"] * 6
    )
    head, first, second, *others = summary_lines(done.stderr)
    assert head == "batch  ✗ 8 failed of 8"
    assert first == r"  exit 2 #\n\x1b[31m: exit code 2"
    assert re.fullmatch(r"  exit 3 #x+…x+: exit code 3", second)
    assert len(second) < 125
    assert others == ["  exit 4, exit 4, exit 4 and 3 more: exit code 4"]


def test_no_crash_is_hidden_behind_other_failures() -> None:
    done = batch("-j1", ":::", *[f"exit {code}" for code in range(1, 13)], "kill -9 $$")
    _, crash, *_, others = summary_lines(done.stderr)
    assert crash == "  kill -9 $$: ended by signal SIGKILL"
    assert others == "  and 3 more"


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_end_of_a_batch_has_a_line_for_each_of_the_first_kinds(beyond: int) -> None:
    count = _batch_run.MAX_SHOWN_KINDS + beyond
    done = batch("-j1", ":::", *[f"exit {code}" for code in range(1, count + 1)])
    _, *lines = summary_lines(done.stderr)
    kinds = range(1, _batch_run.MAX_SHOWN_KINDS + 1)
    more = ["  and 1 more"] if beyond else []
    assert lines == [*(f"  exit {code}: exit code {code}" for code in kinds), *more]


@pytest.mark.parametrize("beyond", [-1, 1])
def test_a_line_is_filled_up_to_the_largest_size(beyond: int) -> None:
    """The sum counts a blank after the last argument, too."""
    first = "a" * 60_000
    second = "b" * (_batch_run.MAX_LINE_SIZE - len(f"echo {first} ") + beyond)
    done = batch("-X", "-j1", "--dry-run", "echo", ":::", first, second)
    lines = [f"echo {first} {second}"]
    if beyond > 0:
        lines = [f"echo {first}", f"echo {second}"]
    assert done.stdout.splitlines() == lines


def test_of_many_timeouts_the_first_is_reported_at_once() -> None:
    """Each timeout once had a line when it happened, and another one at the end."""
    done = batch("--timeout", "0.2", "-j3", "sleep", ":::", 7, 8, 9)
    assert len(meanwhile(done.stderr).splitlines()) == 1
    assert meanwhile(done.stderr).startswith(
        "trioflow batch: ended by --timeout: sleep "
    )
    (line,) = summary_lines(done.stderr)[1:]
    assert sorted(re.findall(r"sleep \d", line)) == ["sleep 7", "sleep 8", "sleep 9"]
    assert line.endswith(": ended by --timeout")


def test_restored_timeouts_are_not_reported_as_new() -> None:
    """A resumed batch once printed the timeouts of the first one again, as if they had just happened."""
    words = [
        "--journal",
        "run.db",
        "--keep",
        "all",
        "--timeout",
        "0.2",
        "sleep",
        ":::",
        7,
    ]
    batch(*words)
    done = batch(*words)
    assert meanwhile(done.stderr) == ""
    assert summary_lines(done.stderr)[1:] == ["  sleep 7: ended by --timeout"]


def test_nothing_is_advised_when_nothing_is_left_to_do() -> None:
    """A batch whose failures are all kept once advised to run the same command again."""
    words = ["--journal", "run.db", "exit", ":::", 0, 3]
    assert (
        batch(*words).stderr.splitlines()[-1]
        == "  to go on, run the same command again (1 of 2 commands kept)"
    )
    assert (
        batch("--keep", "all", *words).stderr.splitlines()[-1]
        == "  exit 3: exit code 3"
    )


@patiently(0.5, 5, 50)
def test_a_command_that_leaves_processes_has_its_own_exit_code(unit: float) -> None:
    """A timeout that only ends what a failed command has left once hid its exit code: -1, and no signal."""
    log, table = Path(f"log{unit}"), Path(f"{unit}.jsonl")
    done = batch(
        "--timeout",
        unit,
        "--joblog",
        log,
        "--results",
        table,
        ":::",
        "sleep 100 & exit 3",
    )
    row = json.loads(table.read_text())
    reason = "exit code 3; what it left running was ended by --timeout"
    assert (row["exit_code"], row["signal"], row["failure"]) == (3, 0, reason)
    assert log.read_text().splitlines()[1].split("\t")[6:8] == ["3", "0"]
    assert summary_lines(done.stderr)[1:] == [f"  sleep 100 & exit 3: {reason}"]


@patiently(0.3, 3, 30)
def test_only_a_command_that_has_exited_has_an_exit_code_in_a_table(
    unit: float,
) -> None:
    """A crash once had the exit code 0 in a table, as in a job log, so that it seemed a success."""
    lines, table = (
        ["exit 0", "exit 3", "kill -9 $$", "sleep 900"],
        Path(f"{unit}.jsonl"),
    )
    batch("-j1", "--timeout", unit, "--results", table, ":::", *lines)
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert [(row["exit_code"], row["signal"], row["failure"]) for row in rows] == [
        (0, 0, None), (3, 0, "exit code 3"), (None, 9, "ended by signal SIGKILL"), (None, 15, "ended by --timeout"),
    ]  # fmt: skip


def test_commands_that_were_not_run_count_in_the_total() -> None:
    words = ["-j1", "--halt", "soon,fail=1", "exit"]
    assert (
        summary_lines(batch(*words, ":::", 0, 5, 6, 7).stderr)[0]
        == "batch  ✗ 1 failed, 2 never started of 4"
    )
    Path("arguments").write_text("0\n5\n6\n7\n")
    assert (
        summary_lines(batch(*words, "::::", "arguments").stderr)[0]
        == "batch  ✗ 1 failed, 2 never started of 4"
    )


def test_batch_that_a_success_rule_ended_prints_no_summary() -> None:
    """A batch that a success rule ended exits with 0 in spite of earlier failures, and prints no summary."""
    done = batch("-j1", "--halt", "soon,success=1", "exit", ":::", 5, 0, 7)
    assert (done.exit_code, summary_lines(done.stderr)) == (0, [])


def test_summary_of_an_interrupted_batch_advises_how_to_continue(
    tmp_path: Path,
) -> None:
    here = tmp_path / "here"
    with running(
        "-j1",
        ":::",
        "true",
        "exit 3",
        f"touch {here}; sleep 1000",
        "true",
        cwd=tmp_path,
    ) as process:
        until_there(here)
        process.send_signal(signal.SIGTERM)
        stderr = process.communicate(timeout=PATIENCE)[1].decode()
    assert process.returncode == 143
    assert meanwhile(stderr) == "SIGTERM: shutting down; a second one quits at once\n"
    assert summary_lines(stderr) == [
        "batch  ✗ interrupted, 1 failed, 1 cancelled, 1 never started of 4, 1 succeeded",
        "  exit 3: exit code 3",
        "  to go on, run the same command again (--journal FILE keeps what succeeds)",
    ]


def test_a_command_that_fails_and_runs_again_is_cancelled_by_a_signal(
    tmp_path: Path,
) -> None:
    """A command that has been attempted once was among those that never started."""
    began = tmp_path / "began"
    words = ("-j1", "--retries", "0", ":::", f"echo >> {began}; exit 3", "true")
    with running(*words) as process:
        until_there(began)
        process.send_signal(signal.SIGTERM)
        stderr = process.communicate(timeout=PATIENCE)[1].decode()
    assert (
        summary_lines(stderr)[0]
        == "batch  ✗ interrupted, 0 of 2 commands succeeded, 1 cancelled, 1 never started"
    )


def test_summary_of_a_batch_interrupted_while_it_reads_arguments_has_no_total(
    tmp_path: Path,
) -> None:
    """A batch interrupted while it read arguments once claimed that all commands had succeeded."""
    here = tmp_path / "here"
    with running("-j1", cwd=tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write(f"true\ntrue\ntouch {here}; sleep 1000\n".encode())
        process.stdin.flush()
        until_there(here)
        process.send_signal(signal.SIGTERM)
        stderr = process.communicate(timeout=PATIENCE)[1].decode()
    assert (
        summary_lines(stderr)[0]
        == "batch  ✗ interrupted, 2 commands succeeded, 1 cancelled"
    )


def test_a_node_that_is_named_twice_is_one_node(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("a\nn1\n")
    names = ["a", "n[1-2]", str(tmp_path / "hosts"), "a", ":"]
    nodes = _batch_run.make_nodes(names, config=None)
    assert [str(node) for node in nodes][:3] == ["a", "n1", "n2"]
    assert len({*nodes}) == len(nodes)
