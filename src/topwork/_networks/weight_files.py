"""What is looked at in a file of weights before anything of it is read."""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import stat
import zipfile
from pathlib import Path
from typing import Any

import h5py

from topwork._errors import InputError, warn
from topwork._private_keras import published_weights

# No stream of zlib unpacks to more, which is what HDF5 and zip compress with.
_MOST_IN_ZLIB = 1032
# All arrays together: weights compress by two at most, pruned ones by ten. A small file may be all zeros.
_MOST_IN_ALL, _ALWAYS = 16, 2**28
_BLOCK_BYTES = 2**20


def check_is_file(path: str | os.PathLike[str]) -> Path:
    """The path, if it is that of a file; opening a pipe would wait for a writer.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: It is something else.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            "load_backbone: weights must be 'imagenet', None or the path of a file. Received: "
            f"{str(path)!r}, and there is no such file ({getattr(error, 'strerror', None) or error})."
        ) from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise InputError(
            f"the weights {str(path)!r} are {kind} and not a file. Pass the path of a "
            ".h5, .weights.h5 or .keras file."
        )
    return Path(path)


def check_sizes(file: Path) -> None:
    """Compare what the arrays say of their sizes with what the file has, before memory is taken.

    Raises:
        ValueError: An array is larger than the file can hold, or lies in another file.
        OSError: It is no HDF5 file.
    """
    size = file.stat().st_size
    if file.suffix != ".keras":
        with h5py.File(file) as archive:
            return _check_group(archive, size)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        for entry in entries:
            _check_size(entry.filename, entry.file_size, entry.compress_size, size, packed=True)
        check_total(sum(entry.file_size for entry in entries), size)
        for entry in entries:
            if entry.filename.endswith(".h5"):
                content = io.BytesIO(archive.read(entry))
                with h5py.File(content) as inner:
                    _check_group(inner, entry.file_size)
    return None


def check_total(wanted: int, size: int) -> None:
    """Raise if what is read of a file of `size` bytes takes unlikely much memory in all."""
    most = max(_MOST_IN_ALL * size, _ALWAYS)
    if wanted > most:
        raise ValueError(
            f"what is in it should have {wanted:,} bytes in all, and of a file of {size:,} at most "
            f"{most:,} are read"
        )


def _check_group(group: h5py.Group, size: int) -> None:
    arrays: list[int] = []

    def check(name: str, each: Any) -> None:
        arrays.append(_check_object(name, each, size))

    check("", group)
    group.visititems(check)
    check_total(sum(arrays), size)


def _check_object(name: str, each: Any, size: int) -> int:
    """How many bytes of memory reading it takes."""
    if isinstance(each, h5py.Group):
        links = {key: each.get(key, getlink=True) for key in each}
        elsewhere = [key for key, link in links.items() if isinstance(link, h5py.ExternalLink)]
        if elsewhere:
            raise ValueError(f"{elsewhere[0]!r} in it lies in another file")
    elif isinstance(each, h5py.Dataset):
        if each.external or each.is_virtual:
            raise ValueError(f"{name!r} in it lies in another file")
        stored, packed = each.id.get_storage_size(), each.id.get_create_plist().get_nfilters() > 0
        wanted = (each.size or 0) * each.dtype.itemsize
        if packed:  # a whole chunk is unpacked for any part of it
            wanted = max(wanted, math.prod(each.chunks or ()) * each.dtype.itemsize)
        _check_size(name, wanted, stored, size, packed=packed)
        return wanted
    return 0


def _check_size(name: str, wanted: int, stored: int, size: int, *, packed: bool) -> None:
    most = min(stored, size) * (_MOST_IN_ZLIB if packed else 1)
    if wanted > most:
        raise ValueError(
            f"{name!r} in it should have {wanted:,} bytes, of which the file, of {size:,}, can hold "
            f"{most:,}"
        )


def warn_if_altered(file: Path) -> None:
    """Say if a file is named like a published one and is not it, byte for byte."""
    name = re.sub(r" ?\(\d+\)$", "", file.stem) + file.suffix  # browsers number what comes twice
    published = published_weights().get(name.lower())
    if published is None:
        return
    found = _digest(file, "sha256" if len(published) == 64 else "md5")
    if found != published:
        warn(
            f"the weights file {str(file)!r} is named like the one that "
            f"keras.applications downloads, and its content differs: its hash is {found}, and the "
            f"published one {published}. If you did not change it, it is damaged: download it again. If "
            "you did, give it another name.",
        )


def _digest(file: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
