"""`avpipe data check`: what is wrong with a copy of a dataset, by name, before hours of work are spent on it."""

from __future__ import annotations

from avpipe.pipeline.datasets.check.looking import Lookout
from avpipe.pipeline.datasets.check.report import Report
from avpipe.pipeline.datasets.check.run import Request, check, requests

__all__ = ["Lookout", "Report", "Request", "check", "requests"]
