"""Pseudo-random orders of many numbers that take no memory: any part of one is computed when it is asked for.

A Feistel network permutes the numbers of `bits` bits, whatever its rounds compute; a number beyond the last is permuted
again until it is one of the n, which leaves a permutation of these (cycle-walking, Black and Rogaway 2002). The rounds
are the finalizer of SplitMix64 (Steele et al. 2014) under a key each.
"""

import numpy as np

ROUNDS = 8
# Up to here an order is one of numpy's, all of which are equally likely; it takes half a megabyte.
SMALL = 2**16
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Permutation:
    """A permutation of 0 … n − 1 that follows from `key`, whole numbers that are not negative.

    order[start:stop] is a part of it, `order.at(places)` are the numbers at these places, both int64.
    """

    def __init__(self, n: int, key: tuple[int, ...]) -> None:
        self.n = n
        bits = max(2, (n - 1).bit_length())
        self._shift = np.uint64(bits // 2)
        self._masks = [np.uint64(2 ** (bits - bits // 2) - 1), np.uint64(2 ** (bits // 2) - 1)]  # high, low
        self._keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, places: slice, /) -> np.ndarray:
        return self.at(np.arange(*places.indices(self.n)))

    def at(self, places: np.ndarray) -> np.ndarray:
        """The numbers at these places, each of 0 … n − 1."""
        numbers = self._permuted(places.astype(np.uint64))
        while True:
            beyond = np.flatnonzero(numbers >= self.n)
            if not len(beyond):
                return numbers.astype(np.int64)
            numbers[beyond] = self._permuted(numbers[beyond])

    def _permuted(self, numbers: np.ndarray) -> np.ndarray:
        """Of numbers of `bits` bits: every round adds a hash of one part, without carry, to the other."""
        parts = [numbers >> self._shift, numbers & self._masks[1]]
        for turn, key in enumerate(self._keys):
            of = turn % 2
            parts[of] = parts[of] ^ (_hash(parts[1 - of] + key) & self._masks[of])
        return (parts[0] << self._shift) | parts[1]


def permutation(n: int, key: tuple[int, ...]) -> "Permutation | np.ndarray":
    """A permutation of 0 … n − 1 that follows from `key`: an array where n is small, else a `Permutation`."""
    return np.random.default_rng(key).permutation(n) if n <= SMALL else Permutation(n, key)


def _hash(numbers: np.ndarray) -> np.ndarray:
    numbers = (numbers ^ (numbers >> np.uint64(30))) * FIRST
    numbers = (numbers ^ (numbers >> np.uint64(27))) * SECOND
    return numbers ^ (numbers >> np.uint64(31))
