from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from topwork._data.images import Setting, resized
from topwork._interpret.predict import predict
from topwork._networks.classifier import imagenet_names


def brightness(units: int = 3, size: int | None = 8) -> keras.Model:
    """A classifier that looks at the mean of red, green and blue: the strongest wins."""
    inputs = keras.Input((size, size, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    if units == 1:
        outputs = keras.layers.Dense(1, "sigmoid", kernel_initializer=keras.initializers.Constant(0.01))(
            x
        )
    else:
        identity = keras.initializers.Constant(np.eye(3, units) / 50)
        outputs = keras.layers.Dense(units, "softmax", kernel_initializer=identity)(x)
    return keras.Model(inputs, outputs)


def picture(color: tuple[int, int, int], height: int = 8, width: int = 8) -> np.ndarray:
    return np.broadcast_to(np.array(color, "uint8"), (height, width, 3)).copy()


RED, BLUE = picture((255, 0, 0)), picture((0, 0, 255))
NAMES = ["red", "green", "blue"]


def test_an_array() -> None:
    (prediction,) = predict(brightness(), RED, class_names=NAMES)
    assert (prediction.name, prediction[0][0]) == ("red", "red")
    assert prediction.probability == pytest.approx(prediction[0][1])
    assert len(prediction) == 3
    assert sum(share for _, share in prediction) == pytest.approx(1)


def test_many_arrays_in_a_batch_or_a_list() -> None:
    for images in (np.stack([RED, BLUE]), [RED, BLUE], iter([RED, BLUE]), tf.stack([RED, BLUE])):
        assert [p.name for p in predict(brightness(), images, class_names=NAMES)] == ["red", "blue"]


def test_more_images_than_a_batch_keep_their_order() -> None:
    found = predict(brightness(), [RED] * 33 + [BLUE], class_names=NAMES)
    assert [p.name for p in found] == ["red"] * 33 + ["blue"]
    assert found[33].image == "image 33"


def test_files(tmp_path: Path) -> None:
    for name, color in (("a", (255, 0, 0)), ("b", (0, 0, 255))):
        image = picture(color, 20, 30)
        (tmp_path / f"{name}.png").write_bytes(tf.io.encode_png(image).numpy())
    paths = sorted(tmp_path.glob("*.png"))
    assert [p.name for p in predict(brightness(), paths, class_names=NAMES)] == ["red", "blue"]
    (prediction,) = predict(brightness(), str(paths[1]), class_names=NAMES, top=1)
    assert str(prediction).splitlines()[0] == str(paths[1])
    assert re.fullmatch(r" +\d+\.\d%  blue", str(prediction).splitlines()[1])


def test_a_model_of_any_size_takes_each_image_as_it_is() -> None:
    images = [picture((255, 0, 0), 5, 9), picture((0, 0, 255), 30, 7)]
    assert [p.name for p in predict(brightness(size=None), images, class_names=NAMES)] == ["red", "blue"]


def test_a_sigmoid_unit_has_two_classes() -> None:
    dark, bright = picture((0, 0, 0)), picture((255, 255, 255))
    first, second = predict(brightness(1), [dark, bright], class_names=["dark", "bright"])
    assert (first[0][1], second.name) == (0.5, "bright")
    assert second[0][1] + second[1][1] == pytest.approx(1)


def test_without_names_classes_are_numbers() -> None:
    assert predict(brightness(), BLUE)[0].name == "2"


def test_thousand_classes_are_those_of_imagenet() -> None:
    assert predict(brightness(1000), BLUE)[0].name == "great white shark"
    assert predict(brightness(1000), BLUE, class_names=[f"c{i}" for i in range(1000)])[0].name == "c2"


def test_imagenet_names() -> None:
    names = imagenet_names()
    assert len(names) == len(set(names)) == 1000
    known = {0: "tench", 1: "goldfish", 281: "tabby", 388: "giant panda", 954: "banana"}
    assert {index: names[index] for index in known} == known
    assert names[134] != names[517]


def test_imagenet_names_agree_with_the_photographs(shared_material: Path) -> None:
    for file in (shared_material / "data" / "imagenet_samples").glob("*.jpg"):
        number, _, name = file.stem.partition("_")
        assert imagenet_names()[int(number)] == name.replace("_", " ")


def test_a_whole_network_on_photographs(shared_material: Path) -> None:
    weights = shared_material / "weights" / "mobilenet_2_5_224_imagenet.h5"
    files = sorted((shared_material / "data" / "imagenet_samples").glob("*.jpg"))
    image = keras.Input((224, 224, 3))
    scaled = keras.applications.mobilenet.preprocess_input(image)
    model = keras.applications.MobileNet(alpha=0.25, weights=str(weights), input_tensor=scaled)
    found = predict(model, files)
    right = [p.name == file.stem[4:].replace("_", " ") for p, file in zip(found, files, strict=True)]
    assert sum(right) >= 10


class TestResized:
    def test_the_centre_without_distortion(self) -> None:
        image = np.zeros((10, 30, 3), "float32")
        image[:, 10:20] = 255
        np.testing.assert_allclose(resized(image, 10, 10), 255)
        assert resized(image, 5, 5).mean() > 240

    def test_the_middle_part_only(self) -> None:
        image = np.zeros((16, 16, 1), "float32")
        image[1:-1, 1:-1] = 255
        np.testing.assert_allclose(resized(image, 14, 14, Setting(part=0.875)), 255)

    @pytest.mark.parametrize("shape", [(7, 331, 3), (331, 7, 3), (1, 1, 3), (33, 33, 3)])
    def test_every_shape_gives_the_size(self, shape: tuple[int, ...]) -> None:
        assert resized(np.zeros(shape, "float32"), 31, 17).shape == (31, 17, 3)
        assert resized(np.zeros(shape, "float32"), 31, 17, Setting(part=0.875)).shape == (31, 17, 3)

    def test_load_img_of_keras_reads_alike(self, tmp_path: Path) -> None:
        # So says docs/getting-started.md of photographs that are read where topwork is not.
        rng = np.random.default_rng(0)
        picture = resized(rng.uniform(0, 255, (40, 55, 3)), 201, 299).astype("uint8")
        keras.utils.save_img(tmp_path / "photo.png", picture, scale=False)
        expected = resized(picture, 64, 64)
        options = {"target_size": (64, 64), "keep_aspect_ratio": True}
        difference = {
            way: np.abs(
                keras.utils.load_img(tmp_path / "photo.png", interpolation=way, **options) - expected
            ).mean()
            for way in ("nearest", "bilinear", "box", "hamming", "bicubic", "lanczos")
        }
        assert min(difference, key=difference.__getitem__) == "hamming", difference
        assert difference["nearest"] > 2 * difference["hamming"], difference

    def test_the_model_sees_raw_pixels(self) -> None:
        image = np.full((50, 40, 3), 255.0)
        np.testing.assert_allclose(resized(image, 8, 8), 255, rtol=1e-6)


@pytest.mark.filterwarnings("error")
def test_scaled_pixels_are_noticed() -> None:
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(x))
    message = r"predict: the image has pixels from 0 to 1, and the model expects raw pixels"
    with pytest.warns(UserWarning, match=message):
        predict(model, RED / 255)
    predict(model, RED)
    predict(model, np.zeros((8, 8, 3), "uint8"))


class TestErrors:
    def test_wrong_number_of_names(self) -> None:
        message = r"for each of the model's 3 classes. .*, 2 names. Give a list of 3, in the order"
        with pytest.raises(ValueError, match=message):
            predict(brightness(), RED, class_names=["a", "b"])

    def test_top(self) -> None:
        with pytest.raises(
            ValueError, match=r"^predict: top must be a whole number of at least 1. Received: 0"
        ):
            predict(brightness(), RED, top=0)

    def test_no_such_file(self, tmp_path: Path) -> None:
        (tmp_path / "cat.jpg").touch()
        message = r"there is no file '.*cta.jpg'. In '.*' there are: 'cat.jpg'. Correct the path"
        with pytest.raises(ValueError, match=message):
            predict(brightness(), tmp_path / "cta.jpg")
        with pytest.raises(ValueError, match=r"there is no file '.*b.jpg'. Correct the path"):
            predict(brightness(), tmp_path / "a" / "b.jpg")

    def test_a_folder_without_an_image(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"predict: there is no image in '.*' or below"):
            predict(brightness(), tmp_path)

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        (tmp_path / "cat.jpg").write_bytes(b"miaow")
        with pytest.raises(
            ValueError,
            match=r"predict: the image '.*cat.jpg' cannot be read: it .*find_bad_images",
        ):
            predict(brightness(), tmp_path / "cat.jpg")

    def test_no_image(self) -> None:
        with pytest.raises(ValueError, match=r"there is no image to name, but an empty list."):
            predict(brightness(), [])

    def test_no_image_at_all(self) -> None:
        with pytest.raises(ValueError, match=r"paths of image files or arrays .* Received: int, '3'"):
            predict(brightness(), 3)

    @pytest.mark.parametrize(
        ("image", "what"),
        [
            (np.zeros((1, 8, 8, 3)), r"ndarray of shape \(1, 8, 8, 3\)"),
            (np.zeros(8), r"ndarray of shape \(8,\)"),
            ([0, 1], r"list, '\[0, 1\]'"),
        ],
    )
    def test_wrong_array(self, image: Any, what: str) -> None:
        with pytest.raises(ValueError, match=rf"\(height, width, 3\). Received: {what}. Batches of"):
            predict(brightness(), [image])

    def test_a_model_of_something_else(self) -> None:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
        with pytest.raises(ValueError, match=r"must take one image, .* the inputs \[\(None, 4\)\]"):
            predict(model, RED)

    def test_a_backbone(self) -> None:
        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
        message = r"must be a classifier.* the outputs \[\(None, 6, 6, 2\)\]. A backbone becomes"
        with pytest.raises(ValueError, match=message):
            predict(model, RED)

    def test_logits(self) -> None:
        inputs = keras.Input((8, 8, 3))
        model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
        with pytest.raises(
            ValueError, match=r"must end in softmax.* from 0 to 255, of sums 255 .*Softmax\(\)"
        ):
            predict(model, RED)
