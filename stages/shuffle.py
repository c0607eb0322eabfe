"""How much each layer matters to a trained model: its tokens are taken from another clip, all else stays.

    costs = shuffle_costs(model, data, task, batch=8, device=torch.device("cpu"))
    for row in costs.rows:
        print(row.modality, row.tap or "all layers", row.cost)

This is permutation importance. It holds for any method and any task, needs no training, and keeps the tokens in their
usual range, which zeros would not. What it shows is what this model uses, and not what a layer holds: of two layers
that say the same, both may cost little. Frames or samples that a model reads go with all layers of their modality.

Legend: B batch, T segments, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from avpipe.pipeline.errors import UsageError
from avpipe.stages.features import ClipFeatures, FeatureBatch, FeatureStore
from avpipe.stages.job import RAW_ARRAYS
from avpipe.stages.tasks import Prediction, Task


@dataclass(frozen=True, slots=True)
class ShuffleCost:
    """What is lost without the right tokens of one layer, or of a whole modality.

    Attributes:
        modality: `audio` or `visual`.
        tap: the layer; None for all layers of the modality at once, and its frames or samples where those are read.
        score: the score with tokens of another clip there, the mean over the exchanges.
        cost: what the score falls by; negative where it rises.
        spread: standard deviation of the score over the exchanges (of a sample, n - 1); 0 for one exchange.
    """

    modality: str
    tap: str | None
    score: float
    cost: float
    spread: float


@dataclass(frozen=True, slots=True)
class ShuffleCosts:
    """All of it.

    Attributes:
        metric: what is measured: the task's validation score.
        base: the score with every token in its place.
        rows: for each modality all of it first, then its taps in order of depth.
    """

    metric: str
    base: float
    rows: tuple[ShuffleCost, ...]


def shuffle_costs(
    model: nn.Module,
    data: ClipFeatures,
    task: Task,
    *,
    batch: int,
    device: torch.device,
    layers: bool = True,
    seed: int = 0,
    exchanges: int = 1,
    advance: Callable[[int], object] = lambda samples: None,
) -> ShuffleCosts:
    """Measures what each layer and each modality is worth to a model.

    Predictions are scored as they come, so memory does not grow with the number of samples. Samples without features
    count as blank ones, everywhere alike.

    Args:
        model: gives logits for a `FeatureBatch`, on `device`.
        data: features of labelled samples, of two clips at least.
        task: rules for the same samples.
        batch: samples at a time.
        device: where the model lies.
        layers: whether single taps are measured too, beside whole modalities.
        seed: of the first exchange; see `donors`. Each further one has the next number.
        exchanges: how often clips are exchanged, each time in another order; every score is the mean over them.
        advance: called with the number of samples done; with `layers` the held samples come `passes(data, exchanges)`
            times.

    Raises:
        UsageError: there are fewer than two clips with features, or there is no exchange.
    """
    if exchanges < 1:
        raise UsageError(f"{exchanges} exchanges of clips: give a number of 1 or more")
    clips = [data.samples[i].clip for i in data.held]
    givers = [donors(clips, seed + number) for number in range(exchanges)]

    def score(chosen: Sequence[str], giving: Mapping[str, str]) -> float:
        return task.validate(_predictions(model, data, task, chosen, giving, batch, device, advance))

    base = score((), givers[0])

    def row(modality: str, tap: str | None, arrays: Sequence[str]) -> ShuffleCost:
        found = [score(arrays, giving) for giving in givers]
        mean = float(np.mean(found))
        spread = float(np.std(found, ddof=1)) if exchanges > 1 else 0.0
        return ShuffleCost(modality, tap, mean, base - mean, spread)

    rows = []
    for modality in data.store.modalities:
        taps, arrays = data.store.taps.get(modality, ()), _arrays(data.store, modality)
        rows.append(row(modality, None, arrays))
        if layers:
            alone = len(arrays) == 1  # then the layer is the modality
            whole = rows[-1]
            rows += [replace(whole, tap=t) if alone else row(modality, t, (f"{modality}/{t}",)) for t in taps]
    return ShuffleCosts(task.metric, base, tuple(rows))


def passes(data: ClipFeatures, exchanges: int = 1) -> int:
    """How often `shuffle_costs` predicts all held samples."""
    store, count = data.store, 0
    for modality in store.modalities:
        count += 1 + (len(store.taps.get(modality, ())) if len(_arrays(store, modality)) > 1 else 0)
    return 1 + exchanges * count


def _arrays(store: FeatureStore, modality: str) -> tuple[str, ...]:
    """All that a model reads of a modality: its taps in order of depth, then frames or samples."""
    media = (RAW_ARRAYS[modality],) if modality in store.media else ()
    return (*(f"{modality}/{tap}" for tap in store.taps.get(modality, ())), *media)


def donors(clips: Sequence[str], seed: int) -> dict[str, str]:
    """For each clip another one that gives it tokens: one round through all clips in random order.

    Raises:
        UsageError: there are fewer than two clips.
    """
    names = list(dict.fromkeys(clips))
    if len(names) < 2:
        raise UsageError(f"tokens can be exchanged between two clips or more, there are {len(names)} with features")
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    return dict(zip(order, [*order[1:], order[0]], strict=True))


def _predictions(
    model: nn.Module,
    data: ClipFeatures,
    task: Task,
    chosen: Sequence[str],
    givers: Mapping[str, str],
    batch: int,
    device: torch.device,
    advance: Callable[[int], object],
) -> Iterator[Prediction]:
    """One prediction per sample, in order, with the chosen arrays from the givers."""
    model.eval()
    batches, held = iter(data.batches(batch)), frozenset(data.held)
    ready: dict[int, Prediction] = {}
    for index in range(len(data)):
        if index in held and index not in ready:
            indices = next(batches)
            features = _exchanged(data, data.batch(indices), chosen, givers).to(device)
            with torch.no_grad():
                ready.update(zip(indices, task.predictions(model(features), features), strict=True))
            advance(len(indices))
        yield ready.pop(index) if index in ready else task.blank(index)


def _exchanged(
    data: ClipFeatures, batch: FeatureBatch, chosen: Sequence[str], givers: Mapping[str, str]
) -> FeatureBatch:
    """A batch with some arrays from the givers; a shorter giver starts again from its first segment."""
    if not chosen:
        return batch
    steps = np.arange(batch.present.shape[1])
    clips = [data.store.clips[givers[data.samples[i].clip]] for i in batch.indices]
    rows = np.stack([clip.start + steps % clip.segments for clip in clips])  # B T
    names = [*chosen, *(data.store.statistics[name] for name in chosen if name in data.store.statistics)]
    flat = data.store.read(rows.ravel(), names)
    found = {name: x.view(*rows.shape, *x.shape[1:]) for name, x in flat.items()}
    given = data.store.by_modality(found)
    tokens, statistics = (
        {m: {**taps, **theirs[m]} for m, taps in ours.items()}
        for ours, theirs in zip((batch.tokens, batch.statistics), given, strict=True)
    )
    media = {**batch.media, **data.store.media_of(found)}
    return replace(batch, tokens=tokens, statistics=statistics, media=media)
