"""The protocols written out with loops, as their texts say, to compare the vectorised scores with."""

import numpy as np
from hypothesis import settings

quick = settings(max_examples=25, deadline=None, derandomize=True, database=None)
"""Small cases, the same ones in every run."""


def llp_video(maps, iou_threshold=0.5):
    """The eight numbers of one video: maps are predicted audio, predicted visual, true audio, true visual [C, T]."""
    audio, visual, true_audio, true_visual = maps
    pairs = {"A": (audio, true_audio), "V": (visual, true_visual), "AV": (audio * visual, true_audio * true_visual)}
    numbers = []
    for count in (count_segments, lambda p, t: count_events(p, t, iou_threshold)):
        counts = {key: [count(p, t) for p, t in zip(*pair, strict=True)] for key, pair in pairs.items()}
        both = counts["A"], counts["V"]
        counts["Event"] = [tuple(a + v for a, v in zip(*two, strict=True)) for two in zip(*both, strict=True)]
        numbers += [mean_f(counts[key]) for key in ("A", "V", "Event", "AV")]
    return numbers


def count_segments(predicted, truth):
    hits = sum(int(p and t) for p, t in zip(predicted, truth, strict=True))
    return hits, int(sum(predicted)) - hits, int(sum(truth)) - hits


def events(row):
    """Sets of segments: maximal runs."""
    runs, open_run = [], set()
    for segment, value in enumerate([*row, 0]):
        if value:
            open_run.add(segment)
        elif open_run:
            runs.append(open_run)
            open_run = set()
    return runs


def count_events(predicted, truth, iou_threshold):
    ours, theirs = events(predicted), events(truth)
    match = [[len(p & t) >= iou_threshold * len(p | t) for t in theirs] for p in ours]
    found = sum(any(row) for row in match)
    missed = sum(not any(row[k] for row in match) for k in range(len(theirs)))
    return found, len(ours) - found, missed


def mean_f(counts):
    scores = [2 * hits / (2 * hits + alarms + misses) for hits, alarms, misses in counts if hits + alarms + misses]
    return sum(scores) / len(scores) if scores else 1.0


def avss_set(videos, classes):
    """Scores of pairs of predicted and true class maps [F, H, W], frame by frame and class by class."""
    iou_sum, f_sum, count = np.zeros(classes), np.zeros(classes), np.zeros(classes)
    shared, union, weighted = np.zeros(classes), np.zeros(classes), np.zeros(classes)
    for predicted, truth in videos:
        for ours, theirs in zip(predicted, truth, strict=True):
            for k in range(classes):
                p, t = ours == k, theirs == k
                both, either = np.sum(p & t), np.sum(p | t)
                shared[k], union[k] = shared[k] + both, union[k] + either
                weighted[k] += 0.3 * np.sum(t) + np.sum(p)
                if either:
                    count[k] += 1
                    iou_sum[k] += both / either
                if both:
                    precision, recall = both / np.sum(p), both / np.sum(t)
                    f_sum[k] += 1.3 * precision * recall / (0.3 * precision + recall)
    iou, f = ([s / n if n else 0.0 for s, n in zip(sums, count, strict=True)] for sums in (iou_sum, f_sum))
    return {
        "miou": np.mean(iou),
        "fscore": np.mean(f),
        "miou_without_last_class": np.mean(iou[:-1]),
        "fscore_without_last_class": np.mean(f[:-1]),
        "miou_over_seen": np.mean([x for x, n in zip(iou, count, strict=True) if n]),
        "fscore_over_seen": np.mean([x for x, n in zip(f, count, strict=True) if n]),
        "classes_seen": np.count_nonzero(count),
        "pooled_miou": np.mean([s / u if u else 0.0 for s, u in zip(shared, union, strict=True)]),
        "pooled_fscore": round(np.mean([1.3 * s / w for s, w in zip(shared, weighted, strict=True) if w]), 4),
    }


def avs_curve(chance, truth, limits):
    """F of one frame, threshold by threshold."""
    curve = []
    for limit in limits:
        on = chance >= limit
        hits = np.sum(on & truth)
        precision, recall = hits / (on.sum() + 1e-20), hits / (truth.sum() + 1e-20)
        below = 0.3 * precision + recall
        curve.append(1.3 * precision * recall / below if below else 0.0)
    return np.array(curve)


def avs_iou(chance, truth):
    """IoU of one frame."""
    on = chance > 0.5
    if not truth.any():
        return np.sum(~on) / (on.size + 1e-7)
    return np.sum(on & truth) / (np.sum(on | truth) + 1e-7)


def avs_set(videos, limits, size):
    """mIoU and F of pairs of probabilities and masks, `size` videos a batch."""
    mious, fscores = [], []
    for start in range(0, len(videos), size):
        frames = [pair for video in videos[start : start + size] for pair in zip(*video, strict=True)]
        mious.append(np.mean([avs_iou(c, t) for c, t in frames]))
        curves = [avs_curve(c, t, limits) for c, t in frames if t.any()]
        fscores.append(np.mean(curves, axis=0).max() if curves else 0.0)
    return np.mean(mious), np.mean(fscores)


def full_size_frames():
    """Five 224 x 224 frames from seed 5, as the golden files describe them: logits and masks."""
    rng = np.random.default_rng(5)
    truth = np.zeros((5, 224, 224), dtype=bool)
    for mask in truth:
        top, left = (int(rng.integers(0, 150)) for _ in range(2))
        mask[top : top + 60, left : left + 70] = True
    logits = rng.integers(-64, 64, truth.shape).astype(np.float32) / 16
    return logits + np.where(truth, np.float32(1), np.float32(-1)), truth


def small_set():
    """23 videos of five 28 x 28 frames, three of them without any mask: probabilities and masks."""
    rng = np.random.default_rng(23)
    truth = np.zeros((23, 5, 28, 28), dtype=bool)
    for mask in truth.reshape(-1, 28, 28):
        top, left, height, width = rng.integers(2, 16, 4)
        mask[top : top + height, left : left + width] = True
    truth[[4, 11, 22]] = False
    noise = rng.normal(0, 1, truth.shape) + rng.choice([0.3, 2.0], (23, 1, 1, 1)) * (2 * truth - 1)
    return (1 / (1 + np.exp(-noise))).astype(np.float32), truth
