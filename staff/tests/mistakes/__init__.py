"""Wrong solutions, which the graded tests must reject (MISTAKES), and unusual correct ones, which must pass (RIGHT).

An entry is `name: (question, file, correct code, the student's code)`. If the mistake must be recognised, a fifth
element is a phrase that the message of a failed test must contain.
"""
