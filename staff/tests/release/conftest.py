"""Fixtures for the course in this repository and its released files."""

import pytest

from staff.release import build as release


@pytest.fixture(scope="module")
def course() -> release.Course:
    return release.read_course()


@pytest.fixture(scope="module")
def files(course) -> release.Files:
    return release.contents(course, "2026")
