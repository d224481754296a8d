"""The only code that touches a submission: one plain function for each item that is tested.

Tensors and numbers go in, tensors and numbers come out, and the tests judge the results. The submission is imported
when a function is called, so that one part can be tested without the others.

- part1, part2 and so on: the functions, by part; part2_training trains the adversarial autoencoder;
- stand_ins: small networks that replace blanks which other tests check.
"""
