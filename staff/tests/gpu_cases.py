"""A stand-in for a GPU, shared by several test files."""

import torch

CPU, META = torch.device("cpu"), torch.device("meta")
