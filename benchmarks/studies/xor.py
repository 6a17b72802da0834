"""BioHSIC on XOR, rate and spiking, with its nulls: python benchmarks/studies/xor.py (two minutes on one core)."""

from pathlib import Path

from rows import table

ROWS = {
    "BioHSIC": "task=xor rule=biohsic",
    "form=exact": "task=xor rule=biohsic rule.form=exact rule.sigma_z=1.0",
    "form=published": "task=xor rule=biohsic rule.form=published",
    "frozen hidden layers": "task=xor rule=frozen",
    "shuffled third factor": "task=xor rule=biohsic+shuffled",
    "shuffled labels": "task=xor rule=biohsic shuffle_labels=true",
    "BioHSIC, spiking LIF": "task=xor rule=biohsic network=spiking",
    "frozen, spiking": "task=xor rule=frozen network=spiking",
    "shuffled third factor, spiking": "task=xor rule=biohsic+shuffled network=spiking",
    "shuffled labels, spiking": "task=xor rule=biohsic network=spiking shuffle_labels=true",
}

if __name__ == "__main__":
    print(table("XOR, 2,000 fresh test points", ROWS, [0], Path("docs/results/xor.json")))
