"""export: a model folder that answers like its run; what is damaged or foreign is refused in one line."""

import contextlib
import functools
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from transformer_jax.cli.main import main
from transformer_jax.decode import searcher
from transformer_jax.errors import RunError, TransformerJaxError
from transformer_jax.nn.parameters import load_parameters, named_parameters
from transformer_jax.runs.loading import WEIGHTS_NAME, load_run
from transformer_jax.runs.model_folder import pretrained_folder, pretrained_names
from transformer_jax.training import CheckpointStore, orbax_items
from transformer_jax.training.weights_file import read_weights, write_weights

FILES = [
    "MODEL_CARD.md",
    "config.json",
    "model.safetensors",
    "result.json",
    "source_tokenizer.json",
    "target_tokenizer.json",
]


@pytest.fixture(scope="module")
def exported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "spelled"
    words = ("export", str(tiny_run), "--output", str(folder), "--about", "Words and their letters.")
    assert main(words) == 0  # two files of one's own have no test set
    return folder


def test_it_holds_what_it_should(exported: Path, tiny_run: Path) -> None:
    assert sorted(path.name for path in exported.iterdir()) == FILES
    arrays = safetensors.numpy.load_file(exported / WEIGHTS_NAME)
    trained = named_parameters(load_run(tiny_run).model)
    assert arrays.keys() == trained.keys()
    for name, array in arrays.items():
        assert array.dtype == np.float16
        np.testing.assert_allclose(array, trained[name], rtol=1e-3, atol=1e-6)
    card = (exported / "MODEL_CARD.md").read_text()
    for part in (
        "# spelled\n",
        "Words and their letters.",
        "4 updates",
        "PER",
        "development set",
        "Hardware",
    ):
        assert part in card


