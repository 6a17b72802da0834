"""Short-term plasticity against the event-driven recursion of Tsodyks, Pawelzik & Markram 1998."""

from __future__ import annotations

import numpy as np
import pytest
from alone import simulate

from neurosim.release import Static, TsodyksMarkram
from neurosim.types import ConfigurationError


def event_driven(times, U: float, tau_rec: float, tau_facil: float) -> list[float]:
    """Released per spike; u and x are advanced from spike to spike in one go."""
    u, x, last, released = 0.0, 1.0, None, []
    for time in times:
        if last is not None:
            u = u * np.exp(-(time - last) / tau_facil) if tau_facil > 0 else 0.0
            x = 1 - (1 - x) * np.exp(-(time - last) / tau_rec) if tau_rec > 0 else 1.0
        u = u + U * (1 - u)
        released.append(u * x)
        x, last = x - u * x, time
    return released


@pytest.mark.parametrize(
    ("U", "tau_rec", "tau_facil"),
    [(0.5, 800.0, 0.0), (0.04, 100.0, 1000.0), (0.3, 130.0, 530.0), (1.0, 50.0, 20.0), (0.2, 0.0, 30.0)],
)
@pytest.mark.parametrize("dt", [0.1, 1.0])
def test_is_the_event_driven_recursion(U: float, tau_rec: float, tau_facil: float, dt: float) -> None:
    spikes = (np.random.default_rng(0).random((600, 3)) < 0.1).astype(float)
    spikes[10:14] = 1.0  # spikes in consecutive steps
    ours = simulate(TsodyksMarkram(U, tau_rec, tau_facil), dt, {"spike": spikes}, steps=600, size=3)
    for neuron in range(3):
        rows = np.flatnonzero(spikes[:, neuron])
        expected = np.zeros(600)
        expected[rows] = event_driven(rows * dt, U, tau_rec, tau_facil)
        np.testing.assert_allclose(ours["released"][:, neuron], expected, rtol=0, atol=1e-12)


def test_depresses_and_facilitates() -> None:
    train = np.zeros((200, 1))
    train[::20] = 1.0

    def released(**parameters):
        return simulate(TsodyksMarkram(**parameters), 1.0, {"spike": train}, steps=200, size=1)["released"][::20, 0]

    depressed, facilitated = released(U=0.5, tau_rec=800.0), released(U=0.05, tau_rec=50.0, tau_facil=800.0)
    assert depressed[0] == 0.5
    assert (np.diff(depressed) < 0).all()
    assert facilitated[0] == 0.05
    assert (np.diff(facilitated[:4]) > 0).all()


def test_static_releases_the_spike() -> None:
    train = np.array([[1.0], [0.0], [1.0]])
    np.testing.assert_array_equal(simulate(Static(), 1.0, {"spike": train}, steps=3, size=1)["released"], train)


@pytest.mark.parametrize(
    ("parameter", "bad"),
    [("U", 0.0), ("U", 1.5), ("U", np.nan), ("tau_rec", -1.0), ("tau_facil", -1.0), ("tau_rec", np.inf)],
)
def test_bad_parameter(parameter: str, bad: float) -> None:
    with pytest.raises(ConfigurationError, match=parameter):
        TsodyksMarkram(**{parameter: bad}).constants(1.0)
