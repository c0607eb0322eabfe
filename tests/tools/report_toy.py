"""A made-up report for the tests of its page: the data that `page.render` takes, with real media and known mistakes.

python tests/tools/report_toy.py FOLDER    writes events.html, segmentation.html and thousand.html to look at
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from avpipe.stages.demo.encode import write_mp4, write_wav

SCRIPT = "<script>alert(1)</script>"
CLASSES = ("Church bell", "Male speech, man speaking", "Bark", "Helicopter", "Violin, fiddle", "Truck", "background")
SEGMENTS = {"events": 10, "segmentation": 5}
SIDE, RATE, PICTURES = 96, 16_000, 10  # pixels, samples and pictures a second


class Toy:
    """The report of one task: `data`, and `details()` of the first clips."""

    def __init__(self, task: str, clips: int = 12, details: int = 4, hostile: bool = False, ballast: int = 0) -> None:
        """`hostile` names things like markup; `ballast` bytes of audio are added to every detail."""
        self.task, self.segments = task, SEGMENTS[task]
        self.classes = [SCRIPT, *CLASSES[1:]] if hostile else list(CLASSES)
        self._rng = np.random.default_rng(7)
        self._details, self._ballast, self._hostile = details, ballast, hostile
        make = self._event_clip if task == "events" else self._mask_clip
        self.clips = sorted((make(i) for i in range(clips)), key=lambda clip: clip["score"])
        for place, clip in enumerate(self.clips):
            clip["detail"] = place < details
        if hostile:
            self.clips[0]["id"] = SCRIPT
            self.clips[1]["id"] = "</script><!-- \"quoted\" 'name'\u2028line {{script}} &amp; \ud800"
        self.data = self._data()

    def details(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Details of the first clips: one with a video, one with sound and frames, one with frames alone, and so on."""
        video, audio = _media(self.segments) if self._details else (None, None)
        self._rng = np.random.default_rng(11)  # the same details every time
        for place in range(self._details):
            kind = place % 3
            yield (
                place,
                {
                    "video": video if kind == 0 else None,
                    "audio": audio if kind == 1 else None,
                    "frames": [_jpeg(_picture(t + 0.5)) for t in range(self.segments)],
                    "frame_size": [SIDE, SIDE],
                    "spectrogram": None if kind == 2 else [_png(_spectrogram(t)) for t in range(self.segments)],
                    "attention": None if kind == 2 else self._attention(),
                    "masks": self._masks() if self.task == "segmentation" else None,
                    "ballast": "A" * self._ballast,
                },
            )

    def _event_clip(self, number: int) -> dict[str, Any]:
        rng, background = self._rng, len(self.classes) - 1
        truth = np.full(self.segments, background)
        first = int(rng.integers(0, 5))
        truth[first : first + int(rng.integers(3, 8))] = number % background
        predicted = truth.copy()
        for _ in range(int(rng.integers(0, 5)) if number else 6):
            predicted[rng.integers(0, self.segments)] = rng.choice([background, (number + 1) % background])
        return {
            "id": f"{'-' if number % 3 == 0 else 'x'}Toy{number:04d}_aB",
            "score": float((truth == predicted).mean()),
            "segments": self.segments,
            "held": number % 11 != 10,
            "truth": truth.tolist(),
            "predicted": predicted.tolist(),
            "certainty": np.round(rng.uniform(0.4, 1, self.segments), 3).tolist(),
        }

    def _mask_clip(self, number: int) -> dict[str, Any]:
        iou = np.round(self._rng.uniform(0.2, 0.95, self.segments), 3).tolist()
        values: list[float | None] = [*iou[:-1], None] if number % 4 == 1 else iou
        known = [value for value in values if value is not None]
        return {
            "id": f"clip-{number:04d}",
            "score": float(np.mean(known)),
            "segments": self.segments,
            "held": True,
            "iou": values,
        }

    def _attention(self) -> dict[str, Any]:
        both = {"visual": (8, 8), "audio": (4, 8)}
        return {name: self._maps(name, *grid) for name, grid in both.items()}

    def _maps(self, modality: str, rows: int, columns: int) -> dict[str, Any]:
        taps = ["blocks.3", "blocks.7", "blocks.11"]
        mechanisms = [{"key": "own", "label": "own modality"}, {"key": "cross", "label": "led by the other modality"}]
        maps = np.empty((self.segments, len(taps), len(mechanisms), rows, columns))
        y, x = np.mgrid[:rows, :columns]
        for t, layer, mechanism in np.ndindex(maps.shape[:3]):
            at_x, at_y = _place(t + 0.5)
            distance = (x + 0.5 - at_x * columns) ** 2 + (y + 0.5 - (at_y if mechanism == 0 else 0.2) * rows) ** 2
            maps[t, layer, mechanism] = np.exp(-distance / (6 - 2 * layer)) + self._rng.uniform(
                0, 0.15, (rows, columns)
            )
        maps *= 255 / maps.max((-1, -2), keepdims=True)
        return {
            "grid": [rows, columns],
            "taps": taps,
            "mechanisms": mechanisms,
            "maps": base64.b64encode(maps.round().astype(np.uint8).tobytes()).decode(),
            "prefix_share": np.round(self._rng.uniform(0, 0.4, maps.shape[:3]), 3).tolist(),
        }

    def _masks(self) -> dict[str, Any]:
        truth = [_blob(*_place(t + 0.5), 0.16, 0.0) for t in range(self.segments)]
        guess = [_blob(_place(t + 0.5)[0] + 0.06, _place(t + 0.5)[1], 0.17, 0.05) for t in range(self.segments)]
        return {
            "size": [SIDE, SIDE],
            "truth": [*(_png(np.where(mask > 0.5, 255, 0).astype(np.uint8)) for mask in truth[:-1]), None],
            "predicted": [_png((255 * mask).round().astype(np.uint8)) for mask in guess],
        }

    def _data(self) -> dict[str, Any]:
        events = self.task == "events"
        main = "accuracy" if events else "miou"
        metrics = [main] if events else [main, "f_score"]
        note = f"2 clips are not in the cache {SCRIPT}" if self._hostile else "2 clips are not in the cache."
        protocols = ["ave-segment-accuracy"] if events else ["avsbench-batch4", "avsbench-set"]
        return {
            "format": 1,
            "title": SCRIPT if self._hostile else f"toy-{self.task}-mettle",
            "made": "2026-01-05T08:09:10Z",
            "avpipe": "0.1.0",
            "run": {
                "folder": f"runs/toy-{self.task}-mettle",
                "dataset": "ave" if events else "avsbench-ms3",
                "split": "test",
                "task": self.task,
                "method": "mettle",
                "modality": "both",
                "stage": "distill",
                "seed": 0,
                "epoch": 7,
                "selected_by": f"val_{main}",
                "samples": len(self.clips),
                "missing": 2,
                "unlabelled": 0,
                "trainable_parameters": 412_345,
            },
            "settings": {"epochs": 12, "batch": 16, "learning_rate": 0.001, "keys": 4, "name": self.classes[0]},
            "spec": {
                "visual": {"fingerprint": "6b0f" * 8, "fields": {"model": {"name": "vit_tiny", "taps": ["blocks.3"]}}},
                "audio": {"fingerprint": "91ce" * 8, "fields": {"model": {"name": "vit_tiny"}, "sample_rate": RATE}},
            },
            "environment": {"python": "3.11.2", "torch": "2.6.0", "cpu": {"model": "some", "cores": 2}},
            "notes": [note, "The backbones have random weights: scores show that the path works."],
            "classes": self.classes if events else [],
            "segment_seconds": 1.0,
            "curves": {"score": f"val_{main}", "epochs": [_epoch(number, f"val_{main}") for number in range(1, 13)]},
            "scores": {"main": main, "protocols": [_protocol(name, metrics) for name in protocols]},
            "confusion": self._confusion() if events else None,
            "layers": {
                "metric": main,
                "base": 0.812,
                "how": "Each layer's tokens are replaced by those of another clip, and the score is taken again.",
                "rows": [_layer(*row) for row in LAYERS],
            },
            "costs": [dict(zip(("group", "name", "value", "unit", "note"), row, strict=True)) for row in COSTS],
            "clips": self.clips,
        }

    def _confusion(self) -> dict[str, Any]:
        counts = np.zeros((len(self.classes),) * 2, dtype=int)
        for clip in self.clips:
            np.add.at(counts, (clip["truth"], clip["predicted"]), 1)
        return {"classes": self.classes, "counts": counts.tolist()}


