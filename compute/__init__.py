"""Pure computation: arrays in, arrays out.

Owns everything that can be computed without knowing where events come from or where results go: decoding,
windowed statistics, detectors, models' inputs and outputs, alerts. Nothing here imports Faust, reads a clock,
a file or the environment, or imports from `tables`, `agents` or `app`. Clock, seed and thresholds are
arguments.
"""
