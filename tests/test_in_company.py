"""The page "In company", run as it stands with what is installed; many fits in one process."""

from __future__ import annotations

import contextlib
import logging
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import topwork as tw
from topwork._features.frozen_part import FrozenPart

PAGE = Path(__file__).resolve().parent.parent / "docs" / "in-company.md"
N_IMAGES = 12


def code_of(section: str) -> str:
    """The Python of a section of the page, after that of its beginning."""
    if not PAGE.is_file():
        pytest.skip("the pages lie in the source tree, and this is not run from there")
    beginning, *sections = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    (found,) = (each for each in sections if each.startswith(section))
    blocks = re.findall(r"^```python\n(.*?)^```$", beginning + found, re.MULTILINE | re.DOTALL)
    return "\n".join(blocks)


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "mobilenet.h5"
    keras.applications.MobileNet(include_top=False, weights=None, input_shape=(128, 128, 3)).save(file)
    return file


@pytest.fixture
def computed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_photos: Callable[..., Path],
    weights_file: Path,
) -> list[int]:
    """How many images the frozen part was run on, in a folder with photographs."""
    from keras.src.utils import file_utils

    make_photos(tmp_path / "photos", ("cats", "dogs"), per_class=N_IMAGES // 2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(file_utils, "get_file", lambda *args, **kwargs: str(weights_file))
    counted: list[int] = []
    rows = FrozenPart.rows

    def counting(part: FrozenPart, inputs: list[Any]) -> Any:
        counted.append(len(inputs[0]))
        return rows(part, inputs)

    monkeypatch.setattr(FrozenPart, "rows", counting)
    return counted


def run(section: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(compile(code_of(section), str(PAGE), "exec"), namespace)
    return namespace


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
def test_cross_validation_computes_each_image_once(computed: list[int]) -> None:
    pytest.importorskip("sklearn")
    namespace = run("Cross-validation")
    assert len(namespace["accuracies"]) == 3
    # For the head's features, and for those of the backbone that scikit-learn has, which are others.
    assert sum(computed) <= 2 * N_IMAGES
    assert namespace["vectors"].shape == (N_IMAGES, 1024)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
def test_a_search_over_heads_computes_each_image_once(computed: list[int]) -> None:
    pytest.importorskip("keras_tuner")
    namespace = run("Keras Tuner")
    assert sum(computed) == N_IMAGES
    assert len(namespace["tuner"].oracle.trials) == 3
    assert namespace["best"].predict(namespace["images"], verbose=0).shape == (N_IMAGES, 2)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
def test_mlflow_logs_each_epoch(computed: list[int]) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("pandas")
    namespace = run("MLflow")
    mlflow.tensorflow.autolog(disable=True)
    client, run_id = mlflow.MlflowClient(), namespace["run"].info.run_id
    logged = client.get_metric_history(run_id, "loss")
    assert [each.step for each in logged] == [0, 1, 2]
    assert [each.path for each in client.list_artifacts(run_id) if each.path.endswith(".keras")]
    assert client.get_run(run_id).data.params["epochs"] == "3"


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
def test_tensorboard_shows_each_epoch(computed: list[int], tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run("TensorBoard")
    assert sum(computed) == N_IMAGES
    for part in ("train", "validation"):
        board = events.EventAccumulator(str(tmp_path / "logs" / part))
        board.Reload()
        assert [each.step for each in board.Tensors("epoch_loss")] == [0, 1, 2]


# Many fits in one process


def new_model() -> keras.Model:
    image = keras.Input((8, 8, 3))
    backbone = keras.Model(image, keras.layers.Conv2D(4, 3, activation="relu")(image))
    return tw.add_head(2, hidden_units=4)(tw.freeze(backbone))


IMAGES = np.random.default_rng(0).uniform(0, 255, (16, 8, 8, 3)).astype("float32")
LABELS = np.arange(16) % 2
HELD_OUT = (255 - IMAGES[:4], LABELS[:4])


@contextlib.contextmanager
def said_by_tensorflow() -> Iterator[list[str]]:
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Keep()
    tf.get_logger().addHandler(handler)
    try:
        yield messages
    finally:
        tf.get_logger().removeHandler(handler)


def test_many_models_are_no_reason_to_warn_of_retracing() -> None:
    with said_by_tensorflow() as messages:
        for _ in range(6):
            tw.fit(new_model(), IMAGES, LABELS, validation_data=HELD_OUT, verbose=0)
            tw.fit(new_model(), IMAGES, LABELS, validation_data=HELD_OUT, cache=False, verbose=0)
            tw.predict(new_model(), IMAGES)
            tw.interpret.grad_cam(new_model(), IMAGES[0])
    assert [each for each in messages if "retracing" in each] == []


def test_a_second_fit_takes_up_what_the_first_compiled() -> None:
    model, n_traced = new_model(), 0

    def loss(labels: Any, predicted: Any) -> Any:
        nonlocal n_traced
        n_traced += 1  # only while it is traced
        return keras.losses.sparse_categorical_crossentropy(labels, predicted)

    def traced() -> int:
        before = n_traced
        tw.fit(model, IMAGES, LABELS, validation_data=HELD_OUT, epochs=2, verbose=0)
        return n_traced - before

    model.compile("adam", loss)
    assert traced() > 0
    assert traced() == 0
    assert "_topwork_compiled" not in str(model.get_config())
    model.compile("adam", loss)
    assert traced() > 0
    tw.fine_tune(model, unfreeze_from=1)
    model.compile("adam", loss)  # another tail
    assert traced() > 0
    model.evaluate(*HELD_OUT, verbose=0)  # on images: not what was compiled for features
    assert traced() == 0


def test_a_second_fit_trains_as_model_fit_does() -> None:
    results = []
    for fit in (keras.Model.fit, tw.fit):
        keras.utils.set_random_seed(1)
        model = new_model()
        model.get_layer("head_dropout").rate = 0.0
        for epochs in (2, 3):
            fit(model, IMAGES, LABELS, epochs=epochs, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_memory_stays_level_over_fifty_fits() -> None:
    code = """
        import gc, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        import topwork as tw
        from test_in_company import HELD_OUT, IMAGES, LABELS, new_model
        def taken():
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            return pages * 4096 / 2**20, len(gc.get_objects())
        model = new_model()
        for i in range(60):
            if i == 10:
                megabytes, objects = taken()
            tw.fit(model, IMAGES, LABELS, validation_data=HELD_OUT, epochs=2, verbose=0)
        later = taken()
        print(later[0] - megabytes, (later[1] - objects) / 50)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    megabytes, objects_a_fit = map(float, done.stdout.split()[-2:])
    # What grew with each fit before its steps were kept: 1.3 MB and 1,700 objects.
    assert megabytes < 30
    assert objects_a_fit < 300
