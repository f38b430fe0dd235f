"""Every command of the guide and of the lesson prints what the page says it prints.

`UPDATE_GOLDEN=1 pytest tests/system/test_guide.py` writes the pages with today's outputs.
"""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from labkit import PATIENCE, ROOT

from controller.tools import client
from controller.tools.rundir import Rundir
from tests import transcripts

pytestmark = [pytest.mark.system, pytest.mark.shared]


@pytest.fixture
def at() -> Iterator[Path]:
    """A run directory with a daemon of the demo cloud, which logs no exception; whatever lab there is then is ended."""
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        home, tunbridge = Path(name), (sys.executable, "-m", "controller")
        with (home / "log").open("wb") as log:
            daemon = subprocess.Popen([*tunbridge, "run", "--listen", "none", "--rundir", name], cwd=ROOT, stderr=log,
                                      stdin=subprocess.DEVNULL)
        try:
            client.wait_for_status(Rundir(home), PATIENCE, lambda _: True)
            yield home
        finally:
            subprocess.run([*tunbridge, "lab", "down", "--rundir", name], timeout=60, check=True, capture_output=True)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(PATIENCE) == 0
        log_text = (home / "log").read_text()
        assert "Traceback" not in log_text and " ERROR " not in log_text, log_text


@pytest.mark.parametrize("page", ["lesson.md", "guide.md"])
def test_the_commands_of_the_page_print_what_it_says(at: Path, page: str) -> None:
    file = ROOT / "docs" / page
    text = file.read_text()
    fresh = transcripts.renew(text, {**os.environ, "TUNBRIDGE_RUNDIR": str(at), "COLUMNS": "120"}, str(at))
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(fresh)
    else:
        assert transcripts.differing(text, fresh) == []
