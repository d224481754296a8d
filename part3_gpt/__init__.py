"""Part 3: a GPT that generates text."""
