"""AESLC: e-mails with their subject lines."""

from transformer_jax.data.sources.dataset import Dataset, dataset_files

AESLC = Dataset(
    name="aeslc",
    description="E-mail bodies and subject lines, 14,436 / 1,960 / 1,906, with three more subjects in dev and test",
    licence="CC BY-NC-SA 4.0",
    citation="Zhang and Tetreault 2019, This Email Could Save Your Life",
    homepage="https://github.com/ryanzhumich/AESLC/tree/7afc087a",
    files=dataset_files(
        None,
        ("train.jsonl.xz", 2587640, "2c5b41f442fac08c3b365319437d12207f7b6c25be005335ac51ceda46c929f2"),
        ("dev.jsonl.xz", 476520, "cc9805cd3f9fd2634dd34d60bdb5ed41b45a2f442ecc559139c719fc7bf14346"),
        ("test.jsonl.xz", 435996, "2197a866dd889b4f2b6aae55b11dcbedf617ef8bba6a42f55e4d19bf04b11e16"),
    ),
)
