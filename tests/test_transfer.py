"""`transfer`: candidates, what is chosen by, the model that comes of it, the evidence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import topwork as tw
from plain_process import run_without_topwork
from reordered import Reordered
from topwork._data.reading import open_source
from topwork._features.cache import open_cache
from topwork._training.linear import HeldOut, LinearModel, cross_validate, fit_linear
from topwork._training.linear_fits import Examples
from topwork._transfer import choice, search, stages, tuning
from topwork._transfer.budget import Budget, duration
from topwork._transfer.choice import Judged
from topwork._transfer.model import build, write_solution
from topwork._transfer.pooled import Candidate, Pooled, pooled_features
from topwork._transfer.targets import Targets, scores_from_outputs

RNG = np.random.default_rng(0)
LABELS = np.arange(24) % 3
# Classes that differ in colour: what a network of random weights can tell apart too.
IMAGES = RNG.uniform(0, 80, (24, 32, 32, 3)).astype("float32")
for _class in range(3):
    IMAGES[_class == LABELS, ..., _class] += 120
TRAIN, VALIDATION = (IMAGES[:18], LABELS[:18]), (IMAGES[18:], LABELS[18:])


def network(name: str = "small", size: int = 32) -> keras.Model:
    """Three blocks, each the end of a stage."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(x)
    for number, channels in enumerate((4, 6, 8), start=1):
        x = keras.layers.Conv2D(channels, 3, 2, padding="same", activation="relu", name=f"block{number}")(
            x
        )
    return keras.Model(inputs, x, name=name)


WITHOUT_MAPS = keras.Sequential(
    [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(4)], name="flat"
)


@pytest.fixture(scope="module")
def found() -> tw.types.Transferred:
    return tw.transfer(TRAIN, VALIDATION, names=network(), fine_tuning=False, verbose=0)


