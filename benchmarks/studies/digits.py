"""BioHSIC on digits, rate and spiking, beside frozen layers, backprop and BPTT: python benchmarks/studies/digits.py"""

from pathlib import Path

from rows import table

ROWS = {
    f"{rule}, {network}": f"task=digits rule={rule}" + ("" if network == "rate" else " network=spiking")
    for network in ("rate", "spiking")
    for rule in ("biohsic", "frozen", "backprop", "bptt")
}

if __name__ == "__main__":
    print(table("Digits, 360 test images a seed", ROWS, [0, 1, 2, 3, 4], Path("docs/results/digits.json")))
