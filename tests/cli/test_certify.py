"""`certify`: passports, the table of all rules, exit codes."""

import pytest

from neurosim.cli import main
from neurosim.cli_config import names

REJECTED = ("backprop", "bptt", "force", "sign_symmetric")
FAST = "network.hidden=[3]"


def said(capsys, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["certify", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_passport(capsys):
    code, out, err = said(capsys, "rule=biohsic", FAST)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["biohsic on network layered: LOCAL", "class       broadcast"]
    assert "equation    dw_ij = -lr * xi_i * slope_i * pre_j" in lines
    assert "(2024), doi 10.3389/fncom.2024.1240348." in out
    said_of = {line.strip().split(" = ")[0]: " ".join(line.split()) for line in lines if " = " in line}
    assert said_of["tau_trace"] == "tau_trace = 20 ms, of the rate trace where neurons spike"
    assert said_of["reservoir.tau_mem"] == "reservoir.tau_mem = 20 ms"
    assert "    factors     post slope x pre rate" in lines
    assert "    broadcast   HSIC: 6 numbers, 24 bytes per step and sample" in lines
    assert "    broadcast   signal label: 3 numbers, 12 bytes per sample" in lines


def test_settings_and_parts_are_those_of_run(capsys):
    code, out, _ = said(capsys, "rule=hebb+heterosynaptic", "network=static", FAST, "rule.heterosynaptic.block=2")
    assert code == 0
    assert out.startswith("hebb+heterosynaptic on network static: LOCAL\n")
    assert "input_hidden0: hebb, class neuron" in out
    assert "  block = 2" in out


def test_rules_for_spikes_get_spiking_neurons(capsys):
    code, out, _ = said(capsys, "rule=stdp", FAST)
    assert code == 0
    assert out.startswith("stdp on network spiking: LOCAL\n")


@pytest.mark.parametrize("rule", REJECTED)
def test_a_rejected_rule(rule, capsys):
    code, out, err = said(capsys, f"rule={rule}", FAST)
    assert (code, err) == (1, "")
    assert out.startswith(f"{rule} on network layered: REJECTED\nclass       nonlocal\nbecause     ")


@pytest.mark.slow
def test_all(capsys):
    code, out, err = said(capsys, "rule=all")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()[3:]]
    assert [row[0].rpartition("+")[2] for row in rows] == list(names("rule"))
    assert tuple(row[0] for row in rows if row[2] == "REJECTED") == REJECTED
    assert all(row[2] in ("LOCAL", "REJECTED") for row in rows)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "rule=<name> is missing; write certify rule=all"),
        ("rule=hebbb", "there is no rule 'hebbb'"),
        ("rule=all epochs=1", "takes no settings but network=<name>"),
        ("rule=all network=round", "there is no network 'round'"),
        ("rule=stdp network=layered", "use it on spiking neurons"),
        ("rule=shuffled", "a rule comes first"),
        ("rule=hebb batch=1", "batch is 1"),
        ("experiment=biohsic_xor_published", "rule=<name> is missing"),
        ("rule=hebb --fast", "there is no option --fast"),
    ],
)
def test_bad_input(words, sentence, capsys):
    code, out, err = said(capsys, *words.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert sentence in err
