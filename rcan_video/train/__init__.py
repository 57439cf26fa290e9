"""Training: pictures and clips in, an RCAN checkpoint out.

store     files -> memory-mapped pictures, decoded once
video     pictures -> what an upscaler gets to see
data      pairs of both -> batches, by (seed, step)
start     the network that training begins with; tails, its last part; reparam, how its kernels are trained
loop      the training itself; state and curve, what it leaves in its folder
"""
