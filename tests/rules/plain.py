"""The networks of the rule tests, twice: as descriptions, and in plain NumPy float64, one step at a time.

A rule's test writes the paper's equation for the step's values (`Step`) and lets `learn` apply it; `train` does the
same with the rule under test. Two replicas are compared one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from nets import normal

from neurosim.backends import compile
from neurosim.backends.simulator import State
from neurosim.connectivity import Conv2d, Dense
from neurosim.lateral import LayerNorm
from neurosim.network import Layered, Network, Population, Projection
from neurosim.neuron import LIF, LeakyRate, Relay, StaticRate
from neurosim.phase import Held, Phase, staged
from neurosim.random import Normal
from neurosim.surrogate import FastSigmoid
from neurosim.types import Array
from neurosim.wiring import TARGET

BATCH, REPLICAS, DT = 3, 2, 1.0
INPUTS, HIDDEN, OUTPUTS = 4, (6, 5), 3
LAYERS = ("input_hidden0", "hidden0_hidden1", "hidden1_output")
POPULATIONS = ("input", "hidden0", "hidden1", "output")
TAU_MEM, V_TH, SLOPE, EPSILON = 4.0, 0.3, 5.0, 1e-6

Change = list[tuple[Array, Array] | None]  # per layer: (dw, db), before the learning rate; None: not taught


@dataclass(frozen=True)
class Shown:
    """One presentation: input, one-hot label, number of steps."""

    x: Array
    y: Array
    steps: int = 3


def shown(index: int, steps: int = 3, batch: int = BATCH) -> Shown:
    """The `index`-th batch of inputs and labels."""
    labels = np.random.default_rng(index).integers(OUTPUTS, size=batch)
    return Shown(normal(batch, INPUTS, seed=index), np.eye(OUTPUTS)[labels], steps)


def described(kind: str, norm: bool = False, hidden: tuple[int, ...] = HIDDEN) -> Network:
    """The network `kind` "static" (tanh), "leaky" (tanh) or "spiking", 4 - 6 - 5 - 3 with biases.

    "convolution": tanh, 1 x 2 x 2 - 2 x 3 x 3 - 2 x 2 x 2 - 3, for what is about shared weights only.
    """
    if kind == "convolution":
        return _convolutional()
    output: Any = LeakyRate(TAU_MEM, "linear")
    if kind == "static":
        neuron, output = StaticRate("tanh"), StaticRate("linear")
    elif kind == "leaky":
        neuron = LeakyRate(TAU_MEM, "tanh")
    else:
        neuron = LIF(TAU_MEM, V_TH, reset="subtract", arrival="filtered", surrogate=FastSigmoid(SLOPE))
    layered = Layered(neuron, output, hidden, lateral=LayerNorm(EPSILON) if norm else None, weight=Normal(0.0, 0.8))
    return layered(INPUTS, OUTPUTS)


def _convolutional() -> Network:
    sizes = dict(zip(POPULATIONS, ((1, 2, 2), (2, 3, 3), (2, 2, 2), 3), strict=True))
    neurons = (Relay(), StaticRate("tanh"), StaticRate("tanh"), StaticRate("linear"))
    kinds = (Conv2d(2, padding=1), Conv2d(2), Dense())
    wires = zip(LAYERS, POPULATIONS[:-1], POPULATIONS[1:], kinds, strict=True)
    return Network(
        tuple(Population(name, sizes[name], neuron) for name, neuron in zip(POPULATIONS, neurons, strict=True)),
        tuple(
            Projection(pre, post, Normal(0.0, 0.8), kind, delay=0, bias=True, name=name)
            for name, pre, post, kind in wires
        ),
    )


def as_phase(one: Shown, network: Network, signals: Mapping[str, Array] | None = None) -> Phase:
    drive = {"input": Held(one.x), **({TARGET: Held(one.y)} if network.has(TARGET) else {})}
    return Phase("train", one.steps, drive, {"input": one.x, "label": one.y, **(signals or {})})


def as_trial(one: Shown, network: Network, signals: Mapping[str, Array] | None = None) -> tuple[Phase, ...]:
    """A presentation in the stages of the network's trial."""
    return tuple(
        staged(stage, as_phase(replace(one, steps=stage.steps or one.steps), network, signals))
        for stage in network.trial
    )


