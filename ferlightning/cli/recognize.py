"""``ferl recognize``: no torch, no Lightning, and the parser of the standard library, so that it starts at once."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Never

from ferlightning.errors import FerlError, printable
from ferlightning.files import at_home
from ferlightning.signals import HANG_UP, asked_to_end

EXAMPLES = """examples:
  ferl recognize photo.jpg                                    # a table
  ferl recognize PICTURES --format=csv > faces.csv            # a folder, at any depth
  ferl recognize film.mp4 --save=OUT --anonymize=box          # OUT/film.mkv, without the faces
  ferl recognize 0 --show                                     # the first camera, in a window
  ferl recognize rtsp://localhost/door --format=jsonl --every=5
  cat photo.jpg | ferl recognize - --detector=none            # a face that was cut out already
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Never:
        word = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
        close = get_close_matches(word, self._option_string_actions, 1)
        hint = f" (did you mean {close[0]}?)" if word.startswith("-") and close else ""
        if "--anonymize: invalid choice" in message:
            hint = "; to hide faces by boxes in a source that follows, write --anonymize=box"
        raise FerlError(f"{message}{hint}; `ferl recognize --help` shows the options")


def parser() -> argparse.ArgumentParser:
    made = _Parser(
        "ferl recognize", allow_abbrev=False, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Find faces in pictures, folders, videos, cameras and streams, and tell what they express.",
    )  # fmt: skip
    add = made.add_argument
    add(
        "sources", nargs="+", metavar="SOURCE", help="picture, folder, pattern, video, camera number, URL, or - (stdin)"
    )
    add("--model", default="ferl-small", help="name of shipped weights, or a file of `ferl export` (ferl-small)")
    add("--view", help="other classes of the model, such as fer2013")
    add("--detector", help="yunet, mtcnn, haar, none (faces cut out already), or a plug-in's class (yunet, else haar)")
    add("--detector-path", type=at_home, metavar="FILE", help="YuNet's ONNX file; it is fetched if there is none")
    add("--size", type=_positive, default=1280, help="longer side to which pictures are reduced to find faces (1280)")
    add("--min-score", type=_share, help="how sure the detector must be, 0 to 1 (its own choice)")
    add("--align", action="store_true", help="turn each face so that its eyes are level")
    add("--format", choices=["table", "jsonl", "csv", "json"], default="table", help="of what is written to stdout")
    add("--top", type=_positive, help="classes told of each face (two in a table, else all)")
    add("--save", type=_folder, metavar="DIR", help="write annotated pictures, and videos as .mkv without sound")
    add("--anonymize", choices=["box", "blur", "pixelate"], nargs="?", const="box", help="hide faces in what is saved")
    add("--show", action="store_true", help="open a window; q closes it")
    add("--every", type=_positive, default=1, metavar="N", help="take every nth frame of a video")
    add("--every-face", type=_positive, default=1, metavar="N", help="classify a followed face in every nth frame only")
    add("--start", type=_seconds, default=0.0, metavar="S", help="begin a video at this second, or h:m:s")
    add("--end", type=_seconds, metavar="S", help="end a video at this second, or h:m:s")
    add("--batch", type=_positive, default=16, metavar="N", help="pictures whose faces are classified together (16)")
    add("--threads", type=_positive, default=1, metavar="N", help="threads of each network (1)")
    return made


def recognize(args: Sequence[str]) -> None:
    """Run the command; it ends with status 1 if a source could not be read, 130 if it was interrupted."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - a file that is closed
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that are not UTF-8; so they are JSON, too
    options = parser().parse_args(args)
    options.threads = min(options.threads, os.cpu_count() or 1)
    if options.anonymize and not options.save and not options.show:
        raise FerlError("--anonymize hides faces in what is saved or shown: give --save=DIR, too")
    if options.end is not None and options.end <= options.start:
        raise FerlError(f"--end={options.end:g} is not after --start={options.start:g}")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # we say ourselves which file cannot be read
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    with asked_to_end(_interrupt, signal.SIGTERM, HANG_UP):
        _run(options)


def _run(options: Any) -> None:
    import cv2

    from ferlightning.deploy.job import Job
    from ferlightning.deploy.output import Output
    from ferlightning.deploy.places import find_sources
    from ferlightning.deploy.recognizer import Recognizer

    cv2.setNumThreads(options.threads)
    sources, missing = find_sources(options.sources, options.save)
    recognizer = Recognizer(
        os.path.expanduser(options.model),  # noqa: PTH111 - it may be a name
        view=options.view, detector=options.detector, detector_path=options.detector_path,
        size=options.size, min_score=options.min_score, align=options.align, threads=options.threads,
    )  # fmt: skip
    total = len(sources) + len(missing)
    output = Output(sys.stdout, options.format, recognizer.class_names, options.top)
    job = Job(
        recognizer, output, options.save, options.anonymize, options.batch, options.every, options.start, options.end,
        options.every_face, options.show, sys.stderr.isatty(), missing,
    )  # fmt: skip
    status = 0
    try:
        job.run(sources)
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    finally:
        if job.progress:
            print("\r\033[K", end="", file=sys.stderr)
    output.close()
    if options.save:
        stopped = "; stopped before the end, up to which a film goes" if status else ""
        print(f"Saved: {job.saved} of {total} in {options.save}{stopped}", file=sys.stderr)
    if job.unreadable:
        print(f"ferl: error: {len(job.unreadable)} of {total} sources failed:", file=sys.stderr)
        print(*(f"  {printable(line)}" for line in job.unreadable), sep="\n", file=sys.stderr)
    if status or job.unreadable:
        raise SystemExit(status or 1)


def _interrupt(*_: object) -> Never:
    raise KeyboardInterrupt


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _folder(text: str) -> Path:
    if not text:  # as an unset variable of a shell makes it, and then copies would go where one happens to be
        raise argparse.ArgumentTypeError("'' is not a folder; the one where you are is .")
    return at_home(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def _seconds(text: str) -> float:
    """Seconds, or minutes and hours before them, as in 1:30."""
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = [-1.0]
    if not all(0 <= part < float("inf") for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time, such as 90 or 1:30")
    return float(sum(part * 60**n for n, part in enumerate(reversed(parts))))
