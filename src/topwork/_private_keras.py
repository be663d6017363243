"""All that topwork reads of Keras' and TensorFlow's private attributes, each for want of a public way.

Tried with Keras 3.10 to 3.15 and TensorFlow 2.18 to 2.21; `tests/test_private_keras.py` holds each of
them to what the package relies on.
"""

from __future__ import annotations

import ast
import collections
import contextlib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from typing import Any

import keras


def node_of(tensor: Any) -> Any:
    """The call that made a symbolic tensor: its operation, arguments, input and output tensors.

    `_keras_history` has been the way from a tensor to its call since Keras 2.
    """
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def nodes_of(model: Any) -> dict[int, Any]:
    """The calls that a functional model was made of, by the ids of the tensors that they made.

    A model keeps them also where its layers do not remember them, see `forgotten_calls`.
    """
    graph = getattr(model, "_functional", None) or model  # of a Sequential model
    calls = (node for nodes in graph._nodes_by_depth.values() for node in nodes)
    return {id(tensor): node for node in calls for tensor in node.outputs}


def has_mask(tensor: Any) -> bool:
    """Whether a mask goes along with a symbolic tensor."""
    return getattr(tensor, "_keras_mask", None) is not None


def inner_layers(layer: Any, *, recursive: bool = False) -> list[Any]:
    """The layers that a layer holds, in its attributes and in lists there; and those inside them.

    A model has `layers`, other layers nothing public.
    """
    return list(layer._flatten_layers(include_self=False, recursive=recursive))


def compile_config(model: Any) -> dict[str, Any]:
    """The arguments of the model's last `compile`, as they were given.

    `model.get_compile_config` is the public way, and serializes: a loss that is a plain function
    does not come back from it.
    """
    return dict(model._compile_config.config)


def attributes(owner: Any) -> dict[str, Any]:
    """What an object of Keras holds, but for what every layer has to keep its books.

    The books refer to all layers that come before and after. No public way tells an activation from
    them; `get_config` gives the name of a function, which other functions may have too.
    """
    held = vars(owner) if hasattr(owner, "__dict__") else {}
    if not isinstance(owner, keras.Operation):
        return held
    books = _books()
    # TensorFlow's books of what belongs into a checkpoint begin like this.
    return {k: v for k, v in held.items() if k not in books and not k.startswith("_self_")}


@functools.cache
def _books() -> frozenset[str]:
    return frozenset(vars(keras.layers.Layer()))


def changed_since_compile(model: Any) -> list[str]:
    """Names of the layers whose `trainable` is not what it was at the model's last `compile`.

    Keras keeps the flags, to warn of it in other versions than this one (3.15); older ones do not.
    """
    before = getattr(model, "_compiled_trainable_state", {})
    return [layer.name for layer, flag in before.items() if layer.trainable != flag]


def compilation(model: Any) -> Any:
    """An object that is another one after each `compile`."""
    return model._compile_config


def loss_and_metrics(model: Any) -> dict[str, Any]:
    """The functions of (labels, outputs, sample weights) that a model is compiled with.

    `compute_loss` and `compute_metrics` are the public ways; the one adds what `add_loss` left behind of
    the last call of a layer, the other gives the values of all metrics.
    """
    metrics = model._compile_metrics
    found = {"loss": model._compile_loss, "metrics": metrics and metrics.update_state}
    return {name: function for name, function in found.items() if function is not None}


def count_tracing_by_function(function: Any) -> None:
    """Let TensorFlow count the tracings of a model's steps by themselves, apart from other models'.

    TensorFlow warns of retracing where five of the last calls of functions that were defined at one line
    traced. The steps of all models are defined at one line of Keras, so that it warns after a few models
    each of which was traced once.

    Args:
        function: What `make_train_function` and its like make: compiled, or with what is compiled in its
            closure.
    """
    # A wrapper around a compiled function has a copy of its attributes, and not of its properties.
    if hasattr(function, "_key_for_call_stats") and hasattr(function, "python_function"):
        function._key_for_call_stats = function.python_function
    elif inspect.isfunction(function):
        for cell in function.__closure__ or ():
            count_tracing_by_function(cell.cell_contents)


