"""What every test run shares: one seed, said aloud, and the rule that continuous integration skips nothing."""
from __future__ import annotations

import os
import random
from collections.abc import Iterator

import hypothesis
import pytest

# No timed assertion and no file left in the checkout; a failing example prints how to repeat it.
hypothesis.settings.register_profile("tunbridge", deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile("tunbridge")

SEED = pytest.StashKey[int]()


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """TUNBRIDGE_SEED, or a new seed, for the `seed` fixture and for Hypothesis."""
    given = os.environ.get("TUNBRIDGE_SEED") or str(random.SystemRandom().randrange(2**32))
    if not given.isdecimal():
        raise pytest.UsageError(f"TUNBRIDGE_SEED is {given!r}; it must be a whole number, or unset for a new seed.")
    os.environ["TUNBRIDGE_SEED"] = given  # the processes of a run that is shared out (pytest -n) have the same one
    seed = int(given)
    config.stash[SEED] = seed
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(seed)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Said at once, for a run that hangs; `-q` hides pytest's own header."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"TUNBRIDGE_SEED={session.config.stash[SEED]}")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The run's seed: `random.Random(seed)`. Repeat a run with TUNBRIDGE_SEED=<number>."""
    return request.config.stash[SEED]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("system"):
                item.add_marker(pytest.mark.skip(reason="needs root: make system"))


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In continuous integration a test that did not run has failed; an expected failure did run."""
    if in_ci() and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was not run, and CI is set: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    refuse_skip(report)
    return report
