"""Run tests one after the other, each on scripts of its own, without starting Python each time:

    python tests/forks.py FOLDER TESTS [FOLDER TESTS ..]

A process that has imported what the scripts import forks for each: pytest runs TESTS on the scripts
in FOLDER, and what it prints goes to FOLDER/output.txt. A minute at most for each.
"""

import os
import signal
import sys
from pathlib import Path

import gymnasium  # noqa: F401
import pytest
import torch.utils.tensorboard  # noqa: F401
import tyro  # noqa: F401

for folder, tests in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    if os.fork() == 0:
        output = os.open(Path(folder) / "output.txt", os.O_CREAT | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ |= {"PPO_SCRIPTS": folder, "COLUMNS": "500"}
        signal.alarm(60)
        code = pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", *tests.split()])
        sys.stdout.flush()
        os._exit(code)
    os.wait()
