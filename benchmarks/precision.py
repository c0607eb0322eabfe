"""How far autocast and `torch.compile` move features, and what they cost or save, on the device that there is.

    python benchmarks/precision.py [MODEL ...] [--size 224] [--batch 8] [--device auto] [--skip compile]

Weights are drawn (`random:0`), frames are noise: real weights have other numbers, so look at orders of magnitude, and
measure your own with `--weights FILE`. The difference of a tap is the norm of the change over the norm of the tokens in
float32.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from avpipe.pipeline.errors import AvpipeError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import Backbone, BackboneChoice, facts_of, load, select_taps

MODELS = ("vit_small_patch16_224", "swinv2_tiny_window8_256")
CASES = ("float32", "bfloat16", "float16", "compile")

Tokens = dict[str, np.ndarray]


def build(model: str, case: str, options: argparse.Namespace) -> Backbone:
    """The model as one case wants it, with taps at the ends of its stages, or of four parts of its depth."""
    precision = "float32" if case == "compile" else case
    choice = BackboneChoice("visual", model, options.weights, options.size, precision=precision)
    facts = facts_of(choice, Timeline())
    taps = select_taps("stages", list(facts.taps), facts.stage_ends)
    return load(choice, facts, taps, options.device, compiled=case == "compile")


def measure(backbone: Backbone, batch: np.ndarray, repeats: int) -> tuple[Tokens, float]:
    """Tokens by tap, and the least of several times of one batch in seconds; the first call is not counted."""
    tokens, seconds = backbone.features(batch), []
    for _ in range(repeats):
        begun = time.perf_counter()
        backbone.features(batch)  # gives arrays, so a GPU has finished
        seconds.append(time.perf_counter() - begun)
    return tokens, min(seconds)


def compare(model: str, options: argparse.Namespace) -> None:
    """Prints one table."""
    exact: Tokens = {}
    baseline = 0.0
    for case in CASES:
        if case in options.skip:
            continue
        try:
            backbone = build(model, case, options)
            size = facts_of(BackboneChoice("visual", model, options.weights, options.size), Timeline()).input_size
            batch = np.random.default_rng(0).integers(0, 256, (options.batch, *size, 3), dtype=np.uint8)
            tokens, seconds = measure(backbone, batch, options.repeats)
        except AvpipeError as error:
            print(f"{case:10s} {error}")
            continue
        if not exact:
            exact, baseline = tokens, seconds
            print(f"\n{model} at {size[0]} x {size[1]}, batch {options.batch}, {backbone.device}")
            print(f"{'':10s} {'ms':>8s} {'speed':>6s}  " + " ".join(f"{tap:>20s}" for tap in exact))
        moved = [float(np.linalg.norm(tokens[tap] - exact[tap]) / np.linalg.norm(exact[tap])) for tap in exact]
        row = " ".join(f"{value:20.1e}" for value in moved)
        print(f"{case:10s} {1000 * seconds:8.0f} {baseline / seconds:5.2f}x  {row}", flush=True)


def main() -> None:
    """Compares the cases for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--size", type=int, default=None, help="side of the frames in pixels; default: the model's own")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--weights", default="random:0", help="random:SEED, pretrained, or a file")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--skip", nargs="*", default=(), choices=CASES[1:])
    options = parser.parse_args()
    if Path(options.weights).is_file():
        options.weights = str(Path(options.weights).resolve())
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for model in options.models:
        compare(model, options)


if __name__ == "__main__":
    main()
