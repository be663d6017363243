"""Several labels an image, numbers, grey images: from the head to the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import topwork as tw

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (24, 32, 32, 3)).astype("float32")
IMAGES[:12] /= 4
TARGETS = 5000.0 + 300 * (np.arange(24) >= 12)


def headed(n: int, channels: int = 3, **options: Any) -> keras.Model:
    backbone = tw.load_backbone(
        "mobilenet", "conv_pw_3_relu", weights=None, input_shape=(32, 32, channels), alpha=0.25
    )
    return tw.add_head(n, hidden_units=8, **options)(tw.freeze(backbone))


class TestLabels:
    def test_train_and_predict(self) -> None:
        model = headed(3, task="labels")
        labels = RNG.integers(0, 2, (24, 3)).astype("float32")
        history = tw.fit(model, IMAGES, labels, epochs=2, verbose=0)
        assert {"loss", "accuracy", "average_precision"} <= set(history.history)
        expected = model.predict(IMAGES[:2], verbose=0)
        low, high = expected.min() - 0.01, expected.max() + 0.01
        found = tw.predict(model, IMAGES[:2], class_names=["a", "b", "c"], threshold=low)
        assert [set(p.labels or ()) for p in found] == [{"a", "b", "c"}] * 2
        assert str(found[0]).count(" *") == 3
        assert tw.predict(model, IMAGES[:1], threshold=high)[0].labels == ()
        assert dict(found[0])["b"] == expected[0, 1]

    def test_one_label(self) -> None:
        model = headed(1, task="labels")
        assert model.loss == "binary_crossentropy"

    def test_hand_made_heads_are_known_by_their_loss(self) -> None:
        image = keras.Input((8, 8, 3))
        pooled = keras.layers.GlobalAveragePooling2D()(image)
        model = keras.Model(image, keras.layers.Dense(3)(pooled))
        picture = np.full((8, 8, 3), 9, "uint8")
        logits = model.predict(picture[None], verbose=0)[0].astype("float64")
        model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
        (found,) = tw.predict(model, picture)
        assert dict(found)["1"] == pytest.approx(1 / (1 + np.exp(-logits[1])))
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        (found,) = tw.predict(model, picture)
        assert dict(found)["1"] == pytest.approx(np.exp(logits[1]) / np.exp(logits).sum())
        model.compile(loss="huber")
        assert dict(tw.predict(model, picture)[0])["1"] == pytest.approx(logits[1])

    def test_threshold(self) -> None:
        model = headed(3, task="labels")
        names = {"class_names": ["a", "b", "c"]}
        for wrong in (50, -0.1, float("nan"), "0.5", [0.5, 0.5], {0.5}, [[0.5] * 3]):
            with pytest.raises(ValueError, match=r"probability from 0 to 1, .*a list of 3.* Received: "):
                tw.predict(model, IMAGES, threshold=wrong, **names)
        with pytest.raises(ValueError, match=r"for 'd', which is no label. Closest: '[abc]'"):
            tw.predict(model, IMAGES, threshold={"d": 0.2}, **names)
        shares = model.predict(IMAGES[:4], verbose=0)
        each = [0.0, 1.0, 0.5]
        for threshold in (each, tuple(each), np.array(each), {"a": 0.0, "b": 1}):
            for found, row in zip(
                tw.predict(model, IMAGES[:4], threshold=threshold, **names), shares, strict=True
            ):
                assert set(found.labels or ()) == {"a"} | ({"c"} if row[2] >= 0.5 else set())

    def test_threshold_of_one_unit(self) -> None:
        model = headed(1)
        share = float(model.predict(IMAGES[:1], verbose=0)[0, 0])
        found = [
            tw.predict(model, IMAGES[0], threshold=limit, class_names=["cat", "dog"])[0]
            for limit in (share - 0.01, share + 0.01)
        ]
        assert [p.labels for p in found] == [("dog",), ("cat",)]
        assert " *" in str(found[0])
        assert tw.predict(model, IMAGES[0])[0].labels is None

    @pytest.mark.parametrize(("n", "task"), [(3, "classes"), (2, "numbers")])
    def test_no_threshold_where_nothing_is_decided_by_it(self, n: int, task: str) -> None:
        with pytest.raises(ValueError, match=rf"threshold=0.5, and the model tells {n} {task}. Leave"):
            tw.predict(headed(n, task=task), IMAGES, threshold=0.5)


class TestNumbers:
    def test_targets_of_any_unit_are_learnt(self, tmp_path: Path) -> None:
        model = headed(1, task="numbers", learning_rate=1e-2)
        targets = 5000 + 300 * (np.arange(24) >= 12)
        tw.fit(model, IMAGES, targets, epochs=30, verbose=0)
        layer = model.get_layer("head_units")
        assert (layer.offset, layer.scale) == ([targets.mean()], [targets.std()])
        found = tw.predict(model, IMAGES, class_names=["grams"])
        numbers = np.array([p.number for p in found])
        assert numbers.mean() == pytest.approx(targets.mean(), abs=100)
        assert str(found[0]).endswith("grams")
        model.save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras")
        np.testing.assert_array_equal(again.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))
        tw.fit(model, IMAGES, targets * 2, epochs=1, verbose=0)
        assert model.get_layer("head_units").offset == [targets.mean()]

    def test_data_sets(self) -> None:
        import tensorflow as tf

        model = headed(2, task="numbers")
        targets = RNG.uniform(10, 20, (24, 2)).astype("float32")
        tw.fit(model, tf.data.Dataset.from_tensor_slices((IMAGES, targets)).batch(8), epochs=1, verbose=0)
        np.testing.assert_allclose(model.get_layer("head_units").offset, targets.mean(0), rtol=1e-5)

    def test_solved(self) -> None:
        model = headed(1, task="numbers", dropout=0)
        model = tw.add_head(1, hidden_units=None, task="numbers")(backbone_of(model))
        targets = 5000 + 300 * (np.arange(24) >= 12)
        history = tw.fit_head(model, IMAGES, targets, verbose=0)
        assert model.get_layer("head_units").offset == [targets.mean()]
        numbers = np.array([p.number for p in tw.predict(model, IMAGES)])
        assert np.abs(numbers - targets).mean() < 30  # of a deviation of 150
        assert history.history["mae"] == pytest.approx([np.abs(numbers - targets).mean()], rel=1e-3)

    def test_units_are_learnt_once_and_without_reading_more(self) -> None:
        class Counted(keras.utils.PyDataset):
            n_read = 0

            def __len__(self) -> int:
                return 3

            def __getitem__(self, index: int) -> Any:
                self.n_read += 1
                part = slice(8 * index, 8 * index + 8)
                return IMAGES[part], TARGETS[part]

        offset = [TARGETS.mean()]
        ways: dict[str, tuple[Any, dict[str, Any], int]] = {
            "solved": (tw.fit_head, {}, 0),
            "on features": (tw.fit, {"epochs": 1}, 0),
            "plainly": (tw.fit, {"epochs": 1, "cache": False}, 3),
        }
        for name, (function, options, n_more) in ways.items():
            backbone = backbone_of(headed(2))
            hidden_units = None if name == "solved" else 8
            model = tw.add_head(1, hidden_units=hidden_units, task="numbers")(backbone)
            data = Counted()
            function(model, data, verbose=0, **options)
            assert model.get_layer("head_units").offset == pytest.approx(offset)
            first, data.n_read = data.n_read, 0
            function(model, data, verbose=0, **options)
            assert first - data.n_read == n_more, name

    def test_numbers_of_different_sizes(self) -> None:
        both = np.stack([TARGETS, TARGETS / 1000], axis=1)
        message = r"^fit: the numbers to be predicted are of different sizes: number 0 deviates by 150, "
        with pytest.warns(UserWarning, match=message):
            tw.fit(headed(2, task="numbers"), IMAGES, both, epochs=1, verbose=0)


def backbone_of(model: keras.Model) -> keras.Model:
    return keras.Model(model.inputs, model.get_layer("conv_pw_3_relu").output)


class TestFeatures:
    def test_what_the_head_receives(self, tmp_path: Path) -> None:
        model = headed(2)
        for _ in range(2):
            found = tw.features(model, IMAGES, cache_dir=tmp_path, verbose=0)
            maps = tw.features(model, IMAGES, layer="conv_pw_3_relu", verbose=0)
            np.testing.assert_allclose(found, maps.mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)
        expected = backbone_of(model).predict(IMAGES, verbose=0)
        np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5)
        assert tw.open_store(tmp_path).info().collections[0].rows == 24

    def test_files_in_their_order(self, make_photos: Any, tmp_path: Path) -> None:
        model = headed(2)
        folder = make_photos(tmp_path / "x", ("a", "b"), 4)
        data = tw.data.read_folder(folder, model)
        ordered = tw.data.read_folder(folder, model, shuffle=False)
        np.testing.assert_array_equal(
            tw.features(model, data, verbose=0), tw.features(model, ordered, verbose=0)
        )

    def test_no_such_layer(self) -> None:
        with pytest.raises(ValueError, match=r"no layer 'conv3'. Closest: 'conv"):
            tw.features(headed(2), IMAGES, layer="conv3")


def test_task() -> None:
    with pytest.raises(ValueError, match=r"task must be one of 'classes', .* Received: 'regression'"):
        tw.add_head(3, task="regression")


def test_grey_images() -> None:
    grey, color = headed(2, channels=1), headed(2)
    color.set_weights(grey.get_weights())
    assert grey.input_shape == (None, 32, 32, 1)
    assert [layer.name for layer in grey.layers] == [layer.name for layer in color.layers]
    images = IMAGES[..., :1]
    expected = color.predict(np.repeat(images, 3, axis=-1), verbose=0)
    np.testing.assert_allclose(grey.predict(images, verbose=0), expected, rtol=1e-5)
    tw.fit(grey, images, np.arange(24) % 2, epochs=1, verbose=0)
    assert len(tw.predict(grey, images[0, :20, :, 0])) == 1


def test_balanced_accuracy_counts_each_class_alike() -> None:
    confusion = np.array([[90, 10, 0], [5, 5, 0], [0, 0, 0]])
    found = tw.interpret.Report(("a", "b", "c"), confusion, ())
    assert found.balanced_accuracy == pytest.approx((0.9 + 0.5) / 2)
    assert found.accuracy == pytest.approx(95 / 110)


@pytest.mark.parametrize(
    ("task", "labels"), [("labels", np.eye(3)[np.arange(24) % 3]), ("numbers", IMAGES.mean(axis=(1, 2)))]
)
def test_classes_that_are_none_have_no_weights(task: str, labels: Any) -> None:
    what = "several labels an image" if task == "labels" else "numbers"
    for weights in ({0: 1.0, 1: 5.0}, [1.0, 2.0, 3.0]):
        with pytest.raises(
            ValueError, match=rf"^fit: class_weight needs .* the model is for {what}: Keras"
        ):
            tw.fit(headed(3, task=task), IMAGES, labels, class_weight=weights, verbose=0)


@pytest.mark.parametrize("task", ["classes", "labels", "numbers"])
def test_a_model_that_has_diverged_is_not_reported_on(task: str) -> None:
    model = headed(3, task=task)
    model.get_layer("head_output").bias.assign([0.0, np.nan, 0.0])
    labels = np.eye(3)[np.arange(24) % 3]
    with pytest.raises(ValueError, match=r"^report: the model gives NaN or infinite numbers, first for"):
        tw.interpret.report(model, (IMAGES, labels))
