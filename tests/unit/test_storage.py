"""Traces: what was recorded comes back, from segments, index and exports; damage and full disks are one sentence."""

import csv
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurosim.recorder import Recording
from neurosim.storage import TraceWriter, TrialInfo, drop_segments_after, export, planned_bytes, read_trace
from neurosim.types import ConfigurationError

DT = 0.5
STEPS, REPLICAS, BATCH, NEURONS, INPUTS = 7, 3, 2, 5, 4
KEPT = (0, 2)
ATTRIBUTES = {
    "package_version": "0.1.0",
    "commit": "abc",
    "config": "task: xor\n",
    "seed": 3,
    "dt": DT,
    "backend": "reference",
    "device": "cpu",
    "dtype": "float64",
}


def recording(seed: int, steps: int = STEPS, batch: int = BATCH) -> Recording:
    """All kinds of variables, at a clock that does not start at zero."""
    random = np.random.default_rng(seed)
    shape = (steps, REPLICAS, batch, NEURONS)
    values = {
        "hidden.spike": (random.random(shape) < 0.3).astype(float),
        "hidden.v": random.normal(size=shape),
        "hidden.rate": random.normal(size=shape).astype(np.float32),
        "in->hidden.weight": random.normal(size=(steps, REPLICAS, NEURONS, INPUTS)),
        "in->hidden.modulator": random.normal(size=shape),
        "in->hidden.eligibility": random.normal(size=(*shape, INPUTS)),
    }
    return Recording(values, {key: np.arange(100, 100 + steps) for key in values}, DT)


def write(folder: Path, segments: int = 3, per_segment: int = 2) -> list[Recording]:
    """A run folder with closed segments and an index; returns what went in."""
    recordings = []
    with TraceWriter(folder, ATTRIBUTES, KEPT, {"hidden.v": "mV"}) as writer:
        for segment in range(segments):
            for part in range(per_segment):
                recordings.append(recording(10 * segment + part))
                trial = TrialInfo([2 * part, 2 * part + 1], segment, "test", label=[0, 1])
                writer.append(recordings[-1], trial)
            writer.close_segment()
        writer.finish({"epoch": np.arange(2), "split": np.array(["train", "test"])})
    return recordings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Recording]]:
    folder = tmp_path_factory.mktemp("run")
    return folder, write(folder)


def expected_raster(recordings: list[Recording]) -> np.ndarray:
    return np.concatenate([np.moveaxis(r["hidden.spike"][:, list(KEPT)], 2, 1) for r in recordings], 1)


def expected_rows(recordings: list[Recording], key: str) -> np.ndarray:
    """Batch rows one after the other: [B * T, R, ...]."""
    return np.concatenate([np.moveaxis(r[key][:, list(KEPT)], 2, 0).reshape(-1, *_tail(r[key])) for r in recordings])


def _tail(value: np.ndarray) -> tuple[int, ...]:
    return (len(KEPT), *value.shape[3:])


@pytest.fixture(params=["index", "segments", "export"])
def source(request, run, tmp_path):
    """The same trace three ways."""
    folder = run[0]
    if request.param == "index":
        return folder
    if request.param == "export":
        return export(folder, tmp_path / "out.h5")
    shutil.copytree(folder / "trace", tmp_path / "trace")
    return tmp_path


