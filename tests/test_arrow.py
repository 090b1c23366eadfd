import pyarrow as pa
import pytest

from penstock.arrow import plain_schema, promoted


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        (pa.int64(), pa.int64(), pa.int64()),
        (pa.null(), pa.string(), pa.string()),
        (pa.int8(), pa.int64(), pa.int64()),
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.list_(pa.null()), pa.list_(pa.int8()), pa.list_(pa.int8())),
        (pa.string(), pa.int64(), None),
        (pa.string(), pa.list_(pa.string()), None),
    ],
)
def test_promoted(left, right, both):
    assert promoted(left, right) == promoted(right, left) == both


def test_a_plain_schema_has_names_and_types_alone():
    fields = [pa.field("a", pa.dictionary(pa.int8(), pa.string()), nullable=False), pa.field("b", pa.int8())]
    schema = pa.schema(fields, metadata={"pandas": "{}"})
    assert plain_schema(schema).equals(pa.schema({"a": pa.string(), "b": pa.int8()}), check_metadata=True)
