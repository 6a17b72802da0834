"""BioHSIC on digits, rate and spiking, beside frozen layers, backprop and BPTT: python benchmarks/studies/digits.py"""

from pathlib import Path

from rows import table

RULES = ("biohsic", "frozen", "backprop", "bptt")
RATE = {f"{rule}, rate": f"task=digits rule={rule}" for rule in RULES}
SPIKING = {f"{rule}, spiking": f"task=digits rule={rule} network=spiking" for rule in RULES}

if __name__ == "__main__":
    folder = Path("docs/results")
    print(table("Digits, rate units, 360 test images a seed", RATE, range(5), folder / "digits.json"))
    # A spiking run takes minutes: five networks of one seed here, five of each of five seeds above.
    print(table("Digits, spiking LIF, 360 test images", SPIKING, [0], folder / "digits_spiking.json"))
