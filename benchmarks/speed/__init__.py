"""How fast the kit's hot paths run, side by side in one run."""
