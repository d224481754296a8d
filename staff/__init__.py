"""Code for staff only: release, grading, marking, hidden tests, and the ungraded tests."""
