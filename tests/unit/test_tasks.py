"""Tasks: what they load, how splits depend on the seed, what they refuse, and that configs and classes agree."""

import gzip
import hashlib
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from sklearn.datasets import load_digits

import neurosim.configs
from neurosim.random import Stream
from neurosim.tasks import idx
from neurosim.tasks.digits import Digits, digits_arrays
from neurosim.tasks.fashion_mnist import FashionMnist
from neurosim.tasks.linear import Linear
from neurosim.tasks.mnist import Mnist
from neurosim.tasks.split import stratified
from neurosim.tasks.xor import Xor
from neurosim.types import ConfigurationError

CONFIGS = Path(neurosim.configs.__file__).parent
SPLITS = ("train", "validation", "test")


def parts(data):
    return [getattr(data, name) for name in SPLITS]


def same(one, other):
    return all(
        np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y) for a, b in zip(parts(one), parts(other), strict=True)
    )


# ---- generated points


@pytest.mark.parametrize("kind", [Linear, Xor])
def test_points_sizes_types_and_seed(kind):
    task = kind(train=30, validation=20, test=10)
    data = task.load(0)
    assert [len(split) for split in parts(data)] == [30, 20, 10]
    assert [len(split) for split in parts(kind().load(0))] == [900, 500, 2000]
    assert (data.name, data.classes, data.shape, data.inputs) == (task.name, 2, (2,), 2)
    for split in parts(data):
        assert split.x.shape == (len(split), 2)
        assert (split.x.dtype, split.y.dtype) == (np.float64, np.int64)
        assert set(split.y) == {0, 1}
    assert same(data, task.load(0))
    assert not same(data, task.load(1))
    assert not np.array_equal(data.train.x[:10], data.test.x[:10])
    assert not np.array_equal(data.train.x[:10], data.validation.x[:10])
    # a point depends on its number only, not on how many there are; the name of a task is no part of its data
    assert np.array_equal(kind(name="other").load(0).train.x[:30], data.train.x)
    assert np.allclose(kind(train=30, validation=20, test=10, divide_by=255.0).load(0).train.x * 255, data.train.x)


def test_linear_labels():
    data = Linear(weight=[1.0, -2.0], test=5000).load(3)
    for split in parts(data):
        assert np.array_equal(split.y, split.x[:, 0] - 2 * split.x[:, 1] > 0)
    assert data.test.x.min() >= -1
    assert data.test.x.max() < 1
    assert data.test.x.min(0) == pytest.approx([-1, -1], abs=0.01)
    assert data.test.x.max(0) == pytest.approx([1, 1], abs=0.01)
    drawn = Stream(3, "task/linear/weight").normal(element=torch.arange(2)).numpy()
    data = Linear().load(3)
    assert np.array_equal(data.train.y, data.train.x @ drawn > 0)


