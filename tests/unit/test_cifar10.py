"""CIFAR-10: what is read from small batches written here, pickled and binary, and what is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from neurosim.tasks.cifar10 import PIXELS, TEST, TRAIN, Cifar10, read_batch
from neurosim.types import ConfigurationError

SMALL = {"train": 30, "validation": 20, "test": 10}


@pytest.fixture(autouse=True)
def no_data_sets(monkeypatch):
    """What is on this machine must not decide a test."""
    monkeypatch.delenv("NEUROSIM_DATA", raising=False)


def batch(seed, examples=10):
    pixels = np.random.default_rng(seed).integers(0, 256, (examples, PIXELS), dtype=np.uint8)
    return pixels, (np.arange(examples) + seed) % 10


def write(folder, kind="py", protocol=2):
    """Five training batches and a test batch of ten pictures each."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate((*TRAIN, *TEST)):
        pixels, labels = batch(seed)
        if kind == "bin":
            content = np.concatenate([labels[:, None].astype(np.uint8), pixels], 1).tobytes()
            (folder / f"{name}.bin").write_bytes(content)
        else:
            content = {b"batch_label": name.encode(), b"labels": labels.tolist(), b"data": pixels}
            (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    return folder


@pytest.mark.parametrize(("kind", "protocol"), [("py", 2), ("py", 5), ("bin", 0)])
def test_what_is_read(tmp_path, kind, protocol):
    """Channel first, then rows, then columns; every picture keeps its label; the split depends on the seed."""
    task = Cifar10(**SMALL, folder=str(write(tmp_path, kind, protocol)))
    data = task.load(0)
    splits = (data.train, data.validation, data.test)
    assert [len(split) for split in splits] == [30, 20, 10]
    assert (data.name, data.classes, data.shape, data.inputs) == ("cifar10", 10, (3, 32, 32), 3072)
    for split in splits:
        assert (split.x.dtype, split.y.dtype, split.x.shape[1:]) == (np.float64, np.int64, (3, 32, 32))
        assert set(np.bincount(split.y)) == {len(split) // 10}
    batches = [batch(seed) for seed in range(6)]
    labels = {pixels.tobytes(): label for one in batches[:5] for pixels, label in zip(*one, strict=True)}
    images = np.concatenate([data.train.x, data.validation.x])
    found = (images * 255).round().astype(np.uint8).reshape(-1, PIXELS)
    assert len(np.unique(found, axis=0)) == 50
    for pixels, label in zip(found, [*data.train.y, *data.validation.y], strict=True):
        assert labels[pixels.tobytes()] == label
    assert np.array_equal(data.test.x[0, 1, 0] * 255, batches[5][0][0, 1024:1056])  # the green of the first row
    assert np.array_equal(data.test.y, batches[5][1])
    assert np.array_equal(data.train.x, task.load(0).train.x)
    assert not np.array_equal(data.train.x, task.load(1).train.x)
    symmetric = Cifar10(**SMALL, scale="symmetric", folder=str(tmp_path)).load(0)
    assert np.array_equal(symmetric.train.x, 2 * data.train.x - 1)


@pytest.mark.parametrize("sub", ["", "cifar-10-batches-py", "cifar10", "cifar10/cifar-10-batches-py", "cifar-10"])
def test_where_it_is_looked_for(tmp_path, monkeypatch, sub):
    write(tmp_path / sub)
    assert len(Cifar10(**SMALL, folder=str(tmp_path)).load(0).train) == 30
    monkeypatch.setenv("NEUROSIM_DATA", str(tmp_path))
    assert len(Cifar10(**SMALL).load(0).train) == 30
    with pytest.raises(ConfigurationError, match=r"was not found \(looked under .*elsewhere\)"):
        Cifar10(**SMALL, folder=str(tmp_path / "elsewhere")).load(0)


def test_a_missing_set_says_how_to_get_it(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"in no folder, because NEUROSIM_DATA is not set\): unpack cifar-10-py"
    ):
        Cifar10().load(0)
    (write(tmp_path) / "data_batch_3").unlink()
    with pytest.raises(ConfigurationError, match="CIFAR-10 was not found") as error:
        Cifar10(folder=str(tmp_path)).load(0)
    assert "\n" not in str(error.value)


class Harmful:
    """What a pickle could do if it were trusted."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_runs_no_code(tmp_path):
    path, written = tmp_path / "data_batch_1", tmp_path / "written"
    path.write_bytes(pickle.dumps({b"labels": [0], b"data": Harmful(written)}))
    with pytest.raises(ConfigurationError, match=r"is no batch of CIFAR-10 .*it asks for"):
        read_batch(path)
    assert not written.exists()
    pickle.loads(path.read_bytes())
    assert written.exists()


PIXEL = np.zeros((2, PIXELS), np.uint8)
DAMAGED = [
    ("data_batch_1", b"", "is no batch of CIFAR-10"),
    ("data_batch_1", b"\x80\x02garbage", "is no batch of CIFAR-10"),
    ("data_batch_1", pickle.dumps([1]), "is no batch of CIFAR-10"),
    ("data_batch_1", pickle.dumps({b"labels": [1]}), "is no batch of CIFAR-10"),
    ("data_batch_1", pickle.dumps({b"labels": [1], b"data": PIXEL}), r"uint8 \(2, 3072\) for 1 labels; allowed"),
    ("data_batch_1", pickle.dumps({b"labels": [1, 2], b"data": PIXEL[:, 1:]}), r"uint8 \(2, 3071\) for 2 labels"),
    ("data_batch_1", pickle.dumps({b"labels": [1, 2], b"data": PIXEL.astype(int)}), r"int64 \(2, 3072\)"),
    ("data_batch_1", pickle.dumps({b"labels": [1, 10], b"data": PIXEL}), "has labels from 1 to 10; allowed: 0 to 9"),
    ("data_batch_1.bin", bytes(3000), "3000 bytes are no multiple of 3073"),
    ("data_batch_1.bin", b"", "0 bytes are no multiple of 3073"),
    ("data_batch_1.bin", bytes([11]) + bytes(3072), "has labels from 11 to 11"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), DAMAGED)
def test_a_damaged_batch_is_one_sentence(tmp_path, name, content, sentence):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=sentence) as error:
        read_batch(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"train": 40001}, "train 40001 \\+ validation 10000 = 50001 examples; only 50000 are available"),
        ({"test": 10001}, "test 10001 = 10001 examples; only 10000 are available"),
        ({"validation": 0}, "validation is 0; it must be an integer >= 1"),
        ({"scale": "standard"}, "task cifar10: scale is 'standard'; allowed: unit, symmetric"),
    ],
)
def test_refused_with_one_sentence(change, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        Cifar10(**change)


def test_a_small_set_has_no_more_than_it_has(tmp_path):
    with pytest.raises(ConfigurationError, match="train 40 \\+ validation 20 = 60 examples; only 50 are available"):
        Cifar10(train=40, validation=20, test=10, folder=str(write(tmp_path))).load(0)


@pytest.mark.data
@pytest.mark.skipif("NEUROSIM_DATA" not in os.environ, reason="NEUROSIM_DATA is not set")
def test_real_pictures(monkeypatch):
    """Ten thousand test pictures, a thousand of each class, with the well-known mean brightness."""
    monkeypatch.setenv("NEUROSIM_DATA", REAL)
    try:
        data = Cifar10(train=100, validation=100).load(0)
    except ConfigurationError as error:
        if "was not found" not in str(error):
            raise
        pytest.skip(str(error))
    assert set(np.bincount(data.test.y)) == {1000}
    assert data.test.x.mean((0, 2, 3)) == pytest.approx([0.494, 0.485, 0.450], abs=3e-3)


REAL = os.environ.get("NEUROSIM_DATA", "")