def predict_on_batch(model: Any, images: Any) -> Any:
    """`Model.predict_on_batch`, whose tracings TensorFlow counts for each model by itself."""
    model.make_predict_function()
    count_tracing_by_function(model.predict_function)
    return model.predict_on_batch(images)


@contextlib.contextmanager
def forgotten_calls(operations: Iterable[Any]) -> Iterator[None]:
    """Let operations be called on symbolic tensors without remembering it.

    Each symbolic call adds a node to its operation, and to those that made its inputs, for as long as
    they live: a layer would keep all tails that it was ever part of.
    """
    lists = [
        nodes
        for operation in dict.fromkeys(operations)
        for nodes in (operation._inbound_nodes, operation._outbound_nodes)
    ]
    lengths = [len(nodes) for nodes in lists]
    try:
        yield
    finally:
        for nodes, length in zip(lists, lengths, strict=True):
            del nodes[length:]


@contextlib.contextmanager
def names_from_zero() -> Iterator[None]:
    """Let automatic names start anew inside (`conv2d`, `conv2d_1`), and go on after both outside.

    Keras counts them up over the life of a process, so that a second InceptionV3 would have other
    names than the first.
    """
    from keras.src.backend.common import global_state

    outside = global_state.get_global_attribute("object_name_uids") or {}
    inside: dict[str, int] = collections.defaultdict(int)
    global_state.set_global_attribute("object_name_uids", inside)
    try:
        yield
    finally:
        for prefix, count in outside.items():
            inside[prefix] = max(count, inside[prefix])


def dataset_functions(dataset: Any) -> Iterator[Any]:
    """The functions that a `tf.data.Dataset` and those below it map, filter or generate with.

    What lies below `.cache()` runs once. `DatasetToGraphV2` would show the functions too, and copies all
    of the images that lie in memory.
    """
    if constant_below(dataset):
        return
    yield from dataset._functions()
    for inputs in dataset_inputs(dataset):
        yield from dataset_functions(inputs)


def constant_below(dataset: Any) -> bool:
    """Whether a dataset gives what it gave the first time: `.cache()`, or the user's word for it."""
    return type(dataset).__name__ == "CacheDataset" or getattr(dataset, "is_constant", False) is True


_BATCHES = ("_BatchDataset", "_ParallelBatchDataset", "_PaddedBatchDataset")
_PARTS = ("_TakeDataset", "_SkipDataset", "_ShardDataset", "_TakeWhileDataset", *_BATCHES)


def dataset_steps(dataset: Any) -> Iterator[tuple[str, bool, Any]]:
    """The name of each step of a dataset, whether it leaves images out, and what it was made from.

    What does not change stays away: below `.cache()`, a shuffle that keeps its order, and what leaves no
    image out, such as a `take` of at least as many as there are.
    """
    if constant_below(dataset):
        return
    name, inputs = type(dataset).__name__, list(dataset._inputs())
    is_part = name in _PARTS and not _takes_all(dataset, name, inputs[0])
    keeps_order = getattr(dataset, "_reshuffle_each_iteration", True) is False
    if not (name == "_ShuffleDataset" and keeps_order):
        yield name, is_part, inputs[0] if inputs else dataset
    for each in inputs:
        yield from dataset_steps(each)


def _takes_all(dataset: Any, name: str, inputs: Any) -> bool:
    size = int(inputs.cardinality())
    if name in _BATCHES:
        drops = bool(getattr(dataset, "_drop_remainder", False))
        return not drops or size == 0 or (size > 0 and size % int(dataset._batch_size) == 0)
    if name == "_ShardDataset":
        return int(dataset._num_shards) == 1
    count = int(getattr(dataset, "_count", -1))
    if name == "_SkipDataset":
        return count == 0
    return name == "_TakeDataset" and (count < 0 or 0 <= size <= count)


def gpu_memory() -> int:
    """Bytes of memory that TensorFlow may take of the smallest graphics processor; 0 without one.

    `tf.config.experimental.get_memory_info`, which is public, tells what is taken, and not of how much.
    """
    from tensorflow.python.client import device_lib

    devices = device_lib.list_local_devices()
    return min((each.memory_limit for each in devices if each.device_type == "GPU"), default=0)


