"""The network: its maths, every checkpoint layout, the folded form that runs, and the bundled weights.

Nothing is imported here: ``catalog`` lists what is bundled without loading torch.
"""
