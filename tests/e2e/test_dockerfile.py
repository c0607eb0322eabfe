"""The Dockerfile and what it may see, as far as that can be told without building it (`.ci/check-image` builds it)."""

import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTRUCTIONS = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def copied_from_the_build_context():
    lines = re.findall(r"^COPY +(?!--from)(.+)$", INSTRUCTIONS, re.MULTILINE)
    return {source.rstrip("/") for line in lines for source in line.split()[:-1]}


def is_kept_out(path):
    """Whether .dockerignore keeps out `path`: the last rule that matches it or a folder above it decides."""
    folders = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
    kept_out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!")
        # `**/` also stands for no folder at all; a pattern without it matches at the top only.
        names = [Path(folder).name for folder in folders] if pattern.startswith("**/") else folders
        tail = pattern.removeprefix("**/")
        if any(fnmatchcase(name, tail) and tail.count("/") == name.count("/") for name in names):
            kept_out = not rule.startswith("!")
    return kept_out


def test_what_the_image_copies_exists_and_reaches_the_build():
    sources = copied_from_the_build_context()
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not is_kept_out(source), source


def test_all_that_the_package_is_made_of_is_copied():
    setuptools, project = PROJECT["tool"]["setuptools"], PROJECT["project"]
    wanted = {*setuptools["package-dir"].values(), project["readme"], *project["license-files"], "pyproject.toml"}
    assert wanted <= copied_from_the_build_context()


def test_every_data_file_of_the_package_reaches_the_build():
    setuptools = PROJECT["tool"]["setuptools"]
    files = []
    for package, patterns in setuptools["package-data"].items():
        root, _, below = package.removeprefix("avpipe.").partition(".")
        folder = ROOT / setuptools["package-dir"][f"avpipe.{root}"] / below.replace(".", "/")
        for pattern in patterns:
            found = [str(path.relative_to(ROOT)) for path in folder.glob(pattern)]
            assert found, f"{package}: {pattern} names no file"
            files += found
    for file in files:
        assert not is_kept_out(file), file


@pytest.mark.parametrize(
    "path",
    [
        *(".venv/bin/python", ".git/config", "data/ave/Annotations.txt", "cache/ave/zarr.json", "runs/a/config.yaml"),
        *("demo/demo.json", "build/typing", "tests/conftest.py", "new_folder/secret.txt", ".env"),
        *("pipeline/__pycache__/errors.cpython-311.pyc", "stages/demo/__pycache__", "cli/main.pyc"),
    ],
)
def test_nothing_else_reaches_the_build(path):
    assert is_kept_out(path)


def test_it_runs_avpipe_and_not_as_root():
    last_stage = INSTRUCTIONS[INSTRUCTIONS.rindex("\nFROM ") :]
    user = re.findall(r"^USER +(\d+)", last_stage, re.MULTILINE)
    assert user
    assert int(user[-1]) > 0
    assert re.search(r'^ENTRYPOINT \["avpipe"\]$', last_stage, re.MULTILINE)
