"""What earlier versions saved is read bit for bit, and trained on."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from make_golden_checkpoint import UPDATES, named_leaves, trainer

from transformer_jax.training import CheckpointStore

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.zip"))


def test_every_version_is_there() -> None:
    assert {path.stem for path in GOLDEN} >= {"format-1", "format-2", "format-2-divergence"}


@pytest.mark.smoke
@pytest.mark.parametrize("archive", GOLDEN, ids=lambda path: path.stem)
def test_a_checkpoint_of_an_earlier_version_is_read_and_trained_on(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as files:
        files.extractall(tmp_path)
    assert (tmp_path / "checkpoints" / f"{UPDATES:08d}" / "manifest.json").exists() == (
        archive.stem != "format-1"
    )
    fresh, _ = trainer(tmp_path)._start_state(resume=False)
    state, info = CheckpointStore(tmp_path).restore(fresh, UPDATES)
    found = named_leaves(state)
    with np.load(archive.with_suffix(".npz")) as wanted:
        assert wanted.files
        for name in wanted.files:
            assert found[name].dtype == wanted[name].dtype
            np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
        changed = [name for name in wanted.files if ".params" in name]
        assert any((named_leaves(fresh)[name] != wanted[name]).any() for name in changed)
    assert (info.update, info.passed_over) == (UPDATES, 0)
    result = trainer(tmp_path, updates=UPDATES + 2).fit(resume=True)
    assert result.updates == UPDATES + 2
    rows = [json.loads(line)["update"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [3, 4, 6]