class TestModel:
    def test_it_is_plain_and_compiled_and_has_learnt(self, found: Any) -> None:
        model = found.model
        assert model.compiled
        assert model.loss == "sparse_categorical_crossentropy"
        assert model.evaluate(*VALIDATION, verbose=0)[1] == 1.0
        assert [layer.name for layer in model.layers if layer.trainable and layer.weights] == [
            "head_output"
        ]
        modules = {type(layer).__module__.partition(".")[0] for layer in model.layers}
        assert modules == {"keras"}

    def test_it_loads_without_topwork(self, found: Any, tmp_path: Path) -> None:
        found.model.save(tmp_path / "model.keras")
        np.save(tmp_path / "images.npy", VALIDATION[0])
        code = (
            "import keras, numpy as np\n"
            "model = keras.saving.load_model(sys.argv[1] + '/model.keras')\n"
            "np.save(sys.argv[1] + '/out.npy', model.predict(np.load(sys.argv[1] + '/images.npy')))"
        )
        run_without_topwork(code, tmp_path)
        expected = found.model.predict(VALIDATION[0], verbose=0)
        np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)

    def test_the_recipe_makes_the_same(self, found: Any) -> None:
        assert found.evidence.recipe.startswith("backbone = keras.Model(network.inputs, ")
        self.assert_recipe_makes_the_same(found, network=network())

    def test_the_recipe_has_the_file_of_the_weights(self, tmp_path: Path) -> None:
        file = tmp_path / 'of "my own".weights.h5'
        tw.load_backbone("mobilenet", weights=None, input_shape=(32, 32, 3)).save_weights(file)
        options = {"weights": {"mobilenet": file}, "fine_tuning": False, "verbose": 0}
        result = tw.transfer(TRAIN, names=["MobileNet"], **options)
        load = result.evidence.recipe.split("\n")[0]
        assert load.startswith('backbone = tw.load_backbone("MobileNet", "conv_')
        assert "validation" not in result.evidence.recipe
        self.assert_recipe_makes_the_same(result)

    def test_the_recipe_of_random_weights_says_so(self) -> None:
        result = tw.transfer(TRAIN, names="mobilenet", weights=None, fine_tuning=False, verbose=0)
        assert "input_shape=(32, 32, 3), weights=None)\n" in result.evidence.recipe

    def assert_recipe_makes_the_same(self, result: tw.types.Transferred, **values: Any) -> None:
        values |= {"tw": tw, "keras": keras, "train": TRAIN, "validation": VALIDATION}
        exec(re.sub(r"\btrain\b", "*train, verbose=0", result.evidence.recipe), values)
        expected = result.model.predict(VALIDATION[0], verbose=0)
        np.testing.assert_allclose(values["model"].predict(VALIDATION[0], verbose=0), expected, atol=0.02)

    def test_the_network_that_was_given_stays_as_it_was(self) -> None:
        given = network()
        before = given.get_weights()
        model = tw.transfer(TRAIN, names=given, fine_tuning=False, verbose=0).model
        assert all(layer.trainable for layer in given.layers)
        assert not set(map(id, model.variables)) & set(map(id, given.variables))
        for a, b in zip(before, given.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_names_of_classes_come_along(self, make_photos: Any, tmp_path: Path) -> None:
        folder = make_photos(tmp_path / "photos", ("cat", "dog"), per_class=6, size=32)
        data = tw.data.read_folder(folder, (32, 32))
        model = tw.transfer(data, names=network(), fine_tuning=False, verbose=0).model
        (found,) = tw.predict(model, [next(folder.rglob("cat*.jpg"))])
        assert found[0][0] == "cat"


def pooled_of(labels: Any, weights: Any = None, task: str = "classes") -> Pooled:
    given, net = (IMAGES, labels) if weights is None else (IMAGES, labels, weights), network()
    return pooled_features(net, [open_source(net, given)], task, open_cache("auto", None), 0)


class TestCandidates:
    @pytest.mark.parametrize(
        "candidate",
        [
            Candidate("small", ("block2",)),
            Candidate("small", ("block1", "block2")),
            Candidate("small", ("block3",), pyramid=True),
            Candidate("small", ("block1", "block2", "block3"), pyramid=True),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("task", ["classes", "labels", "numbers"])
    def test_the_model_says_what_the_features_say(self, candidate: Candidate, task: str) -> None:
        labels = {
            "classes": LABELS,
            "labels": np.eye(3)[LABELS][:, :2],
            "numbers": IMAGES.mean(axis=(1, 2))[:, :2] * 100 + 7,
        }[task]
        pooled = pooled_of(labels, task=task)
        solved = choice.solve(pooled, candidate)
        model = build(pooled, candidate, IMAGES)
        write_solution(model, solved)
        scores = solved.scores(pooled.read(candidate, np.arange(len(pooled.tables[0]))))
        given = model.predict(IMAGES, verbose=0)
        if task == "classes":
            scores = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        if task == "labels":
            scores = 1 / (1 + np.exp(-scores))
        np.testing.assert_allclose(given, scores, rtol=1e-3, atol=1e-3 * np.abs(scores).max())

    @pytest.mark.parametrize("cuts", [("second",), ("first", "second")], ids=str)
    def test_tokens_that_are_no_part_of_the_image_are_left_out(self, cuts: tuple[str, ...]) -> None:
        inputs = keras.Input((32, 32, 3))
        patches = keras.layers.Reshape((16, 6))(keras.layers.Conv2D(6, 8, 8)(inputs))
        class_token = 100 + keras.layers.Dense(6)(patches)[:, :1]
        x = keras.layers.Concatenate(axis=1)([class_token, patches])
        x = keras.layers.Dense(5, activation="relu", name="first")(x)
        x = keras.layers.Dense(5, activation="relu", name="second")(x)
        pooled = pooled_features(
            keras.Model(inputs, x, name="tokens"),
            [open_source(keras.Model(inputs, x), (IMAGES, LABELS))],
            "classes",
            open_cache("auto", None),
            0,
        )
        candidate = Candidate("tokens", cuts)
        solved = choice.solve(pooled, candidate)
        model = build(pooled, candidate, IMAGES)
        write_solution(model, solved)
        scores = solved.scores(pooled.read(candidate, np.arange(len(pooled.tables[0]))))
        expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(model.predict(IMAGES, verbose=0), expected, atol=1e-3)

    def test_what_is_tried(self) -> None:
        pooled = pooled_of(LABELS)
        assert [each.cuts for each in choice.single_cuts(pooled)] == [
            ("block1",),
            ("block2",),
            ("block3",),
        ]
        several = choice.several_cuts(pooled, "block2")
        assert [(each.cuts[-1], len(each.cuts), each.pyramid) for each in several] == [
            ("block2", 2, False),
            ("block3", 3, False),
            ("block2", 2, True),
            ("block3", 3, True),
        ]

    def test_images_without_weight_have_no_say(self) -> None:
        weights = np.ones(24)
        weights[:6] = 0
        wrong = LABELS.copy()
        wrong[:6] = 2 - wrong[:6]
        pooled = pooled_of(wrong, weights)
        judged = choice.judge(pooled, Candidate("small", ("block3",)))
        assert sorted(judged.held_out.rows) == list(range(6, 24))
        assert judged.loss < 0.5


class TestCrossValidation:
    def test_each_image_is_judged_without_it(self) -> None:
        """A label that contradicts all others is not believed by who has not seen it."""
        features = np.repeat(np.eye(2), 20, axis=0).astype("float32")
        targets = np.repeat((0, 1), 20)
        targets[3] = 1
        held_out = cross_validate(examples(features, targets), "softmax")
        np.testing.assert_array_equal(held_out.rows, np.arange(40))
        assert held_out.scores[3].argmax() == 0
        assert held_out.losses[3] > held_out.losses.mean()

    def test_its_losses_are_those_that_the_strength_is_chosen_by(self) -> None:
        features = RNG.normal(size=(60, 5)).astype("float32")
        targets = (features[:, 0] + RNG.normal(size=60) > 0).astype(int)
        one = examples(features, targets)
        chosen: LinearModel = fit_linear(one, "softmax")
        held_out = cross_validate(one, "softmax")
        assert held_out.losses.mean() == pytest.approx(min(chosen.losses[0].values()), rel=1e-4)

    def test_numbers_come_in_their_units(self) -> None:
        features = RNG.normal(size=(60, 4)).astype("float32")
        targets = 1000 + 50 * features[:, :1].astype("float64")
        held_out = cross_validate(examples(features, targets), "squared")
        np.testing.assert_allclose(held_out.scores, targets, atol=5)


def examples(features: Any, targets: Any) -> Examples:
    n_outputs = int(targets.max()) + 1 if targets.ndim == 1 else targets.shape[1]
    return Examples(
        read=features.__getitem__,
        rows=np.arange(len(features)),
        targets=targets,
        weights=np.ones(len(features)),
        n_features=features.shape[1],
        n_outputs=n_outputs,
    )


class TestChoice:
    def test_the_validation_data_decides_nothing(self, found: Any) -> None:
        shuffled = (VALIDATION[0], VALIDATION[1][::-1])
        other = tw.transfer(TRAIN, shuffled, names=network(), fine_tuning=False, verbose=0)
        assert [o.loss for o in other.evidence[0].options] == [o.loss for o in found.evidence[0].options]
        assert other.evidence.recipe == found.evidence.recipe
        assert other.evidence.result != found.evidence.result

    def test_the_network_with_the_lowest_loss_is_taken(self) -> None:
        blind = network("blind")
        blind.set_weights([np.zeros_like(each) for each in blind.get_weights()])
        result = tw.transfer(TRAIN, names=[blind, network()], fine_tuning=False, verbose=0)
        (decision,) = result.evidence
        lowest = min(decision.options, key=lambda option: option.loss)
        assert decision.best.loss <= lowest.loss + decision.best.loss_error + lowest.loss_error + 1e-6
        assert decision.best.name.startswith("small: ")
        assert {option.name.split(":")[0] for option in decision.options} == {"blind", "small"}
        assert result.model.name == "small"

    def test_more_layers_are_taken_within_the_error(self) -> None:
        noise = np.tile((0.0, 0.1), 50)

        def judged(cuts: str, losses: Any, name: str = "a") -> Judged:
            held_out = HeldOut(np.arange(100), np.zeros((100, 2)), losses)
            return Judged("", Candidate(name, tuple(cuts)), held_out, np.ones(100), 0.0, "")

        one, two = judged("x", np.full(100, 0.5)), judged("xy", 0.452 + noise)
        assert choice.taken([one, two]) is two
        assert choice.taken([one, judged("xy", 0.5 + noise)]) is one
        assert choice.taken([one, two, judged("xyz", 0.451 + noise, "b")]) is two

    def test_several_labels_an_image(self) -> None:
        labels = np.eye(3)[LABELS][:, :2]
        train, rest = (IMAGES[:18], labels[:18]), (IMAGES[18:], labels[18:])
        found = tw.transfer(train, rest, names=network(), task="labels", fine_tuning=False, verbose=0)
        assert found.model.output_shape == (None, 2)
        assert found.model.evaluate(*rest, verbose=0, return_dict=True)["accuracy"] > 0.9
        assert "Accuracy on 6 validation images" in found.evidence.result

    def test_numbers(self) -> None:
        numbers = IMAGES[..., 0].mean(axis=(1, 2)) * 1000
        train, rest = (IMAGES[:18], numbers[:18]), (IMAGES[18:], numbers[18:])
        found = tw.transfer(train, rest, names=network(), task="numbers", fine_tuning=False, verbose=0)
        error = found.model.evaluate(*rest, verbose=0, return_dict=True)["mae"]
        assert error < 0.3 * numbers.std()
        assert f"Mean absolute error on 6 validation images: {error:.4g} " in found.evidence.result

    def test_data_sets_and_one_hot_labels(self, found: Any) -> None:
        data = tf.data.Dataset.from_tensor_slices((TRAIN[0], np.eye(3)[TRAIN[1]])).batch(5)
        other = tw.transfer(data, names=network(), fine_tuning=False, verbose=0)
        expected = found.model.predict(VALIDATION[0], verbose=0)
        np.testing.assert_allclose(other.model.predict(VALIDATION[0], verbose=0), expected, atol=1e-3)

    def test_what_is_in_the_store_is_not_computed_again(self, tmp_path: Path, capsys: Any) -> None:
        for _ in range(2):
            tw.transfer(TRAIN, VALIDATION, names=network(), fine_tuning=False, cache_dir=tmp_path)
        said = capsys.readouterr().out
        assert "18 + 6 images" in said
        assert "24 computed and 0 found" in said
        assert "0 computed and 24 found" in said

    def test_of_very_many_images_a_part_chooses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choice, "_MOST_IMAGES", 9)
        result = tw.transfer(TRAIN, names=network(), fine_tuning=False, verbose=0)
        assert "9 training images" in result.evidence[0].judged_on


class TestMinutes:
    def test_a_network_that_does_not_fit_is_left_out_and_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(choice, "taken", lambda judged: judged[-1])
        result = tw.transfer(TRAIN, names=[network(), network("second")], minutes=1e-6, verbose=0)
        *several, second, third = result.evidence.left_out
        assert all(text.startswith("heads on block1") for text in several)
        left_out = r", which would take about \d+ s, and 0 s of minutes=1e-06 are left\."
        assert re.fullmatch("the network second" + left_out, second)
        assert re.fullmatch("fine-tuning" + left_out, third)
        assert len(result.evidence) == 1
        assert "Left out: the network second" in str(result)

    @pytest.mark.parametrize(
        ("n_allowed", "left_out", "n_trials"),
        [(1, "fine-tuning from block3", 3), (2, "fine-tuning from block2 on all training images", 5)],
    )
    def test_fine_tuning_stops_where_the_time_ends(
        self, n_allowed: int, left_out: str, n_trials: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tuning, "EPOCHS", 1)
        monkeypatch.setattr(choice, "taken", lambda judged: judged[-1])
        monkeypatch.setattr(stages, "chosen", lambda trials: trials[2])
        allows, asked = Budget.allows, []

        def limited(self: Budget, what: str, seconds: float) -> bool:
            asked.extend([what] if what.startswith("fine-tuning from") else [])
            return allows(self, what, 1e9 if len(asked) > n_allowed else 0.0)

        monkeypatch.setattr(Budget, "allows", limited)
        result = tw.transfer(TRAIN, names=network(), minutes=100, verbose=0)
        decision = result.evidence[1]
        assert len(decision.options) == n_trials
        assert result.evidence.left_out[0].startswith(f"{left_out}, which would take about")
        assert decision.best.name == "the head alone"
        assert "There was no time for fine-tuning from block2 on all" in decision.reason
        assert "fine_tune" not in result.evidence.recipe

    def test_heads_that_are_too_large_are_left_out_and_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(search, "_MOST_WORK", 10 * 18 * 3)
        result = tw.transfer(TRAIN, names=network(), fine_tuning=False, verbose=0)
        assert len(result.evidence[0].options) == 3
        text = result.evidence.left_out[0]
        assert text.startswith("heads on block1")
        assert text.endswith(" features, which are too many here.")

    def test_without_a_limit_all_is_tried(self) -> None:
        budget = Budget(None)
        assert budget.allows("everything", 1e9)
        assert budget.left_out == []
        assert budget.spent >= 0

    def test_durations_are_for_people(self) -> None:
        assert (duration(12.3), duration(600)) == ("12 s", "10 min")


class TestEvidence:
    def test_it_prints_all_that_was_measured(self, found: Any) -> None:
        text = str(found)
        assert text == str(found.evidence)
        assert (
            "1. Which network, cut where? (on 18 training images, each by heads fitted without it)"
            in text
        )
        assert text.count("<- taken") == 1
        assert "\nblock1 to block3, 3 layers and quarters  " in text
        assert "Accuracy on 6 validation images: 100.00 % (± 0.00 %)." in text
        assert "tw.fit_head(model, train, validation_data=validation)" in text
        assert len(found.evidence) == 1

    def test_without_validation_data_it_says_so(self) -> None:
        result = tw.transfer(TRAIN, names=network(), fine_tuning=False, verbose=0)
        assert result.evidence.result.startswith("There was no validation data: measure the model")

    def test_a_notebook_gets_a_table(self, found: Any) -> None:
        html = found._repr_html_()
        assert html.count("<table") == 1
        assert "font-weight: bold; background" in html

    def test_it_draws_each_decision(self, found: Any) -> None:
        pytest.importorskip("matplotlib")
        figure = found.evidence.plot()
        (axes,) = figure.axes
        assert axes.get_title(loc="left") == "Which network, cut where?"
        bold = [label.get_text() for label in axes.get_yticklabels() if label.get_fontweight() == "bold"]
        assert bold == [found.evidence[0].best.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "class"}, "task must be one of 'classes', 'labels', 'numbers'. Received: 'class'."),
        ({"minutes": 0}, "minutes is a number greater than 0, or None. Received: 0."),
        ({"names": []}, "an empty list"),
        ({"names": [network(), network()]}, "two of the networks are named 'small'"),
        ({"train": (IMAGES, np.zeros(24))}, "must be at least two classes"),
        ({"train": (IMAGES, LABELS - 1)}, "classes are numbered from 0. Received: the label -1."),
        (
            {"task": "labels"},
            "the training data has other ones. Received: ndarray of shape (24,)",
        ),
        (
            {"train": (IMAGES, np.full(24, np.nan)), "task": "numbers"},
            "is a number for each image, finite, and the training data has other labels.",
        ),
        (
            {"train": (IMAGES, np.zeros((24, 2, 2))), "task": "numbers"},
            "is a number for each image, finite, and the training data has other labels.",
        ),
        (
            {
                "train": (IMAGES, np.zeros((24, 2))),
                "validation_data": (255 - IMAGES, np.zeros((24, 3))),
                "task": "numbers",
            },
            "is 2 numbers for each image, finite, and the validation data has other labels.",
        ),
        (
            {"train": (IMAGES, LABELS, np.full(24, -1.0))},
            "sample weights are finite numbers of at least 0",
        ),
        ({"train": None}, "the training data must be (images, labels) as arrays, a batched tf.data"),
        ({"train": IMAGES}, "the training data must be (images, labels) as arrays, a batched tf.data"),
        ({"train": ((IMAGES, LABELS) for _ in range(1))}, "the training data must be (images, labels)"),
        ({"validation_data": IMAGES}, "the validation data must be (images, labels) as arrays"),
        (
            {
                "train": tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)),
                "names": "mobilenet",
                "weights": None,
            },
            "the dataset is not batched",
        ),
        ({"names": WITHOUT_MAPS}, "no feature map of 'flat' is a clean cut"),
    ],
)
def test_mistakes_are_said(arguments: dict[str, Any], message: str) -> None:
    given = {"train": (IMAGES, LABELS), "names": network(), "verbose": 0, **arguments}
    with pytest.raises(ValueError, match=r"^transfer: ") as caught:
        tw.transfer(given.pop("train"), **given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("mobilenetv4", "there is no backbone 'mobilenetv4'"),
        (network("small"), "two of the networks are named 'small'"),
        (WITHOUT_MAPS, "no feature map of 'flat' is a clean cut"),
        (network("other", size=40), "takes batches of shape (None, 40, 40, 3)"),
    ],
    ids=["misspelt", "twice", "without maps", "of another size"],
)
def test_what_is_wrong_with_a_later_network_is_said_before_the_first_one_runs(
    second: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any) -> None:
        raise AssertionError("it was run")

    monkeypatch.setattr(search, "pooled_features", run)
    with pytest.raises(ValueError, match=re.escape(message)):
        tw.transfer(TRAIN, names=[network(), second], verbose=0)


