"""Tables as aligned lines."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from ._symbols import width


def aligned(rows: Sequence[Sequence[str]], to_the_left: Collection[int]) -> Iterator[str]:
    """Yield a line for each row, its cells as wide as the widest of their column.

    Args:
        rows: the titles and the cells, as many in each row; all their characters are printable.
        to_the_left: the columns whose cells begin at the left; those of the others end at the right.

    """
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells: list[str] = []
        for place, (cell, columns) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (columns - width(cell))
            cells.append(cell + blanks if place in to_the_left else blanks + cell)
        yield "  ".join(cells).rstrip()
