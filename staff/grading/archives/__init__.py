"""Which submissions there are, and a clean copy of what counts in each."""
