"""Running the stages of a pipeline in threads, so that they overlap."""
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Queue
from threading import Event
from typing import Any, TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')
END: Any = object()
PATIENCE = 0.1  # Seconds after which a waiting consumer checks whether the producer has ended.


def ahead(function: Callable[[Item], Result], items: Generator[Item, None, None], size: int) -> Generator[Result, None, None]:
    """Apply a function to items in a thread of its own, at most ``size`` items ahead of the consumer.

    An exception of the function or of the items is raised in the consumer. When the generator is closed, or has raised an
    exception, the thread has ended and the items are closed.

    Args:
        function: function of an item.
        items: items, which are consumed in the thread.
        size: largest number of results that are computed, or being computed, but not yet consumed.
    """
    def step() -> Result:
        item: Any = next(items, END)
        return END if item is END else function(item)

    with ThreadPoolExecutor(1) as executor:
        pending = deque(executor.submit(step) for _ in range(size))
        try:
            while (result := pending.popleft().result()) is not END:
                pending.append(executor.submit(step))
                yield result
        finally:
            executor.shutdown(cancel_futures=True)
            items.close()


def newest(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """Yield the newest of some items that arrive by themselves, and drop those that the consumer is too slow for.

    Args:
        items: items, which are consumed in a thread of their own as they arrive.
    """
    place: Queue[Item] = Queue(1)
    closed = Event()

    def watch() -> None:
        for item in items:
            if place.full():
                discard(place)
            place.put(item)
            if closed.is_set():
                break

    with ThreadPoolExecutor(1) as executor:
        watching = executor.submit(watch)
        try:
            while not (watching.done() and place.empty()):
                try:
                    item = place.get(timeout=PATIENCE)
                except Empty:
                    continue
                yield item
            watching.result()
        finally:
            closed.set()
            discard(place)
            executor.shutdown()
            items.close()


def discard(place: Queue) -> None:
    """Remove the item of a queue if there is one."""
    with suppress(Empty):
        place.get_nowait()
