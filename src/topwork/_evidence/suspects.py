"""`suspects`: labels that are probably wrong."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from topwork._data.order import warn_of_order
from topwork._data.origin import class_names_of, in_order, origin_of
from topwork._data.randomness import warn_of_randomness
from topwork._data.reading import open_source
from topwork._errors import public, warn
from topwork._evidence.doubts import Doubts, doubts_of_classes, doubts_of_labels, doubts_of_numbers
from topwork._evidence.pictures import Watched
from topwork._evidence.suspect_records import Suspect, Suspects
from topwork._evidence.suspect_targets import check_classes, label_targets, named_targets
from topwork._features.cache import open_cache
from topwork._features.computation import Computation, Run
from topwork._features.memory import memory_for_features
from topwork._features.table import Table
from topwork._networks.arguments import optional_whole
from topwork._networks.graph import require_functional
from topwork._training.features import feature_tensor
from topwork._training.linear import out_of_fold_scores
from topwork._training.linear_fits import LOSS_OF, Array, Examples

_N_PICTURES = 16


@public
def suspects(
    model: keras.Model,
    data: Any,
    *,
    class_names: Sequence[str] | None = None,
    n: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    precision: str = "float32",
    verbose: str | int = "auto",
) -> Suspects:
    """Find labels that are probably wrong.

    A linear classifier on the features of the network judges each image. It is fitted ten times, each
    time without a tenth of the images, and judges only images that it was fitted without. If it
    contradicts a label, the label is listed. The list is ranked by how much likelier the classifier finds
    another label (after Northcutt, Jiang and Chuang, 2021, https://arxiv.org/abs/1911.00068). In a test,
    100 labels of 2,000 photographs of cats and dogs were changed; 91 of them were among the 100 most
    suspicious ones (MobileNet, frozen). Look at the images: a suspicious label may be right, if the image
    is rare, hard to see, or of two classes.

    Do not use a model that was trained on the same labels: it knows the wrong ones by heart.

    Args:
        model: A backbone, or a model with a head, of which only what stands before the head is used.
        data: Images and labels: a data set, best of `topwork.data.read_folder`, so that files are
            named, or (images, labels). Class numbers or one-hot; names; zeros and ones, several labels an
            image; or numbers, where those far from the ones expected are listed.
        class_names: The names in the order of the labels; None: those of the data or the model, else
            numbers.
        n: How many to list; None: all that contradict.
        cache_dir: A folder to keep the features in; what is there is not computed again.
        engine: As in `fit`.
        precision: As in `fit`.
        verbose: 0 is silent.

    Returns:
        `Suspects`: prints as a table, iterates, ``.records`` are plain dicts with index and file, and
        ``.plot()`` draws the first ones.

    Raises:
        ValueError: There are no labels, fewer than two classes, or the images do not fit the model.

    Example:
        >>> import numpy as np, topwork as tw
        >>> backbone = tw.load_backbone("mobilenet", weights=None, input_shape=(32, 32, 3))
        >>> rng = np.random.default_rng(0)
        >>> labels = np.arange(40) % 2
        >>> images = rng.uniform(0, 100, (40, 32, 32, 3)) + 150 * labels[:, None, None, None]
        >>> labels[7] = 0
        >>> found = tw.interpret.suspects(backbone, (images, labels), n=1, verbose=0)
        >>> print(found[0])
        image 7: 0, probably 1
    """
    require_functional(model)
    n = optional_whole("n", n, 1)
    part = keras.Model(model.inputs, feature_tensor(model))
    warn_of_randomness(data, "data")
    _warn_of_what_was_trained(model, part)
    ordered, paths = in_order(data)
    source, origin = open_source(part, ordered), origin_of(data)
    watched = Watched(source, origin if paths is not None else None)
    cache = open_cache("auto", cache_dir, engine, precision)
    computation = Computation(part, part, cache, verbose)
    (table,) = computation.tables(Run(watched.source, "data", labelled=False))
    computation.say([table])
    targets, task, found_names = label_targets(model, table.y)
    names, targets = named_targets(class_names, class_names_of(data) or found_names, model, targets, task)
    if task == "classes":
        check_classes(targets, names)
    doubts = _doubts(table, targets, task, len(names))
    if task == "classes":
        _warn_of_chance(doubts.share_right, targets)
    if paths is None:
        warn_of_order(data, source)
    files = [None] * len(table) if paths is None else paths
    return _ranked(doubts, names, task, n, files, watched)


def _warn_of_what_was_trained(model: keras.Model, part: keras.Model) -> None:
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and int(optimizer.iterations) > 0 and part.trainable_weights:
        warn(
            f"layers of {model.name!r} before its head were trained. If that was on these labels, they "
            "know the wrong ones by heart. Use a backbone that was not: load_backbone(...)."
        )


def _warn_of_chance(share_right: float, classes: Array) -> None:
    largest = np.unique(classes, return_counts=True)[1].max() / len(classes)
    if share_right <= largest:
        warn(
            f"the classifier agrees with {share_right:.1%} of the labels, and {largest:.1%} are of the "
            "most frequent class: it has learned nothing that tells the classes apart, and what it "
            "contradicts is chance. Use another network or cut layer, or more images."
        )


def _doubts(table: Table, targets: Array, task: str, n_names: int) -> Doubts:
    """What the probe says of each label."""
    examples = Examples(
        read=lambda rows: np.asarray(table.layout.unpack(tf.constant(table.read(rows)))[0], np.float32),
        rows=np.arange(len(table)),
        targets=targets if task == "classes" else targets.astype(np.float64),
        weights=np.ones(len(table)),
        n_features=int(np.prod(table.layout.shapes[0])),
        n_outputs=n_names,
    )
    scores = out_of_fold_scores(examples, LOSS_OF[task], memory=memory_for_features())
    return _DOUBTS[task](scores, targets)


_DOUBTS = {"classes": doubts_of_classes, "labels": doubts_of_labels, "numbers": doubts_of_numbers}


def _ranked(
    doubts: Doubts,
    names: tuple[str, ...],
    task: str,
    n: int | None,
    files: Sequence[str | None],
    watched: Watched,
) -> Suspects:
    n_suspects = int(doubts.is_suspect.sum())
    order = np.argsort(-doubts.doubt, kind="stable")[: n_suspects if n is None else n]
    pictures = watched.pictures(dict.fromkeys(doubts.image[order[:_N_PICTURES]].tolist()))

    def suspect(place: int, label: int) -> Suspect:
        image, number = int(doubts.image[label]), float(doubts.probability[label])
        given, suggested = (named(each[label], label) for each in (doubts.given, doubts.suggested))
        return Suspect(
            index=image,
            file=files[image],
            given=given,
            suggested=suggested,
            doubt=float(doubts.doubt[label]),
            probability=None if math.isnan(number) else number,
            name=names[doubts.column[label]] if task == "numbers" and len(names) > 1 else None,
            image=pictures.get(image) if place < _N_PICTURES else None,
        )

    def named(value: Any, label: int) -> str | float:
        if task == "classes":
            return names[int(value)]
        name = names[doubts.column[label]]
        return float(value) if task == "numbers" else name if value else f"not {name}"

    rows = tuple(suspect(place, int(label)) for place, label in enumerate(order))
    return Suspects(rows, task, len(doubts.doubt), n_suspects, doubts.n_likely, doubts.share_right)
