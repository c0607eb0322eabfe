"""Cost of one LCD layer (both branches, forward and backward) in plain torch and in our forms, over a grid of shapes.

    OMP_NUM_THREADS=1 python benchmarks/attention.py                   # the bar: ViT-B, r = C = 768, K = 4, H = 8
    OMP_NUM_THREADS=1 python benchmarks/attention.py --grid --json     # r, K and H over six shapes of tokens

Naive is what one would write: a LayerNorm module, key and value projections, `scaled_dot_product_attention`, and for
the first branch a product with LayerNorm's output. All forms run one after the other, again and again, so that a busy
machine slows each alike, and the least time of each counts: with one thread CPU time (`clock`: `cpu`), which other
users of the machine change little, else the time that passed (`wall`).

Activation memory is the storages that autograd holds between forward and backward, each counted once, without the
parameters and the tokens as they are stored. In JSON: `seconds`, `saved_mb` by form.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from avpipe.stages.attention import StoredTokens, cheaper_form
from avpipe.stages.config import TrainConfig
from avpipe.stages.distill.lcd_layer import LayerDistiller, LowRankAttention
from avpipe.stages.statistics import token_statistics

SHAPES = {
    "vit_base": (197, 768),
    "swinv2_large stage 1": (2304, 192),
    "swinv2_large stage 3": (144, 768),
    "swinv2_large stage 4": (36, 1536),
    "htsat stage 1": (4096, 96),
    "htsat stage 3": (256, 384),
}
RANKS, META_TOKENS, HEADS = (16, 64, 128, 256, 768), (1, 2, 4, 8, 16), (1, 4, 8)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class NaiveLayer(nn.Module):
    """The same layer in plain torch.

    Args:
        channels: C.
        config: `heads`, `rank` and `meta_tokens` are used.
    """

    def __init__(self, channels: int, config: TrainConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.meta = nn.Parameter(torch.randn(config.meta_tokens, channels) * 0.02)
        self.query_norm, self.token_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query, self.key, self.value = (nn.Linear(channels, config.rank, bias=False) for _ in range(3))
        self.back = nn.Linear(config.rank, channels, bias=False)
        self.gate = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`[S, N, C]` to `[S, K, C]`."""
        x = x.float()
        queries, normed = self.query_norm(self.meta), self.token_norm(x)
        kept = (queries @ normed.transpose(1, 2) * x.shape[-1] ** -0.5).softmax(dim=-1) @ x
        q = self.query(queries).expand(len(x), -1, -1)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, self.key(normed), self.value(normed)))
        adapted = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = kept + self.gate * self.back(adapted)
        return out


class OurLayer(nn.Module):
    """One `LayerDistiller` with its meta-tokens, in a given form.

    Args:
        channels: C.
        config: settings of LCD.
        form: `auto`, `absorbed` or `projected`.
    """

    def __init__(self, channels: int, config: TrainConfig, form: str) -> None:
        super().__init__()
        self.meta = nn.Parameter(torch.randn(config.meta_tokens, channels) * 0.02)
        self.distil = LayerDistiller(channels, config)
        assert isinstance(self.distil.adapt, LowRankAttention)
        self.distil.adapt.form = form  # type: ignore[assignment]
        self.rstd: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`[S, N, C]` to `[S, K, C]`."""
        out: Tensor = self.distil(self.meta, StoredTokens(x, self.rstd))
        return out


def measure(forms: dict[str, nn.Module], x: Tensor, repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Least seconds of forward and backward of each, in turns."""
    best = dict.fromkeys(forms, float("inf"))
    for turn in range(repeats + 1):
        for name, layer in forms.items():
            layer.zero_grad()
            start = clock()
            layer(x).sum().backward()
            if turn:  # the first warms up
                best[name] = min(best[name], clock() - start)
    return best


def saved_bytes(layer: nn.Module, x: Tensor) -> int:
    """Bytes that autograd holds between forward and backward, without parameters and stored tokens."""
    held: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        held[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = layer(x)
    known = {p.untyped_storage().data_ptr() for p in (x, *layer.parameters())}
    total = sum(size for address, size in held.items() if address not in known)
    del out
    return total


def cases(options: argparse.Namespace) -> Iterator[tuple[str, TrainConfig]]:
    """Name of the token shape, and the settings."""
    base = TrainConfig(meta_tokens=4, heads=8, rank=768)
    if not options.grid:
        yield from (("vit_base", base), ("vit_base", replace(base, rank=64)))
        return
    for name in options.shapes or SHAPES:
        for r, k, h in itertools.product(RANKS, META_TOKENS, HEADS):
            yield name, replace(base, meta_tokens=k, heads=h, rank=r)


def run(name: str, config: TrainConfig, options: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    torch.manual_seed(0)
    n, c = SHAPES[name]
    x = torch.randn(options.segments, n, c).to(DTYPES[options.dtype])
    forms: dict[str, nn.Module] = {} if options.without_naive else {"naive": NaiveLayer(c, config)}
    names = ("absorbed", "projected") if options.grid else ("absorbed", "projected", "auto")
    forms |= {form: OurLayer(c, config, form) for form in names}
    if options.statistics:
        for layer in forms.values():
            layer.rstd = torch.from_numpy(token_statistics(x.numpy()))[..., 1].contiguous()
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds = measure(forms, x, options.repeats, clock)
    chosen = cheaper_form(config.meta_tokens, config.heads, config.rank, (n, c))
    best = min(seconds["absorbed"], seconds["projected"])
    return {
        "tokens": name,
        "shape": [options.segments, n, c],
        "rank": config.rank,
        "meta_tokens": config.meta_tokens,
        "heads": config.heads,
        "auto": chosen,
        "auto_to_best": round(seconds[chosen] / best, 3),
        "seconds": {form: round(value, 6) for form, value in seconds.items()},
        "saved_mb": {form: round(saved_bytes(layer, x) / 1e6, 3) for form, layer in forms.items()},
    }


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    times = "  ".join(f"{form} {1e3 * s:8.2f} ms {row['saved_mb'][form]:7.2f} MB" for form, s in row["seconds"].items())
    where = f"{row['tokens']:21s} r {row['rank']:3d} K {row['meta_tokens']:2d} H {row['heads']}"
    return f"{where}  {times}  auto: {row['auto']} {row['auto_to_best']:.2f}x the better"


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--grid", action="store_true", help="r, K and H over all shapes of tokens")
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, help="shapes of the grid; default: all")
    parser.add_argument("--segments", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="storage of the tokens")
    parser.add_argument("--statistics", action="store_true", help="statistics of the tokens are stored")
    parser.add_argument("--without-naive", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name, config in cases(options):
        rows.append(run(name, config, options))
        if not options.json:
            print(line(rows[-1]), flush=True)
    worst = max(row["auto_to_best"] for row in rows)
    facts = {"threads": options.threads, "clock": "cpu" if options.threads == 1 else "wall", "dtype": options.dtype}
    if options.json:
        print(json.dumps({**facts, "worst_auto_to_best": worst, "rows": rows}, indent=1))
    else:
        print(f"{facts['clock']} time, {options.threads} thread(s); worst auto: {worst:.2f}x the better form")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends the run without a traceback
    main()