def is_stateful(operation: str) -> bool:
    """Whether an operation is marked as one with a state, by TensorFlow's own registry."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(operation)
    return definition is not None and bool(definition.is_stateful)


def repeated_forever(dataset: Any) -> Any:
    """What `dataset` repeats without end, if `.repeat()` of data that ends is its last step; else None.

    The classes of datasets have no public names, and `_input_dataset` no public way to it.
    """
    while type(dataset).__name__ in ("_PrefetchDataset", "_OptionsDataset"):
        (dataset,) = dataset._inputs()
    if type(dataset).__name__ != "_RepeatDataset" or int(dataset._count) != -1:
        return None
    (inputs,) = dataset._inputs()
    return None if int(inputs.cardinality()) == -1 else inputs


def dataset_inputs(dataset: Any) -> list[Any]:
    """The data sets that a `tf.data.Dataset` was made from; none for one that begins with them."""
    return list(dataset._inputs())


# What gives the images of the one data set that it was made from, all of them and in their order.
_KEEP_ORDER = (
    *("_BatchDataset", "_MapDataset", "_OptionsDataset", "_PaddedBatchDataset", "_PrefetchDataset"),
    *("_AssertCardinalityDataset", "_RebatchDataset", "_RestructuredDataset"),
    *("_ParallelBatchDataset", "_ParallelMapDataset", "_UnbatchDataset", "CacheDataset"),
)


def keeps_order(dataset: Any) -> bool:
    """Whether a data set has the images of the one it was made from, in their order."""
    # "default" and "true" are in order.
    is_exact = getattr(dataset, "_deterministic", None) != "false" and (
        dataset.options().deterministic is not False
    )
    return type(dataset).__name__ in _KEEP_ORDER and is_exact


def is_shuffled(dataset: Any) -> bool:
    """Whether images come in another order than that of the list they were read from."""
    mixing = ("Shuffle", "Interleave")
    is_mixing = any(word in type(dataset).__name__ for word in mixing)
    return is_mixing or any(map(is_shuffled, dataset_inputs(dataset)))


# How the modules of `keras.applications` that keep their hashes in a table make names of its keys: of
# the file with the classifier top, and of that without.
_NAMES_OF_WEIGHTS = {
    "convnext": ("{}.h5", "{}_notop.h5"),
    "efficientnet": ("efficientnet{}.h5", "efficientnet{}_notop.h5"),
    "efficientnet_v2": ("efficientnetv2-{}.h5", "efficientnetv2-{}_notop.h5"),
    "mobilenet_v3": ("weights_mobilenet_v3_{}.h5", "weights_mobilenet_v3_{}_no_top_v2.h5"),
    "resnet": (
        "{}_weights_tf_dim_ordering_tf_kernels.h5",
        "{}_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
}


@functools.cache
def published_weights() -> dict[str, str]:
    """The hashes that Keras checks its downloads of weights by, under the files' names in lower case.

    SHA-256 or, of older ones, MD5; MobileNet and MobileNetV2 have none. Keras has them in tables, or
    among the arguments of the download deep inside of its functions: those are read from the source.
    """
    import keras.src.applications as applications

    found: dict[str, str] = {}
    for each in pkgutil.iter_modules(applications.__path__):
        if each.name.endswith("_test"):
            continue
        module = importlib.import_module(f"{applications.__name__}.{each.name}")
        names = _NAMES_OF_WEIGHTS.get(each.name, ())
        for key, hashes in getattr(module, "WEIGHTS_HASHES", {}).items():
            found |= {n.format(key.lstrip("-")): h for n, h in zip(names, hashes, strict=False)}
        found |= _downloads(module)
    return {name.lower(): each for name, each in found.items() if name.endswith(".h5")}


def _downloads(module: Any) -> dict[str, str]:
    """Names and hashes of the `get_file(name, ..., file_hash=hash)` in a module."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except OSError:  # installed without its source
        return {}
    assigned: dict[str, ast.expr] = {}
    found: dict[str, str] = {}
    for node in sorted(ast.walk(tree), key=lambda node: getattr(node, "lineno", 0)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned[node.targets[0].id] = node.value
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get_file":
            name = node.args[0] if node.args else None
            name = assigned.get(name.id) if isinstance(name, ast.Name) else name
            hashes = [each.value for each in node.keywords if each.arg == "file_hash"]
            found |= {_text(name): _text(each) for each in hashes if _text(name) and _text(each)}
    return found


def _text(node: ast.AST | None) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""
