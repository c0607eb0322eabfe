"""What annotation files have in common: floods of findings told as one, and files that are something else."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from plant import HTML, POINTER

from avpipe.pipeline.datasets.jsonlist import read_list
from avpipe.pipeline.datasets.text import at_line, gather, read_lines
from avpipe.pipeline.errors import UnusableAnnotations
from avpipe.pipeline.findings import FAULT, NOTE, Finding

TABLE = Path("a.csv")


def rows(kind: str, count: int, level: str = FAULT) -> list[Finding]:
    """Findings of one kind, each in its own words, on lines 2 and on."""
    return [Finding(kind, at_line(TABLE, n), f"clip {n:x}", f"row left out: {n:x}", level) for n in range(2, count + 2)]


@pytest.mark.parametrize(("count", "of"), [(20, 39), (201, 1000)])
@pytest.mark.parametrize("level", [FAULT, NOTE])
def test_a_flood_of_one_kind_is_one_finding(count, of, level):
    other = Finding("empty-table", str(TABLE), "something else")
    few = rows("bad-id", 3)
    (*kept, finding) = gather([*few, other, *rows("unknown-class", count, level)], TABLE, of)
    assert sorted(kept, key=str) == sorted([*few, other], key=str)
    assert (finding.kind, finding.where, finding.level) == ("unknown-class", str(TABLE), level)
    assert finding.what == f"so in {count} of {of} rows: clip 2"
    assert finding.done == "row left out; first lines 2, 3, 4, 5, 6"


@pytest.mark.parametrize(("count", "of"), [(19, 19), (20, 40), (200, 1000)])
def test_some_findings_of_a_kind_are_each_told(count, of):
    findings = rows("unknown-class", count)
    assert gather(findings, TABLE, of) == findings


ANNEX = "/annex/objects/MD5E-s100--0123456789abcdef.csv\n"


@pytest.mark.parametrize(("text", "says"), [(POINTER, "Git LFS"), (ANNEX, "git-annex"), (HTML, "an HTML page")])
def test_a_file_of_something_else_is_called_what_it_is(tmp_path, text, says):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UnusableAnnotations, match=rf"a\.csv is .*{says}"):
        read_lines(tmp_path / "a.csv")
    for name, content in (("a.json.gz", text.encode()), ("b.json.gz", gzip.compress(text.encode()))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnusableAnnotations, match=rf"{name} is .*{says}"):
            read_list(tmp_path / name)
