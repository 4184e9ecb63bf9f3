"""Data sets, tokenizers, plans of epochs and batches, in NumPy only: no JAX backend is started.

``prepare.prepare(PairsConfig(...))`` prepares pairs of lines, ``prepare_text.prepare_text(TextConfig(...))`` text for
language models. Below them, `sources` finds and reads data sets and files, `tokenizers` turns text into ids,
`epoch_plan` says which examples each batch holds (in length `buckets` or in packed rows, `row_plan`), and `pipeline`,
`packing` and `token_windows` yield the batches.
"""
