"""Part 1: a variational autoencoder on 4-bit MNIST."""
