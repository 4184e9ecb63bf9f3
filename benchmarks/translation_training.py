"""Training of the Multi30k Transformer on its own sentences beside PyTorch eager: real tokens a second, in one run.

    python benchmarks/translation_training.py --json benchmarks/results/translation_training-cpu.json

The model and the data are those of ``experiments/translation_multi30k_transformer.py`` (with biases and all dropout
rates as PyTorch's layers have them). Three ways to make batches of 4,000 tokens take turns, each over about as many
real tokens: ours with packed rows, ours with at most eight length buckets, and PyTorch with sentences sorted by
length, each batch padded to its own longest. First both sides must give the same loss. PyTorch's time over ours above
1 means that ours is faster.
"""

import argparse
import dataclasses
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

from transformer_jax.allocator import keep_freed_memory, num_cores, run_in_calling_thread
from transformer_jax.data.batches import BatchShape, Seq2SeqBatch
from transformer_jax.data.buckets import BucketPlan, choose_shapes
from transformer_jax.data.examples import EncodedExamples, make_batch
from transformer_jax.data.pipeline import BatchPipeline
from transformer_jax.models.build import build_model
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.race.timing import Record, interleave, interval_text, paired_ratio, quartiles, write_json
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.training.step import CompiledSteps, build_step, first_state

EXPERIMENT = ROOT / "experiments" / "translation_multi30k_transformer.py"
MAX_BUCKETS = 8


def experiment(dropout_rate: float) -> ExperimentConfig:
    """The experiment, its model with everything that PyTorch's layers cannot leave out."""
    config: ExperimentConfig = runpy.run_path(str(EXPERIMENT))["config"]()
    rates = dict.fromkeys(("dropout_rate", "attention_dropout_rate", "activation_dropout_rate"), dropout_rate)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, attention_bias=True, **rates))


def first_batches(batches: Any, real_tokens: int) -> list[Any]:
    """The first batches of an epoch that hold so many real tokens together."""
    found, total = [], 0
    for batch in batches:
        found.append(batch)
        total += batch.num_tokens()
        if total >= real_tokens:
            return found
    return found


def padding_of(batches: Sequence[Any]) -> float:
    """Share of all places of the batches that hold padding."""
    places = sum(batch.source_tokens.size + batch.target_inputs.size for batch in batches)
    return 1.0 - sum(batch.num_tokens() for batch in batches) / places


def sorted_batches(examples: EncodedExamples, batch_tokens: int) -> list[Seq2SeqBatch]:
    """All examples by rising length, as many in a batch as its padded tokens allow, the batches shuffled."""
    sources, targets = examples.source_lengths(), examples.target_lengths()
    groups: list[list[int]] = [[]]
    for index in np.lexsort((targets, sources)).tolist():
        members = [*groups[-1], index]
        if len(members) * (sources[members].max() + targets[members].max()) > batch_tokens and groups[-1]:
            groups.append([index])
        else:
            groups[-1] = members
    order = np.random.default_rng(0).permutation(len(groups))
    return [
        make_batch(
            examples,
            groups[place],
            BatchShape(
                len(groups[place]), int(sources[groups[place]].max()), int(targets[groups[place]].max())
            ),
        )
        for place in order
    ]


class OurSide:
    """The library's own steps over a list of batches."""

    def __init__(self, config: ExperimentConfig, model: nnx.Module, batches: Sequence[Any]) -> None:
        train = dataclasses.replace(config.train, clip_norm=None)
        objective = config.task.objective
        structure, self._state = first_state(model, objective, train, batches[0])
        self.steps = CompiledSteps(build_step(structure, objective, train))
        self._batches = batches
        self.steps.compile(self._state, batches)

    def __call__(self) -> None:
        """An update for each batch."""
        for batch in self._batches:
            self._state = self.steps(self._state, batch)
        jax.block_until_ready(self._state)


class TorchSide:
    """PyTorch eager with the same weights."""

    def __init__(self, config: ExperimentConfig, model: Any, vocab_size: int, batches: Sequence[Any]) -> None:
        import torch

        from benchmarks.peers.torch_transformer import TorchSizes, TorchTransformer, training_step
        from benchmarks.peers.torch_weights import load_from_ours

        torch.manual_seed(0)
        torch.set_num_threads(num_cores())
        sizes: Any = config.model
        self.model = TorchTransformer(
            TorchSizes(
                vocab_size=vocab_size,
                model_dim=sizes.model_dim,
                num_heads=sizes.num_heads,
                feed_forward_dim=sizes.feed_forward_dim,
                num_layers=sizes.num_encoder_layers,
                dropout_rate=sizes.dropout_rate,
                is_pre_norm=sizes.norm_placement == "pre",
            )
        )
        load_from_ours(self.model, model)
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-9)
        self._step = training_step
        self.batches = [self._tensors(batch) for batch in batches]

    @staticmethod
    def _tensors(batch: Seq2SeqBatch) -> dict[str, Any]:
        import torch

        source = torch.tensor(batch.source_tokens, dtype=torch.long)
        places = torch.arange(source.shape[1])[None]
        return {
            "source": source,
            "source_padding": places >= torch.tensor(batch.source_lengths)[:, None],
            "target_inputs": torch.tensor(batch.target_inputs, dtype=torch.long),
            "target_outputs": torch.tensor(batch.target_outputs, dtype=torch.long),
        }

    def loss(self, batch: dict[str, Any]) -> float:
        """Of one batch, without dropout."""
        import torch

        self.model.eval()
        with torch.no_grad():
            logits = self.model(batch["source"], batch["source_padding"], batch["target_inputs"])
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), batch["target_outputs"].flatten(), label_smoothing=0.1, ignore_index=0
            )
        self.model.train()
        return float(loss)

    def __call__(self) -> None:
        """An update for each batch."""
        for batch in self.batches:
            self._step(self.model, self._optimizer, batch)