def test_xor_labels_and_noise():
    data = Xor(noise=0.0, test=4000).load(0)
    for split in parts(data):
        assert set(map(tuple, split.x)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
        assert np.array_equal(split.y, split.x[:, 0] != split.x[:, 1])
    corner = (2 * data.test.x[:, 0] + data.test.x[:, 1]).astype(int)
    assert np.bincount(corner) == pytest.approx([1000] * 4, abs=5 * np.sqrt(750))
    for noise in (0.1, 0.3):
        spread = Xor(noise=noise, test=4000).load(0).test.x - data.test.x
        assert spread.std() == pytest.approx(noise, rel=5 / np.sqrt(2 * 8000))
        assert spread.mean() == pytest.approx(0, abs=5 * noise / np.sqrt(8000))
    # both the corners and the noise of two splits are drawn apart
    data = Xor(noise=0.01).load(0)
    train, test = data.train.x, data.test.x[:900]
    assert not np.array_equal(train.round(), test.round())
    assert not np.allclose(train - train.round(), test - test.round())


@pytest.mark.parametrize("kind", [Linear, Xor])
def test_original_is_the_same_for_every_seed_but_its_validation_split(kind):
    one, other = kind(original=True).load(0), kind(original=True).load(1)
    assert np.array_equal(one.train.x, other.train.x)
    assert np.array_equal(one.test.y, other.test.y)
    assert not np.array_equal(one.validation.x, other.validation.x)
    assert [len(split) for split in parts(one)] == [900, 500, 100]
    assert [len(split) for split in parts(kind(original=True, validation=7, test=100).load(0))] == [900, 7, 100]
    assert np.array_equal(kind(original=True, divide_by=255).load(0).test.x, one.test.x / 255)


# ---- digits


def test_digits_are_those_of_scikit_learn():
    reference = load_digits()
    pixels, labels = digits_arrays()
    assert pixels.shape == (1797, 64)
    assert np.array_equal(pixels, reference.data)
    assert np.array_equal(labels, reference.target)


def test_digits_splits():
    data = Digits().load(0)
    assert [len(split) for split in parts(data)] == [1077, 360, 360]
    assert (data.name, data.classes, data.shape, data.inputs) == ("digits", 10, (1, 8, 8), 64)
    for split in parts(data):
        assert (split.x.dtype, split.y.dtype) == (np.float64, np.int64)
        assert split.x.shape == (len(split), 1, 8, 8)
        assert (split.x.min(), split.x.max()) == (0, 1)
    # together they are the whole set, each once
    rows = np.concatenate([np.c_[split.x.reshape(len(split), 64) * 16, split.y] for split in parts(data)])
    pixels, labels = digits_arrays()
    assert sorted(map(tuple, rows)) == sorted(map(tuple, np.c_[pixels, labels]))
    assert same(data, Digits().load(0))
    assert not same(data, Digits().load(1))
    small = Digits(train=50, validation=20, test=10).load(0)
    assert [list(np.bincount(split.y)) for split in parts(small)] == [[5] * 10, [2] * 10, [1] * 10]


def test_digits_scales():
    unit, symmetric, standard = (Digits(scale=scale).load(0) for scale in ("unit", "symmetric", "standard"))
    for one, other in zip(parts(unit), parts(symmetric), strict=True):
        assert np.array_equal(2 * one.x - 1, other.x)
    constant = unit.train.x.std(0) == 0
    assert constant.any()
    assert standard.train.x.mean(0) == pytest.approx(0, abs=1e-12)
    assert standard.train.x.std(0)[~constant] == pytest.approx(1)
    for split in parts(standard):
        assert (split.x[:, constant] == 0).all()
    mean, deviation = unit.train.x.mean(0), unit.train.x.std(0)
    expected = ((unit.test.x - mean) / np.where(constant, 1, deviation))[:, ~constant]
    assert standard.test.x[:, ~constant] == pytest.approx(expected)


def test_stratified_in_proportion_and_disjoint():
    labels = np.repeat([0, 1, 2], [700, 200, 100])
    first, second = stratified(labels, (100, 300), Stream(0, "s"))
    assert np.bincount(labels[first]) == pytest.approx([70, 20, 10], abs=1)
    assert np.bincount(labels[second]) == pytest.approx([210, 60, 30], abs=2)
    assert not set(first) & set(second)
    assert np.array_equal(first, np.sort(first))
    assert not np.array_equal(first, stratified(labels, (100, 300), Stream(1, "s"))[0])


# ---- idx files


def idx_bytes(array):
    array = np.asarray(array, dtype=np.uint8)
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def example_set(train=60, test=20):
    generator = np.random.default_rng(0)
    sets = {}
    for name, n in (("train", train), ("t10k", test)):
        images = generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        sets[f"{name}-images-idx3-ubyte"] = images
        sets[f"{name}-labels-idx1-ubyte"] = (np.arange(n) % 10).astype(np.uint8)
    return sets


def write(folder, sets, packed=False, dotted=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in sets.items():
        content = idx_bytes(array)
        name = name.replace("-idx", ".idx") if dotted else name
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content, mtime=0) if packed else content)
    return folder


KINDS = [Mnist, FashionMnist]
SMALL = {"train": 40, "validation": 20, "test": 20}


