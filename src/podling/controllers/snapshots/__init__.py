"""Volume snapshots: `snapshot.storage.k8s.io/v1`, as the external-snapshotter project defines and serves them.

A VolumeSnapshot asks for one, a VolumeSnapshotContent is one, a VolumeSnapshotClass says how. `binding` brings the
first two together, `making` takes and removes what is on the disk, `protection` keeps a claim while it is being copied.
"""
