from concurrent.futures import ProcessPoolExecutor as Pool

import numpy as np


def similarity(seed: int) -> float:
    """All pairs among some thousand profiles: 2 to 450 MB, nobody knows beforehand."""
    random = np.random.default_rng(seed)
    profiles = random.random((random.integers(500, 7500), 50))
    pairs = np.corrcoef(profiles)
    return float(pairs.mean())


if __name__ == "__main__":
    with Pool(max_workers=4) as pool:
        means = list(pool.map(similarity, range(40)))
    print(f"{len(means)} means, {sum(means):.6f} in all")
