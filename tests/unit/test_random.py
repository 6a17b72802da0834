"""Counter-based streams: known answers, independence of every way to split a draw, distributions."""

import math

import numpy as np
import pytest
import torch

from neurosim.random import (
    Constant,
    Distribution,
    Glorot,
    KaimingUniform,
    LecunNormal,
    LogNormal,
    Normal,
    Stream,
    Uniform,
    check_seed,
    grid,
    philox,
)
from neurosim.types import ConfigurationError

FULL = 0xFFFFFFFF

# Random123 (Salmon et al. 2011), kat_vectors, philox4x32 with 10 rounds: counter, key, answer.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((FULL, FULL, FULL, FULL), (FULL, FULL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_known_answers(counter, key, answer):
    words = philox(tuple(torch.tensor([word]) for word in counter), key)
    assert tuple(int(word) for word in words) == answer


def test_philox_broadcasts_to_the_same_words_as_full_counters():
    small = (torch.arange(5), torch.arange(3)[:, None], torch.tensor(7), torch.arange(2)[:, None, None])
    full = tuple(part.clone() for part in torch.broadcast_tensors(*small))
    for one, other in zip(philox(small, (1, 2)), philox(full, (1, 2)), strict=True):
        assert one.shape == (2, 3, 5)
        assert torch.equal(one, other)


def test_counter_and_key_layout():
    """The address layout is a promise to every backend: counter = (element, step, sample, replica)."""
    stream = Stream(5 + (9 << 32), "noise/hidden")
    words = stream.words(replica=1, sample=2, step=3, element=4)
    expected = philox(tuple(torch.tensor(word) for word in (4, 3, 2, 1)), stream.key)
    assert [int(word) for word in words] == [int(word) for word in expected]
    assert stream.key[0] == 5
    # `printf noise/hidden | b2sum -l 32` read as little endian: a changed hash would change every run
    assert Stream(0, "noise/hidden").key == (0, 0x416B5C7D)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("draw", ["uniform", "normal"])
def test_same_bits_for_any_split(draw, dtype):
    stream = Stream(3, "drive")
    draws = getattr(stream, draw)
    whole = draws(*grid([0, 1, 2], range(10), range(6), 7), dtype=dtype)
    assert whole.shape == (6, 3, 10, 7)
    assert whole.dtype == dtype
    rows = [draws(*grid([0, 1, 2], part, range(6), 7), dtype=dtype) for part in (range(5), range(5, 10))]
    assert torch.equal(whole, torch.cat(rows, 2))
    times = [draws(*grid([0, 1, 2], range(10), part, 7), dtype=dtype) for part in (range(1), range(1, 6))]
    assert torch.equal(whole, torch.cat(times, 0))
    replicas = [draws(*grid([r], range(10), range(6), 7), dtype=dtype) for r in range(3)]
    assert torch.equal(whole, torch.cat(replicas, 1))
    assert torch.equal(whole[..., :4], draws(*grid([0, 1, 2], range(10), range(6), 4), dtype=dtype))
    # samples are ids: a shuffled batch is the shuffled draw
    assert torch.equal(whole[:, :, [4, 2]], draws(*grid([0, 1, 2], torch.tensor([4, 2]), range(6), 7), dtype=dtype))


@pytest.mark.parametrize("axis", ["replica", "sample", "step", "element"])
def test_every_part_of_the_address_matters(axis):
    stream = Stream(0, "x")
    assert len(set(stream.uniform(**{axis: torch.arange(100)}).tolist())) == 100


def test_seed_and_name_matter():
    seeds = [0, 1, 2**31, 2**32, 2**32 + 1, 2**63 - 1]
    values = {(seed, name): float(Stream(seed, name).uniform()) for seed in seeds for name in ("a", "b")}
    assert len(set(values.values())) == len(values)


