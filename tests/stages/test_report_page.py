"""The report's page as a document: nothing in the data can become markup, and nothing in it leads outside."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources

import pytest
from report_toy import SCRIPT, Toy

from avpipe.stages.report.page import SCRIPTS, STYLES, render


class Parsed(HTMLParser):
    """Elements with their attributes, and the text of style and script elements, as a browser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, dict[str, str | None], str]] = []
        self._inside: tuple[str, dict[str, str | None]] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = (tag, dict(attrs))

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.texts.append((*self._inside, data))

    def blocks(self) -> dict[str, object]:
        """The JSON blocks by id."""
        found = [(a["id"], text) for tag, a, text in self.texts if tag == "script" and "json" in (a.get("type") or "")]
        return {name: json.loads(text) for name, text in found}


@pytest.fixture(scope="module", params=["events", "parsing", "segmentation"])
def hostile(request):
    toy = Toy(request.param, hostile=True)
    return toy, "".join(render(toy.data, toy.details()))


def test_the_data_come_out_as_they_went_in(hostile):
    toy, text = hostile
    blocks = Parsed(text).blocks()
    assert blocks.pop("data") == json.loads(json.dumps(toy.data))
    assert blocks == {f"detail-{place}": json.loads(json.dumps(detail)) for place, detail in toy.details()}


def test_hostile_names_add_no_element(hostile):
    toy, text = hostile
    plain = Toy(toy.task)
    expected = [tag for tag, _ in Parsed("".join(render(plain.data, plain.details()))).elements]
    assert [tag for tag, _ in Parsed(text).elements] == expected
    assert SCRIPT not in text
    assert text.isascii()


def test_the_policy_names_exactly_this_style_and_this_script(hostile):
    parsed = Parsed(hostile[1])
    policy = next(a["content"] for tag, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    code = [(tag, text) for tag, a, text in parsed.texts if tag in ("style", "script") and "type" not in a]
    assert [tag for tag, _ in code] == ["style", "script"]
    for tag, text in code:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_no_address_leads_outside(hostile):
    text = hostile[1]
    assert set(re.findall(r"https?://[^'\"\s]*", text)) == {"http://www.w3.org/2000/svg"}  # a name, never fetched
    assert not re.search(r"url\(|@import|\bimport\s*\(|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon", text)


def test_the_script_writes_no_markup():
    assets = resources.files("avpipe.stages.report") / "assets"
    for name in SCRIPTS:
        text = (assets / name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), (
            name
        )
        assert "</" not in text, name


def test_every_asset_is_used():
    assets = {path.name for path in (resources.files("avpipe.stages.report") / "assets").iterdir()}
    assert assets == {"page.html", *SCRIPTS, *STYLES}


def test_details_are_written_one_at_a_time():
    toy, alive = Toy("events", clips=6, details=0), []

    def details():
        for place in range(3):
            alive.append(place)
            yield place, {"frames": None}

    last = 0
    for piece in render(toy.data, details()):
        found = re.search(r'id="detail-(\d)"', piece)
        if found:
            last += 1
            assert len(alive) == last, "a detail was asked for before the one before it was written"
    assert last == 3


@pytest.mark.parametrize("place", [-1, 6])
def test_a_detail_of_no_clip_is_an_error(place):
    toy = Toy("events", clips=6, details=0)
    with pytest.raises(ValueError, match=f"clip {place}, but the report has 6 clips"):
        list(render(toy.data, [(place, {})]))


def test_numbers_that_json_does_not_know_are_an_error():
    toy = Toy("events", clips=2, details=0)
    with pytest.raises(ValueError):
        list(render({**toy.data, "notes": [float("nan")]}, ()))


def test_data_of_another_format_are_an_error():
    with pytest.raises(ValueError, match="format 1, not 2"):
        list(render({**Toy("events", clips=2, details=0).data, "format": 2}, ()))
