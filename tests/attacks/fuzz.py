"""Feeds damaged files to everything that reads one: each must be read, or refused with one of our own errors.

    python tests/attacks/fuzz.py --files 10000 --json benchmarks/results/fuzz-cpu.json

A whole file of each kind is made, then damaged: bits turned, pieces cut out, doubled or put elsewhere, the end missing,
numbers made huge or negative, brackets nested deeply, bytes that are no UTF-8, lengths that lie. Two kinds stay
well-formed and ask for too much: configs of model folders with hostile sizes, headers of weights with other shapes,
dtypes and lengths. Whatever else than a `TransformerJaxError` comes out, takes longer than two seconds of computing, or
needs more than 200 MB above what the process held before, is written down with the seed that makes it again.
"""

import argparse
import dataclasses
import json
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import tokenizers as hf

from transformer_jax.config_json import to_json
from transformer_jax.data.pairs_config import ChosenBuckets, PairsConfig, ParallelFiles
from transformer_jax.data.readers import read_parallel, read_tsv
from transformer_jax.data.tokenizers import Tokenizer, train_character_tokenizer, train_subword_tokenizer
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.errors import TransformerJaxError
from transformer_jax.models.build import build_model
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.runs.experiment import ExperimentConfig, saved_config
from transformer_jax.runs.folder import read_result
from transformer_jax.runs.loading import WEIGHTS_NAME, load_run
from transformer_jax.runs.lock import machine_of
from transformer_jax.tasks.translation import Translation
from transformer_jax.training.config import Adam, Constant, TrainConfig
from transformer_jax.training.manifest import require_whole, write_manifest
from transformer_jax.training.trackers import read_rows
from transformer_jax.training.weights_file import read_weights, write_weights

SECONDS, MEGABYTES = 2.0, 200.0
NUMBERS = (b"-1", b"0", b"1e999", b"9" * 30, b"9" * 5000, b"NaN", b"2.5", b"18446744073709551615", b"null")
PATHS = (b'"../../etc/passwd"', b'"/etc/passwd"', b'"C:\\\\a"')
TEXTS = (b'""', b"7", b"[]", b"{}", b"true", b'"\\u0000"', b'"\\ud800"', *PATHS)
SIZES = (
    -1,
    0,
    1,
    2,
    1000,
    20_000,
    65_536,
    65_537,
    10**5,
    10**6,
    10**7,
    2**31 - 1,
    2**31,
    2**63,
    10**30,
    10**400,
)
DTYPES = (b"F16", b"BF16", b"I16", b"F32", b"F64", b"U8", b"BOOL", b"F8_E4M3", b"I64")
LINES = ["the cat sat on the mat", "a dog", "", "été 東京 🙂", "one\ttwo"] * 20

MODEL = EncoderDecoderConfig(
    model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=8, num_encoder_layers=1, num_decoder_layers=1
)
CONFIG = ExperimentConfig(
    name="fuzzed",
    task=Translation(data=PairsConfig(
        dataset=ParallelFiles(train_source="a", train_target="b"), batch_size=8,
        buckets=ChosenBuckets(max_shapes=2), max_source_len=8, max_target_len=9,
    ), search=BeamConfig(max_len=9, num_beams=2)),

    model=MODEL,
    train=TrainConfig(
        updates=4, optimizer=Adam(), schedule=Constant(peak_learning_rate=0.01), metric="bleu", metric_mode="max"
    ),

)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Loader:
    """A file of one kind, what reads it, and how it is damaged."""

    file: Path
    load: Callable[[], Any]
    damage: Callable[[bytes, random.Random], bytes] | None = None


