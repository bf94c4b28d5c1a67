"""Golden rows as requests: a field that was not sent is not sent, though its fill could not be."""

import pyarrow as pa

from clickmill import contract as contracts
from serving.router.local_target import golden_requests

CONTRACT = contracts.loads(
    """
name: ads
fields:
  segment: {role: user, dtype: string, allowed: [young, old], encoding: {kind: vocabulary}}
  device: {role: context, dtype: string, allowed: [phone, desk], required: true, encoding: {kind: vocabulary}}
  price: {role: ad, dtype: float32, default: 2.0, encoding: {kind: log1p}}
  history: {role: sequence, dtype: string_list, encoding: {kind: list, max_length: 4, items: {kind: hash, buckets: 10}}}
  clicked: {role: label, dtype: int64}
"""
)


def test_what_was_not_sent_is_left_out_and_what_cannot_come_is_no_request():
    table = pa.table(
        {
            "segment": ["young", "", "old"],
            "device": ["phone", "desk", ""],
            "price": pa.array([2.0, 3.5, 2.0], pa.float32()),
            "history": [["a"], [], ["b"]],
            "pctr": [0.1, 0.2, 0.3],
        }
    )
    assert golden_requests(table, CONTRACT) == [
        (0, {"segment": "young", "device": "phone", "history": ["a"]}),
        (1, {"device": "desk", "price": 3.5}),
    ]
