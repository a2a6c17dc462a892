"""The writer of events: slow, late or vanishing readers and full disks never stop the run."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
import pytest
from trioflow import Events, Job, Scheduler, _posix
from trioflow.view.events import _nonblocking_writer
from ...bodies import at_once, nothing
from .lines import checked


@pytest.fixture
def pipe() -> Iterator[tuple[int, Any]]:
    """Return the end of a pipe to read, and a file that writes to the other one."""
    reading, writing = os.pipe()
    with open(writing, "wb") as file:
        yield reading, file
    os.close(reading)


def many(number: int) -> Scheduler:
    return Scheduler(
        *[Job(nothing, label=f"job {one} {'x' * 100}") for one in range(number)]
    )


def read_all(descriptor: int) -> bytes:
    pieces = []
    while piece := os.read(descriptor, 1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def test_a_reader_that_stops_reading_does_not_block_the_run(
    pipe: tuple[int, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(_nonblocking_writer, "STALL_TIMEOUT", 0.1)
    monkeypatch.setattr(_nonblocking_writer, "MAX_BUFFERED_BYTES", 1 << 16)
    reading, file = pipe
    assert many(500).run(instruments=[Events(file)])
    assert "events were not written: no process reads" in caplog.text
    file.close()
    events = checked(read_all(reading).decode())  # whole lines
    assert len(events) > 100


def test_a_stopped_reader_is_not_polled_for_every_line(
    pipe: tuple[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer does not check a blocked pipe for every dropped event, which would copy 1 MiB and take 54 µs."""
    monkeypatch.setattr(_nonblocking_writer, "STALL_TIMEOUT", 0.05)
    monkeypatch.setattr(_nonblocking_writer, "MAX_BUFFERED_BYTES", 1 << 16)
    looks: list[int] = []
    is_writable = _nonblocking_writer._DescriptorTarget.is_writable
    monkeypatch.setattr(
        _nonblocking_writer._DescriptorTarget,
        "is_writable",
        lambda self: (looks.append(1), is_writable(self))[1],
    )
    many(700).run(instruments=[Events(pipe[1])])
    assert len(looks) < 350  # of 2,800 lines


