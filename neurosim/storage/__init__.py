"""HDF5 in and out; the only place that imports h5py.

A run folder has closed segments `trace/<k>.h5` and `trace.h5`, an index over them. All have the same layout:

    /                         attributes: schema, schema_version, package_version, commit (of git, "-dirty" if the
                              sources were changed since, or "unknown"), source_hash, config (YAML), seed, dt, backend,
                              device, dtype, replicas; SONATA's magic and version
    /spikes/<population>/     timestamps (ms), node_ids (replica * N + neuron); attributes sorting, neurons
    /report/<population>/     data [F, R * N], time [F] (ms), mapping/{node_ids, index_pointer, element_ids, time};
                              attributes population, field, neurons, units, regular. This is a population's first
                              recorded field; any further one is /report/<population>_<field>/
    /learning/<projection>/   weight, bias, eligibility, modulator [F, R, ...], and <field>_time [F] (ms)
    /trials/                  sample, replica, epoch, phase, label, start, stop (ms); a row per sample and replica
    /metrics/                 columns of the learning curves (in the index and in exports)

Time runs on over all trials. A spike or frame of the first step of a trial lies at `start + dt`.
"""

from neurosim.storage.export import export
from neurosim.storage.index import drop_segments_after
from neurosim.storage.reader import Trace, read_trace
from neurosim.storage.writer import TraceWriter, TrialInfo, planned_bytes

__all__ = ["Trace", "TraceWriter", "TrialInfo", "drop_segments_after", "export", "planned_bytes", "read_trace"]
