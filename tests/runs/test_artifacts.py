"""Artifacts as files: written, read back, shared where they are the same, refused where they are others."""

from pathlib import Path

import pytest

from transformer_jax.data.tokenizers import Tokenizer, train_character_tokenizer, train_word_tokenizer
from transformer_jax.errors import RunError
from transformer_jax.runs.artifacts import (
    artifact_fingerprints,
    load_artifacts,
    require_fingerprints,
    save_artifacts,
    save_compact,
)

TYPES = {"source_tokenizer": Tokenizer, "target_tokenizer": Tokenizer}
LETTERS, WORDS = train_character_tokenizer(["abc"]), train_word_tokenizer(["A B"])


def fingerprints(artifacts: dict[str, Tokenizer]) -> list[str]:
    return [one.fingerprint() for one in artifacts.values()]


def test_artifacts_are_read_back(tmp_path: Path) -> None:
    own = {"source_tokenizer": LETTERS, "target_tokenizer": WORDS}
    assert save_artifacts(tmp_path, own) == ["source_tokenizer.json", "target_tokenizer.json"]
    assert fingerprints(load_artifacts(tmp_path, TYPES)) == fingerprints(own)
    assert fingerprints(load_artifacts(tmp_path, {"source_tokenizer": Tokenizer})) == [LETTERS.fingerprint()]


def test_equal_artifacts_of_a_model_folder_are_one_file(tmp_path: Path) -> None:
    own = {"source_tokenizer": LETTERS, "target_tokenizer": train_character_tokenizer(["abc"])}
    assert save_compact(tmp_path, own) == ["tokenizer.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    assert fingerprints(load_artifacts(tmp_path, TYPES)) == fingerprints(own)


def test_unlike_artifacts_and_a_single_one_keep_their_names(tmp_path: Path) -> None:
    assert len(save_compact(tmp_path, {"source_tokenizer": LETTERS, "target_tokenizer": WORDS})) == 2
    assert save_compact(tmp_path, {"labels": LETTERS}) == ["labels.json"]


def test_missing_file_is_named(tmp_path: Path) -> None:
    save_artifacts(tmp_path, {"source_tokenizer": LETTERS})
    with pytest.raises(RunError, match=r"'target_tokenizer\.json' is missing"):
        load_artifacts(tmp_path, TYPES)


def test_other_artifacts_than_those_of_the_training_are_refused(tmp_path: Path) -> None:
    said = artifact_fingerprints({"source_tokenizer": LETTERS})
    assert list(said) == ["source tokenizer's fingerprint"]
    require_fingerprints(tmp_path, {"source_tokenizer": train_character_tokenizer(["abc"])}, said)
    require_fingerprints(tmp_path, {"source_tokenizer": WORDS}, {})  # an old file that says nothing
    with pytest.raises(RunError, match="trained with another tokenizer: source tokenizer's fingerprint was"):
        require_fingerprints(tmp_path, {"source_tokenizer": train_character_tokenizer(["abd"])}, said)
