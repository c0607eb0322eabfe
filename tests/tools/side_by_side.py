"""`pytest --side-by-side`: a second pytest process takes test modules too; one report and one exit code for both.

Both processes collect the same tests; who begins a module first runs it whole, so module fixtures are made once. The
reports of the second process are told here like our own. Tests marked `alone` (they hold a clock against what else
runs) wait until the second process has ended. Its warnings are not shown.

Plain processes, since tests fork, send signals and look at their own threads and children.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

REPORTS = "reports.jsonl"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--side-by-side", action="store_true", help="share the tests with a second process")
    parser.addoption("--partner-of", metavar="FOLDER", help="be that second process")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.partner_of:
        config.pluginmanager.register(_Teller(config))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    option = session.config.option
    if session.testsfailed or option.collectonly:
        return None
    if option.partner_of:
        _run(session, _claimed(session, Path(option.partner_of)))
        return True
    if not option.side_by_side:
        return None
    with tempfile.TemporaryDirectory(prefix="side-by-side-") as name:
        partner = _Partner(session, Path(name))
        try:
            alone = (item for item in session.items if item.get_closest_marker("alone"))
            _run(session, chain(_claimed(session, Path(name)), alone), partner)
            partner.wait()
        finally:
            partner.stop()
    return True


def _claimed(session: pytest.Session, folder: Path) -> Iterator[pytest.Item]:
    """Tests of the modules that this process is the first to ask for; asks when it needs the next one."""
    modules: dict[str, list[pytest.Item]] = {}
    for item in session.items:
        if not item.get_closest_marker("alone"):
            modules.setdefault(item.nodeid.partition("::")[0], []).append(item)
    for module, items in modules.items():
        try:
            (folder / module.replace("/", "+")).touch(exist_ok=False)
        except FileExistsError:
            continue
        yield from items


def _run(session: pytest.Session, items: Iterator[pytest.Item], partner: _Partner | None = None) -> None:
    """Runs tests one after the other, as pytest's own loop does."""
    item = next(items, None)
    while item is not None:
        following = next(items, None)  # pytest keeps the fixtures that this one shares with it
        if partner and item.get_closest_marker("alone"):
            partner.wait()
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        if partner:
            partner.tell()
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following


class _Partner:
    """The second process, as the first one sees it."""

    def __init__(self, session: pytest.Session, folder: Path) -> None:
        self._session, self._config = session, session.config
        self._output = folder / "output"
        (folder / REPORTS).touch()
        self._reports = (folder / REPORTS).open()
        self._rest = self._begun = ""
        command = [Path(sys.executable).with_name("pytest"), *self._config.invocation_params.args]
        command += [f"--partner-of={folder}", "-p", "no:cacheprovider"]
        if self._config.option.basetemp:
            command.append(f"--basetemp={self._config.option.basetemp}-partner")
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                list(map(str, command)),
                cwd=self._config.invocation_params.dir,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def tell(self) -> None:
        """Reports what the process has reported since."""
        *whole, self._rest = (self._rest + self._reports.read()).split("\n")
        for line in whole:
            data = json.loads(line)
            if isinstance(data, str):
                self._begun = data
                continue
            if isinstance(data["longrepr"], list):
                data["longrepr"] = tuple(data["longrepr"])  # of a skipped test; JSON has no tuples
            report = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
            self._config.hook.pytest_runtest_logreport(report=report)

    def wait(self) -> None:
        """Waits until the process has ended, and reports the rest; ends the session if it did not come to its end."""
        while self.process.poll() is None:
            time.sleep(0.1)
            self.tell()
        self.tell()
        if self.process.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            last = self._output.read_text(errors="replace")[-5000:]
            code, test = self.process.returncode, self._begun or "its start"
            self._session.shouldfail = f"the second process ended with {code} at {test}; its last words:\n{last}"
            raise self._session.Failed(self._session.shouldfail)

    def stop(self) -> None:
        """Ends the process if it runs still: this one was interrupted or failed."""
        self._reports.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # its fixtures are cleared up
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class _Teller:
    """Writes names of tests that begin and the reports of the second process where the first one reads them."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._file = (Path(config.option.partner_of) / REPORTS).open("a", buffering=1)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._file.write(json.dumps(nodeid) + "\n")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._file.write(json.dumps(data) + "\n")
