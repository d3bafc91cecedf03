"""Run independent calls: on the active dask.distributed client where there is one, else here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from queue import SimpleQueue
from threading import Event, local
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

Call = tuple[Any, ...]
_REPEATS = 2  # where all workers were lost at once; what a single one loses the scheduler repeats
_CELLS_AT_ONCE = 400_000  # of sections that are in work at the same time, of some 3 kB a cell
_LARGE = 2**16  # bytes of an array that is sent to the workers once, not with every task


def active_client() -> Any | None:
    """Return the dask.distributed client that is active, or None."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


def threads_for(n_cells: int) -> int:
    """Count the sections of so many cells to work on at the same time: as many as torch has threads, if they fit."""
    return int(np.clip(_CELLS_AT_ONCE / max(n_cells, 1), 1, torch.get_num_threads()))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let numerical libraries use one thread a call, where calls are in threads themselves: more would only wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def run(
    function: Callable[..., Any], calls: Sequence[Call], *, shared: Call = (), n_threads: int = 1
) -> Iterator[tuple[int, Any]]:
    """Yield the number and the result of each call ``function(*shared, *call)``, as they are done.

    Parameters
    ----------
    function
        Of a module, so that workers can import it.
    calls
        Arguments; large arrays are sent to the workers once, however many calls they are in.
    shared
        Arguments that all calls begin with, sent once.
    n_threads
        Calls at once where there is no client. Each thread takes calls that follow one another, with shallow copies of
        `shared`, so that what one of them remembers is of use in the next and no other thread's.
    """
    client = active_client()
    if client is None and n_threads > 1:
        yield from _in_threads(function, calls, shared, n_threads)
        return
    if client is None:
        for number, call in enumerate(calls):
            yield number, function(*shared, *call)
        return
    from distributed.client import CancelledError

    client.wait_for_workers(1)
    left = dict(enumerate(calls))
    for last in (False,) * _REPEATS + (True,):
        try:
            for number, result in _on(client, function, left, shared):
                del left[number]
                yield number, result
            return
        except CancelledError:  # data were on workers that are gone
            if last:
                raise
            client.wait_for_workers(1)


def _in_threads(
    function: Callable[..., Any], calls: Sequence[Call], shared: Call, n_threads: int
) -> Iterator[tuple[int, Any]]:
    results: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()
    stopped = Event()

    def work(numbers: Sequence[int]) -> None:
        own = [copy(value) for value in shared]
        for number in numbers:
            if stopped.is_set():
                return
            try:
                results.put((number, function(*own, *calls[number]), None))
            except BaseException as error:  # noqa: BLE001  # raised where the results are awaited
                results.put((number, None, error))
                return

    with one_thread_each(), ThreadPoolExecutor(n_threads) as pool:
        for part in np.array_split(np.arange(len(calls)), n_threads):
            pool.submit(work, part.tolist())
        try:
            for _ in calls:
                number, result, error = results.get()
                if error is not None:
                    raise error
                yield number, result
        finally:
            stopped.set()


_here = local()


def _on_worker(function: Callable[..., Any], shared: list[Any], *call: Any) -> Any:
    """Call with a shallow copy of `shared` for each thread of a worker, which it keeps for the calls that follow."""
    if not (hasattr(_here, "shared") and _same(_here.shared, shared)):
        _here.shared, _here.own = shared, [copy(value) for value in shared]
    return function(*_here.own, *call)


def _same(some: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


def _on(client: Any, function: Callable[..., Any], calls: dict[int, Call], shared: Call) -> Iterator[tuple[int, Any]]:
    from distributed import as_completed as done

    sent: dict[int, Any] = {}

    def send(value: Any, *, everywhere: bool) -> Any:
        if id(value) not in sent:
            sent[id(value)] = client.scatter(value, broadcast=everywhere, hash=False)
        return sent[id(value)]

    first = [send(value, everywhere=True) for value in shared]
    futures = {}
    for number, call in calls.items():
        rest = [
            send(value, everywhere=False) if isinstance(value, np.ndarray) and value.nbytes > _LARGE else value
            for value in call
        ]
        futures[client.submit(_on_worker, function, first, *rest, pure=False)] = number
    try:
        for future in done(list(futures)):
            yield futures[future], future.result()
    finally:
        client.cancel([future for future in futures if not future.done()])
