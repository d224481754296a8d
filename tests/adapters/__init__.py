"""The only code that touches a submission: one plain function for each thing that is tested.

Tensors and numbers go in, tensors and numbers come out, and the tests judge what comes back. A submission is imported
when a function is called, so that one part can be tested without the others.

- part1, part2 and so on: the functions, by part; part2_training trains the adversarial autoencoder;
- stand_ins: small networks that take the place of blanks that another test asks for.
"""
