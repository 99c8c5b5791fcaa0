# Sourced by the recipe: where corpora are. The embedded corpus is made, not found: nothing to set here.
