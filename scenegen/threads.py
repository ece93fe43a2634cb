"""One thread for each sum of numpy and scipy, so that the number of cores does not decide its last bits.

BLAS cuts long sums, and the blocks of matrices, by its number of threads. Objects and photos are computed side by side, so
more than one thread of its own would gain nothing.
"""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def one_blas_thread() -> None:
    """Limits every BLAS that this process has loaded, for all its threads and for good.

    For good: another thread may be in the middle of a stage when this one is through with its own.
    """
    threadpool_limits(1, user_api="blas")
