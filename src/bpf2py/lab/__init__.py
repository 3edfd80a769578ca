"""Experiments with maps that answer questions: how many keys an LRU map keeps, and how large it has to be."""
