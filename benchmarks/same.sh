#!/usr/bin/env bash
# Do the scripts of COMMIT give the numbers of the present ones, bit for bit? Both train 20,000 steps
# of every row of environments.csv, and weights, statistics, optimizer, step and returns of the
# checkpoints must be equal. Results of that commit then hold for the present code (SAME in train.py).
#     bash benchmarks/same.sh COMMIT      three minutes on two idle cores
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD work=$(mktemp -d) commit=$1
export OMP_NUM_THREADS=1
compare='
import sys, torch
keys = "agent", "optimizer", "global_step", "recent_returns"
old, new = (torch.load(file, weights_only=True) for file in sys.argv[1:])
torch.testing.assert_close(*([x[key] for key in keys] for x in (old, new)), rtol=0, atol=0)'
mkdir "$work/old"
for script in ppo.py ppo_continuous.py; do git show "$commit:$script" > "$work/old/$script"; done
train() {  # FOLDER OF THE SCRIPT, FOLDER OF THE RUN, SCRIPT, FLAGS
    mkdir -p "$2"
    cd "$2"
    python "$1/$3" --total-timesteps 20000 --eval-episodes 0 "${@:4}" &> output.txt
}
while IFS=, read -r name env_id script _ flags; do
    # shellcheck disable=SC2086  # flags are words
    (train "$work/old" "$work/$name/old" "$script" --env-id "$env_id" $flags) &
    # shellcheck disable=SC2086
    (train "$root" "$work/$name/new" "$script" --env-id "$env_id" $flags)
    wait $!
    python -c "$compare" "$work/$name"/{old,new}/runs/*/checkpoint.pt
    echo "$name: equal"
done < <(tail -n +2 benchmarks/environments.csv)
