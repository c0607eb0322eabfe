"""Which file systems may be mapped: a mapped file that another host cuts kills the process that reads it."""

from __future__ import annotations

from pathlib import Path

_NETWORK = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "mmfs",
    "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "sshfs", "vboxsf",
    "virtiofs", "vmhgfs", "weka", "wekafs",
})  # fmt: skip


def is_network(path: Path) -> bool:
    """Whether a folder lies on a file system whose files other hosts may change.

    Args:
        path: an existing folder.

    Returns:
        True for network and FUSE file systems, and where the mount cannot be found out.
    """
    import psutil  # here, because only a reader that has to choose needs it

    place = path.resolve()
    found = ("", -1)
    for mount in psutil.disk_partitions(all=True):
        point = Path(mount.mountpoint)
        depth = len(point.parts)
        if depth >= found[1] and place.is_relative_to(point):  # of mounts at one place the last is on top
            found = mount.fstype.lower(), depth
    kind = found[0]
    return not kind or kind in _NETWORK or kind == "fuse" or kind.startswith("fuse.")
