"""What is written through a temporary name: the old content or the new one, whoever writes at the same time."""

import shutil
import threading
from pathlib import Path

import pytest

from ferlightning.files import remove_unfinished, replacing


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_written_at_the_same_time_one_is_left_whole(kind: str, tmp_path: Path) -> None:
    failed = []

    def work() -> None:
        try:
            for _ in range(100):
                with replacing(tmp_path / "new" / "made") as temporary:
                    if kind == "file":
                        temporary.write_text("ab")
                    else:
                        temporary.mkdir()
                        (temporary / "a").touch()
                        (temporary / "b").touch()
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    (made,) = (tmp_path / "new").iterdir()
    assert made.read_text() == "ab" if kind == "file" else {path.name for path in made.iterdir()} == {"a", "b"}


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    old = tmp_path / "made"
    old.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(old) as temporary:
        temporary.write_text("ne")
        raise OSError("the disk is full")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("made", "old")]


def test_what_a_kill_left_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".notes.tmp").touch()
    for name in ("best.ckpt", "report"):
        with replacing(tmp_path / name) as temporary:
            temporary.mkdir() if name == "report" else temporary.touch()
            shutil.copytree(temporary, f"{temporary}2") if name == "report" else shutil.copy(temporary, f"{temporary}2")
        Path(f"{temporary}2").rename(temporary)  # as if the process had ended before it took its name
    assert len([*tmp_path.iterdir()]) == 5
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes.tmp", "best.ckpt", "report"]
