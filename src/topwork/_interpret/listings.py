"""Lists of results that a notebook shows as tables: of predictions, and of mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from topwork._names import published
from topwork._tables import html_lines, html_table, text_table

_MOST_ROWS = 50
LISTED = 5


class Record(Protocol):
    """One of a list."""

    def cells(self) -> Mapping[str, str]:
        """Texts for a table, by the heading of their column; all of a list have the same headings."""


Item = TypeVar("Item", bound=Record)


@published
class Predictions(list[Item]):
    """A list of `Prediction`; prints as text, renders in a notebook as a table."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return Predictions(found) if isinstance(index, slice) else found

    def _repr_html_(self) -> str:
        return table_of(self, "no predictions")


@published
class Mistakes(tuple[Item, ...]):
    """A tuple of mistakes, the worst first; prints as text, renders as a table with pictures."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return Mistakes(found) if isinstance(index, slice) else found

    def _repr_html_(self) -> str:
        return table_of(self, "no mistakes")


def report_text(
    summary: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Any],
    heading: str,
    mistakes: Sequence[Record],
    *,
    between: Sequence[str] = (),
) -> str:
    """A report as text.

    Args:
        summary: Its first lines.
        columns: The headings of its table.
        rows: Of the table.
        heading: Stands above the first mistakes.
        mistakes: The worst first.
        between: Lines between the table and the mistakes.
    """
    listed = ["", heading, *(f"  {each}" for each in mistakes[:LISTED])] if mistakes else []
    table = text_table(columns, [row.cells() for row in rows])
    return "\n".join([*summary, "", *table, *between, *listed])


def report_html(
    summary: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Any],
    heading: str,
    mistakes: Sequence[Record],
    *,
    between: str = "",
) -> str:
    """A report as HTML, with the arguments of `report_text`."""
    listed = html_lines(heading) + table_of(mistakes[:LISTED], "") if mistakes else ""
    table = html_table(columns, [row.cells() for row in rows])
    return html_lines(*summary, bold=1) + table + between + listed


def table_of(records: Sequence[Record], nothing: str) -> str:
    """A table of records, the first ones of many."""
    shown = [record.cells() for record in records[:_MOST_ROWS]]
    if not shown:
        return html_lines(nothing)
    rest = len(records) - len(shown)
    table = html_table(list(shown[0]), [list(cells.values()) for cells in shown], height="40em")
    return table + html_lines(f"... and {rest:,} more" if rest else "")
