"""Deep feedback control on XOR, ten seeds, with its null: python benchmarks/studies/dfc_xor.py (some CPU minutes)."""

from pathlib import Path

from rows import table

SEEDS = list(range(10))
SHOWN = (
    "epochs=6 presentation=batches settings.steps=10 settings.carry=false network.lateral=null "
    "network.neuron.activation=tanh network.neuron.tau_mem=1.0"
)
ROWS = {
    "deep feedback control": "task=xor rule=deep_feedback_control replicas=1",
    "frozen hidden layers": f"task=xor rule=frozen {SHOWN} replicas=1",
}

if __name__ == "__main__":
    print(table("XOR, 2,000 fresh test points", ROWS, SEEDS, Path("docs/results/deep_feedback_control.json")))
