"""timm models on sound: which picture each is shown, and what it hears at once. Imports no torch.

The front end follows the weights where these are known to be of sound (AudioMAE); any other model is shown our log-mel
picture of one segment, or what `--audio-front-end` names:

- `ast`: 128 bands x 1024 frames, time along the columns, for weights in AST's layout and for any other model;
- `audiomae`: the same with time along the rows;
- `lavish`: the model's own picture, three equal channels, and its visual weights: one backbone for both modalities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import demo_weights, front_ends, windows
from avpipe.stages.backbones.contract import BackboneChoice, BackboneFacts
from avpipe.stages.backbones.precision import precision_of
from avpipe.stages.backbones.timm_table import Entry

_NORM = ((0.5,), (0.5,))  # of frames, which models of sound do not take

MODELS: dict[str, Entry] = {
    "vit_base_patch16_1024_128": Entry(
        kind="vit",
        blocks=(12,),
        widths=(768,),
        patch=(16, 16),
        image=(1024, 128),
        prefix_tokens=1,
        norm=_NORM,
        default_tag="audiomae_as2m",
        tags={"audiomae_as2m": _NORM, "audiomae_as2m_ft_as20k": _NORM},
        channels=1,
        timm_name="vit_base_patch16_224",
        options={"global_pool": "avg"},
        hub="hf_hub:gaunernst/vit_base_patch16_1024_128.{tag}",
    )
}
"""Models of sound that timm builds but does not list: AudioMAE's ViT-B, by its name on the hub."""

CLIP_SECONDS = 10.0
"""Length of the clips of AudioSet: what AST and AudioMAE are trained on, padded to 1024 frames."""
FRAME_SECONDS = 0.01
LAVISH_SPAN = 0.0052 * 192
"""Share of a segment that LAVISH's picture spans from its first frame to behind its last: 5.2 ms for each of 192."""


@dataclass(frozen=True, slots=True)
class _Picture:
    """A front end, the size of its picture in rows and columns, and what it hears at once (None: one segment)."""

    front_end: dict[str, Any]
    size: tuple[int, int]
    hearing: windows.Hearing | None = None


def audio_facts(choice: BackboneChoice, timeline: Timeline, entry: Entry) -> BackboneFacts:
    """Facts of a timm model on sound.

    Args:
        choice: the audio backbone asked for.
        timeline: how clips are cut; its sample rate holds for `logmel` alone, the others have their own.
        entry: what the table says of the model.

    Raises:
        UsageError: a front end, a window or an image size that it cannot have, or segments too short or too long.
    """
    picture = _picture(choice, timeline, entry)
    entry.check(choice.model, picture.size)
    rate, stages = int(picture.front_end["sample_rate"]), entry.stages(picture.size)
    preprocess: dict[str, Any] = {"front_end": picture.front_end}
    segments = 1
    if picture.hearing is None:
        _refuse_windows(choice, picture.front_end["kind"])
    else:
        plan = windows.plan(choice, picture.hearing, stages, timeline, rate)
        stages, segments = plan.stages, plan.segments
        preprocess["window"] = plan.fields
    return BackboneFacts(
        model=choice.model.partition(".")[0],
        family="timm",
        modality="audio",
        stages=stages,
        prefix_tokens=entry.prefix_tokens,
        input_size=picture.size,
        preprocess=preprocess,
        sample_rate=rate,
        window_segments=segments,
        precision=precision_of(choice),
    )


def _picture(choice: BackboneChoice, timeline: Timeline, entry: Entry) -> _Picture:
    fitting = ("audiomae",) if entry.channels == 1 else tuple(PICTURES)
    name = choice.front_end or fitting[0]
    if name not in front_ends.NAMES:
        raise unknown_name("audio front end", name, fitting)
    if name not in fitting:
        raise UsageError(f"front end {name!r} is not for {choice.model}, which takes {', '.join(fitting)}")
    if choice.weights == demo_weights.KEYWORD and entry.channels == 3 and name != "logmel":
        raise UsageError(
            f"the demo's audio weights go with the pictures that they learned, --audio-front-end logmel, not with "
            f"{name}: leave --audio-front-end out, or give other weights with --audio-weights, such as random:0"
        )
    if choice.image_size and name != "lavish":
        raise UsageError(
            f"image_size is for the visual backbone and for the audio front end `lavish`; pictures of {name} for "
            f"{choice.model} have a fixed size"
        )
    return PICTURES[name](choice, timeline, entry)


def _refuse_windows(choice: BackboneChoice, front_end: str) -> None:
    if choice.window not in windows.WINDOWS:
        raise unknown_name("audio window", choice.window, windows.WINDOWS)
    if choice.window != "segment":
        raise UsageError(
            f"audio window {choice.window!r} is for models that hear many segments at once: front end {front_end!r} "
            f"shows {choice.model} one segment; leave --audio-window out, or choose --audio-front-end ast"
        )


def _logmel(choice: BackboneChoice, timeline: Timeline, entry: Entry) -> _Picture:
    """Our own: as long as the segment, cut to whole patches."""
    spec = front_ends.spec("logmel", sample_rate=timeline.sample_rate)
    frames = 1 + (timeline.samples_per_segment - spec["n_fft"]) // spec["hop"]
    size = (spec["mels"] // entry.patch[0] * entry.patch[0], frames // entry.patch[1] * entry.patch[1])
    if min(size) <= 0:
        raise UsageError(f"a segment of {timeline.segment_seconds} s is too short for the patches of {choice.model}")
    return _Picture(spec, size)


def _audioset(name: str) -> Callable[[BackboneChoice, Timeline, Entry], _Picture]:
    """10 s of sound, padded to 1024 frames, which the grid of tokens spans: 10.24 s."""

    def picture(choice: BackboneChoice, timeline: Timeline, entry: Entry) -> _Picture:
        spec = front_ends.spec(name)
        frames, mels, axis = int(spec["frames"]), int(spec["mels"]), str(spec["time_axis"])
        hearing = windows.Hearing(frames * FRAME_SECONDS, axis, sound_seconds=CLIP_SECONDS)
        return _Picture(spec, (frames, mels) if axis == "rows" else (mels, frames), hearing)

    return picture


def _lavish(choice: BackboneChoice, timeline: Timeline, entry: Entry) -> _Picture:
    """The model's own picture: as many bands as it has columns, and a shift that spreads a segment over its rows.

    Published: 192 x 192 and a shift of 5.2 ms (83 samples) for a second. Our reading for other sizes and segments: the
    shift in proportion.
    """
    rows, columns = (choice.image_size, choice.image_size) if choice.image_size else entry.image
    rate = int(front_ends.spec("lavish")["sample_rate"])
    hop = int(timeline.segment_seconds * rate * LAVISH_SPAN / rows)
    spec = front_ends.spec("lavish", frames=rows, mels=columns, hop=hop)
    if hop < 1 or timeline.segment_seconds * rate < spec["window"]:
        raise UsageError(
            f"a segment of {timeline.segment_seconds} s is too short for a picture of {rows} frames of {choice.model}"
        )
    return _Picture(spec, (rows, columns))


PICTURES: dict[str, Callable[[BackboneChoice, Timeline, Entry], _Picture]] = {
    "logmel": _logmel,
    "lavish": _lavish,
    "ast": _audioset("ast"),
    "audiomae": _audioset("audiomae"),
}
"""Front ends of timm models; the first is what a model gets that says nothing of sound."""
