"""Hosts meet before JAX joins them: all are told who is missing, and strangers at the port change nothing."""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import pytest
from jax._src.clusters import ClusterEnv

from transformer_jax.errors import ConfigError, RunError
from transformer_jax.training import hosts
from transformer_jax.training.rendezvous import meet, split_address


@pytest.fixture
def address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Meeting:
    """Hosts in threads, and what became of each."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.threads: list[threading.Thread] = []
        self.ends: list[tuple[int, str]] = []

    def join(self, host_id: int, num_hosts: int = 3, timeout: float = 10.0) -> None:
        def run() -> None:
            try:
                meet(self.address, num_hosts, host_id, timeout=timeout)
                self.ends.append((host_id, "met"))
            except RunError as error:
                self.ends.append((host_id, str(error)))

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def ended(self) -> list[tuple[int, str]]:
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()
        return sorted(self.ends)


def test_hosts_meet_in_any_order_and_the_port_is_free_afterwards(address: str) -> None:
    meeting = Meeting(address)
    meeting.join(2)  # before anybody listens
    time.sleep(0.3)
    meeting.join(0)
    meeting.join(1)
    assert meeting.ended() == [(0, "met"), (1, "met"), (2, "met")]
    with socket.create_server(("127.0.0.1", split_address(address)[1])):
        pass


def test_every_host_is_told_who_is_missing(address: str) -> None:
    meeting = Meeting(address)
    meeting.join(0, num_hosts=4, timeout=3.0)
    meeting.join(2, num_hosts=4)
    said = f"hosts 1, 3 of 4 did not come to {address} within"
    ends = meeting.ended()
    assert [number for number, _ in ends] == [0, 2]
    assert all(text.startswith(said) for _, text in ends), ends


def test_without_the_first_host_the_others_say_so(address: str) -> None:
    with pytest.raises(
        RunError, match=rf"host 0 at {address} gave no start signal within 0\.5 s \(.*refused\)"
    ):
        meet(address, 2, 1, timeout=0.5)
    with pytest.raises(RunError, match=f"host 1 of 2 did not come to {address} within 0.5 s"):
        meet(address, 2, 0, timeout=0.5)


def test_one_port_serves_one_meeting(address: str) -> None:
    with (
        socket.create_server(("", split_address(address)[1])),
        pytest.raises(RunError, match="cannot listen"),
    ):
        meet(address, 2, 0, timeout=0.5)


def _strangers(address: str) -> list[socket.socket]:
    """Connections that say nothing, too much, no JSON, numbers that are none, or go at once."""
    found = []
    for text in (
        b"",
        b"x" * 20_000,
        b"GET / HTTP/1.1\r\n\r\n",
        b'{"host": "\xff"}\n',
        b'{"host": 1}\n',
        b"[" * 5000 + b"\n",
    ):
        connection = socket.create_connection(split_address(address), timeout=5)
        connection.sendall(text)
        found.append(connection)
    socket.create_connection(split_address(address), timeout=5).close()
    return found


def test_strangers_and_hosts_that_do_not_fit_change_nothing(address: str) -> None:
    meeting = Meeting(address)
    meeting.join(0, timeout=60.0)
    _eventually(lambda: [one.close() for one in _strangers(address)])
    lost = socket.create_connection(split_address(address), timeout=5)
    lost.sendall(b'{"host": 2, "hosts": 3}\n')
    lost.close()  # killed while it waited: another may come in its place
    meeting.join(1, timeout=60.0)
    time.sleep(1.0)
    for host_id, num_hosts, words in (
        (1, 3, "a host of number 1 already"),
        (2, 4, "`num_hosts=3`, this one with 4"),
    ):
        with pytest.raises(RunError, match=words):
            meet(address, num_hosts, host_id, timeout=5.0)
    meeting.join(2, timeout=60.0)
    assert meeting.ended() == [(0, "met"), (1, "met"), (2, "met")]


def _eventually(attempt: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while True:
        try:
            return attempt()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("localhost", 2, 0), "`coordinator` must be HOST:PORT"),
        (("localhost:0", 2, 0), "`coordinator` must be HOST:PORT"),
        (("localhost:99999999999", 2, 0), "`coordinator` must be HOST:PORT"),
        (("localhost:1", 10**9, 0), "`num_hosts` must be from 1 to 100,000"),
        (("localhost:1", 0, 0), "`num_hosts` must be from 1 to 100,000"),
        (("localhost:1", 2, -1), "`host_id` must be at least 0"),
    ],
)
def test_arguments_are_checked_with_their_range(arguments: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        hosts.connect(*arguments)
    for timeout in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="`timeout` must be above 0"):
            hosts.connect("localhost:1", 2, 0, timeout=timeout)


@pytest.fixture
def on_slurm(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the first of three that Slurm started."""
    slurm = {
        "SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "3", "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0", "JAX_COORDINATOR_PORT": address.rpartition(":")[2],
    }  # fmt: skip
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)


def test_on_a_cluster_too_it_is_said_who_is_missing(on_slurm: None) -> None:
    with pytest.raises(RunError, match=r"hosts 1, 2 of 3 did not come to localhost:\d+ within 0\.5 s"):
        hosts.connect(timeout=0.5)


def test_what_is_set_for_jax_stays_set(address: str, on_slurm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator's address beats the cluster's, and JAX reads the devices and the listening address itself."""
    given: list[Any] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *words, **names: given.append((words, names)))
    monkeypatch.setattr(hosts, "meet", lambda *words, **names: given.append((words, names)))
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "10.0.0.7:4321")
    joined = (("10.0.0.7:4321", 3, 0), {"initialization_timeout": 60})
    hosts.connect(timeout=0.5)
    assert given == [(("10.0.0.7:4321", 3, 0), {"timeout": 0.5}), joined]
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", "10.0.0.7:4322")
    hosts.connect(timeout=0.5)
    assert given[2:] == [joined]


def test_without_jaxs_private_detection_jax_finds_the_cluster(
    on_slurm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *words, **names: given.append(words))
    monkeypatch.setattr(ClusterEnv, "auto_detect_unset_distributed_params", lambda only: ())
    hosts.connect(timeout=0.5)
    assert given == [(None, None, None)]
