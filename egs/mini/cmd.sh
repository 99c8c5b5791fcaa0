# Sourced by the recipe: what to put before a training's command line, as in ESPnet. Empty: run here.
# On a Slurm cluster, for example: train_cmd="srun --gres=gpu:4 --cpus-per-task=16"
train_cmd=""
