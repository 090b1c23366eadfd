"""Options from Python are bound as those of the command line are."""

import math

import pytest

from penstock.errors import UsageError
from penstock.workloads.recsys import Behavior, Ranking, RankTrain, Similar

OUTSIDE = [
    (Similar, "threshold", math.nan, "from 0.001 to 1 was"),
    (Similar, "threshold", 1.5, "from 0.001 to 1 was"),
    (Similar, "recall", math.nan, "from 0.5 to 0.9999 was"),
    (Similar, "top_k", 0, "from 1 was"),
    (Similar, "max_features", "many", "from 1 was"),
    (Behavior, "max_user_items", 1, "from 2 was"),
    (Ranking, "negatives", math.nan, "from 0 to 1 was"),
    (Ranking, "negatives", 0, "from 0 to 1 was"),
    (RankTrain, "valid", math.nan, "from 0 to 0.9 was"),
    (RankTrain, "trees", math.inf, "from 1 was"),
    (RankTrain, "learning_rate", "fast", "from 0 to 1 was"),
]


@pytest.mark.parametrize(("workload", "option", "value", "said"), OUTSIDE)
@pytest.mark.parametrize("how", ["run", "plan"])
def test_a_number_outside_its_range_is_refused_by_name(workload, option, value, said, how):
    start = workload().run if how == "run" else workload().plan
    name = f"--{option.replace('_', '-')} "
    with pytest.raises(UsageError, match=f"^{name}.*: a number {said} expected$"):
        start(None, **{option: value})
