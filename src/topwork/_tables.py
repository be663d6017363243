"""Results in rows, and the one printer of tables: aligned text, and HTML for a notebook and its page."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, TypeVar

Row = TypeVar("Row")

# Themes differ: without these a table has no space between its columns, and breaks numbers.
_CELL = "padding: 0.15em 0.7em; white-space: nowrap; text-align: {}"
_TABLE = "border-collapse: collapse; width: auto; font-size: 0.85em"
HIGHLIGHT = "font-weight: bold; background: rgba(70, 130, 200, 0.16)"


class Rows(Generic[Row]):
    """What is a sequence of its rows."""

    rows: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]


class Html(str):
    """A cell that is HTML already."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True)
class Columns:
    """How wide the columns of a table are, and which of them hold numbers.

    Attributes:
        header: The heading of each.
        widths: In letters.
        numeric: Whether all of its cells are numbers; those stand to the right.
    """

    header: tuple[str, ...]
    widths: tuple[int, ...]
    numeric: tuple[bool, ...]

    @classmethod
    def of(cls, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Columns:
        columns = list(zip(header, *rows, strict=True))
        widths = tuple(max(map(len, column)) for column in columns)
        numeric = tuple(bool(rows) and all(map(_is_number, column[1:])) for column in columns)
        return cls(tuple(header), widths, numeric)

    def text(self, cells: Sequence[str]) -> str:
        """A row as a line."""
        columns = zip(cells, self.widths, self.numeric, strict=True)
        texts = (cell.rjust(width) if right else cell.ljust(width) for cell, width, right in columns)
        return "  ".join(texts).rstrip()

    def html(self, cells: Sequence[str], *, tag: str = "td", style: str = "") -> str:
        """A row as HTML."""
        sides = ("right" if right else "left" for right in self.numeric)
        texts = (
            f'<{tag} style="{_CELL.format(side)}">{_escaped(cell)}</{tag}>'
            for cell, side in zip(cells, sides, strict=True)
        )
        return f"<tr{_style(style)}>{''.join(texts)}</tr>"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines: the heading, and one for each row."""
    columns = Columns.of(header, rows)
    return [columns.text(cells) for cells in (header, *rows)]


def html_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    styles: Mapping[int, str] | None = None,
    titles: Mapping[int, str] | None = None,
    height: str = "",
) -> str:
    """A table that scrolls where it is too wide.

    Args:
        header: The heading of each column.
        rows: Texts, or `Html`.
        styles: CSS of rows, by their number.
        titles: Lines across the table, by the number of the row that they stand above.
        height: From which on it scrolls up and down, as CSS has it.
    """
    columns, styles, titles = Columns.of(header, rows), styles or {}, titles or {}
    lines = []
    for number, cells in enumerate(rows):
        if number in titles:
            lines.append(_title(titles[number], len(header)))
        lines.append(columns.html(cells, style=styles.get(number, "")))
    head = columns.html(header, tag="th")
    box = f"max-height: {height}; overflow: auto" if height else "overflow-x: auto"
    box += "; margin: 0.3em 0 0.6em"
    return (
        f'<div style="{box}"><table style="{_TABLE}"><thead>{head}</thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def choice_text(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], chosen: int, mark: str, reason: str
) -> str:
    """A table under its title of which one row was chosen, which is marked, and why."""
    head, *lines = text_table(header, rows)
    lines[chosen] += f"  <- {mark}"
    return "\n".join([title, "", head, "─" * len(head), *lines, "", reason])


def choice_html(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], chosen: int, reason: str
) -> str:
    """The same as HTML, the chosen row in bold."""
    table = html_table(header, rows, styles={chosen: HIGHLIGHT})
    return html_lines(title, bold=1) + table + html_lines(reason)


def html_lines(*lines: str, bold: int = 0) -> str:
    """Lines of text, the first `bold` of them in bold; empty ones are left out."""
    shown = [html.escape(line) for line in lines]
    shown = [f"<b>{line}</b>" if number < bold else line for number, line in enumerate(shown)]
    return "".join(f"<div>{line}</div>" for line in shown if line not in ("", "<b></b>"))


def _is_number(cell: str) -> bool:
    cell = re.sub("<[^>]*>", "", cell) if isinstance(cell, Html) else cell
    return cell == "-" or cell.lstrip("-+±")[:1].isdigit()


def _title(text: str, n_columns: int) -> str:
    cell = f'<th colspan="{n_columns}" style="{_CELL.format("left")}">{html.escape(text)}</th>'
    return f'<tr style="border-top: 3px solid currentColor">{cell}</tr>'


def _escaped(cell: str) -> str:
    return cell if isinstance(cell, Html) else html.escape(cell)


def _style(style: str) -> str:
    return f' style="{style}"' if style else ""
