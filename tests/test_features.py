"""Features: rows and their layout, the frozen part, batches, fingerprints, tables."""

from __future__ import annotations

import errno
import gc
import itertools
import math
import os
import re
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from topwork._data.reading import Batch, Source
from topwork._features import memory as memory_module
from topwork._features import rows as rows_module
from topwork._features import temporary
from topwork._features.fingerprint import fingerprint
from topwork._features.frozen_part import BATCH_SIZE, FrozenPart, in_full_batches
from topwork._features.one_pass import compute_table
from topwork._features.rows import RowBuffer, RowLayout
from topwork._features.sinks import KeptRows
from topwork._features.table import Table, frontier_of


def frozen(layer: keras.Layer) -> keras.Layer:
    layer.trainable = False
    return layer


# Rows and their layout


DTYPES = ["float32", "float16", "bfloat16", "float64", "int32", "int64", "uint8", "int8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_gives_back_the_tensors_bit_for_bit(dtype: str) -> None:
    tensors = [
        tf.cast(tf.reshape(tf.range(n * 3) % 2 * 3 - 1, (3, *shape)), kind)
        for n, shape, kind in [
            (4, (2, 2), dtype),
            (1, (), "float32"),
            (6, (6,), dtype),
            (2, (1, 2), "int32"),
        ]
    ]
    layout = RowLayout(tuple(tuple(t.shape[1:]) for t in tensors), tuple(t.dtype for t in tensors))
    rows = layout.pack([t.numpy() for t in tensors])
    assert rows.shape == (3, layout.row_bytes)
    assert rows.dtype == np.uint8
    for received, expected in zip(layout.unpack(tf.constant(rows)), tensors, strict=True):
        assert received.dtype == expected.dtype
        assert received.shape == expected.shape
        assert tf.reduce_all(received == expected)


def rows_of(n: int, row_bytes: int, start: int = 0) -> Any:
    numbers = np.arange(start * row_bytes, (start + n) * row_bytes)
    return (numbers * 7 % 251).astype(np.uint8).reshape(n, row_bytes)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), max_size=6),
    limit=st.sampled_from([0, 40, 100, 10**9]),
    block=st.sampled_from([1, 30, 1000]),
)
def test_a_buffer_reads_what_was_appended(lengths: list[int], limit: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "_BLOCK_BYTES", block)
        buffer, total = RowBuffer(10, limit), sum(lengths)
        for i, length in enumerate(lengths):
            buffer.append(rows_of(length, 10, sum(lengths[:i])))
    assert len(buffer) == total
    assert buffer.place == ("memory" if total * 10 <= limit else "a temporary file")
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(total), 2))
    np.testing.assert_array_equal(buffer.read(order), rows_of(total, 10)[order])


def limited_room(free: int, memory: int, patch: pytest.MonkeyPatch) -> None:
    """A temporary disk with so many bytes that may be used, less what a buffer has written."""
    usage = shutil.disk_usage(tempfile.gettempdir())
    written = 0

    class Counting:
        def __init__(self, file: Any) -> None:
            self._file = file

        def write(self, view: Any) -> int:
            nonlocal written
            written += len(view)
            return self._file.write(view)

        def close(self) -> None:
            self._file.close()

    patch.setattr(rows_module.os, "fdopen", lambda *args, **kw: Counting(open_file(*args, **kw)))
    patch.setattr(temporary.shutil, "disk_usage", lambda _: usage._replace(free=free - written, total=0))
    patch.setattr(memory_module, "available_memory", lambda: memory)