def test_dropped_lines_are_counted_for_a_slow_reader(
    pipe: tuple[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_nonblocking_writer, "MAX_BUFFERED_BYTES", 1 << 16)
    reading, file = pipe
    found: list[bytes] = []
    enough = threading.Event()

    def read() -> None:
        enough.wait()
        found.append(read_all(reading))

    thread = threading.Thread(target=read)
    thread.start()
    scheduler = many(400)
    scheduler.add(Job(at_once, enough.set, label="last", required=list(scheduler)))
    scheduler.run(instruments=[Events(file)])
    file.close()
    thread.join()
    events = checked(found[0].decode())
    dropped = sum(one["lines"] for one in events if one["event"] == "lines_dropped")
    assert dropped > 0
    assert events[-1]["event"] == "run_ended"
    assert (
        sum(one["event"] != "lines_dropped" for one in events) + dropped == 2 + 4 * 401
    )


def test_a_reader_that_closes_its_pipe_ends_the_events(
    pipe: tuple[int, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A reader such as `head` may close its pipe early: the run continues, and nothing is logged."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as file:
        events = Events(file)
        assert many(10).run(instruments=[events])
    assert caplog.text == ""
    assert events.is_written


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_a_full_disk_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """If the disk is full, the run continues without events, and the error is logged once, without a traceback."""
    events = Events("/dev/full")
    assert many(200).run(instruments=[events])
    assert (
        caplog.text.count(
            "events can no longer be written to '/dev/full': No space left on device"
        )
        == 1
    )
    assert "Traceback" not in caplog.text
    assert not events.is_written


def test_a_disk_that_becomes_full_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the disk becomes full, the last, partly written event is cut off, so that the file has only whole lines."""
    write = os.write
    left = [1000]

    def limited(descriptor: int, data: Any) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        size = write(descriptor, data[: left[0]])
        left[0] -= size
        return size

    monkeypatch.setattr(_nonblocking_writer.os, "write", limited)
    assert many(100).run(instruments=[Events(tmp_path / "events")])
    assert "No space left" in caplog.text
    assert len(checked((tmp_path / "events").read_text())) in range(3, 12)


def test_the_reader_of_a_fifo_may_open_it_during_the_run(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    read: list[str] = []
    thread = threading.Thread(target=lambda: read.append(path.read_text()))
    assert Scheduler(Job(at_once, thread.start)).run(instruments=[Events(path)])
    thread.join()
    assert [one["event"] for one in checked(read[0])][-1] == "run_ended"


def test_a_fifo_without_a_reader_does_not_block_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A FIFO that no process reads does not block the run, at whose end the events are dropped."""
    monkeypatch.setattr(_nonblocking_writer, "STALL_TIMEOUT", 0.05)
    os.mkfifo(tmp_path / "fifo")
    assert Scheduler(Job(nothing)).run(instruments=[Events(tmp_path / "fifo")])
    assert "no process reads" in caplog.text


def test_a_folder_that_is_missing_does_not_stop_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the folder of the events file is missing, the run continues, and the error is logged without a traceback."""
    events = Events(tmp_path / "no" / "events")
    scheduler = Scheduler(Job(nothing))
    assert scheduler.run(instruments=[events])
    assert "No such file" in caplog.text
    assert "Traceback" not in caplog.text
    assert not events.is_written
    (tmp_path / "no").mkdir()
    assert scheduler.run(instruments=[events])
    assert events.is_written


def test_a_file_gets_every_line_of_a_fast_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_nonblocking_writer, "MAX_BUFFERED_BYTES", 1 << 12)
    path = tmp_path / "events"
    assert many(1000).run(instruments=[Events(path)])
    lines = path.read_bytes().splitlines()
    assert len(lines) == 2 + 4 * 1000
    assert all(json.loads(line) for line in lines[::100])


class Reader:
    """A file that takes so many bytes as its reader has asked for, and the writer of lines to it, without a thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = b""
        self.wanted = 0
        self.error: Exception | None = None
        self.warnings: list[str] = []
        self.polled: list[bytes] = []
        self.now = 0.0
        monkeypatch.setattr(_nonblocking_writer, "Ticker", mock.Mock())
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep)
        monkeypatch.setattr(_nonblocking_writer, "time", clock)
        monkeypatch.setattr(_nonblocking_writer, "MAX_BUFFERED_BYTES", 20)
        monkeypatch.setattr(_nonblocking_writer, "FLUSH_BYTES", 10)
        monkeypatch.setattr(_nonblocking_writer, "DROPS_PER_POLL", 2)
        self.target = mock.Mock(
            is_writable=lambda: self.wanted > 0,
            next_chunk=lambda data: data,
            write=self._take,
            wait=self._sleep,
        )
        monkeypatch.setattr(_nonblocking_writer, "_open_target", lambda *_: self.target)
        self.writer = _nonblocking_writer.NonBlockingWriter(
            "events",
            self.warnings.append,
            b"%d lost\n".__mod__,
            lambda: [(lambda: True, line) for line in self.polled],
            truncate=True,
        )

    def _take(self, data: memoryview) -> int:
        if self.error is not None:
            raise self.error
        size = min(self.wanted, len(data))
        self.read += bytes(data[:size])
        self.wanted -= size
        return size

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def lines(self, *lines: bytes) -> None:
        for line in lines:
            self.writer.write_line(line)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    return Reader(monkeypatch)


def test_lines_wait_until_there_are_enough_for_a_write(reader: Reader) -> None:
    reader.wanted = 99
    reader.lines(b"four\n", b"abc\n")
    assert reader.read == b""
    reader.lines(b"\n")
    assert reader.read == b"four\nabc\n\n"
    reader.lines(b"12345678\n")
    assert len(reader.read) == 10
    reader.lines(b"\n")
    assert reader.read.endswith(b"12345678\n\n")


def test_lines_beyond_a_full_buffer_are_dropped_and_counted_before_the_next(
    reader: Reader,
) -> None:
    """What fits is kept, also after a line that did not fit. Of two lines that do not, one asks the reader again."""
    reader.lines(b"x" * 11 + b"\n", b"seven..\n")
    assert reader.writer._buffered_bytes == 20
    reader.lines(b"\n")
    reader.wanted = 5
    reader.lines(b"\n")
    assert (reader.read, reader.writer._dropped_line_count) == (b"", 2)
    reader.lines(b"a\n")
    assert reader.read == b"xxxxx"
    reader.wanted = 99
    reader.writer.close(b"end\n")
    assert reader.read == b"xxxxxxxxxxx\nseven..\n2 lost\na\nend\n"
    assert reader.warnings == []


def test_what_a_thread_polls_is_written_unless_half_of_the_buffer_is_full(
    reader: Reader,
) -> None:
    """Twice a second."""
    reader.polled = [b"p\n"]
    write = reader.writer._write_and_poll
    reader.lines(b"seven..\n")
    for now in (0.49, 0.5, 0.99, 1.0):
        reader.now = now
        write()
    assert reader.writer._buffered_bytes == 10
    reader.wanted = 99
    write()
    reader.now = 1.5
    write()
    assert reader.read == b"seven..\np\np\n"


def test_an_end_waits_no_longer_for_a_reader_that_stands_still(reader: Reader) -> None:
    reader.lines(b"one\n", b"two\n")
    reader.writer.close(b"end\n")
    lost = "the last 3 events were not written: no process reads 'events'"
    assert reader.warnings == [lost]
    assert _nonblocking_writer.STALL_TIMEOUT < reader.now < 2.5
    reader.target.close.assert_called_once_with()


def test_an_end_waits_no_longer_than_ten_seconds_for_a_reader_that_goes_on(
    reader: Reader,
) -> None:
    def read(_: float) -> None:
        reader.now += 1.5
        reader.wanted = 1

    reader.target.wait = read
    reader.lines(b"0123456789abcdefgh\n")
    reader.writer.close()
    assert _nonblocking_writer.CLOSE_TIMEOUT < reader.now < 11.5
    assert reader.read == b"0123456"
    assert len(reader.warnings) == 1


@pytest.mark.parametrize(
    ("error", "is_said"),
    [
        (OSError(28, "No space"), "No space"),
        (ValueError("closed"), "closed"),
        (BrokenPipeError(), ""),
    ],
)
def test_after_an_error_nothing_is_written_and_the_beginning_of_a_line_is_cut_off(
    reader: Reader, error: Exception, is_said: str
) -> None:
    reader.wanted = 13
    reader.lines(b"1\n", b"23456789\n123456\n")
    assert reader.read == b"1\n23456789\n12"
    reader.wanted = 99
    reader.error = error
    reader.writer._write_and_poll()
    reader.error = None
    reader.lines(b"123456789\n", b"more\n")
    reader.writer.close(b"end\n")
    reader.target.remove_partial_line.assert_called_once_with(2)
    assert reader.read == b"1\n23456789\n12"
    assert reader.writer.error is (error if is_said else None)
    warning = f"events can no longer be written to 'events': {is_said}; the run continues without them"
    assert reader.warnings == [warning] * bool(is_said)


def test_a_pipe_gets_whole_lines_as_far_as_they_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a line that is longer, it gets the beginning."""
    monkeypatch.setattr(_posix, "PIPE_BUF", 4)
    target = _nonblocking_writer._DescriptorTarget(None, "fifo")
    found = {
        data: bytes(target.next_chunk(memoryview(data)))
        for data in (b"a\nb\n", b"a\nb\nc\n", b"abc\nd\n", b"abcd\n", b"a\nbcde\n")
    }
    assert [*found.values()] == [b"a\nb\n", b"a\nb\n", b"abc\n", b"abcd", b"a\n"]
