"""The judge: benchmarks of the recogniser, of the talking face and of the loop (stands on `avsr` and `talking3d`)."""