open_file = os.fdopen


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), max_size=8),
    limit=st.sampled_from([0, 40, 100]),
    block=st.sampled_from([1, 30, 1000]),
    free=st.integers(0, 300),
)
def test_rows_that_the_disk_has_no_room_for_are_kept_in_memory(
    lengths: list[int], limit: int, block: int, free: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        patch.setattr(rows_module, "_BLOCK_BYTES", block)
        limited_room(free, 10**6, patch)
        buffer, total = RowBuffer(10, limit), sum(lengths)
        for i, length in enumerate(lengths):
            buffer.append(rows_of(length, 10, sum(lengths[:i])))
        order = np.random.default_rng(0).permutation(np.repeat(np.arange(total), 2))
        np.testing.assert_array_equal(buffer.read(order), rows_of(total, 10)[order])
        assert len(buffer) == total
    stays = total * 10 <= limit
    assert buffer.place == "memory" or not stays
    assert "memory" not in buffer.place or stays or free < total * 10
    assert len(said) == (not stays and "memory" in buffer.place)
    assert all("What follows is kept in memory, of which 500,000 bytes" in str(w.message) for w in said)


def test_a_full_temporary_folder_and_full_memory_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = RowBuffer(10, 0)
    limited_room(25, 40, monkeypatch)
    buffer.append(rows_of(2, 10))
    with pytest.warns(
        UserWarning, match=r"file of features cannot grow: 10 bytes are needed in .*, and 5"
    ):
        buffer.append(rows_of(1, 10, 2))
    buffer.append(rows_of(1, 10, 3))
    assert buffer.place == "a temporary file and memory"
    with pytest.raises(OSError, match=re.escape(tempfile.gettempdir())) as caught:
        buffer.append(rows_of(3, 10))
    assert caught.value.errno == errno.ENOSPC
    text = str(caught.value)
    assert "fit: there is no more room for features in memory, and none in the temporary file: " in text
    assert "10 bytes are needed" in text
    assert "what was computed is lost" in text
    np.testing.assert_array_equal(buffer.read(np.arange(4)), rows_of(4, 10))


@pytest.mark.parametrize("code", [errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)])
def test_a_disk_that_is_full_before_it_says_so(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = RowBuffer(10, 0)
    buffer.append(rows_of(2, 10))

    class Full:
        def write(self, _: Any) -> int:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(buffer, "_file", Full())
    with pytest.warns(UserWarning, match=r"cannot grow: 30 bytes .* allows less, as with a quota"):
        buffer.append(rows_of(3, 10, 2))
    np.testing.assert_array_equal(buffer.read(np.arange(5)), rows_of(5, 10))


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC])
def test_a_temporary_file_that_cannot_be_made(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> Any:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(rows_module.tempfile, "mkstemp", refuse)
    buffer = RowBuffer(10, 0)
    with pytest.warns(UserWarning, match=r"cannot grow: .*(Permission denied|as with a quota)"):
        buffer.append(rows_of(3, 10))
    buffer.append(rows_of(3, 10, 3))
    np.testing.assert_array_equal(buffer.read(np.arange(6)), rows_of(6, 10))


def test_other_errors_of_the_temporary_file_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = RowBuffer(10, 0)
    buffer.append(rows_of(1, 10))

    class Broken:
        def write(self, _: Any) -> int:
            raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(buffer, "_file", Broken())
    with pytest.raises(OSError, match="broken"):
        buffer.append(rows_of(1, 10))


def resident_memory() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        pytest.skip("looks into /proc")


def test_rows_in_a_file_take_no_memory() -> None:
    megabyte, n_rows = 2**20, 200
    buffer = RowBuffer(megabyte, 20 * megabyte)
    before = resident_memory()
    for i in range(0, n_rows, 10):
        buffer.append(np.full((10, megabyte), i, np.uint8))
    for start in np.random.default_rng(0).permutation(np.arange(0, n_rows, 10)):
        assert (buffer.read(np.arange(start, start + 10)) == start).all()
    assert resident_memory() - before < 80 * megabyte


def test_rows_that_memory_has_no_room_for_go_to_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_BLOCK_BYTES", 40)
    buffer = RowBuffer(10, math.inf)

    class Full(list):  # type: ignore[type-arg]
        def append(self, block: Any) -> None:
            super().append(block)  # what it took before it failed is not counted as there
            if len(self) == 7:
                raise MemoryError

    monkeypatch.setattr(buffer, "_blocks", Full())
    for start in range(0, 40, 10):
        assert buffer.place == ("memory" if start < 30 else "a temporary file")
        buffer.append(rows_of(10, 10, start))
    np.testing.assert_array_equal(buffer.read(np.arange(40)), rows_of(40, 10))


# The frozen part, and the batches that it runs on


SIZE = 6


def prefix(scale: float = 1.0) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(8, 3, activation="relu")(inputs * scale)
    x = layers.Conv2D(17, 3)(x)
    return keras.Model([inputs], [x, layers.Dense(8)(layers.Flatten()(x))])


IMAGES = np.random.default_rng(0).uniform(0, 255, (70, SIZE, SIZE, 3)).astype("float32")


@pytest.fixture(scope="module")
def part() -> FrozenPart:
    return FrozenPart(prefix())


def test_features_are_those_of_the_model(part: FrozenPart) -> None:
    received = part.layout.unpack(tf.constant(part.rows([IMAGES[:5]])))
    for a, b in zip(received, part.prefix([IMAGES[:5]]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_features_do_not_depend_on_the_neighbours(part: FrozenPart) -> None:
    images = IMAGES[:BATCH_SIZE]
    whole = part.rows([images])
    np.testing.assert_array_equal(part.rows([images[3:4]]), whole[3:4])
    for step in (1, 7, 31):
        np.testing.assert_array_equal(part.rows([np.roll(images, step, 0)]), np.roll(whole, step, 0))
    np.testing.assert_array_equal(part.rows([images[::-1]]), whole[::-1])


def test_the_frozen_part_needs_one_size_of_features() -> None:
    inputs = keras.Input((None, None, 3))
    with pytest.raises(
        ValueError, match=r"have shape \(None, None, None, 3\).*load_backbone\(..., input_s"
    ):
        FrozenPart(keras.Model([inputs], inputs * 2.0))


def test_it_is_traced_once(part: FrozenPart, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(7):
        FrozenPart(part.prefix).rows([IMAGES[:2]])
    assert "retracing" not in caplog.text


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3 * BATCH_SIZE), st.booleans()), max_size=6))
def test_batches_are_full_and_in_order(parts: list[tuple[int, bool]]) -> None:
    stream, n_before = [], 0
    for length, is_wide in parts:
        numbers = np.arange(n_before, n_before + length)
        stream.append(([np.repeat(numbers[:, None], 1 + is_wide, axis=1), numbers * 2], numbers))
        n_before += length
    batches = list(in_full_batches(stream, BATCH_SIZE))
    assert [tag for _, tags in batches for tag in tags] == list(range(n_before))
    for inputs, tags in batches:
        assert (inputs[0] == tags[:, None]).all()
        assert (inputs[1] == tags * 2).all()
        assert 0 < len(tags) <= BATCH_SIZE
    n_changes = sum(a[1] != b[1] for a, b in itertools.pairwise(parts))
    assert sum(len(tags) < BATCH_SIZE for _, tags in batches) <= n_changes + 1


