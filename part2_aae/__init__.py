"""Part 2: an adversarial autoencoder on MNIST."""
