"""What a cache lacks of the clips that are to be trained on, and the commands that add it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.pipeline.errors import UsageError
from avpipe.stages.adding import adding_command
from avpipe.stages.job import RAW_ARRAYS
from avpipe.stages.model.spec import Reading
from avpipe.stages.taps import bare, codec_of, held_taps

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache


class Lacking:
    """Compares clips with a cache.

    Args:
        cache: the open cache.
        read: what a model is fed from it.
        clips: those that are to be trained on.
        name, root: dataset and its folder, for the commands.

    Attributes:
        arrays: arrays of `read` that not all of the clips have, with the number of clips that have them.
    """

    def __init__(self, cache: Cache, read: Reading, clips: Iterable[str], name: str, root: str | Path) -> None:
        self.cache, self.name, self.root = cache, name, root
        self.clips = frozenset(clips)
        tokens = [f"{modality}/{tap}" for modality, taps in read.taps.items() for tap in taps]
        wanted = {array: self._having([array]) for array in (*tokens, *(RAW_ARRAYS[m] for m in read.media))}
        self.arrays = {array: count for array, count in wanted.items() if count < len(self.clips)}
        self._modalities = tuple(dict.fromkeys((*read.taps, *read.media)))

    def error(self) -> UsageError:
        """Why no clip can be trained on, and what to do; for when each of them lacks something."""
        total = len(self.clips)
        add = f"run {self.commands()}, and see `avpipe quarantine ls --cache {self.cache.path}` for what failed"
        if not self._having(()):
            return UsageError(f"cache {self.cache.path} has no features of the training samples of {self.name}: {add}")
        held = ", ".join(f"{array} ({count} of {total})" for array, count in self.arrays.items())
        taps = self._common_taps()
        other = f"; or train on the layers that are there, with taps={taps}" if taps else ""
        return UsageError(
            f"no training clip of {self.name} has all that is read from cache {self.cache.path}; lacking, with the "
            f"number of clips that have it: {held}. Add it: {add}{other}"
        )

    def commands(self) -> str:
        """The commands that add what is lacking, one for each modality, in backticks."""
        found = []
        for modality in self._modalities:
            lacking = [array.partition("/")[2] for array in self.arrays if array.startswith(f"{modality}/")]
            if not lacking:
                continue
            spec = self.cache.specs[modality]
            if spec.imported:
                found.append(f"what the {modality} features were imported with")
                continue
            if "model" not in spec.request:  # nothing says what the features were made with
                plain = ["avpipe", "extract", "--dataset", self.name, "--cache", str(self.cache.path)]
                return f"`{shlex.join(plain)}`"
            held = {array.tap: array for array in self.cache.arrays.values() if array.modality == modality}
            taps = [tap for tap in lacking if f"{modality}/{tap}" not in RAW_ARRAYS.values()]
            taps = taps or list(held_taps(self.cache, modality)[-1:])  # frames and sound come with any layer
            layers = ("--layers", ",".join(dict.fromkeys(map(bare, taps))))
            codec = codec_of(held[taps[0]])
            line = adding_command(self.cache, modality, layers, name=self.name, root=self.root, codec=codec)
            found.append(f"`{line}`")
        return " and ".join(found)

    def commands_that_help(self) -> str:
        """`commands`; "" where all clips that lack something were tried and put in quarantine."""
        whole = self.cache.clips([*self.arrays]).keys()
        tried = {entry.clip for entry in self.cache.quarantined()}
        return self.commands() if self.clips - whole - tried else ""

    def _having(self, arrays: Sequence[str]) -> int:
        """How many of the clips are complete in some arrays."""
        return len(self.clips & self.cache.clips(arrays).keys())

    def _common_taps(self) -> str:
        """Layers, by `taps=`, that every clip has of every modality; "" where a modality has none."""
        names = []
        for modality in self._modalities:
            taps = [tap for tap in held_taps(self.cache, modality) if tap == bare(tap)]
            common = [f"{modality}/{tap}" for tap in taps if self._having([f"{modality}/{tap}"]) == len(self.clips)]
            if not common:
                return ""
            names += common
        return ",".join(names)
