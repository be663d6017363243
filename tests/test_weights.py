"""Weights from local files: every format, of a part, of the whole, of a model with a head; misfits."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest

import topwork as tw
from topwork._errors import public_as
from topwork._networks import weight_files
from topwork._networks.weights import load_weights

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

layers = keras.layers


def network(*, top=False, width=8):
    """A small network with what the large ones have: branches, BatchNormalization, an inner model."""
    x = image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(width, 3, name="conv")(x)
    x = layers.BatchNormalization(name="bn")(x)
    inner = [
        keras.Input(x.shape[1:]),
        layers.LayerNormalization(name="norm"),
        layers.Conv2D(4, 1, name="in"),
    ]
    x = cut = keras.Sequential(inner, name="inner")(x)
    x = layers.Add(name="add")(
        [layers.Conv2D(4, 1, name="left")(cut), layers.Conv2D(4, 1, name="right")(x)]
    )
    if top:
        x = layers.Dense(5, name="predictions")(layers.GlobalAveragePooling2D(name="pool")(x))
    return keras.Model(image, x, name="small")


def load(path, cut_layer=None, **options):
    whole = network(top=cut_layer == "predictions", **options)
    last = whole.get_layer(cut_layer).output if cut_layer else whole.output
    backbone = keras.Model(whole.input, last, name="small")
    as_load_backbone = public_as("load_backbone")(load_weights)
    as_load_backbone(backbone, path, whole, lambda: network(top=True, **options))
    return backbone


def official_layout(model, path, rename=lambda name: name):
    """Writes the weights as the published files have them: a group for each layer, names as bytes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [rename(layer.name).encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(rename(layer.name))
            arrays = {
                f"{layer.name}/{i}:0".encode(): array for i, array in enumerate(layer.get_weights())
            }
            group.attrs["weight_names"] = list(arrays)
            for name, array in arrays.items():
                group[name.decode()] = array
    return path


@pytest.fixture(scope="module")
def sources():
    """The network without its top, cut, whole, with a head, and used as a layer."""
    trunk, inside = network(), network()
    pooled = layers.GlobalAveragePooling2D()
    models = {
        "trunk": trunk,
        "cut": keras.Model(trunk.input, trunk.get_layer("inner").output),
        "whole": network(top=True),
        "head": tw.add_head(3, hidden_units=4)(network()),
        "nested": keras.Sequential([keras.Input((8, 8, 3)), inside, pooled, layers.Dense(2)]),
    }
    rng = np.random.default_rng(0)
    for model in models.values():
        model.set_weights([rng.normal(size=weight.shape) for weight in model.weights])
    return models


WRITERS = {
    "official.h5": official_layout,
    "model.h5": lambda model, path: model.save(path),
    "model.weights.h5": lambda model, path: model.save_weights(path),
    "model.keras": lambda model, path: model.save(path),
}


def assert_same_weights(backbone, source):
    for layer in backbone.layers:
        expected = source.get_layer(layer.name).get_weights()
        for received, array in zip(layer.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(received, array)


@pytest.mark.parametrize("file", WRITERS)
@pytest.mark.parametrize(
    ("source", "cut_layer"),
    [
        ("trunk", None),
        ("trunk", "inner"),
        ("trunk", "right"),
        ("cut", "inner"),
        ("whole", None),
        ("whole", "inner"),
        ("whole", "predictions"),
        ("head", None),
        ("head", "inner"),
    ],
)
def test_weights_of(source, file, cut_layer, sources, tmp_path):
    WRITERS[file](sources[source], tmp_path / file)
    assert_same_weights(load(tmp_path / file, cut_layer), sources[source])


@pytest.mark.parametrize("cut_layer", [None, "inner"])
@pytest.mark.parametrize("file", ["model.h5", "model.weights.h5", "model.keras"])
def test_weights_of_a_saved_model_that_holds_the_network_as_a_layer(file, cut_layer, sources, tmp_path):
    WRITERS[file](sources["nested"], tmp_path / file)
    assert_same_weights(load(tmp_path / file, cut_layer), sources["nested"].layers[0])


def test_names_that_drifted_are_matched_in_order(sources, tmp_path):
    path = official_layout(sources["whole"], tmp_path / "drifted.h5", lambda name: f"{name}_1")
    assert_same_weights(load(path, "inner"), sources["whole"])


def test_a_long_list_of_layers_is_read_from_its_pieces(sources, tmp_path):
    path = official_layout(sources["trunk"], tmp_path / "pieces.h5")
    with h5py.File(path, "a") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:3], names[3:]
    assert_same_weights(load(path), sources["trunk"])


@pytest.mark.parametrize("as_text", [False, True])
def test_load_backbone_takes_a_path(as_text, tmp_path):
    options = {"alpha": 0.25, "input_shape": (32, 32, 3)}
    source = tw.load_backbone("mobilenet", "conv_pw_2_relu", weights=None, **options)
    source.save(tmp_path / "trunk.keras")
    path = str(tmp_path / "trunk.keras") if as_text else tmp_path / "trunk.keras"
    assert_same_weights(tw.load_backbone("mobilenet", "conv_pw_2_relu", weights=path, **options), source)


# Misfits ----------------------------------------------------------------------------------------


def message(path, error=ValueError, **options):
    with pytest.raises(error, match="load_backbone:") as caught:
        load(path, **options)
    assert repr(str(path)) in str(caught.value)
    return str(caught.value)


def test_message_for_a_file_that_is_not_there(tmp_path):
    text = message(tmp_path / "no.h5", FileNotFoundError)
    assert "'imagenet', None or the path of a file" in text
    assert "there is no such file" in text


@pytest.mark.parametrize("name", ["text.h5", "text.weights.h5", "text.keras"])
def test_message_for_a_file_that_cannot_be_read(name, tmp_path):
    (tmp_path / name).write_text("<html>404</html>")
    assert "cannot be read as .h5, .weights.h5 or .keras (" in message(tmp_path / name)


@pytest.mark.parametrize("file", ["official.h5", "model.keras"])
def test_message_for_another_width(file, sources, tmp_path):
    WRITERS[file](sources["trunk"], tmp_path / file)
    text = message(tmp_path / file, width=16)
    assert "does not fit 'small': layer 'conv' expects weights of shapes [(3, 3, 3, 16), (16,)]" in text
    assert "the file's 'conv' has [(3, 3, 3, 8), (8,)]" in text
    assert "options (such as alpha)" in text


def test_message_for_a_file_that_ends_too_early(sources, tmp_path):
    path = official_layout(sources["cut"], tmp_path / "cut.h5")
    text = message(path)
    assert "the network has 5 layers with weights and the file 3" in text
    assert "the first that it lacks is 'left'" in text


def test_message_for_weights_only_of_another_width(sources, tmp_path):
    sources["trunk"].save_weights(tmp_path / "trunk.weights.h5")
    text = message(tmp_path / "trunk.weights.h5", width=16)
    assert "does not fit 'small': " in text
    assert "(3, 3, 3, 8)" in text


def test_message_for_weights_only_of_a_shorter_network(sources, tmp_path):
    sources["cut"].save_weights(tmp_path / "cut.weights.h5")
    text = message(tmp_path / "cut.weights.h5")
    assert "does not fit 'small': " in text
    assert "objects could not be loaded" in text


def forged(path, shape=(2**20, 1024), **options):
    """A file whose only array says that it has 4 GB, and has nothing."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["conv"]
        group = file.create_group("conv")
        group.attrs["weight_names"] = ["kernel"]
        group.create_dataset("kernel", shape, "float32", **options)
    return path


def in_a_keras_file(path):
    forged(path.with_suffix(".h5"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_suffix(".h5"), "model.weights.h5")
    return path


@pytest.mark.parametrize(
    ("name", "forge"),
    [
        ("contiguous.h5", forged),
        ("chunks.h5", lambda path: forged(path, chunks=(1024, 1024))),
        ("packed.h5", lambda path: forged(path, chunks=(1024, 1024), compression="gzip")),
        ("small.weights.h5", forged),
        ("model.keras", in_a_keras_file),
    ],
)
def test_a_file_that_says_more_than_it_has_takes_no_memory(name, forge, tmp_path):
    path = forge(tmp_path / name)
    assert path.stat().st_size < 20_000
    tracemalloc.start()
    text = message(path)
    assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    tracemalloc.stop()
    assert "'conv/kernel' in it should have 4,294,967,296 bytes, of which the file, of " in text
    assert "can hold 0" in text


def test_packed_weights_are_read(sources, tmp_path):
    plain = official_layout(sources["trunk"], tmp_path / "plain.h5")
    with h5py.File(plain) as old, h5py.File(tmp_path / "packed.h5", "w") as new:
        for layer in old:
            for key, value in old[layer].attrs.items():
                new.require_group(layer).attrs[key] = value
        new.attrs["layer_names"] = old.attrs["layer_names"]

        def pack(key, value):
            if isinstance(value, h5py.Dataset):
                new.create_dataset(key, data=value[...], compression="gzip", chunks=value.shape)

        old.visititems(pack)
    assert_same_weights(load(tmp_path / "packed.h5"), sources["trunk"])


def zeros(shape, path, links=1, **options):
    """A file of zeros, packed as well as zlib can, the array under many names."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [f"conv{i}" for i in range(links)]
        for i in range(links):
            group = file.create_group(f"conv{i}")
            group.attrs["weight_names"] = ["kernel"]
            if i:
                group["kernel"] = file["conv0/kernel"]
            else:
                group.create_dataset("kernel", shape, "uint8", chunks=shape, **options)[:] = 0
    return path


def a_large_chunk(path):
    with h5py.File(path, "w") as file:
        options = {"maxshape": (None,), "chunks": (3 * 2**19,), "compression": "gzip"}
        file.create_dataset("kernel", (9,), "uint8", **options)[:] = 0
    return path


def in_an_archive(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(3 * 2**19))
    return path


@pytest.mark.parametrize(
    ("name", "forge"),
    [
        ("packed.h5", lambda path: zeros((3 * 2**19,), path, compression="gzip")),
        (
            "one array under many names.h5",
            lambda path: zeros((3 * 2**18,), path, 50, compression="gzip"),
        ),
        ("chunk.h5", a_large_chunk),
        ("archive.keras", in_an_archive),
    ],
)
def test_a_file_that_unpacks_to_much_more_is_refused(name, forge, tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files, "_ALWAYS", 2**20)
    path = forge(tmp_path / name)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    text = message(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20 + 10**5
    tracemalloc.stop()
    wanted = 50 * 3 * 2**18 if "many" in name else 3 * 2**19
    assert f"what is in it should have {wanted:,} bytes in all, and of a file of " in text


def flip(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    other = path.with_name(f"flipped {path.name}")
    other.write_bytes(data)
    return other


def test_a_flipped_bit_in_a_keras_file_is_found(sources, tmp_path):
    sources["trunk"].save(tmp_path / "model.keras")
    rng, refused = np.random.default_rng(0), 0
    for _ in range(40):
        try:
            backbone = load(flip(tmp_path / "model.keras", rng))
        except ValueError:
            refused += 1
        else:
            assert_same_weights(backbone, sources["trunk"])
    assert refused > 20


@pytest.mark.parametrize("file", WRITERS)
def test_weights_that_are_not_finite_are_refused(file, sources, tmp_path):
    model = network()
    model.get_layer("left").bias.assign([0, np.inf, 0, 0])
    WRITERS[file](model, tmp_path / file)
    assert "has weights that are NaN or infinite, first in layer 'left'" in message(tmp_path / file)


@pytest.mark.parametrize("how", ["link", "external"])
def test_weights_that_lie_in_another_file_are_refused(how, sources, tmp_path):
    path = official_layout(sources["trunk"], tmp_path / "trunk.h5")
    with h5py.File(path, "a") as file:
        if how == "link":
            file["more"] = h5py.ExternalLink("/etc/other.h5", "/conv")
        else:
            file.create_dataset("more", (4,), "uint8", external=[(str(tmp_path / "raw"), 0, 4)])
    assert "'more' in it lies in another file" in message(path)


def test_message_for_a_folder(tmp_path):
    assert "are a folder and not a file" in message(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a pipe")
@pytest.mark.parametrize("name", ["pipe.h5", "pipe.weights.h5", "pipe.keras"])
def test_message_for_a_pipe(name, tmp_path):
    os.mkfifo(tmp_path / name)
    assert "are a pipe or a device and not a file" in message(tmp_path / name)


# Files of keras.applications --------------------------------------------------------------------

OFFICIAL = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"


@pytest.mark.parametrize("name", [OFFICIAL, OFFICIAL[:-3] + " (1).h5", OFFICIAL[:-3].upper() + ".h5"])
def test_a_published_file_that_differs_is_said(name, sources, tmp_path):
    path = official_layout(sources["trunk"], tmp_path / name)
    with pytest.warns(UserWarning, match="named like the one that keras.applications downloads") as said:
        backbone = load(path)
    assert_same_weights(backbone, sources["trunk"])
    text = str(said[0].message)
    assert hashlib.md5(path.read_bytes()).hexdigest() in text
    assert weight_files.published_weights()[OFFICIAL] in text
    assert text.startswith("load_backbone: the weights file")


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_published_file_is_known_by_its_hash_and_no_other_is_asked(
    algorithm, sources, tmp_path, monkeypatch
):
    path = official_layout(sources["trunk"], tmp_path / OFFICIAL)
    digest = hashlib.new(algorithm, path.read_bytes()).hexdigest()
    monkeypatch.setattr(weight_files, "published_weights", lambda: {OFFICIAL: digest})
    load(path)
    load(path.rename(tmp_path / "mine.h5"))
    # A flipped bit in a weight loads, and is said.
    data = bytearray((tmp_path / "mine.h5").read_bytes())
    data[data.index(sources["trunk"].get_layer("conv").get_weights()[0].tobytes())] ^= 1
    (tmp_path / OFFICIAL).write_bytes(data)
    with pytest.warns(UserWarning, match="its content differs"):
        load(tmp_path / OFFICIAL)
