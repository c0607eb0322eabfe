"""Our scores against those of the official evaluators, on the golden vectors that lie beside the repository.

Cases are found by what is stored, so a larger set of the same form is checked whole.
"""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from slow_metrics import full_size_frames

from avpipe.pipeline.datasets import masks
from avpipe.stages.metrics import ave, avqa, avs, avs_frames, avss, avss_frames, avss_masks, llp

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="no golden vectors beside the repository")
QUESTION_TYPES = {
    **{"A_count": "Audio/Counting", "A_cmp": "Audio/Comparative"},
    **{"V_count": "Visual/Counting", "V_loc": "Visual/Location"},
    **{"AV_ext": "Audio-Visual/Existential", "AV_count": "Audio-Visual/Counting", "AV_loc": "Audio-Visual/Location"},
    **{"AV_cmp": "Audio-Visual/Comparative", "AV_temp": "Audio-Visual/Temporal"},
}


def expected(folder):
    file = GOLDEN / folder / "expected.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def exactly(value):
    return pytest.approx(value, abs=1e-9, rel=1e-9)


def closely(value):
    """AVS and AVSS were summed in float32."""
    return pytest.approx(value, abs=1e-5, rel=0, nan_ok=True)


def bits(packed, shape):
    return np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape).astype(bool)


def shuffled(count):
    return np.random.default_rng(count).permutation(count)


@pytest.mark.parametrize("name", expected("ave").get("segment_accuracy", ()))
def test_ave_segment_accuracy(name):
    stored = np.load(GOLDEN / "ave" / "segment_accuracy.npz")
    classes, labels = ave.decide(stored[f"{name}__scores"].astype(np.float32)), stored[f"{name}__labels"]
    theirs = expected("ave")["segment_accuracy"][name]
    ours = ave.segment_accuracy(classes, labels)
    assert ours["accuracy"] == exactly(theirs["accuracy"])
    assert ours["segments"] == 10 * theirs["videos"]
    scorer = ave.AveScorer(len(labels))
    for i in shuffled(len(labels)):
        scorer.add(i, classes[i], labels[i])
    assert scorer.result() == ours


@pytest.mark.parametrize("name", expected("ave").get("two_head_accuracy", ()))
def test_ave_two_heads(name):
    stored = np.load(GOLDEN / "ave" / "two_head_accuracy.npz")
    theirs, labels = expected("ave")["two_head_accuracy"][name], stored[f"{name}__labels"]
    classes = ave.decide_two_head(stored[f"{name}__event_logit"], stored[f"{name}__class_logit"])
    scorer = ave.AveScorer(len(labels), two_head=True)
    for i in shuffled(len(labels)):
        scorer.add(i, classes[i], labels[i])
    batches = scorer.batch_result(theirs["batch_size"])
    assert 100 * np.array(batches["batches"]) == exactly(theirs["per_batch_percent"])
    assert 100 * batches["accuracy"] == exactly(theirs["mean_of_batches_percent"])
    assert 100 * scorer.result()["accuracy"] == exactly(theirs["pooled_percent"])


def llp_maps(name):
    """The four maps of a case, and its rows."""
    official = GOLDEN / "llp" / f"{name}.npz"
    if not official.is_file():
        stored = np.load(GOLDEN / "llp" / "cases.npz")
        return [stored[f"{name}__{part}"] for part in ("pred_a", "pred_v", "gt_a", "gt_v")], stored[
            f"{name}__per_video"
        ]
    stored = np.load(official)
    segments = stored["segment_prob_u8"].transpose(2, 0, 3, 1) / 256  # modality, video, class, segment
    predicted = [llp.gate(one, stored["video_prob_u8"] / 256) for one in segments]
    truth = [bits(stored[part], stored["gt_shape"]) for part in ("gt_audio", "gt_visual")]
    return [*predicted, *truth], stored["per_video"]


