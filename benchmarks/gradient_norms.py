"""Gradient norms of each layer for each placement of norms, at initialisation and after some updates.

    python benchmarks/gradient_norms.py --layers 12 --updates 200 --figure docs/figures/gradient-norms.svg

All members train the experiment with its own optimiser and data; what differs is `model.norm_placement` (and
`model.normalization` with --normalizations). The gradient is that of the mean loss of one batch, the same for all and
at both moments; the batch's dropout is drawn from one key.
"""

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.environment import environment
from transformer_jax.errors import TransformerJaxError
from transformer_jax.plot.gradient_norms import gradient_norms_by_depth
from transformer_jax.runs.building import build_from
from transformer_jax.runs.experiment import ExperimentConfig, start_config
from transformer_jax.training.layer_gradients import layer_gradient_norms
from transformer_jax.training.step import build_step, first_state, loss_gradient

PLACEMENTS = ("post", "pre", "sandwich", "deep")
LAYER_FIELDS = ("num_layers", "num_encoder_layers", "num_decoder_layers")


def members(
    config: ExperimentConfig, *, layers: int | None, placements: Sequence[str], normalizations: Sequence[str]
) -> Iterator[tuple[str, ExperimentConfig]]:
    """Name and config of each, the experiment's own depth where ``layers`` is None."""
    fields = {field.name for field in dataclasses.fields(config.model)}
    if "norm_placement" not in fields:
        raise SystemExit(f"error: a model of kind {config.model.kind!r} has no norm_placement")
    depth = {} if layers is None else dict.fromkeys(fields.intersection(LAYER_FIELDS), layers)
    for placement, normalization in itertools.product(placements, normalizations):
        model = dataclasses.replace(
            config.model, norm_placement=placement, normalization=normalization, **depth
        )
        name = placement if len(normalizations) == 1 else f"{placement}, {normalization}"
        yield name, dataclasses.replace(config, model=model)


def measure(config: ExperimentConfig, prepared: Any, *, updates: int) -> list[dict[str, list[float]]]:
    """Norms by stack before the first update and after the last."""
    batches = prepared.train.iterate(0)
    probe = next(batches)
    model = build_from(config, prepared.artifacts, is_training=True)
    objective = config.task.objective
    structure, state = first_state(model, objective, config.train, probe)
    gradient = loss_gradient(structure, objective)

    @jax.jit
    def norms(params: Any, model_state: Any, batch: Any) -> Any:
        found, (loss, _, _) = gradient(params, model_state, batch, jax.random.key(0), jnp.int32(0))
        return layer_gradient_norms({name: array / loss.count for name, array in found.items()})

    step = jax.jit(build_step(structure, objective, config.train), donate_argnums=0)
    moments = [norms(state.params, state.model_state, probe)]
    for batch in itertools.islice(batches, updates):
        state = step(state, batch)
    if updates:
        moments.append(norms(state.params, state.model_state, probe))
    return [
        {stack: np.asarray(values).tolist() for stack, values in jax.device_get(moment).items()}
        for moment in moments
    ]


def panels(document: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Lines for the figure: a panel for each stack at each moment."""
    titles = ["at initialisation", f"after {document['updates']:,} updates"]
    first = next(iter(document["norms"].values()))
    found: dict[str, dict[str, list[float]]] = {}
    for place in range(len(first)):
        for stack in sorted(first[place], reverse=True):  # an encoder before its decoder
            several = len(first[place]) > 1
            title = f"{stack}, {titles[place]}" if several else titles[place]
            found[title] = {name: moments[place][stack] for name, moments in document["norms"].items()}
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, write the JSON and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiment", default="experiments/pronunciation_transformer.py")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="overrides")
    parser.add_argument("--layers", type=int, help="of each stack; default: the experiment's")
    parser.add_argument("--placements", default=",".join(PLACEMENTS))
    parser.add_argument("--normalizations", default="layer")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write the document here")
    parser.add_argument("--figure", type=Path, help="write the figure here")
    options = parser.parse_args(arguments)
    try:
        config = start_config(options.experiment, options.overrides)
        prepared = config.task.prepare(None)
        norms = {}
        for name, member in members(
            config,
            layers=options.layers,
            placements=options.placements.split(","),
            normalizations=options.normalizations.split(","),
        ):
            norms[name] = measure(member, prepared, updates=options.updates)
            print(name, *(f"{values}" for values in norms[name]), sep="\n  ", flush=True)
        document = {
            "environment": environment(), "benchmark": "gradient_norms", "experiment": config.name,
            "overrides": options.overrides, "layers": options.layers, "updates": options.updates, "norms": norms,
        }  # fmt: skip
        if options.figure is not None:
            gradient_norms_by_depth(panels(document), path=options.figure)
        if options.json is not None:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(document, indent=1) + "\n")
    except TransformerJaxError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
