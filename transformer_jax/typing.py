"""Array types and the one glossary of axis names that every signature uses.

=============  ===============================================================
axis           meaning
=============  ===============================================================
``batch``      independent sequences
``time``       steps of a sequence that is neither query nor key
``q_len``      positions that ask (queries, decoder side)
``kv_len``     key and value positions (encoder side)
``heads``      query heads
``kv_heads``   key and value heads; divides ``heads``
``head_dim``   width of one head
``model``      width of the residual stream (``model_dim``)
``hidden``     width of a recurrent carry or of a feed-forward inner layer
``features``   any other last axis
``vocab``      entries of a vocabulary
``layers``     stacked layers
``beams``      hypotheses of one sequence during search
``words``      words of a stretch of text, its margins included
``noise``      noise words that a stretch of text shares
``uses``       rows of a table that a batch reads, each as often as it is read
=============  ===============================================================
"""

from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Shaped

__all__ = ["Array", "Bool", "Float", "Int", "Key", "PyTree", "Shaped"]
