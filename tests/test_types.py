"""The classes of results: at one public address, which pickles carry; and names that go away."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
import textwrap
import typing
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import topwork as tw
from topwork._names import deprecated

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (12, 32, 32, 3)).astype("float32")
CLASSES = np.arange(12) % 2


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One of each class, as the functions return it."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "broken.png").touch()
    head = tw.add_head(2, hidden_units=None)
    model = head(tw.freeze(small_network()))
    data, store = (IMAGES, CLASSES), tw.open_store(folder / "store")
    tw.precompute(model, IMAGES, cache_dir=folder / "store", verbose=0)
    others = (255 - IMAGES, CLASSES)
    cuts = tw.compare_cuts(model, data, others, cut_layers=["map"], verbose=0)
    boundaries = tw.compare_boundaries(model, data, others, boundaries=["map"], epochs=1, verbose=0)
    report = tw.interpret.report(model, (IMAGES, 1 - CLASSES))
    labels_model = tw.add_head(2, hidden_units=None, task="labels")(tw.freeze(small_network()))
    labels = tw.interpret.report(labels_model, (IMAGES, np.eye(2)[CLASSES]), threshold=0.0)
    numbers_model = tw.add_head(1, hidden_units=None, task="numbers")(tw.freeze(small_network()))
    numbers = tw.interpret.report(numbers_model, (IMAGES, CLASSES + 0.5))
    pruned = tw.open_store(folder / "other").prune()
    transferred = tw.transfer(data, names=small_network(), fine_tuning=False, verbose=0)
    suspect = tw.types.Suspect(3, None, "cat", "dog", 1.0, 0.1)
    pair = [tw.types.Copy("train", number, None, "cat") for number in (3, 5)]
    duplicate = tw.types.Duplicate(*pair, kind="near", similarity=0.99, mirrored=False)
    found = [
        pair[0],
        duplicate,
        tw.types.Duplicates((duplicate,), {"train": 9}),
        suspect,
        tw.types.Suspects((suspect,), "classes", 10, 1, 1, 0.9),
        head,
        transferred,
        transferred.evidence,
        transferred.evidence[0],
        transferred.evidence[0].best,
        cuts,
        cuts[0],
        boundaries[0],
        report,
        report.rows[0],
        report.mistakes[0],
        report.mistakes,
        tw.predict(model, IMAGES),
        report.calibration,
        labels,
        labels.rows[0],
        numbers,
        numbers.rows[0],
        numbers.mistakes[0],
        store,
        store.info(),
        store.info().collections[0],
        pruned,
        tw.describe(model),
        tw.describe(model)[0],
        tw.predict(model, IMAGES)[0],
        tw.interpret.grad_cam(model, IMAGES[0]),
        tw.callbacks.find_learning_rate(model, IMAGES, CLASSES, verbose=0),
        tw.data.find_bad_images(folder, verbose=0)[0],
    ]
    return {type(each).__name__: each for each in found}


def small_network() -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, keras.layers.Conv2D(4, 3, name="map")(inputs), name="small")


@pytest.mark.parametrize("name", tw.types.__all__)
def test_each_is_found_under_its_address_and_survives_pickling(
    name: str, results: dict[str, Any]
) -> None:
    result = results[name]
    assert type(result) is getattr(tw.types, name)
    assert type(result).__module__ == "topwork.types"
    data = pickle.dumps(result)
    assert b"topwork._" not in data
    again = pickle.loads(data)
    assert str(again) == str(result)
    typing.get_type_hints(type(result))  # can be resolved


def test_a_head_that_was_pickled_is_a_head() -> None:
    head = pickle.loads(pickle.dumps(tw.add_head(3, dropout=0.1)))
    assert repr(head).startswith("Head(n_classes=3, dropout=0.1, pooling='avg', ")
    assert head(small_network()).output_shape == (None, 3)


def test_no_public_class_is_missing() -> None:
    """Every dataclass that a public function is annotated to return has its address in `types`."""
    source = Path(tw.__file__).parent
    published = {
        node.name
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
        and any(getattr(each, "id", "") == "published" for each in node.decorator_list)
    }
    assert sorted(published) == tw.types.__all__
    annotations = []
    for name in tw.__all__:
        value = getattr(tw, name)
        inner = [getattr(value, each) for each in value.__all__] if hasattr(value, "__all__") else [value]
        annotations += [str(getattr(each, "__annotations__", {}).get("return", "")) for each in inner]
    defined = {
        node.name
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    words = {word for text in annotations for word in text.replace("[", " ").split()}
    returned = defined & words
    assert returned <= published


@pytest.mark.parametrize("module", [tw.data, tw.callbacks, tw.interpret, tw.types])
def test_dir_of_a_module_lists_what_is_public(module: Any) -> None:
    assert dir(module) == sorted(module.__all__)


def test_an_unknown_type() -> None:
    with pytest.raises(AttributeError, match=r"module 'topwork.types' has no attribute 'Raport'"):
        _ = tw.types.Raport  # type: ignore[attr-defined]


class TestDeprecated:
    def test_a_function(self) -> None:
        @deprecated(since="0.2", until="0.4", instead="new()")
        def old(x: int) -> int:
            return x

        message = r"^old is deprecated since 0.2 and will be removed in 0.4. Use new\(\).$"
        with pytest.warns(DeprecationWarning, match=message) as caught:
            assert old(3) == 3
        assert caught[0].filename == __file__

    def test_an_argument(self) -> None:
        @deprecated(since="0.2", until="0.4", instead="size=", argument="width")
        def draw(size: int = 1, width: int = 1) -> int:
            return size * width

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert draw(size=2) == 2
        message = r"^draw\(width=\) is deprecated since .* Use size=."
        with pytest.warns(DeprecationWarning, match=message) as caught:
            assert draw(width=3) == 3
        assert caught[0].filename == __file__


class TestBackend:
    def run(self, code: str, **environment: str) -> list[str]:
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), **environment}
        clean = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=clean | environment
        )
        return (run.stdout + run.stderr).strip().splitlines()

    message = (
        "ImportError: topwork works with Keras on TensorFlow, and the backend of Keras is {!r}. Set the "
        "environment variable KERAS_BACKEND=tensorflow, or os.environ['KERAS_BACKEND'] = 'tensorflow' "
        "before the first import of keras."
    )

    @pytest.mark.parametrize("backend", ["jax", "torch"])
    def test_another_backend_is_said_at_the_first_use_of_every_name(self, backend: str) -> None:
        code = """
            import topwork as tw
            for name in tw.__all__:
                module = getattr(tw, "types") if name == "types" else tw
                for each in module.__all__ if name == "types" else [name]:
                    try:
                        getattr(module, each)
                    except Exception as error:
                        print(each, f"{type(error).__name__}: {error}", sep="|")
                    else:
                        print(each)
        """
        said = dict(
            line.partition("|")[::2] for line in self.run(textwrap.dedent(code), KERAS_BACKEND=backend)
        )
        # The store, and records of plain numbers, do not need Keras.
        free = {
            "open_store",
            "Store",
            "StoreInfo",
            "CollectionInfo",
            "Pruned",
            "Decision",
            "Evidence",
            "Option",
        }
        assert {name for name, message in said.items() if not message} <= free
        assert {message for message in said.values() if message} == {self.message.format(backend)}
        assert len(said) == len(tw.__all__) - 1 + len(tw.types.__all__)

    def test_import_alone_is_allowed(self) -> None:
        code = "import topwork; dir(topwork); print(topwork.open_store.__name__)"
        assert self.run(code, KERAS_BACKEND="torch") == ["open_store"]

    def test_the_file_of_settings(self, tmp_path: Path) -> None:
        code = "import topwork; print(len(topwork.list_backbones()) > 20)"
        assert self.run(code, KERAS_HOME=str(tmp_path))[-1] == "True"
        (tmp_path / "keras.json").write_text("{")
        assert self.run(code, KERAS_HOME=str(tmp_path))[-1] == "True"
        (tmp_path / "keras.json").write_text('{"backend": "torch"}')
        assert self.run(code, KERAS_HOME=str(tmp_path))[-1] == self.message.format("torch")
        assert self.run(code, KERAS_HOME=str(tmp_path), KERAS_BACKEND="tensorflow")[-1] == "True"
