"""The one printer of tables."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import topwork
from topwork._tables import HIGHLIGHT, Html, html_lines, html_table, text_table

HEADER = ("name", "count", "share")
ROWS = [("a<b", "1,000", "-"), ("longer", "20", "3.5 %")]


class Cells(HTMLParser):
    """The tags and texts of a page, in balance."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_text() -> None:
    assert text_table(HEADER, ROWS) == [
        "name    count  share",
        "a<b     1,000      -",
        "longer     20  3.5 %",
    ]
    assert text_table(HEADER, []) == ["name  count  share"]


def test_html_has_the_same_cells() -> None:
    page = html_table(HEADER, ROWS)
    assert Cells(page).rows == [list(HEADER), *map(list, ROWS)]
    sides = re.findall("text-align: (right|left)", page)
    assert sides == ["left", "right", "right"] * 3


def test_every_cell_has_room_and_numbers_are_not_broken() -> None:
    page = html_table(HEADER, ROWS, titles={1: "below"})
    cells = re.findall("<t[dh] [^>]*>", page)
    assert len(cells) == 10
    assert all("padding: 0.15em 0.7em; white-space: nowrap" in cell for cell in cells)
    assert "overflow-x: auto" in page


def test_titles_styles_and_heights() -> None:
    page = html_table(HEADER, ROWS, titles={1: "<below>"}, styles={1: HIGHLIGHT}, height="9em")
    assert Cells(page).rows[2] == ["<below>"]
    assert page.count("font-weight: bold") == 1
    assert "max-height: 9em" in page


def test_cells_that_are_html() -> None:
    page = html_table(["picture", "name"], [(Html('<img src="x">'), "<img>")])
    assert '<img src="x">' in page
    assert "&lt;img&gt;" in page


def test_lines() -> None:
    assert html_lines("a&b", "", "c", bold=1) == "<div><b>a&amp;b</b></div><div>c</div>"


def test_nobody_else_prints_tables() -> None:
    makers = [
        path.name
        for path in Path(topwork.__file__).parent.rglob("*.py")
        if re.search(r"<t[dh] |rjust\(", path.read_text("utf-8"))
    ]
    assert makers == ["_tables.py"]
