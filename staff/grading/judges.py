"""The judge that all threads of the grader ask."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from staff.grading.judge import Judge, JudgeError


class Closed(Exception):
    """The judges were closed while somebody asked: the grader is being stopped."""


class Judges:
    """The judge that all threads ask; a new one where it failed."""

    def __init__(self, make: Callable[[], Judge] = Judge):
        self._make, self._lock = make, threading.RLock()
        self._judge: Judge | None = None
        self.closed = False
        self._users: Counter[Judge] = Counter()

    def current(self) -> Judge:
        """The one that is asked next.

        Raises:
            JudgeError: it does not start. Closed: nobody is to ask any more.
        """
        with self._lock:
            if self.closed:
                raise Closed("the judges are closed")
            self._judge = self._judge or self._make()
            return self._judge

    @contextmanager
    def borrowed(self) -> Iterator[Judge]:
        """One that fails is asked nothing more, and closed when nobody waits for it."""
        with self._lock:  # nobody closes it in between
            judge = self.current()
            self._users[judge] += 1
        try:
            yield judge
        except JudgeError:
            with self._lock:
                self._judge = None if self._judge is judge else self._judge
            raise
        finally:
            with self._lock:
                self._users[judge] -= 1
                last = not self._users[judge] and judge is not self._judge
            if last:
                judge.close()

    def close(self) -> None:
        with self._lock:
            self.closed = True
        for judge in {self._judge, *+self._users} - {None}:  # those in use too
            judge.close()
