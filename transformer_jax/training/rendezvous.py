"""Rendezvous of a run's hosts over TCP before JAX connects them, so that a missing one is named.

JAX's own client ends the process by a signal when its time is over. So the first host listens at the coordinator's
address before JAX does, the others tell it their numbers, and it answers all of them: everybody is there, or who is
missing. Then the socket is closed and the port is JAX's.
"""

import contextlib
import json
import selectors
import socket
import time
from collections.abc import Sequence
from typing import Any

from transformer_jax.errors import ConfigError, RunError

__all__ = ["meet", "split_address"]

_MAX_LINE = 10_000
_RETRY_SECONDS = 0.2
_GOODBYE_SECONDS = 5.0
_SHOWN = 8


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``.

    Raises:
      ConfigError: If it is not of that form.

    Example:
      >>> split_address("10.0.0.1:8476"), split_address("[::1]:8476")
      (('10.0.0.1', 8476), ('::1', 8476))
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65_535):
        raise ConfigError(f"`coordinator` must be HOST:PORT with a port from 1 to 65535, got {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def meet(coordinator: str, num_hosts: int, host_id: int, *, timeout: float) -> None:
    """Wait until all hosts of a run have come.

    Args:
      coordinator: ``HOST:PORT`` of the first host, where it listens meanwhile; free again afterwards.
      num_hosts: Hosts in all.
      host_id: Number of this one, from 0.
      timeout: Seconds to wait.

    Raises:
      ConfigError: If the address is malformed.
      RunError: If not all came in time; says which are missing, on every host that came.

    Example:
      >>> meet("localhost:8476", 1, 0, timeout=1.0)  # nobody else to wait for
    """
    host, port = split_address(coordinator)
    if num_hosts == 1:
        return
    if host_id == 0:
        _receive(coordinator, port, num_hosts, timeout)
    else:
        _come(coordinator, (host, port), num_hosts, host_id, timeout)


def _receive(coordinator: str, port: int, num_hosts: int, timeout: float) -> None:
    """The first host: gather the others, then tell them."""
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listener(coordinator, port))
        selector = stack.enter_context(selectors.DefaultSelector())
        selector.register(listener, selectors.EVENT_READ)
        arrived: dict[int, socket.socket] = {}
        said: dict[socket.socket, bytes] = {}
        while len(arrived) < num_hosts - 1 and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                guest: Any = key.fileobj
                if guest is listener:
                    with contextlib.suppress(OSError):  # gone again
                        guest = stack.enter_context(listener.accept()[0])
                        guest.setblocking(False)
                        selector.register(guest, selectors.EVENT_READ)
                        said[guest] = b""
                    continue
                number = _number(guest, said, arrived, num_hosts)
                if number is not None:
                    arrived[number] = guest
                elif said[guest] is _GONE:
                    selector.unregister(guest)
                    guest.close()
                    arrived = {number: one for number, one in arrived.items() if one is not guest}
        missing = sorted(set(range(1, num_hosts)) - arrived.keys())
        for guest in arrived.values():
            _send(guest, {"missing": missing})
        if missing:
            raise RunError(_who_is_missing(missing, num_hosts, coordinator, timeout))
        until = time.monotonic() + _GOODBYE_SECONDS
        for guest in arrived.values():  # who closes first keeps the port busy: the others shall
            with contextlib.suppress(OSError):
                guest.settimeout(max(0.01, until - time.monotonic()))
                guest.recv(1)


_GONE = b"gone"


def _number(
    guest: socket.socket,
    said: dict[socket.socket, bytes],
    arrived: dict[int, socket.socket],
    num_hosts: int,
) -> int | None:
    """The number of a host whose message is complete; None before, and (marked as gone) for a foreign connection."""
    try:
        new = guest.recv(_MAX_LINE)
    except BlockingIOError:
        return None
    except OSError:
        new = b""
    line = said[guest] + new
    said[guest] = line
    if new and b"\n" not in line and len(line) < _MAX_LINE:
        return None
    said[guest] = _GONE  # unless it is found to be right
    if not new or guest in arrived.values():
        return None
    try:
        document = json.loads(line.partition(b"\n")[0])
        number, hosts = int(document["host"]), int(document["hosts"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # not one of ours
    if hosts != num_hosts:
        _send(
            guest,
            {"refused": f"the first host was started with `num_hosts={num_hosts}`, this one with {hosts}"},
        )
    elif not 0 < number < num_hosts or number in arrived:
        _send(guest, {"refused": f"there is a host of number {number} already: each has its own `host_id`"})
    else:
        said[guest] = b""
        return number
    return None


def _come(coordinator: str, address: tuple[str, int], num_hosts: int, host_id: int, timeout: float) -> None:
    """Another host: tell the first one that it is there, and wait for the answer."""
    deadline = time.monotonic() + timeout
    hello = json.dumps({"host": host_id, "hosts": num_hosts}).encode() + b"\n"
    reason = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection(address, timeout=left) as connection:
                connection.sendall(hello)
                answer = _read_line(connection, deadline)
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            if answer is not None:
                _judge(answer, num_hosts, coordinator, timeout)
                return
            reason = "it was there, but not all the others"
        time.sleep(max(0.0, min(_RETRY_SECONDS, deadline - time.monotonic())))
    raise RunError(
        f"host 0 at {coordinator} gave no start signal within {timeout:g} s ({reason}): start all {num_hosts} hosts "
        "with the same `coordinator`, or wait longer with `timeout`"
    )


def _read_line(connection: socket.socket, deadline: float) -> dict[str, Any] | None:
    """The first host's answer; None where it has gone or is not one of ours."""
    line = b""
    while b"\n" not in line and len(line) < 100 * _MAX_LINE:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        new = connection.recv(_MAX_LINE)
        if not new:
            return None
        line += new
    try:
        answer = json.loads(line.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _judge(answer: dict[str, Any], num_hosts: int, coordinator: str, timeout: float) -> None:
    if "refused" in answer:
        raise RunError(f"the hosts did not come together: {str(answer['refused'])[:200]}")
    missing = answer.get("missing")
    if missing:
        raise RunError(_who_is_missing(missing, num_hosts, coordinator, timeout))


def _who_is_missing(missing: Sequence[int], num_hosts: int, coordinator: str, timeout: float) -> str:
    shown = ", ".join(str(number) for number in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return (
        f"host{'s' if len(missing) > 1 else ''} {shown}{more} of {num_hosts} did not come to {coordinator} within "
        f"{timeout:g} s: start them with the same `coordinator`, or wait longer with `timeout`"
    )


def _listener(coordinator: str, port: int) -> socket.socket:
    """A socket at all addresses of this machine, as JAX's own will be."""
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        return socket.create_server(("", port), backlog=1024)
    except OSError as error:
        raise RunError(
            f"cannot listen at {coordinator}: {error.strerror or error}: choose another port for `coordinator`"
        ) from None


def _send(guest: socket.socket, document: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        guest.settimeout(_GOODBYE_SECONDS)
        guest.sendall(json.dumps(document).encode() + b"\n")
