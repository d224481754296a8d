"""A folder of results."""

import pytest

from bench import __main__ as bench


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty folder of results."""
    folder = tmp_path / "bench" / "results"
    monkeypatch.setattr(bench, "RESULTS", folder)
    return folder
