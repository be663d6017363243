"""Findings in images: records, and as text and in a notebook a summary, the first, and how many more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from topwork._tables import Rows, html_lines, html_table, text_table

# Headings, with the text of a finding under each.
Columns = list[tuple[str, Callable[[Any], str]]]

_LISTED = 10


class Finding(Protocol):
    """What there is one or more of."""

    @property
    def record(self) -> dict[str, Any]:
        """As a plain dict."""


Found = TypeVar("Found", bound=Finding)


class Findings(Rows[Found]):
    """What was found, a row each."""

    @property
    def records(self) -> list[dict[str, Any]]:
        """Plain dicts. ``pandas.DataFrame(found.records)`` makes a table of them."""
        return [row.record for row in self.rows]

    def __str__(self) -> str:
        if not self.rows:
            return self._summary()
        return "\n".join([self._summary(), "", *text_table(*self._table()), *self._more()])

    def _repr_html_(self) -> str:
        summary = html_lines(self._summary(), bold=1)
        if not self.rows:
            return summary
        return summary + html_table(*self._table()) + html_lines(*self._more())

    def _summary(self) -> str:
        """What stands above the table."""
        raise NotImplementedError

    def _columns(self, rows: Sequence[Found]) -> Columns:
        """The columns that some rows need."""
        raise NotImplementedError

    def _table(self) -> tuple[list[str], list[list[str]]]:
        shown = self.rows[:_LISTED]
        columns = self._columns(shown)
        return [heading for heading, _ in columns], [[text(row) for _, text in columns] for row in shown]

    def _more(self) -> list[str]:
        rest = len(self.rows) - _LISTED
        return [f"... and {rest:,} more, in .records"] if rest > 0 else []
