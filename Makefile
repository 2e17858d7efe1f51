.PHONY: check lint test slow

check: lint test slow

lint:
	ruff format --check .
	ruff check .
	mypy
	lint-imports

test:
	pytest

slow:
	pytest -m slow