@pytest.mark.parametrize(
    ("labels", "weights", "message"),
    [
        ([0] * 22 + [1] * 2, (), "2 images of class 1 and 22 of class 0"),
        ([0] * 12 + [2] * 12, (), "no image of class 1, of the model's 3 classes"),
        ([0] * 22 + [1] * 2, (np.linspace(0.5, 1.5, 24),), None),
    ],
)
def test_classes_that_are_rare_or_missing_are_said(
    labels: list[int], weights: tuple[Any, ...], message: str | None, recwarn: Any
) -> None:
    data = (IMAGES, np.array(labels), *weights)
    if message is None:
        tw.transfer(data, names=network(), fine_tuning=False, verbose=0)
        assert not recwarn
        return
    with pytest.warns(UserWarning, match=re.escape(message)):
        tw.transfer(data, names=network(), fine_tuning=False, verbose=0)


def test_other_classes_in_the_validation_data_are_said(make_photos: Any, tmp_path: Path) -> None:
    parts = [("train", ("cat", "dog")), ("validation", ("bird", "cat"))]
    train, validation = (
        tw.data.read_folder(make_photos(tmp_path / part, names, per_class=3, size=32), (32, 32))
        for part, names in parts
    )
    with pytest.raises(ValueError, match=r"transfer: the classes of the training data are cat, dog"):
        tw.transfer(train, validation, names=network(), verbose=0)


