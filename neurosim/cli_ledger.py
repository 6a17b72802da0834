"""`ledger`: what the learning of a run costs, layer by layer, or of all rules beside each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from neurosim.backends.plan import Plan, make_plan
from neurosim.cli_build import experiment, screen
from neurosim.cli_certify import BEFORE, described, first_fit
from neurosim.cli_config import composed, names, parse
from neurosim.cli_show import table
from neurosim.experiment import Experiment
from neurosim.inspect.ledger import Account, Work, ledger, trace_bytes
from neurosim.memory import size
from neurosim.network import Network
from neurosim.types import DTYPES, ConfigurationError

LEDGER = """\
usage: python -m neurosim ledger task=<name> rule=<name> [key=value ...]
       python -m neurosim ledger rule=all [network=<name>]

What plasticity costs in the run of the same words, for one sample and one replica, counted from the equation of each
rule: bytes of traces, eligibilities, gathered changes and optimizers; reads and writes of weights, multiply-adds and
bytes broadcast, in a step of learning and in a whole sample. rule=all compares the rules on 5 inputs and 3 outputs."""

HEAD = ("projection", "rule", "synapses", "traces", "eligibility", "gathered", "transforms")
WORK = ("", "", "reads", "writes", "multiply-adds", "broadcast")
KEPT = slice(2, None)


def show_ledger(arguments: Sequence[str]) -> None:
    """Print the accounts of a run's rules, or one line for each rule."""
    words = parse(arguments)
    if words.rule == "all":
        if words.settings or words.experiment or set(words.groups) - {"network"}:
            raise ConfigurationError("ledger rule=all takes no settings but network=<name>")
        _all([word for word in arguments if word.startswith("network=")])
        return
    made = composed(arguments)
    screen(made.config)
    wanted = experiment(made.config)
    _, network = wanted.build()
    for line in report(*_accounts(wanted, network), _width(wanted)):
        print(line)


def report(plan: Plan, accounts: tuple[Account, ...], width: int) -> Iterator[str]:
    """Three tables: what is kept, the work of a step, the work of a sample."""
    if not accounts:
        yield "no projection has a rule: nothing learns"
        return
    yield "kept for one sample and replica"
    yield from table([HEAD, *map(_kept, accounts), _sum_kept(plan, accounts, width)])
    for what, work in (("a step of learning", _step), ("a sample, with all its steps", _sample)):
        yield f"\n{what}"
        rows = [[one.projection, one.rule, *_work(work(one))] for one in accounts]
        yield from table([WORK, *rows, ["total", "", *_work(_total([work(one) for one in accounts]))]])


def _accounts(wanted: Experiment, network: Network) -> tuple[Plan, tuple[Account, ...]]:
    plan = make_plan(network, wanted.dt, wanted.seed, 1)
    return plan, ledger(plan, wanted.settings.steps, _width(wanted))


def _width(wanted: Experiment) -> int:
    return torch.empty(0, dtype=DTYPES[wanted.dtype]).element_size()


def _step(account: Account) -> Work:
    return account.step


def _sample(account: Account) -> Work:
    return account.sample


def _kept(account: Account) -> list[str]:
    numbers = account.traces, account.eligibility, account.gathered, account.transforms
    return [account.projection, account.rule, str(account.synapses), *map(size, numbers)]


def _sum_kept(plan: Plan, accounts: tuple[Account, ...], width: int) -> list[str]:
    numbers = (
        trace_bytes(plan, accounts, width),  # a trace that several rules read is there once
        sum(one.eligibility for one in accounts),
        sum(one.gathered for one in accounts),
        sum(one.transforms for one in accounts),
    )
    return ["total", "", str(sum(one.synapses for one in accounts)), *map(size, numbers)]


def _total(works: Sequence[Work]) -> Work:
    counted = [work.multiply_adds for work in works if work.multiply_adds is not None]
    return Work(
        sum(work.reads for work in works),
        sum(work.writes for work in works),
        sum(counted) if len(counted) == len(works) else None,
        sum(work.broadcast for work in works),
    )


def _work(work: Work) -> list[str]:
    adds = "not counted" if work.multiply_adds is None else str(work.multiply_adds)
    return [str(work.reads), str(work.writes), adds, "-" if math.isnan(work.broadcast) else size(work.broadcast)]


def _all(more: Sequence[str]) -> None:
    head = ["rule", "network", *HEAD[KEPT], *(f"sample: {word}" for word in WORK[KEPT])]
    rows = [first_fit([[f"rule={name}"], [f"rule={BEFORE}+{name}"]], more, _row) for name in names("rule")]
    print("All layers together, 5 inputs and 3 outputs, one sample (a presentation) and one replica\n")
    for line in table([head, *rows]):
        print(line)


def _row(arguments: Sequence[str]) -> list[str]:
    made, wanted, network = described(arguments)
    plan, accounts = _accounts(wanted, network)
    kept = _sum_kept(plan, accounts, _width(wanted))
    return [made.names["rule"], made.names["network"], *kept[KEPT], *_work(_total([one.sample for one in accounts]))]
