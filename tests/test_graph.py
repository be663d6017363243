"""Reading the graph: steps, clean cuts, the head, and splitting a model in two."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork._features.split import NotSplittable, split
from topwork._networks.graph import clean_cuts, head_start, steps
from topwork._networks.pixel_range import expected_range

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
layers, ops = keras.layers, keras.ops


def dense(name, trainable=False, **options):
    return layers.Dense(4, name=name, trainable=trainable, **options)


def vector(name="x"):
    return keras.Input((4,), name=name)


def inputs_for(model, n=3):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, *tensor.shape[1:])).astype("float32") for tensor in model.inputs]


def outputs_of(model, arrays, training=False):
    return model(arrays if len(arrays) > 1 else arrays[0], training=training)


def assert_split_is_whole(model):
    """The two halves give what the model gives, in training too, and share its variables."""
    x = inputs_for(model)
    parts = split(model, keras.tree.flatten(x))
    for training in (False, True):
        keras.utils.set_random_seed(1)
        whole = outputs_of(model, x, training)
        keras.utils.set_random_seed(1)
        halves = parts.tail(parts.prefix(x, training=training), training=training)
        for expected, received in zip(keras.tree.flatten(whole), keras.tree.flatten(halves), strict=True):
            np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)
    assert not parts.prefix.trainable_variables
    trainable = {id(variable) for variable in model.trainable_variables}
    assert {id(variable) for variable in parts.tail.trainable_variables} == trainable
    return parts


def produced_by(tensors):
    return {tensor._keras_history.operation.name for tensor in tensors}


def layers_of(model):
    return {layer.name for layer in model.layers if not isinstance(layer, layers.InputLayer)}


# split ------------------------------------------------------------------------------------------


def test_split_of_a_chain():
    x = vector()
    model = keras.Model(x, dense("new", True)(layers.ReLU(name="relu")(dense("old")(x))))
    parts = assert_split_is_whole(model)
    assert layers_of(parts.prefix) == {"old", "relu"}
    assert layers_of(parts.tail) == {"new"}


def test_split_of_a_residual_block_across_the_frontier():
    x = vector()
    old = dense("old")(x)
    new = dense("new", True)(old)
    model = keras.Model(x, dense("head", True)(layers.Add(name="add")([old, new])))
    parts = assert_split_is_whole(model)
    assert len(parts.prefix.outputs) == 1
    assert layers_of(parts.tail) == {"new", "add", "head"}


def test_split_with_two_inputs():
    a, b = vector("a"), vector("b")
    joined = layers.Concatenate(name="join")([dense("left")(a), dense("right")(b)])
    parts = assert_split_is_whole(keras.Model([a, b], dense("head", True)(joined)))
    assert produced_by(parts.prefix.outputs) == {"join"}


def test_split_with_an_input_that_goes_straight_to_the_tail():
    a, b = vector("a"), vector("b")
    joined = layers.Add(name="add")([dense("old")(a), dense("new", True)(b)])
    parts = assert_split_is_whole(keras.Model([a, b], joined))
    assert produced_by(parts.prefix.outputs) == {"old", "b"}


def test_split_with_two_frontiers():
    x = vector()
    low, high = dense("low")(x), dense("high")(dense("middle")(x))
    out = layers.Add(name="add")([dense("on_low", True)(low), dense("on_high", True)(high)])
    parts = assert_split_is_whole(keras.Model(x, out))
    assert produced_by(parts.prefix.outputs) == {"low", "high"}


def test_split_with_two_outputs():
    x = vector()
    old = dense("old")(x)
    model = keras.Model(x, {"a": dense("a", True)(old), "b": dense("b", True)(old)})
    parts = assert_split_is_whole(model)
    assert set(parts.tail.output) == {"a", "b"}


def nested(trainable):
    x = vector()
    hidden = layers.BatchNormalization(name="inner_bn")(dense("inner_old")(x))
    inner = keras.Model(x, dense("inner_new")(hidden), name="inner")
    inner.trainable = trainable
    y = vector("y")
    return keras.Model(y, dense("head", True)(inner(dense("old")(y))))


def test_split_opens_a_nested_model():
    inside = layers_of(nested(False).get_layer("inner"))
    assert layers_of(assert_split_is_whole(nested(False)).prefix) == {"old", *inside}
    assert layers_of(split(nested(True)).tail) == {"inner_bn", "inner_new", "head"}


@pytest.mark.parametrize("trainable", [False, True])
def test_split_with_a_layer_that_is_used_twice(trainable):
    x = vector()
    shared = dense("shared", trainable)
    hidden = dense("old")(x)
    again = shared(dense("new", True)(shared(hidden)))
    parts = assert_split_is_whole(keras.Model(x, dense("head", True)(again)))
    assert ("shared" in layers_of(parts.prefix)) is not trainable
    assert "shared" in layers_of(parts.tail)


def test_split_leaves_a_random_layer_in_the_head():
    x = vector()
    hidden = layers.Dropout(0.5, seed=1, name="drop")(dense("old")(x))
    parts = split(keras.Model(x, dense("head", True)(hidden)))
    assert layers_of(parts.prefix) == {"old"}
    assert layers_of(parts.tail) == {"drop", "head"}


def test_split_takes_dropout_of_rate_0_for_what_it_is():
    x = vector()
    drop = layers.Dropout(0.5, name="drop")
    drop.rate = 0.0
    parts = assert_split_is_whole(keras.Model(x, dense("head", True)(dense("old")(drop(x)))))
    assert layers_of(parts.prefix) == {"drop", "old"}


def test_split_stops_before_frozen_layers_above_a_trainable_one():
    x = vector()
    parts = assert_split_is_whole(keras.Model(x, dense("above")(dense("new", True)(dense("old")(x)))))
    assert layers_of(parts.prefix) == {"old"}


def test_split_with_operations_of_several_outputs():
    x = vector()
    left, right = ops.split(dense("old")(x), 2, axis=-1)
    parts = assert_split_is_whole(keras.Model(x, layers.Add()([layers.Dense(2)(left), right * 2.0])))
    assert len(parts.prefix.outputs) == 2


def test_split_with_tensors_in_keyword_arguments():
    x = vector()
    old = dense("old")(x)
    mixed = ops.where(x > 0, x1=old, x2=dense("new", True)(old))
    assert_split_is_whole(keras.Model(x, dense("head", True)(mixed)))


def test_split_keeps_frozen_batch_normalization_in_the_prefix():
    x = vector()
    norm = layers.BatchNormalization(name="bn", trainable=False)
    parts = assert_split_is_whole(keras.Model(x, dense("head", True)(norm(dense("old")(x)))))
    assert layers_of(parts.prefix) == {"old", "bn"}


class Doubled(layers.Layer):
    """Behaves differently in training, as only its own code knows."""

    def call(self, x, training=False):
        return 2 * x if training else x


class DoubledDense(layers.Dense):
    def call(self, x, training=False):
        return super().call(x) * (2 if training else 1)


AS_IN_TRAINING = "gives other features for the same images when it is run as in training"
SOME = [np.random.default_rng(0).normal(size=(4, 4)).astype("float32")]


@pytest.mark.parametrize(
    ("stops", "reason"),
    [
        (lambda: dense("first", True), "layer 'first' (Dense) is trainable"),
        (lambda: layers.BatchNormalization(name="bn"), "layer 'bn' (BatchNormalization) is trainable"),
        (lambda: layers.Dropout(0.5, name="drop"), "layer 'drop' (Dropout) is random"),
        (lambda: layers.GaussianNoise(0.1, name="noise"), "layer 'noise' (GaussianNoise) is random"),
        (lambda: dense("reg", activity_regularizer="l2"), "layer 'reg' (Dense) adds to the loss"),
        (
            lambda: layers.ActivityRegularization(0.1, name="act"),
            "'act' (ActivityRegularization) adds to",
        ),
        (lambda: Doubled(name="twice"), f"layer 'twice' (Doubled) {AS_IN_TRAINING}"),
        (
            lambda: DoubledDense(4, name="twice", trainable=False),
            f"layer 'twice' (DoubledDense) {AS_IN_TRAINING}",
        ),
        (
            lambda: layers.Lambda(lambda x, training: 2 * x if training else x, name="any"),
            f"layer 'any' (Lambda) {AS_IN_TRAINING}",
        ),
    ],
)
def test_not_splittable_for_what_comes_before_the_frozen_part(stops, reason):
    x = vector()
    model = keras.Model(x, dense("head", True)(dense("old")(stops()(x))))
    with pytest.raises(NotSplittable) as caught:
        split(model, SOME)
    assert reason in str(caught.value)


def test_code_that_reading_cannot_judge_may_be_frozen_if_it_was_tried():
    x = vector()
    doubled = layers.Lambda(lambda z: z * 2, name="double")(x)
    model = keras.Model(x, dense("head", True)(dense("old")(doubled)))
    assert layers_of(split(model, SOME).prefix) == {"double", "old"}
    with pytest.raises(NotSplittable, match=r"'double' \(Lambda\) is not known to give the same"):
        split(model)


def test_a_random_layer_inside_a_nested_model_is_found():
    inner = keras.Sequential([vector(), dense("inner"), layers.Dropout(0.5, name="drop")])
    x = vector()
    parts = split(keras.Model(x, dense("head", True)(inner(x))))
    assert (layers_of(parts.prefix), layers_of(parts.tail)) == ({"inner"}, {"drop", "head"})


def test_not_splittable_without_frozen_weights():
    x = vector()
    with pytest.raises(NotSplittable, match=r"layer 'head' \(Dense\) is trainable"):
        split(keras.Model(x, dense("head", True)(layers.ReLU()(x))))


def test_an_output_that_is_frozen_goes_through_the_tail():
    x = vector()
    old = dense("old")(x)
    model = keras.Model(x, [old, dense("head", True)(old)])
    parts = assert_split_is_whole(model)
    assert layers_of(parts.prefix) == {"old"}


def test_not_splittable_for_a_model_of_a_class_of_its_own():
    class Mine(keras.Model):
        def compute_loss(self, *args, **kwargs):
            return super().compute_loss(*args, **kwargs)

    x = vector()
    with pytest.raises(NotSplittable, match="its class Mine has a compute_loss of its own"):
        split(Mine(x, dense("head", True)(dense("old")(x))))


def test_not_splittable_where_a_mask_goes_along():
    x = keras.Input((5, 4))
    masked = dense("old")(layers.Masking()(x))
    with pytest.raises(NotSplittable, match="a mask is passed along with its frozen features"):
        split(keras.Model(x, dense("head", True)(masked)))


KINDS = ["dense", "add", "bn", "relu", "again", "plain", "drop"]
RECIPES = st.lists(
    st.tuples(st.sampled_from(KINDS), st.booleans(), st.integers(0, 8), st.integers(0, 8)),
    min_size=2,
    max_size=8,
)


def from_recipe(recipe):
    """A graph of frozen and trainable layers, used once or several times, and plain operations."""
    x = vector()
    tensors, shared = [x], [dense("shared")]
    for i, (kind, frozen, first, second) in enumerate(recipe):
        a, b = tensors[first % len(tensors)], tensors[second % len(tensors)]
        if kind == "dense":
            shared.append(dense(f"dense_{i}", not frozen))
            tensors.append(shared[-1](a))
        elif kind == "again":
            tensors.append(shared[second % len(shared)](a))
        elif kind == "add":
            tensors.append(layers.Add(name=f"sum_{i}")([a, b]))
        elif kind == "bn":
            tensors.append(layers.BatchNormalization(trainable=not frozen, name=f"bn_{i}")(a))
        elif kind == "relu":
            tensors.append(layers.ReLU(name=f"relu_{i}")(a))
        elif kind == "drop":
            tensors.append(layers.Dropout(0.0 if frozen else 0.5, name=f"drop_{i}")(a))
        else:
            tensors.append(a * 0.5 + b)
    return keras.Model(x, dense("head", True)(tensors[-1]))


@settings(max_examples=40, deadline=None)
@given(recipe=RECIPES)
def test_split_of_any_graph_is_the_whole_or_is_refused(recipe):
    model = from_recipe(recipe)
    x = inputs_for(model)
    try:
        parts = split(model)
    except NotSplittable:
        return
    expected = np.asarray(outputs_of(model, x))
    np.testing.assert_allclose(parts.tail(parts.prefix(x)), expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(*(_prefix_outputs(parts, x, flag) for flag in (True, False)), strict=True):
        np.testing.assert_array_equal(one, other)
    trainable = {id(variable) for variable in model.trainable_variables}
    assert not {id(variable) for variable in parts.prefix.variables} & trainable & _used(parts.prefix)
    assert {id(variable) for variable in parts.tail.trainable_variables} == trainable


def _prefix_outputs(parts, x, training):
    return keras.tree.flatten(parts.prefix(x, training=training))


def _used(prefix):
    return {id(variable) for step in steps(prefix) for variable in _variables(step)}


def _variables(step):
    return getattr(step.operation, "trainable_variables", [])


# steps, clean cuts, the head --------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(recipe=RECIPES)
def test_steps_come_after_those_that_they_depend_on(recipe):
    model = from_recipe(recipe)
    ordered, made = steps(model), set()
    assert ordered[0].is_input
    for step in ordered:
        assert {id(tensor) for tensor in step.inputs} <= made
        made |= {id(tensor) for tensor in step.outputs}
    assert {id(output) for output in model.outputs} <= made


@settings(max_examples=25, deadline=None)
@given(recipe=RECIPES)
def test_everything_flows_through_a_clean_cut(recipe):
    """Take any cut for an input: the outputs can be made from it alone."""
    model = from_recipe(recipe)
    cuts = clean_cuts(model)
    assert cuts[-1] == "head"
    ordered = steps(model)
    for step in ordered:
        if isinstance(step.operation, keras.Layer) and not step.is_input:
            alone = _can_be_made_from(step, ordered)
            assert (step.operation.name in cuts) == alone or len(step.operation._inbound_nodes) > 1


def _can_be_made_from(cut, ordered):
    made = {id(tensor) for tensor in cut.outputs}
    for step in ordered[ordered.index(cut) + 1 :]:
        if not {id(tensor) for tensor in step.inputs} <= made:
            return False
        made |= {id(tensor) for tensor in step.outputs}
    return True


def test_head_start_of_a_model_with_and_without_a_head():
    image = keras.Input((8, 8, 3))
    features = layers.ReLU()(layers.Conv2D(4, 3)(image))
    pooled = layers.GlobalAveragePooling2D()(features)
    assert head_start(keras.Model(image, features)) == 3
    assert head_start(keras.Model(image, layers.Dense(2)(pooled))) == 3
    named = layers.Dense(2, name="head_output")(layers.Dense(4)(pooled))
    assert head_start(keras.Model(image, named)) == 5
    x = vector()
    assert head_start(keras.Model(x, dense("old")(x))) == 2


# expected_range ---------------------------------------------------------------------------------


def scaled(transform):
    image = keras.Input((8, 8, 3))
    return keras.Model(image, layers.Conv2D(2, 3)(transform(image)))


@pytest.mark.parametrize(
    "transform",
    [
        lambda x: x / 127.5 - 1.0,
        lambda x: x / 255.0,
        layers.Rescaling(1 / 255),
        lambda x: layers.Rescaling(1 / 127.5, offset=-1)(layers.Resizing(8, 8)(x)),
        lambda x: layers.Normalization(mean=[120.0] * 3, variance=[3000.0] * 3)(x),
        keras.applications.vgg16.preprocess_input,
        keras.applications.densenet.preprocess_input,
    ],
)
def test_a_model_that_scales_its_images_expects_0_to_255(transform):
    assert expected_range(scaled(transform)) == (0.0, 255.0)


@pytest.mark.parametrize("transform", [lambda x: x, lambda x: x * 2.0 - 1.0, layers.Rescaling(1.0)])
def test_a_model_that_does_not_expects_nothing_in_particular(transform):
    assert expected_range(scaled(transform)) is None


def test_vectors_and_several_inputs_have_no_pixel_range():
    x, a, b = vector(), keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    assert expected_range(keras.Model(x, dense("old")(x / 255.0))) is None
    assert expected_range(keras.Model([a, b], layers.Add()([a / 255.0, b]))) is None
