"""What was to be reached, how it is read off the measured entries, and what the limit of each work is.

Only what is text in `LIMITS` is free: profiles are not in the JSON. All other words of the goals' table are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peers import ON_ONE

from neurosim.benchmark import Entry
from neurosim.benchmark.report import best, best_peer, counts, median

Entries = Mapping[str, Entry]
TORCH = ("snnTorch", "Norse", "SpikingJelly", "Sinabs")
GIB = 2.0**30


@dataclass(frozen=True)
class Verdict:
    reached: bool | None  # None: not measured
    value: str

    @property
    def word(self) -> str:
        return {True: "reached", False: "missed", None: "open"}[self.reached]

    def __str__(self) -> str:
        return f"{self.word}: {self.value}"


def two_threads(name: str) -> str:
    """The key of a work that was run on two threads."""
    return f"{name}, 2 threads"


def best_own(entry: Entry) -> Entry | None:
    """The quickest of our rows with all threads of the work."""
    return best(entry, lambda row: row["own"] and not row["name"].endswith(ON_ONE))


def own_on_one(entry: Entry) -> Entry | None:
    """Our row with one thread beside that with several."""
    return best(entry, lambda row: row["own"] and row["name"].endswith(ON_ONE))


def present(entries: Entries, keys: Sequence[str]) -> Verdict | None:
    """Why there is nothing to judge, or None: every key is there and has an own row that counts."""
    for key in keys:
        if key not in entries:
            return Verdict(None, f"{key} was not measured")
        if best_own(entries[key]) is None:
            return Verdict(False, f"no row of ours counts at {key}")
    return None


@dataclass(frozen=True)
class Faster:
    """At least `times` as fast as the quickest peer at every work (of those called as `peers` say)."""

    keys: tuple[str, ...]
    times: float
    peers: tuple[str, ...] = ()

    def judge(self, entries: Entries) -> Verdict:
        if (early := present(entries, self.keys)) is not None:
            return early
        ratios = []
        for key in self.keys:
            entry = entries[key]
            own, peer = best_own(entry), best_peer(entry, self.peers)
            if own is None or peer is None:
                return Verdict(None, f"no such peer counts at {key}")
            ratios.append(median(peer, entry["clock"]) / median(own, entry["clock"]))
        return Verdict(min(ratios) >= self.times, " / ".join(f"{ratio:.2f}" for ratio in ratios) + " x")


@dataclass(frozen=True)
class NearLimit:
    """Within `times` of what the machine can do at best."""

    key: str
    times: float

    def judge(self, entries: Entries) -> Verdict:
        if (early := present(entries, [self.key])) is not None:
            return early
        entry = entries[self.key]
        own, limit = best_own(entry), entry["limit"]["value"]
        if own is None or not limit:
            return Verdict(None, f"{self.key} has no limit")
        ratio = median(own, entry["clock"]) / limit
        return Verdict(ratio <= self.times, f"{ratio:.2f} x")


@dataclass(frozen=True)
class Below:
    """At most `most` in the unit of the work."""

    key: str
    most: float

    def judge(self, entries: Entries) -> Verdict:
        if (early := present(entries, [self.key])) is not None:
            return early
        entry = entries[self.key]
        own = best_own(entry)
        assert own is not None
        found = median(own, entry["clock"])
        return Verdict(found <= self.most, f"{found:.4g} {entry['unit']}")


@dataclass(frozen=True)
class ThreadsHelp:
    """Two threads are not slower than one, by the clock and in the same run, but for `noise`."""

    names: tuple[str, ...]
    noise: float = 0.02

    def judge(self, entries: Entries) -> Verdict:
        keys = [two_threads(name) for name in self.names]
        if (early := present(entries, keys)) is not None:
            return early
        ratios = []
        for key in keys:
            two, one = best_own(entries[key]), own_on_one(entries[key])
            if two is None or one is None:
                return Verdict(None, f"no row of ours on one thread at {key}")
            ratios.append(median(one, "wall") / median(two, "wall"))
        return Verdict(min(ratios) >= 1.0 - self.noise, " / ".join(f"{ratio:.2f}" for ratio in ratios) + " x as fast")


@dataclass(frozen=True)
class Linear:
    """The cost of a neuron at the last work is at most `times` that at the first."""

    sizes: Mapping[str, int]
    times: float

    def judge(self, entries: Entries) -> Verdict:
        if (early := present(entries, list(self.sizes))) is not None:
            return early
        costs = []
        for key, neurons in self.sizes.items():
            own = best_own(entries[key])
            assert own is not None
            costs.append(1e6 * median(own, entries[key]["clock"]) / neurons)
        shown = " / ".join(f"{cost:.1f}" for cost in costs)
        return Verdict(costs[-1] <= self.times * costs[0], f"{shown} us per neuron and simulated second")


@dataclass(frozen=True)
class Memory:
    """The peak is below `most` bytes (one own row), or at most `growth` times that of the first, the shortest run."""

    key: str
    most: float | None = None
    growth: float = 1.02

    def judge(self, entries: Entries) -> Verdict:
        if (early := present(entries, [self.key])) is not None:
            return early
        peaks = [row.get("peak") for row in entries[self.key]["rows"] if row["own"] and counts(row)]
        if any(peak is None for peak in peaks):
            return Verdict(None, f"the peak of {self.key} was not measured")
        shown = " / ".join(f"{peak:,}" for peak in peaks) + " MB"
        if self.most is not None:
            return Verdict(max(peaks) * 1e6 <= self.most, shown)
        return Verdict(len(peaks) > 1 and max(peaks) <= self.growth * peaks[0], shown)


@dataclass(frozen=True)
class Goal:
    work: str
    wanted: str
    test: Any
    limits: str = ""  # which of LIMITS belongs to it
    further: str = ""  # what would be better still,
    stretch: Any = None  # and its test

    def beyond(self, entries: Entries) -> str:
        """Whether it is better still."""
        return "" if self.stretch is None else f"{self.further}: {self.stretch.judge(entries).word}"


CUBA = ("cuba_4k", "cuba_20k", "cuba_100k")
CUBA_SIZES = {"cuba_4k": 4_000, "cuba_20k": 20_000, "cuba_100k": 100_000}
ON_TWO = tuple(two_threads(name) for name in ("cuba_20k", "cuba_100k"))
GOALS = (
    Goal("CUBA 4k / 20k / 100k", "2 x the best peer, one thread", Faster(CUBA, 2.0), "cuba",
         "2.5 x", Faster(CUBA, 2.5)),
    Goal("CUBA 20k / 100k", "3 x the best peer, two threads", Faster(ON_TWO, 3.0), "threads", "4 x",
         Faster(ON_TWO, 4.0)),
    Goal("CUBA 4k / 20k / 100k", "two threads never slower than one (2 % is noise)", ThreadsHelp(CUBA), "threads"),
    Goal("CUBA 4k / 20k / 100k", "cost linear in neurons (100k at most twice 4k)", Linear(CUBA_SIZES, 2.0), "linear"),
    Goal("COBA", "2 x the best peer", Faster(("coba",), 2.0), "coba"),
    Goal("Brunel", "2 x the best peer", Faster(("brunel",), 2.0), "brunel"),
    Goal("COBA / Brunel", "two threads never slower than one (not in the plan)", ThreadsHelp(("coba", "brunel")),
         "threads"),
    Goal("pair STDP", "8 x the best peer", Faster(("stdp",), 8.0), "stdp"),
    Goal("dense layer, 5 % spikes, T 100 / 500", "4 x the best torch package",
         Faster(("dense", "dense_500"), 4.0, TORCH), "dense"),
    Goal("dense layer, 5 % spikes, T 100 / 500", "3 x JAX", Faster(("dense", "dense_500"), 3.0, ("JAX",)), "dense"),
    Goal("LIF layer 512", "1.3 x the matrix product", NearLimit("layer_512", 1.3), "layer_512"),
    Goal("LIF layer 2048", "1.15 x the matrix product", NearLimit("layer_2048", 1.15), "layer_2048"),
    Goal("LIF layer 4096", "1.15 x the matrix product", NearLimit("layer_4096", 1.15), "layer_4096"),
    Goal("LIF layer 512, forward and backward", "1.3 x the matrix products",
         NearLimit("gradient_512", 1.3), "gradient"),
    Goal("LIF layer 2048, forward and backward", "1.15 x the matrix products",
         NearLimit("gradient_2048", 1.15), "gradient"),
    Goal("LIF layer 4096, forward and backward", "1.15 x the matrix products",
         NearLimit("gradient_4096", 1.15), "gradient"),
    Goal("three factors, batch 1", "15 x torch, outer products",
         Faster(("three_factor_1",), 15.0, ("torch, outer products",)), "three_factor"),
    Goal("three factors, batch 1", "5 x torch, factorised", Faster(("three_factor_1",), 5.0, ("torch, factorised",)),
         "three_factor"),
    Goal("three factors, batch 32", "15 x torch, outer products",
         Faster(("three_factor_32",), 15.0, ("torch, outer products",)), "three_factor"),
    Goal("three factors, batch 32", "1.3 x torch, factorised",
         Faster(("three_factor_32",), 1.3, ("torch, factorised",)), "three_factor"),
    Goal("reservoir", "faster than the best peer", Faster(("reservoir",), 1.0), "reservoir", "200 us per step",
         Below("reservoir", 200.0)),
    Goal("BioHSIC XOR, published protocol", "40 s on two threads", Below(two_threads("biohsic_original"), 40.0),
         "biohsic", "20 s", Below(two_threads("biohsic_original"), 20.0)),
    Goal("memory over simulated time", "flat: no more than 2 % above the peak of a quarter of the time",
         Memory("streamed"), "memory"),
    Goal("CUBA 1,000,000 neurons", "runs within 16 GiB", Memory("cuba_1m", 16 * GIB), "cuba_1m"),
)  # fmt: skip


def linear(entries: Entries) -> str:
    """What moving the memory of a neuron costs at each size."""
    if (early := present(entries, CUBA)) is not None:
        return early.value
    costs = [1e6 * entries[key]["limit"]["value"] / neurons for key, neurons in CUBA_SIZES.items()]
    shown = " / ".join(f"{cost:.1f}" for cost in costs)
    return f"the cache: memory moved at the bandwidth that a copy of each size has here costs {shown} us"


LIMITS: dict[str, str | Callable[[Entries], str]] = {
    "cuba": "the second cache: of a step, neurons take 0.6 ns each (0.8 at 100,000; in C with 512-bit vectors 0.5), "
            "three states read and written, a byte that counts, ports read; 70 to 80 % of the time. Spikes, lists "
            "and deliveries are the rest",
    "threads": "parts of the populations go to the threads, which meet once in a step (0.25 us); networks of 8,192 "
               "neurons and more are shared, while that is quicker by the clock than one thread, which is tried now "
               "and then",
    "linear": linear,
    "memory": "stretches of 100 ms are written before the next one begins; memory of their recordings is used again",
    "cuba_1m": "edges in 32 bits: 28 bytes per synapse at the peak",
    "coba": "arithmetic: of 11.4 us a step, neurons take 10.4, in vectors of 512 bits; two divisions and an "
            "exponential (1.3 ns) per neuron are most of it",
    "stdp": "per step: 1,000 Poisson numbers 1.3 us and their list 0.3, delivery with what pre spikes change 1.7, rows "
            "of post spikes 0.7; 1,500 lines of the cache are read and written by pre spikes, 375 by post spikes",
    "dense": "T 100: the product of listed inputs is 18 to 23 us a step (11 where all weights lay in the first cache), "
            "listing them 2 to 5, neurons and their recording 9, Python 3",
    "three_factor": "batch 1: per sample the spikes' weights 18 us, the change formed and made in place 14, neurons, "
            "traces and rows that are kept 8, lists of inputs and the way back 6; the rest is the copy of the weights "
            "that a call begins with and what lies outside the cache. With a call per sample 0.45 of 0.63 ms are "
            "Python and torch around compiled calls, and the new weight is an array of its own",
    "reservoir": "gathering 100 us, near one vector gather in 10 cycles; tanh 2 (libm: 20)",
    "layer_512": "the product is 24.5 of 29 ms; the neurons 3, the rest is Python and torch around it",
    "layer_2048": "the matrix product",
    "gradient": "two products (the limit) 51 ms at 512, 757 at 2048; scans 7.2 and 32 in three passes (backward "
            "makes the old states again), the mean of the spikes 1.8 and 9, the update 0.4 and 5, the rest is "
            "Python and torch around them",
    "biohsic": "many small steps: about 58 us of kernels each, the largest of them 9",
}  # fmt: skip


def limit_of(goal: Goal, entries: Entries) -> str:
    """What is known of the limit of a goal's works."""
    text = LIMITS.get(goal.limits, "")
    return text if isinstance(text, str) else text(entries)
