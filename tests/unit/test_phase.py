"""Phases: what they accept, what they refuse with one sentence, and how drives become arrays."""

import dataclasses

import numpy as np
import pytest
import torch

from neurosim.phase import Held, Phase, Spikes, expand, step_count
from neurosim.recorder import spike_times
from neurosim.types import ConfigurationError


def held(*shape):
    return Held(torch.zeros(*shape))


def test_spike_times_round_trip_with_the_recorder():
    raster = np.zeros((1000, 3))
    raster[[0, 2, 6, 999], 0] = 1
    raster[::7, 2] = 1
    for dt in (0.1, 0.3, 1.0):
        assert np.array_equal(Spikes(spike_times(raster, dt)).raster(1000, dt)[:, 0].numpy(), raster)


def test_spikes_between_steps_and_twice_in_one():
    raster = Spikes([[0.05, 0.1, 0.11], [], [1.0]]).raster(10, 0.1)
    assert raster.shape == (10, 1, 3)
    assert raster.dtype == torch.float64
    assert raster[:3, 0, 0].tolist() == [2.0, 1.0, 0.0]
    assert raster[:, 0, 1].sum() == 0
    assert raster[9, 0, 2] == 1
    assert Spikes([[0.1]]).raster(1, 0.1, torch.float32).dtype == torch.float32


@pytest.mark.parametrize("time", [0.0, -0.1, 1.05, float("nan"), float("inf")])
def test_spike_outside_the_phase(time):
    with pytest.raises(ConfigurationError, match=r"neuron 1 has a spike at .* ms; allowed: 0 < t <= 1 ms"):
        Spikes([[], [0.5, time]]).raster(10, 0.1)


@pytest.mark.parametrize("times", [[], [0.1, 0.2], [[[0.1]]], 3.0, [["a"]]])
def test_spikes_need_one_list_per_neuron(times):
    with pytest.raises(ConfigurationError, match="one list of spike times in ms per neuron"):
        Spikes(times)


def test_defaults_and_what_is_kept():
    phase = Phase("test", 5)
    assert (phase.learn, phase.silent, phase.noise, phase.samples) == (True, (), True, None)
    assert (phase.batch, phase.replicas) == (None, None)
    phase = Phase(
        name="train",
        steps=4,
        drive={"in": np.zeros((4, 3, 2)), "out.apical": held(6, 3, 5), "side": Spikes([[1.0]])},
        signals={"label": np.eye(3)},
        learn=["a"],
        silent=["b"],
        noise=False,
        samples=[5, 6, 7],
    )
    assert isinstance(phase.drive["in"], torch.Tensor)
    assert phase.signals["label"].dtype == torch.float64
    assert (phase.learn, phase.silent, phase.noise) == (("a",), ("b",), False)
    assert (phase.batch, phase.replicas) == (3, 6)
    assert phase.samples.dtype == torch.int64
    assert phase.samples.tolist() == [5, 6, 7]
    with pytest.raises(dataclasses.FrozenInstanceError):
        phase.steps = 3


def test_drive_keeps_the_gradient():
    x = torch.ones(2, 3, requires_grad=True)
    expand(Phase("p", 4, {"in": Held(x)}).drive["in"], 4, 1.0, 5, 2, torch.float64).x.sum().backward()
    assert torch.equal(x.grad, torch.full((2, 3), 5.0))


REFUSED = [
    ({"name": ""}, "name is ''"),
    ({"steps": 0}, "steps 0; it must be an integer >= 1"),
    ({"steps": 2.0}, "steps 2.0; it must be an integer"),
    ({"steps": True}, "steps True"),
    ({"learn": "hidden"}, "learn of phase 'p' is 'hidden'; it must be a tuple of names"),
    ({"learn": 1}, "learn of phase 'p' is 1"),
    ({"silent": "hidden"}, "silent of phase 'p' is 'hidden'"),
    ({"silent": ("",)}, "silent of phase 'p'"),
    ({"noise": None}, "noise of phase 'p' is None"),
    ({"drive": {"": held(2, 3)}}, "drives ''; allowed"),
    ({"drive": {"a.b.c": held(2, 3)}}, "drives 'a.b.c'; allowed: 'population' or 'population.port'"),
    ({"drive": {"a.": held(2, 3)}}, "drives 'a.'"),
    ({"drive": {3: held(2, 3)}}, "drives 3"),
    ({"drive": {"a": torch.zeros(4, 3)}}, r"drive 'a' of phase 'p' has shape \(4, 3\); allowed: Held, Spikes"),
    ({"drive": {"a": torch.zeros(5, 2, 3)}}, r"shape \(5, 2, 3\), but phase 'p' has 4 steps; the first axis is time"),
    ({"drive": {"a": "x"}}, "drive 'a' of phase 'p' is a str that is no numeric array"),
    ({"signals": {"r": torch.zeros(3)}}, r"signal 'r' of phase 'p' has shape \(3,\); allowed: \[B, K\]"),
    ({"samples": [[1]]}, r"samples of phase 'p' has shape \(1, 1\)"),
    ({"samples": [0.5]}, "samples of phase 'p' must be integer ids >= 0"),
    ({"samples": [-1]}, "samples of phase 'p' must be integer ids >= 0"),
    (
        {"drive": {"a": held(2, 3), "b": torch.zeros(4, 5, 3)}},
        r"drive 'a' has batch 2 \(shape \(2, 3\)\), drive 'b' has batch 5 \(shape \(5, 3\)\); they must be equal",
    ),
    ({"drive": {"a": held(2, 3)}, "signals": {"r": torch.zeros(4, 1)}}, "signal 'r' has batch 4"),
    ({"drive": {"a": held(2, 3)}, "samples": [1, 2, 3]}, "samples has batch 3"),
    (
        {"drive": {"a": held(6, 2, 3), "b": torch.zeros(4, 7, 2, 3)}},
        r"drive 'a' has replicas 6 \(shape \(6, 2, 3\)\), drive 'b' has replicas 7",
    ),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED, ids=[sentence[:40] for _, sentence in REFUSED])
