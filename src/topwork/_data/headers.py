"""What the first bytes of an image file say: its kind, its size and how the camera was held.

A file may claim any size in a few bytes, so that it is looked at before anything is allocated for it.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from typing import Any

# These TensorFlow decodes, and their headers say how the camera was held.
COMMON_KINDS = ("JPEG", "PNG", "GIF", "BMP", "WebP")
# Pillow's own bound. With four channels and a copy it is three quarters of a gigabyte.
MOST_PIXELS = 89_478_485
_SIGNATURES = {
    "JPEG": b"\xff\xd8\xff",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "GIF": b"GIF8",
    "BMP": b"BM",
    "TIFF": b"II*\x00",
    "TIFF (big-endian)": b"MM\x00*",
    "NumPy array": b"\x93NUMPY",
    "web page": b"<",
}
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101
# Frame headers of JPEG, which carry the size: SOF0 to SOF15 without DHT, JPG and DAC.
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


class Undecodable(Exception):
    """What is wrong with a file, in words that go on after its name."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What is known of an image before it is decoded.

    Attributes:
        kind: `"JPEG"`, `"PNG"` and so on; `"not an image"` if its first bytes are of no known kind.
        width: In pixels, as stored; None if the kind does not say it in a simple way.
        height: Likewise.
        orientation: EXIF's, 1 to 8; 1 is upright. Of kinds that Pillow reads it is Pillow's to know.
        transparent: Whether there may be transparency.
        progressive: Whether a JPEG comes in several passes, which decoding keeps all in memory.
    """

    kind: str
    width: int | None = None
    height: int | None = None
    orientation: int = 1
    transparent: bool = False
    progressive: bool = False

    @property
    def n_pixels(self) -> int:
        return (self.width or 0) * (self.height or 0)


def read_header(content: bytes) -> Header:
    """The header of an image; what is damaged in it is left out, decoding finds it."""
    kind = kind_of(content)
    reader = _READERS.get(kind)
    if reader is None:
        return Header(kind)
    try:
        return Header(kind, **reader(content))
    except (struct.error, IndexError, ValueError):
        return Header(kind)


def kind_of(content: bytes) -> str:
    """The kind of image that begins with these bytes."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    if content[4:8] == b"ftyp":
        return "AVIF" if content[8:12] in (b"avif", b"avis") else "HEIC"
    matches = (kind for kind, start in _SIGNATURES.items() if content.startswith(start))
    return next(matches, "not an image").partition(" (big")[0]


def _jpeg(content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for marker, body in _jpeg_segments(content):
        if marker == 0xE1 and body[:6] == b"Exif\x00\x00" and "orientation" not in found:
            found["orientation"] = _orientation(body[6:])
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", body[1:5])
            return {**found, "width": width, "height": height, "progressive": marker in _JPEG_PROGRESSIVE}
    return found


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = 2
    while at + 4 <= len(content):
        if content[at] != 0xFF:  # stray bytes between segments, which decoders pass over
            at = content.find(b"\xff", at)
            if at < 0:
                return
            continue
        marker = content[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _JPEG_WITHOUT_LENGTH or marker == 0:
            at += 2
        else:
            length = int.from_bytes(content[at + 2 : at + 4], "big")
            yield marker, content[at + 4 : at + 2 + length]
            at += 2 + length


def _png(content: bytes) -> dict[str, Any]:
    if content[12:16] != b"IHDR":
        raise struct.error("a PNG begins with its header")
    width, height, _, color_type = struct.unpack(">IIBB", content[16:26])
    found: dict[str, Any] = {"width": width, "height": height, "transparent": color_type in (4, 6)}
    at = 8
    while at + 8 <= len(content):
        length, name = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if name == b"tRNS":
            found["transparent"] = True
        elif name == b"eXIf":
            found["orientation"] = _orientation(content[at + 8 : at + 8 + length])
        at += 12 + length
    return found


def _gif(content: bytes) -> dict[str, Any]:
    width, height = struct.unpack("<HH", content[6:10])
    _, frame = gif_frame(content)
    # A frame may be larger than the size that the file gives for the whole.
    if frame is not None:
        sizes = struct.unpack("<HH", content[frame + 5 : frame + 9])
        width, height = max(width, sizes[0]), max(height, sizes[1])
    return {"width": width, "height": height}


def gif_frame(content: bytes) -> tuple[int | None, int | None]:
    """Where the flags of transparency are, three bytes before its colour's number, and the first frame.

    None where a GIF has no transparency, or no frame.
    """
    flags = content[10]
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    transparent = None
    while at + 8 < len(content) and content[at] == 0x21:  # extensions before the frame
        if content[at + 1] == 0xF9 and content[at + 3] & 1:
            transparent = at + 3
        at += 2
        while at < len(content) and content[at]:
            at += 1 + content[at]
        at += 1
    return transparent, at if at + 9 < len(content) and content[at] == 0x2C else None


def _bmp(content: bytes) -> dict[str, Any]:
    width, height = struct.unpack("<ii", content[18:26])
    return {"width": abs(width), "height": abs(height)}


def _webp(content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    at = 12
    while at + 8 <= len(content):
        name, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        body = content[at + 8 : at + 8 + min(length, 2**20)]
        if name == b"VP8X":
            size = [1 + int.from_bytes(body[i : i + 3], "little") for i in (4, 7)]
            found = {"width": size[0], "height": size[1], **found}
        elif name == b"VP8 " and "width" not in found:
            width, height = struct.unpack("<HH", body[6:10])
            found |= {"width": width & 0x3FFF, "height": height & 0x3FFF}
        elif name == b"VP8L" and "width" not in found:
            bits = int.from_bytes(body[1:5], "little")
            found |= {"width": (bits & 0x3FFF) + 1, "height": (bits >> 14 & 0x3FFF) + 1}
        elif name == b"EXIF":
            found["orientation"] = _orientation(body.removeprefix(b"Exif\x00\x00"))
        at += 8 + length + length % 2
    return {**found, "transparent": True}


def _tiff(content: bytes) -> dict[str, Any]:
    tags = _tags(content)
    return {"width": tags.get(_WIDTH), "height": tags.get(_HEIGHT), "transparent": True}


def _orientation(exif: bytes) -> int:
    """Damaged EXIF data is common, and no reason not to show a photograph: it is taken as upright."""
    try:
        return _upright_or(_tags(exif).get(_ORIENTATION))
    except (struct.error, IndexError, ValueError):
        return 1


def _upright_or(value: int | None) -> int:
    return value if value is not None and 1 <= value <= 8 else 1


def _tags(data: bytes) -> dict[int, int]:
    """The whole numbers in the first directory of a TIFF structure, which EXIF data is too."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise struct.error("no TIFF structure")
    (start,) = struct.unpack(f"{order}I", data[4:8])
    (count,) = struct.unpack(f"{order}H", data[start : start + 2])
    tags = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, n = struct.unpack(f"{order}HHI", data[at : at + 8])
        if n == 1 and kind in (3, 4):
            tags[tag] = struct.unpack(
                order + "HI"[kind - 3], data[at + 8 : at + (10 if kind == 3 else 12)]
            )[0]
    return tags


_READERS = {"JPEG": _jpeg, "PNG": _png, "GIF": _gif, "BMP": _bmp, "WebP": _webp, "TIFF": _tiff}
