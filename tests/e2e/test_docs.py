"""The documentation speaks of what there is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("package", ["pipeline", "stages"])
def test_the_tree_in_the_readme_names_every_module(package):
    text = (ROOT / package / "README.md").read_text()
    modules = {path.name for path in (ROOT / package).rglob("*.py")} - {"__init__.py"}
    named = set(re.findall(r"[a-z_0-9]+\.py", text))
    assert modules <= named, modules - named
    assert named <= modules, named - modules


def test_every_command_in_the_readme_exists(avpipe):
    text = (ROOT / "README.md").read_text()
    commands = set(re.findall(r"avpipe ([a-z]+)", text)) - {"cache"}
    assert {"demo", "extract", "train", "evaluate"} <= commands
    known = avpipe("--help").stdout
    for command in commands:
        assert re.search(rf"^  {command} ", known, re.MULTILINE), command


def test_links_lead_somewhere():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document}: {target}"
