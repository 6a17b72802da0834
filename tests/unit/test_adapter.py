"""Encoders and decoders against their equations; every parameter at a second value that changes the result."""

import math
from dataclasses import fields

import pytest
import torch

from neurosim.adapter import Count, Hold, Last, Latency, Mean, MeanRate, Poisson
from neurosim.phase import Held
from neurosim.random import Stream
from neurosim.types import ConfigurationError

STREAM = Stream(3, "encoder")


def encode(encoder, x, steps=50, dt=0.5, replicas=1, samples=None, start=0, stream=STREAM):
    ids = range(x.shape[-2]) if samples is None else samples
    return encoder(x, steps, dt, stream, torch.arange(replicas), torch.tensor(list(ids)), start)


X = torch.linspace(0.05, 1.0, 20, dtype=torch.float64).reshape(2, 10)


def test_hold():
    for x in (X, torch.stack([X, 2 * X])):
        drive = encode(Hold(2.0, -1.0), x, replicas=2)
        assert isinstance(drive, Held)
        assert torch.equal(drive.x, 2 * x - 1)
    assert torch.equal(encode(Hold(), X).x, X)


def test_poisson_equation_at_every_address():
    encoder = Poisson(max_rate=400.0, min_rate=40.0, low=-1.0, high=1.0)
    raster = encode(encoder, X, steps=30, replicas=3, samples=(8, 5), start=7)
    assert raster.shape == (30, 3, 2, 10)
    assert raster.dtype == X.dtype
    for step, replica, row, neuron in ((0, 0, 0, 0), (3, 2, 1, 9), (29, 1, 0, 4), (11, 1, 1, 6)):
        rate = 40 + 360 * (float(X[row, neuron]) + 1) / 2
        uniform = STREAM.uniform(replica=replica, sample=(8, 5)[row], step=7 + step, element=neuron)
        assert bool(raster[step, replica, row, neuron]) == bool(uniform < rate * 0.5 / 1000)
    draws = STREAM.uniform(step=torch.arange(7, 37)[:, None], sample=8, element=torch.arange(10))
    probability = (40 + 360 * (X[0] + 1) / 2) * 0.0005
    assert torch.equal(raster[:, 0, 0], (draws < probability).double())


def test_poisson_rate():
    """10**6 steps at p = 0.02: within five standard errors."""
    x = torch.full((10, 100), 0.5, dtype=torch.float64)
    raster = encode(Poisson(max_rate=80.0), x, steps=1000)
    p = 0.02
    assert float(raster.mean()) == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 10**6))


def test_poisson_extremes_and_dtype():
    x = torch.tensor([[0.0, 1.0]], dtype=torch.float32)
    raster = encode(Poisson(max_rate=2000.0), x, steps=100)
    assert raster.dtype == torch.float32
    assert raster[..., 0].sum() == 0
    assert raster[..., 1].sum() == 100


def test_poisson_does_not_depend_on_the_split():
    encoder = Poisson(max_rate=500.0)
    whole = encode(encoder, X, steps=40, replicas=2)
    assert torch.equal(whole[:, :, 1:], encode(encoder, X[1:], steps=40, replicas=2, samples=[1]))
    chunks = [encode(encoder, X, steps=n, replicas=2, start=start) for n, start in ((15, 0), (25, 15))]
    assert torch.equal(whole, torch.cat(chunks))
    assert torch.equal(whole, encode(encoder, torch.stack([X, X]), steps=40, replicas=2))
    assert torch.equal(whole[:, :1], encode(encoder, X, steps=40))
    assert not torch.equal(whole[:, 0], whole[:, 1])
    assert not torch.equal(whole, encode(encoder, X, steps=40, replicas=2, samples=[2, 3]))
    assert not torch.equal(whole, encode(encoder, X, steps=40, replicas=2, stream=Stream(4, "encoder")))


def test_latency_linear_and_log_times():
    x = torch.tensor([[1.0, 0.5, 0.2, 0.1, 0.0]], dtype=torch.float64)
    times = Latency(t_min=2.0, t_max=12.0, threshold=0.1).times(x)
    assert times[0].tolist() == pytest.approx([2.0, 2 + 10 * 0.5 / 0.9, 2 + 10 * 0.8 / 0.9, math.inf, math.inf])
    times = Latency(t_min=2.0, t_max=12.0, threshold=0.1, mode="log").times(x)
    expected = [2.0, 2 + 10 * math.log10(2), 2 + 10 * math.log10(5), math.inf, math.inf]
    assert times[0].tolist() == pytest.approx(expected)
    assert Latency(high=2.0, threshold=1.0, t_max=10.0).times(torch.tensor([1.5])).item() == pytest.approx(5.0)


