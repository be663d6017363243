"""What `suspects` found: labels that are probably wrong, as records, a table and a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from topwork._evidence.pictures import Picture
from topwork._figures import picture_grid
from topwork._names import published
from topwork._tables import html_lines, html_table, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LISTED = 10


@published
@dataclass(frozen=True, eq=False)
class Suspect:
    """A label that is probably wrong.

    Attributes:
        index: The place of the image in the data, counted from 0.
        file: Its path, where that is known; else None.
        given: The label that it has: a name, or a number.
        suggested: The one that it probably should have.
        doubt: What suspects are ranked by. Of classes and labels the logarithm of how much likelier the
            suggested one is; of numbers how many usual deviations lie between the two.
        probability: Of the given label; None for numbers.
        name: Of several numbers an image, which one; else None.
        image: The pixels, as the model receives them; None but for the first 16.
    """

    index: int
    file: str | None
    given: str | float
    suggested: str | float
    doubt: float
    probability: float | None
    name: str | None = None
    image: Picture | None = None

    @property
    def record(self) -> dict[str, Any]:
        """All but the image, as a plain dict."""
        names = ("index", "file", "given", "suggested", "doubt", "probability", "name")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        return f"image {self.index}: {_text(self.given)}, probably {_text(self.suggested)}"


@published
@dataclass(frozen=True, eq=False)
class Suspects:
    """Labels that are probably wrong, the most suspicious first; a sequence of `Suspect`.

    Attributes:
        rows: The suspects.
        task: `"classes"`, `"labels"` (several an image) or `"numbers"`.
        n_labels: How many labels were looked at.
        n_suspects: How many of them contradict the probe.
        n_likely: About how many are wrong, by confident learning; usually fewer.
        agreement: The fraction of labels that the probe agrees with, about images that it has not
            seen; of numbers, R squared. Where it is low, suspects are images that are hard rather than
            labels that are wrong.
    """

    rows: tuple[Suspect, ...]
    task: str
    n_labels: int
    n_suspects: int
    n_likely: int
    agreement: float

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Suspect]:
        return iter(self.rows)

    def __getitem__(self, place: int) -> Suspect:
        return self.rows[place]

    @property
    def records(self) -> list[dict[str, Any]]:
        """Plain dicts. ``pandas.DataFrame(found.records)`` makes a table of them."""
        return [row.record for row in self.rows]

    def plot(self) -> Figure:
        """Draw the most suspicious images, with the label they have and the one suggested.

        Raises:
            ImportError: matplotlib is not installed.
        """
        shown = [row for row in self.rows if row.image is not None]
        titles = [f"{row.index}: {_text(row.given)}\n→ {_text(row.suggested)}?" for row in shown]
        pictures = [row.image for row in shown if row.image is not None]
        return picture_grid("plot()", pictures, titles, nothing="no suspects")

    def __str__(self) -> str:
        if not self.rows:
            return self._summary()
        lines = text_table(_header(self.rows), [_cells(row, self.rows) for row in self.rows[:_LISTED]])
        rest = len(self.rows) - _LISTED
        more = [f"... and {rest:,} more, in .records"] if rest > 0 else []
        return "\n".join([self._summary(), "", *lines, *more])

    def _repr_html_(self) -> str:
        shown = self.rows[:_LISTED]
        table = html_table(_header(shown), [_cells(row, shown) for row in shown]) if shown else ""
        rest = len(self.rows) - len(shown)
        more = f"... and {rest:,} more, in .records" if rest else ""
        return html_lines(self._summary(), bold=1) + table + html_lines(more)

    def _summary(self) -> str:
        if self.task == "numbers":
            return (
                f"{self.n_suspects:,} of {self.n_labels:,} numbers are far from what the probe expects "
                f"(R² {self.agreement:.2f} on images that it has not seen)"
            )
        return (
            f"{self.n_suspects:,} of {self.n_labels:,} labels contradict the probe, which agrees with "
            f"{self.agreement:.1%} about images that it has not seen; about {self.n_likely:,} are "
            "probably wrong"
        )


def _text(label: str | float) -> str:
    return label if isinstance(label, str) else f"{label:.4g}"


def _columns(rows: Sequence[Suspect]) -> list[tuple[str, Callable[[Suspect], str]]]:
    """Headings with the text of each; what no row has is left out."""
    is_number = rows[0].probability is None
    columns: list[tuple[str, Callable[[Suspect], str]]] = [
        ("image", lambda row: str(row.index)),
        ("given", lambda row: _text(row.given)),
        ("suggested", lambda row: _text(row.suggested)),
        (
            "deviations" if is_number else "probability",
            lambda row: f"{row.doubt:.1f}" if is_number else f"{row.probability:.3f}",
        ),
    ]
    if any(row.name is not None for row in rows):
        columns.insert(1, ("number", lambda row: row.name or "-"))
    if any(row.file is not None for row in rows):
        columns.append(("file", lambda row: row.file or "-"))
    return columns


def _header(rows: Sequence[Suspect]) -> list[str]:
    return [heading for heading, _ in _columns(rows)]


def _cells(row: Suspect, rows: Sequence[Suspect]) -> list[str]:
    return [text(row) for _, text in _columns(rows)]
