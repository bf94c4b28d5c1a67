"""Rules for one field among the others of its contract: role, type, encoding and default must fit each other and what they refer to."""

from __future__ import annotations

from collections.abc import Mapping

from clickmill.contract.encoding import Hour, ListOf, Vocabulary, Weekday
from clickmill.contract.field import SHARED_ROLES, ContractField, Dtype, Role
from clickmill.contract.field_problem import FieldProblem

Fields = Mapping[str, ContractField]
"""All fields of a contract, by name."""

_READS: dict[str, frozenset[Dtype]] = {
    "vocabulary": frozenset({Dtype.STRING, Dtype.INT64, Dtype.BOOL}),
    "hash": frozenset({Dtype.STRING, Dtype.INT64}),
    "compositional": frozenset({Dtype.STRING, Dtype.INT64}),
    "bucketize": frozenset({Dtype.INT64, Dtype.FLOAT32}),
    "log1p": frozenset({Dtype.INT64, Dtype.FLOAT32}),
    "standardize": frozenset({Dtype.INT64, Dtype.FLOAT32}),
    "list": frozenset({Dtype.STRING_LIST, Dtype.INT64_LIST}),
}

_ROLE_DTYPES: dict[Role, frozenset[Dtype]] = {
    Role.POSITION: frozenset({Dtype.INT64}),
    Role.PROPENSITY: frozenset({Dtype.FLOAT32_LIST}),
    Role.EVENT_TIME: frozenset({Dtype.TIMESTAMP}),
    Role.CLICK_TIME: frozenset({Dtype.TIMESTAMP}),
    Role.LABEL: frozenset({Dtype.INT64, Dtype.BOOL}),
    Role.WEIGHT: frozenset({Dtype.FLOAT32}),
    Role.BID: frozenset({Dtype.FLOAT32, Dtype.INT64}),
    Role.TRUTH: frozenset({Dtype.FLOAT32}),
    Role.IMPRESSION_ID: frozenset({Dtype.STRING, Dtype.INT64}),
    Role.REQUEST_ID: frozenset({Dtype.STRING, Dtype.INT64}),
    Role.SEQUENCE: frozenset({Dtype.STRING_LIST, Dtype.INT64_LIST}),
}


def check_field(fields: Fields, name: str, field: ContractField) -> None:
    """Raises FieldProblem for the first of its settings that contradicts another, or the fields it refers to."""
    encoding = field.encoding
    if field.is_feature and encoding is None:
        raise FieldProblem(
            f"{name}.encoding", None, f"role `{field.role}` is a feature; say how it is encoded"
        )
    if not field.is_feature and encoding is not None:
        remedy = f"role `{field.role}` is never a model input; remove the encoding or change the role"
        raise FieldProblem(f"{name}.encoding", encoding.kind, remedy)
    if field.is_derived:
        if field.dtype is not None or field.column is not None:
            raise FieldProblem(
                f"{name}.dtype", field.dtype, "a derived field has no column; remove dtype and column"
            )
        _check_parents(fields, name, field)
        return
    if field.dtype is None:
        raise FieldProblem(f"{name}.dtype", None, f"give a dtype: one of {', '.join(Dtype)}")
    legal = _ROLE_DTYPES.get(field.role)
    if legal and field.dtype not in legal:
        raise FieldProblem(f"{name}.dtype", field.dtype.value, f"role `{field.role}` needs {_either(legal)}")
    if encoding is not None and field.dtype not in _READS[encoding.kind]:
        remedy = f"encoding `{encoding.kind}` reads {_either(_READS[encoding.kind])}"
        raise FieldProblem(f"{name}.dtype", field.dtype.value, remedy)
    if field.range is not None and not field.dtype.is_number:
        raise FieldProblem(
            f"{name}.range", field.dtype.value, "only int64 and float32 have a range; use `allowed`"
        )
    if field.allowed is not None and field.dtype not in (Dtype.STRING, Dtype.INT64):
        raise FieldProblem(f"{name}.allowed", field.dtype.value, "only string and int64 have allowed values")
    _check_default(name, field)
    _check_at_inference(name, field)
    _check_shares(fields, name, field)
    _check_unseen(fields, name, field)


def _check_parents(fields: Fields, name: str, field: ContractField) -> None:
    for parent in field.parents:
        path = f"{name}.encoding.of"
        if parent not in fields:
            raise FieldProblem(path, parent, f"no field of this name; known: {', '.join(fields)}")
        other = fields[parent]
        if isinstance(field.encoding, Hour | Weekday):
            if other.dtype is not Dtype.TIMESTAMP:
                raise FieldProblem(path, parent, f"must be a timestamp; `{parent}` is {other.dtype}")
        elif not other.is_feature or other.is_derived or other.dtype is None or other.dtype.is_list:
            raise FieldProblem(
                path, parent, "a cross combines plain feature columns: no lists, labels or derived fields"
            )