def test_latency_raster():
    x = torch.tensor([[1.0, 0.75, 0.5, 0.0], [0.0, 0.0, 0.0, 0.01]], dtype=torch.float64)
    raster = encode(Latency(t_max=10.0), x, steps=20, dt=0.5, replicas=3)
    assert raster.shape == (20, 3, 2, 4)
    # t = 0, 2.5, 5 ms and none; step k ends at (k + 1) dt
    assert raster[:, 2].nonzero().tolist() == [[0, 0, 0], [4, 0, 1], [9, 0, 2], [19, 1, 3]]
    assert torch.equal(raster, encode(Latency(t_max=10.0), torch.stack([x] * 3), steps=20, dt=0.5, replicas=3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_latency_at_multiples_of_dt(dtype):
    """3 * 0.1 / 0.1 is a bit more than 3: rounding must not move a spike by a step."""
    for k in range(1, 300):
        raster = encode(Latency(t_min=k * 0.1, t_max=31.0), torch.ones(1, 1, dtype=dtype), steps=310, dt=0.1)
        assert raster.dtype == dtype
        assert raster.nonzero()[:, 0].tolist() == [k - 1]
        half = encode(Latency(t_max=k * 0.2), torch.full((1, 1), 0.5, dtype=dtype), steps=600, dt=0.1)
        assert half.nonzero()[:, 0].tolist() == [k - 1]


CHANGES = {
    Hold: {"scale": 3.0, "offset": 0.25},
    Poisson: {"max_rate": 300.0, "min_rate": 50.0, "low": -3.0, "high": 2.0, "outside": "clip"},
    Latency: {"t_min": 5.0, "t_max": 10.0, "threshold": 0.3, "high": 3.0, "mode": "log", "outside": "clip"},
    Mean: {"last": 2},
    Count: {"last": 2},
    MeanRate: {"last": 2},
    Last: {},
}


def test_the_table_of_changes_is_complete():
    for kind, changes in CHANGES.items():
        assert {one.name for one in fields(kind)} == set(changes)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(kind, name, value) for kind in (Hold, Poisson, Latency) for name, value in CHANGES[kind].items()],
)
def test_every_encoder_parameter_changes_the_drive(kind, name, value):
    base = {"threshold": 0.1} if kind is Latency and name == "mode" else {}
    if name == "outside":
        with pytest.raises(ConfigurationError, match=r"outside=clip"):
            encode(kind(), 2 * X)
        assert torch.equal(encode(kind(outside=value), 2 * X), encode(kind(), (2 * X).clamp(max=1)))
        return
    drives = [encode(kind(**base, **change), X, steps=100) for change in ({}, {name: value})]
    before, after = (drive.x if isinstance(drive, Held) else drive for drive in drives)
    assert not torch.equal(before, after)


def test_values_outside_are_named():
    with pytest.raises(ConfigurationError, match=r"Poisson got values from -0.95 to 0; allowed: 0 to 1 \(low, high\)"):
        encode(Poisson(), X - 1)
    assert torch.equal(encode(Poisson(outside="clip"), X - 1), torch.zeros(50, 1, 2, 10, dtype=torch.float64))
    with pytest.raises(ConfigurationError, match="Latency got values from nan to nan"):
        encode(Latency(), X * float("nan"))


REFUSED = [
    (Poisson, {"max_rate": 0.0}, "Poisson max_rate is 0"),
    (Poisson, {"min_rate": -1.0}, "Poisson min_rate is -1"),
    (Poisson, {"low": 1.0}, "Poisson has low 1.0 and high 1.0"),
    (Poisson, {"high": math.inf}, "Poisson has low 0.0 and high inf"),
    (Poisson, {"outside": "wrap"}, "Poisson outside is 'wrap'; allowed: error, clip"),
    (Latency, {"t_min": 20.0}, "Latency has t_min 20.0, t_max 20.0 ms; allowed: 0 <= t_min < t_max"),
    (Latency, {"t_min": -1.0}, "Latency has t_min -1.0"),
    (Latency, {"t_max": math.inf}, "Latency has t_min 0.0, t_max inf"),
    (Latency, {"threshold": 1.0}, "Latency .* has low 1.0 and high 1.0"),
    (Latency, {"mode": "exp"}, "Latency mode is 'exp'; allowed: linear, log"),
    (Latency, {"mode": "log"}, "Latency with mode log has threshold 0.0; it must be > 0"),
    (Latency, {"outside": "wrap"}, "Latency outside is 'wrap'"),
    (Mean, {"last": 0}, "Mean has last 0; it must be an integer >= 1, or null"),
    (Count, {"last": 1.5}, "Count has last 1.5"),
    (MeanRate, {"last": True}, "MeanRate has last True"),
]