def test_it_answers_like_its_run(
    exported: Path, tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    (tmp_path / "in.txt").write_text("cat\nattack\nsit\n")
    (tmp_path / "out.txt").write_text("C A T\nA T T A C K\nS I T\n")
    said = [run_command("translate", one, "--input", tmp_path / "in.txt") for one in (tiny_run, exported)]
    assert said[0].status == said[1].status == 0
    assert said[0].out == said[1].out
    files = ("--source", tmp_path / "in.txt", "--target", tmp_path / "out.txt")
    scores = [run_command("score", one, *files) for one in (tiny_run, exported)]
    numbers = [[float(line.split("\t")[0]) for line in one.out.splitlines()] for one in scores]
    np.testing.assert_allclose(numbers[0], numbers[1], rtol=2e-3)
    files = ("--source", tmp_path / "in.txt", "--reference", tmp_path / "out.txt", "--json")
    assert json.loads(run_command("evaluate", exported, *files).out)["lines"] == 3


def test_a_score_is_not_a_condition(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any], fails: Callable[..., str]
) -> None:
    """Nor are the data, which may have gone; files that are named are."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    config = json.loads((run / "config.json").read_text())
    config["task"]["data"]["dataset"] |= {"train_source": str(tmp_path / "gone")}
    (run / "config.json").write_text(json.dumps(config))
    ran = run_command("export", run, "--output", tmp_path / "model")
    assert ran.status == 0, ran.err
    assert "not scored: the run's data cannot be had" in ran.out
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == FILES
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert "not scored" in card
    assert "looked at for this card" not in card
    (tmp_path / "in.txt").write_text("cat\n")
    files = ("--source", tmp_path / "in.txt", "--reference", tmp_path / "in.txt")
    assert run_command("export", run, "--output", tmp_path / "scored", *files).status == 0
    assert "on in.txt (1 items)" in (tmp_path / "scored" / "MODEL_CARD.md").read_text()
    assert "no such file" in fails("export", run, "--output", tmp_path / "b", *files[:3], tmp_path / "none")
    assert "wanted two files, --source and --reference" in fails(
        "export", run, "--output", tmp_path / "b", *files[:2]
    )
    assert not (tmp_path / "b").exists()


def test_a_run_begins_with_its_parameters(
    exported: Path, tiny_experiment: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    words = ("train", tiny_experiment, "--run-dir", tmp_path / "run", "--warm-start", exported, "--set")
    ran = run_command(*words, "train.updates=1", "train.schedule.peak_learning_rate=1e-9", "train.seed=5")
    assert ran.status == 0, ran.err
    begun, given = (named_parameters(load_run(one).model) for one in (tmp_path / "run", exported))
    for name, array in given.items():
        np.testing.assert_allclose(begun[name], array, atol=1e-6)


def test_bad_input_is_one_line(
    exported: Path, tiny_run: Path, tiny_experiment: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    assert "already holds a model" in fails("export", tiny_run, "--output", exported)
    (tmp_path / "file").write_text("x")
    assert "is a file" in fails("export", tiny_run, "--output", tmp_path / "file")
    assert "no such run folder" in fails("export", tmp_path / "none", "--output", tmp_path / "a")
    assert "no test set" in fails("export", tiny_run, "--output", tmp_path / "a", "--split", "test")
    assert not (tmp_path / "a").exists(), "a folder that was made for the model goes with it"
    (tmp_path / "mine").mkdir()
    assert "no test set" in fails("export", tiny_run, "--output", tmp_path / "mine", "--split", "test")
    assert list((tmp_path / "mine").iterdir()) == [], "one that was there stays"
    warm = ("train", tiny_experiment, "--run-dir", tmp_path / "run", "--warm-start", exported)
    message = fails(*warm, "--set", "model.model_dim=12")
    assert "the model wants float32" in message
    assert not (tmp_path / "run").exists()
    assert "--warm-start begins a run" in fails(
        "train", "--run-dir", tiny_run, "--resume", "--warm-start", exported
    )


def damaged(exported: Path, folder: Path, change: Callable[[Path], Any]) -> Path:
    shutil.copytree(exported, folder)
    change(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / WEIGHTS_NAME).write_bytes(b"junk"), "the weights are damaged"),
        (lambda f: (f / WEIGHTS_NAME).write_bytes((f / WEIGHTS_NAME).read_bytes()[:-9]), "the weights are damaged"),
        (lambda f: (f / WEIGHTS_NAME).write_bytes(b"\xff" * 8 + b"{}"), "the weights are damaged"),
        (lambda f: (f / "config.json").unlink(), "'config.json' is missing"),
        (lambda f: (f / "target_tokenizer.json").unlink(), "'target_tokenizer.json' is missing"),
        (lambda f: shutil.copy(f / "source_tokenizer.json", f / "target_tokenizer.json"), "another tokenizer"),
        (lambda f: safetensors.numpy.save_file({"a": np.zeros(2)}, f / WEIGHTS_NAME), "not weights that this"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_refused(
    exported: Path, tmp_path: Path, fails: Callable[..., str], change: Any, words: str
) -> None:
    folder = damaged(exported, tmp_path / "model", change)
    (tmp_path / "in.txt").write_text("cat\n")
    assert words in fails("translate", folder, "--input", tmp_path / "in.txt")


HOSTILE = [
    ("model.model_dim", 20_000, "the model wants"),
    ("model.feed_forward_dim", 60_000, "the model wants"),
    ("model.model_dim", 10**7, "model_dim must be at most 65,536"),
    ("model.num_encoder_layers", 900, "901 layers"),
    ("model.num_decoder_layers", 100_000, "num_decoder_layers must be at most 1,000"),
    ("model.num_heads", 2**31, "num_heads must be at most"),
    ("task.data.max_source_len", 10**6, "max_source_len must be at most 65,536"),
    ("task.search.max_len", 10**7, "max_len must be at most 65,536"),
    ("task.search.max_len", 2**70, "max_len must be at most 65,536"),
    ("task.search", {"kind": "beam", "max_len": 9, "num_beams": 10**5}, "num_beams must be at most 1,000"),
]


@contextlib.contextmanager
def nothing_compiled() -> Iterator[None]:
    """Fails if anything is compiled: what is not compiled has not been allocated either."""
    seen: list[str] = []

    def listen(event: str, seconds: float, **unused: object) -> None:
        if "backend_compile" in event:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert seen == []


def with_sizes(folder: Path, name: str, value: Any) -> None:
    path = folder / "config.json"
    document = json.loads(path.read_text())
    *parts, last = name.split(".")
    holder = document
    for part in parts:
        holder = holder[part]
    holder[last] = value
    path.write_text(json.dumps(document))


def test_hostile_sizes_are_refused_before_anything_is_built(
    exported: Path, tiny_run: Path, tiny_data: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    for number, (name, value, words) in enumerate(HOSTILE):
        for kind, whole in (("model", exported), ("run", tiny_run)):
            folder = damaged(
                whole, tmp_path / f"{kind}-{number}", functools.partial(with_sizes, name=name, value=value)
            )
            with nothing_compiled(), pytest.raises(TransformerJaxError, match=words) as raised:
                load_run(folder)
            assert "\n" not in str(raised.value)
            assert str(folder) in str(raised.value)
    with nothing_compiled():
        assert "the model wants" in fails(
            "translate", tmp_path / "model-0", "--input", tiny_data / "train.src"
        )
        words = ("train", "--resume", "--run-dir")
        assert "the model wants" in fails(*words, tmp_path / "run-0")
        assert "901 layers" in fails(*words, tmp_path / "run-3")


def test_a_search_that_needs_more_memory_than_there_is_is_not_compiled(
    exported: Path,
    tiny_data: Path,
    tmp_path: Path,
    fails: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    huge = {"kind": "beam", "max_len": 65_536, "num_beams": 1000}
    folder = damaged(exported, tmp_path / "model", lambda f: with_sizes(f, "task.search", huge))
    monkeypatch.setattr(searcher, "machine_memory", (8 * 10**9).__int__)
    message = fails("translate", folder, "--input", tiny_data / "train.src")
    assert "this machine has 8 GB of memory: lower num_beams or max_len" in message


def changed_weights(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    arrays = dict(safetensors.numpy.load_file(folder / WEIGHTS_NAME))
    with safetensors.safe_open(folder / WEIGHTS_NAME, framework="numpy") as file:
        metadata = file.metadata()
    change(arrays)
    safetensors.numpy.save_file(arrays, folder / WEIGHTS_NAME, metadata)


def changed_header(folder: Path, change: Callable[[bytes], bytes]) -> None:
    content = (folder / WEIGHTS_NAME).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = change(content[8 : 8 + length])
    (folder / WEIGHTS_NAME).write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])


def set_first(value: float) -> Callable[[dict[str, Any]], Any]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[sorted(arrays)[0]].reshape(-1)[-1] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: changed_weights(f, set_first(math.nan)), "numbers that are not finite"),
        (lambda f: changed_weights(f, set_first(-math.inf)), "numbers that are not finite"),
        (lambda f: changed_header(f, lambda h: h.replace(b'"F16"', b'"I16"')), "is int16[.*wants float16"),
        (lambda f: changed_header(f, lambda h: h.replace(b'"F16"', b'"BF16"')), "is bfloat16[.*wants float16"),
        (lambda f: changed_header(f, lambda h: h.replace(b'"F16"', b'"F8_E4M3"')), "damaged"),
        (lambda f: changed_weights(f, lambda a: a.update({k: a[k].astype("f4") for k in a})), "is float32["),
        (lambda f: changed_header(f, lambda h: h + b" " * 9_000_000), "at most 8,000,000 are read"),
        (lambda f: changed_header(f, lambda h: h + b" " * 200_000), "its arrays need at most"),
        (lambda f: changed_header(f, lambda h: h.replace(b'"decoder', b'"' + b"x" * 300, 1)), r"holds 'x+\.\.\.x"),
    ],
)  # fmt: skip
def test_weights_that_were_not_written_so_are_refused(
    exported: Path, tmp_path: Path, change: Any, words: str
) -> None:
    folder = damaged(exported, tmp_path / "model", change)
    with pytest.raises(RunError, match=words.replace("[", r"\[")) as raised:
        load_run(folder)
    assert len(str(raised.value)) < 1500


def test_a_checkpoint_that_is_not_finite_is_refused(
    tiny_run: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    run_dir = damaged(tiny_run, tmp_path / "run", lambda f: None)
    store = CheckpointStore(run_dir)
    update = store.updates()[-1]
    info = store.info(update)
    arrays = orbax_items.read_item(store.path(update), "model")
    name = sorted(arrays)[0]
    arrays[name].reshape(-1)[0] = math.nan
    training = orbax_items.read_item(store.path(update), "training")
    for other in store.updates():
        shutil.rmtree(store.path(other))
    store.write(info, model=arrays, training=training)  # `save` would refuse it
    with pytest.raises(RunError, match=f"'{name}' holds numbers that are not finite"):
        load_run(run_dir)
    words = ("train", "--resume", "--run-dir", run_dir, "--set", "train.updates=6")
    assert f"'{name}' holds numbers that are not finite" in fails(*words)


def test_a_tokenizer_of_the_same_size_is_refused(
    exported: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    def swap(folder: Path) -> None:
        path = folder / "source_tokenizer.json"
        document = json.loads(path.read_text())
        vocabulary = document["model"]["vocab"]
        vocabulary["a"], vocabulary["c"] = vocabulary["c"], vocabulary["a"]
        path.write_text(json.dumps(document))

    folder = damaged(exported, tmp_path / "model", swap)
    (tmp_path / "in.txt").write_text("cat\n")
    assert "another tokenizer" in fails("translate", folder, "--input", tmp_path / "in.txt")


def test_an_array_of_another_shape_changes_nothing(exported: Path, tmp_path: Path) -> None:
    run = load_run(exported)
    arrays = safetensors.numpy.load_file(exported / WEIGHTS_NAME)
    name = sorted(arrays)[-1]
    changed = {**arrays, name: arrays[name].reshape(-1)[:1]}
    safetensors.numpy.save_file(changed, tmp_path / "w", {"format": "transformer-jax 1"})
    before = named_parameters(run.model)
    with pytest.raises(RunError, match=name):
        read_weights(tmp_path / "w", run.model)
    assert all((array == before[key]).all() for key, array in named_parameters(run.model).items())


def test_numbers_that_half_precision_has_not_are_refused(exported: Path, tmp_path: Path) -> None:
    run = load_run(exported)
    arrays = named_parameters(run.model)
    name = sorted(arrays)[0]
    load_parameters(run.model, {**arrays, name: jnp.full_like(arrays[name], 1e6)})
    with pytest.raises(RunError, match=f"'{name}' holds numbers"):
        write_weights(tmp_path / "w", run.model, {})
    assert not (tmp_path / "w").exists()


def test_a_model_is_chosen_once(exported: Path, fails: Callable[..., str]) -> None:
    assert "or a model that comes with the library: --pretrained" in fails("translate")
    assert "name RUN_DIR" in fails("translate", exported, "--pretrained", "g2p-en")
    assert "no such model" in fails("translate", "--pretrained", "g2p")


MODELS = Path(__file__).parents[2] / "experiments" / "models"
ANSWERED = {
    "g2p-en": ("attention", "AH T EH N SH AH N"),
    "tatoeba-zh-en": ("他是医生。", "he is a doctor."),
    "multi30k-en-de": ("a man is riding a bicycle.", "ein mann fährt fahrrad."),
}
CONTINUED = {"shakespeare-chars": ("ROMEO:", "\nI will not")}
"""Prompts of language models, and what is most probable behind them."""
TAGGED = {
    "requests-en": (
        "will it rain in Berlin tomorrow",
        "GetWeather\twill/O it/O rain/B-condition_description in/O Berlin/B-city tomorrow/B-timeRange",
    )
}
"""Lines for taggers, and their labels behind the class of the line."""


@pytest.mark.parametrize("name", [*pretrained_names(), *sorted(path.name for path in MODELS.iterdir())])
def test_the_models_that_come_with_the_library_answer(
    name: str, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    folder = MODELS / name if (MODELS / name).is_dir() else pretrained_folder(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    chosen = ("--pretrained", name) if name in pretrained_names() else (folder,)
    if name in CONTINUED:
        prompt, text = CONTINUED[name]
        ran = run_command("generate", *chosen, "--prompt", prompt, "--temperature", "0", "--max-tokens", "11")
        assert (ran.status, ran.out) == (0, f"{prompt}{text}\n"), ran.err
        return
    command = "tag" if name in TAGGED else "translate"
    line, answer = (ANSWERED | TAGGED)[name]
    (tmp_path / "in.txt").write_text(line + "\n")
    ran = run_command(command, *chosen, "--input", tmp_path / "in.txt")
    assert (ran.status, ran.out.lower()) == (0, answer.lower() + "\n"), ran.err
