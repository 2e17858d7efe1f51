.PHONY: check lint test lowest slow docs

check: lint test lowest slow

lint:
	ruff format --check .
	ruff check .
	mypy
	lint-imports

test:
	pytest

# The fast tests at the lowest versions that pyproject.toml allows, in an environment of their own; without the fuzzers, which
# look for faults of ours.
lowest:
	uv venv --quiet --clear --seed --python python .venv-lowest
	uv pip install --quiet --python .venv-lowest --resolution lowest-direct -e '.[dev]'
	. .venv-lowest/bin/activate && pytest --ignore=tests/fuzz

slow:
	pytest -m slow

# The site, into site/; a warning, such as of a link that leads nowhere, is an error.
docs:
	sphinx-build --fail-on-warning --keep-going --quiet docs site
