"""Arrow types and schemas: the common type of two, and schemas without dictionaries. No file access."""

from __future__ import annotations

import pyarrow as pa


def promoted(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """The type that both fit into without loss of meaning, or None.

    Null fits into any type, an integer into a wider one or a float; text and numbers do not meet.
    """
    if left == right:
        return left
    try:
        both = [pa.schema([pa.field("x", each)]) for each in (left, right)]
        return pa.unify_schemas(both, promote_options="permissive").field("x").type
    except pa.ArrowException:
        return None


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """A schema reduced to names and types, with dictionaries replaced by their value types.

    Metadata would differ with the call (pandas keeps its index there), and with it the bytes.
    """
    return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in schema])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