def loaders(folder: Path) -> dict[str, Loader]:
    """One of each kind, with a whole file that is read without an error."""
    (folder / "config.json").write_text(to_json(CONFIG))
    (folder / "result.json").write_text(json.dumps({"name": "a", "updates": 3, "best_score": 1.5}, indent=2))
    lock = {"format": 1, "sessions": [{"from_update": 0, "device": "1 x cpu (cpu)", "cores": "2"}]}
    (folder / "run.lock").write_text(json.dumps(lock, indent=2))
    rows = [{"kind": "train", "update": update, "seconds": 0.5, "loss": 1.25} for update in range(1, 30)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "a.txt").write_text("".join(f"{line}\n" for line in LINES))
    (folder / "b.txt").write_text("".join(f"{line}\n" for line in LINES))
    (folder / "c.tsv").write_text("".join(f"{line.replace(chr(9), ' ') or 'x'}\tb\n" for line in LINES))
    train_character_tokenizer(LINES).save(folder / "characters.json")
    train_subword_tokenizer(LINES, vocab_size=60, algorithm="bpe").save(folder / "subwords.json")
    foreign = hf.Tokenizer(hf.models.BPE(unk_token="[UNK]"))
    foreign.train_from_iterator(
        LINES, hf.trainers.BpeTrainer(special_tokens=["[UNK]", "[PAD]", "[BOS]", "[EOS]"])
    )
    foreign.save(str(folder / "foreign.json"))
    model = build_model(MODEL, Sizes.of_pairs(20), seed=0)
    write_weights(folder / "model.safetensors", model, {"format of ours": "1"})
    own = model_folder(folder / "model")
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "array").write_bytes(b"0123456789" * 10)
    write_manifest(checkpoint)
    (manifest,) = (path for path in checkpoint.iterdir() if path.name != "array")
    found = {
        "config": Loader(folder / "config.json", lambda: saved_config(folder)),
        "result": Loader(folder / "result.json", lambda: read_result(folder)),
        "run.lock": Loader(folder / "run.lock", lambda: machine_of(folder)),
        "log rows": Loader(folder / "metrics.jsonl", lambda: read_rows(folder)),
        "two files": Loader(folder / "a.txt", lambda: read_parallel(folder / "a.txt", folder / "b.txt")),
        "table": Loader(folder / "c.tsv", lambda: read_tsv(folder / "c.tsv")),
        "characters": Loader(folder / "characters.json", lambda: Tokenizer.load(folder / "characters.json")),
        "subwords": Loader(folder / "subwords.json", lambda: Tokenizer.load(folder / "subwords.json")),
        "foreign": Loader(folder / "foreign.json", lambda: Tokenizer.load(folder / "foreign.json")),
        "weights": Loader(
            folder / "model.safetensors", lambda: read_weights(folder / "model.safetensors", model)
        ),
        "sizes": Loader(own / "config.json", lambda: loaded(own), hostile_sizes),
        "headers": Loader(own / WEIGHTS_NAME, lambda: loaded(own), hostile_header),
        "manifest": Loader(manifest, lambda: require_whole(checkpoint, deep=True)),
    }
    for name, loader in found.items():
        try:
            loader.load()
        except TransformerJaxError as error:
            raise SystemExit(f"{name}: the whole file is refused: {error}") from None
    return found


def model_folder(folder: Path) -> Path:
    """A model folder with random weights."""
    folder.mkdir()
    tokenizer = train_character_tokenizer(LINES)
    tokenizer.save(folder / "tokenizer.json")
    (folder / "config.json").write_text(to_json(CONFIG))
    size = tokenizer.vocab_size
    model = build_model(MODEL, Sizes.of_pairs(size), seed=0)
    write_weights(folder / WEIGHTS_NAME, model, {})
    return folder


def loaded(folder: Path) -> Any:
    """A model folder's search, as ``translate`` makes it before it reads a line."""
    run = load_run(folder)
    return run.predictor.searcher(run.config.task.search)


def hostile_sizes(content: bytes, chance: random.Random) -> bytes:
    """A config with one to three of its integers replaced; still JSON of the right keys."""
    text = content.decode()
    for _ in range(chance.randint(1, 3)):
        numbers = list(re.finditer(r"(?<=: )-?\d+(?=[,\n])", text))
        start, end = chance.choice(numbers).span()
        text = text[:start] + str(chance.choice(SIZES)) + text[end:]
    return text.encode()


