"""`report` for several labels an image and for numbers; calibration; the files of mistakes."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from topwork._data.origin import in_order
from topwork._evidence import scores
from topwork._networks.record import Record, write_record
from topwork.data import read_folder
from topwork.interpret import LabelsReport, NumbersReport, Report, report

RNG = np.random.default_rng(0)


def giving_back(units: int, loss: Any = None, activation: str = "linear") -> keras.Model:
    """A model that gives back what is prepared as 'pixels' of a 1x1 image."""
    image = keras.Input((1, 1, units))
    x = keras.layers.Activation(activation)(keras.layers.Flatten()(image))
    model = keras.Model(image, x)
    model.compile(loss=loss)
    return model


def pixels(values: Any) -> np.ndarray:
    return np.asarray(values, "float32")[:, None, None, :]


def odds(probabilities: Any) -> np.ndarray:
    p = np.asarray(probabilities, "float64")
    return pixels(np.log(p / (1 - p)))


NAMES = ["ace", "king", "heart"]
SHARES = np.array([[0.9, 0.2, 0.6], [0.8, 0.7, 0.3], [0.3, 0.1, 0.4], [0.4, 0.6, 0.2]])
SHOWN = np.array([[1, 0, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]])


@pytest.fixture
def found() -> LabelsReport:
    return report(giving_back(3, "binary_crossentropy", "sigmoid"), (odds(SHARES), SHOWN), NAMES)


class TestScores:
    @pytest.mark.parametrize("n_levels", [3, 20, 1000])
    def test_average_precision_is_that_of_scikit_learn(self, n_levels: int) -> None:
        shown = RNG.random((80, 5)) < [0.5, 0.1, 0.9, 0.02, 1.0]
        shown[0] = True
        given = RNG.integers(0, n_levels, (80, 5)) / n_levels  # with ties, the fewer levels the more
        metrics = pytest.importorskip("sklearn.metrics")
        expected = metrics.average_precision_score(shown, given, average=None)
        np.testing.assert_allclose(scores.average_precision(shown, given), expected, rtol=1e-12)
        assert scores.mean_average_precision(shown, given) == pytest.approx(expected.mean())

    def test_a_label_that_no_image_has_does_not_count(self) -> None:
        shown = np.array([[1, 0], [0, 0], [1, 0]], bool)
        given = np.array([[0.9, 0.5], [0.1, 0.5], [0.8, 0.5]])
        areas = scores.average_precision(shown, given)
        assert (areas[0], math.isnan(areas[1])) == (1.0, True)
        assert scores.mean_average_precision(shown, given) == 1.0
        assert math.isnan(scores.mean_average_precision(shown[:, 1:], given[:, 1:]))

    def test_r2_is_that_of_scikit_learn(self) -> None:
        targets = RNG.normal(5000, 1, (50, 2)) * [1, 0.001]
        given = targets + RNG.normal(0, 0.5, (50, 2)) * [1, 0.001]
        metrics = pytest.importorskip("sklearn.metrics")
        expected = metrics.r2_score(targets, given, multioutput="raw_values")
        np.testing.assert_allclose(scores.r2(targets, given), expected, rtol=1e-6)

    def test_r2_of_what_never_varies_is_unknown(self) -> None:
        targets = np.full((5, 1), 1234.567)
        assert np.isnan(scores.r2(targets, targets + 1)).all()

    def test_standard_errors_are_those_of_repeated_draws(self) -> None:
        errors, means = [], []
        for seed in range(60):
            rng = np.random.default_rng(seed)
            shown = rng.random((100, 3)) < 0.4
            given = shown + rng.normal(0, 0.8, (100, 3))
            means.append(scores.mean_average_precision(shown, given))
            if seed < 5:
                errors.append(scores.mean_average_precision_error(shown, given))
        assert np.mean(errors) == pytest.approx(np.std(means), rel=0.35)
        errors, means = [], []
        for seed in range(60):
            rng = np.random.default_rng(seed)
            targets = rng.normal(0, 1, (100, 1))
            given = targets + rng.normal(0, 0.7, (100, 1))
            means.append(scores.r2(targets, given)[0])
            if seed < 5:
                errors.append(scores.r2_error(targets, given))
        assert np.mean(errors) == pytest.approx(np.std(means), rel=0.35)


class TestSeveralLabels:
    def test_numbers(self, found: LabelsReport) -> None:
        ace, king, heart = found.rows
        assert (ace.precision, ace.recall, ace.images) == (1.0, pytest.approx(2 / 3), 3)
        assert ace.f1 == pytest.approx(0.8)
        assert ace.average_precision == pytest.approx(1.0)
        assert (king.precision, king.recall, king.average_precision) == (0.5, 1.0, 1.0)
        assert (heart.precision, heart.recall) == (0.0, 0.0)
        assert heart.average_precision == pytest.approx(1 / 3)
        assert found.mean_average_precision == pytest.approx((1 + 1 + 1 / 3) / 3)
        assert found.accuracy == pytest.approx(8 / 12)
        assert found.exact_match == pytest.approx(1 / 4)
        assert found.n_images == 4

    def test_agrees_with_scikit_learn(self) -> None:
        shown = RNG.random((60, 4)) < 0.4
        shares = np.clip(shown * 0.3 + RNG.uniform(0.05, 0.65, (60, 4)), 0.01, 0.99)
        model = giving_back(4, "binary_crossentropy", "sigmoid")
        found = report(model, (odds(shares), shown), threshold=0.45)
        metrics = pytest.importorskip("sklearn.metrics")
        expected = metrics.precision_recall_fscore_support(shown, shares >= 0.45)
        rows = [[r.precision, r.recall, r.f1, r.images] for r in found.rows]
        np.testing.assert_allclose(np.transpose(rows), expected)
        areas = metrics.average_precision_score(shown, shares, average=None)
        np.testing.assert_allclose([r.average_precision for r in found.rows], areas, rtol=1e-6)

    def test_mistakes(self, found: LabelsReport) -> None:
        # The surest of each: king given to image 3 (0.6), heart to image 0 (0.6), heart not to 1 (0.7).
        first = found.mistakes[0]
        assert (first.index, first.label) == (1, "no heart")
        assert (first.true, first.predicted) == ("ace + king + heart", "ace + king")
        assert first.probability == pytest.approx(0.7)
        assert {m.index for m in found.mistakes} == {0, 1, 3}
        assert str(first) == "image 1: ace + king + heart, taken for ace + king (no heart 70.0%)"

    def test_thresholds_move_decisions_and_not_areas(self, found: LabelsReport) -> None:
        model = giving_back(3, "binary_crossentropy", "sigmoid")
        each = report(model, (odds(SHARES), SHOWN), NAMES, threshold=[0.35, 0.65, 0.25])
        assert each.rows[0].recall == 1.0
        assert each.rows[1].precision == 1.0
        assert each.mean_average_precision == found.mean_average_precision
        assert "threshold 0.25 to 0.65" in str(each)
        named = report(model, (odds(SHARES), SHOWN), NAMES, threshold={"ace": 0.35})
        np.testing.assert_array_equal(named.thresholds, [0.35, 0.5, 0.5])

    def test_text(self, found: LabelsReport) -> None:
        lines = str(found).splitlines()
        assert lines[0].startswith("mean average precision 0.778 ± 0.")
        assert lines[1].startswith(
            "right decisions 66.67%, images with all labels right 25.00% (threshold 0.5), expected"
        )
        assert lines[3:5] == [
            "label  precision  recall     F1  average precision  images",
            "ace        1.000   0.667  0.800              1.000       3",
        ]
        assert lines[8] == "most confident mistakes:"

    def test_notebook(self) -> None:
        model = giving_back(3, "binary_crossentropy", "sigmoid")
        page = report(model, (odds(SHARES), SHOWN), ["<b>", "king", "heart"])._repr_html_()
        assert "&lt;b&gt;" in page
        assert page.count("<tr>") > 4  # the table of classes, and others
        assert "image 1" in page

    def test_logits(self, found: LabelsReport) -> None:
        model = giving_back(3, keras.losses.BinaryCrossentropy(from_logits=True))
        again = report(model, (odds(SHARES), SHOWN), NAMES)
        np.testing.assert_allclose(again.probabilities, found.probabilities, rtol=1e-5)

    def test_data_sets(self, found: LabelsReport) -> None:
        model = giving_back(3, "binary_crossentropy", "sigmoid")
        data = tf.data.Dataset.from_tensor_slices((odds(SHARES), SHOWN)).batch(3)
        assert str(report(model, data, NAMES)) == str(found)

    def test_plots(self, found: LabelsReport) -> None:
        (axes,) = found.plot().axes
        assert [text.get_text() for text in axes.get_yticklabels()] == [
            "ace (3)",
            "king (1)",
            "heart (1)",
        ]
        areas = next(line for line in axes.lines if line.get_label() == "average precision")
        np.testing.assert_allclose(areas.get_xdata(), [1, 1, 1 / 3])
        titles = [axes.get_title() for axes in found.plot_mistakes().axes]
        assert titles[0] == "ace + king + heart\n→ ace + king\n(no heart 70%)"
        assert "expected calibration error" in found.plot_calibration().axes[0].get_title()

    @pytest.mark.parametrize(
        ("labels", "received"),
        [
            (np.array([0, 1, 2, 0]), r"\(4,\) and type int64, and 2 for image 2\. Where"),
            (SHOWN[:, :2], r"\(4, 2\) and type int64\. Where"),
            (SHOWN * 0.5, r"and \[0.5 0.  0. \] for image 0\. Where"),
            (np.array([["ace"] * 3] * 4), r"type <U3\. Where"),
        ],
        ids=["class numbers", "too few", "soft", "names"],
    )
    def test_other_labels(self, labels: Any, received: str) -> None:
        model = giving_back(3, "binary_crossentropy", "sigmoid")
        message = rf"^report: several labels an image are rows of 0 and 1 of 3 columns.*{received}"
        with pytest.raises(ValueError, match=message):
            report(model, (odds(SHARES), labels))


class TestNumbers:
    TRUE = np.array([[10.0, 0.1], [20.0, 0.2], [30.0, 0.3], [40.0, 0.4]])
    SAID = np.array([[11.0, 0.1], [20.0, 0.2], [28.0, 0.3], [41.0, 0.1]])

    @pytest.fixture
    def found(self) -> NumbersReport:
        return report(giving_back(2, "mse"), (pixels(self.SAID), self.TRUE), ["grams", "share"])

    def test_numbers(self, found: NumbersReport) -> None:
        grams, share = found.rows
        assert grams.mean_absolute_error == pytest.approx(1.0)
        assert grams.standard_error == pytest.approx(math.sqrt(0.5) / 2)
        assert grams.root_mean_squared_error == pytest.approx(math.sqrt(6 / 4))
        assert grams.r2 == pytest.approx(1 - 6 / 500)
        assert grams.deviation == pytest.approx(self.TRUE[:, 0].std())
        assert share.r2 == pytest.approx(1 - 0.09 / 0.05, rel=1e-5)
        assert found.r2 == pytest.approx((grams.r2 + share.r2) / 2)
        assert found.mean_absolute_error == pytest.approx(np.abs(self.TRUE - self.SAID).mean())

    def test_the_farthest_off_is_told_in_units_of_each_number(self, found: NumbersReport) -> None:
        assert str(found.mistakes[0]) == "image 3: share 0.4, taken for 0.1"
        assert (found.mistakes[1].index, found.mistakes[1].name) == (2, "grams")

    @pytest.mark.parametrize("shape", [(4,), (4, 1)])
    @pytest.mark.parametrize("loss", ["mse", "mean_absolute_error", keras.losses.Huber()])
    def test_one_number(self, shape: tuple[int, ...], loss: Any) -> None:
        found = report(giving_back(1, loss), (pixels(self.SAID[:, :1]), self.TRUE[:, 0].reshape(shape)))
        assert found.mean_absolute_error == pytest.approx(1.0)
        assert found.class_names == ("0",)

    def test_text_and_notebook(self, found: NumbersReport) -> None:
        lines = str(found).splitlines()
        assert lines[0].startswith("R² 0.094 ± ")
        assert lines[0].endswith(", mean absolute error 0.5375, 4 images")
        expected = [
            "number",
            "mean absolute error",
            "± s.e.",
            "root mean squared error",
            "R²",
            "deviation",
        ]
        assert re.split(r"  +", lines[2]) == expected
        assert lines[3].split() == ["grams", "1", "0.3536", "1.225", "0.988", "11.18"]
        assert lines[-4] == "farthest off:"
        page = found._repr_html_()
        assert ">grams</td>" in page
        assert "image 3" in page

    def test_plot(self, found: NumbersReport) -> None:
        axes = found.plot().axes
        assert [a.get_title().split(":")[0] for a in axes] == ["grams", "share"]
        np.testing.assert_allclose(axes[0].lines[1].get_xdata(), self.TRUE[:, 0])
        np.testing.assert_allclose(axes[0].lines[1].get_ydata(), self.SAID[:, 0])
        assert found.plot_mistakes().axes[0].get_title() == "share 0.4\n→ 0.1"

    def test_many_numbers_are_not_all_drawn(self) -> None:
        values = RNG.normal(0, 1, (6, 12))
        axes = report(giving_back(12, "mse"), (pixels(values), values)).plot().axes
        assert len([a for a in axes if a.get_title()]) == 9

    @pytest.mark.parametrize(
        "labels", [np.zeros((4, 3)), np.full(4, np.nan), np.array(["a"] * 4)], ids=["3", "NaN", "names"]
    )
    def test_other_labels(self, labels: Any) -> None:
        message = "^report: what is to be predicted is a number for each image, finite, and the data has"
        with pytest.raises(ValueError, match=message):
            report(giving_back(1, "mse"), (pixels(self.SAID[:, :1]), labels))


class TestCalibration:
    def test_one_that_is_as_sure_as_right(self) -> None:
        p = np.repeat([0.15, 0.55, 0.95], 100)
        y = np.concatenate([np.arange(100) < 15, np.arange(100) < 55, np.arange(100) < 95])
        # Of one unit the class that is named counts: 0.15 is 85 % for the other one.
        found = report(giving_back(1, activation="sigmoid"), (odds(p[:, None]), y.astype(int)))
        assert found.calibration_error == pytest.approx(0, abs=1e-6)
        too_sure = report(giving_back(1, activation="sigmoid"), (odds(p[:, None]), y[::-1].astype(int)))
        assert too_sure.calibration_error > 0.3

    def test_its_definition(self) -> None:
        p = RNG.uniform(0.34, 1, 200)
        shares = np.stack([p, (1 - p) * 0.7, (1 - p) * 0.3], axis=1)
        true = RNG.integers(0, 3, 200)
        found = report(giving_back(3, activation="softmax"), (pixels(np.log(shares)), true))
        sure, right = shares.max(axis=1), shares.argmax(axis=1) == true
        edges = np.linspace(0, 1, 16)
        bins = [(sure >= a) & (sure < b) for a, b in itertools.pairwise(edges)]
        expected = sum(abs(sure[b].sum() - right[b].sum()) for b in bins) / 200
        assert found.calibration_error == pytest.approx(expected, abs=1e-5)
        assert found.calibration.counts.sum() == 200
        dots = found.plot_calibration().axes[0].lines[1]
        filled = found.calibration.counts > 0
        np.testing.assert_allclose(dots.get_xdata(), found.calibration.probabilities[filled])

    def test_a_report_by_hand_has_none(self) -> None:
        by_hand = Report(("a", "b"), np.eye(2, dtype="int64"), ())
        assert math.isnan(by_hand.calibration_error)
        assert "calibration" not in str(by_hand)
        with pytest.raises(ValueError, match=r"^plot_calibration\(\) draws probabilities, .* by hand"):
            by_hand.plot_calibration()


def test_threshold_of_one_unit() -> None:
    model = giving_back(1, activation="sigmoid")
    data = odds([[0.2], [0.4], [0.6]]), np.array([0, 1, 1])
    assert report(model, data).confusion.tolist() == [[1, 0], [1, 1]]
    assert report(model, data, threshold=0.3).confusion.tolist() == [[1, 0], [0, 2]]
    (mistake,) = report(model, data, threshold=0.7).mistakes[:1]
    assert (mistake.predicted, mistake.probability) == ("0", pytest.approx(0.6))
    with pytest.raises(ValueError, match=r"report: threshold is for sigmoid units.* tells 3 classes"):
        report(giving_back(3, activation="softmax"), data, threshold=0.5)


class TestFiles:
    @pytest.fixture
    def folder(self, make_photos: Callable[..., Path], tmp_path: Path) -> Path:
        return make_photos(tmp_path / "photos", ("a", "b"), 5, size=8)

    @pytest.fixture
    def model(self) -> keras.Model:
        """Takes everything for the second class."""
        image = keras.Input((8, 8, 3))
        pooled = keras.layers.GlobalAveragePooling2D()(image)
        return keras.Model(image, keras.layers.Dense(1, "sigmoid", kernel_initializer="ones")(pooled))

    def names(self, found: Report) -> list[str]:
        return sorted(Path(str(m.file)).name for m in found.mistakes)

    EXPECTED = tuple(f"a_{i}.jpg" for i in range(5))

    @pytest.mark.parametrize("shuffle", [True, False])
    def test_of_read_folder(self, folder: Path, model: keras.Model, shuffle: bool) -> None:
        found = report(model, read_folder(folder, model, shuffle=shuffle))
        assert self.names(found) == list(self.EXPECTED)
        assert all(Path(str(m.file)).is_file() for m in found.mistakes)
        assert f"image 0, {folder / 'a' / 'a_0.jpg'}: a, taken for b" in str(found)
        labels = {text.get_text() for axes in found.plot_mistakes().axes for text in axes.texts}
        assert labels == set(self.EXPECTED)

    def test_names_of_the_data_must_be_those_of_the_model(self, folder: Path, model: keras.Model) -> None:
        data = read_folder(folder, model)
        write_record(model, Record(("b", "a")))
        message = (
            r"^report: the classes of the data are a, b, and the model was trained on b, a: the same"
        )
        with pytest.raises(ValueError, match=message):
            report(model, data)
        assert report(model, data, ["x", "y"]).class_names == ("x", "y")
        again = read_folder(folder, model, class_names=["b", "a"])
        assert report(model, again).class_names == ("b", "a")
        write_record(model, Record(("a", "b", "c")))
        with pytest.raises(ValueError, match="trained on a, b, c"):
            report(model, data)

    def test_of_keras_own_reader(self, folder: Path, model: keras.Model) -> None:
        read = keras.utils.image_dataset_from_directory
        in_order = read(folder, image_size=(8, 8), batch_size=4, shuffle=False, verbose=False)
        assert self.names(report(model, in_order)) == list(self.EXPECTED)
        kept = in_order.map(lambda x, y: (x / 1.0, y), num_parallel_calls=2).cache().prefetch(1)
        assert self.names(report(model, kept)) == list(self.EXPECTED)
        shuffled = read(folder, image_size=(8, 8), batch_size=4, seed=0, verbose=False)
        assert {m.file for m in report(model, shuffled).mistakes} == {None}

    def test_after_what_changes_the_order(self, folder: Path, model: keras.Model) -> None:
        data = read_folder(folder, model, shuffle=False, batch_size=2)
        same = data.map(lambda x, y: (x, y)).unbatch().batch(3)
        assert self.names(report(model, same)) == list(self.EXPECTED)
        for changed in (data.skip(1), data.shuffle(5), data.filter(lambda x, y: True)):
            assert in_order(changed)[1] is None
        assert {m.file for m in report(model, data.skip(1)).mistakes} == {None}
        mapped = read_folder(folder, model).map(lambda x, y: (x, y))
        assert {m.file for m in report(model, mapped).mistakes} == {None}

    def test_of_a_py_dataset(self, model: keras.Model) -> None:
        class Photos(keras.utils.PyDataset):
            file_paths = ("x.jpg", "y.jpg", "z.jpg")

            def __len__(self) -> int:
                return 1

            def __getitem__(self, index: int) -> Any:
                return np.ones((3, 8, 8, 3), "float32"), np.array([0, 1, 0])

        data = Photos()
        assert self.names(report(model, data)) == ["x.jpg", "z.jpg"]
        data.shuffle = True  # type: ignore[attr-defined]
        assert {m.file for m in report(model, data).mistakes} == {None}
