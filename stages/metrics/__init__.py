"""Official scores of the datasets, on plain numpy arrays. Nothing in here imports torch.

Every function that returns a score also returns the name of the protocol, because the same predictions get
different numbers under different ones.
"""
