"""BioHSIC on digits, rate and spiking, beside frozen layers, backprop and BPTT: python benchmarks/studies/digits.py"""

from pathlib import Path

from rows import table

ROWS = {
    f"{rule}, {units}": f"task=digits rule={rule}" + ("" if units == "rate" else " network=spiking")
    for units in ("rate", "spiking")
    for rule in ("biohsic", "frozen", "backprop", "bptt")
}

if __name__ == "__main__":
    print(table("Digits, 360 test images a seed", ROWS, range(5), Path("docs/results/digits.json")))
