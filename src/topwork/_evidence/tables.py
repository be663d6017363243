"""Records as a table of text, and as one that a notebook shows."""

from __future__ import annotations

import html
from collections.abc import Sequence

Cells = Sequence[Sequence[str]]


def text_table(header: Sequence[str], rows: Cells) -> list[str]:
    """Aligned lines: numbers to the right, all else to the left."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = _numeric(rows, len(header))
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ).rstrip()
        for cells in (header, *rows)
    ]


def html_table(header: Sequence[str], rows: Cells) -> str:
    """The same as HTML."""
    numeric = _numeric(rows, len(header))
    head = _html_row("th", header, numeric)
    body = "".join(_html_row("td", row, numeric) for row in rows)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _html_row(tag: str, cells: Sequence[str], numeric: Sequence[bool]) -> str:
    sides = ["right" if right else "left" for right in numeric]
    texts = [
        f'<{tag} style="text-align: {side}; padding: 0.1em 0.6em">{html.escape(cell)}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    ]
    return f"<tr>{''.join(texts)}</tr>"


def _numeric(rows: Cells, n_columns: int) -> list[bool]:
    return [all(row[i][:1].isdigit() or row[i][:1] in "-" for row in rows) for i in range(n_columns)]
