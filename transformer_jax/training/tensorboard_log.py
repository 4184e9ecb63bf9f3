"""The log rows as TensorBoard's event files: always the same rows as ``metrics.jsonl`` holds."""

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from transformer_jax.training.log_file import LogFile
from transformer_jax.training.metrics import Row
from transformer_jax.training.trackers import read_rows

TENSORBOARD_FOLDER = "tensorboard"
_VERSION = "brain.Event:2"
_MARK = "tfevents"

Scalars = dict[tuple[str, int], tuple[float, float]]


class TensorBoardTracker:
    """Scalars ``<kind>/<name>`` in an event file, each row handed to the system at once.

    A session has an event file of its own. It begins with a mark that hides events of later updates in the former
    files, and adds what those lack of the rows in ``metrics.jsonl``, which is to be cut back to ``from_update`` before.

    Args:
      run_dir: The run folder.
      from_update: Updates done: a resumed run writes those of later ones again.
      on_failure: As `JsonLinesTracker` has it.
      tell: As `JsonLinesTracker` has it.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        from_update: int,
        on_failure: Callable[[str], None] | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        folder = run_dir / TENSORBOARD_FOLDER
        folder.mkdir(exist_ok=True)
        begin = _record(file_version=_VERSION, wall_time=time.time())
        if _event_files(folder):
            begin += _continued(read_scalars(run_dir), read_rows(run_dir), from_update)
        else:
            begin += b"".join(_scalars_record(row, {}) for row in read_rows(run_dir))
        self._file = LogFile(
            _new_path(folder), run_dir, begin=begin, replaces=False, on_failure=on_failure, tell=tell
        )

    def write(self, row: Row) -> None:
        """Add the row's numbers at its update.

        Raises:
          OSError: If that fails and was not to be told only.
        """
        self._file.append(_scalars_record(row, {}))

    def close(self) -> None:
        """Close the event file.

        Raises:
          OSError: If something could not be written.
        """
        self._file.close()


def read_scalars(run_dir: Path | str) -> Scalars:
    """Values that TensorBoard shows of a run, with the time of writing, by ``(tag, update)``.

    Args:
      run_dir: The run folder; no events give an empty mapping. What is behind damage in a file is left out.
    """
    from tensorboardX.proto import event_pb2

    found: Scalars = {}
    for path in _event_files(Path(run_dir) / TENSORBOARD_FOLDER):
        for data in _records(path):
            try:
                event = event_pb2.Event.FromString(data)
            except Exception:  # protobuf's DecodeError; what follows cannot be trusted
                break
            if event.HasField("session_log") and event.session_log.status == event_pb2.SessionLog.START:
                found = {key: one for key, one in found.items() if key[1] < event.step}
            for value in event.summary.value:
                found[value.tag, event.step] = (value.simple_value, event.wall_time)
    return found


def _continued(seen: Scalars, rows: Sequence[Row], from_update: int) -> bytes:
    """The mark that hides what is to come again, and the rows behind it that are not to come again."""
    wanted = {key for row in rows for key in _numbers(row)}
    # What is lacking, and what was undone; the last update itself too, since its evaluation can come again.
    hidden_from = min(
        [from_update, *(update for _, update in wanted ^ {key for key in seen if key[1] <= from_update})]
    )
    mark = _record(step=hidden_from, session_log_start=True, wall_time=time.time())
    again = [row for row in rows if row["update"] >= hidden_from]
    return mark + b"".join(_scalars_record(row, seen) for row in again)


def _numbers(row: Row) -> dict[tuple[str, int], float]:
    """The numbers of a row by tag and update; those that are not finite were null in the log."""
    return {
        (f"{row['kind']}/{name}", row["update"]): float(value)
        for name, value in row.items()
        if name not in ("kind", "update") and isinstance(value, int | float)
    }


def _scalars_record(row: Row, seen: Mapping[tuple[str, int], tuple[float, float]]) -> bytes:
    """One event that holds a row's numbers, at the time when they were written first."""
    numbers = _numbers(row)
    now = time.time()
    written = [seen[key][1] for key in numbers if key in seen]
    scalars = {tag: value for (tag, _), value in numbers.items()}
    return _record(step=row["update"], scalars=scalars, wall_time=min(written, default=now))


def _record(
    *,
    wall_time: float,
    step: int = 0,
    file_version: str | None = None,
    session_log_start: bool = False,
    scalars: Mapping[str, float] | None = None,
) -> bytes:
    """An event as the file holds it: length, checksum, bytes, checksum."""
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import masked_crc32c
    from tensorboardX.summary import scalar

    event = event_pb2.Event(step=step, wall_time=wall_time)
    if file_version is not None:
        event.file_version = file_version
    if session_log_start:
        event.session_log.status = event_pb2.SessionLog.START
    for tag, value in (scalars or {}).items():
        event.summary.value.extend(scalar(tag, value).value)
    data = event.SerializeToString()
    header = struct.pack("<Q", len(data))
    return header + struct.pack("<I", masked_crc32c(header)) + data + struct.pack("<I", masked_crc32c(data))


def _records(path: Path) -> Iterator[bytes]:
    """The records of an event file up to the first that is cut off."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            while len(header := file.read(12)) == 12:
                (length,) = struct.unpack("<Q", header[:8])
                if length + 4 > size - file.tell():
                    return
                data = file.read(length)
                file.read(4)
                yield data
    except OSError:
        return


def _event_files(folder: Path) -> list[Path]:
    """In the order in which TensorBoard reads them; without half-written and foreign ones that `LogFile` leaves."""
    if not folder.is_dir():
        return []
    names = (path for path in folder.glob(f"*{_MARK}*") if path.is_file())
    return sorted(path for path in names if not path.name.startswith(".") and path.suffix != ".other")


def _new_path(folder: Path) -> Path:
    """A name behind all others, although two sessions begin within a second."""
    seconds = int(time.time())
    last = max((path.name for path in _event_files(folder)), default="")
    for number in range(10_000):
        name = f"events.out.{_MARK}.{seconds:010d}.{number:04d}.{socket.gethostname()}.{os.getpid()}"
        if name > last:
            return folder / name
    return folder / f"{last}.next"  # the clock went back, or an earlier version wrote it within this second
