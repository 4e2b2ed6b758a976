#!/usr/bin/env bash
# The environments of the solvers that benchmarks compare with, in .peers/NAME (or $PEERS/NAME); kept if they are there.
#   openspiel   OpenSpiel beside this package, so that openspiel:NAME works and its tests run
#   liteefg     needs a JAX before 0.8
#   torch       transformers, with torch for the CPU, for policies: `make parity` and benchmarks.device.policies
#   trl113    TRL with Nash-MD, which is gone from 1.14 on, and trl116, for benchmarks.peers.beside_trl
#   noregret    needs Python 3.12; its CUDA kernel, never used here, is left out with the gigabytes it asks for
# With names as arguments only those are made. Other interpreters: PYTHON=... for all but the last, PYTHON312=... for the last.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
peers="${PEERS:-.peers}"
python="${PYTHON:-python3.11}"
python312="${PYTHON312:-python3.12}"

wanted=" $* "

# missing NAME: whether the environment is wanted and was never completed
missing() {
    [[ $wanted == "  " || $wanted == *" $1 "* ]] && test ! -e "$peers/$1/.complete"
}

# create NAME PYTHON
create() {
    "$2" -c "import venv" || { echo "expected a Python with venv for $1, tried: $2" >&2; exit 1; }
    echo "creating $peers/$1 with $("$2" --version)"
    "$2" -m venv --clear "$peers/$1"
}

# install NAME ARGUMENTS...
install() {
    "$peers/$1/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}"
}

if missing openspiel; then
    create openspiel "$python"
    install openspiel --constraint constraints.txt "open_spiel==2.0.2" --editable . pytest hypothesis beartype
    touch "$peers/openspiel/.complete"
fi
if missing liteefg; then
    create liteefg "$python"
    install liteefg "LiteEFG==1.0.0" "open_spiel==2.0.2" "jax==0.7.2" "jaxlib==0.7.2" "numpy==2.4.6" "pandas==3.1.1"
    touch "$peers/liteefg/.complete"
fi
if missing torch; then
    create torch "$python"
    install torch "torch==2.13.0"
    install torch "transformers==5.23.0" "safetensors==0.8.0" "numpy==2.4.6"
    touch "$peers/torch/.complete"
fi
for trl in trl113=1.13.0 trl116=1.16.0; do
    name="${trl%=*}"
    if missing "$name"; then
        create "$name" "$python"
        install "$name" "torch==2.13.0"
        install "$name" "trl==${trl#*=}" "transformers==5.23.0" "numpy==2.4.6" "requests==2.34.2"
        touch "$peers/$name/.complete"
    fi
done
if missing noregret; then
    create noregret "$python312"
    install noregret "open_spiel==1.6.15" "numpy==2.5.5" "scipy==1.17.1" "ordered-set==4.1.0" "orjson==3.13.0" \
        "pokerkit==0.7.7" "tqdm==4.70.1" "gurobipy==13.0.3"
    install noregret --no-deps "noregret==0.0.0.dev17"
    touch "$peers/noregret/.complete"
fi
