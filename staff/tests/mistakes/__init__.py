"""Wrong solutions that the graded tests must tell from right ones: MISTAKES. Right ones that look otherwise: RIGHT.

An entry is `name: (question, file, right code, what a student writes in its place)`; a fifth element is a phrase that
the message of a failed test must have: the mistake is recognised.
"""
