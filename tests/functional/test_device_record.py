"""The device record: with a made-up one, implementations lose "experimental" and ``None`` chooses by its times."""

import functools
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax import functional as F
from transformer_jax.functional import AttentionMask, device_record
from transformer_jax.functional.attention import IMPLEMENTATIONS, mosaic_gpu
from transformer_jax.functional.attention.mosaic_gpu_plan import BlockSizes
from transformer_jax.functional.recurrent import GRUCell, recurrence
from transformer_jax.functional.recurrent import cudnn_recurrence as cudnn
from transformer_jax.functional.recurrent import run_cells as api

DEVICE = "Made-up H300"


def attention_row(mask, length, head_dim=64, *, grouped=False, **milliseconds):
    return {
        "case": f"{mask} {length}", "mask": mask, "dtype": "bfloat16", "grouped": grouped, "head_dim": head_dim,
        "pairs": length**2, "milliseconds": milliseconds,
    }  # fmt: skip


RECORD = {
    "format": 1,
    "devices": [
        {
            "device": DEVICE,
            "platform": "gpu",
            "jax": "1.0",
            "passed": {
                "attention": {"mosaic_gpu": ["bias"], "xla": [], "blockwise": []},
                "recurrence": {"cudnn": ["segments"]},
            },
            "times": {
                "attention": [
                    attention_row("causal", 4096, mosaic_gpu=1.0, cudnn=0.5, blockwise=9.0),
                    attention_row("causal", 1024, mosaic_gpu=1.0, xla=0.25),
                    attention_row("padded", 1024, blockwise=3.0, xla=2.0),
                ],
                "recurrence": [
                    {"case": "one", "cell": "LSTMCell", "dtype": "float32", "time": 64, "batch": 8, "hidden_dim": 32,
                     "milliseconds": {"scan": 2.0, "cudnn": 1.0, "reference": 3.0}},
                    {"case": "two", "cell": "GRUCell", "dtype": "float32", "time": 64, "batch": 8, "hidden_dim": 32,
                     "milliseconds": {"scan": 2.0, "reference": 1.0}},
                ],
            },
            "block_sizes": {"64": [64, 64, 64]},
        }
    ],
}  # fmt: skip


@pytest.fixture
def on_the_device(monkeypatch):
    """A process on a device of the record, where every implementation could run but that for CPUs."""
    monkeypatch.setattr(device_record, "entries", lambda: device_record.parse(RECORD))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="gpu", device_kind=DEVICE)])
    for name in set(IMPLEMENTATIONS) - {"native_cpu"}:
        monkeypatch.setitem(IMPLEMENTATIONS, name, IMPLEMENTATIONS[name]._replace(device_refusals=list))


def explained(length, mask=None, dtype=jnp.bfloat16, heads=2, kv_heads=2, **options):
    query, key = jnp.ones((1, length, heads, 64), dtype), jnp.ones((1, length, kv_heads, 64), dtype)
    return F.explain_attention(query, key, key, mask=mask, **options)


CAUSAL = AttentionMask.causal()


@pytest.mark.usefixtures("on_the_device")
def test_the_record_alone_ends_being_experimental():
    found = {name for name, one in IMPLEMENTATIONS.items() if one.is_experimental}
    assert found == {"cudnn", "mosaic_tpu", "tokamax"}


@pytest.mark.usefixtures("on_the_device")
def test_none_takes_the_fastest_that_passed_at_the_nearest_case():
    explanation = explained(4096, CAUSAL)
    assert explanation.chosen == "mosaic_gpu", "cudnn is faster and has not passed"
    assert "Made-up H300 (causal 4096: mosaic_gpu 1 ms, blockwise 9 ms)" in explanation.reason
    assert explanation.passed_over["cudnn"].startswith("no log of it")
    assert explained(900, CAUSAL).chosen == "xla", "the nearest case is another"
    padded = AttentionMask.from_lengths(jnp.array([700]), 1024)
    assert explained(1024, padded).chosen == "xla"


@pytest.mark.usefixtures("on_the_device")
@pytest.mark.parametrize(
    ("length", "options", "chosen"),
    [
        (4096, {}, "blockwise"),  # no full mask was measured
        (400, {"mask": CAUSAL}, "batched"),  # more than four times fewer pairs than any measured
        (9000, {"mask": CAUSAL}, "blockwise"),  # more than four times more
        (4096, {"mask": CAUSAL, "dtype": jnp.float32}, "blockwise"),
        (4096, {"mask": CAUSAL, "kv_heads": 1}, "blockwise"),
        (4096, {"mask": CAUSAL, "bias": F.Alibi(F.alibi_slopes(2))}, "blockwise"),
        (4096, {"mask": CAUSAL, "score": F.General(jnp.ones((64, 64)))}, "blockwise"),
    ],
)
def test_what_was_not_measured_follows_the_rule_of_cpus(length, options, chosen):
    assert explained(length, **options).chosen == chosen


