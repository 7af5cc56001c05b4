"""The README's programs that take a policy away, as they stand there, on runs of both scripts."""

import re

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import ROOT

README = (ROOT / "README.md").read_text()
ENVS = {
    "ppo": ("CartPole-v1", "envs:Composite-v0"),
    "ppo_continuous": ("Pendulum-v1", "envs:CompositeBox-v0"),
}


def program(name, script, run):
    (code,) = re.findall(rf"<!-- {name} -->\n\n```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    return code.replace("from ppo import", f"from {script.__name__} import").replace(
        "runs/NAME", str(run)
    )


@pytest.fixture(params=[0, 1], ids=["Box", "Dict"])
def trained(request, script, train, tmp_path):
    """A run, and its agent as a program has it, in an environment that observes a Box or a Dict."""
    env_id = ENVS[script.__name__][request.param]
    train(script, env_id=env_id, total_timesteps=3000, eval_episodes=0, vectorisation="sync")
    (run,) = tmp_path.glob("*/runs/*")
    checkpoint = script.load_checkpoint(str(run))
    agent = script.Agent(script.make_envs(checkpoint["args"], 1), checkpoint["args"])
    agent.load_state_dict(checkpoint["agent"])
    return run, checkpoint["args"], agent


def test_acting_in_one_environment_gives_what_evaluate_gives(script, trained):
    run, args, agent = trained
    code = program("act", script, run)
    code = code.replace(
        "gym.make(args.env_id)", "gym.wrappers.RecordEpisodeStatistics(gym.make(args.env_id))"
    )
    returns = []
    for i in range(10):
        exec(code.replace("env.reset()", f"env.reset(seed={5 + i})"), names := {})
        returns.append(names["info"]["episode"]["r"])
    expected = script.evaluate(agent, script.make_envs(args, 10), seed=5)
    print(returns, expected)
    assert [float(x) for x in returns] == pytest.approx(
        expected.tolist(), rel=1e-3
    )  # of 1 and of 10 rows


@pytest.mark.filterwarnings("ignore")
def test_the_onnx_file_gives_what_the_agent_gives(script, trained, tmp_path):
    run, args, agent = trained
    exec(program("onnx", script, run), {})
    session = onnxruntime.InferenceSession("policy.onnx")
    n, mean, m2 = agent.obs_moments.numpy()
    obs = mean + 3 * np.sqrt(m2 / n) * np.random.default_rng(0).normal(size=(100, len(mean)))
    outputs = session.run(None, {session.get_inputs()[0].name: obs})
    with torch.no_grad():
        policy = agent.policy(agent.normalize_obs(obs))
    policy = (policy,) if torch.is_tensor(policy) else policy
    for output, expected in zip(outputs, policy, strict=True):
        assert output == pytest.approx(expected.numpy(force=True), abs=1e-5)
