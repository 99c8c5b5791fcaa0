"""Configs, the Accelerate trainer and checkpoints, for every model of the kit."""