def test_spikes_come_back(source, run):
    trace = read_trace(source)
    assert np.array_equal(trace.raster("hidden"), expected_raster(run[1]))
    times, nodes = trace.spikes("hidden")
    assert np.all(np.diff(times) >= 0)
    assert set(nodes // NEURONS) == set(KEPT)
    first = run[1][0]["hidden.spike"][:, 2, 1]  # replica 2, second row of the first batch: its trial starts after STEPS
    step, neuron = np.argwhere(first)[0]
    assert (STEPS + step + 1) * DT in times[nodes == 2 * NEURONS + neuron]


def test_raster_of_an_epoch_or_phase(source, run):
    trace = read_trace(source)
    assert np.array_equal(trace.raster("hidden", epoch=1), expected_raster(run[1][2:4]))
    assert trace.raster("hidden", phase="test").shape[1] == 12
    with pytest.raises(ConfigurationError, match="do not exist"):
        trace.raster("hidden", phase="train")


def test_reports_come_back(source, run):
    trace = read_trace(source)
    times, values = trace.report("hidden", "v")
    wanted = expected_rows(run[1], "hidden.v")
    exported = source.suffix == ".h5"
    assert np.array_equal(values, wanted.astype(np.float32) if exported else wanted)
    assert np.allclose(times, (np.arange(len(wanted)) + 1) * DT, rtol=0, atol=0)
    assert trace.group_attributes("report/hidden")["regular"] == 1
    _, rates = trace.report("hidden", "rate")
    assert np.array_equal(rates, expected_rows(run[1], "hidden.rate"))
    assert rates.dtype == np.float32
    with pytest.raises(ConfigurationError, match="no 'u' of population 'hidden'"):
        trace.report("hidden", "u")


def test_learning_comes_back(source, run):
    trace = read_trace(source)
    times, weight = trace.learning("in->hidden", "weight")
    assert np.array_equal(weight, np.concatenate([r["in->hidden.weight"][:, list(KEPT)] for r in run[1]]))
    assert weight.dtype == np.float64
    assert times[STEPS] == (BATCH * STEPS + 1) * DT  # the second recording starts after both rows of the first batch
    assert np.array_equal(trace.learning("in->hidden", "modulator")[1], expected_rows(run[1], "in->hidden.modulator"))
    assert np.array_equal(
        trace.learning("in->hidden", "eligibility")[1], expected_rows(run[1], "in->hidden.eligibility")
    )


def test_trials_attributes_and_metrics(source):
    trace = read_trace(source)
    trials = trace.trials
    assert trials.dtype.names == ("sample", "replica", "epoch", "phase", "label", "start", "stop")
    assert trials[:4].tolist() == [
        (0, 0, 0, "test", 0, 0.0, 3.5),
        (0, 2, 0, "test", 0, 0.0, 3.5),
        (1, 0, 0, "test", 1, 3.5, 7.0),
        (1, 2, 0, "test", 1, 3.5, 7.0),
    ]
    assert (trials[-1]["epoch"], trials[-1]["stop"]) == (2, 12 * STEPS * DT)
    for name, value in ATTRIBUTES.items():
        assert trace.attributes[name] == value
    assert trace.attributes["magic"] == 0x0A7A
    assert list(trace.attributes["version"]) == [0, 1]
    if (source / "trace.h5").exists() or source.suffix == ".h5":
        assert list(trace.metrics["split"]) == ["train", "test"]
        assert list(trace.metrics["epoch"]) == [0, 1]


def test_replicas_with_another_order(tmp_path):
    sample = np.arange(REPLICAS * BATCH).reshape(REPLICAS, BATCH)
    with TraceWriter(tmp_path, ATTRIBUTES, KEPT) as writer:
        writer.append(recording(0), TrialInfo(sample, 0, "train", label=sample + 10))
        writer.finish()
    trials = read_trace(tmp_path).trials
    assert trials["sample"].tolist() == [0, 4, 1, 5]
    assert trials["label"].tolist() == [10, 14, 11, 15]


def test_no_replica_axis(tmp_path):
    flat = recording(0)
    single = Recording({key: flat[key][:, 0] for key in flat}, flat.step, DT)
    with TraceWriter(tmp_path, ATTRIBUTES, None) as writer:
        writer.append(single, TrialInfo([0, 1], 0, "train"))
        writer.finish()
    trace = read_trace(tmp_path)
    assert np.array_equal(trace.raster("hidden")[:, :, 0], np.moveaxis(single["hidden.spike"], 1, 1))
    assert trace.learning("in->hidden", "weight")[1].shape == (STEPS, 1, NEURONS, INPUTS)


def test_every_third_step(tmp_path):
    """A thinned report keeps exact times and says that its frames are not equally spaced."""
    full = recording(0)
    values = {"hidden.spike": full["hidden.spike"], "hidden.v": full["hidden.v"][::3]}
    thin = Recording(values, {"hidden.spike": np.arange(7), "hidden.v": np.arange(0, 7, 3)}, DT)
    with TraceWriter(tmp_path, ATTRIBUTES, KEPT) as writer:
        writer.append(thin, TrialInfo([0, 1], 0, "train"))
        writer.finish()
    trace = read_trace(tmp_path)
    assert trace.report("hidden", "v")[0].tolist() == [0.5, 2.0, 3.5, 4.0, 5.5, 7.0]
    assert trace.group_attributes("report/hidden")["regular"] == 0
    assert trace.raster("hidden").shape == (STEPS, BATCH, 2, NEURONS)


def test_given_interval_wins(tmp_path):
    full = recording(0)
    late = Recording({"hidden.v": full["hidden.v"][:2]}, {"hidden.v": np.array([4, 9])}, DT)
    with TraceWriter(tmp_path, ATTRIBUTES, KEPT) as writer:
        writer.append(late, TrialInfo([0, 1], 0, "train", steps=12, first_step=0))
        writer.finish()
    trace = read_trace(tmp_path)
    assert trace.report("hidden", "v")[0].tolist() == [2.5, 5.0, 8.5, 11.0]
    assert trace.trials["stop"].tolist() == [6.0, 6.0, 12.0, 12.0]


def test_resume_equals_uninterrupted(tmp_path, run):
    """Closed after segment 0, killed in 2, resumed from the checkpoint of 1: the same trace."""
    for segment in range(3):
        with TraceWriter(tmp_path, ATTRIBUTES, KEPT, {"hidden.v": "mV"}) as writer:
            assert writer.segment == segment - 1
            for part in range(2):
                writer.append(
                    run[1][2 * segment + part], TrialInfo([2 * part, 2 * part + 1], segment, "test", label=[0, 1])
                )
            writer.close_segment()
    (tmp_path / "trace" / "3.h5.part").write_bytes(b"half a segment")
    assert read_trace(tmp_path).lost == ("3.h5.part",)
    assert drop_segments_after(tmp_path, 1) == ["2.h5", "3.h5.part"]
    with TraceWriter(tmp_path, ATTRIBUTES, KEPT, {"hidden.v": "mV"}) as writer:
        for part in range(2):
            writer.append(run[1][4 + part], TrialInfo([2 * part, 2 * part + 1], 2, "test", label=[0, 1]))
        writer.finish({"epoch": np.arange(2), "split": np.array(["train", "test"])})
    whole, resumed = read_trace(run[0]), read_trace(tmp_path)
    assert whole.names == resumed.names
    for name in whole.names:
        assert np.array_equal(whole.array(name), resumed.array(name)), name


def test_drop_all(tmp_path):
    write(tmp_path, segments=2)
    assert drop_segments_after(tmp_path, -1) == ["0.h5", "1.h5"]
    assert not (tmp_path / "trace.h5").exists()


def test_kill_loses_only_the_open_segment(tmp_path):
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_storage import *
with TraceWriter(Path({str(tmp_path)!r}), ATTRIBUTES, KEPT) as writer:
    writer.append(recording(0), TrialInfo([0, 1], 0, "test"))
    writer.close_segment()
    writer.append(recording(1), TrialInfo([0, 1], 1, "test"))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    trace = read_trace(tmp_path)
    assert trace.lost == ("1.h5.part",)
    assert np.array_equal(trace.raster("hidden"), expected_raster([recording(0)]))


def test_full_disk_is_one_sentence_and_loses_nothing_earlier(tmp_path):
    """A limit on file size stands in for a full disk: both make `write` fail, and HDF5 must survive it."""
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_storage import *
with TraceWriter(Path({str(tmp_path)!r}), ATTRIBUTES, KEPT) as writer:
    writer.append(recording(0), TrialInfo([0, 1], 0, "test"))
    writer.close_segment()
    resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))
    try:
        for part in range(200):
            writer.append(recording(part), TrialInfo([0, 1], 1, "test"))
    except ConfigurationError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cannot write {tmp_path / 'trace' / '1.h5'}: ")
    assert done.stdout.count("\n") == 1
    assert os.listdir(tmp_path / "trace") == ["0.h5"]
    assert np.array_equal(read_trace(tmp_path).raster("hidden"), expected_raster([recording(0)]))


