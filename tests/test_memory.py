"""The budget of memory: the system's count, limits of the process, control groups, and its end."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from topwork._features import memory, temporary
from topwork._features.memory import available_memory

MEGABYTE = 2**20


def write(folder: Path, **files: object) -> None:
    """Files of a control group; `__` stands for the dot of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system without limits that has 8 GB left."""
    folder = tmp_path / "proc"
    write(folder, meminfo="MemTotal:  16777216 kB\nMemAvailable:  8388608 kB\nHugePages_Total:  0")
    (folder / "self").mkdir()
    monkeypatch.setattr(memory, "_PROC", folder)
    monkeypatch.setattr(memory, "_process_limits_left", list)
    return folder


def mount(proc: Path, kind: str, mount_point: Path, root: str, groups: str) -> None:
    options = "rw,memory" if kind == "cgroup" else "rw"
    lines = [
        "23 1 0:1 / / rw,relatime - ext4 /dev/sda rw",
        "32 31 0:29 / /sys/fs/cgroup/cpu rw shared:1 - cgroup cgroup rw,cpu",
        f"41 31 0:38 {root} {mount_point} rw,relatime - {kind} {kind} {options}",
    ]
    write(proc / "self", cgroup=groups, mountinfo="\n".join(lines))


def test_without_limits_it_is_what_the_system_has_left(proc: Path) -> None:
    assert available_memory() == 8 * 1024 * MEGABYTE
    (proc / "meminfo").unlink()
    assert available_memory() == memory._physical_memory() // 2


def test_here_it_is_some_memory() -> None:
    assert MEGABYTE < available_memory() <= memory._physical_memory()


@pytest.mark.parametrize(
    ("smallest", "left"), [("own", 30), ("parent", 20), ("top", 10), ("none", 8 * 1024)]
)
def test_of_nested_groups_the_tightest_counts(
    smallest: str, left: int, proc: Path, tmp_path: Path
) -> None:
    top = tmp_path / "cgroup"
    mount(proc, "cgroup2", top, "/", "0::/user.slice/job.scope")
    folders = {"own": top / "user.slice" / "job.scope", "parent": top / "user.slice", "top": top}
    for name, folder in folders.items():
        limit = 5 * MEGABYTE + left * MEGABYTE if name == smallest else "max"
        write(folder, memory__max=limit, memory__current=5 * MEGABYTE)
    assert available_memory() == left * MEGABYTE


def test_a_limit_that_slows_down_counts_too(proc: Path, tmp_path: Path) -> None:
    mount(proc, "cgroup2", tmp_path / "cgroup", "/", "0::/")
    write(tmp_path / "cgroup", memory__max=90, memory__high=50, memory__current=20)
    assert available_memory() == 30


def test_what_the_system_gives_back_is_not_used(proc: Path, tmp_path: Path) -> None:
    mount(proc, "cgroup2", tmp_path / "cgroup", "/", "0::/a")
    stat = "anon 5\nfile 60\ninactive_file 40"
    write(tmp_path / "cgroup" / "a", memory__max=100, memory__current=70, memory__stat=stat)
    assert available_memory() == 70


def test_a_group_over_its_limit_has_nothing_left(proc: Path, tmp_path: Path) -> None:
    mount(proc, "cgroup2", tmp_path / "cgroup", "/", "0::/a")
    write(tmp_path / "cgroup" / "a", memory__max=100, memory__current=170)
    assert available_memory() == 0


@pytest.mark.parametrize(
    ("root", "path", "folder"),
    [
        ("/", "/docker/12ab", "docker/12ab"),
        ("/docker/12ab", "/docker/12ab", ""),  # a container sees its own group as the top
        ("/docker/12ab", "/docker/12ab/inner", "inner"),
        ("/docker/12ab", "/elsewhere", ""),
        ("/", "/../outside", ""),
    ],
)
def test_groups_of_the_first_version(
    root: str, path: str, folder: str, proc: Path, tmp_path: Path
) -> None:
    top = tmp_path / "cgroup"
    mount(proc, "cgroup", top, root, f"9:name=systemd:/\n5:cpu,memory:{path}\n0::/")
    unlimited = 9223372036854771712
    write(top, memory__limit_in_bytes=unlimited, memory__usage_in_bytes=5)
    stat = "inactive_file 1\ntotal_inactive_file 20"
    write(top / folder, memory__limit_in_bytes=100, memory__usage_in_bytes=60, memory__stat=stat)
    assert available_memory() == 60


def test_a_temporary_disk_in_memory_is_memory(proc: Path, tmp_path: Path) -> None:
    place = tmp_path / "a b"
    place.mkdir()
    escaped = str(tmp_path / "a b").replace(" ", r"\040")
    lines = [
        "27 1 254:0 / / rw - ext4 /dev/vda rw",
        f"28 27 0:25 / {escaped} rw,nosuid shared:3 - tmpfs tmpfs rw,size=4k",
        "29 27 0:26 / /nowhere/else rw - tmpfs tmpfs rw",
    ]
    write(proc / "self", mountinfo="\n".join(lines))
    assert [memory.takes_memory(each) for each in (place, place / "deep", tmp_path)] == [
        True,
        True,
        False,
    ]
    write(proc / "self", mountinfo="\n".join([*lines, f"30 28 254:1 / {escaped} rw - xfs /dev/vdb rw"]))
    assert not memory.takes_memory(place)
    (proc / "self" / "mountinfo").unlink()
    assert not memory.takes_memory(place)


def test_of_a_temporary_disk_in_memory_half_of_what_is_free_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000, total=100_000)
    monkeypatch.setattr(temporary.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(memory, "available_memory", lambda: 6_000)
    monkeypatch.setattr(temporary, "takes_memory", lambda _: False)
    assert temporary.room(tmp_path) == 5_000  # a twentieth of the disk is left to others
    monkeypatch.setattr(temporary, "takes_memory", lambda _: True)
    assert temporary.room(tmp_path) == 3_000
    monkeypatch.setattr(temporary.shutil, "disk_usage", lambda _: usage._replace(total=10**15))
    assert temporary.room(tmp_path) == 0  # and no more than 1 GB


@pytest.mark.parametrize(
    ("needed", "limit", "expected"),
    [
        ([30, 60], 100, [100, 70]),
        ([30, 80], 100, [100, 0]),
        ([200, 60], 100, [0, 100]),
        ([None, 60], 100, [20, 80]),
        ([60, None], 100, [100, 8]),
        ([None, None], float("inf"), [float("inf"), float("inf")]),
        ([5, None], 0, [0, 0]),
        ([0], 0, [0]),
        ([], 0, []),
    ],
)
def test_memory_is_shared_out(needed: list[int | None], limit: float, expected: list[float]) -> None:
    assert temporary.memory_limits(needed, limit) == pytest.approx(expected)


def test_what_cannot_be_read_is_no_limit(proc: Path, tmp_path: Path) -> None:
    mount(proc, "cgroup2", tmp_path / "cgroup", "/", "0::/a")
    write(tmp_path / "cgroup" / "a", memory__max="many", memory__current=1)
    assert available_memory() == 8 * 1024 * MEGABYTE


def test_windows_says_it_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel:
        def GlobalMemoryStatusEx(self, reference: object) -> int:  # noqa: N802
            status = reference._obj  # type: ignore[attr-defined]
            assert status.length == 64  # the size that the system insists on
            status.available, status.page_file_left, status.virtual_left = 700, 500, 900
            return 1

    class Library:
        kernel32 = Kernel()

    monkeypatch.setattr(ctypes, "windll", Library, raising=False)
    assert memory._windows_available() == 500


def run(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit of the process, as ulimit does")
@pytest.mark.parametrize(("kind", "used"), [("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")])
def test_a_limit_of_the_process(kind: str, used: str) -> None:
    run(f"""
        import resource
        from topwork._features import memory
        used = memory._kilobytes(memory._PROC / "self" / "status")["{used}"]
        resource.setrlimit(resource.{kind}, (used + 300 * 2**20, -1))
        assert 250 * 2**20 < memory.available_memory() <= 300 * 2**20, memory.available_memory()
    """)


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit of the process, as ulimit does")
def test_rows_beyond_a_limit_of_the_process_go_to_a_file() -> None:
    run("""
        import resource
        import numpy as np
        from topwork._features import memory
        from topwork._features.rows import RowBuffer
        used = memory._kilobytes(memory._PROC / "self" / "status")["VmSize"]
        resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20, -1))
        buffer = RowBuffer(2**20, 10**12)
        for i in range(60):
            buffer.append(np.full((10, 2**20), i, np.uint8))
        assert buffer.place == "a temporary file"
        for i in range(60):
            assert (buffer.read(np.arange(10) + 10 * i) == i).all(), i
    """)
