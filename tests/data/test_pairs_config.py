"""Data configs: bad values are refused with both values named; JSON round trip."""

import subprocess
import sys

import pytest

from transformer_jax.config_json import from_json, to_json
from transformer_jax.data.pairs_config import (
    Characters,
    ChosenBuckets,
    GivenBuckets,
    NamedDataset,
    PairsConfig,
    ParallelFiles,
    SyntheticDataset,
    TsvFiles,
    Words,
)
from transformer_jax.errors import ConfigError

BAD = [
    (lambda: NamedDataset(name="cmudct"), "no data set 'cmudct' of pairs; did you mean 'cmudict'"),
    (lambda: NamedDataset(name="ett"), "no data set 'ett' of pairs"),
    (lambda: NamedDataset(name="cmudict", source_language="en"), "has no languages to choose, got .*'en'"),
    (lambda: NamedDataset(name="multi30k"), "needs two of the languages en, de, fr; got .*None"),
    (
        lambda: NamedDataset(name="multi30k", source_language="de", target_language="de"),
        "'de' and target_language 'de'",
    ),
    (
        lambda: NamedDataset(name="tatoeba-zh-en", source_language="zh", target_language="fr"),
        "'zh' and target_language 'fr'",
    ),
    (
        lambda: ParallelFiles(train_source="a", train_target="b", test_source="c"),
        "test_source and test_target go together, got 'c' and None",
    ),
    (lambda: TsvFiles(train="a", source_column=1), "source_column 1 and target_column 1 are the same"),
    (
        lambda: TsvFiles(train="a", target_language="german!"),
        "target_language must be the code of a language",
    ),
    (lambda: TsvFiles(train="a", source_column=-1), "source_column must be at least 0, got -1"),
    (lambda: SyntheticDataset(min_len=5, max_len=4), "min_len 5 is more than max_len 4"),
    (lambda: SyntheticDataset(num_symbols=2, max_len=4), "2200 different lines are wanted"),
    (lambda: Characters(max_size=4), "max_size must be at least 5, got 4"),
    (lambda: Words(min_count=0), "min_count must be at least 1, got 0"),
    (lambda: ChosenBuckets(max_shapes=0), "max_shapes must be at least 1, got 0"),
    (lambda: GivenBuckets(shapes=((8, 8), (4, 16))), "4 by 16 follows 8 by 8"),
    (lambda: PairsConfig(batch_size=0), "batch_size must be at least 1, got 0"),
    (lambda: PairsConfig(max_target_len=1), "max_target_len must be at least 2, got 1"),
    (lambda: PairsConfig(seed=-1), "seed must be at least 0, got -1"),
    (
        lambda: PairsConfig(share_vocabulary=True),
        "share_vocabulary needs equal tokenizers, got .*Char.*Words",
    ),
    (
        lambda: PairsConfig(
            buckets=GivenBuckets(shapes=((8, 8), (16, 20))), max_source_len=16, max_target_len=30
        ),
        "the largest bucket is 16 by 20, but max_source_len is 16 and max_target_len is 30",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_values(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        PairsConfig(),
        PairsConfig(
            dataset=NamedDataset(name="multi30k", source_language="de", target_language="en"),
            source_tokenizer=Words(max_size=8000, min_count=2),
            target_tokenizer=Words(max_size=8000, min_count=2),
            share_vocabulary=True,
            buckets=GivenBuckets(shapes=((10, 10), (40, 42))),
            max_target_len=42,
            too_long="skip",
        ),
        PairsConfig(dataset=ParallelFiles(train_source="a", train_target="b"), max_train_pairs=5),
        PairsConfig(dataset=TsvFiles(train="a", target_column=2), target_tokenizer=Characters()),
        PairsConfig(dataset=SyntheticDataset(task="reverse"), buckets=ChosenBuckets(multiple_of=8)),
    ],
)
def test_json_round_trip(config):
    assert from_json(PairsConfig, to_json(config)) == config


def test_bad_json_is_refused():
    text = to_json(PairsConfig())
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        from_json(PairsConfig, text.replace('"batch_size"', '"batch_sise"'))
    with pytest.raises(ConfigError, match="unknown kind"):
        from_json(PairsConfig, text.replace('"kind": "named"', '"kind": "nameed"'))
    with pytest.raises(ConfigError, match="batch_size must be at least 1, got 0"):
        from_json(PairsConfig, text.replace('"batch_size": 256', '"batch_size": 0'))


def test_configs_are_light_to_import():
    code = (
        "import sys, transformer_jax.data.pairs_config, transformer_jax.data.batches\n"
        "heavy = {'jax', 'grain', 'tokenizers', 'pooch', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
