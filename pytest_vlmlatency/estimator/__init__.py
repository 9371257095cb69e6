"""Predicts latency from exported records, without running the model.

Apart from the path of a number: nothing that measures or judges knows this room.
"""
