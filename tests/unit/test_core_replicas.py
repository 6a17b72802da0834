"""Replicas: R copies in one program equal R separate simulators that start from what the plan drew for each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nets import normal, raster, simulate, weight

from neurosim.backends import compile
from neurosim.connectivity import Conv2d, Dense, EdgeList, FixedInDegree, FixedProbability, OneToOne
from neurosim.factor import Trace, post, pre
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, LeakyRate, NoiseSource, PoissonSource, SpikeRelay
from neurosim.phase import Held, Phase
from neurosim.random import Glorot, KaimingUniform, LecunNormal, Normal, Stream, Uniform
from neurosim.recorder import Probe
from neurosim.release import TsodyksMarkram
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Adam, Rate

T, B, R, N = 40, 2, 3, 12
HEBB = ThreeFactorRule(
    (
        Component(
            (Term(post("spike"), Trace(pre("spike"), 10.0)),),
        ),
    ),
    transforms=(Adam(), Rate(0.05)),
)


WEIGHT = Uniform(0.2, 0.9)


def spiking(connectivity, delay, rule=HEBB, weight=WEIGHT, **neuron):
    cells = LIF(**{"tau_mem": Uniform(8.0, 30.0), "v_th": Normal(1.0, 0.05), **neuron})
    return Network(
        (Population("input", N, SpikeRelay()), Population("cells", N, cells, initial={"v": Uniform(0.0, 0.5)})),
        (
            Projection("input", "cells", weight, connectivity, delay=delay, name="wire", rule=rule),
            Projection("cells", "cells", Normal(-0.1, 0.2), connectivity, delay=delay, name="loop"),
        ),
    )


def alone(plan, network, r):
    """The network of replica r by itself: explicit edges, weights, delays, parameters and start values."""

    def part(projection):
        synapses, values = plan.synapses[projection.name], plan.initial_weight(projection.name)
        edges, delay = synapses.edges, synapses.delay
        if edges is None:
            return replace(projection, weight=values[r].numpy(), delay=delay * plan.dt)
        own = slice(sum(edges.counts[:r]), sum(edges.counts[: r + 1]))
        listed = EdgeList((edges.post[own] % N).numpy(), (edges.pre[own] % N).numpy())
        own_delay = delay[own].numpy() * plan.dt if isinstance(delay, torch.Tensor) else delay * plan.dt
        return replace(projection, weight=values[own].numpy(), delay=own_delay, connectivity=listed)

    def population(p):
        start = {name: value[r].numpy() for name, value in plan.initial_state(p.name).items()}
        drawn = {k: v[r] for k, v in vars(plan.neurons[p.name]).items() if isinstance(v, np.ndarray)}
        return replace(p, neuron=replace(p.neuron, **drawn) if drawn else p.neuron, initial=start)

    return replace(
        network,
        populations=tuple(population(p) for p in network.populations),
        projections=tuple(part(p) for p in network.projections),
    )


@pytest.mark.parametrize("delay", [1.0, Uniform(0.0, 6.0)], ids=["one delay", "drawn delays"])
@pytest.mark.parametrize(
    "connectivity",
    [Dense(), FixedProbability(0.3), FixedInDegree(3), FixedInDegree(11), FixedProbability(0.5, autapses=True)],
    ids=repr,
)
def test_replicas_equal_separate_runs(connectivity, delay):
    network, x = spiking(connectivity, delay), raster(T, R, B, N)
    probes = (Probe("cells", "spike"), Probe("cells", "v"), Probe("wire", "weight"))
    simulator, _, together = simulate(network, Phase("p", T, {"input": x}), probes, batch=B, dt=0.5, replicas=R, seed=7)
    assert together["cells.spike"].sum() > 50
    plan = simulator.plan
    for r in range(R):
        single = alone(plan, network, r)
        _, _, apart = simulate(single, Phase("p", T, {"input": x[:, r]}), probes, batch=B, dt=0.5)
        np.testing.assert_array_equal(apart["cells.spike"], together["cells.spike"][:, r])
        np.testing.assert_allclose(apart["cells.v"], together["cells.v"][:, r], rtol=0, atol=1e-12)
        ours = together["wire.weight"][-1, r]
        edges = plan.synapses["wire"].edges
        ours = ours.ravel() if edges is not None and edges.dense else ours
        np.testing.assert_allclose(apart["wire.weight"][-1].ravel(), ours[~np.isnan(ours)].ravel(), rtol=0, atol=1e-12)
    if isinstance(connectivity, FixedProbability):
        assert len(set(plan.synapses["wire"].edges.counts)) > 1
    assert not np.array_equal(together["cells.spike"][:, 0], together["cells.spike"][:, 1])


@pytest.mark.parametrize("weight", [LecunNormal(), KaimingUniform(), Glorot()], ids=repr)
@pytest.mark.parametrize("connectivity", [Dense(), FixedProbability(0.4), FixedInDegree(4)], ids=repr)
def test_the_first_replicas_do_not_depend_on_how_many_there_are(connectivity, weight):
    """Edges, delays, weights, biases, parameters, noise: a function of (seed, replica) only."""
    network = spiking(connectivity, Uniform(0.0, 5.0), None, weight)
    few, many = (compile(network, 0.5, replicas=count, seed=2).plan for count in (2, 4))
    for name in ("wire", "loop"):
        count = sum(few.synapses[name].edges.counts)
        assert torch.equal(many.synapses[name].edges.pre[:count], few.synapses[name].edges.pre)
        assert torch.equal(many.synapses[name].delay[:count], few.synapses[name].delay)
        assert torch.equal(many.initial_weight(name)[:count], few.initial_weight(name))
    assert np.array_equal(many.neurons["cells"].tau_mem[:2], few.neurons["cells"].tau_mem)
    assert torch.equal(many.initial_state("cells")["v"][:2], few.initial_state("cells")["v"])


def test_fan_in_scales_each_replica_by_its_own_edges():
    network = spiking(FixedProbability(0.4), 1.0, None, LecunNormal())
    plan = compile(network, 1.0, replicas=2, seed=2).plan
    counts = plan.synapses["wire"].edges.counts
    assert counts[0] != counts[1]
    first = LecunNormal().sample(Stream(plan.seed, "weight/wire"), (counts[1],), counts[1] / N, [1])[0]
    assert torch.equal(plan.initial_weight("wire")[counts[0] :], first)


def test_heterogeneous_tau_against_the_closed_form():
    """v of a silent LIF decays with its own time constant, replica by replica."""
    network = Network((Population("cells", N, LIF(tau_mem=Uniform(5.0, 50.0)), initial={"v": 0.9}),), ())
    simulator, _, recording = simulate(network, Phase("p", 10), (Probe("cells", "v"),), batch=B, replicas=R)
    tau = simulator.plan.neurons["cells"].tau_mem
    assert tau.shape == (R, N)
    assert len(np.unique(tau)) == R * N
    expected = 0.9 * np.exp(-np.arange(1, 11)[:, None, None] / tau)
    np.testing.assert_allclose(recording["cells.v"], np.repeat(expected[:, :, None], B, 2), rtol=1e-12)


def test_weights_biases_delays_and_parameters_given_per_replica():
    w, b, i, j = normal(R, 4, 5), normal(R, 4), [0, 1, 1, 3], [4, 0, 2, 2]
    delay, edge_weight, tau = np.array([[1, 2, 3, 1]] * 2 + [[3, 1, 1, 2]]), normal(R, 4, seed=1), np.full((R, 4), 5.0)
    tau[1] = 9.0
    network = Network(
        (Population("input", 5, SpikeRelay()), Population("out", 4, LeakyRate(tau_mem=tau, activation="linear"))),
        (
            Projection("input", "out", w, delay=0, bias=b, name="dense"),
            Projection("input", "out", edge_weight, EdgeList(i, j), delay=delay, name="edges"),
            Projection("out", "out", np.full((R, 4), 0.1), OneToOne(), name="self"),
        ),
    )
    x = normal(T, B, 5)
    _, _, recording = simulate(network, Phase("p", T, {"input": x}), (Probe("out", "rate"),), batch=B, replicas=R)
    for r in range(R):
        v, leak = np.zeros((B, 4)), np.exp(-1 / tau[r])
        for t in range(T):
            drive = x[t] @ w[r].T + b[r] + 0.1 * v
            for e in range(4):
                if t >= delay[r, e]:
                    drive[:, i[e]] += edge_weight[r, e] * x[t - delay[r, e]][:, j[e]]
            v = leak * v + (1 - leak) * drive
            np.testing.assert_allclose(recording["out.rate"][t, r], v, rtol=0, atol=1e-12)


@pytest.mark.parametrize("connectivity", [Conv2d(2), Dense()])
def test_dense_and_convolution_groups_keep_replicas_apart(connectivity):
    shape = (2, 3, 3), (4, 2, 2)
    size = (R, 4, 2, 2, 2) if isinstance(connectivity, Conv2d) else (R, 16, 18)
    w, x = normal(*size), normal(1, B, 18)
    make = lambda weight: Network(  # noqa: E731
        (Population("input", shape[0], LeakyRate(activation="linear")), Population("out", shape[1], LeakyRate())),
        (Projection("input", "out", weight, connectivity, delay=0),),
    )
    _, _, together = simulate(make(w), Phase("p", 1, {"input": x}), (Probe("out", "v"),), batch=B, replicas=R)
    for r in range(R):
        _, _, single = simulate(make(w[r]), Phase("p", 1, {"input": x}), (Probe("out", "v"),), batch=B)
        np.testing.assert_allclose(single["out.v"], together["out.v"][:, r], rtol=0, atol=1e-14)


def test_noise_differs_by_replica_and_is_the_same_alone():
    network = Network(
        (Population("poisson", 20, PoissonSource(300.0)), Population("noise", 3, NoiseSource(tau=4.0))), ()
    )
    probes = (Probe("poisson", "spike"), Probe("noise", "rate"))
    _, _, many = simulate(network, Phase("p", 100), probes, batch=B, replicas=R, seed=5)
    _, _, one = simulate(network, Phase("p", 100), probes, batch=B, seed=5)
    for key in many:
        np.testing.assert_array_equal(many[key][:, 0], one[key])
        assert not np.array_equal(many[key][:, 0], many[key][:, 1])
        assert not np.array_equal(many[key][:, 0, 0], many[key][:, 0, 1])
    _, _, other = simulate(network, Phase("p", 100), probes, batch=B, seed=6)
    assert not np.array_equal(other["noise.rate"], one["noise.rate"])


def test_replicas_none_hides_the_axis_of_every_recording():
    network = spiking(
        FixedProbability(0.5), Uniform(1, 3), replace(HEBB, components=(replace(HEBB.components[0], tau=5.0),))
    )
    probes = [Probe("cells", "v"), *(Probe("wire", field) for field in ("weight", "eligibility", "modulator"))]
    for batch in (1, 2):
        phase = Phase("p", 3, {"input": Held(np.ones((batch, N)))})
        _, _, one = simulate(network, phase, probes, batch=batch)
        _, _, many = simulate(network, phase, probes, batch=batch, replicas=1)
        for key in one:
            assert many[key].shape[1] == 1
            np.testing.assert_array_equal(one[key], many[key][:, 0])


def test_short_term_plasticity_drawn_per_replica():
    release = TsodyksMarkram(U=Uniform(0.1, 0.9), tau_rec=Uniform(50.0, 500.0))
    network = Network(
        (Population("input", 3, SpikeRelay()), Population("out", 3, LeakyRate(activation="linear"))),
        (Projection("input", "out", 1.0, OneToOne(), delay=0, release=release, name="wire"),),
    )
    simulator, _, recording = simulate(
        network, Phase("p", 1, {"input": np.ones((1, 1, 3))}), (Probe("out", "basal"),), replicas=R
    )
    drawn = simulator.plan.synapses["wire"].release
    assert len(np.unique(drawn.U)) == 9
    np.testing.assert_allclose(recording["out.basal"][0, :, 0], drawn.U, rtol=1e-15)


def test_state_is_a_value():
    """`run` changes nothing that it was given; the same state gives the same result again."""
    network = spiking(Dense(), 2.0)
    simulator = compile(network, 1.0, dtype="float64", replicas=2)
    state, phase = simulator.init(B), Phase("p", 10, {"input": raster(10, B, N)})
    before = weight(state, "wire").copy()
    first, _ = simulator.run(state, phase)
    second, _ = simulator.run(state, phase)
    np.testing.assert_array_equal(weight(state, "wire"), before)
    np.testing.assert_array_equal(weight(first, "wire"), weight(second, "wire"))
    assert not np.array_equal(weight(first, "wire"), before)
