"""Checkpoints: whole or absent, the last and the best kept, refused when they do not fit."""

import dataclasses
import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import RunError
from transformer_jax.functional.losses import LossSum
from transformer_jax.notes import listening
from transformer_jax.testing.tiny_training import TinySeq2Seq
from transformer_jax.training import Adam, AdamW, CheckpointInfo, CheckpointStore, load_params, orbax_items
from transformer_jax.training.optimizers import build_optimizer
from transformer_jax.training.snapshot import Snapshot
from transformer_jax.training.state import TrainState, create_state


def make_state(model: Any, optimizer: Any = None) -> TrainState:
    transformation = build_optimizer(optimizer or Adam(), lambda updates_done: np.float32(0.1))
    return create_state(model, transformation, seed=3, metrics={"loss": LossSum.of(1.0, 1.0)})[1]


def info(update: int, score: float | None = None, **changes: Any) -> CheckpointInfo:
    fields: dict[str, Any] = {
        "update": update,
        "score": score,
        "metric_mode": "min",
        "train_seconds": 1.5,
        "tokens": 10,
        "metrics": {},
        "extra": {},
    }
    return CheckpointInfo(**(fields | changes))


def bits(tree: Any) -> list[bytes]:
    return [
        np.asarray(
            jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        ).tobytes()
        for leaf in jax.tree.leaves(tree)
    ]


def test_round_trip_is_bit_for_bit(tmp_path: Path, make_model: Callable[..., TinySeq2Seq]) -> None:
    store = CheckpointStore(tmp_path)
    state = make_state(make_model(seed=1), AdamW())
    saved = info(7, 0.25, metrics={"per": 0.25, "odd": None}, extra={"config": {"a": [1, 2]}})
    store.save(dataclasses.replace(state, update=state.update + 7), saved)
    restored, found = CheckpointStore(tmp_path).restore(make_state(make_model(seed=2), AdamW()), 7)
    assert bits(dataclasses.replace(restored, update=state.update)) == bits(state)
    assert int(restored.update) == 7
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert found == saved


def test_last_and_best_are_kept(tmp_path: Path, make_model: Callable[..., TinySeq2Seq]) -> None:
    store = CheckpointStore(tmp_path, keep_best=2)
    state = make_state(make_model())
    kept = []
    for update, score in [(1, 0.5), (2, 0.2), (3, None), (4, 0.4), (5, 0.9)]:
        store.save(state, info(update, score))
        kept.append(store.updates())
    assert kept == [[1], [1, 2], [1, 2, 3], [2, 4], [2, 4, 5]]
    again = CheckpointStore(tmp_path, keep_best=2)
    assert again.best_updates() == [2, 4, 5]
    assert again.is_among_best(0.3, "min")
    assert not again.is_among_best(0.4, "min")
    store.save(state, info(6))
    assert store.updates() == [2, 4, 6]


def test_best_may_be_the_highest(tmp_path: Path, make_model: Callable[..., TinySeq2Seq]) -> None:
    store = CheckpointStore(tmp_path, keep_best=1)
    state = make_state(make_model())
    for update, score in [(1, 10.0), (2, 30.0), (3, 20.0)]:
        store.save(state, info(update, score, metric_mode="max"))
    assert store.updates() == [2, 3]
    assert store.best_updates()[0] == 2


def test_load_params_best_last_and_none(tmp_path: Path, make_model: Callable[..., TinySeq2Seq]) -> None:
    with pytest.raises(RunError, match="holds no checkpoint: train first"):
        load_params(tmp_path, model=make_model())
    store = CheckpointStore(tmp_path)
    first, second = make_model(seed=1), make_model(seed=2)
    store.save(make_state(first), info(1))
    model = make_model()
    assert load_params(tmp_path, model=model).update == 1, "without scores the last is the best"
    store.save(make_state(first), info(2, 0.1))
    store.save(make_state(second), info(3, 0.2))
    assert load_params(tmp_path, "best", model=model).update == 2
    assert bits(nnx.state(model)) == bits(nnx.state(first))
    assert load_params(tmp_path, "last", model=model).update == 3
    assert bits(nnx.state(model)) == bits(nnx.state(second))


