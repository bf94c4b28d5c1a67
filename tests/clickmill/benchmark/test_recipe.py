"""The recipes: legal, and of a strength that does not depend on the number of rows."""

import pytest

from clickmill.benchmark import DATASETS, RECIPES
from clickmill.models import configure


@pytest.mark.parametrize("model", RECIPES)
def test_the_pull_on_the_summed_loss_is_the_same_for_any_number_of_rows(model: str) -> None:
    recipe = RECIPES[model]
    configure(model, dict(recipe.model))
    for rows in (1_000, 202_027, 1_404_801):
        config = recipe.config(rows, seed=3)
        assert (config.l2, config.linear_l2) == (recipe.pull, recipe.pull)
        assert config.embedding_optimizer == config.linear_optimizer == "table_adam"
        assert config.seed == 3
        assert config.batch_size <= max(128, rows // 12)


@pytest.mark.parametrize(("name", "published"), [("frappe_x1", 0.05), ("movielenslatest_x1", 0.01)])
def test_the_pull_is_near_what_was_published_for_dcn_v2_at_either_size(name: str, published: float) -> None:
    """Theirs is on the mean loss."""
    rows = DATASETS[name].rows["train"]
    found = RECIPES["dcn_v2"].config(rows, seed=0).l2 / rows
    assert published / 1.5 < found < published * 1.5


def test_every_published_model_has_a_recipe() -> None:
    for dataset in DATASETS.values():
        assert set(dataset.figures) <= set(RECIPES)
