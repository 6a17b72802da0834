"""Calls that follow each other: what is kept from one to the next never shows."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from backends import DT, leaves

from neurosim.backends import compile
from neurosim.backends.cpu import piece
from neurosim.connectivity import OneToOne
from neurosim.factor import Trace, post, pre
from neurosim.modulator import Broadcast
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, Relay
from neurosim.phase import Held, Phase, Spikes
from neurosim.recorder import Probe
from neurosim.release import TsodyksMarkram
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Rate
from neurosim.types import ConfigurationError

SPIKES = [Probe("out", "spike"), Probe("out", "v"), Probe("mid", "v", every=5)]


def network(units=6, when="phase"):
    rng = np.random.default_rng(2)
    rule = ThreeFactorRule(
        (Component((Term(post("spike"), Trace(pre("spike"), 5.0)),), tau=20.0),),
        modulator=Broadcast("reward"),
        when=when,
        transforms=(Rate(0.002),),
    )
    return Network(
        (
            Population("in", 4, Relay()),
            Population("mid", units, LIF(tau_mem=8.0)),
            Population("out", units, LIF(tau_mem=6.0)),
        ),
        (
            Projection("in", "mid", rng.normal(0.15, 0.15, (units, 4)), delay=0, name="first"),
            Projection(
                "mid",
                "out",
                rng.normal(1.2 / units, 1.2 / units, (units, units)),
                delay=2 * DT,
                rule=rule,
                name="w",
            ),
            Projection(
                "out",
                "out",
                rng.normal(0.0, 1.0 / units, (units, units)),
                delay=DT,
                name="back",
                release=TsodyksMarkram(),
            ),
        ),
    )


def shown(seed=0, steps=12, batch=1, name="run"):
    rng = np.random.default_rng(seed)
    x, reward = rng.normal(0.8, 0.5, (steps, batch, 4)), rng.normal(size=(batch, 1))
    return Phase(name, steps, {"in": torch.from_numpy(x)}, {"reward": torch.from_numpy(reward)})


def made(backend="cpu", **more):
    return compile(network(**more), DT, backend=backend, dtype="float64")


def same(first, second):
    one, other = (dict(leaves(tuple(one) if hasattr(one, "_fields") else one)) for one in (first, second))
    assert list(one) == list(other)
    for path, value in one.items():
        assert torch.equal(value, other[path]), path


def anew(state):
    """The same values in tensors that nobody has seen."""
    return copy.deepcopy(state)


def agree_recordings(found, wanted):
    for key in wanted:
        np.testing.assert_allclose(found[key], wanted[key], rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(found.step[key], wanted.step[key])


def fresh_run(state, phase, probes=SPIKES, **more):
    """A run by a simulator that knows nothing."""
    return made(**more).run(anew(state), anew(phase), probes)


def equal_runs(found, expected):
    same(found[0], expected[0])
    for key in expected[1]:
        np.testing.assert_array_equal(found[1][key], expected[1][key])
        np.testing.assert_array_equal(found[1].step[key], expected[1].step[key])


def test_the_network_is_alive():
    simulator = made()
    state, recording = simulator.run(simulator.init(1), shown(steps=60), SPIKES)
    assert recording["out.spike"].sum() > 3
    assert not torch.equal(state.learned["weight"]["w"], simulator.init(1).learned["weight"]["w"])
    assert simulator._workspaces[1].piece is not None


@pytest.mark.parametrize("most", [piece.MOST, 0], ids=["one piece", "large"])
@pytest.mark.parametrize("when", ["phase", "step"])
def test_calls_one_after_the_other_as_on_the_reference(monkeypatch, most, when):
    monkeypatch.setattr(piece, "MOST", most)
    one, other, phases = made(when=when), made("reference", when=when), [shown(seed) for seed in range(3)]
    state, expected = one.init(1), other.init(1)
    for turn in range(12):
        phase = phases[turn % 3]
        begin = turn in (5, 6, 9)
        state, found = one.run(one.fresh(state) if begin else state, phase, SPIKES[turn % 3 :])
        expected, wanted = other.run(other.fresh(expected) if begin else expected, phase, SPIKES[turn % 3 :])
        agree_recordings(found, wanted)
    wanted = dict(leaves(tuple(expected)))
    for path, value in leaves(tuple(state)):
        if value.numel() and wanted[path].numel():
            torch.testing.assert_close(value, wanted[path], rtol=1e-9, atol=1e-9, msg=path)


def test_a_state_never_changes():
    simulator, phase = made(), shown()
    states = [simulator.init(1)]
    for _ in range(5):
        states.append(simulator.run(states[-1], phase)[0])
    kept = anew(states)
    for state in states[::-1] + states:
        simulator.run(state, shown(1), SPIKES)
        simulator.run(simulator.fresh(state), phase)
    for state, before in zip(states, kept, strict=True):
        same(state, before)


@pytest.mark.parametrize("age", [0, 1, 3])
def test_any_state_may_come_again(age):
    simulator, phase = made(), shown()
    states = [simulator.init(1)]
    for _ in range(4):
        states.append(simulator.run(states[-1], phase)[0])
    for _ in range(2):
        equal_runs(simulator.run(states[-1 - age], phase, SPIKES), fresh_run(states[-1 - age], phase))


CHANGES = {
    "torch": lambda activity: activity["state"]["out"]["v"].add_(0.4),
    "numpy": lambda activity: activity["state"]["out"]["v"].numpy().__iadd__(0.4),
    "another tensor": lambda activity: activity["state"]["out"].update(v=activity["state"]["out"]["v"] + 0.4),
    "another dictionary": lambda activity: activity.update(
        state={**activity["state"], "out": {**activity["state"]["out"], "v": activity["state"]["out"]["v"] + 0.4}}
    ),
    "exchanged": lambda activity: activity["state"].update(
        out=activity["state"]["mid"], mid=activity["state"]["out"]
    ),
    "renamed": lambda activity: activity.update(
        state=dict(zip(("in", *list(activity["state"])[:0:-1]), activity["state"].values(), strict=True))
    ),
    "the past": lambda activity: activity["history"]["mid.spike"][1].fill_(1.0),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_what_is_written_into_the_last_state_counts(change):
    simulator, phase, then = made(), shown(steps=9), shown(1, steps=1)
    state, _ = simulator.run(simulator.init(1), phase)
    _, before = simulator.run(state, then, SPIKES)
    state, _ = simulator.run(simulator.init(1), phase)
    change(state.activity)
    found = simulator.run(state, then, SPIKES)
    equal_runs(found, fresh_run(state, then))
    assert not np.array_equal(found[1]["out.v"], before["out.v"])


def test_the_clock_of_a_state_may_be_set():
    simulator, phase = made(), shown()
    for clock in (0, 1, 2, 3, 100):
        state, _ = simulator.run(simulator.init(1), phase)
        moved = state._replace(clock=clock)
        equal_runs(simulator.run(moved, phase, SPIKES), fresh_run(moved, phase))


@pytest.mark.parametrize("between", [False, True], ids=["alone", "another between"])
@pytest.mark.parametrize("known", [1, 2, 3], ids=["seen once", "seen twice", "known"])
def test_arrays_of_a_phase_are_read_in_every_run(known, between):
    x, reward = np.full((12, 1, 4), 1.6), np.ones((1, 1))
    phase = Phase("run", 12, {"in": torch.from_numpy(x)}, {"reward": torch.from_numpy(reward)})
    simulator = made()
    start = simulator.init(1)
    for _ in range(known):
        before = simulator.run(start, phase, SPIKES)
    if between:
        simulator.run(start, shown(), SPIKES)
    x *= 0.7
    reward *= -2.0
    found = simulator.run(start, phase, SPIKES)
    equal_runs(found, fresh_run(start, phase))
    assert not torch.equal(found[0].learned["weight"]["w"], before[0].learned["weight"]["w"])
    assert not np.array_equal(found[1]["out.v"], before[1]["out.v"])


@pytest.mark.parametrize(
    "drive",
    [
        lambda x: Held(x[0]),
        lambda x: x.float(),
        lambda x: x.transpose(0, 2).contiguous().transpose(0, 2),
        lambda x: x[:, None],
        lambda x: Held(x[0].float()),
        lambda x: Spikes((np.array([0.5, 1.0]), np.array([2.0]), np.zeros(0), np.array([3.0]))),
    ],
    ids=["held", "other type", "other order", "one replica", "held, other type", "spikes"],
)
def test_every_kind_of_drive_again_and_again(drive):
    x = torch.from_numpy(np.random.default_rng(4).normal(1.0, 0.5, (12, 1, 4)))
    given, reward = drive(x), torch.ones(1, 1, dtype=torch.float64)
    phase = Phase("run", 12, {"in": given}, {"reward": reward})
    simulator, reference = made(), made("reference")
    state = simulator.init(1)
    for turn in range(4):
        _, wanted = reference.run(state, phase, SPIKES)
        state, found = simulator.run(state, phase, SPIKES)
        agree_recordings(found, wanted)
        reward += 1.0
        values = given.x if isinstance(given, Held) else given
        if isinstance(values, torch.Tensor):
            values *= 1.0 + 0.1 * turn


def test_a_signal_of_another_type_is_read_in_every_run():
    simulator, reward = made(), torch.ones(1, 1, dtype=torch.float32)
    phase = Phase("run", 12, shown().drive, {"reward": reward})
    start = simulator.init(1)
    for _ in range(4):
        equal_runs(simulator.run(start, phase, SPIKES), fresh_run(start, phase))
        reward += 1.0


def test_a_phase_that_no_longer_fits_is_refused():
    simulator, phase = made(), shown()
    state = simulator.init(1)
    for _ in range(3):
        simulator.run(state, phase)
    with pytest.raises(ConfigurationError, match="has batch 1, but the simulator's state has batch 2"):
        simulator.run(simulator.init(2), phase)
    phase.drive["in"] = torch.ones(12, 1, 5, dtype=torch.float64)
    with pytest.raises(ConfigurationError, match="is for 5 neurons"):
        simulator.run(state, phase)
    phase.drive["in"] = torch.ones(12, 1, 4, dtype=torch.float64)
    equal_runs(simulator.run(state, phase, SPIKES), fresh_run(state, phase))
    phase.drive["nobody"] = torch.ones(12, 1, 4, dtype=torch.float64)
    with pytest.raises(ConfigurationError, match="drives unknown 'nobody'"):
        simulator.run(state, phase)


def test_probes_that_do_not_fit_are_refused_after_ones_that_do():
    simulator, phase = made(), shown()
    state = simulator.init(1)
    simulator.run(state, phase, SPIKES)
    with pytest.raises(ConfigurationError, match="asks for unit 9"):
        simulator.run(state, phase, [Probe("out", "spike"), Probe("out", "v", units=(9,))])
    with pytest.raises(ConfigurationError, match="asks for unit 9"):
        simulator.run(state, phase, [Probe("out", "spike"), Probe("out", "v", units=(9,))])


def test_phases_and_their_arrays_are_not_held():
    simulator, phase = made(), shown()
    state, _ = simulator.run(simulator.init(1), shown(), SPIKES)
    for _ in range(4):
        simulator.run(state, phase, SPIKES)
    assert len(simulator._phases._known) == 1 + 1  # a program holds its first phase
    simulator.run(state, shown(1), SPIKES)  # and the one that it ran last
    held = weakref.ref(phase), weakref.ref(phase.drive["in"])
    del phase
    gc.collect()
    assert [one() for one in held] == [None, None]
    equal_runs(simulator.run(state, shown(5), SPIKES), fresh_run(state, shown(5)))


def test_two_programs_share_a_phase():
    simulator, phase = made(), shown()
    state = simulator.init(1)
    for probes in ((), SPIKES, SPIKES[:1], (), SPIKES, SPIKES[:1], SPIKES):
        equal_runs(simulator.run(state, phase, probes), fresh_run(state, phase, probes))


def test_many_weights_that_learn_at_the_end_of_a_phase_begin_again():
    """Their kernels read a weight where a state holds it; the first one lies in another order and is copied."""
    simulator, big = made(units=60), {"units": 60}
    start, phases = simulator.init(2), [shown(seed, steps=80, batch=2) for seed in (0, 1)]
    assert len(simulator.shortcuts()) == 0
    for turn in range(3):
        state = start
        for phase in phases:
            expected = fresh_run(state, phase, **big)
            found = simulator.run(state, phase, SPIKES)
            equal_runs(found, expected)
            state = found[0]
        other = anew(start)
        other.learned["weight"]["w"] *= 0.9
        for state in (start, other, start):
            equal_runs(simulator.run(state, phases[0], SPIKES), fresh_run(state, phases[0], **big))
        several = Phase(
            "run", 80, {"in": torch.cat([p.drive["in"] for p in phases], 1)},
            {"reward": torch.cat([p.signals["reward"] for p in phases])},
        )  # fmt: skip
        together = simulator.run_batches(start, [several], rest=True)
        same(together.learned["weight"], made(**big).run_batches(anew(start), [several], rest=True).learned["weight"])
        assert turn or len(simulator.shortcuts()) == 1


def test_whole_numbers_that_somebody_breaks_after_their_phase_is_known():
    """Such states lie in bytes until then; programs that know the old place are forgotten."""
    cells = Population("cells", 2100, LIF(tau_mem=8.0, t_ref=2.0))
    network = Network((Population("in", 2100, Relay()), cells), (Projection("in", "cells", 0.7, OneToOne(), delay=0),))
    phase = Phase("run", 9, {"in": Held(torch.rand(1, 2100, generator=torch.Generator().manual_seed(1)))})
    probes = [Probe("cells", "v")]
    simulators = [compile(network, 0.5, backend=backend, dtype="float32") for backend in ("cpu", "reference")]
    states = [simulator.init(1) for simulator in simulators]
    for turn in range(5):
        done = [simulator.run(state, phase, probes) for simulator, state in zip(simulators, states, strict=True)]
        np.testing.assert_allclose(done[0][1]["cells.v"], done[1][1]["cells.v"], atol=1e-5)
        states = [state for state, _ in done]
        if turn == 2:
            assert simulators[0]._workspaces[1].counts
            for state in states:
                state.activity["state"]["cells"]["refractory"] += 0.5
    assert not simulators[0]._workspaces[1].counts
