# Sourced by the recipe: makes .venv on first use and puts its programs on PATH.
make --no-print-directory -C "$root" setup
export PATH="$root/.venv/bin:$PATH"
# One thread a process: the recipe runs processes side by side, and results don't change with the machine's cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export TOKENIZERS_PARALLELISM=false