def train(
    network: Network, trials: Sequence[Sequence[Shown]], signals: Mapping[str, Array] | None = None
) -> tuple[State, State]:
    """(start, end) of a network whose rules are attached, over trials of presentations; activity is carried over.

    `signals` are broadcast besides the input and the label.
    """
    simulator = compile(network, DT, replicas=REPLICAS, seed=3, dtype="float64")
    start = state = simulator.init(len(trials[0][0].x))
    for trial in trials:
        state, _ = simulator.run(state, [phase for one in trial for phase in as_trial(one, network, signals)])
    return start, state


@dataclass
class Step:
    """What a time step leaves at layer l: what arrives, post activity (behind the norm), slopes, scales of the norm."""

    pre: list[Array]
    post: list[Array]
    slopes: list[Array]
    scales: list[Array]
    free: list[Array]  # potentials before the reset
    one: list[Any]  # what a bias, a synapse from a neuron that always sends 1, brings: 1, or its trace

    @property
    def output(self) -> Array:
        return self.post[-1]


@dataclass
class Plain:
    """A layered network: v <- l v + (1 - l) (W h + b), h = f(v), l = 0 where there is no memory."""

    kind: str
    weights: list[Array]
    biases: list[Array]
    norm: bool = False
    tau_trace: float | None = None
    v: list[Any] = field(default_factory=list)
    traces: list[Any] = field(default_factory=list)
    one: float = 0.0

    def __post_init__(self) -> None:
        self.leak = 0.0 if self.kind == "static" else np.exp(-DT / TAU_MEM)
        self.v = [0.0] * len(self.weights)
        self.traces = [0.0] * len(self.weights)

    def step(self, x: Array) -> Step:
        self._age()
        sent, step = x, Step([x], [], [], [], [], [1.0])
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            v = self.leak * self.v[layer] + (1 - self.leak) * (sent @ weight.T + bias)
            step.free.append(v)
            sent, derivative, self.v[layer] = self._fire(v, hidden=layer < len(self.weights) - 1)
            step.slopes.append((1 - self.leak) * derivative)
            step.scales.append(1 / np.sqrt(sent.var(-1, keepdims=True) + EPSILON))
            if self.norm and layer < len(self.weights) - 1:
                sent = (sent - sent.mean(-1, keepdims=True)) * step.scales[-1]
            step.post.append(self._trace(layer, sent))
            step.pre.append(step.post[-1])
            step.one.append(self.one if step.post[-1] is self.traces[layer] else 1.0)
        return step

    def _age(self) -> None:
        if self.tau_trace is not None:
            self.one += (1 - np.exp(-DT / self.tau_trace)) * (1 - self.one)

    def _fire(self, v: Array, hidden: bool) -> tuple[Array, Array, Array]:
        """Activity, its derivative and the potential that stays."""
        if not hidden:
            return v, np.ones_like(v), v
        if self.kind != "spiking":
            return np.tanh(v), 1 - np.tanh(v) ** 2, v
        spike = (v >= V_TH).astype(float)
        return spike, 1 / (SLOPE * np.abs(v - V_TH) + 1) ** 2, v - V_TH * spike

    def _trace(self, layer: int, sent: Array) -> Array:
        """The low-pass trace of a hidden layer's spikes; anything else as it is."""
        if self.kind != "spiking" or self.tau_trace is None or layer == len(self.weights) - 1:
            return sent
        decay = np.exp(-DT / self.tau_trace)
        self.traces[layer] = decay * self.traces[layer] + (1 - decay) * sent
        return self.traces[layer]

    def pull_back(self, step: Step, layer: int, g: Array) -> Array:
        """A cotangent of a layer's activity, in front of its layer norm (hidden layers only) and behind its slope."""
        if self.norm and layer < len(self.weights) - 1:
            h = step.post[layer]
            g = (g - g.mean(-1, keepdims=True) - h * (g * h).mean(-1, keepdims=True)) * step.scales[layer]
        return g * step.slopes[layer]


