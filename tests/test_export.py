"""The ways out, with the code of the page: what each file gives is what the model gives.

The page has two blocks under each heading: one writes the file, the other runs it. The first runs here,
the second where topwork cannot be imported.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import topwork as tw
from plain_process import PlainProcess, run_without_topwork
from versions import KERAS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "export.md"

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not PAGE.is_file(), reason="the page lies in the source tree, not in the wheel"),
    # Keras, making tf2onnx work with NumPy 2.
    pytest.mark.filterwarnings("ignore:In the future `np.object` will be defined as:FutureWarning"),
]

RUN = """
import os, sys
import numpy as np

def run(folder, code):
    os.chdir(folder)
    found = {"images": np.load("images.npy")}
    exec(code, found)
    np.save("probabilities.npy", found["probabilities"])
"""
ANSWER = """
import contextlib, traceback

def answer(**question):
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras' progress bar is not part of the answer
            run(**question)
    except Exception:
        return traceback.format_exc()
"""
RUN_ONCE = """
run(*sys.argv[1:])
if "tensorflow" in sys.modules:
    raise SystemExit("TensorFlow was imported")
"""


class Way(NamedTuple):
    heading: str
    tolerance: float
    needs: tuple[str, ...] = ()


LITERT = ("ai_edge_litert",)
WAYS = {
    "keras": Way("`.keras`", 1e-6),
    "saved_model": Way("SavedModel", 1e-6),
    "litert": Way("LiteRT", 1e-4, LITERT),
    "litert_float16": Way("Half the size: float16", 0.03, LITERT),
    "onnx": Way("ONNX", 1e-4, ("tf2onnx", "onnxruntime")),
}
INT8 = Way("A quarter of the size: int8", 0.2, LITERT)


def blocks(heading: str, language: str = "python") -> list[str]:
    section = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.M | re.S)
    return re.findall(rf"^```{language}\n(.*?)^```", section[1], re.M | re.S)


def skip_without(way: Way) -> None:
    if way.needs == LITERT and KERAS < (3, 13):
        pytest.skip(f"Keras {keras.__version__} does not write LiteRT; 3.13 was the first that did")
    for package in way.needs:
        pytest.importorskip(package)


@pytest.fixture(scope="module")
def elsewhere():
    process = PlainProcess(RUN + ANSWER)
    yield process
    process.close()


@pytest.fixture
def exported(tmp_path, monkeypatch, elsewhere):
    """Writes the file as the page says, runs it as the page says, and returns the probabilities."""
    monkeypatch.chdir(tmp_path)

    def exported(way, model, images, **given):
        skip_without(way)
        write, use = blocks(way.heading)
        exec(write, {"model": model, **given})
        np.save("images.npy", images)
        if way.needs:  # the runtime that it names, and no TensorFlow
            run_without_topwork(RUN + RUN_ONCE, tmp_path, use)
        else:
            elsewhere.ask(folder=str(tmp_path), code=use)
            assert elsewhere.answer() is None
        return np.load("probabilities.npy")

    return exported


def photographs(files, size):
    loaded = (keras.utils.load_img(file, target_size=(size, size)) for file in files)
    return np.stack([keras.utils.img_to_array(image) for image in loaded])


def samples(material, size):
    return photographs(sorted((material / "data" / "imagenet_samples").glob("*.jpg")), size)


def animals(material, split, size=150):
    """A hundred cats, then a hundred dogs."""
    folder = material / "data" / "cats_vs_dogs" / split
    files = [sorted((folder / name).glob("*.jpg"))[:100] for name in ("cats", "dogs")]
    return photographs(files[0] + files[1], size)


def cats_and_dogs(name, cut_layer, material):
    """A trained model, and the photographs that it was trained on."""
    weights = {
        "inception_v3": "inception_v3_imagenet_notop.h5",
        "mobilenet": "mobilenet_1_0_224_imagenet_notop.h5",
        "vgg16": "vgg16_imagenet_notop.h5",
    }
    backbone = tw.load_backbone(
        name, cut_layer, weights=material / "weights" / weights[name], input_shape=(150, 150, 3)
    )
    model = tw.add_head(2, hidden_units=64, learning_rate=1e-3)(tw.freeze(backbone))
    train = animals(material, "train")
    tw.fit(model, train, np.repeat([0, 1], 100), epochs=20, verbose=0)
    return model, train


@pytest.fixture(scope="module")
def small():
    """A network that was fine-tuned for a step, and images for it."""
    images = np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 3)).astype("float32")
    backbone = tw.load_backbone(
        "mobilenet", "conv_pw_3_relu", weights=None, input_shape=(32, 32, 3), alpha=0.25
    )
    model = tw.add_head(3, hidden_units=8)(tw.freeze(backbone))
    tw.fine_tune(model, "conv_dw_3")
    model.train_on_batch(images, np.arange(5) % 3)
    return model, images


@pytest.fixture(scope="module")
def imagenet(shared_material):
    """A whole network with ImageNet's weights, and the twenty photographs."""
    weights = shared_material / "weights" / "mobilenet_2_5_224_imagenet.h5"
    model = tw.load_backbone(
        "mobilenet", "predictions", weights=weights, input_shape=(224, 224, 3), alpha=0.25
    )
    return model, samples(shared_material, 224)


def agreeing(found, expected):
    return int((found.argmax(1) == expected.argmax(1)).sum())


