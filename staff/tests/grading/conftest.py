"""The judges that the tests of the grader share."""

import pytest

from staff.grading import grade


@pytest.fixture(scope="module")
def judges(level):
    judges = grade.Judges()
    yield judges
    judges.close()