@pytest.mark.parametrize("action", ["index", "h5", "csv", "npz"])
def test_full_disk_while_indexing_or_exporting(tmp_path, run, action):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    shutil.copytree(run[0], tmp_path / "run")
    old = (tmp_path / "run" / "trace.h5").read_bytes()
    with TraceWriter(tmp_path / "run", ATTRIBUTES, KEPT) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
        try:
            with pytest.raises(ConfigurationError, match="cannot write"):
                writer.finish() if action == "index" else export(tmp_path / "run", tmp_path / f"out.{action}")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == ["run"]
    assert (tmp_path / "run" / "trace.h5").read_bytes() == old


def test_exported_sonata_is_one_real_file(run, tmp_path):
    target = export(run[0], tmp_path / "out.h5")
    with h5py.File(target) as file:
        assert not file["spikes/hidden/timestamps"].is_virtual
        assert h5py.check_enum_dtype(file["spikes/hidden"].attrs.get_id("sorting").dtype) is not None
        assert file["report/hidden/mapping/index_pointer"].shape == (len(KEPT) * NEURONS + 1,)
        assert file["report/hidden/data"].shape == (12 * STEPS, len(KEPT) * NEURONS)
    with h5py.File(run[0] / "trace.h5") as file:
        assert file["spikes/hidden/timestamps"].is_virtual