LAYERS = (
    ("visual", None, 0.58),
    ("visual", "blocks.3", 0.80),
    ("visual", "blocks.7", 0.77),
    ("visual", "blocks.11", 0.69),
    ("audio", None, 0.61),
    ("audio", "blocks.3", 0.815),
    ("audio", "blocks.7", 0.79),
    ("audio", "blocks.11", 0.72),
)
COSTS = (
    ("extract", "wall time", 74.2, "s", "200 clips"),
    ("extract", "decoding", 31.0, "s", "summed over processes"),
    ("extract", "peak memory", 912.5, "MiB", ""),
    ("cache", "visual/blocks.3", 51_200_000, "bytes", "float16"),
    ("cache", "visual/frames", 138_240_000, "bytes", "uint8"),
    ("cache", "audio/samples", 64_000_000, "bytes", "int16"),
    ("train", "time an epoch", 2.41, "s", "mean of 12"),
    ("train", "trainable parameters", 412_345, "", ""),
)


def _layer(modality: str, tap: str | None, score: float) -> dict[str, Any]:
    return {"modality": modality, "tap": tap, "score": score, "cost": 0.812 - score}


def _protocol(name: str, metrics: list[str]) -> dict[str, Any]:
    rows = [
        ("mettle", "this", 0, 0.812),
        ("linear", "run", 0, 0.744),
        ("linear", "run", 1, 0.731),
        ("mettle, audio only", "run", 0, 0.612),
        ("most frequent class", "constant", None, 0.408),
    ]
    return {
        "name": name,
        "metrics": metrics,
        "rows": [
            {
                "label": label,
                "kind": kind,
                "seed": seed,
                "run": None if kind == "constant" else f"runs/{label}",
                "values": {metric: value - 0.05 * place for place, metric in enumerate(metrics)},
            }
            for label, kind, seed, value in rows
        ],
    }


