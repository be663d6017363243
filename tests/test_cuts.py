"""compare_cuts: which layers it compares, what it says of each, which one it recommends."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from topwork._evidence.comparison import Comparison
from topwork._evidence.cuts import CutRow, compare_cuts
from topwork._evidence.probe import fit_probe
from topwork._evidence.scores import mean_average_precision, standard_error
from topwork._evidence.tasks import SeenLabels
from topwork._networks.backbones import cut_points, load_backbone
from topwork._networks.blocks import block_ends, multiply_adds, parameters, spread, up_to
from topwork._networks.graph import steps
from topwork.data import read_folder

SIZE = 32


def small_network(
    size: int = 16, name: str = "small", last_activation: str | None = "relu"
) -> keras.Model:
    """Two convolutions with pooling, a residual block, and a third."""
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    x = keras.layers.MaxPooling2D(name="first_pool")(x)
    x = keras.layers.ZeroPadding2D(name="pad")(x)
    x = keras.layers.Conv2D(8, 3, name="second")(x)
    x = keras.layers.BatchNormalization(name="second_norm")(x)
    residual = keras.layers.Conv2D(8, 3, padding="same", name="inner")(x)
    x = keras.layers.Add(name="sum")([x, residual])
    last = keras.layers.Conv2D(6, 3, strides=2, padding="same", activation=last_activation, name="last")
    x = last(x)
    return keras.Model(inputs, x, name=name)


def tinted(n_images: int, seed: int, size: int = 16, strength: float = 8) -> tuple[Any, Any]:
    """Patches of random colours, half of the images a little redder, half of them a little bluer."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_images) % 2
    patches = rng.normal(0, 40, (n_images, 8, 8, 3)).repeat(size // 8, axis=1).repeat(size // 8, axis=2)
    images = patches + rng.uniform(70, 180, (n_images, 1, 1, 1))
    images += strength * (2 * labels - 1)[:, None, None, None] * np.array([1, 0, -1])
    images += rng.normal(0, 15, images.shape)
    return np.clip(images, 0, 255).astype("float32"), labels


TRAIN, VALIDATION = tinted(60, seed=0), tinted(40, seed=1)
LARGER_TRAIN, LARGER_VALIDATION = tinted(60, seed=0, size=SIZE), tinted(40, seed=1, size=SIZE)


def row(name: str, accuracy: float, cost: int, backbone: str = "net", n_images: int = 100) -> CutRow:
    error = standard_error(accuracy, n_images)
    return CutRow(backbone, name, accuracy, error, 64, 1000 * cost, 10**6 * cost, cost / 10)


# Which layers


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("inception_v3", {f"mixed{i}" for i in range(1, 11)} | {"max_pooling2d", "max_pooling2d_1"}),
        ("vgg16", {f"block{i}_pool" for i in range(1, 6)}),
        ("mobilenet", {f"conv_pw_{i}_relu" for i in (1, 3, 5, 11, 12, 13)}),
        ("mobilenet_v2", {"block_2_add", "block_5_add", "block_12_add", "block_15_add", "out_relu"}),
        pytest.param(
            "resnet50",
            {"pool1_pool", "conv2_block3_out", "conv3_block4_out", "conv5_block3_out"},
            marks=SLOW,
        ),
        pytest.param("densenet121", {"pool2_pool", "pool3_pool", "pool4_pool", "relu"}, marks=SLOW),
        pytest.param("efficientnet_b0", {"block2b_add", "block5c_add", "top_activation"}, marks=SLOW),
    ],
)
def test_about_a_dozen_ends_of_blocks_are_compared(name: str, expected: set[str]) -> None:
    network = load_backbone(name, weights=None, input_shape=(96, 96, 3))
    ends = block_ends(network, 12)
    assert len(ends) <= 12
    assert expected <= set(ends)
    clean = cut_points(network)
    assert [clean.index(end) for end in ends] == sorted(clean.index(end) for end in ends)
    assert not [
        end for end in ends if "_dw_" in end or "pad" in end or "expand_" in end or end.endswith("_se")
    ]


def test_block_ends_of_a_small_network() -> None:
    assert block_ends(small_network(), 12) == ["first_pool", "second_norm", "sum", "last"]
    assert block_ends(small_network(), 3) == ["first_pool", "sum", "last"]
    assert block_ends(small_network(), 1) == ["last"]


