"""Judgements of similarity and analogies, for tests of word vectors."""

from transformer_jax.data.sources.dataset import GITHUB, Dataset, dataset_files

WORD_SIMILARITY = Dataset(
    name="word-similarity",
    description="WordSim-353, SimLex-999 and Google's analogy questions, as in the test data of gensim",
    licence="as shipped in gensim's test data; see each set's own page",
    citation="Finkelstein et al. 2002; Hill et al. 2015; Mikolov et al. 2013",
    homepage="https://github.com/piskvorky/gensim/tree/4.3.3/gensim/test/test_data",
    files=dataset_files(
        f"{GITHUB}/piskvorky/gensim/4.3.3/gensim/test/test_data/",
        ("wordsim353.tsv", 7186, "f92a022fc2537793a15bc3a8c162ebcd74990e033a228bb6388cb71e4c0b1e1d"),
        ("simlex999.txt", 18126, "d5e0501971478a511430ee880bd0121e94ac701ba86d90544d83e6d2ba3db05d"),
        ("questions-words.txt", 603955, "8c29b3332afc46f3fb8be04cb5297bf96f39aa7131272dff57869b4485b22a36"),
    ),
)
