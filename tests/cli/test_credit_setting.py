"""`credit=true`: a file and a picture more, the same numbers."""

from conftest import TINY

from neurosim.cli import main
from neurosim.run_folder import open_run


def test_credit_of_a_run():
    words = [word for word in TINY if word != "figures=false"]
    for folder, more in (("with", ["credit=true"]), ("without", [])):
        assert main(["run", *words, f"folder={folder}", "quiet=true", *more]) == 0
    one, other = open_run("with"), open_run("without")
    assert (one.metrics == other.metrics).all()
    assert {"input_hidden0", "hidden0_hidden1", "hidden1_output"} == set(one.credit["layer"])
    assert (one.folder / "figures/credit.png").is_file()
    assert not (other.folder / "credit.csv").exists()


def test_an_overwritten_run_leaves_no_old_credit():
    for more in (["credit=true"], ["overwrite=true"]):
        assert main(["run", *TINY, "folder=r", "quiet=true", *more]) == 0
    assert not (open_run("r").folder / "credit.csv").exists()


def test_credit_needs_one_sentence_where_it_cannot_be(capsys):
    assert main(["run", *TINY, "folder=r", "credit=7"]) == 2
    assert capsys.readouterr().err == "error: credit is 7; it must be true or false\n"
