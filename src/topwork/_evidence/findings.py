"""Findings in images, as text and in a notebook: a summary, a table of the first, how many more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from topwork._tables import html_lines, html_table, text_table

# Headings, with the text of a finding under each.
Columns = list[tuple[str, Callable[[Any], str]]]

_LISTED = 10


def findings_text(summary: str, rows: Sequence[Any], columns_of: Callable[[Any], Columns]) -> str:
    """As text.

    Args:
        summary: Stands above.
        rows: The findings.
        columns_of: Gives the columns for some of them.
    """
    if not rows:
        return summary
    header, cells = _table(rows, columns_of(rows))
    return "\n".join([summary, "", *text_table(header, cells), *_more(rows)])


def findings_html(summary: str, rows: Sequence[Any], columns_of: Callable[[Any], Columns]) -> str:
    """As HTML, with the arguments of `findings_text`."""
    if not rows:
        return html_lines(summary, bold=1)
    table = html_table(*_table(rows, columns_of(rows[:_LISTED])))
    return html_lines(summary, bold=1) + table + html_lines(*_more(rows))


def _table(rows: Sequence[Any], columns: Columns) -> tuple[list[str], list[list[str]]]:
    header = [heading for heading, _ in columns]
    return header, [[text(row) for _, text in columns] for row in rows[:_LISTED]]


def _more(rows: Sequence[Any]) -> list[str]:
    rest = len(rows) - _LISTED
    return [f"... and {rest:,} more, in .records"] if rest > 0 else []
