"""The change of a phase from the values of its steps: three kinds of kernel, for every rule that has one component.

With the post factor q(t), the pre factor x(t) and the modulator m(t) of every step,

    G_ij = sum_t m_i(t) sum_{s <= t} d^(t-s) q_i(s) x_j(s) = sum_s A_i(s) q_i(s) x_j(s),   A(s) = m(s) + d A(s+1)

(`m` of the last step only: A(s) = d^(T-1-s) m). So no eligibility is needed, but one product over steps and rows. Where
x is a trace of spikes z, x(t) = f x(t-1) + z(t), the filter is turned round as well,

    sum_t c_i(t) x_j(t) = sum_s F_i(s) z_j(s),   F(s) = c(s) + f F(s+1)   (at the first step x itself in place of z),

and the product visits the few inputs that are not zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosim.backends.cpu.factors import Place
from neurosim.backends.cpu.inputs import Slots
from neurosim.backends.cpu.machine import wide
from neurosim.backends.cpu.plasticity import Text, idle
from neurosim.backends.cpu.synaptic import Synaptic
from neurosim.backends.cpu.writer import Kernel, Writer

STEPS, FORM, ROWS = 2, 3, 4  # in the block of `keep`: rows that are kept, the batch's first step of them, their address


@dataclass(frozen=True)
class Filter:
    """A trace as its spikes: `first` is the trace itself, at the first step that is kept."""

    first: Place
    fade: float
    scales: tuple[float, float]  # of the first row, of all others


def keep(dtype: str, size: tuple[int, int], place: Place, first: Place | None = None) -> Kernel:
    """Keep the values `[R, K, B, N]` of every step of a batch from block[FORM] on (of `first` in the first of them)."""
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    for name in ("K", "form", "rows_at"):
        writer.number(name, 0)
    writer.position()
    assert place.buffer is not None
    writer.place("x_at", place.buffer.array, str(place.delay))
    if first is not None:
        assert first.buffer is not None
        writer.place("first_at", first.buffer.array, str(first.delay))
        writer.line("x_at = first_at if since == form else x_at")
    writer.line("if since >= form:")
    writer.line("for r in range(r0, r1):", 2)
    writer.line("for b in range(b0, b1):", 3)
    writer.row("x", "x_at", "(r * B + b) * N", 4)
    writer.row("o", "rows_at", "((r * K + since - form) * B + b) * N", 4)
    writer.line("for n in range(N):", 4)
    writer.line("o[u(n)] = x[u(n)]", 5)
    return writer.done()


class Backwards(Slots):
    """The kernel that goes from the last step to the first: A of the modulator, then F of one term, `[R, K, B, P]`.

    `last`: only the last step's modulator counts (read where it lies), else that of every step (rows that were kept).
    """

    def __init__(
        self, dtype: str, synaptic: Synaptic, post: bool, filtered: Filter | None, decay: float | None, last: bool
    ):
        super().__init__(dtype)
        writer, modulator = self.writer, synaptic.modulator
        replicas, batch, units = synaptic.size[:3]
        writer.number("B", batch)
        writer.number("P", units)
        self.numbers("K", "q_at", "m_at", "f_at")
        self.own = np.zeros((2, replicas, batch, units), writer.real)  # A, and F before its scale
        writer.address("a_at", self.own[0])
        writer.address("s_at", self.own[1])
        share = 1.0 / batch if synaptic.rule.reduce == "mean" else 1.0
        numbers = (share, decay or 0.0, *((filtered.fade, *filtered.scales) if filtered else (0.0, 1.0, 1.0)))
        share_of, fade, trace_fade, first, other = writer.constants("c", numbers, 1)
        buffer = modulator.buffer if modulator is not None else None
        if last and buffer is not None:
            assert modulator is not None
            writer.place("m_now", buffer.array, str(modulator.delay))
        self.last_step()
        writer.rows()
        self._row("a", "a_at", "(r * B + b) * P")
        self._row("s", "s_at", "(r * B + b) * P")
        writer.line("for n in range(P):", 3)
        writer.line("a[u(n)] = real(0)", 4)
        writer.line("s[u(n)] = real(0)", 4)
        writer.line("for back in range(K):", 3)
        writer.line("k = K - 1 - back", 4)
        at = "((r * K + k) * B + b) * P"
        lines = []
        if last:
            writer.line("if back == 0:", 4)
            if buffer is not None:
                self._row("m", "m_now", "(r * B + b) * P", 5)
            writer.line("for n in range(P):", 5)
            writer.line(f"a[u(n)] = {f'm[u(n)] * {share_of}' if buffer is not None else share_of}", 6)
        else:
            if buffer is not None:
                self._row("m", "m_at", at, 4)
            m = f"m[i] * {share_of}" if buffer is not None else share_of
            lines.append(f"a[i] = {m}" if decay is None else f"a[i] += {m}")
        if post:
            self._row("q", "q_at", at, 4)
        self._row("f", "f_at", at, 4)
        value = "a[i] * q[i]" if post else "a[i]"
        if filtered is None:
            lines.append(f"f[i] = {value}")
        else:
            writer.line(f"scale = {first} if k == 0 else {other}", 4)
            lines += [f"s[i] = {trace_fade} * s[i] + {value}", "f[i] = scale * s[i]"]
        if decay is not None:
            lines.append(f"a[i] *= {fade}")
        writer.line("for n in range(P):", 4)
        writer.line("i = u(n)", 5)
        for line in lines:
            writer.line(line, 5)
        self.made = writer.done()

    def _row(self, name: str, address: str, offset: str, depth: int = 3) -> None:
        self.writer.row(name, address, offset, depth)


class Gathered(Text, Slots):
    """The kernel that forms the change of one weight from the inputs listed for every pre neuron, and makes it.

    Shares of it are ranges of pre neurons, `b0` to `b1`; where `whole` is set, it takes all of them. `inputs` says of
    each term whether its pre factor is a value (else it is the constant 1).
    """

    def __init__(self, dtype: str, synaptic: Synaptic, inputs: list[bool], updates: bool, written: tuple[str, ...]):
        """The new weight is `written` over the old one ("w"), to an array of its own ("out"), or to both."""
        Text.__init__(self, Writer(dtype), synaptic)
        self.written, self.inputs = written, inputs
        writer = self.writer
        for name, value in zip("BPQ", synaptic.size[1:], strict=True):
            writer.number(name, value)
        self.numbers("K", "earlier", "steps", "due", "whole", *(["out_at"] if "out" in written else []))
        writer.address("w_at", synaptic.weight)
        terms = synaptic.rule.components[0].terms
        self.gains = [self._gain(0, k, term.gain) for k, term in enumerate(terms)]
        self.targets = ["g", *(f"s{k}" for k, gain in enumerate(self.gains) if gain)]
        for target in self.targets:
            self.numbers(*(f"{target}_{slot}" for slot in ("at", "r", "j", "b", "fresh")))
        for k, given in enumerate(inputs):
            self.numbers(
                *(f"{slot}{k}" for slot in (("begin", "where", "given", "room", "rows") if given else ("rows",)))
            )
        self.made = self._made(updates)

    def _made(self, updates: bool) -> Kernel:
        writer = self.writer
        change = "g[i] / real(steps)" if self.rule.accumulate == "mean" else "g[i]"
        update = self._update(change) if updates else []
        if update:  # the last line writes the weight
            update[-1:] = [f"{name}[i] = value" for name in self.written]
        self._edges()
        writer.scope["wide"] = wide
        writer.line("wide()")
        self.last_step()
        writer.line("count = real(earlier + turn)")
        writer.line("j0, j1 = (0, Q) if whole != 0 else (b0, b1)")
        writer.line("for r in range(r0, r1):")
        self._each_row("w", *(["out"] if updates and "out" in self.written else []), rows="j0, j1")
        if update:
            self._idle_row()
        for target in self.targets:
            writer.row(target, f"{target}_at", f"r * {target}_r + j * {target}_j + j0 * {target}_b", 3)
            writer.line(f"if {target}_fresh != 0:", 3)
            self._loop(4, [f"{target}[i] = real(0)"])
        for k, given in enumerate(self.inputs):
            target = f"s{k}" if self.gains[k] else "g"
            if given:
                self._listed(k, target)
            else:
                writer.row(f"f{k}", f"rows{k}", "r * P", 3)
                self._loop(3, [f"{target}[i] += f{k}[h]"])
            if self.gains[k]:
                self._loop(3, [f"g[i] += {self.gains[k]} * s{k}[i]"])
        if update:
            writer.line("if due != 0:", 3)
            self._loop(4, update)
        return writer.done()

    def _idle_row(self) -> None:
        """A row without an input stays as it is, where nothing becomes of a change of 0."""
        plain = all(self.inputs) and not self.synaptic.constraints
        if not (plain and all(map(idle, self.synaptic.chain))):
            return
        writer, last = self.writer, "u(r * (Q + 1) + j"
        asks = ["due != 0", *(f"{target}_fresh != 0" for target in self.targets)]
        for k in range(len(self.inputs)):
            writer.line(f"begin = carray(integers(begin{k}), (1,))", 3)
            writer.line(f"count{k} = begin[{last} + 1)] - begin[{last})]", 3)
            asks.append(f"count{k} == 0")
        writer.line(f"if {' and '.join(asks)}:", 3)
        if "out" in self.written:
            self._loop(4, ["out[i] = w[i]"])
        writer.line("continue", 4)

    def _listed(self, k: int, target: str) -> None:
        """Add the rows of one term's inputs: four at a time, but one after the other in the sum (read and written
        once).
        """
        writer = self.writer
        writer.line(f"begin = carray(integers(begin{k}), (1,))", 3)
        writer.line(f"where = carray(indices(where{k} + r * room{k} * 4), (1,))", 3)
        writer.line(f"given = carray(reals(given{k} + r * room{k} * {writer.real.itemsize}), (1,))", 3)
        writer.line("at = begin[u(r * (Q + 1) + j)]", 3)
        writer.line("stop = begin[u(r * (Q + 1) + j + 1)]", 3)
        for letters in ("abcd", "a"):
            writer.line(f"while at + {len(letters)} <= stop:", 3)
            total = f"{target}[i]"
            for n, letter in enumerate(letters):
                writer.line(f"x{letter} = given[u(at + {n})]", 4)
                writer.row(f"f{letter}", f"rows{k}", f"(r * K * B + where[u(at + {n})]) * P", 4)
                total = f"({total} + f{letter}[h] * x{letter})"
            self._loop(4, [f"{target}[i] = {total}"])
            writer.line(f"at += {len(letters)}", 4)
