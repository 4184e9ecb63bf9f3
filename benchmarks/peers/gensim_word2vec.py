"""gensim's word2vec on a file of sentences: the peer of our word vectors, run by a Python of its own.

It imports nothing of this library; all that it needs: `python -m venv gensim && gensim/bin/pip install gensim==4.4.0`.
Reads its options as one JSON object from standard input and writes what it measured as another.
"""

import json
import sys
import time


def main() -> None:
    """Train, save the vectors, and say how long the training took."""
    import gensim
    from gensim.models import Word2Vec

    options = json.load(sys.stdin)
    model = Word2Vec(
        vector_size=options["width"],
        window=options["window"],
        min_count=options["min_count"],
        sample=options["sample"],
        sg=int(options["architecture"] == "skip_gram"),
        cbow_mean=1,
        negative=options["num_negatives"],
        hs=int(options["num_negatives"] == 0),
        alpha=options["learning_rate"],
        seed=options["seed"] + 1,
        workers=options["workers"],
        epochs=options["passes"],
    )
    start = time.perf_counter()
    model.build_vocab(corpus_file=options["corpus"])
    counted = time.perf_counter()
    model.train(
        corpus_file=options["corpus"],
        total_examples=model.corpus_count,
        total_words=model.corpus_total_words,
        epochs=model.epochs,
    )
    end = time.perf_counter()
    model.wv.save_word2vec_format(options["vectors"], binary=True)
    found = {
        "version": f"gensim {gensim.__version__}",
        "vocabulary": len(model.wv),
        "vocabulary_seconds": counted - start,
        "train_seconds": end - counted,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
