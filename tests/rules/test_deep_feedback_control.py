"""Deep feedback control: its equations step by step in NumPy, the analytic steady state, sleep, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from plain import BATCH, DT, LAYERS, REPLICAS, TAU_MEM, as_phase, as_trial, described, error, shown

from neurosim.backends import compile
from neurosim.network import Layered, Population
from neurosim.neuron import LeakyRate, StaticRate
from neurosim.phase import Held, Phase, staged
from neurosim.recorder import Probe
from neurosim.rules.deep_feedback_control import DeepFeedbackControl
from neurosim.rules.delta import Delta
from neurosim.scheme import PerLayer
from neurosim.types import ConfigurationError

HIDDEN = ("hidden0", "hidden1")
POPULATIONS = (*HIDDEN, "output")
FEEDBACK = tuple(f"control_{name}_apical" for name in HIDDEN)
NOISE = tuple(f"noise_{name}" for name in HIDDEN)
PLAIN = {"optimizer": "none", "lr": 0.5, "lr_feedback": 0.3, "sleep_steps": 4, "control_steps": 6, "scale": 0.6}


@dataclass
class Controller:
    """c += dt / tau (e - leak x), u = c + k_p e; x the old c, or the old u."""

    scheme: DeepFeedbackControl
    leak: float
    gain: float
    c: np.ndarray | float = 0.0
    u: np.ndarray | float = 0.0

    def __call__(self, e):
        x = self.c if self.scheme.leak_of == "integral" else self.u
        self.c = self.c + DT / self.scheme.tau_control * (e - self.leak * x)
        self.u = self.c + self.gain * e
        return self.u


@dataclass
class ByHand:
    """The equations of the module for one replica: units, controller, learning; one call is one step of a stage."""

    scheme: DeepFeedbackControl
    kind: str
    norm: bool
    w: list
    b: list
    q: list
    v: list = field(default_factory=lambda: [0.0] * 3)
    apical: list = field(default_factory=lambda: [0.0] * 3)
    sent: np.ndarray = field(default_factory=lambda: np.zeros((BATCH, 3)))
    e: np.ndarray = field(default_factory=lambda: np.zeros((BATCH, 3)))
    held: tuple = (0.0, 0.0)

    def __post_init__(self):
        self.awake = Controller(self.scheme, self.scheme.leak, self.scheme.proportional)
        self.asleep = Controller(self.scheme, self.scheme.sleep_leak, self.scheme.sleep_proportional)
        self.keep = 0.0 if self.kind == "static" else np.exp(-DT / TAU_MEM)
        self.keep_apical = np.exp(-DT / self.scheme.tau_apical) if self.scheme.tau_apical else 0.0

    def step(self, stage, x, y, noise):
        """Changes of the forward weights, and of the feedback weights."""
        nothing = np.zeros_like(self.e)
        u = self.awake(self.e if stage == "control" else nothing)
        u_asleep = self.asleep(self.e if stage == "sleep" else nothing)
        now = {"free": nothing, "sleep": u_asleep, "control": u}[stage]
        arriving = self.sent if self.scheme.delay is None else now
        self.sent = now
        below, forward, feedback = x, [], []
        for layer in range(3):
            basal = below @ self.w[layer].T + self.b[layer]
            reached = 0.0 if stage == "free" else arriving @ self.q[layer].T
            if stage == "sleep" and layer < 2:
                reached = reached + noise[layer]
            self.apical[layer] = self.keep_apical * self.apical[layer] + (1 - self.keep_apical) * reached
            self.v[layer] = self.keep * self.v[layer] + (1 - self.keep) * (basal + self.apical[layer])
            activation = np.tanh if layer < 2 else lambda value: value
            rate = activation(self.v[layer])
            added = rate - activation(basal)
            forward.append((added.T @ below / BATCH, added.mean(0)))
            feedback.append(-(self.apical[layer] * np.ones((BATCH, 1))).T @ arriving / BATCH / self.scheme.sigma**2)
            below = rate
            if self.norm and layer < 2:
                below = (rate - rate.mean(-1, keepdims=True)) / np.sqrt(rate.var(-1, keepdims=True) + 1e-6)
        self._compare(stage, below, error(below, y, self.scheme.loss))
        return forward, feedback[:2]

    def _compare(self, stage, output, wrong):
        if stage == "free":
            self.held = output, wrong
        weak, sleeps = self.scheme.stepsize is not None, bool(self.scheme.sleep_steps)
        back = self.held[0] - output if weak or stage != "control" else 0.0
        said = stage == "control" or (stage == "free" and not sleeps)
        self.e = back + said * (self.scheme.stepsize * self.held[1] if weak else wrong)

    def presentation(self, one, noise):
        """All stages of a trial, with the updates at their ends; `noise` by step."""
        stages = [("free", one.steps), ("sleep", self.scheme.sleep_steps), ("control", self.scheme.control_steps)]
        start = 0
        for stage, steps in stages:
            seen = [self.step(stage, one.x, one.y, noise[start + k]) for k in range(steps)]
            start += steps
            if stage == "control":
                kept = seen if self.scheme.accumulate == "mean" else seen[-1:]
                for layer in range(3):
                    self.w[layer] = self.w[layer] + self.scheme.lr * np.mean([f[layer][0] for f, _ in kept], 0)
                    self.b[layer] = self.b[layer] + self.scheme.lr * np.mean([f[layer][1] for f, _ in kept], 0)
            if stage == "sleep" and steps:
                for layer in range(2):
                    mean = np.mean([q[layer] for _, q in seen], 0)
                    step = self.scheme.lr_feedback * (mean - self.scheme.decay_feedback * self.q[layer])
                    self.q[layer] = self.q[layer] + step


def numbers(state, replica):
    """(w, b, q) of a state."""
    w, b = ([state.learned[part][name][replica].numpy() for name in LAYERS] for part in ("weight", "bias"))
    return w, b, [*(state.learned["weight"][name][replica].numpy() for name in FEEDBACK), np.eye(3)]


@pytest.mark.parametrize(
    ("kind", "norm", "options"),
    [
        ("leaky", False, {}),
        ("static", False, {"stepsize": 0.3, "proportional": 0.2}),
        ("leaky", True, {"accumulate": "last", "lr_feedback": 1e-3}),
        ("leaky", False, {"stepsize": None, "tau_apical": 2.0}),
        ("leaky", False, {"loss": "mse", "leak_of": "control", "leak": 0.4}),
        ("leaky", False, {"loss": "mse", "stepsize": None, "sleep_leak": 0.2, "sleep_proportional": 1.5}),
        ("leaky", False, {"delay": None, "decay_feedback": 0.5, "sigma": 0.2}),
        ("leaky", False, {"sleep_steps": 0}),
    ],
)
def test_every_step_is_that_of_the_paper(kind, norm, options):
    scheme = DeepFeedbackControl(**{**PLAIN, **options})
    network = scheme(described(kind, norm))
    simulator = compile(network, DT, replicas=REPLICAS, seed=3, dtype="float64")
    state = simulator.init(BATCH)
    hands = [ByHand(scheme, kind, norm, *numbers(state, replica)) for replica in range(REPLICAS)]
    first = [numbers(state, replica) for replica in range(REPLICAS)]
    probes = tuple(Probe(name, "rate") for name in NOISE if scheme.sleep_steps)
    for index in range(3):
        one = shown(index, steps=5)
        state, recording = simulator.run(state, as_trial(one, network), probes)
        for replica, hand in enumerate(hands):
            silence = np.zeros((50, 2))
            noise = list(zip(*(recording[probe.key][:, replica] for probe in probes), strict=True)) or silence
            hand.presentation(one, noise)
    for replica, hand in enumerate(hands):
        ours = numbers(state, replica)
        for mine, theirs, before, least in zip(ours, (hand.w, hand.b, hand.q), first[replica], (1, 1, 0), strict=True):
            for layer, (one, other) in enumerate(zip(mine, theirs, strict=True)):
                np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
                learns = bool(least) or (layer < 2 and scheme.sleep_steps > 0)
                assert (np.abs(one - before[layer]).max() > 1e-6) == learns


def jacobian(w, b, x):
    """d output / d (v_0, v_1, v_2) at the free point, side by side, for one x: tanh, tanh, linear."""
    first = np.tanh(w[0] @ x + b[0])
    second = np.tanh(w[1] @ first + b[1])
    upper = w[2] * (1 - second**2)
    return np.hstack([upper @ w[1] * (1 - first**2), upper, np.eye(len(w[2]))])


@pytest.mark.parametrize("leak_of", ["integral", "control"])
def test_the_controlled_network_ends_in_the_analytic_steady_state(leak_of):
    """u = (J Q + a 1)^-1 delta with Q = J^T, delta the change asked of the output, a = leak, or leak / (1 + leak k_p)
    where c leaks: exact for a linear network, and to 1e-3 of u for small delta (Meulemans et al. 2021).
    """
    stepsize, leak, gain = 0.005, 1e-3, 2.0
    scheme = DeepFeedbackControl(
        sleep_steps=0, stepsize=stepsize, leak=leak, proportional=gain, leak_of=leak_of, tau_control=1.0, loss="mse"
    )
    layered = Layered(LeakyRate(0.2, "tanh", "euler"), LeakyRate(0.2, "linear", "euler"), (8, 5))
    network = scheme(layered(6, 3))
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=6), generator.normal(size=3)
    simulator = compile(network, 0.02, seed=1, dtype="float64")
    start = simulator.init(1)
    w, b = ([start.learned[part][name][0].numpy() for name in LAYERS] for part in ("weight", "bias"))
    j = jacobian(w, b, x)
    back = dict(zip(FEEDBACK, (j.T[:8], j.T[8:13]), strict=True))
    network = network.with_projections(lambda p: replace(p, weight=back.get(p.name, p.weight)))
    simulator = compile(network, 0.02, seed=1, dtype="float64")
    phase = Phase("train", 600, {"input": Held(x[None]), "target": Held(y[None])})
    trial = zip(network.trial, (600, 6000), strict=True)
    free, control = (staged(stage, replace(phase, steps=steps)) for stage, steps in trial)
    probes = (Probe("control", "rate"), Probe("output", "rate"), *(Probe(name, "v_apical") for name in POPULATIONS))
    _, recording = simulator.run(simulator.init(1), (free, replace(control, learn=False)), probes)
    u, output = recording["control.rate"][-1, 0], recording["output.rate"][:, 0]
    delta = stepsize * (y - output[599])
    a = leak / (1 + leak * gain) if leak_of == "integral" else leak
    expected = np.linalg.solve(j @ j.T + a * np.eye(3), delta)
    assert np.linalg.norm(u - expected) < 1e-3 * np.linalg.norm(expected)
    added = np.concatenate([recording[f"{name}.v_apical"][-1, 0] for name in POPULATIONS])
    assert np.linalg.norm(added - j.T @ expected) < 1e-3 * np.linalg.norm(j.T @ expected)
    assert np.abs(output[-1] - output[599] - delta).max() < 1e-2 * np.abs(delta).max()  # the target is reached
    apart = np.linalg.solve(j @ j.T + 0.05 * np.eye(3), delta)  # the tolerance tells leaks apart
    assert np.linalg.norm(u - apart) > 1e-2 * np.linalg.norm(expected)


def angle(one, other):
    """Angle of two matrices as vectors, in degrees."""
    return np.degrees(np.arccos((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)))


def test_sleep_turns_the_feedback_to_the_transposed_jacobian():
    """One input, so that there is one Jacobian; forward weights rest."""
    scheme = DeepFeedbackControl(lr=0.0, optimizer="none", lr_feedback=0.2, sleep_steps=20, control_steps=1, scale=0.3)
    network = scheme(Layered(LeakyRate(1.0, "tanh"), LeakyRate(1.0, "linear"), (8, 5))(4, 3))
    simulator = compile(network, DT, seed=5, dtype="float64")
    state = simulator.init(30)
    x = np.random.default_rng(0).normal(size=4)
    w, b = ([state.learned[part][name][0].numpy() for name in LAYERS] for part in ("weight", "bias"))
    j = jacobian(w, b, x)
    transposed = (j.T[:8], j.T[8:13])

    def angles():
        return [
            angle(state.learned["weight"][name][0].numpy(), j) for name, j in zip(FEEDBACK, transposed, strict=True)
        ]

    def within():
        """The part of Q that lies in the row space of J: 1 where feedback can do nothing that is lost on the output."""
        q = np.vstack([*(state.learned["weight"][name][0].numpy() for name in FEEDBACK), np.eye(3)])
        return np.linalg.norm(np.linalg.pinv(j) @ (j @ q)) / np.linalg.norm(q)

    before, part = angles(), within()
    shown_x = np.tile(x, (30, 1))
    for index in range(60):
        phase = Phase("train", 12, {"input": Held(shown_x), "target": Held(np.zeros((30, 3)))})
        phase = replace(phase, samples=torch.arange(30) + 30 * index)
        trial = [staged(stage, replace(phase, steps=stage.steps or 12)) for stage in network.trial]
        state, _ = simulator.run(simulator.fresh(state), trial)
    assert all(start > 60 for start in before), before
    assert all(end < 30 for end in angles()), (before, angles())
    assert within() > 0.97 > part + 0.05, (part, within())


def test_noise_is_for_sleep_alone_and_control_for_training():
    """In the stages "free" and "test" the network is the one without a controller, whatever happened before."""
    scheme = DeepFeedbackControl(**PLAIN)
    network, bare = scheme(described("leaky")), described("leaky")
    simulator, plain = (compile(one, DT, seed=3, dtype="float64") for one in (network, bare))
    probes = tuple(Probe(name, "rate") for name in POPULATIONS)
    state, _ = simulator.run(simulator.init(BATCH), as_trial(shown(0), network))
    phase = as_phase(shown(1), network)
    _, recording = simulator.run(simulator.fresh(state), staged(network.test, phase), probes)
    _, expected = plain.run(plain.init(BATCH, state.learned), as_phase(shown(1), bare), probes)
    for probe in probes:
        np.testing.assert_array_equal(recording[probe.key], expected[probe.key])
    _, controlled = simulator.run(simulator.fresh(state), phase, probes)
    assert np.abs(controlled["output.rate"] - expected["output.rate"]).max() > 1e-3


def test_other_rules_learn_while_the_network_is_free():
    scheme = PerLayer((DeepFeedbackControl(**PLAIN), Delta(lr=0.1, optimizer="none", when="phase")))
    network = scheme(described("leaky"))
    free, sleep, control = network.trial
    assert (free.learn, sleep.learn, control.learn) == (LAYERS[2:], FEEDBACK, LAYERS[:2])
    simulator = compile(network, DT, seed=3, dtype="float64")
    start = simulator.init(BATCH)
    state, _ = simulator.run(start, as_trial(shown(0), network))
    for name in (*LAYERS, *FEEDBACK):
        assert not torch.equal(state.learned["weight"][name], start.learned["weight"][name]), name


def test_it_learns_exclusive_or():
    """Four corners, three networks: wrong before, right after, with less control than at the start."""
    layered = Layered(StaticRate("tanh"), StaticRate("linear"), (8, 4))
    network = DeepFeedbackControl(lr=1e-2, proportional=0.3)(layered(2, 2))
    simulator = compile(network, DT, replicas=3, seed=4)
    state = simulator.init(4)
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
    y = np.eye(2)[[0, 1, 1, 0]]

    def right():
        phase = staged(network.test, Phase("test", 2, {"input": Held(x), "target": Held(y)}))
        _, recording = simulator.run(simulator.fresh(state), phase, (Probe("output", "rate"),))
        return (recording["output.rate"][-1].argmax(-1) == y.argmax(-1)).mean(-1)

    before, control = right(), []
    for index in range(150):
        phase = Phase("train", 2, {"input": Held(x), "target": Held(y)}, samples=torch.arange(4) + 4 * index)
        trial = [staged(stage, replace(phase, steps=stage.steps or 2)) for stage in network.trial]
        state, recording = simulator.run(simulator.fresh(state), trial, (Probe("control", "rate"),))
        control.append(np.linalg.norm(recording["control.rate"][-1], axis=(-2, -1)))
    assert (before < 1).all()
    assert (right() == 1).all()
    assert (control[-1] < 0.5 * control[0]).all()


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({}, "spiking", "compares rates, but population 'hidden0' sends spikes"),
        ({"control_steps": 0}, "leaky", "control_steps is 0; it must be a whole number >= 1"),
        ({"sleep_steps": -1}, "leaky", "sleep_steps is -1; it must be a whole number >= 0"),
        ({"stepsize": 0.0}, "leaky", "stepsize is 0.0"),
        ({"tau_control": 0.0}, "leaky", "tau_control"),
        ({"leak": -0.1}, "leaky", "leak of the controller"),
        ({"sigma": 0.0}, "leaky", "sigma"),
        ({"accumulate": "median"}, "leaky", "accumulate"),
        ({"loss": "hinge"}, "leaky", "loss"),
    ],
)
def test_what_it_refuses(options, kind, message):
    with pytest.raises(ConfigurationError, match=message):
        DeepFeedbackControl(**options)(described(kind))


def test_units_that_send_something_else_are_named():
    network = described("leaky")
    other = replace(
        network,
        populations=tuple(
            Population(one.name, one.size, StaticRate("tanh")) if one.name == "hidden0" else one
            for one in network.populations
        ),
    )
    assert DeepFeedbackControl()(other)["hidden0"].neuron.constants(DT)[0] == 0.0
    voltages = network.with_projections(lambda p: replace(p, output="v") if p.name == LAYERS[1] else p)
    with pytest.raises(ConfigurationError, match="projection 'hidden0_hidden1' carries 'v'"):
        DeepFeedbackControl()(voltages)
