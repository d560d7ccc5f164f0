"""The epochs of a run as files: CSV, JSON lines and, if asked for, events for TensorBoard."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoint import CheckpointError, advice, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .records import Epoch

CSV_FILE, LINES_FILE, TENSORBOARD_FOLDER = "log.csv", "log.jsonl", "tensorboard"
# TensorBoard asks only that `tfevents` is in it. The name that its own writer gives has the name of the computer.
_EVENTS_FILE = "events.out.tfevents"


class Logs:
    """Writes the logs anew after each epoch, so that those of a resumed run have no gap and nothing twice."""

    def __init__(self, out: Path, tensorboard: bool = False) -> None:
        self.out = out
        self.events = TensorBoard(out / TENSORBOARD_FOLDER) if tensorboard else None

    def write(self, history: Sequence[Epoch]) -> None:
        """Raises CheckpointError for a file that cannot be written."""
        lines = [asdict(line) for line in history]
        table = io.StringIO()
        writer = csv.DictWriter(table, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        write_text(self.out / CSV_FILE, table.getvalue())
        write_text(self.out / LINES_FILE, "".join(json.dumps(line) + "\n" for line in lines))
        if self.events is not None:
            self.events.write(history)


class TensorBoard:
    """Events of the epochs. Needs the package `tensorboard`."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer import record_writer

        self.path, self.record_writer = folder / _EVENTS_FILE, record_writer.RecordWriter
        self.written = 0

    def write(self, history: Sequence[Epoch]) -> None:
        """Add what is not there yet. TensorBoard goes on reading where it was, so the file is never replaced."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab" if self.written else "wb") as file:
                records = self.record_writer(file)
                if not self.written:
                    records.write(_version())
                for line in history[self.written :]:
                    records.write(_event(line, time.time() - (history[-1].seconds - line.seconds)))
                records.flush()
        except OSError as error:
            raise CheckpointError(f"cannot write {self.path}: {error}. {advice(error)}") from error
        self.written = len(history)


def _version() -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    return Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString()


def _event(line: Epoch, when: float) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

    figures = {name: value for name, value in asdict(line).items() if name not in ("epoch", "step")}
    values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items() if value is not None]
    return Event(wall_time=when, step=line.step, summary=Summary(value=values)).SerializeToString()
