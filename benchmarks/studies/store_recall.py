"""e-prop on store and recall, beside frozen layers and a shuffled signal: python benchmarks/studies/store_recall.py"""

from pathlib import Path

from rows import table

NETWORK = (
    "task=store_recall network=reservoir_spiking neuron=adaptive_lif network.size=40 network.probability=1 "
    "network.input_scale=2 network.neuron.tau_theta=150 task.train=500 evaluate_train=100 epochs=10 replicas=3 "
    "vary=[init,order] figures=false"
)
ROWS = {
    "e-prop": f"{NETWORK} rule=eprop rule.lr=5e-3",
    "frozen hidden layer": f"{NETWORK} rule=frozen rule.lr=5e-3",
    "e-prop, shuffled learning signal": f"{NETWORK} rule=eprop+shuffled rule.eprop.lr=5e-3",
    "e-prop, no adaptation": f"{NETWORK} rule=eprop rule.lr=5e-3 network.neuron.beta=0",
}

if __name__ == "__main__":
    print(table("Store and recall, 500 test sequences a seed", ROWS, range(3), Path("docs/results/store_recall.json")))
