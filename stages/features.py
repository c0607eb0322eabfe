"""Features of labelled clips, read from a cache for training and evaluation.

Legend: B batch, T segments, N tokens, C channels.

    store = FeatureStore(cache, every_tap(cache, ("audio", "visual")), clips=["a", "b"])
    data = ClipFeatures(store, samples)
    for indices in data.batches(size=8, seed=0, epoch=3):
        batch = data.batch(indices)

`ClipFeatures` is a torch `Dataset` that can be pickled, so torch's own loader works too, with any start method; each
worker opens the cache itself. The order is that of the list, whatever the number of workers:

    order = list(data.batches(size=8, seed=0, epoch=3))
    DataLoader(data, sampler=order, batch_size=None, num_workers=2, multiprocessing_context="spawn")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages.feature_store import FeatureStore
from avpipe.stages.order import block_order, full_order
from avpipe.stages.taps import every_tap, taps_of

if TYPE_CHECKING:
    from avpipe.pipeline.cache import ClipRows

__all__ = ["ClipFeatures", "FeatureBatch", "FeatureStore", "every_tap", "taps_of"]


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """Features of some samples, clips of fewer segments padded at the end.

    Attributes:
        indices: places of the samples in their `ClipFeatures`.
        tokens: `tokens[modality][tap]`, `[B, T, N, C]` in the cache's float type; padding repeats the last segment.
        present: bool `[B, T]`, False where padded.
        valid: bool `[B, T]`, segments for which at least one modality has real content.
        statistics: mean and inverse deviation of the tokens, `[B, T, N, 2]` float32, as `tokens`; without the taps
            whose statistics are not stored.
        media: what the backbones are fed, by modality, where it was asked for: frames uint8 `[B, T, H, W, 3]`, samples
            int16 `[B, T, samples of a segment]`.
        real: bool `[B, T]` by modality: segments for which it has real content, and no stand-in.
    """

    indices: tuple[int, ...]
    tokens: dict[str, dict[str, Tensor]]
    present: Tensor
    valid: Tensor
    statistics: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    media: dict[str, Tensor] = field(default_factory=dict)
    real: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> FeatureBatch:
        """The same batch on another device."""
        tokens, statistics = (
            {m: {tap: x.to(device, non_blocking=True) for tap, x in taps.items()} for m, taps in values.items()}
            for values in (self.tokens, self.statistics)
        )
        media = {m: x.to(device, non_blocking=True) for m, x in self.media.items()}
        real = {m: x.to(device) for m, x in self.real.items()}
        present, valid = self.present.to(device), self.valid.to(device)
        return FeatureBatch(self.indices, tokens, present, valid, statistics, media, real)


class ClipFeatures(TorchDataset[FeatureBatch]):
    """Features of samples, as a torch `Dataset` (`data[3]`, `data[[3, 1]]`), and by batches.

    Args:
        store: where features come from.
        samples: labelled samples; those whose clip is not in the store are `missing`, and no batch has them.
        labelled_only: of samples with masks, segments behind the last one that has a mask are left out of batches: of
            a training clip of S4 the first alone is read and computed. For models that treat each segment by itself.

    Raises:
        UsageError: a sample's labels do not fit the number of segments of its clip.
    """

    def __init__(self, store: FeatureStore, samples: Sequence[Sample], *, labelled_only: bool = False) -> None:
        self.store, self.samples, self.labelled_only = store, tuple(samples), labelled_only
        self.held = tuple(i for i, sample in enumerate(self.samples) if sample.clip in store.clips)
        self.missing = tuple(sample.id for sample in self.samples if sample.clip not in store.clips)
        for index in self.held:
            self._check_length(self.samples[index])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int | Sequence[int]) -> FeatureBatch:
        indices = list(index) if isinstance(index, Sequence) else [int(index)]
        for place in indices:
            if not 0 <= place < len(self):
                raise IndexError(f"sample {place} of {len(self)}")
        return self.batch(indices)

    def batch(self, indices: Sequence[int], out: Mapping[str, Tensor] | None = None) -> FeatureBatch:
        """Features of the samples at these places.

        Args:
            indices: places of samples.
            out: memory for the tokens, from `store.buffers`, with room for as many clips of the longest length; the
                batch is good until it is filled again. Default: memory of its own.

        Raises:
            UsageError: the clip of one is missing.
        """
        clips = [self._clip(i) for i in indices]
        counts = np.array([[self._segments(i)] for i in indices])  # B 1
        steps = np.minimum(np.arange(counts.max()), counts - 1)  # B T
        rows = steps + np.array([[c.start] for c in clips])
        present = np.arange(counts.max()) < counts
        real = {m: self._real(m, clips, steps) & present for m in self.store.modalities}
        flat = self.store.read(rows.ravel(), out=out)
        shaped = {name: x.view(*rows.shape, *x.shape[1:]) for name, x in flat.items()}
        tokens, statistics = self.store.by_modality(shaped)
        valid = torch.from_numpy(np.any(list(real.values()), axis=0))
        media = self.store.media_of(shaped)
        shown = {m: torch.from_numpy(each) for m, each in real.items()}
        return FeatureBatch(tuple(indices), tokens, torch.from_numpy(present), valid, statistics, media, shown)

    @property
    def units(self) -> list[int]:
        """The unit of the cache in which each held sample's clip lies."""
        return [self.store.unit(self.samples[i].clip) for i in self.held]

    def batches(
        self, size: int, *, seed: int | None = None, epoch: int = 0, block_units: int = 0
    ) -> Iterator[list[int]]:
        """Places of the held samples in batches.

        Args:
            size: samples in a batch.
            seed: with `epoch`, of the shuffle; None: in order.
            epoch: number of the epoch.
            block_units: units of the cache that are mixed at once; 0: all (`order` has both shuffles).
        """
        if seed is None:
            order = np.array(self.held, dtype=np.int64)
        elif block_units:
            order = block_order(self.held, self.units, block_units, seed, epoch)
        else:
            order = full_order(self.held, seed, epoch)
        for start in range(0, len(order), size):
            yield order[start : start + size].tolist()

    def _clip(self, index: int) -> ClipRows:
        sample = self.samples[index]
        if sample.clip not in self.store.clips:
            raise UsageError(f"clip {sample.clip!r} is not in cache {self.store.path}: `avpipe extract` adds it")
        return self.store.clips[sample.clip]

    def _segments(self, index: int) -> int:
        """Segments of a sample that a batch has."""
        masks = self.samples[index].masks
        if not self.labelled_only or masks is None:
            return self._clip(index).segments
        return max((number for number, mask in enumerate(masks, start=1) if mask is not None), default=1)

    def _check_length(self, sample: Sample) -> None:
        count = sample.segments or len(sample.events or sample.masks or ())
        rows = self.store.clips[sample.clip].segments
        if count != rows:
            raise UsageError(
                f"sample {sample.id!r} has labels for {count} segments, its clip {sample.clip!r} has {rows} in "
                f"cache {self.store.path}: the cache was made from other annotations; extract into another --cache"
            )

    def _real(self, modality: str, clips: Sequence[ClipRows], steps: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Where a modality of clips is real, at segments `steps` `[B, T]`; everywhere in a clip without a mask."""
        known = (clip.masks.get(modality, np.ones(clip.segments, dtype=bool)) for clip in clips)
        return np.stack([mask[chosen] for mask, chosen in zip(known, steps, strict=True)])
