"""Pixels of what Pillow reads, where it is installed: files of less common kinds, and its own images."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from topwork._data.channels import Pixels, in_channels, upright
from topwork._data.headers import COMMON_KINDS, MOST_PIXELS, Header, Undecodable

# What Pillow is asked to read: not all that it can, for some of its readers start other programs.
_READ_BY_PILLOW = ("TIFF", "AVIF", "HEIF", "JPEG2000", "PSD", "PPM", "TGA", "ICO", "WEBP", "BMP")


def by_pillow(content: bytes, header: Header, _: int) -> Pixels:
    """The pixels of a file, upright where its header does not say how it lies.

    Raises:
        Undecodable: Pillow is not there, or cannot read it.
    """
    reason = why_pillow_cannot(header.kind)
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
        turned = 1 if header.kind in COMMON_KINDS else image.getexif().get(0x0112, 1)
    except Undecodable:
        raise
    except UnidentifiedImageError as error:
        what = "is not an image" if header.kind == "not an image" else f"is {article(header.kind)}"
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


def why_pillow_cannot(kind: str) -> str | None:
    """Why a file that TensorFlow does not decode cannot be read here, or None."""
    if kind == "web page":
        return "is a web page and no image: its download failed"
    try:
        from PIL import Image
    except ImportError:
        if kind == "not an image":
            return "is not an image of a known kind (JPEG, PNG, WebP, GIF, BMP)"
        return f"is {article(kind)}, which only Pillow reads: pip install pillow, or make it JPEG or PNG"
    if kind in ("AVIF", "HEIC") and not _pillow_reads(Image, kind):
        plugin = "pillow-heif" if kind == "HEIC" else "a newer pillow"
        return (
            f"is {article(kind)}, which the Pillow installed does not read: install {plugin}, or make "
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


def article(kind: str) -> str:
    """What a file is, for a message: "an AVIF file"."""
    return f"an {kind} file" if kind[:1] in "AEH" else f"a {kind} file"