def test_spread_takes_the_last_of_equal_parts() -> None:
    assert spread("abcdefgh", 4) == ["b", "d", "f", "h"]
    assert spread("abc", 5) == ["a", "b", "c"]
    assert spread("abc", 0) == []


# What it costs


@pytest.mark.parametrize(
    ("name", "size", "millions"),
    # The papers have 569 and 15,470 with the classifiers, which take 1 and 124.
    [("mobilenet", 224, 568), ("vgg16", 224, 15347)],
)
def test_multiply_adds_are_those_of_the_papers(name: str, size: int, millions: int) -> None:
    network = load_backbone(name, weights=None, input_shape=(size, size, 3))
    assert round(multiply_adds(steps(network)) / 1e6) == millions


def test_cost_and_parameters_up_to_a_layer() -> None:
    network = small_network()
    whole = steps(network)
    first = up_to(whole, network.get_layer("first_pool").output)
    assert multiply_adds(first) == 16 * 16 * 4 * 3 * 9
    assert parameters(first) == 4 * (3 * 9 + 1)
    inner = up_to(whole, network.get_layer("inner").output)
    assert multiply_adds(inner) == 16 * 16 * 4 * 27 + 8 * 8 * 8 * 36 + 8 * 8 * 8 * 72
    assert parameters(up_to(whole, network.output)) == network.count_params()


def test_the_layers_inside_an_inner_model_are_counted() -> None:
    inputs = keras.Input((16, 16, 3))
    nested = keras.Model(inputs, small_network()(inputs))
    assert multiply_adds(steps(nested)) == multiply_adds(steps(small_network()))


# What it finds


def test_rows_say_what_a_cut_gives_and_costs() -> None:
    network = small_network()
    cuts = compare_cuts(network, TRAIN, VALIDATION, verbose=0)
    assert [each.cut_layer for each in cuts] == ["first_pool", "second_norm", "sum", "last"]
    assert [each.n_features for each in cuts] == [4, 8, 8, 6]
    assert [each.backbone for each in cuts] == ["small"] * 4
    assert cuts[-1].parameters == network.count_params()
    assert cuts[-1].cost_share == 1
    assert [each.multiply_adds for each in cuts] == sorted(each.multiply_adds for each in cuts)
    for each in cuts:
        assert each.standard_error == pytest.approx((each.accuracy * (1 - each.accuracy) / 40) ** 0.5)


def test_the_features_are_those_of_the_network_cut_there() -> None:
    """Accuracies by another way: the cut network's predictions, averaged, and the same probe."""
    network = small_network()
    cuts = compare_cuts(network, TRAIN, VALIDATION, verbose=0)
    for each in cuts:
        cut = keras.Model(network.inputs, network.get_layer(each.cut_layer).output)
        train, other = (cut.predict(x, verbose=0).mean(axis=(1, 2)) for x in (TRAIN[0], VALIDATION[0]))
        accuracy = (fit_probe(train, TRAIN[1]).predict(other) == VALIDATION[1]).mean()
        assert each.accuracy == pytest.approx(accuracy, abs=0.03)


def test_an_early_cut_wins_where_colour_tells_the_classes_apart() -> None:
    train, validation = tinted(160, seed=0, size=SIZE), tinted(160, seed=1, size=SIZE)
    cuts = compare_cuts("mobilenet", train, validation, weights=None, verbose=0)
    assert cuts.best.cut_layer in ("conv_pw_1_relu", "conv_pw_2_relu", "conv_pw_3_relu")
    assert cuts.best.accuracy > cuts[-1].accuracy + 0.15


def test_several_labels() -> None:
    """The first is the tint of the image, the second is seldom there, the third is chance."""
    rng = np.random.default_rng(0)

    def data(images: Any, classes: Any) -> Any:
        rare, chance = rng.random(len(classes)) < 0.1, rng.random(len(classes)) < 0.5
        return images, np.stack([classes, rare, chance], axis=1).astype("float32")

    train, validation = data(*TRAIN), data(*VALIDATION)
    cuts = compare_cuts(small_network(), train, validation, verbose=0)
    assert cuts.title == (
        "Linear probes on 60 images with 3 labels, their mean average precision on 40 others"
    )
    network = small_network()
    again = compare_cuts(network, train, validation, cut_layers=["sum"], task="labels", verbose=0)
    cut = keras.Model(network.inputs, network.get_layer("sum").output)
    features = [cut.predict(x, verbose=0).mean(axis=(1, 2)) for x in (TRAIN[0], VALIDATION[0])]
    scores = fit_probe(features[0], train[1], "labels").scores(features[1])
    assert again[0].score == pytest.approx(mean_average_precision(validation[1], scores), abs=0.02)
    assert again[0].metric == "mean average precision"
    assert math.isnan(again[0].accuracy)
    assert f"{again[0].score:.3f}  " in str(again)
    assert "mean average precision on the validation images" in cuts.plot().axes[0].get_xlabel()


