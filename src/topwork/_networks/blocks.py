"""The blocks of a network: where they end, and what it costs to compute them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np

from topwork._networks.graph import Step, clean_cuts, steps

T = TypeVar("T")

_SAME_FEATURES = (keras.layers.ZeroPadding2D, keras.layers.Dropout, keras.layers.SpatialDropout2D)
_MERGES = (keras.layers.Add, keras.layers.Concatenate)


@dataclasses.dataclass
class _Block:
    """What lies between two clean cuts and has kernels of its own, with what follows up to the next.

    Attributes:
        name: The layer that it ends with.
        first_area: Pixels of its first feature map that everything flows through.
        area: Pixels of its last one.
        channels: Of its last one.
        merges: Whether branches or a residual end in it.
        is_part: Whether it is a step inside a block that has no branches, a depthwise convolution or a
            squeeze-and-excitation.
    """

    name: str
    first_area: int
    area: int
    channels: int
    merges: bool
    is_part: bool


def block_ends(model: keras.Model, limit: int) -> list[str]:
    """The clean cuts at which blocks end, from the input on, at most `limit` of them.

    A convolution is followed by normalisation, activation or pooling; the cut is after the last of these.
    If there are more than `limit`, ends of stages are taken first, where the feature map gets smaller.
    Then come ends of blocks with branches or residuals, then all others. Where a kind has more than
    there is room for, those taken are spread evenly.
    """
    blocks = [block for block in _blocks(model) if not block.is_part]
    blocks = [block for i, block in enumerate(blocks) if not _is_expansion(blocks, i)]
    ends = {block.name for i, block in enumerate(blocks) if _ends_stage(blocks, i)}
    merges = {block.name for block in blocks if block.merges}
    names = [block.name for block in blocks]
    chosen: set[str] = set()
    for kind in (ends, merges - ends, set(names) - merges - ends):
        members = [name for name in names if name in kind]
        chosen.update(spread(members, limit - len(chosen)))
    return [name for name in names if name in chosen]


def _blocks(model: keras.Model) -> list[_Block]:
    cuts = set(clean_cuts(model))
    blocks: list[_Block] = []
    between: list[Any] = []
    for step in steps(model):
        operation, shape = step.operation, step.outputs[0].shape
        between.append(operation)
        if operation.name not in cuts or not isinstance(operation, keras.Layer):
            continue
        if len(shape) not in (3, 4):
            break
        if any(_kernels(each) for each in between):
            blocks.append(_block(operation, between, shape))
        elif blocks and not isinstance(operation, _SAME_FEATURES):
            last = blocks[-1]
            last.name, last.area, last.channels = operation.name, _area(shape), shape[-1]
        between = []
    return blocks


def _block(operation: keras.Layer, between: list[Any], shape: Any) -> _Block:
    with_kernels = [each for each in between if _kernels(each)]
    is_depthwise = all(isinstance(each, keras.layers.DepthwiseConv2D) for each in with_kernels)
    return _Block(
        name=operation.name,
        first_area=_area(shape),
        area=_area(shape),
        channels=shape[-1],
        merges=any(isinstance(each, _MERGES) for each in between),
        is_part=is_depthwise or isinstance(operation, keras.layers.Multiply),
    )


def _area(shape: Any) -> int:
    return math.prod(size or 1 for size in shape[1:-1])


def _is_expansion(blocks: list[_Block], i: int) -> bool:
    """Whether it is the wide middle of an inverted bottleneck, with fewer channels on both sides."""
    if not 0 < i < len(blocks) - 1 or blocks[i].merges:
        return False
    return blocks[i].channels > max(blocks[i - 1].channels, blocks[i + 1].channels)


def _ends_stage(blocks: list[_Block], i: int) -> bool:
    block = blocks[i]
    is_pooled = block.area < block.first_area / 2
    return i == len(blocks) - 1 or is_pooled or blocks[i + 1].first_area < block.area / 2


def spread(items: Sequence[T], n: int) -> list[T]:
    """At most `n` of the items, the last one of each of `n` equal parts."""
    if n <= 0 or len(items) <= n:
        return list(items[: max(n, 0)])
    return [items[int(part[-1])] for part in np.array_split(np.arange(len(items)), n)]


def up_to(ordered: list[Step], tensor: Any) -> list[Step]:
    """Those of a graph's steps that have to be run for one of its tensors."""
    needed, found = {id(tensor)}, []
    for step in reversed(ordered):
        if any(id(output) in needed for output in step.outputs):
            found.append(step)
            needed.update(id(value) for value in step.inputs)
    return found[::-1]


def multiply_adds(ordered: Iterable[Step]) -> int:
    """Multiplications with an addition that the steps take for one image.

    Convolutions and dense layers are counted: each number of a kernel is multiplied once for each place
    of the output. What others do (normalisation, activation, pooling, sums) is left out.
    """
    total, n_tokens = 0, 1
    for step in ordered:
        shape = step.outputs[0].shape
        if len(shape) == 3 and shape[1] is not None:
            n_tokens = shape[1]
        if isinstance(step.operation, keras.Model):
            total += multiply_adds(steps(step.operation))
        elif isinstance(step.operation, keras.layers.EinsumDense):  # of an attention: once for each token
            total += n_tokens * sum(_kernels(step.operation))
        else:
            total += math.prod(size or 1 for size in shape[1:-1]) * sum(_kernels(step.operation))
    return total


def parameters(ordered: Iterable[Step]) -> int:
    """Parameters of the layers that the steps call, each layer counted once."""
    operations = dict.fromkeys(step.operation for step in ordered)
    return sum(each.count_params() for each in operations if isinstance(each, keras.Layer))


def _kernels(operation: Any) -> list[int]:
    """The sizes of the kernels of a layer, and of the layers inside it."""
    weights = operation.weights if isinstance(operation, keras.Layer) else []
    return [math.prod(weight.shape) for weight in weights if weight.name.endswith("kernel")]
