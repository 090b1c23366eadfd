"""The fence on private memory is the call's, not the sink's."""

import penstock


def measure(item):
    return {"size": item, "row": {"item": item}}


def test_a_sink_that_first_maps_much_after_the_first_call_is_not_fenced(tmp_path):
    report = penstock.Job(
        source=penstock.sources.Range(40),
        function=measure,
        into={"size": penstock.reducers.Sum(), "row": penstock.sinks.Parquet()},
    ).run(tmp_path / "run", budget="400MiB")
    assert report.result["size"] == 780
    assert report.result["row"].count_rows() == 40
    assert report.failures == {}
