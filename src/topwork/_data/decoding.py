"""From the bytes of an image file to pixels: one decoder for everything that reads photographs.

The common kinds are decoded by TensorFlow, wherever that is possible, and not by what else happens to be
installed: a photograph has the same pixels on every machine. Pillow reads the others.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np

from topwork._data.by_pillow import article, by_pillow, why_pillow_cannot
from topwork._data.channels import Pixels, in_channels, upright
from topwork._data.headers import (
    COMMON_KINDS,
    MOST_PIXELS,
    Header,
    Undecodable,
    gif_frame,
    kind_of,
    read_header,
)

# A JPEG can be decoded to an eighth of its size, without ever being held whole.
_MOST_PIXELS_IN_JPEG = 3 * MOST_PIXELS
_MOST_BYTES = 2**30


def decode_file(path: str | os.PathLike[str], channels: int | None = 3, at_least: int = 0) -> Pixels:
    """The pixels of a file, upright: (height, width, channels), uint8, or as a `.npy` file has them.

    Args:
        path: A file of any kind that photographs come in, or `.npy`.
        channels: 1 is grey, 3 RGB, 4 with transparency; None: 3. Other numbers only `.npy` has.
        at_least: A large JPEG is decoded to half, a quarter or an eighth of its size, as long as its
            shorter side keeps so many pixels. 0: never.

    Raises:
        Undecodable: The file cannot be read, is damaged, or is of a kind that cannot be decoded.
    """
    content = read_bytes(path)
    header = read_header(content)
    _check_size(header)
    if header.kind == "NumPy array":
        return _from_numpy(content, channels)
    if channels not in (None, 1, 3, 4):
        raise Undecodable(
            f"is {article(header.kind)}, and {channels} channels are wanted, which only .npy files have"
        )
    pixels = _decoded(content, header, at_least)
    return upright(in_channels(pixels, channels or 3), header.orientation)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a regular file of reasonable size: a pipe would be waited for, without end."""
    try:
        path = Path(path)
        status = path.stat()
        _check_status(status)
        with path.open("rb") as file:
            content = file.read(status.st_size)  # and no more: that much is allocated
    except (OSError, ValueError) as error:  # of a path that has a zero in it
        raise Undecodable(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not content:
        raise Undecodable("is empty")
    return content


def _check_status(status: os.stat_result) -> None:
    """Raise for what should not even be opened."""
    if not stat.S_ISREG(status.st_mode):
        raise Undecodable("is a folder" if stat.S_ISDIR(status.st_mode) else "is no regular file")
    # A pipe or a file of the system reports 0 bytes too, and reading it may wait without end.
    if status.st_size == 0:
        raise Undecodable("is empty")
    if status.st_size > _MOST_BYTES:
        raise Undecodable(f"is {status.st_size:,} bytes large, and at most {_MOST_BYTES:,} are read")


def first_look(path: Path) -> str | None:
    """What is wrong with a file as far as its first bytes tell, or None."""
    try:
        _check_status(path.stat())
        with path.open("rb") as file:
            kind = kind_of(file.read(32))
    except Undecodable as problem:
        return str(problem)
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return None if kind in (*COMMON_KINDS, "NumPy array") else why_pillow_cannot(kind)


def _check_size(header: Header) -> None:
    whole = header.kind != "JPEG" or header.progressive
    most = MOST_PIXELS if whole else _MOST_PIXELS_IN_JPEG
    if header.n_pixels > most:
        raise Undecodable(
            f"says that it has {header.width:,} x {header.height:,} pixels, and at most {most:,} are read"
        )


def _decoded(content: bytes, header: Header, at_least: int) -> Pixels:
    import tensorflow as tf

    decoder = _DECODERS.get(header.kind, by_pillow)
    try:
        return decoder(content, header, at_least)
    except tf.errors.InvalidArgumentError as error:
        cause = error.message.partition("} ")[2] or error.message
        cause = cause.partition(" [Op:")[0].strip().rstrip(".")
        raise Undecodable(f"cannot be decoded (truncated or damaged): {cause}") from error


def _jpeg(content: bytes, header: Header, at_least: int) -> Pixels:
    import tensorflow as tf

    side = min(header.width or 0, header.height or 0)
    ratio = next((r for r in (8, 4, 2) if at_least and side // r >= at_least), 1)
    if header.n_pixels // ratio**2 > MOST_PIXELS:
        ratio = 2
    # The accurate transform is what Pillow, browsers and libjpeg itself use.
    return tf.io.decode_jpeg(content, 3, ratio=ratio, dct_method="INTEGER_ACCURATE").numpy()


def _png(content: bytes, header: Header, _: int) -> Pixels:
    import tensorflow as tf

    return tf.io.decode_png(content, 4 if header.transparent else 3).numpy()


def _gif(content: bytes, header: Header, _: int) -> Pixels:
    import tensorflow as tf

    return tf.io.decode_image(_on_white(content), 3, expand_animations=False).numpy()


def _on_white(gif: bytes) -> bytes:
    """The file with white in place of what is transparent in its first frame."""
    flags, frame = gif_frame(gif)
    if flags is None or frame is None:
        return gif
    has_own_colors = gif[frame + 9] & 0x80
    place = (frame + 10 if has_own_colors else 13) + 3 * gif[flags + 3]
    opaque = bytearray(gif)
    opaque[flags] &= 0xFE
    opaque[place : place + 3] = b"\xff\xff\xff"
    return bytes(opaque)


def _bmp(content: bytes, header: Header, at_least: int) -> Pixels:
    import tensorflow as tf

    bits, compression = int.from_bytes(content[28:30], "little"), int.from_bytes(content[30:34], "little")
    if bits not in (24, 32) or compression not in (0, 3):  # TensorFlow takes palettes for shades of grey
        return by_pillow(content, header, at_least)
    return tf.io.decode_bmp(content).numpy()[..., :3]  # the fourth byte is padding more often than not


def _webp(content: bytes, header: Header, at_least: int) -> Pixels:
    import tensorflow as tf

    if not hasattr(tf.io, "decode_webp"):  # since TensorFlow 2.20
        return by_pillow(content, header, at_least)
    return tf.io.decode_image(content, 0, expand_animations=False).numpy()


_DECODERS: dict[str, Any] = dict(zip(COMMON_KINDS, (_jpeg, _png, _gif, _bmp, _webp), strict=True))


def _from_numpy(content: bytes, channels: int | None) -> Pixels:
    try:
        pixels = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise Undecodable(f"cannot be decoded (truncated or damaged): {error}") from error
    if getattr(pixels, "ndim", 0) == 2:
        pixels = pixels[..., np.newaxis]
    if getattr(pixels, "ndim", 0) != 3 or pixels.shape[-1] != (channels or pixels.shape[-1]):
        raise Undecodable(
            f"is an array of shape {getattr(pixels, 'shape', None)}, and (height, width, "
            f"{channels or 'channels'}) is read"
        )
    if pixels.dtype.kind not in "uif":
        raise Undecodable(f"is an array of {pixels.dtype}, and numbers are read")
    return pixels if pixels.dtype == np.uint8 else pixels.astype("float32")
