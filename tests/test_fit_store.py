"""`tw.fit` and `tw.precompute` with a feature store: an image is computed once, ever."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import topwork as tw
from topwork._data.digests import digests
from topwork._features import cache, sinks
from topwork._features.fingerprint import fingerprint
from topwork._features.frozen_part import FrozenPart
from topwork._store import files, verification
from topwork._store.shards import SUFFIX, open_shard
from topwork._store.store import Store, open_store

N_IMAGES, SIZE = 60, 6
IMAGES = np.random.default_rng(0).uniform(0, 255, (N_IMAGES, SIZE, SIZE, 3)).astype("float32")
CLASSES = np.arange(N_IMAGES) % 3


def make_model(*, seed: int = 1, scale: float = 127.5, units: int | None = None) -> keras.Model:
    """The same frozen part for the same arguments, and a head that differs from call to call."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 3, activation="relu", trainable=False, name="block1")(inputs / scale - 1.0)
    x = layers.Conv2D(6, 3, activation="relu", trainable=False, name="block2")(x)
    backbone = keras.Model(inputs, x, name="small")
    keras.utils.set_random_seed(int.from_bytes(os.urandom(3), "big"))
    model = tw.add_head(n_classes=3, dropout=0.0, hidden_units=units)(backbone)
    model.compile("sgd", model.loss, run_eagerly=True)
    return model


class Counter:
    """How many images went through a frozen part."""

    def __init__(self) -> None:
        self.n_images = 0

    def since(self) -> int:
        """Since it was asked last."""
        n_images, self.n_images = self.n_images, 0
        return n_images


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Counter:
    counter, rows = Counter(), FrozenPart.rows

    def counting(part: FrozenPart, inputs: list[Any]) -> Any:
        counter.n_images += len(inputs[0])
        return rows(part, inputs)

    monkeypatch.setattr(FrozenPart, "rows", counting)
    return counter


def fit(
    model: keras.Model, folder: Path, images: Any = IMAGES, labels: Any = CLASSES, **more: Any
) -> None:
    tw.fit(model, images, labels, cache_dir=folder, verbose=0, **more)


def contents(folder: Path) -> dict[bytes, bytes]:
    """All rows of the one collection in a store, by key."""
    (info,) = open_store(folder).info().collections
    collection = open_store(folder).collection(info.fingerprint, row_bytes=info.row_bytes)
    keys = digests([IMAGES])
    found = collection.locate(keys)
    rows = collection.read(found[found >= 0])
    return {k.tobytes(): r.tobytes() for k, r in zip(keys[found >= 0], rows, strict=True)}


# Found again


def test_a_second_fit_runs_the_frozen_part_on_nothing(tmp_path: Path, computed: Counter) -> None:
    fit(make_model(), tmp_path, validation_data=(IMAGES[:10] + 1, CLASSES[:10]))
    assert computed.since() == N_IMAGES + 10
    fit(make_model(), tmp_path, validation_data=(IMAGES[:10] + 1, CLASSES[:10]), epochs=3)
    assert computed.since() == 0


def test_only_new_images_are_computed(tmp_path: Path, computed: Counter) -> None:
    fit(make_model(), tmp_path, IMAGES[:30], CLASSES[:30])
    assert computed.since() == 30
    fit(make_model(), tmp_path)
    assert computed.since() == N_IMAGES - 30
    order = np.random.default_rng(1).permutation(N_IMAGES)
    fit(make_model(), tmp_path, IMAGES[order], CLASSES[order])
    fit(make_model(), tmp_path, IMAGES.astype("float64"))
    fit(make_model(), tmp_path, tf.data.Dataset.from_tensor_slices((IMAGES, CLASSES)).batch(7), None)
    assert computed.since() == 0


def test_an_image_that_comes_twice_is_computed_once(tmp_path: Path, computed: Counter) -> None:
    double = np.concatenate([IMAGES, IMAGES[::-1]])
    labels = np.concatenate([CLASSES, CLASSES[::-1]])
    fit(make_model(), tmp_path, double, labels)
    assert computed.since() == N_IMAGES


def test_another_head_finds_what_there_is(tmp_path: Path, computed: Counter) -> None:
    fit(make_model(), tmp_path)
    fit(make_model(units=5), tmp_path)
    assert computed.since() == N_IMAGES


