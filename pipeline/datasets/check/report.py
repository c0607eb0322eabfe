"""What a check found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avpipe.pipeline.datasets.check.counts import Count
from avpipe.pipeline.datasets.check.leakage import Leakage
from avpipe.pipeline.datasets.own import is_own
from avpipe.pipeline.findings import FAULT, Finding


@dataclass(frozen=True)
class Report:
    """What was found in one dataset.

    Attributes:
        name: the dataset.
        root: its folder.
        demo: whether it is demo data, which is compared with its own record in place of the official counts.
        counts: how much there is and should be.
        findings: everything that is wrong or odd: first the annotations', then the files'.
        leakage: recordings shared by splits.
        files: number of files that were looked at.
        seconds: time that it took.
    """

    name: str
    root: Path
    demo: bool
    counts: tuple[Count, ...]
    findings: tuple[Finding, ...]
    leakage: Leakage
    files: int
    seconds: float

    @property
    def own(self) -> bool:
        """Whether it is a table of the user's own."""
        return is_own(self.name)

    @property
    def faults(self) -> int:
        """How many findings are faults."""
        return sum(finding.level == FAULT for finding in self.findings)

    def kinds(self) -> Mapping[tuple[str, str], list[Finding]]:
        """Findings by level and kind, faults first."""
        groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        for finding in sorted(self.findings, key=lambda finding: finding.level != FAULT):
            groups[finding.level, finding.kind].append(finding)
        return groups

    def as_json(self) -> dict[str, Any]:
        """Everything, as documented in `docs/data-check.md`."""
        shared = {"recordings": self.leakage.recordings, "shared": len(self.leakage.names)}
        return {
            "name": self.name,
            "root": str(self.root),
            "demo": self.demo,
            "counts": [asdict(one) for one in self.counts],
            "findings": [asdict(finding) for finding in self.findings],
            "leakage": {**shared, "pairs": self.leakage.pairs, "parts": self.leakage.parts},
            "files": self.files,
            "seconds": round(self.seconds, 3),
        }