def test_numbers() -> None:
    network = small_network()
    shade = [images.mean(axis=(1, 2, 3)) for images in (TRAIN[0], VALIDATION[0])]
    cuts = compare_cuts(
        network, (TRAIN[0], shade[0]), (VALIDATION[0], shade[1]), cut_layers=["sum"], verbose=0
    )
    assert cuts.title == "Linear probes on 60 images with 1 number, their R² on 40 others"
    assert 0.9 < cuts.best.score <= 1
    assert cuts.best.standard_error < 0.1
    whole = [np.round(values) for values in shade]
    options: dict[str, Any] = {"cut_layers": ["sum"], "verbose": 0}
    ages = compare_cuts(
        network, (TRAIN[0], whole[0]), (VALIDATION[0], whole[1]), task="numbers", **options
    )
    assert ages.best.score == pytest.approx(cuts.best.score, abs=0.05)
    two = [np.stack([x, -3 * x], axis=1) for x in shade]
    both = compare_cuts(network, (TRAIN[0], two[0]), (VALIDATION[0], two[1]), **options)
    assert both.best.score == pytest.approx(cuts.best.score, abs=0.02)


class TestWhatLabelsAre:
    """Found out batch by batch."""

    ONE_HOT, SEVERAL = np.eye(3), np.array([[1, 1, 0], [0, 0, 0]])
    WHOLE, REAL = np.array([0, 2, 1]), np.array([0.5, 3.0])

    @pytest.mark.parametrize(
        ("seen", "task"),
        [
            ([ONE_HOT, ONE_HOT], "classes"),
            ([ONE_HOT, SEVERAL, ONE_HOT], "labels"),
            ([SEVERAL, ONE_HOT], "labels"),
            ([WHOLE, ONE_HOT], "classes"),
            ([WHOLE[:, None]], "classes"),
            ([REAL, WHOLE], "numbers"),
            ([REAL[:, None]], "numbers"),
            ([np.array([[0.5, 2.0]]), np.eye(2), np.ones((2, 2))], "numbers"),
            ([np.array([True, False])], "classes"),
        ],
    )
    def test_together(self, seen: list[Any], task: str) -> None:
        found = SeenLabels(None)
        for labels in seen:
            found.see(labels, "the data")
        assert found.task == task

    @pytest.mark.parametrize(
        ("seen", "message"),
        [
            ([WHOLE, REAL], "label 0.5"),
            ([WHOLE, SEVERAL], "single 1 in each row"),
            ([SEVERAL, SEVERAL * 0.5], "rows of 0 and 1"),
            ([SEVERAL, WHOLE], "rows of 0 and 1"),
            ([REAL, np.array([np.nan])], "finite"),
            ([np.array(["a"])], "np.unique"),
        ],
    )
    def test_contradictions(self, seen: list[Any], message: str) -> None:
        found = SeenLabels(None)
        for labels in seen[:-1]:
            found.see(labels, "the data")
        with pytest.raises(ValueError, match=message):
            found.see(seen[-1], "the data")

    def test_read_folder_knows(self, tmp_path: Path) -> None:
        files = [tmp_path / f"{i}.png" for i in range(4)]
        for file in files:
            keras.utils.save_img(file, np.zeros((4, 4, 3)))
        tables: dict[str, dict[str, Any]] = {
            "labels": {"cat": [1, 0, 1, 0], "dog": [0, 1, 0, 1]},
            "classes": {"label": ["cat", "dog", "cat", "dog"]},
            "numbers": {"grams": [1, 2, 3, 4.0]},
        }
        for task, columns in tables.items():
            data = read_folder({"path": files, **columns}, (4, 4), task=task)
            seen = SeenLabels(None)
            seen.trust(data)
            assert seen.task == task


