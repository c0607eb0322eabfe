"""What a cache's features were made with, one spec per modality, and the refusal to mix."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from avpipe.pipeline.errors import CacheMismatch


@dataclass(frozen=True)
class Spec:
    """The spec of one modality.

    Attributes:
        modality: `visual` or `audio`.
        fields: everything that decides the bytes: weights, preprocessing, timeline, policies.
        request: what the user asked for at first; shown, not compared.
        fingerprint: SHA-256 of the fields, hexadecimal.
    """

    modality: str
    fields: Mapping[str, Any]
    request: Mapping[str, Any]
    fingerprint: str

    @property
    def imported(self) -> bool:
        """Whether the features come from others, and no backbone here can make them again."""
        return bool(self.fields.get("imported"))

    @classmethod
    def of(cls, modality: str, fields: Mapping[str, Any], request: Mapping[str, Any]) -> Spec:
        """A spec from plain values; tuples count as lists."""
        plain = _plain(fields)
        return cls(modality, plain, _plain(request), fingerprint(plain))

    def as_json(self) -> dict[str, Any]:
        """Members of its ledger document."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Spec:
        """From the members of its ledger document."""
        return cls(content["modality"], content["fields"], content["request"], content["fingerprint"])


def fingerprint(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the fields as JSON with sorted keys, hexadecimal."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def refuse_difference(stored: Spec, wanted: Spec, root: Path) -> None:
    """Raises where two specs of a modality differ.

    Raises:
        CacheMismatch: names every field that differs, with both values.
    """
    if stored.imported != wanted.imported:
        refuse_mixture(stored, root)
    lines = list(_differences(_flatten(stored.fields), _flatten(wanted.fields)))
    if lines:
        listed = "\n  ".join(lines)
        raise CacheMismatch(
            f"{root} holds {stored.modality} features made with other settings:\n  {listed}\n"
            "Features are never mixed: give another directory with --cache, or the settings of this cache"
        )


def refuse_mixture(stored: Spec, root: Path) -> NoReturn:
    """Raises because imported features would lie among extracted ones.

    Raises:
        CacheMismatch: says which are there.
    """
    held, other = ("imported", "extracted") if stored.imported else ("extracted", "imported")
    raise CacheMismatch(
        f"{root} holds {held} {stored.modality} features, and {other} ones are never put among them: give another "
        "directory with --cache"
    )


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*stored, *wanted}):
        if name not in stored:
            yield f"{name}: cache has no such field, this run has {_show(wanted[name])}"
        elif name not in wanted:
            yield f"{name}: cache has {_show(stored[name])}, this run has no such field"
        elif stored[name] != wanted[name]:
            yield f"{name}: cache has {_show(stored[name])}, this run has {_show(wanted[name])}"


def _flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    return plain


def _show(value: object) -> str:
    return json.dumps(value)