def test_data_that_changes_is_said() -> None:
    data = tf.data.Dataset.from_tensor_slices(TRAIN).batch(6)
    flipped = data.map(lambda x, y: (tf.image.random_flip_left_right(x), y))
    with pytest.warns(UserWarning, match="transfer: the training data is augmented at random"):
        tw.transfer(flipped, names=network(), fine_tuning=False, verbose=0)


class TestAnotherOrderInEachReading:
    """Labels go with the features of the same reading, of several networks, fine-tuned and measured."""

    @pytest.mark.parametrize(
        ("kind", "trial"), [("shuffled", 0), ("shuffled", 2), ("reordered", 0), ("folder", 0)]
    )
    def test_labels_stay_with_their_images(
        self, kind: str, trial: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tuning, "EPOCHS", 1)
        monkeypatch.setattr(choice, "taken", lambda judged: judged[-1])
        monkeypatch.setattr(stages, "chosen", lambda trials: trials[trial])
        parts = [self.part(kind, tmp_path / name) for name in ("train", "validation")]
        blind = network("blind")
        blind.set_weights([np.zeros_like(each) for each in blind.get_weights()])
        found = tw.transfer(*parts, names=[network(), blind], verbose=0)
        assert found.model.evaluate(IMAGES, LABELS, verbose=0)[1] == 1.0
        assert "validation images: 100.00 %" in found.evidence.result
        first, second = found.evidence
        assert [each.options[each.chosen].figure for each in (first, second)] == [1.0, 1.0]
        assert max(option.figure for option in first.options if "blind" in option.name) < 0.7

    def part(self, kind: str, folder: Path) -> Any:
        """48 images in an order that nobody knows before."""
        many = np.tile(np.arange(24), 2)
        noise = RNG.uniform(-5, 5, (48, 32, 32, 3)).astype("float32")
        images, labels = IMAGES[many] + noise, LABELS[many]
        if kind == "shuffled":
            return tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(48, seed=1).batch(6)
        if kind == "reordered":
            return Reordered(images, labels)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            (folder / f"class_{label}").mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(folder / f"class_{label}" / f"{number}.png", image, scale=False)
        return tw.data.read_folder(folder, (32, 32), seed=1, batch_size=6)


