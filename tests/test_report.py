from __future__ import annotations

import math
import sys
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from topwork.interpret import Report, report

NAMES = ["red", "green", "blue"]


def scores(activation: str = "softmax", units: int = 3) -> keras.Model:
    """Gives back probabilities that are prepared as 'pixels' of a 1x1 image."""
    inputs = keras.Input((1, 1, units))
    x = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, keras.layers.Activation(activation)(x))


def logits(*rows: list[float]) -> np.ndarray:
    return np.log(np.array(rows, "float32"))[:, None, None, :]


# Five images: true classes 0 0 1 2 2, taken for 0 1 1 0 2.
X = logits([0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.9, 0.05, 0.05], [0.2, 0.2, 0.6])
Y = np.array([0, 0, 1, 2, 2])
CONFUSION = [[1, 1, 0], [0, 1, 0], [1, 0, 1]]


class Batches(keras.utils.PyDataset):
    def __init__(self) -> None:
        super().__init__()

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return X[2 * index : 2 * index + 2], Y[2 * index : 2 * index + 2]


@pytest.fixture
def found() -> Report:
    return report(scores(), (X, Y), NAMES)


def test_numbers(found: Report) -> None:
    assert found.confusion.tolist() == CONFUSION
    assert found.n_images == 5
    assert found.accuracy == pytest.approx(0.6)
    assert found.standard_error == pytest.approx(math.sqrt(0.6 * 0.4 / 5))
    red, green, blue = found.rows
    assert (red.precision, red.recall, red.f1, red.images) == (0.5, 0.5, 0.5, 2)
    assert (green.precision, green.recall, green.images) == (0.5, 1, 1)
    assert green.f1 == pytest.approx(2 / 3)
    assert (blue.precision, blue.recall, blue.images) == (1, 0.5, 2)


def test_mistakes_are_sorted_by_confidence(found: Report) -> None:
    first, second = found.mistakes
    assert (first.index, first.true, first.predicted) == (3, "blue", "red")
    assert first.probability == pytest.approx(0.9, rel=1e-5)
    np.testing.assert_array_equal(first.image, X[3])
    assert (second.index, second.true, second.predicted) == (1, "red", "green")


def test_only_the_worst_mistakes_are_kept() -> None:
    assert [m.index for m in report(scores(), (X, Y), NAMES, n_mistakes=1).mistakes] == [3]
    assert report(scores(), Batches(), NAMES, n_mistakes=0).mistakes == ()


@pytest.mark.parametrize(
    "data",
    [
        (X, Y[:, None]),
        (X, np.eye(3)[Y]),
        [X, Y.astype("float32"), np.ones(5)],
        tf.data.Dataset.from_tensor_slices((X, Y)).batch(2),
        tf.data.Dataset.from_tensor_slices((X, np.eye(3)[Y])).batch(2),
        Batches(),
    ],
    ids=["column", "one-hot", "list with weights", "dataset", "one-hot dataset", "PyDataset"],
)
def test_every_kind_of_data(data: Any) -> None:
    found = report(scores(), data, NAMES)
    assert found.confusion.tolist() == CONFUSION
    assert [m.index for m in found.mistakes] == [3, 1]


def test_shuffled_data_keeps_images_and_labels_together() -> None:
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(5, seed=1).batch(2)
    assert report(scores(), dataset, NAMES).confusion.tolist() == CONFUSION


def test_a_sigmoid_unit() -> None:
    x = np.array([-3.0, 2.0, 3.0, 4.0], "float32")[:, None, None, None]
    for y in (np.array([0, 0, 1, 1]), np.array([[1, 0], [1, 0], [0, 1], [0, 1]])):
        found = report(scores("sigmoid", 1), (x, y), ["cat", "dog"])
        assert found.confusion.tolist() == [[1, 1], [0, 2]]
        assert str(found.mistakes[0]) == "image 1: cat, taken for dog (88.1%)"


def test_a_class_without_images_or_predictions() -> None:
    found = report(scores(), (X[:1], Y[:1]), NAMES)
    assert found.rows[2].images == 0
    assert math.isnan(found.rows[2].recall)
    assert math.isnan(found.rows[2].precision)
    assert found.rows[2].cells() == ("blue", "-", "-", "-", "0")


def test_text(found: Report) -> None:
    assert str(found).splitlines() == [
        "accuracy 60.00% ± 21.91% (standard error), 5 images",
        "balanced accuracy 66.67%, expected calibration error 0.480",
        "",
        "class  precision  recall     F1  images",
        "red        0.500   0.500  0.500       2",
        "green      0.500   1.000  0.667       1",
        "blue       1.000   0.500  0.667       2",
        "",
        "confusion (rows: shown, columns: taken for)",
        "       red  green  blue",
        "red      1      1     0",
        "green    0      1     0",
        "blue     1      0     1",
        "",
        "most confident mistakes:",
        "  image 3: blue, taken for red (90.0%)",
        "  image 1: red, taken for green (70.0%)",
    ]


