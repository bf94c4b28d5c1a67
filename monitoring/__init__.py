"""What watches a served model: live quality so far. May import `clickmill` only.

docs/architecture.md says what is in place and what is not.
"""

__all__: list[str] = []