@pytest.mark.slow
def test_an_early_cut_wins_with_real_weights_too(shared_material: Path) -> None:
    weights = shared_material / "weights" / "mobilenet_1_0_224_imagenet_notop.h5"
    train, validation = tinted(100, seed=0, size=64), tinted(100, seed=1, size=64)
    layers = ["conv_pw_1_relu", "conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_12_relu"]
    cuts = compare_cuts("mobilenet", train, validation, cut_layers=layers, weights=weights, verbose=0)
    assert cuts.best.cut_layer == "conv_pw_1_relu"
    assert cuts.best.accuracy > cuts[-1].accuracy + 0.15


@pytest.mark.slow
def test_photographs_of_animals_want_a_late_cut(shared_material: Path) -> None:
    folder = shared_material / "data" / "cats_vs_dogs"
    data = [
        keras.utils.image_dataset_from_directory(
            folder / part, image_size=(150, 150), seed=0, verbose=False
        )
        for part in ("train", "validation")
    ]
    weights = shared_material / "weights" / "inception_v3_imagenet_notop.h5"
    cuts = compare_cuts("inception_v3", *data, weights=weights, verbose=0)
    accuracies = {each.cut_layer: each.accuracy for each in cuts}
    assert cuts.best.cut_layer in ("mixed7", "mixed8")
    assert cuts.top.accuracy - cuts.best.accuracy < 0.005  # one photograph is 0.001
    assert cuts.best.accuracy > 0.96
    assert accuracies["mixed3"] < 0.92


# How the data comes


class Batches(keras.utils.PyDataset):
    def __init__(self, x: Any, y: Any) -> None:
        super().__init__()
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x) // 20

    def __getitem__(self, i: int) -> Any:
        return self.x[20 * i : 20 * i + 20], self.y[20 * i : 20 * i + 20]


@pytest.fixture(scope="module")
def expected() -> Any:
    keras.utils.set_random_seed(0)  # as each test begins, so that the network is the same
    return compare_cuts(small_network(), TRAIN, VALIDATION, verbose=0).rows


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).batch(7), id="Dataset"),
        pytest.param(Batches, id="PyDataset"),
        pytest.param(lambda x, y: [x, y[:, None]], id="a column of labels"),
        pytest.param(lambda x, y: (x, np.eye(2)[y]), id="one-hot"),
        pytest.param(lambda x, y: (x, 7 - 4 * y.astype(float)), id="any two numbers"),
        pytest.param(lambda x, y: (x, y.tolist()), id="a list of labels"),
    ],
)
def test_the_form_of_the_data_makes_no_difference(form: Callable[[Any, Any], Any], expected: Any) -> None:
    assert compare_cuts(small_network(), form(*TRAIN), form(*VALIDATION), verbose=0).rows == expected


def test_the_size_of_the_images_makes_the_network() -> None:
    layers = ["conv_pw_1_relu"]
    data = (LARGER_TRAIN, LARGER_VALIDATION)
    cuts = compare_cuts("mobilenet", *data, cut_layers=layers, weights=None, verbose=0)
    assert cuts[0].multiply_adds == 16 * 16 * 32 * (27 + 9 + 64)


def test_several_networks_are_one_table(tmp_path: Path) -> None:
    path = tmp_path / "small.weights.h5"
    load_backbone("mobilenet", weights=None, input_shape=(SIZE, SIZE, 3)).save_weights(path)
    cuts = compare_cuts(
        [small_network(SIZE), "MobileNet"],
        LARGER_TRAIN,
        LARGER_VALIDATION,
        cut_layers=["sum", "last", "conv_pw_2_relu"],
        weights={"mobile_net": path},
        verbose=0,
    )
    assert [(each.backbone, each.cut_layer) for each in cuts] == [
        ("small", "sum"),
        ("small", "last"),
        ("mobilenet", "conv_pw_2_relu"),
    ]
    assert cuts[-1].cost_share < 0.5
    assert "small: last" in [tick.get_text() for tick in cuts.plot().axes[0].get_yticklabels()]


def test_a_layer_of_the_classifier_top_can_be_compared() -> None:
    layers = ["conv_preds", "conv_pw_2_relu"]
    data = (LARGER_TRAIN, LARGER_VALIDATION)
    cuts = compare_cuts("mobilenet", *data, cut_layers=layers, weights=None, verbose=0)
    assert [(each.cut_layer, each.n_features) for each in cuts] == [
        ("conv_pw_2_relu", 128),
        ("conv_preds", 1000),
    ]