def test_sonata_reader_agrees(run, tmp_path):
    libsonata = pytest.importorskip("libsonata", reason="has no wheel for this machine")
    trace = read_trace(run[0])
    times, nodes = trace.spikes("hidden")
    target = str(export(run[0], tmp_path / "out.h5"))
    for path in (target, str(run[0] / "trace.h5"), str(run[0] / "trace" / "0.h5")):
        population = libsonata.SpikeReader(path)["hidden"]
        found = population.get()
        assert population.time_units == "ms"
        assert population.sorting == "by_time"
        assert [time for _, time in found] == sorted(time for _, time in found)
        if "trace/0" not in path:
            assert sorted(found) == sorted(zip(nodes.tolist(), times.tolist(), strict=True))
    reader = libsonata.ElementReportReader(target)
    assert sorted(reader.get_population_names()) == ["hidden", "hidden_rate"]
    report = reader["hidden"]
    assert report.data_units == "mV"
    assert report.get_node_ids() == [*range(5), *range(10, 15)]
    frames = report.get()
    wanted_times, wanted = trace.report("hidden", "v")
    assert np.allclose(frames.times, wanted_times)
    assert np.array_equal(np.asarray(frames.data), wanted.reshape(len(wanted), -1).astype(np.float32))


def test_csv_and_npz(run, tmp_path):
    trace = read_trace(run[0])
    times, nodes = trace.spikes("hidden")
    with open(export(run[0], tmp_path / "out.csv"), newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [float(row["time"]) for row in rows] == times.tolist()
    assert [int(row["replica"]) * NEURONS + int(row["neuron"]) for row in rows] == nodes.tolist()
    assert {row["population"] for row in rows} == {"hidden"}
    with np.load(export(run[0], tmp_path / "out.npz"), allow_pickle=False) as arrays:
        assert sorted(arrays.files) == sorted(trace.names)
        assert all(np.array_equal(arrays[name], trace.array(name)) for name in arrays.files)


def test_moved_folder_and_other_working_directory(run, tmp_path, monkeypatch):
    shutil.copytree(run[0], tmp_path / "moved")
    monkeypatch.chdir("/")
    assert np.array_equal(read_trace(tmp_path / "moved").raster("hidden"), expected_raster(run[1]))


def damaged(folder: Path, kind: str) -> Path:
    """A copy of a run with one thing wrong; returns what to read."""
    index, segment = folder / "trace.h5", folder / "trace" / "1.h5"
    if kind == "text":
        index.write_text("epoch,loss\n")
    elif kind == "empty":
        index.write_bytes(b"")
    elif kind == "foreign":
        with h5py.File(index, "w") as file:
            file["a"] = 1
    elif kind == "schema":
        with h5py.File(index, "r+") as file:
            file.attrs["schema_version"] = 99
    elif kind == "truncated segment":
        segment.write_bytes(segment.read_bytes()[: segment.stat().st_size // 2])
    elif kind == "missing segment":
        segment.unlink()
    elif kind == "missing":
        return folder / "other.h5"
    elif kind == "no trace":
        shutil.rmtree(folder / "trace")
        index.unlink()
    return folder


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("text", "not a readable HDF5 file"),
        ("empty", "not a readable HDF5 file"),
        ("foreign", "not a trace that neurosim wrote"),
        ("schema", "schema 99"),
        ("truncated segment", r"1\.h5 is not a readable HDF5 file"),
        ("missing segment", r"there is no trace file .*1\.h5"),
        ("missing", "there is no trace file"),
        ("no trace", "holds no trace"),
    ],
)
def test_damage_is_one_sentence(run, tmp_path, kind, sentence):
    shutil.copytree(run[0], tmp_path / "run")
    path = damaged(tmp_path / "run", kind)
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        read_trace(path)
    assert "\n" not in str(caught.value)


def test_damaged_data_is_one_sentence(run, tmp_path):
    """Compressed rows that were overwritten in the middle of a file."""
    target = export(run[0], tmp_path / "out.h5")
    with h5py.File(target) as file:
        chunk = file["learning/in->hidden/weight"].id.get_chunk_info(0)
    with open(target, "r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    with pytest.raises(ConfigurationError, match="is damaged") as caught:
        read_trace(target).learning("in->hidden", "weight")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "sentence"), [("out.txt", r"\.h5, \.csv, \.npz"), ("no/out.h5", "there is no folder")]
)
def test_export_refuses(run, tmp_path, target, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        export(run[0], tmp_path / target)


def test_export_onto_itself(run):
    with pytest.raises(ConfigurationError, match="onto itself"):
        export(run[0], run[0] / "trace.h5")


def test_wrong_input(tmp_path):
    with pytest.raises(ConfigurationError, match="lack commit"):
        TraceWriter(tmp_path, {key: value for key, value in ATTRIBUTES.items() if key != "commit"})
    with TraceWriter(tmp_path, ATTRIBUTES, KEPT) as writer:
        with pytest.raises(ConfigurationError, match="2 batch rows; the trial names 3"):
            writer.append(recording(0), TrialInfo([0, 1, 2], 0, "test"))
        bad = Recording({"a/b.v": recording(0)["hidden.v"]}, {"a/b.v": np.arange(STEPS)}, DT)
        with pytest.raises(ConfigurationError, match="must not contain '/'"):
            writer.append(bad, TrialInfo([0, 1], 0, "test"))
    assert not (tmp_path / "trace").exists()


def test_abandoned_segment_is_gone(tmp_path):
    with TraceWriter(tmp_path, ATTRIBUTES, KEPT) as writer:
        writer.append(recording(0), TrialInfo([0, 1], 0, "test"))
        assert os.listdir(tmp_path / "trace") == ["0.h5.part"]
    assert os.listdir(tmp_path / "trace") == []


def test_unequal_trials_have_no_raster(tmp_path):
    with TraceWriter(tmp_path, ATTRIBUTES, KEPT) as writer:
        writer.append(recording(0), TrialInfo([0, 1], 0, "short"))
        writer.append(recording(1, steps=9), TrialInfo([0, 1], 0, "long"))
        writer.finish()
    trace = read_trace(tmp_path)
    assert np.array_equal(trace.raster("hidden", phase="long"), expected_raster([recording(1, steps=9)]))
    with pytest.raises(ConfigurationError, match="not equally long"):
        trace.raster("hidden")


def test_planned_bytes():
    shapes = {"hidden.spike": (100, 1, 20, 50), "hidden.v": (100, 1, 20, 50), "in->hidden.weight": (100, 1, 50, 4)}
    assert planned_bytes(shapes, 3, item_bytes=4, spike_fraction=0.1) == 3 * (
        100_000 * 16 // 10 + 4 * 100_000 + 4 * 20_000
    )


def test_memory_is_bounded(tmp_path):
    """Forty recordings of 1.6 MB take the memory of a few."""
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_storage import *
value = np.random.default_rng(0).random((1000, 1, 2, 100))
big = Recording({{"hidden.v": value}}, {{"hidden.v": np.arange(1000)}}, DT)
with TraceWriter(Path({str(tmp_path)!r}), ATTRIBUTES) as writer:
    writer.append(big, TrialInfo([0, 1], 0, "test"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for part in range(40):
        writer.append(big, TrialInfo([0, 1], 0, "test"))
    writer.finish()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 16_000  # KiB; all of it would be 64,000
