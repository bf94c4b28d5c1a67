"""The feature contract: fields, roles, types, encodings, and its YAML and JSON Schema. Imports only `clickmill.errors`."""

from clickmill.contract.aggregate import Aggregate, Measure
from clickmill.contract.encoding import (
    Bucketize,
    Compositional,
    Cross,
    Encoding,
    Hash,
    Hour,
    ListOf,
    Log1p,
    Standardize,
    Unseen,
    Vocabulary,
    Weekday,
)
from clickmill.contract.feature_contract import FeatureContract, Format, Source
from clickmill.contract.field import SHARED_ROLES, ContractField, Dtype, Range, Role
from clickmill.contract.files import dumps, json_schema, load, loads

__all__ = [
    "SHARED_ROLES",
    "Aggregate",
    "Bucketize",
    "Compositional",
    "ContractField",
    "Cross",
    "Dtype",
    "Encoding",
    "FeatureContract",
    "Format",
    "Hash",
    "Hour",
    "ListOf",
    "Log1p",
    "Measure",
    "Range",
    "Role",
    "Source",
    "Standardize",
    "Unseen",
    "Vocabulary",
    "Weekday",
    "dumps",
    "json_schema",
    "load",
    "loads",
]
