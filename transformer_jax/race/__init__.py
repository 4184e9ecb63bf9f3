"""The race between models that scan over time and models that see all of it at once.

``contestants`` are configs of language models that differ in nothing but what carries time; ``speed`` times them over
length, ``generation`` token by token, ``quality`` over seconds of training; ``crossover`` says at which length one
overtakes another; ``run`` does all of it, ``race_results`` and ``race_page`` show it.
"""
