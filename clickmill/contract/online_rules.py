"""Rules for fields that have a past or are looked up online: what they may be computed from and kept under."""

from __future__ import annotations

from clickmill.contract.aggregate import Measure
from clickmill.contract.field import ContractField, Dtype, Role
from clickmill.contract.field_problem import FieldProblem
from clickmill.contract.field_rules import Fields


def check_online(fields: Fields, name: str, field: ContractField) -> None:
    """Raises FieldProblem for an aggregate or a lookup that has no meaning."""
    if field.entity is None:
        return
    key = "aggregate" if field.aggregate is not None else "lookup_by"
    if field.aggregate is not None and field.lookup_by is not None:
        remedy = "an aggregate is kept under its `by` already; remove `lookup_by`"
        raise FieldProblem(f"{name}.lookup_by", field.lookup_by, remedy)
    if not field.is_feature or field.is_derived:
        what = "is derived inside the graph" if field.is_derived else f"has role `{field.role}`"
        raise FieldProblem(
            f"{name}.{key}", None, f"only a feature with values of its own may; this one {what}"
        )
    if field.required:
        remedy = f"a field with `{key}` takes its default where nothing is known; remove one of the two"
        raise FieldProblem(f"{name}.required", True, remedy)
    _check_id(fields, name, field, f"{name}.aggregate.by" if field.aggregate else f"{name}.lookup_by")
    if not any(other.role is Role.EVENT_TIME for other in fields.values()):
        remedy = "needs to know when impressions were shown; add a field of role event_time"
        raise FieldProblem(f"{name}.{key}", None, remedy)
    if field.aggregate is not None:
        _check_aggregate(name, field, field.aggregate.of)


def _check_id(fields: Fields, name: str, field: ContractField, path: str) -> None:
    other = fields.get(field.entity or "")
    if other is None:
        raise FieldProblem(path, field.entity, f"no field of this name; known: {', '.join(fields)}")
    plain = other.is_feature and other.entity is None and other.dtype in (Dtype.STRING, Dtype.INT64)
    if not plain:
        remedy = "must name an id: a feature of dtype string or int64 that is in the request itself"
        raise FieldProblem(path, field.entity, remedy)
    # User and context are computed once for all candidates of a request: what differs between ads must not count among them.
    per_ad = other.role in (Role.AD, Role.CROSS)
    if per_ad and field.role not in (Role.AD, Role.CROSS):
        remedy = f"differs from ad to ad, but role `{field.role}` is one value for a whole request; make the role ad"
        raise FieldProblem(path, field.entity, remedy)
    if not per_ad and field.role is Role.AD:
        remedy = f"has role `{other.role}`, which is the same for all ads of a request; make this field's role {other.role}"
        raise FieldProblem(path, field.entity, remedy)


def _check_aggregate(name: str, field: ContractField, measure: Measure) -> None:
    if field.column is not None:
        remedy = "an aggregate is computed, not read; remove `column`"
        raise FieldProblem(f"{name}.column", field.column, remedy)
    wanted = Dtype.FLOAT32 if measure is Measure.CTR else Dtype.INT64
    if field.dtype is not wanted:
        raise FieldProblem(f"{name}.dtype", field.dtype, f"an aggregate of `{measure}` is {wanted}")
    if measure is Measure.CTR and (field.default is None or not 0 < float(field.fill) < 1):  # type: ignore[arg-type]
        remedy = (
            "give the click rate to expect of an id without a past, above 0 and below 1: about the rate of the whole log. "
            "Other rates are smoothed towards it"
        )
        raise FieldProblem(f"{name}.default", field.default, remedy)
    if measure is not Measure.CTR and field.default not in (None, 0):
        remedy = "an id without a past has 0 of them; remove the default"
        raise FieldProblem(f"{name}.default", field.default, remedy)
