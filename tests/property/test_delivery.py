"""Properties of delivery and of runs: linearity, batches, permutations, chunks."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import pair, raster, simulate

from neurosim.backends import compile
from neurosim.connectivity import Conv2d, Dense, EdgeList, FixedProbability
from neurosim.factor import Trace, post, pre
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, NoiseSource, PoissonSource, SpikeRelay
from neurosim.phase import Phase
from neurosim.random import Normal, Uniform
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Adam, Rate

SMALL = settings(max_examples=12, deadline=None, derandomize=True)
seeds = st.integers(0, 2**16)


def wiring(kind, generator):
    """(pre shape, post shape, connectivity, weight shape)."""
    if kind == "convolution":
        kernel, stride, padding = generator.integers(1, 4), generator.integers(1, 3), generator.integers(0, 2)
        connectivity = Conv2d(int(kernel), int(stride), int(padding))
        before = (2, int(generator.integers(3, 6)), 4)
        after = connectivity.output_shape(before, 3)
        return before, after, connectivity, (3, 2, int(kernel), int(kernel))
    posts, pres = (int(n) for n in generator.integers(1, 7, 2))
    if kind == "dense":
        return pres, posts, Dense(), (posts, pres)
    count = int(generator.integers(0, 12))
    edges = EdgeList(generator.integers(0, posts, count), generator.integers(0, pres, count))
    return pres, posts, edges, (count,)


@SMALL
@given(
    seed=seeds, kind=st.sampled_from(["dense", "sparse", "delayed", "convolution"]), replicas=st.sampled_from([1, 3])
)
def test_deliver_is_linear(seed, kind, replicas):
    """In the weights and in the activity: d(aw + bv, x) = a d(w, x) + b d(v, x), and the same for x."""
    generator = np.random.default_rng(seed)
    before, after, connectivity, shape = wiring("dense" if kind == "delayed" else kind, generator)
    delay = generator.integers(0, 3, shape).astype(float) if kind == "delayed" else 0.0
    w, v = generator.standard_normal((2, replicas, *shape))
    x, y = generator.standard_normal((2, 4, 2, int(np.prod(before))))
    a, b = generator.standard_normal(2)

    def deliver(weight, activity):
        net = pair(before, after, weight=weight, connectivity=connectivity, delay=delay)
        phase = Phase("p", 4, {"input": activity})
        return simulate(net, phase, (Probe("output", "rate"),), batch=2, replicas=replicas)[2]["output.rate"]

    parts = a * deliver(w, x) + b * deliver(v, x)
    np.testing.assert_allclose(deliver(a * w + b * v, x), parts, rtol=0, atol=1e-12)
    np.testing.assert_allclose(deliver(w, a * x + b * y), a * deliver(w, x) + b * deliver(w, y), rtol=0, atol=1e-12)
    assert not deliver(0 * w, x).any()


def spiking(size, weight, rule=None, tau=20.0, delay=1.0, connectivity=None):
    return Network(
        (Population("input", 4, SpikeRelay()), Population("cells", size, LIF(tau_mem=tau, t_ref=1.0))),
        (
            Projection("input", "cells", weight, delay=0, name="wire", rule=rule, bias=0.02),
            Projection("cells", "cells", Normal(0.0, 0.3), connectivity or Dense(), delay=delay, name="loop"),
        ),
    )


@SMALL
@given(seed=seeds, reduce=st.sampled_from(["sum", "mean"]))
def test_a_batch_equals_its_singles(seed, reduce):
    """Rows do not meet: activity row by row is that of single runs, and the change is the sum or the mean of theirs."""
    hebb = ThreeFactorRule(
        (Component((Term(post("spike"), Trace(pre("spike"), 8.0)),), tau=5.0),),
        reduce=reduce,
        when="phase",
        transforms=(Rate(0.01),),
    )
    net, x = spiking(5, Uniform(0.2, 0.8), hebb), raster(25, 3, 4, seed=seed)
    probes = (Probe("cells", "v"), Probe("cells", "spike"))
    start = compile(net, 1.0, dtype="float64", seed=seed).plan.initial_weight("wire")[0].numpy()
    _, together, rows = simulate(net, Phase("p", 25, {"input": x}), probes, batch=3, seed=seed)
    changes = []
    for b in range(3):
        _, alone, row = simulate(net, Phase("p", 25, {"input": x[:, b : b + 1]}), probes, seed=seed)
        np.testing.assert_array_equal(row["cells.spike"][:, 0], rows["cells.spike"][:, b])
        np.testing.assert_allclose(row["cells.v"][:, 0], rows["cells.v"][:, b], rtol=0, atol=1e-12)
        changes.append(alone.learned["weight"]["wire"][0].numpy() - start)
    total = together.learned["weight"]["wire"][0].numpy() - start
    np.testing.assert_allclose(total, getattr(np, reduce)(changes, axis=0), rtol=0, atol=1e-12)


@SMALL
@given(seed=seeds, sparse=st.booleans())
def test_permuting_neurons_permutes_the_result(seed, sparse):
    """Weights, delays, parameters and start values moved along: the same network, in another order."""
    generator = np.random.default_rng(seed)
    size, order = 6, np.random.default_rng(seed).permutation(6)
    w, u, tau, v = (
        generator.uniform(0.2, 0.9, (6, 4)),
        generator.normal(0, 0.4, (6, 6)),
        generator.uniform(5, 30, 6),
        generator.random(6),
    )
    d, x = generator.integers(1, 4, (6, 6)).astype(float), raster(40, 2, 4, seed=seed)
    rule = ThreeFactorRule(
        (Component((Term(post("spike"), Trace(pre("spike"), 8.0)),)),), transforms=(Adam(), Rate(0.01))
    )

    def network(p):
        loop = {"weight": u[np.ix_(p, p)], "delay": d[np.ix_(p, p)]}
        if sparse:
            i, j = np.divmod(np.arange(36), 6)
            loop = {"weight": loop["weight"].ravel(), "delay": loop["delay"].ravel(), "connectivity": EdgeList(i, j)}
        cells = Population("cells", size, LIF(tau_mem=tau[p]), initial={"v": v[p]})
        wires = (
            Projection("input", "cells", w[p], delay=0, name="wire", rule=rule),
            Projection("cells", "cells", **loop, name="loop"),
        )
        return Network((Population("input", 4, SpikeRelay()), cells), wires)

    probes = (Probe("cells", "spike"), Probe("wire", "weight"))
    phase = Phase("p", 40, {"input": x})
    plain, moved = (simulate(network(p), phase, probes, batch=2)[2] for p in (np.arange(size), order))
    np.testing.assert_array_equal(moved["cells.spike"], plain["cells.spike"][..., order])
    np.testing.assert_allclose(moved["wire.weight"], plain["wire.weight"][:, order], rtol=0, atol=1e-12)


@SMALL
@given(seed=seeds, cuts=st.sets(st.integers(1, 99), min_size=1, max_size=4))
def test_a_run_in_chunks_equals_a_whole_run(seed, cuts):
    """Noise included: it is addressed by the clock, also where a chunk of 64 drawn steps is cut."""
    hebb = ThreeFactorRule(
        (Component((Term(post("spike"), Trace(pre("spike"), 8.0)),), tau=6.0),), transforms=(Adam(), Rate(0.01))
    )
    net = Network(
        (
            Population("input", 4, PoissonSource(200.0)),
            Population("noise", 5, NoiseSource(tau=5.0, std=0.2)),
            Population("cells", 5, LIF()),
        ),
        (
            Projection("input", "cells", Uniform(0.2, 0.9), delay=3, name="wire", rule=hebb),
            Projection("noise", "cells", 0.5, port="current"),
            Projection("cells", "cells", Normal(0.0, 0.2), FixedProbability(0.5), delay=Uniform(1, 5)),
        ),
    )
    probes = (Probe("cells", "v"), Probe("cells", "spike"), Probe("wire", "weight"), Probe("wire", "eligibility"))
    simulator, whole, recording = simulate(net, Phase("p", 100), probes, batch=2, replicas=2, seed=seed)
    state, rows = simulator.init(2), []
    edges = [0, *sorted(cuts), 100]
    for first, last in itertools.pairwise(edges):
        state, part = simulator.run(state, Phase("p", last - first), probes)
        rows.append(part)
    assert state.clock == whole.clock == 100
    for key in recording:
        np.testing.assert_array_equal(np.concatenate([part[key] for part in rows]), recording[key])
    assert recording["cells.spike"].any()


@SMALL
@given(seed=seeds)
def test_noise_belongs_to_the_sample(seed):
    """`samples` address the noise: a row has the same noise wherever it stands in the batch."""
    net = Network((Population("source", 6, PoissonSource(300.0)),), ())
    ids = np.random.default_rng(seed).permutation(50)[:4]
    probes = (Probe("source", "spike"),)
    batch = simulate(net, Phase("p", 30, samples=ids), probes, batch=4, seed=seed)[2]["source.spike"]
    for row, sample in enumerate(ids):
        alone = simulate(net, Phase("p", 30, samples=[sample]), probes, seed=seed)[2]["source.spike"]
        np.testing.assert_array_equal(alone[:, 0], batch[:, row])
