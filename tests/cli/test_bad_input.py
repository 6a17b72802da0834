"""Whatever a user can get wrong is one sentence on stderr and exit code 2, never a traceback."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import SMALL, TINY

from neurosim.cli import main

XOR = f"run {' '.join(TINY)}"

# The command line, and what its sentence must say (a regular expression).
BAD = {
    # verbs and options
    "unknown verb": ("train task=xor", r"'train'.*run, list, show, export, plot"),
    "misspelt verb": ("rnu", r"did you mean 'run'"),
    "unknown option": (f"{XOR} --epochs=5", r"--epochs=5.*key=value"),
    "option of list": ("list --all", r"--all"),
    # names
    "unknown task": ("run task=xr rule=biohsic", r"no task 'xr'.*digits.*did you mean 'xor'"),
    "unknown rule": ("run task=xor rule=bioshic", r"no rule 'bioshic'; .*neurosim list rules` .*mean 'biohsic'"),
    "unknown network": (f"{XOR} network=layerd", r"no network 'layerd'.*spiking"),
    "unknown neuron": (f"{XOR} neuron=izikevich", r"no neuron 'izikevich'; allowed: .*did you mean 'izhikevich'"),
    "unknown output neuron": (f"{XOR} output_neuron=adex", r"no output_neuron 'adex'; allowed: leaky_rate"),
    "unknown input neuron": (f"{XOR} input_neuron=poisson", r"no input_neuron 'poisson'; allowed: by_encoder"),
    "unknown lateral": (f"{XOR} lateral=softmx", r"no lateral 'softmx'; allowed: .*did you mean 'softmax'"),
    "neuron without a name": (f"{XOR} neuron=", r"neuron= has no value; allowed: adaptive_lif"),
    "added neuron": (f"{XOR} +neuron=lif", r"write neuron=<name>"),
    "neuron sweep without -m": (f"{XOR} neuron=lif,adex", r"add -m"),
    "spikes through a layer norm": (
        f"{XOR} network=layered neuron=lif",
        r"network\.lateral is a LayerNorm, which would make graded values of the spikes of LIF; take network=spiking",
    ),
    "spikes through a softmax": (f"{XOR} network=spiking lateral=softmax", r"is a Softmax, .* lateral=k_winners"),
    "setting of the neuron before": (
        f"{XOR} network=spiking neuron=adex network.neuron.tau_mem=5",
        r"network\.neuron has: c_mem",
    ),
    "more winners than units": (f"{XOR} lateral=k_winners network.lateral.k=9", r"k of KWinners is 9.*has 4 units"),
    "winners in parts": (f"{XOR} lateral=k_winners network.lateral.k=1.5", r"network\.lateral\.k is 1\.5; .*whole"),
    "unknown encoder": (f"{XOR} encoder=morse", r"no encoder 'morse'.*poisson"),
    "unknown decoder": (f"{XOR} decoder=max", r"no decoder 'max'.*mean"),
    "unknown backend": (f"{XOR} backend=gpu", r"no backend 'gpu'.*reference"),
    "unknown backend name": (f"{XOR} backend.name=gpu", r"backend is 'gpu'.*reference"),
    "unknown probe": (f"{XOR} probe=all", r"no probe 'all'.*standard"),
    "unknown experiment": ("run experiment=biohsic_xor", r"no experiment.*biohsic_xor_published"),
    "nothing given": ("run", r"task=<name> and rule=<name> .*missing"),
    "no task": ("run rule=biohsic", r"task=<name> is missing"),
    "no rule": ("run task=xor", r"rule=<name> is missing"),
    "task twice": (f"{XOR} task=linear", r"task is given twice"),
    "key twice": (f"{XOR} seed=1 seed=2", r"seed is given twice"),
    "group as nodes": ("run rule=biohsic 'task={name:xor}'", r"no task"),
    # rule expressions
    "rule without value": ("run task=xor rule=", r"rule= has no value; write rule=a.*list rules"),
    "empty part": ("run task=xor rule=biohsic+", r"empty part"),
    "empty first part": ("run task=xor rule=+biohsic", r"empty part"),
    "layered of nothing": ("run task=xor rule=layered:", r"names no rule"),
    "layered with a hole": ("run task=xor rule=layered:biohsic//frozen", r"empty part"),
    "layered without the word": ("run task=xor rule=biohsic/frozen", r"layered:biohsic/frozen"),
    "unknown part": ("run task=xor rule=biohsic+shufled", r"no rule 'shufled'.*did you mean 'shuffled'"),
    "too few layers": ("run task=xor rule=layered:biohsic", r"1 rules for 3 projections.*give 2 or 3"),
    "too many layers": ("run task=xor rule=layered:biohsic/biohsic/biohsic/frozen", r"4 rules for 3 projections"),
    "setting of another rule": (f"{XOR} rule.frozen.lr=1", r"'frozen'.*rule=biohsic has: biohsic"),
    "setting of no part": ("run task=xor rule=biohsic+shuffled rule.lr=1", r"does not say which.*rule\.biohsic\.lr"),
    "modifier alone": ("run task=xor rule=shuffled", r"a rule comes first"),
    "scheme by hand": (f"{XOR} scheme=frozen", r"scheme is set by rule="),
    # keys
    "unknown key": (f"{XOR} epoch=1", r"no setting 'epoch'.*did you mean 'epochs'"),
    "key without its path": (f"{XOR} gamma=1", r"no setting 'gamma'.*rule\.biohsic\.gamma"),
    "unknown key of a rule": (f"{XOR} rule.learning_rate=1", r"rule\.biohsic has: .*lr"),
    "unknown key of a task": (f"{XOR} task.nois=1", r"task has: .*noise.*did you mean 'noise'"),
    "unknown key of a neuron": (f"{XOR} network.neuron.tau=1", r"network\.neuron has: tau_mem"),
    "added unknown key": (f"{XOR} +task.colour=red", r"no task\.colour"),
    "added unknown setting": (f"{XOR} +colour=red", r"no setting 'colour'"),
    "deleted needed key": (f"{XOR} ~seed", r"has no seed"),
    "hydra's own": (f"{XOR} hydra.run.dir=x", r"-m only"),
    # syntax
    "no equals sign": (f"{XOR} epochs", r"'epochs' cannot be read; write key=value"),
    "no key": (f"{XOR} =3", r"'=3' cannot be read"),
    "open bracket": (f"{XOR} network.hidden=[3", r"cannot be read"),
    "open quote": (f'{XOR} "folder=\'x"', r"cannot be read"),
    "sweep without -m": (f"{XOR} seed=0,1", r"seed=0,1 lists several values; add -m"),
    "rule sweep without -m": ("run task=xor rule=biohsic,frozen", r"add -m"),
    "task sweep without -m": ("run task=xor,linear rule=biohsic", r"add -m"),
    "interpolation to nowhere": (f"{XOR} 'epochs=${{nowhere}}'", r"epochs cannot be resolved.*nowhere"),
    "question marks": (f"{XOR} epochs=???", r"epochs"),
    # types
    "word for a whole number": (f"{XOR} epochs=abc", r"epochs is 'abc'; it must be a whole number"),
    "nothing for a whole number": (f"{XOR} epochs=", r"epochs is ''"),
    "fraction for a whole number": (f"{XOR} replicas=2.5", r"replicas is 2\.5; it must be a whole number"),
    "truth for a whole number": (f"{XOR} batch=true", r"batch is True"),
    "truth for a limit": (f"{XOR} limit=true", r"limit is True; it must be a whole number or null"),
    "word for a number": (f"{XOR} rule.lr=fast", r"rule\.biohsic\.lr is 'fast'; it must be a number"),
    "word for a neuron's number": (f"{XOR} network.neuron.tau_mem=long", r"network\.neuron\.tau_mem is 'long'.*number"),
    "number for a word": (f"{XOR} presentation=3", r"presentation is 3; it must be a word"),
    "word for truth": (f"{XOR} shuffle_labels=maybe", r"shuffle_labels is 'maybe'; it must be true or false"),
    "number for a list": (f"{XOR} network.hidden=10", r"network\.hidden is 10; it must be a list of whole numbers"),
    "words for sizes": (f"{XOR} network.hidden=[a,b]", r"network\.hidden.*list of whole numbers"),
    "number for a node": (f"{XOR} network.neuron=3", r"network\.neuron is 3.*choose by neuron=<name>: .*adex"),
    "class name for a node": (
        f"{XOR} network.neuron=Izhikevich",
        r"network\.neuron is 'Izhikevich', but it holds settings; choose by neuron=<name>.*did you mean 'izhikevich'",
    ),
    "nothing for a neuron": (f"{XOR} network.neuron=null", r"network\.neuron is None.*neuron=<name>"),
    "name for a lateral": (f"{XOR} network.lateral=k_winners", r"choose by lateral=<name>.*did you mean 'k_winners'"),
    "name for an input neuron": (f"{XOR} network.input_neuron=relay", r"choose by input_neuron=<name>: by_encoder"),
    "number for other settings": (f"{XOR} network.weight=3", r"network\.weight is 3.*holds settings: scale; write"),
    "null for a node": (f"{XOR} settings=null", r"settings"),
    "unknown class": (f"{XOR} network.neuron._target_=neurosim.neuron.Lif", r"neurosim\.neuron\.Lif.*cannot be found"),
    # values
    "seed below zero": (f"{XOR} seed=-1", r"seed is -1"),
    "seed a word": (f"{XOR} seed=lucky", r"seed is 'lucky'"),
    "negative dt": (f"{XOR} dt=-1", r"dt .*-1"),
    "dt zero": (f"{XOR} dt=0", r"dt .*0"),
    "dt not a number": (f"{XOR} dt=nan", r"dt .*nan"),
    "no epochs": (f"{XOR} epochs=0", r"epochs is 0"),
    "no steps": (f"{XOR} settings.steps=0", r"steps is 0"),
    "no threads": (f"{XOR} threads=0", r"threads is 0"),
    "no training examples scored": (f"{XOR} evaluate_train=0", r"evaluate_train is 0"),
    "limit zero": (f"{XOR} limit=0", r"limit is 0"),
    "window 1": (f"{XOR} rule.window=1", r"window is 1.*at least 2"),
    "batch 1": (f"{XOR} batch=1", r"window is 1"),
    "window unlike batch": (f"{XOR} rule.window=5", r"window is 5.*10 rows"),
    "window unlike batch in show": ("show task=xor rule=biohsic rule.window=5", r"window is 5.*10 rows"),
    "hidden rule without a hidden layer": (
        f"{XOR} network.hidden=[]",
        r"network\.hidden is \[\], but biohsic acts on hidden layers only.*frozen",
    ),
    "two hidden rules without a hidden layer": (
        "run task=xor rule=biohsic+shuffled network.hidden=[] limit=2",
        r"biohsic acts on hidden layers only",
    ),
    "more replicas than memory": (
        f"{XOR} replicas=1000000000",
        r"would need about \d.* of memory, most of it for evaluation, and \d.* are free; lower replicas",
    ),
    "more replicas than memory in show": ("show task=xor rule=biohsic replicas=1000000000", r"would need about"),
    "batch larger than data": (f"{XOR} task.train=5", r"batch is 10.*5 examples"),
    "negative noise": (f"{XOR} task.noise=-1", r"noise is -1"),
    "unknown presentation": (f"{XOR} presentation=rows", r"presentation is 'rows'; allowed: windows, batches"),
    "uneven orders": (f"{XOR} replicas=3 orders=2", "orders is 2; it must divide"),
    "unknown vary": (f"{XOR} vary=[weather]", r"'weather'; allowed: init, order"),
    "unknown form": (f"{XOR} rule.form=exakt", r"'exakt'; allowed: exact"),
    "unknown optimizer": (f"{XOR} rule.optimizer=sgdd", r"'sgdd'"),
    "unknown activation": (f"{XOR} network.neuron.activation=gelu", r"'gelu'; allowed: relu"),
    "negative tau": (f"{XOR} network.neuron.tau_mem=-5", r"network\.neuron: tau_mem is -5"),
    "delay between steps": (f"{XOR} network.delay=0.5", r"multiple.*dt"),
    "negative learning rate": (f"{XOR} rule.lr=-1", r"lr is -1"),
    "layer of no neurons": (f"{XOR} network.hidden=[0]", r"size 0"),
    "unknown dtype": (f"{XOR} dtype=float16", r"'float16'; allowed: float32, float64"),
    "device that is not there": (f"{XOR} device=cuda:99", r"cuda:99.*CUDA devices here; device=cpu works"),
    "unknown device": (f"{XOR} device=tpu", r"'tpu'; allowed: cpu, cuda"),
    "decoder longer than the run": (f"{XOR} decoder.last=50", r"last 50.*5 steps"),
    "poisson too fast": (f"{XOR} encoder=poisson encoder.max_rate=5000", r"5000"),
    "values above the encoder's": (
        f"{XOR} encoder=latency encoder.t_max=5",
        r"Latency got values from \S+ to \S+; allowed: at most 1 \(high\), or outside=clip",
    ),
    "values outside the encoder's": (f"{XOR} encoder=poisson", r"outside=clip"),
    "missing data": ("run task=fashion_mnist rule=biohsic task.folder=/no/such/place", r"/no/such/place"),
    "unknown probe field": (f"{XOR} probe.variables=[hidden0.mood]", r"mood"),
    "unknown probe target": (f"{XOR} probe.variables=[cortex.rate]", r"cortex"),
    "probe without a field": (f"{XOR} probe.variables=[hidden0]", r"population\.field"),
    "probe of less than no training": (f"{XOR} probe.training=-1", r"training of the probe is -1"),
    "probe of what only training has": (
        f"{XOR} probe.training=0 probe.variables=[input_hidden0.modulator]",
        r"cannot record input_hidden0\.modulator: .*probe\.training is 0",
    ),
    "probe of an eligibility that is not kept": (
        f"{XOR} probe.variables=[input_hidden0.eligibility]",
        r"keeps no eligibility",
    ),
    "probe of no samples": (f"{XOR} probe.samples=0", r"samples"),
    # folders
    "folder below a file": (f"{XOR} folder=/dev/null/x", r"/dev/null"),
    "folder that is a file": (f"{XOR} folder=/dev/null", r"/dev/null is a file"),
    "folder that cannot be made": (f"{XOR} folder=/proc/neurosim", r"/proc/neurosim"),
    "folder with an empty name": (f"{XOR} folder=", r"folder"),
    "resume of nothing": ("run resume=", r"resume= has no value"),
    "resume of no run": ("run resume=.", r"not a run folder: it has no config\.yaml"),
    "resume of a missing folder": ("run resume=nowhere", r"nowhere is not a run folder: it does not exist"),
    "sweep with a folder": (f"{XOR} -m seed=0,1 folder=x", r"folder= does not work with -m"),
    "sweep with a bad job": ("run -m task=xor rule=biohsic,nix", r"no rule 'nix'"),
    "sweep that cannot be read": (f"{XOR} -m 'seed=0,[1'", r"cannot be read"),
    "sweep of an unknown key": (f"{XOR} -m sede=0,1", r"did you mean 'seed'"),
    # other verbs
    "list of unknown": ("list rule", r"no list of 'rule'.*did you mean 'rules'"),
    "show of nothing": ("show", r"missing"),
    "show of an unknown task": ("show task=xr rule=biohsic", r"did you mean 'xor'"),
    "export of nothing": ("export", r"one run folder"),
    "export of a missing folder": ("export nowhere target=x.h5", r"nowhere does not exist"),
    "export of no run": ("export . target=x.h5", r"not a run folder"),
    "plot of nothing": ("plot", r"one run folder"),
    "plot of two": ("plot a b", r"one run folder"),
    "plot of no run": ("plot .", r"not a run folder"),
}


def replaced(arguments: list[str]) -> list[str]:
    """A later `key=` in place of an earlier one of the settings in SMALL."""
    keys = {argument.partition("=")[0]: argument for argument in arguments}
    return [one for one in arguments if one not in SMALL or keys[one.partition("=")[0]] == one]


def words(line: str) -> list[str]:
    """Split at spaces, quotes of the shell taken off."""
    return [part[1:-1] if part[:1] in "'\"" else part for part in re.findall(r"'[^']*'|\"[^\"]*\"|\S+", line)]


def sentence(captured) -> str:
    """The one line on stderr."""
    assert "Traceback" not in captured.err
    lines = [line for line in captured.err.splitlines() if line.strip()]
    assert len(lines) == 1, captured.err
    return lines[0]


def check(arguments, capsys, expected: str) -> None:
    capsys.readouterr()
    code = main(arguments)
    said = sentence(capsys.readouterr())
    assert code == 2
    assert re.search(expected, said), said
    assert len(said) < 400


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case, capsys, tmp_path):
    line, expected = BAD[case]
    check(replaced(words(line)), capsys, expected)
    assert not list(tmp_path.iterdir())  # not even an empty folder


def test_the_table_is_long_enough():
    assert len(BAD) >= 40


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("resume={run} dtype=float64", r"saved with dtype float32, this is dtype float64"),
        ("resume={run} backend.dtype=float64", r"saved with dtype float32"),
        ("resume={run} backend.name=fast", r"'fast'"),
        ("resume={run} device=cuda", r"cuda"),
        ("resume={run} seed=1", r"seed cannot change.*only epochs="),
        ("resume={run} rule=frozen", r"rule cannot change"),
        ("resume={run} task=linear", r"task cannot change"),
        ("resume={run} neuron=adex", r"neuron cannot change"),
        ("resume={run} +new=1", r"new cannot change"),
        ("resume={run} epochs=many", r"epochs is 'many'"),
        ("resume={run} epochs=", r"epochs is"),
        ("resume={run} overwrite=true", r"overwrite cannot change"),
        ("task=xor rule=biohsic folder={run}", r"holds a run already.*overwrite=true"),
    ],
)
def test_a_run_that_is_there(line, expected, finished, capsys):
    before = contents(finished)
    check(["run", *line.format(run=finished).split()], capsys, expected)
    assert contents(finished) == before


def test_resume_below_what_is_done(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "run")
    config = folder / "config.yaml"
    assert main(["run", f"resume={folder}", "epochs=2", "quiet=true"]) == 0
    before = config.read_text()
    check(["run", f"resume={folder}", "epochs=1"], capsys, r"epochs is 1.*2")
    assert config.read_text() == before


def test_resume_with_other_code(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("neurosim.checkpoint.code_version", lambda: "9.9.9+000000000000")
    check(["run", f"resume={finished}"], capsys, r"saved with code version .*this is code version 9\.9\.9")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("config.yaml", b"task: [", r"config\.yaml cannot be read as YAML"),
        ("config.yaml", b"just words", r"no configuration"),
        ("config.yaml", b"epochs: 3\n", r"config\.yaml"),
        ("checkpoint.npz", b"PK nonsense", r"checkpoint\.npz is not a whole neurosim checkpoint"),
        ("checkpoint.npz", None, r"no checkpoint"),
    ],
)
def test_resume_of_a_damaged_run(name, content, expected, finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    check(["run", f"resume={folder}"], capsys, expected)


@pytest.mark.parametrize("verb", ["plot", "export"])
def test_a_damaged_run_read(verb, finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "metrics.csv").write_text("epoch,loss\n1,2\n")
    (folder / "trace.h5").write_bytes(b"not HDF5")
    more = ["target=x.h5"] if verb == "export" else []
    check([verb, str(folder), *more], capsys, r"metrics file" if verb == "plot" else r"not a readable HDF5 file")


@pytest.mark.parametrize(
    ("target", "expected"),
    [("", r"target="), ("x.mat", r"\.h5, \.csv, \.npz"), ("nowhere/x.h5", r"no folder nowhere"), ("x", r"must end in")],
)
def test_export_targets(target, expected, finished, capsys):
    check(["export", str(finished), f"target={target}"], capsys, expected)


def test_export_replaces_nothing_unasked(finished, tmp_path, capsys):
    for suffix in ("h5", "csv", "npz"):
        target = tmp_path / f"mine.{suffix}"
        target.write_text("dear")
        words = ["export", str(finished), f"target={target}"]
        check(words, capsys, rf"mine\.{suffix} is there already; give another name, or overwrite=true")
        check([*words, "overwrite=yes"], capsys, r"overwrite is 'yes'")
        assert target.read_text() == "dear"
        assert main([*words, "overwrite=true"]) == 0
        assert target.read_bytes()[:4] != b"dear"


def test_a_refused_sweep_leaves_no_folder(tmp_path, capsys):
    check(["run", "-m", *TINY, "seed=0,x"], capsys, r"seed is 'x'")
    assert not list(tmp_path.iterdir())


def test_a_refused_run_leaves_other_runs_alone(tmp_path, capsys):
    assert main(["run", *TINY, "quiet=true"]) == 0
    before = contents(tmp_path)
    check(["run", *TINY, "rule.window=4"], capsys, r"window is 4")
    assert contents(tmp_path) == before
    assert [path.name for path in (tmp_path / "runs" / "xor-biohsic-layered").iterdir()] == ["1"]


def test_export_needs_a_target(finished, capsys):
    check(["export", str(finished)], capsys, r"target=<file>")


def test_export_of_a_foreign_file(tmp_path, capsys):
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = np.arange(3)
    check(["export", "foreign.h5", "target=x.csv"], capsys, r"not a trace that neurosim wrote")


def test_export_of_a_truncated_file(finished, tmp_path, capsys):
    whole = next((finished / "trace").glob("*.h5")).read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    check(["export", "cut.h5", "target=x.csv"], capsys, r"not a readable HDF5 file|damaged")


def test_a_folder_with_other_things(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    check(["run", *TINY, "folder=mine", "overwrite=true"], capsys, r"not empty and holds no run")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "dear"


def test_overwrite_keeps_the_old_run_if_the_new_one_cannot_be(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "run")
    check(["run", *replaced([*TINY, "task.train=5"]), f"folder={folder}", "overwrite=true"], capsys, r"batch is 10")
    check(["run", *TINY, "rule.window=4", f"folder={folder}", "overwrite=true"], capsys, r"window is 4")
    assert contents(folder) == contents(finished)


@pytest.mark.parametrize("wrong", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(wrong, capsys, monkeypatch, tmp_path):
    def full(handle):
        raise OSError(wrong, os.strerror(wrong))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        check(["run", *TINY, "folder=run", "quiet=true"], capsys, os.strerror(wrong))
    assert not (tmp_path / "run").exists()  # nothing was saved, so nothing is left


def test_full_disk_in_the_middle_keeps_what_was_saved(capsys, monkeypatch, tmp_path):
    real, calls = os.fsync, []

    def full_later(handle):
        calls.append(handle)
        if len(calls) > 30:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_later)
        check(["run", *replaced([*TINY, "epochs=9"]), "folder=run", "quiet=true"], capsys, r"No space left")
    assert main(["run", "resume=run", "quiet=true"]) == 0


def test_not_enough_memory(capsys, monkeypatch):
    def greedy(*_):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:120] DefaultCPUAllocator: can't allocate memory: you tried ..."
        )

    monkeypatch.setattr("neurosim.cli_run.RunLoop", greedy)
    check(["run", *TINY], capsys, r"not enough memory; lower replicas")


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("neurosim.cli_run.RunLoop", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["run", *TINY])


REAL = [
    "unknown verb",
    "unknown task",
    "unknown key",
    "word for a whole number",
    "open bracket",
    "window 1",
    "resume of no run",
]


@pytest.mark.parametrize("case", REAL[:3])
def test_in_a_process_of_its_own(case):
    line, expected = BAD[case]
    done = subprocess.run([sys.executable, "-m", "neurosim", *words(line)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(expected, done.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_to_a_full_device():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "neurosim", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert "No space left" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
