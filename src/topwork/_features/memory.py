"""How much memory this process can still take: the system's count, and every limit set on it."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# Features may take this part of the memory that is free. The rest is for the data pipeline, for
# training, and for other programs.
_FRACTION = 0.5

_PROC = Path("/proc")
_IN_MEMORY = {"tmpfs", "ramfs"}
# Of each version of control groups: its limits, what is used, and, in memory.stat, what of it the
# system gives back when asked: pages of files that were read long ago.
_CONTROL_GROUPS = {
    "cgroup2": (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    "cgroup": (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}


def memory_for_features() -> float:
    """Bytes of memory that features may take now."""
    return _FRACTION * available_memory()


def available_memory() -> int:
    """Bytes of memory that this process can still take.

    The least of what the system has left and what is left of each limit that it knows of: those of
    the process (`ulimit -v`, `ulimit -d`) and those of its control group and all groups above.
    """
    system = _windows_available() if sys.platform == "win32" else _linux_available()
    found = [_physical_memory() // 2 if system is None else system]
    return max(0, min([*found, *_process_limits_left(), *_control_groups_left()]))


def _linux_available() -> int | None:
    return _kilobytes(_PROC / "meminfo").get("MemAvailable")


def _kilobytes(path: Path) -> dict[str, int]:
    """The fields of a file of lines like `VmSize:  3760 kB`, in bytes; none where it is not there."""
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if row[2:] == ["kB"]}


def _process_limits_left() -> list[int]:
    """What is left of the limits that are set with `ulimit`, where the system tells what is used."""
    try:
        import resource
    except ImportError:  # Windows has none
        return []
    used = _kilobytes(_PROC / "self" / "status")
    kinds = {"VmSize": resource.RLIMIT_AS, "VmData": resource.RLIMIT_DATA}
    limits = {name: resource.getrlimit(kind)[0] for name, kind in kinds.items()}
    return [
        limit - used[name]
        for name, limit in limits.items()
        if limit != resource.RLIM_INFINITY and name in used
    ]


def takes_memory(folder: Path) -> bool:
    """Whether what is written into `folder` is kept in memory, as in the `/tmp` of many a Linux."""
    try:
        mounts = (_PROC / "self" / "mountinfo").read_text().splitlines()
        place = folder.resolve()
    except OSError:
        return False
    found = [
        (len(point.parts), kind)
        for _, point, kind, _ in map(_mount, mounts)
        if point in (place, *place.parents)
    ]
    # If two are mounted on the same point, the later one hides the other.
    return (
        bool(found) and max(enumerate(found), key=lambda each: (each[1][0], each[0]))[1][1] in _IN_MEMORY
    )


def _mount(line: str) -> tuple[str, Path, str, list[str]]:
    """Of a line of mountinfo: the root of what is mounted, where, its file system, and its options."""
    # ... root of what is mounted, mount point, ... - type, source, options
    before, _, after = line.partition(" - ")
    root, point = (
        re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), each) for each in before.split()[3:5]
    )
    kind, *_, options = after.split()
    return root, Path(point), kind, options.split(",")


def _control_groups_left() -> list[int]:
    """What is left in the process' own group and in each above it, of both versions."""
    return [
        left
        for version, folder in _control_groups()
        for name in _CONTROL_GROUPS[version][0]
        if (left := _left_in_group(folder, name, version)) is not None
    ]


def _control_groups() -> Iterator[tuple[str, Path]]:
    """The folders of the groups that this process is in."""
    try:
        groups = (_PROC / "self" / "cgroup").read_text().splitlines()
        mounts = (_PROC / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return
    paths = {}
    for line in groups:  # hierarchy:controllers:path
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            paths["cgroup" if controllers else "cgroup2"] = PurePosixPath(path)
    for root, mount_point, version, options in map(_mount, mounts):
        if version in paths and (version == "cgroup2" or "memory" in options):
            yield from ((version, folder) for folder in _upwards(mount_point, root, paths[version]))


def _upwards(mount_point: Path, root: str, path: PurePosixPath) -> list[Path]:
    """The group's folder and those above; in a container some lie outside of what is mounted."""
    inside = path.relative_to(root) if path.is_relative_to(root) else PurePosixPath()
    parts = [] if ".." in inside.parts else [part for part in inside.parts if part != "/"]
    return [mount_point.joinpath(*parts[:n]) for n in range(len(parts), -1, -1)]


def _left_in_group(folder: Path, limit_name: str, version: str) -> int | None:
    _, used_name, given_back_name = _CONTROL_GROUPS[version]
    try:
        limit = int((folder / limit_name).read_text())
        used = int((folder / used_name).read_text())
    except (OSError, ValueError):  # "max" is no limit
        return None
    return max(0, limit - max(0, used - _given_back(folder / "memory.stat", given_back_name)))


def _given_back(path: Path, name: str) -> int:
    try:
        rows = (line.split() for line in path.read_text().splitlines())
        return next((int(row[1]) for row in rows if row[0] == name), 0)
    except (OSError, ValueError, IndexError):
        return 0


class _MemoryStatus(ctypes.Structure):
    """`MEMORYSTATUSEX` of the Windows interface."""

    _fields_ = [
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in ("physical", "available", "page_file", "page_file_left")),
        *((name, ctypes.c_uint64) for name in ("virtual", "virtual_left", "extended_left")),
    ]


def _windows_available() -> int | None:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined,unused-ignore]
        return None
    return min(status.available, status.page_file_left, status.virtual_left)


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 * 2**30