# Addresses


def small(
    units: int = 4,
    *,
    scale: Any = 2.0,
    activation: str = "relu",
    size: int = 3,
    dtype: str = "float32",
    frozen_too: bool = False,
) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((size,))
    x = layers.Dense(units, activation=activation, dtype=dtype)(inputs * scale)
    inner = keras.Sequential([keras.Input((units,)), layers.Dense(2)])
    model = keras.Model(inputs, inner(layers.Rescaling(0.5)(x)))
    model.trainable = not frozen_too
    return model


def test_a_fingerprint_knows_nothing_of_names() -> None:
    first = fingerprint(small())
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert fingerprint(small()) == first  # other automatic names
    assert fingerprint(small(frozen_too=True)) == first


def test_a_fingerprint_survives_saving(tmp_path: Path) -> None:
    model = small()
    model.save(tmp_path / "model.keras")
    assert fingerprint(keras.models.load_model(tmp_path / "model.keras")) == fingerprint(model)


def with_other_weight(index: int) -> keras.Model:
    model = small()
    weights = model.get_weights()
    weights[index].flat[-1] += 1e-6
    model.set_weights(weights)
    return model


MEAN = np.zeros(3000, "float32")
OTHER_MEAN = np.where(np.arange(3000) == 1500, 1, MEAN).astype("float32")
OTHERS: dict[str, Callable[[], keras.Model]] = {
    "as it is": small,
    "units": lambda: small(5),
    "constant": lambda: small(scale=3.0),
    "activation": lambda: small(activation="tanh"),
    "first kernel": lambda: with_other_weight(0),
    "last bias": lambda: with_other_weight(3),
    "array": lambda: small(size=3000, scale=MEAN),
    "array that differs in its middle": lambda: small(size=3000, scale=OTHER_MEAN),
    "tensor": lambda: small(size=3000, scale=tf.constant(OTHER_MEAN * 2)),
    "dtype": lambda: small(dtype="mixed_float16"),
    "output": lambda: keras.Model((whole := small()).inputs, whole.layers[-2].output),
}


def test_everything_else_makes_another_fingerprint() -> None:
    found = {name: fingerprint(build()) for name, build in OTHERS.items()}
    assert len(set(found.values())) == len(found), found