@pytest.mark.usefixtures("on_the_device")
def test_what_none_takes_can_be_differentiated_in_every_way(monkeypatch):
    """First derivatives are the kernel's, which has no others; those come from the plain form."""
    passes = []

    def causal(query, key, value):
        return F.attention(query, key, value, mask=CAUSAL, implementation="reference")

    @jax.custom_vjp
    def kernel(*arrays):
        return causal(*arrays)

    def backward(arrays, cotangent):
        passes.append("backward")
        return jax.vjp(causal, *arrays)[1](cotangent)

    kernel.defvjp(lambda *arrays: (causal(*arrays), arrays), backward)
    spy = IMPLEMENTATIONS["mosaic_gpu"]._replace(
        attend=lambda call: kernel(call.query, call.key, call.value), refusals=lambda call: []
    )
    monkeypatch.setitem(IMPLEMENTATIONS, "mosaic_gpu", spy)
    monkeypatch.setattr(device_record, "nearest", lambda *_: RECORD["devices"][0]["times"]["attention"][0])
    query, key, value = (jax.random.normal(jax.random.key(seed), (1, 6, 2, 4)) for seed in range(3))
    assert F.explain_attention(query, key, value, mask=CAUSAL).chosen == "mosaic_gpu"

    def loss(attend):
        return lambda query: (attend(query, key, value) ** 2).sum()

    def derivatives(attend, query):
        of = loss(attend)
        gradient = jax.grad(of)
        curvature = jax.jvp(gradient, (query,), (query,))[1]  # forward over reverse
        twice = jax.grad(lambda query: (gradient(query) ** 2).sum())(query)
        mapped = jax.vmap(gradient)(jnp.stack([query, 2 * query]))
        return of(query), gradient(query), jax.jvp(of, (query,), (query,))[1], curvature, twice, mapped

    chosen = functools.partial(F.attention, mask=CAUSAL)
    got, wanted = jax.jit(lambda query: (derivatives(chosen, query), derivatives(causal, query)))(query)
    assert passes, "reverse mode asks the kernel"
    for one, want in zip(got, wanted):
        np.testing.assert_allclose(one, want, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("on_the_device")
def test_a_recurrence_takes_the_fastest_first(monkeypatch):
    taken = []

    def spy(name, refuses=False):
        def run(cell, inputs, carry, *rest, **options):
            taken.append(name)
            if refuses:
                raise NotImplementedError
            return jnp.zeros((*inputs.shape[:2], cell.hidden_dim)), carry

        return run

    for name in api.IMPLEMENTATIONS:
        monkeypatch.setitem(api.IMPLEMENTATIONS, name, spy(name, refuses=name == "reference"))
    gru = GRUCell(jnp.ones((4, 96)), jnp.ones((32, 96)), jnp.zeros(96), jnp.zeros(32))
    recurrence(gru, jnp.ones((8, 64, 4)))
    assert taken == ["reference", "scan"], "measured first, and what it refuses goes on to the next"
    taken.clear()
    recurrence(gru, jnp.ones((8, 64 * 5, 4)))
    assert taken == ["scan"], "five times more steps than any measured"


@pytest.mark.usefixtures("on_the_device")
def test_cudnn_comes_first_only_where_it_passed_under_vmap(monkeypatch):
    cell = SimpleNamespace(hidden_dim=32)
    cell_type = type("LSTMCell", (SimpleNamespace,), {})
    inputs = jnp.ones((64, 8, 4))
    assert api._measured_order(cell_type(hidden_dim=32), inputs) == ["cudnn", "scan", "reference"]
    assert api._measured_order(cell, inputs) == []
    without = json.loads(json.dumps(RECORD))
    without["devices"][0]["passed"]["recurrence"]["cudnn"] = ["vmap"]
    monkeypatch.setattr(device_record, "entries", lambda: device_record.parse(without))
    assert api._measured_order(cell_type(hidden_dim=32), inputs) == ["scan", "reference"]


@pytest.mark.usefixtures("on_the_device")
def test_block_sizes_come_from_the_record():
    assert mosaic_gpu._measured_sizes(40) == BlockSizes(64, 64, 64)
    assert mosaic_gpu._measured_sizes(128) is None


def test_on_a_cpu_nothing_of_the_record_counts(monkeypatch):
    monkeypatch.setattr(device_record, "entries", lambda: device_record.parse(RECORD))
    assert device_record.entry_here() is None
    assert explained(4096, CAUSAL).chosen == "blockwise"


@pytest.mark.usefixtures("on_the_device")
@pytest.mark.parametrize("by_name", [True, False])
def test_the_default_device_is_the_one_that_counts(by_name, monkeypatch):
    cell = GRUCell(*(jnp.ones(shape) for shape in ((3, 12), (4, 12), 12, 4)))
    assert device_record.entry_here().device == DEVICE
    cpu = jax.local_devices(backend="cpu")[0]
    monkeypatch.setattr(jax, "devices", lambda backend: {"cpu": [cpu]}[backend])
    with jax.default_device("cpu" if by_name else cpu):
        assert device_record.entry_here() is None
        assert "the default device is a cpu" in "; ".join(cudnn.refusals(cell, jnp.ones((1, 1, 3)), None))


def test_another_gpu_takes_the_entry_of_its_platform(on_the_device, monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="gpu", device_kind="older")])
    assert device_record.entry_here().device == DEVICE
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="tpu", device_kind="v9")])
    assert device_record.entry_here() is None


def test_the_committed_record_can_be_read():
    assert all(entry.platform != "cpu" for entry in device_record.entries())


def test_a_record_of_another_format_is_refused():
    with pytest.raises(ValueError, match="format 1, got 2"):
        device_record.parse({"format": 2, "devices": []})
