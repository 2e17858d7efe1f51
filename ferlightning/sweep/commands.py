"""``ferl sweep``: run a search on this machine."""

from multiprocessing import get_context
from pathlib import Path

from ferlightning.errors import FerlError


def sweep(file: str, out: str | None = None, trials: int | None = None, workers: int = 1) -> None:
    """Search for hyper-parameters by a sweep file of Weights & Biases, without an account.

    Started again it goes on, and with all trials done it only reports. Started a second time at the same time, on the
    same folder, it joins in, perhaps with another GPU: ``CUDA_VISIBLE_DEVICES=1 ferl sweep FILE``.

    Args:
        file: YAML in W&B's format.
        out: folder for the trials, the storage and the results; runs/sweeps/<name of the file> if not given.
        trials: number of trials of the whole search; that of the file (run_cap), or the whole grid, if not given.
        workers: trials to run at a time.
    """
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError:
        raise FerlError("a search needs Optuna: pip install 'ferlightning[sweep]'") from None
    from rich.console import Console

    from ferlightning.sweep.file import read
    from ferlightning.sweep.report import report
    from ferlightning.sweep.worker import OUTPUT, Search

    if workers < 1:
        raise FerlError(f"--workers is {workers}, expected at least 1")
    searched = read(Path(file))
    total = searched.total(trials)
    folder = Path(out or Path("runs", "sweeps", Path(file).stem))
    search = Search(searched, folder, total)

    others = [get_context("spawn").Process(target=_work, args=(file, folder, total)) for _ in range(workers - 1)]
    try:
        for process in others:
            process.start()
        search.work()
        for process in others:
            process.join()
    except KeyboardInterrupt:
        print(f"Stopped. To go on: ferl sweep {file} --out={folder}", flush=True)
        raise SystemExit(130) from None
    finally:
        for process in others:
            if process.is_alive():
                process.terminate()
                process.join()
    report(search, Console())
    outputs = [trial.user_attrs.get(OUTPUT) for trial in search.trials()]
    if all(outputs):
        raise FerlError(
            f"all {len(outputs)} trials failed. The last one said:\n{outputs[-1]}\nDelete {folder} to try again"
        )


def _work(file: str, folder: Path, total: int) -> None:
    from ferlightning.sweep.file import read
    from ferlightning.sweep.worker import Search, die_with_parent

    die_with_parent()
    try:
        Search(read(Path(file)), folder, total).work()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
