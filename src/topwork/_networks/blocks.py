"""The blocks of a network: where they end, and what it costs to compute them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np

from topwork._networks.graph import Step, bottlenecks, steps
from topwork._private_keras import inner_layers

T = TypeVar("T")

_SAME_FEATURES = (keras.layers.ZeroPadding2D, keras.layers.Dropout, keras.layers.SpatialDropout2D)
_MERGES = (keras.layers.Add, keras.layers.Concatenate)


@dataclasses.dataclass
class Block:
    """What lies between two clean cuts and has kernels of its own, with what follows up to the next.

    The attention of an encoder and the layers behind it, of the same tokens, are one block.

    Attributes:
        name: The layer that it ends with.
        operations: All that is in it.
        first_area: Pixels of its first feature map that everything flows through.
        area: Pixels of its last one.
        channels: Of its last one.
        merges: Whether branches or a residual end in it.
        is_of_tokens: Whether its last one is the tokens of a transformer.
        is_part: Whether it is a step inside a block that has no branches, a depthwise convolution or a
            squeeze-and-excitation.
    """

    name: str
    operations: list[Any]
    first_area: int
    area: int
    channels: int
    merges: bool
    is_of_tokens: bool
    is_part: bool

    @property
    def attends(self) -> bool:
        """Whether it is a block of a transformer."""
        return any(map(_attends, self.operations))


def block_ends(model: keras.Model, limit: int) -> list[str]:
    """The clean cuts at which blocks end, from the input on, at most `limit` of them.

    A convolution is followed by normalisation, activation or pooling; the cut is after the last of these.
    If there are more than `limit`, ends of stages are taken first, where the feature map gets smaller.
    Then come ends of blocks with branches or residuals, then all others. Where a kind has more than
    there is room for, those taken are spread evenly.
    """
    blocks = whole_blocks(model)
    ends = {block.name for i, block in enumerate(blocks) if _ends_stage(blocks, i)}
    merges = {block.name for block in blocks if block.merges}
    names = [block.name for block in blocks]
    chosen: set[str] = set()
    for kind in (ends, merges - ends, set(names) - merges - ends):
        members = [name for name in names if name in kind]
        chosen.update(spread(members, limit - len(chosen)))
    return [name for name in names if name in chosen]


def whole_blocks(model: keras.Model) -> list[Block]:
    """The blocks, without the steps inside of those that have no branches."""
    blocks = [block for block in blocks_of(steps(model)) if not block.is_part]
    return [block for i, block in enumerate(blocks) if not _is_expansion(blocks, i)]


def last_stage(model: keras.Model) -> str | None:
    """The end of the block before the last stage; None where no blocks are told apart.

    It is what follows the last feature map that is larger than the last one. Where that is more than half
    of the blocks, as in a transformer, whose tokens are as many in all blocks, it is their last quarter:
    of keras.applications, the last stage has 3 of 16 blocks in ResNet50, 1 of 5 in VGG16.
    """
    blocks = whole_blocks(model)
    larger = [i for i, block in enumerate(blocks) if block.first_area > blocks[-1].first_area]
    start = larger[-1] + 1 if larger else 0
    if 2 * start < len(blocks):
        within = range(start, len(blocks))
        equal = [i for i in within if blocks[i].attends] or list(within)
        start = equal[-max(1, round(len(equal) / 4))]
    return blocks[start - 1].name if start else None


def blocks_of(ordered: list[Step]) -> list[Block]:
    """All that lies between clean cuts, from the input to the last feature map or tokens."""
    cuts = {id(step) for step in bottlenecks(ordered) if not step.is_input}
    blocks: list[Block] = []
    between: list[Any] = []
    for step in ordered:
        operation, shape = step.operation, step.outputs[0].shape
        between.append(operation)
        if id(step) not in cuts or not isinstance(operation, keras.Layer):
            continue
        if len(shape) not in (3, 4) or operation.name.startswith("head_"):
            break
        _take_in(blocks, _block(operation, between, shape))
        between = []
    return blocks


def _take_in(blocks: list[Block], block: Block) -> None:
    """Add a block to those before, or to the last of them what is none by itself."""
    last, operation = (blocks[-1] if blocks else None), block.operations[-1]
    has_kernels = any(map(_kernels, block.operations))
    if has_kernels and (last is None or not _goes_on(last, block)):
        blocks.append(block)
    elif last is not None:
        last.operations += block.operations
        last.merges = last.merges or (has_kernels and block.merges)
        if not isinstance(operation, _SAME_FEATURES):
            last.name, last.area, last.channels = block.name, block.area, block.channels


def _goes_on(last: Block, block: Block) -> bool:
    """Whether it is the second half of a block of a transformer, behind the attention."""
    is_same = (last.area, last.channels, last.is_of_tokens) == (block.area, block.channels, True)
    return is_same and last.attends and not block.attends


def _block(operation: keras.Layer, between: list[Any], shape: Any) -> Block:
    with_kernels = [each for each in between if _kernels(each)]
    is_depthwise = all(map(_is_depthwise, with_kernels))
    return Block(
        name=operation.name,
        operations=between,
        first_area=_area(shape),
        area=_area(shape),
        channels=shape[-1],
        merges=any(isinstance(each, _MERGES) for each in between),
        is_of_tokens=len(shape) == 3,
        is_part=is_depthwise or isinstance(operation, keras.layers.Multiply),
    )


def _is_depthwise(operation: Any) -> bool:
    if isinstance(operation, keras.layers.Conv2D):  # as KerasHub's MobileNet has it
        return 1 < operation.groups == operation.filters
    return isinstance(operation, keras.layers.DepthwiseConv2D)


def _attends(operation: Any) -> bool:
    """Whether an operation, or a layer inside of one, weighs the tokens by each other."""
    inside = inner_layers(operation, recursive=True) if isinstance(operation, keras.Layer) else []
    kinds = [type(each).__name__ for each in (operation, *inside)]
    return any("Attention" in kind for kind in kinds) or type(operation).__name__ == "Softmax"


def _area(shape: Any) -> int:
    return math.prod(size or 1 for size in shape[1:-1])


def _is_expansion(blocks: list[Block], i: int) -> bool:
    """Whether it is the wide middle of an inverted bottleneck, with fewer channels on both sides."""
    if not 0 < i < len(blocks) - 1 or blocks[i].merges or blocks[i].attends:
        return False
    return blocks[i].channels > max(blocks[i - 1].channels, blocks[i + 1].channels)


def _ends_stage(blocks: list[Block], i: int) -> bool:
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
