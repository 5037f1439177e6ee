"""Says what becomes of each test: one line in the file $LARDER_OUTCOMES, the outcome and the test's name."""

import os

import pytest

_file = open(os.environ["LARDER_OUTCOMES"], "a", buffering=1, encoding="utf-8")


@pytest.hookimpl
def pytest_runtest_logreport(report):
    # Setting up and cleaning up count where they fail, and where a test is skipped before it runs.
    if report.when == "call" or report.outcome != "passed":
        name = report.nodeid.encode("unicode_escape").decode("ascii")
        print(report.outcome, name, sep="\t", file=_file)
