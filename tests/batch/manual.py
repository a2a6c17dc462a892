"""The command lines in the manual of GNU parallel, its tutorial and its examples, run by both tools, and counted.

`python -m tests.batch.manual` reads the pages that the package `parallel` of Debian installs, and prints counts; with
`--show differs`, say, the lines of one count. Each line runs in a shell of its own, in a folder with the files that it
names, with `parallel` replaced by this file. That keeps the arguments and the input of each call, and what GNU parallel
prints for a dry run with `-k`; what trioflow prints for the same is compared, with the exit code. Nothing that the
lines would do is done. It takes some minutes."""

import collections
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PAGES = [
    Path("/usr/share/doc/parallel") / f"{name}.html"
    for name in ("parallel", "parallel_tutorial", "parallel_examples")
]
CALL = re.compile(
    r"(?:^|[|;&(]\s*|\bdo\s+|\btime\s+|\bxargs\s.*)(?:\w+=\S* )*parallel\s",
    re.MULTILINE,
)
LONGEST = 8
"""Lines of a page that make one command line, at most."""
MAX_BYTES = 1 << 20
"""Bytes of input that are kept of a call."""
SECONDS = 30
COLUMNS = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"
ONCE = "1\t:\t1\t1\t0\t0\t0\t0\tsleep .10; exit 0\n"
FAILED = "2\t:\t1\t1\t0\t0\t1\t0\techo again\n"
FOLDER = {
    **{f"{name}.{end}": name for name in "ab" for end in ("html", "wav", "log", "gz", "jpg", "zip", "mp3")},
    **dict.fromkeys(["xlist", "ylist", "list", "hosts.txt", "urlfile", "arguments", "in.txt"], "one\ntwo.x\nthree\n"),
    **dict.fromkeys(["file_list", "filelist", "regexps.txt", "textfile", "data", "jobqueue"], "one\ntwo.x\nthree\n"),
    **{
        name: name
        for name in [
            "x.tar.gz", "file", "foo.es.txt", "file1", "file2", "y01a", "input_file", "common_file", "my.tmpl", "SEEN",
        ]
    },
    **{name: name for name in ["mirror_dir/l", "logs/a.gz", "sounddir/a.wav", "in/file", "passwordfile", "bigfile"]},
    **dict.fromkeys(["nodefile", "mycomputers", "my_cluster", "tmp2.slf"], "server1\nserver2\n"),
    **dict.fromkeys(("my_jobs", "jobfile"), "2\n"),
    **{f"num{most}": "".join(f"{number}\n" for number in range(1, most + 1)) for most in (8, 128, 30000)},
    "num1000000": "".join(f"{number}\n" for number in range(1, 20001)),
    "abc-file": "A\nB\nC\n",
    "def-file": "D\nE\nF\n",
    "abc0-file": "A\0B\0C\0",
    "abc_-file": "A_B_C_",
    "tsv-file.tsv": "f1\tf2\nA\tB\nC\tD\n",
    "table_file.tsv": "a\tb\n c \td\n",
    "table.csv": "UserID, Consumption\n123, 1\n12-3, 2\n",
    "num_%header": "%head1\n%head2\n1\n2\n3\n4\n",
    "fixedlen": "HHHHAAABBBCCC",
    "jobs_to_run": "echo a\necho b\n",
    **dict.fromkeys(("log", "mylog"), f"{COLUMNS}\n{ONCE}{FAILED}"),
}  # fmt: skip
"""The files that the lines name."""
BEFORE = """
export SERVER1=server1 SERVER2=server2 SERVERS=server1,server2 myvar=abcdef VAR=val base=http://b url=http://u
export URLLIST=hosts.txt SEEN=SEEN URLLIST2=u2 BASEURL=b dbtableurl=csv:///x.csv DBURLTABLE=csv:///x.csv percpu=1k
a=(p q r); ARR=("My brother's" x)
for f in do_test my_func my_func2 my_func3 doit doubleit tester getit myfunc perl_echo; do
    eval "$f() { :; }"; export -f $f
done
for f in ssh sudo wget emacs vi youtube-dl; do eval "$f() { printf '%s\\n' one two; }"; done
command_not_found_handle() { printf '%s\\n' one two; }
"""
"""What the lines expect of their shell; programs that are not there print two lines."""


def lines() -> Iterator[str]:
    """Yield each command line once: whole shell commands that call parallel, from the blocks of code."""
    seen = set[str]()
    for page in PAGES:
        for block in re.findall(
            r"<pre><code>(.*?)</code></pre>",
            page.read_text(encoding="utf-8"),
            re.DOTALL,
        ):
            text = [
                line.removeprefix("$ ")
                for line in html.unescape(re.sub(r"<[^>]+>", "", block)).split("\n")
            ]
            for line in whole(text):
                if (
                    CALL.search(line)
                    and not re.search(r"^\s*#", line, re.MULTILINE)
                    and line not in seen
                ):
                    seen.add(line)
                    yield line