@pytest.mark.parametrize(("kind", "change", "sentence"), REFUSED)
def test_refused_with_one_sentence(kind, change, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        kind(**change)


def test_encoders_refuse_what_does_not_fit():
    with pytest.raises(ConfigurationError, match=r"rate 2001 Hz and dt = 0.5 ms .* a rate up to 2000 Hz"):
        encode(Poisson(max_rate=2001.0), X)
    with pytest.raises(ConfigurationError, match="rate 3000 Hz"):
        encode(Poisson(min_rate=3000.0), X)
    with pytest.raises(ConfigurationError, match=r"t_max 20.0 ms, but 39 steps of 0.5 ms end at 19.5 ms"):
        encode(Latency(), X, steps=39)
    for encoder in (Hold(), Poisson(), Latency()):
        with pytest.raises(ConfigurationError, match=r"x of shape \(2, 10\) with 1 replicas and 3 samples"):
            encode(encoder, X, samples=[1, 2, 3])
        with pytest.raises(ConfigurationError, match=r"x of shape \(2, 2, 10\) with 3 replicas and 2 samples"):
            encode(encoder, torch.stack([X, X]), replicas=3)


OUTPUT = torch.arange(24, dtype=torch.float64).reshape(4, 1, 2, 3) ** 2


@pytest.mark.parametrize(
    ("decoder", "expected"),
    [
        (Last(), OUTPUT[3]),
        (Mean(), (OUTPUT[0] + OUTPUT[1] + OUTPUT[2] + OUTPUT[3]) / 4),
        (Mean(2), (OUTPUT[2] + OUTPUT[3]) / 2),
        (Mean(4), (OUTPUT[0] + OUTPUT[1] + OUTPUT[2] + OUTPUT[3]) / 4),
        (Count(), OUTPUT[0] + OUTPUT[1] + OUTPUT[2] + OUTPUT[3]),
        (Count(3), OUTPUT[1] + OUTPUT[2] + OUTPUT[3]),
        (MeanRate(), (OUTPUT[0] + OUTPUT[1] + OUTPUT[2] + OUTPUT[3]) * 1000 / (4 * 0.5)),
        (MeanRate(1), OUTPUT[3] * 2000),
    ],
    ids=repr,
)
def test_decoders(decoder, expected):
    values = decoder(OUTPUT, 0.5)
    assert values.shape == (1, 2, 3)
    assert torch.allclose(values, expected, rtol=1e-14, atol=0)
    assert torch.equal(decoder(OUTPUT[:, 0], 0.5), values[0])
    assert torch.autograd.gradcheck(lambda output: decoder(output, 0.5), OUTPUT.clone().requires_grad_())


@pytest.mark.parametrize("kind", [Mean, Count, MeanRate])
def test_decoder_longer_than_the_output(kind):
    with pytest.raises(ConfigurationError, match="a decoder has last 5, but the output has 4 steps"):
        kind(5)(OUTPUT, 1.0)


@pytest.mark.parametrize("decoder", [Mean(), MeanRate(), Count()])
def test_the_gradient_of_all_steps_is_one_row(decoder):
    """Not an array as large as the output: 8 of 78 ms of a layer of 512 units were its pages."""
    output = torch.rand(6, 2, 3, dtype=torch.float64, requires_grad=True)
    found = []
    output.register_hook(found.append)
    decoder(output.expand(6, 2, 3), 0.5).sum().backward()
    (gradient,) = found
    assert gradient.stride(0) == 0
    assert torch.equal(decoder(output, 0.5), decoder(output.detach(), 0.5))
    scale = {Mean: 1 / 6, MeanRate: 1000 / 0.5 / 6, Count: 1.0}[type(decoder)]
    torch.testing.assert_close(gradient, torch.full_like(output, scale))
