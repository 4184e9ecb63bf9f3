"""The kernels under AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer."""

import os
import subprocess
from pathlib import Path

import pytest

from transformer_jax.native import recipe
from transformer_jax.native.compiler import found_compiler
from transformer_jax.native.trusted_folder import NativeError

DRIVER = Path(__file__).with_name("sanitizer_driver.cpp")

pytestmark = pytest.mark.full


@pytest.mark.parametrize(("sanitizers", "calls"), [("address,undefined", 60), ("thread", 25)])
def test_random_calls_are_right_and_clean(tmp_path, sanitizers, calls):
    try:
        compiler = found_compiler()
    except NativeError as error:
        pytest.skip(str(error))
    flags = [
        *(flag for flag in recipe.FLAGS if flag != "-O3"),
        "-O1", "-g", "-Wall", "-Wextra", "-Werror",
        f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", f"-I{recipe.SOURCES}",
    ]  # fmt: skip

    def run(*words):
        done = subprocess.run(words, capture_output=True, text=True, timeout=900, env=environment)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout

    environment = {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1", "ASAN_OPTIONS": "detect_leaks=0"}
    objects = []
    for variant, own_flags in recipe.variants().items():
        for source in recipe.KERNELS:
            objects.append(str(tmp_path / f"{variant}-{source}.o"))
            run(compiler, *flags, *own_flags, "-c", str(recipe.SOURCES / source), "-o", objects[-1])
    program = str(tmp_path / "driver")
    without_xla = [
        str(recipe.SOURCES / source) for source in recipe.COMMON if not source.endswith("_ffi.cpp")
    ]
    run(
        compiler,
        *flags,
        *recipe.common_flags(),
        str(DRIVER),
        *without_xla,
        *objects,
        "-pthread",
        "-o",
        program,
    )
    said = run(program, str(calls), "1")
    print(sanitizers, said)
    assert " calls of each kernel by " in said
