"""A table that fits its console: columns of least use are left out, and names get lines of their own, before anything is folded."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from hf_distill.text.plain import plain

_GAP = 2  # columns of the terminal between those of a table with names on lines of their own, and before the first one


@dataclass(frozen=True)
class FittedColumn:
    """A column of a table.

    Attributes:
        heading: The heading.
        cells: The cells, one per row.
        justify: Where the cells are in the column, "left" or "right".
        note: What the caption says of the column. None: nothing.
    """

    heading: str
    cells: Sequence[str]
    justify: Literal["left", "right"] = "right"
    note: str | None = None

    @property
    def wrapped(self) -> str:
        """The heading in lines that are no longer than they must be."""
        widest = max([_width(self.cells), *map(cell_len, self.heading.split())])
        return "\n".join(textwrap.wrap(self.heading, widest, break_on_hyphens=False))


class FittedTable(Table):
    """A table that adapts to the console's width when it is printed.

    Where the console is too narrow, headings are wrapped and the columns of least use are left out, which the caption then
    says. If that is not enough, the first column, with names, becomes lines of its own above the rows.
    """

    def __init__(
        self,
        columns: Sequence[FittedColumn],
        title: str,
        caption: str | None = None,
        least_use: Sequence[int] = (),
        named_by: int = 1,
        separator: str = ", ",
    ) -> None:
        """Make a table.

        Args:
            columns: The columns; the first one has names.
            title: The title.
            caption: The text below. None: none.
            least_use: The indices of the columns that may be left out before names get lines of their own, that of least
                use first.
            named_by: The number of columns, the first ones, that are in the line of a name where it has its own.
            separator: What is between their cells then.
        """
        super().__init__(title=escape(plain(title)))
        self._fitted = [
            replace(each, heading=plain(each.heading), cells=[plain(cell) for cell in each.cells]) for each in columns
        ]
        self._least_use, self._named_by, self._separator, self._said = least_use, named_by, separator, caption
        everything = range(len(columns))
        self.caption = self._caption(everything)
        self._fill(self, [each.heading for each in self._fitted], everything)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render in the width of the console."""
        width, chosen = options.max_width, list(range(len(self._fitted)))
        if self._needed([column.heading for column in self._fitted], chosen) <= width:
            yield from super().__rich_console__(console, options)
            return
        headings = [column.wrapped for column in self._fitted]
        for count in range(len(self._least_use) + 1):
            chosen = [index for index in range(len(self._fitted)) if index not in self._least_use[:count]]
            if self._needed(headings, chosen) <= width:
                yield self._inline(headings, chosen)
                return
        yield from self._stacked(headings, width)

    def _needed(self, headings: Sequence[str], chosen: Iterable[int]) -> int:
        """The width of the table with these columns, with a border and a space on both sides of each column."""
        return 1 + sum(3 + _width([headings[index], *self._fitted[index].cells]) for index in chosen)

    def _inline(self, headings: Sequence[str], chosen: Sequence[int]) -> Table:
        table = Table(title=self.title, caption=self._caption(chosen))
        self._fill(table, headings, chosen)
        return table

    def _fill(self, table: Table, headings: Sequence[str], chosen: Iterable[int]) -> None:
        for index in chosen:
            table.add_column(escape(headings[index]), justify=self._fitted[index].justify, overflow="fold")
        for cells in zip(*(self._fitted[index].cells for index in chosen), strict=True):
            table.add_row(*map(escape, cells))

    def _stacked(self, headings: Sequence[str], width: int) -> RenderResult:
        """The table with names on lines of their own."""
        others = range(self._named_by, len(self._fitted))
        widths = {index: _width([headings[index], *self._fitted[index].cells]) for index in others}
        chosen = list(others)
        for index in dict.fromkeys([*self._least_use, *reversed(others)]):  # at last from the right
            if sum(_GAP + widths[each] for each in chosen) > width and index in chosen and len(chosen) > 1:
                chosen.remove(index)
        naming = zip(*(each.cells for each in self._fitted[: self._named_by]), strict=True)
        names = [_named(cells, self._separator) for cells in naming]
        taken = min(width, max([sum(_GAP + widths[each] for each in chosen), *map(cell_len, names)]))
        yield Text.from_markup(str(self.title), style="table.title")
        yield self._grid([[headings[index] for index in chosen]], chosen, widths, "table.header")
        yield Rule(style="none", characters="─") if taken >= width else Text("─" * taken)
        rows = zip(names, zip(*(self._fitted[index].cells for index in chosen), strict=True), strict=True)
        for name, group in groupby(rows, key=lambda row: row[0]):
            yield Text(name, overflow="fold")
            yield self._grid([cells for _, cells in group], chosen, widths)
        if caption := self._caption([*range(self._named_by), *chosen]):
            yield Text.from_markup(caption, style="table.caption")

    def _grid(
        self, rows: Sequence[Sequence[str]], chosen: Sequence[int], widths: dict[int, int], style: str = ""
    ) -> Padding:
        grid = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
        for index in chosen:
            grid.add_column(justify=self._fitted[index].justify, vertical="bottom", width=widths[index])
        for cells in rows:
            grid.add_row(*map(escape, cells), style=style)
        return Padding(grid, (0, 0, 0, _GAP), expand=False)

    def _caption(self, chosen: Iterable[int]) -> str | None:
        left_out = [column.heading for index, column in enumerate(self._fitted) if index not in chosen]
        missing = f"not shown for want of width: {', '.join(dict.fromkeys(left_out))}" if left_out else None
        parts = [self._said, *(self._fitted[index].note for index in chosen), missing]
        return escape("; ".join(plain(each) for each in parts if each)) or None


def _width(texts: Iterable[str]) -> int:
    return max((cell_len(line) for text in texts for line in text.split("\n")), default=0)


def _named(cells: Sequence[str], separator: str) -> str:
    """The first cell, with what the others say of it: "small, distilled" or "big (teacher)"."""
    first, *others = cells
    return first + "".join(f" {each}" if each.startswith("(") else separator + each for each in others if each)
