"""Parts that distillers share."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from avpipe.stages.distill import Distilled, Looking, Looks, Tokens


class ToCommonWidth(nn.Module):
    """LayerNorm and a linear map from a tap's channels C to the common width d, for any leading axes.

    Args:
        channels: C.
        width: d.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.map = nn.Linear(channels, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[..., C]` to `[..., d]`."""
        mapped: Tensor = self.map(self.norm(x))
        return mapped


class EachModality(nn.Module):
    """A distiller that treats each modality by itself.

    Args:
        parts: for each modality a module from `tokens[tap]` `[B, T, N, C]` and `statistics[tap]` to a `Distilled`.
    """

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    def forward(self, tokens: Tokens, statistics: Tokens | None = None) -> dict[str, Distilled]:
        """Distils every modality; see `avpipe.stages.distill`."""
        known = statistics or {}
        return {m: part(tokens[m], known.get(m, {})) for m, part in self.parts.items()}

    def looks(self, tokens: Tokens, statistics: Tokens | None = None) -> dict[str, Looks]:
        """Where the parts look that can say so; empty for a method without attention."""
        known = statistics or {}
        return {
            m: part.looks(tokens[m], known.get(m, {})) for m, part in self.parts.items() if isinstance(part, Looking)
        }
