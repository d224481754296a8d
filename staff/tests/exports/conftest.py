"""Fixture for a folder of grades."""

import json

import pytest


@pytest.fixture
def grades(tmp_path):
    """Return a function: grades(result, ...) writes results as the grader does and returns the folder."""

    def write(*results: dict):
        (tmp_path / "results").mkdir(exist_ok=True)
        for result in results:
            (tmp_path / "results" / f"{result['student']}.json").write_text(json.dumps(result))
        return tmp_path

    return write
