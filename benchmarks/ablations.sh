#!/usr/bin/env bash
# The networks' activations where rewards are rare, 5 seeds each, and LunarLander-v3 with one thing
# changed at a time, 8 seeds each (20 for the defaults): an hour or more on two cores.
# Changes that no flag makes are patches of ppo.py in benchmarks/variants.
# Writes benchmarks/results/activations.{csv,md}, ablations.{csv,md} and ablations_curves.csv.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
run() {  # NAME [flags]; a patch of that name makes the script
    local name=$1 script=ppo.py
    shift
    if [ -e "benchmarks/variants/$name.patch" ]; then
        script=benchmarks/runs/scripts/$name/ppo.py
        mkdir -p "$(dirname "$script")"
        copy=$(mktemp -d)
        cp ppo.py "$copy"
        (cd "$copy" && git apply "$root/benchmarks/variants/$name.patch")
        mv "$copy/ppo.py" "$script"
    fi
    benchmarks/train.sh "${env:+$env-}$name" "$script" "${seeds:-8}" --eval-episodes 100 \
        --env-id "${env:-LunarLander-v3}" --total-timesteps "${steps:-500000}" "$@"
}
benchmarks/defaults.sh
for variant in tanh_actor relu_critic; do
    env=Acrobot-v1 seeds=5 steps=300000 run $variant
    env=MountainCar-v0 seeds=5 run $variant
done
python benchmarks/summarize.py activations {Acrobot-v1,MountainCar-v0}{,-tanh_actor,-relu_critic}
benchmarks/lunarlander.sh
run epsilon_0.5 --clip-coef 0.5
run epsilon_1.0 --clip-coef 1.0
run epochs_20 --update-epochs 20
run no_norm_obs --no-norm-obs
run no_norm_reward --no-norm-reward
run tanh_actor
run relu_critic
run shared_trunk
run batch_advantages
run penalty
run vanilla_policy_gradient --gae-lambda 1 --update-epochs 1 --num-minibatches 1
run reinforce --gae-lambda 1 --update-epochs 1 --num-minibatches 1
python benchmarks/summarize.py ablations epsilon_0.5 epsilon_1.0 epochs_20 no_norm_obs \
    no_norm_reward tanh_actor relu_critic shared_trunk batch_advantages penalty \
    vanilla_policy_gradient reinforce
