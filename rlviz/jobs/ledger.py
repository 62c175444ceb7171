"""What each visitor has had: bytes read in the last 24 hours, and when their last job began. Survives restarts."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from pathlib import Path

from rlviz.store.atomic import read_object, write_whole

DAY_H = 24


class Ledger:
    """One small file per visitor, named by a hash: a name may be an address. Written inside the folder's transaction.

    Bytes are kept by the hour, so a day is 24 whole hours and the one that runs.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path / "visitors"

    def bytes_today(self, visitor: str) -> int:
        """Weight bytes read for them in the last 24 hours."""
        return sum(self._hours(visitor).values())

    def charge(self, visitor: str, nbytes: int) -> None:
        """Add what was just read for them."""
        hours = self._hours(visitor)
        now = str(_hour())
        self._write(visitor, hours | {now: hours.get(now, 0) + nbytes}, self.last_turn_s(visitor))

    def last_turn_s(self, visitor: str) -> float:
        """When a job of theirs began last (Unix time), 0 if none did."""
        return self._read(visitor)[1]

    def take_turn(self, visitor: str) -> None:
        """A job of theirs begins."""
        self._write(visitor, self._hours(visitor), time.time())

    def forget_old(self) -> None:
        """Remove the files of those who have not been here for a day."""
        for path in self._folder.glob("*.json"):
            if time.time() - path.stat().st_mtime > (DAY_H + 1) * 3600:
                path.unlink(missing_ok=True)

    def _hours(self, visitor: str) -> dict[str, int]:
        return {hour: n for hour, n in self._read(visitor)[0].items() if int(hour) > _hour() - DAY_H}

    def _read(self, visitor: str) -> tuple[dict[str, int], float]:
        """Bytes by hour (since 1970) and the last turn; nothing where the file makes no sense."""
        said = read_object(self._path(visitor)) or {}
        try:
            hours = {str(int(hour)): int(n) for hour, n in said["bytes_by_hour"].items()}
            return hours, float(said["last_turn_s"])
        except (KeyError, TypeError, ValueError, AttributeError):
            return {}, 0.0

    def _write(self, visitor: str, hours: dict[str, int], last_turn_s: float) -> None:
        content = {"schema": 1, "last_turn_s": last_turn_s, "bytes_by_hour": hours}
        write_whole(self._path(visitor), json.dumps(content).encode())

    def _path(self, visitor: str) -> Path:
        return self._folder / f"{sha256(visitor.encode()).hexdigest()[:32]}.json"


def _hour() -> int:
    return int(time.time() // 3600)
