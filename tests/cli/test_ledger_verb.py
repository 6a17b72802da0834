"""`ledger`: the accounts of a run, and all rules beside each other."""

from neurosim.cli import main
from neurosim.cli_config import names

WORDS = ["task=xor", "rule=feedback_alignment", "network.hidden=[3]", "settings.steps=5"]


def table_of(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of the table below a heading, by their first word."""
    rows = text.partition(heading)[2].partition("\n\n")[0].splitlines()[2:]
    return {row.split()[0]: row.split()[1:] for row in rows}


def test_the_accounts_of_a_run(capsys):
    assert main(["ledger", *WORDS]) == 0
    said = capsys.readouterr().out
    kept = table_of(said, "kept for one sample and replica")
    synapses = [int(kept[name][1]) for name in ("input_hidden0", "hidden0_output")]
    assert synapses == [2 * 3 + 3, 3 * 2 + 2]
    assert kept["total"][0] == str(sum(synapses))
    sample = table_of(said, "a sample, with all its steps")
    assert sample["total"][:2] == [str(sum(synapses))] * 2  # one update at the end reads and writes every weight


def test_float64_takes_twice_the_bytes(capsys):
    found = []
    for dtype in ("float32", "float64"):
        assert main(["ledger", *WORDS, f"dtype={dtype}"]) == 0
        found.append(table_of(capsys.readouterr().out, "kept for one sample and replica")["total"])
    gathered = [one[one.index("bytes", 5) - 1] for one in found]
    assert int(gathered[1]) == 2 * int(gathered[0])


def test_all_rules(capsys):
    assert main(["ledger", "rule=all"]) == 0
    said = capsys.readouterr().out
    rows = [line.split()[0].rpartition("+")[2] for line in said.splitlines()[3:]]
    assert tuple(rows) == names("rule")


def test_bad_words(capsys):
    for words, message in (
        (["rule=all", "epochs=1"], "ledger rule=all takes no settings but network=<name>"),
        (["rule=hebb"], "task=<name> is missing"),
    ):
        assert main(["ledger", *words]) == 2
        assert message in capsys.readouterr().err
