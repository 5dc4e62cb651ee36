# Two commands: `make run` trains and compares the three levels, `make test` checks them. Both install what they need.
# The same as plain pip and python lines, for Windows too, is in README.md.

PYTHON ?= python3
VENV := .venv/bin/python
OUT := runs/tour-$(shell date +%Y%m%d-%H%M%S)

.PHONY: run test test-slow test-browser course page lab lint bench

run: .venv/installed
	@echo "\n--- Level 1, NumPy, random parameters: what a VAE knows before training"
	$(VENV) numpy/vae_numpy.py
	@echo "\n--- Level 2, low-level PyTorch: train on the digits (half a minute)"
	$(VENV) pytorch_lowlevel/vae_lowlevel.py --out $(OUT)/level2
	@echo "\n--- Level 1 again, on the weights that level 2 trained: the same report"
	$(VENV) numpy/vae_numpy.py --weights $(OUT)/level2/model.safetensors --out $(OUT)/level1
	@echo "\n--- Level 3, paper level: a beta-VAE (half a minute)"
	$(VENV) paper/vae_paper.py --beta 4 --out $(OUT)/beta-vae
	@echo "\n--- Level 3, paper level: a conditional VAE (half a minute)"
	$(VENV) paper/vae_paper.py --conditional --out $(OUT)/cvae
	@echo "\n--- The three levels on level 2's weights"
	$(VENV) tests/compare_levels.py --weights $(OUT)/level2/model.safetensors
	@echo "\nYou should see three equal rows, -ELBO between 185 and 200 nats, differences below 1e-5."
	@echo "The beta-VAE above pays for its simpler code (KL about 5) with a higher -ELBO, the CVAE needs fewer nats than"
	@echo "the VAE because it is told the class. Pictures: $(OUT)/*/*.png; start with $(OUT)/cvae/samples.png"

test: .venv/installed
	$(VENV) -m pytest

test-slow: .venv/installed
	$(VENV) -m pytest -m slow --dist load

test-browser: .venv/installed
	$(VENV) -m pytest -m browser -n 0

course: .venv/installed
	$(VENV) -m pytest -m course --dist worksteal

page: .venv/installed
	$(VENV) exercises/page.py $(PAGE)

lab: .venv/installed
	$(VENV) -m jupyterlab exercises

lint: .venv/installed
	$(VENV) -m ruff check
	$(VENV) -m ruff format --check

bench: .venv/installed
	$(VENV) tests/benchmark.py

# Under an older Python pip never says so: it downloads one version of everything after the other in search of one that
# fits. Any Python can read this line.
CHECK = import sys; sys.version_info >= (3, 11) or sys.exit("%s is Python %d.%d, and 3.11 or newer is needed: %s" \
	% ((sys.executable,) + tuple(sys.version_info[:2]) + (sys.argv[1],)))

# An installation knows the folder by its absolute path, and so does this stamp: a clone that was moved installs again.
ifneq ($(shell cat .venv/installed 2>/dev/null),$(CURDIR))
.PHONY: .venv/installed
endif

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c '$(CHECK)' 'name another one, as in make PYTHON=python3.12 $(MAKECMDGOALS)'
	$(PYTHON) -m venv .venv
	@$(VENV) -c '$(CHECK)' 'delete the folder .venv and try again'
	$(VENV) -m pip install -r requirements.txt
	@pwd -P > $@
