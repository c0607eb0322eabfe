"""Pretrained weights: whether they can be had is known by one request, and said for all modalities before any load."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import timm
from huggingface_hub import constants
from safetensors.torch import save_file

from avpipe.pipeline.errors import EnvironmentLacking
from avpipe.pipeline.timeline import Timeline
from avpipe.stages import backbones
from avpipe.stages.backbones import BackboneChoice, check_weights, facts_of, hub, load
from avpipe.stages.backbones.htsat_source import fetch
from avpipe.stages.backbones.timm_weights import hash_tensors, redraw
from avpipe.stages.extract_unit import UnitRunner

VIT = "timm/test_vit.r160_in1k"
CLAP = "laion/clap-htsat-unfused"


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """A hub on this machine that knows one repository, and an empty cache; gives the requests that came."""
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            known = CLAP in self.path
            self.send_response(200 if known else 401)
            if not known:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        _point_to(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}", tmp_path)
        yield asked
        server.shutdown()


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A hub that nobody answers for."""
    _point_to(monkeypatch, "http://127.0.0.1:9", tmp_path)


def _point_to(monkeypatch, endpoint, cache):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))


def _cache(repository, tmp_path, state):
    """Puts weights where the hub's clients put what they have downloaded."""
    folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123")
    (folder / "snapshots" / "0123").mkdir(parents=True)
    save_file(state, folder / "snapshots" / "0123" / "model.safetensors")


def _check(modality, model):
    choice = BackboneChoice(modality, model)
    check_weights(choice, facts_of(choice, Timeline()))


def test_one_request_to_the_mirror_decides(mirror):
    _check("audio", "clap_htsat_unfused")
    assert mirror == [f"/{CLAP}/resolve/main/config.json"]
    with pytest.raises(EnvironmentLacking, match=f"shows no {VIT}.*download model.safetensors of {VIT}"):
        _check("visual", "test_vit")
    assert len(mirror) == 2


def test_a_hub_out_of_reach_is_asked_once(nowhere, capfd):
    for modality, model, given in (("visual", "test_vit", "FILE"), ("audio", "clap_htsat_unfused", "FOLDER")):
        with pytest.raises(EnvironmentLacking, match=f"does not answer.*--{modality}-weights {given}"):
            _check(modality, model)
    assert capfd.readouterr() == ("", "")  # the hub's client says each time that it tries again


def test_no_request_where_the_hub_is_switched_off(mirror, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentLacking, match="HF_HUB_OFFLINE is set"):
        _check("audio", "clap_htsat_unfused")
    assert mirror == []


def test_models_without_weights_on_a_hub_say_so():
    for modality, model in (("audio", "htsat"), ("visual", "vit_giant_patch14_224")):
        with pytest.raises(EnvironmentLacking, match=f"no hub has .*weights of {model}.*--{modality}-weights FILE"):
            _check(modality, model)


def test_a_cached_file_counts(nowhere, tmp_path, capfd):
    model = timm.create_model("test_vit", num_classes=0)
    redraw(model, 3)
    _cache(VIT, tmp_path, model.state_dict())
    choice = BackboneChoice("visual", "test_vit")
    loaded = load(choice, facts_of(choice, Timeline()), ("blocks.0",), "cpu")
    assert loaded.weights_sha256 == hash_tensors(model.state_dict())
    assert "Retrying" not in "".join(capfd.readouterr())
    _cache(CLAP, tmp_path, {"x": model.state_dict()["cls_token"]})
    assert fetch(BackboneChoice("audio", "clap_htsat_unfused"), CLAP) == hub.cached(CLAP)


def test_all_that_is_lacking_is_said_before_anything_is_built(nowhere, monkeypatch):
    monkeypatch.setattr(backbones, "load", lambda *arguments: pytest.fail("a model was built"))
    choices = (BackboneChoice("visual", "test_vit"), BackboneChoice("audio", "htsat"))
    jobs = {each.modality: SimpleNamespace(choice=each, facts=facts_of(each, Timeline())) for each in choices}
    runner = object.__new__(UnitRunner)
    runner._job = SimpleNamespace(modalities=jobs)
    with pytest.raises(EnvironmentLacking) as caught:
        runner.weights()
    visual, audio, tiny = str(caught.value).splitlines()
    assert "of test_vit cannot be had" in visual
    assert "no hub has the weights of htsat" in audio
    assert "--weights demo" in tiny
