"""What all that was shipped has changed: everybody else beside the users who are held out."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from clickmill.command import app
from clickmill.errors import UsageError
from clickmill.experiment.reading import analyse_log
from clickmill.experiment.spec import dumps
from clickmill.release import Verdict
from tests.clickmill.experiment import drawn

HELD = drawn.spec(holdout=0.5, secondary=())


def log_of(folder, *, lift=0.4, seed=5, users=4_000):
    """Users of `a` are held out; those of `b` have what was shipped, a third of them as `a` or `b` of an experiment, the rest outside."""
    table = drawn.impressions(seed, users, lift=lift)
    shipped = pc.equal(table["arm"], "b").combine_chunks()
    number = pc.utf8_slice_codeunits(table["user_id"], 1).cast(pa.int64()).to_numpy()
    arm = np.where(number % 3 == 0, np.where(number % 2 == 0, "a", "b"), None)
    arm = np.where(shipped.to_numpy(zero_copy_only=False), arm, "holdout")
    table = table.set_column(table.column_names.index("arm"), "arm", pa.array(arm.tolist(), pa.string()))
    path = folder / "log.parquet"
    pq.write_table(table, path)
    return path, table


def test_everybody_else_is_compared_with_the_holdout_in_an_experiment_or_not(tmp_path):
    path, table = log_of(tmp_path)
    found = analyse_log(HELD, [path], holdout=True)
    held = pc.equal(pc.fill_null(table["arm"], ""), "holdout").to_numpy()
    clicked = table["clicked"].to_numpy()
    by_arm = {arm.arm: arm for arm in found.arms}
    assert (by_arm["holdout"].impressions, by_arm["shipped"].impressions) == (held.sum(), (~held).sum())
    effect = found.effect("ctr", "shipped")
    assert effect.lift == pytest.approx(clicked[~held].mean() / clicked[held].mean() - 1)
    assert effect.low < 0.4 < effect.high
    assert found.verdict is Verdict.PASS
    assert "Let the holdout have it too" in found.best.advice


def test_the_experiment_itself_does_not_see_the_holdout(tmp_path):
    path, table = log_of(tmp_path)
    found = analyse_log(HELD, [path])
    counted = {arm.arm: arm.impressions for arm in found.arms}
    arms = table["arm"].to_pylist()
    assert counted == {"a": arms.count("a"), "b": arms.count("b")}


def test_a_holdout_of_another_size_than_the_spec_says_is_a_broken_split(tmp_path):
    path, _ = log_of(tmp_path)
    found = analyse_log(drawn.spec(holdout=0.2, secondary=()), [path], holdout=True)
    assert not found.sample_ratio.sound
    assert found.verdict is Verdict.UNKNOWN


def test_the_holdout_is_asked_for_where_somebody_is_held_out(tmp_path):
    path, _ = log_of(tmp_path)
    with pytest.raises(UsageError, match=r"holds nobody out; `holdout: 0.05`"):
        analyse_log(drawn.spec(), [path], holdout=True)
    with pytest.raises(ValidationError, match="call the arm something else"):
        drawn.spec(holdout=0.1, arms={"holdout": {}, "b": {}}, control="b")


def test_the_command_compares_with_the_holdout(tmp_path):
    path, _ = log_of(tmp_path)
    (tmp_path / "spec.yaml").write_text(dumps(HELD))
    done = CliRunner().invoke(
        app, ["experiment", "analyze", str(tmp_path / "spec.yaml"), str(path), "--holdout", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["spec"]["control"] == "holdout"
