"""Memory that is used again."""

import numpy as np
import pytest
import torch

from neurosim.backends.cpu import rooms
from neurosim.backends.cpu.aligned import PAIR
from neurosim.backends.cpu.rooms import LARGEST, LEAST, room

SHAPE = LEAST // 16, 4


@pytest.fixture(autouse=True)
def nothing_waits(monkeypatch):
    monkeypatch.setattr(rooms, "_free", [])


def test_memory_is_used_again():
    first = room(SHAPE, "float32")
    address = first.ctypes.data
    del first
    assert room(SHAPE, "float32").ctypes.data == address


@pytest.mark.parametrize(
    "holding",
    [
        lambda x: x,
        lambda x: x[1:, ::2],
        lambda x: np.broadcast_to(x, (2, *x.shape)),
        torch.from_numpy,
        lambda x: torch.from_numpy(x[1:]).view(-1)[3:],
        lambda x: torch.from_numpy(x).numpy()[0],
    ],
)
def test_what_somebody_holds_is_not_written_to(holding):
    held = holding(room(SHAPE, "float32"))
    again = room(SHAPE, "float32")
    assert not np.shares_memory(again, np.asarray(held))
    address = again.ctypes.data
    del again
    assert room(SHAPE, "float32").ctypes.data == address
    del held


def test_another_shape_or_type_in_the_same_memory():
    first = room(SHAPE, "float32")
    address = first.ctypes.data
    del first
    other = room((SHAPE[1], SHAPE[0] // 2), "float64")
    assert (other.shape, other.dtype, other.ctypes.data) == ((SHAPE[1], SHAPE[0] // 2), np.float64, address)
    assert room((*SHAPE, 2), "float32").shape == (*SHAPE, 2)


def test_small_and_very_large_arrays_are_not_kept():
    for size, kept in ((LARGEST + 1, 0), (8, 0), (LARGEST - PAIR, 1), (LARGEST - PAIR, 1), (LEAST, 2)):
        room((size,), "int8")
        assert len(rooms._free) == kept


def test_what_waits_is_bounded(monkeypatch):
    many = [room(SHAPE, "float32") for _ in range(6)]
    monkeypatch.setattr(rooms, "MOST", 3 * (many[0].nbytes + PAIR))
    addresses = [one.ctypes.data for one in many]
    while many:
        del many[0]
    assert len(rooms._free) == 3
    assert room(SHAPE, "float32").ctypes.data == addresses[3]


@pytest.mark.parametrize("shape", [(), (5, 3, 7), (300, 300), (0, 4)])
def test_arrays_begin_with_a_pair_of_lines(shape):
    array = room(shape, "float64")
    assert (array.shape, array.dtype) == (shape, np.float64)
    assert array.ctypes.data % PAIR == 0 or array.size == 0  # an empty one has no place