@pytest.fixture(autouse=True)
def no_data_sets(monkeypatch, request):
    """What is on this machine must not decide a test."""
    if "data" not in request.keywords:
        monkeypatch.delenv("NEUROSIM_DATA", raising=False)
        monkeypatch.setattr("neurosim.tasks.fashion_mnist.DEBIAN", ())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_images_from_a_folder(tmp_path, kind, packed, dotted):
    sets = example_set()
    task = kind(**SMALL, folder=str(write(tmp_path, sets, packed, dotted)))
    data = task.load(0)
    assert (data.name, data.classes, data.shape, data.inputs) == (task.name, 10, (1, 28, 28), 784)
    assert [len(split) for split in parts(data)] == [40, 20, 20]
    for split in parts(data):
        assert (split.x.dtype, split.y.dtype, split.x.shape[1:]) == (np.float64, np.int64, (1, 28, 28))
        assert set(np.bincount(split.y)) == {len(split) // 10}
    assert np.array_equal(data.test.x[:, 0], sets["t10k-images-idx3-ubyte"] / 255)
    assert np.array_equal(data.test.y, sets["t10k-labels-idx1-ubyte"])
    images = np.concatenate([data.train.x, data.validation.x])[:, 0] * 255
    found = {
        image.tobytes(): label
        for image, label in zip(images.round().astype(np.uint8), [*data.train.y, *data.validation.y], strict=True)
    }
    train = zip(sets["train-images-idx3-ubyte"], sets["train-labels-idx1-ubyte"], strict=True)
    assert found == {image.tobytes(): label for image, label in train}
    assert same(data, task.load(0))
    assert not same(data, task.load(1))
    assert same(data, kind(**SMALL, folder=task.folder, name="other").load(0))


@pytest.mark.parametrize("kind", KINDS)
def test_image_scales_and_sizes(tmp_path, kind):
    folder = str(write(tmp_path, example_set()))
    unit, symmetric = (kind(**SMALL, folder=folder, scale=scale).load(0) for scale in ("unit", "symmetric"))
    assert np.array_equal(symmetric.train.x, 2 * unit.train.x - 1)
    assert (symmetric.train.x.min(), symmetric.train.x.max()) == (-1, 1)
    data = kind(train=10, validation=20, test=10, folder=folder).load(0)
    assert [list(np.bincount(split.y)) for split in parts(data)] == [[1] * 10, [2] * 10, [1] * 10]
    with pytest.raises(ConfigurationError, match="train 50 \\+ validation 20 = 70 examples; only 60 are available"):
        kind(train=50, validation=20, test=20, folder=folder).load(0)
    with pytest.raises(ConfigurationError, match="test 21 = 21 examples; only 20 are available"):
        kind(train=10, validation=20, test=21, folder=folder).load(0)


@pytest.mark.parametrize(
    ("kind", "sub"),
    [
        (Mnist, "mnist"),
        (Mnist, ""),
        (FashionMnist, "fashion_mnist"),
        (FashionMnist, "fashion-mnist"),
        (FashionMnist, ""),
    ],
)
def test_images_from_the_environment(tmp_path, monkeypatch, kind, sub):
    write(tmp_path / sub, example_set())
    monkeypatch.setenv("NEUROSIM_DATA", str(tmp_path))
    assert len(kind(**SMALL).load(0).train) == 40
    # a folder that is given is the only one that is read
    with pytest.raises(ConfigurationError, match=r"was not found \(looked in .*elsewhere\)"):
        kind(**SMALL, folder=str(tmp_path / "elsewhere")).load(0)


def test_a_sub_folder_goes_before_the_folder(tmp_path, monkeypatch):
    write(tmp_path, example_set(train=100))
    write(tmp_path / "mnist", example_set())
    monkeypatch.setenv("NEUROSIM_DATA", str(tmp_path))
    with pytest.raises(ConfigurationError, match="only 60 are available"):
        Mnist(train=80, validation=20, test=20).load(0)


def test_debian_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("neurosim.tasks.fashion_mnist.DEBIAN", (str(write(tmp_path, example_set(), packed=True)),))
    assert len(FashionMnist(**SMALL).load(0).train) == 40
    with pytest.raises(ConfigurationError, match="MNIST was not found"):
        Mnist(**SMALL).load(0)
    monkeypatch.setenv("NEUROSIM_DATA", str(tmp_path / "elsewhere"))
    assert len(FashionMnist(**SMALL).load(0).train) == 40


def test_missing_set_says_how_to_get_it(tmp_path, monkeypatch):
    with pytest.raises(
        ConfigurationError, match=r"^MNIST was not found \(looked in no folder, because NEUROSIM_DATA is not set\): put"
    ):
        Mnist().load(0)
    monkeypatch.setenv("NEUROSIM_DATA", str(tmp_path))
    with pytest.raises(
        ConfigurationError, match=r"^Fashion-MNIST was not found .*Debian's package dataset-fashion-mnist"
    ):
        FashionMnist().load(0)
    folder = write(tmp_path / "part", example_set())
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ConfigurationError, match="MNIST was not found"):
        Mnist(folder=str(folder)).load(0)


