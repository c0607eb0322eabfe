"""A backbone in a line."""

from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of
from avpipe.stages.backbones.wording import described, in_words


def of(modality: str, model: str, taps: list[str] | None = None, **options: str) -> str:
    choice = BackboneChoice(modality, model, "random:0", **options)
    facts = facts_of(choice, Timeline())
    return in_words({"backbone": facts.fields()}, choice.request(), list(facts.taps) if taps is None else taps)


def test_model_weights_layers_and_what_sound_goes_through():
    assert of("visual", "test_vit", ["blocks.0", "blocks.5"]) == (
        "test_vit, weights random:0, 2 of 6 blocks (blocks.0, blocks.5), float32"
    )
    assert of("audio", "htsat", window="clip", precision="bfloat16") == (
        "htsat, weights random:0, 12 of 12 blocks (layers.0.blocks.0 to layers.3.blocks.1), bfloat16, window clip, "
        "front end htsat"
    )


def test_a_layer_in_two_codecs_is_one_layer():
    assert "1 of 6 blocks (blocks.3, blocks.3@float32)" in of("visual", "test_vit", ["blocks.3", "blocks.3@float32"])


def test_what_is_not_known_is_left_out():
    assert in_words({"imported": True}, {"imported from": {}}, ["vggish"]) == "imported features, 1 tap (vggish)"
    assert in_words({}, {"weights": "htsat.pt"}, ["a"]) == "a backbone that is not known, weights htsat.pt, 1 tap (a)"
    assert described({}, {}, [])["precision"] is None
