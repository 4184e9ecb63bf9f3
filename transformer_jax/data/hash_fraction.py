"""A number between 0 and 1 for a text, the same in every process: what splits by hash are made with."""

import hashlib


def hash_fraction(text: str) -> float:
    """Fraction between 0 and 1 from the first eight bytes of the SHA-256 of the text's UTF-8 form.

    Example:
      >>> round(hash_fraction("hello"), 6)
      0.175572
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2.0**64