@pytest.mark.parametrize("name", expected("llp").get("expected", ()))
def test_llp(name):
    maps, rows = llp_maps(name)
    theirs = expected("llp")["expected"][name]
    assert llp.video_scores(*maps) == exactly(rows)
    ours, scale = llp.summary(llp.video_scores(*maps)), 100 if "printed" in theirs else 1
    if len(rows) < 700:
        scorer = llp.LlpScorer(len(rows))
        for i in shuffled(len(rows)):
            scorer.add(i, *(one[i] for one in maps))
        assert scorer.result() == pytest.approx(ours, abs=1e-12)
    short = {"audio": "A", "visual": "V", "audio_visual": "AV", "type_av": "Type", "event_av": "Event"}
    for level, stem in (("segment", "seg"), ("event", "evt")):
        for kind, leaf in short.items():
            assert scale * ours[f"{level}_{kind}"] == exactly(theirs[f"{stem}_{leaf}"]), (level, kind)
    assert ours["videos"] == theirs["videos"]
    assert llp.printed(ours) == theirs.get("printed", llp.printed(ours))


def question_types(ids):
    """The type of each question, from the real annotation file that asks all of them; long sets must be a whole one."""
    for file in sorted((GOLDEN.parent / "annotations" / "music_avqa").glob("json*/avqa-*.json.gz")):
        rows = json.loads(gzip.decompress(file.read_bytes()))
        types = {row["question_id"]: "/".join(json.loads(row["type"])) for row in rows}
        if [row["question_id"] for row in rows] == ids:
            return ["/".join(json.loads(row["type"])) for row in rows]
        if len(ids) < 100 and set(ids) <= types.keys():
            return [types[i] for i in ids]
    return pytest.skip("the annotation file is not here")


@pytest.mark.parametrize("name", [n for n in expected("avqa") if n != "answers"])
def test_avqa(name):
    stored, theirs = np.load(GOLDEN / "avqa" / "predictions.npz"), expected("avqa")[name]
    predicted, answers = stored[f"{name}__pred"], stored[f"{name}__answer"]
    types = question_types(stored[f"{name}__question_id"].tolist())
    ours = avqa.accuracies(types, predicted, answers)
    scorer = avqa.AvqaScorer(types)
    for i in shuffled(len(types)):
        scorer.add(i, predicted[i], answers[i])
    assert scorer.result() == ours
    counts = theirs["correct_and_total"]
    assert list(ours["types"]) == [QUESTION_TYPES[key] for key in counts]
    assert [[share["correct"], share["total"]] for share in ours["types"].values()] == list(counts.values())
    for modality, key in (("Audio", "audio_avg"), ("Visual", "visual_avg"), ("Audio-Visual", "audio_visual_avg")):
        assert 100 * ours["modalities"][modality]["accuracy"] == exactly(theirs[key])
    assert 100 * ours["accuracy"] == exactly(theirs["overall"])
    assert avqa.printed(ours) == theirs["printed"]


@pytest.mark.parametrize("name", [n for n, case in expected("avs").items() if "frame_iou" in case])
def test_avs_cases(name):
    stored, theirs = np.load(GOLDEN / "avs" / "cases.npz"), expected("avs")[name]
    if f"{name}__logits" not in stored:
        pytest.skip("described, not stored")
    chance = avs.probabilities(stored[f"{name}__logits"])
    truth = bits(stored[f"{name}__gt"], stored[f"{name}__shape"])
    together = avs.frame_scores(chance, truth)
    assert together.iou == closely(theirs["frame_iou"])
    assert avs.frame_iou(chance, truth) == closely(theirs["frame_iou"])
    scores = avs.score([together])
    assert (scores["miou"], scores["fscore"]) == (closely(theirs["miou"]), closely(theirs["fscore"]))
    alone = [avs.score([avs.frame_scores(p[None], m[None])])["fscore"] for p, m in zip(chance, truth, strict=True)]
    assert alone == closely(theirs["frame_fscore_alone"])
    if f"{name}__precision" in stored:
        precision, recall = avs_frames.precision_recall(chance, truth)
        assert precision == closely(stored[f"{name}__precision"])
        assert recall == closely(stored[f"{name}__recall"])


def test_avs_full_size_frames_made_from_their_description():
    """Not stored: five 224 x 224 frames from a seed."""
    theirs = expected("avs").get("full_224_seed5")
    if theirs is None:
        pytest.skip("not in this part of the set")
    logits, truth = full_size_frames()
    scores = avs.frame_scores(avs.probabilities(logits), truth)
    assert scores.iou == closely(theirs["frame_iou"])
    assert avs.score([scores])["fscore"] == closely(theirs["fscore"])


