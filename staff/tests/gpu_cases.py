"""A stand-in for a GPU."""

import torch

CPU, META = torch.device("cpu"), torch.device("meta")