def test_what_is_in_the_store_is_not_computed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = small_network()
    first = compare_cuts(network, TRAIN, VALIDATION, cache_dir=tmp_path)
    assert "100 computed and 0 found" in capsys.readouterr().out
    second = compare_cuts(network, TRAIN, VALIDATION, cache_dir=tmp_path)
    printed = capsys.readouterr().out
    assert "0 computed and 100 found" in printed
    assert "topwork: 4 cuts of small probed in " in printed
    assert first.rows == second.rows
    compare_cuts(network, TRAIN, VALIDATION, cut_layers=[first.rows[0].cut_layer], cache_dir=tmp_path)
    assert "topwork: 1 cut of small probed in " in capsys.readouterr().out


def test_verbose_0_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    compare_cuts(small_network(), TRAIN, VALIDATION, verbose=0)
    assert capsys.readouterr().out == ""


def test_the_networks_weights_do_not_change() -> None:
    network = small_network()
    before = network.get_weights()
    compare_cuts(network, TRAIN, VALIDATION, verbose=0)
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_half_precision_is_averaged_in_full() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = small_network()
    finally:
        keras.config.set_dtype_policy("float32")
    assert compare_cuts(network, TRAIN, VALIDATION, verbose=0).top.accuracy > 0.6


# The report


def comparison(*rows: CutRow) -> Comparison[CutRow]:
    return Comparison("Some cuts", rows, "multiply-adds")


def test_the_best_is_the_cheapest_within_a_standard_error_of_the_top() -> None:
    # The standard error of 0.90 on 100 images is 0.03.
    cuts = comparison(row("a", 0.80, 1), row("b", 0.871, 2), row("c", 0.88, 3), row("d", 0.90, 4))
    assert (cuts.best.cut_layer, cuts.top.cut_layer) == ("b", "d")


def test_the_best_is_the_top_if_nothing_cheaper_comes_close() -> None:
    cuts = comparison(row("a", 0.80, 1), row("b", 0.90, 2), row("c", 0.90, 3))
    assert cuts.best is cuts.top is cuts[1]
    assert "Best: b; nothing cheaper is within one standard error of it." in str(cuts)


def test_of_several_networks_the_cheaper_one_is_best() -> None:
    cuts = comparison(row("a", 0.90, 5, "large"), row("b", 0.89, 2, "small"))
    assert cuts.best.backbone == "small"


def test_text() -> None:
    cuts = comparison(row("early", 0.8, 1), row("middle", 0.88, 5), row("late", 0.9, 10))
    assert str(cuts).splitlines() == [
        "Some cuts",
        "",
        "backbone  cut layer  accuracy  ± s.e.  features  parameters  multiply-adds   cost",
        "─" * 81,
        "net       early       80.00 %  4.00 %        64       1,000         1.00 M   10 %",
        "net       middle      88.00 %  3.25 %        64       5,000         5.00 M   50 %  <- best",
        "net       late        90.00 %  3.00 %        64      10,000           10 M  100 %",
        "",
        "Best: middle, the cheapest within one standard error (3.00 %) of the top, late.",
    ]


def test_html() -> None:
    text = comparison(row("a<b", 0.8, 1), row("late", 0.9, 10))._repr_html_()
    assert "a&lt;b" in text
    assert text.count("<tr") == 3
    assert text.count("font-weight: bold") == 1
    assert text.index("font-weight: bold") > text.index("a&lt;b")


def test_rows_can_be_counted_and_read() -> None:
    cuts = comparison(row("a", 0.8, 1), row("b", 0.9, 10))
    assert len(cuts) == 2
    assert [each.cut_layer for each in cuts] == ["a", "b"]
    assert cuts[0] is cuts.rows[0]


def test_plot(tmp_path: Path) -> None:
    cuts = comparison(row("a", 0.8, 1), row("b", 0.9, 10))
    figure = cuts.plot()
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    assert [tick.get_text() for tick in figure.axes[1].get_yticklabels()] == [
        "1.00 M, 10 %",
        "10 M, 100 %",
    ]
    assert "validation accuracy (%)" in axes.get_xlabel()
    assert "multiply-adds" in [text.get_text() for text in axes.texts]
    figure.savefig(tmp_path / "cuts.png")
    assert (tmp_path / "cuts.png").stat().st_size > 5000