def test_refused_with_one_sentence(change, sentence):
    with pytest.raises(ConfigurationError, match=sentence) as error:
        Phase(**{"name": "p", "steps": 4} | change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3, 4)])
def test_held_has_two_or_three_axes(shape):
    with pytest.raises(ConfigurationError, match="a held drive has shape"):
        held(*shape)


def test_check_against_a_network():
    sizes = {"in": 3, "out": 2, "out.apical": 2}
    phase = Phase("p", 4, {"in": held(5, 3), "out.apical": torch.zeros(4, 6, 5, 2), "out": Spikes([[], [1.0]])})
    phase.check(sizes, batch=5, replicas=6)
    Phase("p", 4, {"in": held(5, 3)}).check(sizes, batch=5, replicas=1)
    Phase("p", 4).check(sizes, batch=9, replicas=9)
    with pytest.raises(ConfigurationError, match="phase 'p' has batch 5, but the simulator's state has batch 4"):
        phase.check(sizes, batch=4, replicas=6)
    with pytest.raises(ConfigurationError, match="phase 'p' has replicas 6, but the simulator's state has replicas 5"):
        phase.check(sizes, batch=5, replicas=5)
    with pytest.raises(ConfigurationError, match=r"drives unknown 'out.basal'; allowed: in, out, out.apical"):
        Phase("p", 4, {"out.basal": held(5, 3)}).check(sizes, 5, 1)
    with pytest.raises(
        ConfigurationError, match=r"drive 'in' of phase 'p' is for 2 neurons \(shape \(5, 2\)\), but 'in'"
    ):
        Phase("p", 4, {"in": held(5, 2)}).check(sizes, 5, 1)
    with pytest.raises(ConfigurationError, match=r"drive 'in' of phase 'p' is for 1 neurons, but 'in' has 3"):
        Phase("p", 4, {"in": Spikes([[1.0]])}).check(sizes, 5, 1)


def test_expand_gives_the_backends_shapes_without_copies():
    x = torch.arange(6.0).reshape(2, 3)
    result = expand(Held(x), 4, 1.0, 5, 2, torch.float64)
    assert isinstance(result, Held)
    assert result.x.shape == (5, 2, 3)
    assert result.x.stride(0) == 0
    assert torch.equal(result.x[3], x.double())
    raster = torch.rand(4, 2, 3)
    result = expand(raster, 4, 1.0, 5, 2, torch.float32)
    assert result.shape == (4, 5, 2, 3)
    assert result.stride(1) == 0
    assert torch.equal(result[:, 4], raster)
    full = torch.rand(4, 5, 2, 3)
    assert torch.equal(expand(full, 4, 1.0, 5, 2, torch.float32), full)
    result = expand(Spikes([[2.0], [4.0], []]), 4, 1.0, 5, 2, torch.float32)
    assert result.shape == (4, 5, 2, 3)
    assert result.dtype == torch.float32
    assert result[:, 4, 1].nonzero().tolist() == [[1, 0], [3, 1]]


def test_step_count():
    assert step_count(1.0, 0.1, "window") == 10
    assert step_count(0.3, 0.1, "window") == 3
    for duration, dt in ((0.25, 0.1), (0.0, 0.1), (-1.0, 0.1), (float("nan"), 0.1), (float("inf"), 0.1), (1.0, 0.0)):
        with pytest.raises(ConfigurationError, match=r"window is .* ms; it must be a positive multiple of dt"):
            step_count(duration, dt, "window")
