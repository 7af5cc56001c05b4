"""A search for settings with Optuna. Processes that name the same study share it, on one machine or
on several that see its file in runs/: start as many as there are cores.

    pip install optuna==5.0.0
    python benchmarks/sweep.py search NAME --env-id Pendulum-v1 --script ppo_continuous
    python benchmarks/sweep.py best NAME     the best setting, as flags

What is maximised is the mean return of the last 100 training episodes. A trial that is worse than
the median of the others at the same update is given up. sweep.sh runs a search and holds its best
setting against the defaults on seeds that it has not seen.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
import optuna
import tyro
from optuna.storages.journal import JournalFileBackend

sys.path.insert(0, str(Path(__file__).parent.parent))


def open_study(name: str) -> optuna.Study:
    Path("runs").mkdir(exist_ok=True)
    backend = JournalFileBackend(f"runs/{name}.journal")
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=10, n_warmup_steps=20),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
    )


def suggest(trial) -> dict:
    """What is searched, and where. With other num_envs or num_steps updates are no measure."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "gamma": 1 - trial.suggest_float("1 - gamma", 1e-3, 5e-2, log=True),
        "gae_lambda": trial.suggest_float("gae_lambda", 0.8, 1.0),
        "num_minibatches": trial.suggest_categorical("num_minibatches", [4, 8, 16]),
        "update_epochs": trial.suggest_int("update_epochs", 2, 10),
        "ent_coef": trial.suggest_float("ent_coef", 1e-4, 0.1, log=True),
    }


def search(name: tyro.conf.Positional[str], env_id: str, steps: float, trials: int = 100,
           script: str = "ppo") -> None:  # fmt: skip
    """Work on a study until it has so many trials, each with a seed of its own."""
    ppo = importlib.import_module(script)
    original_log = ppo.log

    def objective(trial):
        def log(run, *args):
            original_log(run, *args)
            trial.report(np.mean(run.progress.recent_returns or -np.inf), run.progress.update)
            if trial.should_prune():
                raise optuna.TrialPruned

        ppo.log = log
        flags = {"env_id": env_id, "total_timesteps": steps, "eval_episodes": 0, "exp_name": name}
        ppo.main(ppo.Args(seed=1000 + trial.number, **flags, **suggest(trial)))
        (number,) = (x for x in trial.study.get_trials() if x.number == trial.number)
        return number.intermediate_values[number.last_step]

    enough = optuna.study.MaxTrialsCallback(trials, states=None)
    open_study(name).optimize(objective, callbacks=[enough])


def best(name: tyro.conf.Positional[str]) -> None:
    """Print the best setting as flags."""
    settings = suggest(optuna.trial.FixedTrial(open_study(name).best_params))
    print(*(f"--{flag.replace('_', '-')} {value:.4g}" for flag, value in settings.items()))


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"search": search, "best": best})
