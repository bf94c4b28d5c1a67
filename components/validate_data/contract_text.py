"""The contract as a pipeline carries it: a path where files are shared, its text where they are not."""

from __future__ import annotations

from clickmill import contract as contracts
from clickmill.errors import ContractError


def contract_of(text_or_path: str) -> contracts.FeatureContract:
    """Text has more than one line, a path has not. Raises ContractError."""
    if not text_or_path.strip():
        raise ContractError("contract: empty; give the path of a contract YAML, or its text")
    if "\n" in text_or_path:
        return contracts.loads(text_or_path, origin="contract (parameter of the run)")
    return contracts.load(text_or_path)
