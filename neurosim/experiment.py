"""What a run is made of: task, network, rules, protocol. The loop that runs it is `neurosim.run_loop`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from neurosim.adapter import Decoder, Encoder
from neurosim.inspect.credit import CreditMonitor, batches_of
from neurosim.learner import Settings, SimulatorLearner
from neurosim.memory import check_memory, planned_memory
from neurosim.network import Layered, Network
from neurosim.neuron import SpikeRelay
from neurosim.random import Stream, check_seed
from neurosim.recorded import Recorded
from neurosim.reservoir import Reservoir
from neurosim.task import Dataset, Task
from neurosim.types import Array, ConfigurationError, choice, positive

COLUMNS = ("epoch", "replica", "split", "loss", "accuracy")

VARY = ("init", "order")
PRESENTATIONS = ("windows", "batches")


@dataclass(frozen=True)
class Experiment:
    """Everything that defines a run.

    `network(inputs, classes)` builds the description, `scheme` attaches the rules. Training shows `presentation`
    "windows" (of `batch` consecutive samples of the shuffled order, sliding by one) or "batches" (disjoint) for
    `epochs`, at most `limit` of them an epoch. `vary` says in what replicas differ: "init" (always) and, if named, the
    "order" of the data: each replica its own, or `orders` different ones, each shared by a group of neighbouring
    replicas. `shuffle_labels` is a null: training labels dealt to random samples, anew in each replica; chance.
    `credit`: after every epoch the update of each layer is compared with the gradient (`neurosim.inspect.credit`).
    """

    task: Task
    network: Callable[[int, int], Network]
    scheme: Callable[[Network], Network]
    encoder: Encoder
    decoder: Decoder
    settings: Settings
    epochs: int
    batch: int
    presentation: str = "windows"
    limit: int | None = None
    vary: tuple[str, ...] = ("init",)
    orders: int | None = None
    shuffle_labels: bool = False
    evaluate_train: int = 500
    credit: bool = False
    seed: int = 0
    replicas: int = 10
    dt: float = 1.0
    dtype: str = "float32"
    device: str = "cpu"
    backend: str = "reference"
    recorded: Recorded = field(default_factory=Recorded)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "replicas", "evaluate_train"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name} is {value!r}; it must be a whole number >= 1")
        choice(self.presentation, PRESENTATIONS, "presentation")
        for word in self.vary:
            choice(word, VARY, "an entry of vary")
        if "init" not in self.vary:
            raise ConfigurationError(
                f"vary is {list(self.vary)}; replicas always differ in init: name it, alone or with order"
            )
        check_seed(self.seed)
        positive(self.dt, "dt (ms)")
        if self.limit is not None:
            positive(self.limit, "limit")
        if self.orders is not None and (self.orders < 1 or self.replicas % self.orders):
            raise ConfigurationError(f"orders is {self.orders}; it must divide the number of replicas, {self.replicas}")

    def build(self) -> tuple[Dataset, Network]:
        """Load the task and describe the network, rules attached."""
        dataset = self.task.load(self.seed)
        bare = self._described(dataset.inputs, dataset.classes)
        network = self.scheme(bare)
        self._check_use(bare, network)
        return dataset, network

    def _described(self, inputs: int, classes: int) -> Network:
        """The network without rules. Where the encoder makes spikes, and nothing else is asked for, its input
        population sends spikes."""
        describe = self.network
        if (
            isinstance(describe, Layered | Reservoir)
            and describe.input_neuron is None
            and getattr(self.encoder, "spikes", False)
        ):
            describe = replace(describe, input_neuron=SpikeRelay())
        return describe(inputs, classes)

    def _check_use(self, bare: Network, network: Network) -> None:
        """ConfigurationError if there is no hidden layer, and a rule of the scheme acts on hidden layers only."""
        if not isinstance(self.network, Layered) or self.network.hidden:
            return
        deep = replace(self.network, hidden=(16,))(bare[bare.input].units, bare[bare.output].units)
        idle = [name for name in _rule_names(self.scheme(deep)) if name not in _rule_names(network)]
        if idle:
            raise ConfigurationError(
                f"network.hidden is [], but {' and '.join(idle)} acts on hidden layers only; give a size, as in "
                "network.hidden=[10], or take a rule for the output layer: frozen, backprop, bptt"
            )

    def check_memory(self, network: Network) -> None:
        """ConfigurationError, with an estimate, if the run would need more memory than there is."""
        check_memory(self.memory(network), self.replicas, self.device)

    def memory(self, network: Network) -> dict[str, int]:
        """Bytes that the run will need, by what they hold; see `neurosim.memory.planned_memory`."""
        alone = replace(self, replicas=1, vary=("init",), orders=None)
        return planned_memory(alone.learner(network), self.replicas)

    def rehearse(self, dataset: Dataset, learner: SimulatorLearner) -> None:
        """Show the first presentation and forget it: what cannot be run is told before anything else happens."""
        rows = self.rows(self.order(len(dataset.train), 1), 0)
        recorded, network = self.recorded, learner.network
        asked = (*recorded.probes(network), *recorded.training_probes(network, self.settings.steps))
        probes = tuple({probe.key: probe for probe in asked}.values())
        learner.train(learner.init(), dataset.train.x[rows], dataset.train.y[rows], 0, probes)

    def learner(self, network: Network) -> SimulatorLearner:
        """The learner that carries the network."""
        return SimulatorLearner(
            network,
            self.encoder,
            self.decoder,
            self.settings,
            batch=self.batch,
            dt=self.dt,
            replicas=self.replicas,
            seed=self.seed,
            dtype=self.dtype,
            device=self.device,
            backend=self.backend,
        )

    def monitor(self, dataset: Dataset, network: Network) -> CreditMonitor:
        """The credit monitor of a run: ten batches of training examples, the same after every epoch."""
        train = dataset.train
        batches = batches_of(train.x, train.y, self.order(len(train), 0)[0], self.batch)
        return CreditMonitor(network, replace(self, backend="reference").learner, self.decoder, batches, self.seed)

    def presentations(self, examples: int) -> int:
        """Number of training presentations in an epoch; ConfigurationError if a batch does not fit."""
        if self.batch > examples:
            raise ConfigurationError(f"batch is {self.batch}, but the training split has {examples} examples")
        count = examples - self.batch + 1 if self.presentation == "windows" else examples // self.batch
        return count if self.limit is None else min(count, self.limit)

    def rows(self, order: Array, presentation: int) -> Array:
        """Which training examples a presentation shows: `[R or 1, batch]`, from the epoch's order `[R or 1, n]`."""
        start = presentation if self.presentation == "windows" else presentation * self.batch
        return order[:, start : start + self.batch]

    def order(self, examples: int, epoch: int) -> Array:
        """The shuffled order of an epoch, `[1, n]`, or `[R, n]` if the replicas vary in it."""
        count = 1 if "order" not in self.vary else self.orders or self.replicas
        order = Stream(self.seed, "order").permutation(examples, replica=torch.arange(count), step=epoch)
        return order.repeat_interleave(self.replicas // count if count > 1 else 1, 0).numpy()


def _rule_names(network: Network) -> dict[str, None]:
    """Names of the rules of a network, in order."""
    rules = (projection.rule for projection in network.projections if projection.rule is not None)
    return dict.fromkeys(rule.name or type(rule).__name__ for rule in rules)
