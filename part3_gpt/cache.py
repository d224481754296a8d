"""The key/value cache, so that generation computes the keys and values of each token only once."""

from torch import Tensor


class KVCache:
    """The keys and values that one attention layer has computed for the tokens so far.

    Args:
        capacity: the maximum number of tokens.
    """

    def __init__(self, capacity: int):
        self.capacity, self.length = capacity, 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values of new tokens [B, nh, T, hs]; return those of all tokens so far [B, nh, S, hs]."""
        if self.length == 0:
            self.keys, self.values = (new.new_empty(*new.shape[:2], self.capacity, new.size(3)) for new in (k, v))
        start, self.length = self.length, self.length + k.size(2)
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]
