# The commands of this repository; `make` alone lists them.
PYTHON ?= python3
UV_VERSION = 0.13.9
BIN = .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
READY = .venv/.ready
LOOP = $(READY:ready=loop)
PORTABLE = $(addprefix tests/,$(addsuffix .py,notebooks/test_components schemas/test_documents schemas/test_expressions models/test_gate \
	monitors/test_metrics test_parameters test_settings example/test_stages github/test_workflows devops/test_pipelines))
QUICK = $(addprefix tests/,schemas $(addsuffix .py,test_house test_parameters test_settings azure/test_sdk example/test_contract jobs/test_way \
	models/test_gate notebooks/test_components releases/test_canary retraining/test_policy serving/test_collection))
PYTEST = $(BIN)/$(if $(RESULTS),coverage run -m pytest --junitxml=$(RESULTS)/tests.xml,python -m pytest)
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" pyproject.toml

# OpenMP's threads sleep while they wait for each other: on a busy machine, spinning costs many times the work.
export GOMP_SPINCOUNT ?= 0

.DEFAULT_GOAL = help
.PHONY: help schemas setup path loop lab sample lint quick test long portable tutorials docs gallery unpublished bench \
	prepare unchanged hooks wheel publish lock clean

help: ## List the commands
	@awk -F ': .*## ' '/^[a-z]+:.* ## / {printf "make %-9s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## Create .venv with all locked packages; the other commands install what they need by themselves

path: ## Print the folder of the commands, for your PATH; in a job of Azure DevOps, put it there
	@echo "$(if $(TF_BUILD),##vso[task.prependpath])$(CURDIR)/$(BIN)"

loop: $(LOOP) ## Run the whole life of the model: train, release, serve a year of real flights, monitor, retrain, release again
	$(BIN)/mlops-nb loop

lab: $(READY) ## Open the first stage in JupyterLab, with the packages of this project
	$(BIN)/mlops-nb lab

sample: $(LOOP) ## Run the stage notebooks on the small sample that Jupyter needs
	$(BIN)/mlops-nb sample

lint: $(READY) ## Check style, types and walls: ruff, mypy, import-linter
	$(BIN)/ruff check mlops_nb nbs tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports

quick: $(READY) ## Check and test what takes seconds: for the inner loop and before a commit
	$(BIN)/mlops-nb check
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n 2 $(QUICK)

test: $(READY) ## Check what is generated, then test notebooks and machinery; RESULTS=FOLDER gets tests.xml (JUnit) and coverage.xml (Cobertura)
	$(BIN)/mlops-nb sample
	$(BIN)/mlops-nb check
	$(MAKE) --no-print-directory lint
	$(BIN)/nbdev-test nbs/api
	$(BIN)/nbdev-test nbs/docs/reference
	$(BIN)/nbdev-test nbs/training --n-workers 1
	$(BIN)/nbdev-test nbs/deployment --n-workers 1
	$(BIN)/nbdev-test nbs/monitoring
	$(PYTEST) -m "not long" -n 4 --dist loadfile --no-loadscope-reorder
	$(if $(RESULTS),$(BIN)/coverage combine --quiet && $(BIN)/coverage xml --quiet -o $(RESULTS)/coverage.xml)

long: $(READY) ## Test what takes too long for each change: workflows that train and release in the loopback Azure, and its rarer faults
	$(BIN)/python -m pytest -m long -n 2 --timeout 7200 --dist loadfile --no-loadscope-reorder

portable: $(READY) ## Test what needs no POSIX system: the command line, the export, the checks, and what they are made of
	$(BIN)/mlops-nb check
	$(BIN)/python -m pytest $(PORTABLE)

schemas: $(READY) ## Read the keys of Azure's YAML from the installed azure-ai-ml into mlops_nb/schemas/azure.json
	$(BIN)/python -c "from mlops_nb.azure.sdk import write_tables; write_tables()"

tutorials: $(READY) ## Run every tutorial and how-to, in copies of the project
	$(BIN)/nbdev-test nbs/docs/howto --n-workers 1
	$(BIN)/nbdev-test nbs/docs/tutorials --n-workers 1

docs: $(READY) ## Build the site into _docs, without network
	$(BIN)/mlops-nb docs

gallery: $(READY) ## Run the whole life of the model, and keep its pages for the site in nbs/docs/gallery
	$(BIN)/mlops-nb gallery

unpublished: ## Say on the page of a workflow's run why the site is not published
	@echo "The site is built and not published: GitHub Pages is off. mlops-nb bootstrap switches it on for a public repository, --pages for any." \
		| tee -a "$${GITHUB_STEP_SUMMARY:-/dev/null}"

bench: $(READY) ## Measure against peers in their own environments; one of them: make bench ONLY=pipeline
	$(BIN)/python bench/run.py $(ONLY)

prepare: $(READY) ## Regenerate and clean everything before a commit
	$(BIN)/mlops-nb export
	$(BIN)/nbdev-clean
	$(BIN)/mlops-nb check

unchanged: ## Fail if a file differs from the commit, or is new
	@test -z "$$(git status --porcelain)" || { git status --short; git --no-pager diff; exit 1; }

hooks: $(READY) ## Let git clean and check what you commit, and merge notebooks as notebooks
	$(BIN)/pre-commit install
	$(BIN)/nbdev-install-hooks

wheel: $(READY) ## Build the package into dist
	$(BIN)/python -m build --no-isolation --outdir dist

publish: ## Publish dist as a release on GitHub: make publish TAG=v0.1.0; its text is notes.md
	gh release create "$(TAG)" --verify-tag --title "$(TAG)" --notes-file notes.md dist/*

lock: .venv/.uv ## Resolve the dependencies again, within the ranges of pyproject.toml
	$(LOCK) --upgrade --extra all --output-file requirements.lock
	$(LOCK) --extra loop --constraints requirements.lock --output-file requirements.loop.lock
	$(LOCK) --extra job --extra serve --constraints requirements.lock --output-file pipelines/environment/requirements.txt

clean: ## Remove what a run leaves behind; keeps .venv and the workspace .mlops
	rm -rf build dist outputs results .pytest_cache .hypothesis .coverage* *.egg-info
	find mlops_nb nbs tests -name __pycache__ -prune -exec rm -rf {} +

# uv lives in the environment, so that nothing is needed but Python: old versions of pip cannot resolve this lock file.
.venv/.uv: Makefile
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("Python %d.%d is here; 3.11, 3.12 or 3.13 is needed. Name one: make PYTHON=python3.12" % v)'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "Python has no venv; on Debian or Ubuntu: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

# The first command installs what it runs, a half of all; what needs more adds the rest.
$(LOOP): .venv/.uv requirements.loop.lock pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --requirements requirements.loop.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(READY): $(LOOP) requirements.lock
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