def _epoch(number: int, score: str) -> dict[str, Any]:
    return {
        "epoch": number,
        "train_loss": 1.9 * 0.78**number + 0.1,
        score: None if number == 3 else 0.82 - 0.5 * 0.62**number - (0.02 if number > 7 else 0),
        "lr": 0.001 * (1 - number / 13),
        "train_seconds": 2.2 + 0.1 * (number % 3),
        "val_seconds": 0.31,
        "peak_rss_mib": 840.5,
    }


def _place(seconds: float) -> tuple[float, float]:
    return 0.2 + 0.06 * seconds, 0.5 + 0.25 * float(np.sin(seconds))


def _blob(x: float, y: float, radius: float, soft: float) -> np.ndarray:
    """`[SIDE, SIDE]` float, 1 inside a disk; the edge is `soft` wide."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    return np.clip((radius - np.hypot(columns - x, rows - y)) / (soft or 1e-6) + 0.5, 0, 1)


def _picture(seconds: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    ground = np.stack([60 + 60 * rows, 80 + 50 * columns, 110 - 40 * rows], axis=-1)
    disk = _blob(*_place(seconds), 0.16, 0.02)[..., None]
    return (ground * (1 - disk) + np.array([230, 150, 60]) * disk).astype(np.uint8)


def _spectrogram(segment: int) -> np.ndarray:
    rows, columns = np.mgrid[:64, :96]
    line = np.exp(-((63 - rows - 12 - 4 * segment - 3 * np.sin(columns / 9)) ** 2) / 8)
    noise = np.random.default_rng(segment).uniform(0, 0.25, line.shape)
    return (255 * np.clip(0.8 * line + noise, 0, 1)).astype(np.uint8)


def _media(segments: int) -> tuple[dict[str, str], dict[str, str]]:
    """A video with sound (H.264 and AAC), and the same sound as wav."""
    pictures = np.stack([_picture(i / PICTURES) for i in range(segments * PICTURES)])
    sound = 0.2 * np.sin(np.arange(segments * RATE) * 0.17, dtype=np.float32)[None]
    with tempfile.TemporaryDirectory() as folder:
        video, audio = Path(folder) / "v.mp4", Path(folder) / "a.wav"
        write_mp4(video, pictures, PICTURES, sound, RATE)
        write_wav(audio, sound, RATE)
        return _blob_of("video/mp4", video.read_bytes()), _blob_of("audio/wav", audio.read_bytes())


def _blob_of(kind: str, data: bytes) -> dict[str, str]:
    return {"type": kind, "data": base64.b64encode(data).decode()}


def _jpeg(picture: np.ndarray) -> str:
    return _encoded(picture, "JPEG")


def _png(picture: np.ndarray) -> str:
    return _encoded(picture, "PNG")


def _encoded(picture: np.ndarray, kind: str) -> str:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, format=kind)
    return base64.b64encode(out.getvalue()).decode()


def write(toy: Toy, path: Path) -> Path:
    """Writes the page of a toy report."""
    from avpipe.stages.report.page import render

    with path.open("w", encoding="utf-8") as file:
        file.writelines(render(toy.data, toy.details()))
    return path


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write(Toy("events", 60), folder / "events.html")
    write(Toy("segmentation"), folder / "segmentation.html")
    write(Toy("events", 1000, 24, ballast=400_000), folder / "thousand.html")
    write(Toy("events", hostile=True), folder / "hostile.html")
