"""The only code that calls the submission: a plain function for each item that is tested.

The functions take and return tensors and numbers; the tests check the results. A function imports the submission only
when it is called, so that one part can be tested without the others.

- part1, part2 and so on: the functions for each part; part2_training trains the adversarial autoencoder;
- stand_ins: small networks that replace blanks (other tests check the blanks themselves).
"""
