"""Taggers over each encoder: padding and neighbours change nothing, chains and letters do what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.text_batches import TagBatch
from transformer_jax.errors import ConfigError
from transformer_jax.functional.crf import FORBIDDEN, ChainScores, crf_log_likelihood
from transformer_jax.models.build import build_model
from transformer_jax.models.sizes import Sizes
from transformer_jax.models.tagger import TaggerConfig
from transformer_jax.models.text_encoders import (
    RecurrentTextEncoder,
    TokenVectors,
    TransformerTextEncoder,
)
from transformer_jax.nn import Learned
from transformer_jax.nn.word_letters import LetterConvolution, LetterRecurrence
from transformer_jax.objectives.tags import TagLikelihood

ENCODERS = {
    "transformer": TransformerTextEncoder(
        model_dim=8,
        num_heads=2,
        num_kv_heads=2,
        feed_forward_dim=16,
        num_layers=1,
        positions=Learned(max_len=16),
    ),
    "recurrent": RecurrentTextEncoder(
        cell="lstm", embedding_dim=6, hidden_dim=5, num_layers=2, dropout_rate=0.2
    ),
    "vectors": TokenVectors(embedding_dim=6),
}
LETTERS = {
    "none": None,
    "convolution": LetterConvolution(embedding_dim=4, num_filters=3, widths=(1, 3, 4), dropout_rate=0.1),
    "recurrence": LetterRecurrence(cell="gru", embedding_dim=4, hidden_dim=3),
}
VOCAB, LABELS, CLASSES, LENGTHS, WORD_LEN = 11, 4, 3, (5, 2, 0), 6


def batch_of(random_generator, letters: bool) -> TagBatch:
    """Rows of different lengths, one of them a dummy."""
    shape = (len(LENGTHS), max(LENGTHS))
    lengths = np.array(LENGTHS, np.int32)
    valid = np.arange(shape[1])[None] < lengths[:, None]
    tokens = np.where(valid, random_generator.integers(4, VOCAB, shape), 0).astype(np.int32)
    labels = np.where(valid, random_generator.integers(0, LABELS, shape), -1).astype(np.int32)
    found = random_generator.integers(1, 257, (*shape, WORD_LEN))
    found *= np.arange(WORD_LEN) < random_generator.integers(1, WORD_LEN + 1, shape)[..., None]
    found = np.where(valid[..., None], found, 0).astype(np.int32)
    classes = np.where(lengths > 0, random_generator.integers(0, CLASSES, len(LENGTHS)), -1).astype(np.int32)
    ids = np.arange(len(LENGTHS), dtype=np.int32)
    return jax.tree.map(
        jnp.asarray, TagBatch(tokens, lengths, labels, classes, ids, found if letters else None)
    )


def built(encoder: str, letters: str, crf: bool, **options):
    config = TaggerConfig(encoder=ENCODERS[encoder], letters=LETTERS[letters], crf=crf, **options)
    return build_model(config, Sizes(vocab_size=VOCAB, num_labels=LABELS, num_classes=CLASSES), seed=0)


CASES = [("transformer", "convolution", True), ("recurrent", "recurrence", True), ("vectors", "none", False)]


@pytest.mark.parametrize(("encoder", "letters", "crf"), CASES)
def test_padding_and_neighbours_change_nothing(random_generator, encoder, letters, crf) -> None:
    model, batch = built(encoder, letters, crf), batch_of(random_generator, letters != "none")
    if crf:
        model.chain.transitions[...] = jnp.asarray(
            random_generator.normal(size=(LABELS, LABELS)), jnp.float32
        )
    predict = nnx.jit(
        lambda model, batch: model.predict(batch.tokens, lengths=batch.lengths, letters=batch.letters)
    )
    together = predict(model, batch)
    for row, length in enumerate(LENGTHS[:2]):
        alone = jax.tree.map(
            lambda leaf, row=row, length=length: (
                leaf[row : row + 1, :length] if leaf.ndim > 1 else leaf[row : row + 1]
            ),
            batch,
        )
        found = predict(model, alone)
        np.testing.assert_array_equal(found.labels[0], together.labels[row, :length])
        np.testing.assert_allclose(found.probabilities[0], together.probabilities[row, :length], rtol=1e-5)
        np.testing.assert_allclose(found.class_probabilities[0], together.class_probabilities[row], rtol=1e-5)
        assert (together.labels[row, length:] == -1).all()
        assert not together.probabilities[row, length:].any()
    # What stands in the padding is not read.
    valid = np.arange(5)[None] < np.array(LENGTHS)[:, None]
    dirty = batch._replace(
        tokens=jnp.where(valid, batch.tokens, VOCAB + 5),
        letters=None if batch.letters is None else jnp.where(valid[..., None], batch.letters, 7),
    )
    for one, other in zip(jax.tree.leaves(predict(model, dirty)), jax.tree.leaves(together), strict=True):
        np.testing.assert_array_equal(one, other)


def test_labels_of_words_in_pieces_are_read_at_their_first_pieces(random_generator) -> None:
    model, batch = built("transformer", "none", True), batch_of(random_generator, False)
    first_pieces = jnp.array([[0, 3, 4, -1, -1], [1, -1, -1, -1, -1], [-1] * 5])
    output = model(batch.tokens, lengths=batch.lengths)
    of_words = model(batch.tokens, lengths=batch.lengths, first_pieces=first_pieces)
    np.testing.assert_array_equal(of_words.classes, output.classes)
    np.testing.assert_allclose(of_words.labels[0, :3], output.labels[0, jnp.array([0, 3, 4])], rtol=1e-6)
    np.testing.assert_allclose(of_words.labels[1, 0], output.labels[1, 1], rtol=1e-6)
    found = model.predict(batch.tokens, lengths=batch.lengths, first_pieces=first_pieces)
    assert [(row >= 0).sum() for row in np.asarray(found.labels)] == [3, 1, 0]
    labels = jnp.where(first_pieces >= 0, batch.labels, -1)
    loss = TagLikelihood(class_weight=0.0)(
        model, batch._replace(labels=labels, first_pieces=first_pieces), None
    )[0]
    wanted = crf_log_likelihood(of_words.labels, labels, model.chain.chain, jnp.array([3, 1, 0])).sum()
    np.testing.assert_allclose(loss.sum, -wanted, rtol=1e-6)
    assert loss.count == 4


@pytest.mark.parametrize(("encoder", "letters", "crf"), CASES)
def test_the_loss_is_that_of_its_parts_and_all_parameters_learn(
    random_generator, encoder, letters, crf
) -> None:
    model, batch = built(encoder, letters, crf), batch_of(random_generator, letters != "none")

    @nnx.jit
    def grad(model, batch):
        return nnx.value_and_grad(
            lambda model: TagLikelihood(class_weight=0.5)(model, batch, None)[0].mean()
        )(model)

    loss, gradients = grad(model, batch)
    output = model(batch.tokens, lengths=batch.lengths, letters=batch.letters)
    total = 0.0
    for row, length in enumerate(LENGTHS):
        if length:
            # Chains begin at zero, where they are a softmax of each word.
            own = jax.nn.log_softmax(output.labels[row, :length], axis=-1)
            total -= float(own[np.arange(length), batch.labels[row, :length]].sum())
            total -= 0.5 * float(jax.nn.log_softmax(output.classes[row])[batch.classes[row]])
    np.testing.assert_allclose(loss, total / sum(LENGTHS), rtol=1e-5)
    for path, leaf in nnx.to_flat_state(gradients):
        assert bool(jnp.isfinite(leaf[...]).all()), path
        assert bool(jnp.abs(leaf[...]).max() > 0), path


def test_word_dropout_makes_words_unknown(random_generator) -> None:
    model = built("vectors", "none", False, word_dropout_rate=0.999999)
    batch = batch_of(random_generator, False)
    dropped = model(batch.tokens, lengths=batch.lengths, rng_key=jax.random.key(0))
    unknown = model(jnp.ones_like(batch.tokens), lengths=batch.lengths)
    np.testing.assert_array_equal(dropped.labels, unknown.labels)
    assert np.abs(model(batch.tokens, lengths=batch.lengths).labels - unknown.labels).max() > 1e-3


def test_forbidden_neighbours_are_not_predicted(random_generator) -> None:
    model, batch = built("vectors", "none", False), batch_of(random_generator, False)
    transitions = np.where(np.eye(LABELS), 0.0, FORBIDDEN)
    allowed = ChainScores(jnp.asarray(transitions, jnp.float32), jnp.zeros(LABELS), jnp.zeros(LABELS))
    found = model.predict(batch.tokens, lengths=batch.lengths, allowed=allowed)
    assert len(set(found.labels[0].tolist())) == 1
    assert len(set(model.predict(batch.tokens, lengths=batch.lengths).labels[0].tolist())) > 1


@pytest.mark.parametrize("letters", ["convolution", "recurrence"])
def test_letters_of_a_word_are_read_to_its_end_only(random_generator, letters) -> None:
    config = LETTERS[letters]
    module = config.build(rngs=nnx.Rngs(0))
    word = random_generator.integers(1, 257, (1, 1, 4))
    short = np.pad(word, ((0, 0), (0, 0), (0, 1)))
    long = np.pad(word, ((0, 0), (0, 0), (0, 9)))
    np.testing.assert_allclose(
        module(jnp.asarray(short, jnp.int32)), module(jnp.asarray(long, jnp.int32)), atol=1e-6
    )
    assert not np.asarray(module(jnp.zeros((1, 1, 5), jnp.int32))).any()
    other = short.copy()
    other[..., 3] = 300 - other[..., 3] if other[..., 3] > 43 else 200
    assert np.abs(module(jnp.asarray(other, jnp.int32)) - module(jnp.asarray(short, jnp.int32))).max() > 1e-6


def test_convolution_equals_a_loop(random_generator) -> None:
    config = LetterConvolution(embedding_dim=4, num_filters=3, widths=(2, 3))
    module = config.build(rngs=nnx.Rngs(1))
    letters = np.array([5, 9, 200, 17, 0, 0])
    table = np.array(module.embedding(jnp.asarray(letters)))
    table[4:] = 0
    wanted = []
    for width, filters in zip(config.widths, module.filters, strict=True):
        kernel, bias = np.asarray(filters.kernel[...]), np.asarray(filters.bias[...])
        values = []
        for place in range(4):
            rows = [place - width // 2 + offset for offset in range(width)]
            window = np.concatenate([table[row] if 0 <= row < 6 else np.zeros(4) for row in rows])
            values.append(np.maximum(window @ kernel + bias, 0))
        wanted.append(np.max(values, axis=0))
    found = module(jnp.asarray(letters[None, None], jnp.int32))
    np.testing.assert_allclose(found[0, 0], np.concatenate(wanted), atol=1e-5)


def test_letters_must_be_given_to_a_model_of_letters_alone(random_generator) -> None:
    batch = batch_of(random_generator, True)
    with pytest.raises(ConfigError, match="the model reads the letters"):
        built("vectors", "convolution", False)(batch.tokens, lengths=batch.lengths)
    with pytest.raises(ConfigError, match="the model reads none"):
        built("vectors", "none", False)(batch.tokens, lengths=batch.lengths, letters=batch.letters)


def test_class_feedback_adds_to_each_word_what_its_sentence_class_says(random_generator) -> None:
    batch = batch_of(random_generator, False)
    plain, told = built("vectors", "none", False), built("vectors", "none", False, class_feedback=True)
    table = told.class_map.kernel[...]
    output, other = (one(batch.tokens, lengths=batch.lengths) for one in (told, plain))
    np.testing.assert_allclose(output.classes, other.classes, rtol=1e-6)
    added = jax.nn.softmax(output.classes, axis=-1) @ table
    np.testing.assert_allclose(
        output.labels - other.labels, np.broadcast_to(added[:, None], (3, 5, LABELS)), atol=1e-5
    )
    # Without classes there is nothing to feed back.
    sizes = Sizes(vocab_size=VOCAB, num_labels=LABELS)
    config = TaggerConfig(encoder=ENCODERS["vectors"], class_feedback=True)
    assert build_model(config, sizes, seed=0).class_map is None


def test_labels_are_needed_and_classes_are_not() -> None:
    config = TaggerConfig(encoder=ENCODERS["vectors"])
    with pytest.raises(ConfigError, match="needs num_labels"):
        build_model(config, Sizes(vocab_size=VOCAB), seed=0)
    model = build_model(config, Sizes(vocab_size=VOCAB, num_labels=LABELS), seed=0)
    assert model(jnp.ones((1, 2), jnp.int32), lengths=jnp.array([2])).classes is None
    assert TaggerConfig(encoder=ENCODERS["transformer"]).source_limit == 16