def hostile_header(content: bytes, chance: random.Random) -> bytes:
    """Weights whose header was changed and made to fit the file again."""
    length = int.from_bytes(content[:8], "little")
    header, arrays = content[8 : 8 + length], content[8 + length :]
    for _ in range(chance.randint(1, 3)):
        kind = chance.randrange(4)
        if kind == 0:
            header += b" " * chance.choice((8, 8_000, 800_000, 9_000_000))
        elif kind == 1:
            places = list(re.finditer(rb'(?<="dtype":")\w+', header))
            start, end = chance.choice(places).span()
            header = header[:start] + chance.choice(DTYPES) + header[end:]
        elif kind == 2:
            places = list(re.finditer(rb"(?<=[\[,])\d+(?=[\],])", header))
            start, end = chance.choice(places).span()
            header = header[:start] + str(chance.choice(SIZES)).encode() + header[end:]
        else:
            value = chance.choice((b"\x00\x7e", b"\x00\x7c", b"\x00\xfc"))  # NaN, infinity, minus infinity
            place = 2 * chance.randrange(len(arrays) // 2)
            arrays = arrays[:place] + value + arrays[place + 2 :]
    return len(header).to_bytes(8, "little") + header + arrays


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The content after one to four damages."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place, stop = sorted(chance.randint(0, len(data)) for _ in range(2))
        stop = min(stop, place + chance.choice((1, 8, 64, 10**6)))
        kind = chance.randrange(10)
        if kind == 0 and data:
            data[min(place, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[place:stop]
        elif kind == 2:
            data[place:place] = data[place:stop]
        elif kind == 3:
            del data[place:]
        elif kind == 4:
            data[place:place] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 40)))
        elif kind == 5:
            data[place:place] = chance.choice((b"[", b'{"a":', b"(")) * chance.choice((40, 3000, 100_000))
        elif kind == 6:
            numbers = list(re.finditer(rb"-?\d+", bytes(data[:100_000])))
            if numbers:
                start, end = chance.choice(numbers).span()
                data[start:end] = chance.choice(NUMBERS)
        elif kind == 7:
            texts = list(re.finditer(rb'"[^"\n]{0,60}"', bytes(data[:100_000])))
            if texts:
                start, end = chance.choice(texts).span()
                data[start:end] = chance.choice(TEXTS)
        elif kind == 8:
            piece = bytes(data[place:stop])
            del data[place:stop]
            other = chance.randint(0, len(data))
            data[other:other] = piece
        else:
            data[0:8] = chance.choice(
                (b"\xff" * 8, bytes(8), (2**40).to_bytes(8, "little"), b"\xef\xbb\xbf{}   ")
            )
    return bytes(data)


class TooSlow(BaseException):
    """Raised by the alarm; no ``except Exception`` takes it for an error of the file."""


def _alarm(*unused: object) -> None:
    raise TooSlow


def attack(name: str, loader: Loader, *, files: int, seed: int) -> dict[str, Any]:
    """One loader against damaged files."""
    whole = loader.file.read_bytes()
    read = refused = 0
    wrong: list[dict[str, Any]] = []
    slowest = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(files):
        own_seed = f"{seed} {name} {number}"
        loader.file.write_bytes((loader.damage or damaged)(whole, random.Random(own_seed)))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of computing: a busy machine takes longer
        began = time.process_time()
        try:
            loader.load()
            read += 1
        except TransformerJaxError as error:
            refused += 1
            if "\n" in str(error).strip() or len(str(error)) > 1000:
                wrong.append({"seed": own_seed, "said": f"not one line: {str(error)[:300]}"})
        except TooSlow:
            wrong.append({"seed": own_seed, "said": f"longer than {SECONDS} s"})
        except BaseException:
            wrong.append({"seed": own_seed, "said": traceback.format_exc()[-700:]})
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, time.process_time() - began)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    if grown > MEGABYTES:
        wrong.append({"seed": str(seed), "said": f"{grown:.0f} MB above the process before"})
    loader.file.write_bytes(whole)
    return {
        "files": files, "read": read, "refused": refused, "slowest_s": slowest, "grown_mb": grown,
        "wrong": len(wrong), "first_wrong": wrong[:5],
    }  # fmt: skip


def main() -> int:
    """Parse the command line, attack, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000, help="damaged files a loader (default 10,000)")
    parser.add_argument("--only", nargs="*", help="names of loaders (default all)")
    parser.add_argument("--seed", type=int, default=0, help="of the damages (default 0)")
    parser.add_argument("--json", type=Path, help="write the counts here")
    options = parser.parse_args()
    signal.signal(signal.SIGPROF, _alarm)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, loader in loaders(Path(folder)).items():
            if options.only and name not in options.only:
                continue
            found[name] = attack(name, loader, files=options.files, seed=options.seed)
            print(
                name, {key: value for key, value in found[name].items() if key != "first_wrong"}, flush=True
            )
            for one in found[name]["first_wrong"]:
                print(one["seed"], one["said"], file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps({"seed": options.seed, "loaders": found}, indent=2) + "\n")
    return 1 if any(one["wrong"] for one in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
