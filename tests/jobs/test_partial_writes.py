"""A raw stream may take fewer bytes than it is given: whatever writes to one writes the rest, too."""

import io
from collections.abc import Callable
from typing import Any
import pytest
from trioflow.jobs.command._output_sinks import FileSink
from trioflow.jobs.process import _worker_main
from trioflow.view.events._nonblocking_writer import NonBlockingWriter

CONTENT = b"".join(b"line %d\n" % number for number in range(30_000))


class Reluctant(io.RawIOBase):
    """A raw stream that takes at most 1,000 bytes at a time, as write(2) does at a signal or on a nearly full disk."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data[:1000])
        self.taken += piece
        return len(piece)


def send_answer(stream: Any) -> bytes:
    """Send the answer of a worker process, and return what should arrive."""
    _worker_main.send_message(stream, True, CONTENT)
    return _worker_main.ANSWER_HEADER.pack(True, len(CONTENT)) + CONTENT


def write_output(stream: Any) -> bytes:
    """Write the output of a command that goes to an open file."""
    sink = FileSink(stream)
    sink.write(CONTENT)
    sink.finish()
    return CONTENT


def write_events(stream: Any) -> bytes:
    writer = NonBlockingWriter(
        stream, pytest.fail, lambda _: b"", lambda: (), truncate=False
    )
    writer.write_line(CONTENT)
    writer.close()
    return CONTENT


@pytest.mark.parametrize("write", [send_answer, write_output, write_events])
def test_what_a_raw_stream_has_not_taken_is_written_again(
    write: Callable[[Any], bytes],
) -> None:
    """A stream that takes a part of each write gets everything, once and in order. Of an answer above 2 GiB, which one
    write cannot take, the rest was lost, and the program waited for it."""
    stream = Reluctant()
    assert write(stream) == stream.taken


def test_output_for_a_stream_that_would_block_is_an_error() -> None:
    """Output for a file that takes nothing now, and would block, is refused, and not lost."""

    class Full(Reluctant):
        def write(self, data: Any) -> Any:
            return None

    with pytest.raises(BlockingIOError, match="give a blocking one"):
        FileSink(Full()).write(b"a line\n")
