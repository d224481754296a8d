"""The course as it is, and what students get of it."""

import pytest

from staff.release import build as release


@pytest.fixture(scope="module")
def course() -> release.Course:
    return release.read_course()


@pytest.fixture(scope="module")
def files(course) -> release.Files:
    return release.contents(course, "2026")
