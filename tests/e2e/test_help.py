"""The command line answers at once, and nothing is loaded twice or too early."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.alone
def test_help_answers_in_half_a_second(avpipe):
    avpipe("--help")  # the first call may compile bytecode
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        avpipe("--help")
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.5


def test_arguments_are_named_once(avpipe_here):
    for command in (("extract",), ("train",), ("score",), ("cache", "import"), ("bench", "extract")):
        assert "[OPTIONS] [KEY=VALUE]...\n" in avpipe_here(*command, "--help").stdout
    assert "[OPTIONS] [CLIP]...\n" in avpipe_here("quarantine", "retry", "--help").stdout


@pytest.mark.parametrize("folder", [ROOT, "/"])
def test_the_engine_imports_no_torch_and_nothing_under_a_bare_name(folder):
    code = (
        "import importlib, pkgutil, sys, avpipe.pipeline\n"
        "for module in pkgutil.walk_packages(avpipe.pipeline.__path__, 'avpipe.pipeline.'):\n"
        "    importlib.import_module(module.name)\n"
        "assert len([m for m in sys.modules if m.startswith('avpipe.pipeline.')]) > 20\n"
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules\n"
        "assert not {'pipeline', 'stages', 'cli'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


def test_no_module_is_loaded_under_a_bare_name_here():
    assert not {"pipeline", "stages", "cli"} & set(sys.modules)


def test_every_package_folder_is_listed():
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = ("pipeline", "stages", "cli", "data_manifests")
    found = {
        "avpipe." + ".".join(path.parent.relative_to(ROOT).parts)
        for folder in folders
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(listed) == found
