#!/usr/bin/env bash
# The variants in benchmarks/variants, and some settings of flags, each beside the script as it is,
# greedy return over 100 episodes: about an hour on two cores. The images are MinAtar's:
# pip install minatar==1.0.15. Writes benchmarks/results/variants.{csv,md} and variants_curves.csv.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export PYTHONPATH=$root/benchmarks  # environments.py
run() {  # ENVIRONMENT NAME [flags]: the variant of that name, if there is one, else the script
    local env=$1 name=$2 script=$kind.py
    shift 2
    if [ -e "benchmarks/variants/$name.patch" ]; then
        script=benchmarks/runs/scripts/$name/$kind.py
        mkdir -p "$(dirname "$script")"
        copy=$(mktemp -d)
        cp "$kind.py" "$copy"
        (cd "$copy" && git apply "$root/benchmarks/variants/$name.patch")
        mv "$copy/$kind.py" "$script"
    fi
    benchmarks/train.sh "variants/$env/$name" "$script" "$seeds" --eval-episodes 100 \
        --env-id "$id" --total-timesteps "$steps" "$@"
}

kind=ppo seeds=5
id=Taxi-v4 steps=200000
for name in base action_mask; do run Taxi $name; done
id=environments:CartPoleWithoutVelocities-v1 steps=300000 seeds=8
for name in base gru; do run CartPoleWithoutVelocities $name --num-minibatches 4; done
seeds=5
id=environments:DeepSea-v0 steps=150000
for name in base rnd; do run DeepSea $name --no-norm-reward; done
id=MountainCar-v0 steps=500000
for name in base rnd; do run MountainCar-c2=0 $name --ent-coef 0; done
for name in base relu_critic tanh_actor; do run MountainCar $name; done
id=environments:MinAtar/Breakout-v1 steps=500000
for name in base linear cnn; do run Breakout $name --no-norm-obs; done

kind=ppo_continuous seeds=8
id=LunarLanderContinuous-v3 steps=200000
for name in base continuous_{squashed,beta,state_std,rpo}; do run LunarLanderContinuous $name; done

kind=ppo seeds=5
id=LunarLander-v3 steps=300000
for name in base network two_learning_rates adamw_warmup annealed dual_clip; do
    run LunarLander $name
done
run LunarLander lambda=0 --gae-lambda 0
run LunarLander lambda=1 --gae-lambda 1
run LunarLander vanilla_policy_gradient --gae-lambda 1 --update-epochs 1 --num-minibatches 1
run LunarLander reinforce --gae-lambda 1 --update-epochs 1 --num-minibatches 1
for name in penalty shared_trunk batch_advantages; do run LunarLander $name; done
run LunarLander no_norm_reward --no-norm-reward
run LunarLander epsilon=1 --clip-coef 1
run LunarLander no_norm_obs --no-norm-obs
run LunarLander epsilon=0.5 --clip-coef 0.5
run LunarLander epochs=20 --update-epochs 20
for name in relu_critic tanh_actor; do run LunarLander $name; done
python benchmarks/summarize.py variants