def test_text_of_many_classes_lists_the_confusions() -> None:
    x = logits(np.full(15, 1 / 15).tolist(), np.full(15, 1 / 15).tolist())
    text = str(report(scores(units=15), (x, np.array([4, 4]))))
    assert "most frequent confusions:\n  2 times 4, taken for 0\n" in text


def test_notebook_escapes_names() -> None:
    page = report(scores(), (X, Y), ["<b>", "green", "blue"])._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<td><b></td>" not in page
    assert page.count("<tr>") > 4  # the table of classes, and others
    assert "most confident mistakes" in page


def test_confusion_plot(found: Report) -> None:
    axes = found.plot().axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == NAMES
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.5, 0.5, 0], [0, 1, 0], [0.5, 0, 0.5]])
    assert sorted(text.get_text() for text in axes.texts) == ["1"] * 5


def test_confusion_plot_of_many_classes_has_no_numbers() -> None:
    x = logits(np.full(70, 1 / 70).tolist())
    axes = report(scores(units=70), (x, np.array([3]))).plot().axes[0]
    assert len(axes.texts) == 0


def test_mistakes_plot(found: Report) -> None:
    titles = [axes.get_title() for axes in found.plot_mistakes().axes]
    assert titles == ["blue\n→ red 90%", "red\n→ green 70%"]


def test_no_mistakes_to_plot() -> None:
    (axes,) = report(scores(), (X[:1], Y[:1]), NAMES).plot_mistakes().axes
    assert axes.texts[0].get_text() == "no mistakes"


def test_numbers_need_no_matplotlib_and_figures_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = report(scores(), (X, Y), NAMES)
    assert "accuracy" in str(found)
    with pytest.raises(ImportError, match=r'drawn with matplotlib.* pip install "topwork\[plots\]"'):
        found.plot()
    with pytest.raises(ImportError, match=r"drawn with matplotlib"):
        found.plot_mistakes()


def test_scaled_pixels_are_noticed() -> None:
    inputs = keras.Input((2, 2, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(x))
    with pytest.warns(UserWarning, match=r"report: the data has pixels from 0.5 to 0.5") as caught:
        report(model, (np.full((40, 2, 2, 3), 0.5, "float32"), np.zeros(40)), NAMES)
    assert len(caught) == 1


class TestErrors:
    def fails(self, message: str, data: Any, names: Any = NAMES) -> None:
        with pytest.raises(ValueError, match=message):
            report(scores(), data, names)

    def test_labels_outside(self) -> None:
        valid = "labels must be class numbers of 3 classes, numbered 0 to 2, and the data has the label"
        self.fails(rf"^report: {valid} 3. Number", (X, Y + 1))
        self.fails(rf"{valid} -1.", (X, Y - 1))
        self.fails(rf"{valid} 0.5.", (X, Y + 0.5))

    def test_labels_of_another_form(self) -> None:
        message = r"one-hot of 3 columns.*Received: ndarray of shape \(5, 4\) and type float32. Pass"
        self.fails(message, (X, np.zeros((5, 4))))
        self.fails(r"ndarray of shape \(5,\) and type <U3. Number the", (X, np.array(["red"] * 5)))

    def test_labels_of_several_classes(self) -> None:
        labels = np.eye(3)[Y]
        labels[2] = [0, 1, 1]
        self.fails(r"a single 1 in each row. Received the row: \[0. 1. 1.\]. Of smoothed", (X, labels))

    def test_counts(self) -> None:
        self.fails(r"x has 5 images, and y has 4. Each image needs one", (X, Y[:4]))

    def test_nothing(self) -> None:
        self.fails(r"report: there are no images: x is empty", (X[:0], Y[:0]))
        dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(2).take(0)
        self.fails(r"report: the data has no images. Look at how", dataset)

    def test_no_labels(self) -> None:
        dataset = tf.data.Dataset.from_tensor_slices(X).batch(2)
        self.fails(r"report: the data has no labels. Pass \(images, labels\)", dataset)

    def test_not_batched(self) -> None:
        dataset = tf.data.Dataset.from_tensor_slices((X, Y))
        self.fails(r"single images of shape \(1, 1, 3\). Batch it", dataset)

    def test_endless(self) -> None:
        dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(2).repeat()
        self.fails(r"report: the dataset is endless \(it was repeated\).*Leave out .repeat\(\)", dataset)

    def test_images_alone(self) -> None:
        self.fails(r"the data has no labels. Pass \(images, labels\)", X)

    def test_names(self) -> None:
        self.fails(r"a name for each of the model's 3 classes.* 2 names. Give", (X, Y), ["a", "b"])

    def test_logits(self) -> None:
        with pytest.raises(ValueError, match=r"report: the model must end in softmax"):
            report(scores("linear"), (X, Y), NAMES)