def test_the_way_that_layers_are_joined_counts() -> None:
    def joined(swapped: bool) -> keras.Model:
        keras.utils.set_random_seed(1)
        inputs = keras.Input((3,))
        a, b = layers.Dense(2)(inputs), layers.Dense(2)(inputs)
        return keras.Model(inputs, layers.Subtract()([b, a] if swapped else [a, b]))

    assert fingerprint(joined(False)) == fingerprint(joined(False))
    assert fingerprint(joined(False)) != fingerprint(joined(True))


# Tables


def make_table(
    part: FrozenPart,
    lengths: list[int],
    *,
    views: int = 1,
    labels: Any = None,
    memory_limit: float = 1e9,
) -> tuple[Table, list[int]]:
    """A table of the first images in batches of some lengths, and how far the progress went."""

    def batches() -> Iterator[Batch]:
        start = 0
        for length in lengths:
            chosen = slice(start, start + length)
            y = None if labels is None else keras.tree.map_structure(lambda a: a[chosen], labels)  # noqa: B023
            yield Batch([IMAGES[chosen]], y, None)
            start += length

    advanced: list[int] = []
    drawn = iter(range(10**6))
    table = compute_table(
        part,
        Source(batches, len(lengths)),
        KeptRows(part.layout.row_bytes, views, memory_limit),
        check=lambda inputs, y, sample_weight: None,
        augment=None if views == 1 else lambda inputs: [inputs[0] + next(drawn) % views],
        views=views,
        advance=advanced.append,
    )
    return table, advanced


@pytest.mark.parametrize("memory_limit", [0, 1e9])
@pytest.mark.parametrize("views", [1, 3])
def test_a_table_has_the_features_of_each_view(part: FrozenPart, views: int, memory_limit: float) -> None:
    table, advanced = make_table(part, [40, 7, 3], views=views, memory_limit=memory_limit)
    assert (len(table), table.views, table.n_computed) == (50, views, 50 * views)
    assert table.n_bytes == 50 * views * part.layout.row_bytes
    assert table.place == ("memory" if memory_limit else "a temporary file")
    assert advanced == [40, 47, 50]
    for image in (0, 31, 44, 49):
        for view in range(views):
            expected = part.rows([IMAGES[image : image + 1] + view])
            np.testing.assert_array_equal(table.read(np.array([image * views + view])), expected)


def read(dataset: tf.data.Dataset) -> list[tuple[Any, ...]]:
    return [keras.tree.map_structure(np.asarray, element) for element in dataset]


def test_batches_come_as_they_came_or_as_asked(part: FrozenPart) -> None:
    labels = {"one": np.arange(12), "two": np.arange(12.0)[:, None]}
    expected = part.prefix([IMAGES[:12]])[1].numpy()
    table, _ = make_table(part, [5, 4, 3], labels=labels)
    for batch_size, lengths in ((None, [5, 4, 3]), (8, [8, 4])):
        dataset = table.dataset(batch_size, shuffle=False)
        assert len(dataset) == len(lengths)
        read_back = read(dataset)
        assert [len(y["one"]) for _, y in read_back] == lengths
        assert np.concatenate([y["two"] for _, y in read_back])[:, 0].tolist() == list(range(12))
        features = np.concatenate([frontier_of(x)[1] for x, _ in read_back])
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-3)
        assert frontier_of(dataset.element_spec[0])[1].shape == (None, 8)
    shuffled = table.dataset(None, shuffle=True)
    assert [len(y["one"]) for _, y in read(shuffled)] == [5, 5, 2]
    for x, y in read(shuffled):
        pooled = frontier_of(x)[1]
        np.testing.assert_allclose(pooled, expected[y["one"]], rtol=1e-4, atol=1e-3)


def test_large_labels_are_no_part_of_the_graph(part: FrozenPart) -> None:
    table, _ = make_table(part, [8], labels=np.zeros((8, 2**18), "float32"))
    dataset = table.dataset(4, shuffle=False)
    graphs = [f.function.graph.as_graph_def() for f in dataset._input_dataset._functions()]
    assert sum(graph.ByteSize() for graph in graphs) < 2**17


def test_the_rows_are_freed_with_the_table(part: FrozenPart) -> None:
    table, _ = make_table(part, [8])
    dataset = table.dataset(4, shuffle=False)
    read(dataset)
    alive = weakref.ref(table)
    del table
    gc.collect()
    assert alive() is None
