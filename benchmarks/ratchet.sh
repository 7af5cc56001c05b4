#!/usr/bin/env bash
# What the clip does: LunarLander-v3 with the standard setting of tutorials (2048 steps per rollout,
# minibatches of 64, learning rate 3e-4, γ 0.99, λ 0.95), a clip range of 0.2, 0.5, 1.0 and none, and
# 4, 10 and 20 epochs; the value is not clipped. Then the standard setting with our normalization and
# annealing. Ten seeds of 500,000 steps: six hours on two cores; SEEDS=101-103 for fewer. 1e6
# switches the clip off.
set -euo pipefail
cd "$(dirname "$0")/.."
train() {
    python benchmarks/train.py "$1" "${SEEDS:-101-110}" ppo.py --env-id LunarLander-v3 \
        --total-timesteps 500000 --num-envs 1 --num-steps 2048 --num-minibatches 32 \
        --learning-rate 3e-4 --gamma 0.99 --gae-lambda 0.95 --ent-coef 0 "${@:2}"
}
plain="--no-norm-obs --no-norm-reward --no-anneal-lr"
for epochs in 20 4 10; do
    for clip in 0.2 1e6 0.5 1.0; do
        train "clip $clip, $epochs epochs" --clip-coef $clip --no-clip-vloss \
            --update-epochs $epochs $plain
    done
done
train "standard setting" $plain
train "standard setting, normalized" --no-anneal-lr
train "standard setting, normalized, annealed"
python benchmarks/summarize.py