def test_float32_is_the_top_24_bits_of_float64():
    address = grid([0], range(20), range(20), 50)
    double = Stream(1, "x").uniform(*address)
    single = Stream(1, "x").uniform(*address, dtype=torch.float32)
    assert torch.equal(single.double(), torch.floor(double * 2**24) / 2**24)
    assert torch.equal(torch.floor(double * 2**53), double * 2**53)
    # the low bits are used: 53 bits, not 32
    assert int(((double * 2**32) % 1 == 0).sum()) == 0


def test_uniform_extremes_stay_below_one(monkeypatch):
    ones = tuple(torch.tensor([FULL]) for _ in range(4))
    monkeypatch.setattr("neurosim.random.philox", lambda counter, key: ones)
    assert float(Stream(0, "x").uniform()) == 1 - 2**-53
    assert float(Stream(0, "x").uniform(dtype=torch.float32)) == 1 - 2**-24
    assert int(Stream(0, "x").integers(3)) == 2
    assert float(Stream(0, "x").normal().abs()) == 0.0
    zeros = tuple(torch.tensor([0]) for _ in range(4))
    monkeypatch.setattr("neurosim.random.philox", lambda counter, key: zeros)
    assert float(Stream(0, "x").normal()) == pytest.approx(math.sqrt(2 * 53 * math.log(2)))


def test_uniform_and_normal_moments():
    """n = 10**6: mean and variance within five standard errors (false alarm below 1e-5 in all), fixed seed."""
    address = grid([0], range(1000), range(10), 100)
    uniform, normal = Stream(0, "u").uniform(*address), Stream(0, "n").normal(*address)
    n = uniform.numel()
    assert n == 10**6
    assert float(uniform.mean()) == pytest.approx(0.5, abs=5 * math.sqrt(1 / 12 / n))
    assert float(uniform.var()) == pytest.approx(1 / 12, abs=5 * math.sqrt((1 / 80 - 1 / 144) / n))
    assert float(normal.mean()) == pytest.approx(0.0, abs=5 / math.sqrt(n))
    assert float(normal.var()) == pytest.approx(1.0, abs=5 * math.sqrt(2 / n))
    assert float((normal**3).mean()) == pytest.approx(0.0, abs=5 * math.sqrt(15 / n))
    assert float((normal**4).mean()) == pytest.approx(3.0, abs=5 * math.sqrt(96 / n))
    below = float((normal < -1.0).double().mean())
    assert below == pytest.approx(0.15865525, abs=5 * math.sqrt(0.159 * 0.841 / n))


def test_normal_equation():
    words = [int(word) for word in Stream(2, "x").words(element=3)]
    u1 = ((words[0] << 21 | words[1] >> 11) + 1) / 2**53
    u2 = (words[2] << 21 | words[3] >> 11) / 2**53
    expected = math.sqrt(-2 * math.log(u1)) * math.cos(2 * math.pi * u2)
    assert float(Stream(2, "x").normal(element=3)) == pytest.approx(expected, rel=1e-14)
    assert Stream(2, "x").normal(element=3, dtype=torch.float32) == torch.tensor(expected, dtype=torch.float32)


def test_integers_cover_their_range():
    drawn = Stream(0, "i").integers(6, sample=torch.arange(60000))
    counts = torch.bincount(drawn, minlength=6)
    assert len(counts) == 6
    assert float(((counts - 10000) ** 2 / 10000.0).sum()) < 25.7  # chi squared, 5 degrees of freedom: p = 1e-4
    for high in (0, -1, 2**32 + 1, 2.0, True):
        with pytest.raises(ConfigurationError, match="high is"):
            Stream(0, "i").integers(high)


def test_permutation():
    stream = Stream(7, "order")
    order = stream.permutation(1000, sample=2)
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert not torch.equal(order, torch.arange(1000))
    assert not torch.equal(order, stream.permutation(1000, sample=3))
    both = stream.permutation(1000, replica=torch.tensor([0, 1]), sample=2)
    assert torch.equal(both, torch.stack([order, stream.permutation(1000, replica=1, sample=2)]))
    assert stream.permutation(0).shape == (0,)
    uniform = stream.uniform(sample=2, element=torch.arange(1000))
    assert torch.equal(order, torch.argsort(uniform, stable=True))


