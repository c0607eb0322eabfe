"""Which policies for short and missing media hold for an extraction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from avpipe.pipeline import progress
from avpipe.pipeline.cache import open_cache
from avpipe.pipeline.cache.locate import is_cache
from avpipe.pipeline.cache.spec import Spec
from avpipe.pipeline.errors import CacheMismatch
from avpipe.pipeline.manifest import Dataset
from avpipe.pipeline.media.policies import Policies, policies_of


def choose_policies(
    dataset: Dataset, cache: Path, modalities: Collection[str], given: Mapping[str, str | None] | None = None
) -> Policies:
    """What was given; else as the cache has it, as the dataset's files name it, or the default, in this order.

    Args:
        dataset: with the policies that its files name.
        cache: folder of the cache, which need not exist.
        modalities: what is extracted. Where one of these is in the cache with another policy, the comparison of
            fingerprints says so, with every other field.
        given: policies by name; None for one that was not given.

    Raises:
        UsageError: an unknown policy.
        CacheMismatch: the modality that the cache has, and that is not extracted now, has another policy.
    """
    specs = open_cache(cache).specs if is_cache(cache) else {}
    kept = policies_in(specs)
    named = {name: choice for name, choice in (given or {}).items() if choice is not None}
    for name, choice in dataset.media.items():
        if kept.get(name, choice) != choice and name not in named:
            progress.say(f"{cache} was made with {name} {kept[name]}, and goes on so; {dataset.name} names {choice}")
    chosen = Policies(**{**dataset.media, **kept, **named})
    for modality in specs.keys() - set(modalities):
        for name, choice in policies_in({modality: specs[modality]}).items():
            if name in named and choice != named[name]:
                option = f"--{name.replace('_', '-')}"
                raise CacheMismatch(
                    f"{cache} holds {modality} features made with {option} {choice}, and both modalities have one "
                    f"policy: leave {option} {named[name]} out, or give another directory with --cache"
                )
    return chosen


def policies_in(specs: Mapping[str, Spec]) -> dict[str, str]:
    """The policies that a cache's features were made with, by name; imported ones have none."""
    found: dict[str, str] = {}
    for modality, spec in specs.items():
        found |= policies_of(modality, spec.fields.get("media", {}))
    return found
