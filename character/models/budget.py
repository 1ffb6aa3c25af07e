"""Money that may be spent, and a journal of what was.

Before a request is sent, the most it can cost is reserved; when it is answered, the reservation is
replaced by its cost. Both are appended to the journal before anything else happens, so that a
killed process has spent at most what its journal says: a reservation without a cost counts in full.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from contextlib import suppress
from pathlib import Path

from character.errors import CharacterError, ResourceError


class CapReachedError(CharacterError):
    """The next request might cost more than is left."""


class Budget:
    """What one run may spend; `cap` None is no limit, but what is spent is still counted.

    Used from one event loop and by one process: a run folder has one writer.
    """

    def __init__(self, cap: float | None = None, journal: Path | None = None) -> None:
        self.cap = cap
        self.spent = 0.0
        """Dollars, of answered requests and of those that may have been charged."""
        self.reserved = 0.0
        self.unknown = 0
        """Requests whose price nobody knows."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.journal = journal
        self._file: int | None = None
        self._last = 0
        self._left_open: dict[int, float | None] = {}
        if journal:
            self.spent, self.unknown, self._last, self._left_open = _read(journal)
            journal.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(self._file, b"\n")  # the last line may have been cut off

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    async def reserve(self, most: float | None) -> Reservation:
        """Set aside what a request can cost at most; None is an unknown price.

        Waits while requests under way hold what is left; raises CapReachedError when even without
        them it is too little. With a cap, an unknown price is refused (ResourceError).
        """
        if most is None:
            if self.cap is not None:
                raise ResourceError(
                    "With a cost limit every model needs a price, and this one's is unknown."
                )
            return self._set_aside(None)
        while self.cap is not None and self.spent + self.reserved + most > self.cap:
            if not self.reserved:
                raise CapReachedError(
                    f"The cost limit of ${self.cap:g} is reached: ${self.spent:.4f} is spent, and"
                    f" the next request may cost ${most:.4f}. What is done is kept; the same"
                    " command with a higher limit goes on, for example --max-cost"
                    f" {_more(self.cap)}"
                )
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        return self._set_aside(most)

    def try_reserve(self, most: float | None) -> Reservation | None:
        """Set aside what a request can cost, or None when that is too much just now."""
        if self.cap is not None and (most is None or self.spent + self.reserved + most > self.cap):
            return None
        return self._set_aside(most)

    def adopt(self, identity: int) -> Reservation | None:
        """A reservation that an earlier process left open, to be settled now."""
        if identity not in self._left_open:
            return None
        most = self._left_open.pop(identity)
        if most is None:
            self.unknown -= 1
        else:
            self.spent -= most
            self.reserved += most
        return Reservation(self, identity, most)

    def _set_aside(self, most: float | None) -> Reservation:
        self._last += 1
        self.reserved += most or 0.0
        self._write({"id": self._last, "most": most})
        return Reservation(self, self._last, most)

    def _settle(self, reservation: Reservation, cost: float | None) -> None:
        self._write({"id": reservation.id, "cost": cost})
        self.reserved -= reservation.most or 0.0
        if cost is None:
            self.unknown += 1
        else:
            self.spent += cost
        if self.reserved < 1e-12:  # what rounding leaves
            self.reserved = 0.0
        while self._waiting:
            turn = self._waiting.popleft()
            with suppress(asyncio.InvalidStateError):  # cancelled meanwhile
                turn.set_result(None)

    def _write(self, row: dict[str, float | int | None]) -> None:
        if self._file is not None:
            os.write(self._file, json.dumps(row).encode() + b"\n")


class Reservation:
    """Settled exactly once: with what the request cost, or as lost when nobody can say."""

    __slots__ = ("_budget", "id", "most")

    def __init__(self, budget: Budget, identity: int, most: float | None) -> None:
        self._budget, self.id, self.most = budget, identity, most

    def settle(self, cost: float | None) -> None:
        """None is a price that nobody knows."""
        self._budget._settle(self, cost)

    def release(self) -> None:
        """The request was not charged."""
        self._budget._settle(self, 0.0)

    def lose(self) -> None:
        """The request may have been charged, and how much nobody said: it counts in full."""
        self._budget._settle(self, self.most)


def _read(journal: Path) -> tuple[float, int, int, dict[int, float | None]]:
    """(dollars spent, requests of unknown price, last id, open reservations) by a journal, which
    may end anywhere. What is open counts as spent.
    """
    spent, unknown, last = 0.0, 0, 0
    open_: dict[int, float | None] = {}
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # cut off when the process was killed, so its request was not sent
        last = max(last, row["id"])
        if "most" in row:
            open_[row["id"]] = row["most"]
            continue
        open_.pop(row["id"], None)
        if row["cost"] is None:
            unknown += 1
        else:
            spent += row["cost"]
    spent += sum(most or 0.0 for most in open_.values())
    unknown += sum(most is None for most in open_.values())
    return spent, unknown, last, open_


def _more(cap: float) -> str:
    return f"{2 * cap or 1:g}"
