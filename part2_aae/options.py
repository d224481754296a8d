"""The flags of part 2. This module has no slow imports, so that --help appears immediately."""

import argparse

from course import flags
from course.flag_types import fraction, positive_number, whole_number

FAST = {"epochs": 9, "ae_lr": 3e-3, "d_lr": 5e-4, "lambda_": 0.99}  # the defaults of --recipe fast


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the flags of part 2; see `course.flags` for the flags that all parts share."""
    parser = flags.trainer_parser(
        "Train an adversarial autoencoder (with --lambda_ 1: a plain autoencoder) on MNIST (part 2).",
        "aae",
        epochs=100,
        batch_size=64,
        lr=1e-3,
        lr_flags=("--ae_lr", "--lr"),
        fast=FAST,
    )
    part = parser.add_argument_group("part 2")
    part.add_argument("--z_dim", type=whole_number(1, 4096), default=8, help="size of the latent space")
    part.add_argument(
        "--lambda_", type=fraction, default=0.995, help="weight of the reconstruction; 1: a plain autoencoder"
    )
    part.add_argument(
        "--d_lr",
        type=positive_number,
        default=5e-3,
        help="learning rate of the discriminator (SGD; --recipe fast: Adam)",
    )
    more = flags.add_more_flags(parser)
    more.add_argument("--num_filters", type=whole_number(1, 1024), default=32, help="channels of the first convolution")
    more.add_argument(
        "--reconstruction",
        choices=["mse", "msge"],
        default="mse",
        help="squared error of the grey values or of the image gradients",
    )
    more.add_argument("--dataset", choices=["mnist", "fashion"], default="mnist", help="digits or clothing")
    return flags.parse(parser, argv)