def test_the_other_data_set_is_recognised(tmp_path, monkeypatch):
    """MNIST and Fashion-MNIST share their file names; one must not be read as the other."""
    folder = write(tmp_path, example_set(), packed=True)
    digest = hashlib.sha256(idx_bytes(np.arange(20) % 10)).hexdigest()
    monkeypatch.setitem(idx.KNOWN_LABELS, digest, "MNIST")
    assert len(Mnist(**SMALL, folder=str(folder)).load(0).train) == 40
    with pytest.raises(ConfigurationError, match=r"holds MNIST, not Fashion-MNIST; set task.folder"):
        FashionMnist(**SMALL, folder=str(folder)).load(0)


DAMAGED = [
    (b"", "starts with nothing; an idx file"),
    (b"\0\0\x09\x01\0\0\0\x01\0", "starts with 00 00 09 01; an idx file of bytes has 00 00 08"),
    (b"\0\1\x08\x01\0\0\0\x01\0", "starts with 00 01 08 01"),
    (b"\0\0\x08\xff\0\0\0\x01\0", "starts with 00 00 08 ff"),
    (b"\0\0\x08\x00\0", "starts with 00 00 08 00"),
    (b"\0\0\x08\x03\0\0", "has 6 bytes, but its header says"),
    (idx_bytes(np.zeros((2, 3)))[:-1], r"has 17 bytes, but its header says 18, shape \(2, 3\)"),
    (idx_bytes(np.zeros((2, 3))) + b"\0", "has 19 bytes, but its header says 18"),
    (gzip.compress(idx_bytes(np.zeros((2, 3))), mtime=0)[:-4], "cannot be read"),
    (gzip.compress(idx_bytes(np.zeros((2, 3))), mtime=0)[:6], "cannot be read"),
    (gzip.compress(b"", mtime=0)[:10] + b"\xff" * 40, r"cannot be read \(.*invalid block type"),
]


