"""The training stack must not talk, least of all to others."""

from __future__ import annotations

import os
import subprocess
import sys

PROBE = """
from character.quiet import hush_libraries
hush_libraries()
import character.finish, character.pipeline, peft, trl
from peft.import_utils import is_torchao_available
is_torchao_available()
from huggingface_hub import constants
print(constants.HF_HUB_DISABLE_TELEMETRY)
"""


def test_telemetry_is_off_before_the_libraries_read_the_setting() -> None:
    unset = {"HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_HUB_OFFLINE"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "True", done.stderr
    assert done.stderr == ""  # torchao, which peft imports, has much to say of other machines
