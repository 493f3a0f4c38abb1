"""Hypothesis strategies for any type of `broker.messages`, made from the type itself.

A new message, field or bound is tried without a line of test for it.
"""

from __future__ import annotations

import builtins
from functools import reduce
from operator import or_
from typing import Any

import msgspec.inspect as types
from hypothesis import strategies as st

INT64 = st.integers(-(2**63), 2**64 - 1)
SIZE_MAX = 2  # of what has no smaller bound: shapes are tried here, not sizes


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type, within the bounds that it declares."""
    return _of(types.type_info(kind))


def _of(kind: types.Type) -> st.SearchStrategy[Any]:
    match kind:
        case types.StructType():
            return _struct(kind)
        case types.UnionType():
            return reduce(or_, (_of(t) for t in kind.types))
        case types.IntType():
            return st.integers(
                -(2**63) if kind.ge is None else kind.ge, 2**64 - 1 if kind.le is None else kind.le
            )
        case types.StrType():
            return _text(kind)
        case types.Metadata(type=types.StrType() as text, extra={"pattern": pattern}):
            return _text(text, pattern)  # one that the type does not check itself
        case types.LiteralType():
            return st.sampled_from(kind.values)
        case types.BytesType():
            return st.binary(min_size=kind.min_length or 0, max_size=_most(kind))
        case types.ListType():
            return st.lists(
                _of(kind.item_type), min_size=kind.min_length or 0, max_size=_most(kind)
            )
        case types.TupleType():
            return st.tuples(*(_of(t) for t in kind.item_types))
        case types.DictType():
            return st.dictionaries(_of(kind.key_type), _of(kind.value_type), max_size=SIZE_MAX)
        case types.BoolType():
            return st.booleans()
        case types.NoneType():
            return st.none()
        case types.AnyType() | types.CustomType(cls=builtins.object):
            leaves = st.none() | st.booleans() | INT64 | st.text() | st.binary()
            return st.recursive(
                leaves, lambda s: st.lists(s) | st.dictionaries(st.text(), s), max_leaves=5
            )
        case _:
            raise TypeError(f"no strategy for {kind!r}")


def _struct(kind: types.StructType) -> st.SearchStrategy[Any]:
    fields = {f.name: _of(f.type) for f in kind.fields}
    return st.builds(kind.cls, **fields)


def _text(kind: types.StrType, pattern: str | None = None) -> st.SearchStrategy[str]:
    pattern = kind.pattern or pattern
    if pattern is None:
        return st.text(min_size=kind.min_length or 0, max_size=_most(kind))
    least, most = kind.min_length or 1, _most(kind)
    return st.from_regex(pattern).filter(lambda text: least <= len(text) <= most)


def _most(kind: types.StrType | types.BytesType | types.ListType) -> int:
    bound = SIZE_MAX if kind.max_length is None else kind.max_length
    return max(kind.min_length or 0, min(bound, 20))
