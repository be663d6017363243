"""What has the name of an image and is none, or cannot be read: said by name, never waited for."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

import topwork as tw


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    keras.utils.save_img(path, np.full((9, 9, 3), 200.0))
    return path


@pytest.fixture(scope="module")
def model() -> keras.Model:
    zeros = keras.layers.Dense(2, "softmax", kernel_initializer="zeros")
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), zeros])


def a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


ODDITIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "is no regular file"),
    "a socket": (a_socket, "is no regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
    "a loop": (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "cannot be read: No such file"),
    # Regular files by their kind, which have a page in memory and no end, or wait for the system.
    "made up by the system": (lambda path: path.symlink_to("/proc/self/mem"), "is empty"),
    "empty": (Path.touch, "is empty"),
    "sparse": (sparse, "is 1,099,511,627,776 bytes large, and at most"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="makes pipes, sockets and links")
@pytest.mark.parametrize("kind", ODDITIES)
def test_odd_files_are_named(kind: str, tmp_path: Path, model: keras.Model) -> None:
    make, reason = ODDITIES[kind]
    image(tmp_path / "cat" / "1.png"), image(tmp_path / "dog" / "1.png")
    odd = tmp_path / "cat" / "odd.png"
    make(odd)
    (bad,) = tw.data.find_bad_images(tmp_path, verbose=False)
    assert bad.path == odd
    assert bad.reason.startswith(reason)
    with pytest.raises(ValueError, match=rf"1 of 3 files cannot be read: '{odd}' {reason}"):
        tw.data.read_folder(tmp_path, (8, 8))
    with pytest.warns(UserWarning, match=rf"left out 1 of 3 files: '{odd}' {reason}"):
        data = tw.data.read_folder(tmp_path, (8, 8), skip_bad=True)
    assert len(data.file_paths) == 2
    for images in (odd, tmp_path, [odd]):
        with pytest.raises(ValueError, match=rf"predict: the image '{odd}' cannot be read: it {reason}"):
            tw.predict(model, images)


def test_a_folder_with_an_images_name_is_a_folder(tmp_path: Path, model: keras.Model) -> None:
    image(tmp_path / "cat" / "1.png"), image(tmp_path / "dog" / "1.png")
    image(tmp_path / "cat" / "odd.png" / "inside.png")
    assert tw.data.find_bad_images(tmp_path, verbose=False) == []
    assert len(tw.data.read_folder(tmp_path, (8, 8)).file_paths) == 3
    assert len(tw.predict(model, tmp_path)) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_that_are_no_text(tmp_path: Path, model: keras.Model) -> None:
    image(tmp_path / "cat" / "1.png")
    image(tmp_path / "dog" / "1.png").rename(os.fsdecode(bytes(tmp_path) + b"/dog/\xff\n'.png"))
    assert sum(len(images) for images, _ in tw.data.read_folder(tmp_path, (8, 8))) == 2
    assert tw.data.find_bad_images(tmp_path, verbose=False) == []
    assert len(tw.predict(model, tmp_path)) == 2


@pytest.mark.parametrize("name", ["a" * 5000 + ".png", "a\0.png"])
def test_names_that_no_file_can_have(name: str, model: keras.Model) -> None:
    with pytest.raises(ValueError, match="predict: there is no file"):
        tw.predict(model, name)
    with pytest.raises(ValueError, match=r"read_folder: there is no folder.* does not exist"):
        tw.data.read_folder(name, (8, 8))
    with pytest.raises(ValueError, match=r"find_bad_images: there is no such folder.* does not exist"):
        tw.data.find_bad_images(name)
    with pytest.raises(ValueError, match=r"read_folder: (there is no file|.* cannot be read)"):
        tw.data.read_folder({"path": [name, "b.png"], "label": ["a", "b"]}, (8, 8))


@pytest.mark.parametrize("content", [b"path,label\n\xff\xfe,a\n", b"path,label\n" + b"x" * 200_000])
def test_a_table_that_is_no_text(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"read_folder: '.*table.csv' cannot be read: .*a CSV file in UTF-8"
    ):
        tw.data.read_folder(tmp_path / "table.csv", (8, 8))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may look into."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    for each in folder.rglob("deep"):
        each.chmod(0o755)
    shutil.rmtree(folder)


def as_somebody_else(code: str, folder: Path) -> str:
    """What `code` prints, run by a user who may not read everything."""
    start = """
        import concurrent.futures.thread, os, sys, warnings
        import keras, numpy as np, topwork as tw
        warm, folder = sys.argv[1:]
        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
        # Imports what is needed, as long as that may be read.
        [images for images, _ in tw.data.read_folder(warm, (8, 8), skip_bad=True)]
        tw.data.find_bad_images(warm, verbose=False)
        if os.geteuid() == 0:
            os.seteuid(65534)
        def said(function):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    result = function()
                except Exception as error:
                    result = f"{type(error).__name__}: {error}"
            return [*(str(each.message) for each in caught), str(result)]
    """
    command = [sys.executable, "-c", textwrap.dedent(start) + textwrap.dedent(code)]
    command += [str(folder / "warm"), str(folder / "own")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    return done.stdout


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="another user")
def test_what_may_not_be_read_is_said(open_folder: Path) -> None:
    for name in ("warm", "own"):
        image(open_folder / name / "cat" / "1.png"), image(open_folder / name / "dog" / "1.png")
    image(open_folder / "own" / "cat" / "odd.png").chmod(0)
    image(open_folder / "own" / "dog" / "deep" / "2.png").parent.chmod(0)
    printed = as_somebody_else(
        """
        print(said(lambda: [each.reason for each in tw.data.find_bad_images(folder, verbose=False)]))
        print(said(lambda: tw.data.read_folder(folder, (8, 8))))
        print(said(lambda: len(tw.data.read_folder(folder, (8, 8), skip_bad=True).file_paths)))
        print(said(lambda: tw.data.read_folder(folder + "/dog/deep", (8, 8))))
        print(said(lambda: tw.data.find_bad_images(folder + "/dog/deep")))
        """,
        open_folder,
    )
    found, read, skipped, as_top, find_top = printed.splitlines()[-5:]
    left_out = f"cannot look into the folder '{open_folder}/own/dog/deep' (Permission denied): the images"
    assert all(left_out in each for each in (found, read, skipped, find_top))
    assert "['cannot be read: Permission denied']" in found
    assert "read_folder: 1 of 3 files cannot be read" in read
    assert "left out 1 of 3 files" in skipped
    assert skipped.endswith("'2']")
    assert (
        f"ValueError: read_folder: '{open_folder}/own/dog/deep' cannot be read: Permission denied"
        in as_top
    )
