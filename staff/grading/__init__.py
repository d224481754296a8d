"""The grader: unpack submissions, run them in a sandbox, judge them, and write the marks."""
