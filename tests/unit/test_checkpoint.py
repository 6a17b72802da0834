"""Checkpoints: bit-equal round trips, durable writing, damage in one sentence; and the version of the code."""

import os
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim import __version__, checkpoint
from neurosim.checkpoint import code_version, load, save
from neurosim.types import ConfigurationError

TREE = {
    "learned": {"weight": {"in->hidden": torch.arange(12, dtype=torch.float64).reshape(1, 3, 4).mT / 7}},
    "clock": {"step": 2**40, "rate": 0.1, "name": "xor", "on": True, "none": None},
    "empty": {"dict": {}, "tuple": (), "list": [], "tensor": torch.zeros(0, 3)},
    "pair": (torch.tensor([1, 0], dtype=torch.bool), [torch.tensor(7), np.float32(0.1)]),
    "numbers": {0: torch.tensor(float("nan")), 1: float("inf"), 2: -0.0},
    "random": np.arange(5, dtype=np.uint64),
    "words": np.array(["a", "bc"]),
    "half": torch.tensor([0.5], dtype=torch.float16),
}


def equal(a, b) -> bool:
    """The same types and the same bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, torch.Tensor):
        a, b = a.numpy(), b.numpy()
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return repr(a) == repr(b)


def test_round_trip(tmp_path):
    save(tmp_path / "c.npz", TREE, {"epoch": 3, "config": "ü: 1"})
    tensors, meta = load(tmp_path / "c.npz")
    assert equal(tensors, TREE)
    assert meta == {"epoch": 3, "config": "ü: 1"}
    assert os.listdir(tmp_path) == ["c.npz"]


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from([torch.bool, torch.int64, torch.float32, torch.float64]).map(
        lambda kind: torch.ones(2, dtype=kind)
    ),
)
keys = st.one_of(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.integers(0, 3))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(tree=st.dictionaries(keys, trees, max_size=4))
def test_any_tree_round_trips(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "any.npz"
    save(path, tree, {})
    assert equal(load(path)[0], tree)


def test_paths_that_collide_stay_apart(tmp_path):
    tree = {"a/b": torch.tensor(1), "a": {"b": torch.tensor(2)}, "a/b~": torch.tensor(3), 1: {}, "1": torch.tensor(4)}
    save(tmp_path / "c.npz", tree, {})
    assert equal(load(tmp_path / "c.npz")[0], tree)


def test_a_loaded_tensor_is_ones_own(tmp_path):
    save(tmp_path / "c.npz", {"w": torch.zeros(3, requires_grad=True)}, {})
    loaded = load(tmp_path / "c.npz")[0]["w"]
    loaded += 1
    assert loaded.tolist() == [1, 1, 1]


def test_numpy_reads_it_without_pickle(tmp_path):
    save(tmp_path / "c.npz", TREE, {})
    with np.load(tmp_path / "c.npz", allow_pickle=False) as arrays:
        weight = TREE["learned"]["weight"]["in->hidden"]
        assert np.array_equal(arrays["learned/weight/in->hidden"], weight.numpy())


def test_same_content_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        save(tmp_path / name, TREE, {"epoch": 1})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("size", [0, 10, 200, -1, -30])
def test_truncated(tmp_path, size):
    save(tmp_path / "c.npz", TREE, {})
    (tmp_path / "c.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:size])
    with pytest.raises(ConfigurationError, match="not a whole neurosim checkpoint") as caught:
        load(tmp_path / "c.npz")
    assert "\n" not in str(caught.value)


def test_one_flipped_bit(tmp_path):
    save(tmp_path / "c.npz", {"w": torch.zeros(1000)}, {})
    raw = bytearray((tmp_path / "c.npz").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "c.npz").write_bytes(raw)
    with pytest.raises(ConfigurationError, match="not a whole neurosim checkpoint"):
        load(tmp_path / "c.npz")


def test_foreign(tmp_path):
    np.savez(tmp_path / "numpy.npz", a=np.ones(2))
    torch.save({"a": 1}, tmp_path / "torch.pt")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("neurosim.json", '{"format": "something", "tree": {"dict": []}, "meta": {}}')
    for name in ("numpy.npz", "torch.pt", "other.npz"):
        with pytest.raises(ConfigurationError, match="not a whole neurosim checkpoint"):
            load(tmp_path / name)
    with pytest.raises(ConfigurationError, match="there is no checkpoint"):
        load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        ({"a": {"b": object()}}, "a/b: object"),
        ({"a": np.array([object()])}, "a: ndarray"),
        ({"a": torch.ones(2, 2).to_sparse()}, "a: a sparse tensor"),
        ({"a": torch.ones(2, dtype=torch.bfloat16)}, "a: a tensor of torch.bfloat16"),
        ({"a": {(1, 2): 3}}, r"the key \(1, 2\) of a"),
    ],
)
def test_what_cannot_be_saved_is_named(tmp_path, tree, name):
    with pytest.raises(TypeError, match=name):
        save(tmp_path / "c.npz", tree, {})
    assert os.listdir(tmp_path) == []


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path):
    save(tmp_path / "c.npz", {"w": torch.zeros(3)}, {"epoch": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
    try:
        with pytest.raises(ConfigurationError, match=r"cannot write .*c\.npz: File too large"):
            save(tmp_path / "c.npz", {"w": torch.zeros(10_000)}, {"epoch": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load(tmp_path / "c.npz")[1] == {"epoch": 1}
    assert os.listdir(tmp_path) == ["c.npz"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        save(tmp_path / "no" / "c.npz", {}, {})


def test_written_beside_synced_and_renamed(tmp_path, monkeypatch):
    """The order that survives a power cut: file synced, then renamed, then the folder synced."""
    events = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: events.append(Path(f"/proc/self/fd/{handle}").resolve()) or sync(handle)
    )
    monkeypatch.setattr(os, "replace", lambda old, new: events.append("rename") or replace(old, new))
    save(tmp_path / "c.npz", TREE, {})
    assert events == [tmp_path / "c.npz.part", "rename", tmp_path]


def copy_of_sources(folder: Path) -> Path:
    """The package as a wheel would lay it out."""
    for name, path in checkpoint._sources().items():
        target = folder / "neurosim" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder / "neurosim"


def test_code_version_sees_every_source(tmp_path):
    assert code_version().startswith(f"{__version__}+")
    names = checkpoint._sources()
    assert {"checkpoint.py", "rules/__init__.py", "tasks/__init__.py", "backends/__init__.py"} <= set(names)
    copied = copy_of_sources(tmp_path)
    ask = "from neurosim.checkpoint import code_version; import neurosim; print(code_version(), neurosim.__file__)"

    def version_of_copy() -> str:
        done = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, check=True, capture_output=True, text=True)
        version, where = done.stdout.split()
        assert where == str(copied / "__init__.py")
        return version

    assert version_of_copy() == code_version()
    with open(copied / "rules" / "__init__.py", "a") as source:
        source.write("# another word\n")
    assert version_of_copy() != code_version()


def git(folder: Path, *words: str) -> str:
    own = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(folder), *own, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_sources(tmp_path, monkeypatch):
    source = tmp_path / "package" / "checkpoint.py"
    source.parent.mkdir()
    source.write_text("")
    monkeypatch.setattr(checkpoint, "__file__", str(source))
    monkeypatch.setattr(checkpoint, "_sources", lambda: {"checkpoint.py": source})
    assert checkpoint.git_commit() is None  # no repository
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "around")
    assert checkpoint.git_commit() is None  # somebody else's repository around an installed package
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "ours")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert checkpoint.git_commit() == commit
    (tmp_path / "letter.txt").write_text("not a source")
    assert checkpoint.git_commit() == commit
    source.write_text("changed = True\n")
    assert checkpoint.git_commit() == f"{commit}-dirty"


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert checkpoint.git_commit() is None
