"""The passport of every rule is whole: an equation, a source, and a word about each parameter."""

from typing import Any

import pytest

from neurosim.cli_build import build
from neurosim.cli_certify import _scheme
from neurosim.cli_config import composed, names
from neurosim.inspect import passport


def scheme_of(rule: str) -> Any:
    return build(composed(["task=xor", f"rule={rule}"]).config["rule"][rule], f"rule.{rule}")


def parts_of(rule: str) -> dict[str, list[str]]:
    """The lines of a passport by what they begin with; parameters by name."""
    found: dict[str, list[str]] = {"parameters": []}
    for line in _scheme(scheme_of(rule)):
        key = "parameters" if line.startswith("  ") and " = " in line and "parameters" in found["parameters"] else ""
        if line.startswith("parameters"):
            found["parameters"].append("parameters")
        elif key:
            found[key].append(line)
        else:
            found.setdefault(line.split(" ")[0], []).append(line)
    return found


@pytest.mark.parametrize("rule", names("rule"))
def test_nothing_is_left_out(rule):
    found = parts_of(rule)
    assert len(found["equation"][0].removeprefix("equation").strip()) > 5
    assert len(found["source"][0].removeprefix("source").strip()) > 20
    for line in found["parameters"][1:]:
        name, _, value = line.partition(" = ")
        if "." in name and name.strip().partition(".")[0] == "decoder":  # what a decoder is, its own group says
            continue
        assert len(value.split("  ", 1)) == 2, f"nothing says what this is: {line.strip()}"


def test_all_equations_of_a_rule():
    lines = passport.equations(scheme_of("eprop"))
    assert lines[0].startswith("dw_ij = lr sum_t L_i eF_ij")
    assert any(" ".join(line.split()).startswith("a_ij <- keep_theta_i a_ij") for line in lines)
    assert any("c_reg" in line for line in lines)
