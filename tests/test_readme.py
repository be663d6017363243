"""The code in README.md and in the pages, run as it stands, on a few small photographs.

Blocks of one page run one after the other, in one namespace and an empty folder. Only two things are
replaced: the photographs, and the download of ImageNet's weights, by a file of random ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

ROOT = Path(__file__).resolve().parent.parent
SIZE = 150  # of the photographs in all pages
PAGES = {
    "README.md": pytest.mark.thorough,
    "docs/index.md": pytest.mark.slow,
    "docs/getting-started.md": pytest.mark.slow,
    "docs/how-to.md": pytest.mark.slow,
    "docs/data-you-can-trust.md": pytest.mark.slow,
    "docs/features.md": pytest.mark.slow,
    "docs/several-labels-and-numbers.md": pytest.mark.slow,
    "docs/from-the-course-notebook.md": pytest.mark.slow,
}


NETWORKS = {
    "inception_v3": (keras.applications.InceptionV3, SIZE),
    "mobilenet": (keras.applications.MobileNet, 224),
    "efficientnetv2-b0": (keras.applications.EfficientNetV2B0, 224),
}


@pytest.fixture(scope="session")
def weights_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Files like the official ones without the top, of random weights, by the names of those."""
    folder = tmp_path_factory.mktemp("weights")

    def made(official: str) -> Path:
        (name,) = (each for each in NETWORKS if official.startswith(each))
        file = folder / f"{name}_notop.h5"
        if not file.exists():
            make, size = NETWORKS[name]
            make(include_top=False, weights=None, input_shape=(size, size, 3)).save(file)
        return file

    return made


@pytest.fixture
def weights_file(weights_of: Callable[[str], Path]) -> Path:
    return weights_of("inception_v3")


@pytest.fixture
def _no_download(monkeypatch: pytest.MonkeyPatch, weights_of: Callable[[str], Path]) -> None:
    # Keras compares a file in its cache with a checksum, so that putting one there would not do.
    from keras.src.utils import file_utils

    monkeypatch.setattr(file_utils, "get_file", lambda name, *args, **kwargs: str(weights_of(name)))


@pytest.fixture
def _in_a_folder_with_photos(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_photos: Callable[..., Path],
    weights_file: Path,
) -> None:
    for part in ("train", "validation"):
        make_photos(tmp_path / "photos" / part, ("cats", "dogs"), per_class=6)
    (tmp_path / "cat.jpg").write_bytes((tmp_path / "photos/train/cats/cats_0.jpg").read_bytes())
    (tmp_path / weights_file.name).symlink_to(weights_file)
    monkeypatch.chdir(tmp_path)


def data_set(seed: int) -> Any:
    images = np.random.default_rng(seed).integers(0, 256, (4, SIZE, SIZE, 3)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((images, np.arange(4) % 2)).batch(2)


def blocks(page: Path) -> Iterator[tuple[int, str]]:
    """The Python of a page, with the line that each block begins at. What is marked `py` is not run."""
    text = page.read_text("utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text[: match.start(1)].count("\n"), match[1]


@pytest.mark.usefixtures("_no_download", "_in_a_folder_with_photos")
@pytest.mark.parametrize("name", [pytest.param(name, marks=mark) for name, mark in PAGES.items()])
def test_the_code_of_a_page_runs(name: str) -> None:
    page = ROOT / name
    if not page.is_file():
        pytest.skip("the pages lie in the source tree, and this is not run from there")
    namespace: dict[str, Any] = {"train": data_set(0), "validation": data_set(1)}
    found = list(blocks(page))
    assert found
    for line, code in found:
        # As many lines before it as in the page: a traceback then names the page's line.
        exec(compile("\n" * line + code, str(page), "exec"), namespace)


def test_the_links_of_the_readme_lead_somewhere_on_a_package_index_too() -> None:
    page = ROOT / "README.md"
    if not page.is_file() or not (ROOT / "docs").is_dir():
        pytest.skip("the pages lie in the source tree, and this is not run from there")
    targets = re.findall(r"\]\(([^)]+)\)|(?:src|href)=\"([^\"]+)", page.read_text("utf-8"))
    links = [a or b for a, b in targets]
    assert links
    address = re.search(r'^Homepage = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert address is not None
    for link in links:
        assert link.startswith("https://"), link
        if link.startswith(address[1]):
            path = re.sub(rf"^{re.escape(address[1])}/(blob|raw)/main/", "", link).split("#")[0]
            assert (ROOT / path).is_file(), link