def test_plot_on_axes_that_are_there() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    assert comparison(row("a", 0.8, 1)).plot(figure.subplots()) is figure


def test_plot_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'not installed.*pip install "topwork\[plots\]"'):
        comparison(row("a", 0.8, 1)).plot()


# What cannot be


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (TRAIN[0], VALIDATION, r"the training data must be \(images, labels\).*array of shape \(60, 16"),
        (TRAIN, None, r"the validation data must be .* Received: NoneType\."),
        (TRAIN, (VALIDATION[0],), r"the validation data must be .* Received: tuple of 1\."),
        (
            (TRAIN[0], None),
            VALIDATION,
            r"training data has no labels\. Pass \(images, labels\)",
        ),
        ((TRAIN[0], ["cat", "dog"] * 30), VALIDATION, r"must be class numbers.*np\.unique\(labels"),
        (TRAIN, (VALIDATION[0], VALIDATION[1] + 0.5), r"data has the label 0\.5\. Number the classes"),
        (
            (TRAIN[0], np.full((60, 3), 0.5)),
            (VALIDATION[0], np.full((40, 2), 0.5)),
            r"is 3 numbers for each image, .* the validation data has other.* \(40, 2\)",
        ),
        ((TRAIN[0], np.ones((60, 2, 2))), VALIDATION, r"must be class numbers, or one-hot"),
        (TRAIN, (VALIDATION[0], np.full((40, 3), 1)), r"one-hot, a single 1 in each row.* \[1 1 1\]"),
        ((TRAIN[0], TRAIN[1] * 0 + 4), VALIDATION, r"all images of the training data have the label 4"),
        (
            TRAIN,
            (VALIDATION[0], VALIDATION[1] + 1),
            r"has the label 2, and the training data has only 0, 1",
        ),
        (
            (TRAIN[0], np.arange(60)),
            (VALIDATION[0], np.full(40, 99)),
            r"label 99.*only 0, 1, .*\.\.\. 59",
        ),
    ],
)
def test_data_that_cannot_be_compared(train: Any, validation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^compare_cuts: .*{message}"):
        compare_cuts(small_network(), train, validation, verbose=0)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("labels", r"rows of 0 and 1, one for each, and the training data has other.*2 for image 1\."),
        ("regression", r"task must be one of 'classes', 'labels', 'numbers', or None .*'regression'"),
    ],
)
def test_a_task_that_cannot_be(task: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^compare_cuts: .*{message}"):
        compare_cuts(small_network(), (TRAIN[0], 2 * TRAIN[1]), VALIDATION, task=task, verbose=0)


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        ("labels", np.zeros((40, 2)), "average precision .* be known: no image has any of the labels"),
        ("numbers", np.full(40, 3), "R² on .* cannot be known: all images have the same numbers"),
    ],
)
def test_a_score_that_is_not_defined(task: str, labels: Any, message: str) -> None:
    train = np.stack([TRAIN[1]] * 2, axis=1) if task == "labels" else TRAIN[1]
    with pytest.raises(ValueError, match=rf"^compare_cuts: .*{message}"):
        compare_cuts(small_network(), (TRAIN[0], train), (VALIDATION[0], labels), task=task, verbose=0)


def test_a_dataset_without_labels() -> None:
    images = tf.data.Dataset.from_tensor_slices(TRAIN[0]).batch(8)
    with pytest.raises(ValueError, match=r"training data has no labels\. Pass \(images, labels\)"):
        compare_cuts(small_network(), images, VALIDATION, verbose=0)


def test_a_dataset_without_images() -> None:
    images = tf.data.Dataset.from_tensor_slices(VALIDATION).batch(8).take(0)
    with pytest.raises(
        ValueError, match=r"compare_cuts: the validation data \(small\) has no images\. Look"
    ):
        compare_cuts(small_network(), TRAIN, images, verbose=0)