def plain(kind: str, state: State, replica: int, **more: Any) -> Plain:
    """The NumPy network with the weights of one replica of a state."""
    weights, biases = (
        [state.learned[part][name][replica].numpy().copy() for name in LAYERS] for part in ("weight", "bias")
    )
    return Plain(kind, weights, biases, **more)


def error(output: Array, y: Array, loss: str) -> Array:
    """Minus the derivative of the loss: label - softmax(output), or label - output."""
    if loss == "mse":
        return y - output
    raised = np.exp(output - output.max(-1, keepdims=True))
    return y - raised / raised.sum(-1, keepdims=True)


def outer(delta: Array, step: Step, layer: int) -> tuple[Array, Array]:
    """Mean over the batch of delta_i pre_j, and of delta_i times what a bias brings."""
    return delta.T @ step.pre[layer] / len(delta), delta.mean(0) * step.one[layer]


class Optimizer:
    """none: lr g; momentum: v <- beta1 v + g, lr v; adam, adamw (Kingma, Ba 2015; Loshchilov, Hutter 2019)."""

    def __init__(
        self,
        name: str = "none",
        lr: float = 0.1,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
        decay: float = 0.0,
    ):
        self.decay = decay  # of the weight with every update, whatever the rate
        self.name, self.lr, self.beta1, self.beta2 = name, lr, beta1, beta2
        self.weight_decay = weight_decay if name == "adamw" else 0.0
        self.memory: dict[Any, list[Array]] = {}

    def __call__(self, key: Any, g: Array, w: Array) -> Array:
        return self._descend(key, g, w) - self.decay * w

    def _descend(self, key: Any, g: Array, w: Array) -> Array:
        first, second, count = self.memory.get(key, [np.zeros_like(g), np.zeros_like(g), 0])
        if self.name == "none":
            return self.lr * g
        if self.name == "momentum":
            self.memory[key] = [self.beta1 * first + g, second, count]
            return self.lr * self.memory[key][0]
        first = self.beta1 * first + (1 - self.beta1) * g
        second = self.beta2 * second + (1 - self.beta2) * g**2
        self.memory[key] = [first, second, count + 1]
        unbiased = first / (1 - self.beta1 ** (count + 1)), second / (1 - self.beta2 ** (count + 1))
        return self.lr * (unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8) - self.weight_decay * w)


def learn(
    net: Plain,
    trials: Sequence[Sequence[Shown]],
    change: Callable[[Plain, Step, Array], Change],
    optimizers: Sequence[Optimizer],
    when: str = "step",
    accumulate: str = "sum",
) -> None:
    """Train `net` in place; `optimizers` holds one for each layer."""

    def update(gathered: list[Change]) -> None:
        for layer in range(len(net.weights)):
            taught = [step[layer] for step in gathered if step[layer] is not None]
            if not taught:
                continue
            scale = 1 / len(taught) if accumulate == "mean" and when != "step" else 1.0
            for part, values in enumerate((net.weights, net.biases)):
                total = scale * sum(pair[part] for pair in taught)
                values[layer] = values[layer] + optimizers[layer]((layer, part), total, values[layer])

    for trial in trials:
        gathered: list[Change] = []
        for one in trial:
            for step in range(one.steps):
                now = change(net, net.step(one.x), one.y)
                if when == "step":
                    update([now])
                elif accumulate != "last" or step == one.steps - 1:
                    gathered.append(now)
            if when == "phase":
                update(gathered)
                gathered = []
        if when == "sample":
            update(gathered)


def agree(
    state: State, replica: int, net: Plain, start: State, taught: Sequence[str] = LAYERS, atol: float = 1e-13
) -> None:
    """The state's weights are those of `net`; those of `taught` have moved, the others have not."""
    for layer, name in enumerate(LAYERS):
        for part, values in (("weight", net.weights), ("bias", net.biases)):
            ours, before = (s.learned[part][name][replica].numpy() for s in (state, start))
            np.testing.assert_allclose(ours, values[layer], rtol=0, atol=atol, err_msg=f"{part} of {name}")
            assert (np.abs(ours - before).max() > 1e-6) == (name in taught), f"{part} of {name}"
