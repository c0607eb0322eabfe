"""The pictures of a clip: one per segment, resized, with a mask that says which of them were really there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.files import check_file
from avpipe.pipeline.media.packets import check_packets
from avpipe.pipeline.media.picture_folders import folder_fault
from avpipe.pipeline.media.pictures import is_picture
from avpipe.pipeline.media.probe import CannotVouch, MediaFacts
from avpipe.pipeline.media.readers import READERS, Shown
from avpipe.pipeline.timeline import Timeline

SECOND_OPINION = "pyav"
_DAMAGED_HINT = "damaged? fetch or encode it again"


@dataclass(frozen=True, slots=True)
class Frames:
    """Pictures on the clip's clock.

    Attributes:
        pictures: uint8 [T, H, W, 3], RGB.
        mask: bool [T]; False where the video shows nothing at that time and its nearest frame stands in.
        last: the last segment in whose time any picture is shown; -1 where none is shown in the clip's time.
        backend: name and version of the decoder.
        note: why the chosen decoder was not believed, "" where it was.
    """

    pictures: np.ndarray
    mask: np.ndarray
    last: int
    backend: str
    note: str = ""


def video_frames(
    facts: MediaFacts, timeline: Timeline, segments: int, *, size: tuple[int, int], decoder: str = "decord"
) -> Frames:
    """One frame per segment from the video of a container.

    The frame shown at `timeline.frame_time` is taken. Before the first frame the first one stands in, after the last
    frame the last one; the mask is False where the wanted time lies more than one frame outside.

    Args:
        facts: of the container.
        timeline: the clip's clock.
        segments: T.
        size: (height, width) to squash each picture to.
        decoder: name in `READERS`; where it fails or disagrees with the container, PyAV is asked.

    Raises:
        InputRejected: (stage `frames`) no video track, or no backend can vouch for the frames.
        EnvironmentLacking: the decoder is not installed.
    """
    if facts.video is None:
        raise InputRejected(
            f"{facts.path}: no video track",
            stage="frames",
            hint="give frame images for the clip, leave it out of the annotations, take sound alone (--modality "
            "audio), or let grey frames stand in (--missing-video)",
        )
    if facts.video.edit is not None and facts.video.edit.parts > 1:
        reason = f"{facts.path}: its edit list joins {facts.video.edit.parts} parts, and cuts between two frames"
        raise InputRejected(reason, stage="frames", hint="the times of its frames are not sure: encode it again")
    times = [timeline.frame_time(segment) + facts.origin_seconds for segment in range(segments)]
    complaints: list[str] = []
    try:
        check_packets(facts, facts.video, times[-1])
    except CannotVouch as complaint:  # whoever decodes them
        raise InputRejected(f"{facts.path}: {complaint}", stage="frames", hint=_DAMAGED_HINT) from complaint
    for name in dict.fromkeys((decoder, SECOND_OPINION)):
        try:
            shown = READERS[name](facts, facts.video, times, lambda picture: _squash(picture, size))
        except CannotVouch as complaint:
            complaints.append(str(complaint))
            continue
        last = _last(shown, facts.origin_seconds, timeline.segment_seconds, segments)
        return Frames(np.stack(shown.frames), _presence(shown, times), last, shown.backend, "; ".join(complaints))
    raise InputRejected(f"{facts.path}: {'; '.join(complaints)}", stage="frames", hint=_DAMAGED_HINT)


def image_frames(paths: Sequence[Path], segments: int, *, size: tuple[int, int]) -> Frames:
    """One image file per segment. Orientation tags of cameras are not applied; transparency is dropped.

    Args:
        paths: T files in time order; or a folder alone, of which none could be taken.
        segments: T.
        size: (height, width) to squash each picture to.

    Raises:
        InputRejected: (stage `frames`) such a folder, not one file per segment, or an image that is missing or broken.
    """
    import PIL

    if len(paths) == 1 and (paths[0].is_dir() or not is_picture(paths[0].name)):
        raise _refused(paths[0])
    if len(paths) != segments:
        where = f" in {paths[0].parent}" if paths else ""
        hint = "one picture a segment is needed; of a folder, name the folder"
        raise InputRejected(f"{len(paths)} images{where} for {segments} segments", stage="frames", hint=hint)
    pictures = np.stack([_image(path, size) for path in paths])
    return Frames(pictures, np.ones(segments, dtype=bool), segments - 1, f"pillow {PIL.__version__}")


def _refused(folder: Path) -> InputRejected:
    fault = folder_fault(folder)
    if fault is None:
        return InputRejected(f"{folder}: its pictures came after the table was read", stage="frames", hint="run again")
    return InputRejected(f"{folder}: {fault.reason}", stage="frames", hint=fault.hint)


def _image(path: Path, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(check_file(path, "frames")) as image:
            return _squash(np.asarray(image.convert("RGB")), size)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise InputRejected(f"{path}: not a readable image ({error})", stage="frames", hint="fetch it again") from error


def _squash(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes to (height, width) whatever the aspect; bicubic, antialiased."""
    from PIL import Image

    height, width = size
    if picture.shape[:2] == size:
        return np.array(picture)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def _presence(shown: Shown, times: Sequence[float]) -> np.ndarray:
    wanted = np.asarray(times)
    after_begin = wanted >= shown.begin_seconds - shown.frame_seconds
    before_end = wanted <= shown.end_seconds + shown.frame_seconds
    presence: np.ndarray = after_begin & before_end
    return presence


def _last(shown: Shown, origin_seconds: float, segment_seconds: float, segments: int) -> int:
    """The last segment in whose time a picture is shown, -1 where none is before the clip ends."""
    if shown.begin_seconds - origin_seconds >= segments * segment_seconds:
        return -1
    ended = math.ceil((shown.end_seconds - origin_seconds) / segment_seconds)
    return max(0, min(ended, segments)) - 1
