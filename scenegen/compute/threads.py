"""One thread for each sum of numpy and scipy, so that its last bits do not depend on the number of cores.

BLAS divides long sums and the blocks of matrices by its number of threads. Objects and photos are computed in parallel,
so more threads for BLAS would gain nothing.
"""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def one_blas_thread() -> None:
    """Limits every BLAS that this process has loaded, for all its threads and permanently.

    It is permanent because another thread may be in the middle of a stage when this one has finished its own.
    """
    threadpool_limits(1, user_api="blas")