def whole(text: list[str]) -> Iterator[str]:
    """Yield whole commands, as a shell reads them line after line."""
    start = 0
    while start < len(text):
        for length in range(1, LONGEST + 1):
            line = "\n".join(text[start : start + length]).strip()
            ends = (
                not line.endswith("\\")
                and not subprocess.run(
                    ["bash", "-n", "-c", line], capture_output=True
                ).returncode
            )
            if ends:
                yield line
                start += length
                break
        else:
            start += 1


def folder(path: Path) -> Path:
    """Create a folder with the files that the lines name."""
    shutil.rmtree(path, ignore_errors=True)
    for name, text in FOLDER.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def recorded(line: str, work: Path) -> list[dict[str, Any]]:
    """Return the calls of parallel in a line, and the output of GNU parallel for each."""
    programs, calls, home = work / "bin", work / "calls", work / "home"
    for path in (programs, calls, home / ".parallel"):
        path.mkdir(parents=True)
    (home / ".parallel" / "sshloginfile").write_text("server1\n")
    for name, text in (
        ("parallel", f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" call "$@"\n'),
        ("ssh", "#!/bin/sh\nexit 255\n"),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin", "HOME": str(home), "CALLS": str(calls), "LC_ALL": "C.UTF-8",
        "SHELL": "/bin/bash", "PARALLEL_SHELL": "/bin/bash",
    }  # fmt: skip
    with subprocess.Popen(
        ["bash", "-c", f"{BEFORE}{line}\nwait"], cwd=folder(work / "folder"), env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            process.wait(2 * SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
    return [json.loads(path.read_text()) for path in sorted(calls.glob("*.json"))]


def record(words: list[str]) -> None:
    """Stand in for parallel: record a call and GNU parallel's dry run of it, and repeat that output."""
    calls = Path(os.environ.pop("CALLS"))
    call = calls / str(len(list(calls.glob("*.json"))))
    for position, word in enumerate(words):
        if re.fullmatch(r"/dev/fd/\d+", word):  # <(a process): readable once
            words[position] = f"{call}.{position}"
            Path(words[position]).write_bytes(Path(word).read_bytes()[:MAX_BYTES])
    given = sys.stdin.buffer.read(MAX_BYTES)
    command = ["/usr/bin/parallel", "--will-cite", "--dry-run", "-k", *words]
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, timeout=SECONDS, check=False
        )
        code, printed = done.returncode, done.stdout
    except subprocess.TimeoutExpired:
        code, printed = -1, b""
    kept = {
        "words": words,
        "stdin": given.decode("latin-1"),
        "code": code,
        "printed": printed.decode("latin-1"),
    }
    Path(f"{call}.json").write_text(
        json.dumps(kept | {"environment": dict(os.environ)})
    )
    sys.stdout.buffer.write(printed)
    sys.exit(code if code >= 0 else 1)


def verdict(call: dict[str, Any], work: Path) -> str:
    """Return how trioflow's result for a call compares."""
    if not 0 <= call["code"] <= 101 or (call["code"] and not call["printed"]):
        return "GNU parallel itself fails"
    ours = subprocess.run(
        [sys.executable, "-m", "trioflow", "batch", "--dry-run", "-k", *call["words"]],
        input=call["stdin"].encode("latin-1"), capture_output=True, check=False, cwd=folder(work / "folder"),
        env=call["environment"] | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    if ours.returncode == 255:
        return "refused"
    if not ours.stdout and not call["printed"]:
        return "nothing to run"
    printed = call["printed"].encode("latin-1")
    return (
        "same"
        if ours.stdout == printed and ours.returncode == call["code"]
        else "differs"
    )


ORDER = ["GNU parallel itself fails", "differs", "refused", "nothing to run", "same"]
"""Of several calls in a line, the first of these counts."""


def judged(line: str) -> str:
    """Return how trioflow's results for a line compare."""
    with tempfile.TemporaryDirectory() as name:
        calls = recorded(line, Path(name))
        return min(
            (verdict(call, Path(name)) for call in calls),
            key=ORDER.index,
            default="not run",
        )


def main(words: list[str]) -> None:
    """Count, and show the requested lines."""
    found = list(lines())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = list(pool.map(judged, found))
    for count, number in collections.Counter(verdicts).most_common():
        print(f"{number:4}  {count}")
    for line, count in zip(found, verdicts, strict=True):
        if count in words[1:]:
            print(f"--- {line}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["call"]:
        record(sys.argv[2:])
    else:
        main(sys.argv[1:])