@pytest.mark.parametrize("broken", ["rename", "fsync", "open"])
def test_a_full_disk_is_told_and_leaves_the_former_whole(
    broken: str, tmp_path: Path, make_model: Callable[..., TinySeq2Seq], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    store.save(make_state(make_model()), info(4))

    def full(*unused: object, **unused_too: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(
            *{"rename": (os, "rename"), "fsync": (os, "fsync"), "open": (Path, "open")}[broken], full
        )
        with pytest.raises(
            RunError, match=r"update 8 cannot be written \(No space left.*the last one is of update 4"
        ):
            store.save(make_state(make_model()), info(8))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000004"]
    assert load_params(tmp_path, model=make_model()).update == 4
    store.save(make_state(make_model()), info(8))
    assert store.updates() == [8]


def test_a_limit_of_file_sizes_is_told_and_nothing_else_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], random_generator: np.random.Generator
) -> None:
    arrays = {f"layer.{i}": random_generator.random((64, 64), np.float32) for i in range(60)}
    snapshot = Snapshot(arrays, {"update": np.array(3, np.int32)})  # many writes that fail beside each other
    store = CheckpointStore(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        for _ in range(2):
            with pytest.raises(RunError, match=r"update 3 cannot be written \(.*File too large"):
                store.save(snapshot, info(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capfd.readouterr() == ("", "")
    assert list((tmp_path / "checkpoints").iterdir()) == []
    store.save(snapshot, info(3))
    assert store.updates() == [3]


def test_a_checkpoint_that_claims_more_than_there_is_memory_for_is_not_read(
    tmp_path: Path, make_model: Callable[..., TinySeq2Seq], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    state = make_state(make_model())
    store.save(state, info(1))
    monkeypatch.setattr(orbax_items, "machine_memory", (100).__int__)
    monkeypatch.setattr(store, "info", lambda update: info(update))
    monkeypatch.setattr(orbax_items, "read_item", None)
    with pytest.raises(RunError, match=r"training of checkpoint .* claims .* GB of memory"):
        store.restore(state, 1)
    with pytest.raises(RunError, match=r"model of checkpoint .* claims .* GB of memory"):
        store.model_shapes(1)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{}", b"[1]", b"\xff", b'{"update": NaN}'])
@pytest.mark.parametrize("name", ["metadata/metadata", "model/_METADATA"])
def test_damaged_metadata_without_a_manifest_is_refused(
    name: str, content: bytes, tmp_path: Path, make_model: Callable[..., TinySeq2Seq]
) -> None:
    store = CheckpointStore(tmp_path)
    store.save(make_state(make_model()), info(1))
    (store.path(1) / "manifest.json").unlink()  # as in format 1, which has none
    (store.path(1) / name).write_bytes(content)
    with pytest.raises(RunError) as raised:
        load_params(tmp_path, model=make_model())
    assert "\n" not in str(raised.value)


def test_every_mth_checkpoint_is_kept(tmp_path: Path, make_model: Callable[..., TinySeq2Seq]) -> None:
    store = CheckpointStore(tmp_path, keep_best=0, keep_every=4)
    for update in (2, 4, 6, 8, 10):
        store.save(make_state(make_model()), info(update))
    assert store.updates() == [4, 8, 10]


def test_other_shape_and_other_structure_are_one_clear_line(
    tmp_path: Path, make_model: Callable[..., TinySeq2Seq]
) -> None:
    CheckpointStore(tmp_path).save(make_state(make_model()), info(1))
    with pytest.raises(
        RunError, match=r"'embedding' is float32\[11, 8\], the model wants float32\[11, 4\]"
    ) as error:
        load_params(tmp_path, model=make_model(model_dim=4))
    assert "\n" not in str(error.value)
    assert "'layers.0.bias' is float32[8], the model wants float32[4]" in str(error.value), "all are listed"

    model = make_model()
    model.layers.append(nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
    with pytest.raises(RunError, match=r"has no array 'layers\.2\.bias'"):
        load_params(tmp_path, model=model)
    model = make_model()
    model.layers = nnx.List([model.layers[0]])
    with pytest.raises(RunError, match=r"holds 'layers\.1\.bias', which the model does not have"):
        load_params(tmp_path, model=model)
    state = make_state(make_model())
    state = dataclasses.replace(state, metrics={"accuracy": state.metrics["loss"]})
    with pytest.raises(RunError, match=r"has no array 'metrics\.accuracy\.count'"):
        CheckpointStore(tmp_path).restore(state, 1)


def saved(tmp_path: Path, make_model: Callable[..., TinySeq2Seq], *updates: int) -> CheckpointStore:
    """A store with checkpoints of models that differ, all scored the same way: the later the better."""
    store = CheckpointStore(tmp_path, keep_best=3, keep_last=3)
    for update in updates:
        store.save(make_state(make_model(seed=update)), info(update, score=float(-update)))
    return store


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "a bit turned": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "removed": lambda path: path.unlink(),
    "a link": lambda path: (path.rename(path.with_name("elsewhere")), path.symlink_to("elsewhere")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_newest_whole_checkpoint_is_read_and_the_damaged_named(
    tmp_path: Path, make_model: Callable[..., TinySeq2Seq], damage: str
) -> None:
    saved(tmp_path, make_model, 1, 2)
    target = max(
        (path for path in (tmp_path / "checkpoints" / "00000002" / "model").rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    DAMAGES[damage](target)
    model, notes = make_model(), []
    with listening(notes.append):
        assert load_params(tmp_path, model=model).update == 1
    np.testing.assert_array_equal(model.embedding[...], make_model(seed=1).embedding[...])
    (said,) = notes
    assert "checkpoint of update 2 is passed over" in said
    assert str(target.parent) in said
    assert "\n" not in said
    store = CheckpointStore(tmp_path)
    store.pass_over_damaged(sets_aside=True)
    assert store.updates() == [1]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "00000001",
        "damaged-00000002",
    ]


def test_only_damaged_checkpoints_is_one_line(tmp_path: Path, make_model: Callable[..., TinySeq2Seq]) -> None:
    saved(tmp_path, make_model, 1)
    (tmp_path / "checkpoints" / "00000001" / "manifest.json").write_text("{")
    with pytest.raises(RunError, match="no whole checkpoint, only damaged ones"):
        load_params(tmp_path, model=make_model())
    CheckpointStore(tmp_path).pass_over_damaged(sets_aside=True)
    assert CheckpointStore(tmp_path).updates() == [1], "what could still be repaired keeps its name"


def test_a_new_checkpoint_that_is_whole_gets_its_name(
    tmp_path: Path, make_model: Callable[..., TinySeq2Seq]
) -> None:
    saved(tmp_path, make_model, 1, 2, 3)
    folder = tmp_path / "checkpoints"
    for update in (2, 3):  # killed just before the rename, and before the manifest
        (folder / f"{update:08d}").rename(folder / f"new-{update:08d}")
    (folder / "new-00000003" / "manifest.json").unlink()
    store = CheckpointStore(tmp_path)
    store.remove_leftovers()
    assert store.updates() == [1, 2]
    assert sorted(path.name for path in folder.iterdir()) == ["00000001", "00000002"]


def test_a_checkpoint_without_a_manifest_is_read_as_before(
    tmp_path: Path, make_model: Callable[..., TinySeq2Seq]
) -> None:
    saved(tmp_path, make_model, 1)
    (tmp_path / "checkpoints" / "00000001" / "manifest.json").unlink()
    assert load_params(tmp_path, model=make_model()).update == 1


def test_a_later_format_is_told(tmp_path: Path, make_model: Callable[..., TinySeq2Seq]) -> None:
    saved(tmp_path, make_model, 1, 2)
    path = tmp_path / "checkpoints" / "00000002" / "manifest.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(RunError, match="checkpoints of format 3; this version reads up to 2"):
        load_params(tmp_path, model=make_model())
    with pytest.raises(RunError, match="format 3"):
        CheckpointStore(tmp_path).pass_over_damaged(sets_aside=True)
    assert path.exists()


def test_interrupted_save_leaves_the_former_whole(
    tmp_path: Path, make_model: Callable[..., TinySeq2Seq], monkeypatch: pytest.MonkeyPatch
) -> None:
    import orbax.checkpoint as ocp

    store = CheckpointStore(tmp_path)
    state = make_state(make_model(seed=1))
    store.save(state, info(1))

    def interrupted(*unused: Any, **also_unused: Any) -> None:
        raise KeyboardInterrupt

    # The arrays are written by now, the rename is not done.
    with monkeypatch.context() as patch:
        patch.setattr(ocp.JsonCheckpointHandler, "finalize", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.save(make_state(make_model(seed=2)), info(2))
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert len(names) == 2, "the interrupted save must have left something, or this tests nothing"
    again = CheckpointStore(tmp_path)
    assert again.updates() == [1]
    again.remove_leftovers()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000001"]
    restored, _ = again.restore(make_state(make_model()), 1)
    assert bits(restored) == bits(state)
    again.save(state, info(2))
    assert again.updates() == [2]


def test_interrupted_removal_is_no_checkpoint(
    tmp_path: Path, make_model: Callable[..., TinySeq2Seq], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformer_jax.training.checkpoint as module

    store = CheckpointStore(tmp_path)
    state = make_state(make_model())
    store.save(state, info(1))
    calls = []

    def interrupted(path: Path, **unused: Any) -> None:
        if path.exists():
            calls.append(path)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.save(state, info(2))
    assert calls
    again = CheckpointStore(tmp_path)
    assert again.updates() == [2]
    again.remove_leftovers()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000002"]


def test_ctrl_c_at_any_moment_leaves_a_whole_checkpoint(
    tmp_path: Path, make_model: Callable[..., TinySeq2Seq]
) -> None:
    """A process that does nothing but save is interrupted for real; what it left last must be readable."""
    script = textwrap.dedent(
        """
        import sys, jax, numpy as np
        sys.path.insert(0, sys.argv[2])
        from test_checkpoint import make_state, info
        from transformer_jax.testing.tiny_training import TinySeq2Seq
        from transformer_jax.training import CheckpointStore
        from flax import nnx
        model = TinySeq2Seq(vocab_size=11, model_dim=8, dropout_rate=0.0, rngs=nnx.Rngs(0))
        store, state = CheckpointStore(sys.argv[1]), make_state(model)
        print("ready", flush=True)
        for update in range(1, 10_000):
            store.save(state, info(update, float(update)))
            print(update, flush=True)
        """
    )
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(folder), str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert child.stdout is not None
        while child.stdout.readline().strip() != "2":
            assert child.poll() is None, child.communicate()[1]
        if attempt:  # somewhere inside the next save
            time.sleep(0.04 * attempt)
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=60)
        printed = [int(line) for line in output.split()] or [2]
        store = CheckpointStore(folder)
        assert store.updates()[-1] >= printed[-1]
        for update in store.updates():
            assert load_params(folder, "last", model=make_model()).update
            store.restore(make_state(make_model()), update)
