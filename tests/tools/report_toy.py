"""A made-up report for the tests of its page: the data that `page.render` takes, with real media and known mistakes.

python tests/tools/report_toy.py FOLDER    writes pages to look at: events.html, parsing.html, segmentation.html, ...
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from report_pictures import RATE, SIDE, blob, disk_at, jpeg, media, picture, png, spectrogram
from report_tables import COSTS, LAYERS, epoch, layer, protocol

SCRIPT = "<script>alert(1)</script>"
CLASSES = ("Church bell", "Male speech, man speaking", "Bark", "Helicopter", "Violin, fiddle", "Truck", "background")
SEGMENTS = {"events": 10, "parsing": 10, "segmentation": 5, "semantic": 5}
MAIN = {"events": "accuracy", "parsing": "segment_type_av", "segmentation": "miou", "semantic": "miou"}
METRICS = {
    "events": ["accuracy"],
    "parsing": [
        *("segment_audio", "segment_visual", "segment_audio_visual", "segment_type_av", "segment_event_av"),
        *("event_audio", "event_visual", "event_audio_visual", "event_type_av", "event_event_av"),
    ],
    "segmentation": ["miou", "fscore"],
    "semantic": ["miou", "fscore", "miou_over_seen", "fscore_over_seen"],
}
PROTOCOLS = {
    "events": ["ave-segment-accuracy"],
    "parsing": ["llp-official"],
    "segmentation": ["avsbench-batch4", "avsbench-set"],
    "semantic": ["avss-official", "avss-pooled"],
}
FRAME_POSITION = 0.9375  # late, as a dataset may have it: what belongs to a frame must not be shown over another
MECHANISMS = (
    ("kept", "kept: a plain mix of frozen tokens"),
    ("adapted", "adapted: low-rank attention that training shaped, added with a gate"),
)
NOTES = (
    "Random weights in the audio and the visual backbone: scores do not say what a method is worth.",
    "2 of 12 samples have no features; they score as nothing found. `avpipe quarantine ls` tells of clips that could "
    "not be used.",
    "Not shown beside this run: one, two (not scored on test since it was trained; `avpipe evaluate` does that).",
    "Not shown beside this run: three (trained on other features, or on the cache before it changed).",
)


class Toy:
    """The report of one task: `data`, and `details()` of the first clips."""

    def __init__(self, task: str, clips: int = 12, details: int = 4, hostile: bool = False, ballast: int = 0) -> None:
        """`hostile` names things like markup; `ballast` bytes of audio are added to every detail."""
        self.task, self.segments = task, SEGMENTS[task]
        self.classes = [SCRIPT, *CLASSES[1:]] if hostile else list(CLASSES)
        self._rng = np.random.default_rng(7)
        self._details, self._ballast, self._hostile = details, ballast, hostile
        kinds = {"events": self._event_clip, "parsing": self._lane_clip, "segmentation": self._mask_clip}
        make = {**kinds, "semantic": self._class_clip}[task]
        self.clips = sorted((make(i) for i in range(clips)), key=lambda clip: clip["score"])
        for place, clip in enumerate(self.clips):
            clip["detail"] = place < details
        if hostile:
            self.clips[0]["id"] = SCRIPT
            self.clips[1]["id"] = "</script><!-- \"quoted\" 'name'\u2028line {{script}} &amp; \ud800"
        self.data = self._data()

    def details(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Details of the first clips: one with a video, one with sound and frames, one with frames alone, and so on."""
        video, audio = media(self.segments) if self._details else (None, None)
        self._rng = np.random.default_rng(11)  # the same details every time
        for place in range(self._details):
            kind = place % 3
            yield (
                place,
                {
                    "video": video if kind == 0 else None,
                    "audio": audio if kind == 1 else None,
                    "frames": [jpeg(picture(t + FRAME_POSITION)) for t in range(self.segments)],
                    "frame_size": [SIDE, SIDE],
                    "spectrogram": None if kind == 2 else [png(spectrogram(t)) for t in range(self.segments)],
                    "attention": None if kind == 2 else self._attention(),
                    "masks": self._masks(self.clips[place]) if self.task in ("segmentation", "semantic") else None,
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

    def _lane_clip(self, number: int) -> dict[str, Any]:
        """A class that is heard and seen, found but for its edges; in some clips nothing is heard."""
        lanes: dict[str, list[dict[str, Any]]] = {"audio": [], "visual": []}
        for place, modality in enumerate(lanes):
            if number % 4 == 3 and place == 0:
                continue
            truth, predicted = np.zeros((2, self.segments), dtype=int)
            first = int(self._rng.integers(0, 4))
            truth[first : first + 4] = 1
            predicted[first + number % 3 : first + 4 + number % 2] = 1
            lanes[modality].append(self._lane(number % len(CLASSES), truth, predicted))
            for other in range(1, 1 + (number == 0) * 4):  # the first clip has more than the list shows
                lanes[modality].append(self._lane((number + other) % len(CLASSES), 0 * truth, 1 - truth))
        return {
            "id": f"x{number:04d}_aB-c_30_40",
            "score": round(number / 20, 3),
            "segments": self.segments,
            "held": number % 11 != 10,
            "lanes": lanes,
        }

    def _lane(self, class_id: int, truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
        chance = np.round(np.where(predicted, 0.5, 0) + self._rng.uniform(0, 0.5, self.segments), 3)
        on = {"truth": truth.tolist(), "predicted": predicted.tolist()}
        return {"class": class_id, **on, "chance": chance.tolist(), "whole": 0.625}

    def _mask_clip(self, number: int) -> dict[str, Any]:
        iou = np.round(self._rng.uniform(0.2, 0.95, self.segments), 3).tolist()
        values: list[float | None] = [*iou[:-1], None] if number % 4 == 1 else iou
        empty = [None if value is None else False for value in values]
        painted = [None if value is None else 0.1 for value in values]
        if number == 3:  # nothing is true in the first segments: a false alarm, and none
            values, empty[:2], painted[:2] = [0.885, 1.0, 0.0, 0.1, 0.2], [True, True], [0.115, 0.0]
        known = [value for value in values if value is not None]
        return {
            "id": f"clip-{number:04d}",
            "score": float(np.mean(known)),
            "segments": self.segments,
            "held": True,
            "iou": values,
            "empty": empty,
            "painted": painted,
        }

    def _class_clip(self, number: int) -> dict[str, Any]:
        """A class that is found, in every third clip taken for another one; the last segment has no annotation."""
        kind, said = number % 6, (number + (number % 3 == 0)) % 6
        values = np.round(self._rng.uniform(0.2, 0.95, self.segments - 1), 3).tolist()
        return {
            "id": f"avss/clip-{number:04d}",
            "score": float(np.mean(values)),
            "segments": self.segments,
            "held": True,
            "iou": [*values, None],
            "empty": [*(False for _ in values), None],
            "painted": [0.1] * self.segments,
            "true": [*([kind] for _ in values), None],
            "predicted": [[said]] * self.segments,
        }

    def _attention(self) -> dict[str, Any]:
        both = {"visual": (8, 8), "audio": (4, 8)}
        return {name: self._maps(name, *grid) for name, grid in both.items()}

    def _maps(self, modality: str, rows: int, columns: int) -> dict[str, Any]:
        taps = ["blocks.3", "blocks.7", "blocks.11"]
        maps = np.empty((self.segments, len(taps), len(MECHANISMS), rows, columns))
        y, x = np.mgrid[:rows, :columns]
        for t, tap, mechanism in np.ndindex(maps.shape[:3]):
            at_x, at_y = disk_at(t + FRAME_POSITION)
            distance = (x + 0.5 - at_x * columns) ** 2 + (y + 0.5 - (at_y if mechanism == 0 else 0.2) * rows) ** 2
            noise = self._rng.uniform(0, 0.15, (rows, columns))
            maps[t, tap, mechanism] = np.exp(-distance / (6 - 2 * tap)) + noise
        maps *= 255 / maps.max((-1, -2), keepdims=True)
        by_tap = maps.round().astype(np.uint8).swapaxes(0, 1)
        return {
            "taps": taps,
            "grids": [[rows, columns] for _ in taps],
            "mechanisms": [{"key": key, "label": label} for key, label in MECHANISMS],
            "maps": [base64.b64encode(one.tobytes()).decode() for one in by_tap],
            "prefix_share": np.round(self._rng.uniform(0, 0.4, maps.shape[:3]), 3).tolist(),
            "gate": {"blocks.3": 0.03, "blocks.7": 0.241, "blocks.11": 0.4},
        }

    def _masks(self, clip: dict[str, Any]) -> dict[str, Any]:
        places = [disk_at(t + FRAME_POSITION) for t in range(self.segments)]
        truth = [blob(x, y, 0.16, 0.0) * (not empty) for (x, y), empty in zip(places, clip["empty"], strict=True)]
        guess = [blob(x + 0.06, y, 0.17, 0.05) for x, y in places]
        if self.task == "semantic":  # pictures of class ids
            ours, theirs = (
                [(m > 0.5) * clip[key][0][0] for m in maps] for key, maps in (("true", truth), ("predicted", guess))
            )
            return {
                "size": [SIDE, SIDE],
                "truth": [*(png(ids.astype(np.uint8)) for ids in ours[:-1]), None],
                "predicted": [png(ids.astype(np.uint8)) for ids in theirs],
            }
        return {
            "size": [SIDE, SIDE],
            "truth": [*(png(np.where(mask > 0.5, 255, 0).astype(np.uint8)) for mask in truth[:-1]), None],
            "predicted": [png((255 * mask).astype(np.uint8)) for mask in guess],
        }

    def _data(self) -> dict[str, Any]:
        events, masks = self.task == "events", self.task == "segmentation"
        main, metrics = MAIN[self.task], METRICS[self.task]
        hostile = f" {SCRIPT} and `{SCRIPT}`" if self._hostile else ""
        return {
            "format": 1,
            "title": SCRIPT if self._hostile else f"toy-{self.task}-mettle",
            "made": "2026-01-05T08:09:10Z",
            "avpipe": "0.1.0",
            "run": {
                "folder": f"runs/toy-{self.task}-mettle",
                "dataset": {"events": "ave", "parsing": "llp", "segmentation": "avsbench-ms3"}.get(
                    self.task, "avsbench-avss"
                ),
                "split": "test",
                "task": self.task,
                "method": "mettle",
                "modality": "both",
                "stage": "distill",
                "seed": 0,
                "epoch": 7,
                "selected_by": f"val {main}, highest",
                "samples": len(self.clips),
                "missing": 2,
                "unlabelled": 0,
                "trainable_parameters": 412_345,
                "gates": "",
                "backbones": {
                    "audio": "htsat, weights htsat.pt, 2 of 12 blocks (layers.3.blocks.0, layers.3.blocks.1), float32",
                    "visual": "test_vit, weights random:0, 6 of 6 blocks (blocks.0 to blocks.5), float32",
                },
            },
            "settings": {"epochs": 12, "batch": 16, "lr": 0.001, "meta_tokens": 4},
            "spec": {
                "visual": _spec("6b0f", "visual", [8, 8], {"frame_size": [SIDE, SIDE], "segment_seconds": 1.0}),
                "audio": _spec("91ce", "audio", [4, 8], {"sample_rate": RATE, "segment_seconds": 1.0}),
            },
            "environment": {
                "python": "3.11.2",
                "torch": "2.6.0",
                "device": "cpu",
                "device_name": self.classes[0],
                "fingerprints": {"visual": "6b0f" * 8, "audio": "91ce" * 8},
            },
            "notes": [note + hostile for note in NOTES],
            "classes": [] if masks else self.classes,
            "segment_seconds": 1.0,
            "frame_position": FRAME_POSITION,
            "curves": {"score": f"val_{main}", "epochs": [epoch(number, f"val_{main}") for number in range(1, 13)]},
            "scores": {"main": main, "protocols": [protocol(name, metrics) for name in PROTOCOLS[self.task]]},
            "confusion": self._pixels() if self.task == "semantic" else self._confusion() if events else None,
            "class_scores": self._class_scores() if self.task == "parsing" else None,
            "layers": {
                "metric": main,
                "base": 0.812,
                "how": "Each layer's tokens are replaced by those of another clip, and the score is taken again.",
                "rows": [layer(*row) for row in LAYERS],
            },
            "costs": [dict(zip(("group", "name", "value", "unit", "note"), row, strict=True)) for row in COSTS],
            "clips": self.clips,
        }

    def _confusion(self) -> dict[str, Any]:
        counts = np.zeros((len(self.classes),) * 2, dtype=int)
        for clip in self.clips:
            np.add.at(counts, (clip["truth"], clip["predicted"]), 1)
        return {"classes": self.classes, "counts": counts.tolist()}

    def _pixels(self) -> dict[str, Any]:
        return {"classes": self.classes[:2], "counts": [[9000, 1000], [0, 500]], "unit": "pixel"}

    def _class_scores(self) -> list[dict[str, Any]]:
        counts = {"true": 20, "predicted": 15, "hits": 10, "f": 20 / 35}
        never = {"true": 0, "predicted": 0, "hits": 0, "f": None}
        return [
            {"class": number, "audio": counts, "visual": counts if number else never} for number in range(len(CLASSES))
        ]


def _spec(mark: str, modality: str, grid: list[int], about: dict[str, Any]) -> dict[str, Any]:
    backbone = {"model": "test_vit", "family": "timm", "modality": modality, "grid": grid}
    return {"fingerprint": mark * 8, "fields": {"backbone": backbone, "batch": 10, "media": about}}


def write(toy: Toy, path: Path) -> Path:
    """Writes the page of a toy report."""
    from avpipe.stages.report.page import render

    with path.open("w", encoding="utf-8") as file:
        file.writelines(render(toy.data, toy.details()))
    return path


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write(Toy("events", 60), folder / "events.html")
    write(Toy("parsing"), folder / "parsing.html")
    write(Toy("segmentation"), folder / "segmentation.html")
    write(Toy("events", 1000, 24, ballast=400_000), folder / "thousand.html")
    write(Toy("events", hostile=True), folder / "hostile.html")
