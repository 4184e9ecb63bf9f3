"""``transformer-jax plan``: what a run over many devices would take, by calculation."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from transformer_jax.cli.flags import COUNT, ROWS, VOCABULARY
from transformer_jax.files import write_whole

DESCRIPTION = """Plan a run over many devices by calculation: memory, operations, traffic and time of a step.

No such device is needed and nothing of that size is allocated: the step is traced with shapes alone,
laid over the mesh by the rules of train.sharding, and counted. CONFIG is what `train` takes.

--mesh names sizes of axes: 8 is data; 64x8 data by tensor; 4x8x2 data by fsdp by tensor; or
data=8,fsdp=4,tensor=2,sequence=1. Without it the config's train.sharding is taken, or one device.
--device is one of h100, h200, a100, v5e, v5p, cpu: numbers of the makers' data sheets.

Examples:
  transformer-jax plan experiments/translation_multi30k_transformer.py --mesh 8 --device a100
  transformer-jax plan CONFIG --mesh 64x8 --device h100 --batch-rows 4096 --length 512 512
  transformer-jax plan CONFIG --mesh fsdp=16 --device v5e --set model.model_dim=4096 --vocab-size 32000
  transformer-jax plan runs/words/config.json --mesh 4x2 --json plan.json --output plan.html

A step is as long as the longest of what it computes, reads and sends, and as all of them at most; both
are printed. Latency is not counted: the steps of a recurrence and small messages take longer.
A model that does not fit is said not to; that is no error (exit status 0)."""


@dataclasses.dataclass(frozen=True)
class Command:
    config: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CONFIG")]
    """Experiment file (*.py) or saved config (*.json)."""

    mesh: Annotated[str | None, tyro.conf.arg(metavar="SIZES")] = None
    """Devices along each axis, such as 64x8 or data=8,fsdp=4."""

    device: Annotated[str, tyro.conf.arg(metavar="NAME")] = "h100"
    """Kind of the devices."""

    set: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.arg(metavar="KEY=VALUE ..."), tyro.conf.UseAppendAction
    ] = ()
    """Change values of the config, such as train.accumulation=4."""

    batch_rows: Annotated[int | None, tyro.conf.arg(metavar="N"), ROWS] = None
    """Rows of a whole batch, over all devices; without it the config's."""

    length: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ..."), COUNT] = ()
    """Source and target tokens of a row, or one number for both; without it the longest of the config."""

    vocab_size: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ..."), VOCABULARY] = ()
    """Source and target vocabulary, or one number for both; without it the tokenizers'."""

    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the plan's numbers to a file."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE.html")] = None
    """Write the plan as a page that needs no network."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.hints import with_flags
        from transformer_jax.cli.streams import require_open
        from transformer_jax.files import write_json
        from transformer_jax.planning.experiment_plan import PlanRequest, plan_experiment
        from transformer_jax.planning.plan_report import plan_document, plan_html, plan_lines

        if self.json is None and self.output is None:
            require_open(1, "--json FILE")
        experiment = plan_experiment(
            PlanRequest(
                config=self.config,
                overrides=tuple(text for group in self.set for text in group),
                mesh=self.mesh,
                device=self.device,
                batch_rows=self.batch_rows,
                lengths=self.length,
                vocab_sizes=self.vocab_size,
            )
        )
        experiment = dataclasses.replace(experiment, vocab_source=with_flags(experiment.vocab_source))
        print("\n".join(plan_lines(experiment)))
        if self.json is not None:
            write_json(self.json, plan_document(experiment))
        if self.output is not None:
            write_whole(self.output, plan_html(experiment))
        return 0