_PYTHON_TYPE: dict[Dtype, tuple[type, ...]] = {
    Dtype.STRING: (str,),
    Dtype.INT64: (int,),
    Dtype.FLOAT32: (int, float),
    Dtype.BOOL: (bool,),
    Dtype.TIMESTAMP: (int,),
    Dtype.STRING_LIST: (tuple,),
    Dtype.INT64_LIST: (tuple,),
    Dtype.FLOAT32_LIST: (tuple,),
}


def _check_default(name: str, field: ContractField) -> None:
    assert field.dtype is not None
    value = field.default
    if value is None:
        return
    path = f"{name}.default"
    if not isinstance(value, _PYTHON_TYPE[field.dtype]) or (
        isinstance(value, bool) and field.dtype is not Dtype.BOOL
    ):
        raise FieldProblem(path, value, f"must be of type {field.dtype}")
    if field.required:
        raise FieldProblem(path, value, "a required field never takes its default; remove one of the two")
    bounds = field.range
    if bounds and isinstance(value, int | float) and not bounds.holds(value):
        raise FieldProblem(path, value, "lies outside the field's own range")
    if field.allowed is not None and value not in field.allowed:
        raise FieldProblem(path, value, "is not among the field's own allowed values")


def _check_at_inference(name: str, field: ContractField) -> None:
    if field.at_inference is None:
        return
    path = f"{name}.at_inference"
    if field.role is not Role.POSITION:
        raise FieldProblem(
            path, field.at_inference, "only the position has an effect at inference; remove it"
        )
    if field.default is not None:
        raise FieldProblem(
            path,
            field.at_inference,
            "says what stands in for a missing slot, as `default` does; remove one of the two",
        )
    if field.required:
        raise FieldProblem(
            path,
            field.at_inference,
            "a required position is never missing; remove `required` or `at_inference`",
        )


def _check_shares(fields: Fields, name: str, field: ContractField) -> None:
    encoding = field.encoding.items if isinstance(field.encoding, ListOf) else field.encoding
    if not isinstance(encoding, Vocabulary) or encoding.shares is None:
        return
    path = f"{name}.encoding" + (
        ".items" if field.role is Role.SEQUENCE or encoding is not field.encoding else ""
    )
    path += ".shares"
    other = fields.get(encoding.shares)
    if other is None:
        raise FieldProblem(path, encoding.shares, f"no field of this name; known: {', '.join(fields)}")
    if not isinstance(other.encoding, Vocabulary) or other.encoding.shares is not None:
        raise FieldProblem(path, encoding.shares, "must name a field with a vocabulary of its own")
    item = Dtype.INT64 if field.dtype in (Dtype.INT64, Dtype.INT64_LIST) else Dtype.STRING
    if other.dtype is not item:
        raise FieldProblem(
            path, encoding.shares, f"holds {other.dtype}, this field holds {item}: they can't share rows"
        )


def _check_unseen(fields: Fields, name: str, field: ContractField) -> None:
    in_list = isinstance(field.encoding, ListOf)
    encoding = field.encoding.items if isinstance(field.encoding, ListOf) else field.encoding
    if not isinstance(encoding, Vocabulary) or encoding.unseen is None:
        return
    path = f"{name}.encoding.{'items.' if in_list else ''}unseen"
    if encoding.shares is not None:
        remedy = f"the rows are those of `{encoding.shares}`; say there how its unseen values are told apart"
        raise FieldProblem(path, encoding.shares, remedy)
    if field.dtype is Dtype.BOOL:
        raise FieldProblem(path, field.dtype.value, "a bool has no unseen values; remove `unseen`")
    for other in encoding.unseen.like:
        _check_attribute(fields, f"{path}.like", name, field, other, in_list)


def _check_attribute(
    fields: Fields, path: str, name: str, field: ContractField, other: str, in_list: bool
) -> None:
    if in_list:
        raise FieldProblem(path, other, "the items of a list have no attributes; give `buckets` only")
    if other not in fields:
        raise FieldProblem(path, other, f"no field of this name; known: {', '.join(fields)}")
    if other == name:
        raise FieldProblem(
            path, other, "an unseen value is not like itself; leave `like` out to hash the value"
        )
    attribute = fields[other]
    if not attribute.is_feature or attribute.dtype not in (Dtype.STRING, Dtype.INT64, Dtype.BOOL):
        remedy = "must be a feature with a column of strings, integers or flags: their values are hashed"
        raise FieldProblem(path, other, remedy)
    if (attribute.role in SHARED_ROLES) != (field.role in SHARED_ROLES):
        sides = {True: "of the request", False: "of the candidate"}
        remedy = (
            f"`{name}` is {sides[field.role in SHARED_ROLES]} (role {field.role}) and `{other}` {sides[attribute.role in SHARED_ROLES]} "
            f"(role {attribute.role}): name fields of the same side"
        )
        raise FieldProblem(path, other, remedy)


def _either(options: frozenset[Dtype]) -> str:
    return " or ".join(sorted(options))
