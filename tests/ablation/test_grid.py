"""Members of a grid: which there are, how they and their folders are called, and what is refused."""

import re
from pathlib import Path

import pytest

from transformer_jax.ablation.grid import Grid, short_names
from transformer_jax.ablation.grid_values import Varied, read_varied, split_outside
from transformer_jax.errors import ConfigError
from transformer_jax.runs.experiment import ExperimentConfig, start_config

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def base() -> ExperimentConfig:
    return start_config(str(EXPERIMENTS / "language_tinyshakespeare_gpt.py"))


def names(base: ExperimentConfig, *texts: str, one_at_a_time: bool = False) -> list[str]:
    grid = Grid(base=base, varied=read_varied(texts), one_at_a_time=one_at_a_time)
    return [member.name for member in grid.members()]


def test_the_product_holds_the_base_first(base: ExperimentConfig) -> None:
    found = names(base, "model.normalization=rms,layer", "model.positions=alibi")
    assert found == [
        "base (normalization=layer)",
        "normalization=rms",
        "normalization=rms, positions=alibi",
        "normalization=layer, positions=alibi",
    ]
    assert names(base, "model.num_heads=2,8", "model.normalization=rms,layer")[0] == "base"  # it has 4


def test_one_at_a_time(base: ExperimentConfig) -> None:
    texts = ("model.normalization=rms,layer", "model.positions=alibi,none")
    assert names(base, *texts, one_at_a_time=True) == [
        "base",
        "normalization=rms",
        "positions=alibi",
        "positions=none",
    ]


def test_values_that_hold_commas_and_objects(base: ExperimentConfig) -> None:
    assert split_outside('{"kind": "rotary", "base": 5},none', ",") == (
        '{"kind": "rotary", "base": 5}',
        "none",
    )
    assert split_outside(r'"a\",b",[1,[2,3]]', ",") == (r'"a\",b"', "[1,[2,3]]")
    grid = Grid(base=base, varied=read_varied(['model.positions={"kind": "rotary", "base": 500.0},alibi']))
    rotary = grid.members()[1]
    assert rotary.config is not None
    assert rotary.config.model.positions.base == 500.0
    assert rotary.folder == "positions-kind-rotary-base-500.0"


def test_folders_are_safe_short_and_apart(base: ExperimentConfig) -> None:
    data = "data.dataset.name"
    grid = Grid(
        base=base,
        varied=(
            Varied(
                path=data,
                values=("a/b=c", "a b c", "../x", "A-B-C", "你", "我", "tinyshakespeare", "x" * 300),
            ),
            Varied(path="model.num_heads", values=("8",)),
        ),
    )
    folders = [member.folder for member in grid.members()]
    assert len({folder.casefold() for folder in folders}) == len(folders) == 16
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{,79}", folder) for folder in folders)
    assert "name-tinyshakespeare_num-heads-8" in folders
    assert "name-a-b-c" in folders
    assert folders == [member.folder for member in grid.members()]
    assert all(len(member.name) < 100 for member in grid.members())


def test_what_must_change_together(base: ExperimentConfig) -> None:
    texts = ["model.num_heads=2 & model.num_kv_heads=2,8 & model.num_kv_heads=1"]
    members = Grid(base=base, varied=read_varied(texts)).members()
    heads = [(one.config.model.num_heads, one.config.model.num_kv_heads) for one in members if one.config]
    assert heads == [(4, 4), (2, 2), (8, 1)]
    assert members[1].folder == "num-heads-2-model.num-kv-heads-2"
    with pytest.raises(ConfigError, match="seeds count up"):
        Grid(base=base, varied=read_varied(["model.num_heads=8 & data.seed=1"]))


def test_short_names() -> None:
    assert short_names(["model.a.dim", "model.b.dim", "train.updates"]) == {
        "model.a.dim": "a.dim",
        "model.b.dim": "b.dim",
        "train.updates": "updates",
    }
    assert short_names(["dim", "model.dim"]) == {"dim": "dim", "model.dim": "model.dim"}


def test_seeds_count_up(base: ExperimentConfig) -> None:
    grid = Grid(base=base, varied=read_varied(["train.updates=1,2"]), num_seeds=2)
    second = grid.seeded(base, 1)
    assert (second.train.seed, second.task.data.seed) == (base.train.seed + 1, base.task.data.seed + 1)
    assert grid.seeded(base, 0) == base


@pytest.mark.parametrize(
    ("texts", "part"),
    [
        (["model.num_heads=4"], "that is the base's own value"),
        (["model.num_heads=2,2"], "given twice"),
        (['model.positions={"kind":"rotary"},rotary'], "are the same config"),
        (["train.clip_norm=2,2.0,3"], "are the same config"),
        (["task.data.seed=1,2"], "seeds count up by themselves"),
        (["model.nmu_heads=1,2"], "did you mean 'num_heads'"),
        (["model.num_heads=5,7"], "divisible"),
    ],
)
def test_grids_that_are_refused(texts: list[str], part: str, base: ExperimentConfig) -> None:
    with pytest.raises(ConfigError, match=part):
        names(base, *texts)


def test_an_idea_that_cannot_be_leaves_the_others(base: ExperimentConfig) -> None:
    varied = read_varied(["model.num_heads=3,5", "model.normalization=rms"])
    members = Grid(base=base, varied=varied, one_at_a_time=True).members()
    assert [one.config is None for one in members] == [False, True, True, False]
    with pytest.raises(
        ConfigError, match="did you mean 'num_heads'"
    ):  # a path that is none is a slip of the pen
        Grid(base=base, varied=read_varied(["model.nmu_heads=3,5", "model.normalization=rms"]))


def test_members_that_cannot_be_are_kept_with_their_error(base: ExperimentConfig) -> None:
    grid = Grid(base=base, varied=read_varied(["model.num_heads=3,8", "train.metric=perplexity,nats"]))
    wrong = {member.name: member.error for member in grid.members() if member.config is None}
    assert list(wrong) == [
        "num_heads=3, metric=perplexity",
        "num_heads=3, metric=nats",
        "num_heads=8, metric=perplexity",
    ]
    assert "divisible by num_heads 3" in (wrong["num_heads=3, metric=nats"] or "")
    assert "the base's is nats: no common scale" in (wrong["num_heads=8, metric=perplexity"] or "")