def test_a_saved_model_finds_what_there_is(tmp_path: Path, computed: Counter) -> None:
    model = make_model()
    fit(model, tmp_path / "store")
    model.save(tmp_path / "model.keras")
    fit(keras.models.load_model(tmp_path / "model.keras"), tmp_path / "store")
    assert computed.since() == N_IMAGES


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_store_holds_features_in_their_own_precision(
    policy: str, tmp_path: Path, computed: Counter
) -> None:
    fit(make_model(), tmp_path)
    keras.config.set_dtype_policy(policy)
    try:
        models = [make_model() for _ in range(2)]
    finally:
        keras.config.set_dtype_policy("float32")
    models[1].set_weights(models[0].get_weights())
    computed.since()
    for model, n_computed in zip(models, (N_IMAGES, 0), strict=True):
        fit(model, tmp_path, epochs=2, shuffle=False)
        assert computed.since() == n_computed
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    half, single = sorted(each.row_bytes for each in open_store(tmp_path).info().collections)
    assert (half, single) == (6 * 2, 6 * 4)


def pooled_otherwise() -> keras.Model:
    model = make_model()
    return tw.add_head(n_classes=3, pooling="max")(keras.Model(model.input, model.layers[-4].output))


OTHERS: dict[str, Callable[[], keras.Model]] = {
    "weights": lambda: make_model(seed=2),
    "preprocessing": lambda: make_model(scale=100.0),
    "pooling": pooled_otherwise,
    "boundary": lambda: tw.fine_tune(make_model(), "block2"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_frozen_part_is_another_collection(case: str, tmp_path: Path, computed: Counter) -> None:
    fit(make_model(), tmp_path)
    fit(OTHERS[case](), tmp_path)
    assert computed.since() == 2 * N_IMAGES
    assert len(open_store(tmp_path).info().collections) == 2
    fit(make_model(), tmp_path)
    fit(OTHERS[case](), tmp_path)
    assert computed.since() == 0


def test_features_are_the_same_bits_whatever_the_batches(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(N_IMAGES)
    pairs = tf.data.Dataset.from_tensor_slices((IMAGES[order], CLASSES[order]))
    fit(make_model(), tmp_path / "one")
    fit(make_model(), tmp_path / "two", pairs.batch(3), None)
    fit(make_model(), tmp_path / "three", IMAGES[:5], CLASSES[:5])
    fit(make_model(), tmp_path / "three")
    stores = [contents(tmp_path / name) for name in ("one", "two", "three")]
    assert stores[0] == stores[1] == stores[2]
    assert len(stores[0]) == N_IMAGES


def test_stored_features_train_as_computed_ones(tmp_path: Path) -> None:
    results = []
    for folder in (None, tmp_path, tmp_path):
        model = make_model()
        for weight, i in zip(model.trainable_weights, range(9), strict=False):
            weight.assign(np.random.default_rng(i).normal(size=weight.shape))
        keras.utils.set_random_seed(0)
        tw.fit(model, IMAGES, CLASSES, epochs=2, cache_dir=folder, verbose=0)
        results.append(model.get_weights())
    for weights in results[1:]:
        for a, b in zip(results[0], weights, strict=True):
            np.testing.assert_array_equal(a, b)


# Views


class Darker:
    """Draws the same again in another run: the n-th call takes n off."""

    def __init__(self) -> None:
        self.n_calls = 0

    def __call__(self, images: Any) -> Any:
        self.n_calls += 1
        return images - self.n_calls


def test_views_are_found_if_they_are_drawn_again(tmp_path: Path, computed: Counter) -> None:
    fit(make_model(), tmp_path, augment=Darker(), views=3)
    assert computed.since() == 3 * N_IMAGES
    fit(make_model(), tmp_path, augment=Darker(), views=3)
    assert computed.since() == 0
    fit(make_model(), tmp_path, augment=layers.GaussianNoise(1.0), views=2)
    assert computed.since() == 2 * N_IMAGES


# precompute


def test_precompute_and_then_fit(tmp_path: Path, computed: Counter) -> None:
    assert tw.precompute(make_model(), IMAGES, cache_dir=tmp_path, verbose=0) == N_IMAGES
    assert tw.precompute(make_model(), IMAGES, cache_dir=tmp_path, verbose=0) == 0
    assert computed.since() == N_IMAGES
    fit(make_model(), tmp_path)
    assert computed.since() == 0
    n_rows = tw.precompute(make_model(), IMAGES, cache_dir=tmp_path, augment=Darker(), views=2, verbose=0)
    assert n_rows == 2 * N_IMAGES


def test_precompute_in_shards_gives_what_one_run_gives(tmp_path: Path, computed: Counter) -> None:
    images = tf.data.Dataset.from_tensor_slices(IMAGES)
    for i in range(3):
        shard = images.shard(3, i).batch(4)
        assert tw.precompute(make_model(), shard, cache_dir=tmp_path / "parts", verbose=0) == 20
    tw.precompute(make_model(), images.batch(9), cache_dir=tmp_path / "whole", verbose=0)
    assert computed.since() == 2 * N_IMAGES
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    fit(make_model(), tmp_path / "parts")
    assert computed.since() == 0


def test_precompute_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tw.precompute(make_model(), IMAGES, cache_dir=tmp_path)
    printed = capsys.readouterr().out
    assert "frozen part run once over 60 images" in printed
    assert "60 computed and 0 found" in printed


def test_precompute_of_an_empty_shard_is_nothing(tmp_path: Path) -> None:
    empty = tf.data.Dataset.from_tensor_slices(IMAGES).take(0).batch(4)
    assert tw.precompute(make_model(), empty, cache_dir=tmp_path, verbose=0) == 0


def test_what_precompute_refuses(tmp_path: Path) -> None:
    model = make_model()
    with pytest.raises(ValueError, match=r"precompute: the model must be a keras.Model. Received: 3"):
        tw.precompute(3, IMAGES, cache_dir=tmp_path)
    with pytest.raises(ValueError, match=r"precompute: views must be a whole number"):
        tw.precompute(model, IMAGES, cache_dir=tmp_path, views=0)
    noisy = tf.data.Dataset.from_tensor_slices(IMAGES).map(tf.image.random_flip_left_right).batch(4)
    message = r"precompute: the data set is augmented at random: it has random op.*views=10"
    with pytest.raises(ValueError, match=message):
        tw.precompute(model, noisy, cache_dir=tmp_path)
    model.trainable = True
    for layer in model.layers:
        layer.trainable = True
    message = (
        r"precompute: nothing of 'small' can be computed once, because layer 'block1'.*freeze\(backb"
    )
    with pytest.raises(ValueError, match=message):
        tw.precompute(model, IMAGES, cache_dir=tmp_path)


# What can go wrong with the folder


def test_a_folder_that_is_no_store_is_refused_before_anything_is_computed(
    tmp_path: Path, computed: Counter
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"is not a feature store"):
        fit(make_model(), tmp_path)
    assert computed.since() == 0


def test_a_full_disk_is_said_before_anything_is_computed(
    tmp_path: Path, computed: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(make_model(), tmp_path, IMAGES[:10], CLASSES[:10])
    computed.since()
    usage = files.shutil.disk_usage(tmp_path)

    def leaves(n_rows: int) -> None:
        free = n_rows * 6 * 4  # a row is the average of 6 channels
        monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage._replace(free=free))

    leaves(10)
    # Two batches, of 32 and of some: 33 images at least, of which 10 are there.
    with pytest.raises(OSError, match=str(tmp_path)) as caught:
        fit(make_model(), tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert f"{23 * 24} bytes" in str(caught.value)
    assert computed.since() == 0
    fit(make_model(), tmp_path, IMAGES[:10], CLASSES[:10])  # needs nothing
    assert computed.since() == 0
    leaves(23)
    fit(make_model(), tmp_path)
    assert computed.since() == N_IMAGES - 10


def test_a_damaged_shard_is_computed_again(tmp_path: Path, computed: Counter) -> None:
    fit(make_model(), tmp_path)
    before = contents(tmp_path)
    (shard,) = tmp_path.glob(f"*/*{SUFFIX}")
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    computed.since()
    with pytest.warns(UserWarning, match=r"damaged"):
        fit(make_model(), tmp_path)
    assert computed.since() == N_IMAGES
    assert contents(tmp_path) == before


def test_what_another_process_completed_meanwhile_is_not_computed_again(
    tmp_path: Path, computed: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "_REFRESH_ROWS", 8)
    model = make_model()
    other = tf.data.Dataset.from_tensor_slices(IMAGES[20:]).batch(10)

    def images() -> Any:
        for start in range(0, N_IMAGES, 4):
            if start == 28:  # "another process": the same, but between two batches of this one
                tw.precompute(model, other, cache_dir=tmp_path, verbose=0)
            yield IMAGES[start : start + 4]

    spec = tf.TensorSpec((4, SIZE, SIZE, 3), tf.float32)
    stream = tf.data.Dataset.from_generator(images, output_signature=spec)
    monkeypatch.setattr("topwork._features.frozen_part.BATCH_SIZE", 8)
    n_rows = tw.precompute(model, stream, cache_dir=tmp_path, verbose=0)
    assert n_rows < 40  # of 60, 40 of which the other one computed
    assert len(contents(tmp_path)) == N_IMAGES


# Killed in the middle


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_killed_run_is_continued(tmp_path: Path, computed: Counter) -> None:
    code = f"""
        import os, signal, sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from topwork._store import collection as collection_module
        collection_module.SHARD_ROWS = 8
        from test_fit_store import *
        rows = FrozenPart.rows
        calls = []
        def killed(part, inputs):
            calls.append(1)
            if len(calls) == 2:  # the first 48 are computed, and another thread writes them
                while len(list(Path(sys.argv[1]).rglob("*.shard"))) < 6:
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)
            return rows(part, inputs)
        FrozenPart.rows = killed
        fit(make_model(), sys.argv[1])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "killed")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    fit(make_model(), tmp_path / "killed")
    assert computed.since() == N_IMAGES - 48
    fit(make_model(), tmp_path / "whole")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_precompute_needs_a_folder(computed: Counter) -> None:
    with pytest.raises(ValueError, match=r"precompute: cache_dir is the folder .* None.* thrown away"):
        tw.precompute(make_model(), IMAGES, cache_dir=None)  # type: ignore[arg-type]
    assert computed.since() == 0


def test_a_second_fit_reads_each_shard_once_and_hashes_the_weights_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data: dict[str, Any] = {
        "validation_data": (IMAGES[:4] + 1, CLASSES[:4]),
        "cache_dir": tmp_path,
        "verbose": 0,
    }
    model = make_model()
    tw.fit(model, IMAGES, CLASSES, **data)
    shards = list(tmp_path.rglob(f"*{SUFFIX}"))
    read: list[Path] = []
    hashed: list[keras.Model] = []

    def counted_shard(path: Path, *rest: Any) -> Any:
        read.append(path)
        return open_shard(path, *rest)

    def counted_fingerprint(prefix: keras.Model, *rest: Any) -> str:
        hashed.append(prefix)
        return fingerprint(prefix, *rest)

    monkeypatch.setattr(verification, "open_shard", counted_shard)
    monkeypatch.setattr(cache, "fingerprint", counted_fingerprint)
    monkeypatch.setattr(Store, "info", None)
    tw.fit(model, IMAGES, CLASSES, **data)
    assert sorted(read) == sorted(shards)
    assert len(shards) > 0
    assert len(hashed) == 1


@pytest.mark.parametrize("stored", [False, True])
def test_features_that_overflow_are_neither_stored_nor_trained_on(stored: bool, tmp_path: Path) -> None:
    inputs = keras.Input((4, 4, 3))
    x = layers.Rescaling(300.0, dtype="float16")(inputs)  # 65504 is the largest number of float16
    x = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(layers.Conv2D(2, 1)(x)))
    model = keras.Model(inputs, x, name="half")
    model.layers[2].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.get_weights()
    images = np.random.default_rng(0).uniform(0, 200, (60, 4, 4, 3)).astype("float32")
    images[52], images[55] = 250.0, 240.0  # not twice the same image: that is computed once
    message = (
        r"^fit: the features of 2 of 12 images of the training data are NaN or infinite, first those of "
        r"image 52 \(counted from 0\), at '.*Build the network in float32"
    )
    with pytest.raises(ValueError, match=message):
        tw.fit(model, images, np.arange(60) % 2, cache_dir=tmp_path if stored else None, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
