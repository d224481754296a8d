"""The grader: submissions unpacked, run in a sandbox, judged, and the marks written."""
