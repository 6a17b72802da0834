"""Read a golden vector file of `tests/golden/data`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.types import Array

DATA = Path(__file__).parent / "data"


def golden(name: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """(arrays by key, meta) of `<name>.npz`."""
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files if key != "meta"}
        return arrays, json.loads(str(file["meta"]))
