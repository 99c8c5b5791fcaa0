# Sourced by the recipe: where corpora are. `--grid DIR` on the command line takes precedence.
# DIR holds GRID in its published layout: s*/*.mpg and alignments/s*/*.align (Cooke et al. 2006, CC BY 4.0).
grid="${grid:-${GRID:-}}"
