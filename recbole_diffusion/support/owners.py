"""Whether the process that a file or folder belongs to has ended: by its lock, or by its id."""

from __future__ import annotations

import fcntl
import os
import time

#: Seconds after which unfinished files are taken for abandoned on a file system without locks.
STALE = 24 * 3600.0


def has_ended(pid: int) -> bool:
    """Whether no process of this machine has the id. False if that is unknown."""
    if os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's; no process id
        return False
    return False


def lock_at_once(handle: int, last_change: float) -> bool:
    """Lock an open file if nobody holds its lock, which the kernel releases when its process ends.

    Args:
        handle: the file's, open for writing where it may be on NFS.
        last_change: seconds since the epoch.

    Returns:
        Whether nobody holds it; on a file system without locks, whether the last change is :data:`STALE` seconds ago.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - last_change > STALE
    return True