@pytest.mark.parametrize(("content", "sentence"), DAMAGED)
def test_damaged_idx_file_is_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=sentence) as error:
        idx.read_idx(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_idx_read_back(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for content in (idx_bytes(array), gzip.compress(idx_bytes(array), mtime=0)):
        (tmp_path / "file").write_bytes(content)
        assert np.array_equal(idx.read_idx(tmp_path / "file"), array)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        idx.read_idx(tmp_path)


MISFITS = [
    ({"train-labels-idx1-ubyte": np.zeros(59)}, r"images \(60, 28, 28\) and labels \(59,\)"),
    ({"train-images-idx3-ubyte": np.zeros((60, 27, 28))}, r"images \(60, 27, 28\)"),
    ({"train-images-idx3-ubyte": np.zeros((60, 784))}, r"images \(60, 784\)"),
    ({"train-labels-idx1-ubyte": np.zeros((60, 1))}, r"labels \(60, 1\)"),
    ({"t10k-labels-idx1-ubyte": np.full(20, 10)}, "has the label 10; allowed: 0 to 9"),
]


@pytest.mark.parametrize(("change", "sentence"), MISFITS)
def test_files_that_do_not_fit_together(tmp_path, change, sentence):
    folder = write(tmp_path, example_set() | change)
    with pytest.raises(ConfigurationError, match=sentence):
        Mnist(**SMALL, folder=str(folder)).load(0)


@pytest.mark.data
@pytest.mark.skipif("NEUROSIM_DATA" not in os.environ, reason="NEUROSIM_DATA is not set")
@pytest.mark.parametrize(("kind", "mean", "sd"), [(Mnist, 0.1307, 0.3081), (FashionMnist, 0.2860, 0.3530)])
def test_real_images(kind, mean, sd):
    """The well-known mean and sd of the 60,000 training images of each set."""
    try:
        data = kind(train=50000, validation=10000).load(0)
    except ConfigurationError as error:
        if "was not found" not in str(error):
            raise
        pytest.skip(str(error))
    pixels = np.concatenate([data.train.x, data.validation.x])
    assert pixels.mean() == pytest.approx(mean, abs=5e-5)
    assert pixels.std() == pytest.approx(sd, abs=5e-5)
    assert len(data.test) == 10000


# ---- what every task refuses

REFUSED = [
    *((kind, {size: value}, f"{size} is {value!r}; it must be an integer >= 1")
      for kind in (Linear, Xor, Digits, Mnist, FashionMnist)
      for size in SPLITS
      for value in (0, -1, 1.5, True, "10")),
    *((kind, {size: None}, f"{size} is None") for kind in (Linear, Xor) for size in ("train", "validation")),
    (Digits, {"train": 1078}, "train 1078 \\+ validation 360 \\+ test 360 = 1798 examples; only 1797 are available"),
    (Mnist, {"train": 50001}, "train 50001 \\+ validation 10000 = 60001 examples; only 60000 are available"),
    (FashionMnist, {"test": 10001}, "test 10001 = 10001 examples; only 10000 are available"),
    (Digits, {"scale": "none"}, "task digits: scale is 'none'; allowed: unit, symmetric, standard"),
    (Mnist, {"scale": "standard"}, "task mnist: scale is 'standard'; allowed: unit, symmetric"),
    (FashionMnist, {"scale": "standard"}, "task fashion_mnist: scale is 'standard'; allowed: unit, symmetric"),
    *((kind, {"original": True, "train": 800}, "has train 900 and test 100 points .*; asked for train 800 and test 100")
      for kind in (Linear, Xor)),
    *((kind, {"original": True, "test": 2000}, "asked for train 900 and test 2000") for kind in (Linear, Xor)),
    *((kind, {"original": "yes"}, "original is 'yes'; it must be true or false") for kind in (Linear, Xor)),
    *((kind, {"divide_by": 0.0}, "divide_by is 0.0; it must be a finite number > 0") for kind in (Linear, Xor)),
    (Xor, {"noise": -0.1}, "noise is -0.1; it must be a finite number >= 0"),
    (Xor, {"original": True, "noise": 0.2}, "original=true has noise 0.1, asked for 0.2"),
    (Linear, {"original": True, "weight": (1.0, 2.0)}, "original=true fixes the weight; set weight=null"),
    *((Linear, {"weight": weight}, "weight is .*; it must be two finite numbers, not both 0, or null")
      for weight in ((1.0,), (0.0, 0.0), (1.0, float("nan")), "ab", 3.0, (1.0, None))),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "change", "sentence"), REFUSED)
def test_refused_with_one_sentence(kind, change, sentence):
    with pytest.raises(ConfigurationError, match=sentence) as error:
        kind(**change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", [Linear(), Xor(), Xor(original=True), Digits()], ids=repr)
def test_seed_is_checked(task):
    for seed in (None, -1, 0.5):
        with pytest.raises(ConfigurationError, match="seed is"):
            task.load(seed)


# ---- configs

FILES = sorted(path for group in ("task", "encoder", "decoder") for path in (CONFIGS / group).glob("*.yaml"))


def test_every_class_has_its_config():
    assert [f"{path.parent.name}/{path.stem}" for path in FILES] == [
        *(f"decoder/{name}" for name in ("count", "last", "mean", "mean_rate")),
        *(f"encoder/{name}" for name in ("hold", "latency", "poisson")),
        *(
            f"task/{name}"
            for name in (
                "cifar10",
                "delayed_recall",
                "digits",
                "fashion_mnist",
                "linear",
                "mnist",
                "sine",
                "store_recall",
                "xor",
            )
        ),
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_config_lists_every_parameter_with_its_default_and_a_comment(path):
    config = yaml.safe_load(path.read_text())
    kind = get_class(config.pop("_target_"))
    assert kind.__name__ == path.stem.title().replace("_", "")
    defaults = {one.name: one.default for one in fields(kind)}
    assert config == {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    for line in path.read_text().splitlines():
        assert line.startswith(("#", "_target_:", "name:")) or "  # " in line, line
    assert instantiate(OmegaConf.load(path)) == kind()
    if path.parent.name == "task":
        assert config["name"] == path.stem
