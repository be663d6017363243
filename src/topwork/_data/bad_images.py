"""`find_bad_images`: the files of a folder that cannot be read."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from topwork._data.unreadable import image_files, problem_of
from topwork._errors import public
from topwork._names import published
from topwork._voice import progress, say


@published
@dataclass(frozen=True)
class BadImage:
    """A file that would spoil training.

    Attributes:
        path: The file.
        reason: What is wrong with it.
    """

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@public
def find_bad_images(
    folder: str | os.PathLike[str], *, verbose: bool | int | str = "auto"
) -> list[BadImage]:
    """List the images in a folder that `read_folder` and `predict` cannot read.

    A broken JPEG otherwise stops training in the middle of an epoch. Every file with an image's name is
    decoded just as training would do it, in as many threads as there are processors. Nothing is changed.

    Args:
        folder: A folder; all that lie in it are searched too.
        verbose: As in `topwork.fit`; 0 or False is silent.

    Returns:
        A record with path and reason for each bad file, sorted by path; empty if all are good.

    Raises:
        ValueError: `folder` is not a folder, or holds no image.

    Example:
        >>> import pathlib, tempfile, topwork as tw
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "cat.jpg").write_bytes(b"")
        >>> for bad in tw.data.find_bad_images(folder, verbose=False):
        ...     print(bad.path.name, "-", bad.reason)
        cat.jpg - is empty
    """
    folder = Path(folder)
    paths = image_files(folder)
    bad = []
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress(str(folder), len(paths), "image", verbose) as count,
    ):
        for path, reason in zip(paths, pool.map(_reason, paths), strict=True):
            if reason:
                bad.append(BadImage(path, reason))
            count()
    say(f"{len(bad):,} of {len(paths):,} images in {folder} cannot be read.", verbose)
    return bad


def _reason(path: Path) -> str | None:
    # The number of channels of an array cannot be wrong here: only a model says how many it needs.
    return problem_of(path, None)