class TestTuning:
    @pytest.fixture
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two epochs, of a head on all blocks."""
        monkeypatch.setattr(tuning, "EPOCHS", 2)
        monkeypatch.setattr(choice, "taken", lambda judged: judged[-1])

    def test_the_head_alone_is_the_first_candidate(self, short: None, capsys: Any) -> None:
        result = tw.transfer(TRAIN, VALIDATION, names=network())
        decision = result.evidence[1]
        assert decision.question == "Fine-tune, from where on?"
        assert decision.judged_on == "4 training images held out"
        assert decision.options[0].name == "the head alone"
        assert decision.options[1].name.endswith(", 50% of the way")
        assert decision.options[1].note.endswith(" M trained")
        assert "transfer: trying to fine-tune from block" in capsys.readouterr().out

    def test_where_nothing_gains_the_network_is_as_it_was(
        self, short: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stages, "chosen", lambda trials: trials[0])
        given = network()
        result = tw.transfer(TRAIN, VALIDATION, names=given, verbose=0)
        for layer in ("block1", "block2"):
            np.testing.assert_array_equal(
                result.model.get_layer(layer).kernel, given.get_layer(layer).kernel
            )
        trainable = [layer.name for layer in result.model.layers if layer.trainable and layer.weights]
        assert trainable == ["head_output"]
        assert "Taken: the head alone." in str(result)
        assert "fine_tune" not in result.evidence.recipe

    def test_what_gains_is_done_on_all_images(self, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stages, "chosen", lambda trials: trials[1])
        given = network()
        before = given.get_layer("block2").kernel.numpy()
        result = tw.transfer(TRAIN, VALIDATION, names=given, verbose=0)
        assert (result.model.get_layer("block2").kernel.numpy() != before).any()
        np.testing.assert_array_equal(given.get_layer("block2").kernel, before)
        accuracy = result.model.evaluate(*VALIDATION, verbose=0)[1]
        assert f"Accuracy on 6 validation images: {100 * accuracy:.2f} %" in result.evidence.result
        assert 'tw.fine_tune(model, "block2", optimizer=' in result.evidence.recipe
        assert "# and 50% of the way back" in result.evidence.recipe
        assert len(result.evidence.plot().axes) == 2

    def test_only_a_gain_beyond_its_error_is_taken(self) -> None:
        noise = np.tile((0.0, 1.0), 50)

        def trial(name: str | None, losses: Any) -> tuning.Trial:
            held_out = HeldOut(np.arange(100), np.zeros((100, 2)), losses)
            return tuning.Trial(
                name, 1.0, Judged("", Candidate("", ("a",)), held_out, np.ones(100), 0.0, "")
            )

        alone = trial(None, np.full(100, 0.6))
        noisy = trial("noisy", 1.1 * noise)
        better = trial("better", np.full(100, 0.58))
        best = trial("best", np.full(100, 0.3) + 0.1 * noise)
        assert tuning.chosen([alone, noisy]) is alone
        assert tuning.chosen([alone, noisy, better]) is better
        assert tuning.chosen([alone, better, best]) is best
        assert tuning.chosen([alone, trial("worse", np.full(100, 0.7))]) is alone

    def test_part_of_the_way_lies_between(self) -> None:
        pooled = pooled_of(LABELS)
        candidate = Candidate("small", ("block1", "block2", "block3"))
        model = build(pooled, candidate, IMAGES)
        names = tuning.boundaries(model, pooled, candidate)
        assert names == ["block2", "block3"]
        source = open_source(model, (IMAGES, LABELS))
        one = tuning.Tuning(model, names, candidate, source, "classes", 0)
        before = [np.zeros(v.shape, "float32") for v in model.trainable_variables]
        after = [np.ones(v.shape, "float32") for v in model.trainable_variables]
        one._go(before, after, 0.25)
        assert all((v.numpy() == 0.25).all() for v in model.trainable_variables)
        one.restore()
        np.testing.assert_array_equal(
            model.get_layer("block3").kernel, network().get_layer("block3").kernel
        )

    def test_longer_training_is_expected_to_take_longer(self) -> None:
        model = network()
        seconds = [tuning.expected_seconds(model, names, 100, 1e-9) for names in (["block3"], ["block2"])]
        assert 0 < seconds[0] < seconds[1]
        assert tuning.expected_seconds(model, ["block2"], 200, 1e-9) == pytest.approx(2 * seconds[1])


@pytest.mark.parametrize("task", ["classes", "labels", "numbers"])
def test_losses_of_scores_are_those_of_cross_validation(task: str) -> None:
    features = RNG.normal(size=(40, 4)).astype("float32")
    noisy = features + RNG.normal(size=(40, 4))
    values = {
        "classes": (noisy[:, 0] > 0).astype(int),
        "labels": (noisy[:, :2] > 0).astype(float),
        "numbers": noisy[:, :2] * 100 + 5,
    }[task]
    targets = Targets(task, values, np.ones(40), 2)
    held_out = cross_validate(examples(features, values), targets.loss)
    np.testing.assert_allclose(targets.losses(held_out.scores, held_out.rows), held_out.losses, rtol=1e-3)


def test_scores_come_back_from_outputs() -> None:
    scores = np.array([[0.3, -2.0], [4.0, 1.0]])
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    found = scores_from_outputs(softmax, "classes")
    np.testing.assert_allclose(found[:, 0] - found[:, 1], scores[:, 0] - scores[:, 1])
    np.testing.assert_allclose(scores_from_outputs(1 / (1 + np.exp(-scores)), "labels"), scores)
    np.testing.assert_array_equal(scores_from_outputs(scores, "numbers"), scores)
    assert np.isfinite(scores_from_outputs(np.array([[0.0, 1.0]]), "labels")).all()
