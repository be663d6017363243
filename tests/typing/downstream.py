"""What a user of the installed package may write, for mypy --strict and pyright; it is never run.

Each ``type: ignore`` stands at a mistake that both must find: one that is not needed is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from typing_extensions import assert_type

import topwork as tw
from topwork.callbacks import KeepBest, StopAt
from topwork.data import BadImage, augmentation, find_bad_images
from topwork.interpret import (
    ClassRow,
    HeatMap,
    LabelRow,
    LabelsReport,
    Mistake,
    Report,
    grad_cam,
    plot_history,
    report,
)
from topwork.types import Comparison, CutRow, Head, LayerTable, Prediction, Store, StoreInfo

IMAGES: npt.NDArray[np.float32] = np.zeros((4, 150, 150, 3), np.float32)
LABELS = np.array([0, 1, 0, 1])
FOLDER = Path("features")
WEIGHTS = Path("inception_v3.h5")


def results(model: keras.Model, anything: Any) -> tuple[Comparison[CutRow], list[Prediction]]:
    """What functions return can be named."""
    store: Store = tw.open_store(FOLDER)
    info: StoreInfo = store.info()
    layers: LayerTable = tw.describe(model)
    head: Callable[[keras.Model], keras.Model] = Head(2, 0.2, "avg", None, 1e-3, "classes")
    assert_type([row.name for row in layers], list[str])
    _ = tw.types.Raport  # type: ignore[attr-defined]
    return tw.compare_cuts(head(model), info, anything), tw.predict(model, anything)


def build() -> keras.Model:
    assert_type(tw.list_backbones(), list[str])
    assert_type(tw.cut_points("inception_v3"), list[str])
    backbone = tw.load_backbone(
        "inception_v3", "mixed7", weights=FOLDER / "w.h5", input_shape=(150, 150, 3)
    )
    assert_type(backbone, keras.Model)
    assert_type(tw.cut_points(backbone), list[str])
    assert_type(tw.freeze(backbone), keras.Model)
    tw.freeze(backbone, until="mixed5")
    tw.freeze(backbone, 172)
    tw.load_backbone("mobilenet", weights=None, preprocess=False, alpha=0.25)
    head = tw.add_head(n_classes=2, dropout=0.2, pooling="max", hidden_units=None, learning_rate=1e-3)
    assert_type(head, Callable[[keras.Model], keras.Model])
    return head(backbone)


def train(model: keras.Model) -> keras.callbacks.History:
    history = tw.fit(
        model,
        IMAGES,
        LABELS,
        validation_data=(IMAGES, LABELS),
        epochs=20,
        batch_size=32,
        augment=augmentation(rotation=10, horizontal_flip=False, seed=1),
        views=10,
        cache=True,
        cache_dir=FOLDER,
        callbacks=[StopAt(0.99), KeepBest(baseline=0.9), keras.callbacks.EarlyStopping()],
        class_weight={0: 1, 1: 2.5},
        sample_weight=None,
        shuffle=False,
        initial_epoch=1,
        verbose=0,
    )
    assert_type(history, keras.callbacks.History)
    assert_type(tw.fine_tune(model, unfreeze_from=172, layer_decay=0.9), keras.Model)
    tw.fine_tune(model, "conv2d_56", learning_rate=1e-5, optimizer="adam")
    tw.fine_tune(model, optimizer=keras.optimizers.Adam(1e-5))
    tw.fit(
        model, IMAGES, LABELS, callbacks=KeepBest(baseline=history), cache="auto", cache_dir="features"
    )
    return history


def store(model: keras.Model) -> int:
    opened = tw.open_store(FOLDER)
    assert_type(opened.info().bytes, int)
    assert_type(opened.prune(older_than=30, larger_than=10**9).bytes, int)
    return assert_type(tw.precompute(model, IMAGES, cache_dir="features", views=2, verbose="auto"), int)


def choose(model: keras.Model) -> None:
    cuts = tw.compare_cuts(
        ["inception_v3", model],
        (IMAGES, LABELS),
        (IMAGES, LABELS),
        weights={"inception_v3": WEIGHTS},
        input_shape=(150, 150, 3),
    )
    tw.load_backbone(cuts.best.backbone, cuts.best.cut_layer)
    assert_type([row.accuracy for row in cuts], list[float])
    assert_type(cuts[0].n_features, int)
    tw.compare_cuts("mobilenet", IMAGES, IMAGES, cut_layers=("conv_pw_3_relu",), weights=None)

    boundaries = tw.compare_boundaries(model, IMAGES, IMAGES, boundaries=[172, "conv2d_60"], epochs=1)
    assert_type(boundaries.best.index, int | None)
    tw.fine_tune(model, boundaries.best.unfreeze_from)
    boundaries.plot().savefig("boundaries.png")


def look(model: keras.Model) -> Figure:
    table = tw.describe(model)
    assert_type(table.trainable_parameters, int)
    for row in table:
        assert_type(row.index, int)
        assert_type(row.state, Literal["frozen", "trainable", "partial", "no weights"])

    (prediction,) = tw.predict(model, "cat.jpg", class_names=["cat", "dog"], top=1)
    assert_type(prediction.name, str)
    assert_type(dict(prediction), dict[str, float])

    found = report(model, (IMAGES, LABELS), ["cat", "dog"], n_mistakes=4)
    # What it is depends on the model, which is not known before it runs.
    assert isinstance(found, Report)
    assert_type(found.rows, tuple[ClassRow, ...])
    assert_type(found.mistakes, tuple[Mistake, ...])
    assert_type(found.confusion, npt.NDArray[np.int64])
    assert_type(found.plot_mistakes(), Figure)

    heat = grad_cam(model, IMAGES[0], class_index=1)
    labels = report(model, (IMAGES, LABELS), threshold={"cat": 0.3})
    assert isinstance(labels, LabelsReport)
    assert_type(labels.rows, tuple[LabelRow, ...])
    assert_type(labels.calibration.error, float)

    assert_type(heat, HeatMap)
    assert_type(heat.heatmap, npt.NDArray[np.float32])
    return plot_history({"loss": [0.5, 0.25]}, labels=["head"])


def clean(folder: str) -> list[Path]:
    bad = find_bad_images(folder, verbose=False)
    assert_type(bad, list[BadImage])
    return [image.path for image in bad]


def by_the_module(model: keras.Model) -> None:
    """The three modules are there without an import of their own."""
    tw.data.find_bad_images(Path("photos"))
    tw.interpret.report(model, IMAGES).plot()
    tw.callbacks.StopAt(value=0.1, monitor="val_loss", mode="min")
    assert_type(tw.__version__, str)


def mistakes(model: keras.Model) -> None:
    anything: Any = None
    tw.fitt(model, IMAGES)  # type: ignore[attr-defined]
    tw.fit(model)  # type: ignore[call-arg]
    tw.fit(model, IMAGES, epoch=3)  # type: ignore[call-arg]
    tw.fit(model, IMAGES, epochs="3")  # type: ignore[arg-type]
    tw.fit(model, IMAGES, cache_dir=3)  # type: ignore[arg-type]
    tw.load_backbone("inception_v3", input_shape=150)  # type: ignore[arg-type]
    tw.add_head(2, 0.2, "avg")  # type: ignore[call-arg]
    tw.add_head("2")  # type: ignore[arg-type]
    tw.freeze(model, until=1.5)  # type: ignore[arg-type]
    tw.fine_tune(model, 172, 1e-5)  # type: ignore[call-arg]
    tw.precompute(model, anything)  # type: ignore[call-arg]
    tw.compare_cuts("mobilenet", anything)  # type: ignore[call-arg]
    tw.describe(model).layers()  # type: ignore[attr-defined]
    tw.predict(model, "cat.jpg", class_names=2)  # type: ignore[arg-type]
    tw.data.augmentation(10)  # type: ignore[call-arg]
    tw.callbacks.StopAt("0.99")  # type: ignore[arg-type]
    tw.interpret.report(model, anything).accuracy = 1.0  # type: ignore[misc]
