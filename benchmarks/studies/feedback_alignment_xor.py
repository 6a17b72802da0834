"""Feedback alignment on XOR, ten seeds, with its null: python benchmarks/studies/feedback_alignment_xor.py."""

from pathlib import Path

from rows import table

SEEDS = list(range(10))
SHOWN = "network.hidden=[40,20] epochs=3 replicas=1"
ROWS = {
    "feedback alignment": f"task=xor rule=feedback_alignment {SHOWN}",
    "frozen hidden layers": f"task=xor rule=frozen {SHOWN}",
}

if __name__ == "__main__":
    print(table("XOR, 2,000 fresh test points", ROWS, SEEDS, Path("docs/results/feedback_alignment_xor.json")))
