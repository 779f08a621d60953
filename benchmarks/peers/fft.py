"""A bank of FIR filters in NumPy, as a peer."""

import numpy as np


class PartitionedFFT:
    """A bank of FIR filters by uniformly partitioned overlap-save convolution in NumPy (Stockham 1966, Kulp 1988).

    `templates`: (n, taps); each output is a template's product with the newest samples, its last tap with the newest one, as
    `Conv1D` has it. `block`: samples a push, which is also the length of a partition.
    """

    name = "partitioned FFT"

    def __init__(self, templates: np.ndarray, block: int):
        self.block = block
        count, taps = templates.shape
        self._partitions = -(-taps // block)
        response = np.zeros((count, self._partitions * block), np.float32)
        response[:, :taps] = templates[:, ::-1]
        spectra = np.fft.rfft(response.reshape(count, self._partitions, block), 2 * block)
        # By bins, so that each one's sum over partitions is a product of matrices: for 16 partitions and more up to 3 times
        # as fast as adding up the products of all bins, though half as fast for 4.
        self._filters = np.ascontiguousarray(spectra.transpose(2, 0, 1))  # (bins, filters, partitions)
        # The spectra of the latest blocks, newest first; twice, so that they lie in one piece wherever the newest stands.
        self._delayed = np.zeros((block + 1, 2 * self._partitions, 1), np.complex64)
        self._newest = 0
        self._samples = np.zeros(2 * block, np.float32)

    def push(self, x: np.ndarray) -> np.ndarray:
        """Filter the next samples, float32 (block, 1); return float32 (block, n)."""
        self._samples[: self.block] = self._samples[self.block :]
        self._samples[self.block :] = x[:, 0]
        self._newest = (self._newest - 1) % self._partitions
        self._delayed[:, self._newest :: self._partitions, 0] = np.fft.rfft(self._samples)[:, None]
        products = self._filters @ self._delayed[:, self._newest : self._newest + self._partitions]
        return np.fft.irfft(products[:, :, 0], axis=0)[self.block :]
