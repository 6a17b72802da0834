"""Memory that is used again."""

import numpy as np
import pytest
import torch

from neurosim.backends.cpu.aligned import LINE
from neurosim.backends.cpu.rooms import MOST_KEPT, Rooms


def taken(rooms, shape=(3, 4), dtype="float32", name="x"):
    return rooms.take(name, shape, dtype)


def test_memory_is_used_again():
    rooms = Rooms()
    first = taken(rooms)
    address = first.ctypes.data
    del first
    assert taken(rooms).ctypes.data == address


@pytest.mark.parametrize(
    "holding",
    [
        lambda x: x,
        lambda x: x[1:, ::2],
        lambda x: np.broadcast_to(x, (2, 3, 4)),
        torch.from_numpy,
        lambda x: torch.from_numpy(x[1:]).view(-1)[3:],
        lambda x: torch.from_numpy(x).numpy()[0],
    ],
)
def test_what_somebody_holds_is_not_written_to(holding):
    rooms = Rooms()
    held = holding(taken(rooms))
    again = taken(rooms)
    assert not np.shares_memory(again, np.asarray(held))
    del held
    address = again.ctypes.data
    del again
    assert taken(rooms).ctypes.data == address


def test_another_name_shape_or_type_is_another_array():
    rooms = Rooms()
    taken(rooms)
    assert taken(rooms, (4, 3)).shape == (4, 3)
    assert taken(rooms, dtype="float64").dtype == np.float64
    assert not np.shares_memory(taken(rooms, name="y"), taken(rooms))


def test_very_large_arrays_are_not_kept():
    rooms = Rooms()
    taken(rooms, (MOST_KEPT + 1,), "int8")
    assert not rooms._kept
    taken(rooms, (MOST_KEPT,), "int8")
    assert rooms._kept
    taken(rooms, (MOST_KEPT + 1,), "int8")
    assert not rooms._kept


@pytest.mark.parametrize("shape", [(), (5, 3, 7)])
def test_arrays_begin_with_a_line(shape):
    array = taken(Rooms(), shape, "float64")
    assert (array.shape, array.dtype) == (shape, np.float64)
    assert array.ctypes.data % LINE == 0
    assert taken(Rooms(), (0, *shape)).shape == (0, *shape)
