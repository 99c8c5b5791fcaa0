"""Worker processes for preparation, drawing and decoding."""

import contextlib
import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor


@contextlib.contextmanager
def worker_pool(n_jobs: int) -> Iterator[ProcessPoolExecutor]:
    """`n_jobs` processes of one thread each, for callables at module level.

    Spawned, not forked: the caller may hold threads (torch, OpenMP), which a fork would break. When the body fails,
    what waits is cancelled; when the parent is killed, the workers end too.
    """
    context = multiprocessing.get_context("spawn")
    level = logging.getLogger().getEffectiveLevel()
    with ProcessPoolExecutor(n_jobs, context, initializer=_start_worker, initargs=(level,)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _start_worker(log_level: int) -> None:
    import cv2
    import torch

    logging.basicConfig(level=log_level)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool's workers would wait for ever for a parent that was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)
