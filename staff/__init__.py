"""Code for staff only: release, grading, marking, hidden tests, and the tests of everything that is not graded."""