@pytest.mark.parametrize("seed", [None, -1, 2**63, 1.0, "0", True])
def test_bad_seed_is_one_sentence(seed):
    with pytest.raises(ConfigurationError, match=r"seed is .*; it must be an integer with 0 <= seed < 2\*\*63"):
        Stream(seed, "x")


def test_seed_zero_and_numpy_seeds_are_seeds():
    assert check_seed(0) == 0
    assert Stream(np.int64(4), "x") == Stream(4, "x")
    assert type(Stream(np.int64(4), "x").seed) is int
    assert torch.equal(Stream(0, "x").uniform(), Stream(0, "x").uniform())


def test_bad_name_address_and_dtype():
    with pytest.raises(ConfigurationError, match="stream name is ''"):
        Stream(0, "")
    with pytest.raises(ConfigurationError, match=r"sample reaches from -1 to 3; allowed: 0 to 2\*\*32 - 1"):
        Stream(0, "x").uniform(sample=torch.tensor([3, -1]))
    with pytest.raises(ConfigurationError, match="step reaches from 4294967296"):
        Stream(0, "x").uniform(step=2**32)
    with pytest.raises(ConfigurationError, match=r"element has dtype torch.float32"):
        Stream(0, "x").uniform(element=torch.tensor(1.0))
    for draw in (Stream(0, "x").uniform, Stream(0, "x").normal):
        with pytest.raises(ConfigurationError, match=r"dtype is torch.float16; allowed: torch.float32, torch.float64"):
            draw(dtype=torch.float16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_device_draws_the_same_bits():
    stream = Stream(1, "x")
    here = stream.uniform(*grid([0, 1], range(50), range(20), 30))
    there = stream.uniform(*grid(torch.tensor([0, 1], device="cuda"), range(50), range(20), 30))
    assert there.is_cuda
    assert torch.equal(here, there.cpu())
    normal = stream.normal(*grid(torch.tensor([0, 1], device="cuda"), range(50), range(20), 30)).cpu()
    # 2 ulp of the larger factor: the product of a radius and a cosine near its zero has no relative bound of its own
    assert torch.allclose(normal, stream.normal(*grid([0, 1], range(50), range(20), 30)), rtol=5e-16, atol=4e-15)


DISTRIBUTIONS = [
    Constant(2.0),
    Uniform(-1.0, 3.0),
    Normal(1.0, 0.5),
    LogNormal(-1.0, 0.3),
    LecunNormal(),
    KaimingUniform(),
    Glorot(),
    Glorot("normal"),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=repr)
def test_a_replica_depends_on_seed_and_its_id_only(distribution):
    stream = Stream(1, "weight/a")
    three = distribution.sample(stream, (4, 5), 5, range(3))
    assert three.shape == (3, 4, 5)
    assert three.dtype == torch.float64
    assert torch.equal(distribution.sample(stream, (4, 5), 5, [2]), three[2:])
    assert torch.equal(distribution.sample(stream, (4, 5), 5, torch.tensor([1, 0])), three[[1, 0]])
    assert torch.equal(distribution.sample(stream, (4, 5), 5), three[:1])
    if not isinstance(distribution, Constant):
        assert not torch.equal(three[0], three[1])
        assert not torch.equal(three, distribution.sample(Stream(2, "weight/a"), (4, 5), 5, range(3)))
        assert not torch.equal(three, distribution.sample(Stream(1, "weight/b"), (4, 5), 5, range(3)))


EDGE = math.sqrt(6 / 100)
LOGNORMAL_SD = math.exp(-1 + 0.045) * math.sqrt(math.exp(0.09) - 1)
# distribution, mean, sd, smallest and largest value allowed; fan_in 100, fan_out 300
MOMENTS = [
    (Constant(2.0), 2.0, 0.0, 2.0, 2.0),
    (Uniform(-1.0, 3.0), 1.0, 4 / math.sqrt(12), -1.0, 3.0),
    (Normal(1.0, 0.5), 1.0, 0.5, -math.inf, math.inf),
    (LogNormal(-1.0, 0.3), math.exp(-1 + 0.045), LOGNORMAL_SD, 0.0, math.inf),
    (LecunNormal(), 0.0, 0.1, -0.2 / 0.8796256610342398, 0.2 / 0.8796256610342398),
    (LecunNormal(3.0), 0.0, 0.3, -0.6 / 0.8796256610342398, 0.6 / 0.8796256610342398),
    (KaimingUniform(), 0.0, EDGE / math.sqrt(3), -EDGE, EDGE),
    (KaimingUniform(math.sqrt(5.0)), 0.0, 0.1 / math.sqrt(3), -0.1, 0.1),
    (Glorot(), 0.0, math.sqrt(2 / 400), -math.sqrt(6 / 400), math.sqrt(6 / 400)),
    (Glorot("normal"), 0.0, math.sqrt(2 / 400), -math.inf, math.inf),
]


@pytest.mark.parametrize(("distribution", "mean", "sd", "low", "high"), MOMENTS, ids=lambda value: str(value)[:30])
def test_moments_and_support(distribution, mean, sd, low, high):
    """n = 90,000; five standard errors for the mean; 1.5 % for the sd (six standard errors where it is widest)."""
    drawn = distribution.sample(Stream(0, "moments"), (300, 100), 100, range(3))
    assert float(drawn.mean()) == pytest.approx(mean, abs=5 * sd / 300)
    assert float(drawn.std()) == pytest.approx(sd, rel=0.015)
    assert low <= float(drawn.min()) <= float(drawn.max()) <= high
    if isinstance(distribution, LecunNormal | Uniform | KaimingUniform):
        assert float(drawn.max()) > high - 0.01 * (high - low)  # the support is reached
    if high == math.inf:
        assert float(drawn.max()) > mean + 3 * sd  # no uniform distribution goes beyond sqrt(3) sd


def test_fan_per_synapse_and_for_convolutions():
    stream = Stream(0, "w")
    one = LecunNormal().sample(stream, (2,), 4.0)
    two = LecunNormal().sample(stream, (2,), torch.tensor([4.0, 16.0]))
    assert torch.equal(two[0, 0], one[0, 0])
    assert torch.allclose(two[0, 1] * 2, one[0, 1], rtol=1e-15)
    conv = Glorot().sample(stream, (8, 2, 3, 3), 18)
    assert torch.equal(conv, Glorot().sample(stream, (8, 2, 3, 3), 18, fan_out=72))
    assert not torch.equal(conv, Glorot().sample(stream, (8, 2, 3, 3), 18, fan_out=8))


def test_distribution_errors():
    stream = Stream(0, "w")
    with pytest.raises(ConfigurationError, match="LecunNormal needs fan_in"):
        LecunNormal().sample(stream, (3,))
    with pytest.raises(ConfigurationError, match=r"Glorot needs fan_out, which a weight of shape \(3,\)"):
        Glorot().sample(stream, (3,), 2)
    with pytest.raises(ConfigurationError, match="fan_in is 0"):
        KaimingUniform().sample(stream, (3,), 0)
    with pytest.raises(ConfigurationError, match="low must be <= high"):
        Uniform(1.0, 0.0)
    with pytest.raises(ConfigurationError, match="Normal sd is -1"):
        Normal(0.0, -1.0)
    with pytest.raises(ConfigurationError, match="LogNormal sd is -1"):
        LogNormal(0.0, -1.0)
    with pytest.raises(ConfigurationError, match="LecunNormal scale is -1"):
        LecunNormal(-1.0)
    with pytest.raises(ConfigurationError, match="Glorot kind is 'triangle'; allowed: uniform, normal"):
        Glorot("triangle")
    with pytest.raises(NotImplementedError, match="Distribution does not say"):
        Distribution().sample(stream, (3,))
