"""One run over several processes (hosts): who writes, and how they agree to stop.

Every process runs the same program on the same data and the same update; JAX's own runtime joins their devices. The
first writes the run folder, which all must be able to read. What the processes must decide alike (a signal that one of
them got, a score that is kept) is decided by a collective at updates that all of them come to.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from transformer_jax.errors import ConfigError, RunError, TransformerJaxError
from transformer_jax.training.rendezvous import meet

AGREE_EVERY = 10
"""Updates between two agreements at most: what a signal waits for where there are several hosts."""


HOST_TIMEOUT = 300.0
"""Seconds that hosts wait for each other by default."""

MAX_HOSTS, MAX_SECONDS = 100_000, 10**6


def connect(
    coordinator: str | None = None,
    num_hosts: int | None = None,
    host_id: int | None = None,
    *,
    timeout: float = HOST_TIMEOUT,
) -> None:
    """Join the processes of a run; to be called before anything else of JAX.

    Args:
      coordinator: ``HOST:PORT`` of the first process; None where Slurm, GKE, Open MPI or a TPU pod tells it.
      num_hosts: Processes in all.
      host_id: Number of this one, from 0.
      timeout: Seconds to wait until all have come.

    Raises:
      ConfigError: If only some of the three are given, or they do not fit, or no cluster is found.
      RunError: If the processes do not come together in time; says which are missing.
    """
    given = [value is not None for value in (coordinator, num_hosts, host_id)]
    if any(given) and not all(given):
        raise ConfigError(
            "`coordinator`, `num_hosts` and `host_id` go together; leave all three out on a cluster"
        )
    if num_hosts is not None and not 1 <= num_hosts <= MAX_HOSTS:
        raise ConfigError(f"`num_hosts` must be from 1 to {MAX_HOSTS:,}; got {num_hosts}")
    if num_hosts is not None and not (host_id is not None and 0 <= host_id < num_hosts):
        raise ConfigError(f"`host_id` must be at least 0 and below `num_hosts` ({num_hosts}); got {host_id}")
    if not 0 < timeout <= MAX_SECONDS:
        raise ConfigError(f"`timeout` must be above 0 and at most {MAX_SECONDS:,} s; got {timeout:g}")
    seconds = max(1, math.ceil(timeout))
    try:
        if coordinator is None:
            coordinator, num_hosts, host_id = _of_cluster(seconds)
        elsewhere = (
            "JAX_COORDINATOR_BIND_ADDRESS" in os.environ
        )  # there host 0 listens, not at the port of all
        if coordinator is not None and num_hosts is not None and host_id is not None and not elsewhere:
            # JAX would end the process by a signal if one did not come.
            meet(coordinator, num_hosts, host_id, timeout=timeout)
        jax.distributed.initialize(coordinator, num_hosts, host_id, initialization_timeout=max(seconds, 60))
    except TransformerJaxError:
        raise
    except ValueError as error:  # nothing was given and nothing detected
        raise ConfigError(
            f"no cluster was found ({str(error).splitlines()[0]}): name `coordinator=HOST:PORT`, `num_hosts` and "
            "`host_id`"
        ) from None
    except RuntimeError as error:
        raise RunError(f"the hosts did not come together: {str(error).splitlines()[0]}") from None


def _of_cluster(seconds: int) -> Any:
    """Coordinator, processes and own number as JAX finds them in a cluster; None where it does not."""
    try:
        from jax._src.clusters import ClusterEnv

        find = ClusterEnv.auto_detect_unset_distributed_params
        return find(os.environ.get("JAX_COORDINATOR_ADDRESS"), None, None, None, None, seconds)[:3]
    except (ImportError, AttributeError, TypeError):  # not public: JAX then finds them itself
        return None, None, None


def leave() -> None:
    """Wait until every host has come here, then part from them; nothing can be computed together afterwards.

    For a process that is about to end without more ado: where the first host's process ends while another one is
    still joined, JAX ends that one by signal 6.
    """
    if are_several():
        jax.distributed.shutdown()


def is_first() -> bool:
    """Whether this process writes."""
    return jax.process_index() == 0


def are_several() -> bool:
    """Whether others take part."""
    return jax.process_count() > 1


def largest(number: int) -> int:
    """The largest of the hosts' numbers; every host must ask, and waits for the others.

    Example:
      >>> largest(3)
      3
    """
    if not are_several():
        return number
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def any_host(holds: bool) -> bool:
    """Whether something holds on one of the hosts; every host must ask, and waits for the others."""
    return bool(largest(int(holds)))


def decided_by_first(decision: Callable[[], bool]) -> bool:
    """The first host's value, on all hosts."""
    return any_host(is_first() and decision())


@contextlib.contextmanager
def first_alone() -> Iterator[bool]:
    """A block in which only the first host does something; the others wait for its end.

    Yields:
      Whether this is the first host.

    Raises:
      RunError: On the other hosts, if the block failed on the first.

    Example:
      >>> with first_alone() as is_mine:
      ...   is_mine
      True
    """
    if not are_several():
        yield True
        return
    failed = False
    try:
        yield is_first()
    except Exception:
        failed = True
        raise
    finally:
        if any_host(failed) and not failed:
            raise RunError("the first host could not go on, it says why")


def require_same(what: str, text: str) -> None:
    """Raise ``RunError`` unless all hosts have the same text, a fingerprint say."""
    if not are_several():
        return
    import zlib

    from jax.experimental import multihost_utils

    found = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
    if len(set(found.tolist())) > 1:
        raise RunError(f"the hosts have not the same {what}: give all of them the same files and versions")


def to_host(leaf: Any) -> np.ndarray:
    """An array of numbers as a whole, on every host; all must ask for the same."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable and not leaf.is_fully_replicated:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
    return np.asarray(leaf)
