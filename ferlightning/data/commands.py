"""The functions behind ``ferl data``: what lies on disk, in the cache too, and what is wrong with it."""

from pathlib import Path

from rich.console import Console

from ferlightning.data.datamodule import FaceData
from ferlightning.errors import FerlError


def inspect(path: str, report: str | None = None) -> None:
    """Show which data sets lie in a folder, with what in them, what is missing or odd, and how to train on them.

    Args:
        path: folder that has data, or folders with them; or a csv.
        report: a page to write, such as data.html: faces and numbers by class, sizes, and what an audit finds.
    """
    from ferlightning.data.inspection import describe, print_description, recognise

    console, damaged, described = Console(), 0, []
    sources = recognise(Path(path))
    for source in sources:
        try:
            found = describe(source.whole())
        except FerlError as error:
            damaged += 1
            console.print(
                f"\n{source.data_set}, layout {source.layout}: {error}", style="red", markup=False, soft_wrap=True
            )
        else:
            print_description(source, found, console)
            described.append((source, found))
    if report is not None and described:
        from ferlightning.data.page import write_page

        write_page(Path(report), described)
        console.print(f"Written: {report}", markup=False, soft_wrap=True)
    if damaged:
        raise FerlError(f"{damaged} of {len(sources)} data sets in {path} cannot be read; see above")


def audit(path: str | None = None, data: FaceData | None = None, output: str = "audit") -> None:
    """Look for copies in and between the splits, people in two splits, blank images, and drift of the classes.

    Args:
        path: folder that has data; the first that ``inspect`` shows is taken. ``ferl data audit PATH`` will do.
        data: the data set to look at, in place of ``path``.
        output: folder for the findings: audit.txt, audit.json and pairs.png.
    """
    from ferlightning.data.audit.checks import audit as find
    from ferlightning.data.audit.report import check_folder, print_audit, write_audit
    from ferlightning.data.inspection import first

    if (path is None) == (data is None):
        raise FerlError("say what to look at: ferl data audit PATH, or ferl data audit --data=FER2013 --data.root=PATH")
    check_folder(Path(output))
    data = data if path is None else first(Path(path))
    assert data is not None
    found = find(data)
    console = Console(record=True)
    print_audit(found, console)
    files = write_audit(Path(output), found, console.export_text(), data.raw.images)
    console.print(f"Written: {', '.join(map(str, files))}", markup=False, soft_wrap=True)


def verify(path: str | None = None) -> None:
    """Check that the parsed and preprocessed data in the cache are what was written, by their checksums.

    Args:
        path: the cache, or one store in it; null: that of the environment variable FERL_CACHE. ``ferl data verify
            PATH`` will do.
    """
    from ferlightning.data.store import MANIFEST, damage, stores
    from ferlightning.files import cache_dir

    place = cache_dir() if path is None else Path(path)
    if not place.is_dir():
        raise FerlError(f"there is no cache {place}; it is made when data are first read")
    folders = [place] if (place / MANIFEST).is_file() else stores(place)
    if path is not None and not folders:
        raise FerlError(f"{place} is no cache and no store of one; to look at data: ferl data inspect {place}")
    found = {folder: what for folder in folders if (what := damage(folder))}
    print(f"{place}: {len(folders)} stores, {len(found)} damaged")
    if found:
        raise FerlError(
            "; ".join(f"{what}: remove the folder {folder}" for folder, what in found.items())
            + ". The next command that needs it makes it anew from the source"
        )
