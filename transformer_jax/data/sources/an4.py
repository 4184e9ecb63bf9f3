"""AN4: spoken letters, numbers and names, as features with transcripts."""

from transformer_jax.data.sources.dataset import Dataset, dataset_files

AN4 = Dataset(
    name="an4",
    description="CMU AN4 speech: 948 and 130 utterances of different speakers, 13 MFCC at 100 frames a second",
    licence="BSD-like (Carnegie Mellon University)",
    citation="Acero and Stern 1990, Environmental Robustness in Automatic Speech Recognition",
    homepage="https://github.com/cphazen/Machine-Learning-Project-ASR/tree/5e478f0e",
    files=dataset_files(
        None,
        ("an4_train.npz", 6176883, "ab71ccae9d85145740aa1642fe2602cc6d6251368ef5ca6224604e3facf64a61"),
        ("an4_test.npz", 867593, "84774c67a68cb729707e4e4de157c894dcea6a2654404fd8e653fe9f739e38ef"),
        ("LICENSE", 1914, "065196b947a2a8b9b351e4d06d9f582955150e4c628ef0b48ea10488a28d8e57"),
        ("README", 860, "08a46fb477406a48ff79b179a1d2353d8299223d769091c4db5a27ccbb9c5cf1"),
    ),
)
