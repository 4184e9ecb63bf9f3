"""Data sets, tokenizers, buckets and batches, in NumPy; nothing here starts a JAX backend.

``prepare.prepare(PairsConfig(...))`` does it all; `registry` finds files, `readers` reads them, `tokenizers`
turns text into ids, `buckets` chooses static shapes, `pipeline` yields batches.
"""
