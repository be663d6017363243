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
import numpy.typing as npt

from topwork._data.channels import in_channels, upright
from topwork._data.headers import Header, gif_frame, kind_of, read_header

Pixels = npt.NDArray[Any]

# Pillow's own bound. With four channels and a copy it is three quarters of a gigabyte.
MOST_PIXELS = 89_478_485
# A JPEG can be decoded to an eighth of its size, without ever being held whole.
_MOST_PIXELS_IN_JPEG = 3 * MOST_PIXELS
_MOST_BYTES = 2**30
# What Pillow is asked to read: not all that it can, for some of its readers start other programs.
_READ_BY_PILLOW = ("TIFF", "AVIF", "HEIF", "JPEG2000", "PSD", "PPM", "TGA", "ICO", "WEBP", "BMP")


class Undecodable(Exception):
    """What is wrong with a file, in words that go on after its name."""


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
            f"is {_article(header.kind)}, and {channels} channels are wanted, which only .npy files have"
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
    return None if kind in _DECODERS or kind == "NumPy array" else _why_pillow_cannot(kind)


def _check_size(header: Header) -> None:
    whole = header.kind != "JPEG" or header.progressive
    most = MOST_PIXELS if whole else _MOST_PIXELS_IN_JPEG
    if header.n_pixels > most:
        raise Undecodable(
            f"says that it has {header.width:,} x {header.height:,} pixels, and at most {most:,} are read"
        )


def _decoded(content: bytes, header: Header, at_least: int) -> Pixels:
    import tensorflow as tf

    decoder = _DECODERS.get(header.kind, _by_pillow)
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
        return _by_pillow(content, header, at_least)
    return tf.io.decode_bmp(content).numpy()[..., :3]  # the fourth byte is padding more often than not


def _webp(content: bytes, header: Header, at_least: int) -> Pixels:
    import tensorflow as tf

    if not hasattr(tf.io, "decode_webp"):  # since TensorFlow 2.20
        return _by_pillow(content, header, at_least)
    return tf.io.decode_image(content, 0, expand_animations=False).numpy()


_DECODERS: dict[str, Any] = {"JPEG": _jpeg, "PNG": _png, "GIF": _gif, "BMP": _bmp, "WebP": _webp}


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


def _by_pillow(content: bytes, header: Header, _: int) -> Pixels:
    reason = _why_pillow_cannot(header.kind)
    if reason:
        raise Undecodable(reason)
    from PIL import Image, UnidentifiedImageError

    Image.init()
    formats = [name for name in _READ_BY_PILLOW if name in Image.OPEN]
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
        if image.width * image.height > MOST_PIXELS:
            raise Undecodable(
                f"says that it has {image.width:,} x {image.height:,} pixels, and at most "
                f"{MOST_PIXELS:,} are read"
            )
        pixels = _pillow_pixels(image)
        # After Pillow has read the pixels: some of its readers turn them themselves.
        turned = 1 if header.kind in _DECODERS else image.getexif().get(0x0112, 1)
    except Undecodable:
        raise
    except UnidentifiedImageError as error:
        what = "is not an image" if header.kind == "not an image" else f"is {_article(header.kind)}"
        raise Undecodable(f"{what} of a kind that Pillow reads, or is damaged") from error
    except Exception as error:  # Pillow's readers raise anything on damaged files
        raise Undecodable(f"cannot be decoded: {error}") from error
    return upright(pixels, turned)


def _pillow_pixels(image: Any) -> Pixels:
    if image.mode.startswith("I;16"):  # Pillow would cut off what is above 255
        grey = (np.asarray(image).astype("uint16") >> 8).astype("uint8")
        return grey[..., np.newaxis]
    if image.mode in ("I", "F"):
        raise Undecodable(
            f"has pixels of {'32-bit integers' if image.mode == 'I' else 'floating point'}, whose range "
            "is not known. Scale them to 0 to 255 yourself and store them as .npy"
        )
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def from_pillow(image: Any, channels: int | None = 3) -> Pixels:
    """The pixels of an image that Pillow has opened, as `decode_file` gives them.

    Raises:
        Undecodable: It is of a kind that has no pixels from 0 to 255, or its file is damaged.
    """
    try:
        pixels = _pillow_pixels(image)
    except OSError as error:
        raise Undecodable(f"cannot be decoded: {error}") from error
    return upright(in_channels(pixels, channels or 3), image.getexif().get(0x0112, 1))


def _why_pillow_cannot(kind: str) -> str | None:
    """Why a file that TensorFlow does not decode cannot be read here, or None."""
    if kind == "web page":
        return "is a web page and no image: its download failed"
    try:
        from PIL import Image
    except ImportError:
        if kind == "not an image":
            return "is not an image of a known kind (JPEG, PNG, WebP, GIF, BMP)"
        return f"is {_article(kind)}, which only Pillow reads: pip install pillow, or make it JPEG or PNG"
    if kind in ("AVIF", "HEIC") and not _pillow_reads(Image, kind):
        plugin = "pillow-heif" if kind == "HEIC" else "a newer pillow"
        return (
            f"is {_article(kind)}, which the Pillow installed does not read: install {plugin}, or make "
            "it JPEG or PNG"
        )
    return None


def _pillow_reads(image_module: Any, kind: str) -> bool:
    image_module.init()
    if kind == "HEIC" and "HEIF" not in image_module.OPEN:
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            return False
        register_heif_opener()
    return kind.replace("HEIC", "HEIF") in image_module.OPEN


def _article(kind: str) -> str:
    return f"an {kind} file" if kind[:1] in "AEH" else f"a {kind} file"
