"""What `suspects` found: labels that are probably wrong, as records, a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from topwork._evidence.findings import Columns, Findings
from topwork._evidence.pictures import Picture
from topwork._figures import picture_grid
from topwork._names import published

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    image: Picture | None = field(default=None, repr=False)

    @property
    def record(self) -> dict[str, Any]:
        """All but the image, as a plain dict."""
        names = ("index", "file", "given", "suggested", "doubt", "probability", "name")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        return f"image {self.index}: {_text(self.given)}, probably {_text(self.suggested)}"


@published
@dataclass(frozen=True, eq=False)
class Suspects(Findings[Suspect]):
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

    def plot(self) -> Figure:
        """Draw the most suspicious images, with the label they have and the one suggested.

        Raises:
            ImportError: matplotlib is not installed.
        """
        shown = [row for row in self.rows if row.image is not None]
        titles = [f"{row.index}: {_text(row.given)}\n→ {_text(row.suggested)}?" for row in shown]
        pictures = [row.image for row in shown if row.image is not None]
        return picture_grid(pictures, titles, nothing="no suspects")

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

    def _columns(self, rows: Sequence[Suspect]) -> Columns:
        """Headings with the text of each; what no row has is left out."""
        is_number = rows[0].probability is None
        columns: Columns = [
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


def _text(label: str | float) -> str:
    return label if isinstance(label, str) else f"{label:.4g}"
