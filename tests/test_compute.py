"""The pass over the data: nothing waits for what it does not need, and nothing is lost on the way."""

from __future__ import annotations

import threading
import traceback
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import topwork as tw
from topwork._data.data_sets import untuned
from topwork._data.reading import open_source
from topwork._features.cache import open_cache
from topwork._features.computation import Computation, Run
from topwork._features.frozen_part import in_full_batches
from topwork._features.functions import make_function

SIZE, LENGTH, N_BATCHES = 8, 48, 6
IMAGES = np.random.default_rng(0).uniform(0, 255, (LENGTH * N_BATCHES, SIZE, SIZE, 3)).astype("float32")
PATIENCE = 60  # seconds; nothing waits so long unless it waits for ever


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIZE, SIZE, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(inputs))
    return keras.Model([inputs], pooled, name="small")


class Batches(keras.utils.PyDataset):
    """Batches that are noted when they are read; one of them fails, once the network has begun."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        super().__init__(workers=1, max_queue_size=1)
        self.fail_at, self.error = fail_at, error
        self.has_begun = threading.Event()
        self.is_read = [threading.Event() for _ in range(N_BATCHES)]

    def __len__(self) -> int:
        return N_BATCHES

    def __getitem__(self, i: int) -> Any:
        if i == self.fail_at and self.has_begun.is_set():
            self._fail()
        self.is_read[i].set()
        return (IMAGES[i * LENGTH : (i + 1) * LENGTH],)

    def _fail(self) -> None:
        assert self.error is not None
        raise self.error


def compute_by(monkeypatch: pytest.MonkeyPatch, step: Any) -> None:
    """`step(number)` is called in front of each batch that the network computes."""

    def make(*arguments: Any) -> Any:
        function, numbers = make_function(*arguments), iter(range(10**6))

        def run(arrays: list[Any]) -> list[Any]:
            step(next(numbers))
            return function(arrays)

        return run

    monkeypatch.setattr("topwork._features.frozen_part.make_function", make)


def rows_in(store: Path) -> int:
    return sum(each.rows for each in tw.open_store(store).info().collections)


def test_the_next_images_are_read_while_the_network_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tw.features(network(), IMAGES, verbose=0)
    data = Batches()

    def wait_for_the_next(number: int) -> None:
        ahead = min(number + 1, N_BATCHES - 1)
        assert data.is_read[ahead].wait(PATIENCE), "reading waits for the network"

    compute_by(monkeypatch, wait_for_the_next)
    np.testing.assert_array_equal(tw.features(network(), data, verbose=0), expected)


def test_the_store_is_written_while_the_network_computes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from topwork._store.collection import Collection

    is_written = threading.Event()
    append = Collection.append

    def noted(self: Collection, *rows: Any) -> None:
        append(self, *rows)
        is_written.set()

    def wait_for_the_first(number: int) -> None:
        assert number < 3 or is_written.wait(PATIENCE), "the store waits for the network"

    monkeypatch.setattr(Collection, "append", noted)
    compute_by(monkeypatch, wait_for_the_first)
    assert tw.precompute(frozen(), IMAGES, cache_dir=tmp_path, verbose=0) == len(IMAGES)


def frozen() -> keras.Model:
    return tw.add_head(2, hidden_units=None)(tw.freeze(network()))


def test_what_was_computed_before_the_data_failed_is_kept_and_its_error_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = Batches(fail_at=4, error=RuntimeError("the disk is on fire"))
    compute_by(monkeypatch, lambda _: data.has_begun.set())
    with pytest.raises(RuntimeError, match="the disk is on fire") as caught:
        tw.precompute(frozen(), data, cache_dir=tmp_path, verbose=0)
    assert "_fail" in "".join(traceback.format_tb(caught.tb))
    assert rows_in(tmp_path) == 4 * LENGTH


def test_an_interrupt_while_reading_keeps_what_was_computed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = Batches(4, KeyboardInterrupt())
    compute_by(monkeypatch, lambda _: data.has_begun.set())
    with pytest.raises(KeyboardInterrupt):
        tw.precompute(frozen(), data, cache_dir=tmp_path, verbose=0)
    assert rows_in(tmp_path) == 4 * LENGTH
    assert tw.precompute(frozen(), Batches(), cache_dir=tmp_path, verbose=0) == 2 * LENGTH


def test_an_error_of_the_network_reaches_the_user_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def break_at_the_third(number: int) -> None:
        if number == 3:
            raise MemoryError("no more")

    compute_by(monkeypatch, break_at_the_third)
    n_before = threading.active_count()
    with pytest.raises(MemoryError, match="no more") as caught:
        tw.precompute(frozen(), IMAGES, cache_dir=tmp_path, verbose=0)
    assert "break_at_the_third" in "".join(traceback.format_tb(caught.tb))
    assert rows_in(tmp_path) == 3 * LENGTH
    assert threading.active_count() <= n_before


def test_the_image_with_features_that_are_not_finite_is_still_named() -> None:
    part = network()
    part.layers[1].set_weights([np.full((3, 3, 3, 4), 1e38), np.zeros(4)])
    images = np.zeros_like(IMAGES)
    images[130] = 255
    with pytest.raises(
        ValueError, match=r"of 1 of 48 images .* first those of image 130 \(counted from 0"
    ):
        tw.features(part, images, layer=part.layers[1].name, verbose=0)


def test_augmentation_draws_in_the_order_of_the_images_and_in_the_thread_of_the_user(
    tmp_path: Path,
) -> None:
    threads, seen = set(), []

    def augment(images: Any) -> Any:
        threads.add(threading.get_ident())
        seen.append(float(images[0, 0, 0, 0]))
        return images

    tw.precompute(frozen(), IMAGES, cache_dir=tmp_path, augment=augment, verbose=0)
    assert threads == {threading.get_ident()}
    assert seen == [float(images[0, 0]) for images in IMAGES[::32, ..., 0]]


def test_augmentation_may_write_to_the_same_place_again() -> None:
    buffer = np.empty_like(IMAGES[:32])

    def augment(images: Any) -> Any:
        buffer[: len(images)] = images
        return buffer[: len(images)]

    part = network()
    run = Run(open_source(part, IMAGES), "images", augment, labelled=False)
    (table,) = Computation(part, part, open_cache("memory", None), 0).tables(run)
    rows = table.read(np.arange(len(IMAGES))).view("float32")
    np.testing.assert_array_equal(rows, tw.features(part, IMAGES, verbose=0))


# What there is no need for


def counted_dataset(counts: list[int]) -> tf.data.Dataset:
    """Batches of images; `counts` has how many were read each time."""

    def batches() -> Any:
        counts.append(0)
        for start in range(0, len(IMAGES), LENGTH):
            counts[-1] += 1
            yield IMAGES[start : start + LENGTH], np.arange(LENGTH) % 2

    spec = (
        tf.TensorSpec((LENGTH, SIZE, SIZE, 3), tf.float32),
        tf.TensorSpec((LENGTH,), tf.int64),
    )
    dataset = tf.data.Dataset.from_generator(batches, output_signature=spec)
    # As many as there are; of a generator that is not known.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(N_BATCHES))
    dataset.is_constant = True
    return dataset


@pytest.mark.parametrize("with_store", [False, True])
def test_data_is_opened_to_be_looked_at_and_to_be_read_and_not_a_third_time(
    tmp_path: Path, with_store: bool
) -> None:
    counts: tuple[list[int], list[int]] = ([], [])
    model = tw.add_head(2, hidden_units=None)(tw.freeze(network()))
    train, validation = map(counted_dataset, counts)
    validation = validation.map(lambda images, labels: (255 - images, labels))
    options = {"cache_dir": tmp_path} if with_store else {}
    tw.fit(model, train, validation_data=validation, verbose=0, **options)
    assert [len(each) for each in counts] == [2, 2]
    assert [each[-1] for each in counts] == [N_BATCHES, N_BATCHES]


def is_tuned(dataset: tf.data.Dataset) -> Any:
    return dataset.options().autotune.enabled


def test_data_sets_are_not_tuned_while_they_are_read_unless_the_user_asks_for_it() -> None:
    dataset = tf.data.Dataset.from_tensor_slices(IMAGES).batch(LENGTH)
    assert is_tuned(dataset) is None
    assert is_tuned(untuned(dataset)) is False
    assert is_tuned(dataset) is None  # the user's own is as it was
    for choice in (True, False):
        options = tf.data.Options()
        options.autotune.enabled = choice
        assert is_tuned(untuned(dataset.with_options(options))) is choice


def test_full_batches_are_passed_on_as_they_are() -> None:
    given = [([IMAGES[start : start + LENGTH]], np.arange(LENGTH)) for start in (0, LENGTH)]
    passed = list(in_full_batches(iter(given), LENGTH))
    assert len(passed) == 2
    for (one,), (other,) in zip((each for each, _ in given), (each for each, _ in passed), strict=True):
        assert np.shares_memory(one, other)