@pytest.mark.parametrize("name", WAYS)
def test_a_small_model(name, small, exported):
    model, images = small
    found = exported(WAYS[name], model, images)
    np.testing.assert_allclose(found, model.predict(images, verbose=0), rtol=0, atol=WAYS[name].tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_twenty_photographs(name, imagenet, exported):
    model, images = imagenet
    found, expected = exported(WAYS[name], model, images), model.predict(images, verbose=0)
    assert agreeing(found, expected) == len(images) == 20
    np.testing.assert_allclose(found, expected, rtol=0, atol=WAYS[name].tolerance)


# Cut, how many of the twenty photographs and of the 200 animals must agree, and the tolerance.
NETWORKS = {
    "inception_v3": ("mixed7", 20, 195, 0.2),
    "vgg16": ("block5_pool", 20, 195, 0.4),
    "mobilenet": ("conv_pw_12_relu", 18, 180, 0.4),
}


class TestInt8:
    def test_a_small_model(self, small, exported):
        model, images = small
        found = exported(INT8, model, images, representative=images)
        np.testing.assert_allclose(found, model.predict(images, verbose=0), rtol=0, atol=0.05)
        assert only_ends_are_float("cats_and_dogs_int8.tflite")

    @pytest.mark.slow
    @pytest.mark.parametrize("name", NETWORKS)
    def test_cats_and_dogs(self, name, shared_material, exported):
        cut_layer, of_samples, of_animals, tolerance = NETWORKS[name]
        model, train = cats_and_dogs(name, cut_layer, shared_material)
        images = np.concatenate([samples(shared_material, 150), animals(shared_material, "validation")])
        expected = model.predict(images, verbose=0)
        found = exported(INT8, model, images, representative=train[::2])
        on_samples, on_animals = agreeing(found[:20], expected[:20]), agreeing(found[20:], expected[20:])
        size = Path("cats_and_dogs_int8.tflite").stat().st_size
        print(
            name, on_samples, on_animals, f"{np.abs(found - expected).max():.3f} {size / 1e6:.1f} MB"
        )  # for the page
        assert on_samples >= of_samples
        assert on_animals >= of_animals
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)

    @pytest.mark.slow
    def test_a_narrow_network_loses_some(self, imagenet, exported, shared_material):
        """As the page says: 8 bits are too few for the weights of MobileNet at a quarter of its width."""
        model, images = imagenet
        found = exported(INT8, model, images, representative=animals(shared_material, "train", 224)[::2])
        expected = model.predict(images, verbose=0)
        print("mobilenet 0.25", agreeing(found, expected), f"{np.abs(found - expected).max():.3f}")
        assert 14 <= agreeing(found, expected) < 20


def only_ends_are_float(file):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file)
    ends = interpreter.get_input_details() + interpreter.get_output_details()
    floats = [t["index"] for t in interpreter.get_tensor_details() if t["dtype"] == np.float32]
    return sorted(floats) == sorted(end["index"] for end in ends)


@pytest.fixture(scope="module")
def served_folder(small, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("serving"))
        exec(blocks("SavedModel")[0], {"model": small[0]})
        return Path.cwd()


class TestServing:
    @pytest.fixture
    def served(self, served_folder, small, monkeypatch):
        monkeypatch.chdir(served_folder)
        model, images = small
        return model.predict(images, verbose=0), images

    def test_the_folder_is_a_version(self, served):
        assert {path.name for path in Path("served").iterdir()} == {"cats_and_dogs"}
        assert {path.name for path in Path("served/cats_and_dogs").iterdir()} == {"1"}
        assert Path("served/cats_and_dogs/1/saved_model.pb").is_file()

    def test_the_signature_by_name(self, served, elsewhere):
        expected, images = served
        np.save("images.npy", images)
        elsewhere.ask(folder=str(Path.cwd()), code=blocks("TF Serving")[0])
        assert elsewhere.answer() is None
        np.testing.assert_allclose(np.load("probabilities.npy"), expected, rtol=0, atol=1e-6)

    def test_the_signature_has_a_free_batch(self, served):
        signature = tf.saved_model.load("served/cats_and_dogs/1").signatures["serving_default"]
        _, inputs = signature.structured_input_signature
        assert inputs == {"input_layer": tf.TensorSpec((None, 32, 32, 3), tf.float32, "input_layer")}
        assert signature.structured_outputs == {
            "output_0": tf.TensorSpec((None, 3), tf.float32, "output_0")
        }

    def test_the_request_over_rest(self, served, monkeypatch):
        """Against a stand-in that reads the request as the server's documentation has it."""
        expected, images = served
        signature = tf.saved_model.load("served/cats_and_dogs/1").signatures["serving_default"]

        def answer(request):
            assert request.selector == "/v1/models/cats_and_dogs:predict"
            (specification,) = signature.structured_input_signature[1].values()
            rows = json.loads(request.data)["instances"]
            (output,) = signature(tf.constant(rows, specification.dtype)).values()
            return io.BytesIO(json.dumps({"predictions": output.numpy().tolist()}).encode())

        monkeypatch.setattr("urllib.request.urlopen", answer)
        found = {"images": images}
        exec(blocks("TF Serving")[1], found)
        np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-6)

    @pytest.mark.slow
    def test_the_printed_signature_is_that_of_the_page(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        backbone = tw.load_backbone(
            "mobilenet", "conv_pw_1_relu", weights=None, input_shape=(150, 150, 3), alpha=0.25
        )
        exec(blocks("SavedModel")[0], {"model": tw.add_head(2)(backbone)})
        command, *shown = blocks("TF Serving", "console")[0].splitlines()
        program, *arguments = shlex.split(command.removeprefix("$ "))
        program = Path(sys.executable).with_name(program)
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True)
        assert without_names(done.stdout.splitlines()) == without_names(shown)


def without_names(lines: list[str]) -> list[str]:
    """The lines but for the names of inner tensors, which are TensorFlow's affair."""
    return [line.rstrip() for line in lines if line.strip() and not line.strip().startswith("name:")]
