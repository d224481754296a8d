"""The code that runs next to a submission, in the sandbox."""