def test_a_dataset_of_one_class() -> None:
    images = tf.data.Dataset.from_tensor_slices((TRAIN[0], np.zeros(60, int))).batch(8)
    with pytest.raises(
        ValueError, match=r"all images of the training data have the label 0.*two classes"
    ):
        compare_cuts(small_network(), images, VALIDATION, verbose=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ([], {}, r"an empty list\. list_backbones\(\) lists the names"),
        ("inceptoin_v3", {}, r"no backbone 'inceptoin_v3'\. Closest: 'inception_v3'"),
        (keras.Sequential(), {}, r"compare_cuts: the graph of the model is read"),
        (small_network(), {"cut_layers": "last"}, r"must be a list of layer names\. Received: 'last'"),
        (small_network(), {"cut_layers": []}, r"must be a list of layer names\. Received: \[\]"),
        (small_network(), {"cut_layers": ["lost"]}, r"no layer 'lost' in 'small'\. Closest: 'last'"),
        (
            [small_network(), small_network(name="other")],
            {"cut_layers": ["sum"], "weights": {"smal": None}},
            r"weights are given for 'smal', which is not compared.*none, as no network",
        ),
        (
            "mobilenet",
            {"weights": {"mobilnet": None}},
            r"weights are given for 'mobilnet'.*Closest: 'mobilenet'",
        ),
        ([small_network(), small_network()], {}, r"two of the networks are named 'small'.*name=\.\.\."),
        (
            [small_network(), small_network(32, "larger")],
            {},
            r"takes batches of shape \(None, 32, 32, 3\)\. Received: \(60, 16, 16, 3\)",
        ),
    ],
)
def test_networks_that_cannot_be_compared(name: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_cuts(name, TRAIN, VALIDATION, **{"weights": None, "verbose": 0, **options})


def test_a_network_without_any_of_the_layers() -> None:
    other = keras.models.clone_model(small_network())
    renamed = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Conv2D(2, 3, name="only")], name="b"
    )
    with pytest.raises(
        ValueError, match=r"'b' has no layer to compare: none of cut_layers is one of its"
    ):
        compare_cuts([other, renamed], TRAIN, VALIDATION, cut_layers=["sum"], verbose=0)


def test_a_network_without_feature_maps() -> None:
    dense = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Flatten()], name="flat")
    with pytest.raises(
        ValueError, match=r"'flat' has no layer to compare: no feature map is a clean cut"
    ):
        compare_cuts(dense, TRAIN, VALIDATION, verbose=0)


def test_a_network_for_images_of_any_size() -> None:
    inputs = keras.Input((None, None, 3))
    network = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs), name="any")
    with pytest.raises(ValueError, match=r"'any' takes images of any size, \(None, None, None, 3\)"):
        compare_cuts(network, TRAIN, VALIDATION, verbose=0)


def test_a_layer_whose_output_cannot_be_averaged() -> None:
    inputs = keras.Input((16, 16, 3))
    rows = keras.layers.Reshape((4, 4, 4, 12), name="rows")(inputs)
    network = keras.Model(inputs, rows, name="reshaped")
    with pytest.raises(ValueError, match=r"'rows' of 'reshaped' gives \(None, 4, 4, 4, 12\)\. Leave"):
        compare_cuts(network, TRAIN, VALIDATION, cut_layers=["rows"], verbose=0)


def test_features_that_are_no_numbers() -> None:
    network = small_network(last_activation=None)  # on some processors a ReLU makes 0 of NaN
    kernel = network.get_layer("last").weights[0]
    kernel.assign(np.full(kernel.shape, np.inf))
    message = r"^compare_cuts: the features of 48 of 48 images of the training data \(small\) are NaN"
    with pytest.raises(ValueError, match=message + r" or infinite, .* at 'last'\. "):
        compare_cuts(network, TRAIN, VALIDATION, verbose=0)


def test_random_augmentation_in_the_data_is_said() -> None:
    images = tf.data.Dataset.from_tensor_slices(TRAIN).batch(8)
    images = images.map(lambda x, y: (x + tf.random.uniform(tf.shape(x)), y))
    with pytest.warns(
        UserWarning, match=r"the training data is augmented at random: it has .*once"
    ) as record:
        compare_cuts(small_network(), images, VALIDATION, verbose=0)
    assert record[0].filename == __file__


def test_sample_weights_are_not_used_and_that_is_said() -> None:
    with pytest.warns(UserWarning, match=r"sample weights, and a probe does not use them") as record:
        compare_cuts(small_network(), (*TRAIN, np.ones(60)), VALIDATION, verbose=0)
    assert record[0].filename == __file__
