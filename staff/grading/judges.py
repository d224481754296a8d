"""The judge that all threads of the grader share."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from staff.grading.judge import Judge, JudgeError


class Closed(Exception):
    """The judges were closed while still in use: the grader is being stopped."""


class Judges:
    """Share one judge between all threads, and replace it if it fails."""

    def __init__(self, make: Callable[[], Judge] = Judge):
        self._make, self._lock = make, threading.RLock()
        self._judge: Judge | None = None
        self.closed = False
        self._users: Counter[Judge] = Counter()

    def current(self) -> Judge:
        """Return the judge to use next; start one if there is none.

        Raises:
            JudgeError: the judge does not start. Closed: the judges are closed.
        """
        with self._lock:
            if self.closed:
                raise Closed("the judges are closed")
            self._judge = self._judge or self._make()
            return self._judge

    @contextmanager
    def borrowed(self) -> Iterator[Judge]:
        """Lend the current judge. A failed judge is not lent again, and is closed after its last user returns it."""
        with self._lock:  # so that the judge cannot be closed before this user is counted
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
        for judge in {self._judge, *+self._users} - {None}:  # including those in use
            judge.close()
