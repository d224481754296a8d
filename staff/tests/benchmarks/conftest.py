"""Fixture for an empty results folder."""

import pytest

from bench import __main__ as bench


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Make `python -m bench` use a results folder that does not exist yet, and return the folder."""
    folder = tmp_path / "bench" / "results"
    monkeypatch.setattr(bench, "RESULTS", folder)
    return folder