def main() -> None:
    """Parse the command line, run, print the table, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=20, help="timed passes of each side (default 20)")
    parser.add_argument(
        "--real-tokens", type=int, default=40_000, help="of one pass, at least (default 40,000)"
    )
    parser.add_argument(
        "--max-seconds", type=float, default=400, help="stop the timing after this (default 400)"
    )
    parser.add_argument("--dropout-rate", type=float, default=0.2, help="of both sides (default 0.2)")
    parser.add_argument("--json", help="write the records here")
    options = parser.parse_args()
    keep_freed_memory()
    run_in_calling_thread()
    config = experiment(options.dropout_rate)
    data = config.task.prepare()
    examples, budget = data.train.examples, config.task.data.batch_tokens or 4000
    shapes = choose_shapes(examples.source_lengths(), examples.target_lengths(), max_shapes=MAX_BUCKETS)
    bucketed = BatchPipeline(examples, BucketPlan(shapes), batch_size=1, seed=0, batch_tokens=budget)
    by_length = sorted_batches(examples, budget)
    whole = {
        "packed": data.train.padding_share(),
        "buckets": bucketed.padding_share(),
        "torch_eager": padding_of(by_length),
    }
    lists = {
        "packed": first_batches(map(data.train.batch_at, range(10**6)), options.real_tokens),
        "buckets": first_batches(map(bucketed.batch_at, range(10**6)), options.real_tokens),
        "torch_eager": first_batches(by_length, options.real_tokens),
    }
    vocab_size = data.target_tokenizer.vocab_size
    model: Any = build_model(config.model, Sizes.of_pairs(vocab_size), seed=0)
    sides: dict[str, Any] = {name: OurSide(config, model, lists[name]) for name in ("packed", "buckets")}
    error = None
    try:
        sides["torch_eager"] = TorchSide(config, model, vocab_size, lists["torch_eager"])
    except ImportError:
        print("PyTorch is missing (pip install torch): only our side is timed", file=sys.stderr)
    else:
        summed, _, _ = PairCrossEntropy(label_smoothing=0.1)(model, lists["torch_eager"][0], None)
        theirs = sides["torch_eager"].loss(sides["torch_eager"].batches[0])
        error = abs(float(summed.mean()) - theirs)
        if error > 1e-4 * theirs:
            raise SystemExit(f"the sides disagree: losses {float(summed.mean())} and {theirs}")
    times = interleave(sides, calls=options.calls, max_seconds=options.max_seconds)
    programs = {"packed": len(data.train.abstract_batches()), "buckets": len(bucketed.shapes())}
    tokens = {name: sum(batch.num_tokens() for batch in lists[name]) for name in sides}
    per_token = {name: [one / tokens[name] for one in values] for name, values in times.items()}
    records = []
    for name, values in times.items():
        lower, middle, upper = quartiles(values)
        extra: dict[str, Any] = {
            "batches": len(lists[name]),
            "real_tokens": tokens[name],
            "padding_share_of_an_epoch": whole[name],
            "programs": programs.get(name),
            "calls": len(values),
            "parameters": parameter_count(model),
        }
        if name == "torch_eager":
            for side in ("packed", "buckets"):
                ratio, low, high = paired_ratio(per_token[name], per_token[side])
                extra[f"time_over_{side}"] = {"median": ratio, "low": low, "high": high}
        records.append(
            Record(
                case="multi30k", implementation=name,
                compile_s=sides[name].steps.compile_seconds if isinstance(sides[name], OurSide) else None,
                median_ms=middle, q25_ms=lower, q75_ms=upper, peak_bytes=None,
                tokens_per_s=tokens[name] / middle * 1e3, flops=None,
                max_abs_err=error if name == "torch_eager" else None, extra=extra,
            )
        )  # fmt: skip
    table = Table(
        title=f"Multi30k Transformer, {parameter_count(model):,} parameters, dropout {options.dropout_rate}"
    )
    for column in ("who", "programs", "padding of an epoch", "real tokens/s", "PyTorch's time / its"):
        table.add_column(column, justify="left" if column == "who" else "right")
    for one in records:
        table.add_row(
            one.implementation,
            str(one.extra["programs"] or ""),
            f"{one.extra['padding_share_of_an_epoch']:.1%}",
            f"{one.tokens_per_s:,.0f}",
            interval_text(records[-1].extra.get(f"time_over_{one.implementation}")),
        )
    Console().print(table)
    if options.json:
        write_json(options.json, records, benchmark="translation_training", dropout_rate=options.dropout_rate)


if __name__ == "__main__":
    main()
