.PHONY: check lint test lowest slow docs

check: lint test lowest slow

lint:
	ruff format --check .
	ruff check .
	mypy
	lint-imports

test:
	pytest

# What depends on versions, at the lowest that pyproject.toml allows, in an environment of its own. Left out are the fuzzers,
# the texts and files of ours, and what only starts processes.
VERSIONLESS = fuzz deploy data/test_ckplus.py data/test_fer2013.py data/test_ferplus.py data/test_folder.py \
  data/test_pixel_csv.py data/test_store.py cli/test_going_on.py cli/test_recognize.py test_cross_data.py test_docs.py \
  test_plugin.py test_new_plugin.py test_release.py bench/test_results.py bench/test_suite.py
lowest:
	uv venv --quiet --clear --seed --python python .venv-lowest
	uv pip install --quiet --python .venv-lowest --resolution lowest-direct -e '.[dev]'
	. .venv-lowest/bin/activate && pytest $(addprefix --ignore=tests/,$(VERSIONLESS))

slow:
	pytest -m slow

# The site, into site/; a warning, such as of a link that leads nowhere, is an error.
docs:
	sphinx-build --fail-on-warning --keep-going --quiet docs site
