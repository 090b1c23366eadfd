"""Random numbers for the tests of executors: NumPy and its state are there before workers are forked."""

import random

import numpy as np


def seed_both(number):
    random.seed(number)
    np.random.seed(number)


def draw_both(_):
    return random.random(), np.random.random()
