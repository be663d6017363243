"""What `find_duplicates` found: pairs of images, as records, a table and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topwork._evidence.findings import Columns, Findings
from topwork._evidence.pictures import Picture
from topwork._figures import picture_grid
from topwork._names import published

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@published
@dataclass(frozen=True, eq=False)
class Copy:
    """One of two images that are the same.

    Attributes:
        part: `"train"` or `"validation"`.
        index: Its place there, counted from 0; of a folder in the order of the paths.
        file: Its path; None where images are no files.
        label: What it is labelled with; None where that is not known.
        image: Something to look at; None but for the first pairs.
    """

    part: str
    index: int
    file: str | None
    label: str | None
    image: Picture | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.part} {self.index}" if self.file is None else self.file


@published
@dataclass(frozen=True, eq=False)
class Duplicate:
    """Two images that are the same; iterates over both.

    Attributes:
        first: The one that comes first.
        second: The other one.
        kind: `"identical"`: byte for byte; `"near"`: compressed, resized, slightly cut, mirrored or
            otherwise changed, or the next shot of the same thing.
        similarity: The correlation of the two as small grey pictures laid over each other, up to 1.
        mirrored: Whether one is the mirror image of the other.
    """

    first: Copy
    second: Copy
    kind: str
    similarity: float
    mirrored: bool

    def __iter__(self) -> Iterator[Copy]:
        return iter((self.first, self.second))

    @property
    def is_across(self) -> bool:
        """Whether one is in the training and one in the validation data."""
        return self.first.part != self.second.part

    @property
    def is_contradiction(self) -> bool:
        """Whether the two are labelled differently."""
        return None not in (self.first.label, self.second.label) and self.first.label != self.second.label

    @property
    def record(self) -> dict[str, Any]:
        """All but the images, as a plain dict."""
        names = ("part", "index", "file", "label")
        copies = {f"{name}_{i}": getattr(copy, name) for i, copy in enumerate(self, 1) for name in names}
        return {**copies, "kind": self.kind, "similarity": self.similarity, "mirrored": self.mirrored}

    def __str__(self) -> str:
        mirrored = ", mirrored" if self.mirrored else ""
        return f"{self.first} and {self.second} ({self.kind}{mirrored})"


@published
@dataclass(frozen=True, eq=False)
class Duplicates(Findings[Duplicate]):
    """Images that are the same; a sequence of `Duplicate`: across data sets first, identical ones first.

    Attributes:
        rows: The pairs. Of many identical images each is in one pair, with the first of them.
        n_images: How many images were looked at, by `"train"` and `"validation"`.
    """

    rows: tuple[Duplicate, ...]
    n_images: dict[str, int]

    @property
    def across(self) -> tuple[Duplicate, ...]:
        """Those with one image in the training and one in the validation data."""
        return tuple(row for row in self.rows if row.is_across)

    @property
    def contradictions(self) -> tuple[Duplicate, ...]:
        """Those that are labelled differently."""
        return tuple(row for row in self.rows if row.is_contradiction)

    def plot(self) -> Figure:
        """Draw the first pairs, side by side.

        Raises:
            ImportError: matplotlib is not installed.
        """
        shown = [copy for row in self.rows for copy in row if _is_shown(row)]
        pictures = [copy.image for copy in shown if copy.image is not None]
        return picture_grid(pictures, list(map(_title, shown)), nothing="no duplicates")

    def _summary(self) -> str:
        images = " + ".join(f"{n:,}" for n in self.n_images.values())
        n_identical = sum(row.kind == "identical" for row in self.rows)
        n_near = len(self.rows) - n_identical
        across = (
            f"; {len(self.across):,} across training and validation" if len(self.n_images) > 1 else ""
        )
        opposed = len(self.contradictions)
        labelled = f"; {opposed:,} labelled differently" if opposed else ""
        return f"{n_identical:,} identical and {n_near:,} near pairs in {images} images{across}{labelled}"

    def _columns(self, rows: Sequence[Duplicate]) -> Columns:
        columns: Columns = [
            ("kind", lambda row: f"{row.kind}, mirrored" if row.mirrored else row.kind),
            ("similarity", lambda row: f"{row.similarity:.3f}"),
            ("one", lambda row: str(row.first)),
            ("other", lambda row: str(row.second)),
        ]
        if any(row.is_contradiction for row in rows):
            columns.append(
                (
                    "labels",
                    lambda row: f"{row.first.label} / {row.second.label}" if row.is_contradiction else "",
                )
            )
        return columns


def _is_shown(row: Duplicate) -> bool:
    return all(copy.image is not None for copy in row)


def _title(copy: Copy) -> str:
    name = f"{copy.part} {copy.index}" if copy.file is None else f"{copy.part}: {Path(copy.file).name}"
    return name if copy.label is None else f"{name}\n{copy.label}"
