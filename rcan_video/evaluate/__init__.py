"""Evaluation: enlargements against their originals, by the field's conventions.

items    which pictures and videos belong together
methods  what enlarges: interpolation and networks
measure  the run over all of it; results, what it finds; tables, how that is written
"""
