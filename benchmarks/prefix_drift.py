"""How far a stored prefix moves what is run on from it, and what resuming saves.

    python benchmarks/prefix_drift.py [MODEL ...] [--weights random:0] [--skip drift|times]

A backbone is resumed behind every block, from that block's output stored in float16 or bfloat16; the drift of a later
tap is the norm of its change over its norm when the prefix is float32. Two frames: noise, and a drawn scene of smooth
shades with edges. Times are forward passes of blocks from a quarter, half and three quarters of the depth on, over the
pass from stored frames to the last block.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import FAMILIES, BackboneChoice, BackboneFacts, facts_of
from avpipe.stages.backbones.trunk import Trunk

MODELS = ("vit_base_patch16_224", "swinv2_large_window12_192")
STORED = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def noise(height: int, width: int) -> np.ndarray:
    """A frame of noise, uint8 [H, W, 3]."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def scene(height: int, width: int) -> np.ndarray:
    """A sky that grows paler towards the horizon, ground, and a shaded ball, uint8 [H, W, 3]."""
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    sky = np.stack([90 + 150 * down, 140 + 90 * down, 230 + 20 * down], axis=-1)
    ground = np.stack([110 - 60 * down, 130 - 50 * down, 60 + 10 * across], axis=-1)
    picture = np.where((down < 0.6)[..., None], sky, ground)
    ball = (down - 0.55) ** 2 + (across - 0.4) ** 2
    shade = np.stack([220 - 900 * ball, 60 - 200 * ball, 50 - 200 * ball], axis=-1)
    return np.where((ball < 0.06)[..., None], shade, picture).clip(0, 255).astype(np.uint8)


def run_on(trunk: Trunk, names: tuple[str, ...], x: Tensor) -> dict[str, Tensor]:
    """Outputs of consecutive blocks."""
    found = {}
    for name in names:
        found[name] = x = trunk.block(name, x)
    return found


def drift(found: dict[str, Tensor], exact: dict[str, Tensor]) -> list[float]:
    """Relative drift of every tap, the larger one of the two frames."""
    each = [(tokens - exact[tap]).norm(dim=(1, 2)) / exact[tap].norm(dim=(1, 2)) for tap, tokens in found.items()]
    return [float(frames.max()) for frames in each]


def print_drift(trunk: Trunk, frames: Tensor) -> None:
    """A row for each block that the backbone can be resumed at."""
    exact = run_on(trunk, trunk.names, trunk.embed(frames))
    print("| First block | " + " | ".join(f"{name}: last tap | worst tap" for name in STORED) + " |")
    print("|---" * (1 + 2 * len(STORED)) + "|")
    for number in range(1, len(trunk.names)):
        stored, cells = exact[trunk.names[number - 1]], []
        for dtype in STORED.values():
            moved = drift(run_on(trunk, trunk.names[number:], stored.to(dtype).float()), exact)
            cells += [f"{moved[-1]:.1e}", f"{max(moved):.1e}"]
        print(f"| `{trunk.names[number]}` | " + " | ".join(cells) + " |", flush=True)


CLOCKS: dict[str, Callable[[], float]] = {"elapsed": time.perf_counter, "processor": time.process_time}
"""Processor time is that of all threads together, also of those that wait for others of the process."""


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Of one call."""
    begun = clock()
    work()
    return clock() - begun


def print_times(trunk: Trunk, frames: Tensor, repeats: int, clock: Callable[[], float]) -> None:
    """A row for each number of threads: the full pass in seconds, and the share of it that a resumed one takes."""
    exact = run_on(trunk, trunk.names, trunk.embed(frames))
    numbers = [len(trunk.names) * quarter // 4 for quarter in (1, 2, 3)]
    print("| Threads | full pass, s | " + " | ".join(f"`{trunk.names[number]}`" for number in numbers) + " |")
    print("|---" * (2 + len(numbers)) + "|")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        full, resumed = [], [[] for _ in numbers]
        for _ in range(repeats):  # in turns, since others may use the machine
            full.append(seconds(lambda: run_on(trunk, trunk.names, trunk.embed(frames)), clock))
            for times, number in zip(resumed, numbers, strict=True):
                x, names = exact[trunk.names[number - 1]], trunk.names[number:]
                times.append(seconds(lambda x=x, names=names: run_on(trunk, names, x), clock))
        shares = [f"{min(times) / min(full):.2f}" for times in resumed]
        print(f"| {threads} | {min(full):.2f} | " + " | ".join(shares) + " |", flush=True)


def opened(model: str, weights: str) -> tuple[Trunk, BackboneFacts]:
    """A whole backbone, block by block."""
    choice = BackboneChoice("visual", model, weights)
    facts = facts_of(choice, Timeline())
    names = tuple(facts.taps)
    return FAMILIES[facts.family].trunk(choice, facts, names[0], names[-1], "cpu"), facts


@torch.no_grad()
def main() -> None:
    """Prints both tables for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--weights", default="random:0", help="random:SEED, pretrained, or a file")
    parser.add_argument("--batch", type=int, default=4, help="frames of a timed pass")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", default="elapsed", choices=CLOCKS, help="`processor` where others use the machine")
    parser.add_argument("--skip", nargs="*", default=(), choices=("drift", "times"))
    options = parser.parse_args()
    for model in options.models:
        trunk, facts = opened(model, options.weights)
        frames = torch.from_numpy(np.stack([noise(*facts.input_size), scene(*facts.input_size)]))
        print(f"\n{model} at {facts.input_size[0]} pixels, {options.weights}, torch {torch.__version__}\n")
        if "drift" not in options.skip:
            print_drift(trunk, frames)
            print()
        if "times" not in options.skip:
            print_times(trunk, frames.repeat(options.batch // 2, 1, 1, 1), options.repeats, CLOCKS[options.clock])


if __name__ == "__main__":
    main()
