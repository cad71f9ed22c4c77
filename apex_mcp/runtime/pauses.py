"""How long the event loop was ever deaf, measured without a ticker: an idle daemon costs nothing."""

import selectors
import time


class PauseWatch(selectors.DefaultSelector):
    """The event loop's selector, with a watch on what lies between its calls.

    From one `select` to the next the loop runs callbacks and hears nothing. And a `select` that returns after
    its timeout was kept from returning, by a thread that held the interpreter's lock.
    """

    def __init__(self) -> None:
        super().__init__()
        self._heard = time.perf_counter()
        self.longest_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        before = time.perf_counter()
        late = before - self._heard
        ready = super().select(timeout)
        self._heard = time.perf_counter()
        if timeout is not None:
            late = max(late, self._heard - before - max(timeout, 0.0))
        if late > self.longest_seconds:
            self.longest_seconds = late
        return ready
