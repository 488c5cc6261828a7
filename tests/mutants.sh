#!/usr/bin/env bash
# Lists the mutants of a package, or of one file of it, that its quick tests do not kill. Usage: mutants.sh PART
# mutmut copies and changes the code; the copy that it starts from has folders where the checkout has links.
set -euo pipefail
part=$1
name=${part%.py}
copy=out/mutants/${name//\//-}
tests=tests/$name
[[ $part == *.py ]] && tests=tests/$(dirname "$part")/test_$(basename "$part")
rm -rf "$copy"
mkdir -p "$copy"
git ls-files -z kinescribe actors cluster labeling schemas training tests docs configs pyproject.toml |
  tar --null --create --files-from=- | tar --extract --directory="$copy"
for link in "$copy"/kinescribe/*; do
  if [[ -L $link ]]; then
    rm "$link"
    mv "$copy/$(basename "$link")" "$link"
  fi
done
cat >"$copy/setup.cfg" <<CONFIG
[mutmut]
source_paths=kinescribe/$part
pytest_add_cli_args_test_selection=$tests
pytest_add_cli_args=
    -p no:cacheprovider
    -m
    not slow and not ray
also_copy=
    kinescribe
    tests
    docs
    configs
    pyproject.toml
mutate_only_covered_lines=true
# A mutant may take longer than its tests by itself, and the machine has other work.
timeout_constant=5
timeout_multiplier=5
# The threads of polars and torch do not survive a fork of the process that ran the tests before.
process_isolation=forkserver
CONFIG
cd "$copy"
OMP_NUM_THREADS=1 mutmut run --max-children 2 >run.log 2>&1 || { tail -c 2000 run.log; exit 1; }
mutmut results | tee survivors.txt
