"""Options from Python are bound as those of the command line are."""

import math

import pytest

from penstock.errors import UsageError
from penstock.workloads.recsys import Behavior, Ranking, RankTrain, Similar

OUTSIDE = [
    (Similar, "threshold", math.nan, "nan is no number"),
    (Similar, "threshold", 1.5, "0.001<=x<=1"),
    (Similar, "recall", math.nan, "nan is no number"),
    (Similar, "top_k", 0, "x>=1"),
    (Similar, "max_features", "many", "not a valid integer"),
    (Behavior, "max_user_items", 1, "x>=2"),
    (Ranking, "negatives", math.nan, "nan is no number"),
    (Ranking, "negatives", 0, "0<x<=1"),
    (RankTrain, "valid", math.nan, "nan is no number"),
    (RankTrain, "trees", math.inf, "not a valid integer"),
    (RankTrain, "learning_rate", "fast", "not a valid float"),
]


@pytest.mark.parametrize(("workload", "option", "value", "said"), OUTSIDE)
@pytest.mark.parametrize("how", ["run", "plan"])
def test_a_number_outside_its_range_is_refused_by_name(workload, option, value, said, how):
    start = workload().run if how == "run" else workload().plan
    name = f"--{option.replace('_', '-')}"
    with pytest.raises(UsageError, match=f"'{name}'.*{said}"):
        start(None, **{option: value})
