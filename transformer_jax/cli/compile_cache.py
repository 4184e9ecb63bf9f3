"""Compiled programs kept from one start of a command to the next, by JAX's persistent cache."""

import hashlib
import os
import platform
from pathlib import Path

VARIABLE = "TRANSFORMER_JAX_COMPILED"
MAX_BYTES = 2 * 2**30

KEEPING = ("train", "translate", "evaluate", "score", "export", "plot")
"""Commands that keep theirs: the others report how long compiling takes."""


def keep_compiled_programs() -> Path | None:
    """Have JAX keep what it compiles in this process, and find it again; before JAX is imported.

    The folder is ``$TRANSFORMER_JAX_COMPILED`` or one in the user's cache, with a part for each kind of processor:
    a home folder may be shared by unlike machines. The oldest programs go when it is larger than 2 GiB. JAX's
    own variable ``JAX_COMPILATION_CACHE_DIR`` is left as it is.

    Returns:
      The folder; None where ``TRANSFORMER_JAX_COMPILED`` is empty or JAX's own variable is set.

    Example:
      >>> import os
      >>> os.environ["TRANSFORMER_JAX_COMPILED"] = ""
      >>> keep_compiled_programs() is None
      True
    """
    wanted = os.environ.get(VARIABLE)
    if wanted == "" or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    from transformer_jax.data.registry import user_cache

    root = Path(wanted) if wanted else user_cache() / "compiled"
    folder = root / processor()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(MAX_BYTES))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    return folder


def processor() -> str:
    """A few letters for the instructions that this processor knows."""
    told = platform.machine() + platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass
    return hashlib.sha256(told.encode()).hexdigest()[:8]
