"""Saving everything a run needs to go on bit for bit: one `.npz` file, written durably and read without pickle.

Beside the arrays, named by their path ("learned/weight/hidden"), the file holds `neurosim.json`: the tree that the
arrays hang in, with its numbers and words, and `meta`. `numpy.load` opens it too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurosim import __version__
from neurosim.durable import replacing
from neurosim.types import Array, ConfigurationError

FORMAT = "neurosim-checkpoint"
HEADER = "neurosim.json"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content gives the same bytes
GIT_SECONDS = 10
SOURCES = ("neurosim", "neurosim.rules", "neurosim.tasks")


def save(path: Path | str, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Write `tensors` (nested dicts, lists and tuples of torch tensors, NumPy arrays, numbers, strings and None) and
    `meta` (what JSON can say) as `path`. The old file stays until the new one is on the disk. TypeError names what
    cannot be saved.
    """
    arrays: dict[str, Array] = {}
    header = {"format": FORMAT, "tree": _encode(dict(tensors), "", arrays), "meta": dict(meta)}
    text = json.dumps(header, indent=1)
    with replacing(Path(path)) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(HEADER, EPOCH), text)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.save(entry, array, allow_pickle=False)


def load(path: Path | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what `save` wrote: (tensors, meta), tensors on the CPU, all bits as they were.

    A missing, foreign or damaged file is a ConfigurationError of one sentence.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigurationError(f"there is no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read(HEADER))
            if header["format"] != FORMAT:
                raise KeyError(header["format"])
            return _decode(header["tree"], archive), header["meta"]
    except (zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError, EOFError, OSError) as error:
        raise ConfigurationError(
            f"{path} is not a whole neurosim checkpoint: it is corrupt, truncated or something else"
        ) from error


def code_version() -> str:
    """The package version and a hash of the package's own Python sources; equal for an editable install and a wheel."""
    digest = hashlib.sha256()
    for name, path in sorted(_sources().items()):
        digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:12]}"


def git_commit() -> str | None:
    """The git commit of the package's sources, with "-dirty" if they were changed since; None where they lie in no
    git checkout (an installed package), or git cannot be asked.
    """
    package = Path(__file__).parent
    tracked = _git(package, "ls-files", "--error-unmatch", Path(__file__).name)  # not just any repository around it
    commit = _git(package, "rev-parse", "HEAD")
    if tracked is None or not commit:
        return None
    folders = sorted({str(path.parent) for path in _sources().values()})
    return commit + ("-dirty" if _git(package, "status", "--porcelain", "--", *folders) else "")


def _git(folder: Path, *words: str) -> str | None:
    """What a git command says in a folder; None if it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=GIT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _sources() -> dict[str, Path]:
    """Source files by their path inside the import package; `rules` and `tasks` may lie elsewhere, unimported."""
    found: dict[str, Path] = {}
    for package in SOURCES:
        spec = importlib.util.find_spec(package)
        prefix = package.removeprefix("neurosim").replace(".", "")
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            for path in Path(folder).rglob("*.py"):
                found["/".join((prefix, *path.relative_to(folder).parts)).lstrip("/")] = path
    return found


def _encode(value: Any, path: str, arrays: dict[str, Array]) -> Any:
    """`value` as JSON, its arrays put into `arrays` under their path."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (tuple, list):
        items = [_encode(item, _join(path, index), arrays) for index, item in enumerate(value)]
        return {type(value).__name__: items}
    if isinstance(value, Mapping):
        return {"dict": [[_key(key, path), _encode(item, _join(path, key), arrays)] for key, item in value.items()]}
    if isinstance(value, torch.Tensor):
        kind, array = "torch", _numpy(value, path)
    elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcSU":
        kind, array = ("numpy" if isinstance(value, np.ndarray) else "scalar"), np.asarray(value)
    else:
        raise TypeError(f"a checkpoint cannot hold {path or 'this'}: {type(value).__name__}")
    while path in arrays:  # "a/b" and "a" -> "b" are different keys with one path
        path += "~"
    arrays[path] = array
    return {kind: path}


def _numpy(tensor: torch.Tensor, path: str) -> Array:
    if tensor.layout != torch.strided:
        raise TypeError(f"a checkpoint cannot hold {path}: a sparse tensor")
    try:
        return np.asarray(tensor.detach().cpu().resolve_conj().resolve_neg().numpy())
    except TypeError as error:
        raise TypeError(f"a checkpoint cannot hold {path}: a tensor of {tensor.dtype}") from error


def _join(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)


def _key(key: Any, path: str) -> str | int:
    if isinstance(key, str | int) and not isinstance(key, bool):
        return key
    raise TypeError(f"a checkpoint cannot hold the key {key!r} of {path or 'the whole'}: keys are strings or integers")


def _decode(node: Any, archive: zipfile.ZipFile) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "dict":
        return {key: _decode(item, archive) for key, item in content}
    if kind in ("tuple", "list"):
        items = [_decode(item, archive) for item in content]
        return tuple(items) if kind == "tuple" else items
    with archive.open(f"{content}.npy") as entry:
        array = np.load(entry, allow_pickle=False)
    if kind == "torch":
        return torch.from_numpy(array)
    return array[()] if kind == "scalar" else array
