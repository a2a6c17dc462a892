"""Sources of arguments: words, lines and their products, read on demand."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow.batch import BatchError, _sources
from trioflow.batch._sources import LineFilling, LineSource, ReadingRules, SourceProduct, parse_sources


def product(*words: str, files: tuple[str, ...] = (), **options: Any) -> list[tuple[str, ...]]:
    _, groups = parse_sources(words, files, ReadingRules(**options))
    return [
        item
        for item in SourceProduct(groups, ReadingRules(**options)).iter_arguments(blocking=True)
        if item is not None
    ]


@pytest.fixture
def pipe() -> Iterator[tuple[str, int]]:
    """Return the path of a pipe, and the descriptor that writes to it."""
    read_end, write_end = os.pipe()
    yield f"/dev/fd/{read_end}", write_end
    os.close(read_end)


def test_words_before_the_first_separator_are_the_command() -> None:
    assert parse_sources(["a", "-b", ":::b", ":::", "c"])[0] == ["a", "-b", ":::b"]
    assert parse_sources([":::", "c"])[0] == []


def test_standard_input_is_the_source_if_no_other_is_given() -> None:
    assert parse_sources(["a"]) == (["a"], [[LineSource("-")]])


def test_a_separator_without_arguments_is_an_empty_source() -> None:
    """A separator without arguments is an empty source, so that a product with it has no combinations."""
    assert [product(":::"), product(":::", "a", ":::"), product(":::", ":::", "a")] == [[], [], []]


@given(st.lists(st.lists(st.sampled_from(["a", "b", ""]), max_size=4), min_size=1, max_size=4))
def test_several_sources_are_combined_into_their_product(sources: list[list[str]]) -> None:
    words = [word for source in sources for word in (":::", *source)]
    assert product(*words) == list(itertools.product(*sources))


@given(st.lists(st.lists(st.sampled_from(["a", "b"]), max_size=4), min_size=3, max_size=3))
def test_linked_sources_are_combined_item_by_item(sources: list[list[str]]) -> None:
    """Linked sources make pairs, as many as the shorter one has items; further sources multiply the pairs."""
    first, second, third = sources
    pairs = list(zip(first, second, strict=False))
    expected = [(*pair, other) for pair in pairs for other in third]
    assert product(":::", *first, ":::+", *second, ":::", *third) == expected


def test_lines_of_files_are_arguments(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1\n2\n")
    two.write_text("a\nb")
    assert product(":::", "x", files=(str(one),)) == [("1", "x"), ("2", "x")]
    assert product("::::", str(one), str(two)) == [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")]
    assert product("::::", str(one), "::::+", str(two)) == [("1", "a"), ("2", "b")]


@given(st.lists(st.binary().map(lambda data: data.replace(b"\n", b"")), max_size=5), st.integers(1, 9), st.booleans())
def test_lines_of_a_source_arrive_unchanged(lines: list[bytes], piece: int, ended: bool) -> None:
    """Lines of a source may contain any bytes, and may be split between reads; an empty line is an empty argument."""
    data = b"".join(line + b"\n" for line in lines)
    ended = ended or not (lines and lines[-1])
    read_end, write_end = os.pipe()
    os.write(write_end, data if ended else data[:-1])
    os.close(write_end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trioflow.batch._sources.READ_SIZE", piece)
        found = product(files=(f"/dev/fd/{read_end}",))
    os.close(read_end)
    assert [os.fsencode(line) for (line,) in found] == lines


def test_lines_of_a_source_may_end_in_nul(tmp_path: Path) -> None:
    """With `-0`, newlines belong to the arguments, and empty arguments count."""
    (tmp_path / "file").write_bytes(b"a\nb\0\0c")
    assert product(files=(str(tmp_path / "file"),), delimiter=b"\0") == [("a\nb",), ("",), ("c",)]


def test_first_source_is_read_on_demand(pipe: tuple[str, int]) -> None:
    path, write_end = pipe
    items = SourceProduct(parse_sources([":::", "x"], (path,))[1]).iter_arguments(blocking=False)
    assert next(items) is None
    os.write(write_end, b"one\ntw")
    assert [next(items), next(items)] == [("one", "x"), None]
    os.write(write_end, b"o\n")
    assert [next(items), next(items)] == [("two", "x"), None]
    os.close(write_end)
    assert list(items) == []


def test_the_number_of_arguments_is_known_unless_a_source_is_unread(tmp_path: Path) -> None:
    """The number of commands is unknown only as long as a pipe or a large file has not been read."""
    (tmp_path / "file").write_text("1\n2\n")
    (tmp_path / "large").write_text("1\n" * 600_000)
    assert SourceProduct([[["a", "b"]], [["c", "d", "e"]]]).total == 6
    known = SourceProduct([[LineSource(str(tmp_path / "file"))], [["c", "d", "e"]]])
    assert (known.total, len(list(known.iter_arguments(blocking=False)))) == (6, 6)
    assert SourceProduct([[LineSource(str(tmp_path / "large"))]]).total is None
    read_end, write_end = os.pipe()
    os.write(write_end, b"1\n2\n")
    os.close(write_end)
    unknown = SourceProduct([[LineSource(f"/dev/fd/{read_end}")]])
    os.close(read_end)
    assert (unknown.total, unknown.count_commands(), unknown.total) == (None, 2, 2)


@given(st.lists(st.text("ab ", min_size=1), max_size=30), st.integers(1, 30), st.integers(1, 4))
def test_lines_are_filled_in_order_up_to_their_size(items: list[str], max_size: int, slots: int) -> None:
    """With -X, commands get all arguments in order, a line is as full as it can be, and the rest goes to all slots."""
    filling = LineFilling(lambda arguments: sum(map(len, arguments)), max_size, slots)
    found = [command or () for command in filling.divide((item,) for item in items)]
    sizes = [sum(map(len, command)) + len(command) for command in found]
    assert [text for command in found for text in command] == items
    assert all(len(command) == 1 or size <= max_size for command, size in zip(found, sizes, strict=True))
    for size, following in zip(sizes[: -slots or None], found[1:], strict=False):
        assert size + len(following[0]) + 1 > max_size


def test_source_that_cannot_be_read_raises(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="cannot read the arguments from '/no/such': No such file or directory"):
        product(files=("/no/such",))
    with pytest.raises(BatchError, match="Is a directory"):
        product(files=(str(tmp_path),))


def test_a_source_that_never_ends_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a device or a pipe, neither a line without an end nor an endless list that comes first is kept."""
    monkeypatch.setattr(_sources.posix, "MAX_STREAM_SIZE", 1 << 18)
    with pytest.raises(BatchError, match=r"'/dev/zero': .* without the end of a line; end each with"):
        product(files=("/dev/zero",))
    for separator in ("::::", "::::+"):
        with pytest.raises(BatchError, match=r"'/dev/zero': .* before the first command starts; end each"):
            product(":::", "a", separator, "/dev/zero", delimiter=b"\0")
    _, groups = parse_sources([], ("/dev/zero",), ReadingRules(delimiter=b"\0"))
    source = SourceProduct(groups)
    beyond = (1 << 18) + 1000
    assert list(itertools.islice(source.iter_arguments(blocking=True), beyond)) == [("",)] * beyond
    source.close()


def test_a_long_line_takes_time_in_proportion_to_its_items() -> None:
    """A line that is filled with 300,000 items is there at once; adding them up in pairs would take minutes."""
    filling = LineFilling(lambda arguments: 2 * len(arguments), 900_000, 1)
    lines = list(filling.divide(("y",) for _ in range(450_000)))
    assert list(map(len, lines)) == [300_000, 150_000]
