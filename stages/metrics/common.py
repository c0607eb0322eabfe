"""What the protocols share: the sigmoid of the official evaluators, and which samples a scorer has met."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import UsageError

NAMED = 5
"""How many missing places an error names."""


def probabilities(logits: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """The sigmoid in float32, without overflow warnings for large negative logits.

    The exponential is rounded to float32 once, after double precision: numpy's own in float32 falls on the other side
    of 0.5 than torch's for logits about 1e-7.
    """
    values = np.asarray(logits, dtype=np.float32)
    with np.errstate(over="ignore"):
        power = np.exp(-values.astype(np.float64)).astype(np.float32)
        return np.asarray(1 / (1 + power), dtype=np.float32)


class Received:
    """Which samples have been added to a scorer, each exactly once and in any order.

    Args:
        count: how many samples the set has.
        what: what one is called in errors, such as `video`.

    Raises:
        UsageError: there is no sample.
    """

    def __init__(self, count: int, what: str) -> None:
        if count < 1:
            raise UsageError(f"there is no {what} to score")
        self.what = what
        self._seen = np.zeros(count, dtype=bool)

    def take(self, index: int) -> None:
        """Notes that sample `index` is there; call it once its scores are known, so that a refused one may come again.

        Raises:
            UsageError: there is no such place, or it is taken.
        """
        if not 0 <= index < len(self._seen):
            raise UsageError(f"{self.what} {index} does not exist: there are {len(self._seen)}, counted from 0")
        if self._seen[index]:
            raise UsageError(f"{self.what} {index} was added twice")
        self._seen[index] = True

    def require_all(self) -> None:
        """Refuses a score of a part of the set.

        Raises:
            UsageError: samples are missing; it names the first ones.
        """
        missing = np.flatnonzero(~self._seen)
        if len(missing):
            named = ", ".join(map(str, missing[:NAMED])) + (", ..." if len(missing) > NAMED else "")
            raise UsageError(
                f"{len(missing)} of {len(self._seen)} {self.what}s were never added (places {named}): "
                "add each of them, with a blank prediction where there is none"
            )


def require_classes(ids: npt.NDArray[np.integer], classes: int, what: str) -> None:
    """Refuses class ids outside `0..classes - 1`, and arrays that hold no integers.

    Raises:
        UsageError: says which value was met.
    """
    if not (np.issubdtype(ids.dtype, np.integer) or ids.dtype == np.bool_):
        raise UsageError(f"{what} must be class ids (integers), not {ids.dtype}: take the argmax of scores first")
    if ids.size and not (int(ids.min()) >= 0 and int(ids.max()) < classes):
        wrong = int(ids.min()) if ids.min() < 0 else int(ids.max())
        raise UsageError(f"{what} hold class {wrong}, but ids go from 0 to {classes - 1}")