def test_avs_set_by_batch_size():
    stored, theirs = np.load(GOLDEN / "avs" / "cases.npz"), expected("avs").get("test_set")
    if theirs is None or "test_set__logits" not in stored:
        pytest.skip("not in this part of the set")
    chance = avs.probabilities(stored["test_set__logits"])
    truth = bits(stored["test_set__gt"], chance.shape)
    scorer = avs.AvsScorer(len(chance))
    for i in shuffled(len(chance)):
        scorer.add(i, chance[i], truth[i])
    for size, scores in theirs["by_batch_size"].items():
        ours = scorer.score(f"avsbench-batch{size}")
        assert (ours["miou"], ours["fscore"]) == (closely(scores["miou"]), closely(scores["fscore"]))


AVSS_CASES = [name for name, case in expected("avss").items() if "pooled_variant" in case]


@pytest.mark.parametrize("name", AVSS_CASES)
def test_avss(name):
    stored, theirs = np.load(GOLDEN / "avss" / "cases.npz"), expected("avss")[name]
    predicted, truth = stored[f"{name}__pred"], stored[f"{name}__gt"]
    scorer = avss.AvssScorer(len(truth), frames=None)
    for i in shuffled(len(truth)):
        scorer.add(i, predicted[i], truth[i])
    ours = scorer.result()
    for key in theirs.keys() & ours.keys():
        assert ours[key] == closely(theirs[key]), key
    assert len(theirs.keys() & ours.keys()) >= 8
    pooled = ours["other_protocols"]["avss-pooled"]
    assert pooled["miou"] == closely(theirs["pooled_variant"]["miou"])
    assert pooled["fscore"] == closely(theirs["pooled_variant"]["fscore_nanmean"])
    for key, sums in scorer.class_sums().items():
        assert sums == closely(stored[f"{name}__{key}"]), key
    frames = avss_frames.class_pixels(predicted.reshape(-1, *truth.shape[2:]), truth.reshape(-1, *truth.shape[2:]), 71)
    assert avss_frames.mean_nonzero_iou(frames) == closely(stored[f"{name}__frame_mean_nonzero_iou"].ravel())


@pytest.mark.skipif(not AVSS_CASES, reason="no AVSS vectors")
def test_avss_decides_by_argmax_and_pads_to_ten_frames():
    stored = np.load(GOLDEN / "avss" / "cases.npz")
    assert (stored["one_video__logits_u8"].argmax(axis=1) == stored["one_video__pred"][0]).all()
    predicted, truth = stored["padded_clip_bg_pred__pred"][0], stored["padded_clip_bg_pred__gt"][0]
    for given in (predicted, predicted[:5]):
        scorer = avss.AvssScorer(1)
        scorer.add(0, given, truth[:5])
        scores = scorer.result()
        assert scores["miou"] == closely(expected("avss")["padded_clip_bg_pred"]["miou"])
        assert (scores["padded_frames"], scores["assumed_frames"]) == (5, 10 - len(given))


@pytest.mark.skipif(not AVSS_CASES, reason="no AVSS vectors")
def test_avss_colours_and_geometry():
    stored = np.load(GOLDEN / "avss" / "palette_and_resize.npz")
    assert (masks.palette() == stored["palette"]).all()
    assert (masks.colours_to_classes(stored["colour_image"]) == stored["class_map"]).all()
    unknown = masks.colours_to_classes(stored["unknown_colour_image"])
    assert (unknown == stored["unknown_colour_class_map"]).all()
    checked = set()
    for name in stored:
        how, _, size = name.partition("_")
        if how in ("crop", "resize"):
            width, height = map(int, size.split("x"))
            rows, columns = np.mgrid[:height, :width]
            pattern = ((3 * rows + columns) % 256 % 251).astype(np.uint8)
            make = avss_masks.crop_for_training if how == "crop" else avss_masks.resize_to_eval
            assert (make(pattern) == stored[name]).all(), name
            checked.add(how)
    assert checked == {"crop", "resize"}
