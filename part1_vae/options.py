"""The flags of part 1. This module has no slow imports, so that --help appears immediately."""

import argparse

from course import flags
from course.flag_types import whole_number

FAST = {"epochs": 18, "batch_size": 64, "lr": 3e-3}  # the defaults of --recipe fast


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the flags of part 1; see `course.flags` for the flags that all parts share."""
    parser = flags.trainer_parser(
        "Train a variational autoencoder on 4-bit MNIST (part 1).", "vae", epochs=80, batch_size=128, lr=1e-3, fast=FAST
    )
    part = parser.add_argument_group("part 1")
    part.add_argument("--z_dim", type=whole_number(1, 4096), default=20, help="size of the latent space")
    part.add_argument("--num_filters", type=whole_number(1, 1024), default=32, help="channels of the first convolution")
    more = flags.add_more_flags(parser)
    more.add_argument("--dataset", choices=["mnist", "fashion"], default="mnist", help="digits or clothing")
    more.add_argument(
        "--iwae_samples",
        type=whole_number(0),
        default=0,
        metavar="K",
        help="also compute the importance-weighted bound on the test set, with K samples per image (0: off)",
    )
    return flags.parse(parser, argv)
