"""`tw.fit` against `model.fit`, number by number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.optimizers import schedules

import topwork as tw
from topwork._training import fit as fit_module

# Trained and validated on one small set of images; test_shared_images.py looks at what is said of that.
pytestmark = pytest.mark.filterwarnings("ignore:.*training data (too|itself)")

N_IMAGES, BATCH_SIZE, SIZE = 22, 8, 12


def pixels(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


IMAGES = pixels(N_IMAGES, SIZE, SIZE, 3)
CLASSES = np.arange(N_IMAGES) % 3
HELD_OUT = (pixels(10, SIZE, SIZE, 3, seed=1), np.arange(10) % 3)


def frozen(layer: keras.Layer) -> keras.Layer:
    layer.trainable = False
    return layer


def compiled(inputs: Any, outputs: Any, **arguments: Any) -> keras.Model:
    model = keras.Model(inputs, outputs)
    defaults = {
        "optimizer": keras.optimizers.SGD(0.01, momentum=0.9),
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
        "jit_compile": False,
    }
    model.compile(**{**defaults, **arguments})
    return model


def image_input(name: str | None = None) -> Any:
    return keras.Input((SIZE, SIZE, 3), name=name)


def trunk(inputs: Any) -> Any:
    """Frozen features of an image, small enough to train a head on."""
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    x = frozen(layers.Conv2D(4, 3, activation="relu"))(x)
    return frozen(layers.Conv2D(6, 3, activation="relu"))(x)


def plain(**arguments: Any) -> keras.Model:
    inputs = image_input()
    x = layers.GlobalAveragePooling2D()(trunk(inputs))
    return compiled(inputs, layers.Dense(3, activation="softmax")(x), **arguments)


def residual() -> keras.Model:
    inputs = image_input()
    x = trunk(inputs)
    x = layers.Add()([x, frozen(layers.Conv2D(6, 3, padding="same"))(x)])
    x = layers.Add()([x, layers.Conv2D(6, 1)(x)])
    return compiled(inputs, layers.Dense(3, activation="softmax")(layers.Flatten()(x)))


def two_inputs() -> keras.Model:
    one, two = image_input("one"), image_input("two")
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(trunk(i)) for i in (one, two)])
    return compiled([one, two], layers.Dense(3, activation="softmax")(x))


def raw_second_input() -> keras.Model:
    image, size = image_input("image"), keras.Input((2,), name="size")
    x = layers.GlobalAveragePooling2D()(trunk(image))
    x = layers.Concatenate()([x, layers.Dense(4)(size)])
    return compiled([image, size], layers.Dense(3, activation="softmax")(x))


def two_frontiers() -> keras.Model:
    inputs = image_input()
    early = frozen(layers.Conv2D(4, 3))(inputs / 255.0)
    late = frozen(layers.Conv2D(4, 3))(early)
    x = layers.Concatenate()(
        [layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(each)) for each in (early, late)]
    )
    return compiled(inputs, layers.Dense(3, activation="softmax")(x))


def nested() -> keras.Model:
    inner_input = image_input()
    inner = keras.Model(inner_input, layers.GlobalAveragePooling2D()(trunk(inner_input)), name="inner")
    inner.trainable = False
    head = keras.Sequential([keras.Input((6,)), layers.Dense(5), layers.Dense(3, activation="softmax")])
    inputs = image_input()
    return compiled(inputs, head(inner(inputs)))


def shared_layer() -> keras.Model:
    inputs = image_input()
    convolution = frozen(layers.Conv2D(3, 3, padding="same"))
    before = convolution(inputs / 255.0)
    after = convolution(layers.Conv2D(3, 1)(before))  # in the prefix, and in the tail once more
    x = layers.Flatten()(layers.Concatenate()([before, after]))
    return compiled(inputs, layers.Dense(3, activation="softmax")(x))


def batch_normalization_in_the_tail() -> keras.Model:
    inputs = image_input()
    # A bias before a normalization has no gradient, only noise.
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, use_bias=False)(trunk(inputs)))
    x = frozen(layers.BatchNormalization())(x)
    return compiled(inputs, layers.Dense(3, activation="softmax")(layers.Flatten()(x)))


def inactive_dropout_in_the_head() -> keras.Model:
    inputs = image_input()
    x = layers.Dropout(0.0)(layers.Flatten()(trunk(inputs)))
    x = layers.Dropout(0.5)(layers.Dense(4)(x), training=False)
    return compiled(inputs, layers.Dense(3, activation="softmax")(x))


def two_outputs() -> keras.Model:
    inputs = image_input()
    x = layers.GlobalAveragePooling2D()(trunk(inputs))
    outputs = {
        "kind": layers.Dense(3, activation="softmax", name="kind")(x),
        "age": layers.Dense(1, name="age")(x),
    }
    return compiled(
        inputs,
        outputs,
        loss={"kind": "sparse_categorical_crossentropy", "age": "mse"},
        loss_weights={"kind": 1.0, "age": 0.5},
        metrics={"kind": ["accuracy"], "age": ["mae"]},
    )


def regularized() -> keras.Model:
    inputs = image_input()
    l2 = keras.regularizers.L2(0.1)
    x = frozen(layers.Conv2D(4, 3, kernel_regularizer=l2))(inputs / 255.0)
    x = layers.Dense(3, activation="softmax", kernel_regularizer=l2)(layers.Flatten()(x))
    return compiled(inputs, x)


def sequential() -> keras.Model:
    model = keras.Sequential(
        [
            image_input(),
            layers.Rescaling(1 / 255),
            frozen(layers.Conv2D(4, 3)),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", jit_compile=False)
    model(model.inputs[0])  # as a step of another model: has outputs of two calls then
    return model


def application(name: str, size: int, unfreeze_from: str | int | None = None) -> keras.Model:
    backbone = tw.load_backbone(name, weights=None, input_shape=(size, size, 3))
    model = tw.add_head(n_classes=3, dropout=0.0, hidden_units=8)(tw.freeze(backbone))
    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    if unfreeze_from is not None:
        tw.fine_tune(model, unfreeze_from, learning_rate=1e-3)
    return model


def twins(build: Callable[[], keras.Model]) -> tuple[keras.Model, keras.Model]:
    """The same model twice, with the same weights."""
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        models.append(build())
    return models[0], models[1]


def assert_same(expected: keras.Model, received: keras.Model) -> None:
    for a, b in zip(expected.weights, received.weights, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * np.abs(a).max())
    ours, keras_own = received.history, expected.history
    assert ours.epoch == keras_own.epoch
    assert ours.params == keras_own.params
    assert set(ours.history) == set(keras_own.history)
    for name, values in keras_own.history.items():
        np.testing.assert_allclose(ours.history[name], values, rtol=2e-5, atol=1e-6, err_msg=name)


def assert_equivalent(
    build: Callable[[], keras.Model],
    x: Any = IMAGES,
    y: Any = CLASSES,
    *,
    is_split: bool = True,
    monkeypatch: pytest.MonkeyPatch | None = None,
    **arguments: Any,
) -> None:
    """Three epochs of `model.fit` and of `tw.fit` leave the same weights and the same history."""
    by_keras, by_us = twins(build)
    before = [np.array(weight) for weight in by_us.trainable_weights]
    arguments = {"epochs": 3, "shuffle": False, "verbose": 0, **arguments}
    if not isinstance(x, (tf.data.Dataset, keras.utils.PyDataset)):
        arguments = {"batch_size": BATCH_SIZE, **arguments}
    by_keras.fit(x, y, **arguments)
    with pytest.MonkeyPatch.context() as patch:
        if is_split:  # else Keras' own fit would be compared with itself
            patch.setattr(fit_module, "fit_plainly", _refuse)
        history = tw.fit(by_us, x, y, **arguments)
    assert history is by_us.history
    assert_same(by_keras, by_us)
    assert any(not np.array_equal(a, b) for a, b in zip(before, by_us.trainable_weights, strict=True))


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("the model was not split")


@pytest.mark.parametrize(
    "build",
    [
        residual,
        nested,
        shared_layer,
        batch_normalization_in_the_tail,
        sequential,
        pytest.param(two_frontiers, marks=pytest.mark.thorough),
        pytest.param(inactive_dropout_in_the_head, marks=pytest.mark.thorough),
        pytest.param(regularized, marks=pytest.mark.thorough),
    ],
)
def test_purpose_made_graphs(build: Callable[[], keras.Model]) -> None:
    assert_equivalent(build)


@pytest.mark.parametrize("named", [pytest.param(False, marks=pytest.mark.thorough), True])
def test_two_inputs(named: bool) -> None:
    images = [IMAGES, pixels(N_IMAGES, SIZE, SIZE, 3, seed=2)]
    x = {"two": images[1], "one": images[0]} if named else images
    assert_equivalent(two_inputs, x)


@pytest.mark.thorough
def test_an_input_that_only_the_trained_part_uses() -> None:
    x = {"image": IMAGES, "size": np.random.default_rng(0).normal(size=(N_IMAGES, 2))}
    assert_equivalent(raw_second_input, x)


def test_two_outputs_in_a_dict() -> None:
    y = {"kind": CLASSES, "age": np.linspace(0, 1, N_IMAGES)}
    assert_equivalent(two_outputs, y=y, validation_data=(IMAGES[:5], {k: v[:5] for k, v in y.items()}))


@pytest.mark.thorough
def test_mobilenet() -> None:
    assert_equivalent(lambda: application("mobilenet", 32), pixels(12, 32, 32, 3), CLASSES[:12])


@pytest.mark.thorough
def test_mobilenet_after_fine_tune() -> None:
    build = lambda: application("mobilenet", 32, "conv_dw_12")  # noqa: E731
    assert_equivalent(build, pixels(12, 32, 32, 3), CLASSES[:12])


@pytest.mark.thorough
def test_vgg16() -> None:
    assert_equivalent(lambda: application("vgg16", 32), pixels(12, 32, 32, 3), CLASSES[:12])


@pytest.mark.thorough
@pytest.mark.parametrize("unfreeze_from", [None, 172])
def test_inception_v3(unfreeze_from: int | None) -> None:
    build = lambda: application("inception_v3", 75, unfreeze_from)  # noqa: E731
    assert_equivalent(build, pixels(10, 75, 75, 3), CLASSES[:10])


@pytest.mark.thorough
def test_validation_data() -> None:
    assert_equivalent(plain, validation_data=HELD_OUT)


def test_validation_data_with_weights() -> None:
    weights = np.linspace(0, 2, 10)
    assert_equivalent(lambda: plain(weighted_metrics=["accuracy"]), validation_data=(*HELD_OUT, weights))


@pytest.mark.thorough
def test_sample_weight() -> None:
    weights = np.linspace(0, 3, N_IMAGES)
    assert_equivalent(lambda: plain(weighted_metrics=["accuracy"]), sample_weight=weights)


@pytest.mark.parametrize(
    "class_weight", [{1: 5.0}, pytest.param({0: 1.0, 1: 5.0, 2: 0.5}, marks=pytest.mark.thorough)]
)
def test_class_weight(class_weight: dict[int, float]) -> None:
    assert_equivalent(plain, class_weight=class_weight)


@pytest.mark.thorough
def test_class_weight_of_one_hot_labels() -> None:
    assert_equivalent(
        lambda: plain(loss="categorical_crossentropy"),
        y=keras.utils.to_categorical(CLASSES, 3),
        class_weight={0: 4.0},
    )


@pytest.mark.thorough
def test_class_weight_of_a_sigmoid_unit() -> None:
    def build() -> keras.Model:
        inputs = image_input()
        x = layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling2D()(trunk(inputs)))
        metrics = ["accuracy", keras.metrics.AUC(name="auc")]
        return compiled(inputs, x, loss="binary_crossentropy", metrics=metrics)

    assert_equivalent(build, y=(CLASSES > 0).astype("float32"), class_weight={1: 3.0})


@pytest.mark.thorough
def test_metrics_as_objects() -> None:
    def build() -> keras.Model:
        metrics = ["acc", keras.metrics.F1Score(), keras.metrics.CategoricalCrossentropy(name="own")]
        return plain(loss="categorical_crossentropy", metrics=metrics)

    assert_equivalent(build, y=keras.utils.to_categorical(CLASSES, 3))


@pytest.mark.thorough
def test_the_uneven_batches_of_a_dataset() -> None:
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, CLASSES))
    uneven = dataset.take(10).batch(4).concatenate(dataset.skip(10).batch(7))
    assert_equivalent(plain, uneven, None, validation_data=uneven.take(2))


def test_a_dataset_with_weights() -> None:
    weights = np.linspace(0, 3, N_IMAGES)
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, CLASSES, weights))
    uneven = dataset.take(10).batch(4).concatenate(dataset.skip(10).batch(7))
    assert_equivalent(plain, uneven, None, validation_data=uneven.skip(1))


class Batches(keras.utils.PyDataset):
    def __len__(self) -> int:
        return -(-N_IMAGES // 6)

    def __getitem__(self, index: int) -> Any:
        part = slice(index * 6, index * 6 + 6)
        return IMAGES[part], CLASSES[part]


@pytest.mark.thorough
def test_a_py_dataset() -> None:
    assert_equivalent(plain, Batches(workers=2), None, class_weight={0: 2.0})


COMPILED_WITH = {
    "steps_per_execution": {"steps_per_execution": 2},
    "run_eagerly": {"run_eagerly": True},
    "jit_compile": {"jit_compile": True},
    "adam": {"optimizer": "adam"},
    "clipping": {"optimizer": lambda: keras.optimizers.SGD(0.1, clipnorm=0.01, weight_decay=0.1)},
    "averaging": {"optimizer": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)},
    "schedule": {"optimizer": lambda: keras.optimizers.SGD(schedules.CosineDecay(0.1, 8))},
    "accumulation": {"optimizer": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)},
    "loss object": {"loss": keras.losses.SparseCategoricalCrossentropy},
    "loss function": {"loss": lambda: keras.losses.sparse_categorical_crossentropy},
}


@pytest.mark.thorough
@pytest.mark.parametrize("arguments", COMPILED_WITH.values(), ids=COMPILED_WITH)
def test_what_the_model_is_compiled_with(arguments: dict[str, Any]) -> None:
    def build() -> keras.Model:
        made = {name: make() if callable(make) else make for name, make in arguments.items()}
        return plain(**made)

    assert_equivalent(build, validation_data=HELD_OUT)


@pytest.mark.thorough
def test_averaged_weights_go_to_their_own_variables() -> None:
    def build() -> keras.Model:
        model = two_frontiers()
        optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2)
        model.compile(
            optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False
        )
        return model

    assert_equivalent(build)


def test_a_second_call_continues_where_the_first_ended() -> None:
    by_keras, by_us = twins(lambda: plain(optimizer=keras.optimizers.Adam(0.01)))
    for model, train in ((by_keras, by_keras.fit), (by_us, lambda *a, **k: tw.fit(by_us, *a, **k))):
        train(IMAGES, CLASSES, epochs=2, shuffle=False, verbose=0)
        train(IMAGES, CLASSES, epochs=5, initial_epoch=2, shuffle=False, verbose=0)
        assert model.history.epoch == [2, 3, 4]
    assert_same(by_keras, by_us)
    for a, b in zip(by_keras.optimizer.variables, by_us.optimizer.variables, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-7)


@pytest.mark.thorough
def test_keras_fit_continues_what_ours_began() -> None:
    by_keras, by_us = twins(plain)
    by_keras.fit(IMAGES, CLASSES, epochs=2, shuffle=False, verbose=0)
    tw.fit(by_us, IMAGES, CLASSES, epochs=2, shuffle=False, verbose=0)
    for model in (by_keras, by_us):
        model.fit(IMAGES, CLASSES, epochs=4, initial_epoch=2, shuffle=False, verbose=0)
    assert_same(by_keras, by_us)
    np.testing.assert_allclose(
        by_us.evaluate(*HELD_OUT, verbose=0), by_keras.evaluate(*HELD_OUT, verbose=0), rtol=1e-5
    )


@pytest.mark.thorough
def test_active_dropout_in_the_head_trains() -> None:
    inputs = image_input()
    x = layers.Dropout(0.5)(layers.Flatten()(trunk(inputs)))
    model = compiled(inputs, layers.Dense(3, activation="softmax")(x), optimizer="adam")
    history = tw.fit(model, IMAGES, CLASSES, epochs=15, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
