"""The peers' sides run in environments of their own, which this one lacks."""

collect_ignore = ["train_deepctr.py", "train_fuxictr.py", "train_tower_torch.py", "layers.py"]
