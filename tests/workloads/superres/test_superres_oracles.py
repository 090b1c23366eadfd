"""What superres computes itself, because a volume is never held whole, beside what SciPy says of it whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, optimize

from penstock.workloads.superres import simplex
from penstock.workloads.superres.components import Components

EDGES_TOO = ndimage.generate_binary_structure(3, 2)
"""Voxels touch that share a face or an edge."""


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.sampled_from([0.1, 0.25, 0.4, 0.7, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_the_largest_component_is_that_of_scipy(shape, share, seed):
    mask = np.random.default_rng(seed).random(shape) < share  # k, j, i
    planes = Components(shape[::-1])
    for plane in mask:
        planes.add(plane)
    kept = np.empty_like(mask)
    for k, plane in enumerate(kept):
        planes.plane(k, plane)

    labels, count = ndimage.label(mask, EDGES_TOO)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    # Of equals the first: SciPy numbers them in the order of their first voxels.
    largest = labels == 1 + sizes.argmax() if count else np.zeros_like(mask)
    assert np.array_equal(kept, largest)
    assert planes.smaller() == mask.sum() - largest.sum()
    every = np.empty_like(mask)
    for k, plane in enumerate(every):
        planes.plane(k, plane, every=True)
    assert np.array_equal(every, mask)


@pytest.mark.parametrize("experts", [2, 5, 8, 9, 14])
def test_weights_are_those_that_scipy_finds(experts):
    """SLSQP knows nothing of our sets of experts: it walks down with both constraints."""
    rng = np.random.default_rng(experts)
    truth = rng.normal(size=(12, 60))
    guesses = truth[:, None] + rng.normal(size=(12, experts, 60)) * rng.uniform(0.2, 2, (12, experts, 1))
    Q, b = guesses @ guesses.transpose(0, 2, 1), (guesses @ truth[..., None])[..., 0]
    W, _ = simplex.solve_simplex(Q, b)
    for q, v, w in zip(Q, b, W, strict=True):
        found = optimize.minimize(
            lambda x, q=q, v=v: x @ q @ x - 2 * v @ x,
            np.full(experts, 1 / experts),
            jac=lambda x, q=q, v=v: 2 * (q @ x - v),
            bounds=[(0, 1)] * experts,
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1, "jac": np.ones_like},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert np.abs(found.x - w).max() < 1e-5
        assert w @ q @ w - 2 * v @ w <= found.fun + 1e-9 * abs(found.fun)
    assert ((W == 0).any(1)).any(), "no weight was at its bound: an easy problem proves little"
