"""Named, counter-based random streams, and the distributions that weights and parameters are drawn from.

A number is a function of its address (seed, stream name, replica, sample, step, element) and of nothing else: the same
bits for any batch split, any chunk in time, any number of replicas, any backend and any device. The generator is
Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from neurosim.types import ConfigurationError, Number, Tensor, choice, positive

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
TRUNCATED_SD = 0.87962566103423978  # sd of a standard normal truncated at -2 and 2, the constant that flax and JAX use

Index: TypeAlias = int | Tensor
Fan: TypeAlias = Number | Tensor | None
Ids: TypeAlias = Tensor | Sequence[int]
Words: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Philox4x32-10: four 32-bit words per counter, as int64 tensors in [0, 2**32) that broadcast against each other.

    One round: `(c0, c1, c2, c3) <- (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0))`; between rounds
    each key word grows by its Weyl constant. Counter words keep their small shapes until the rounds mix them.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # The 64-bit product may wrap to a negative int64; shift and mask read the right bits all the same.
        first, second = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (second >> 32 & MASK) ^ c1 ^ k0, second & MASK, (first >> 32 & MASK) ^ c3 ^ k1, first & MASK
        k0, k1 = k0 + WEYL[0] & MASK, k1 + WEYL[1] & MASK
    return c0, c1, c2, c3


def check_seed(seed: Any) -> int:
    """Return `seed` as an int; ConfigurationError unless it is an integer with 0 <= seed < 2**63 (0 is one of them)."""
    integer = seed is not None and not isinstance(seed, bool) and hasattr(seed, "__index__")
    if not integer or not 0 <= operator.index(seed) < 2**63:
        raise ConfigurationError(f"seed is {seed!r}; it must be an integer with 0 <= seed < 2**63")
    return operator.index(seed)


def grid(replica: Ids, sample: Ids, step: Ids, elements: int) -> Words:
    """The addresses of an array `[T, R, B, N]` as four broadcasting tensors (replica, sample, step, element).

    `replica [R]`, `sample [B]`, `step [T]` are ids, `elements` is N; a tensor `replica` decides the device.
    Use: `stream.uniform(*grid(replica, sample, range(steps), n), dtype=x.dtype)`.
    """
    device = replica.device if isinstance(replica, Tensor) else None
    replica, sample, step = (_ids(ids, device) for ids in (replica, sample, step))
    return replica[:, None, None], sample[:, None], step[:, None, None, None], torch.arange(elements, device=device)


def _ids(ids: Ids, device: torch.device | None) -> Tensor:
    return ids.to(device) if isinstance(ids, Tensor) else torch.as_tensor(list(ids), dtype=torch.int64, device=device)


def _word(index: Index, name: str, device: torch.device | None) -> Tensor:
    """One counter word as int64; a sentence if it is no integer or (read on the CPU only) outside [0, 2**32)."""
    word = torch.as_tensor(index, device=device)
    if word.is_floating_point() or word.is_complex() or word.dtype == torch.bool:
        raise ConfigurationError(f"{name} has dtype {word.dtype}; an address is an integer or an integer tensor")
    word = word.to(torch.int64)
    if word.device.type == "cpu" and word.numel() and bool(((word < 0) | (word > MASK)).any()):
        raise ConfigurationError(f"{name} reaches from {int(word.min())} to {int(word.max())}; allowed: 0 to 2**32 - 1")
    return word


@dataclass(frozen=True)
class Stream:
    """A random stream: `seed` (0 <= seed < 2**63) and a `name`, for example "weight/hidden".

    Philox counter = (element, step, sample, replica); key = (low word of the seed, first 32 bits, little endian, of
    BLAKE2b of the name, salted with the seed's high word). Each argument of the methods is an integer or an integer
    tensor, 0 <= value < 2**32; tensors broadcast, and the result has the broadcast shape and lies on their device.
    """

    seed: int
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_seed(self.seed))
        if not isinstance(self.name, str) or not self.name:
            raise ConfigurationError(f"stream name is {self.name!r}; it must be a non-empty string")

    @property
    def key(self) -> tuple[int, int]:
        """Philox key: a backend that takes it with the counter (element, step, sample, replica) draws the same bits."""
        salt = (self.seed >> 32).to_bytes(4, "little")
        digest = hashlib.blake2b(self.name.encode(), digest_size=4, salt=salt).digest()
        return self.seed & MASK, int.from_bytes(digest, "little")

    def words(self, replica: Index = 0, sample: Index = 0, step: Index = 0, element: Index = 0) -> Words:
        """The four 32-bit words at an address (int64 tensors)."""
        given = {"element": element, "step": step, "sample": sample, "replica": replica}
        device = next((index.device for index in given.values() if isinstance(index, Tensor)), None)
        counter = tuple(_word(index, name, device) for name, index in given.items())
        return philox((counter[0], counter[1], counter[2], counter[3]), self.key)

    def uniform(
        self,
        replica: Index = 0,
        sample: Index = 0,
        step: Index = 0,
        element: Index = 0,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """Uniform in [0, 1): 53 bits in float64, the top 24 of the same bits in float32 (so float32 <= float64)."""
        high, low, _, _ = self.words(replica, sample, step, element)
        if dtype == torch.float32:
            return (high >> 8).to(dtype) * 2.0**-24
        if dtype == torch.float64:
            return _bits(high, low).to(dtype) * 2.0**-53
        raise ConfigurationError(f"dtype is {dtype}; allowed: torch.float32, torch.float64")

    def normal(
        self,
        replica: Index = 0,
        sample: Index = 0,
        step: Index = 0,
        element: Index = 0,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """Standard normal by Box and Muller (1958): `sqrt(-2 ln u1) cos(2 pi u2)`, u1 in (0, 1] and u2 in [0, 1).

        53 bits each; computed in float64 and rounded to `dtype`; devices may differ by 2 ulp, as their logarithms do.
        """
        if dtype not in (torch.float32, torch.float64):
            raise ConfigurationError(f"dtype is {dtype}; allowed: torch.float32, torch.float64")
        words = self.words(replica, sample, step, element)
        radius = (_bits(words[0], words[1]) + 1).to(torch.float64) * 2.0**-53
        angle = _bits(words[2], words[3]).to(torch.float64) * 2.0**-53
        return (torch.sqrt(-2.0 * torch.log(radius)) * torch.cos(2.0 * math.pi * angle)).to(dtype)

    def integers(self, high: int, replica: Index = 0, sample: Index = 0, step: Index = 0, element: Index = 0) -> Tensor:
        """Integers (int64) in [0, high): `floor(high * uniform)`, 1 <= high <= 2**32."""
        if isinstance(high, bool) or not isinstance(high, int) or not 1 <= high <= 2**32:
            raise ConfigurationError(f"high is {high!r}; it must be an integer from 1 to 2**32")
        return torch.floor(self.uniform(replica, sample, step, element) * high).to(torch.int64)

    def permutation(self, n: int, replica: Index = 0, sample: Index = 0, step: Index = 0) -> Tensor:
        """Random order of 0..n-1 (int64): the stable argsort of n uniforms, one per element; shape `[*address, n]`."""
        device = next((index.device for index in (replica, sample, step) if isinstance(index, Tensor)), None)
        rows = [torch.as_tensor(index, device=device)[..., None] for index in (replica, sample, step)]
        high, low, _, _ = self.words(rows[0], rows[1], rows[2], torch.arange(n, device=device))
        return torch.argsort(_bits(high, low), dim=-1, stable=True)


def _bits(high: Tensor, low: Tensor) -> Tensor:
    return high << 21 | low >> 11


@dataclass(frozen=True)
class Distribution:
    """What a weight or a parameter is drawn from: a description, no tensor and no generator.

    `sample(stream, shape, fan_in, replica, fan_out)` gives a float64 tensor `[R, *shape]` on the CPU, row r being a
    function of (seed, stream name, replica[r]) only. `fan_in` and `fan_out` (a number, or a tensor that broadcasts to
    `shape`) are the inputs per output and the outputs per input; only the weight initialisers below read them.
    """

    def sample(
        self, stream: Stream, shape: Sequence[int], fan_in: Fan = None, replica: Ids = (0,), fan_out: Fan = None
    ) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not say how it is sampled")


def _address(shape: Sequence[int], replica: Ids) -> tuple[Tensor, int, int, Tensor]:
    """Addresses (replica, 0, 0, element) of `[R, *shape]`: the element is the row-major index within `shape`."""
    element = torch.arange(math.prod(shape)).reshape(tuple(shape))
    return _ids(replica, None).cpu().reshape(-1, *([1] * len(shape))), 0, 0, element


def _fan(fan: Fan, what: str, owner: Distribution) -> Tensor:
    if fan is None:
        raise ConfigurationError(f"{type(owner).__name__} needs {what}, which only a projection's weight has")
    return torch.as_tensor(positive(fan, what), dtype=torch.float64)


@dataclass(frozen=True)
class Constant(Distribution):
    """The number `value` everywhere."""

    value: float

    def sample(
        self, stream: Stream, shape: Sequence[int], fan_in: Fan = None, replica: Ids = (0,), fan_out: Fan = None
    ) -> Tensor:
        return torch.full((len(replica), *shape), float(self.value), dtype=torch.float64)


@dataclass(frozen=True)
class Uniform(Distribution):
    """Uniform in [low, high)."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ConfigurationError(f"Uniform has low {self.low} and high {self.high}; low must be <= high")

    def sample(
        self, stream: Stream, shape: Sequence[int], fan_in: Fan = None, replica: Ids = (0,), fan_out: Fan = None
    ) -> Tensor:
        return self.low + (self.high - self.low) * stream.uniform(*_address(shape, replica))


@dataclass(frozen=True)
class Normal(Distribution):
    """Normal with `mean` and standard deviation `sd` >= 0."""

    mean: float
    sd: float

    def __post_init__(self) -> None:
        positive(self.sd, "Normal sd", zero=True)

    def sample(
        self, stream: Stream, shape: Sequence[int], fan_in: Fan = None, replica: Ids = (0,), fan_out: Fan = None
    ) -> Tensor:
        return self.mean + self.sd * stream.normal(*_address(shape, replica))


@dataclass(frozen=True)
class LogNormal(Distribution):
    """`exp(z)`, z normal with `mean` and standard deviation `sd` >= 0 (both of the logarithm); median exp(mean)."""

    mean: float
    sd: float

    def __post_init__(self) -> None:
        positive(self.sd, "LogNormal sd", zero=True)

    def sample(
        self, stream: Stream, shape: Sequence[int], fan_in: Fan = None, replica: Ids = (0,), fan_out: Fan = None
    ) -> Tensor:
        return torch.exp(self.mean + self.sd * stream.normal(*_address(shape, replica)))


@dataclass(frozen=True)
class LecunNormal(Distribution):
    """Normal truncated at two standard deviations and corrected to variance `scale**2 / fan_in` (LeCun et al. 1998).

    flax's default: `w = scale / sqrt(fan_in) / 0.87962566103423978 * z`, z standard normal truncated to [-2, 2], here
    by inverting its distribution function.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        positive(self.scale, "LecunNormal scale", zero=True)

    def sample(
        self, stream: Stream, shape: Sequence[int], fan_in: Fan = None, replica: Ids = (0,), fan_out: Fan = None
    ) -> Tensor:
        edge = math.erf(2.0 / math.sqrt(2.0))  # P(|z| < 2)
        uniform = stream.uniform(*_address(shape, replica))
        truncated = math.sqrt(2.0) * torch.erfinv(edge * (2.0 * uniform - 1.0))
        return self.scale / TRUNCATED_SD / torch.sqrt(_fan(fan_in, "fan_in", self)) * truncated


@dataclass(frozen=True)
class KaimingUniform(Distribution):
    """Uniform in +-bound, `bound = sqrt(6 / ((1 + negative_slope**2) fan_in))` (He et al. 2015).

    `negative_slope` is that of the leaky rectifier behind it; sqrt(5) gives torch.nn.Linear's bound, 1 / sqrt(fan_in).
    """

    negative_slope: float = 0.0

    def sample(
        self, stream: Stream, shape: Sequence[int], fan_in: Fan = None, replica: Ids = (0,), fan_out: Fan = None
    ) -> Tensor:
        bound = torch.sqrt(6.0 / ((1.0 + self.negative_slope**2) * _fan(fan_in, "fan_in", self)))
        return bound * (2.0 * stream.uniform(*_address(shape, replica)) - 1.0)


@dataclass(frozen=True)
class Glorot(Distribution):
    """Variance `2 / (fan_in + fan_out)` (Glorot and Bengio 2010), `kind` "uniform" or "normal" (not truncated).

    Without `fan_out` it is `fan_in * shape[0] / shape[1]`: right for dense `[P, Q]` and for `[out, in, kh, kw]`.
    """

    kind: str = "uniform"

    def __post_init__(self) -> None:
        choice(self.kind, ("uniform", "normal"), "Glorot kind")

    def sample(
        self, stream: Stream, shape: Sequence[int], fan_in: Fan = None, replica: Ids = (0,), fan_out: Fan = None
    ) -> Tensor:
        inputs = _fan(fan_in, "fan_in", self)
        if fan_out is None and len(shape) < 2:
            raise ConfigurationError(f"Glorot needs fan_out, which a weight of shape {tuple(shape)} does not say")
        outputs = inputs * shape[0] / shape[1] if fan_out is None else _fan(fan_out, "fan_out", self)
        sd = torch.sqrt(2.0 / (inputs + outputs))
        address = _address(shape, replica)
        if self.kind == "normal":
            return sd * stream.normal(*address)
        return sd * math.sqrt(3.0) * (2.0 * stream.uniform(*address) - 1.0)
