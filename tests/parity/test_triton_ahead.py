"""Every kind of kernel is compiled for an H100 (sm_90), without one: by the compiler, so in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
sys.path[:0] = {paths!r}
from neurosim.backends.triton.ahead import compile_ahead
from neurosim.network import Network, Population
from neurosim.phase import Phase
from neurosim.recorder import Probe
"""
NEURONS = """
from zoo import VARIANTS
for name, neuron in VARIANTS.items():
    network = Network([Population("cells", 6, neuron)], [])
    probes = [Probe("cells", field) for field in (*neuron.states, *neuron.outputs)]
    for size in compile_ahead(network, 0.5, Phase("p", 5), 2, {dtype!r}, probes).values():
        print(name, size)
"""
WIRES = """
from test_cpu_backend import WIRES, layers
for name in ("in-degree", "delays by synapse", "depression"):
    for kernel, size in compile_ahead(layers(**dict(WIRES[name])), 0.5, Phase("p", 5), 2, {dtype!r}).items():
        print(name, kernel, size)
"""
RULES = """
from neurosim.random import Uniform
from test_triton_backend import KINDS, RULES, wired
for name, rule in RULES.items():
    for kind in ("dense", "bias", "sparse"):
        if name != "coefficients" or kind != "sparse":
            network = wired(rule, **{{"weight": Uniform(0.0, 0.6), **KINDS[kind]}})
            for kernel, size in compile_ahead(network, 0.5, Phase("p", 5), 2, {dtype!r}).items():
                print(name, kind, kernel, size)
"""


@pytest.mark.parametrize(
    ("what", "dtype"), [("NEURONS", "float32"), ("NEURONS", "float64"), ("WIRES", "float32"), ("RULES", "float32")]
)
def test_kernels_compile_for_a_device_that_is_not_here(what, dtype, tmp_path):
    tests = Path(__file__).parents[1]
    text = PROGRAM.format(paths=[str(tests), str(tests / "parity")]) + globals()[what].format(dtype=dtype)
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error::UserWarning", "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    sizes = [int(line.split()[-1]) for line in done.stdout.splitlines()]
    assert len(sizes) >= 10
    assert min(sizes) > 1000  # bytes of machine code
