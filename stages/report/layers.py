"""What each layer is worth to the run's model, for the page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.errors import UsageError
from avpipe.stages.model import MASK_TASKS
from avpipe.stages.report.details import Viewer
from avpipe.stages.report.kind import resumed_in_words
from avpipe.stages.report.sources import Sources
from avpipe.stages.shuffle import passes, shuffle_costs

MEASURES = {
    "accuracy": "Segment accuracy",
    "segment_type_av": "Segment-level Type@AV (F1 of what is heard, what is seen, and both, averaged)",
    "miou": "Mean IoU over all annotated frames (the validation score; the official one averages over batches)",
}
CLASS_MAPS = "Official mIoU, a mean over all classes"
FEW_CLIPS, EXCHANGES_OF_FEW = 200, 3
"""With so few clips one exchange alone is much chance, and takes little time without masks: there are several."""
EXCHANGE_SEED = 0


def importance(sources: Sources, viewer: Viewer) -> tuple[dict[str, Any] | None, list[str]]:
    """The section `layers` of the page (`metric`, `base`, `how`, `rows`), or None; and notes on why there is none."""
    if viewer.model is None or viewer.data is None:
        return None, []
    clips = len({viewer.data.samples[i].clip for i in viewer.data.held})
    task = sources.config.model.task
    few = task not in MASK_TASKS and clips <= FEW_CLIPS
    exchanges = EXCHANGES_OF_FEW if few else 1
    steps = passes(viewer.data, exchanges) * len(viewer.data.held)
    try:
        with progress.task("importance of layers", steps, "samples") as bar:
            found = shuffle_costs(
                viewer.model,
                viewer.data,
                viewer.task,
                batch=sources.config.train.batch,
                device=viewer.device,
                seed=EXCHANGE_SEED,
                exchanges=exchanges,
                advance=bar.advance,
            )
    except UsageError as error:
        return None, [f"The importance of layers is not shown: {error}."]
    times = "One fixed exchange of clips"
    if exchanges > 1:
        spread = max(row.spread for row in found.rows)
        times = (
            f"The mean over {exchanges} fixed exchanges of clips (standard deviation of a score over them: at most "
            f"{100 * spread:.1f} points)"
        )
    layered = any(row.tap for row in found.rows)
    taken = "the tokens of one layer, or of a whole modality, come" if layered else "the frames, or the sound, come"
    measure = CLASS_MAPS if task == "semantic" else MEASURES[found.metric]
    how = (
        f"{measure} on {sources.split}, and what it falls by when {taken} from another clip while everything else "
        f"stays. {times}, no new training: small differences are chance.{resumed_in_words(sources.config)}"
    )
    return {"metric": found.metric, "base": found.base, "how": how, "rows": [asdict(row) for row in found.rows]}, []
